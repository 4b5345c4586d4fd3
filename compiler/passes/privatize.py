"""privatize: contributions to parameters become clipped sums, and the sums become noisy means.

For every example i the squared norms of its gradient, one per parameter, give the clip factor
``c_i = min(1, C / |g_i|)`` of each clip group, over the concatenated gradient of the group (all parameters, unless the
module says otherwise).  Then, per parameter, either

* the rows of the cotangent are scaled by ``c`` and one weight-gradient product gives ``sum_i c_i g_i``
  (book-keeping: no per-example gradient exists), where the op has an ``example_norm_sq`` rule and the
  parameter is read once; or
* the per-example gradients are materialised, and both norm and clipped sum read them.

With quantile clipping C is state: the noisy count of the examples whose norm is below it moves it towards the wanted
quantile.

Sources: Abadi et al. (CCS'16), Algorithm 1; Goodfellow (2015) for the norms of products; Bu et al. (ICML'23) for
book-keeping; Andrew et al. (NeurIPS'21), Algorithm 1, for the quantile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..errors import PrivacyError
from ..ir.clipping import COUNT_BOUND, clip_groups, gradient_sigma
from ..ir.core import Function, Module, OpBase, Param, PrivacyConfig, StateName, Value
from ..ir.stage import Stage
from ..ir.types import DType, TensorType
from ..ops.construct import OpBuilder
from ..ops.dp import BOUND, ClipFactor, CountBelow
from ..ops.dp_noise import PHASE, QUANTILE, Bits, NoisyMean
from ..ops.grad import Private, Use
from ..ops.kinds import PUBLIC, Kind
from ..ops.state import Read, Write
from .base import Pass
from .discrete import check_grid, fixed_size, grid_means, noise_params
from .example_gradients import Gradient, is_contribution
from .expand_grad import expand_uses, vjp_of_use
from .rewrite import mapped_outputs
from .separability import extend, param_kinds


@dataclass(frozen=True)
class Privatize(Pass):
    """Write DP-SGD's gradient for every ``grad.private``; expand contributions of data-free terms.

    Args:
        norms: A rule of the cost model (``gram``, ``materialised``, ...) that is taken wherever a parameter allows
            it; empty leaves the choice to predicted costs.
    """

    norms: str = ""

    name: ClassVar[str] = "privatize"
    requires: ClassVar[Stage] = Stage.GRAD
    ensures: ClassVar[Stage] = Stage.PRIVATE

    def run(self, module: Module) -> Module:
        privacy = module.privacy
        if privacy is None:
            raise PrivacyError("the module states no privacy constants", hint="a plain module goes through expand-grad")
        if privacy.mechanism not in ("gaussian", "discrete"):
            raise PrivacyError(f"mechanism {privacy.mechanism!r} is not private", hint="use mechanism='gaussian'")
        functions: list[Function] = []
        for function in module.functions:
            if any(isinstance(op, Private) for op in function.ops):
                function = _Privatization(module, privacy, function, self.norms).run()
            else:
                b, mapping = expand_uses(function.ops)
                function = replace(function, ops=tuple(b.ops), outputs=mapped_outputs(function, mapping))
            functions.append(function)
        return replace(module, functions=tuple(functions), stage=Stage.PRIVATE)


class _Privatization:
    """The rewriting of one function."""

    def __init__(self, module: Module, privacy: PrivacyConfig, function: Function, norms: str) -> None:
        self.privacy, self.norms = privacy, norms
        self.key = Value(TensorType(DType.U32, (8,)), "key")
        self.draw = Value(TensorType(DType.U64, ()), "draw")
        self.noise: dict[StateName, Param] = {}
        self.phase = Value(PHASE, "phase") if privacy.phases else None
        supplied = (Param("key", self.key, "key"), Param("draw", self.draw, "draw"))
        if self.phase is not None:
            supplied = (*supplied, Param("phase", self.phase, "phase"))
        if privacy.mechanism == "discrete":
            requests = [op for op in function.ops if isinstance(op, Private)]
            sizes: dict[str, int] = {op.param: fixed_size(op.param, op.result) for op in requests}
            check_grid(privacy, sizes, requests[0].loc.place or None)
            self.noise = noise_params(requests)
            supplied = tuple(self.noise.values())
        self.function = replace(function, params=(*function.params, *supplied))
        mask = function.param("mask")
        assert mask is not None, "separate adds the mask"
        self.mask = mask
        self.kinds: dict[Value, Kind] = param_kinds(module, function)
        extend(self.kinds, module, function.ops)
        self.b = OpBuilder()
        # The stream of a tensor's noise is its index among all trainable parameters, sorted by name.
        trainable = sorted(declaration.name for declaration in module.state if declaration.trainable)
        self.stream = {name: index for index, name in enumerate(trainable)}
        self.groups = clip_groups(privacy, trainable)
        self.bound = self._bound() if privacy.clipping == "quantile" else None
        self.writes: list[OpBase] = []

    def _bound(self) -> Value:
        """The clip bound at the start of the step, read before anything needs it."""
        state = self.privacy.bound
        touching = [op for op in self.function.ops if isinstance(op, Read | Write) and op.state == state]
        if any(isinstance(op, Write) for op in touching):
            raise PrivacyError(
                f"the program writes {state!r}, which holds the clip bound",
                where=touching[-1].loc.place or None,
                hint="only quantile clipping itself may change the bound in a step",
            )
        read = touching[0] if touching else Read(state, BOUND)
        read.result.hint = read.result.hint or "clip"
        self.b.ops.append(read)
        self.kinds[read.result] = PUBLIC
        return read.result

    def run(self) -> Function:
        requests = [op for op in self.function.ops if isinstance(op, Private)]
        replaced = _contributions(requests)
        mapping: dict[Value, Value] = {}
        for op in self.function.ops:
            if self.bound is not None and op is self.bound.op:
                continue
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
        ops = (*self.b.ops, *self.writes)
        return replace(self.function, ops=ops, outputs=mapped_outputs(self.function, mapping))

    def _noisy_means(self, requests: list[Private]) -> dict[Value, Value]:
        """Norms of all parameters, a clip factor per group, and per parameter its clipped sum and noise."""
        b = self.b
        if self.privacy.mechanism == "discrete":
            return grid_means(b, self.privacy, self.kinds, self.mask, requests, self.noise)
        gradients = {request.param: Gradient(b, self.kinds, request, self.norms) for request in requests}
        terms = {param: gradient.norm_sq() for param, gradient in gradients.items()}
        factors: dict[str, tuple[Value, float]] = {}
        for group in self.groups:
            params = tuple(param for param in gradients if param in group.params)
            if params:
                norms = tuple(terms[param] for param in params)
                factor = ClipFactor(norms, self.mask, group.clip, params, self.privacy.gamma, self.bound)
                c = b(factor, "c")
                factors |= dict.fromkeys(params, (c, group.clip))
        means: dict[Value, Value] = {}
        for request in requests:
            with b.at(request.loc):
                c, clip = factors[request.param]
                total = gradients[request.param].clipped_sum(c)
                total.hint = f"s_{request.param}"
                means[request.result] = self._noisy_mean(total, c, clip, request.param)
        if self.bound is not None:
            with b.at(requests[0].loc):
                self._move_bound(self.bound, CountBelow(tuple(terms.values()), self.mask, self.bound, tuple(terms)))
        return means

    def _noisy_mean(self, total: Value, c: Value, clip: float, param: StateName) -> Value:
        b, privacy = self.b, self.privacy
        count = fixed_size(param, total)
        bits = b(Bits(self.key, self.draw, self.stream[param], count), "z")
        sigma = gradient_sigma(privacy)
        noisy = NoisyMean(
            total, c, bits, sigma, clip, privacy.lot, param, len(self.groups), self.bound,
            self.phase, privacy.sigmas, privacy.lots,
        )  # fmt: skip
        return b(noisy, f"g_{param}")

    def _move_bound(self, bound: Value, below: CountBelow) -> None:
        """``C <- clamp(C exp(-eta (share - quantile)))`` with the noisy share of norms below C."""
        b, privacy = self.b, self.privacy
        bits = b(Bits(self.key, self.draw, 0, 1, QUANTILE), "z")
        sigma = privacy.sigma_b / COUNT_BOUND
        votes = b(NoisyMean(b(below, "below"), None, bits, sigma, COUNT_BOUND, privacy.lot, privacy.bound), "votes")
        rate = b.exp(b.scale(votes, -privacy.eta, -privacy.eta * (0.5 - privacy.quantile)))
        moved = b.clip(b.mul(bound, b.reshape(rate, (1,))), privacy.c_min, privacy.c_max)
        moved.hint = "clip_next"
        self.writes.append(Write(moved, privacy.bound, loc=below.loc))


def _contributions(requests: Sequence[Private]) -> set[OpBase]:
    """The ops that ``grad.private`` stands on: uses, and sums of uses."""
    found: set[OpBase] = set()
    pending = [value for request in requests for value in request.uses]
    while pending:
        value = pending.pop()
        if is_contribution(value) and value.op is not None and value.op not in found:
            found.add(value.op)
            pending.extend(value.op.cts if isinstance(value.op, Use) else value.op.operands)
    return found
