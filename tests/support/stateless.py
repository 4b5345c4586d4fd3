"""Steps that change no state, compiled for a target and called with their parameters as arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.onnx.build import build as build_onnx
from fluidc.compiler.codegen.tvm.build import compile_module
from fluidc.compiler.ir.core import Function, Module, OpBase, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ops.state import Read
from fluidc.runtime.engine import Engine, aligned_copy

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]


def without_state(module: Module, name: str) -> Function:
    """The step as a function of its state, which is what a bare engine calls."""
    step = module.function("step")
    mapping: dict[Value, Value] = {}
    params, ops = list(step.params), list[OpBase]()
    for op in step.ops:
        if isinstance(op, Read):
            mapping[op.result] = Value(op.result.type, str(op.state))
            params.append(Param(str(op.state), mapping[op.result]))
        else:
            copy = op.clone(mapping)
            mapping.update(zip(op.results, copy.results, strict=True))
            ops.append(copy)
    outputs: list[Output] = [replace(out, value=mapping.get(out.value, out.value)) for out in step.outputs]
    return Function(name, tuple(params), tuple(ops), tuple(outputs))


class Compiled:
    """Functions compiled together: starting the code generator costs more than one more function."""

    def __init__(self, functions: Sequence[Function], target: str) -> None:
        module = Module(Stage.TARGET, (), tuple(functions))
        self._functions = {function.name: function for function in functions}
        self._engine: Engine = (
            compile_module(module).engine() if target == "cpu" else build_onnx(module, BuildOptions(threads=1)).engine()
        )

    def run(self, name: str, known: Arrays) -> Arrays:
        """The outputs of one function for parameters and state by name."""
        function = self._functions[name]
        arguments = [self._engine.tensor(aligned_copy(np.asarray(known[p.name]))) for p in function.params]
        found = self._engine.call(name, arguments)
        return dict(zip((o.name for o in function.outputs), map(np.asarray, found), strict=True))
