"""Writes golden/optimizers.json with paddlepaddle 1.8.5: three steps of each optimizer on one 4x3 parameter.

Run with a Python that has paddle installed (3.7); nothing else uses this file.
"""

import json
import pathlib

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

STEPS = 3
OPTIMIZERS = {
    "sgd": lambda: fluid.optimizer.SGD(0.1),
    "momentum": lambda: fluid.optimizer.Momentum(0.1, 0.9),
    "nesterov": lambda: fluid.optimizer.Momentum(0.1, 0.9, use_nesterov=True),
    "lars_momentum": lambda: fluid.optimizer.LarsMomentum(0.1, 0.9),
    "adagrad": lambda: fluid.optimizer.Adagrad(0.1),
    "decayed_adagrad": lambda: fluid.optimizer.DecayedAdagrad(0.1),
    "adam": lambda: fluid.optimizer.Adam(0.1),
    "adamax": lambda: fluid.optimizer.Adamax(0.1),
    "lamb": lambda: fluid.optimizer.LambOptimizer(0.1),
    "adadelta": lambda: fluid.optimizer.Adadelta(0.1),
    "rmsprop": lambda: fluid.optimizer.RMSPropOptimizer(0.1, momentum=0.5),
    "centered_rmsprop": lambda: fluid.optimizer.RMSPropOptimizer(0.1, momentum=0.5, centered=True),
    "ftrl": lambda: fluid.optimizer.Ftrl(0.1, l1=0.2, l2=0.2),
    "ftrl_power": lambda: fluid.optimizer.Ftrl(0.1, l1=0.2, l2=0.2, lr_power=-0.3),
}


def run(make):
    """Persistable variables after each step on the loss sum(w * x), whose gradient is the feed."""
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    start = (np.arange(12).reshape(4, 3) / 7 - 0.8).astype("float32")
    feeds = np.random.RandomState(0).randn(STEPS, 4, 3).astype("float32")
    with fluid.scope_guard(scope), fluid.program_guard(main, startup), fluid.unique_name.guard():
        initial = fluid.initializer.NumpyArrayInitializer(start)
        w = fluid.layers.create_parameter([4, 3], "float32", name="w", default_initializer=initial)
        x = fluid.data("x", [4, 3], "float32")
        make().minimize(fluid.layers.reduce_sum(w * x))
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        names = sorted(v.name for v in main.list_vars() if v.persistable and v.name not in ("feed", "fetch"))
        after = []
        for feed in feeds:
            exe.run(main, feed={"x": feed})
            after.append({n: np.array(scope.find_var(n).get_tensor()).ravel().tolist() for n in names})
    return after


path = pathlib.Path(__file__).with_name("golden") / "optimizers.json"
path.write_text(json.dumps({name: run(make) for name, make in OPTIMIZERS.items()}, separators=(",", ":")) + "\n")
