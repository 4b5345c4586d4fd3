"""``fluid.core``: what scripts touch of Paddle's C++ module; the rest is refused by name."""

from __future__ import annotations

from ..runtime.errors import FluidcError
from .dygraph.variable import EagerVariable
from .errors import EOFException
from .flags import Flags, process_flags
from .lod import LoDTensor, LoDTensorArray
from .missing import MissingName
from .op_role import OpRole
from .places import CPUPlace, CUDAPinnedPlace, CUDAPlace, Place, is_compiled_with_cuda
from .scope import Scope
from .strategies import BuildStrategy as _BuildStrategy
from .strategies import ExecutionStrategy as _ExecutionStrategy
from .variable import GRAD_SUFFIX
from .vartype import VarType

EnforceNotMet = FluidcError
"""What Paddle's C++ raises for every mistake is the base of all errors here; `EOFException` is none of them."""

Tensor = LoDTensor
VarBase = EagerVariable
_Scope = Scope


class VarDesc:
    """The name that Paddle keeps `VarType` under: ``fluid.core.VarDesc.VarType.FP32``."""

    VarType = VarType


class ParallelExecutor:
    """The name that Paddle keeps the strategies under."""

    BuildStrategy = _BuildStrategy
    ExecutionStrategy = _ExecutionStrategy


class op_proto_and_checker_maker:
    """What ops are for, and the names of the attributes that say so."""

    OpRole = OpRole

    @staticmethod
    def kOpRoleAttrName() -> str:
        return "op_role"

    @staticmethod
    def kOpRoleVarAttrName() -> str:
        return "op_role_var"

    @staticmethod
    def kOpNameScopeAttrName() -> str:
        return "op_namescope"

    @staticmethod
    def kOpDeviceAttrName() -> str:
        return "op_device"


def get_cuda_device_count() -> int:
    """CUDA devices that this process can use; 0 without NVIDIA's driver."""
    from ..runtime.cuda.cudart import device_count  # most programs never ask

    return device_count()


def is_compiled_with_mkldnn() -> bool:
    """False: kernels are made by the compiler."""
    return False


def is_compiled_with_dist() -> bool:
    """False: there is one trainer."""
    return False


def is_compiled_with_brpc() -> bool:
    """False: there is one trainer."""
    return False


def globals() -> Flags:
    """The flags of the process, as a dict."""
    return process_flags()


def init_gflags(args: object) -> bool:
    """Nothing is to be initialised."""
    return True


def init_glog(name: str) -> None:
    """Nothing is to be initialised."""


def init_devices(*arguments: object) -> None:
    """Nothing is to be initialised."""


def set_num_threads(count: int) -> None:
    """Threads of Paddle's BLAS; the compiler's kernels have their own (``TVM_NUM_THREADS``)."""


def avx_supported() -> bool:
    """Whether Paddle would load its faster library; the compiler finds out by itself what the processor has."""
    return True


def kGradVarSuffix() -> str:
    """What the name of a gradient ends with."""
    return GRAD_SUFFIX


def grad_var_suffix() -> str:
    """What the name of a gradient ends with."""
    return GRAD_SUFFIX


def empty_var_name() -> str:
    """Paddle's name for no variable."""
    return "@EMPTY@"


# What comes nearest, where something does.
_INSTEAD = {
    "AnalysisConfig": "use fluid.io.load_inference_model and Executor.run, or `fluidc compile` for a library",
    "NativeConfig": "use fluid.io.load_inference_model and Executor.run, or `fluidc compile` for a library",
    "create_paddle_predictor": "use fluid.io.load_inference_model and Executor.run",
    "ops": "call the layer: fluid.layers.NAME",
    "Executor": "use fluid.Executor",
    "ProgramDesc": "use fluid.Program.parse_from_string",
    "load_op_library": "write the op with fluid.layers, or fluid.layers.py_func",
    "Graph": "read program.global_block().ops",
}
_NAMES = """
AnalysisConfig AnalysisPredictor AttrType BackwardStrategy BlockDesc BoxPS Dataset DeviceContext DistCommunicator
EventSortingKey Executor ExecutorPrepareContext FetchList Fleet Gloo Graph IterableDatasetWrapper Layer
LoDTensorBlockingQueue LodRankTable MultiDeviceFeedReader NativeConfig NativePaddlePredictor Node OpDesc Operator
PaddleBuf PaddleDType PaddlePlace PaddlePredictor PaddleTensor ParallelStrategy Pass PassBuilder ProfilerState
ProgramDesc ProgramDescTracer Reader SelectedRows Tracer TracerOption TrainerBase Variable ZeroCopyTensor
build_adjacency_list create_paddle_predictor create_py_reader disable_profiler enable_profiler from_dlpack
get_all_op_protos get_fetch_variable get_grad_op_desc get_op_attrs_default_value get_pass get_variable_tensor
has_circle init_lod_tensor_blocking_queue load_op_library ops prune set_feed_variable topology_sort
"""
_MISSING = frozenset(_NAMES.split())


def __getattr__(name: str) -> MissingName:
    if name not in _MISSING:
        raise AttributeError(f"module fluid.core has no attribute {name!r}")
    return MissingName(f"fluid.core.{name}", _INSTEAD.get(name, "use fluid's Python API; it is part of Paddle's C++"))


__all__ = [
    "CPUPlace",
    "CUDAPinnedPlace",
    "CUDAPlace",
    "EOFException",
    "EnforceNotMet",
    "LoDTensor",
    "LoDTensorArray",
    "ParallelExecutor",
    "Place",
    "Scope",
    "Tensor",
    "VarBase",
    "VarDesc",
    "avx_supported",
    "empty_var_name",
    "get_cuda_device_count",
    "globals",
    "grad_var_suffix",
    "init_devices",
    "init_gflags",
    "init_glog",
    "is_compiled_with_brpc",
    "is_compiled_with_cuda",
    "is_compiled_with_dist",
    "is_compiled_with_mkldnn",
    "kGradVarSuffix",
    "op_proto_and_checker_maker",
    "set_num_threads",
]
