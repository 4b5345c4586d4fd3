"""The models of ``frontend/bench/models.py`` as static graphs of Paddle 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import paddle
from paddle.nn import functional as F

Arrays = Mapping[str, np.ndarray]
GROUPS, HEADS = 32, 4


class Weights:
    """Makes parameters of a static program from arrays."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.late: dict[str, np.ndarray] = {}
        """Values of parameters that layers made themselves, to be set when the startup program has run."""

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __call__(self, name: str):
        value = self.arrays[name]
        start = paddle.nn.initializer.Assign(value)
        return paddle.static.create_parameter(list(value.shape), "float32", name, default_initializer=start)


def dense(w: Weights, name: str, x):
    return F.linear(x, w(f"{name}.w"), w(f"{name}.b"))


def conv(w: Weights, name: str, x, stride: int = 1, padding: int = 0):
    bias = w(f"{name}.b") if f"{name}.b" in w else None
    return F.conv2d(x, w(f"{name}.w"), bias, stride=stride, padding=padding)


def mlp(w: Weights, x):
    return dense(w, "out", F.relu(dense(w, "fc2", F.relu(dense(w, "fc1", x)))))


def cnn(w: Weights, x):
    h = F.max_pool2d(F.relu(conv(w, "conv1", x, 2, 3)), 2, 1)
    h = F.max_pool2d(F.relu(conv(w, "conv2", h, 2)), 2, 1)
    return dense(w, "out", F.relu(dense(w, "fc1", paddle.flatten(h, 1))))


def lenet(w: Weights, x):
    h = F.max_pool2d(F.relu(conv(w, "conv1", x, 1, 2)), 2, 2)
    h = paddle.flatten(F.max_pool2d(F.relu(conv(w, "conv2", h)), 2, 2), 1)
    return dense(w, "out", F.relu(dense(w, "fc2", F.relu(dense(w, "fc1", h)))))


def normalised(w: Weights, name: str, x, stride: int = 1):
    h = conv(w, name, x, stride, w.arrays[f"{name}.w"].shape[-1] // 2)
    layer = paddle.nn.GroupNorm(GROUPS, h.shape[1])
    w.late[layer.weight.name] = w.arrays[f"{name}.norm.scale"]
    w.late[layer.bias.name] = w.arrays[f"{name}.norm.b"]
    return layer(h)


def resnet(w: Weights, x):
    h, stage = F.relu(normalised(w, "stem", x)), 1
    while f"stage{stage}.block1.conv1.w" in w:
        block = 1
        while f"stage{stage}.block{block}.conv1.w" in w:
            name, stride = f"stage{stage}.block{block}", 2 if stage > 1 and block == 1 else 1
            inner = F.relu(normalised(w, f"{name}.conv1", h, stride))
            skip = normalised(w, f"{name}.skip", h, stride) if f"{name}.skip.w" in w else h
            h = F.relu(normalised(w, f"{name}.conv2", inner) + skip)
            block += 1
        stage += 1
    return dense(w, "out", h.mean([2, 3]))


def embedding(w: Weights, x):
    return dense(w, "out", F.embedding(x, w("words.w")).mean(1))


def lstm(w: Weights, x):
    """Paddle's gates come as i, f, g, o, and each layer has a second bias, which starts at zero."""
    hidden, depth = w.arrays["out.w"].shape[0], sum(name.startswith("lstm") for name in w.arrays) // 2
    zero = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.0))
    layer = paddle.nn.LSTM(x.shape[2], hidden, num_layers=depth, bias_hh_attr=zero)
    made = dict(layer.named_parameters())
    for number in range(depth):
        i, f, o, g = np.split(w.arrays[f"lstm{number + 1}.w"], 4, axis=1)
        both = np.concatenate([i, f, g, o], axis=1)
        i, f, o, g = np.split(w.arrays[f"lstm{number + 1}.b"], 4)
        inputs = both.shape[0] - hidden
        w.late[made[f"weight_ih_l{number}"].name] = both[:inputs].T.copy()
        w.late[made[f"weight_hh_l{number}"].name] = both[inputs:].T.copy()
        w.late[made[f"bias_ih_l{number}"].name] = np.concatenate([i, f, g, o])
    return dense(w, "out", layer(x)[0][:, -1])


def layer_norm(w: Weights, name: str, x):
    return F.layer_norm(x, x.shape[-1:], w(f"{name}.scale"), w(f"{name}.b"))


def attention(w: Weights, name: str, x):
    _, t, width = x.shape
    parts = [
        paddle.transpose(paddle.reshape(dense(w, f"{name}.{part}", x), [-1, t, HEADS, width // HEADS]), [0, 2, 1, 3])
        for part in "qkv"
    ]
    q, k, v = parts
    scores = F.softmax(paddle.matmul(q * (width // HEADS) ** -0.5, k, transpose_y=True))
    mixed = paddle.reshape(paddle.transpose(paddle.matmul(scores, v), [0, 2, 1, 3]), [-1, t, width])
    return dense(w, f"{name}.proj", mixed)


def transformer(w: Weights, x):
    h, number = dense(w, "patch", x), 1
    while f"block{number}.proj.w" in w:
        name = f"block{number}"
        h = h + attention(w, name, layer_norm(w, f"{name}.norm1", h))
        wide = F.gelu(dense(w, f"{name}.fc1", layer_norm(w, f"{name}.norm2", h)))
        h, number = h + dense(w, f"{name}.fc2", wide), number + 1
    return dense(w, "out", layer_norm(w, "norm", h).mean(1))


MODELS: dict[str, Callable] = {
    "mlp": mlp,
    "cnn": cnn,
    "lenet": lenet,
    "resnet": resnet,
    "embedding": embedding,
    "lstm": lstm,
    "transformer": transformer,
}
