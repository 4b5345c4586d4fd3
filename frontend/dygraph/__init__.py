"""``fluid.dygraph``: eager mode. Layers run at once, as one compiled function per step."""

from __future__ import annotations

from typing import NoReturn

from ..errors import unsupported
from ..state_dicts import load_dygraph, save_dygraph
from . import learning_rate_scheduler
from .base import disable_dygraph, enable_dygraph, enabled, grad, guard, no_grad, to_variable
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

_NAMES = """
BCELoss BackwardStrategy BatchNorm BilinearTensorProduct Conv2D Conv2DTranspose Conv3D Conv3DTranspose
DataParallel Dropout Embedding GRUUnit GroupNorm InstanceNorm L1Loss
Layer LayerList LayerNorm Linear MSELoss NCE NLLLoss PRelu
ParallelEnv ParameterList Pool2D ProgramTranslator Sequential SpectralNorm
TracedLayer TreeConv declarative dygraph_to_static_func prepare_context
"""
_MISSING = frozenset(_NAMES.split())


def __getattr__(name: str) -> NoReturn:
    if name not in _MISSING:
        raise AttributeError(f"module fluid.dygraph has no attribute {name!r}")
    raise unsupported(
        f"fluid.dygraph.{name} is not implemented",
        "fluid.dygraph.__all__ lists what there is",
    )


disable_imperative = disable_dygraph
enable_imperative = enable_dygraph

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LambdaDecay",
    "LinearLrWarmup",
    "MultiStepDecay",
    "NaturalExpDecay",
    "NoamDecay",
    "PiecewiseDecay",
    "PolynomialDecay",
    "ReduceLROnPlateau",
    "StepDecay",
    "disable_dygraph",
    "disable_imperative",
    "enable_dygraph",
    "enable_imperative",
    "enabled",
    "grad",
    "guard",
    "learning_rate_scheduler",
    "load_dygraph",
    "no_grad",
    "save_dygraph",
    "to_variable",
]
