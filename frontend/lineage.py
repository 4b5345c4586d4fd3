"""Which programs spend one privacy budget."""

from __future__ import annotations


class Lineage:
    """What a program and its training clones have in common: the privacy they spend is spent together.

    Copies of it are itself, so a program copied by other means than `Program.clone` keeps it, too.
    """

    def __copy__(self) -> Lineage:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Lineage:
        return self
