"""Reads many damaged files in one process that can do no harm, and tells what went wrong: ``python fuzz_child.py``.

Arguments: the name of a target (`fuzz_targets.TARGETS`), the first number, how many, and an empty folder to work in.
Standard output gets one line of JSON.  The process has little memory, dies with a traceback when one input takes too
long, and remembers every attempt to execute something or to write outside of its folder.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import re
import sys
import traceback
import typing
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from fuzz_targets import TARGETS, Target

from fluidc.runtime.errors import FluidcError, Refusal

MEMORY = 1 << 30
"""Bytes of address space beyond what the libraries have."""

SECONDS = 20.0
"""For one input, on a machine that others use too."""

# Events of sys.addaudithook that no file may cause. Modules are loaded before: see `_watch`.
FORBIDDEN = (
    "ctypes.dlopen", "ctypes.dlsym", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.kill",
    "socket.", "pickle.find_class", "marshal.", "exec", "code.__new__", "shutil.rmtree", "os.chmod", "os.chown", "import", "open",
)  # fmt: skip
HARMLESS_IMPORTS = ("encodings.", "unicodedata")


class Watch:
    """What the process tried while it was armed."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed or not event.startswith(FORBIDDEN):
            return
        first = str(arguments[0]) if arguments else ""
        if event == "open":
            mode, flags = arguments[1] or "", arguments[2] or 0
            if not set(mode) & set("wax+") and not flags & (os.O_WRONLY | os.O_RDWR):
                return
        if event in ("open", "os.chmod", "shutil.rmtree") and first.startswith(self.folder):
            return
        if event == "import" and (first in sys.modules or first.startswith(HARMLESS_IMPORTS)):
            return
        if event == "exec" and sys._getframe(1).f_code.co_filename == typing.__file__:
            return  # annotations of fluidc's own classes, which the parser reads
        self.seen.append(f"{event} {str(arguments)[:200]}")


def memory_now() -> int:
    """Bytes of address space in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def trial(target: Target, data: bytes, folder: Path) -> str:
    """How reading ``data`` ended: "accepted", or the kind and the first words of the refusal. Raises for faults."""
    try:
        target.read(data, folder)
    except FluidcError as error:
        text = str(error)
        text.encode("utf-8")  # what no terminal shows
        assert error.what.strip(), "an error without a message"
        assert "\x1b" not in text, "an escape sequence from a file goes to the terminal"
        assert not isinstance(error, Refusal) or (error.where and error.hint), "an error without place or advice"
        words = re.sub(r"'[^']*'|`[^`]*`|[0-9]+", "#", error.what).split()
        return f"{type(error).__name__}: {' '.join(words[:9])}"
    return "accepted"


def run(target: Target, numbers: range, folder: Path) -> dict[str, Any]:
    """Read the damaged inputs ``numbers``; the outcomes, and the faults by number."""
    watch = Watch(folder)
    originals = target.originals(folder)
    # What is loaded on first use is loaded here.
    assert "accepted" in {trial(target, data, folder) for data in originals}, "nothing undamaged is accepted"
    for number in range(-40, 0):
        with_one(target, originals, number, folder)
    resource.setrlimit(resource.RLIMIT_AS, (memory_now() + MEMORY,) * 2)
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    for number in numbers:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        watch.armed = True
        try:
            outcomes[with_one(target, originals, number, folder)] += 1
        except BaseException as error:  # whatever it is, it is a fault
            watch.armed = False
            faults.append(f"input {number}: " + "".join(traceback.format_exception(error))[-2500:])
        watch.armed = False
        faults += [f"input {number}: {event}" for event in watch.seen]
        watch.seen.clear()
    faulthandler.cancel_dump_traceback_later()
    return {"outcomes": outcomes, "faults": faults}


def with_one(target: Target, originals: list[bytes], number: int, folder: Path) -> str:
    """Make the damaged input ``number`` and read it."""
    random = Random(f"{target.name} {number}")
    data = random.choice(target.changes)(random, random.choice(originals))
    print(number, file=sys.stderr, flush=True)  # the last one is the culprit when the process dies
    return trial(target, data, folder)


def main() -> None:
    name, first, count, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    done = run(TARGETS[name], range(int(first), int(first) + int(count)), Path(folder).resolve())
    print(json.dumps(done))


if __name__ == "__main__":
    main()
