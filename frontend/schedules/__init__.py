"""Learning rates of dygraph: objects that an optimizer asks for the rate of each step."""

from .base import LearningRateDecay
from .by_epoch import LambdaDecay, LearningRateEpochDecay, MultiStepDecay, StepDecay
from .by_loss import ReduceLROnPlateau
from .by_step import (
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    LinearLrWarmup,
    NaturalExpDecay,
    NoamDecay,
    PiecewiseDecay,
    PolynomialDecay,
)

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LambdaDecay",
    "LearningRateDecay",
    "LearningRateEpochDecay",
    "LinearLrWarmup",
    "MultiStepDecay",
    "NaturalExpDecay",
    "NoamDecay",
    "PiecewiseDecay",
    "PolynomialDecay",
    "ReduceLROnPlateau",
    "StepDecay",
]
