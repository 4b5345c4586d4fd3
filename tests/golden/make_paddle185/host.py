"""Ops that fluidc runs on the host, and translation by beam search: host.json, host.npz.

Per name of `host_programs.CASES` and `PROGRAMS` the values and the LoD of what the program fetches; "sessions": what
programs that accumulate metrics, or train through functions of Python, return of several batches; "metrics": those
outside of programs; "saved": programs as files hold them.

What was found:
- beam_search_decode reads the score of every one of beam_size sentences of a source, and crashes where a source never
  had as many.
- layers.hash refuses every hash_size (it checks it against names of types); the op itself runs.
- multiclass_nms with boxes of their own for each class returns them in the order in which they came, not by score.
- where of nothing has the shape [0] and whatever element type was there before.
- target_assign with negative_indices leaves weights that nobody wrote.
"""

import host_programs
import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from common import neutral
from trees import GOLDENS, write_tree


def saved(build):
    """A program as Paddle saves it, and what it fetches."""
    main = fluid.Program()
    with fluid.program_guard(main, fluid.Program()), fluid.unique_name.guard():
        _, fetches = build(fluid)
    data = neutral(main.desc.serialize_to_string())
    names = {"fetches": [var.name for var in fetches], "parameters": [p.name for p in main.all_parameters()]}
    return dict(names, program=np.frombuffer(data, "uint8"))


def write():
    programs = dict(host_programs.CASES, **host_programs.PROGRAMS)
    found = {name: host_programs.values(fluid, build) for name, build in programs.items()}
    others = {
        "sessions": {name: host_programs.session(fluid, name) for name in host_programs.SESSIONS},
        "saved": {name: saved(host_programs.SAVED[name]) for name in host_programs.SAVED},
        "metrics": host_programs.metrics(fluid),
    }
    write_tree(GOLDENS / "host", dict(found, **others))
