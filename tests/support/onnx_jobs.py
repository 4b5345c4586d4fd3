"""Op cases as ONNX models, and what ONNX Runtime computes by them."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime as ort
from onnx_streams import streams
from op_jobs import Job

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.onnx.build import export
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.stage import Stage


def exported(made: Job, **options: Any) -> onnx.ModelProto:
    """The job as a model that the strict checks accept."""
    model = export(Module(Stage.TARGET, (), (made.function,)), made.function, BuildOptions(**options))
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return model


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def check(made: Job, model: onnx.ModelProto) -> None:
    """Raise AssertionError unless the model computes what is expected."""
    given = dict(zip(argument_names(made), made.arguments, strict=True)) | streams(model, made.arguments)
    wanted = {value.name for value in model.graph.input}
    found = session(model).run(None, {name: array for name, array in given.items() if name in wanted})
    made.compare(found)


def argument_names(made: Job) -> list[str]:
    """What the graph calls its inputs, in the order of the arguments."""
    names: list[str] = []
    for param in made.function.params:
        names.append(param.name)
        if not hasattr(param.value.type, "shape"):
            names.append(f"{param.name}@offsets")
    return names
