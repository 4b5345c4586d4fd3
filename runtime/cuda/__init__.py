"""Running artifacts on NVIDIA GPUs.

libraries.py      where NVIDIA's libraries are              cudart.py    the calls of CUDA's runtime, checked
architectures.py  which chips run which code                device.py    one device: its stream, its lock, its memory
machine.py        TVM's runtime: modules, tensors, calls    cublas.py    matrix products by cuBLAS
values.py         state that lives on a device              staging.py   what goes to and fro in a step
graph.py          a whole step as one launch                plan.py      a function with arguments of certain sizes
engine.py         `CudaEngine`, which is what others use
"""
