"""The models of ``frontend/bench/models.py`` as functions of parameters and a batch, in JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Params = dict[str, jax.Array]
Logits = Callable[[Params, jax.Array], jax.Array]
GROUPS, HEADS = 32, 4
IMAGES = frozenset({"cnn", "lenet", "resnet"})


def parameters(arrays: Mapping[str, np.ndarray]) -> Params:
    """The parameters; filters as HWIO."""
    return {
        name: jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
        for name, value in arrays.items()
        if name not in ("x", "label")
    }


def images(x: np.ndarray) -> np.ndarray:
    """NCHW as NHWC, the layout that XLA prefers on CPUs."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def dense(p: Params, name: str, x: jax.Array) -> jax.Array:
    return x @ p[f"{name}.w"] + p[f"{name}.b"]


def conv(p: Params, name: str, x: jax.Array, stride: int = 1, pad: int = 0) -> jax.Array:
    y = lax.conv_general_dilated(
        x, p[f"{name}.w"], (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + p[f"{name}.b"] if f"{name}.b" in p else y


def pool(x: jax.Array, stride: int) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, stride, stride, 1), "VALID")


def flat(x: jax.Array) -> jax.Array:
    """Channels first, as the rows of the next weight are."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def mlp(p: Params, x: jax.Array) -> jax.Array:
    return dense(p, "out", jax.nn.relu(dense(p, "fc2", jax.nn.relu(dense(p, "fc1", x)))))


def cnn(p: Params, x: jax.Array) -> jax.Array:
    h = pool(jax.nn.relu(conv(p, "conv1", x, 2, 3)), 1)
    h = pool(jax.nn.relu(conv(p, "conv2", h, 2)), 1)
    return dense(p, "out", jax.nn.relu(dense(p, "fc1", flat(h))))


def lenet(p: Params, x: jax.Array) -> jax.Array:
    h = pool(jax.nn.relu(conv(p, "conv1", x, 1, 2)), 2)
    h = flat(pool(jax.nn.relu(conv(p, "conv2", h)), 2))
    return dense(p, "out", jax.nn.relu(dense(p, "fc2", jax.nn.relu(dense(p, "fc1", h)))))


def group_norm(p: Params, name: str, x: jax.Array) -> jax.Array:
    n, height, width, channels = x.shape
    groups = x.reshape(n, height, width, GROUPS, channels // GROUPS)
    mean = groups.mean((1, 2, 4), keepdims=True)
    variance = groups.var((1, 2, 4), keepdims=True)
    normal = ((groups - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape)
    return normal * p[f"{name}.scale"] + p[f"{name}.b"]


def normalised(p: Params, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
    pad = p[f"{name}.w"].shape[0] // 2
    return group_norm(p, f"{name}.norm", conv(p, name, x, stride, pad))


def resnet(p: Params, x: jax.Array) -> jax.Array:
    h = jax.nn.relu(normalised(p, "stem", x))
    stage = 1
    while f"stage{stage}.block1.conv1.w" in p:
        block = 1
        while f"stage{stage}.block{block}.conv1.w" in p:
            name, stride = f"stage{stage}.block{block}", 2 if stage > 1 and block == 1 else 1
            inner = jax.nn.relu(normalised(p, f"{name}.conv1", h, stride))
            skip = normalised(p, f"{name}.skip", h, stride) if f"{name}.skip.w" in p else h
            h = jax.nn.relu(normalised(p, f"{name}.conv2", inner) + skip)
            block += 1
        stage += 1
    return dense(p, "out", h.mean((1, 2)))


def embedding(p: Params, x: jax.Array) -> jax.Array:
    return dense(p, "out", p["words.w"][x].mean(1))


def lstm(p: Params, x: jax.Array) -> jax.Array:
    """Gates in the order i, f, o, g; the products with the inputs of all steps are taken at once."""
    n, hidden = x.shape[0], p["out.w"].shape[0]
    sequence, number = x.transpose(1, 0, 2), 1
    while f"lstm{number}.w" in p:
        w, bias = p[f"lstm{number}.w"], p[f"lstm{number}.b"]
        inputs = w.shape[0] - hidden
        projected = sequence @ w[:inputs] + bias

        def cell(carry, row, recurrent=w[inputs:]):
            h, c = carry
            i, f, o, g = jnp.split(row + h @ recurrent, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((n, hidden))
        _, sequence = lax.scan(cell, (zeros, zeros), projected)
        number += 1
    return dense(p, "out", sequence[-1])


def layer_norm(p: Params, name: str, x: jax.Array) -> jax.Array:
    normal = (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
    return normal * p[f"{name}.scale"] + p[f"{name}.b"]


def attention(p: Params, name: str, x: jax.Array) -> jax.Array:
    n, t, width = x.shape
    w = jnp.concatenate([p[f"{name}.{part}.w"] for part in "qkv"], axis=1)
    b = jnp.concatenate([p[f"{name}.{part}.b"] for part in "qkv"])
    q, k, v = (part.reshape(n, t, HEADS, width // HEADS) for part in jnp.split(x @ w + b, 3, axis=-1))
    return dense(p, f"{name}.proj", jax.nn.dot_product_attention(q, k, v).reshape(n, t, width))


def transformer(p: Params, x: jax.Array) -> jax.Array:
    h, number = dense(p, "patch", x), 1
    while f"block{number}.proj.w" in p:
        name = f"block{number}"
        h = h + attention(p, name, layer_norm(p, f"{name}.norm1", h))
        wide = jax.nn.gelu(dense(p, f"{name}.fc1", layer_norm(p, f"{name}.norm2", h)), approximate=False)
        h, number = h + dense(p, f"{name}.fc2", wide), number + 1
    return dense(p, "out", layer_norm(p, "norm", h).mean(1))


MODELS: dict[str, Logits] = {
    "mlp": mlp,
    "cnn": cnn,
    "lenet": lenet,
    "resnet": resnet,
    "embedding": embedding,
    "lstm": lstm,
    "transformer": transformer,
}
