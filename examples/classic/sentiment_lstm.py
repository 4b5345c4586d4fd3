"""Whether a text is kind: a stack of LSTMs that read it in turns from the front and from the back."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

# 8 must not divide HIDDEN / 4, the units: Paddle's gradients would be wrong (docs/adr/0044-lstm-gradients.md).
BATCH, WORDS, WIDTH, HIDDEN, DEPTH = 32, 5147, 128, 240, 3
Model = namedtuple("Model", "startup main loss accuracy")


def network(words):
    vectors = fluid.layers.embedding(input=words, size=[WORDS, WIDTH], is_sparse=True)
    gates = fluid.layers.fc(input=vectors, size=HIDDEN)
    hidden, _ = fluid.layers.dynamic_lstm(input=gates, size=HIDDEN)
    inputs = [gates, hidden]
    for number in range(2, DEPTH + 1):
        gates = fluid.layers.fc(input=inputs, size=HIDDEN)
        hidden, _ = fluid.layers.dynamic_lstm(input=gates, size=HIDDEN, is_reverse=number % 2 == 0)
        inputs = [gates, hidden]
    strongest = [fluid.layers.sequence_pool(input=x, pool_type="max") for x in inputs]
    return fluid.layers.fc(input=strongest, size=2, act="softmax")


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
    rng = np.random.RandomState(8)
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
