"""JAX as a contestant of `fluidc bench` (``protocol.py``): jitted steps, plain and with vmapped gradients."""

from __future__ import annotations

import os

import protocol
from protocol import CLIP, LEARNING_RATE, SIGMA, Arrays, Contestant, Step

THREADS = protocol.limit_threads() if __name__ == "__main__" else 0
if THREADS == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax_models import IMAGES, MODELS, Params, images, parameters  # noqa: E402


def made(name: str, arrays: Arrays, *, private: bool) -> Step:
    """A jitted step that owns its parameters; a private one clips vmapped gradients and adds threefry noise."""
    logits = MODELS[name]

    def loss(p: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        scores = jax.nn.log_softmax(logits(p, x))
        return -jnp.take_along_axis(scores, y[:, None], 1).mean()

    def clipped(p: Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Params]:
        value, gradient = jax.value_and_grad(loss)(p, x[None], y[None])
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradient.values()))
        factor = jnp.minimum(1.0, CLIP / jnp.maximum(norm, 1e-12))
        return value, {k: factor * g for k, g in gradient.items()}

    def plain(p: Params, key: jax.Array, x: jax.Array, y: jax.Array):
        value, gradient = jax.value_and_grad(loss)(p, x, y)
        return value, {k: w - LEARNING_RATE * gradient[k] for k, w in p.items()}, key

    def dp(p: Params, key: jax.Array, x: jax.Array, y: jax.Array):
        values, gradients = jax.vmap(clipped, (None, 0, 0))(p, x, y)
        key, *keys = jax.random.split(key, len(p) + 1)
        noise = {k: SIGMA * CLIP * jax.random.normal(sub, p[k].shape) for k, sub in zip(p, keys, strict=True)}
        updated = {k: w - LEARNING_RATE / len(x) * (gradients[k].sum(0) + noise[k]) for k, w in p.items()}
        return values.mean(), updated, key

    update = jax.jit(dp if private else plain, donate_argnums=(0, 1))
    x = jnp.asarray(images(arrays["x"]) if name in IMAGES else arrays["x"])
    y = jnp.asarray(arrays["label"][:, 0])
    state = [parameters(arrays), jax.random.PRNGKey(0)]

    def step() -> float:
        value, *state[:] = update(*state, x, y)
        jax.block_until_ready(state)
        return float(value)

    return step


ALL = frozenset(MODELS)
CONTESTANTS = [
    Contestant("jax", False, ALL, lambda name, arrays: made(name, arrays, private=False)),
    Contestant("jax vmap", True, ALL, lambda name, arrays: made(name, arrays, private=True)),
]

if __name__ == "__main__":
    protocol.serve(CONTESTANTS, {"jax": jax.__version__})
