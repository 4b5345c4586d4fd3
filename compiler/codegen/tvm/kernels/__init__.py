"""Generators of kernels, each for one kind of loop nest.

Plain nests:

    compute.py     elements one by one          reduce.py      reductions      combine.py   parts of long ones
    program.py     loops that a rule wrote      structured.py  loops and branches of the IR
    chacha.py      random streams               noisy.py       elements with noise in them
    turn.py        squares of elements turned   roofline.py    what the machine can do

Sums of products, of matrices and of images:

    contract.py    tasks, blocks, passes        product.py     what the parts share
    tiling.py      how they are cut             panels.py      the right operand
    left.py        the left operand             tile.py        the register tile, and what is stored of it
"""
