"""``IfElse``: both blocks compute all rows, and a row takes the result of the block that it belongs to."""

from __future__ import annotations

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, RaggedType, numel
from ...compiler.ops.grad import StopGradient
from ...compiler.ops.kinds import PUBLIC, Kind
from ..framework import Block
from .context import Frame, OpLowering, Rules
from .held import Split, uniform
from .rowwise import ROWS, mixing


def _mask(o: OpLowering, slot: str = "Mask") -> Value:
    """The condition of every row, bool[N]."""
    found = o.x(slot)
    return o.b.reshape(found, (numel(found.tensor.shape),))


def _split(o: OpLowering) -> None:
    x, mask = o.any("X"), _mask(o)
    if isinstance(x.type, RaggedType):
        raise o.error(f"{o.op.input('X')[0]} holds sequences, which are not split in compiled code", "pool them first")
    if x.tensor.shape[:1] != mask.tensor.shape:
        raise o.error(f"{x.type} has not one row per condition of {mask.type}", "give one condition per row, [N, 1]")
    for slot, kept in (("OutTrue", True), ("OutFalse", False)):
        for name in o.op.output(slot):
            o.frame.held.split[name] = Split(x, mask, kept)


def _stood_in(o: OpLowering, part: Split) -> Value:
    """The rows of a part, with one of them in place of every other row.

    A block may not be defined on rows that are none of its own: their gradient, which is zero, would be no number in
    the parameters.  Private programs never look at another example: there ones stand in, as they do for an empty part.
    """
    b, kind = o.b, part.value.tensor
    own = part.mask if part.kept else b.logical_not(part.mask)
    beside = (*own.tensor.shape, *(1,) * (kind.rank - 1))
    one = b.fill((), kind.dtype, 1)
    if not o.function.private:
        at = b.reshape(b.argmax(b.cast(own, DType.F32), 0), (1,))
        some = b.reshape(b.gather(own, at, 0), (1,) * kind.rank)
        one = b.where(some, b(StopGradient(b.gather(part.value, at, 0))), one)
    return b.where(b.reshape(own, beside), part.value, one)


def branch_of_rows(o: OpLowering, block: Block) -> None:
    """The block of a condition per row: on all rows.

    Raises:
        LoweringError: It puts rows together, of which those of the other block must not be among.
    """
    held = o.frame.held
    parts = {name: held.split[name] for name in o.op.input("Input") if name in held.split}
    if not parts:
        raise o.error("a block for some rows reads none of them", "read them by IfElse.input(x)")
    first = next(iter(parts.values()))
    local = {name: _stood_in(o, parts[name]) if name in parts else o.value(name) for name in o.op.input("Input")}
    kinds: dict[Value, Kind] = {value: ROWS if name in parts else PUBLIC for name, value in local.items()}
    start = len(o.b.ops)
    frame = Frame(o.function, block, o.b, local, o.frame.mask)
    for op in block.ops:
        o.function.lower(op, frame)
    results = {name: local[name] for name in o.op.output("Out")}
    rows = first.mask.tensor.shape
    for name, value in results.items():
        if isinstance(value.type, RaggedType) or value.tensor.shape[:1] != rows:
            raise o.error(f"{name} is {value.type}, not one row per row of the block", "output rows only")
    why = mixing(o.b.ops[start:], kinds, [value for value in results.values() if not uniform(value)])
    if why is not None:
        raise o.error(
            f"a block for some rows of the batch puts rows together: {why}",
            "compute row by row inside, and reduce behind the IfElse",
        )
    for name, value in results.items():
        held.split[name] = Split(value, first.mask, first.kept)


def _merge(o: OpLowering) -> None:
    sides: list[Value] = []
    for slot, kept in (("InTrue", True), ("InFalse", False)):
        name = o.op.input(slot)[0]
        found = o.frame.held.split.get(name)
        if found is None or found.kept is not kept:
            raise o.error(f"{name} holds no rows that were split off", "give the outputs of both blocks")
        sides.append(found.value)
    yes, no = sides
    if yes.type != no.type:
        raise o.error(f"the blocks give {yes.type} and {no.type}", "give rows of one shape and type")
    mask = o.b.reshape(_mask(o), (yes.tensor.shape[0], *(1,) * (yes.tensor.rank - 1)))
    o.set(o.b.where(mask, yes, no))


RULES: Rules = {"split_lod_tensor": _split, "merge_lod_tensor": _merge}
