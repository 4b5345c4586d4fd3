"""The benchmark models as fluid programs, with their sizes as fields: the ones measured, and small ones for tests.

Each is a classifier: `Model.logits` records the network on the data variable ``x``, `Model.rows` draws random examples
for it.  Parameters have fixed names, ``LAYER.w`` and ``LAYER.b``, in the layouts of fluid (fc ``[in, out]``, conv2d
``[out, in, kh, kw]``), so that other libraries can take the same steps from the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ... import frontend as fluid
from ..framework import Variable

Rows = NDArray[np.generic]
layers: Any = fluid.layers


class Model(Protocol):
    """A classifier."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        ...

    def logits(self) -> Variable:
        """Record the network in the default main program; returns ``f32[N, classes]``."""
        ...

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """Draw ``n`` random examples for ``x``."""
        ...


@dataclass(frozen=True)
class Mlp:
    """Linear layers with relu between them."""

    inputs: int = 784
    hidden: tuple[int, ...] = (512, 256)
    classes: int = 10

    def logits(self) -> Variable:
        """``f32[N, classes]``."""
        h = layers.data("x", [self.inputs])
        for number, width in enumerate(self.hidden, 1):
            h = _fc(h, width, f"fc{number}", act="relu")
        return _fc(h, self.classes, "out")

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """``f32[n, inputs]``."""
        return _normal(rng, n, self.inputs)


@dataclass(frozen=True)
class OpacusCnn:
    """The network of Opacus' MNIST example: large strides, overlapping pools."""

    side: int = 28
    channels: tuple[int, int] = (16, 32)
    width: int = 32
    classes: int = 10

    def logits(self) -> Variable:
        """``f32[N, classes]``."""
        x = layers.data("x", [1, self.side, self.side])
        h = layers.pool2d(_conv(x, self.channels[0], 8, "conv1", stride=2, padding=3, act="relu"), 2, "max", 1)
        h = layers.pool2d(_conv(h, self.channels[1], 4, "conv2", stride=2, act="relu"), 2, "max", 1)
        return _fc(_fc(h, self.width, "fc1", act="relu"), self.classes, "out")

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """``f32[n, 1, side, side]``."""
        return _normal(rng, n, 1, self.side, self.side)


@dataclass(frozen=True)
class LeNet5:
    """LeCun et al. (1998), with relu and max-pooling as it is usually built today."""

    side: int = 28
    channels: tuple[int, int] = (6, 16)
    widths: tuple[int, int] = (120, 84)
    classes: int = 10

    def logits(self) -> Variable:
        """``f32[N, classes]``."""
        x = layers.data("x", [1, self.side, self.side])
        h = layers.pool2d(_conv(x, self.channels[0], 5, "conv1", padding=2, act="relu"), 2, "max", 2)
        h = layers.pool2d(_conv(h, self.channels[1], 5, "conv2", act="relu"), 2, "max", 2)
        for number, width in enumerate(self.widths, 1):
            h = _fc(h, width, f"fc{number}", act="relu")
        return _fc(h, self.classes, "out")

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """``f32[n, 1, side, side]``."""
        return _normal(rng, n, 1, self.side, self.side)


