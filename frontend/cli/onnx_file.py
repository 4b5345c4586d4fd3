"""One function of a compiled program as an ONNX file that needs nothing of fluidc."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ...compiler.codegen.built import BuildOptions
    from ...compiler.ir.core import Module
    from ...runtime.artifact import Artifact


def onnx_file(
    artifact: Artifact,
    function: str,
    options: BuildOptions,
    seed: int | None = None,
    fetches: Sequence[str] = (),
) -> bytes:
    """The model of a function, with the artifact's state as defaults of its inputs.

    Args:
        artifact: For any target; its text at stage ``target`` is exported.
        function: ``step``, ``infer``, ...
        options: How it is exported.
        seed: Of the first values that startup makes; None takes the artifact's, else a fresh one.
        fetches: The fetches that are wanted; the file takes no feeds but those that they, and state, depend on.

    Raises:
        FluidcError: There is no such function, no text, or an op without an ONNX form.
    """
    from ...compiler.codegen.onnx.build import export
    from ...compiler.codegen.onnx.defaults import with_defaults
    from ...compiler.driver import file_notes
    from ...compiler.ir.parser import parse
    from ...compiler.ops import OPSET
    from ...runtime.model import Model
    from .engines import reference_engine

    engine = reference_engine(artifact)
    module = parse(artifact.ir["target"], OPSET)
    if not module.has_function(function):
        known = ", ".join(f.name for f in module.functions)
        raise click.BadParameter(f"there is no function {function!r}; there are {known}", param_hint="--function")
    if fetches:
        module = _reduced(module, function, fetches)
    manifest = artifact.manifest
    notes = file_notes(manifest.privacy, manifest.caution)
    if manifest.trained is not None:
        notes["fluidc.trained"] = json.dumps(manifest.trained.to_json())
    if manifest.insecure_noise_key:
        notes["fluidc.insecure_noise_key"] = "true"
    model = export(module, module.function(function), replace(options, metadata=notes))
    # Where startup makes the state, numpy does: a file is written once.
    state = Model(artifact, engine, seed).state
    return with_defaults(model.SerializeToString(deterministic=True), state)


def _reduced(module: Module, name: str, fetches: Sequence[str]) -> Module:
    """The module with one function, of which only some fetches are left and what they need."""
    from ...compiler.passes.dce import Dce

    function = module.function(name)
    known = {output.name: output for output in function.outputs}
    if unknown := [fetch for fetch in fetches if fetch not in known]:
        raise click.BadParameter(
            f"{name} does not fetch {unknown[0]!r}; it fetches {', '.join(known) or 'nothing'}", param_hint="--fetch"
        )
    chosen = replace(function, outputs=tuple(known[fetch] for fetch in dict.fromkeys(fetches)))
    live = Dce().run(replace(module, functions=(chosen,))).function(name)
    read = {value for op in live.ops for value in op.operands} | {output.value for output in live.outputs}
    params = tuple(param for param in live.params if param.value in read)
    return replace(module, functions=(replace(live, params=params),))
