"""What private optimizers train in dygraph: whose gradients are private, and what one step computes.

The gradient of a private step is a function of one lot: `Step` is that function, taken out of what is pending, with
everything it reads known to be an example's, public, or state.  A training has one such function: which one runs must
not depend on the data, so every step's is compared with the first one's.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...compiler.errors import PrivacyError
from ..framework import AttrValue
from ..lineage import Lineage
from ..lots import Lot
from ..privacy_spec import PrivacySpec
from ..source import user_location
from .graph import Node, Record, Slots, told_of
from .signatures import COUNTER, frozen
from .tape import Request, Walk
from .varying import NUMBERS

if TYPE_CHECKING:
    from .execution import Plan
    from .variable import EagerParameter, EagerVariable


class PrivateTraining:
    """What the steps of one private optimizer have in common.

    Attributes:
        optimizer: Its name, which begins what is refused.
        spec: What it states.
        lineage: Its steps are counted together, whatever they compute besides the gradient.
        bound: The variable that holds the bound of quantile clipping.
        gradients: Values that are private gradients of this training.
        announced: Names of the parameters that a ledger was begun for; empty before.
        core: What the first step's gradient was computed by.
        plans: Its compiled steps.
    """

    def __init__(self, owner: object, optimizer: str, spec: PrivacySpec) -> None:
        self.optimizer = optimizer
        self.spec = spec
        self.lineage = Lineage()
        self.bound: EagerVariable | None = None
        self.gradients: weakref.WeakSet[Node] = weakref.WeakSet()
        self.announced: tuple[str, ...] = ()
        self.core: Core | None = None
        self.plans: OrderedDict[Hashable, Plan] = OrderedDict()
        self._owner = weakref.ref(owner)
        self._parameters: list[weakref.ref[EagerParameter]] = []

    @property
    def parameters(self) -> list[EagerParameter]:
        """The parameters that it trains, in the order of the optimizer's list; none before it has any."""
        return [p for p in (ref() for ref in self._parameters) if p is not None]

    def claim(self, parameters: Iterable[EagerParameter]) -> None:
        """Make gradients with respect to ``parameters`` private from now on.

        Raises:
            PrivacyError: One belongs to another private optimizer, or two have one name.
        """
        listed = list(dict.fromkeys(parameters))
        names: set[str] = set()
        for p in listed:
            other = self.training_of(p)
            if other is not None and other is not self and other._owner() is not None:
                raise self.refusal(
                    f"{p.name} is trained by another private optimizer, {other.optimizer}",
                    "give each parameter to one of them: what one parameter tells is accounted for once",
                )
            if p.name in names:
                raise self.refusal(f"two of its parameters are named {p.name}", "build the model inside one guard()")
            names.add(p.name)
        for p in listed:
            assert p.node.cell is not None
            p.node.cell.training = self
        self._parameters = [weakref.ref(p) for p in listed]

    @staticmethod
    def training_of(parameter: EagerVariable) -> PrivateTraining | None:
        """The training that a parameter belongs to."""
        cell = parameter.node.cell
        return None if cell is None else cell.training

    def refusal(self, what: str, hint: str) -> PrivacyError:
        """The error at the user's line."""
        return PrivacyError(f"{self.optimizer}: {what}", where=user_location().place, hint=hint)

    def check_loss(self, loss: EagerVariable) -> None:
        """Refuse a loss of several numbers."""
        if loss.shape not in ((1,), ()):
            raise self.refusal(
                f"the loss {loss.name} has shape {list(loss.shape)}, but must have one element",
                "reduce it: fluid.layers.mean(loss)",
            )

    def differentiated(self, loss: EagerVariable, walk: Walk) -> list[Node]:
        """The values of its parameters that ``loss`` depends on, in the order of the list.

        Raises:
            PrivacyError: The loss is more than one number, depends on other versions of the parameters, or on other
                parameters than a ledger was begun for.
        """
        self.check_loss(loss)
        reached = {n.cell: n for n in walk.leaves if n.cell is not None}
        if any(cell.current is not node for cell, node in reached.items()):
            name = next(cell.name for cell, node in reached.items() if cell.current is not node)
            raise self.refusal(
                f"{name} was updated after {loss.name} was computed from it",
                "compute the loss again from the present parameters",
            )
        order = [p.node.cell for p in self.parameters]
        wanted = [reached[cell] for cell in order if cell is not None and cell in reached]
        names = sorted(node.cell.name for node in wanted if node.cell is not None)
        if self.announced and names != sorted(self.announced):
            (name, *_) = sorted({*names} ^ {*self.announced})
            missing = name not in names
            raise self.refusal(
                f"{name} {'gets no gradient from this loss' if missing else 'was not trained when the lots were begun'}"
                ", but the lots are accounted for with "
                f"{', '.join(sorted(self.announced))}",
                "freeze what is not trained (parameter.trainable = False) before poisson_batches, or leave it out of "
                "parameter_list",
            )
        return wanted


