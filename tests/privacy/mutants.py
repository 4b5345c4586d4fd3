"""Mutation test of privacy: every way to break the mechanism that is listed must be noticed.

Each mutant of ``listed.py`` is applied to the real code in a process of its own, twice. With the verifier on, a
program is compiled: where the change writes another module, the verifier must refuse it. With the verifier switched
off, every test that is named for the mutant must fail by what it asserts (a mutant that crashes proves nothing); the
same tests pass without it, which is checked first.

    python tests/privacy/mutants.py [NAME ...] [--list] [--quick] [-v]

NAME is a part of a mutant's name. A survivor fails the command.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import pytest  # noqa: E402
from broken import without_verifier  # noqa: E402
from listed import MUTANTS, Mutant  # noqa: E402
from private_models import MODELS  # noqa: E402
from small_modules import private_mlp  # noqa: E402

import fluidc.frontend as fluid  # noqa: E402
from fluidc.compiler.errors import FluidcError  # noqa: E402
from fluidc.compiler.ir.core import Module, PrivacyConfig  # noqa: E402
from fluidc.compiler.passes.manager import run_passes  # noqa: E402
from fluidc.compiler.pipeline import pipeline  # noqa: E402
from fluidc.frontend.framework import Program  # noqa: E402
from fluidc.frontend.lower import lower  # noqa: E402

SECONDS = 120
"""How long the tests of one mutant may take; after that it counts as not noticed."""


def scripted(build: Callable[[Any], Any]) -> Module:
    """The captured module of ``build(layers)`` under Dpsgd."""
    main, startup = Program(), Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        fluid.optimizer.Dpsgd(0.1, 1.0, 4.0, 1.0).minimize(build(fluid.layers))
    return lower(main, startup=startup).module


def batch_norm(layers: Any) -> Any:
    """The statistics of the batch are kept, and the loss does not read them."""
    rows = layers.fc(layers.data("x", [4]), 3)
    layers.batch_norm(rows)
    return layers.mean(layers.square(rows))


def detached(layers: Any) -> Any:
    x = layers.data("x", [4])
    middle = layers.mean(layers.fc(x, 1))
    middle.stop_gradient = True
    return layers.mean(layers.square(layers.fc(x, 1) - middle))


PROGRAMS: dict[str, Callable[[], Module]] = {
    "mlp": private_mlp,
    "tied": lambda: MODELS["tied"].module(PrivacyConfig(1.0, 4.0, 1.0)),
    "batch_norm": lambda: scripted(batch_norm),
    "detached": lambda: scripted(detached),
}


@dataclass(frozen=True)
class Result:
    """What became of a mutant: the verifier's refusal, tests that failed and tests that passed."""

    refusal: str
    killed_by: tuple[str, ...]
    missed_by: tuple[str, ...]
    seconds: float


class Outcomes:
    """A plugin of pytest that keeps which tests ran, and which failed by an assertion or in another way."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.crashed: list[str] = []
        self.ran: list[str] = []

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.when == "call" or call.excinfo is not None:
            self.ran.append(item.nodeid)
        if call.excinfo is not None:
            noticed = call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
            (self.failed if noticed else self.crashed).append(item.nodeid)
            if not noticed:
                print(f"{item.nodeid}: {call.excinfo.exconly()}", file=sys.stderr)


def apart(work: Callable[[], Any], seconds: int = SECONDS) -> Any:
    """What ``work`` returns, as JSON, from a forked process; None where it died or took too long."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            signal.alarm(seconds)
            told = json.dumps(work())
            with os.fdopen(writing, "w") as pipe:
                pipe.write(told)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told) if told else None


