"""Cells of recurrent nets: one step."""

from __future__ import annotations

from ...errors import invalid, warn
from ...layers.rnn import GRU_ACTIVATIONS, check_gru_unit, gru_unit_op
from ...param_attr import ParamAttrLike
from ...variable import Variable
from ...vartype import DTypeLike
from ..constructor import two_forms
from ..layers import Layer
from .parameters import check_kind, needed


class GRUUnit(Layer):
    """One step of a GRU with D = size / 3 units, see `layers.gru_unit`; the older form has a ``name_scope`` first.

    ``forward(input, hidden)`` takes projected inputs [N, 3D] and the state [N, D]; it returns
    ``(hidden, reset_hidden, gates)``.

    Args:
        size: 3D.
        param_attr: Attributes of ``weight`` [D, 3D].
        bias_attr: Attributes of ``bias`` [1, 3D]; False for none.
        activation: Of the candidate: ``'tanh'``, ``'sigmoid'``, ``'relu'`` or ``'identity'``.
        gate_activation: Of the gates, likewise.
        origin_mode: Paddle 1.8.5 takes it and computes as for False; so does fluidc, with a warning.
        dtype: Element type of the parameters.
    """

    def _older(
        self,
        name_scope: str | None,
        size: int,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        origin_mode: bool = False,
        dtype: DTypeLike = "float32",
    ) -> None:
        Layer.__init__(self, name_scope, dtype)
        if isinstance(size, bool) or not isinstance(size, int) or size <= 0 or size % 3:
            raise invalid(f"GRUUnit: size is {size!r}", "give three times the number of units")
        for argument, name in (("activation", activation), ("gate_activation", gate_activation)):
            if name not in GRU_ACTIVATIONS:
                raise invalid(f"GRUUnit: {argument} is {name!r}", f"use one of {', '.join(GRU_ACTIVATIONS)}")
        if origin_mode:
            warn(
                "GRUUnit computes as with origin_mode=False, as Paddle 1.8.5 does; fluid.layers.gru_unit has the other"
            )
        self._activation, self._gate_activation = activation, gate_activation
        units = size // 3
        self.weight = needed(self, "param_attr", param_attr, [units, size])
        self.bias = self.create_parameter([1, size], bias_attr, dtype, is_bias=True)

    @two_forms(_older)
    def __init__(
        self,
        size: int,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        activation: str = "tanh",
        gate_activation: str = "sigmoid",
        origin_mode: bool = False,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._older(None, size, param_attr, bias_attr, activation, gate_activation, origin_mode, dtype)

    def forward(self, input: Variable, hidden: Variable) -> tuple[Variable, Variable, Variable]:
        for argument, x in (("input", input), ("hidden", hidden)):
            check_kind(self, argument, x)
        check_gru_unit(self._helper, input, hidden, self.weight.shape[1])
        return gru_unit_op(self._helper, input, hidden, self.weight, self.bias, self._activation, self._gate_activation)
