"""Writes tests/frontend/onnx/models: small PyTorch models as both of its exporters write them, and what they compute.

    python tests/frontend/make_onnx_models.py

Needs torch and onnxscript, in an environment of its own; the files are kept in the repository.  Every model NAME comes
as NAME.ts.onnx (TorchScript exporter) and NAME.dynamo.onnx, with inputs, PyTorch's outputs and the number of weights in
NAME.npz.  training.ts.onnx was exported in training mode; its NAME.npz has the outputs of evaluation, and the running
mean after one batch.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

OUT = Path(__file__).parent / "onnx" / "models"
BATCH = 3


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2)
        self.head = nn.Linear(6 * 2 * 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        x = nn.functional.avg_pool2d(torch.relu(self.second(x)), 2, stride=1)
        return self.head(torch.flatten(x, 1))


class Residual(nn.Module):
    """Two blocks: one normalised over the batch, one over groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.batch = nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.group = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.GroupNorm(4, 8)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            self.batch.running_mean.normal_()
            self.batch.running_var.uniform_(0.5, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.batch(self.stem(x)))
        x = torch.relu(x + self.group(self.inner(x)))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Transformer(nn.Module):
    """Word ids, learned positions, one encoder layer, mean over positions."""

    def __init__(self, words: int = 20, width: int = 16, length: int = 6) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(words, width), nn.Parameter(torch.randn(length, width) * 0.1)
        self.encoder = nn.TransformerEncoderLayer(width, 2, 24, dropout=0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(width, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.table(ids) + self.places).mean(dim=1))


class Lstm(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, width, num_layers=2, batch_first=True), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Gru(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(4, width, batch_first=True, bidirectional=True), nn.Linear(2 * width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, last = self.gru(x)
        return self.head(out.mean(dim=1)) + last.sum(dim=(0, 2)).unsqueeze(1)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Dropout(0.25), nn.Linear(16, 4))


def models() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    torch.manual_seed(0)
    return {
        "mlp": (mlp(), torch.randn(BATCH, 3, 4)),
        "cnn": (Cnn(), torch.randn(BATCH, 1, 14, 14)),
        "residual": (Residual(), torch.randn(BATCH, 2, 6, 6)),
        "transformer": (Transformer(), torch.randint(0, 20, (BATCH, 6))),
        "lstm": (Lstm(), torch.randn(BATCH, 5, 4)),
        "gru": (Gru(), torch.randn(BATCH, 5, 4)),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (module, x) in models().items():
        module.eval()
        with torch.no_grad():
            for parameter in module.parameters():  # the exporters keep equal arrays once
                parameter.add_(0.1 * torch.randn_like(parameter))
            y = module(x)
        weights = sum(parameter.numel() for parameter in module.parameters())
        np.savez(OUT / f"{name}.npz", x=x.numpy(), y=y.numpy(), weights=weights)
        names = {"input_names": ["x"], "output_names": ["y"], "opset_version": 18}
        path = OUT / f"{name}.ts.onnx"
        torch.onnx.export(
            module, (x,), path, dynamo=False, dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}}, **names
        )
        dynamic = ({0: torch.export.Dim("batch")},)
        path = OUT / f"{name}.dynamo.onnx"
        torch.onnx.export(
            module, (x,), path, dynamo=True, dynamic_shapes=dynamic, external_data=False, verbose=False, **names
        )
        for path in sorted(OUT.glob(f"{name}.*.onnx")):
            slim(path)
    training_mode()


def training_mode() -> None:
    """One model as it trains: batch normalisation by the batch, and dropout."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    x = torch.randn(6, 5)
    path = OUT / "training.ts.onnx"
    torch.onnx.export(
        module,
        (x,),
        path,
        dynamo=False,
        training=torch.onnx.TrainingMode.TRAINING,
        do_constant_folding=False,
        input_names=["x"],
        output_names=["y"],
        opset_version=18,
        dynamic_axes={"x": {0: "batch"}},
    )
    state = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    onnx_state = onnx.load(path).graph.initializer
    # Exporting runs the model, which moves its statistics: take those that were written.
    for tensor in onnx_state:
        if tensor.name in state:
            module.state_dict()[tensor.name].copy_(torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()))
    module.eval()
    with torch.no_grad():
        y = module(x)
        module.train()(x)
    np.savez(OUT / "training.npz", x=x.numpy(), y=y.numpy(), moved=module[1].running_mean.numpy())
    slim(path)


def slim(path: Path) -> None:
    """Leave out where in the exporter's files a node came from: it is most of the file."""
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.value_info[:]
    onnx.save(model, path)
    ops = sorted({node.op_type for node in model.graph.node})
    print(f"{path.name}: {path.stat().st_size} bytes, {', '.join(ops)}", file=sys.stderr)


if __name__ == "__main__":
    main()
