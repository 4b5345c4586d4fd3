"""Small pictures by groups of convolutions with batch normalisation and dropout, after VGG."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, CLASSES = 32, 10
Model = namedtuple("Model", "startup main loss accuracy")


def block(x, filters, rates):
    return fluid.nets.img_conv_group(
        input=x,
        pool_size=2,
        pool_stride=2,
        conv_num_filter=[filters] * len(rates),
        conv_filter_size=3,
        conv_act="relu",
        conv_with_batchnorm=True,
        conv_batchnorm_drop_rate=rates,
        pool_type="max",
    )


def network(image):
    h = block(image, 32, [0.3, 0])
    h = block(h, 64, [0.4, 0])
    h = block(h, 128, [0.4, 0.4, 0])
    h = fluid.layers.dropout(x=h, dropout_prob=0.5)
    h = fluid.layers.fc(input=h, size=256, act=None)
    h = fluid.layers.batch_norm(input=h, act="relu")
    h = fluid.layers.dropout(x=h, dropout_prob=0.5)
    h = fluid.layers.fc(input=h, size=256, act=None)
    return fluid.layers.fc(input=h, size=CLASSES, act="softmax")


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        image = fluid.layers.data(name="pixel", shape=[3, 32, 32], dtype="float32")
        label = fluid.layers.data(name="label", shape=[1], dtype="int64")
        predicted = network(image)
        loss = fluid.layers.mean(fluid.layers.cross_entropy(input=predicted, label=label))
        accuracy = fluid.layers.accuracy(input=predicted, label=label)
        fluid.optimizer.Momentum(learning_rate=0.0003, momentum=0.9).minimize(loss)
    return Model(startup, main, loss, accuracy)


def batches(count):
    rng = np.random.RandomState(4)
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
