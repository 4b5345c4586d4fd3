"""Results of sequence layers, their offsets (``lod``) and gradients: sequences.json and .npz, by the names of
tests/support/sequence_cases.py.

Found out: sequence_slice gives sequences, but its Variable has the lod_level 0, so that no sequence layer takes it;
sequence_expand of rows gives rows without sequences; row_conv refuses empty sequences, and sequence_conv's gradient a
window that ends before the row.
"""

import sys

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from sequence_cases import CASES, cost, fed, place, set_parameters
from trees import GOLDENS, write_tree


def golden(name):
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        placed = place(fluid, name)
        loss = cost(fluid, placed)
        grads = fluid.gradients([loss], placed.wanted) if loss is not None else []
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        set_parameters(fluid, scope, placed)
        feed = fed(fluid, placed.feeds)
        found = [grad for grad in grads if grad is not None]
        values = exe.run(main, feed=feed, fetch_list=placed.outs + found, return_numpy=False)
    outs, rest = values[: len(placed.outs)], iter(values[len(placed.outs) :])
    return {
        "outs": [np.array(out) for out in outs],
        "lods": [out.lod() for out in outs],
        "shapes": [list(out.shape) for out in placed.outs],
        "grads": [None if grad is None else np.array(next(rest)) for grad in grads],
    }


def write():
    tree, failed = {}, 0
    for name in CASES:
        try:
            tree[name] = golden(name)
        except Exception as error:
            failed += 1
            said = [line for line in str(error).splitlines() if "rror" in line or "xpect" in line]
            print(name, type(error).__name__, *said[-3:] or [str(error)[:300]], file=sys.stderr)
    write_tree(GOLDENS / "sequences", tree)
    if failed:
        sys.exit(f"{failed} cases failed")
