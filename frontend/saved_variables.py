"""Which variables of a program are saved, what they hold in a scope, and giving them values all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..runtime.buffers import Buffer, aligned_copy
from .errors import invalid, wrong_type
from .formats.errors import StateFileError
from .formats.lod_tensor import Offsets
from .framework import Program, default_main_program
from .lod import LoDTensor
from .scope import Scope, global_scope
from .variable import Parameter, Variable
from .vartype import VarType

Array: TypeAlias = NDArray[Any]
Predicate: TypeAlias = Callable[[Variable], bool]

_NEVER_SAVED = (VarType.FEED_MINIBATCH, VarType.FETCH_LIST, VarType.READER)


def is_parameter(var: Variable) -> bool:
    """Whether the optimizer may train ``var``; running statistics of batch_norm are Parameters, too."""
    return isinstance(var, Parameter)


def is_persistable(var: Variable) -> bool:
    """Whether ``var`` keeps its value between runs: parameters, accumulators, counters, learning rates."""
    return var.persistable and var.type not in _NEVER_SAVED


def belongs_to_optimizer(var: Variable) -> bool:
    """Whether ``var`` is what `fluid.save` puts into ``.pdopt``: persistable, but neither a parameter nor fed."""
    return is_persistable(var) and not isinstance(var, Parameter) and not var.need_check_feed


def get_program_parameter(program: Program) -> list[Variable]:
    """The parameters of a program, in the order in which they were made."""
    return list(filter(is_parameter, program.list_vars()))


def get_program_persistable_vars(program: Program) -> list[Variable]:
    """The persistable variables of a program, in the order in which they were made."""
    return list(filter(is_persistable, program.list_vars()))


def get_parameter_value(para: Variable, executor: object) -> Array:
    """The value of a parameter in the global scope.

    Args:
        para: The parameter.
        executor: fluid's; not needed.

    Raises ProgramError for what is no parameter, or has no value.
    """
    del executor
    if not is_parameter(para):
        raise invalid(f"get_parameter_value: {para.name} is no parameter", "all_parameters() gives those of a program")
    slot = global_scope().find_var(para.name)
    if slot is None or not slot.get_tensor().is_initialized:
        raise invalid(f"get_parameter_value: {para.name} has no value", "run the startup program first")
    return np.array(slot.get_tensor().array)


def get_parameter_value_by_name(name: str, executor: object, program: Program | None = None) -> Array:
    """`get_parameter_value` of the parameter that a program (the default main program if None) has under a name."""
    program = program_of("get_parameter_value_by_name", program)
    return get_parameter_value(program.global_block().var(name), executor)


def program_of(what: str, program: object) -> Program:
    """The program of an argument: a Program, the one in a CompiledProgram, or the default main program for None.

    Raises ArgumentTypeError for anything else, ProgramError in eager mode, where variables are in no program.
    """
    found = default_main_program() if program is None else program
    if not isinstance(found, Program):
        found = getattr(program, "program", None)  # of a CompiledProgram, whose module would load the compiler
    if not isinstance(found, Program):
        raise wrong_type(f"{what}: the program is {type(program).__name__}", "give a fluid.Program")
    if found.is_eager:
        raise invalid(
            f"{what}: in eager mode there is no program whose variables could be taken",
            "use fluid.save_dygraph(layer.state_dict(), path) and fluid.load_dygraph(path)",
        )
    return found


def chosen(
    what: str, program: Program, variables: Sequence[Variable] | None, predicate: Predicate | None
) -> list[Variable]:
    """The given variables, or those of the program that the predicate holds for, each name once."""
    if variables is None:
        if predicate is None:
            raise invalid(
                f"{what}: neither vars nor predicate say which variables are meant",
                "give vars=[...], or predicate=fluid.io.is_persistable",
            )
        variables = list(filter(predicate, program.list_vars()))
    for var in variables:
        if not isinstance(var, Variable):
            raise wrong_type(f"{what}: vars holds {type(var).__name__}", "give a list of Variables")
    return list({var.name: var for var in variables if var.type is not VarType.RAW}.values())


def listed(names: Sequence[str]) -> str:
    """Names as messages give them: some of them, each in short; those from files are not to drive a terminal."""
    shown = [name if name.isprintable() and len(name) <= 80 else ascii(name[:80]) for name in names[:10]]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def held(what: str, var: Variable, scope: Scope) -> LoDTensor:
    """What a variable holds.  Raises ProgramError for one without a value."""
    slot = scope.find_var(var.name)
    if slot is None or not slot.get_tensor().is_initialized:
        raise invalid(
            f"{what}: variable {var.name!r} has no value in this scope",
            "run the startup program first; inside scope_guard the global scope is that scope",
        )
    return slot.get_tensor()


@dataclass(frozen=True)
class NewValue:
    """A value that a variable is to be given.

    Attributes:
        var: The variable.
        array: The value.
        source: The file that it comes from, for messages.
        lod: Offsets of its sequences.
    """

    var: Variable
    array: Array
    source: str
    lod: Offsets = ()

    def check(self) -> None:
        """Raises StateFileError where the program declares another shape or element type."""
        wanted = list(self.var.shape)
        fits = len(wanted) == self.array.ndim and all(d in (-1, e) for d, e in zip(wanted, self.array.shape))
        if wanted and not fits:  # variables made without a shape take any
            self._fail(f"shape {list(self.array.shape)}", f"{wanted}")
        if self.var.has_dtype and self.array.dtype != self.var.dtype.numpy:
            self._fail(f"elements of type {self.array.dtype.name}", self.var.dtype.numpy.name)

    def _fail(self, has: str, wants: str) -> None:
        raise StateFileError(
            f"{self.var.name} has {has} in the file, the program declares {wants}",
            self.source,
            "build the program that was saved, or leave this variable out; no variable was changed",
        )


def assign(scope: Scope, values: Iterable[NewValue]) -> None:
    """Give variables their new values: all of them, or none.

    Raises StateFileError, before anything is changed, for a value that does not fit its variable.
    """
    new = list(values)
    for value in new:
        value.check()
    put(scope, [(value.var.name, value.array, value.lod) for value in new])


def put(scope: Scope, values: Sequence[tuple[str, Array, Offsets]]) -> None:
    """Let variables hold these values from now on, all of them, where memory for them is to be had."""
    steps: list[tuple[LoDTensor, Buffer | None, Array, Offsets]] = []
    for name, array, lod in values:
        tensor = scope.var(name).get_tensor()
        stays = tensor.is_initialized and (tensor.buffer.home.shape, tensor.buffer.home.dtype) == (
            array.shape,
            array.dtype,
        )
        steps.append((tensor, None if stays else Buffer(aligned_copy(array)), array, lod))
    try:
        _put(steps)
    except BaseException:  # an interrupt: halves of two states are worse than a moment's delay
        _put(steps)
        raise


def _put(steps: Sequence[tuple[LoDTensor, Buffer | None, Array, Offsets]]) -> None:
    for tensor, buffer, array, lod in steps:
        if buffer is None:
            tensor.set(array)
        else:
            tensor.adopt(buffer)
        tensor.set_lod(lod)
