"""Ops that fluidc runs on the host, and translation by beam search: host.json, host.npz.

Per name of `host_programs.CASES` and `PROGRAMS` the values and the LoD of what the program fetches; "sessions": what
programs that accumulate metrics, or train through functions of Python, return of several batches; "metrics": those
outside of programs.

What was found:
- beam_search_decode reads the score of every one of beam_size sentences of a source, and crashes where a source never
  had as many.
- layers.hash refuses every hash_size (it checks it against names of types); the op itself runs.
- multiclass_nms with boxes of their own for each class returns them in the order in which they came, not by score.
- where of nothing has the shape [0] and whatever element type was there before.
- target_assign with negative_indices leaves weights that nobody wrote.
"""

import host_programs
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from trees import GOLDENS, write_tree


def write():
    programs = dict(host_programs.CASES, **host_programs.PROGRAMS)
    found = {name: host_programs.values(fluid, build) for name, build in programs.items()}
    found["sessions"] = {name: host_programs.session(fluid, name) for name in host_programs.SESSIONS}
    found["metrics"] = host_programs.metrics(fluid)
    write_tree(GOLDENS / "host", found)
