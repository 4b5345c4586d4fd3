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
from typing import ClassVar

from ..errors import PrivacyError
from ..ir.core import Function, Module, OpBase, Param, PrivacyConfig, Value
from ..ir.stage import Stage
from ..ir.types import DType, TensorType
from ..ops.construct import OpBuilder
from ..ops.dp import Bits, ClipFactor, NoisyMean
from ..ops.grad import Private, Use
from ..ops.kinds import Kind
from .base import Pass
from .example_gradients import Gradient, is_contribution
from .expand_grad import expand_uses, vjp_of_use
from .rewrite import mapped_outputs
from .separability import extend, param_kinds


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
        gradients = [Gradient(b, self.kinds, request) for request in requests]
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
