"""``python -m fluidc.runtime run|predict|inspect``: for machines that have the runtime and nothing else."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .commands import SAMPLERS, RunArguments, inspect, predict, run
from .errors import FluidcError

_DATA = ".npz file, folder of .npy files, or table (.csv, .parquet); named after the feeds"


def main(arguments: Sequence[str] | None = None, bundled: Path | None = None) -> int:
    """Run one command; returns 0, 1 when it failed, 2 for wrong usage (argparse exits by itself).

    Args:
        arguments: of the command line; None takes this process' own.
        bundled: the artifact of a bundle, which commands mean that name none.
    """
    parsed = _parser(bundled).parse_args(arguments)
    try:
        code = _command(parsed)
        sys.stdout.flush()
        return code
    except FluidcError as error:
        if parsed.verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:  # nobody reads on; the interpreter flushes what is left once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _command(parsed: argparse.Namespace) -> int:
    if parsed.command == "run":
        return run(_run_arguments(parsed))
    if parsed.command == "predict":
        return predict(
            parsed.artifact,
            parsed.data,
            parsed.output,
            parsed.fetch,
            parsed.threads,
            columns=parsed.columns,
            require_signature=parsed.require_signature,
            device=parsed.device,
        )
    return inspect(parsed.artifact, parsed.verify, parsed.require_signature)


def _run_arguments(parsed: argparse.Namespace) -> RunArguments:
    values: dict[str, Any] = {field.name: getattr(parsed, field.name) for field in fields(RunArguments)}
    values["fetch"], values["columns"] = tuple(parsed.fetch), tuple(parsed.columns)
    values["require_signature"] = tuple(parsed.require_signature)
    return RunArguments(**values)


def _parser(bundled: Path | None) -> argparse.ArgumentParser:
    if bundled is None:
        parser = argparse.ArgumentParser(prog="python -m fluidc.runtime", description=__doc__)
    else:
        parser = argparse.ArgumentParser(
            prog="run.py", description=f"Trains and applies {bundled.name}; see README.txt."
        )
    commands = parser.add_subparsers(dest="command", required=True)

    run_ = commands.add_parser("run", help="train an artifact on a data set")
    run_.add_argument("--data", type=Path, required=True, help=_DATA)
    run_.add_argument("-o", "--output", type=Path, help="write the trained artifact here")
    length = run_.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=_positive)
    length.add_argument("--steps", type=_positive)
    run_.add_argument("--batch", type=_positive, help="rows of an ordinary batch")
    run_.add_argument("--sampler", choices=SAMPLERS)
    run_.add_argument("--fetch", action="append", default=[], metavar="NAME")
    run_.add_argument("--eval", type=Path, dest="evaluate", help="data to evaluate on afterwards")
    run_.add_argument("--run-dir", type=Path, help="privacy ledger and checkpoints (default: ARTIFACT.run)")
    run_.add_argument("--checkpoint", type=Path, help="folder of the checkpoints (RUN_DIR/checkpoints)")
    run_.add_argument("--checkpoint-every", metavar="N|SECONDSs")
    run_.add_argument("--keep", type=_positive, default=3, help="newest checkpoints kept (3)")
    run_.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    run_.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with curves, graph and results")
    run_.add_argument("--log", type=Path, metavar="DIR", help="write event files for TensorBoard")
    run_.add_argument(
        "--profile", type=Path, metavar="FILE.png", help="clock every kernel; a table, and a plot or .json"
    )
    run_.add_argument("--private-report", action="store_true", help="show and write public values only")
    run_.add_argument("--check-numerics", action="store_true", help="refuse and undo a step that gives NaN")
    run_.add_argument("--insecure-noise-key", metavar="HEX", help="reproducible noise, no privacy: for tests")
    run_.add_argument("--seed", type=int, help="of initialisers, shuffles and dropout; never of noise")

    predict_ = commands.add_parser("predict", help="write an artifact's outputs for a data set")
    predict_.add_argument("--data", type=Path, required=True, help=_DATA)
    predict_.add_argument("-o", "--output", type=Path, required=True)
    predict_.add_argument("--fetch", action="append", default=[], metavar="NAME")

    inspect_ = commands.add_parser("inspect", help="show what an artifact is and needs")
    inspect_.add_argument("--verify", action="store_true", help="check the privacy of a private artifact's program")

    for command in (run_, predict_, inspect_):
        if bundled is None:
            command.add_argument("artifact", type=Path)
        else:
            command.add_argument("artifact", type=Path, nargs="?", default=bundled, help=f"[{bundled.name}]")
    for command in (run_, predict_):
        command.add_argument("--device", type=_number, metavar="N", help="GPU that runs an artifact for cuda (0)")
        command.add_argument("--columns", action="append", default=[], metavar="FEED=A,B|A..B", help="of a table")
        command.add_argument("--threads", type=_positive, help="of a step [FLUIDC_THREADS, else every core]")
    for command in (run_, predict_, inspect_):
        command.add_argument(
            "--require-signature",
            type=Path,
            action="append",
            default=[],
            metavar="KEY.pub",
            help="refuse an artifact not signed with this key (or one in this folder); may be repeated",
        )
        command.add_argument("-v", "--verbose", action="store_true", help="show where an error was raised")
    return parser


def _number(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
