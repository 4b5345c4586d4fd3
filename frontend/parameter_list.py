"""The parameters of a model that has not got all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from .errors import invalid
from .variable import Parameter


class UnsizedParameters(list[Parameter]):
    """What `dygraph.Layer.parameters` returns while some layers have none yet: their first input gives them sizes.

    An optimizer that kept this list would never train those layers.

    Attributes:
        layers: Full names of these layers.
    """

    def __init__(self, parameters: Iterable[Parameter], layers: Sequence[str]) -> None:
        super().__init__(parameters)
        self.layers = tuple(layers)

    def refuse(self, caller: str) -> NoReturn:
        """Raises ProgramError: ``caller`` needs all parameters."""
        raise invalid(
            f"{caller}: {', '.join(self.layers)} has no parameters yet; the first input gives a layer its sizes",
            "call the model once before, on data of the right shape, or build it with its sizes",
        )
