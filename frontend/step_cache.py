"""Compiled code and the steps bound to scopes, kept until others are needed more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray

from .bound_step import Step, bound, buffers_hold
from .compiled_code import Code, Types, compiled_code
from .errors import ProgramError
from .feed_types import batch_size, feed_type
from .framework import Program
from .mistakes import check_fed
from .open_sizes import Choice, Sizes
from .places import Place
from .profiler import timed
from .scope import Scope

Array: TypeAlias = NDArray[Any]
Kept = TypeVar("Kept")

CACHED_STEPS = 64


class StepCache:
    """Steps of programs at one place, compiled when they are first asked for.

    A program is compiled once per version, feed types and fetches.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._codes: OrderedDict[object, Code] = OrderedDict()
        self._steps: OrderedDict[object, Step] = OrderedDict()
        self._sizes: dict[object, Sizes] = {}

    def __len__(self) -> int:
        """Programs and types that code is kept for."""
        return len(self._codes)

    def clear(self) -> None:
        """Forget everything compiled."""
        self._codes.clear()
        self._steps.clear()

    def whole(
        self, program: Program, arrays: Mapping[str, Array], fetches: tuple[str, ...], scope: Scope, target: str
    ) -> Step:
        """The step of a whole program; sizes of the arrays with which it cannot be compiled if they are open are not.

        Raises LoweringError and VerifyError for a program that cannot be compiled as a whole.
        """
        rows = batch_size(program, arrays)
        sizes = self._sizes_of(program, fetches)
        choice = sizes.choose(rows, arrays)
        try:
            return self.step(program, _types(program, arrays, rows, choice), fetches, scope, target)
        except ProgramError:
            raise
        except Exception:  # rules and targets may expect a number; what else is wrong comes up again
            if choice.pattern is None:
                raise
        choice = sizes.refuse(choice, rows)
        return self.step(program, _types(program, arrays, rows, choice), fetches, scope, target)

    def step(
        self,
        program: Program,
        given: Types,
        fetches: tuple[str, ...],
        scope: Scope,
        target: str,
        stream: str = "model",
    ) -> Step:
        """The step of a program for these types, with random numbers of the stream of that name.

        Raises LoweringError and VerifyError for a program that cannot be compiled as a whole; ProgramError for data
        that nobody feeds, and for a variable without a value.
        """
        types = tuple(sorted(given.types.items(), key=itemgetter(0)))
        key = (program.uid, program.version, types, fetches, given.rows, target)
        step = self._steps.get((key, id(scope)))
        if step is None or not buffers_hold(step, scope):
            code = self._codes.get(key)
            if code is None:
                check_fed(program, given.types)
                with timed("compile"):
                    code = compiled_code(program, given, fetches, target, self._place)
                _keep(self._codes, key, code)
            step = bound(code, program, scope, stream)
        _keep(self._steps, (key, id(scope)), step)
        return step

    def rows(self, program: Program, feeds: Mapping[str, Array], fetches: tuple[str, ...]) -> int:
        """Rows to compile for: the size at hand for the first two sizes of a program, then 0 (any)."""
        return self._sizes_of(program, fetches).choose(batch_size(program, feeds), {}).rows

    def _sizes_of(self, program: Program, fetches: tuple[str, ...]) -> Sizes:
        key = (program.uid, program.version, fetches)
        found = self._sizes.get(key)
        if found is None:
            found = self._sizes[key] = Sizes(program)
        return found


def _types(program: Program, feeds: Mapping[str, Array], rows: int, choice: Choice) -> Types:
    types = {name: feed_type(program, name, array, rows or None, choice.symbols) for name, array in feeds.items()}
    return Types(types, choice.rows)


def _keep(cache: OrderedDict[object, Kept], key: object, value: Kept) -> None:
    """Put ``value`` in as the latest; the one unused longest may have to go."""
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > CACHED_STEPS:
        cache.popitem(last=False)
