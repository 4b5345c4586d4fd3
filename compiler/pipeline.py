"""The passes of each route, in order; nothing else."""

from __future__ import annotations

from .ir.core import Module
from .ir.stage import Stage
from .passes.backward import Backward
from .passes.base import Pass
from .passes.canonicalize import Canonicalize
from .passes.cse import Cse
from .passes.dce import Dce
from .passes.decompose import Decompose
from .passes.expand_grad import ExpandGrad
from .passes.fold import Fold
from .passes.fuse_noise import FuseNoise
from .passes.hoist import Hoist
from .passes.lots import Lots
from .passes.outputs import Outputs
from .passes.privatize import Privatize
from .passes.separate import Separate
from .passes.specialise import Specialise
from .passes.to_target import ToTarget
from .passes.update import Update

SIMPLIFY: tuple[Pass, ...] = (Fold(), Canonicalize(), Cse(), Dce())

PASSES: tuple[type[Pass], ...] = (
    Decompose, Hoist, Separate, Outputs, Backward, ExpandGrad, Privatize, Update, Lots, ToTarget,
    Fold, Canonicalize, Cse, Dce, Specialise, FuseNoise,
)  # fmt: skip


def pipeline(module: Module, *, to: Stage = Stage.TARGET, batch: int = 0) -> tuple[Pass, ...]:
    """The passes that take ``module`` from its stage to stage ``to``.

    Args:
        module: Private modules (``module.privacy`` set) go through ``separate`` and ``privatize``.
        to: The stage wanted; earlier than the module's own gives no passes.
        batch: Physical rows of a step; 0 leaves the batch symbolic.
    """
    private = module.privacy is not None
    steps: dict[Stage, tuple[Pass, ...]] = {
        Stage.CORE: (Decompose(), Hoist(), *((Separate(),) if private else ()), Outputs()),
        Stage.GRAD: (Backward(),),
        Stage.PRIVATE: (Privatize() if private else ExpandGrad(), Dce()),
        Stage.UPDATE: (Update(),),
        Stage.TARGET: (
            *SIMPLIFY,
            *((Lots(), FuseNoise()) if private else (ToTarget(),)),
            *((Specialise(batch),) if batch else ()),
        ),
    }
    return tuple(step for stage, passes in steps.items() if module.stage < stage <= to for step in passes)


def stage_ends(module: Module, *, batch: int = 0) -> dict[int, Stage]:
    """Number of the pass, from 1, that each stage is complete after; 0 is the module's own stage.

    The text of a stage is the module's after that pass: what ``fluidc opt --to STAGE`` prints.
    """
    return {len(pipeline(module, to=stage, batch=batch)): stage for stage in Stage if stage >= module.stage}
