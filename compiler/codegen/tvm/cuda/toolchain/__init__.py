"""Machine code from the CUDA C that TVM writes, on machines with and without a GPU.

architectures.py  names of chips, checked against what a compiler knows
source.py         the text that a compiler gets, and the kernel that a line of it belongs to
usage.py          registers, spills and shared memory of a kernel, as ptxas reports them
compiler.py       what a compiler is; code compiled once is kept
places.py         where wheels and toolkits lie
nvrtc.py          NVRTC, a library; fatbin.py joins what it makes for several architectures
nvcc.py           nvcc, a program
find.py           which of them this machine has
stub.py           a libcuda.so.1 for machines without a driver
device_runtime.py TVM's CUDA runtime, loaded
embed.py          TVM told to compile with it
"""
