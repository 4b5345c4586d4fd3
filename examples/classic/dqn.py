"""Q-learning: a network of values, and a copy of it that gives the targets and is assigned anew now and then."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, OBSERVED, ACTIONS, HIDDEN, DISCOUNT, SYNC = 64, 16, 4, 128, 0.99, 5
Model = namedtuple("Model", "startup learning syncing acting loss values")


def values_of(observation, name):
    h = observation
    for number, (size, act) in enumerate([(HIDDEN, "relu"), (HIDDEN, "relu"), (ACTIONS, None)]):
        layer = f"{name}_fc{number}"
        h = fluid.layers.fc(
            input=h,
            size=size,
            act=act,
            param_attr=fluid.ParamAttr(name=layer + "_w"),
            bias_attr=fluid.ParamAttr(name=layer + "_b"),
        )
    return h


def build():
    learning, syncing, acting, startup = (fluid.Program() for _ in range(4))
    learning.random_seed = acting.random_seed = startup.random_seed = 90
    with fluid.unique_name.guard():
        with fluid.program_guard(learning, startup):
            now = fluid.layers.data(name="now", shape=[OBSERVED], dtype="float32")
            later = fluid.layers.data(name="later", shape=[OBSERVED], dtype="float32")
            action = fluid.layers.data(name="action", shape=[1], dtype="int64")
            reward = fluid.layers.data(name="reward", shape=[1], dtype="float32")
            over = fluid.layers.data(name="over", shape=[1], dtype="float32")
            taken = fluid.layers.one_hot(input=action, depth=ACTIONS)
            value = fluid.layers.reduce_sum(values_of(now, "policy") * taken, dim=1, keep_dim=True)
            best = fluid.layers.reduce_max(values_of(later, "target"), dim=1, keep_dim=True)
            best.stop_gradient = True
            goal = reward + (1.0 - over) * DISCOUNT * best
            loss = fluid.layers.reduce_mean(fluid.layers.square_error_cost(value, goal))
            fluid.optimizer.Adam(learning_rate=1e-3).minimize(loss)
        with fluid.program_guard(acting, startup):
            now = fluid.layers.data(name="now", shape=[OBSERVED], dtype="float32")
            values = values_of(now, "policy")
    with fluid.program_guard(syncing, fluid.Program()):  # its parameters are those of the others: nothing to initialise
        for policy in learning.all_parameters():
            if policy.name.startswith("policy"):
                names = policy.name, policy.name.replace("policy", "target")
                source, copy = (fluid.layers.create_parameter(policy.shape, "float32", name=name) for name in names)
                fluid.layers.assign(source, copy)
    return Model(startup, learning, syncing, acting, loss, values)


def batches(count):
    rng = np.random.RandomState(13)
    pull = rng.normal(size=(ACTIONS, OBSERVED))
    for number in range(count):
        now = rng.normal(size=(BATCH, OBSERVED))
        action = rng.randint(0, ACTIONS, (BATCH, 1))
        later = 0.9 * now + 0.3 * pull[action[:, 0]]
        yield {
            "now": now.astype("float32"),
            "later": later.astype("float32"),
            "action": action.astype("int64"),
            "reward": np.tanh(later[:, :1]).astype("float32"),
            "over": (rng.uniform(size=(BATCH, 1)) < 0.1).astype("float32"),
            "sync": number % SYNC == 0,
        }


def step(exe, model, batch):
    if batch["sync"]:
        exe.run(model.syncing)
    return exe.run(model.learning, feed={k: v for k, v in batch.items() if k != "sync"}, fetch_list=[model.loss])


def main():
    model = build()
    exe = fluid.Executor(fluid.CPUPlace())
    exe.run(model.startup)
    for number, batch in enumerate(batches(20)):
        print(f"step {number}, loss {step(exe, model, batch)[0].item():.5f}")
    observation = np.zeros((1, OBSERVED), "float32")
    (values,) = exe.run(model.acting, feed={"now": observation}, fetch_list=[model.values])
    print("values of an observation", np.round(values[0], 3))


if __name__ == "__main__":
    main()
