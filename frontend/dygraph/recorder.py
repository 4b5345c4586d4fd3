"""The recorder of eager mode: takes ops as they are called, and has them run when a value is looked at.

What is pending runs as one compiled function.  It runs

- when a value is looked at,
- before memory that a pending record reads is overwritten by hand,
- before the first op that follows an optimizer's updates, so that a training step is one function,
- when `MOST_PENDING` records have gathered, and at the end of `guard`.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from ...compiler.errors import PrivacyError
from ...runtime.errors import FluidcError
from ..errors import invalid, unsupported, wrong_type
from ..framework import Arguments, AttrValue, OpRole
from ..host_types import HOST_TYPES
from ..initializer import Initializer
from ..source import SourceLocation, user_location
from ..unique_name import generate
from ..variable import Variable
from ..vartype import VarType, convert_dtype
from .graph import BY_CALLER, RELEASED, Array, Cell, Fed, Node, Record, Slots, abandon, aligned_copy_of
from .private import BOUND, NEW_BOUND, PrivateTraining, Step, depends_on_data, refuse_raw, training_behind, withhold
from .signatures import COUNTER, RANDOM, Signatures, draws
from .tape import Request, Walk, replayed
from .variable import EagerParameter, EagerVariable
from .varying import NUMBERS, Varying

if TYPE_CHECKING:
    from .execution import Execution
    from .program import EagerProgram

MOST_PENDING = 2000


class Recorder:
    """Records of eager code, and their execution.

    Args:
        program: The eager program; its ``random_seed`` seeds the random numbers.
        target: What compiles the records.

    Attributes:
        grad_enabled: False inside `no_grad`, and after `Layer.eval`.
        has_private: There is, or was, a private training.
    """

    def __init__(self, program: EagerProgram, target: str) -> None:
        self.program = program
        self.target = target
        self.grad_enabled = True
        self._pending: list[Record] = []
        self._step: Step | None = None
        self.has_private = False
        self._gradients: dict[Node, tuple[Record, list[Node]]] = {}
        self._signatures = Signatures()
        self._varying = Varying()
        self._execution: Execution | None = None
        self._initialising = False
        self._has_fresh = False
        self._updating = False
        self._draws = 0
        self._seed = 0
        self._graded: WeakValueDictionary[int, EagerParameter] = WeakValueDictionary()

    # -- recording ----------------------------------------------------------------------------------------------

    def record(
        self,
        type: str,
        inputs: Arguments,
        outputs: Arguments,
        attrs: dict[str, AttrValue],
        loc: SourceLocation,
        role: OpRole,
    ) -> None:
        """Take one op; its results have values from now on, which are computed when somebody looks."""
        self._settle(role)
        if type == "assign_value":
            (out,) = _listed(outputs["Out"])
            self._give(out, _stated(attrs))
            return
        if type in HOST_TYPES and self._at_once(type, inputs, outputs, attrs, loc):
            return
        read = [(slot, tuple([self._node(type, slot, arg) for arg in _listed(args)])) for slot, args in inputs.items()]
        if type in NUMBERS:
            read += self._varying.fed(type, loc, attrs, read)
        if type in RANDOM and draws(type, attrs):
            read.append((COUNTER, (self._next_draw(),)))
        if self._step is not None and not self._step.takes(node for _, nodes in read for node in nodes):
            self.flush()
        if self.has_private and role is OpRole.FORWARD and not self._initialising:
            self._note_kept(outputs, read, loc)
        needs_grad = (
            self.grad_enabled
            and role is not OpRole.OPTIMIZE
            and any(node.needs_grad and _leads_somewhere(node) for _, nodes in read for node in nodes)
        )
        written = [
            (slot, tuple([self._result(arg, needs_grad, role) for arg in _listed(args)]))
            for slot, args in outputs.items()
        ]
        self._append(Record(type, read, written, attrs, self._signatures.of(type, read, written, attrs), loc, role))

    def _at_once(
        self, type: str, inputs: Arguments, outputs: Arguments, attrs: dict[str, AttrValue], loc: SourceLocation
    ) -> bool:
        """Run an op that cannot be recorded, or print a value; whether the op is thereby done."""
        from .at_once import AT_ONCE, run_at_once  # few programs have such ops

        if type not in AT_ONCE and (type != "print" or self.has_private):
            return False
        if self.has_private:  # what is computed from data would be taken for what the script states
            raise unsupported(
                f"{loc.layer or type} runs at once, on values, and there was private training in this process",
                "call it before the private training, or in a process of its own",
            )
        read = {slot: list(_listed(args)) for slot, args in inputs.items()}
        for slot, args in read.items():
            for arg in args:
                self._node(type, slot, arg)
        made = {slot: list(_listed(args)) for slot, args in outputs.items()}
        values = {v.name: self.value_of(v) for args in read.values() for v in args if isinstance(v, EagerVariable)}
        taken, given = ({slot: [v.name for v in args] for slot, args in slots.items()} for slots in (read, made))
        results = run_at_once(self.program.global_block(), type, taken, given, attrs, loc, values)
        if type == "print":
            return False  # the value passes, with its gradient
        for args in made.values():
            for out in args:
                if out.name in results:
                    self._give(out, results[out.name])
        return True

    def _note_kept(self, outputs: Arguments, read: Slots, loc: SourceLocation) -> None:
        """Note which state an op writes that computes with ``read``, if that is data: no private step may read it."""
        for args in outputs.values():
            for arg in _listed(args):
                cell = arg.node.cell if isinstance(arg, EagerVariable) else None
                if cell is not None and depends_on_data(node for _, nodes in read for node in nodes):
                    cell.kept_at = f"{loc.layer} at {loc.place}"

    def initialise(self, variable: EagerVariable, initializer: Initializer) -> None:
        """Give a new persistable variable its first value."""
        # A private step goes on: what comes between it and its updates does not end it.
        pending, step = self._pending, self._step
        if step is not None:
            self._pending, self._step = [], None
        self._initialising = True
        try:
            initializer(variable, self.program.global_block())
        finally:
            self._initialising = False
            if step is None:
                self._has_fresh = bool(self._pending)
            else:
                try:
                    self.flush()
                finally:
                    self._pending, self._step, self._updating = pending, step, True

    def constant(self, name: str, array: Array, fed: Fed = BY_CALLER) -> EagerVariable:
        """A variable that holds a copy of an array, which comes from where ``fed`` says."""
        kind = convert_dtype(array.dtype)
        node = Node(array.shape, kind, value=aligned_copy_of(array), fed=fed)
        return EagerVariable(self.program, name, array.shape, kind, node, stop_gradient=True)

    def detached(self, variable: EagerVariable) -> EagerVariable:
        """A variable of the same value that no gradient passes."""
        out = self.program.global_block().create_var(
            name=generate("detached"),
            shape=variable.shape,
            dtype=variable.dtype,
            stop_gradient=True,
        )
        before, self.grad_enabled = self.grad_enabled, False
        try:
            self.program.global_block().append_op("assign", {"X": [variable]}, {"Out": [out]})
        finally:
            self.grad_enabled = before
        return out

    def _settle(self, role: OpRole) -> None:
        """Run what is pending where the next op begins something new."""
        begins = self._has_fresh and not self._initialising
        begins |= self._updating and role is not OpRole.OPTIMIZE
        if begins or len(self._pending) >= MOST_PENDING:
            self.flush()

    def _append(self, record: Record) -> None:
        self._pending.append(record)
        if record.role is OpRole.OPTIMIZE:
            self._updating = True

    def _node(self, type: str, slot: str, arg: object) -> Node:
        if not isinstance(arg, EagerVariable):
            if isinstance(arg, Variable):
                raise invalid(
                    f"{type}: {arg.name} belongs to a static Program",
                    "in eager mode use values: fluid.dygraph.to_variable(array)",
                )
            raise wrong_type(
                f"{type}: input {slot} is {arg.__class__.__name__} {arg!r}, not a Variable",
                "turn an array into one: fluid.dygraph.to_variable(array)",
            )
        node = arg.node
        is_pending = node.producer is not None and not node.producer.has_run
        if node.value is None and not is_pending and not (node.cell is not None and node.cell.is_set):
            raise invalid(
                f"{type}: {arg.name} has no value",
                "it was created but never written, or the step that computed it failed",
            )
        return node

    def _result(self, arg: object, needs_grad: bool, role: OpRole) -> Node:
        assert isinstance(arg, EagerVariable)
        node = arg.node
        if node.cell is not None:
            node = node.cell.next_version()
        elif node.value is not None or node.producer is not None:  # written in place
            node = Node(arg.shape, arg._dtype)
        else:
            node.shape, node.dtype = arg.shape, arg._dtype
        if node.cell is None:
            node.needs_grad = needs_grad and not arg._stop_gradient and (node.dtype is None or node.dtype.is_float)
            if not node.needs_grad:
                arg._stop_gradient = True
        if node is not arg.node:
            _hold(arg, node)
        return node

    def _next_draw(self) -> Node:
        """The number of a draw, which makes its random numbers its own; replays get the same."""
        if self.program.random_seed != self._seed:
            self.flush()
            self._seed = self.program.random_seed
            self._draws = 0
        self._draws += 1
        counter = aligned_copy_of(np.array([self._draws], np.int64))
        return Node((1,), VarType.INT64, value=counter)

    # -- values -------------------------------------------------------------------------------------------------

    def value_of(self, variable: EagerVariable) -> Array:
        """The value of a variable now."""
        node = variable.node
        if node.value is None and (node.producer is not None or (node.cell is not None and self._pending)):
            self.flush()
        if node.value is not None:
            return node.value
        if node.cell is not None and node.cell.is_set:
            return node.cell.buffer.array
        raise invalid(
            f"{variable.name} has no value", "it was created but never written, or the step that computed it failed"
        )

    def set_value(self, variable: EagerVariable, array: Array) -> None:
        """Overwrite the value; shape and type fit."""
        self._settle(OpRole.FORWARD)
        self._give(variable, array)

    def _give(self, variable: object, array: Array) -> None:
        assert isinstance(variable, EagerVariable)
        cell = variable.node.cell
        if cell is None:
            node = Node(array.shape, convert_dtype(array.dtype), value=aligned_copy_of(array), fed=BY_CALLER)
            node.needs_grad = not variable.stop_gradient and array.dtype.kind == "f"
            variable._shape, variable._dtype = node.shape, node.dtype
            _hold(variable, node)
            return
        if self._pending:
            self.flush()  # records may read or write the memory
        _hold(variable, cell.next_version())
        cell.keep(cell.in_memory())
        cell.kept_at = ""
        cell.buffer.put(array)

    def overwrite(self, cell: Cell) -> None:
        """Somebody else is about to write the memory of state: whoever holds an older value keeps it."""
        if self._pending:
            self.flush()
        handle = cell.current.handle
        variable = None if handle is None else handle()
        node = cell.next_version()
        if variable is not None:
            _hold(variable, node)
        cell.keep(cell.in_memory())

    def flush(self) -> None:
        """Run what is pending.

        Raises:
            FluidcError: A value that does not fit, or an op that cannot be compiled; state is as before, and what was
                pending has no value.
        """
        records, self._pending = self._pending, []
        step, self._step = self._step, None
        self._updating = self._has_fresh = False
        self._gradients.clear()
        if not records:
            return
        if self._execution is None:
            from .execution import Execution  # the compiler takes time to load

            self._execution = Execution()
        others = [] if step is None else step.others
        try:
            if step is not None:
                from .private_execution import run_private

                run_private(step, records, self.target)
                records, others = others, []
            if records:
                self._execution.run(records, self.target, self._seed)
        except BaseException as error:  # an interrupt too
            abandon([*records, *others])
            if isinstance(error, FluidcError) and not error.where:
                error.where = user_location().place
            raise

    @property
    def compiled(self) -> int:
        """Functions compiled so far."""
        return 0 if self._execution is None else self._execution.compiled

    # -- gradients ----------------------------------------------------------------------------------------------

    def backward(self, loss: EagerVariable) -> None:
        """Leave gradients of ``loss`` at everything it was computed from.

        Where that are parameters of a private optimizer, those get private gradients, and nothing else gets any.
        """
        if not loss.has_dtype or not loss.dtype.is_float:
            raise wrong_type(f"backward: {loss.name} holds {loss.dtype.numpy.name}", "a loss must be floating point")
        self._settle(OpRole.BACKWARD)
        walk = Walk.back_from([loss.node])
        training = training_behind(walk)
        if training is not None:
            self._backward_privately(loss, walk, training)
            return
        wanted = walk.leaves_and_held(loss.node)
        if not wanted:
            return
        grads = self.request(Request((loss.node,), (), tuple(wanted), ()), walk, keep=False)
        for node, grad in zip(wanted, grads, strict=True):
            self._leave_gradient(node, grad)
        self._gradients[loss.node] = self._pending[-1], wanted
        if loss.node.producer is not None:
            loss.set_gradient(self.constant(loss.grad_name, np.ones(loss.shape, loss.dtype.numpy)))

    def _leave_gradient(self, node: Node, grad: EagerVariable) -> None:
        handle = node.handle() if node.handle is not None else None
        assert handle is not None
        handle.set_gradient(grad)
        if isinstance(handle, EagerParameter):
            self._graded[id(handle)] = handle

    def _backward_privately(self, loss: EagerVariable, walk: Walk, training: PrivateTraining) -> None:
        """Take what ``loss`` is computed by as a private step, and leave its gradients at the parameters."""
        if self._step is not None and self._step.training is training:
            raise training.refusal(
                "backward() is called again before the gradients of the first one were used: they would be lost, and "
                "their privacy spent",
                "add the losses up and call backward() once; a lot of any size is one step",
            )
        wanted = training.differentiated(loss, walk)
        request = Request((loss.node,), (), tuple(wanted), ())
        if any(record.type == "backward" for record in self._pending):
            self.flush()
        used, stops = self._at_hand(walk, request)
        grads = [self._gradient_of(node) for node in wanted]
        made = [grad.node for grad in grads]
        step, records = Step.of(training, self._pending, used, stops, made)
        record = self._private_record(training, used, made, stops)
        self._pending, self._step = [*records, record], step
        withheld = [node for node in (*walk.leaves, *walk.through) if node is not loss.node and node not in wanted]
        walk.release()
        withhold(training, withheld)
        for node, grad in zip(wanted, grads, strict=True):
            self._leave_gradient(node, grad)

    def make_private(self, loss: EagerVariable, training: PrivateTraining, listed: Collection[str] | None) -> None:
        """Make the plain backward of ``loss``, which nobody has looked at yet, one of ``training``.

        Args:
            loss: What was differentiated.
            training: Gets the parameters that have a gradient.
            listed: Names of the only ones that it shall have; None is all.

        Raises:
            PrivacyError: The gradients were computed already, were read, or there is none.
        """
        remedy = "pass parameter_list=model.parameters() to it: backward() is then private from the beginning"
        if loss.node not in self._gradients:
            raise training.refusal(
                "there is no private gradient of this loss: backward() was not called, or its gradients were computed "
                "already",
                remedy,
            )
        plain, asked = self._gradients[loss.node]
        grads = dict(zip(asked, (ref() for ref in dict(plain.outputs)["Grads"]), strict=True))
        cells = {node.cell: node for node in asked if node.cell is not None and node.cell.parameter}
        every = [p for p in self.program.global_block().all_parameters() if isinstance(p, EagerParameter)]
        chosen = [p for p in every if p.node.cell in cells and (listed is None or p.name in listed)]
        wanted = [cells[p.node.cell] for p in chosen if p.node.cell is not None]
        made = [grad for grad in (grads[node] for node in wanted) if grad is not None]
        # Whatever is refused from here on: what was asked for is computed by nobody.
        before = self._pending[: self._pending.index(plain)]
        after = self._pending[len(before) + 1 :]
        self._pending = [*before, *after]
        self._gradients.clear()
        withhold(training, asked)
        try:
            training.check_loss(loss)
            if not wanted or len(made) < len(wanted):
                raise training.refusal("the loss depends on no parameter that it trains", remedy)
            raw = {grad for node, grad in grads.items() if node not in wanted}
            if any(r.type == "backward" or not raw.isdisjoint(r.read) for r in self._pending):
                raise training.refusal("the gradients of this loss are not private, and others were asked for", remedy)
            training.claim(chosen)
            self.has_private = True
            used = Request(dict(plain.inputs)["Targets"], (), tuple(wanted), ())
            step, records = Step.of(training, before, used, plain.stops, made)
        except PrivacyError:
            self._drop(plain)
            raise
        abandon([plain])
        record = self._private_record(training, used, made, plain.stops)
        self._pending, self._step = [*records, record], step
        for late in after:
            (self._pending if step.takes(late.read) else step.others).append(late)
        for param, node, grad in zip(chosen, wanted, made, strict=True):
            handle = EagerVariable(self.program, param.grad_name, grad.shape, grad.dtype, grad, stop_gradient=True)
            self._leave_gradient(node, handle)

    def _drop(self, record: Record) -> None:
        """Give up what a record that shall not run makes, and all that is computed with it."""
        kept: list[Record] = []
        gone = {*record.made}
        dropped = [record]
        for pending in self._pending:
            if gone.isdisjoint(pending.read):
                kept.append(pending)
            else:
                dropped.append(pending)
                gone.update(pending.made)
        self._pending = kept
        abandon(dropped)

    def _private_record(
        self, training: PrivateTraining, request: Request, grads: Sequence[Node], stops: tuple[Node, ...]
    ) -> Record:
        slots: list[tuple[str, tuple[Node, ...]]] = [("Targets", request.targets), ("Wrt", request.wrt)]
        outputs: list[tuple[str, tuple[Node, ...]]] = [("Grads", tuple(grads))]
        if training.bound is not None:
            cell = training.bound.node.cell
            assert cell is not None
            slots.append((BOUND, (cell.current,)))
            outputs.append((NEW_BOUND, (cell.next_version(),)))
            _hold(training.bound, cell.current)
        training.gradients.update(grads)
        for grad in grads:
            grad.fed = RELEASED
        return self._backward_record(slots, outputs, stops)

    def _backward_record(self, slots: Slots, outputs: Slots, stops: tuple[Node, ...]) -> Record:
        attrs: dict[str, AttrValue] = {"privacy": None, "clip_state": "", "error_clip": [], "checkpoints": []}
        signature = self._signatures.of("backward", slots, outputs, attrs)
        return Record("backward", slots, outputs, attrs, signature, user_location(), OpRole.BACKWARD, stops)

    def _at_hand(self, walk: Walk, request: Request) -> tuple[Request, tuple[Node, ...]]:
        """The request, and what stops its gradients, on values that pending records make: what has run runs again."""
        if not any(record.has_run for record in walk.records):
            return request, walk.barred(request)
        if self._pending:
            self.flush()
        again, copies = replayed(walk, request)
        for record in again:
            self._append(record)
        used = request.mapped(copies)
        return used, Walk.back_from(list(used.targets)).barred(used)

    def parameters_with_gradients(self) -> list[EagerParameter]:
        """Parameters that `backward` left a gradient at since the guard was entered, in the order of their names."""
        found = [p for p in self._graded.values() if p.has_gradient]
        return sorted(found, key=lambda p: p.name)

    def swap_gradients(
        self, graded: WeakValueDictionary[int, EagerParameter] | None = None
    ) -> WeakValueDictionary[int, EagerParameter]:
        """Begin a guard, whose gradients are of another training, or go on with those of one; returns those before."""
        before, self._graded = self._graded, WeakValueDictionary() if graded is None else graded
        return before

    def request(self, request: Request, walk: Walk, *, keep: bool, differentiable: bool = False) -> list[EagerVariable]:
        """Record gradients; the graph they went through is given up unless ``keep``.

        Args:
            request: What is wanted.
            walk: From its targets back.
            keep: Leave the graph for another backward.
            differentiable: The gradients can be differentiated in their turn.
        """
        refuse_raw(Walk.back_from(list(request.targets)), "grad")
        if self._step is not None:
            self.flush()
        used, stops = self._at_hand(walk, request)
        grads = [self._gradient_of(node) for node in request.wrt]
        for grad in grads:
            grad.node.needs_grad = differentiable
            grad._stop_gradient = not differentiable
        slots = (("Targets", used.targets), ("TargetGradients", used.seeds), ("Wrt", used.wrt))
        outputs = (("Grads", tuple([grad.node for grad in grads])),)
        self._append(self._backward_record(slots, outputs, stops))
        if not keep:
            walk.release()
        return grads

    def _gradient_of(self, node: Node) -> EagerVariable:
        handle = node.handle() if node.handle is not None else None
        name = handle.grad_name if handle is not None else generate("grad")
        return EagerVariable(
            self.program, name, node.shape, node.dtype, Node(node.shape, node.dtype), stop_gradient=True
        )


def _listed(args: Sequence[Variable] | Variable) -> Sequence[Variable]:
    return args if isinstance(args, list | tuple) else [args]  # type: ignore[list-item]


def _hold(variable: EagerVariable, node: Node) -> None:
    variable.node = node
    node.handle = weakref.ref(variable)


def _stated(attrs: Mapping[str, AttrValue]) -> Array:
    """The array of an ``assign_value`` record."""
    return np.asarray(attrs["values"], attrs["dtype"].numpy).reshape(attrs["shape"])


def _leads_somewhere(node: Node) -> bool:
    """Whether a gradient through a result can still arrive: not where the graph behind it was given up."""
    producer = node.producer
    if producer is None or node.is_leaf:
        return True  # a leaf that wants a gradient
    if not producer.is_released and any(i.needs_grad for _, nodes in producer.inputs for i in nodes):
        return True
    node.needs_grad = False
    if node.value is not None:
        node.producer = None
    return False
