"""Other libraries as contestants: each lives in a process of its own, which answers one line of JSON per line.

``benchmarks/peers/protocol.py`` describes the lines from the other side.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from ...runtime.errors import FluidcError


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
        FluidcError: The command does not start.  Every method raises it when the process ends early.
    """

    def __init__(self, command: str, threads: int) -> None:
        self.command = command
        self.versions: dict[str, str] = {}
        words = shlex.split(command)
        settings = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        try:
            if not words:
                raise OSError(0, "there is no command")
            self._process = subprocess.Popen(
                [*words, str(threads)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | settings,
            )  # fmt: skip
        except OSError as error:
            raise FluidcError(
                f"the peer does not start: {error.strerror}",
                where=command,
                hint="--with takes a command line, such as 'python benchmarks/peers/torch_peer.py'",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._ask({"do": "quit"})
            else:
                self._process.kill()
        finally:
            # One that has ended leaves bytes that cannot be written.
            with suppress(OSError), self._process:
                pass

    def contestants(self, model: str) -> list[Contestant]:
        """What the peer has for a model."""
        answer = self._ask({"do": "contestants", "model": model})
        self.versions = answer["versions"]
        return [Contestant(**found) for found in answer["contestants"]]

    def load(self, label: str, model: str, arrays: str) -> list[float] | str:
        """Prepare a contestant: its losses before and after one step, or why there is none."""
        answer = self._ask({"do": "load", "label": label, "model": model, "arrays": arrays})
        return answer["missing"] if "missing" in answer else answer["losses"]

    def time(self, label: str, seconds: float) -> float:
        """Seconds per step, the mean of a burst of about ``seconds``."""
        return self._ask({"do": "time", "label": label, "seconds": seconds})["seconds"]

    def forget(self) -> None:
        """Free what was loaded."""
        self._ask({"do": "forget"})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (OSError, json.JSONDecodeError):
            raise FluidcError(
                f"the peer ended or answered no JSON when asked to {request['do']}",
                where=self.command,
                hint="run the command by hand to see why; benchmarks/peers/protocol.py describes what it is asked",
            ) from None