def training_behind(walk: Walk) -> PrivateTraining | None:
    """The private training whose parameters a gradient would reach, or None.

    Raises:
        PrivacyError: Two of them.
    """
    found = {leaf.cell.training: leaf.cell for leaf in walk.leaves if leaf.cell is not None and leaf.cell.training}
    if len(found) > 1:
        (first, cell), (second, other) = list(found.items())[:2]
        raise PrivacyError(
            f"backward: {cell.name} is trained by {first.optimizer} and {other.name} by another {second.optimizer}; "
            "one backward cannot be private for both",
            where=user_location().place,
            hint="train both with one private optimizer, or set stop_gradient on the parameters of the other",
        )
    return next(iter(found), None)


def refuse_raw(walk: Walk, asked: str) -> None:
    """Refuse gradients that are not private of what depends on the parameters of a private optimizer."""
    training = training_behind(walk)
    if training is None:
        return
    raise training.refusal(
        f"{asked} would give gradients before they are clipped and noised",
        "take those that loss.backward() leaves at the parameters; a copy of the model without a private optimizer "
        "gives any",
    )


BOUND, NEW_BOUND = "Bound", "NewBound"
"""Slots of a private backward record: the state that holds the bound of quantile clipping, before and after."""


def withhold(training: PrivateTraining, nodes: Iterable[Node]) -> None:
    """Leave word at what gets no gradient."""
    for node in nodes:
        handle = node.handle() if node.handle is not None else None
        if handle is not None:
            handle.withhold_gradient(training)


# -- one step -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One op behind a private gradient, in terms that are the same in every step."""

    what: Hashable
    inputs: tuple[tuple[Hashable, ...], ...]
    type: str
    attrs: dict[str, AttrValue] = field(compare=False)
    place: str = field(compare=False)


@dataclass(frozen=True)
class Core:
    """What a private gradient is computed by: the ops behind the loss, whose gradient is taken, and what stops it."""

    parts: tuple[Part, ...]
    parameters: tuple[str, ...]
    stops: tuple[Hashable, ...]


@dataclass(frozen=True)
class Step:
    """A private step that has been recorded and not run.

    Attributes:
        training: Whose step it is.
        others: Ops that were pending and run after it.
        examples: Values with a row per example; ``public``: those that are the same for everybody.
        lot: The lot that all examples come from as they were drawn, or None.
        core: What its gradient is computed by.
        gradients: Its private gradients. It makes all of them, whether or not anybody uses them.
    """

    training: PrivateTraining
    others: list[Record]
    examples: dict[Node, None]
    public: dict[Node, None]
    lot: Lot | None
    core: Core
    gradients: list[Node]

    @classmethod
    def of(
        cls,
        training: PrivateTraining,
        pending: Sequence[Record],
        request: Request,
        stops: Collection[Node],
        gradients: Sequence[Node],
    ) -> tuple[Step, list[Record]]:
        """Take a step, and the ops that run in it, out of what is pending.

        Besides what the gradient needs, it holds the ops that read nothing else than the gradient does, and its
        results: accuracies of the same lot.

        Raises:
            PrivacyError: It reads a value of which it is not known that a row belongs to one example.
        """
        behind = _behind(request.targets)
        read = {record: _stated(record) for record in behind}
        gone = next((record for record in behind if record.has_run), None)
        if gone is not None:
            raise training.refusal(
                f"what {_place(gone)} computed is needed again and was not kept", "compute the loss again"
            )
        examples: dict[Node, None] = {}
        public: dict[Node, None] = {}
        for record, (inputs, _) in read.items():
            for _, nodes in inputs:
                for node in nodes:
                    _check_known(training, record, node, read)
                    if node.value is not None:
                        assert node.fed is not None
                        (public if node.fed.is_public else examples)[node] = None
        _check_rows(training, examples)
        core = _core(read, request.wrt, stops)
        if training.core is not None and training.core != core:
            raise training.refusal(
                "the gradient of this step is computed otherwise than that of the first: "
                f"{_difference(training.core, core)}",
                "which computation runs must not depend on the data, nor on the size of the lot: keep it the same, "
                "divide by public constants, and give a number that changes as "
                "fluid.privacy.public(fluid.dygraph.to_variable(number)); another computation takes an optimizer of "
                "its own",
            )
        for record, (inputs, attrs) in read.items():
            record.inputs, record.attrs = inputs, attrs
        records, others = _parted(pending, behind, {*examples, *public})
        _check_kept(training, pending, behind, examples)
        lots = {id(node.fed.lot): node.fed.lot for node in examples if node.fed is not None}
        lot = next(iter(lots.values())) if len(lots) == 1 else None
        return cls(training, others, examples, public, lot, core, list(gradients)), records

    def takes(self, nodes: Iterable[Node]) -> bool:
        """Whether an op that reads ``nodes`` can still be part of it."""
        others = {*self.others}
        return all(
            (node.value is None and node.producer not in others) or node in self.examples or node in self.public
            for node in nodes
        )


