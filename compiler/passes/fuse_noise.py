"""fuse-noise: keystream and noisy mean become one op, so that the keystream never reaches memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..ir.core import Module, OpBase, Value
from ..ir.stage import Stage
from ..ops.construct import OpBuilder
from ..ops.dp_noise import AddNoise, Bits, NoisyMean
from .base import Pass
from .dce import Dce
from .rewrite import rewrite


@dataclass(frozen=True)
class FuseNoise(Pass):
    """``dp.noisy_mean(%s, %c, dp.bits(%key, %draw))`` becomes ``dp.add_noise(%s, %c, %key, %draw)``."""

    name: ClassVar[str] = "fuse-noise"
    requires: ClassVar[Stage] = Stage.TARGET

    def run(self, module: Module) -> Module:
        return Dce().run(module.map_functions(lambda function: rewrite(function, _fused)))


def _fused(b: OpBuilder, op: OpBase) -> Sequence[Value] | None:
    if not isinstance(op, NoisyMean) or not isinstance(op.bits.op, Bits):
        return None
    bits = op.bits.op
    fused = AddNoise(
        op.total, op.c, bits.key, bits.draw, bits.tensor, op.sigma, op.clip, op.lot, op.param,
        op.groups, op.bound, bits.domain, op.phase, op.sigmas, op.lots, loc=op.loc,
    )  # fmt: skip
    return b.emit(fused)
