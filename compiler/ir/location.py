"""Where in the user's program an op comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Loc:
    """The user's source line and the fluid layer he called there; printed ``loc(digits.py:12 fc)``."""

    file: str = ""
    line: int = 0
    layer: str = ""

    def __bool__(self) -> bool:
        return bool(self.file or self.layer)

    @property
    def place(self) -> str:
        """``file:line`` with the path as given, for error messages; ``file`` alone where there are no lines."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        # Only the base name is printed: IR text must not depend on where a project is checked out.
        place = f"{os.path.basename(self.file)}:{self.line}" if self.file else ""
        return " ".join(part for part in (place, self.layer) if part)


UNKNOWN = Loc()
