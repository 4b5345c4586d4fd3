"""The models of ``frontend/bench/models.py`` in PyTorch, built from the parameters of the fluid program."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Arrays = Mapping[str, np.ndarray]


class Classifier(nn.Module):
    """Modules are named as the layers of the fluid program, so that parameters find their places."""

    def load(self, arrays: Arrays) -> None:
        """Copy the parameters."""
        for name, value in arrays.items():
            if name not in ("x", "label"):
                self.place(name, torch.from_numpy(value))

    def place(self, name: str, value: Tensor) -> None:
        layer, _, part = name.rpartition(".")
        module = self.get_submodule(layer)
        if isinstance(module, nn.Linear) and part == "w":
            value = value.T
        with torch.no_grad():
            getattr(module, "bias" if part == "b" else "weight").copy_(value)


def linear(arrays: Arrays, name: str) -> nn.Linear:
    return nn.Linear(*arrays[f"{name}.w"].shape)


def conv(arrays: Arrays, name: str, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    out, inputs, size, _ = arrays[f"{name}.w"].shape
    return nn.Conv2d(inputs, out, size, stride, padding, bias=f"{name}.b" in arrays)


class Mlp(Classifier):
    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = (linear(arrays, name) for name in ("fc1", "fc2", "out"))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.fc2(F.relu(self.fc1(x)))))


class OpacusCnn(Classifier):
    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(arrays, "conv1", 2, 3), conv(arrays, "conv2", 2)
        self.fc1, self.out = linear(arrays, "fc1"), linear(arrays, "out")

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.conv1(x)), 2, 1)
        h = F.max_pool2d(F.relu(self.conv2(h)), 2, 1)
        return self.out(F.relu(self.fc1(h.flatten(1))))


class LeNet5(Classifier):
    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(arrays, "conv1", 1, 2), conv(arrays, "conv2")
        self.fc1, self.fc2, self.out = (linear(arrays, name) for name in ("fc1", "fc2", "out"))

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.conv1(x)), 2)
        h = F.max_pool2d(F.relu(self.conv2(h)), 2)
        return self.out(F.relu(self.fc2(F.relu(self.fc1(h.flatten(1))))))


GROUPS = 32


class Normalised(nn.Module):
    """A convolution and group_norm; the filter is this module's own, as in the fluid program."""

    def __init__(self, arrays: Arrays, name: str, stride: int) -> None:
        super().__init__()
        padding = arrays[f"{name}.w"].shape[-1] // 2
        self.conv = conv(arrays, name, stride, padding)
        self.norm = nn.GroupNorm(GROUPS, self.conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    def __init__(self, arrays: Arrays, name: str, stride: int) -> None:
        super().__init__()
        self.conv1 = Normalised(arrays, f"{name}.conv1", stride)
        self.conv2 = Normalised(arrays, f"{name}.conv2", 1)
        self.skip = Normalised(arrays, f"{name}.skip", stride) if f"{name}.skip.w" in arrays else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.skip(x))


class ResNet(Classifier):
    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        self.stem = Normalised(arrays, "stem", 1)
        self.stages = 0
        while f"stage{self.stages + 1}.block1.conv1.w" in arrays:
            self.stages += 1
            stage, blocks = nn.Sequential(), 0
            while f"stage{self.stages}.block{blocks + 1}.conv1.w" in arrays:
                blocks += 1
                stride = 2 if self.stages > 1 and blocks == 1 else 1
                stage.add_module(f"block{blocks}", Block(arrays, f"stage{self.stages}.block{blocks}", stride))
            self.add_module(f"stage{self.stages}", stage)
        self.out = linear(arrays, "out")

    def place(self, name: str, value: Tensor) -> None:
        layer, _, part = name.rpartition(".")
        inner = part == "w" and layer != "out"
        super().place(f"{layer}.conv.w" if inner else name, value)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        for number in range(1, self.stages + 1):
            h = self.get_submodule(f"stage{number}")(h)
        return self.out(h.mean((2, 3)))


class Embedding(Classifier):
    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(*arrays["words.w"].shape), linear(arrays, "out")

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.words(x).mean(1))


class Lstm(Classifier):
    """``layer`` makes the stack: nn.LSTM, or one whose hooks know per-example gradients."""

    def __init__(self, arrays: Arrays, layer: Callable[..., nn.Module] = nn.LSTM) -> None:
        super().__init__()
        hidden, depth = arrays["out.w"].shape[0], sum(name.startswith("lstm") for name in arrays) // 2
        self.lstm = layer(arrays["lstm1.w"].shape[0] - hidden, hidden, num_layers=depth, batch_first=True)
        self.out = linear(arrays, "out")

    def place(self, name: str, value: Tensor) -> None:
        """fluid has one weight [inputs + hidden, 4 hidden] and one bias per layer, gates in the order i, f, o, g."""
        layer, _, part = name.rpartition(".")
        if not layer.startswith("lstm"):
            return super().place(name, value)
        i, f, o, g = value.chunk(4, dim=-1)
        value, number = torch.cat((i, f, g, o), dim=-1), int(layer[4:]) - 1
        parameters = dict(self.lstm.named_parameters())
        with torch.no_grad():
            if part == "b":
                parameters[f"bias_ih_l{number}"].copy_(value)
                parameters[f"bias_hh_l{number}"].zero_().requires_grad_(False)
            else:
                inputs = value.shape[0] - self.out.in_features
                parameters[f"weight_ih_l{number}"].copy_(value[:inputs].T)
                parameters[f"weight_hh_l{number}"].copy_(value[inputs:].T)
        return None

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


class Block2(nn.Module):
    """A pre-normalised encoder block; queries, keys and values come from one product."""

    def __init__(self, arrays: Arrays, name: str, heads: int) -> None:
        super().__init__()
        width = arrays[f"{name}.q.w"].shape[0]
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = linear(arrays, f"{name}.fc1"), linear(arrays, f"{name}.fc2")

    def forward(self, x: Tensor) -> Tensor:
        n, t, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, width)
        x = x + self.proj(mixed)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Transformer(Classifier):
    HEADS = 4

    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        self.patch, self.out = linear(arrays, "patch"), linear(arrays, "out")
        depth = sum(name.endswith(".q.w") for name in arrays)
        self.names = [f"block{number}" for number in range(1, depth + 1)]
        for name in self.names:
            self.add_module(name, Block2(arrays, name, self.HEADS))
        self.norm = nn.LayerNorm(self.patch.out_features)

    def place(self, name: str, value: Tensor) -> None:
        layer, _, part = name.rpartition(".")
        block, _, last = layer.rpartition(".")
        if last not in ("q", "k", "v"):
            return super().place(name, value)
        qkv, width = self.get_submodule(f"{block}.qkv"), value.shape[-1]
        rows = slice("qkv".index(last) * width, ("qkv".index(last) + 1) * width)
        with torch.no_grad():
            (qkv.bias if part == "b" else qkv.weight)[rows].copy_(value if part == "b" else value.T)
        return None

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch(x)
        for name in self.names:
            h = self.get_submodule(name)(h)
        return self.out(self.norm(h).mean(1))


MODELS: dict[str, Callable[[Arrays], Classifier]] = {
    "mlp": Mlp,
    "cnn": OpacusCnn,
    "lenet": LeNet5,
    "resnet": ResNet,
    "embedding": Embedding,
    "lstm": Lstm,
    "transformer": Transformer,
}
IMAGES = frozenset({"cnn", "lenet", "resnet"})
