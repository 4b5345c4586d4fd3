"""Loops, branches and structured losses: control.json, control.npz.

Per case of tests/support/control_programs.py: the "record" of its program without the backward pass, "outs" with their
"lods" (offsets), and "grads".

What was found:
- linear_chain_crf gives the negative log-likelihood under the name LogLikelihood; Alpha is scaled to sum to 1 at every
  step, and 0 beyond the length; a sequence without tokens costs 0 and has no gradient.  With length it never reads
  labels beyond it, and EmissionExps are of every step.
- crf_decoding takes the lowest of labels with equal scores; beyond the length it gives 0, compared with a label or not.
- Gradients through an array that is read by two ops behind the loop that writes it are wrong (finite differences tell):
  here one is read.  What was overwritten in an array gets the gradient of what took its place.  A loop's gradient fails
  where an item was never read.
- After a backward pass the counter of a loop is back at its first value.
- DynamicRNN takes row k of a memory's init for the k-th longest sequence unless need_reorder is given.
"""

import sys

import control_programs
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from trees import GOLDENS, write_tree

sys.path.append(str(GOLDENS.parents[1] / "frontend"))  # how programs are recorded

import make_goldens  # pyright: ignore[reportMissingImports]


def measured(name):
    _, main, _ = control_programs.built_program(fluid, name)
    return {"record": make_goldens.record(main), **control_programs.run(fluid, name)}


def write():
    write_tree(GOLDENS / "control", {name: measured(name) for name in control_programs.CASES})
