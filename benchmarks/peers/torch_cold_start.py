"""Takes one training step of the digits MLP in PyTorch, or in Opacus, and says that it has (``../cold_start.py``)."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn

kind, data = sys.argv[1:]
with np.load(data) as arrays:
    x, y = torch.from_numpy(arrays["image"]), torch.from_numpy(arrays["label"][:, 0])
model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
versions = {"torch": torch.__version__}
if kind == "private":
    import opacus

    versions["opacus"] = opacus.__version__
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=len(x))
    model, optimizer, _ = opacus.PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=8.0),
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
    )
else:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loss = nn.functional.cross_entropy(model(x), y)
loss.backward()
optimizer.step()
loss.item()
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
told = f'{{"megabytes": {peak * 1024 / 1e6}, "versions": {versions}'.replace("'", '"')
print(told + "}", flush=True)
