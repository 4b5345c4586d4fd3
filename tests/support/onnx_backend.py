"""The single-node cases of onnx's own backend test as functions of the IR, and what they must compute.

An input that an operator needs while compiling (axes, shapes, scales) becomes a constant of the model; all others are
fed.  What a case needs and fluidc does not have is its reason to be skipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, defs, helper, numpy_helper

from fluidc.compiler.codegen.reference import ReferenceEngine
from fluidc.compiler.errors import FluidcError
from fluidc.compiler.ir.core import Function, Module
from fluidc.compiler.ops.state import state_of
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.compat.onnx import OnnxModel, import_model
from fluidc.frontend.compat.onnx.graph import OLDEST_OPSET
from fluidc.frontend.lower.module import lower
from fluidc.frontend.lower.onnx import PREFIX, RULES
from fluidc.frontend.lower.onnx.missing import MISSING
from fluidc.frontend.lower.onnx.node import NotConstant

Array = NDArray[Any]


ELEMENTS = ("bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64")
"""Element types that Variables of fluid and values of the IR both have."""

_FRACTION = "the case takes a fractional output size where PyTorch and ONNX Runtime take the whole one, as fluidc does"
DISPUTED = {
    "resize_downsample_scales_cubic_align_corners": _FRACTION,
    "resize_downsample_scales_linear_align_corners": _FRACTION,
}
"""Cases that state other results than the runtimes that models are exported from and for."""


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: As onnx calls it, without ``test_``.
        op: Op type.
        opset: That of its model.
        proto: Its model: one node.
        inputs, outputs: Values by position; None for what is no tensor of numbers.
        rtol, atol: Tolerances that onnx states for it.
    """

    name: str
    op: str
    opset: int
    proto: ModelProto
    inputs: tuple[Array | None, ...]
    outputs: tuple[Array | None, ...]
    rtol: float
    atol: float

    @property
    def node(self) -> NodeProto:
        (node,) = self.proto.graph.node
        return node

    @property
    def version(self) -> int:
        """The opset in which the op took the form that the case uses."""
        return defs.get_schema(self.op, self.opset, "").since_version


class Skipped(Exception):
    """The case needs what fluidc does not have; the message is the reason."""


@dataclass(frozen=True)
class Prepared:
    """A case as a function of the IR.

    Attributes:
        module: One function at stage ``target``, named for the case, and its state.
        arguments: Of the compiled function: state, then feeds.
        constants: Inputs that were made constants.
    """

    case: Case
    module: Module
    arguments: tuple[Array, ...]
    constants: tuple[str, ...]

    @property
    def function(self) -> Function:
        return self.module.functions[0]

    def check(self, found: Sequence[Array]) -> None:
        """Raise AssertionError unless these are the results that the case states.

        Its tolerances hold, and of half precision, in which they are less than that, two units in the last place.
        """
        assert len(found) == len(self.case.outputs)
        for have, want in zip(found, self.case.outputs, strict=True):
            assert want is not None
            assert have.dtype == want.dtype, f"element type {have.dtype}, not {want.dtype}"
            assert have.shape == want.shape, f"shape {have.shape}, not {want.shape}"
            least = 2 * np.finfo(want.dtype).eps if want.dtype == np.float16 else 0.0
            np.testing.assert_allclose(have, want, rtol=max(self.case.rtol, least), atol=self.case.atol)


def single_node_cases() -> list[Case]:
    """All cases of one node of the standard operators, in the order of their names."""
    return [case for case in _cases() if len(case.proto.graph.node) == 1]


def function_body_cases() -> list[Case]:
    """Those of several nodes: most are operators written as others.  Their ``op`` is empty."""
    return [case for case in _cases() if len(case.proto.graph.node) > 1]


