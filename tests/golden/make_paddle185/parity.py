"""Results and gradients of layer calls: parity_GROUP.json and .npz, one for each group of tests/support/layer_parity.

Per key of a group's table: ``outs``, the results; ``grads``, those of ``sum(weights * outs)`` with respect to every
floating-point input and trainable parameter in order, None where Paddle has none; ``kept``, persistable variables that
are not trained, after the run.  A call that Paddle refuses would be an error of the table.
"""

import sys

import layer_parity
import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from layer_parity.table import cost, parameter_value, place, wanted
from trees import GOLDENS, write_tree


def built(key, case, shapes):
    """A program of one case; with ``shapes`` of its results also its gradients."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        recorded = place(fluid, key, case)
        grads = None
        if shapes is not None:
            loss = cost(fluid, recorded, shapes, recorded.feeds)
            targets = wanted(recorded)
            grads = fluid.gradients([loss], targets) if loss is not None and targets else None
    return main, startup, recorded, grads


def run(key, case, shapes):
    main, startup, recorded, grads = built(key, case, shapes)
    scope = fluid.Scope()
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        for n, parameter in enumerate(recorded.parameters):
            tensor = scope.find_var(parameter.name).get_tensor()
            dtype = np.array(tensor).dtype
            tensor.set(parameter_value(key, n, parameter, case.scale).astype(dtype), fluid.CPUPlace())
        asked = [g for g in grads or [] if g is not None]
        found = exe.run(main, feed=recorded.feeds, fetch_list=recorded.outs + asked)
        kept = [np.array(scope.find_var(p.name).get_tensor()) for p in recorded.parameters if not p.trainable]
    outs, rest = found[: len(recorded.outs)], iter(found[len(recorded.outs) :])
    return outs, [None if g is None else next(rest) for g in grads or []], kept


def golden(key, case):
    outs, _, kept = run(key, case, None)
    grads = []
    if case.grads:
        _, grads, kept = run(key, case, [out.shape for out in outs])
    entry = {"outs": outs}
    if any(g is not None for g in grads):
        entry["grads"] = grads
    if kept:
        entry["kept"] = kept
    return entry


def write():
    failed = 0
    for group, table in layer_parity.GROUPS.items():
        tree = {}
        for key, case in table.items():
            try:
                tree[key] = golden(key, case)
            except Exception as error:
                failed += 1
                said = [line for line in str(error).splitlines() if "rror" in line or "xpect" in line]
                print(key, type(error).__name__, *said[:3] or [str(error)[:300]], file=sys.stderr)
        write_tree(GOLDENS / ("parity_" + group), tree)
    for key, case in layer_parity.REFUSED.items():
        try:
            run(key, case, None)
        except Exception:  # of many classes, some of them Exception itself
            continue
        failed += 1
        print(key, "is not refused", file=sys.stderr)
    if failed:
        sys.exit(f"{failed} calls failed")
