"""Handwritten digits by convolutions, with batch normalisation between them; a test program beside training."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH = 64
Model = namedtuple("Model", "startup main test loss accuracy")


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        image = fluid.layers.data(name="image", shape=[1, 28, 28], dtype="float32")
        label = fluid.layers.data(name="label", shape=[1], dtype="int64")
        hidden = fluid.nets.simple_img_conv_pool(
            input=image, filter_size=5, num_filters=20, pool_size=2, pool_stride=2, act="relu"
        )
        hidden = fluid.layers.batch_norm(hidden)
        hidden = fluid.nets.simple_img_conv_pool(
            input=hidden, filter_size=5, num_filters=50, pool_size=2, pool_stride=2, act="relu"
        )
        predicted = fluid.layers.fc(input=hidden, size=10, act="softmax")
        loss = fluid.layers.mean(fluid.layers.cross_entropy(input=predicted, label=label))
        accuracy = fluid.layers.accuracy(input=predicted, label=label)
        test = main.clone(for_test=True)
        fluid.optimizer.Adam(learning_rate=0.0005).minimize(loss)
    return Model(startup, main, test, loss, accuracy)


def batches(count):
    rng = np.random.RandomState(3)
    digits = rng.uniform(-1, 1, (10, 1, 28, 28))
    for _ in range(count):
        label = rng.randint(0, 10, (BATCH, 1))
        image = 0.5 * digits[label[:, 0]] + 0.5 * rng.normal(size=(BATCH, 1, 28, 28))
        yield {"image": image.astype("float32"), "label": label.astype("int64")}


def step(exe, model, batch):
    return exe.run(model.main, feed=batch, fetch_list=[model.loss, model.accuracy])


def main():
    model = build()
    exe = fluid.Executor(fluid.CPUPlace())
    exe.run(model.startup)
    for number, batch in enumerate(batches(20)):
        loss, accuracy = step(exe, model, batch)
        print(f"step {number}, loss {loss.item():.5f}, accuracy {accuracy.item():.3f}")
    (held_out,) = batches(1)
    loss, accuracy = exe.run(model.test, feed=held_out, fetch_list=[model.loss, model.accuracy])
    print(f"test, loss {loss.item():.5f}, accuracy {accuracy.item():.3f}")


if __name__ == "__main__":
    main()
