"""The targets a module can be compiled for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ...runtime.manifest import TargetSpec
from ..errors import TargetError
from ..ir.core import Module


@dataclass(frozen=True)
class BuildOptions:
    """What the user may choose about code generation.

    Attributes:
        cpu: processor to generate code for (``x86-64-v3``); empty for the one at hand.
        threads: threads of a step; 0 for all that the process may use.
    """

    cpu: str = ""
    threads: int = 0


class Built(Protocol):
    """A module compiled for a target.  Its functions run as ``runtime.engine.Engine`` says."""

    @property
    def spec(self) -> TargetSpec:
        """The machine the code is for."""
        ...

    def engine(self) -> object:
        """An engine that runs the module in this process."""
        ...

    def members(self) -> Mapping[str, bytes]:
        """The code as files of the artifact, by name; empty where the IR itself is executed."""
        ...


Build = Callable[[Module, BuildOptions], Built]


def _reference(module: Module, options: BuildOptions) -> Built:
    from .reference import build

    return build(module, options)


def _cpu(module: Module, options: BuildOptions) -> Built:
    from .tvm.build import build

    return build(module, options)


# Factories import their back end when they are called: `import tvm` takes seconds.
TARGETS: Mapping[str, Build] = {"reference": _reference, "cpu": _cpu}
PLANNED = ("cuda", "onnx", "ort-artifacts")


def build(module: Module, target: str, options: BuildOptions) -> Built:
    """Compile a module at stage ``target``.

    Raises:
        TargetError: an unknown target, one that this version lacks, or an op without a rule for it.
    """
    if target not in TARGETS:
        known = ", ".join(TARGETS)
        if target in PLANNED:
            raise TargetError(f"target {target!r} is not part of this version", hint=f"use one of: {known}")
        raise TargetError(f"there is no target {target!r}", hint=f"use one of: {known}")
    return TARGETS[target](module, options)
