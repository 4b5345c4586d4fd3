"""Variables of eager code: a Variable of a Program in all respects, with a value that can be looked at."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..answers import answer
from ..errors import invalid, wrong_type
from ..framework import Block, Program, default_main_program
from ..regularizer import WeightDecayRegularizer
from ..shapes import Extents
from ..variable import Parameter, Variable
from ..vartype import DTypeLike, VarType, convert_dtype
from .graph import Array, Cell, Node

if TYPE_CHECKING:
    from .private import PrivateTraining
    from .program import EagerProgram


class EagerVariable(Variable):
    """A value (fluid's VarBase).

    ``shape`` has no open extents.  Whoever looks at the value (`numpy`, print, ``bool``, ``float``) has everything
    recorded so far computed.
    """

    _had_gradient = False

    is_eager = True

    def __init__(
        self,
        program: EagerProgram,
        name: str,
        shape: tuple[int, ...],
        dtype: VarType | None,
        node: Node,
        *,
        stop_gradient: bool = False,
        persistable: bool = False,
        kind: VarType = VarType.LOD_TENSOR,
    ) -> None:
        # Everything that Variable.__init__ sets, without its conversions: this runs for every op.
        self._program = program
        self.type = kind
        self._name = name
        self._shape = shape
        self._dtype = dtype
        self._lod_level = 0
        self._persistable = persistable
        self._error_clip = None
        self._stop_gradient = stop_gradient
        self.is_data = False
        self.need_check_feed = False
        self.is_public = False
        self._gradient: EagerVariable | None = None
        self._withheld: PrivateTraining | None = None
        self.node = node
        node.handle = weakref.ref(self)

    @property
    def block(self) -> Block:  # type: ignore[override]
        """Where ops on it are recorded: the current block of the default program."""
        return default_main_program().current_block()

    def within(self, program: Program, op: str) -> Variable:
        """Its stand-in in a program that is being traced.  Raises ProgramError for any other program."""
        if program.captures is None:
            raise invalid(
                f"{op}: {self.name} is a value of dygraph, and the op is recorded into a static Program",
                "trace the code: fluid.dygraph.TracedLayer.trace(layer, inputs), or @fluid.dygraph.declarative; "
                "values are fed to a Program: exe.run(program, feed={...: x.numpy()})",
            )
        return program.captures.variable(self)

    @property
    def program(self) -> EagerProgram:
        """The recorder that it belongs to."""
        return self._program

    @property
    def shape(self) -> tuple[int, ...]:
        return Extents(self._shape)

    @shape.setter
    def shape(self, shape: Iterable[int]) -> None:
        self._shape = tuple(int(d) for d in shape)

    def set_dtype(self, dtype: DTypeLike) -> None:
        self._dtype = convert_dtype(dtype)

    @property
    def stop_gradient(self) -> bool:
        return self._stop_gradient

    @stop_gradient.setter
    def stop_gradient(self, value: bool) -> None:
        self._stop_gradient = bool(value)
        node = self.node
        node.needs_grad = not value and self.has_dtype and self.dtype.is_float
        node.is_source = node.needs_grad and node.producer is not None
        if node.cell is not None:
            node.cell.trainable = node.needs_grad

    @property
    def persistable(self) -> bool:
        return self._persistable

    @persistable.setter
    def persistable(self, value: bool) -> None:
        self._persistable = bool(value)

    # -- values -------------------------------------------------------------------------------------------------

    def value(self) -> Array:
        """The array itself, not a copy: only to be read, and only until the next step."""
        return self._program.recorder.value_of(self)

    def numpy(self) -> Array:
        """The value, as an array of the caller's own."""
        return answer(self.value().copy())

    def set_value(self, value: object) -> None:
        """Replace the value; shape and element type stay.

        Args:
            value: An array, a Variable, or a LoDTensor of the same shape.

        Raises:
            ProgramError: Another shape or element type.
        """
        array = value.numpy() if isinstance(value, EagerVariable) else np.asarray(value)
        if array.shape != self.shape:
            raise invalid(
                f"set_value: {self.name} has shape {list(self.shape)}, the new value {list(array.shape)}",
                "give an array of the same shape",
            )
        if self.has_dtype and array.dtype != self.dtype.numpy:
            raise wrong_type(
                f"set_value: {self.name} holds {self.dtype.numpy.name}, the new value {array.dtype.name}",
                f"convert it first: value.astype('{self.dtype.numpy.name}')",
            )
        self._program.recorder.set_value(self, array)

    def detach(self) -> EagerVariable:
        """The same value, through which no gradient passes."""
        return self._program.recorder.detached(self)

    # -- gradients ----------------------------------------------------------------------------------------------

    def backward(self, backward_strategy: object = None) -> None:
        """Compute the gradients of this loss with respect to everything it was computed from.

        They replace what an earlier `backward` left; they are not added to it.

        Args:
            backward_strategy: Paddle's, without effect: sums are always taken in one order.
        """
        del backward_strategy
        self._program.recorder.backward(self)

    def gradient(self) -> Array | None:
        """The gradient that the last `backward` left, zeros after `clear_gradient`; None if there never was one.

        Raises:
            PrivacyError: The last backward was private, and this is no parameter that it trains.
        """
        gradient = self.grad
        return None if gradient is None else gradient.numpy()

    @property
    def grad(self) -> EagerVariable | None:
        """As `gradient`, a Variable."""
        if self._withheld is not None:
            raise self._withheld.refusal(
                f"the gradient of {self.name} is not available: it exists for single examples only, until it is "
                "clipped and noised",
                "take the private gradients of the parameters that the optimizer trains",
            )
        if self._gradient is None and self._had_gradient:
            return self._program.recorder.constant(self.grad_name, np.zeros(self.shape, self.dtype.numpy))
        return self._gradient

    @property
    def has_gradient(self) -> bool:
        """Whether a `backward` reached it since the last `clear_gradient`."""
        return self._gradient is not None

    def set_gradient(self, gradient: EagerVariable | None) -> None:
        """Leave a gradient here; what `backward` does."""
        self._gradient = gradient
        self._withheld = None

    def withhold_gradient(self, training: PrivateTraining) -> None:
        """Leave word that the gradient of a private backward is nobody's; what that backward does."""
        self._gradient = None
        self._withheld = training

    def clear_gradient(self) -> None:
        """Forget the gradient. Where there was one it reads as zeros, with which an optimizer's momentum goes on."""
        self._had_gradient |= self._gradient is not None
        self.set_gradient(None)

    # -- Python's protocols -------------------------------------------------------------------------------------

    def describe(self) -> str:
        """``fc_0.w_0 : float32[784, 10], stop_gradient``."""
        kind = self.dtype.numpy.name if self.has_dtype else "unknown"
        notes = ["persistable"] * self.persistable + ["stop_gradient"] * self.stop_gradient
        return ", ".join([f"{self.name} : {kind}{list(self.shape)}", *notes])

    def to_string(self, throw_on_error: bool, with_details: bool = False) -> str:
        """Name, type and value as text; the arguments are Paddle's and change nothing."""
        del throw_on_error, with_details
        return f"{self.describe()}\n{self.value()}"

    def __repr__(self) -> str:
        return self.to_string(True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        del copy
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    # Without it numpy would take ``array + variable`` apart, element by element.
    __array_ufunc__ = None

    def _one(self, what: str) -> Any:
        if self.value().size != 1:
            raise invalid(
                f"{what} of {self.name}, which has shape {list(self.shape)}", "index it, or reduce it to one element"
            )
        return self.value().reshape(()).item()

    def __bool__(self) -> bool:
        return bool(self._one("the truth value"))

    def __float__(self) -> float:
        return float(self._one("float()"))

    def __int__(self) -> int:
        return int(self._one("int()"))

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise wrong_type(f"{self.name} holds {self.dtype.numpy.name}, not an index", "cast it to int64")
        return int(self._one("the index"))

    def __len__(self) -> int:
        if not self.shape:
            raise wrong_type(f"{self.name} has no axes, so it has no length", "use float() or int()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Variable]:
        return (self[i] for i in range(len(self)))

    def __deepcopy__(self, memo: dict[int, object]) -> EagerVariable:
        raise invalid(f"{self.name} cannot be deep-copied", "copy its value: to_variable(x.numpy())")

    __hash__ = object.__hash__


class EagerParameter(EagerVariable, Parameter):
    """A trainable value with the options of its `ParamAttr`."""

    def __init__(
        self,
        program: EagerProgram,
        name: str,
        cell: Cell,
        dtype: VarType,
        *,
        trainable: bool,
        learning_rate: float,
        regularizer: WeightDecayRegularizer | None,
        do_model_average: bool,
    ) -> None:
        EagerVariable.__init__(
            self,
            program,
            name,
            cell.current.shape,
            dtype,
            cell.current,
            stop_gradient=not trainable,
            persistable=True,
        )
        self._trainable = trainable
        self.learning_rate = learning_rate
        self.regularizer = regularizer
        self.do_model_average = do_model_average
        self.gradient_clip = None

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        self.stop_gradient = not value


def shape_of(value: Sequence[int]) -> tuple[int, ...]:
    """A shape as a tuple of Python integers."""
    return tuple(int(d) for d in value)
