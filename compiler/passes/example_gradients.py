"""The gradient of one parameter, example by example: its squared norms, and its clipped sum.

Sources: Goodfellow (2015) for the norms of products; Bu et al. (ICML'23) for book-keeping.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ..errors import PrivacyError
from ..ir.bind import bind_op
from ..ir.core import Value
from ..ir.types import Sym
from ..ops.base import Op
from ..ops.construct import OpBuilder
from ..ops.dp import ClippedSum, RowNormSq, ScaleRows, SelectRows
from ..ops.elementwise import Add
from ..ops.grad import Private, Use
from ..ops.kinds import ExampleKind, Kind, PublicKind
from ..ops.shape import Reshape, Transpose
from .expand_grad import vjp_of_use
from .separability import BATCH


class Gradient:
    """One parameter: how its norm and its clipped sum are written.

    A contribution is a ``grad.use`` on examples; or, for a parameter that public ops changed before examples
    met it (a reshaped bias), the use of such an op whose cotangent is a contribution; or a sum of these.
    """

    def __init__(self, b: OpBuilder, kinds: dict[Value, Kind], request: Private) -> None:
        self.b, self.kinds = b, kinds
        self.request = request
        self.materialised: Value | None = None

    def norm_sq(self) -> Value:
        """``f64[N]``: squared norms of this parameter's per-example gradients."""
        if len(self.request.uses) == 1:
            norm = self._norm_by_rule(self.request.uses[0])
            if norm is not None:
                norm.hint = f"n2_{self.request.param}"
                return norm
        total = self._example_grad(self.request.uses[0])
        for use in self.request.uses[1:]:
            # A parameter read several times has one gradient: contributions add up before the norm is taken.
            total = self.b.add(total, self._example_grad(use))
        self.materialised = total
        total.hint = f"gi_{self.request.param}"
        return self.b(RowNormSq(total), f"n2_{self.request.param}")

    def clipped_sum(self, c: Value) -> Value:
        """``sum_i c_i g_i``."""
        if self.materialised is not None:
            return self.b(ClippedSum(self.materialised, c))
        return self._sum_by_rule(self.request.uses[0], c)

    # By the op's norm rule: no per-example gradient exists ----------------------------------------------------
    def _norm_by_rule(self, contribution: Value) -> Value | None:
        use = contribution.op
        if not isinstance(use, Use) or use.live != (0,):
            return None
        with self.b.at(use.loc):
            if self._on_examples(use):
                kinds = [self.kinds[v] for v in use.arguments]
                return _template(use).example_norm_sq(self.b, use.operand, use.cts[0], kinds)
        # Moving elements around keeps the norm.
        return self._norm_by_rule(use.cts[0]) if isinstance(use.of, Reshape | Transpose) else None

    def _sum_by_rule(self, contribution: Value, c: Value) -> Value:
        use = cast(Use, contribution.op)
        with self.b.at(use.loc):
            if not self._on_examples(use):
                return vjp_of_use(self.b, replace(use, cts=(self._sum_by_rule(use.cts[0], c),)))
            arguments = tuple(self._selected(v, c) for v in use.arguments)
            cts = tuple(self._scaled(v, c) for v in use.cts)
            return vjp_of_use(self.b, replace(use, arguments=arguments, cts=cts))

    def _selected(self, value: Value, c: Value) -> Value:
        kind = self.kinds[value]
        if isinstance(kind, PublicKind):
            return value
        assert isinstance(kind, ExampleKind)
        return self.b(SelectRows(value, c, kind.axis, kind.pre, kind.post), f"{value.hint}_live")

    def _scaled(self, value: Value, c: Value) -> Value:
        kind = self.kinds[value]
        assert isinstance(kind, ExampleKind)
        return self.b(ScaleRows(value, c, kind.axis, kind.pre, kind.post), f"{value.hint}_c")

    # Materialised ---------------------------------------------------------------------------------------------
    def _example_grad(self, contribution: Value) -> Value:
        """``[N, *shape]``: by the op's own rule, or by its vjp mapped over single examples."""
        b, use = self.b, contribution.op
        if not isinstance(use, Use):
            assert isinstance(use, Add)
            return b.add(self._example_grad(use.x), self._example_grad(use.y))
        with b.at(use.loc):
            kinds = [self.kinds[v] for v in use.arguments]
            if self._on_examples(use):
                if use.live == (0,):
                    grad = _template(use).example_grad(b, use.operand, use.cts[0], kinds)
                    if grad is not None:
                        return grad
                cts, axes = use.cts, [self._map_axis(use, value) for value in use.cts]
            else:
                # Rows [N, ...] become slices [1, ...]; the body drops the leading one.
                cts, axes = tuple(self._example_grad(value) for value in use.cts), [0] * len(use.cts)
            values = (*use.arguments, *cts)
            axes = [*(self._map_axis(use, value) for value in use.arguments), *axes]

            def single(inner: OpBuilder, *slices: Value) -> tuple[Value]:
                return _single(inner, use, slices)

            (grad,) = b.map(values, axes, Sym(BATCH), single)
            return grad

    def _on_examples(self, use: Use) -> bool:
        """Whether the cotangents are rows of examples; False where they are contributions themselves."""
        if any(is_contribution(ct) for ct in use.cts):
            return False
        for ct in use.cts:
            if not isinstance(self.kinds[ct], ExampleKind):
                raise PrivacyError(
                    f"the gradient that reaches parameter {self.request.param!r} at "
                    f"`{use.loc.layer or use.of.name}` is not kept apart by examples",
                    where=use.loc.place or None,
                    hint="check that no op between this layer and the loss mixes examples",
                )
        return True

    def _map_axis(self, use: Use, value: Value) -> int:
        kind = self.kinds[value]
        if isinstance(kind, PublicKind):
            return -1
        if isinstance(kind, ExampleKind) and kind.pre == 1:
            return kind.axis
        raise PrivacyError(
            f"`{use.loc.layer or use.of.name}` reads parameter {self.request.param!r} together with a value whose "
            f"examples are interleaved ({kind})",
            where=use.loc.place or None,
            hint="reshape it so that the batch is the slowest part of its axis",
        )


def is_contribution(value: Value) -> bool:
    """Whether ``value`` is an unexpanded contribution to a parameter, or a sum of such."""
    op = value.op
    return isinstance(op, Use) or (isinstance(op, Add) and is_contribution(op.x) and is_contribution(op.y))


def _template(use: Use) -> Op:
    """The op that ``use`` stands for, on the operands it reads."""
    return cast(Op, use.of.clone(dict(zip(use.of.operands, use.arguments, strict=True))))


def _single(b: OpBuilder, use: Use, slices: tuple[Value, ...]) -> tuple[Value]:
    """The parameter's gradient for one example, from slices of the op's operands and cotangents."""
    count = len(use.arguments)
    arguments, cts_in = slices[:count], slices[count:]
    op = bind_op(use.of, {BATCH: 1}, dict(zip(use.of.operands, arguments, strict=True)))
    # Re-doing the forward op on the slice gives the vjp its results; what is not read is removed as dead.
    b.emit(op)
    cts: list[Value | None] = [None] * len(op.results)
    for index, ct in zip(use.live, cts_in, strict=True):
        # A row of per-example gradients still has its leading one.
        kind = op.results[index].tensor
        cts[index] = ct if ct.type == kind else b.reshape(ct, kind.shape)
    needs = [index == use.operand for index in range(count)]
    grad = cast(Op, op).vjp(b, cts, needs)[use.operand]
    return (grad if grad is not None else b.zeros_like(arguments[use.operand]),)
