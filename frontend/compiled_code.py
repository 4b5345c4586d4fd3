"""Compiled code of programs: what it is compiled for, the engine that runs it, and the state that it has."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from ..compiler.codegen.target import BuildOptions
from ..compiler.driver import Compiled, Source, compile_source
from ..compiler.ir.types import TensorType
from ..compiler.ops.grad import Backward
from ..compiler.ops.state import Read, Write
from ..runtime.engine import Engine
from ..runtime.errors import PrivacyWarning
from .framework import Program
from .lower import lower
from .places import CUDAPlace, Place


@dataclass(frozen=True)
class Code:
    """A compiled program and the engine that runs it."""

    compiled: Compiled
    engine: Engine


@dataclass(frozen=True)
class Types:
    """What a step is compiled for.

    Attributes:
        types: Of the feeds, by parameter name.
        rows: The size of the batch; 0 for any.
    """

    types: Mapping[str, TensorType]
    rows: int


def compiled_code(program: Program, given: Types, fetches: tuple[str, ...], target: str, place: Place) -> Code:
    """Compile a program.  Raises LoweringError and VerifyError for one that cannot be compiled as a whole."""
    source = lower(program, fetches=fetches, feed_types=given.types)
    for text in source.plan.warnings if source.plan is not None else ():
        warnings.warn(text, PrivacyWarning, stacklevel=6)
    # A startup program runs once: numpy is done before a compiler would start.
    target = target if _runs_often(source) else "reference"
    compiled = compile_source(source, target=target, batch=given.rows, options=BuildOptions())
    return Code(compiled, engine_at(place, compiled))


def engine_at(place: Place, compiled: Compiled) -> Engine:
    """An engine that runs the code at a place.  Raises NoDeviceError for a GPU that cannot be used."""
    built = compiled.built
    if not isinstance(place, CUDAPlace) or built.spec.kind != "cuda":
        return built.engine()
    from ..runtime.cuda.cudart import NoDeviceError  # most programs never run on a GPU
    from ..runtime.cuda.engine import CudaEngine

    try:
        return CudaEngine(built.members()["module.so"], built.spec, place.device_id)
    except NoDeviceError as error:
        hint = "use fluid.CPUPlace(); fluid.is_compiled_with_cuda() tells whether a GPU can be used"
        raise NoDeviceError(error.what, str(place), hint) from None


def _runs_often(source: Source) -> bool:
    """Whether a program is fed or trains; what does neither is a startup program, or as cheap as one."""
    fed = any(param.role == "feed" for function in source.module.functions for param in function.params)
    return fed or any(isinstance(op, Backward) for function in source.module.functions for op in function.ops)


def state_read(compiled: Compiled) -> set[str]:
    """State that the program reads."""
    return {str(op.state) for op in compiled.module.function("step").ops if isinstance(op, Read)}


def state_written(compiled: Compiled) -> set[str]:
    """State that the program sets, be it to an array: such a Write of what was read may be gone when compiled."""
    return {str(op.state) for op in compiled.source.module.function("step").ops if isinstance(op, Write)}
