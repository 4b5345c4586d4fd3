"""Translation: a GRU reads the sentence from both ends, and a recurrent decoder attends to what it read."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, WORDS, WIDTH, HIDDEN = 16, 3000, 64, 64
Model = namedtuple("Model", "startup main loss")


def encoder():
    source = fluid.layers.data(name="source", shape=[1], dtype="int64", lod_level=1)
    vectors = fluid.layers.embedding(input=source, size=[WORDS, WIDTH], dtype="float32", is_sparse=True)
    forward = fluid.layers.dynamic_gru(
        input=fluid.layers.fc(input=vectors, size=HIDDEN * 3, bias_attr=False), size=HIDDEN
    )
    backward = fluid.layers.dynamic_gru(
        input=fluid.layers.fc(input=vectors, size=HIDDEN * 3, bias_attr=False), size=HIDDEN, is_reverse=True
    )
    encoded = fluid.layers.concat(input=[forward, backward], axis=1)
    projected = fluid.layers.fc(input=encoded, size=HIDDEN, bias_attr=False)
    first = fluid.layers.sequence_first_step(input=backward)
    boot = fluid.layers.fc(input=first, size=HIDDEN, act="tanh", bias_attr=False)
    return encoded, projected, boot


def attention(encoded, projected, state):
    asked = fluid.layers.fc(input=state, size=HIDDEN, bias_attr=False)
    asked = fluid.layers.sequence_expand(x=asked, y=projected)
    both = fluid.layers.concat(input=[projected, asked], axis=1)
    weights = fluid.layers.fc(input=both, size=1, act="tanh", bias_attr=False)
    weights = fluid.layers.sequence_softmax(input=weights)
    weights = fluid.layers.reshape(x=weights, shape=[-1])
    scaled = fluid.layers.elementwise_mul(x=encoded, y=weights, axis=0)
    return fluid.layers.sequence_pool(input=scaled, pool_type="sum")


def decoder(encoded, projected, boot):
    target = fluid.layers.data(name="target", shape=[1], dtype="int64", lod_level=1)
    vectors = fluid.layers.embedding(input=target, size=[WORDS, WIDTH], dtype="float32", is_sparse=True)
    rnn = fluid.layers.DynamicRNN()
    with rnn.block():
        word = rnn.step_input(vectors)
        seen = rnn.static_input(encoded)
        seen_projected = rnn.static_input(projected)
        state = rnn.memory(init=boot, need_reorder=True)
        context = attention(seen, seen_projected, state)
        inputs = fluid.layers.fc(input=[context, word], size=HIDDEN * 3, bias_attr=False)
        after, _, _ = fluid.layers.gru_unit(input=inputs, hidden=state, size=HIDDEN * 3)
        rnn.update_memory(state, after)
        rnn.output(fluid.layers.fc(input=after, size=WORDS, act="softmax", bias_attr=True))
    return rnn()


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        predicted = decoder(*encoder())
        following = fluid.layers.data(name="next", shape=[1], dtype="int64", lod_level=1)
        loss = fluid.layers.mean(fluid.layers.cross_entropy(input=predicted, label=following))
        fluid.optimizer.Adam(learning_rate=1e-3).minimize(loss)
    return Model(startup, main, loss)


def batches(count):
    rng = np.random.RandomState(11)
    place = fluid.CPUPlace()

    def sequences(rows):
        joined = np.concatenate(rows).astype("int64")[:, None]
        return fluid.create_lod_tensor(joined, [[len(row) for row in rows]], place)

    for _ in range(count):
        sources = [rng.randint(2, WORDS, length) for length in rng.randint(4, 20, BATCH)]
        targets = [(row[::-1] * 7 + 3)[: max(2, len(row) - 2)] % WORDS for row in sources]
        yield {
            "source": sequences(sources),
            "target": sequences([np.concatenate([[0], row]) for row in targets]),
            "next": sequences([np.concatenate([row, [1]]) for row in targets]),
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
