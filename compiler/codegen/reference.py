"""The ``reference`` target: every op by its ``evaluate`` rule, in numpy.  The oracle of all other targets."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...runtime.engine import Buffer
from ...runtime.manifest import TargetSpec
from ..errors import TargetError
from ..ir.bind import bind, retype
from ..ir.core import Function, Module, Param, walk
from ..ir.types import Dim, DType, RaggedType
from ..ops.apart import rows_apart
from ..ops.base import Op, has_rule
from ..ops.ragged import RaggedArray
from ..ops.region import Environment, evaluate_op
from ..ops.state import Read, Write, state_of
from .built import BuildOptions

Array: TypeAlias = NDArray[Any]
Argument: TypeAlias = "Array | RaggedArray"

_CACHED = 64  # bound functions kept; sizes vary little, and binding is cheap beside numpy


class Reference:
    """A module ready to run.  Symbols take their sizes from the arguments of each call.

    Args:
        module: At any stage whose ops have ``evaluate`` rules.
        promote: Compute all f32 in f64: the arbiter between two float32 targets.  Functions with dp ops,
            which fix their element types, raise VerifyError.
    """

    def __init__(self, module: Module, *, promote: bool = False) -> None:
        self.module = retype(module, {DType.F32: DType.F64}) if promote else module
        self._promote = promote
        self._bound: dict[tuple[str, tuple[tuple[str, int], ...]], Function] = {}

    def run(
        self, function: str, arguments: Mapping[str, Argument], state: MutableMapping[str, Array] | None = None
    ) -> dict[str, Any]:
        """Run one function.

        Args:
            function: Its name.
            arguments: One array per parameter, by the parameter's name.
            state: The state variables that the function reads, by name.  Written variables are replaced,
                and only after every op has run.

        Returns:
            The function's outputs by name: arrays, and RaggedArray where the type is ragged.

        Raises:
            TargetError: An argument or a state variable is missing, or has another type than declared.
            KeyError: There is no such function.
        """
        declared = self.module.function(function)
        missing = [param.name for param in declared.params if param.name not in arguments]
        if missing:
            raise TargetError(f"function {function!r} needs a value for {', '.join(map(repr, missing))}")
        given = [arguments[param.name] for param in declared.params]
        held: MutableMapping[str, Array] = {} if state is None else state
        outputs, writes = self.execute(declared, given, held)
        held.update(writes)
        return outputs

    def execute(
        self, function: Function, given: Sequence[Argument], state: Mapping[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """The outputs and the written state of a function of the module, for arguments in the order of its
        parameters; ``state`` is only read.  Raises TargetError as ``run`` does."""
        given = [self._converted(param, value) for param, value in zip(function.params, given, strict=True)]
        bound = self._bind(function, given)
        environment: Environment = {p.value: value for p, value in zip(bound.params, given, strict=True)}
        writes: dict[str, Array] = {}
        # Compiled code says nothing of an overflow or a NaN; neither does its oracle.
        privacy = self.module.privacy
        with np.errstate(all="ignore"), rows_apart(privacy is not None and privacy.mechanism == "discrete"):
            for op in bound.ops:
                if isinstance(op, Read):
                    environment[op.result] = self._read(op, state)
                elif isinstance(op, Write):
                    writes[op.state] = environment[op.value]
                else:
                    evaluate_op(op, environment)
        # Copies: an output or a new state must not be a view of an argument or of another one.
        outputs = {out.name: _copy(environment[out.value]) for out in bound.outputs}
        return outputs, {name: value.copy() for name, value in writes.items()}

    def _bind(self, function: Function, given: Sequence[Argument]) -> Function:
        sizes: dict[str, int] = {}
        for param, value in zip(function.params, given, strict=True):
            _match(param, value, sizes)
        key = function.name, tuple(sorted(sizes.items()))
        bound = self._bound.get(key)
        if bound is None:
            if len(self._bound) >= _CACHED:
                del self._bound[next(iter(self._bound))]
            bound = self._bound[key] = bind(function, sizes)
        return bound

    def _converted(self, param: Param, value: Argument) -> Argument:
        dtype = param.value.type.dtype.numpy
        if isinstance(value, RaggedArray):
            return RaggedArray(self._cast(param.name, value.data, dtype), value.offsets)
        return self._cast(param.name, value, dtype)

    def _cast(self, name: str, value: Array, dtype: np.dtype[np.generic]) -> Array:
        if value.dtype != dtype and not (self._promote and value.dtype == np.float32):
            raise TargetError(f"{name!r} is {value.dtype}, the program takes {dtype}")
        return value.astype(dtype, copy=False)

    def _read(self, op: Read, state: Mapping[str, Array]) -> Array:
        if op.state not in state:
            raise TargetError(
                f"state variable {op.state!r} has no value", where=op.loc.place or None, hint="run startup first"
            )
        value = self._cast(op.state, state[op.state], op.type.dtype.numpy)
        if value.shape != op.type.shape:
            raise TargetError(f"state variable {op.state!r} has shape {list(value.shape)}, it is declared {op.type}")
        return value


def _copy(value: Argument) -> Argument:
    return RaggedArray(value.data.copy(), value.offsets.copy()) if isinstance(value, RaggedArray) else value.copy()


def _match(param: Param, value: Argument, sizes: dict[str, int]) -> None:
    """Learn the sizes of symbols from an argument."""
    kind = param.value.type
    if isinstance(kind, RaggedType) != isinstance(value, RaggedArray):
        wanted = "rows with offsets" if isinstance(kind, RaggedType) else "one array"
        raise TargetError(f"{param.name!r} is {kind}; {wanted} is expected")
    data = value.data if isinstance(value, RaggedArray) else value
    dense = kind.data if isinstance(kind, RaggedType) else kind
    dims: list[Dim] = list(dense.shape)
    found = list(data.shape)
    if isinstance(kind, RaggedType) and isinstance(value, RaggedArray):
        dims.append(kind.count)
        found.append(len(value.offsets) - 1)
    fits = len(dims) == len(found) and all(_fits(dim, size, sizes) for dim, size in zip(dims, found, strict=True))
    if not fits:
        known = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        raise TargetError(
            f"{param.name!r} has shape {list(data.shape)}, the program takes {kind}"
            + (f" with {known}" if known else "")
        )


def _fits(dim: Dim, size: int, sizes: dict[str, int]) -> bool:
    if isinstance(dim, int):
        return dim == size
    return size % dim.scale == 0 and sizes.setdefault(dim.name, size // dim.scale) == size // dim.scale


class ReferenceEngine:
    """The runtime's ``Engine`` over ``Reference``.

    Inputs of a function: the state that it reads or writes, in declaration order, then its parameters; a
    ragged parameter takes two arrays, data and offsets.  State arrays are updated in place, once the function
    has succeeded.
    """

    def __init__(self, module: Module) -> None:
        self._reference = Reference(module)

    @property
    def in_place(self) -> bool:
        """State arrays are written where they are."""
        return True

    def tensor(self, array: Array, *, secret: bool = False) -> Array:
        """The array itself."""
        return array

    def state(self, buffer: Buffer) -> Array:
        """The owner's array."""
        return buffer.array

    def call(self, function: str, arguments: Sequence[Array]) -> list[Array]:
        """Run one function; returns its outputs in order (data and offsets of a ragged one)."""
        module = self._reference.module
        declared = module.function(function)
        names = state_of(module, declared)
        state = dict(zip(names, arguments[: len(names)], strict=True))
        given = _gathered(declared.params, list(arguments[len(names) :]))
        outputs, writes = self._reference.execute(declared, given, state)
        for name, value in writes.items():
            state[name][...] = value
        found: list[Array] = []
        for value in outputs.values():
            found.extend((value.data, value.offsets) if isinstance(value, RaggedArray) else (value,))
        return found


