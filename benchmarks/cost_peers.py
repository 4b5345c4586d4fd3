"""The models of ``cost_models`` in PyTorch with Opacus and in JAX: answers one line of JSON per line of input.

``load MODEL`` prepares the contestants (a label that cannot be had comes with the reason), ``time MODEL LABEL`` times
one burst of steps, ``quit`` ends.  Needs numpy, torch, opacus and jax, but nothing of this project.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np

THREADS = int(sys.argv[1])
BATCH, VOCABULARY, TOKENS, WIDTH = 256, 10_000, 64, 64
CLASSES = {"mlp": 10, "cnn": 10, "embedding": 2}
LEARNING_RATE, CLIP, SIGMA = 1e-3, 1.0, 1.0
BURST_SECONDS = 0.15
LONG_STEP = 2.0
Step = Callable[[], object]


def batch(name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if name == "mlp":
        x = rng.normal(size=(BATCH, 784)).astype(np.float32)
    elif name == "cnn":
        x = rng.normal(size=(BATCH, 1, 28, 28)).astype(np.float32)
    else:
        x = np.minimum(rng.zipf(1.3, (BATCH, TOKENS)), VOCABULARY) - 1
    return x, rng.integers(0, CLASSES[name], BATCH)


# PyTorch and Opacus -------------------------------------------------------------------------------------
def torch_model(name: str):
    from torch import nn

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(1)

    if name == "mlp":
        return nn.Sequential(
            nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
        )  # fmt: skip
    if name == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1),
            nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.MaxPool2d(2, 1),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, 10),
        )  # fmt: skip
    return nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), Mean(), nn.Linear(WIDTH, 2))


def torch_step(name: str, mode: str | None) -> Step:
    """One step of torch alone, or of Opacus with per-example gradients (``hooks``) or norms (``ghost``)."""
    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = torch_model(name)
    x, y = (torch.from_numpy(array) for array in batch(name))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    criterion = torch.nn.CrossEntropyLoss()
    if mode is not None:
        from opacus import PrivacyEngine

        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=BATCH)
        made = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, data_loader=data, criterion=criterion, noise_multiplier=SIGMA,
            max_grad_norm=CLIP, poisson_sampling=False, grad_sample_mode=mode,
        )  # fmt: skip
        if mode == "ghost":
            model, optimizer, criterion, _ = made
        else:
            model, optimizer, _ = made

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    return step


# JAX ----------------------------------------------------------------------------------------------------
def jax_step(name: str, private: bool) -> Step:
    """One jitted step: plain, or with vmapped gradients, clipping and threefry noise."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    rng = np.random.default_rng(1)

    def weights(*shape: int):
        return jnp.asarray(0.05 * rng.normal(size=shape), jnp.float32)

    def dense(inputs: int, outputs: int) -> list:
        return [weights(inputs, outputs), jnp.zeros(outputs)]

    def pool(h):
        return lax.reduce_window(h, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "VALID")

    def conv(h, w, b, pad: int):
        out = lax.conv_general_dilated(h, w, (2, 2), [(pad, pad)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return out + b[:, None, None]

    if name == "mlp":
        params = dense(784, 512) + dense(512, 256) + dense(256, 10)

        def logits(p, x):
            h = jax.nn.relu(jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3])
            return h @ p[4] + p[5]
    elif name == "cnn":
        params = [weights(16, 1, 8, 8), jnp.zeros(16), weights(32, 16, 4, 4), jnp.zeros(32)]
        params += dense(512, 32) + dense(32, 10)

        def logits(p, x):
            h = pool(jax.nn.relu(conv(x, p[0], p[1], 3)))
            h = pool(jax.nn.relu(conv(h, p[2], p[3], 0))).reshape(x.shape[0], -1)
            return jax.nn.relu(h @ p[4] + p[5]) @ p[6] + p[7]
    else:
        params = [weights(VOCABULARY, WIDTH), *dense(WIDTH, 2)]

        def logits(p, x):
            return p[0][x].mean(1) @ p[1] + p[2]

    def loss(p, x, y):
        scores = jax.nn.log_softmax(logits(p, x))
        return -jnp.take_along_axis(scores, y[:, None], 1).mean()

    def example_grad(p, x, y):
        gradient = jax.grad(loss)(p, x[None], y[None])
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradient))
        factor = jnp.minimum(1.0, CLIP / jnp.maximum(norm, 1e-12))
        return [factor * g for g in gradient]

    @jax.jit
    def plain(p, key, x, y):
        return [w - LEARNING_RATE * g for w, g in zip(p, jax.grad(loss)(p, x, y), strict=True)], key

    @jax.jit
    def dp(p, key, x, y):
        sums = [g.sum(0) for g in jax.vmap(example_grad, (None, 0, 0))(p, x, y)]
        key, *keys = jax.random.split(key, len(p) + 1)
        noisy = [s + SIGMA * CLIP * jax.random.normal(k, s.shape) for s, k in zip(sums, keys, strict=True)]
        return [w - LEARNING_RATE / BATCH * g for w, g in zip(p, noisy, strict=True)], key

    x, y = (jnp.asarray(array) for array in batch(name))
    state = [params, jax.random.PRNGKey(0)]
    update = dp if private else plain

    def step() -> None:
        state[:] = update(*state, x, y)
        jax.block_until_ready(state)

    return step


CONTESTANTS: dict[str, Callable[[str], Step]] = {
    "torch": lambda name: torch_step(name, None),
    "opacus hooks": lambda name: torch_step(name, "hooks"),
    "opacus ghost": lambda name: torch_step(name, "ghost"),
    "jax": lambda name: jax_step(name, False),
    "jax vmap": lambda name: jax_step(name, True),
}


def burst(step: Step) -> float:
    """Seconds per step."""
    time.sleep(0.2)
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    if first > LONG_STEP:
        return first
    calls = max(1, round(BURST_SECONDS / first))
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def main() -> None:
    steps: dict[tuple[str, str], Step] = {}
    if THREADS == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    for line in sys.stdin:
        command, *words = line.split()
        answer: dict[str, object] = {}
        if command == "quit":
            answer["quit"] = True
        elif command == "load":
            for label, make in CONTESTANTS.items():
                try:
                    step = make(words[0])
                    step()
                    steps[words[0], label] = step
                    answer[label] = None
                except Exception as error:
                    answer[label] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            answer["seconds"] = burst(steps[words[0], " ".join(words[1:])])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if command == "quit":
            return


if __name__ == "__main__":
    main()
