"""Training steps of the benchmark models by PyTorch on a GPU, for ``gpu.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch_models import MODELS, Mlp

LEARNING_RATE, CLIP, SIGMA = 1e-3, 1.0, 1.0
WARM_UP = 3

Arrays = Mapping[str, np.ndarray]
Step = Callable[[], float]


def steps(name: str, private: bool, arrays: Arrays) -> dict[str, Callable[[], Step]]:
    """What makes the steps, by label; products of float32 are those of float32 unless the label says TF32."""
    model = partial(_model, name, arrays)
    if private:
        return {
            "torch.func": lambda: _private(model, arrays),
            "torch.func compiled": lambda: _private(model, arrays, True),
        }
    return {
        "torch": lambda: _plain(model(), arrays),
        "torch.compile": lambda: _plain(torch.compile(model()), arrays),
        "torch CUDA graph": lambda: _captured(model(), arrays),
    }


def _model(name: str, arrays: Arrays) -> nn.Module:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    made = (Mlp if name == "wide" else MODELS[name])(arrays)
    made.load(arrays)
    return made.cuda()


def _batch(arrays: Arrays) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(arrays["x"]).cuda(), torch.from_numpy(arrays["label"][:, 0]).cuda()


def _plain(model: nn.Module, arrays: Arrays) -> Step:
    x, y = _batch(arrays)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
    criterion = nn.CrossEntropyLoss()

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _captured(model: nn.Module, arrays: Arrays) -> Step:
    """The whole step as one launch."""
    x, y = _batch(arrays)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
    criterion = nn.CrossEntropyLoss()

    def once() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            once()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = once()

    def step() -> float:
        graph.replay()
        return loss.item()

    return step


def _private(make: Callable[[], nn.Module], arrays: Arrays, *, compiled: bool = False) -> Step:
    """Algorithm 1 of Abadi et al. (2016): gradients of single examples, clipped, added up, with noise."""
    model = make()
    x, y = _batch(arrays)
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    def loss_of(given: dict[str, Tensor], row: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        loss = nn.functional.cross_entropy(functional_call(model, given, (row[None],)), label[None])
        return loss, loss

    def update(given: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        grads, losses = vmap(grad(loss_of, has_aux=True), (None, 0, 0), randomness="different")(given, x, y)
        norms = torch.stack([g.flatten(1).square().sum(1) for g in grads.values()]).sum(0).sqrt()
        factor = (CLIP / norms).clamp(max=1.0)
        made: dict[str, Tensor] = {}
        for name, g in grads.items():
            total = torch.einsum("n,n...->...", factor, g)
            made[name] = given[name] - LEARNING_RATE / len(x) * (total + SIGMA * CLIP * torch.randn_like(total))
        return made, losses.mean()

    run = torch.compile(update) if compiled else update
    held = [parameters]

    def step() -> float:
        held[0], loss = run(held[0])
        return loss.item()

    return step
