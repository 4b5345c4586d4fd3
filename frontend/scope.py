"""Scopes: what persistable variables hold between runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .errors import invalid
from .lod import LoDTensor
from .memory import Memory


class ScopeVariable:
    """A slot of a scope; ``get_tensor()`` is its value, shared with every compiled step that uses it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tensor = LoDTensor()

    def get_tensor(self) -> LoDTensor:
        return self._tensor


class Scope:
    """Named values; owns the buffers that compiled steps read and write.

    Attributes:
        ran: ``uid`` of the programs that have been run in it.
    """

    def __init__(self) -> None:
        self.ran: set[int] = set()
        self._vars: dict[str, ScopeVariable] = {}
        self._kids: list[Scope] = []

    def var(self, name: str) -> ScopeVariable:
        """The variable of that name, made empty if there is none."""
        return self._vars.setdefault(name, ScopeVariable(name))

    def find_var(self, name: str) -> ScopeVariable | None:
        """The variable of that name, or None."""
        return self._vars.get(name)

    def erase(self, names: list[str]) -> None:
        """Forget variables."""
        for name in names:
            self._vars.pop(name, None)

    def lend(self, name: str, memory: Memory) -> None:
        """Let a variable be somebody's memory, in the place of memory that it was lent before.

        Raises:
            ProgramError: It has a value of its own.
        """
        tensor = self.var(name).get_tensor()
        if tensor.is_initialized and tensor.memory is None:
            raise invalid(
                f"{name} is a variable of dygraph, and the scope holds another value under this name",
                "run the traced program in a scope of its own: with fluid.scope_guard(fluid.Scope())",
            )
        if tensor.memory is None or tensor.buffer is not memory.buffer:
            tensor.share(memory)

    def local_var_names(self) -> list[str]:
        return list(self._vars)

    def new_scope(self) -> Scope:
        """A scope of its own that lives as long as this one."""
        kid = Scope()
        self._kids.append(kid)
        return kid

    def drop_kids(self) -> None:
        self._kids.clear()


_current = Scope()


def global_scope() -> Scope:
    """The scope that an Executor uses when none is given."""
    return _current


@contextlib.contextmanager
def scope_guard(scope: Scope) -> Iterator[None]:
    """Make ``scope`` the global one inside the ``with`` block."""
    global _current
    before, _current = _current, scope
    try:
        yield
    finally:
        _current = before
