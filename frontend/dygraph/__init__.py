"""``fluid.dygraph``: eager mode. Layers run at once, as one compiled function per step."""

from __future__ import annotations

from typing import Any

from . import checkpoint, jit, learning_rate_scheduler, nn
from .base import BackwardStrategy, disable_dygraph, enable_dygraph, enabled, grad, guard, no_grad, to_variable
from .checkpoint import load_dygraph, save_dygraph
from .container import LayerList, ParameterList, Sequential
from .jit import ProgramTranslator, TracedLayer, declarative, dygraph_to_static_func, to_static
from .layers import Layer
from .learning_rate_scheduler import (
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    LambdaDecay,
    LinearLrWarmup,
    MultiStepDecay,
    NaturalExpDecay,
    NoamDecay,
    PiecewiseDecay,
    PolynomialDecay,
    ReduceLROnPlateau,
    StepDecay,
)
from .nn import (
    FC,
    BatchNorm,
    BCELoss,
    BilinearTensorProduct,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Dropout,
    Embedding,
    GroupNorm,
    GRUUnit,
    InstanceNorm,
    L1Loss,
    LayerNorm,
    Linear,
    MSELoss,
    NLLLoss,
    Pool2D,
    PRelu,
    SpectralNorm,
)
from .parallel import DataParallel, ParallelEnv, prepare_context


def __getattr__(name: str) -> Any:
    if name in nn.MISSING:
        return getattr(nn, name)
    raise AttributeError(f"module fluid.dygraph has no attribute {name!r}")


disable_imperative = disable_dygraph
enable_imperative = enable_dygraph

__all__ = [
    "FC",
    "BCELoss",
    "BackwardStrategy",
    "BatchNorm",
    "BilinearTensorProduct",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "CosineDecay",
    "DataParallel",
    "Dropout",
    "Embedding",
    "ExponentialDecay",
    "GRUUnit",
    "GroupNorm",
    "InstanceNorm",
    "InverseTimeDecay",
    "L1Loss",
    "LambdaDecay",
    "Layer",
    "LayerList",
    "LayerNorm",
    "Linear",
    "LinearLrWarmup",
    "MSELoss",
    "MultiStepDecay",
    "NLLLoss",
    "NaturalExpDecay",
    "NoamDecay",
    "PRelu",
    "ParallelEnv",
    "ParameterList",
    "PiecewiseDecay",
    "PolynomialDecay",
    "Pool2D",
    "ProgramTranslator",
    "ReduceLROnPlateau",
    "Sequential",
    "SpectralNorm",
    "StepDecay",
    "TracedLayer",
    "checkpoint",
    "declarative",
    "disable_dygraph",
    "disable_imperative",
    "dygraph_to_static_func",
    "enable_dygraph",
    "enable_imperative",
    "enabled",
    "grad",
    "guard",
    "jit",
    "learning_rate_scheduler",
    "load_dygraph",
    "nn",
    "no_grad",
    "prepare_context",
    "save_dygraph",
    "to_static",
    "to_variable",
]
