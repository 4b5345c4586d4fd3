"""The gradient of one parameter, example by example: its squared norms, and its clipped sum.

Sources: Goodfellow (2015) for the norms of products; Bu et al. (ICML'23) for book-keeping.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from ..errors import PrivacyError
from ..ir.bind import bind_op
from ..ir.core import Value
from ..ir.types import DType, Sym, dim_div, numel
from ..ops.base import Op
from ..ops.construct import OpBuilder
from ..ops.control import Map
from ..ops.dp import ClippedSum, RowNormSq, ScaleRows, SelectRows
from ..ops.elementwise import Add
from ..ops.example_norm import GramNormSq, NormSq, OuterNormSq
from ..ops.factors import Factors
from ..ops.grad import Private, Use
from ..ops.kinds import ExampleKind, Kind, PublicKind
from ..ops.linear import MatMul
from ..ops.shape import Reshape, Transpose
from .expand_grad import vjp_of_use
from .norm_cost import Cost, described, factor_costs, lookup_cost, order, stored_cost, sum_cost
from .separability import BATCH


@dataclass
class _Plan:
    """One way to take the norms, written out: ``term`` is f64[N], ``gradients`` what it stored, if anything."""

    cost: Cost
    b: OpBuilder
    term: Value
    gradients: Value | None = None


class Gradient:
    """One parameter: how its norm and its clipped sum are written.

    A contribution is a ``grad.use`` on examples; or, for a parameter that public ops changed before examples
    met it (a reshaped bias), the use of such an op whose cotangent is a contribution; or a sum of these.
    ``preferred`` names the rule to take where there is a choice, whatever it costs.
    """

    def __init__(self, b: OpBuilder, kinds: dict[Value, Kind], request: Private, preferred: str = "") -> None:
        self.b, self.kinds = b, kinds
        self.request, self.preferred = request, preferred
        self.materialised: Value | None = None

    def norm_sq(self) -> Value:
        """``f64[N]``: squared norms of this parameter's per-example gradients, in the way that costs least."""
        plans = sorted(self._plans(), key=lambda plan: (plan.cost.rule != self.preferred, *order(plan.cost)))
        best, cost = plans[0], plans[0].cost
        self.b.ops.extend(best.b.ops)
        self.materialised = best.gradients
        others = tuple(described(plan.cost) for plan in plans[1:])
        term = NormSq(best.term, self.request.param, cost.rule, cost.flops, cost.bytes, others)
        with self.b.at(leaves(self.request.uses[0])[0].loc):
            return self.b(term, f"n2_{self.request.param}")

    def materialise(self) -> tuple[Value, Value]:
        """The per-example gradients ``[N, *shape]``, and their squared norms ``f64[N]``."""
        plan = self._stored(None)
        assert plan.gradients is not None
        self.b.ops.extend(plan.b.ops)
        self.materialised = plan.gradients
        cost = plan.cost
        with self.b.at(leaves(self.request.uses[0])[0].loc):
            term = NormSq(plan.term, self.request.param, cost.rule, cost.flops, cost.bytes)
            return plan.gradients, self.b(term, f"n2_{self.request.param}")

    def clipped_sum(self, c: Value) -> Value:
        """``sum_i c_i g_i``."""
        if self.materialised is not None:
            return self.b(ClippedSum(self.materialised, c))
        total = self._sum_by_rule(self.request.uses[0], c)
        for use in self.request.uses[1:]:
            total = self.b.add(total, self._sum_by_rule(use, c))
        return total

    def _plans(self) -> list[_Plan]:
        """All ways there are.  A parameter read several times has one gradient: contributions add up before the
        norm is taken, in the Gram matrix or in the materialised gradients."""
        plans: list[_Plan] = []
        b = OpBuilder()
        rule = self._norm_by_rule(b, self.request.uses[0]) if len(self.request.uses) == 1 else None
        blocks = self._factors(OpBuilder())
        costs = factor_costs(blocks) if blocks else {}
        if rule is not None:
            if not blocks:
                plans.append(_Plan(sum_cost(self._cotangents()), b, rule))
            elif "outer" in costs:
                plans.append(_Plan(costs.pop("outer"), b, rule))
            elif not blocks[0].dense:
                plans.append(_Plan(lookup_cost(blocks[0]), b, rule))
        plans.extend(self._by_factors(cost) for name, cost in costs.items() if name != "materialised")
        if not blocks or "materialised" in costs:
            plans.append(self._stored(costs.get("materialised")))
        return plans

    def _cotangents(self) -> int:
        """Elements, per example, of the cotangents that reach the parameter."""
        total = 0
        for contribution in self.request.uses:
            for use in leaves(contribution):
                size = sum(_per_example(ct) for ct in use.cts)
                total += size
        return total

    # Forms of sums of outer products --------------------------------------------------------------------------
    def _factors(self, b: OpBuilder) -> list[Factors]:
        """The blocks of the parameter's gradient, one per read; empty where it is no sum of outer products."""
        blocks: list[Factors] = []
        for contribution in self.request.uses:
            found = self._factors_of(b, contribution)
            if found is None:
                return []
            blocks.extend(found)
        return blocks if len({block.matrices for block in blocks}) == 1 else []

    def _factors_of(self, b: OpBuilder, contribution: Value) -> list[Factors] | None:
        use = contribution.op
        if isinstance(use, Add):
            left, right = self._factors_of(b, use.x), self._factors_of(b, use.y)
            return None if left is None or right is None else left + right
        assert isinstance(use, Use)
        if use.live != (0,):
            return None
        with b.at(use.loc):
            if self._on_examples(use):
                kinds = [self.kinds[v] for v in use.arguments]
                found = _template(use).example_factors(b, use.operand, use.cts[0], kinds)
                return None if found is None else [found]
        if isinstance(use.of, Reshape):  # flattened by rows, the gradient stays the same
            return self._factors_of(b, use.cts[0])
        if not isinstance(use.of, Transpose) or use.of.perm != (1, 0):
            return None
        inner = self._factors_of(b, use.cts[0])
        if inner is None or not all(block.dense and block.groups == 1 for block in inner):
            return None
        return [Factors(block.right, block.left, block.columns) for block in inner]

    def _by_factors(self, cost: Cost) -> _Plan:
        b = OpBuilder()
        blocks = self._factors(b)
        lefts, rights = tuple(block.left for block in blocks), tuple(block.right for block in blocks)
        with b.at(leaves(self.request.uses[0])[0].loc):
            if cost.rule == "outer":
                term = b.mul(_square_sum(b, lefts[0]), _square_sum(b, rights[0]))
            elif cost.rule == "gram":
                padding = tuple(block.padding for block in blocks)
                term = b(GramNormSq(lefts, rights, padding if any(k >= 0 for k in padding) else ()))
            else:
                term = b(OuterNormSq(lefts, rights))
            return _Plan(cost, b, _group_sum(b, term, blocks[0].groups))

    # By the op's norm rule: no per-example gradient exists ----------------------------------------------------
    def _norm_by_rule(self, b: OpBuilder, contribution: Value) -> Value | None:
        use = contribution.op
        if not isinstance(use, Use) or use.live != (0,):
            return None
        with b.at(use.loc):
            if self._on_examples(use):
                kinds = [self.kinds[v] for v in use.arguments]
                return _template(use).example_norm_sq(b, use.operand, use.cts[0], kinds)
        # Moving elements around keeps the norm.
        return self._norm_by_rule(b, use.cts[0]) if isinstance(use.of, Reshape | Transpose) else None

    def _sum_by_rule(self, contribution: Value, c: Value) -> Value:
        use = contribution.op
        if isinstance(use, Add):
            return self.b.add(self._sum_by_rule(use.x, c), self._sum_by_rule(use.y, c))
        assert isinstance(use, Use)
        with self.b.at(use.loc):
            if not self._on_examples(use):
                return vjp_of_use(self.b, replace(use, cts=(self._sum_by_rule(use.cts[0], c),)))
            if isinstance(use.of, MatMul) and not _one_product(use.of, use.operand):
                return self._sum_by_factors(use, c)
            arguments = tuple(self._selected(v, c) for v in use.arguments)
            cts = tuple(self._scaled(v, c) for v in use.cts)
            return vjp_of_use(self.b, replace(use, arguments=arguments, cts=cts))

    def _sum_by_factors(self, use: Use, c: Value) -> Value:
        """One product of all tokens of all examples, where the op's vjp would make one for every example."""
        b = self.b
        kinds = [self.kinds[v] for v in use.arguments]
        block = _template(use).example_factors(b, use.operand, use.cts[0], kinds)
        assert block is not None, "a norm without gradients comes from factors here"
        selected = b(SelectRows(block.left, c, 0, 1, block.groups))
        scaled = b(ScaleRows(block.right, c, 0, 1, block.groups))
        left, right = (b.reshape(v, (numel(v.tensor.shape[:2]), v.tensor.shape[2])) for v in (selected, scaled))
        return b.reshape(b.matmul(left, right, True, False), use.arguments[use.operand].tensor.shape)

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
    def _stored(self, cost: Cost | None) -> _Plan:
        b = OpBuilder()
        total = self._example_grad(b, self.request.uses[0])
        for use in self.request.uses[1:]:
            total = b.add(total, self._example_grad(b, use))
        if total.op in b.ops:
            total.hint = f"gi_{self.request.param}"
        mapped = any(isinstance(op, Map) for op in b.ops)
        if cost is None or mapped:
            size = total.tensor.numel
            assert isinstance(size, Sym)
            cost = stored_cost(self._cotangents(), size.scale, mapped)
        return _Plan(cost, b, b(RowNormSq(total)), total)

    def _example_grad(self, b: OpBuilder, contribution: Value) -> Value:
        """``[N, *shape]``: by the op's own rule, by its factors, or by its vjp mapped over single examples."""
        use = contribution.op
        if not isinstance(use, Use):
            assert isinstance(use, Add)
            return b.add(self._example_grad(b, use.x), self._example_grad(b, use.y))
        with b.at(use.loc):
            if self._on_examples(use):
                grad = self._example_grad_by_rule(b, use)
                if grad is not None:
                    return grad
                cts, axes = use.cts, [self._map_axis(use, value) for value in use.cts]
            else:
                # Rows [N, ...] become slices [1, ...]; the body drops the leading one.
                cts, axes = tuple(self._example_grad(b, value) for value in use.cts), [0] * len(use.cts)
                grad = self._through_public(b, use, cts)
                if grad is not None:
                    return grad
            values = (*use.arguments, *cts)
            axes = [*(self._map_axis(use, value) for value in use.arguments), *axes]

            def single(inner: OpBuilder, *slices: Value) -> tuple[Value]:
                return _single(inner, use, slices)

            (grad,) = b.map(values, axes, Sym(BATCH), single)
            return grad

    def _through_public(self, b: OpBuilder, use: Use, cts: tuple[Value, ...]) -> Value | None:
        """``[N, *shape]`` through an op on parameters alone, which does all examples at once: as if each had its own
        copy of the operand.  None where the op has no such form."""
        if use.live != (0,):
            return None
        own = use.arguments[use.operand]
        copies = b.broadcast(own, (cts[0].tensor.shape[0], *own.tensor.shape))
        over = [number == use.operand for number in range(len(use.arguments))]
        operands = [copies if copied else value for value, copied in zip(use.arguments, over, strict=True)]
        op = _template(use).lifted(b, operands, over)
        if op is None:
            return None
        b.emit(op)
        grad = op.vjp(b, cts, over)[use.operand]
        # The rule may have put axes of extent one into the copies, to line them up with the other operands.
        return None if grad is None else b.reshape(grad, copies.tensor.shape)

    def _example_grad_by_rule(self, b: OpBuilder, use: Use) -> Value | None:
        if use.live != (0,):
            return None
        kinds, template = [self.kinds[v] for v in use.arguments], _template(use)
        grad = template.example_grad(b, use.operand, use.cts[0], kinds)
        if grad is not None:
            return grad
        block = template.example_factors(b, use.operand, use.cts[0], kinds)
        if block is None or not block.dense:
            return None
        matrices = b.matmul(block.left, block.right, True, False)
        batch = dim_div(matrices.tensor.shape[0], block.groups)
        assert batch is not None
        return b.reshape(matrices, (batch, *use.arguments[use.operand].tensor.shape))

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


