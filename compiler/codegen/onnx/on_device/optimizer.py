"""What ONNX Runtime's optimizer does with the gradients that a training model leaves in its buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnx import ModelProto, TensorProto, helper

from ....ir.core import Function, Value, users
from ....ops.optim import Adam, Sgd
from ....ops.state import Read, Write
from ..build import IR_VERSION, OPSET

MOMENTS: Mapping[str, tuple[str, ...]] = {
    "SGDOptimizerV2": ("first_order_moments",),
    "AdamWOptimizer": ("first_order_moments", "second_order_moments"),
}
"""Inputs of an optimizer model behind the common ones. That of SGD is not read, and has to be there."""


@dataclass(frozen=True)
class Optimizer:
    """ONNX Runtime's optimizer of a program.

    Attributes:
        op: ``SGDOptimizerV2`` or ``AdamWOptimizer``, domain ``com.microsoft``.
        attributes: Of that node.
        rate: State variable that holds the learning rate; "" where the step applies it itself and the rate is 1.
        gradients: Parameter to what the optimizer takes for its gradient.
        first: State that the optimizer keeps instead of the program, and the number that it must begin with.
        reason: Why the program's own rule stays in the step; "" where ONNX Runtime's optimizer is the rule.
    """

    op: str
    attributes: Mapping[str, float | int]
    rate: str
    gradients: Mapping[str, Value]
    first: Mapping[str, float] = field(default_factory=dict[str, float])
    reason: str = ""

    def model(self) -> ModelProto:
        """The optimizer model: its inputs and their order are those that ONNX Runtime demands."""
        moments = MOMENTS[self.op]
        read = ["learning_rate", "step", "params", "gradients", *moments]
        if self.op == "SGDOptimizerV2":
            read = ["learning_rate", "params", "gradients"]
        node = helper.make_node(self.op, read, ["updated"], self.op, domain="com.microsoft")
        node.attribute.extend(helper.make_attribute(name, value) for name, value in self.attributes.items())
        graph = helper.make_graph(
            [node],
            "optimizer",
            [
                helper.make_tensor_value_info("learning_rate", TensorProto.FLOAT, [1]),
                helper.make_tensor_value_info("step", TensorProto.INT64, [1]),
                *(
                    helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)
                    for name in ("params", "gradients", *moments)
                ),
            ],
            [helper.make_tensor_value_info("updated", TensorProto.BOOL, [1])],
        )
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=domains, producer_name="fluidc")


def native(step: Function, trained: Sequence[str]) -> Optimizer | str:
    """ONNX Runtime's optimizer that updates the ``trained`` parameters as the step does, or why there is none.

    It has one rule for all parameters: SGD, or Adam with the bias correction in the rate (its AdamW in the mode 1,
    without decay). The rate is one number that the step does not change, and what the rule writes is read nowhere else.
    """
    reads: dict[Value, str] = {op.result: op.state for op in step.ops if isinstance(op, Read)}
    writes: dict[str, Value] = {op.state: op.value for op in step.ops if isinstance(op, Write)}
    readers = users(step.ops)
    fetched = {output.value for output in step.outputs}
    rules: list[Sgd | Adam] = []
    for name in trained:
        op = writes[name].op
        if not isinstance(op, Sgd | Adam) or reads.get(op.param) != name or writes[name] is not op.results[0]:
            return f"{name} is updated by {'a computation' if op is None else op.name}"
        if any(value in fetched or any(not isinstance(by, Write) for by in readers[value]) for value in op.results):
            return f"the new value of {name} is read in the step"
        rules.append(op)
    first = rules[0]
    constants = _constants(first)
    rate = reads.get(first.lr, "")
    if not rate or rate in writes:
        return "the learning rate changes in the step"
    if first.lr in fetched or any(by not in rules for by in readers[first.lr]):
        return "the learning rate is read by more than the optimizer"
    kept: dict[str, float] = {}
    for name, op in zip(trained, rules, strict=True):
        if op.lr is not first.lr or _constants(op) != constants:
            return f"{name} is updated by another rule, or at another rate, than {trained[0]}"
        if isinstance(op, Adam):
            ones = (0.0, 0.0, op.beta1, op.beta2)
            held = (op.moment1, op.moment2, op.beta1_pow, op.beta2_pow)
            for value, new, start in zip(held, op.results[1:], ones, strict=True):
                state = reads.get(value, "")
                if writes.get(state) is not new or value in fetched or readers[value] != [op]:
                    return f"what Adam keeps of {name} is read by more than Adam"
                kept[state] = start
    gradients = {name: op.grad for name, op in zip(trained, rules, strict=True)}
    return Optimizer(*constants, rate, gradients, kept)


def _constants(op: Sgd | Adam) -> tuple[str, Mapping[str, float | int]]:
    """The node that is this rule, and its attributes."""
    if isinstance(op, Sgd):
        return "SGDOptimizerV2", {}
    # Mode 1 divides by sqrt(m2) + epsilon and corrects the rate, as fluid does; mode 0 corrects m2 first.
    return "AdamWOptimizer", {
        "alpha": op.beta1, "beta": op.beta2, "epsilon": op.epsilon, "weight_decay": 0.0, "adam_mode": 1,
        "correct_bias": 1,
    }  # fmt: skip
