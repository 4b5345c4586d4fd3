"""separate: the loss of a private program is proved to be a sum over examples and rewritten as one term each.

Before                                          After
    %loss = reduce.mean(%l) : f32[]                 %f = reduce.mean(%l) {axes=(1,)} : f32[N]
    %g = grad.backward([%loss], [%w]) {private}     %g = grad.backward([%f], [%w]) {private}

A loss ``mean`` over N is (1/N) sum f_i, a ``sum`` is sum f_i; both train with g_i = grad f_i, and 1/N is
replaced by 1/L (privacy documentation §2).  Terms free of data are differentiated apart and added after the noise.
Padded rows of a lot are masked out of everything that is fetched.  What is drawn for every example (dropout) is drawn
for its index in the lot, ``%row`` and on, so that it does not depend on how the lot is divided into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..errors import PrivacyError
from ..ir.core import Function, Module, OpBase, Output, Param, Value
from ..ir.printer import place_text
from ..ir.stage import Stage
from ..ir.types import DType, Sym, TensorType
from ..ops.construct import OpBuilder
from ..ops.drawing import Drawing
from ..ops.grad import Backward
from ..ops.kinds import ONE_SUM, PUBLIC, ExampleKind, Kind, MixedKind, TotalKind
from ..ops.optim_base import Update
from ..ops.region import kinds_of
from ..ops.state import Write
from .base import Pass
from .per_example import per_example_loss, split
from .separability import BATCH, explain, extend, param_kinds

_KEEP_IT = "only privatised gradients may change what outlives a step; fetch the value and keep it yourself"


@dataclass(frozen=True)
class Separate(Pass):
    """Prove separability, rewrite the loss per example, mask what is fetched, attach the proof."""

    name: ClassVar[str] = "separate"
    requires: ClassVar[Stage] = Stage.CORE
    ensures: ClassVar[Stage] = Stage.CORE

    def run(self, module: Module) -> Module:
        if module.privacy is None:
            return module
        functions: list[Function] = []
        proof: tuple[str, ...] = ()
        for function in module.functions:
            if any(isinstance(op, Backward) and op.private for op in function.ops):
                work = _Separation(module, function)
                function, proof = work.run(), tuple(work.proof)
            functions.append(function)
        return replace(module, functions=tuple(functions), proof=proof)


class _Separation:
    """The rewriting of one function."""

    def __init__(self, module: Module, function: Function) -> None:
        self.module = module
        mask = Value(TensorType(DType.BOOL, (Sym(BATCH),)), "mask")
        self.mask = mask
        self.function = replace(function, params=(*function.params, Param("mask", mask, "mask")))
        self.kinds: dict[Value, Kind] = param_kinds(module, self.function)
        self.mapping: dict[Value, Value] = {}
        self.b = OpBuilder()
        self.proof: list[str] = []

    def run(self) -> Function:
        writes = [op for op in self.function.ops if isinstance(op, Write)]
        for op in self.function.ops:
            if not isinstance(op, Write):
                self._op(op)
        outputs = tuple(self._output(out) for out in self.function.outputs)
        for op in writes:
            value = self._written(op, self.mapping.get(op.value, op.value))
            self.b.emit(op.clone({op.value: value}))
        return replace(self.function, ops=tuple(self.b.ops), outputs=outputs)

    def _op(self, op: OpBase) -> None:
        current = op.clone(self.mapping) if any(v in self.mapping for v in op.operands) else op
        if isinstance(current, Backward) and current.private:
            for old, new in zip(op.results, self._backward(current), strict=True):
                self.mapping[old] = new
                new.hint = new.hint or old.hint
                self.kinds[new] = PUBLIC  # privatised: what it feeds is post-processing
            return
        found = kinds_of(current, [self.kinds[value] for value in current.operands])
        if isinstance(current, Drawing) and isinstance(found[0], ExampleKind) and current.key is not None:
            place = found[0]
            current = current.clone({}, row=self._row(), axis=place.axis, pre=place.pre, post=place.post)
        self.b.ops.append(current)
        extend(self.kinds, self.module, (current,))
        if isinstance(current, Update):
            self._public_rate(current)
        if current is not op:
            self.mapping.update(zip(op.results, current.results, strict=True))

    def _row(self) -> Value:
        """The parameter that says where in the lot the batch begins."""
        row = self.function.param("row")
        if row is None:
            row = Value(TensorType(DType.I64, ()), "row")
            self.function = replace(self.function, params=(*self.function.params, Param("row", row, "row")))
            self.kinds[row] = PUBLIC
        return row

    def _public_rate(self, update: Update) -> None:
        """The learning rate is public, as every number is that an update reads beside its gradient."""
        for name in update.scalars:
            value = getattr(update, name)
            if self.kinds[value] != PUBLIC:
                raise self._rate_refusal(value, update)

    def _rate_refusal(self, value: Value, use: OpBase) -> PrivacyError:
        # A factor of the parameter's own is multiplied in at the optimizer's line; the user's lies before.
        while value.op is not None and value.op.loc.place == use.loc.place:
            value = next(v for v in value.op.operands if self.kinds[v] != PUBLIC)
        source = value.op.loc if value.op is not None else use.loc
        what = f"`{source.layer}`" if value.op is not None else f"feed {value.hint!r}"
        return PrivacyError(
            f"the learning rate depends on the data, through {what}: every update would tell of it, whatever "
            "noise the gradient has",
            where=source.place or use.loc.place or None,
            hint="schedules by step are public: use fluid.layers.*_decay, or set a value between steps by hand "
            "from public information",
        )

    def _backward(self, request: Backward) -> Sequence[Value]:
        """Two requests for one: the private one on per-example losses, and one on the term free of data."""
        if self.proof:
            raise PrivacyError(
                "the program has two private backward passes, and clipping each alone bounds neither",
                where=request.loc.place or None,
                hint="add the losses and minimise the sum",
            )
        (loss,) = request.targets
        kind = self.kinds[loss]
        if isinstance(kind, MixedKind):
            raise explain(kind, "the loss")
        if not isinstance(kind, TotalKind) or request.seeds:
            what = "one value per example" if isinstance(kind, ExampleKind) else "independent of the data"
            raise PrivacyError(
                f"the loss of a private program is a sum or mean over the batch; this one is {what}",
                where=request.loc.place or None,
                hint="minimise layers.mean(...) of the per-example losses",
            )
        b = self.b
        with b.at(request.loc):
            start = len(b.ops)
            terms = per_example_loss(b, loss, self.kinds, set(request.stops))
            extend(self.kinds, self.module, b.ops[start:])
            terms.per_example.hint = "example_loss"
            self._prove(terms.per_example)
            private = b.emit(replace(request, targets=(terms.per_example,)))
            if terms.free is None:
                return private
            free = b.emit(replace(request, targets=(terms.free,), private=False))
            start = len(b.ops)
            sums = [b.add(x, y) for x, y in zip(private, free, strict=True)]
        self.kinds.update((value, PUBLIC) for value in (*private, *free, *sums))
        return sums

    def _prove(self, loss: Value) -> None:
        """The proof: what every op between the feeds and the per-example loss does to kinds, in program order."""
        needed = {loss}
        steps: list[str] = []
        for op in reversed(self.b.ops):
            if any(v in needed for v in op.results):
                needed.update(op.operands)
                operands, results = (", ".join(str(self.kinds[v]) for v in vs) for vs in (op.operands, op.results))
                where = f" at {place_text(op.loc)}" if op.loc else ""
                steps.append(f"{op.name}({operands}) -> {results}{where}")
        params = [p for p in self.function.params if p.role == "feed" and p.value in needed]
        feeds = [f"feed {p.name}: {self.kinds[p.value]}" for p in params]
        self.proof = [*feeds, *reversed(steps), f"loss: {self.kinds[loss]}"]

    def _output(self, out: Output) -> Output:
        """A fetch with padded rows left out."""
        value = self.mapping.get(out.value, out.value)
        kind = self.kinds[value]
        if isinstance(kind, MixedKind):
            refusal = explain(kind, f"fetch {out.name!r}")
            refusal.hint = "a lot is padded to a fixed size, which would enter this value; fetch per-example values"
            raise refusal
        if isinstance(kind, ExampleKind):
            if kind != ExampleKind(0):
                raise PrivacyError(
                    f"fetch {out.name!r} has its examples on axis {kind.axis}; rows of a padded lot are cut on axis 0",
                    where=value.op.loc.place if value.op is not None else None,
                    hint="transpose or reshape it so that the batch comes first",
                )
            return replace(out, value=value, combine="rows")
        if isinstance(kind, TotalKind):
            return replace(out, value=self._masked_total(value, kind), combine=kind.form)
        return replace(out, value=value)

    def _masked_total(self, value: Value, kind: TotalKind) -> Value:
        """The total over live rows only; a mean divides by their number (1 for an empty lot)."""
        b = self.b
        dtype = value.type.dtype
        with b.at(value.op.loc if value.op is not None else self.function.ops[0].loc):
            terms = split(b, value, self.kinds)
            rows = terms.per_example
            live = b.reshape(self.mask, (Sym(BATCH), *(1,) * (rows.tensor.rank - 1)))
            total = b.reduce_sum(b.where(live, rows, b.fill((), dtype, 0.0)), (0,))
            if kind.form == "mean":
                count = b.reduce_sum(b.cast(self.mask, dtype), (0,))
                total = b.div(total, b.maximum(count, b.fill((), dtype, 1.0)))
            free = terms.free
            if free is not None and kind.form == "sum":
                # The sums of a lot's batches are added up; what is free of data counts once.
                row = self._row()
                free = b.where(b.equal(row, b.fill((), row.type.dtype, 0)), free, b.fill((), dtype, 0.0))
            result = total if free is None else b.add(total, free)
        result.hint = value.hint
        return result

    def _written(self, op: Write, value: Value) -> Value:
        """What may be written: public values to the model, sums over live rows to metric counters too."""
        kind = self.kinds[value]
        declaration = self.module.declaration(op.state)
        if kind == PUBLIC:
            return value
        if declaration.kind == "diagnostic" and kind == TotalKind("sum"):
            return self._masked_total(value, TotalKind("sum"))
        if declaration.role == "learning_rate":
            raise self._rate_refusal(value, op)
        if isinstance(kind, MixedKind):
            refusal = explain(kind, f"the value written to {op.state!r}")
            if kind.remedy.startswith(ONE_SUM):
                refusal.hint = _KEEP_IT
            raise refusal
        raise PrivacyError(
            f"{op.state!r} is written a value that depends on the data ({kind}) and is not privatised",
            where=op.loc.place or (value.op.loc.place if value.op is not None else None),
            hint=_KEEP_IT,
        )
