"""Trainings and schedules of tests/support/rule_programs: rules.json, rules.npz.

"trainings": per name the persistable variables, each with its values after 5 steps.  "schedules": per name what its
program fetches, each with its values in 20 steps.

What was found:
- Of the clips that set_gradient_clip gives, that of the last parameter (by name) serves all; with a parameter that has
  none, nothing is clipped.
"""

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from rule_programs import SCHEDULED, SCHEDULES, STEPS, TRAININGS, arrays, feeds, listed, start
from trees import GOLDENS, write_tree


def training(build):
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        build(fluid)
    steps = []
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        for p in main.all_parameters():
            scope.find_var(p.name).get_tensor().set(start(p.name, p.shape), fluid.CPUPlace())
        for step in range(STEPS):
            exe.run(main, feed=feeds(step))
            names = sorted(v.name for v in main.list_vars() if v.persistable and scope.find_var(v.name) is not None)
            steps.append({name: np.array(scope.find_var(name).get_tensor()) for name in names})
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


def schedule(build):
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        outs = listed(build(fluid))
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        return [np.stack(column) for column in zip(*[arrays(exe.run(main, fetch_list=outs)) for _ in range(SCHEDULED)])]


def write():
    trainings = {name: training(build) for name, build in TRAININGS.items()}
    schedules = {name: schedule(build) for name, build in SCHEDULES.items()}
    write_tree(GOLDENS / "rules", {"trainings": trainings, "schedules": schedules})
