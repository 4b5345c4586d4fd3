"""What ``run``, ``predict`` and ``inspect`` do, for both command lines: ``fluidc`` and ``python -m fluidc.runtime``."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast, get_args

import numpy as np

from .artifact import Artifact, ArtifactFile
from .columns import Columns, is_table, parse_columns
from .data import load_data
from .description import described, described_signature
from .engine import Array, Engine
from .engines import engine_for
from .errors import ArtifactError, DataError, FluidcError, LedgerError, printable
from .evaluate import evaluate
from .files import write_atomically
from .keeper import Checkpoints
from .ledger import LEDGER
from .observe import History, Observed, Observer
from .privacy import SamplerKind
from .progress import Counted, Display, StepReport, display
from .report import NOT_PRIVATE, run_report
from .session import Session
from .signals import Interruptible, StopSignals
from .threads import numpy_threads, thread_count
from .train import RunResult

if TYPE_CHECKING:  # what few runs use is imported by those: docs/adr/0033-bundles.md
    from .onnx_profile import NodeProfilingEngine, NodeReport
    from .profile import ProfilingEngine
    from .profile_report import ProfileReport

EngineChoice = Callable[[Artifact, int | None, int | None], Engine]
"""Gives the engine for an artifact, a number of threads, and the number of a device."""

SAMPLERS: tuple[SamplerKind, ...] = get_args(SamplerKind)

_EVERY = re.compile(r"(\d+)(s?)")
_SECONDS = 60.0  # between checkpoints where only their folder is named


@dataclass(frozen=True)
class RunArguments:
    """The options of ``run``; `train.TrainOptions` and `session.Session.train` say what they do.

    ``checkpoint_every`` is a number of steps, or of seconds with an ``s`` behind it; without it, checkpoints are
    written every 60 s where ``checkpoint`` names a folder, else only when the run is interrupted. ``run_dir`` and
    ``checkpoint`` default to ``ARTIFACT.run`` and ``checkpoints`` in it. ``private_report`` leaves out of what is
    shown, and of the page ``report``, all that depends on examples without noise. ``profile`` clocks every kernel,
    prints a table, and writes this file: a plot, or data (``.json``). ``require_signature`` names files of public keys,
    or folders of them, one of which the artifact must be signed with. ``columns`` are of both data
    sets, as `columns.parse_columns` reads them. ``log`` is a folder for TensorBoard.
    """

    artifact: Path
    data: Path
    output: Path | None = None
    epochs: int | None = None
    steps: int | None = None
    batch: int | None = None
    sampler: SamplerKind | None = None
    fetch: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    evaluate: Path | None = None
    run_dir: Path | None = None
    checkpoint: Path | None = None
    checkpoint_every: str | None = None
    keep: int = 3
    resume: bool = False
    check_numerics: bool = False
    insecure_noise_key: str | None = None
    seed: int | None = None
    threads: int | None = None
    device: int | None = None
    private_report: bool = False
    report: Path | None = None
    log: Path | None = None
    profile: Path | None = None
    require_signature: tuple[Path, ...] = ()


def run(arguments: RunArguments, choose: EngineChoice = engine_for) -> int:
    """Train, evaluate, and write the trained artifact; returns the exit code: 1 when a signal ended the run.

    Progress goes to standard error, results to standard output. SIGINT, SIGTERM and SIGHUP end the step under way, and
    the run with a checkpoint; before the first step and after the last, and a second time, they end it at once.
    Raises FluidcError.
    """
    with Interruptible():
        try:
            return _run(arguments, choose)
        except KeyboardInterrupt:
            print("interrupted: steps that no checkpoint and no output holds are lost", file=sys.stderr)
            return 1


def _run(arguments: RunArguments, choose: EngineChoice) -> int:
    file = ArtifactFile.read(arguments.artifact, arguments.require_signature or None)
    artifact = file.artifact
    policy = _policy(arguments)
    for path in (arguments.output, arguments.report, arguments.profile):
        if path is not None:
            _check_folder(path)
    if arguments.private_report and arguments.evaluate is not None:
        raise DataError(
            "an evaluation is exact, and a private report leaves out what is exact",
            "--private-report, --eval",
            "give one of them; `fluidc run` without --private-report marks exact values",
        )
    if arguments.report is not None and arguments.report.suffix.lower() not in (".html", ".htm"):
        raise DataError(
            f"the report is a page of HTML, not {arguments.report.suffix or 'a file without suffix'}",
            f"--report {arguments.report}",
            "name a file that ends in .html",
        )
    if arguments.profile is not None:
        _check_profile(arguments, arguments.profile)
    secret = None if arguments.insecure_noise_key is None else _key(arguments.insecure_noise_key)
    log = None
    with plain_warnings() as warned, numpy_threads(_numpy_share(artifact, arguments.threads)), ExitStack() as stack:
        engine = choose(artifact, arguments.threads, arguments.device)
        clocked = None if arguments.profile is None else _clocked(artifact, engine, arguments.profile)
        session = Session.load(
            artifact,
            clocked or engine,
            seed=arguments.seed,
            insecure_noise_key=secret,
        )
        private = session.model.private
        if private:
            _check_resume(arguments)
        show: Display = display(untimed=arguments.private_report)
        if private and arguments.output is None and not policy.periodic:
            show = _KeepsNothing(show)
        history = History()
        observers: list[Observer] = [history] if arguments.report is not None else []
        if arguments.log is not None:
            from .event_log import EventLog

            log = stack.enter_context(EventLog(arguments.log, session.model, untimed=arguments.private_report))
            observers.append(log)
        observed = Observed(show, observers, timed=not arguments.private_report)
        held_out = None
        if arguments.evaluate is not None:
            held_out = load_data(
                arguments.evaluate,
                artifact.manifest,
                "infer",
                _columns(arguments, arguments.evaluate),
                Counted(show.note),
            )
        result = session.train(
            arguments.data,
            arguments.epochs,
            arguments.steps,
            arguments.sampler,
            _run_dir(arguments) if private else None,
            batch=arguments.batch,
            columns=_columns(arguments, arguments.data),
            fetches=arguments.fetch or None,
            checkpoints=policy,
            resume=arguments.resume,
            check_numerics=arguments.check_numerics,
            progress=observed if observers else show,
            private_report=arguments.private_report,
        )
        kept = None if result.interrupted else arguments.output
        if kept is not None:
            with StopSignals(enabled=True) as signals:
                _export(session, kept, result, policy)  # before anything else can fail
            if signals.raised:
                print(f"{signals.name}: stopped after the training; wrote {kept}")
                return 1
        found = None
        if held_out is not None and not result.interrupted:
            found = evaluate(session.model, held_out, None), held_out.where
            if log is not None:
                log.evaluation(found[0])
    report = run_report(arguments.artifact.name, session.model, result, found, private=arguments.private_report)
    times = None
    try:  # files first: nobody may read what is printed
        if arguments.report is not None:
            from .page.details import details_of
            from .page.html import write_page
            from .profile import ProfilingEngine

            details = details_of(
                session.model,
                _command(arguments),
                arguments.data.name,
                history,
                observed.times,
                clocked.profile() if isinstance(clocked, ProfilingEngine) else None,
                warned,
                private=arguments.private_report,
            )
            write_page(arguments.report, report, details)
        if arguments.profile is not None and clocked is not None:
            times = _times(arguments.artifact.name, clocked, NOT_PRIVATE if private else "")
            times.write(arguments.profile)
    finally:
        for line in report.lines():
            print(line)
    if arguments.report is not None:
        print(f"wrote {arguments.report}")
    if arguments.log is not None:
        print(f"wrote {arguments.log}: tensorboard --logdir {arguments.log}")
    if times is not None:
        for line in times.lines():
            print(line)
        print(f"wrote {arguments.profile}")
    if result.interrupted:
        print(f"stopped after step {result.step}{_where_to_go_on(result)}")
        return 1
    if result.unsaved is not None and kept is None:
        raise result.unsaved
    if kept is not None:
        print(f"wrote {kept}")
        if file.signature is not None:
            print(f"{kept} is not signed: the signature of {arguments.artifact.name} is of other numbers (fluidc sign)")
    return 0


def predict(
    artifact: Path,
    data: Path,
    output: Path,
    fetch: Sequence[str] = (),
    threads: int | None = None,
    choose: EngineChoice = engine_for,
    require_signature: Sequence[Path] = (),
    device: int | None = None,
    columns: Sequence[str] = (),
) -> int:
    """Write what ``infer`` returns for every row of ``data`` as ``.npz``; returns 0. Raises FluidcError."""
    read = Artifact.read(artifact, require_signature or None)
    _check_folder(output)
    with plain_warnings(), numpy_threads(_numpy_share(read, threads)):
        session = Session.load(read, choose(read, threads, device))
        values = session.predict_all(data, tuple(fetch) or None, columns=parse_columns(columns))
    if any(state.trainable and state.name not in read.state for state in read.manifest.state):
        print("note: this artifact has not been trained: its parameters have their first values", file=sys.stderr)
    _write_npz(output, values)
    for name, value in values.items():
        print(f"{name}: {value.dtype}{list(value.shape)}")
    print(f"wrote {output}")
    return 0


def convert(artifact: Path, data: Path, folder: Path, columns: Sequence[str] = (), function: str = "step") -> int:
    """Write ``data`` as a folder of ``.npy`` files, which runs map; returns 0. Raises FluidcError."""
    from .convert import convert as write_folder

    manifest = Artifact.read(artifact).manifest
    made = write_folder(
        data, folder, manifest, function, parse_columns(columns), Counted(lambda text: print(text, file=sys.stderr))
    )
    for name, array in made.arrays.items():
        print(f"{name}: {array.dtype}{list(array.shape)}")
    print(f"wrote {folder}, {made.rows:,} rows, {sum(array.nbytes for array in made.arrays.values()):,} bytes")
    return 0


def inspect(path: Path, verify: bool = False, require_signature: Sequence[Path] = ()) -> int:
    """Print what an artifact is and needs; returns 0. Raises ArtifactError for a file that is not whole.

    With ``verify``, print instead what `certificate.verify` finds, and return 1 where it contradicts the artifact.
    """
    file = ArtifactFile.read(path, require_signature or None)
    artifact = file.artifact
    if not verify:
        for line in described(path, file):
            print(printable(line))
        return 0
    from . import certificate

    report = certificate.verify(artifact)
    print(f"{path}: {'verified' if report.ok else 'NOT verified: the artifact contradicts its privacy block'}")
    print(f"✓ members       {len(artifact.manifest.members)} files have the sizes and SHA-256 of the manifest")
    print(f"{'✓' if file.signer else '–'} signature     {described_signature(file)}")
    for line in report.lines():
        print(printable(line))
    return 0 if report.ok else 1


def _numpy_share(artifact: Artifact, threads: int | None) -> int:
    """Threads of numpy's products: all of a program that numpy executes, one beside compiled steps."""
    return thread_count(threads) if artifact.manifest.target.kind == "reference" else 1


