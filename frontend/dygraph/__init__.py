"""``fluid.dygraph``: eager mode. Layers run at once, as one compiled function per step."""

from __future__ import annotations

from typing import NoReturn

from ..errors import unsupported
from .base import disable_dygraph, enable_dygraph, enabled, grad, guard, no_grad, to_variable

_NAMES = """
BCELoss BackwardStrategy BatchNorm BilinearTensorProduct Conv2D Conv2DTranspose Conv3D Conv3DTranspose CosineDecay
DataParallel Dropout Embedding ExponentialDecay GRUUnit GroupNorm InstanceNorm InverseTimeDecay L1Loss LambdaDecay
Layer LayerList LayerNorm Linear LinearLrWarmup MSELoss MultiStepDecay NCE NLLLoss NaturalExpDecay NoamDecay PRelu
ParallelEnv ParameterList PiecewiseDecay PolynomialDecay Pool2D ProgramTranslator Sequential SpectralNorm StepDecay
TracedLayer TreeConv declarative dygraph_to_static_func load_dygraph prepare_context save_dygraph
"""
_MISSING = frozenset(_NAMES.split())


class ReduceLROnPlateau:
    """A learning rate that falls when a watched loss stops falling, as a script states it.

    Every optimizer refuses it: in Paddle it belongs to imperative mode, and under Dpsgd no learning rate may follow
    a loss.  The arguments are Paddle's and are not looked at.
    """

    def __init__(
        self,
        learning_rate: float,
        mode: str = "min",
        decay_rate: float = 0.1,
        patience: int = 10,
        verbose: bool = False,
        threshold: float = 0.0001,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0,
        eps: float = 1e-08,
        dtype: str = "float32",
    ) -> None:
        del mode, decay_rate, patience, verbose, threshold, threshold_mode, cooldown, min_lr, eps, dtype
        self.learning_rate = learning_rate

    def step(self, loss: object) -> NoReturn:
        """Raises UnsupportedError: no optimizer follows this learning rate."""
        del loss
        raise unsupported("ReduceLROnPlateau.step: no optimizer follows this learning rate", BY_HAND)


BY_HAND = "use fluid.layers.*_decay, or write a learning rate of your own between steps: tensor.set on its variable"


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
    "ReduceLROnPlateau",
    "disable_dygraph",
    "disable_imperative",
    "enable_dygraph",
    "enable_imperative",
    "enabled",
    "grad",
    "guard",
    "no_grad",
    "to_variable",
]
