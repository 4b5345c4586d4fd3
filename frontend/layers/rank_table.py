"""Sequences side by side, longest first: how fluid runs recurrent nets without padding."""

from __future__ import annotations

from .. import unique_name
from ..errors import invalid, wrong_type
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import VarType
from .arrays import check_array, check_index


def lod_rank_table(x: Variable, level: int = 0) -> Variable:
    """The sequences of ``x`` by length, the longest first; equal lengths in their order."""
    check_sequences("lod_rank_table", x, level)
    helper = LayerHelper("lod_rank_table")
    table = helper.block.create_var(name=unique_name.generate("lod_rank_table"), type=VarType.LOD_RANK_TABLE)
    helper.op("lod_rank_table", {"X": [x]}, {"Out": [table]}, {"level": level})
    return table


def max_sequence_len(rank_table: Variable) -> Variable:
    """The length of the longest sequence, int64 [1]."""
    check_table("max_sequence_len", rank_table)
    helper = LayerHelper("max_seqence_len")  # fluid spells it so, and variables are named after it
    out = helper.temporary(VarType.INT64, [1])
    helper.op("max_sequence_len", {"RankTable": [rank_table]}, {"Out": [out]})
    return out


def lod_tensor_to_array(x: Variable, table: Variable) -> Variable:
    """An array whose item t holds token t of every sequence that has one, in the order of ``table``."""
    check_sequences("lod_tensor_to_array", x)
    check_table("lod_tensor_to_array", table)
    helper = LayerHelper("lod_tensor_to_array")
    array = helper.block.create_var(
        name=unique_name.generate("lod_tensor_to_array"),
        type=VarType.LOD_TENSOR_ARRAY,
        dtype=x.dtype,
        shape=x.shape,
        lod_level=x.lod_level - 1,
    )
    helper.op("lod_tensor_to_array", {"X": [x], "RankTable": [table]}, {"Out": [array]})
    return array


def array_to_lod_tensor(x: Variable, table: Variable) -> Variable:
    """The sequences whose tokens are the items of an array; undoes `lod_tensor_to_array`."""
    array = check_array("array_to_lod_tensor", x)
    check_table("array_to_lod_tensor", table)
    helper = LayerHelper("array_to_lod_tensor")
    out = helper.temporary(array.dtype, array.shape, lod_level=array.lod_level + 1)
    helper.op("array_to_lod_tensor", {"X": [array], "RankTable": [table]}, {"Out": [out]})
    return out


def shrink_memory(x: Variable, i: Variable, table: Variable) -> Variable:
    """The rows of ``x``, in the order of ``table``, whose sequences have a token at step ``i``."""
    check_variable("shrink_memory", "x", x)
    check_index("shrink_memory", i)
    check_table("shrink_memory", table)
    helper = LayerHelper("shrink_memory")
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    helper.op("shrink_rnn_memory", {"X": [x], "I": [i], "RankTable": [table]}, {"Out": [out]})
    return out


def reorder_lod_tensor_by_rank(x: Variable, rank_table: Variable) -> Variable:
    """The rows (or sequences) of ``x`` in the order of ``rank_table``."""
    check_variable("reorder_lod_tensor_by_rank", "x", x)
    check_table("reorder_lod_tensor_by_rank", rank_table)
    helper = LayerHelper("reorder_lod_tensor_by_rank")
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    helper.op("reorder_lod_tensor_by_rank", {"X": [x], "RankTable": [rank_table]}, {"Out": [out]})
    return out


def check_sequences(layer: str, x: object, level: int = 0) -> None:
    """Refuse what has no sequences at ``level``."""
    check_variable(layer, "x", x)
    assert isinstance(x, Variable)
    if x.lod_level < 1:
        raise invalid(
            f"{layer}: {x.name} has no sequences (lod_level 0)",
            "declare the data with lod_level=1 and feed fluid.create_lod_tensor(...)",
        )
    if level:
        raise invalid(f"{layer}: level is {level}", "only sequences that are not nested can be run: level=0")


def check_table(layer: str, table: object) -> None:
    """Refuse what is no table of `lod_rank_table`."""
    if not isinstance(table, Variable) or table.type is not VarType.LOD_RANK_TABLE:
        called = table.name if isinstance(table, Variable) else type(table).__name__
        raise wrong_type(f"{layer}: {called} is no rank table", "give what lod_rank_table returned")
