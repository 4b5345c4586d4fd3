"""Whether a text is kind: convolutions over its words, two windows wide, and what is strongest in each."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, WORDS, WIDTH, HIDDEN = 32, 5147, 128, 256
Model = namedtuple("Model", "startup main loss accuracy")


def network(words):
    vectors = fluid.layers.embedding(input=words, size=[WORDS, WIDTH], is_sparse=True)
    three = fluid.nets.sequence_conv_pool(
        input=vectors, num_filters=HIDDEN, filter_size=3, act="tanh", pool_type="sqrt"
    )
    four = fluid.nets.sequence_conv_pool(input=vectors, num_filters=HIDDEN, filter_size=4, act="tanh", pool_type="sqrt")
    return fluid.layers.fc(input=[three, four], size=2, act="softmax")


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        words = fluid.layers.data(name="words", shape=[1], dtype="int64", lod_level=1)
        label = fluid.layers.data(name="label", shape=[1], dtype="int64")
        predicted = network(words)
        loss = fluid.layers.mean(fluid.layers.cross_entropy(input=predicted, label=label))
        accuracy = fluid.layers.accuracy(input=predicted, label=label)
        fluid.optimizer.Adagrad(learning_rate=0.002).minimize(loss)
    return Model(startup, main, loss, accuracy)


def batches(count):
    rng = np.random.RandomState(7)
    for _ in range(count):
        lengths = rng.randint(10, 60, BATCH).tolist()
        label = rng.randint(0, 2, (BATCH, 1))
        mood = np.repeat(label[:, 0], lengths)
        words = rng.randint(0, WORDS // 2, (sum(lengths), 1)) * 2
        words[:, 0] += np.where(rng.uniform(size=len(mood)) < 0.3, mood, 0)
        place = fluid.CPUPlace()
        yield {
            "words": fluid.create_lod_tensor(words.astype("int64"), [lengths], place),
            "label": label.astype("int64"),
        }


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
