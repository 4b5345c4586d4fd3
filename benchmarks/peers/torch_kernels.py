"""PyTorch's and numpy's products, and PyTorch's convolutions, as contestants of ``benchmarks/kernels.py``.

What ``protocol.py`` calls a model is a kind of kernel here; operands come as ``x``, ``w`` and ``ct``, and what it calls
a loss is the last element of the result.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import protocol
import torch
from protocol import Arrays, Contestant, Step

PRODUCTS = frozenset({"product NN", "product NT", "product TN"})
CONVOLUTIONS = frozenset({"forward", "input gradient", "filter gradient"})


def numpy_product(kind: str, arrays: Arrays) -> Step:
    x, w = arrays["x"], arrays["w"]
    x = x.swapaxes(-1, -2) if kind.endswith("TN") else x
    w = w.swapaxes(-1, -2) if kind.endswith("NT") else w
    out = np.empty((*x.shape[:-1], w.shape[-1]), np.float32)

    def step() -> float:
        np.matmul(x, w, out=out)
        return float(out[(-1,) * out.ndim])

    return step


def torch_product(kind: str, arrays: Arrays) -> Step:
    x, w = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["w"])
    x = x.transpose(-1, -2) if kind.endswith("TN") else x
    w = w.transpose(-1, -2) if kind.endswith("NT") else w
    out = torch.empty((*x.shape[:-1], w.shape[-1]))

    def step() -> float:
        torch.matmul(x, w, out=out)
        return float(out[(-1,) * out.ndim])

    return step


def convolution(kind: str, arrays: Arrays, *, channels_last: bool) -> Step:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, w, ct = (torch.from_numpy(arrays[name]).contiguous(memory_format=layout) for name in ("x", "w", "ct"))
    stride, pad = [int(arrays["stride"])] * 2, [int(arrays["pad"])] * 2

    def forward() -> float:
        return float(torch.nn.functional.conv2d(x, w, None, stride, pad)[-1, -1, -1, -1])

    def gradient(which: int) -> float:
        wanted = [which == 0, which == 1, False]
        found = torch.ops.aten.convolution_backward(
            ct, x, w, None, stride, pad, [1, 1], transposed=False, output_padding=[0, 0], groups=1, output_mask=wanted
        )
        return float(found[which][-1, -1, -1, -1])

    return forward if kind == "forward" else partial(gradient, 0 if kind == "input gradient" else 1)


CONTESTANTS = [
    Contestant("torch", False, PRODUCTS, torch_product),
    Contestant("numpy", False, PRODUCTS, numpy_product),
    Contestant("torch", False, CONVOLUTIONS, partial(convolution, channels_last=False)),
    Contestant("torch channels_last", False, CONVOLUTIONS, partial(convolution, channels_last=True)),
]

if __name__ == "__main__":
    torch.set_num_threads(protocol.limit_threads())
    with torch.inference_mode():
        protocol.serve(CONTESTANTS, {"torch": torch.__version__, "numpy of torch's environment": np.__version__})
