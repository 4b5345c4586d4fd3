"""Reads many damaged files in one process that can do no harm, and tells what went wrong: ``python fuzz_child.py``.

Arguments: the name of a target (`fuzz_targets.TARGETS`), the first number, how many, and an empty folder to work in.
Standard output gets one line of JSON.  The process has little memory, dies with a traceback when one input takes too
long, and remembers every attempt to execute something or to write outside of its folder.
"""

from __future__ import annotations

import codecs
import faulthandler
import json
import re
import resource
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from fuzz_targets import TARGETS, Target
from fuzz_watch import Watch

from fluidc.runtime.errors import FluidcError, Refusal

MEMORY = 1 << 30
"""Bytes of address space beyond what the libraries have."""

SECONDS = 20.0
"""For one input, on a machine that others use too."""


def memory_now() -> int:
    """Bytes of address space in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def trial(target: Target, data: bytes, folder: Path) -> str:
    """How reading ``data`` ended: "accepted", or the kind and the first words of the refusal. Raises for faults."""
    try:
        target.read(data, folder)
    except FluidcError as error:
        return refusal(error)
    return "accepted"


def refusal(error: FluidcError) -> str:
    """The kind and the first words of an error. Raises AssertionError where a user could not be told so."""
    text = str(error)
    text.encode("utf-8")  # which a terminal takes
    assert error.what.strip(), "an error without a message"
    assert "\x1b" not in text, "an escape sequence from a file goes to the terminal"
    assert not isinstance(error, Refusal) or (error.where and error.hint), "an error without place or advice"
    words = re.sub(r"'[^']*'|`[^`]*`|[0-9]+", "#", error.what).split()
    return f"{type(error).__name__}: {' '.join(words[:12])}"


def run(target: Target, numbers: range, folder: Path) -> dict[str, Any]:
    """Read the damaged inputs ``numbers``; the outcomes, and the faults by number."""
    watch = Watch(folder)
    codecs.lookup("unicode_escape")  # how unprintable texts are shown
    originals = target.originals(folder)
    # What is loaded on first use is loaded here.
    found = {trial(target, data, folder) for data in originals}
    assert "accepted" in found or not target.accepts, "nothing undamaged is accepted"
    for number in range(-40, 0):
        trial(target, damaged(target, originals, number), folder)
    limit = memory_now() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    for number in numbers:
        print(number, file=sys.stderr, flush=True)  # the last one is the culprit when the process dies
        data = damaged(target, originals, number)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        watch.armed = True
        try:
            outcomes[trial(target, data, folder)] += 1
        except BaseException as error:  # whatever it is, it is a fault
            watch.armed = False
            faults.append(f"input {number}: " + "".join(traceback.format_exception(error))[-2500:])
        watch.armed = False
        faults += [f"input {number}: {event}" for event in watch.seen]
        watch.seen.clear()
    faulthandler.cancel_dump_traceback_later()
    return {"outcomes": outcomes, "faults": faults}


def damaged(target: Target, originals: list[bytes], number: int) -> bytes:
    """The damaged input ``number``."""
    random = Random(f"{target.name} {number}")
    return random.choice(target.changes)(random, random.choice(originals))


def main() -> None:
    name, first, count, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    done = run(TARGETS[name], range(int(first), int(first) + int(count)), Path(folder).resolve())
    print(json.dumps(done))


if __name__ == "__main__":
    main()
