"""From the nodes of an imported ONNX model to the IR.

A rule takes a `Node` and returns what the node computes.  To add one:

1. Find the family, or begin a new file and list its ``RULES`` in ``FAMILIES`` below.
2. Write ``def _name(n: Node) -> Results``.  Inputs go by the names of the operator's documentation:
   ``n.x("data")`` is a value of the IR, ``n.optional("B")`` one that may be left out, ``n.xs("inputs")`` all of a
   variadic input; ``n.ints("axes")`` and ``n.dims("shape")`` are inputs that must be known while compiling (constants,
   and what follows from them and from shapes).  ``n.attr("axis")`` is an attribute, with the default that the operator
   has in the model's opset.  Where an op changed its form between opsets, ``n.version`` is the one that the model uses.
   What the IR cannot do is refused by ``raise n.error(what, hint)``.
3. Return a value of ``n.b``, a `Known`, or one of these per output in the operator's order; outputs that the model does
   not name are left out by themselves.
4. Enter it: ``RULES = {"Name": _name}``.  Of known numbers the rule is evaluated at once.  Where the op is part of the
   arithmetic on open shapes, write in ``fold.py`` what it does with symbols, too.

The shapes and types of imported Variables come from running these rules: there is no second place to state them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....compiler.errors import VerifyError
from ..context import OpLowering, Rule, Rules
from ..known import Known
from . import (
    arrange,
    attention,
    conv,
    einsum,
    elementwise,
    fold,
    function,
    indexing,
    linear,
    loss,
    norm,
    pool,
    random,
    recurrent,
    reduce,
    resize,
    shape,
)
from .evaluate import evaluated
from .node import OPEN_EXTENTS, Fold, Node, NodeRule, NodeRules, Result

FAMILIES: Mapping[str, NodeRules] = {
    "elementwise": elementwise.RULES,
    "function": function.RULES,
    "reduce": reduce.RULES,
    "linear": linear.RULES,
    "einsum": einsum.RULES,
    "conv": conv.RULES,
    "pool": pool.RULES,
    "resize": resize.RULES,
    "norm": norm.RULES,
    "attention": attention.RULES,
    "loss": loss.RULES,
    "shape": shape.RULES,
    "arrange": arrange.RULES,
    "indexing": indexing.RULES,
    "recurrent": recurrent.RULES,
    "random": random.RULES,
}
"""The rules by the file that they are in."""

PREFIX = "onnx."
"""Before the ONNX op type in the type of a record."""


def _lowering(rule: NodeRule, folding: Fold | None) -> Rule:
    def lower(o: OpLowering) -> None:
        node = Node(o)
        folded = folding(node) if folding is not None and node.knows_all else None
        folded = evaluated(rule, o) if folded is None else folded
        try:
            found = rule(node) if folded is None else folded
        except VerifyError as error:
            raise node.error(
                error.what, error.hint or "the model's inputs, or its weights, do not fit together"
            ) from None
        except OverflowError as error:
            raise node.error(str(error), "no exporter writes such numbers: correct the model") from None
        except ValueError as error:  # arithmetic on extents that the IR does not have
            raise node.error(str(error), OPEN_EXTENTS) from None
        _store(o, [found] if not isinstance(found, Sequence) else found)

    return lower


def _store(o: OpLowering, results: Sequence[Result]) -> None:
    slots = list(o.op.outputs.values())
    # A variadic output is an operator's only one.
    names = slots[0] if len(slots) == 1 else [names[0] if names else "" for names in slots]
    for name, result in zip(names, results, strict=False):
        if not name:
            continue
        if isinstance(result, Known):
            o.function.known[name] = result
        else:
            if result.op is not None and not result.hint:
                result.hint = name
            o.frame.write(name, result)


def rules() -> Rules:
    """Every ONNX op that can be imported, as a rule for its record."""
    found = {name: rule for family in FAMILIES.values() for name, rule in family.items()}
    assert len(found) == sum(map(len, FAMILIES.values())), "two families lower one op type"
    assert fold.FOLDS.keys() <= found.keys(), "what is folded is also lowered"
    return {PREFIX + name: _lowering(rule, fold.FOLDS.get(name)) for name, rule in found.items()}


RULES = rules()
