"""A module as ONNX files, one per function."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from onnx import ModelProto, NodeProto, helper

from ....runtime.engine import Engine
from ....runtime.manifest import TargetSpec
from ...ir.core import Function, Module, Value, walk
from ...ir.types import RaggedType, Sym
from ...ops.base import Op, has_rule
from ...ops.state import Read, Write, state_of
from ..built import BuildOptions
from .emit import Argument, Emitter, symbol_source
from .join import joined
from .lint import check_mechanism, check_randomness
from .names import NEXT, Names
from .types import value_info

OPSET = 20
IR_VERSION = 9
"""What ONNX Runtime 1.19 and all later ones read."""


@dataclass(frozen=True)
class OnnxBuild:
    """A module as the ``onnx`` target delivers it.

    Attributes:
        models: Name of a function to its model.
        threads: Threads of an engine in this process; 0 for as many as `runtime.threads.thread_count` says.
    """

    models: Mapping[str, ModelProto]
    threads: int

    @property
    def spec(self) -> TargetSpec:
        """Any machine with ONNX Runtime."""
        return TargetSpec("onnx", "", "", ())

    def engine(self) -> Engine:
        """An engine that runs the module in this process."""
        from ....runtime.onnx_engine import OnnxEngine

        return OnnxEngine(self._serialized(), self.threads or None)

    def members(self) -> Mapping[str, bytes]:
        """``FUNCTION.onnx`` for every function."""
        return {f"{name}.onnx": data for name, data in self._serialized().items()}

    def _serialized(self) -> dict[str, bytes]:
        return {name: model.SerializeToString(deterministic=True) for name, model in self.models.items()}

    @property
    def kernels(self) -> None:
        """The kernels are ONNX Runtime's."""
        return None


def build(module: Module, options: BuildOptions) -> OnnxBuild:
    """The functions of a module at stage ``target`` as ONNX models.

    Raises:
        MissingRule: An op has no ONNX form.
        TargetError: What ONNX has no types for; the mechanism discrete; random nodes in a private graph.
    """
    for function in module.functions:
        check_mechanism(module, function)
        _check_rules(function)
    models = {function.name: export(module, function, options) for function in module.functions}
    return OnnxBuild(models, options.threads)


def export(module: Module, function: Function, options: BuildOptions) -> ModelProto:
    """One function as an ONNX model.

    Inputs and outputs are those of the function in the order in which the runtime passes them, state first; the
    new value of state ``w`` is the output ``w@NEXT``; where a variable has such a name, a number is added. The
    model's metadata says what each is (docs/onnx.md).
    Raises MissingRule or TargetError as `build` does.
    """
    check_mechanism(module, function)
    (function,) = joined(replace(module, functions=(function,))).functions
    names = Names([*state_of(module, function), *(param.name for param in function.params if param.role == "feed")])
    arguments = _arguments(module, function, names)
    outputs = _outputs(module, function, names)
    emitter = Emitter(
        function,
        arguments,
        [output.output for output in outputs],
        self_contained=options.self_contained,
        ort_training=options.ort_training,
    )
    emitter.ops(function.ops)
    for output in outputs:
        emitter.output(output.value, output.output)
    nodes, infos = emitter.finish()
    used = set(_read(nodes))
    inputs = [value_info(a.input, a.type, _doc(a)) for a in arguments if a.input in used]
    inputs += [value_info(stream.input, stream.type, _STREAM) for stream in emitter.streams]
    graph = helper.make_graph(
        nodes,
        function.name,
        inputs,
        [value_info(output.output, output.value.tensor, output.doc) for output in outputs],
        [constant for constant in emitter.constants if constant.name in used],
        value_info=infos,
        doc_string=_PRIVATE if module.privacy is not None and function.param("mask") is not None else "",
    )
    domains = sorted({node.domain for node in _every(nodes)} | {function.domain for function in emitter.functions})
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid(domain, OPSET if not domain else 1) for domain in domains or [""]],
        functions=emitter.functions,
        producer_name="fluidc",
        producer_version=options.metadata.get("fluidc.version", ""),
    )
    if module.privacy is not None:
        check_randomness(model)
    known = {
        "fluidc.inputs": [
            {"kind": a.kind, "name": a.name, "input": a.input if a.input in used else ""} for a in arguments
        ],
        "fluidc.outputs": [{"kind": o.kind, "name": o.name, "output": o.output} for o in outputs],
        "fluidc.symbols": _symbols(arguments),
        "fluidc.streams": [stream.to_json() for stream in emitter.streams],
    }
    helper.set_model_props(model, {**{name: json.dumps(value) for name, value in known.items()}, **options.metadata})
    return model


