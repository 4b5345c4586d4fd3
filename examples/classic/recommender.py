"""How a person will rate a film: the cosine between what is known of the one and of the other."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH = 256
PEOPLE, JOBS, AGES, FILMS, KINDS, TITLE_WORDS = 6041, 21, 7, 3953, 18, 5175
Model = namedtuple("Model", "startup main loss")


def known(name, count, width):
    """A vector of what one number says."""
    number = fluid.layers.data(name=name, shape=[1], dtype="int64")
    vector = fluid.layers.embedding(
        input=number, size=[count, width], dtype="float32", param_attr=name + "_table", is_sparse=True
    )
    return fluid.layers.fc(input=vector, size=width)


def person():
    parts = [known("person", PEOPLE, 32), known("gender", 2, 16), known("age", AGES, 16), known("job", JOBS, 16)]
    return fluid.layers.fc(input=fluid.layers.concat(input=parts, axis=1), size=200, act="tanh")


def film():
    kinds = fluid.layers.data(name="kinds", shape=[1], dtype="int64", lod_level=1)
    kinds = fluid.layers.embedding(input=kinds, size=[KINDS, 32], is_sparse=True)
    kinds = fluid.layers.sequence_pool(input=kinds, pool_type="sum")
    title = fluid.layers.data(name="title", shape=[1], dtype="int64", lod_level=1)
    title = fluid.layers.embedding(input=title, size=[TITLE_WORDS, 32], is_sparse=True)
    title = fluid.nets.sequence_conv_pool(input=title, num_filters=32, filter_size=3, act="tanh", pool_type="sum")
    parts = [known("film", FILMS, 32), kinds, title]
    return fluid.layers.fc(input=fluid.layers.concat(input=parts, axis=1), size=200, act="tanh")


def build():
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 90
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        likeness = fluid.layers.cos_sim(X=person(), Y=film())
        predicted = fluid.layers.scale(x=likeness, scale=5.0)
        score = fluid.layers.data(name="score", shape=[1], dtype="float32")
        loss = fluid.layers.mean(fluid.layers.square_error_cost(input=predicted, label=score))
        fluid.optimizer.SGD(learning_rate=0.2).minimize(loss)
    return Model(startup, main, loss)


def batches(count):
    rng = np.random.RandomState(9)
    place = fluid.CPUPlace()
    limits = (("person", PEOPLE), ("gender", 2), ("age", AGES), ("job", JOBS), ("film", FILMS))
    for _ in range(count):
        feed = {name: rng.randint(0, limit, (BATCH, 1)).astype("int64") for name, limit in limits}
        for name, limit, most in (("kinds", KINDS, 4), ("title", TITLE_WORDS, 8)):
            lengths = rng.randint(1, most + 1, BATCH).tolist()
            ids = rng.randint(0, limit, (sum(lengths), 1)).astype("int64")
            feed[name] = fluid.create_lod_tensor(ids, [lengths], place)
        score = 1 + (feed["person"] + feed["film"]) % 5
        feed["score"] = score.astype("float32")
        yield feed


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
