"""Rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import invalid
from ...layers.nn import lookup_table_op
from ...param_attr import ParamAttrLike
from ...variable import Variable
from ...vartype import DTypeLike, VarType
from ..constructor import two_forms
from ..layers import Layer
from .parameters import count, needed


class Embedding(Layer):
    """Rows of ``weight`` [V, D] by int64 ids of any shape; an axis of size D is added at the end.

    The older form has a ``name_scope`` first.

    Args:
        size: [V, D].
        is_sparse: Has no effect.
        is_distributed: Has no effect.
        padding_idx: A row that reads as zeros and gets no gradient; negative ones count from the end.
        param_attr: Attributes of the table.
        dtype: Its element type.
    """

    def _older(
        self,
        name_scope: str | None,
        size: Sequence[int],
        is_sparse: bool = False,
        is_distributed: bool = False,
        padding_idx: int | None = None,
        param_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        Layer.__init__(self, name_scope, dtype)
        if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
            raise invalid(f"Embedding: size is {size!r}", "give [number of rows, width of a row]")
        shape = [count(self, "an extent of size", extent) for extent in size]
        self._is_sparse, self._is_distributed, self._padding_idx = is_sparse, is_distributed, padding_idx
        self.weight = needed(self, "param_attr", param_attr, shape)

    @two_forms(_older)
    def __init__(
        self,
        size: Sequence[int],
        is_sparse: bool = False,
        is_distributed: bool = False,
        padding_idx: int | None = None,
        param_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._older(None, size, is_sparse, is_distributed, padding_idx, param_attr, dtype)

    def forward(self, input: Variable) -> Variable:
        self._helper.check_dtype("input", input, (VarType.INT64,))
        hints = self._is_sparse, self._is_distributed
        return lookup_table_op(self._helper, "lookup_table_v2", input, self.weight, *hints, self._padding_idx)
