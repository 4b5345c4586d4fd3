"""Where fluidc does otherwise than Paddle 1.8.5, on purpose: one line for each name of fluid."""

from __future__ import annotations

from collections.abc import Mapping

_ONE_DEVICE = "a program runs on one device: what concerns several is a hint without effect"
_LOOKUP = (
    ("is_sparse", "is_distributed"),
    "is_sparse and is_distributed are hints: the gradient is dense, with the same sums",
)
_PRIVATE = "private as published: each example's gradient is clipped; Paddle clips the batch's"
_MEMORY = "no effect: a compiled step plans its own memory"

DIFFERENCES: Mapping[str, str] = {
    "fluid.BuildStrategy": "fields are hints without effect: every program is compiled as a whole",
    "fluid.ExecutionStrategy": "fields are hints without effect: every program is compiled as a whole",
    "fluid.CompiledProgram": _ONE_DEVICE,
    "fluid.ParallelExecutor": _ONE_DEVICE,
    "fluid.cuda_places": "gives [] where there is no GPU; Paddle raises",
    "fluid.device_guard": "no effect: a program runs on one device",
    "fluid.memory_optimize": _MEMORY,
    "fluid.release_memory": _MEMORY,
    "fluid.optimizer.Dpsgd": _PRIVATE,
    "fluid.optimizer.DpsgdOptimizer": _PRIVATE,
    "fluid.dygraph.DataParallel": "one process trains: it passes on to the layer",
    "fluid.dygraph.prepare_context": "one process trains",
    "fluid.core.get_cuda_device_count": "counts the GPUs that fluidc can use",
    "fluid.layers.py_func": "runs in this process only: compiled artifacts refuse it",
    "fluid.layers.Print": "runs in this process only: compiled artifacts refuse it",
}

BY_ARGUMENT: Mapping[str, tuple[tuple[str, ...], str]] = {
    "fluid.embedding": _LOOKUP,
    "fluid.layers.embedding": _LOOKUP,
    "fluid.dygraph.Embedding": _LOOKUP,
}
"""Those that only calls with one of these arguments meet."""