def _one_product(op: MatMul, operand: int) -> bool:
    """Whether the vjp of a parameter is one product over the batch, not one for every index of leading axes."""
    return op.result.tensor.rank == 2 or (operand == 1 and op.w.tensor.rank == 2 and not op.ta)


def leaves(contribution: Value) -> list[Use]:
    """The uses on examples that a contribution is made of."""
    op = contribution.op
    if isinstance(op, Add):
        return [*leaves(op.x), *leaves(op.y)]
    assert isinstance(op, Use)
    inner = [ct for ct in op.cts if is_contribution(ct)]
    return [use for ct in inner for use in leaves(ct)] if inner else [op]


def _per_example(value: Value) -> int:
    """Elements of one example's part of ``value``."""
    size = value.tensor.numel
    return size.scale if isinstance(size, Sym) else size


def _square_sum(b: OpBuilder, x: Value) -> Value:
    """f64[N]: the squared norms of ``x``, [N, 1, d]."""
    first, _, last = x.tensor.shape
    return b.reduce_sum(b.square(b.cast(b.reshape(x, (first, last)), DType.F64)), (1,))


def _group_sum(b: OpBuilder, term: Value, groups: int) -> Value:
    """``f64[groups * N]`` added up to ``f64[N]``."""
    batch = dim_div(term.tensor.shape[0], groups)
    assert batch is not None
    return term if groups == 1 else b.reduce_sum(b.reshape(term, (batch, groups)), (1,))


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
