"""Memory that a scope shares with somebody who is told before it is read or overwritten."""

from __future__ import annotations

from typing import Protocol

from ..runtime.buffers import Buffer


class Memory(Protocol):
    """Memory of one variable; its owner is eager code, whose records run late and whose graphs read old values."""

    @property
    def buffer(self) -> Buffer:
        """What compiled steps read and write."""
        ...

    def settle(self) -> None:
        """Have everything that the owner still has to write there written."""
        ...

    def overwrite(self) -> None:
        """Announce new values: `settle`, and the owner keeps what he needs of the old ones."""
        ...
