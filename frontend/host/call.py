"""One op that runs on the host: its arguments as numpy arrays with LoD, its attributes, its results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...compiler.errors import LoweringError
from ..errors import ProgramError
from ..framework import AttrValue, Block, Operator
from ..scope import Scope
from ..variable import Variable
from .values import Array, Held, Lod, RankTable, Value, lod_of

if TYPE_CHECKING:
    from ...runtime.buffers import Buffer


class Environment:
    """Values by name while a program runs: what ops made lies here, what outlives the run in the scope.

    Attributes:
        values: Of names that are not persistable.
        scope: Holds the others.
    """

    def __init__(self, block: Block, scope: Scope, feeds: Mapping[str, Value]) -> None:
        self.values: dict[str, Held] = dict(feeds)
        self.scope = scope
        self._block = block
        self._undo: list[Callable[[], None]] = []

    def persistable(self, name: str) -> bool:
        """Whether the name outlives the run."""
        var = self._block.vars.get(name)
        return var is not None and var.persistable and not var.is_data

    def find(self, name: str) -> Held | None:
        """The value of a name, or None."""
        found = self.values.get(name)
        if found is not None or not self.persistable(name):
            return found
        variable = self.scope.find_var(name)
        if variable is None or not variable.get_tensor().is_initialized:
            return None
        tensor = variable.get_tensor()
        return Value(tensor.array.copy(), lod_of(tensor.lod()))  # steps write into the memory itself

    def fetched(self, name: str) -> Value:
        """The value of a name at the end.  Raises LoweringError where nothing computed one."""
        found = self.find(name)
        if isinstance(found, Value):
            return found
        raise LoweringError(
            f"{name} is fetched, but {'nothing in the program computes it' if found is None else 'it is no tensor'}",
            hint="fetch a tensor of this program; list_vars() gives all names",
        )

    def write(self, name: str, value: Held) -> None:
        """Give a name its new value."""
        if not self.persistable(name) or not isinstance(value, Value):
            self.values[name] = value
            return
        variable = self.scope.find_var(name)
        existed = variable is not None and variable.get_tensor().is_initialized
        tensor = self.scope.var(name).get_tensor()
        if existed:
            before, lod = tensor.array.copy(), tensor.lod()

            def back() -> None:
                tensor.set(before)
                tensor.set_lod(lod)

            self._undo.append(back)
        else:
            self._undo.append(lambda: self.scope.erase([name]))
        tensor.set(value.array)
        tensor.set_lod(value.lod)

    def remember(self, buffers: Mapping[str, Buffer]) -> None:
        """Note what buffers hold, before a segment writes them."""
        self._undo.extend(buffer.save() for buffer in buffers.values())

    def forget(self, names: list[str]) -> None:
        """Note that names had no value before."""
        if names:
            self._undo.append(lambda: self.scope.erase(names))

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Put back what persistable variables held, should the block fail."""
        try:
            yield
        except BaseException:  # an interrupt too
            for back in reversed(self._undo):
                back()
            raise
        finally:
            self._undo.clear()


class HostCall:
    """One op on the values of an environment."""

    def __init__(self, op: Operator, values: Environment) -> None:
        self.op = op
        self.values = values

    @property
    def layer(self) -> str:
        """The layer as the user wrote it."""
        return self.op.loc.layer or self.op.type

    def error(self, what: str, hint: str) -> ProgramError:
        """An error at the user's line."""
        return ProgramError(f"{self.layer}: {what}", where=self.op.loc.place, hint=hint)

    def warn(self, what: str) -> None:
        """A UserWarning at the user's line."""
        warnings.warn_explicit(f"{self.layer}: {what}", UserWarning, self.op.loc.file, self.op.loc.line)

    def has(self, slot: str) -> bool:
        return bool(self.op.input(slot))

    def attr(self, name: str, default: AttrValue = None) -> AttrValue:
        """An attribute, or its default where the record lacks it."""
        return self.op.attrs.get(name, default)

    def held(self, slot: str) -> list[Held]:
        """Everything in a slot."""
        return [self._known(name) for name in self.op.input(slot)]

    def _known(self, name: str) -> Held:
        found = self.values.find(name)
        if found is not None:
            return found
        var = self.variable(name)
        if var is not None and var.is_data:
            raise self.error(f"{name} is read but not fed", f"feed it: feed={{'{name}': ...}}")
        if var is not None and var.persistable:
            raise self.error(
                f"variable {name!r} has no value: it was never initialised in this scope",
                "run the startup program first: exe.run(fluid.default_startup_program())",
            )
        raise self.error(f"{name} is read before anything writes it", "give it a value before")

    def xs(self, slot: str = "X") -> list[Value]:
        """The tensors in a slot."""
        found = self.held(slot)
        for name, value in zip(self.op.input(slot), found):
            if not isinstance(value, Value):
                raise self.error(f"{name} is no tensor", "read an element of it: fluid.layers.array_read")
        return [value for value in found if isinstance(value, Value)]

    def x(self, slot: str = "X") -> Value:
        """The only tensor in a slot."""
        found = self.xs(slot)
        if len(found) != 1:
            raise self.error(f"slot {slot} holds {len(found)} variables", "it takes exactly one")
        return found[0]

    def array(self, slot: str = "X") -> Array:
        """Its array."""
        return self.x(slot).array

    def number(self, slot: str) -> int:
        """A tensor of one element as a number."""
        found = self.array(slot)
        if found.size != 1:
            raise self.error(f"{self.op.input(slot)[0]} has {found.size} elements", "it must have one")
        return int(found.reshape(-1)[0])

    def tensors(self, slot: str) -> list[Value | None]:
        """An array of tensors; a new one where the name has none yet."""
        name = (self.op.input(slot) or self.op.output(slot))[0]
        found = self.values.find(name)
        if found is None:
            found = []
            self.values.write(name, found)
        if not isinstance(found, list):
            raise self.error(f"{name} is no array of tensors", "make one: fluid.layers.create_array")
        return found

    def table(self, slot: str = "RankTable") -> RankTable:
        """A table of ranks."""
        (found,) = self.held(slot)
        if not isinstance(found, RankTable):
            raise self.error(f"{self.op.input(slot)[0]} is no table of ranks", "make one with lod_rank_table")
        return found

    def variable(self, name: str) -> Variable | None:
        """The Variable of a name."""
        return self.op.block.find_var_recursive(name)

    def set(self, array: Array, slot: str = "Out", lod: Lod = ()) -> None:
        """Give the result in ``slot`` its value; nothing happens if the record does not name it."""
        for name in self.op.output(slot):
            self.values.write(name, Value(np.ascontiguousarray(array), lod))


HostRule: TypeAlias = Callable[[HostCall], None]
HostRules: TypeAlias = Mapping[str, HostRule]
