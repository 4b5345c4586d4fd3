"""What every target takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...runtime.engine import Engine
from ...runtime.kernels import KernelTable
from ...runtime.manifest import TargetSpec


@dataclass(frozen=True)
class BuildOptions:
    """What the user may choose about code generation.

    Attributes:
        cpu: processor to generate code for (``x86-64-v3``); empty for the one at hand.
        threads: threads that loops are cut for; 0 for as many as `runtime.threads.thread_count` says.
        self_contained: ``onnx``: random bits are made by the graph, of a key, and not taken as inputs.
        ort_training: ``onnx``: kernels of onnxruntime-training where they are faster.
        architectures: ``cuda``: chips to generate code for (``sm_90``); empty for `tvm.cuda.arch.DEFAULT`.
        tf32: ``cuda``: products of f32 may round their factors to TF32.
        metadata: ``onnx``: what a file tells of itself beside its inputs and outputs, by name.
    """

    cpu: str = ""
    threads: int = 0
    self_contained: bool = False
    ort_training: bool = False
    architectures: tuple[str, ...] = ()
    tf32: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


class Built(Protocol):
    """A module compiled for a target."""

    @property
    def spec(self) -> TargetSpec:
        """The machine the code is for."""
        ...

    def engine(self) -> Engine:
        """An engine that runs the module in this process."""
        ...

    def members(self) -> Mapping[str, bytes]:
        """The code as files of the artifact, by name; empty where the IR itself is executed."""
        ...

    @property
    def kernels(self) -> KernelTable | None:
        """What the code consists of; None for a target that has no kernels."""
        ...
