"""Writes golden/dpsgd.json with paddlepaddle 1.8.5: single executions of its ``dpsgd`` op, and a short training.

Run with a Python that has paddle installed (3.7); nothing else uses this file.
"""

import json
import pathlib

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

SEEDS = [1, 7, 42, 123456789, 2**31 - 2, 2**31 - 1, -1, *np.random.RandomState(0).randint(1, 2**31 - 1, 40).tolist()]


def run(dtype, grad, start=None, rate=1.0, clip=10.0, batch_size=1.0, sigma=1.0, seed=7):
    """The parameter after one execution."""
    main, scope = fluid.Program(), fluid.Scope()
    grad = np.asarray(grad, dtype)
    start = np.zeros_like(grad) if start is None else np.asarray(start, dtype)
    with fluid.scope_guard(scope), fluid.program_guard(main), fluid.unique_name.guard():
        block = main.global_block()
        p = block.create_var(name="p", shape=grad.shape, dtype=dtype, persistable=True)
        g = block.create_var(name="g", shape=grad.shape, dtype=dtype, is_data=True)
        r = block.create_var(name="r", shape=[1], dtype=dtype, persistable=True)
        attrs = {"clip": clip, "batch_size": batch_size, "sigma": sigma, "seed": seed}
        inputs = {"Param": [p], "Grad": [g], "LearningRate": [r]}
        block.append_op(type="dpsgd", inputs=inputs, outputs={"ParamOut": [p]}, attrs=attrs)
        scope.var("p").get_tensor().set(start, fluid.CPUPlace())
        scope.var("r").get_tensor().set(np.asarray([rate], dtype), fluid.CPUPlace())
        fluid.Executor(fluid.CPUPlace()).run(main, feed={"g": grad})
        return np.array(scope.find_var("p").get_tensor()).tolist()


def cases():
    """Arguments of `run`, each with its result under "out"."""
    thirteen = [3, 4, 0, 0, 0, 12]
    for dtype in ("float32", "float64"):
        for seed in SEEDS:
            yield {"dtype": dtype, "grad": [0.0], "seed": seed}
        for clip in (20.0, 13.0, 6.5, 1.3):
            for batch_size in (1.0, 4.0, 16.0):
                made = {"clip": clip, "batch_size": batch_size, "sigma": 0.0, "rate": 0.5}
                yield {"dtype": dtype, "grad": thirteen, **made}
        for clip in (1.0, 2.0):
            for sigma, batch_size in ((0.5, 1.0), (0.5, 4.0), (2.0, 1.0), (2.0, 4.0)):
                yield {"dtype": dtype, "grad": [0.0], "clip": clip, "sigma": sigma, "batch_size": batch_size}
        for grad in ([np.nan, 100.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf, np.nan, 2.0], [1e30, 1.0, 0.0]):
            yield {"dtype": dtype, "grad": grad, "sigma": 0.0}
        draw = np.random.RandomState(1)
        grad, start = draw.randn(7, 11).round(3).tolist(), draw.randn(7, 11).round(3).tolist()
        for clip in (0.37, 5.3, 100.0):
            made = {"clip": clip, "batch_size": 13.0, "sigma": 0.7, "rate": 0.1}
            yield {"dtype": dtype, "grad": grad, "start": start, **made}


def training():
    """Three steps of a two-layer net under ``Dpsgd`` with a seed: the parameters before them and after each."""
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    draw = np.random.RandomState(2)
    feeds = {"x": draw.randn(8, 5).round(3).astype("float32"), "y": draw.randn(8, 1).round(3).astype("float32")}
    with fluid.scope_guard(scope), fluid.program_guard(main, startup), fluid.unique_name.guard():
        x, y = fluid.data("x", [8, 5], "float32"), fluid.data("y", [8, 1], "float32")
        hidden = fluid.layers.fc(x, 4, act="relu")
        loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(hidden, 1) - y))
        optimizer = fluid.optimizer.Dpsgd(0.1, clip=0.5, batch_size=8.0, sigma=2.0)
        optimizer._seed = 7
        optimizer.minimize(loss)
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        names = sorted(p.name for p in main.all_parameters())
        after = []
        for _ in range(4):
            after.append({n: np.array(scope.find_var(n).get_tensor()).tolist() for n in names})
            exe.run(main, feed=feeds)
    return {"feeds": {n: v.tolist() for n, v in feeds.items()}, "parameters": after}


found = [{**case, "out": run(**case)} for case in cases()]
path = pathlib.Path(__file__).with_name("golden") / "dpsgd.json"
path.write_text(json.dumps({"executions": found, "training": training()}, separators=(",", ":")) + "\n")
