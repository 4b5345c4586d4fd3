"""Where the time of a step goes under ONNX Runtime: its own profile, summarised node by node."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .buffers import Array
from .engine import Handle
from .errors import DataError, EngineError
from .fields import Json
from .files import write_atomically
from .onnx_engine import OnnxEngine
from .profile import LEAST_CALLS, TAKE_MORE

WARM_UP = LEAST_CALLS - 2
"""First calls of a function that are not counted: memory is allocated and threads are woken."""

MOST_CALLS = 200
"""Calls of a function that are profiled; ONNX Runtime writes about a kilobyte for every node of each."""

_ROWS = 24
_CONTROL = ("If", "Loop", "Scan")
_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class NodeTime:
    """A node of the graph that ONNX Runtime made of the file.

    Attributes:
        name: its name; that of a fused node tells what was fused.
        op: ONNX operator, or one of ONNX Runtime's own.
        inside: name of the loop or branch that it is part of, and whose time holds its own; or empty.
        seconds: mean over calls of the function.
        runs: times it ran in a call.
    """

    name: str
    op: str
    inside: str
    seconds: float
    runs: float

    def to_json(self) -> Json:
        """All of it."""
        return {
            "name": self.name, "op": self.op, "inside": self.inside, "seconds": self.seconds, "runs": self.runs,
        }  # fmt: skip


@dataclass(frozen=True)
class FunctionNodes:
    """A function: mean seconds of a call, over ``calls`` calls, and its nodes, the longest first."""

    name: str
    calls: int
    seconds: float
    nodes: tuple[NodeTime, ...]

    @property
    def in_nodes(self) -> float:
        """Seconds of a call that belong to nodes."""
        return sum(node.seconds for node in self.nodes if not node.inside)


class NodeProfilingEngine(OnnxEngine):
    """An engine that has ONNX Runtime clock its nodes; it computes what ``engine`` does."""

    def __init__(self, engine: OnnxEngine) -> None:
        self._folder = TemporaryDirectory(prefix="fluidc-")
        super().__init__(engine.models, engine.threads, profiles=Path(self._folder.name))
        self._calls: dict[str, int] = {}
        self._files: dict[str, Path] = {}

    def call(self, function: str, arguments: Sequence[Handle]) -> list[Array]:
        """As every engine does."""
        results = super().call(function, arguments)
        calls = self._calls[function] = self._calls.get(function, 0) + 1
        if calls == MOST_CALLS:
            self._files[function] = self.end_profile(function)
        return results

    def profile(self) -> tuple[FunctionNodes, ...]:
        """What was measured, the function that took longest in all first; the measuring ends.

        Raises EngineError when no function but startup was called often enough.
        """
        for function in self._calls.keys() - self._files.keys():
            self._files[function] = self.end_profile(function)
        found = [_summarised(function, json.loads(path.read_text())) for function, path in self._files.items()]
        self._folder.cleanup()
        long = [function for function in found if function is not None]
        if not long:
            most = max((calls for name, calls in self._calls.items() if name != "startup"), default=0)
            raise EngineError(
                f"the run was too short to profile: {most} calls of its longest function", "--profile", TAKE_MORE
            )
        return tuple(sorted(long, key=lambda each: -each.seconds * self._calls[each.name]))


def _summarised(function: str, events: Sequence[Mapping[str, Any]]) -> FunctionNodes | None:
    """A function by ONNX Runtime's events, whose times are in µs; None for too few calls."""
    runs = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])[WARM_UP:]
    if not runs:
        return None
    kernels = [e for e in events if e["name"].endswith(_KERNEL) and e["ts"] >= runs[0]["ts"]]
    kernels.sort(key=lambda event: (event["ts"], -event["dur"]))
    times: dict[tuple[str, str, str], list[int]] = {}
    around: list[tuple[int, str]] = []  # ends and names of the control nodes that an event lies in
    for event in kernels:
        name, op = event["name"].removesuffix(_KERNEL), event["args"]["op_name"]
        while around and event["ts"] >= around[-1][0]:
            around.pop()
        times.setdefault((name, op, around[-1][1] if around else ""), []).append(event["dur"])
        if op in _CONTROL:
            around.append((event["ts"] + event["dur"], name))
    nodes = [
        NodeTime(name, op, inside, sum(found) / len(runs) / 1e6, len(found) / len(runs))
        for (name, op, inside), found in times.items()
    ]
    seconds = sum(event["dur"] for event in runs) / len(runs) / 1e6
    return FunctionNodes(function, len(runs), seconds, tuple(sorted(nodes, key=lambda node: -node.seconds)))


@dataclass(frozen=True)
class NodeReport:
    """A profile to be read.

    Attributes:
        name: of the artifact.
        functions: what was measured.
        threads: threads of a step.
        mark: what is said of it, since times and numbers of calls follow the sizes of lots; or empty.
    """

    name: str
    functions: tuple[FunctionNodes, ...]
    threads: int
    mark: str = ""

    def lines(self) -> Iterator[str]:
        """The tables for a terminal."""
        mark = f"  ({self.mark})" if self.mark else ""
        yield f"profile of {self.name} on {self.threads} thread{'s' if self.threads > 1 else ''}{mark}"
        for function in self.functions:
            yield ""
            yield from _table(function)
        yield ""
        yield "ONNX Runtime's own clock, in whole µs; its names tell what it fused or inserted"

    def write(self, path: Path) -> None:
        """Write all numbers as JSON, whole or not at all. Raises DataError."""
        data: Json = {
            "artifact": self.name,
            "mark": self.mark,
            "threads": self.threads,
            "functions": [
                {
                    "name": function.name,
                    "calls": function.calls,
                    "seconds": function.seconds,
                    "seconds_in_nodes": function.in_nodes,
                    "nodes": [node.to_json() for node in function.nodes],
                }
                for function in self.functions
            ],
        }
        try:
            write_atomically(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode("ascii"))
        except OSError as error:
            raise DataError(
                f"the profile cannot be written: {error.strerror}",
                str(path),
                "choose a folder that exists, is writable and has space",
            ) from None


def _table(function: FunctionNodes) -> Iterator[str]:
    yield f"{function.name}: {function.seconds * 1e6:,.1f} µs a call, mean of {function.calls} calls"
    rows = [("µs", "% of call", "runs", "op", "node")]
    for node in function.nodes[:_ROWS]:
        shown = f"{node.name}  (in {node.inside})" if node.inside else node.name
        rows.append((*_numbers(node.seconds, function), f"{node.runs:g}", node.op, shown))
    if rest := function.nodes[_ROWS:]:
        seconds = sum(node.seconds for node in rest if not node.inside)
        rows.append((*_numbers(seconds, function), "", "", f"{len(rest)} others"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (c.rjust(w) if i < 3 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield f"  {'  '.join(cells)}".rstrip()
    nodes = function.in_nodes
    yield (
        f"  {len(function.nodes)} nodes take {nodes * 1e6:,.1f} µs; {(function.seconds - nodes) * 1e6:+,.1f} µs of a "
        "call are not theirs (ONNX Runtime between them, and its clock)"
    )


def _numbers(seconds: float, function: FunctionNodes) -> tuple[str, str]:
    return f"{seconds * 1e6:.1f}", f"{100 * seconds / max(function.seconds, 1e-9):.1f}"
