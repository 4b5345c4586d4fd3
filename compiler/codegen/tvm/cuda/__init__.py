"""The ``cuda`` target: the nests that are planned for every target, written as CUDA kernels.

machine.py    what CUDA C is told in its own way        arch.py      which chips
device.py     a kernel's body: launches, threads, shared memory, barriers
space.py      how the elements of a nest are shared out: over a launch, or over the threads of one block
primfunc.py   one group of nests as one TIR function with its launches, by the generators of ``kernels/``
rows.py       rows that several nests share                spread.py    loops turned inside out by what they store
together.py   independent nests in one launch              access.py    along which axis neighbouring threads run
lint.py       launches that would leave a device idle
build.py      Relax function around the kernels, compiled to machine code
toolchain/    NVRTC and nvcc                               module_file.py  the shared library with that code in it
kept.py       what the driver calls: finds a library that is kept, or has it compiled
"""
