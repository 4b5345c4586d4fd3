"""Generators of kernels: one kind of loop nest each, as TIR.

compute.py     elements one by one          reduce.py    reductions          combine.py  parts of long ones
contract.py    sums of products: tasks, blocks of rows or of images, passes
    product.py what its parts share         tiling.py    how it is cut       panels.py   the right operand
    left.py    the left operand             tile.py      the register tile, and what is stored of it
chacha.py      streams of random numbers    noisy.py     elements with noise in them
program.py     loops that a rule wrote      structured.py  loops and branches of the IR
turn.py        squares of elements turned   roofline.py  what the machine can do
"""