@cache
def _cases() -> tuple[Case, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases are computed by numpy, at its limits
        from onnx.backend.test.loader import load_model_tests

        found = load_model_tests(kind="node")
    return tuple(sorted(_read(found), key=lambda case: case.name))


def _read(found: Sequence[Any]) -> Iterator[Case]:
    for test in found:
        model = test.model
        if model is None or any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
            continue
        nodes = model.graph.node
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        ((inputs, outputs),) = test.data_sets
        yield Case(
            test.name.removeprefix("test_"),
            nodes[0].op_type if len(nodes) == 1 else "",
            opset,
            model,
            tuple(map(_array, inputs)),
            tuple(map(_array, outputs)),
            test.rtol,
            test.atol,
        )


def _array(value: Any) -> Array | None:
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    return value if isinstance(value, np.ndarray) and value.dtype.kind not in "OUS" else None


def prepared(case: Case) -> Prepared:
    """The case as a function.

    Raises:
        Skipped: With the reason.
        Exception: Any other is a defect.
    """
    if PREFIX + case.op not in RULES:
        raise Skipped(MISSING.get(case.op, "no rule yet"))
    if case.name in DISPUTED:
        raise Skipped(DISPUTED[case.name])
    for value in (*case.inputs, *case.outputs):
        if value is None:
            raise Skipped("text, sequences and optional values are not in the IR")
        if value.dtype.name not in ELEMENTS:
            raise Skipped(f"fluid has no element type {value.dtype.name}")
    constants: list[str] = []
    while True:
        try:
            return _imported(case, constants)
        except NotConstant as error:
            constants.append(error.slot)
        except FluidcError as error:
            raise Skipped(error.what) from None


def _imported(case: Case, constants: Sequence[str]) -> Prepared:
    model, feeds = _model(case, constants)
    module, arguments = lowered(import_model(model, trainable=()), list(feeds.values()), case.name)
    return Prepared(case, module, arguments, tuple(constants))


def lowered(imported: OnnxModel, feeds: Sequence[Array], name: str) -> tuple[Module, tuple[Array, ...]]:
    """The function ``name`` at stage ``target``, and its arguments: state, then what is fed.

    Raises:
        Skipped: It draws random numbers.
    """
    source = lower(imported.program, fetches=[var.name for var in imported.outputs])
    module = run_passes(source.module, pipeline(source.module))
    (function,) = module.functions
    if any(param.role != "feed" for param in function.params):
        raise Skipped("draws random numbers of its own: any result is right")
    by_name = {var.name: array for var, array in zip(imported.feeds, feeds, strict=True)}
    state = [source.initial[each] for each in state_of(module, function)]
    fed = [by_name[param.name] for param in function.params]
    return replace(module, functions=(replace(function, name=name),)), (*state, *fed)


def _model(case: Case, constants: Sequence[str]) -> tuple[ModelProto, dict[str, Array]]:
    """The model with the values of these slots as initialisers, and the arrays of its other inputs by their names.

    All names begin with that of the case: many cases are compiled to one module.
    """
    schema = defs.get_schema(case.op, case.version, "")
    slots = {name: slot.name for name, slot in zip(case.node.input, schema.inputs, strict=False)}
    given = dict(zip((value.name for value in case.proto.graph.input), case.inputs, strict=True))
    node = NodeProto()
    node.CopyFrom(case.node)
    names = [_named(case, name) for name in case.node.input]
    outputs = [_named(case, name) for name in case.node.output]
    node.ClearField("input")
    node.ClearField("output")
    node.input.extend(names)
    node.output.extend(outputs)
    fixed = {name: array for name, array in given.items() if slots.get(name) in constants and array is not None}
    feeds = {name: array for name, array in given.items() if name not in fixed and array is not None}
    graph = helper.make_graph(
        [node],
        case.name,
        [
            helper.make_tensor_value_info(
                _named(case, name), helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape)
            )
            for name, array in feeds.items()
        ],
        [helper.make_empty_tensor_value_info(_named(case, value.name)) for value in case.proto.graph.output],
        [numpy_helper.from_array(array, _named(case, name)) for name, array in fixed.items()],
    )
    # A few cases name the oldest opset that has their op; in the oldest one that is imported it is the same.
    oldest = defs.get_schema(case.op, OLDEST_OPSET, "").since_version if case.opset < OLDEST_OPSET else 0
    opset = OLDEST_OPSET if oldest == case.version else case.opset
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=case.proto.ir_version)
    return model, {_named(case, name): array for name, array in feeds.items()}


def _named(case: Case, name: str) -> str:
    return f"{case.name}.{name}" if name else ""


def run_reference(made: Prepared) -> list[Array]:
    """The results of the ``reference`` target."""
    return ReferenceEngine(made.module).call(made.function.name, list(made.arguments))


def merged(many: Sequence[Prepared]) -> Module:
    """All functions in one module."""
    state = {declared.name: declared for made in many for declared in made.module.state}
    return replace(many[0].module, state=tuple(state.values()), functions=tuple(made.function for made in many))
