"""The fluid 1.8 API: ``import fluidc.frontend as fluid``.

Importing it loads neither the compiler nor an engine; `Executor` and `privacy` load them on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..runtime.errors import PrivacyWarning
from . import (
    average,
    backward,
    clip,
    contrib,
    core,
    data_feeder,
    dataloader,
    dataset,
    debugger,
    dygraph,
    evaluator,
    framework,
    initializer,
    io,
    layers,
    metrics,
    nets,
    optimizer,
    profiler,
    reader,
    regularizer,
    transpiler,
    unique_name,
)
from .backward import append_backward, gradients
from .data_feed_desc import DataFeedDesc
from .data_feeder import DataFeeder
from .dataset import DatasetFactory, InMemoryDataset, QueueDataset
from .dygraph import (
    FC,
    BatchNorm,
    BCELoss,
    BilinearTensorProduct,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Dropout,
    Embedding,
    GroupNorm,
    GRUUnit,
    InstanceNorm,
    L1Loss,
    Layer,
    LayerNorm,
    Linear,
    MSELoss,
    NLLLoss,
    Pool2D,
    PRelu,
    SpectralNorm,
    disable_dygraph,
    disable_imperative,
    enable_dygraph,
    enable_imperative,
)
from .flags import get_flags, set_flags
from .framework import (
    Program,
    default_main_program,
    default_startup_program,
    device_guard,
    in_dygraph_mode,
    name_scope,
    program_guard,
    require_version,
)
from .layers import learning_rate_scheduler as learning_rate_decay
from .layers.io import data_v2 as data
from .layers.nn import embedding_v2 as embedding
from .layers.nn import one_hot_v2 as one_hot
from .lod import LoDTensor, LoDTensorArray, create_lod_tensor, create_random_int_lodtensor
from .missing import missing_name
from .param_attr import ParamAttr, WeightNormParamAttr
from .places import (
    CPUPlace,
    CUDAPinnedPlace,
    CUDAPlace,
    cpu_places,
    cuda_pinned_places,
    cuda_places,
    is_compiled_with_cuda,
)
from .program_state import load, load_program_state, save, set_program_state
from .scope import Scope, global_scope, scope_guard
from .state_dicts import load_dygraph, save_dygraph
from .strategies import BuildStrategy, ExecutionStrategy
from .transpiler import (
    DistributeTranspiler,
    DistributeTranspilerConfig,
    HashName,
    RoundRobin,
    memory_optimize,
    release_memory,
)
from .variable import Parameter, Variable
from .vartype import VarType

if TYPE_CHECKING:
    from . import executor, install_check, privacy
    from .compiled_program import CompiledProgram
    from .executor import Executor
    from .parallel_executor import ParallelExecutor

Tensor = LoDTensor
VarBase = dygraph.variable.EagerVariable

# What comes nearest to what is missing.
_INSTEAD = {
    "ComplexVariable": "keep the real and the imaginary part in two Variables",
    "DistMultiTrainer": "call exe.train_from_dataset(program, dataset)",
    "MultiTrainer": "call exe.train_from_dataset(program, dataset)",
    "PipelineTrainer": "call exe.train_from_dataset(program, dataset)",
    "TrainerDesc": "call exe.train_from_dataset(program, dataset)",
    "load_op_library": "write the op with fluid.layers",
}

# Names whose modules load the compiler, and where they are.
_LAZY = {
    "CompiledProgram": ".compiled_program",
    "Executor": ".executor",
    "ParallelExecutor": ".parallel_executor",
    "compiler": ".compiled_program",
    "executor": ".executor",
    "incubate": ".fleet",
    "install_check": ".install_check",
    "parallel_executor": ".parallel_executor",
    "privacy": ".privacy",
}


def __getattr__(name: str) -> Any:
    if name in dygraph.nn.MISSING:
        return getattr(dygraph.nn, name)
    if name not in _LAZY:
        return missing_name("fluid", name, _INSTEAD, "fluid.__all__ lists what there is")
    module = importlib.import_module(_LAZY[name], __name__)
    return getattr(module, name) if name[0].isupper() else module


__all__ = [
    "FC",
    "BCELoss",
    "BatchNorm",
    "BilinearTensorProduct",
    "BuildStrategy",
    "CPUPlace",
    "CUDAPinnedPlace",
    "CUDAPlace",
    "CompiledProgram",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "DataFeedDesc",
    "DataFeeder",
    "DatasetFactory",
    "DistributeTranspiler",
    "DistributeTranspilerConfig",
    "Dropout",
    "Embedding",
    "ExecutionStrategy",
    "Executor",
    "GRUUnit",
    "GroupNorm",
    "HashName",
    "InMemoryDataset",
    "InstanceNorm",
    "L1Loss",
    "Layer",
    "LayerNorm",
    "Linear",
    "LoDTensor",
    "LoDTensorArray",
    "MSELoss",
    "NLLLoss",
    "PRelu",
    "ParallelExecutor",
    "ParamAttr",
    "Parameter",
    "Pool2D",
    "PrivacyWarning",
    "Program",
    "QueueDataset",
    "RoundRobin",
    "Scope",
    "SpectralNorm",
    "Tensor",
    "VarBase",
    "VarType",
    "Variable",
    "WeightNormParamAttr",
    "append_backward",
    "average",
    "backward",
    "clip",
    "contrib",
    "core",
    "cpu_places",
    "create_lod_tensor",
    "create_random_int_lodtensor",
    "cuda_pinned_places",
    "cuda_places",
    "data",
    "data_feeder",
    "dataloader",
    "dataset",
    "debugger",
    "default_main_program",
    "default_startup_program",
    "device_guard",
    "disable_dygraph",
    "disable_imperative",
    "dygraph",
    "embedding",
    "enable_dygraph",
    "enable_imperative",
    "evaluator",
    "executor",
    "framework",
    "get_flags",
    "global_scope",
    "gradients",
    "in_dygraph_mode",
    "initializer",
    "install_check",
    "io",
    "is_compiled_with_cuda",
    "layers",
    "learning_rate_decay",
    "load",
    "load_dygraph",
    "load_program_state",
    "memory_optimize",
    "metrics",
    "name_scope",
    "nets",
    "one_hot",
    "optimizer",
    "privacy",
    "profiler",
    "program_guard",
    "reader",
    "regularizer",
    "release_memory",
    "require_version",
    "save",
    "save_dygraph",
    "scope_guard",
    "set_flags",
    "set_program_state",
    "transpiler",
    "unique_name",
]
