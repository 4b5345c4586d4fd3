"""Who does what to whom: LSTMs that read in turns from both ends, and a conditional random field over the roles."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, WORDS, VERBS, ROLES = 10, 4000, 300, 59
# 8 must not divide HIDDEN / 4, the units: Paddle's gradients would be wrong (docs/adr/0044-lstm-gradients.md).
WIDTH, MARK_WIDTH, HIDDEN, DEPTH, SLOW = 32, 5, 120, 4, 1e-3
CONTEXT = ("word", "before2", "before1", "verb_word", "after1", "after2")
Model = namedtuple("Model", "startup main loss decoded")


def sequence(name):
    return fluid.layers.data(name=name, shape=[1], dtype="int64", lod_level=1)


def network():
    verb = fluid.layers.embedding(
        input=sequence("verb"), size=[VERBS, WIDTH], dtype="float32", is_sparse=True, param_attr="verb_table"
    )
    mark = fluid.layers.embedding(input=sequence("mark"), size=[2, MARK_WIDTH], dtype="float32", is_sparse=True)
    words = [
        fluid.layers.embedding(
            input=sequence(name),
            size=[WORDS, WIDTH],
            is_sparse=True,
            param_attr=fluid.ParamAttr(name="word_table", trainable=False),
        )
        for name in CONTEXT
    ]
    mixed = fluid.layers.sums(input=[fluid.layers.fc(input=x, size=HIDDEN, act="tanh") for x in [*words, verb, mark]])
    rules = {"candidate_activation": "relu", "gate_activation": "sigmoid", "cell_activation": "sigmoid"}
    state, _ = fluid.layers.dynamic_lstm(input=mixed, size=HIDDEN, **rules)
    for number in range(1, DEPTH):
        mixed = fluid.layers.sums(
            input=[
                fluid.layers.fc(input=mixed, size=HIDDEN, act="tanh"),
                fluid.layers.fc(input=state, size=HIDDEN, act="tanh"),
            ]
        )
        state, _ = fluid.layers.dynamic_lstm(input=mixed, size=HIDDEN, is_reverse=number % 2 == 1, **rules)
    return fluid.layers.sums(
        input=[
            fluid.layers.fc(input=mixed, size=ROLES, act="tanh"),
            fluid.layers.fc(input=state, size=ROLES, act="tanh"),
        ]
    )


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        features = network()
        role = sequence("role")
        cost = fluid.layers.linear_chain_crf(
            input=features, label=role, param_attr=fluid.ParamAttr(name="crfw", learning_rate=SLOW)
        )
        loss = fluid.layers.mean(cost)
        rate = fluid.layers.exponential_decay(learning_rate=0.01, decay_steps=10, decay_rate=0.5, staircase=True)
        fluid.optimizer.SGD(learning_rate=rate).minimize(loss)
        decoded = fluid.layers.crf_decoding(input=features, param_attr=fluid.ParamAttr(name="crfw"))
    return Model(startup, main, loss, decoded)


def batches(count):
    rng = np.random.RandomState(10)
    place = fluid.CPUPlace()
    for _ in range(count):
        lengths = rng.randint(5, 30, BATCH).tolist()
        total = sum(lengths)
        word = rng.randint(0, WORDS, total)
        columns = {"word": word, "role": np.where(word % 4, 0, word % ROLES)}
        for name, shift in (("before2", 2), ("before1", 1), ("verb_word", 3), ("after1", -1), ("after2", -2)):
            columns[name] = np.roll(word, shift)
        columns["verb"] = np.repeat(rng.randint(0, VERBS, BATCH), lengths)
        columns["mark"] = rng.randint(0, 2, total)
        yield {
            name: fluid.create_lod_tensor(values.astype("int64")[:, None], [lengths], place)
            for name, values in columns.items()
        }


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
