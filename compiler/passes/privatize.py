"""privatize: contributions to parameters become clipped sums, and the sums become noisy means.

For every example i the squared norms of its gradient, one per parameter, give the clip factor
``c_i = min(1, C / |g_i|)`` over the whole concatenated gradient.  Then, per parameter, either

* the rows of the cotangent are scaled by ``c`` and one weight-gradient product gives ``sum_i c_i g_i``
  (book-keeping: no per-example gradient exists), where the op has an ``example_norm_sq`` rule and the
  parameter is read once; or
* the per-example gradients are materialised, and both norm and clipped sum read them.

Sources: Abadi et al. (CCS'16), Algorithm 1; Goodfellow (2015) for the norms of products; Bu et al. (ICML'23) for
book-keeping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from ..errors import PrivacyError
from ..ir.bind import bind_op
from ..ir.core import Function, Module, OpBase, Param, PrivacyConfig, Value
from ..ir.stage import Stage
from ..ir.types import DType, Sym, TensorType
from ..ops.base import Op
from ..ops.construct import OpBuilder
from ..ops.dp import Bits, ClipFactor, ClippedSum, NoisyMean, RowNormSq, ScaleRows, SelectRows
from ..ops.elementwise import Add
from ..ops.grad import Private, Use
from ..ops.kinds import ExampleKind, Kind, PublicKind
from ..ops.shape import Reshape, Transpose
from .base import Pass
from .expand_grad import expand_uses, vjp_of_use
from .rewrite import mapped_outputs
from .separability import BATCH, extend, param_kinds


@dataclass(frozen=True)
class Privatize(Pass):
    """Write DP-SGD's gradient for every ``grad.private``; expand contributions of data-free terms."""

    name: ClassVar[str] = "privatize"
    requires: ClassVar[Stage] = Stage.GRAD
    ensures: ClassVar[Stage] = Stage.PRIVATE

    def run(self, module: Module) -> Module:
        privacy = module.privacy
        if privacy is None:
            raise PrivacyError("the module states no privacy constants", hint="a plain module goes through expand-grad")
        if privacy.mechanism != "gaussian" or privacy.clipping != "flat":
            raise PrivacyError(
                f"mechanism {privacy.mechanism!r} with clipping {privacy.clipping!r} is not supported yet",
                hint="use mechanism='gaussian' and clipping='flat'",
            )
        functions: list[Function] = []
        for function in module.functions:
            if any(isinstance(op, Private) for op in function.ops):
                function = _Privatization(module, privacy, function).run()
            else:
                b, mapping = expand_uses(function.ops)
                function = replace(function, ops=tuple(b.ops), outputs=mapped_outputs(function, mapping))
            functions.append(function)
        return replace(module, functions=tuple(functions), stage=Stage.PRIVATE)


class _Privatization:
    """The rewriting of one function."""

    def __init__(self, module: Module, privacy: PrivacyConfig, function: Function) -> None:
        self.privacy = privacy
        self.key = Value(TensorType(DType.U32, (8,)), "key")
        self.draw = Value(TensorType(DType.U64, ()), "draw")
        params = (*function.params, Param("key", self.key, "key"), Param("draw", self.draw, "draw"))
        self.function = replace(function, params=params)
        mask = function.param("mask")
        assert mask is not None, "separate adds the mask"
        self.mask = mask
        self.kinds: dict[Value, Kind] = param_kinds(module, function)
        extend(self.kinds, module, function.ops)
        self.b = OpBuilder()
        # The stream of a tensor's noise is its index among all trainable parameters, sorted by name.
        trainable = sorted(declaration.name for declaration in module.state if declaration.trainable)
        self.stream = {name: index for index, name in enumerate(trainable)}

    def run(self) -> Function:
        requests = [op for op in self.function.ops if isinstance(op, Private)]
        replaced = _contributions(requests)
        mapping: dict[Value, Value] = {}
        for op in self.function.ops:
            current = op.clone(mapping) if any(v in mapping for v in op.operands) else op
            if isinstance(op, Private):
                if op is requests[0]:  # all uses lie before the first request: the sweep is complete
                    mapping.update(self._noisy_means(requests))
                continue
            if op in replaced:
                continue
            if isinstance(current, Use):
                mapping[op.result] = vjp_of_use(self.b, current)
                continue
            self.b.ops.append(current)
            if current is not op:
                mapping.update(zip(op.results, current.results, strict=True))
        return replace(self.function, ops=tuple(self.b.ops), outputs=mapped_outputs(self.function, mapping))

    def _noisy_means(self, requests: list[Private]) -> dict[Value, Value]:
        """Norms of all parameters, one clip factor, and per parameter its clipped sum and noise."""
        b, privacy = self.b, self.privacy
        gradients = [_Gradient(self, request) for request in requests]
        terms = tuple(gradient.norm_sq() for gradient in gradients)
        c = b(ClipFactor(terms, self.mask, privacy.clip, tuple(request.param for request in requests)), "c")
        means: dict[Value, Value] = {}
        for request, gradient in zip(requests, gradients, strict=True):
            with b.at(request.loc):
                total = gradient.clipped_sum(c)
                total.hint = f"s_{request.param}"
                count = total.tensor.numel
                if not isinstance(count, int):
                    raise PrivacyError(f"parameter {request.param!r} of type {total.type} has no fixed size")
                bits = b(Bits(self.key, self.draw, self.stream[request.param], count), "z")
                means[request.result] = b(
                    NoisyMean(total, c, bits, privacy.sigma, privacy.clip, privacy.lot, request.param),
                    f"g_{request.param}",
                )
        return means


class _Gradient:
    """One parameter: how its norm and its clipped sum are written.

    A contribution is a ``grad.use`` on examples; or, for a parameter that public ops changed before examples
    met it (a reshaped bias), the use of such an op whose cotangent is a contribution; or a sum of these.
    """

    def __init__(self, work: _Privatization, request: Private) -> None:
        self.b, self.kinds = work.b, work.kinds
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
        if any(_is_contribution(ct) for ct in use.cts):
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


def _is_contribution(value: Value) -> bool:
    op = value.op
    return isinstance(op, Use) or (isinstance(op, Add) and _is_contribution(op.x) and _is_contribution(op.y))


def _contributions(requests: Sequence[Private]) -> set[OpBase]:
    """The ops that ``grad.private`` stands on: uses, and sums of uses."""
    found: set[OpBase] = set()
    pending = [value for request in requests for value in request.uses]
    while pending:
        value = pending.pop()
        if _is_contribution(value) and value.op is not None and value.op not in found:
            found.add(value.op)
            pending.extend(value.op.cts if isinstance(value.op, Use) else value.op.operands)
    return found


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
