"""Other libraries as contestants: each lives in a process of its own, which answers one line of JSON per line.

``benchmarks/peers/protocol.py`` describes the lines from the other side.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from ...runtime.errors import FluidcError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Contestant:
    """A way to take a step that a peer offers."""

    label: str
    private: bool


class Peer:
    """A process that takes the same steps with other libraries.

    Args:
        command: its command line; the number of threads is added as the last argument.
        threads: of a step.

    Raises:
        FluidcError: The command does not start.  Every method raises it when the process ends early, or answers
            something else than it was asked for.
    """

    def __init__(self, command: str, threads: int) -> None:
        self.command = command
        self.versions: dict[str, str] = {}
        settings = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        try:
            words = shlex.split(command)
            if not words:
                raise ValueError("there is no command")
            self._process = subprocess.Popen(
                [*words, str(threads)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | settings,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise FluidcError(
                f"the peer does not start: {error.strerror if isinstance(error, OSError) else error}",
                where=command or "--with",
                hint="--with takes a command line, such as 'python benchmarks/peers/torch_peer.py'",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._ask({"do": "quit"}, dict)
            else:
                self._process.kill()
        except FluidcError:
            self._process.kill()
            raise
        finally:
            # One that has ended leaves bytes that cannot be written.
            with suppress(OSError), self._process:
                pass

    def contestants(self, model: str) -> list[Contestant]:
        """What the peer has for a model."""

        def read(answer: dict[str, Any]) -> tuple[dict[str, str], list[Contestant]]:
            versions = {name: str(version) for name, version in answer["versions"].items()}
            return versions, [Contestant(str(c["label"]), bool(c["private"])) for c in answer["contestants"]]

        self.versions, found = self._ask({"do": "contestants", "model": model}, read)
        return found

    def load(self, label: str, model: str, arrays: str) -> list[float] | str:
        """Prepare a contestant: its losses before and after one step, or why there is none."""

        def read(answer: dict[str, Any]) -> list[float] | str:
            return str(answer["missing"]) if "missing" in answer else [float(loss) for loss in answer["losses"]]

        return self._ask({"do": "load", "label": label, "model": model, "arrays": arrays}, read)

    def time(self, label: str, seconds: float) -> float:
        """Seconds per step, the mean of a burst of about ``seconds``."""

        def read(answer: dict[str, Any]) -> float:
            taken = float(answer["seconds"])
            if not 0 < taken < math.inf:
                raise ValueError("no time")
            return taken

        return self._ask({"do": "time", "label": label, "seconds": seconds}, read)

    def forget(self) -> None:
        """Free what was loaded."""
        self._ask({"do": "forget"}, dict)

    def _ask(self, request: dict[str, Any], read: Callable[[dict[str, Any]], _T]) -> _T:
        """What ``read`` makes of the answer; it may raise what Python does for a value of another kind."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            answer: object = json.loads(line)
        except (OSError, ValueError):
            raise FluidcError(
                f"the peer ended or answered no JSON when asked to {request['do']}",
                where=self.command,
                hint="run the command by hand to see why; benchmarks/peers/protocol.py describes what it is asked",
            ) from None
        try:
            if not isinstance(answer, dict):
                raise TypeError("no object")
            return read(cast(dict[str, Any], answer))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise FluidcError(
                f"the peer was asked to {request['do']} and answered {line.strip()[:100]}",
                where=self.command,
                hint="benchmarks/peers/protocol.py describes what it is asked, and the answers",
            ) from None