# -- parts ------------------------------------------------------------------------------------------------------------


def _export(session: Session, path: Path, result: RunResult, policy: Checkpoints) -> None:
    """Write the trained artifact. Raises ArtifactError, after what was learnt was put into a checkpoint if possible."""
    try:
        session.export(path)
    except ArtifactError as error:
        kept = None if result.unsaved else result.checkpoint
        try:
            kept = kept or session.save(policy.directory)
        except FluidcError:
            raise error from None
        hint = f"{error.hint}; the trained state is kept: the same command with --resume and another -o writes it"
        raise ArtifactError(error.what, f"{error.where}, {kept}", hint) from None


def _where_to_go_on(result: RunResult) -> str:
    """From which checkpoint a run that was stopped goes on."""
    if result.unsaved is not None:
        last = "there is no other one" if result.checkpoint is None else f"the last one is {result.checkpoint}"
        return f"; its checkpoint could not be written, {last}: {result.unsaved.what} ({result.unsaved.where})"
    if result.taken == 0:
        return ", before the first step of this run; --resume goes on from there"
    return f"; --resume goes on from {result.checkpoint}"


def _run_dir(arguments: RunArguments) -> Path:
    return arguments.run_dir or arguments.artifact.with_name(arguments.artifact.name + ".run")


def _columns(arguments: RunArguments, path: Path) -> Columns:
    """The columns stated for ``path``: none where it is no table, and the other data set is one."""
    tables = [each for each in (arguments.data, arguments.evaluate) if each is not None and is_table(each)]
    return parse_columns(arguments.columns) if path in tables or not tables else {}