@dataclass(frozen=True)
class ResNet:
    """A residual network of basic blocks for 32x32 images (He et al., 2016), with group_norm in place of batch_norm.

    The stem is a 3x3 convolution without pooling. ``widths`` are the channels of the stages, two blocks each by
    default: ResNet-18.
    """

    side: int = 32
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 2
    groups: int = 32
    classes: int = 10

    def logits(self) -> Variable:
        """``f32[N, classes]``."""
        x = layers.data("x", [3, self.side, self.side])
        h = self._normalised(x, self.widths[0], "stem", act="relu")
        for stage, width in enumerate(self.widths, 1):
            for block in range(1, self.blocks + 1):
                stride = 2 if stage > 1 and block == 1 else 1
                h = self._block(h, width, stride, f"stage{stage}.block{block}")
        pooled = layers.pool2d(h, pool_type="avg", global_pooling=True)
        return _fc(pooled, self.classes, "out")

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """``f32[n, 3, side, side]``."""
        return _normal(rng, n, 3, self.side, self.side)

    def _block(self, x: Variable, width: int, stride: int, name: str) -> Variable:
        h = self._normalised(x, width, f"{name}.conv1", stride=stride, act="relu")
        h = self._normalised(h, width, f"{name}.conv2")
        if x.shape[1] != width or stride != 1:
            x = self._normalised(x, width, f"{name}.skip", size=1, stride=stride)
        return layers.relu(layers.elementwise_add(h, x))

    def _normalised(
        self, x: Variable, width: int, name: str, size: int = 3, stride: int = 1, act: str | None = None
    ) -> Variable:
        h = _conv(x, width, size, name, stride=stride, padding=size // 2, bias=False)
        scale, shift = f"{name}.norm.scale", f"{name}.norm.b"
        return layers.group_norm(h, self.groups, param_attr=scale, bias_attr=shift, act=act)


@dataclass(frozen=True)
class Embedding:
    """Mean of the tokens' embeddings, then one linear layer."""

    vocabulary: int = 10_000
    tokens: int = 64
    width: int = 64
    classes: int = 2

    def logits(self) -> Variable:
        """``f32[N, classes]``."""
        x = layers.data("x", [self.tokens], dtype="int64")
        words = fluid.embedding(x, [self.vocabulary, self.width], param_attr="words.w")
        return _fc(layers.reduce_mean(words, dim=1), self.classes, "out")

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """``i64[n, tokens]``: frequent words first, as in text; within a document words repeat."""
        return np.minimum(rng.zipf(1.3, (n, self.tokens)), self.vocabulary) - 1


@dataclass(frozen=True)
class Lstm:
    """Stacked LSTMs over the rows of an image, and a linear layer on the last hidden state."""

    steps: int = 28
    inputs: int = 28
    hidden: int = 128
    depth: int = 2
    classes: int = 10

    def logits(self) -> Variable:
        """``f32[N, classes]``."""
        h = layers.transpose(layers.data("x", [self.steps, self.inputs]), [1, 0, 2])  # time first
        for number in range(1, self.depth + 1):
            h = self._layer(h, f"lstm{number}")
        last = layers.slice(h, axes=[0], starts=[self.steps - 1], ends=[self.steps])
        return _fc(layers.reshape(last, [-1, self.hidden]), self.classes, "out")

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """``f32[n, steps, inputs]``."""
        return _normal(rng, n, self.steps, self.inputs)

    def _layer(self, x: Variable, name: str) -> Variable:
        """``[T, N, D]`` -> ``[T, N, hidden]``."""
        rnn = layers.StaticRNN()
        with rnn.step():
            row = rnn.step_input(x)
            hidden = rnn.memory(shape=[-1, self.hidden], batch_ref=row)
            cell = rnn.memory(shape=[-1, self.hidden], batch_ref=row)
            new_hidden, new_cell = layers.lstm_unit(row, hidden, cell, param_attr=f"{name}.w", bias_attr=f"{name}.b")
            rnn.update_memory(hidden, new_hidden)
            rnn.update_memory(cell, new_cell)
            rnn.step_output(new_hidden)
        return rnn()


@dataclass(frozen=True)
class Transformer:
    """An encoder with pre-normalised blocks (attention, then a gelu layer), mean-pooled; 64 patches of 4x4x3 pixels."""

    length: int = 64
    inputs: int = 48
    width: int = 128
    heads: int = 4
    inner: int = 512
    depth: int = 2
    classes: int = 10

    def logits(self) -> Variable:
        """``f32[N, classes]``."""
        x = layers.data("x", [self.length, self.inputs])
        h = _fc(x, self.width, "patch", rank=2)
        for number in range(1, self.depth + 1):
            name = f"block{number}"
            h = layers.elementwise_add(h, self._attention(_layer_norm(h, f"{name}.norm1"), name))
            wide = _fc(_layer_norm(h, f"{name}.norm2"), self.inner, f"{name}.fc1", act="gelu", rank=2)
            h = layers.elementwise_add(h, _fc(wide, self.width, f"{name}.fc2", rank=2))
        return _fc(layers.reduce_mean(_layer_norm(h, "norm"), dim=1), self.classes, "out")

    def rows(self, rng: np.random.Generator, n: int) -> Rows:
        """``f32[n, length, inputs]``."""
        return _normal(rng, n, self.length, self.inputs)

    def _attention(self, x: Variable, name: str) -> Variable:
        q, k, v = (self._split(_fc(x, self.width, f"{name}.{part}", rank=2)) for part in "qkv")
        scores = layers.matmul(q, k, transpose_y=True, alpha=(self.width // self.heads) ** -0.5)
        mixed = layers.transpose(layers.matmul(layers.softmax(scores), v), [0, 2, 1, 3])
        return _fc(layers.reshape(mixed, [-1, self.length, self.width]), self.width, f"{name}.proj", rank=2)

    def _split(self, x: Variable) -> Variable:
        """``[N, T, heads * d]`` -> ``[N, heads, T, d]``."""
        parts = layers.reshape(x, [-1, self.length, self.heads, self.width // self.heads])
        return layers.transpose(parts, [0, 2, 1, 3])


@dataclass(frozen=True)
class Benchmark:
    """A model to measure.

    Attributes:
        model: in the size that is measured.
        batch: rows of a step.
        title: for people.
        small: the same network in a size that compiles and runs in a moment.
    """

    model: Model
    batch: int
    title: str
    small: Model


BENCHMARKS: dict[str, Benchmark] = {
    "mlp": Benchmark(Mlp(), 256, "MLP 784-512-256-10", Mlp(20, (24, 12))),
    "cnn": Benchmark(OpacusCnn(), 256, "Opacus' MNIST CNN", OpacusCnn(20, (4, 6), 8)),
    "lenet": Benchmark(LeNet5(), 256, "LeNet-5", LeNet5(16, (3, 5), (12, 8))),
    # A batch of 256 takes seconds.
    "resnet": Benchmark(ResNet(), 32, "ResNet-18, 32x32, group_norm", ResNet(8, (8, 12), 1, 4)),
    "embedding": Benchmark(Embedding(), 256, "embedding classifier, 10 000 x 64", Embedding(50, 9, 8)),
    "lstm": Benchmark(Lstm(), 256, "2-layer LSTM, 28 steps, hidden 128", Lstm(5, 4, 8)),
    "transformer": Benchmark(
        Transformer(), 256, "transformer encoder, 2 x 128, 64 tokens", Transformer(6, 5, 8, 2, 16, depth=1)
    ),
}


def _normal(rng: np.random.Generator, *shape: int) -> Rows:
    return rng.normal(size=shape).astype(np.float32)


def _fc(x: Variable, size: int, name: str, act: str | None = None, rank: int = 1) -> Variable:
    """A linear layer over all axes from ``rank`` on."""
    return layers.fc(x, size, num_flatten_dims=rank, act=act, param_attr=f"{name}.w", bias_attr=f"{name}.b")


def _conv(
    x: Variable, channels: int, size: int, name: str, stride: int = 1, padding: int = 0, bias: bool = True,
    act: str | None = None,
) -> Variable:  # fmt: skip
    return layers.conv2d(
        x, channels, size, stride=stride, padding=padding, act=act,
        param_attr=f"{name}.w", bias_attr=f"{name}.b" if bias else False,
    )  # fmt: skip


def _layer_norm(x: Variable, name: str) -> Variable:
    return layers.layer_norm(x, begin_norm_axis=2, param_attr=f"{name}.scale", bias_attr=f"{name}.b")
