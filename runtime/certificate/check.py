"""The order of a verification: manifest, separability of `core`, then the flow of `private`, `update`, `target`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..artifact import Artifact
from ..errors import ArtifactError
from ..manifest import Manifest
from ..privacy import PrivacySpec
from .epsilon import check_table
from .flow import Flow
from .grid import GridFlow
from .kinds import Kind, Mixed, Public, Rows
from .promise import Promise, check_module, differ, promise_of, rows_of
from .reader import Unreadable, read
from .report import Check, Contradiction, Report
from .text import ROWS, Function, Op, Text, Type

STAGES = ("core", "private", "update", "target")
"""The texts that are read: `captured` has layers that no rule is for, `grad` gradients that are still requests."""

LIMITS = (
    "that the machine code does what ir/target.ir says: their hashes bind both to this file, `fluidc audit` tests it",
    "that values given as arrays (assumed public) are public",
)


def verify(artifact: Artifact) -> Report:
    """Check what an artifact promises about privacy against the text of its program.

    Separability, norms, noise and state writes are derived again, by rules of their own, from the IR text of the
    stages; the stated proof and the privacy block must agree with what is found (docs/privacy.md, section 3c).

    Returns:
        The report; its ``contradiction`` is the first thing that does not hold.

    Raises:
        ArtifactError: the artifact is an ordinary program, which promises nothing.
    """
    if artifact.manifest.privacy is None:
        raise ArtifactError(
            "there is nothing to verify: it is an ordinary program and promises no privacy",
            "manifest, privacy",
            "compile a program that trains with Dpsgd",
        )
    checks: list[Check] = []
    try:
        for check in _checks(artifact, artifact.manifest.privacy):
            checks.append(check)
    except Contradiction as found:
        return Report(tuple(checks), found)
    return Report(tuple(checks), limits=LIMITS)


def _checks(artifact: Artifact, spec: PrivacySpec) -> Iterator[Check]:
    promise = promise_of(artifact.manifest, spec)
    yield _mechanism(spec)
    yield check_table(spec)
    texts = {stage: _read(artifact, stage) for stage in STAGES}
    for text in texts.values():
        check_module(text, artifact.manifest, spec)
    yield Check("constants", f"clip, sigma, lot and slack of {len(texts)} stages are the manifest's")
    yield _check_separability(texts, artifact.proof, promise)
    flows: list[Flow] = []
    for stage in STAGES[1:]:
        for function in texts[stage].functions:
            flows.append((GridFlow if promise.grid_bits else Flow)(texts[stage], function, promise))
            flows[-1].check()
    _check_functions(texts)
    groups = max(flow.clip_groups for flow in flows)
    noise = max(len(flow.noised) for flow in flows)
    yield Check(
        "clipping",
        f"{_count(groups, 'clip group')} over {_count(len(spec.parameters), 'parameter')}, a bounding norm each",
    )
    yield Check("noise", f"{_count(noise, 'tensor')}, each once per step, from the stream of its own")
    yield Check("state", "model state is written public values only; sums of a lot are added to, noised, cleared")
    _check_wiring(flows, texts["target"], artifact.manifest)
    yield Check("wiring", f"inputs and outputs of {len(artifact.manifest.functions)} functions are those of the text")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _read(artifact: Artifact, stage: str) -> Text:
    member = f"ir/{stage}.ir"
    source = artifact.ir.get(stage)
    if source is None:
        raise Contradiction("manifest", f"the member {member} is missing", member)
    try:
        text = read(source)
    except Unreadable as error:
        lines = source.split("\n")
        shown = lines[error.line - 1].strip() if error.line <= len(lines) else ""
        raise Contradiction("text", error.what, member, error.line, shown) from None
    if text.stage != stage:
        raise Contradiction("text", f"it says stage {text.stage}", member, 1)
    return text


def _mechanism(spec: PrivacySpec) -> Check:
    return Check("mechanism", f"{spec.mechanism}, clipping {spec.clipping}; {spec.sampler} with {spec.adjacency}")


# Separability ----------------------------------------------------------------------------------------------------


def _check_separability(texts: Mapping[str, Text], stated: str | None, promise: Promise) -> Check:
    core = texts["core"]
    proof: list[str] = []
    ops = 0
    for function in core.functions:
        flow = Flow(core, function, promise)
        requests = [op for op in function.ops if op.name == "grad.backward" and op.flag("private")]
        if len(requests) > 1 or (requests and proof):
            raise flow.refusal(
                "3b.i", "a second private backward pass: clipping each alone bounds neither", requests[-1]
            )
        try:
            flow.check()
        except Contradiction as found:
            raise _cause(core, flow, found, requests) from None
        if requests:
            (request,) = requests
            proof = _proof(function, flow.kinds, request)
            ops = len(proof)
            _check_request(flow, request, promise)
    if not proof:
        raise Contradiction("proof", "no function has a private backward pass", "ir/core.ir")
    lines = stated.rstrip("\n").split("\n") if stated else []
    _compare("proof.txt", lines, proof)
    for text in texts.values():
        _compare(f"ir/{text.stage}.ir", list(text.proof), proof)
    return Check("separability", f"{ops} lines from the feeds to one loss per example, as the stored proof says")


def _check_request(flow: Flow, request: Op, promise: Promise) -> None:
    """The private backward pass differentiates one loss per example by the trained parameters."""
    targets, inputs, *_ = request.groups
    (target,) = targets if isinstance(targets, tuple) else ("",)
    kind = flow.kinds[target]
    if kind != Rows(0) or len(flow.context.shape(target)) != 1:
        raise flow.refusal("3", f"its loss {target} is {kind}, not one value per example", request)
    reads = {op.result: op.states[0] for op in flow.function.ops if op.name == "state.read"}
    names = [reads.get(value, value) for value in inputs or ()]
    if sorted(names) != list(promise.parameters):
        raise flow.refusal("3b.i", f"it differentiates by {sorted(names)}, not by the trained parameters", request)


def _cause(core: Text, flow: Flow, found: Contradiction, requests: list[Op]) -> Contradiction:
    """Where examples met, rather than where it was noticed."""
    targets = requests[0].groups[0] if requests else ()
    kinds = [flow.kinds.get(name) for name in targets or ()]
    mixed = next((kind for kind in kinds if isinstance(kind, Mixed)), None)
    if mixed is None:
        wrong = next((kind for kind in kinds if kind is not None and kind != Rows(0)), None)
        return (
            found
            if wrong is None
            else flow.refusal("3", f"its loss is {wrong}, not one value per example", requests[0])
        )
    op = next((op for op in flow.function.ops if op.line == mixed.line), None)
    return flow.refusal("3", f"the loss mixes examples: {mixed.reason}", op)


def _proof(function: Function, kinds: Mapping[str, Kind], request: Op) -> list[str]:
    """The lines that a proof of this function has: every op between the feeds and the loss."""
    targets = request.groups[0]
    needed: set[str] = set(targets) if isinstance(targets, tuple) else set()
    loss = next(iter(needed), "")
    steps: list[str] = []
    for op in reversed(function.ops):
        if any(name in needed for name in op.results):
            needed.update(op.operands)
            operands = ", ".join(str(kinds[name]) for name in op.operands)
            results = ", ".join(str(kinds[name]) for name in op.results)
            steps.append(f"{op.name}({operands}) -> {results}" + (f" at {op.place}" if op.place else ""))
    feeds = [f"feed {p.name}: {kinds[p.value]}" for p in function.params if p.role == "feed" and p.value in needed]
    return [*feeds, *reversed(steps), f"loss: {kinds.get(loss)}"]


def _compare(member: str, stated: list[str], derived: list[str]) -> None:
    for number, (line, right) in enumerate(zip(stated, derived, strict=False), 1):
        if line != right:
            raise Contradiction("proof", f"line {number} of the proof says {line!r}, the text gives {right!r}", member)
    if len(stated) != len(derived):
        raise Contradiction("proof", f"the proof has {len(stated)} lines, the text gives {len(derived)}", member)


# Functions ---------------------------------------------------------------------------------------------------------


def _check_functions(texts: Mapping[str, Text]) -> None:
    """Every way to train goes through clipping and noise: as one step, and cut into batches and their lot."""
    for stage in STAGES[1:]:
        text = texts[stage]
        wanted = ("step", "accumulate", "apply") if stage == "target" else ("step",)
        for name in wanted:
            function = text.function(name)
            names = {op.name for op in function.ops} if function is not None else set[str]()
            noisy = bool(names & {"dp.noisy_mean", "dp.add_noise", "dp.grid_mean"})
            clips = "dp.clip_factor" in names
            if (noisy, clips) != (name != "accumulate", name != "apply"):
                raise Contradiction(
                    "3b.iv", f"function {name} does not both clip and add noise as it must", f"ir/{stage}.ir"
                )


def _check_wiring(flows: list[Flow], text: Text, manifest: Manifest) -> None:
    """The manifest binds the functions' inputs and outputs as the text has them."""
    specs = {function.name: function for function in manifest.functions}
    if set(specs) != {function.name for function in text.functions}:
        raise differ("the text has other functions than the manifest", "ir/target.ir")
    for function in text.functions:
        spec = specs[function.name]
        touched = {op.states[0] for op in function.ops if op.name in ("state.read", "state.write")}
        inputs = [("state", name) for name in text.state if name in touched]
        for param in function.params:
            named = param.role in ("feed", "noise")
            inputs.append((param.role, param.name if named else ""))
        if inputs != [(binding.kind, binding.name) for binding in spec.inputs]:
            raise differ(f"the inputs of function {function.name!r} are not those of the text")
        outputs = [("fetch", out.name) for out in function.outputs]
        outputs += [("state", op.states[0]) for op in function.ops if op.name == "state.write"]
        if outputs != [(output.kind, output.name) for output in spec.outputs]:
            raise differ(f"the outputs of function {function.name!r} are not those of the text")
        _check_rows(function, manifest)
    for flow in flows:
        if flow.text.stage != "target":
            continue
        marked = {out.name: out.not_private for out in specs[flow.function.name].outputs if out.kind == "fetch"}
        for output in flow.function.outputs:
            if not isinstance(flow.kinds[output.value], Public) and not marked[output.name]:
                raise differ(f"fetch {output.name!r} depends on examples and is not marked as not private")


def _check_rows(function: Function, manifest: Manifest) -> None:
    feeds = {feed.name: feed for feed in manifest.feeds}
    mask = function.param("mask")
    rows = manifest.batch if mask is not None and manifest.batch is not None else ROWS
    if mask is not None and function.types[mask.value].shape != (rows,):
        raise differ(f"the batch of function {function.name!r} is not that of the manifest")
    for param in function.params:
        if param.role != "feed":
            continue
        kind, feed = function.types[param.value], feeds[param.name]
        shape = tuple(dim if isinstance(dim, int) else rows_of(dim) * rows for dim in feed.shape)
        if kind != Type(feed.dtype, shape):
            raise differ(f"feed {param.name!r} of function {function.name!r} is not what the manifest says")
