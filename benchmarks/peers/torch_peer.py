"""PyTorch and Opacus as contestants of `fluidc bench` (``protocol.py``)."""

from __future__ import annotations

from functools import partial

import opacus
import protocol
import torch
from opacus import PrivacyEngine
from opacus.layers import DPLSTM
from protocol import CLIP, LEARNING_RATE, SIGMA, Arrays, Contestant, Step
from torch import nn
from torch_models import IMAGES, MODELS, Classifier, Lstm


def made(name: str, model: Classifier, arrays: Arrays) -> tuple[Classifier, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model.load(arrays)
    x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["label"][:, 0])
    return model, x, y


def plain(name: str, arrays: Arrays, *, channels_last: bool = False, compiled: bool = False) -> Step:
    model, x, y = made(name, MODELS[name](arrays), arrays)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=LEARNING_RATE, fused=True)
    forward = torch.compile(model) if compiled else model
    criterion = nn.CrossEntropyLoss()

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(forward(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def private(name: str, arrays: Arrays, *, mode: str) -> Step:
    """Opacus with per-example gradients (``hooks``) or with norms alone (``ghost``)."""
    network = Lstm(arrays, DPLSTM) if name == "lstm" else MODELS[name](arrays)
    model, x, y = made(name, network, arrays)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=LEARNING_RATE)
    criterion = nn.CrossEntropyLoss()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=len(x))
    given = PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=data, criterion=criterion, noise_multiplier=SIGMA,
        max_grad_norm=CLIP, poisson_sampling=False, grad_sample_mode=mode,
    )  # fmt: skip
    if mode == "ghost":
        model, optimizer, criterion, _ = given
    else:
        model, optimizer, _ = given

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


ALL = frozenset(MODELS)
CONTESTANTS = [
    Contestant("torch", False, ALL, plain),
    Contestant("torch channels_last", False, IMAGES, partial(plain, channels_last=True)),
    Contestant("torch.compile", False, ALL - IMAGES, partial(plain, compiled=True)),
    Contestant("torch.compile", False, IMAGES, partial(plain, compiled=True, channels_last=True)),
    Contestant("opacus hooks", True, ALL, partial(private, mode="hooks")),
    Contestant("opacus ghost", True, ALL, partial(private, mode="ghost")),
]

if __name__ == "__main__":
    torch.set_num_threads(protocol.limit_threads())
    protocol.serve(CONTESTANTS, {"torch": torch.__version__, "opacus": opacus.__version__})