def tested(tests: Sequence[str], mutant: Mutant | None, shown: bool) -> dict[str, list[str]]:
    """Run tests with a mutant in place and the verifier off; for a forked process."""
    outcomes = Outcomes()
    with pytest.MonkeyPatch.context() as patch:
        if mutant is not None:
            without_verifier(patch)
            (mutant.measured or mutant.patch)(patch)
        if not shown:
            silence = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(silence, stream)
        arguments = [*tests, "-q", "--no-header", "--tb=short", "-m", "", "--rootdir", str(ROOT)]
        pytest.main(arguments, plugins=[outcomes])
    return {"ran": outcomes.ran, "failed": outcomes.failed, "crashed": outcomes.crashed}


def refusal(mutant: Mutant) -> str:
    """What the compiler says of the mutant's module with the verifier on; empty where it accepts it."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mutant.patch(patch)
        try:
            module = PROGRAMS[mutant.program]()
            run_passes(module, pipeline(module, batch=16))
        except FluidcError as error:
            return str(error).splitlines()[0]
    return ""


def belongs(node: str, test: str) -> bool:
    """Whether a test that ran is the one named, or a case of it."""
    return node == test or node.startswith((test + "[", test + "::"))


def judged(mutant: Mutant, shown: bool = False) -> Result:
    """Apply a mutant, twice."""
    start = time.monotonic()
    refused = apart(lambda: refusal(mutant)) or ""
    found = apart(lambda: tested(mutant.tests, mutant, shown)) or {"ran": [], "failed": []}
    killed = tuple(t for t in mutant.tests if any(belongs(node, t) for node in found["failed"]))
    missed = tuple(t for t in mutant.tests if t not in killed)
    return Result(refused, killed, missed, time.monotonic() - start)


def faults(mutant: Mutant, result: Result) -> list[str]:
    """Why a mutant counts as a survivor."""
    found = [f"not noticed by {test}" for test in result.missed_by]
    if mutant.refused and mutant.refused not in result.refusal:
        found.append(f"the verifier does not say {mutant.refused!r}, but {result.refusal or 'nothing'!r}")
    return found


def sound(mutants: Sequence[Mutant], shown: bool = False) -> list[str]:
    """Tests named for the mutants that fail without any, or do not exist."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    found = apart(lambda: tested(tests, None, shown), 600)
    if found is None:
        return ["the tests did not end"]
    missing = [test for test in tests if not any(belongs(node, test) for node in found["ran"])]
    return [*found["failed"], *found["crashed"], *(f"{test} (there is no such test)" for test in missing)]


def chosen(names: Sequence[str], quick: bool) -> list[Mutant]:
    return [b for b in MUTANTS if (not names or any(n in b.name for n in names)) and (b.quick or not quick)]


def main() -> int:
    """1 where a mutant survives, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of mutants' names; all by default")
    parser.add_argument("--list", action="store_true", help="show the mutants and their tests")
    parser.add_argument("--quick", action="store_true", help="those that run with the ordinary tests")
    parser.add_argument("-v", action="store_true", help="show what pytest says")
    given = parser.parse_args()
    mutants = chosen(given.names, given.quick)
    if given.list:
        for mutant in mutants:
            print(mutant.name, *(f"    {test}" for test in mutant.tests), sep="\n")
        return 0
    os.chdir(ROOT)
    start = time.monotonic()
    wrong = sound(mutants, given.v)
    if wrong:
        print("These fail without any mutant:", *wrong, sep="\n    ")
        return 1
    print(f"the tests pass without a mutant ({time.monotonic() - start:.0f} s)\n")
    survivors = 0
    for mutant in mutants:
        result = judged(mutant, given.v)
        bad = faults(mutant, result)
        survivors += bool(bad)
        print(f"{'SURVIVES' if bad else 'killed':8}  {mutant.name}  ({result.seconds:.1f} s)", flush=True)
        if result.refusal:
            print(f"          verifier: {result.refusal[:150]}")
        for test in result.killed_by:
            print(f"          by {test}")
        for text in bad:
            print(f"          {text}")
    print(f"\n{len(mutants) - survivors} of {len(mutants)} mutants killed in {time.monotonic() - start:.0f} s")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
