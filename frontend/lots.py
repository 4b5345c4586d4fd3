"""Lots of examples as `fluid.privacy.poisson_batches` draws them: data that a private step is accounted for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from numpy.typing import NDArray

from ..compiler.errors import PrivacyError
from .source import user_location

Array: TypeAlias = NDArray[Any]


class Lot(Mapping[str, Array]):
    """One lot drawn by `fluid.privacy.poisson_batches`; feed it to ``Executor.run`` as it is, or, in dygraph, give it
    to ``fluid.dygraph.to_variable``.

    It buys one step. There are no copies of it, and it hands out copies of its arrays, which are read-only: what is
    changed is a lot of the caller's own, which no accounting covers.

    Attributes:
        steps: The `PrivateSteps` that counted it.
        number: Its step.
    """

    def __init__(self, steps: object, number: int, arrays: Mapping[str, Array]) -> None:
        self.steps = steps
        self.number = number
        self._arrays = {name: _read_only(array) for name, array in arrays.items()}

    def __getitem__(self, name: str) -> Array:
        # The owner of an array may make it writeable again, so nobody else gets the lot's own.
        return _read_only(self._arrays[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __copy__(self) -> Lot:
        raise _no_copies()

    def __deepcopy__(self, memo: dict[int, object]) -> Lot:
        raise _no_copies()

    def __reduce__(self) -> str:
        raise _no_copies()


def arrays_of(lot: Lot) -> Mapping[str, Array]:
    """The lot's own arrays, for the step that runs on them; nobody outside the package gets them."""
    return lot._arrays


def _read_only(array: Array) -> Array:
    copied = array.copy()
    copied.flags.writeable = False
    return copied


def _no_copies() -> PrivacyError:
    return PrivacyError(
        "a lot cannot be copied, pickled or sent to another process: it was counted as one step",
        where=user_location().place,
        hint="feed the lot that poisson_batches gave, in the process that drew it; dict(lot) has copies of its arrays",
    )
