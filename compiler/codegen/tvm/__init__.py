"""The ``cpu`` target: IR functions to machine code through TVM's TIR and LLVM.

In the order in which a function passes through them:

    define.py    runs the ops' rules against ``emit.py``; regions become bodies with plans of their own
    expr.py      scalar expressions, interned             graph.py     tensors as definitions
    conv.py      convolutions as matrix products
    fuse.py      what is stored, what shares a loop nest, what is updated in place
    primfunc.py  one group of nests as one TIR function, by the generators of ``kernels/``
    lower.py     an expression at a place, at any vector width      vmath.py    elementary functions
    kit.py       writing TIR statements
    build.py     Relax function around the kernels, executable in memory
    objects.py   object files, compiled side by side      link.py      shared library
    library.py   what the driver calls: finds a library that is kept, or has it compiled
    cpu.py       which CPU
"""