def _check_profile(arguments: RunArguments, file: Path) -> None:
    """Refuse, before anything is spent, a profile that could not be made."""
    from .profile import LEAST_CALLS, TAKE_MORE
    from .profile_report import check_file

    check_file(file)
    if arguments.private_report:
        raise DataError(
            "a profile is made of times, and a private report leaves out what is not private",
            "--private-report, --profile",
            "give one of them; `fluidc run` without --private-report marks times as not private",
        )
    if arguments.steps is not None and arguments.steps < LEAST_CALLS:
        raise DataError(f"a run of {arguments.steps} steps is too short to profile", "--steps, --profile", TAKE_MORE)


def _clocked(artifact: Artifact, engine: Engine, file: Path) -> ProfilingEngine | NodeProfilingEngine:
    """An engine that measures what ``engine`` does. Raises EngineError, or DataError for a file it cannot write."""
    from .onnx_engine import OnnxEngine
    from .onnx_profile import NodeProfilingEngine
    from .profile import profiling

    if not isinstance(engine, OnnxEngine):
        return profiling(artifact, engine)
    if file.suffix.lower() != ".json":
        raise DataError(
            "the times of ONNX Runtime's nodes are written as data, not as a plot",
            f"--profile {file}",
            "name a file that ends in .json",
        )
    return NodeProfilingEngine(engine)


