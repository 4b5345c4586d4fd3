"""The law of the noise, measured on what the compiled ``apply`` writes.

With parameters and optimizer state zero, some state of every parameter answers linearly to its clipped sum: the
parameter itself under SGD, the velocity under Momentum, the first moment under Adam.  The gain is found by probing,
and then noise = value / gain: what is tested is the noise relative to the sums, whatever the optimizer scales by.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.keystream import fresh_key
from ...runtime.privacy import QuantileOptions
from .checks import Check, Effort, judged, unmeasured
from .mechanism import Arrays, Mechanism, zeros_like

CORRELATION = 6.5
"""Bound on |ρ|√n: a false alarm has probability 8e-11."""

_LINEAR = 1e-3
_PROBE = 8.0  # probes are so many standard deviations of the noise: the range in which it acts
_HEAD = 64  # values per draw that are compared between draws and tensors
_WINDOW = 6
_WINDOW_VALUES = 4096
_SAME_NUMBER = 64  # first draws, which share a number
_GRID = 1024.0  # windows are compared on a grid: the same noise comes back through a rounded gain
_WINDOW_BITS = 64  # of independent noise in a window, by which no two of millions are equal by chance
_COARSE = 4096.0  # standard deviations of integer noise from which rounding is too small to be seen


@dataclass(frozen=True)
class Response:
    """State that answers to a parameter's sum: ``value = gain * (sum + noise)``.

    The bound C of quantile clipping answers by its logarithm: ``log(value / C) = gain * (sum + noise) + shift``.
    """

    parameter: str
    state: str
    gain: float
    std: float
    bound: float = 0.0
    shift: float = 0.0

    def noise(self, written: Mapping[str, NDArray[Any]], sums: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """The noise in standard deviations, flat: what was written, less the sum that was put in."""
        value = self.answer(written)
        return ((value - self.shift) / self.gain - sums[self.parameter].reshape(-1)) / self.std

    def answer(self, written: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """The state, or its logarithm, flat."""
        value = written[self.state].astype(np.float64).reshape(-1)
        if not self.bound:
            return value
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(value / self.bound)


@dataclass
class _Tensor:
    """What is kept of one tensor's noise."""

    response: Response
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    kept: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    heads: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])

    def add(self, noise: NDArray[np.float64], wanted: int) -> None:
        left = wanted - self.count
        self.count += noise.size
        self.total += float(noise.sum())
        self.squares += float(np.square(noise).sum())
        self.heads.append(noise[:_HEAD])
        if left > 0:
            self.kept.append(noise[:left])


def responses(mechanism: Mechanism, random: np.random.Generator) -> dict[str, Response | None]:
    """For every parameter, the state that answers linearly to its sum; None where nothing does."""
    std = {name: group.std for group in mechanism.groups for name in group.parameters}
    key = fresh_key()
    probes = [probe(mechanism, random) for _ in range(3)]
    answers = [mechanism.release(sums, key, 0) for sums in probes]
    return {name: _response(name, std[name], mechanism, probes, answers) for name in std}


def probe(mechanism: Mechanism, random: np.random.Generator) -> Arrays:
    """Random sums, some standard deviations of the noise large."""
    std = {name: group.std for group in mechanism.groups for name in group.parameters}
    return {
        name: (random.normal(size=value.shape) * _PROBE * std[name]).astype(value.dtype)
        for name, value in zeros_like(mechanism).items()
    }


def _response(
    name: str, std: float, mechanism: Mechanism, probes: list[Arrays], answers: list[Arrays]
) -> Response | None:
    """The state whose change is a multiple of the change of the sum, the same multiple for two changes.

    No probe is an empty lot: what happens to one of those is for the checks of the noise to find.
    """
    best: tuple[float, Response] | None = None
    for candidate in _candidates(name, std, mechanism, probes[0][name].size):
        gains: list[float] = []
        residual = 0.0
        for before, after in ((0, 1), (1, 2)):
            put_in = (probes[after][name].astype(np.float64) - probes[before][name]).reshape(-1)
            with np.errstate(invalid="ignore", over="ignore"):
                moved = candidate.answer(answers[after]) - candidate.answer(answers[before])
                gain = float(np.vdot(put_in, moved) / max(float(np.vdot(put_in, put_in)), 1e-300))
                size = float(np.linalg.norm(moved))
                off = float(np.linalg.norm(moved - gain * put_in))
            gains.append(gain)
            residual = max(residual, off / size if size > 0 else math.inf)
        first, second = gains
        if not (math.isfinite(residual) and first and math.isfinite(first)):
            continue
        residual = max(residual, abs(first - second) / abs(first))
        if residual <= _LINEAR and (best is None or residual < best[0]):
            best = residual, replace(candidate, gain=first)
    return None if best is None else best[1]


