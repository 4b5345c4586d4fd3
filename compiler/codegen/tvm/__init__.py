"""The ``cpu`` target: IR functions to machine code through TVM's TIR and LLVM.

In the order in which a function passes through them:

    define.py    runs the ops' rules against ``emit.py``; regions become bodies with plans of their own
    expr.py      scalar expressions, interned             graph.py     tensors as definitions
    conv.py      convolutions as sums of products
    fuse.py      what is planned as one kernel, and updated in place, after
                 store.py (what is stored at all) and layout.py (how that lies in memory); nests.py holds the result
    streams.py   noise that is made in the kernel that adds it
    primfunc.py  one group of nests as one TIR function, by the generators of ``kernels/``
    lower.py     an expression at a place, at any vector width      split.py    loops cut where choices turn
    arith.py     operations of expressions                          vmath.py    elementary functions
    kit.py       writing TIR statements
    describe.py  the table of kernels      cost.py     their predicted work
    build.py     Relax function around the kernels, executable in memory
    objects.py   object files, compiled side by side      link.py      shared library
    kept.py      what the driver calls: finds a library that is kept, or has it compiled
    cpu.py       which CPU
"""