def _behind(targets: Sequence[Node]) -> list[Record]:
    """The pending ops that ``targets`` are computed by, in an order that depends on nothing but the graph."""
    order: dict[Record, None] = {}
    entered: set[Record] = set()
    stack: list[tuple[Record, bool]] = [(n.producer, False) for n in reversed(targets) if n.producer is not None]
    while stack:
        record, ready = stack.pop()
        if ready:
            order[record] = None
        if ready or record in entered:
            continue
        entered.add(record)
        stack.append((record, True))
        needed = [n.producer for n in record.read if n.value is None and n.producer is not None]
        stack.extend((producer, False) for producer in reversed(needed))
    return list(order)


def depends_on_data(nodes: Iterable[Node]) -> bool:
    """Whether values are computed from anything but public values, numbers of the script, and state without data."""
    seen: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        fed = node.fed
        if fed is not None and (fed.is_public or fed.number is not None):
            continue
        if node.value is not None or (node.cell is not None and node.cell.kept_at):
            return True
        if node.producer is not None:
            stack.extend(n for slot, nodes in node.producer.inputs if slot != COUNTER for n in nodes)
    return False


def _stated(record: Record) -> tuple[Slots, dict[str, AttrValue]]:
    """What a record reads in a private step, and its attributes.

    Numbers that were fed because they change are attributes again, and draws have no number of their own: a private
    step takes its random numbers from a key of its own.
    """
    attrs = dict(record.attrs)
    kept: list[tuple[str, tuple[Node, ...]]] = []
    names = {slot: name for name, slot, _ in NUMBERS.get(record.type, ())}
    for slot, nodes in record.inputs:
        fed = nodes[0].fed if len(nodes) == 1 else None
        if fed is not None and fed.number is not None:
            attrs[names[slot]] = fed.number
        elif slot != COUNTER:
            kept.append((slot, nodes))
    return tuple(kept), attrs


def _check_known(training: PrivateTraining, record: Record, node: Node, behind: Collection[Record]) -> None:
    """Refuse a value that a private step must not read."""
    if node.value is None:
        # What the step itself writes is the compiler's to refuse, which knows the layer's remedy.
        if node.cell is not None and node.cell.kept_at and node.cell.current.producer not in behind:
            raise training.refusal(
                f"{_place(record)} reads {node.cell.name}, which {node.cell.kept_at} wrote data into: what a private "
                "step reads of earlier ones must be private itself",
                "keep such a value outside the model; set_value is for what comes from public information",
            )
        return
    name = told_of(node)
    reader = _place(record)
    if node.cell is not None:
        raise training.refusal(
            f"{reader} reads {node.cell.name} as it was before an update",
            "compute the loss again from the present parameters",
        )
    if node.fed is None:
        raise training.refusal(
            f"{reader} reads {name}, of which only the value is left: it was computed and looked at before, so nothing "
            "tells that its rows belong to one example each",
            "look at it after loss.backward(), or compute it in numpy and pass the array to to_variable",
        )
    if not node.fed.is_public and not node.shape:
        raise training.refusal(
            f"{reader} reads {name}, an array without an example axis",
            "if it is the same for everybody and no secret: fluid.privacy.public(var)",
        )


