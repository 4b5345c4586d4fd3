"""``fluid.dygraph.nn``: the layers with a state, one file per family."""

from __future__ import annotations

from ...missing import MissingName
from .activation import PRelu
from .conv import Conv2D, Conv2DTranspose
from .dropout import Dropout
from .embedding import Embedding
from .linear import FC, BilinearTensorProduct, Linear
from .loss import BCELoss, L1Loss, MSELoss, NLLLoss
from .norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from .pool import Pool2D
from .recurrent import GRUUnit
from .spectral import SpectralNorm
from .volume import Conv3D, Conv3DTranspose

# The layers of fluid 1.8.5 that fluidc does not have, with what comes nearest.
MISSING = {
    "NCE": "use Linear and fluid.layers.softmax_with_cross_entropy over all classes",
    "TreeConv": "gather the nodes along the tree's edges with fluid.layers.gather, and use Linear",
}


def __getattr__(name: str) -> MissingName:
    if name not in MISSING:
        raise AttributeError(f"module fluid.dygraph.nn has no attribute {name!r}")
    return MissingName(f"fluid.dygraph.{name}", MISSING[name])


__all__ = [
    "FC",
    "BCELoss",
    "BatchNorm",
    "BilinearTensorProduct",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dropout",
    "Embedding",
    "GRUUnit",
    "GroupNorm",
    "InstanceNorm",
    "L1Loss",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "NLLLoss",
    "PRelu",
    "Pool2D",
    "SpectralNorm",
]
