"""The discrete mechanism: what privatize writes instead of clipped float sums and float noise.

Per-example gradients are materialised, scaled by their clip factors and cut to integers of a grid; integers are
checked, summed and given integer noise, which the runtime draws (privacy documentation: discrete).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import PrivacyError
from ..ir.core import Param, PrivacyConfig, StateName, Value
from ..ir.types import DType
from ..ops.construct import OpBuilder
from ..ops.dp import ClipFactor
from ..ops.grad import Private
from ..ops.grid import MAX_BITS, TARGET, GridLive, GridMean, GridNormSq, GridSum
from ..ops.kinds import Kind
from .example_gradients import Gradient


def check_grid(privacy: PrivacyConfig, parameters: Mapping[str, int], where: str | None = None) -> None:
    """Refuse a grid whose checks could overflow, and other clipping than flat.

    Args:
        privacy: Of the mechanism discrete.
        parameters: Size of every trained parameter.
        where: The user's line.

    Raises:
        PrivacyError: with what fits.
    """
    if privacy.clipping != "flat":
        raise PrivacyError(
            f"mechanism='discrete' clips all parameters by one constant bound, not with clipping={privacy.clipping!r}",
            where=where,
            hint="leave clipping out, or use mechanism='gaussian'",
        )
    count = sum(parameters.values())
    log2 = max(count - 1, 0).bit_length()
    fits = min(30, (MAX_BITS - log2) // 2)
    if not 1 <= privacy.grid_bits <= fits:
        raise PrivacyError(
            f"mechanism='discrete' with grid_bits={privacy.grid_bits} does not fit {count:,} trained numbers: "
            f"2*grid_bits + log2({count:,}) may be at most {MAX_BITS}, so that sums of squares fit 64 bits",
            where=where,
            hint=f"state clipping_options={{'grid_bits': {fits}}}"
            + ("" if privacy.grid_bits > fits else " or less, at least 1"),
        )


def fixed_size(param: str, value: Value) -> int:
    """Elements of a parameter's gradient.  Raises PrivacyError where they depend on the batch."""
    count = value.tensor.numel
    if not isinstance(count, int):
        raise PrivacyError(f"parameter {param!r} of type {value.type} has no fixed size")
    return count


def noise_params(requests: Sequence[Private]) -> dict[StateName, Param]:
    """The parameters of the function through which the runtime hands over integer noise."""
    found: dict[StateName, Param] = {}
    for request in requests:
        kind = request.result.tensor.with_dtype(DType.I64)
        found[request.param] = Param(request.param, Value(kind, f"y_{request.param}"), "noise")
    return found


def grid_means(
    b: OpBuilder,
    privacy: PrivacyConfig,
    kinds: dict[Value, Kind],
    mask: Value,
    requests: Sequence[Private],
    noise: Mapping[StateName, Param],
) -> dict[Value, Value]:
    """Append the mechanism to ``b``; returns what takes the place of each request's result."""
    clip, bits = privacy.clip, privacy.grid_bits
    gradients: dict[StateName, Value] = {}
    norms: list[Value] = []
    for request in requests:
        gradients[request.param], norm = Gradient(b, kinds, request).materialise()
        norms.append(norm)
    params = tuple(gradients)
    c = b(ClipFactor(tuple(norms), mask, clip * TARGET, params), "c")
    terms: list[Value] = []
    for request in requests:
        with b.at(request.loc):
            terms.append(b(GridNormSq(gradients[request.param], c, clip, bits), f"t2_{request.param}"))
    live = b(GridLive(tuple(terms), c, bits, params), "live")
    means: dict[Value, Value] = {}
    for request in requests:
        param = request.param
        with b.at(request.loc):
            total = b(GridSum(gradients[param], live, clip, bits), f"s_{param}")
            dtype = request.result.type.dtype
            mean = GridMean(total, live, noise[param].value, clip, bits, privacy.lot, param, dtype)
            means[request.result] = b(mean, f"g_{param}")
    return means