def _candidates(name: str, std: float, mechanism: Mechanism, size: int) -> Iterator[Response]:
    """State that may answer to the sum ``name``, with a gain still to be found."""
    options = mechanism.spec.clipping_options
    if isinstance(options, QuantileOptions) and name == options.state:
        bound = float(mechanism.start[name].reshape(-1)[0])
        # C <- C exp(-eta (1/2 + noisy count / L - quantile)), within its range
        yield Response(name, name, 0.0, std, bound, -options.eta * (0.5 - options.quantile))
        return
    for state, shape in mechanism.written.items():
        if math.prod(shape) == size:
            yield Response(name, state, 0.0, std)


def noise_checks(
    mechanism: Mechanism, found: Mapping[str, Response | None], effort: Effort, random: np.random.Generator
) -> Iterator[Check]:
    """Variance, distribution, mean and independence of the noise.  Yields each check when it is done."""
    bound = f"p > {effort.alpha:g}"
    silent = [name for name, response in found.items() if response is None]
    measured = [_Tensor(response) for response in found.values() if response is not None]
    if any(tensor.response.std == 0 for tensor in measured) or mechanism.spec.sigma == 0:
        yield judged("noise variance", "sigma is 0: no noise is added", bound, False)
        return
    if not measured:
        yield unmeasured("noise variance", "no state answers linearly to the clipped sums", bound)
        return
    draws = _sample(mechanism, measured, effort, random)
    stats: Any = importlib.import_module("scipy.stats")
    unseen = f"; {len(silent)} of {len(found)} tensors without a linear response" if silent else ""
    yield _variance(measured, effort, stats, unseen)
    yield _least("noise mean", measured, effort, lambda t: 2 * float(stats.norm.sf(abs(t.total) / math.sqrt(t.count))))
    yield _least(
        "noise distribution (KS)",
        measured,
        effort,
        lambda t: float(stats.kstest(np.concatenate(t.kept), "norm").pvalue),
    )
    yield _correlations(measured, draws)
    yield _repeats(mechanism, measured)


def _sample(mechanism: Mechanism, measured: list[_Tensor], effort: Effort, random: np.random.Generator) -> int:
    """Draw noise, on an empty lot and on a full one by turns, until every tensor has enough; returns the draws."""
    lots = (zeros_like(mechanism), probe(mechanism, random))
    on_grid = mechanism.spec.grid_bits is not None
    end = time.monotonic() + effort.seconds
    draws = 0
    while draws < effort.draws and min(t.count for t in measured) < effort.values:
        # A fresh key each time; the number of the draw stands still at first, so that the key alone must tell.
        sums = lots[draws % 2]
        written = mechanism.release(sums, fresh_key(), max(0, draws - _SAME_NUMBER))
        for tensor in measured:
            noise = tensor.response.noise(written, sums)
            if on_grid and tensor.response.std < _COARSE:
                noise = unrounded(noise, tensor.response.std, random)
            tensor.add(noise, effort.values)
        draws += 1
        if draws >= _SAME_NUMBER and time.monotonic() > end:
            break
    return draws


