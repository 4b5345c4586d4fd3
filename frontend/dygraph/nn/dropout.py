"""Dropout."""

from __future__ import annotations

from ...errors import invalid
from ...framework import in_dygraph_mode
from ...layers.nn import dropout_op
from ...layers.spatial import FLOATS
from ...variable import Variable
from ..layers import Layer


class Dropout(Layer):
    """The input with each element set to zero with probability ``p`` while training, see `layers.dropout`.

    Args:
        p: The probability.
        seed: Repeats one mask in every call, as in Paddle.
        dropout_implementation: ``'downgrade_in_infer'`` multiplies by ``1 - p`` in evaluation, ``'upscale_in_train'``
            divides by it in training.
        is_test: In a static Program: do not drop anything. In dygraph call `eval`.
    """

    def __init__(
        self,
        p: float = 0.5,
        seed: int | None = None,
        dropout_implementation: str = "downgrade_in_infer",
        is_test: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(p, str) or not 0 <= p <= 1:
            raise invalid(f"Dropout: p is {p!r}", "give a probability from 0 to 1")
        if dropout_implementation not in ("downgrade_in_infer", "upscale_in_train"):
            raise invalid(
                f"Dropout: unknown dropout_implementation {dropout_implementation!r}",
                "use 'downgrade_in_infer' or 'upscale_in_train'",
            )
        self._p, self._seed, self._is_test = p, seed, is_test
        self._dropout_implementation = dropout_implementation

    def forward(self, input: Variable) -> Variable:
        evaluating = not self.training or (self._is_test and not in_dygraph_mode())
        self._helper.check_dtype("input", input, FLOATS)
        return dropout_op(self._helper, input, self._p, evaluating, self._seed, self._dropout_implementation)
