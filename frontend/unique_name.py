"""Names that are unique within a process, counted per key: ``fc_0``, ``fc_1``, ..."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator


class UniqueNameGenerator:
    """One set of counters; ``prefix`` is put before every name."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._next: defaultdict[str, int] = defaultdict(int)

    def __call__(self, key: str) -> str:
        number = self._next[key]
        self._next[key] += 1
        return f"{self.prefix}{key}_{number}"

    def reserve(self, name: str) -> None:
        """Never give this name, which comes from elsewhere."""
        key, _, number = name.removeprefix(self.prefix).rpartition("_")
        if number.isascii() and number.isdecimal() and len(number) < 10:
            self._next[key] = max(self._next[key], int(number) + 1)


_current = UniqueNameGenerator()
_foreign: list[frozenset[str]] = []


def generate(key: str) -> str:
    """The next name for ``key``.

    >>> with guard():
    ...     generate("fc"), generate("fc"), generate("mean")
    ('fc_0', 'fc_1', 'mean_0')
    """
    return _current(key)


def reserve(name: str) -> None:
    """Never give this name, which comes from elsewhere.

    >>> with guard():
    ...     reserve("fc_1.w_4")
    ...     generate("fc_1.w"), generate("fc_1.b")
    ('fc_1.w_5', 'fc_1.b_0')
    """
    _current.reserve(name)


@contextlib.contextmanager
def never(names: frozenset[str]) -> Iterator[None]:
    """Give none of these names inside the ``with`` block, nor a layer the name that a variable's begins with.

    >>> with guard(), never(frozenset({"fc_0.w_0"})), guard():
    ...     generate("fc")
    'fc_1'
    """
    _foreign.append(names)
    _reserve_all(names)
    try:
        yield
    finally:
        _foreign.remove(names)


def _reserve_all(names: frozenset[str]) -> None:
    for name in names:
        reserve(name)  # fc_0.w_0: neither a second fc_0 nor a second fc_0.w_0
        reserve(name.partition(".")[0])


def switch(
    new_generator: UniqueNameGenerator | None = None, new_para_name_checker: object = None
) -> UniqueNameGenerator:
    """Replace the current counters (by fresh ones if None) and return the old ones."""
    global _current
    del new_para_name_checker  # belongs to dygraph, where names are checked by the layers themselves
    old, _current = _current, new_generator or UniqueNameGenerator()
    if new_generator is None:
        for names in _foreign:
            _reserve_all(names)
    return old


@contextlib.contextmanager
def guard(new_generator: UniqueNameGenerator | str | bytes | None = None) -> Iterator[None]:
    """Count afresh inside the ``with`` block; a string becomes the prefix of every name."""
    if isinstance(new_generator, bytes):
        new_generator = new_generator.decode()
    if isinstance(new_generator, str):
        new_generator = UniqueNameGenerator(new_generator)
    old = switch(new_generator)
    try:
        yield
    finally:
        switch(old)
