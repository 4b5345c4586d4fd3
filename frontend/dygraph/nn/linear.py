"""Products with a weight: `Linear`, `FC`, `BilinearTensorProduct`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import invalid
from ...layers.math import matmul, record_mul
from ...layers.nn import bilinear_tensor_product_op
from ...param_attr import ParamAttrLike
from ...shapes import product
from ...variable import Variable
from ...vartype import DTypeLike
from ..constructor import two_forms
from ..layers import Layer
from .parameters import check_kind, check_shape, count, needed, with_bias


class Linear(Layer):
    """``act(input @ weight + bias)`` over the last axis: ``[..., input_dim]`` gives ``[..., output_dim]``.

    Args:
        input_dim: Extent of the input's last axis.
        output_dim: Number of outputs.
        param_attr: Attributes of ``weight`` [input_dim, output_dim].
        bias_attr: Attributes of ``bias`` [output_dim]; False for none.
        act: Name of an activation layer.
        dtype: Element type of the parameters.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        act: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__(dtype=dtype)
        shape = [count(self, "input_dim", input_dim), count(self, "output_dim", output_dim)]
        self._act = act
        self.weight = needed(self, "param_attr", param_attr, shape)
        self.bias = self.create_parameter(shape[1:], bias_attr, dtype, is_bias=True)

    def forward(self, input: Variable) -> Variable:
        check_kind(self, "input", input)
        rows = matmul(input, self.weight, name=self._full_name)
        return with_bias(self, rows, self.bias, len(input.shape) - 1, self._act)


class FC(Layer):
    """``act(sum_i input_i @ w_i + bias)``: the fully connected layer of fluid before 1.7.

    Its inputs give the weights their sizes at the first call.  Their attributes are ``weight``, and ``weight_1``,
    ``weight_2``, ... for further inputs.

    Args:
        name_scope: Start of the layer's name.
        size: Number of outputs.
        num_flatten_dims: How many leading axes of an input stay; the others are flattened into the rows that a
            weight multiplies. -1 means all but the last.
        param_attr: Attributes of the weights, one for all or a list.
        bias_attr: Attributes of ``bias`` [size]; False for none.
        act: Name of an activation layer.
        is_test: Has no effect.
        dtype: Element type of the parameters.
    """

    _sized = False

    def __init__(
        self,
        name_scope: str,
        size: int,
        num_flatten_dims: int = 1,
        param_attr: ParamAttrLike | Sequence[ParamAttrLike] = None,
        bias_attr: ParamAttrLike = None,
        act: str | None = None,
        is_test: bool = False,
        dtype: DTypeLike = "float32",
    ) -> None:
        del is_test
        if not isinstance(name_scope, str):
            raise invalid(
                f"FC: name_scope is {name_scope!r}",
                "write FC(name_scope, size, ...); fluid 1.8's form is Linear(input_dim, output_dim, ...)",
            )
        super().__init__(name_scope, dtype)
        self._size = count(self, "size", size)
        self._num_flatten_dims = num_flatten_dims
        self._param_attr, self._bias_attr, self._act = param_attr, bias_attr, act

    def _columns(self, input: Variable) -> int:
        """How many leading axes of an input stay."""
        check_kind(self, "input", input)
        columns = len(input.shape) - 1 if self._num_flatten_dims == -1 else self._num_flatten_dims
        if not 0 < columns < len(input.shape):
            raise invalid(
                f"FC: input {input.name} has shape {list(input.shape)}, but num_flatten_dims={self._num_flatten_dims}",
                f"give -1 or a number from 1 to {len(input.shape) - 1}",
            )
        return columns

    def _take_sizes(self, input: Variable | Sequence[Variable]) -> None:
        inputs = _listed(input)
        given = self._param_attr
        attrs: list[Any] = list(given) if isinstance(given, list | tuple) else [given] * len(inputs)
        if len(attrs) != len(inputs):
            raise invalid(f"FC: {len(inputs)} inputs but {len(attrs)} parameter attributes", "give one per input")
        shapes = [[product(x.shape[self._columns(x) :]), self._size] for x in inputs]
        for i, (shape, attr) in enumerate(zip(shapes, attrs)):
            setattr(self, f"weight_{i}" if i else "weight", needed(self, "param_attr", attr, shape))
        self._count = len(inputs)
        self.bias = self.create_parameter([self._size], self._bias_attr, self._dtype, is_bias=True)
        self._sized = True

    def forward(self, input: Variable | Sequence[Variable]) -> Variable:
        inputs = _listed(input)
        if len(inputs) != self._count:
            raise invalid(f"FC: {len(inputs)} inputs, but {self._count} in the first call", "give as many each time")
        products: list[Variable] = []
        for i, x in enumerate(inputs):
            weight = getattr(self, f"weight_{i}" if i else "weight")
            products.append(record_mul(self._helper, x, weight, self._columns(x), 1))
        out = products[0]
        if len(products) > 1:
            out = self._helper.temporary(out.dtype, out.shape)
            self._helper.op("sum", {"X": products}, {"Out": [out]})
        return with_bias(self, out, self.bias, len(out.shape) - 1, self._act)


def _listed(input: Variable | Sequence[Variable]) -> list[Variable]:
    return [input] if isinstance(input, Variable) else list(input)


class BilinearTensorProduct(Layer):
    """``out[:, k] = x @ weight[k] @ y.T`` row by row, plus a bias: ``[N, M]`` and ``[N, K]`` give ``[N, output_dim]``.

    The older form ``BilinearTensorProduct(name_scope, size, ...)`` takes M and K from the first inputs.

    Args:
        input1_dim: M.
        input2_dim: K.
        output_dim: Number of outputs.
        name: Has no effect.
        act: Name of an activation layer.
        param_attr: Attributes of ``weight`` [output_dim, M, K].
        bias_attr: Attributes of ``bias`` [1, output_dim]; False for none.
        dtype: Element type of the parameters.
    """

    _sized = False

    def _older(
        self,
        name_scope: str | None,
        size: int,
        name: str | None = None,
        act: str | None = None,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        del name
        Layer.__init__(self, name_scope, dtype)
        self._size = count(self, "the number of outputs", size)
        self._act, self._param_attr, self._bias_attr = act, param_attr, bias_attr

    @two_forms(_older)
    def __init__(
        self,
        input1_dim: int,
        input2_dim: int,
        output_dim: int,
        name: str | None = None,
        act: str | None = None,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._older(None, output_dim, name, act, param_attr, bias_attr, dtype)
        self._create(count(self, "input1_dim", input1_dim), count(self, "input2_dim", input2_dim))

    def _create(self, m: int, k: int) -> None:
        self.weight = needed(self, "param_attr", self._param_attr, [self._size, m, k])
        self.bias = self.create_parameter([1, self._size], self._bias_attr, self._dtype, is_bias=True)
        self._sized = True

    def _take_sizes(self, x: Variable, y: Variable) -> None:
        for argument, v in (("x", x), ("y", y)):
            check_kind(self, argument, v)
            check_shape(self, argument, v, [None, None])
        self._create(x.shape[-1], y.shape[-1])

    def forward(self, x: Variable, y: Variable) -> Variable:
        for argument, v, width in (("x", x, self.weight.shape[1]), ("y", y, self.weight.shape[2])):
            check_kind(self, argument, v)
            check_shape(self, argument, v, [None, width])
        out = self._helper.temporary(x.dtype, [x.shape[0], self._size])
        bilinear_tensor_product_op(self._helper, x, y, self.weight, self.bias, out)
        return self._helper.activate(out, self._act)
