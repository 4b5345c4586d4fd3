"""Program, Block and Operator: what a fluid script builds, op records by name and nothing more."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..compiler.errors import PrivacyError
from . import unique_name
from .api import similar
from .errors import invalid, wrong_type
from .lineage import Lineage
from .op_role import OpRole
from .reach import gradient_path
from .source import SourceLocation, user_location
from .variable import GRAD_SUFFIX, Parameter, Variable
from .vartype import DTypeLike

if TYPE_CHECKING:
    from .compat.program_desc.view import ProgramView
    from .dygraph.captures import Captures
    from .initializer import Initializer

AttrValue: TypeAlias = Any
"""A scalar, string, `VarType`, numpy array, a (nested) sequence of these, or a `PrivacySpec`."""

Arguments: TypeAlias = Mapping[str, Sequence[Variable] | Variable]
_uids = itertools.count()
_default_seed = 0


@dataclass(eq=False)
class Operator:
    """One op record: a type, named slots of variable names, and plain attributes (fluid's OpDesc).

    Attributes:
        type: Paddle's op type (``mul``), or ``backward`` for a whole backward pass.
        inputs: Slot name to variable names, e.g. ``{"X": ["x"], "Y": ["fc_0.w_0"]}``.
        outputs: Likewise; an in-place op names its input again.
        attrs: Only what the layer set. ``sub_block`` is the index of a block of the same program.
        loc: The user's line and the layer he called.
        role: Forward, backward, optimizer or learning-rate schedule.
        namescope: The `name_scope` path in force, e.g. ``/encoder/``.
    """

    block: Block
    type: str
    inputs: dict[str, list[str]]
    outputs: dict[str, list[str]]
    attrs: dict[str, AttrValue]
    loc: SourceLocation
    role: OpRole = OpRole.FORWARD
    namescope: str = "/"

    def input(self, slot: str) -> list[str]:
        """Variable names in an input slot, [] when it is empty."""
        return self.inputs.get(slot, [])

    def output(self, slot: str) -> list[str]:
        """Variable names in an output slot, [] when it is empty."""
        return self.outputs.get(slot, [])

    def attr(self, name: str) -> AttrValue:
        """An attribute; KeyError if the layer did not set it."""
        return self.attrs[name]

    def all_attrs(self) -> dict[str, AttrValue]:
        """Every attribute that the layer set, by name."""
        return dict(self.attrs)

    def has_attr(self, name: str) -> bool:
        return name in self.attrs

    def set_attr(self, name: str, value: AttrValue) -> None:
        """Change an attribute; the program counts as edited."""
        self.attrs[name] = value
        self.block.program.edited()

    @property
    def attr_names(self) -> list[str]:
        """Names of the attributes that the layer set."""
        return list(self.attrs)

    @property
    def input_names(self) -> list[str]:
        """Names of the input slots (``X``, ``Y``)."""
        return list(self.inputs)

    @property
    def output_names(self) -> list[str]:
        """Names of the output slots."""
        return list(self.outputs)

    @property
    def idx(self) -> int:
        """The op's place in its block."""
        return next(at for at, op in enumerate(self.block.ops) if op is self)

    @property
    def input_arg_names(self) -> list[str]:
        return [name for names in self.inputs.values() for name in names]

    @property
    def output_arg_names(self) -> list[str]:
        return [name for names in self.outputs.values() for name in names]

    def to_string(self, throw_on_error: bool) -> str:
        """The record as one line; the argument is Paddle's and changes nothing."""
        del throw_on_error
        ins = ", ".join(f"{slot}={names}" for slot, names in self.inputs.items())
        outs = ", ".join(f"{slot}={names}" for slot, names in self.outputs.items())
        attrs = ", ".join(f"{name}={_brief(value)}" for name, value in sorted(self.attrs.items()))
        return f"{{{outs}}} = {self.type}({ins}) [{attrs}]".replace("'", "")

    def __repr__(self) -> str:
        return self.to_string(True)


def _brief(value: AttrValue) -> str:
    if isinstance(value, np.ndarray):
        return f"array{list(value.shape)}"
    return str(value)


class Block:
    """A sequence of ops with the variables they name; block 0 of a program is its global block."""

    def __init__(self, program: Program, idx: int, parent_idx: int = -1) -> None:
        self.program = program
        self.idx = idx
        self.parent_idx = parent_idx
        self.vars: dict[str, Variable] = {}
        self.ops: list[Operator] = []

    @property
    def parent(self) -> Block | None:
        return self.program.blocks[self.parent_idx] if self.parent_idx >= 0 else None

    def create_var(self, **kwargs: Any) -> Variable:
        """Add a variable; the arguments are those of `Variable`. An existing name is returned as it is."""
        name = kwargs.get("name")
        if name is not None and name in self.vars:
            return self.vars[name]
        var = Variable(self, **kwargs)
        self.vars[var.name] = var
        self.program.edited()
        return var

    def create_parameter(self, shape: Sequence[int], dtype: DTypeLike, name: str, **options: Any) -> Parameter:
        """Add a parameter to the global block; the same name again gives the same parameter.

        Raises:
            ProgramError: The name is taken by a parameter of another shape or element type.
        """
        block = self.program.global_block()
        new = Parameter(block, shape, dtype, name, **options)
        old = block.vars.get(name)
        if old is not None:
            if not isinstance(old, Parameter) or old.shape != new.shape or old.dtype != new.dtype:
                raise invalid(
                    f"parameter {name} is wanted with shape {list(new.shape)} and type {new.dtype.numpy.name}, "
                    f"but the program already has {old.describe()}",
                    "a shared parameter must have one shape; else give the ParamAttr another name",
                )
            return old
        block.vars[name] = new
        self.program.edited()
        return new

    def initialised_parameter(
        self, shape: Sequence[int], dtype: DTypeLike, name: str, initializer: Initializer, **options: Any
    ) -> Parameter:
        """`create_parameter`, with a first value from the default startup program."""
        startup = default_startup_program().global_block()
        new = name not in startup.vars
        twin = startup.create_parameter(shape, dtype, name, **{**options, "stop_gradient": False})
        if new:
            initializer(twin, startup)
        return self.create_parameter(shape, dtype, name, **options)

    def initialised_variable(
        self,
        name: str,
        shape: Sequence[int],
        dtype: DTypeLike,
        initializer: Initializer,
        *,
        persistable: bool = True,
        stop_gradient: bool = False,
    ) -> Variable:
        """`create_var`, with a first value from the default startup program."""
        startup = default_startup_program().global_block()
        new = name not in startup.vars
        twin = startup.create_var(name=name, shape=shape, dtype=dtype, persistable=True)
        if new:
            initializer(twin, startup)
        return self.create_var(
            name=name, shape=shape, dtype=dtype, persistable=persistable, stop_gradient=stop_gradient
        )

    def var(self, name: str) -> Variable:
        """The variable of that name in this block; a gradient ``v@GRAD`` is made on demand.

        Raises:
            ProgramError: No such variable.
            PrivacyError: A gradient that exists only privatised.
        """
        found = self.vars.get(name)
        if found is None:
            found = self._gradient(name)
        if found is None and name.endswith(GRAD_SUFFIX) and self.private_backward() is not None:
            raise PrivacyError(
                f"{name} is not available: under Dpsgd a gradient exists for single examples only, "
                "until it is clipped and noised",
                where=user_location().place,
                hint="fetch the privatised gradient of a parameter, or build a second program without Dpsgd",
            )
        if found is None:
            near = similar(name, self.vars)
            meant = f"; did you mean {near}?" if near else ""
            raise invalid(f"there is no variable {name} in this program{meant}", "list_vars() gives all names")
        return found

    def has_var(self, name: str) -> bool:
        """Whether `var` would find the name."""
        return name in self.vars or self._gradient_source(name) is not None

    def find_var_recursive(self, name: str) -> Variable | None:
        """The variable in this block or the blocks around it, or None."""
        block: Block | None = self
        while block is not None:
            if block.has_var(name):
                return block.var(name)
            block = block.parent
        return None

    def private_backward(self) -> Operator | None:
        """The backward record that carries a privacy specification, if there is one."""
        records = (op for op in self.ops if op.type == "backward" and op.attr("privacy") is not None)
        return next(records, None)

    def all_parameters(self) -> list[Parameter]:
        return [var for var in self.vars.values() if isinstance(var, Parameter)]

    def iter_parameters(self) -> Iterator[Parameter]:
        return iter(self.all_parameters())

    def append_op(
        self,
        type: str,
        inputs: Arguments | None = None,
        outputs: Arguments | None = None,
        attrs: Mapping[str, AttrValue] | None = None,
    ) -> Operator:
        """Record an op at the end of the block."""
        op = self._record(type, inputs or {}, outputs or {}, attrs or {})
        self.ops.append(op)
        return op

    def prepend_op(
        self,
        type: str,
        inputs: Arguments | None = None,
        outputs: Arguments | None = None,
        attrs: Mapping[str, AttrValue] | None = None,
    ) -> Operator:
        """Record an op at the beginning of the block."""
        op = self._record(type, inputs or {}, outputs or {}, attrs or {})
        self.ops.insert(0, op)
        return op

    def restore_op(
        self,
        type: str,
        inputs: Mapping[str, Sequence[str]],
        outputs: Mapping[str, Sequence[str]],
        attrs: Mapping[str, AttrValue],
        loc: SourceLocation,
        role: OpRole,
        namescope: str = "/",
    ) -> Operator:
        """Append a record as a file holds it: by names, which nobody checks."""
        op = Operator(
            self,
            type,
            {slot: list(names) for slot, names in inputs.items()},
            {slot: list(names) for slot, names in outputs.items()},
            dict(attrs),
            loc,
            role,
            namescope,
        )
        self.ops.append(op)
        self.program.edited()
        return op

    def _record(self, type: str, inputs: Arguments, outputs: Arguments, attrs: Mapping[str, AttrValue]) -> Operator:
        for role, slots in (("input", inputs), ("output", outputs)):
            for slot, args in slots.items():
                for arg in _listed(args):
                    if not isinstance(arg, Variable):
                        raise wrong_type(
                            f"{type}: {role} {slot} is {arg.__class__.__name__} {arg!r}, not a Variable",
                            "pass what a layer returned; turn an array into a Variable with layers.assign",
                        )
        read = {slot: [v.within(self.program, type).name for v in _listed(args)] for slot, args in inputs.items()}
        made = {slot: [v.within(self.program, type) for v in _listed(args)] for slot, args in outputs.items()}
        self.program.edited()
        if self.program.captures is not None:
            self.program.captures.recorded(made)
        return Operator(
            self,
            type,
            read,
            {slot: [v.name for v in variables] for slot, variables in made.items()},
            dict(attrs),
            user_location(),
            self.program.op_role,
            _name_scope,
        )

    def _gradient_source(self, name: str) -> tuple[Operator, Variable] | None:
        """The backward record that defines gradient ``name``, and the variable it belongs to."""
        if not name.endswith(GRAD_SUFFIX):
            return None
        source = self.vars.get(name.removesuffix(GRAD_SUFFIX))
        if source is None or not source.has_dtype or not source.dtype.is_float:
            return None
        for record in self.ops:
            if record.type != "backward" or record.attr("privacy") is not None:
                continue
            if source.name in gradient_path(self.program, record):
                return record, source
        return None

    def _gradient(self, name: str) -> Variable | None:
        found = self._gradient_source(name)
        if found is None:
            return None
        record, source = found
        record.inputs["Wrt"].append(source.name)
        record.outputs["Grads"].append(name)
        return self.create_var(name=name, shape=source.shape, dtype=source.dtype, lod_level=source.lod_level)

    def to_string(self, throw_on_error: bool, with_details: bool = False) -> str:
        """The block's variables and ops as text."""
        lines = [f"{{ // block {self.idx}"]
        lines += [f"    var {var.describe()}" for var in self.vars.values()]
        lines += [f"    {op.to_string(throw_on_error)}" for op in self.ops]
        return "\n".join([*lines, "}"])

    def __repr__(self) -> str:
        return self.to_string(True)


def _listed(args: Sequence[Variable] | Variable) -> Sequence[Variable]:
    return args if isinstance(args, list | tuple) else [args]  # type: ignore[list-item]


class Program:
    """Blocks of op records; built by layers inside `program_guard`, run by an `Executor`.

    Attributes:
        uid: Number of this program within the process, never reused.
        version: Grows with every edit; a compiled step is valid for one (uid, version).
        blocks: ``blocks[0]`` is the global block; the others belong to control-flow ops.
        lineage: Shared with the training clones of this program, where it is private.
        foreign_names: Names that come from elsewhere; layers that are appended to the program get others.
        captures: Takes in variables of dygraph while the program is being traced; None at other times.
    """

    is_eager = False
    """Whether ops run at once instead of being kept."""

    def __init__(self) -> None:
        self.uid = next(_uids)
        self.version = 0
        self.lineage = Lineage()
        self.foreign_names: frozenset[str] = frozenset()
        self.captures: Captures | None = None
        self.blocks = [Block(self, 0)]
        self.op_role = OpRole.FORWARD
        self._current = 0
        self._random_seed = _default_seed

    def edited(self) -> None:
        """Count an edit: whatever was compiled from the program no longer describes it."""
        self.version += 1

    @property
    def grad_enabled(self) -> bool:
        """Whether what is recorded now can get gradients; False in evaluation of dygraph."""
        return self.captures is None or self.captures.grad_enabled

    @property
    def random_seed(self) -> int:
        """Seed of the initialisers and dropouts built from now on; 0 draws fresh numbers."""
        return self._random_seed

    @random_seed.setter
    def random_seed(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise wrong_type(f"random_seed is {seed!r}", "give an integer; 0 means: not seeded")
        self._random_seed = seed
        self.edited()

    def global_seed(self, seed: int = 0) -> None:
        """Seed this program and every program made later in the process."""
        global _default_seed
        self.random_seed = seed
        _default_seed = seed

    def variable_of(self, array: NDArray[Any]) -> Variable:
        """A variable of eager mode with the values of an array.  Raises ProgramError for a Program that is built."""
        raise invalid("a Program that is being built holds no values", "feed the array")

    @property
    def num_blocks(self) -> int:
        return len(self.blocks)

    def global_block(self) -> Block:
        return self.blocks[0]

    def block(self, index: int) -> Block:
        return self.blocks[index]

    def current_block(self) -> Block:
        """The block that layers append to."""
        return self.blocks[self._current]

    @property
    def current_block_idx(self) -> int:
        return self._current

    @contextlib.contextmanager
    def sub_block(self) -> Iterator[Block]:
        """Append to a new block inside the current one."""
        parent = self._current
        block = self.add_block(parent)
        self._current = block.idx
        try:
            yield block
        finally:
            self._current = parent

    def add_block(self, parent_idx: int) -> Block:
        """A new block inside another; what follows is still appended to the current one."""
        block = Block(self, len(self.blocks), parent_idx)
        self.blocks.append(block)
        self.edited()
        return block

    @contextlib.contextmanager
    def role(self, role: OpRole) -> Iterator[None]:
        """Mark the ops recorded inside as backward, optimizer or schedule ops."""
        before, self.op_role = self.op_role, role
        try:
            yield
        finally:
            self.op_role = before

    def list_vars(self) -> Iterator[Variable]:
        """Every variable of every block."""
        return itertools.chain.from_iterable(list(block.vars.values()) for block in self.blocks)

    def all_parameters(self) -> list[Parameter]:
        return [p for block in self.blocks for p in block.all_parameters()]

    def clone(self, for_test: bool = False) -> Program:
        """A copy that shares variables with this program only by name.

        A clone that trains with Dpsgd as this program does spends the same budget: their steps are counted together.

        Args:
            for_test: Put batch_norm and dropout into test mode; drop the backward pass, the optimizer and
                (where there is one) the learning-rate schedule, and the variables only they use.
        """
        new = Program()
        new._random_seed = self._random_seed
        new._current = self._current
        new.blocks = []
        dropped: set[OpRole] = set()
        if for_test and any(op.type == "backward" for op in self.global_block().ops):
            dropped = {OpRole.BACKWARD, OpRole.OPTIMIZE, OpRole.LR_SCHED}
        for block in self.blocks:
            twin = Block(new, block.idx, block.parent_idx)
            new.blocks.append(twin)
            for op in block.ops:
                if op.role in dropped:
                    continue
                attrs = dict(op.attrs)
                if for_test and "is_test" in attrs:
                    attrs["is_test"] = True
                twin.ops.append(
                    Operator(
                        twin,
                        op.type,
                        {slot: list(names) for slot, names in op.inputs.items()},
                        {slot: list(names) for slot, names in op.outputs.items()},
                        attrs,
                        op.loc,
                        op.role,
                        op.namescope,
                    )
                )
        used = {name for b in new.blocks for op in b.ops for name in op.input_arg_names + op.output_arg_names}
        for block, twin in zip(self.blocks, new.blocks):
            for name, var in block.vars.items():
                if not dropped or name in used or (var.is_data and not name.endswith(GRAD_SUFFIX)):
                    copied = copy.copy(var)
                    copied.block = twin
                    twin.vars[name] = copied
        if new.global_block().private_backward() is not None:
            new.lineage = self.lineage
        new.foreign_names = self.foreign_names
        return new

    @property
    def desc(self) -> ProgramView:
        """The program as Paddle's ProgramDesc: ``program.desc.serialize_to_string()``."""
        from .compat.program_desc.view import ProgramView  # loads protobuf

        return ProgramView(self)

    @staticmethod
    def parse_from_string(binary_str: bytes) -> Program:
        """The program in a serialised ProgramDesc, of Paddle's or of this package.

        What of its persistable variables are parameters is told by how its ops use them; the gradient ops of a
        training program become one backward record. Values are not part of it.

        Raises:
            ProgramDescError: The bytes are no ProgramDesc, are damaged, or have gradient ops of unknown origin.
            PrivacyError: The program updates by Paddle's ``dpsgd`` op, for which `fluid.io.load_program` has a choice.
        """
        from .compat.program_desc.building import parse_program  # loads protobuf

        return parse_program(binary_str, Program())

    def to_string(self, throw_on_error: bool, with_details: bool = False) -> str:
        """The whole program as text."""
        return "\n".join(block.to_string(throw_on_error, with_details) for block in self.blocks)

    def __repr__(self) -> str:
        return self.to_string(True)


_main = Program()
_startup = Program()
_name_scope = "/"


def default_main_program() -> Program:
    """The program that layers append to."""
    return _main


def default_startup_program() -> Program:
    """The program that initialisers append to."""
    return _startup


def swap_default_programs(main: Program, startup: Program) -> tuple[Program, Program]:
    """Make the given programs the default ones; returns those before."""
    global _main, _startup
    before, _main, _startup = (_main, _startup), main, startup
    return before


@contextlib.contextmanager
def program_guard(main_program: Program, startup_program: Program | None = None) -> Iterator[None]:
    """Make the given programs the default ones inside the ``with`` block."""
    global _main, _startup
    for name, program in (("main_program", main_program), ("startup_program", startup_program)):
        if not isinstance(program, Program) and not (program is None and name == "startup_program"):
            raise wrong_type(f"program_guard: {name} is {type(program).__name__}", "give a fluid.Program()")
    before = _main, _startup
    _main = main_program
    _startup = startup_program or _startup
    try:
        with unique_name.never(main_program.foreign_names):
            yield
    finally:
        _main, _startup = before


@contextlib.contextmanager
def name_scope(prefix: str | None = None) -> Iterator[None]:
    """Group the ops recorded inside under ``prefix`` in dumps; variable names do not change."""
    global _name_scope
    if not prefix:
        raise invalid("name_scope needs a name", "write fluid.name_scope('encoder')")
    before = _name_scope
    _name_scope = f"{before}{prefix}/"
    try:
        yield
    finally:
        _name_scope = before


def in_dygraph_mode() -> bool:
    """Whether layers run at once instead of being recorded."""
    return _main.is_eager


@contextlib.contextmanager
def device_guard(device: str | None = None) -> Iterator[None]:
    """Accepted for fluid's sake: a compiled step lives on one device."""
    if device not in (None, "cpu", "gpu"):
        raise invalid(f"device_guard: unknown device {device!r}", "use 'cpu', 'gpu' or None")
    yield


def require_version(min_version: str, max_version: str | None = None) -> None:
    """Check a script's demand against the version of fluid that this API follows, 1.8.5.

    Raises:
        ProgramError: 1.8.5 is outside the range.
    """
    have = (1, 8, 5)
    for bound, text in ((-1, min_version), (1, max_version)):
        if text is None:
            continue
        try:
            wanted = tuple(int(part) for part in text.split("."))
        except (AttributeError, ValueError):
            raise invalid(f"require_version: {text!r} is not a version", "write it as '1.8.0'") from None
        padded = (*wanted, 0, 0, 0)[:3]
        if (bound < 0 and padded > have) or (bound > 0 and padded < have):
            raise invalid(f"the script requires fluid {text}, this API is 1.8.5's", "adapt the script's check")
