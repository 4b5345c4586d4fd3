"""Linear regression: the price of a house from 13 measures of it."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, FEATURES = 20, 13
Model = namedtuple("Model", "startup main loss")


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x = fluid.layers.data(name="x", shape=[FEATURES], dtype="float32")
        y = fluid.layers.data(name="y", shape=[1], dtype="float32")
        predicted = fluid.layers.fc(input=x, size=1, act=None)
        loss = fluid.layers.mean(fluid.layers.square_error_cost(input=predicted, label=y))
        fluid.optimizer.SGD(learning_rate=0.01).minimize(loss)
    return Model(startup, main, loss)


def batches(count):
    rng = np.random.RandomState(1)
    weights = rng.uniform(-1, 1, (FEATURES, 1))
    for _ in range(count):
        x = rng.normal(size=(BATCH, FEATURES))
        y = x.dot(weights) + 22.5 + 0.1 * rng.normal(size=(BATCH, 1))
        yield {"x": x.astype("float32"), "y": y.astype("float32")}


def step(exe, model, batch):
    return exe.run(model.main, feed=batch, fetch_list=[model.loss])


def main():
    model = build()
    exe = fluid.Executor(fluid.CPUPlace())
    exe.run(model.startup)
    for number, batch in enumerate(batches(20)):
        print(f"step {number}, loss {step(exe, model, batch)[0].item():.5f}")


if __name__ == "__main__":
    main()
