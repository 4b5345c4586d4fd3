"""The names and parameters of fluid 1.8.5, for ``fluidc check`` and ``fluidc ops --coverage``.

Written to frontend/api/fluid_1_8_5.json, a file of the package: module -> name -> parameters, those with a
default followed by ``=``; None for what is no callable, or has no signature that Python can tell.  Modules that scripts
spell in several ways (fluid.layers.nn) are those of their package.
"""

import inspect
import json
import pathlib

import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

HERE = pathlib.Path(__file__).resolve().parents[3] / "frontend" / "api"

MODULES = """
fluid fluid.layers fluid.optimizer fluid.initializer fluid.regularizer fluid.clip fluid.nets fluid.metrics
fluid.io fluid.dygraph fluid.backward fluid.contrib fluid.contrib.layers fluid.contrib.mixed_precision
fluid.param_attr fluid.unique_name fluid.profiler fluid.evaluator fluid.average fluid.install_check
fluid.core fluid.layers.learning_rate_scheduler fluid.transpiler fluid.executor fluid.data_feeder fluid.lod_tensor
"""
# Used by scripts though not in __all__.
MORE = {
    "fluid": "core framework executor io layers initializer regularizer clip dygraph metrics nets profiler unique_name "
    "evaluator average lod_tensor param_attr data_feeder compiler dataset reader install_check incubate DatasetFactory "
    "InMemoryDataset QueueDataset Operator load_dygraph save_dygraph load_program_state set_program_state",
    "fluid.layers.learning_rate_scheduler": "_decay_step_counter",
    "fluid.core": "EOFException EnforceNotMet VarDesc Scope LoDTensor LoDTensorArray CPUPlace CUDAPlace "
    "CUDAPinnedPlace ParallelExecutor get_cuda_device_count is_compiled_with_cuda globals",
    "fluid.layers": "autoincreased_step_counter",
    "fluid.io": "is_parameter is_persistable get_parameter_value get_parameter_value_by_name",
    "fluid.optimizer": "RMSProp Lamb Optimizer",
    "fluid.clip": "append_gradient_clip_ops BaseGradientClipAttr GradientClipBase",
    "fluid.initializer": "Initializer",
    "fluid.regularizer": "WeightDecayRegularizer",
    "fluid.dygraph": "FC nn base layers jit checkpoint learning_rate_scheduler parallel container",
}
OLD = {"fluid.dygraph": {"FC"}}  # of earlier releases
GPU = {"fluid.core": {"get_cuda_device_count"}}  # only in builds for GPUs


def parameters(value):
    """``input size num_flatten_dims= **kwargs``, or None."""
    if inspect.ismodule(value) or not callable(value):
        return None
    try:
        found = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return None
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return " ".join(
        stars.get(p.kind, "") + p.name + ("=" if p.default is not inspect.Parameter.empty else "") for p in found
    )


def write():
    """Write the file."""
    table = {}
    for name in MODULES.split():
        module = fluid
        for part in name.split(".")[1:]:
            module = getattr(module, part)
        names = set(getattr(module, "__all__", ())) | set(MORE.get(name, "").split())
        names -= OLD.get(name, set())
        table[name] = {each: parameters(getattr(module, each)) for each in sorted(names) if hasattr(module, each)}
        table[name].update(dict.fromkeys(GPU.get(name, ())))
    HERE.mkdir(exist_ok=True)
    modules = []
    for name, found in table.items():
        entries = ",\n".join(f"    {json.dumps(each)}: {json.dumps(found[each])}" for each in sorted(found))
        modules.append(f"  {json.dumps(name)}: {{\n{entries}\n  }}")
    (HERE / "fluid_1_8_5.json").write_text("{\n" + ",\n".join(modules) + "\n}\n")
