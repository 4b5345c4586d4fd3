"""Activations with parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import invalid
from ...initializer import ConstantInitializer
from ...layers.nn import prelu_op
from ...param_attr import ParamAttrLike
from ...variable import Variable
from ...vartype import DTypeLike
from ..constructor import starts_with_a_name, two_forms
from ..layers import Layer
from .parameters import check_kind, check_shape, count, needed

_MODES = ("all", "channel", "element")


def _is_older(args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """1.8's form has a string first, too: the mode. It is no mode if there is another, or if it is none."""
    if "name_scope" in kwargs or not starts_with_a_name(args, kwargs):
        return "name_scope" in kwargs
    return "mode" in kwargs or isinstance(args[1] if len(args) > 1 else None, str) or args[0] not in _MODES


class PRelu(Layer):
    """The input where it is positive, ``weight`` times it elsewhere; weights start at 1.

    The older form ``PRelu(name_scope, mode, param_attr=None)`` takes the weight's shape from the first input.

    Args:
        mode: One weight for ``'all'``, one per ``'channel'`` (axis 1), or one per ``'element'`` of an example.
        channel: Number of channels, for ``'channel'``.
        input_shape: Shape of the input with its batch axis, for ``'element'``.
        param_attr: Attributes of ``weight``.
        dtype: Element type of the input.
    """

    _sized = False

    def _older(
        self,
        name_scope: str | None,
        mode: str,
        param_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        Layer.__init__(self, name_scope or "prelu", dtype)
        if mode not in _MODES:
            raise invalid(f"PRelu: unknown mode {mode!r}", "use 'all', 'channel' or 'element'")
        self._mode, self._param_attr = mode, param_attr

    @two_forms(_older, _is_older)
    def __init__(
        self,
        mode: str,
        channel: int | None = None,
        input_shape: Sequence[int] | None = None,
        param_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._older(None, mode, param_attr, dtype)
        if mode == "all":
            self._create([1])
        elif mode == "channel":
            self._create([1, count(self, "channel", channel), 1, 1])
        else:
            if not isinstance(input_shape, list | tuple):
                raise invalid(f"PRelu: input_shape is {input_shape!r}", "mode='element' needs the input's shape")
            self._create([1, *input_shape[1:]])

    def _create(self, shape: list[int]) -> None:
        self.weight = needed(self, "param_attr", self._param_attr, shape, default=ConstantInitializer(1.0))
        self._sized = True

    def _take_sizes(self, input: Variable) -> None:
        check_kind(self, "input", input)
        if self._mode == "all":
            self._create([1])
        elif self._mode == "channel":
            check_shape(self, "input", input, [None, None], more=True)
            self._create([1, input.shape[1], 1, 1])
        else:
            self._create([1, *input.shape[1:]])

    def forward(self, input: Variable) -> Variable:
        check_kind(self, "input", input)
        if self._mode == "channel":
            check_shape(self, "input", input, [None, self.weight.shape[1]], more=True)
        elif self._mode == "element":
            check_shape(self, "input", input, [None, *self.weight.shape[1:]])
        return prelu_op(self._helper, input, self.weight, self._mode)
