"""Loop nests that several families write."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.types import DType, Shape
from .emit import Expr, Loops, TvmEmitter


def each(t: TvmEmitter, loops: Loops, shape: Shape, body: Callable[..., None], *, parallel: bool = True) -> None:
    """``body(*index)`` for every index of ``shape``, row-major, indices i64.

    With ``parallel`` every element touches memory of its own; the first axis of several elements may run on several
    threads.
    """

    def nest(rest: Shape, index: tuple[Expr, ...], first: bool) -> None:
        if not rest:
            body(*index)
            return

        def step(i: Expr) -> None:
            nest(rest[1:], (*index, t.cast(i, DType.I64)), first and rest[0] == 1)

        if first and rest[0] != 1:
            loops.parallel(rest[0], step)
        else:
            loops.serial(rest[0], step, independent=parallel)

    nest(shape, (), parallel)