def _times(name: str, clocked: ProfilingEngine | NodeProfilingEngine, mark: str) -> ProfileReport | NodeReport:
    from .onnx_profile import NodeProfilingEngine, NodeReport
    from .profile_report import ProfileReport

    if isinstance(clocked, NodeProfilingEngine):
        return NodeReport(name, clocked.profile(), clocked.threads, mark)
    return ProfileReport(name, clocked.profile(), mark)


def _check_resume(arguments: RunArguments) -> None:
    """Refuse to go on with a run that a mistyped --run-dir names: a new ledger there would spend a second budget."""
    folder = arguments.run_dir
    if arguments.resume and folder is not None and not (folder / LEDGER).is_file():
        raise LedgerError(
            f"there is no run to go on with: the folder {'has no privacy ledger' if folder.is_dir() else 'is missing'}",
            f"--resume, --run-dir {folder}",
            "name the run directory of that run; leave --resume out for a first run",
        )


class _KeepsNothing:
    """A display that says, once nothing is left to refuse the run, that its result will be lost."""

    def __init__(self, shown: Display) -> None:
        self._shown = shown

    def __enter__(self) -> Self:
        self._shown.__enter__()
        self.note("note: this run spends budget and keeps nothing; -o TRAINED.fluidc keeps what it learns")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, trace)

    def due(self) -> bool:
        return self._shown.due()

    def show(self, report: StepReport) -> None:
        self._shown.show(report)

    def note(self, text: str) -> None:
        self._shown.note(text)


def _policy(arguments: RunArguments) -> Checkpoints:
    directory = arguments.checkpoint or _run_dir(arguments) / "checkpoints"
    text = arguments.checkpoint_every
    if text is None:
        return Checkpoints(directory, every_seconds=_SECONDS if arguments.checkpoint else None, keep=arguments.keep)
    found = _EVERY.fullmatch(text)
    number = float(found[1]) if found else 0.0
    if found is None or not number > 0:
        raise DataError(
            f"{text!r} says neither steps nor seconds",
            "--checkpoint-every",
            "write 100 for every 100 steps, or 60s for every 60 seconds",
        )
    if found[2]:
        return Checkpoints(directory, every_seconds=number, keep=arguments.keep)
    return Checkpoints(directory, every_steps=int(number), keep=arguments.keep)


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if not key:
        raise DataError("the noise key is not a hexadecimal number", "--insecure-noise-key", "write it as 00ff17")
    return key


def _command(arguments: RunArguments) -> str:
    """The command line, with the names of files only, and no key in it."""
    parts = ["fluidc", "run", arguments.artifact.name]
    for field in fields(arguments):
        value: object = getattr(arguments, field.name)
        if field.name == "artifact" or value == field.default:
            continue
        option = {"output": "-o", "evaluate": "--eval"}.get(field.name, f"--{field.name.replace('_', '-')}")
        for each in cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,):
            shown = each.name if isinstance(each, Path) else str(each)
            parts += [option] if each is True else [option, "..." if "key" in field.name else shown]
    return shlex.join(parts)


@contextmanager
def plain_warnings() -> Generator[list[str]]:
    """Warnings as one line on standard error, each text once, without the line of code that gave them.

    Gives a list that their texts are added to.
    """
    seen: list[str] = []

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in seen:
            seen.append(str(message))
            with suppress(OSError, ValueError):  # a run outlives its terminal
                print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield seen


def _check_folder(path: Path) -> None:
    """Refuse before the work, not after it, where its result could not be written."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise DataError(
            "the output cannot be written there", str(path), "name a file in a folder that exists and is writable"
        )


def _write_npz(path: Path, arrays: dict[str, Array]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]  # its stub takes no mapping of arrays
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise DataError(
            f"the output cannot be written: {error.strerror}",
            str(path),
            "choose a folder that exists, is writable and has space",
        ) from None
