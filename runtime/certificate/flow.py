"""How examples flow through one function after the backward pass: docs/privacy.md, section 3b, from the text.

    rows --dp.scale_rows--> rows scaled by %c --sum over the batch--> clipped<%c> --noise--> public

Labels that the text states are compared with what is derived here, and never trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .derive import RULES, kinds_of
from .kinds import PUBLIC, Clipped, Context, Kind, Mixed, Public, Rows, agrees, described
from .norms import Norms, is_rows
from .promise import COUNT_BOUND, LOT, Promise
from .report import Contradiction
from .text import ROWS, Function, Op, Param, State, Text

_MOVES = frozenset({"shape.reshape", "shape.transpose"})
_FACTORS = frozenset({"dp.clip_factor"})
_NOISE = frozenset({"dp.noisy_mean", "dp.add_noise"})
_FILTER_GRAD = "conv.conv2d_filter_grad"


@dataclass
class Group:
    """A clip factor with what is clipped by it."""

    factor: Op
    params: tuple[str, ...]
    terms: tuple[str, ...]
    sums: dict[str, tuple[str, Op]] = field(default_factory=dict[str, "tuple[str, Op]"])


class Flow:
    """The analysis of one function. `check` raises Contradiction; the counts are for the report."""

    def __init__(self, text: Text, function: Function, promise: Promise) -> None:
        self.text, self.function, self.promise = text, function, promise
        self.kinds: dict[str, Kind] = {}
        self.definitions: dict[str, Op] = {}
        self.readers: dict[str, int] = {}
        self.groups: dict[str, Group] = {}
        self.streams: dict[tuple[int, int], Op] = {}
        self.counts: dict[str, Op] = {}
        self.noised: dict[str, Op] = {}
        self.written: set[str] = set()
        self.added: set[str] = set()
        mask = function.param("mask")
        shape = function.types[mask.value].shape if mask is not None else None
        self.rows = shape[0] if shape else ROWS
        self.context = Context(function.types, self.rows)
        self.handlers: Mapping[str, Callable[[Op, Sequence[Kind]], Kind]] = {
            "dp.scale_rows": self._scale,
            "dp.select_rows": self._select,
            "dp.clip_factor": self._clip_factor,
            "dp.clipped_sum": self._clipped_sum,
            "dp.count_below": self._count_below,
            "dp.bits": self._bits,
            "dp.noisy_mean": self._noisy_mean,
            "dp.add_noise": self._add_noise,
            "dp.accumulate": self._accumulate,
            "state.read": self._read,
        }

    @property
    def clip_groups(self) -> int:
        """Sets of parameters whose gradients have one bound together."""
        return len(self.groups)

    def check(self) -> None:
        """Raises Contradiction for the first op that breaks a rule."""
        if self.rows == 1:
            raise self.refusal("batch", "its physical batch is one row")
        for param in self.function.params:
            self.kinds[param.value] = self._param(param)
        for op in self.function.ops:
            self._op(op)
        for output in self.function.outputs:
            kind = self._kind(output.value, None)
            if isinstance(kind, Clipped) or (isinstance(kind, Rows) and kind.scaled):
                raise self.refusal("flow", f"fetch {output.name!r} is {kind}, without noise")
            if output.value in self._secrets():
                raise self.refusal("3b.iv", f"fetch {output.name!r} shows the key, phase or keystream of the noise")
        self._groups()

    def refusal(self, rule: str, what: str, op: Op | None = None) -> Contradiction:
        """A contradiction at ``op``, or in the function as a whole."""
        member, line = f"ir/{self.text.stage}.ir", op.line if op is not None else self.function.line
        shown = self.text.lines[line - 1].strip() if 0 < line <= len(self.text.lines) else ""
        return Contradiction(
            rule, f"in function {self.function.name}: {what}", member, line, shown, op.place if op is not None else ""
        )

    # Walking ----------------------------------------------------------------------------------------------------
    def _kind(self, name: str, op: Op | None) -> Kind:
        if name not in self.kinds:
            raise self.refusal("text", f"{name} is read before anything defines it", op)
        return self.kinds[name]

    def _op(self, op: Op) -> None:
        kinds = [self._kind(name, op) for name in op.operands]
        for name in op.operands:
            self.readers[name] = self.readers.get(name, 0) + 1
        if op.name == "state.write":
            self._write(op, kinds[0])
            return
        handler = self.handlers.get(op.name)
        try:
            found = (handler(op, kinds),) if handler is not None else self._plain(op, kinds)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise self.refusal("text", f"{op.name} is not as it should be: {error}", op) from None
        for name, kind, label in zip(op.results, found, op.labels, strict=True):
            self.kinds[name] = kind
            self.definitions[name] = op
            if label is not None and not agrees(label.word, label.factor, kind):
                stated = f"{label.word}<{label.factor}>" if label.factor else label.word
                raise self.refusal("proof", f"the text says {stated} of {name}, which is {described(kind)}", op)

    def _secrets(self) -> set[str]:
        keys = {p.value for p in self.function.params if p.role in ("key", "noise", "phase")}
        return keys | {name for name, op in self.definitions.items() if op.name == "dp.bits"}

    def _param(self, param: Param) -> Kind:
        shape = self.function.types[param.value].shape
        match param.role:
            case "mask":
                if shape is None or len(shape) != 1 or self.function.types[param.value].dtype != "bool":
                    raise self.refusal("text", "the mask is not one truth value per row")
                return Rows(0)
            case "feed":
                return self._feed(param)
            case "key":
                return Mixed("the noise key", self.function.line)
            case "phase":
                return Mixed("the index of the phase, which is for noise alone", self.function.line)
            case "draw" | "rng_key" | "rng_counter" | "row":
                return PUBLIC
            case _:
                raise self.refusal("text", f"parameter {param.value} has the unknown role {param.role!r}")

    def _feed(self, param: Param) -> Kind:
        name, kind = param.name, self.function.types[param.value]
        if kind.shape is None or kind.symbols:
            raise self.refusal("3", f"feed {name!r} has another unknown extent than the batch")
        axes = [axis for axis, size in enumerate(kind.shape) if size >= ROWS]
        if len(axes) > 1:
            raise self.refusal("3", f"feed {name!r} has the batch on two axes")
        if axes:
            return Rows(axes[0], 1, kind.shape[axes[0]] // ROWS)
        if self.rows != ROWS:  # the batch has its size: the manifest says where it lies
            place = self.promise.batch_axes.get(name)
            if place is not None:
                axis, post = place
                if axis >= len(kind.shape) or kind.shape[axis] != post * self.rows:
                    raise self.refusal("manifest", f"feed {name!r} does not have {self.rows} rows on axis {axis}")
                return Rows(axis, 1, post)
        if name in self.promise.public_feeds:
            return PUBLIC
        if self.function.param("mask") is None:
            return Mixed(f"feed {name!r} is not declared public", self.function.line)
        raise self.refusal("3", f"feed {name!r} has no batch axis and is not declared public")

    # Ops of the mechanism ------------------------------------------------------------------------------------------
    def _place(self, op: Op, kind: Kind) -> Rows:
        """Where scaled or selected rows lie; constants that were folded count as rows of every example."""
        stated = Rows(op.integer("axis", 0), op.integer("pre", 1), op.integer("post", 1))
        if isinstance(kind, Public) and self.rows != ROWS:
            return stated
        if not isinstance(kind, Rows) or kind.scaled or kind.live:
            raise self.refusal("3", f"its operand is {described(kind)}, not raw rows of examples", op)
        if kind != stated:
            raise self.refusal("3", f"its rows lie at {kind}, it says {stated}", op)
        return stated

    def _factor(self, op: Op, name: str) -> str:
        factor = self.definitions.get(name)
        if factor is None or factor.name not in _FACTORS:
            raise self.refusal("3b.i", f"{name} does not come from a clip factor", op)
        return name

    def _scale(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        place = self._place(op, kinds[0])
        return Rows(place.axis, place.pre, place.post, scaled=self._factor(op, op.operands[1]))

    def _select(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        place = self._place(op, kinds[0])
        return Rows(place.axis, place.pre, place.post, live=self._factor(op, op.operands[1]))

    def _clipped_sum(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        if not is_rows(kinds[0]):
            raise self.refusal("3", f"it sums what is {described(kinds[0])}, not one gradient per example", op)
        return Clipped(self._factor(op, op.operands[1]))

    def _clip_factor(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        terms, params = self._norm(op, kinds)
        clip = self._clip_of(op, params)
        self._constant(op, "clip", clip)
        self._constant(op, "gamma", self.promise.gamma, 0.0)
        self.groups[op.result] = Group(op, params, terms)
        return Rows(0)

    def _norm(self, op: Op, kinds: Sequence[Kind]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The norm terms of an op and their parameters: one each, per example, under the runtime's mask."""
        terms, mask, *bound = op.groups
        supplied = self.function.param("mask")
        if supplied is None or mask != supplied.value:
            raise self.refusal("3b.iv", "its mask is not the one that the runtime supplies", op)
        params = op.texts("params")
        if not isinstance(terms, tuple) or len(terms) != len(params):
            raise self.refusal("3b.ii", "it has not one norm term per parameter", op)
        if len(set(params)) != len(params):
            raise self.refusal("3b.ii", "a parameter has two norm terms", op)
        for name, kind in zip(terms, kinds, strict=False):
            if not is_rows(kind):
                raise self.refusal("3", f"the norm term {name} is {described(kind)}, not one number per example", op)
        self._bound(op, bound[0] if bound else None)
        return terms, params

    def _clip_of(self, op: Op, params: tuple[str, ...]) -> float:
        """The bound of the clip group that consists of ``params``."""
        for group in self.promise.groups:
            if set(group.params) == set(params):
                if any(set(other.params) == set(params) for other in self.groups.values()):
                    raise self.refusal("3b.i", "a second clip factor: all of a group is clipped by one norm", op)
                return group.clip
        raise self.refusal("3b.i", f"its norm covers {sorted(params)}, which is no clip group of the manifest", op)

    def _bound(self, op: Op, bound: object) -> None:
        """The bound of quantile clipping is its state as the function finds it; other modes have a constant one."""
        read = self.definitions.get(str(bound)) if bound is not None else None
        if not self.promise.bound:
            if bound is not None:
                raise self.refusal("3b.v", "its bound is a value, the manifest has a constant", op)
        elif read is None or read.name != "state.read" or read.states != (self.promise.bound,):
            raise self.refusal("3b.v", f"its bound is not the state {self.promise.bound!r}", op)

    def _count_below(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        """Quantile clipping: sum of [norm <= C] - 1/2 over live examples, a sum with bound 1/2."""
        found = self._norm(op, kinds)
        if not self.promise.bound or not any((g.terms, g.params) == found for g in self.groups.values()):
            raise self.refusal("3b.ii", "it counts other norms than the clip factor's", op)
        self.counts[op.result] = op
        return Clipped(op.result)

    def _constant(self, op: Op, name: str, promised: float, default: float | None = None) -> None:
        found = op.number(name, default)
        if not math.isclose(found, promised, rel_tol=1e-14):
            raise self.refusal("3b.v", f"{name} is {found!r}, the manifest says {promised!r}", op)

    def _supplied(self, op: Op, name: str, role: str) -> None:
        param = self.function.param(role)
        if param is None or param.value != name:
            raise self.refusal("3b.iv", f"its {role} is not the one that the runtime supplies", op)

    def _keyed(self, op: Op, key: str, draw: str) -> None:
        self._supplied(op, key, "key")
        self._supplied(op, draw, "draw")
        stream = op.integer("domain", 1), op.integer("tensor")
        if self.streams.setdefault(stream, op) is not op:
            raise self.refusal("3b.iv", f"keystream {stream[1]} is used by two ops", op)

    def _bits(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        self._keyed(op, *op.operands)
        return Mixed("the keystream of the noise", op.line)

    def _noisy_mean(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        total, factor, bits, *more = op.groups
        source = self.definitions.get(str(bits))
        if source is None or source.name != "dp.bits":
            raise self.refusal("3b.iv", "its noise is not a keystream", op)
        if self.readers[str(bits)] != 1:
            raise self.refusal("3b.iv", f"the keystream {bits} is read twice", op)
        if source.integer("count") != self._elements(str(total)):
            raise self.refusal("3b.iv", f"the keystream {bits} has not one number per element", op)
        self._noise(op, str(total), factor, source, more)
        return PUBLIC

    def _add_noise(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        total, factor, key, draw, *more = op.groups
        self._keyed(op, str(key), str(draw))
        self._noise(op, str(total), factor, op, more)
        return PUBLIC

    def _elements(self, name: str) -> int:
        count = 1
        for size in self.context.shape(name):
            count *= size
        return count

    def _noise(self, op: Op, total: str, factor: object, stream: Op, more: Sequence[object]) -> None:
        """``more`` are the operands after the keystream's: the bound and the phase, where the text has them."""
        bound, phase, *_ = *more, None, None
        (param,) = op.states
        counts = param == self.promise.bound and param != ""
        if not counts and param not in self.promise.parameters:
            raise self.refusal("3b.i", f"{param!r} is no trained parameter", op)
        wanted = (2, 0) if counts else (1, self.promise.parameters.index(param))
        domain, tensor = stream.integer("domain", 1), stream.integer("tensor")
        if domain != wanted[0]:
            raise self.refusal("3b.iv", f"keystream {tensor} of domain {domain} is not that of gradient noise", op)
        if tensor != wanted[1]:
            raise self.refusal("3b.iv", f"keystream {tensor} is not that of {param!r}", op)
        if param in self.noised:
            raise self.refusal("3b.i", f"{param!r} gets noise twice", op)
        self.noised[param] = op
        self._scale_of_noise(op, param, counts, bound)
        self._phase(op, counts, phase)
        kind = self.kinds[total]
        if not isinstance(kind, Clipped):
            raise self.refusal("flow", f"noise is added to what is {described(kind)}, so its scale means nothing", op)
        if counts:
            if factor is not None or not (total in self.counts or self._lot_of(total) == param):
                raise self.refusal("3b.i", "its sum is not the count of norms below the bound", op)
            return
        if factor is None:
            if self._lot_of(total) != param:
                raise self.refusal("3b.i", f"it adds noise to what is not the lot sum of {param!r}", op)
        elif factor != kind.factor or kind.factor not in self.groups:
            raise self.refusal("3b.vi", f"its sum is {kind}, it says {factor}", op)
        else:
            self.groups[kind.factor].sums[param] = (total, op)
        self._fits(op, param, total)

    def _scale_of_noise(self, op: Op, param: str, counts: bool, bound: object) -> None:
        """Sigma C sqrt(K) on a parameter of K clip groups; on a count, its own sigma."""
        promise = self.promise
        self._constant(op, "clip", COUNT_BOUND if counts else promise.group(param).clip)
        self._constant(op, "sigma", promise.count_sigma if counts else promise.sigma)
        self._constant(op, "lot", promise.lot)
        self._constant(op, "groups", 1 if counts else len(promise.groups), 1)
        if not counts:
            self._bound(op, bound)
        elif bound is not None:
            raise self.refusal("3b.v", "the bound of a count is 1/2", op)

    def _phase(self, op: Op, counts: bool, phase: object) -> None:
        """In phases, sigma and lot are those of the phase that the runtime says; a count is in none."""
        promised = {"sigmas": () if counts else self.promise.sigmas, "lots": () if counts else self.promise.lots}
        for name, constants in promised.items():
            found = op.attributes.get(name, ())
            if found != constants:
                raise self.refusal("3b.v", f"{name} are {found!r}, the manifest says {constants!r}", op)
        if promised["sigmas"] and phase is not None:
            self._supplied(op, str(phase), "phase")
        elif promised["sigmas"] or phase is not None:
            raise self.refusal("3b.v", "it has the operand of a phase without phases, or phases without it", op)

    def _fits(self, op: Op, param: str, total: str) -> None:
        if self.text.state[param].type.shape != self.context.shape(total):
            raise self.refusal("3b.i", f"its sum does not have the shape of {param!r}", op)

    def _lot_of(self, name: str) -> str | None:
        op = self.definitions.get(name)
        if op is None or op.name != "state.read" or self._declared(op).kind != "lot":
            return None
        return op.states[0].removeprefix(LOT)

    def _accumulate(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        acc, total = op.operands
        param, kind = self._lot_of(acc), kinds[1]
        if param is None or param not in self.promise.noised:
            raise self.refusal("3b.vi", f"{acc} is not the sum of the lot so far", op)
        if param in self.added:
            raise self.refusal("3b.vi", f"{param!r} is added twice", op)
        self.added.add(param)
        if total in self.counts and param == self.promise.bound:
            return Clipped(acc)
        if not isinstance(kind, Clipped) or kind.factor not in self.groups or param == self.promise.bound:
            raise self.refusal("3b.vi", f"it adds what is {described(kind)}, not the clipped sum of a batch", op)
        self.groups[kind.factor].sums[param] = (total, op)
        self._fits(op, param, total)
        return Clipped(acc)

    # State -----------------------------------------------------------------------------------------------------------
    def _declared(self, op: Op) -> State:
        declared = self.text.state.get(op.states[0])
        if declared is None:
            raise self.refusal("text", f"state {op.states[0]!r} is not declared", op)
        return declared

    def _read(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        declared = self._declared(op)
        if declared.type != self.function.types[op.result]:
            raise self.refusal("text", f"state {declared.name!r} is read with another type", op)
        if declared.kind == "lot":
            return Clipped(op.result)
        return PUBLIC if declared.kind == "model" else Mixed(f"metric counter {declared.name!r}", op.line)

    def _write(self, op: Op, kind: Kind) -> None:
        declared, source = self._declared(op), self.definitions.get(op.operands[0])
        if declared.name in self.written:
            raise self.refusal("text", f"state {declared.name!r} is written twice", op)
        self.written.add(declared.name)
        if declared.kind == "model":
            if not isinstance(kind, Public):
                raise self.refusal("flow", f"model state {declared.name!r} is written what is {described(kind)}", op)
            if self.function.name == "accumulate":
                raise self.refusal("flow", f"model state {declared.name!r} is written before the lot is complete", op)
        elif declared.kind == "lot":
            cleared = source is not None and source.name == "elementwise.fill" and source.number("value") == 0.0
            added = source is not None and source.name == "dp.accumulate"
            if added and source is not None and self._lot_of(source.operands[0]) != declared.name.removeprefix(LOT):
                raise self.refusal("3b.vi", f"{declared.name!r} is written the sum of another parameter", op)
            if not (cleared and self.function.name == "apply") and not (added and self.function.name == "accumulate"):
                raise self.refusal("3b.vi", f"{declared.name!r} is neither added to nor cleared", op)
        elif isinstance(kind, Clipped) or (isinstance(kind, Rows) and kind.scaled) or self._secret(op.operands[0]):
            raise self.refusal("flow", f"counter {declared.name!r} is written what is {described(kind)}", op)

    def _secret(self, name: str) -> bool:
        return name in self._secrets()

    # All other ops ---------------------------------------------------------------------------------------------------
    def _plain(self, op: Op, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        if any(self._secret(name) for name in op.operands):
            raise self.refusal("3b.iv", "the noise key, its phase or a keystream is read by another op than noise", op)
        clipped = [kind for kind in kinds if isinstance(kind, Clipped)]
        if clipped:
            if op.name in _MOVES:
                return (clipped[0],)
            if op.name == "elementwise.add" and list(kinds) == clipped and self._reads_of_one(clipped, op):
                return (clipped[0],)
            raise self.refusal("flow" if len(clipped) == 1 else "3b.vi", "a clipped sum reaches it without noise", op)
        if op.name.startswith("dp.") and op.name not in RULES:
            raise self.refusal("text", f"there is no rule for {op.name}", op)
        scaled = [kind for kind in kinds if isinstance(kind, Rows) and kind.scaled]
        if scaled:
            return (self._of_scaled(op, kinds, scaled[0]),)
        found = kinds_of(op, kinds, self.context)
        if op.name in _MOVES and isinstance(kinds[0], Rows) and isinstance(found[0], Rows):
            place = found[0]
            return (Rows(place.axis, place.pre, place.post, live=kinds[0].live),)
        return found

    def _reads_of_one(self, clipped: Sequence[Clipped], op: Op) -> bool:
        """Whether two sums under one factor are added; rule (iii) holds the norm of their parameter against both."""
        shapes = {self.context.shape(name) for name in op.operands}
        return len(shapes) == 1 and clipped[0] == clipped[1] and clipped[0].factor in self.groups

    def _of_scaled(self, op: Op, kinds: Sequence[Kind], scaled: Rows) -> Kind:
        """Scaled rows may be moved, summed within an example, and summed over the batch once."""
        others = list(kinds)
        others.remove(scaled)
        if op.regions or any(not isinstance(kind, Rows | Public) for kind in others):
            raise self.refusal("flow", "scaled rows reach it, and it has no rule for them", op)
        for kind in others:
            if isinstance(kind, Rows) and kind.live != scaled.scaled:
                raise self.refusal("3", "rows that its clip factor did not select meet the scaled ones", op)
        if op.name in _MOVES or op.name == "reduce.sum":
            (found,) = kinds_of(op, kinds, self.context)
            if isinstance(found, Rows):
                return Rows(found.axis, found.pre, found.post, scaled=scaled.scaled)
            if op.name == "reduce.sum" and not isinstance(found, Mixed):
                return Clipped(scaled.scaled)
        elif self._sums_products(op, kinds):
            return Clipped(scaled.scaled)
        raise self.refusal("3", "scaled rows reach it, and it is not seen to sum them once over the examples", op)

    def _sums_products(self, op: Op, kinds: Sequence[Kind]) -> bool:
        """Whether it pairs every scaled row with the selected row of the same example, and sums over all of them."""
        places = [kind.bare if isinstance(kind, Rows) else None for kind in kinds]
        if op.name == "linear.matmul":
            x, w = (len(self.context.shape(name)) for name in op.operands)
            ends = (x - 2 if op.flag("ta") else x - 1), (w - 1 if op.flag("tb") else w - 2)
            return (
                places[0] is not None
                and places[1] is not None
                and (places[0].axis, places[1].axis) == ends
                and (places[0].pre, places[0].post) == (places[1].pre, places[1].post)
            )
        if op.name == "embedding.lookup_grad":
            ids_are_raw = isinstance(kinds[0], Rows) and not kinds[0].scaled
            return ids_are_raw and places[0] is not None and places[0] == places[1]
        same = places[0] is not None and places[0] == places[1] and places[0].axis == 0
        return op.name == _FILTER_GRAD and same

    # Clip groups -----------------------------------------------------------------------------------------------------
    def _groups(self) -> None:
        for group in self.groups.values():
            self._group(group)
        wanted = {group.params for group in self.promise.groups}
        clipped = {tuple(sorted(group.params)) for group in self.groups.values()}
        if self.groups and clipped != {tuple(sorted(params)) for params in wanted}:
            factor = next(iter(self.groups.values())).factor
            raise self.refusal("3b.i", f"the function clips {len(clipped)} of {len(wanted)} clip groups", factor)
        if self.added and self.noised:
            raise self.refusal("3b.iv", "it adds noise to a batch of a lot; noise is drawn once per lot")
        done = self.added or self.noised
        missing = sorted(self.promise.noised - set(done)) if self.groups or done else []
        if missing:
            raise self.refusal("3b.iv", f"{missing[0]!r} gets no noise, or is not added to its lot")

    def _group(self, group: Group) -> None:
        if set(group.sums) != set(group.params):
            raise self.refusal(
                "3b.i", f"its norm covers {sorted(group.params)}, its sums are {sorted(group.sums)}", group.factor
            )
        norms = Norms(self.function, self.definitions, self.kinds, self.rows)
        for param, term in zip(group.params, group.terms, strict=True):
            total, op = group.sums[param]
            why = norms.bounds(term, total)
            if why is not None:
                raise self.refusal("3b.iii", f"the norm of {param!r}: {why}", self.definitions.get(term) or op)
