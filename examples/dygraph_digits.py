"""Handwritten digits in dygraph: trained there, saved and loaded, traced, and trained on as a Program.

python examples/dygraph_digits.py --folder DIR                      prints accuracies; DIR gets states and test.npz
fluidc compile examples/dygraph_digits.py:traced -o digits.fluidc   the net as it was traced, with its values
fluidc predict digits.fluidc --data DIR/test.npz -o predicted.npz
fluidc compile examples/dygraph_digits.py:traced -o digits.onnx     the same for any ONNX Runtime
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fluidc.frontend as fluid
from fluidc.frontend.dygraph import BatchNorm, Conv2D, Layer, Linear, Pool2D, TracedLayer, to_variable

BATCH, EPOCHS = 32, 10


class Net(Layer):
    """Convolution, batch normalisation, pooling, two products; probabilities of ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv2D(1, 8, 3, padding=1, bias_attr=False)
        self.norm = BatchNorm(8, act="relu")
        self.pool = Pool2D(2, "max", 2)
        self.hidden = Linear(8 * 4 * 4, 32, act="relu")
        self.out = Linear(32, 10, act="softmax")

    def forward(self, image: fluid.Variable) -> fluid.Variable:
        pooled = self.pool(self.norm(self.conv(image)))
        return self.out(self.hidden(fluid.layers.reshape(pooled, [pooled.shape[0], -1])))


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(probabilities.argmax(axis=1) == labels[:, 0]))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "--folder", type=Path, default=Path("digits"), help="for the state of net and optimizer, and test.npz"
)
folder = parser.parse_args().folder

images, labels = map(np.asarray, load_digits(return_X_y=True))
x = (images / 16.0).astype("float32").reshape(-1, 1, 8, 8)
y = labels.astype("int64").reshape(-1, 1)
x, x_test, y, y_test = map(np.asarray, train_test_split(x, y, train_size=1437, random_state=0, stratify=y))
batches = [slice(start, start + BATCH) for start in range(0, len(x) - BATCH + 1, BATCH)]
folder.mkdir(parents=True, exist_ok=True)
np.savez(folder / "test.npz", feed_0=x_test)

with fluid.dygraph.guard():
    fluid.default_main_program().random_seed = 3
    net = Net()
    adam = fluid.optimizer.Adam(0.003, parameter_list=net.parameters())
    for _ in range(EPOCHS):
        for batch in batches:
            loss = fluid.layers.mean(fluid.layers.cross_entropy(net(to_variable(x[batch])), to_variable(y[batch])))
            loss.backward()
            adam.minimize(loss)
            net.clear_gradients()
    fluid.save_dygraph(net.state_dict(), str(folder / "net"))
    fluid.save_dygraph(adam.state_dict(), str(folder / "net"))

    loaded = Net()
    parameters, _ = fluid.load_dygraph(str(folder / "net"))
    assert parameters is not None
    loaded.set_dict(parameters)
    # Traced twice: in training, for a program that trains on; in evaluation, for one that predicts.
    _, training = TracedLayer.trace(loaded, [to_variable(x[:BATCH])])
    loaded.set_dict(parameters)  # the call moved the running statistics
    loaded.eval()
    probabilities, traced = TracedLayer.trace(loaded, [to_variable(x_test)])
    print(f"dygraph: test accuracy {accuracy(probabilities.numpy(), y_test):.3f}")
    (as_program,) = traced([x_test])
    print(f"the traced program differs by at most {np.abs(as_program - probabilities.numpy()).max():.1e}")

startup = fluid.Program()
with fluid.program_guard(training.program, startup):
    predicted = training.program.global_block().var(training.fetch_names[0])
    label = fluid.data("label", [None, 1], "int64")
    mean = fluid.layers.mean(fluid.layers.cross_entropy(predicted, label))
    fluid.optimizer.Momentum(0.01, 0.9).minimize(mean)
exe = fluid.Executor()
exe.run(startup)
for batch in batches:
    exe.run(training.program, feed={"feed_0": x[batch], "label": y[batch]}, fetch_list=[mean])
# What it trained are the parameters of the layer, which the other program reads too.
print(f"after one epoch as a program: test accuracy {accuracy(traced([x_test])[0], y_test):.3f}")
