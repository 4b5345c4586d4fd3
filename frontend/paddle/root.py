"""What ``paddle`` itself offers to scripts of fluid 1.x."""

from __future__ import annotations

from typing import NoReturn

from ...compiler.errors import FluidcError
from ..reader import batch
from ..source import user_location
from .session import note_ignored
from .version import commit as __git_commit__
from .version import full_version as __version__

_OF_2 = """
Model Tensor amp callbacks concat device disable_static flops grad hub in_dynamic_mode inference io jit linalg load
matmul mean metric nn no_grad onnx ones optimizer randn regularizer reshape save seed set_device static sum summary
tensor text to_tensor utils vision zeros
"""
_OF_0 = """
activation attr data_feeder data_type evaluator event inference infer init layer minibatch model networks op parameters
plot pooling topology trainer trainer_config_helpers v2
"""
PADDLE_2 = frozenset(_OF_2.split())
"""Names of Paddle 2."""
PADDLE_0 = frozenset(_OF_0.split())
"""Names of Paddle 0.x, before fluid."""


class OtherPaddleError(FluidcError, AttributeError):
    """A name of another release of Paddle than 1.x, or of none."""


def explain(name: str) -> tuple[str, str]:
    """What ``paddle.NAME`` is, and what to do, where fluid 1.x has no such name."""
    if name == "distributed":
        return "paddle.distributed trains on several machines, which fluidc does not", "run the program on this machine"
    if name in PADDLE_0 - PADDLE_2 or name in ("inference", "data_feeder"):
        what = f"paddle.{name} is of Paddle 0.x, before fluid; fluidc runs fluid of Paddle 1.x"
        return what, "rewrite the model with paddle.fluid.layers; the tutorials of Paddle 1.x show the same models"
    if name in PADDLE_2:
        what = f"paddle.{name} is of Paddle 2; fluidc runs fluid of Paddle 1.x"
        return what, "write it with paddle.fluid, or run the script with Paddle 2"
    return f"paddle {__version__} has no {name}", "it has fluid, batch, reader, dataset, compat, version and sysconfig"


def enable_static() -> None:
    """Of Paddle 2: programs of fluid are static already."""
    note_ignored("paddle.enable_static()", "programs of fluid are static already")


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(f"module 'paddle' has no attribute {name!r}")
    what, hint = explain(name)
    raise OtherPaddleError(what, user_location().place, hint)


__all__ = ["__git_commit__", "__version__", "batch", "enable_static"]
