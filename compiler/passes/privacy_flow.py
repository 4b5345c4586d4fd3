"""The verifier's privacy check: nothing that depends on single examples reaches what outlives a step.

Runs after every pass on private modules from stage ``private`` on.  It derives a label for every value from
the ops alone and holds the module to privacy documentation §3b:

    (i)   the sums that use a clip factor are exactly those of its clip group, whose parameters are those in its norm
    (ii)  the norm has exactly one term per parameter
    (iii) each norm term reads the same values as the product it bounds, and on random rows it does bound it
    (iv)  every keystream has one reader, no two share a stream, and key, draw and mask are the runtime's
    (v)   clip, sigma and lot (of each phase) are the module's, with the number of groups and the noise that its
          clipping asks for
    (vi)  clipped sums are not combined, except over micro-batches of one lot

On the integer grid of the mechanism discrete, (iii) is a check of the program itself: ``dp.grid_live`` lets an example
through only if the squares of the very integers that are summed, those of all parameters, add up to at most K^2.

With quantile clipping, factors and noise read one bound, a public value of the model's state, and the count that
moves it is a sum with a bound and a noise of its own.
"""

from __future__ import annotations

from ..errors import PrivacyError
from ..ir.clipping import COUNT_BOUND, ClipGroup, clip_groups, gradient_sigma
from ..ir.core import Function, Module, OpBase, Role, Value, users
from ..ir.stage import Stage
from ..ir.types import Clipped, Example, Label, Mixed, Public, Scaled
from ..ops.conv import Conv2dFilterGrad
from ..ops.dp import Accumulate, ClipFactor, ClippedSum, CountBelow, ScaleRows, SelectRows
from ..ops.dp_noise import GRADIENT, QUANTILE, AddNoise, Bits, NoisyMean
from ..ops.elementwise import Add, Fill
from ..ops.embedding import LookupGrad
from ..ops.grid import TARGET, GridLive, GridMean, GridNormSq, GridSum
from ..ops.kinds import ExampleKind, Kind, PublicKind, TotalKind
from ..ops.linear import MatMul
from ..ops.reduce import Sum
from ..ops.shape import Reshape, Transpose
from ..ops.state import Read, Write
from .norm_check import norm_bounds_sum, product_reads, term_reads, varying
from .separability import LOT_PREFIX, extend, param_kinds

_FLOAT_OPS = (ScaleRows, SelectRows, ClippedSum, CountBelow, NoisyMean, AddNoise, Bits)
_GRID_OPS = (GridNormSq, GridLive, GridSum, GridMean)


def check_privacy_flow(module: Module, *, specialised: bool = False) -> None:
    """Check every function of a private module.

    Args:
        module: Nothing is checked before stage ``private``: ``separate`` and ``privatize`` prove what they write.
        specialised: A batch of one physical size, where examples cannot be told from other rows any more, is
            accepted: the module was checked while its batch had a name.

    Raises PrivacyError naming the op, its place and the rule it breaks.
    """
    if module.privacy is None or module.stage < Stage.PRIVATE:
        return
    for function in module.functions:
        mask = function.param("mask")
        if mask is not None and all(isinstance(dim, int) for dim in mask.tensor.shape):
            if specialised:
                continue
            raise PrivacyError(
                f"function {function.name} has a batch of {mask.tensor.shape[0]} rows instead of the symbol N, so its "
                "privacy cannot be checked",
                hint="go on from an earlier stage, and let the specialise pass set the size",
            )
        _Flow(module, function).check()


