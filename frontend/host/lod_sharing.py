"""Which LoD the result of a compiled op has: the one of an operand, where both have as many rows.

The tables say what ops of Paddle 1.8.5 hand on when they infer shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..framework import Operator
from .values import Array, Lod

_SLOTS = ("X", "Input", "Ids", "In", "Logits", "Emission", "Predict", "Out")
"""Where the operand that hands its LoD on is, the first of these that an op has."""

_NONE_TYPES = """
arg_max arg_min assign_value backward crop crop_tensor expand_as eye fill_constant fill_constant_batch_size_like
gather gaussian_random gaussian_random_batch_size_like gru_unit lstm_unit mean multiplex norm range reverse scatter
scatter_nd_add shape smooth_l1_loss transpose transpose2 truncated_gaussian_random uniform_random
uniform_random_batch_size_like unstack where_index
"""
_NONE = frozenset(_NONE_TYPES.split())
_BY_LENGTHS_TYPES = """
attention_lstm crf_decoding gru im2sequence linear_chain_crf lod_reset lstm lstmp row_conv warpctc
"""
_BY_LENGTHS = frozenset(_BY_LENGTHS_TYPES.split())


def needs_lengths(op: Operator) -> bool:
    """Whether the op computes with the lengths of sequences, not on rows alone."""
    return op.type in _BY_LENGTHS or (op.type.startswith("sequence_") and op.type != "sequence_mask")


def giver(op: Operator) -> str | None:
    """The name whose LoD the op's results have; None where they have none."""
    if op.type in _NONE:
        return None
    for slot in _SLOTS:
        if op.input(slot):
            return op.input(slot)[0]
    return None


def spread(ops: list[Operator], known: Mapping[str, Lod]) -> dict[str, Lod]:
    """LoD by name once the ops have run, from what it was before."""
    found = dict(known)
    for op in ops:
        if op.type == "backward":
            found.update({g: found.get(v, ()) for v, g in zip(op.input("Wrt"), op.output("Grads"))})
            continue
        name = giver(op)
        lod = found.get(name, ()) if name is not None else ()
        if op.type == "sequence_pool":
            lod = lod[:-1]
        elif op.type == "concat" and op.attrs.get("axis", 0) == 0:
            lod = _joined([found.get(n, ()) for n in op.input("X")])
        elif op.type in ("sequence_expand_as", "sequence_expand", "lod_reset") and op.input("Y"):
            lod = found.get(op.input("Y")[0], ())[-1:]
        for result in op.output_arg_names:
            found[result] = lod
    return found


def _joined(lods: list[Lod]) -> Lod:
    """The LoD of tensors one after another; they have as many levels each."""
    if not all(lods) or len({len(lod) for lod in lods}) > 1:
        return ()
    joined: list[tuple[int, ...]] = []
    for levels in zip(*lods):
        level = [0]
        for more in levels:
            level += [level[-1] + o for o in more[1:]]
        joined.append(tuple(level))
    return tuple(joined)


def fitting(lod: Lod, array: Array) -> Lod:
    """The LoD, if it divides the rows of the array."""
    return lod if lod and array.ndim and lod[-1][-1] == len(array) else ()
