"""Loops, branches and structured losses: control.json, control.npz.

Per case of tests/support/control_programs.py: "outs" with their "lods" (offsets), and "grads".

What was found:
- linear_chain_crf gives the negative log-likelihood under the name LogLikelihood; Alpha is scaled to sum to 1 at every
  step, and 0 beyond the length; a sequence without tokens costs 0 and has no gradient.  With length it never reads
  labels beyond it, and EmissionExps are of every step.
- crf_decoding takes the lowest of labels with equal scores; beyond the length it gives 0, compared with a label or not.
"""

import control_programs
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from trees import GOLDENS, write_tree


def write():
    write_tree(GOLDENS / "control", {name: control_programs.run(fluid, name) for name in control_programs.CASES})
