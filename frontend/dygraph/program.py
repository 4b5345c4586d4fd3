"""The Program of eager mode: layers append their records here as to any other, and the recorder takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from .. import unique_name
from ..errors import invalid
from ..framework import Arguments, AttrValue, Block, Operator, Program
from ..initializer import Initializer
from ..regularizer import WeightDecayRegularizer
from ..source import user_location
from ..variable import Parameter, Variable
from ..vartype import DTypeLike, VarType, convert_dtype
from .graph import Array, Cell, Node
from .recorder import Recorder
from .variable import EagerParameter, EagerVariable, shape_of


class EagerBlock(Block):
    """The only block of an eager program.  It keeps no variables: whoever holds one keeps it alive."""

    program: EagerProgram

    def __init__(self, program: EagerProgram) -> None:
        super().__init__(program, 0)
        self._persistable: WeakValueDictionary[str, EagerVariable] = WeakValueDictionary()

    def create_var(  # type: ignore[override]
        self,
        type: VarType = VarType.LOD_TENSOR,
        name: str | None = None,
        shape: Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        lod_level: int | None = None,
        persistable: bool | None = None,
        stop_gradient: bool = False,
        **options: Any,
    ) -> EagerVariable:
        """A variable that a record is about to give its value; ``persistable`` ones own memory."""
        del lod_level, options
        kind = None if dtype is None else convert_dtype(dtype)
        extents = () if shape is None else shape_of(shape)
        name = unique_name.generate("generated_var") if name is None else name
        if persistable:
            found = self._persistable.get(name)
            if found is not None:
                return found
            if kind is None:
                raise invalid(f"{name} is persistable and has no element type", "give dtype=")
            cell = Cell(name, extents, kind, parameter=False, trainable=False)
            made = EagerVariable(
                self.program, name, extents, kind, cell.current, stop_gradient=True, persistable=True, kind=type
            )
            self._persistable[name] = made
            return made
        return EagerVariable(
            self.program, name, extents, kind, Node(extents, kind), stop_gradient=stop_gradient, kind=type
        )

    def create_parameter(self, shape: Sequence[int], dtype: DTypeLike, name: str, **options: Any) -> Parameter:
        """Refused: in eager mode a parameter begins with a value; see `initialised_parameter`."""
        raise invalid(
            f"create_parameter: {name} would have no value",
            "use Layer.create_parameter or fluid.layers.create_parameter",
        )

    def initialised_parameter(  # type: ignore[override]
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        name: str,
        initializer: Initializer,
        *,
        stop_gradient: bool = False,
        trainable: bool = True,
        learning_rate: float = 1.0,
        regularizer: WeightDecayRegularizer | None = None,
        do_model_average: bool = True,
    ) -> EagerParameter:
        """A new parameter with its first value.

        Raises:
            ProgramError: Another parameter that is still in use has the name.
        """
        if name in self._persistable:
            raise invalid(
                f"a parameter named {name} exists already",
                "share the layer or the parameter itself; in eager mode a name belongs to one parameter",
            )
        kind = convert_dtype(dtype)
        cell = Cell(name, shape_of(shape), kind, parameter=True, trainable=trainable)
        made = EagerParameter(
            self.program,
            name,
            cell,
            kind,
            trainable=trainable,
            learning_rate=learning_rate,
            regularizer=regularizer,
            do_model_average=do_model_average,
        )
        if stop_gradient:
            made.stop_gradient = True
        self._persistable[name] = made
        self.program.recorder.initialise(made, initializer)
        return made

    def initialised_variable(
        self,
        name: str,
        shape: Sequence[int],
        dtype: DTypeLike,
        initializer: Initializer,
        *,
        persistable: bool = True,
        stop_gradient: bool = True,
    ) -> EagerVariable:
        """A persistable variable that is not trained, with its first value; one of the name that exists is returned."""
        del persistable, stop_gradient  # in eager mode all that lasts is state, and what is not trained has no gradient
        found = self._persistable.get(name)
        if found is not None:
            return found
        made = self.create_var(name=name, shape=shape, dtype=dtype, persistable=True)
        self.program.recorder.initialise(made, initializer)
        return made

    def stated_variable(self, name: str, array: Array) -> EagerVariable:
        """A new persistable variable that begins with an array, at once: nothing is recorded."""
        made = self.create_var(name=name, shape=array.shape, dtype=convert_dtype(array.dtype), persistable=True)
        assert made.node.cell is not None
        made.node.cell.buffer.put(array)
        made.node.cell.is_set = True
        return made

    def var(self, name: str) -> Variable:
        """The parameter or other persistable variable of that name that is still in use."""
        found = self._persistable.get(name)
        if found is None:
            raise invalid(
                f"there is no persistable variable {name}", "temporaries of eager code have no register; keep them"
            )
        return found

    def has_var(self, name: str) -> bool:
        return name in self._persistable

    def names(self) -> list[str]:
        """Names of the persistable variables that are still in use."""
        return list(self._persistable)

    def swap_names(
        self, names: WeakValueDictionary[str, EagerVariable] | None = None
    ) -> WeakValueDictionary[str, EagerVariable]:
        """Put a register of names into force, an empty one if None; returns the one before."""
        before, self._persistable = self._persistable, WeakValueDictionary() if names is None else names
        return before

    def all_parameters(self) -> list[Parameter]:
        return [v for v in list(self._persistable.values()) if isinstance(v, Parameter)]

    def append_op(
        self,
        type: str,
        inputs: Arguments | None = None,
        outputs: Arguments | None = None,
        attrs: Mapping[str, AttrValue] | None = None,
    ) -> Operator:
        """Take a record; it runs when somebody looks at a value."""
        attributes = dict(attrs or {})
        loc, role = user_location(), self.program.op_role
        self.program.recorder.record(type, inputs or {}, outputs or {}, attributes, loc, role)
        return Operator(self, type, {}, {}, attributes, loc, role)

    prepend_op = append_op


class EagerProgram(Program):
    """What `default_main_program` and `default_startup_program` are in eager mode."""

    is_eager = True
    blocks: list[EagerBlock]  # type: ignore[assignment]

    def __init__(self, target: str = "cpu") -> None:
        super().__init__()
        self.recorder = Recorder(self, target)
        self.blocks = [EagerBlock(self)]

    @property
    def grad_enabled(self) -> bool:
        return self.recorder.grad_enabled

    def global_block(self) -> EagerBlock:
        return self.blocks[0]

    def edited(self) -> None:
        """Nothing: there is no program text that could change."""

    def variable_of(self, array: Array) -> EagerVariable:
        return self.recorder.constant(unique_name.generate("generated_var"), array)

    def clone(self, for_test: bool = False) -> NoReturn:
        raise invalid(
            "there is no Program to clone in eager mode",
            "trace the model: fluid.dygraph.TracedLayer.trace(layer, inputs) has a program",
        )

    def sub_block(self) -> NoReturn:  # type: ignore[override]
        raise invalid("blocks of control flow do not exist in eager mode", "use Python's if, for and while")
