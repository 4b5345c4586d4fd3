"""Steps of recurrent nets that keep their parameters: made in the first call, used in all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .. import unique_name
from ..layer_helper import LayerHelper
from ..param_attr import ParamAttr, ParamAttrLike, to_param_attr
from ..variable import Parameter, Variable
from ..vartype import DTypeLike
from .arrange import split
from .math import elementwise_add, elementwise_mul, matmul
from .ops import sigmoid, tanh
from .tensor import concat, fill_constant

Activation = Callable[[Variable], Variable]


class _Unit:
    """What has parameters of its own, called ``SCOPE/CLASS_0.w_0`` and so on."""

    def __init__(self, name_scope: str, kind: str, hidden_size: int, dtype: DTypeLike) -> None:
        unique_name.generate(name_scope)  # fluid counts the scope, too
        self._helper = LayerHelper(kind, unique_name.generate(f"{name_scope}/{kind}"))
        self._hidden = hidden_size
        self._dtype = dtype
        self._made: list[Parameter] = []

    def parameters(self) -> list[Parameter]:
        """The parameters; none before the first call."""
        return list(self._made)

    def _make(self, attr: ParamAttrLike, shape: Sequence[int], is_bias: bool = False) -> None:
        wanted = ParamAttr() if attr is False else attr
        made = self._helper.parameter(wanted, shape, self._dtype, is_bias=is_bias)
        assert made is not None
        self._made.append(made)


class BasicLSTMUnit(_Unit):
    """One step of an LSTM: ``hidden, cell = unit(x, hidden, cell)``, matrices of one row per example.

    ``i, j, f, o = split(concat(x, hidden) @ w + b)``; ``cell' = cell * sigmoid(f + forget_bias) + sigmoid(i) *
    tanh(j)``; ``hidden' = tanh(cell') * sigmoid(o)`` (Zaremba et al., 2014).  The weight is [inputs + D, 4D].
    The activations that may be named are not used, as in fluid.
    """

    def __init__(
        self,
        name_scope: str,
        hidden_size: int,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        gate_activation: Activation | None = None,
        activation: Activation | None = None,
        forget_bias: float = 1.0,
        dtype: DTypeLike = "float32",
    ) -> None:
        del gate_activation, activation
        super().__init__(name_scope, "BasicLSTMUnit", hidden_size, dtype)
        self._attrs = param_attr, bias_attr
        self._forget_bias = fill_constant([1], dtype, forget_bias)
        self._forget_bias.stop_gradient = False

    def __call__(self, input: Variable, pre_hidden: Variable, pre_cell: Variable) -> tuple[Variable, Variable]:
        if not self._made:
            self._make(self._attrs[0], [input.shape[-1] + self._hidden, 4 * self._hidden])
            self._make(self._attrs[1], [4 * self._hidden], is_bias=True)
        weight, bias = self._made
        gates = elementwise_add(matmul(concat([input, pre_hidden], 1), weight), bias)
        i, j, f, o = split(gates, 4, dim=-1)
        kept = elementwise_mul(pre_cell, sigmoid(elementwise_add(f, self._forget_bias)))
        cell = elementwise_add(kept, elementwise_mul(sigmoid(i), tanh(j)))
        return tanh(cell) * sigmoid(o), cell


class BasicGRUUnit(_Unit):
    """One step of a GRU: ``hidden = unit(x, hidden)``, matrices of one row per example.

    ``r, u = gate(concat(x, hidden) @ w + b)``, ``c = act(concat(x, r * hidden) @ v + d)``,
    ``hidden' = u * hidden + (1 - u) * c`` (Cho et al., 2014).  Weights are [inputs + D, 2D] and [inputs + D, D]; a name
    given to them gets ``_gate`` and ``_candidate`` appended.
    """

    def __init__(
        self,
        name_scope: str,
        hidden_size: int,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        gate_activation: Activation | None = None,
        activation: Activation | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__(name_scope, "BasicGRUUnit", hidden_size, dtype)
        self._attrs = param_attr, bias_attr
        self._gate = gate_activation or sigmoid
        self._act = activation or tanh

    def __call__(self, input: Variable, pre_hidden: Variable) -> Variable:
        if not self._made:
            rows, d = input.shape[-1] + self._hidden, self._hidden
            weight, bias = self._attrs
            self._make(named(weight, "_gate"), [rows, 2 * d])
            self._make(named(weight, "_candidate"), [rows, d])
            self._make(named(bias, "_gate"), [2 * d], is_bias=True)
            self._make(named(bias, "_candidate"), [d], is_bias=True)
        for_gates, for_candidate, gate_bias, candidate_bias = self._made
        gates = self._gate(elementwise_add(matmul(concat([input, pre_hidden], 1), for_gates), gate_bias))
        r, u = split(gates, 2, dim=1)
        proposed = matmul(concat([input, r * pre_hidden], 1), for_candidate)
        candidate = self._act(elementwise_add(proposed, candidate_bias))
        return u * pre_hidden + (1 - u) * candidate


def named(attr: ParamAttrLike, suffix: str) -> ParamAttrLike:
    """A parameter's attribute with ``suffix`` at the end of the name, if it has one."""
    found = None if attr is False else to_param_attr(attr)
    return attr if found is None or found.name is None else replace(found, name=found.name + suffix)