class _Flow:
    def __init__(self, module: Module, function: Function) -> None:
        assert module.privacy is not None
        self.module, self.function, self.privacy = module, function, module.privacy
        self.kinds: dict[Value, Kind] = param_kinds(module, function)
        self.labels: dict[Value, Label] = {v: _label_of(kind) for v, kind in self.kinds.items()}
        self.users = users(function.ops)
        trainable = sorted(declaration.name for declaration in module.state if declaration.trainable)
        self.streams = {name: index for index, name in enumerate(trainable)}
        self.groups = clip_groups(self.privacy, trainable)
        self.group_of = {name: group for group in self.groups for name in group.params}
        self.sigma = gradient_sigma(self.privacy)
        self.quantile = self.privacy.clipping == "quantile"
        self.discrete = self.privacy.mechanism == "discrete"

    def check(self) -> None:
        for op in self.function.ops:
            extend(self.kinds, self.module, (op,))
            if isinstance(op, Write):
                self._write(op)
                continue
            for value, label in zip(op.results, self._labels(op), strict=True):
                self.labels[value] = label
                self._record(op, value, label)
        self._secrets()
        for out in self.function.outputs:
            if isinstance(self.labels[out.value], Scaled | Clipped) and out.value.op is not None:
                raise self._refusal(out.value.op, f"fetch {out.name!r} is {self.labels[out.value]}, without noise")
        self._streams()
        self._groups()

    # Labels ------------------------------------------------------------------------------------------------
    def _labels(self, op: OpBase) -> tuple[Label, ...]:
        if isinstance(op, _FLOAT_OPS if self.discrete else _GRID_OPS):
            raise self._refusal(op, f"it does not belong to the module's mechanism {self.privacy.mechanism}")
        match op:
            case GridNormSq():
                self._raw(op, op.g)
                self._factor(op, op.c)
                self._grid(op)
                return (Example(),)
            case GridLive():
                self._live(op)
                return (Example(),)
            case GridSum():
                self._raw(op, op.g)
                self._grid(op)
                if not isinstance(op.c.op, GridLive):
                    raise self._refusal(op, "its factor does not come from dp.grid_live")
                return (Clipped(op.c),)
            case GridMean():
                self._grid_mean(op)
                return (Public(),)
            case ScaleRows():
                self._raw(op, op.x)
                self._factor(op, op.c)
                return (Scaled(op.c),)
            case SelectRows():
                self._raw(op, op.x)
                self._factor(op, op.c)
                return (Example(),)
            case ClippedSum():
                self._raw(op, op.g)
                self._factor(op, op.c)
                return (Clipped(op.c),)
            case ClipFactor():
                self._constant(op, "clip", op.clip, self._group_of_factor(op).clip * (TARGET if self.discrete else 1))
                self._constant(op, "gamma", op.gamma, self.privacy.gamma)
                self._bound(op, op.bound)
                self._supplied(op, op.mask, "mask")
                return (Example(),)
            case CountBelow():
                self._count(op)
                return (Clipped(op.result),)
            case NoisyMean():
                self._noise(op)
                return (Public(),)
            case AddNoise():
                self._noise(op)
                self._keyed(op)
                return (Public(),)
            case Bits():
                self._keyed(op)
                return (Public(),)
            case Accumulate():
                label = self.labels[op.x]
                if not isinstance(label, Clipped) or not isinstance(
                    label.factor.op, ClipFactor | CountBelow | GridLive
                ):
                    raise self._refusal(op, "it adds something that is not the clipped sum of a micro-batch")
                if self._lot_parameter(op.acc) is None:
                    raise self._refusal(op, "it adds to something that is not the sum of the lot so far")
                return (Clipped(op.acc),)
            case Read() if self.module.declaration(op.state).kind == "lot":
                return (Clipped(op.result),)
            case _:
                return self._plain(op)

    def _plain(self, op: OpBase) -> tuple[Label, ...]:
        """Ops that are not the mechanism's: sums over scaled rows give clipped sums, the rest follows kinds."""
        found = [self.labels[v] for v in op.operands]
        clipped = next((label for label in found if isinstance(label, Clipped)), None)
        scaled = next((label for label in found if isinstance(label, Scaled)), None)
        if clipped is not None:
            if isinstance(op, Reshape | Transpose):
                return (clipped,)
            # Reads of one parameter: the same factor clips their sums, and its norm has one term for them all.
            same = isinstance(op, Add) and found == [clipped, clipped] and op.x.type == op.y.type
            if same and isinstance(clipped.factor.op, ClipFactor):
                return (clipped,)
            raise self._refusal(op, "a clipped sum reaches it without noise")
        if scaled is None:
            return tuple(_label_of(self.kinds[v]) for v in op.results)
        others = [label for label in found if label is not scaled]
        if any(not isinstance(label, Example | Public) for label in others):
            raise self._refusal(op, "it combines two sets of scaled rows")
        if isinstance(op, Reshape | Transpose | Sum) and isinstance(self.kinds[op.result], ExampleKind):
            return (scaled,)
        for value, label in zip(op.operands, found, strict=True):
            if isinstance(label, Example) and not _selected_by(value, scaled.factor):
                raise self._refusal(op, "rows that were not selected by the clip factor meet the scaled ones")
        if self._sums_examples(op):
            return (Clipped(scaled.factor),)
        raise self._refusal(op, "scaled rows reach it, and it is not known to sum them once over the examples")

    def _sums_examples(self, op: OpBase) -> bool:
        """Whether each scaled row enters the result once, together with values of its own example only."""
        match op:
            case Sum(x=x):
                kind = self.kinds[x]
                return isinstance(kind, ExampleKind) and kind.axis in {axis % x.tensor.rank for axis in op.axes}
            case MatMul(x=x, w=w):
                left, right = self.kinds[x], self.kinds[w]
                ends = (x.tensor.rank - (2 if op.ta else 1), w.tensor.rank - (1 if op.tb else 2))
                return (
                    isinstance(left, ExampleKind)
                    and isinstance(right, ExampleKind)
                    and (left.axis, right.axis) == ends
                    and (left.pre, left.post) == (right.pre, right.post)
                )
            case Conv2dFilterGrad(x=x, ct=ct):
                kind = self.kinds[ct]
                return self.kinds[x] == kind and isinstance(kind, ExampleKind) and kind.axis == 0
            case LookupGrad(ids=ids, ct=ct):
                return isinstance(self.kinds[ct], ExampleKind) and self.kinds[ids] == self.kinds[ct]
            case _:
                return False

    def _record(self, op: OpBase, value: Value, label: Label) -> None:
        """Labels of the mechanism are written into the module; a label that came with it must agree."""
        if value.label is not None and value.label != label:
            raise self._refusal(op, f"the module says {value.label} of a result that is {label}")
        names_itself = isinstance(label, Clipped) and label.factor is value  # a count, and sums read from lot state
        if (isinstance(label, Scaled | Clipped) and not names_itself) or isinstance(
            op, NoisyMean | AddNoise | GridMean
        ):
            value.label = label

    # Rules -------------------------------------------------------------------------------------------------
    def _raw(self, op: OpBase, value: Value) -> None:
        if not isinstance(self.kinds[value], ExampleKind) or not isinstance(self.labels[value], Example):
            raise self._refusal(op, f"its operand is {self.labels[value]}, not rows of raw examples")

    def _factor(self, op: OpBase, c: Value) -> None:
        if not isinstance(c.op, ClipFactor):
            raise self._refusal(op, "its factor does not come from dp.clip_factor")

    def _supplied(self, op: OpBase, value: Value, role: Role) -> None:
        if value is not self.function.param(role):
            raise self._refusal(op, f"its {role} is not the one that the runtime supplies")

    def _keyed(self, op: Bits | AddNoise) -> None:
        self._supplied(op, op.key, "key")
        self._supplied(op, op.draw, "draw")
        if isinstance(op, Bits) and op.domain not in (GRADIENT, *((QUANTILE,) if self.quantile else ())):
            raise self._refusal(op, f"its keystream is of domain {op.domain}, not that of gradient noise")

    def _group_of_factor(self, op: ClipFactor) -> ClipGroup:
        group = self.group_of.get(op.params[0])
        if group is None:
            raise self._refusal(op, f"its norm covers {op.params[0]!r}, which is in no clip group")
        return group

    def _bound(self, op: ClipFactor | CountBelow | NoisyMean | AddNoise, bound: Value | None) -> None:
        """The bound of quantile clipping is the public state as the function finds it, and nothing else."""
        if not self.quantile:
            if bound is not None:
                raise self._refusal(op, "its bound is a value, but the module's clipping has a constant one")
        elif bound is None or not isinstance(bound.op, Read) or bound.op.state != self.privacy.bound:
            raise self._refusal(op, f"its bound is not the state {self.privacy.bound!r} that the module names")

    def _count(self, op: CountBelow) -> None:
        if not self.quantile:
            raise self._refusal(op, "it counts norms, but the module's clipping is not by quantile")
        self._supplied(op, op.mask, "mask")
        self._bound(op, op.bound)
        if not isinstance(self.kinds[op.result], TotalKind):
            raise self._refusal(op, "its norms are not one per example, so one example changes it by more than 1/2")
        factors = [f for f in self.function.ops if isinstance(f, ClipFactor)]
        if not any((f.terms, f.params) == (op.terms, op.params) for f in factors):
            raise self._refusal(op, "it counts other norms than the clip factor's")

    def _lot_parameter(self, value: Value) -> str | None:
        """The parameter whose lot sum ``value`` reads, if it does."""
        op = value.op
        if isinstance(op, Read) and self.module.declaration(op.state).kind == "lot":
            return op.state.removeprefix(LOT_PREFIX)
        return None

    def _constant(
        self, op: OpBase, name: str, found: float | tuple[float, ...], stated: float | tuple[float, ...]
    ) -> None:
        if found != stated:
            raise self._refusal(op, f"{name}={found!r}, but the module states {name}={stated!r}")

    def _noise(self, op: NoisyMean | AddNoise) -> None:
        label = self.labels[op.total]
        if not isinstance(label, Clipped):
            raise self._refusal(op, f"noise is added to a value that is {label}, so its scale means nothing")
        expected = op.c if op.c is not None else op.total
        if label.factor is not expected:
            raise self._refusal(op, f"its sum is {label}, clipped by other factors than the ones it names")
        counts = self.quantile and op.param == self.privacy.bound
        if op.c is None and self._lot_parameter(op.total) != op.param and not (counts and label.factor is op.total):
            raise self._refusal(op, f"its sum is not the lot sum of {op.param!r}")
        if isinstance(op, NoisyMean) and not isinstance(op.bits.op, Bits):
            raise self._refusal(op, "its bits are not a keystream")
        domain, tensor = _stream(op)
        wanted = (QUANTILE, 0) if counts else (GRADIENT, self.streams.get(op.param))
        if (domain, tensor) != wanted:
            raise self._refusal(op, f"keystream {tensor} of domain {domain} does not belong to {op.param!r}")
        if counts:
            self._count_noise(op)
            return
        for name, stated in (
            ("clip", self.group_of[op.param].clip),
            ("sigma", self.sigma),
            ("lot", self.privacy.lot),
            ("groups", len(self.groups)),
            ("sigmas", self.privacy.sigmas),
            ("lots", self.privacy.lots),
        ):
            self._constant(op, name, getattr(op, name), stated)
        self._phase(op)
        self._bound(op, op.bound)

    def _phase(self, op: NoisyMean | AddNoise) -> None:
        """With phases, sigma and lot are selected by the index that the runtime supplies, and by nothing else."""
        if not self.privacy.phases:
            if op.phase is not None:
                raise self._refusal(op, "it has a phase, but the module states none")
        elif op.phase is None or op.phase is not self.function.param("phase"):
            raise self._refusal(op, "its phase is not the one that the runtime supplies")

    def _count_noise(self, op: NoisyMean | AddNoise) -> None:
        """The noise of the count: sigma_b, as a multiple of what one example changes."""
        if op.c is not None or not (isinstance(op.total.op, CountBelow) or self._lot_parameter(op.total) == op.param):
            raise self._refusal(op, "its sum is not the count of norms below the bound")
        if op.bound is not None or op.groups != 1 or op.phase is not None:
            raise self._refusal(op, "the bound of a count is 1/2")
        self._constant(op, "clip", op.clip, COUNT_BOUND)
        self._constant(op, "sigma", op.sigma, self.privacy.sigma_b / COUNT_BOUND)
        self._constant(op, "lot", op.lot, self.privacy.lot)

    # The integer grid --------------------------------------------------------------------------------------
    def _grid(self, op: GridNormSq | GridSum | GridMean) -> None:
        self._constant(op, "clip", op.clip, self.privacy.clip)
        self._constant(op, "bits", op.bits, self.privacy.grid_bits)

    def _live(self, op: GridLive) -> None:
        """Its terms are the norms of integers under one factor, one term for each parameter."""
        self._factor(op, op.c)
        self._constant(op, "bits", op.bits, self.privacy.grid_bits)
        if not all(isinstance(term.op, GridNormSq) and term.op.c is op.c for term in op.terms):
            raise self._refusal(op, "a term is not the norm of integers that its factor gives")
        if len(set(op.params)) != len(op.params):
            raise self._refusal(op, "a parameter has two terms in the norm")

    def _grid_mean(self, op: GridMean) -> None:
        label = self.labels[op.total]
        if not isinstance(label, Clipped):
            raise self._refusal(op, f"noise is added to a value that is {label}, so its scale means nothing")
        if label.factor is not (op.c if op.c is not None else op.total):
            raise self._refusal(op, f"its sum is {label}, checked by another op than the one it names")
        if op.c is None and self._lot_parameter(op.total) != op.param:
            raise self._refusal(op, f"its sum is not the lot sum of {op.param!r}")
        supplied = [p.value for p in self.function.params if p.role == "noise" and p.name == op.param]
        if supplied != [op.noise]:
            raise self._refusal(op, f"its noise is not what the runtime supplies for {op.param!r}")
        self._grid(op)
        self._constant(op, "lot", op.lot, self.privacy.lot)

    def _integers(self, sums: dict[str, Value]) -> None:
        """(i)-(iii): one check covers the integers of all parameters, the very ones that are summed."""
        checks = [op for op in self.function.ops if isinstance(op, GridLive)]
        for check in checks:
            if len(checks) > 1:
                raise self._refusal(check, "a second check: the integers of all parameters have one norm")
            if set(check.params) != set(sums):
                raise self._refusal(check, f"its norm covers {sorted(check.params)}, the sums are {sorted(sums)}")
            for name, term in zip(check.params, check.terms, strict=True):
                total, norm = sums[name].op, term.op
                if not (
                    isinstance(total, GridSum)
                    and isinstance(norm, GridNormSq)
                    and total.g is norm.g
                    and total.c is check.result
                ):
                    raise self._refusal(check, f"the sum of {name!r} is not of the integers that were checked")

    def _secrets(self) -> None:
        """Keys, keystreams and noise are read by the mechanism alone: who has them can take the noise off again."""
        for param in self.function.params:
            if param.role not in ("key", "noise", "phase"):
                continue
            readers = self.users.get(param.value, [])
            stray = next((op for op in readers if not isinstance(op, Bits | NoisyMean | AddNoise | GridMean)), None)
            if stray is not None:
                raise self._refusal(stray, f"it reads the {param.role} of the step")
            if param.role == "noise" and len(readers) > 1:
                raise self._refusal(readers[1], f"the noise of {param.name!r} has two readers")
        for out in self.function.outputs:
            role = next((p.role for p in self.function.params if p.value is out.value), None)
            if role in ("key", "noise", "phase") or isinstance(out.value.op, Bits):
                raise PrivacyError(f"fetch {out.name!r} in function {self.function.name} is a secret of the step")

    def _write(self, op: Write) -> None:
        accumulates = any(isinstance(other, Accumulate) for other in self.function.ops)
        if self.quantile and op.state == self.privacy.bound and accumulates:
            raise self._refusal(op, "the clip bound changes between the micro-batches of a lot")
        kind, label = self.module.declaration(op.state).kind, self.labels[op.value]
        allowed = {
            "model": isinstance(label, Public),
            "lot": isinstance(op.value.op, Fill) or self._continues(op),
            "diagnostic": not isinstance(label, Scaled | Clipped),
        }
        if not allowed[kind]:
            raise self._refusal(op, f"{kind} state {op.state!r} is written a value that is {label}")

    def _continues(self, op: Write) -> bool:
        """Whether lot state is written its own sum so far, with a micro-batch added."""
        made = op.value.op
        return isinstance(made, Accumulate) and isinstance(made.acc.op, Read) and made.acc.op.state == op.state

    def _streams(self) -> None:
        """(iv): a keystream read twice would cancel by subtraction."""
        seen: dict[tuple[int, int], OpBase] = {}
        for op in self.function.ops:
            if isinstance(op, Bits):
                if len(self.users.get(op.result, [])) != 1:
                    raise self._refusal(op, "its keystream has not exactly one reader")
                stream = (op.domain, op.tensor)
            elif isinstance(op, AddNoise):
                stream = (op.domain, op.tensor)
            else:
                continue
            if seen.setdefault(stream, op) is not op:
                raise self._refusal(op, f"two tensors share keystream {stream[1]}")

    def _groups(self) -> None:
        """(i): one factor clips all parameters of a group together, and each parameter has one sum."""
        sums: dict[str, Value] = {}
        for op in self.function.ops:
            if isinstance(op, NoisyMean | AddNoise | GridMean):
                param, total = str(op.param), op.total
            elif isinstance(op, Accumulate):
                param, total = self._lot_parameter(op.acc) or "", op.x
            else:
                continue
            if param in sums:
                raise self._refusal(op, f"parameter {param!r} has two sums")
            sums[param] = total
        if self.discrete:
            self._integers(sums)
        clipped: set[ClipGroup] = set()
        for op in self.function.ops:
            if isinstance(op, ClipFactor):
                group = self._group_of_factor(op)
                if group in clipped:
                    raise self._refusal(op, "a second clip factor: all parameters of a group are clipped by one norm")
                clipped.add(group)
                if not self.discrete:  # there the integers are checked, whatever the factor is
                    self._group(op, group, {name: total for name, total in sums.items() if name in group.params})

    def _group(self, factor: ClipFactor, group: ClipGroup, sums: dict[str, Value]) -> None:
        """(ii), (iii) of a clip factor."""
        if len(set(factor.params)) != len(factor.params):
            raise self._refusal(factor, "a parameter has two terms in the norm")
        if set(sums) != set(factor.params):
            raise self._refusal(factor, f"its norm covers {sorted(factor.params)}, its sums are {sorted(sums)}")
        for name, total in sums.items():
            label = self.labels[total]
            if not isinstance(label, Clipped) or label.factor is not factor.result:
                raise self._refusal(factor, f"the sum of {name!r} is {label}, clipped by another factor")
        reads = {name: product_reads(total) for name, total in sums.items()}
        every = set[Value]().union(*reads.values())
        for name, term in zip(factor.params, factor.terms, strict=True):
            found = term_reads(term, every)
            if varying(found) != varying(reads[name]):
                raise self._refusal(factor, f"the norm of {name!r} does not read what its clipped sum reads")
            if not norm_bounds_sum(factor, term, sums[name], varying(every)):
                raise self._refusal(factor, f"the norm of {name!r} is smaller than that of the gradient it stands for")

    def _refusal(self, op: OpBase, reason: str) -> PrivacyError:
        layer = f" of `{op.loc.layer}`" if op.loc.layer else ""
        return PrivacyError(f"{op.name}{layer} in function {self.function.name}: {reason}", where=op.loc.place or None)


def _stream(op: NoisyMean | AddNoise) -> tuple[int, int]:
    """Domain and tensor of the keystream behind the noise."""
    if isinstance(op, AddNoise):
        return op.domain, op.tensor
    bits = op.bits.op
    return (bits.domain, bits.tensor) if isinstance(bits, Bits) else (-1, -1)


def _selected_by(value: Value, factor: Value) -> bool:
    """Whether ``value`` holds rows that ``factor`` selected, moved around at most."""
    while isinstance(value.op, Reshape | Transpose):
        value = value.op.x
    return isinstance(value.op, SelectRows) and value.op.c is factor


def _label_of(kind: Kind) -> Label:
    if isinstance(kind, PublicKind):
        return Public()
    return Example() if isinstance(kind, ExampleKind) else Mixed()
