"""A language model of five words: the next one from four that share a table of vectors."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, WORDS, WIDTH, HIDDEN = 100, 2073, 32, 256
CONTEXT = ("first", "second", "third", "fourth")
Model = namedtuple("Model", "startup main loss")


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        vectors = []
        for name in CONTEXT:
            word = fluid.data(name=name, shape=[None, 1], dtype="int64")
            vectors.append(
                fluid.embedding(input=word, size=[WORDS, WIDTH], dtype="float32", is_sparse=True, param_attr="shared_w")
            )
        joined = fluid.layers.concat(input=vectors, axis=-1)
        hidden = fluid.layers.fc(input=joined, size=HIDDEN, act="sigmoid")
        predicted = fluid.layers.fc(input=hidden, size=WORDS, act="softmax")
        following = fluid.data(name="next", shape=[None, 1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.cross_entropy(input=predicted, label=following))
        fluid.optimizer.SGD(learning_rate=0.1).minimize(loss)
    return Model(startup, main, loss)


def batches(count):
    rng = np.random.RandomState(6)
    for _ in range(count):
        start = rng.geometric(0.01, (BATCH, 1)) % WORDS
        grams = (start * np.array([1, 3, 7, 2, 5])) % WORDS
        names = (*CONTEXT, "next")
        yield {name: grams[:, i : i + 1].astype("int64") for i, name in enumerate(names)}


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
