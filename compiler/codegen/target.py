"""The targets a module can be compiled for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import TargetError
from ..ir.core import Module
from .built import BuildOptions, Built

Build = Callable[[Module, BuildOptions], Built]


def _reference(module: Module, options: BuildOptions) -> Built:
    from .reference import build

    return build(module, options)


def _cpu(module: Module, options: BuildOptions) -> Built:
    from .tvm.kept import build

    return build(module, options)


def _onnx(module: Module, options: BuildOptions) -> Built:
    from .onnx.build import build

    return build(module, options)


def _cuda(module: Module, options: BuildOptions) -> Built:
    from .tvm.cuda.kept import build

    return build(module, options)


# Factories import their back end when they are called; those of ``cpu`` and ``cuda`` import TVM only to compile.
TARGETS: Mapping[str, Build] = {"reference": _reference, "cpu": _cpu, "onnx": _onnx, "cuda": _cuda}


def check_target(target: str) -> None:
    """Raise TargetError for an unknown target."""
    if target not in TARGETS:
        known = ", ".join(TARGETS)
        if target == "ort-artifacts":
            raise TargetError(
                "ort-artifacts are files for ONNX Runtime's training API; fluidc does not execute them",
                hint=f"write them by fluidc compile --target ort-artifacts -o DIR, or use one of: {known}",
            )
        raise TargetError(f"there is no target {target!r}", hint=f"use one of: {known}")


def build(module: Module, target: str, options: BuildOptions) -> Built:
    """Compile a module at stage ``target``.

    Raises:
        TargetError: an unknown target, or an op without a rule for it.
    """
    check_target(target)
    return TARGETS[target](module, options)
