"""Small pictures by residual blocks, with momentum, weight decay and a rate that falls in steps."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, CLASSES, DEPTH = 16, 10, 8
Model = namedtuple("Model", "startup main loss accuracy")


def conv_bn(x, filters, size, stride, padding, act):
    h = fluid.layers.conv2d(
        input=x, num_filters=filters, filter_size=size, stride=stride, padding=padding, act=None, bias_attr=False
    )
    return fluid.layers.batch_norm(input=h, act=act)


def basic_block(x, filters, stride):
    h = conv_bn(x, filters, 3, stride, 1, act="relu")
    h = conv_bn(h, filters, 3, 1, 1, act=None)
    skip = x if x.shape[1] == filters else conv_bn(x, filters, 1, stride, 0, act=None)
    return fluid.layers.elementwise_add(x=h, y=skip, act="relu")


def network(image):
    h = conv_bn(image, 16, 3, 1, 1, act="relu")
    for filters, first in ((16, 1), (32, 2), (64, 2)):
        for number in range((DEPTH - 2) // 6):
            h = basic_block(h, filters, first if number == 0 else 1)
    h = fluid.layers.pool2d(input=h, pool_size=8, pool_type="avg", pool_stride=1)
    return fluid.layers.fc(input=h, size=CLASSES, act="softmax")


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        image = fluid.data(name="pixel", shape=[None, 3, 32, 32], dtype="float32")
        label = fluid.data(name="label", shape=[None, 1], dtype="int64")
        predicted = network(image)
        loss = fluid.layers.mean(fluid.layers.cross_entropy(input=predicted, label=label))
        accuracy = fluid.layers.accuracy(input=predicted, label=label)
        rate = fluid.layers.piecewise_decay(boundaries=[10, 15], values=[0.001, 0.0003, 0.0001])
        fluid.optimizer.Momentum(
            learning_rate=rate, momentum=0.9, regularization=fluid.regularizer.L2Decay(1e-4)
        ).minimize(loss)
    return Model(startup, main, loss, accuracy)


def batches(count):
    rng = np.random.RandomState(5)
    kinds = rng.uniform(-1, 1, (CLASSES, 3, 32, 32))
    for _ in range(count):
        label = rng.randint(0, CLASSES, (BATCH, 1))
        image = 0.5 * kinds[label[:, 0]] + 0.3 * rng.normal(size=(BATCH, 3, 32, 32))
        yield {"pixel": image.astype("float32"), "label": label.astype("int64")}


def step(exe, model, batch):
    return exe.run(model.main, feed=batch, fetch_list=[model.loss, model.accuracy])


def main():
    model = build()
    exe = fluid.Executor(fluid.CPUPlace())
    exe.run(model.startup)
    for number, batch in enumerate(batches(20)):
        loss, accuracy = step(exe, model, batch)
        print(f"step {number}, loss {loss.item():.5f}, accuracy {accuracy.item():.3f}")


if __name__ == "__main__":
    main()