@dataclass(frozen=True)
class _Output:
    """A result of the function, and what the graph calls it."""

    kind: str
    name: str
    output: str
    value: Value
    doc: str


# What readers of the file are told of inputs that are neither feeds nor state.
_DOCS: Mapping[str, str] = {
    "mask": "rows of the batch that are examples; the others are padding",
    "key": "key of the noise, new and secret in every step",
    "draw": "number of the noise draw: of the step",
    "rng_key": "key of the model's random numbers",
    "rng_counter": "counter of the model's random numbers",
    "row": "index in the lot of the batch's first row",
    "phase": "index of the step's phase of training",
    "clock": "seconds since 1970",
    "noise": "integer noise",
    "state": "state: its new value, if it changes, is an output",
}


def _doc(argument: Argument) -> str:
    if argument.kind == "extent":
        return f"of any content; its size is {argument.name} of what is fed"
    return _DOCS.get(argument.kind, "")


_PRIVATE = (
    "Part of private training. It clips the gradient of every example and adds noise, of a key or words that must be "
    "new and secret in every step; fetches are not private. That lots are drawn as the privacy block says, and how "
    "many, nobody but the caller answers for: neither this file nor ONNX Runtime counts."
)
_STREAM = "random words of a ChaCha20 keystream"


def _arguments(module: Module, function: Function, names: Names) -> tuple[Argument, ...]:
    """The inputs in the order in which the runtime passes them; ``names`` are those of state and feeds at first."""
    found = [Argument("state", name, name, module.declaration(name).type) for name in state_of(module, function)]
    for param in function.params:
        if isinstance(param.value.type, RaggedType):
            kind, offsets = param.value.type, f"{param.name}@offsets"
            found.append(Argument(param.role, param.name, param.name, kind.data))
            found.append(Argument(param.role, offsets, names.unique(offsets), kind.offsets))
        elif param.role == "feed":
            found.append(Argument(param.role, param.name, param.name, param.value.tensor))
        elif param.role == "noise":
            found.append(Argument(param.role, param.name, names.unique(f"@noise/{param.name}"), param.value.tensor))
        elif param.role == "extent":
            # The size is the name's: the rule is a text of its own, in the metadata and in the input's description.
            name = names.unique(f"@extent/{param.value.tensor.shape[0]}")
            found.append(Argument(param.role, param.name, name, param.value.tensor))
        else:
            found.append(Argument(param.role, "", names.unique(f"@{param.role}"), param.value.tensor))
    return tuple(found)


def _outputs(module: Module, function: Function, names: Names) -> tuple[_Output, ...]:
    """The fetches, then the new values of state."""
    found: list[_Output] = []
    for output in function.outputs:
        # Fetching a parameter, or a feed: the graph's input has that name.
        name = names.unique(f"{output.name}@FETCH" if names.has(output.name) else output.name)
        exact = module.privacy is not None and output.combine != "last"
        doc = "NOT PRIVATE: exact, of the examples" if exact else ""
        found.append(_Output("fetch", output.name, name, output.value, doc))
    for op in function.ops:
        if isinstance(op, Write):
            sums = module.declaration(op.state).kind == "lot"
            doc = "NOT PRIVATE: clipped sums of a part of a lot, without noise" if sums else ""
            found.append(_Output("state", op.state, names.unique(op.state + NEXT), op.value, doc))
    return tuple(found)


def _symbols(arguments: Iterable[Argument]) -> dict[str, list[int]]:
    """Where the size of each symbol is read: number of an argument, axis, scale."""
    arguments = tuple(arguments)
    dims = (dim for argument in arguments for dim in argument.type.shape)
    names = {dim.name for dim in dims if isinstance(dim, Sym)}
    return {name: list(symbol_source(arguments, name) or ()) for name in sorted(names)}


def _every(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """All nodes, those of nested graphs too."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _every(attribute.g.node)


def _read(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """Every name that a node reads, or a nested graph hands out."""
    for node in _every(nodes):
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from (output.name for output in attribute.g.output)


def _check_rules(function: Function) -> None:
    """Raise MissingRule for the first op that has no ONNX form, before anything is written."""
    for op in walk(function.ops):
        if isinstance(op, Op) and not isinstance(op, Read | Write) and not has_rule(type(op), "to_onnx"):
            raise op.missing("to_onnx", op.no_onnx)