def _check_rows(training: PrivateTraining, examples: Mapping[Node, None]) -> None:
    """All arrays of examples have one row for each."""
    if not examples:
        raise training.refusal(
            "no example reaches the loss", "compute it from arrays of to_variable with one row per example"
        )
    sizes: dict[int, str] = {}
    for node in examples:
        sizes.setdefault(node.shape[0], f"{told_of(node)} {list(node.shape)}")
    if len(sizes) > 1:
        raise training.refusal(
            f"{' and '.join(list(sizes.values())[:2])} have different numbers of rows, but every row of what a private "
            "step reads is one example's",
            "row i of every array belongs to example i; what is the same for everybody and no secret is declared by "
            "fluid.privacy.public(var)",
        )


def _parted(
    pending: Sequence[Record], behind: Sequence[Record], known: Collection[Node]
) -> tuple[list[Record], list[Record]]:
    """Pending ops that can run in the step, and the others."""
    needed = set(behind)
    inside: list[Record] = []
    others: list[Record] = []
    made: set[Node] = set()
    for record in pending:
        written, reads = record.made, record.read
        fits = any(node in made or node in known for node in reads) and all(
            node in made or node in known or (node.cell is not None and node.value is None and node.producer is None)
            for node in reads
        )
        if record in needed or (fits and all(node.cell is None for node in written)):
            inside.append(record)
            made.update(written)
        else:
            others.append(record)
    return inside, others


def _check_kept(
    training: PrivateTraining, pending: Sequence[Record], behind: Collection[Record], examples: Collection[Node]
) -> None:
    """Nothing that depends on the examples is kept in state; the compiler sees to it where the gradient does it."""
    needed = {*behind}
    seen = {*examples}
    for record in pending:
        if not any(node in seen for node in record.read):
            continue
        for node in record.made:
            if node.cell is not None and record not in needed:
                raise training.refusal(
                    f"{_place(record)} writes {node.cell.name}, which outlives the step, and reads the examples",
                    "only private gradients may change what outlives a step; look at the value and keep it yourself",
                )
        seen.update(record.made)


def _core(
    read: Mapping[Record, tuple[Slots, dict[str, AttrValue]]], wrt: Sequence[Node], stops: Collection[Node]
) -> Core:
    numbers: dict[Node, Hashable] = {}
    fed = 0
    parts: list[Part] = []
    for number, (record, (inputs, attrs)) in enumerate(read.items()):
        for _, nodes in inputs:
            for node in nodes:
                if node in numbers:
                    continue
                if node.value is not None:
                    is_public = node.fed is not None and node.fed.is_public
                    extents = node.shape if is_public else ("N", *node.shape[1:])
                    numbers[node] = (fed, is_public, node.value.dtype.str, extents)
                    fed += 1
                else:
                    assert node.cell is not None
                    numbers[node] = (node.cell.name, node.cell.buffer.home.dtype.str, node.shape)
        for slot, refs in record.outputs:
            for place, ref in enumerate(refs):
                node = ref()
                if node is not None:
                    numbers[node] = (number, slot, place)
        what: Hashable = record.signature
        if record.type in NUMBERS:  # whose signature does not tell the numbers, where they are fed
            slots = tuple([(slot, len(nodes)) for slot, nodes in inputs])
            what = (record.type, slots, tuple([(name, frozen(attrs[name])) for name in sorted(attrs)]))
        places = tuple([tuple([numbers[n] for n in nodes]) for _, nodes in inputs])
        parts.append(Part(what, places, record.type, attrs, _place(record)))
    names = tuple(node.cell.name for node in wrt if node.cell is not None)
    return Core(tuple(parts), names, tuple(sorted((numbers[n] for n in stops if n in numbers), key=repr)))


def _place(record: Record) -> str:
    return f"{record.loc.layer or record.type} at {record.loc.place}"


def _difference(first: Core, now: Core) -> str:
    for old, new in zip(first.parts, now.parts):
        if old == new:
            continue
        if old.type != new.type:
            return f"{new.place} stands where {old.place} stood"
        for name in sorted({*old.attrs, *new.attrs}):
            before, after = old.attrs.get(name), new.attrs.get(name)
            if frozen(before) != frozen(after):
                return f"{new.place} has {name} = {after!r}, and had {before!r}"
        return f"{new.place} reads other values, or such of other sizes"
    if len(first.parts) != len(now.parts):
        longer = max(first.parts, now.parts, key=len)
        added = "is new" if longer is now.parts else "is missing"
        return f"{longer[min(len(first.parts), len(now.parts))].place} {added}"
    if first.parameters != now.parameters:
        changed = sorted({*first.parameters} ^ {*now.parameters})
        return f"the trained parameters are others: {', '.join(changed)}"
    return "gradients are stopped elsewhere"
