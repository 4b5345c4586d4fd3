"""What a process must not do while it reads files that nobody vouches for."""

from __future__ import annotations

import os
import sys
import typing
from pathlib import Path
from typing import Any

# Events of sys.addaudithook that no file may cause. Modules are loaded before: see `_watch`.
FORBIDDEN = (
    "ctypes.dlopen", "ctypes.dlsym", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.kill",
    "socket.", "pickle.find_class", "marshal.", "exec", "code.__new__", "shutil.rmtree", "os.chmod", "os.chown",
    "import", "open",
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
