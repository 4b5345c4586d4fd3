"""A generator of pictures and its judge: programs that share parameters by their names."""

from collections import namedtuple

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

BATCH, NOISE = 64, 100
Model = namedtuple("Model", "startup judging fooling drawing judge_loss fooling_loss picture")


def judge(image):
    with fluid.unique_name.guard("D_"):
        h = fluid.layers.reshape(x=image, shape=[-1, 1, 28, 28])
        h = fluid.layers.conv2d(input=h, num_filters=16, filter_size=5, stride=2, padding=2, act="leaky_relu")
        h = fluid.layers.conv2d(input=h, num_filters=32, filter_size=5, stride=2, padding=2, act="leaky_relu")
        h = fluid.layers.fc(input=h, size=128, act="leaky_relu")
        return fluid.layers.fc(input=h, size=1)


def generator(noise):
    with fluid.unique_name.guard("G_"):
        h = fluid.layers.batch_norm(fluid.layers.fc(input=noise, size=256), act="relu")
        h = fluid.layers.batch_norm(fluid.layers.fc(input=h, size=16 * 7 * 7), act="relu")
        h = fluid.layers.reshape(x=h, shape=[-1, 16, 7, 7])
        h = fluid.layers.conv2d_transpose(
            input=h, num_filters=16, output_size=[14, 14], filter_size=5, stride=2, padding=2, act="relu"
        )
        h = fluid.layers.conv2d_transpose(
            input=h, num_filters=1, output_size=[28, 28], filter_size=5, stride=2, padding=2, act="tanh"
        )
        return fluid.layers.reshape(x=h, shape=[-1, 784])


def cost(score, truth):
    return fluid.layers.mean(fluid.layers.sigmoid_cross_entropy_with_logits(x=score, label=truth))


def build():
    judging, fooling, startup = fluid.Program(), fluid.Program(), fluid.Program()
    judging.random_seed = fooling.random_seed = startup.random_seed = 90
    with fluid.unique_name.guard():
        with fluid.program_guard(judging, startup):
            image = fluid.layers.data(name="image", shape=[784], dtype="float32")
            truth = fluid.layers.data(name="truth", shape=[1], dtype="float32")
            judge_loss = cost(judge(image), truth)
            fluid.optimizer.Adam(learning_rate=5e-5, beta1=0.5).minimize(judge_loss)
        with fluid.program_guard(fooling, startup):
            noise = fluid.layers.data(name="noise", shape=[NOISE], dtype="float32")
            picture = generator(noise)
            drawing = fooling.clone()
            score = judge(picture)
            ones = fluid.layers.fill_constant_batch_size_like(input=score, dtype="float32", shape=[-1, 1], value=1.0)
            fooling_loss = cost(score, ones)
            trained = [p.name for p in drawing.global_block().all_parameters()]
            fluid.optimizer.Adam(learning_rate=5e-5, beta1=0.5).minimize(fooling_loss, parameter_list=trained)
    return Model(startup, judging, fooling, drawing, judge_loss, fooling_loss, picture)


def batches(count):
    rng = np.random.RandomState(12)
    drawn = np.tanh(rng.normal(size=(10, 784)))
    for _ in range(count):
        image = 0.9 * drawn[rng.randint(0, 10, BATCH)] + 0.05 * rng.normal(size=(BATCH, 784))
        noise = rng.uniform(-1, 1, (BATCH, NOISE))
        yield {"image": image.astype("float32"), "noise": noise.astype("float32")}


def step(exe, model, batch):
    """Judge pictures that are true and pictures that were made, then fool the judge."""
    noise = {"noise": batch["noise"]}
    (made,) = exe.run(model.drawing, feed=noise, fetch_list=[model.picture])
    losses = []
    for image, truth in ((batch["image"], 1.0), (made, 0.0)):
        feed = {"image": image, "truth": np.full((BATCH, 1), truth, "float32")}
        losses += exe.run(model.judging, feed=feed, fetch_list=[model.judge_loss])
    return losses + exe.run(model.fooling, feed=noise, fetch_list=[model.fooling_loss])


def main():
    model = build()
    exe = fluid.Executor(fluid.CPUPlace())
    exe.run(model.startup)
    for number, batch in enumerate(batches(20)):
        true, made, fooled = step(exe, model, batch)
        print(f"step {number}, true {true.item():.5f}, made {made.item():.5f}, fooling {fooled.item():.5f}")


if __name__ == "__main__":
    main()