def unrounded(noise: NDArray[np.float64], std: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Standard normals, exactly where ``noise`` has the law of ``round(std Z) / std`` with Z standard normal.

    A normal is drawn again from the interval that rounds to each integer, so what is tested is the law of the rounded
    Gaussian itself; any other law of integers stays what it is to within half a unit.
    """
    stats: Any = importlib.import_module("scipy.stats")
    whole = -np.abs(np.rint(noise * std))  # in the lower tail, where probabilities keep their digits
    low, high = stats.norm.cdf((whole - 0.5) / std), stats.norm.cdf((whole + 0.5) / std)
    share = np.maximum(low + (high - low) * random.random(whole.size), np.finfo(np.float64).tiny)
    drawn = stats.norm.ppf(share)
    # Integers at zero have both signs in their interval; the others have their own.
    return np.asarray(np.where(noise * std > 0.5, -drawn, drawn), np.float64)


def _variance(measured: list[_Tensor], effort: Effort, stats: Any, unseen: str) -> Check:
    lowest, name, off = 2.0, "", 0.0
    for tensor in measured:
        lower = float(stats.chi2.cdf(tensor.squares, tensor.count))
        p = 2 * min(lower, 1 - lower, float(stats.chi2.sf(tensor.squares, tensor.count)))
        if p < lowest:
            lowest, name = p, tensor.response.parameter
            off = math.sqrt(tensor.squares / tensor.count) - 1
    fewest = min(t.count for t in measured)
    # Half the time, noise that is off by so much is caught in the tensor that was measured least.
    power = float(stats.norm.isf(effort.alpha / 2)) * math.sqrt(2 / fewest) / 2
    return judged(
        "noise variance",
        f"p = {lowest:.2g}, off by {off:+.2%} in {name}; {power:.1%} would show{unseen}",
        f"p > {effort.alpha:g}",
        lowest > effort.alpha,
        p=lowest,
        worst=name,
        sigma_off=off,
        fewest_values=fewest,
        detectable=power,
    )


def _least(name: str, measured: list[_Tensor], effort: Effort, p_of: Any) -> Check:
    found = {tensor.response.parameter: float(p_of(tensor)) for tensor in measured}
    worst = min(found, key=lambda parameter: found[parameter])
    return judged(
        name,
        f"p = {found[worst]:.2g} in {worst}",
        f"p > {effort.alpha:g}",
        found[worst] > effort.alpha,
        p=found[worst],
        worst=worst,
    )


def _correlations(measured: list[_Tensor], draws: int) -> Check:
    """Between tensors, between one draw and the next, and between neighbouring elements."""
    heads = {t.response.parameter: np.stack(t.heads) for t in measured}
    pairs: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]] = []
    for (a, one), (b, two) in combinations(heads.items(), 2):
        width = min(one.shape[1], two.shape[1])
        pairs.append((f"{a}, {b}", one[:, :width], two[:, :width]))
    for name, head in heads.items():
        if draws > 1:
            pairs.append((f"{name}, draw to draw", head[:-1], head[1:]))
        if head.shape[1] > 1:
            even = head.shape[1] // 2 * 2
            pairs.append((f"{name}, neighbours", head[:, 0:even:2], head[:, 1:even:2]))
    largest, where = 0.0, ""
    for label, one, two in pairs:
        found = abs(_correlation(one.ravel(), two.ravel())) * math.sqrt(one.size)
        if found > largest:
            largest, where = found, label
    return judged(
        "noise independence",
        f"|ρ|√n = {largest:.2f} at most ({where}), {len(pairs)} pairs, {draws} draws",
        f"< {CORRELATION}",
        largest < CORRELATION,
        largest=largest,
        worst=where,
        pairs=len(pairs),
    )


def _correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    # Means are known to be 0; with few values, subtracting their own would hide a repeated one.
    scale = math.sqrt(float(np.dot(one, one)) * float(np.dot(two, two)))
    return float(np.dot(one, two)) / scale if scale else 0.0


def _repeats(mechanism: Mechanism, measured: list[_Tensor]) -> Check:
    """No stretch of noise occurs twice: in one tensor, in two, in two draws, or under another number of the draw."""
    zeros, key = zeros_like(mechanism), fresh_key()
    spans = {tensor.response.parameter: _span(mechanism, tensor.response.std) for tensor in measured}
    seen: list[NDArray[np.uint64]] = []
    lots = [(fresh_key(), 0) for _ in range(4)] + [(key, draw) for draw in range(1, 5)]
    for used, draw in lots:
        written = mechanism.release(zeros, used, draw)
        for tensor in measured:
            noise, (span, grid) = tensor.response.noise(written, zeros), spans[tensor.response.parameter]
            noise = noise[: max(_WINDOW_VALUES, span)]
            if noise.size >= span:
                seen.append(_windows(noise, span, grid))
    if not seen:
        least = min(span for span, _ in spans.values())
        return unmeasured("repeated noise", f"every tensor has fewer than {least} values", "0")
    everything = np.concatenate(seen)
    repeated = int(everything.size - np.unique(everything).size)
    return judged(
        "repeated noise",
        f"{repeated} of {everything.size} stretches of {max(span for span, _ in spans.values())} values",
        "0",
        repeated == 0,
        repeated=repeated,
        stretches=int(everything.size),
    )


def _span(mechanism: Mechanism, std: float) -> tuple[int, float]:
    """How many values make a stretch, and the steps per standard deviation in which they are compared.

    Coarse integers repeat by chance: their stretches are as long as it takes to hold so many random bits.
    """
    if mechanism.spec.grid_bits is None or std >= _GRID:
        return _WINDOW, _GRID
    stats: Any = importlib.import_module("scipy.stats")
    ends = (np.arange(-math.ceil(8 * std) - 1, math.ceil(8 * std) + 2) + 0.5) / std
    alike = float(np.sum(np.diff(stats.norm.cdf(ends)) ** 2))
    return max(_WINDOW, math.ceil(_WINDOW_BITS / -math.log2(min(alike, 1 - 1e-6)))), std


def _windows(noise: NDArray[np.float64], span: int, steps: float) -> NDArray[np.uint64]:
    """A number for each stretch of ``span`` values, equal for equal stretches."""
    with np.errstate(invalid="ignore"):
        grid = np.rint(np.nan_to_num(noise) * steps).astype(np.int64).view(np.uint64)
    total = np.zeros(grid.size - span + 1, np.uint64)
    for offset in range(span):
        total = total * np.uint64(0x9E3779B97F4A7C15) + grid[offset : offset + total.size]
        total ^= total >> np.uint64(29)
    return total
