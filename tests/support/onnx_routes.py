"""Many cases of `onnx_backend` through the compiled targets: what each case says, or "" where it passes."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx_backend import Case, Prepared, merged, run_reference

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.onnx.build import export
from fluidc.compiler.codegen.tvm.build import compile_module
from fluidc.compiler.errors import FluidcError
from fluidc.runtime.engine import aligned_copy

Array = NDArray[Any]
CHUNK = 60
"""Cases that are compiled to one module: starting the code generator costs more than one more function."""
SECONDS = 60
"""How long ONNX Runtime may take for one case; after that it is taken to hang."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case on one route: ``passed``, ``refused`` with the reason, or ``failed`` with the message."""

    kind: str
    message: str = ""


PASSED = Outcome("passed")


def _checked(made: Prepared, found: Sequence[Array]) -> Outcome:
    try:
        made.check(found)
    except AssertionError as error:
        return Outcome("failed", " ".join(str(error).split())[:200])
    return PASSED


def _raised(error: Exception) -> Outcome:
    if isinstance(error, FluidcError):
        return Outcome("refused", error.what)
    return Outcome("failed", f"{type(error).__name__}: {error}"[:200])


def reference(cases: Sequence[Prepared]) -> Iterator[tuple[Case, Outcome]]:
    """Every op by its ``evaluate``."""
    for made in cases:
        try:
            yield made.case, _checked(made, run_reference(made))
        except Exception as error:
            yield made.case, _raised(error)


def cpu(cases: Sequence[Prepared]) -> Iterator[tuple[Case, Outcome]]:
    """Compiled for this processor."""
    for start in range(0, len(cases), CHUNK):
        some = cases[start : start + CHUNK]
        try:
            engine: Any = compile_module(merged(some)).engine()
        except Exception:  # the case that is to blame fails again, alone
            engine = None
        for made in some:
            yield made.case, _on_cpu(made, engine)


def _on_cpu(made: Prepared, engine: Any) -> Outcome:
    try:
        if engine is None:
            engine = compile_module(made.module).engine()
        return _checked(made, engine.call(made.function.name, [engine.tensor(aligned_copy(a)) for a in made.arguments]))
    except Exception as error:
        return _raised(error)


# ONNX Runtime ------------------------------------------------------------------------------------------------


def onnx(cases: Sequence[Prepared]) -> Iterator[tuple[Case, Outcome]]:
    """Exported, and run by ONNX Runtime in a process of its own: a crash of it is the case's outcome."""
    child = _Child()
    try:
        for made in cases:
            yield made.case, _on_ort(made, child)
    finally:
        child.stop()


def _on_ort(made: Prepared, child: _Child) -> Outcome:
    try:
        model = export(made.module, made.function, BuildOptions())
    except Exception as error:
        return _raised(error)
    known = {entry.key: entry.value for entry in model.metadata_props}
    inputs = [entry["input"] for entry in json.loads(known["fluidc.inputs"])]
    feeds = {name: array for name, array in zip(inputs, made.arguments, strict=True) if name}
    found = child.run(model.SerializeToString(), feeds)
    return Outcome("failed", found) if isinstance(found, str) else _checked(made, found)


class _Child:
    """A process that runs models, and is started anew where it dies."""

    def __init__(self) -> None:
        self._process: Any = None
        self._end: Connection | None = None

    def run(self, model: bytes, feeds: dict[str, Array]) -> list[Array] | str:
        """The results, or what went wrong."""
        end = self._end or self._start()
        end.send((model, feeds))
        try:
            if end.poll(SECONDS):
                return end.recv()
            what = f"no result within {SECONDS} s"
        except EOFError:
            what = "ONNX Runtime crashed"
        self.stop()
        return what

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._end, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()
        return self._end

    def stop(self) -> None:
        if self._process is not None:
            assert self._end is not None
            self._end.close()
            self._process.kill()
            self._process.join()
            self._process = self._end = None


def _serve(end: Connection) -> None:
    import onnxruntime as ort

    while True:
        try:
            model, feeds = end.recv()
        except EOFError:
            os._exit(0)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            end.send([np.asarray(array) for array in session.run(None, feeds)])
        except Exception as error:
            end.send(" ".join(str(error).split())[:200])


ROUTES = {"reference": reference, "cpu": cpu, "onnx": onnx}
