"""The files for on-device training: models that ONNX Runtime's training API takes, and what it begins with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ....errors import TargetError
from ....ir.core import Module
from ....ir.types import DType, TensorType
from ...built import BuildOptions
from ..build import IR_VERSION, OPSET, export
from ..names import NEXT
from ..types import value_info
from .in_place import ALWAYS, accumulated, inputs, written_in_place
from .training import GRADIENT, RESET, Training, training

Array = NDArray[Any]
Json = dict[str, object]

FLAG = TensorType(DType.BOOL, (1,))
ROW = "@row"
PRIVATE = (
    "A private training step. The gradients it leaves are clipped and noised; its outputs are not private. Feed a new "
    "and secret @key in every call, and whole lots, drawn as the privacy block says, with @mask; reset the gradients "
    "after each call. Neither this file nor ONNX Runtime counts the steps."
)
"""What readers of a private model are told first."""


@dataclass(frozen=True)
class OnDevice:
    """Artifacts for ONNX Runtime's training API, without the values of their checkpoint.

    Attributes:
        models: File name to model: ``training_model.onnx``, ``optimizer_model.onnx`` and, where the program has a test
            form, ``eval_model.onnx``.
        training: What they were made of.
    """

    models: Mapping[str, ModelProto]
    training: Training

    def learning_rate(self, state: Mapping[str, Array]) -> float:
        """What the optimizer is to be set to, given the program's state."""
        rate = self.training.optimizer.rate
        return float(state[rate].reshape(())) if rate else 1.0

    def checkpoint(self, state: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """The variables of the checkpoint: those that are trained, and the others.

        Args:
            state: Name to value of every state variable of the program.

        Raises:
            TargetError: ONNX Runtime's optimizer would not begin as the program does.
        """
        found = self.training
        for name, start in found.optimizer.first.items():
            if not np.all(state[name] == np.asarray(start, state[name].dtype)):
                raise TargetError(
                    f"{name} begins with other numbers than {start:g}, as ONNX Runtime's optimizer does",
                    hint="write the artifacts from a program whose startup has just run",
                )
        held = {
            name: state[name].astype(found.module.declaration(name).type.dtype.numpy, copy=False)
            for name in found.state
        }
        trained = {name: held.pop(name) for name in found.trained}
        return trained, held

    def describe(self) -> Json:
        """The inputs and outputs of both models for people and programs that call them, in their order."""
        found: Json = {
            "optimizer": {
                "op": self.training.optimizer.op,
                "attributes": dict(self.training.optimizer.attributes),
                "learning_rate": self.training.optimizer.rate,
                "in_step": self.training.optimizer.reason,
            },
            "trained": list(self.training.trained),
            "updated_in_place": list(self.training.updated),
        }
        held = {*self.training.state, RESET}
        for kind in ("training", "eval"):
            model = self.models.get(f"{kind}_model.onnx")
            if model is not None:
                graph = model.graph
                given = [v for v in graph.input if v.name not in held and not v.name.endswith(".accumulation.buffer")]
                taken = [v for v in graph.output if not v.name.endswith(".accumulation.out")]
                found[kind] = {"inputs": [_described(v) for v in given], "outputs": [_described(v) for v in taken]}
        return found


def build(module: Module, options: BuildOptions) -> OnDevice:
    """The models of a module at stage ``target``.

    Random bits are made in the graph, of keys that the caller feeds: nothing but ONNX Runtime is at hand there.

    Raises:
        MissingRule: An op has no ONNX form.
        TargetError: What ONNX has no types for, or ONNX Runtime's training API cannot keep.
    """
    found = training(module)
    options = replace(options, self_contained=True)
    models = {
        "training_model.onnx": _training_model(found, options),
        "optimizer_model.onnx": found.optimizer.model(),
    }
    if found.module.has_function("infer"):
        models["eval_model.onnx"] = _eval_model(found, options)
    step = models["training_model.onnx"]
    helper.set_model_props(step, dict(options.metadata))
    if module.privacy is not None:
        step.graph.doc_string = PRIVATE
        for value in step.graph.input:
            if value.name == "@rng_key":
                value.doc_string += ", new and secret in every step"
    return OnDevice(models, found)


def _training_model(found: Training, options: BuildOptions) -> ModelProto:
    model = export(found.module, found.module.function("step"), options)
    new = {name: name + NEXT for name in found.updated}
    gradients = {name: name + GRADIENT for name in found.trained}
    made = {output.name for output in model.graph.output}
    for name in (*new.values(), *gradients.values()):
        if name not in made:
            raise TargetError(
                f"the variable {name} has the name of what a training model computes",
                hint="give the variable another name",
            )
    # A gradient may be an old value: that it is added to its buffer comes before the writes.
    read = [*model.graph.node, *(accumulated(name, gradient) for name, gradient in gradients.items())]
    nodes = written_in_place(read, new)
    inside = {*new.values(), *gradients.values()}
    constants = list(model.graph.initializer)
    if any(ALWAYS in node.input for node in nodes):
        constants.append(numpy_helper.from_array(np.ones(1, np.bool_), ALWAYS))
    buffers = [
        value_info(f"{gradient}.accumulation.buffer", found.module.declaration(name).type)
        for name, gradient in gradients.items()
    ]
    return _model(
        model,
        nodes,
        [*_user_inputs(model, found, constants), *_parameters(found), *buffers, value_info(RESET, FLAG)],
        [
            *(output for output in model.graph.output if output.name not in inside),
            *(value_info(f"{gradient}.accumulation.out", FLAG) for gradient in gradients.values()),
        ],
        constants,
        [output for output in model.graph.output if output.name in inside],
    )


def _eval_model(found: Training, options: BuildOptions) -> ModelProto:
    """Its parameters are those of the training model, in the same order: ONNX Runtime passes them by position."""
    model = export(found.module, found.module.function("infer"), options)
    constants = list(model.graph.initializer)
    taken = [*_user_inputs(model, found, constants), *_parameters(found)]
    return _model(model, model.graph.node, taken, model.graph.output, constants, ())


def _user_inputs(model: ModelProto, found: Training, constants: list[TensorProto]) -> list[ValueInfoProto]:
    """What the caller feeds. A step takes a whole lot, so its first row has the index 0."""
    given = [value for value in model.graph.input if value.name not in found.state]
    if any(value.name == ROW for value in given):
        constants.append(numpy_helper.from_array(np.zeros((), np.int64), ROW))
    return [value for value in given if value.name != ROW]


def _parameters(found: Training) -> list[ValueInfoProto]:
    return [value_info(name, found.module.declaration(name).type) for name in found.state]


def _model(
    model: ModelProto,
    nodes: Iterable[NodeProto],
    taken: Sequence[ValueInfoProto],
    given: Iterable[ValueInfoProto],
    constants: Sequence[TensorProto],
    infos: Iterable[ValueInfoProto],
) -> ModelProto:
    """The model with another graph."""
    nodes = list(nodes)
    read = {name for node in nodes for name in inputs(node)}
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        taken,
        list(given),
        [constant for constant in constants if constant.name in read],
        value_info=[*model.graph.value_info, *infos],
    )
    domains = {domain.domain: domain.version for domain in model.opset_import} | {"": OPSET, "com.microsoft": 1}
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(domains.items())],
        functions=list(model.functions),
        producer_name="fluidc",
        producer_version=model.producer_version,
    )


def _described(value: ValueInfoProto) -> Json:
    kind = value.type.tensor_type
    return {
        "name": value.name,
        "dtype": helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
        "shape": [d.dim_param or d.dim_value for d in kind.shape.dim],
        "what": value.doc_string,
    }
