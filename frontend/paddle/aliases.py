"""Which module of fluidc answers for which of Paddle 1.8.5's: a table."""

from __future__ import annotations

from collections.abc import Mapping

_LAYERS = """
control_flow detection device distributions io layer_function_generator learning_rate_scheduler loss math_op_patch
metric_op nn ops rnn sequence_lod tensor utils
"""
_DYGRAPH = "base checkpoint container jit layers learning_rate_scheduler nn parallel tracer"
_DATASETS = """
cifar common conll05 flowers image imdb imikolov mnist movielens mq2007 sentiment uci_housing voc2012 wmt14 wmt16
"""
# Modules of fluid that fluidc has under the same name, if it has them, and otherwise as names of fluid.
_SAME = """
average backward clip contrib contrib.decoder contrib.extend_optimizer contrib.layers contrib.memory_usage_calc
contrib.mixed_precision contrib.utils core data_feeder data_feed_desc dataset debugger dygraph evaluator framework
graphviz initializer install_check io layer_helper layers metrics net_drawer nets op optimizer param_attr
parallel_executor profiler reader regularizer transpiler unique_name
"""

ALIASES: Mapping[str, tuple[str, ...]] = {
    "paddle": ("paddle.root",),
    "paddle.batch": ("paddle.root",),
    "paddle.compat": ("paddle.compat",),
    "paddle.version": ("paddle.version",),
    "paddle.utils": ("paddle.plot",),
    "paddle.utils.plot": ("paddle.plot",),
    "paddle.reader": ("reader",),
    "paddle.reader.decorator": ("reader",),
    "paddle.dataset": ("paddle.dataset",),
    **{f"paddle.dataset.{name}": (f"paddle.dataset.{name}",) for name in _DATASETS.split()},
    "paddle.fluid": ("",),
    **{f"paddle.fluid.{name}": (name, "") for name in _SAME.split()},
    # Paddle keeps its layers in other files than fluidc does.
    **{f"paddle.fluid.layers.{name}": (f"layers.{name}", "layers", "") for name in _LAYERS.split()},
    **{f"paddle.fluid.dygraph.{name}": (f"dygraph.{name}", "dygraph", "") for name in _DYGRAPH.split()},
    "paddle.fluid.compiler": ("compiled_program", ""),
    "paddle.fluid.lod_tensor": ("lod", ""),
    "paddle.fluid.executor": ("executor", ""),
    "paddle.fluid.input": ("",),
    "paddle.fluid.incubate": ("fleet",),
    "paddle.fluid.incubate.fleet": ("fleet",),
    "paddle.fluid.incubate.fleet.base": ("fleet",),
    "paddle.fluid.incubate.fleet.base.fleet_base": ("fleet.trainer",),
    "paddle.fluid.incubate.fleet.base.role_maker": ("fleet.role_maker",),
    "paddle.fluid.incubate.fleet.collective": ("fleet.collective",),
    "paddle.fluid.incubate.fleet.parameter_server": ("fleet",),
    "paddle.fluid.incubate.fleet.parameter_server.distribute_transpiler": ("fleet.parameter_server",),
    "paddle.fluid.data": ("",),
}
"""Module of Paddle -> modules of ``fluidc.frontend`` that are looked into in turn; "" is that package itself."""

FUNCTIONS = frozenset({"paddle.batch", "paddle.fluid.data", "paddle.fluid.layers.rnn"})
"""Modules of Paddle that have the name of a function beside them, which is what scripts mean by it."""

REFUSED: Mapping[str, tuple[str, str]] = {
    "paddle.fluid.incubate.data_generator": ("makes lines for set_pipe_command", "write the lines with print"),
    "paddle.fluid.incubate.fleet.parameter_server.pslib": (
        "trains on several machines",
        "use paddle.fluid.incubate.fleet.collective with one trainer, or Executor.run",
    ),
    "paddle.fluid.incubate.fleet.utils": ("looks after several machines", "run the program on this machine"),
    "paddle.distributed": ("trains on several machines", "run the program on this machine: Executor.run"),
    "paddle.incubate": ("is experimental in Paddle 1.8", "write it with paddle.fluid"),
    "paddle.complex": ("computes with complex numbers", "keep the real and the imaginary part in two Variables"),
    "paddle.fluid.contrib.slim": ("prunes and quantises", "train in float32"),
    "paddle.fluid.contrib.quantize": ("quantises", "train in float32"),
    "paddle.fluid.communicator": ("trains on several machines", "run the program on this machine: Executor.run"),
    "paddle.fluid.distributed": ("trains on several machines", "run the program on this machine: Executor.run"),
}
"""Module of Paddle that is not there -> what it does, and what to do instead; the same of all modules within."""


def is_module(path: str) -> bool:
    """Whether a dotted name is that of a module, and of nothing that a script calls."""
    return path in ALIASES and path not in FUNCTIONS


def within(path: str, module: str) -> bool:
    """Whether a dotted name is a module's own or of something in it."""
    return path == module or path.startswith(f"{module}.")
