"""The flow of the discrete mechanism: integers instead of float sums (docs/privacy.md, mechanism discrete).

There the program checks the norm itself, in integers: what is looked at is that the integers which are summed are the
very ones that were checked, all parameters' together, and that the noise of each is the runtime's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .flow import Flow, Group
from .kinds import PUBLIC, Clipped, Kind, Mixed, Rows, described
from .norms import is_rows
from .promise import Promise
from .text import Function, Op, Param, Text

_SHARED = frozenset({"dp.clip_factor", "dp.accumulate", "state.read"})


class GridFlow(Flow):
    """The analysis of one function of a discrete program."""

    def __init__(self, text: Text, function: Function, promise: Promise) -> None:
        super().__init__(text, function, promise)
        self.norms: dict[str, Op] = {}
        self.live: dict[str, Op] = {}
        shared = {name: handler for name, handler in self.handlers.items() if name in _SHARED}
        grid: Mapping[str, Callable[[Op, Sequence[Kind]], Kind]] = {
            "dp.grid_norm_sq": self._grid_norm_sq,
            "dp.grid_live": self._grid_live,
            "dp.grid_sum": self._grid_sum,
            "dp.grid_mean": self._grid_mean,
        }
        self.handlers = {**shared, **grid}

    @property
    def clip_groups(self) -> int:
        """The float factor is no group: the integers it gives are checked."""
        return len(self.live)

    def _param(self, param: Param) -> Kind:
        if param.role != "noise":
            return super()._param(param)
        kind = self.function.types[param.value]
        names = [other.name for other in self.function.params if other.role == "noise"]
        fits = param.name in self.promise.parameters and names.count(param.name) == 1
        if not fits or (kind.dtype, kind.shape) != ("i64", self.text.state[param.name].type.shape):
            raise self.refusal("3b.iv", f"there is no noise of type {kind.dtype} for {param.name!r}")
        return Mixed("the noise", self.function.line)

    def _on_grid(self, op: Op) -> None:
        self._constant(op, "clip", self.promise.clip)
        self._constant(op, "bits", self.promise.grid_bits)

    def _rows_of(self, op: Op, kind: Kind) -> None:
        if not is_rows(kind):
            raise self.refusal("3", f"it reads what is {described(kind)}, not one gradient per example", op)

    def _grid_norm_sq(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        self._rows_of(op, kinds[0])
        self._factor(op, op.operands[1])
        self._on_grid(op)
        self.norms[op.result] = op
        return Rows(0)

    def _grid_live(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        terms, factor = op.groups
        self._factor(op, str(factor))
        self._constant(op, "bits", self.promise.grid_bits)
        params = op.texts("params")
        if not isinstance(terms, tuple) or len(terms) != len(params) or len(set(params)) != len(params):
            raise self.refusal("3b.ii", "it has not one norm of integers per parameter", op)
        if self.live:
            raise self.refusal("3b.i", "a second check: the integers of all parameters have one norm", op)
        for name in terms:
            if name not in self.norms or self.norms[name].operands[1] != factor:
                raise self.refusal("3b.iii", f"{name} is no norm of integers under the factor {factor}", op)
        self.live[op.result] = op
        self.groups[op.result] = Group(op, params, terms)
        return Rows(0)

    def _grid_sum(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        self._rows_of(op, kinds[0])
        self._on_grid(op)
        if op.operands[1] not in self.live:
            raise self.refusal("3b.i", f"{op.operands[1]} does not come from the check of the integers", op)
        return Clipped(op.operands[1])

    def _grid_mean(self, op: Op, kinds: Sequence[Kind]) -> Kind:
        total, checked, noise = op.groups
        (param,) = op.states
        supplied = [p.value for p in self.function.params if p.role == "noise" and p.name == param]
        if supplied != [noise]:
            raise self.refusal("3b.iv", f"its noise is not what the runtime supplies for {param!r}", op)
        if self.readers[str(noise)] != 1 or param in self.noised:
            raise self.refusal("3b.iv", f"the noise of {param!r} is read twice", op)
        self.noised[param] = op
        self._on_grid(op)
        self._constant(op, "lot", self.promise.lot)
        kind = self.kinds[str(total)]
        if not isinstance(kind, Clipped):
            raise self.refusal("flow", f"noise is added to what is {described(kind)}, so its scale means nothing", op)
        if checked is None:
            if self._lot_of(str(total)) != param:
                raise self.refusal("3b.i", f"it adds noise to what is not the lot sum of {param!r}", op)
        elif checked != kind.factor or kind.factor not in self.live:
            raise self.refusal("3b.vi", f"its sum is {kind}, it says {checked}", op)
        else:
            self.groups[kind.factor].sums[param] = (str(total), op)
        self._fits(op, param, str(total))
        return PUBLIC

    def _group(self, group: Group) -> None:
        """The integers that are summed are those that were checked; the float factor needs no bound."""
        if group.factor.name != "dp.grid_live":
            if not self.live:
                raise self.refusal("3b.iii", "the integers that it gives are not checked", group.factor)
            return
        if set(group.sums) != set(group.params):
            raise self.refusal(
                "3b.i", f"its check covers {sorted(group.params)}, the sums are {sorted(group.sums)}", group.factor
            )
        for param, term in zip(group.params, group.terms, strict=True):
            total, op = group.sums[param]
            made = self.definitions[total]
            if made.name != "dp.grid_sum" or made.operands[0] != self.norms[term].operands[0]:
                raise self.refusal("3b.iii", f"the sum of {param!r} is not of the integers that were checked", op)
