"""Recurrent layers: recurrent.json, recurrent.npz.

Per case of tests/support/recurrent_programs.py: "outputs", the tokens or rows of what it returns, "cost", a number made
of them, and "gradients" of all parameters; "record" is the program without its backward, as make_goldens.py writes it,
of some cases.  "decoded" holds the results of the programs that decide themselves when they end.

What was found:
- dynamic_lstm and dynamic_lstmp ignore the gradient of the cells that they return, gru_unit those of its second and
  third result.
- A sequence without tokens is no problem.  dynamic_gru takes bias_attr=False, the others refuse it.
- dynamic_lstmp makes a variable that no op writes (lstmp_0.tmp_2).
- rnn() never ends where initial_states is a list of Variables (it goes through the first as through a list), so an
  LSTMCell cannot be given its states.
- On processors with AVX, the gradient of an LSTM of 8, 16, … units (dynamic_lstm and dynamic_lstmp) does not pass
  through the cell: only the output gate learns.  Other sizes have the right gradient; so do those here.
- lstm (cudnn_lstm) has no CPU kernel: "CPU is not support for this kernel now".
"""

import sys

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
import recurrent_programs
from trees import GOLDENS, write_tree

sys.path.append(str(GOLDENS.parents[1] / "frontend"))  # how programs are recorded

import make_goldens  # pyright: ignore[reportMissingImports]


def measured(build):
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup), fluid.scope_guard(scope):
        outs = list(build(fluid))
        record = make_goldens.record(main)
        cost = recurrent_programs.cost(fluid, outs)
        pairs = fluid.backward.append_backward(cost)
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        for name, value in recurrent_programs.values(main).items():
            scope.find_var(name).get_tensor().set(value, fluid.CPUPlace())
        feed = {}
        for name, (array, lengths) in recurrent_programs.feeds(main).items():
            feed[name] = array if lengths is None else fluid.create_lod_tensor(array, [lengths], fluid.CPUPlace())
        fetches = [*outs, cost, *(gradient for _, gradient in pairs)]
        found = [np.array(x) for x in exe.run(main, feed=feed, fetch_list=fetches, return_numpy=False)]
    gradients = dict(zip((p.name for p, _ in pairs), found[len(outs) + 1 :]))
    return {
        "record": record if build.__name__ in recurrent_programs.RECORDED else None,
        "outputs": found[: len(outs)],
        "cost": found[len(outs)],
        "gradients": {name: gradients[name] for name in sorted(gradients)},
    }


def decoded(build):
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup), fluid.scope_guard(scope):
        outs = build(fluid)
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        for name, value in recurrent_programs.values(main, 2.0).items():
            scope.find_var(name).get_tensor().set(value, fluid.CPUPlace())
        feed = {name: array for name, (array, _) in recurrent_programs.feeds(main).items()}
        return exe.run(main, feed=feed, fetch_list=outs)


def write():
    tree = {name: measured(build) for name, build in recurrent_programs.CASES.items()}
    tree["decoded"] = {name: decoded(build) for name, build in recurrent_programs.DECODED.items()}
    write_tree(GOLDENS / "recurrent", tree)