def _gathered(params: Sequence[Param], arrays: list[Array]) -> list[Argument]:
    """Arrays in the order of the inputs as one argument per parameter."""
    given: list[Argument] = []
    for param in params:
        value = arrays.pop(0)
        given.append(RaggedArray(value, arrays.pop(0)) if isinstance(param.value.type, RaggedType) else value)
    return given


@dataclass(frozen=True)
class ReferenceBuild:
    """A module as the ``reference`` target delivers it: nothing is compiled, the artifact holds the IR alone."""

    module: Module

    @property
    def spec(self) -> TargetSpec:
        """Any machine with numpy."""
        return TargetSpec("reference", "", "", ())

    def engine(self) -> ReferenceEngine:
        """An engine that runs the module in this process."""
        return ReferenceEngine(self.module)

    def members(self) -> Mapping[str, bytes]:
        """No files."""
        return {}

    @property
    def kernels(self) -> None:
        """Ops are evaluated one by one."""
        return None


def build(module: Module, options: BuildOptions) -> ReferenceBuild:
    """The module as it is, once every op is known to have an ``evaluate`` rule; ``options`` do not apply.

    Raises MissingRule for an op without one.
    """
    for function in module.functions:
        for op in walk(function.ops):
            if isinstance(op, Op) and not isinstance(op, Read | Write) and not has_rule(type(op), "evaluate"):
                raise op.missing("evaluate", op.no_evaluate)
    return ReferenceBuild(module)
