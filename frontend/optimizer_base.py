"""What all optimizers share: gradients, clip, decay, learning rate and accumulators, in fluid's order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from . import trained, unique_name
from .backward import NameOrVariable, append_backward
from .clip import GradientClipBase, ParamsGrads, append_gradient_clip_ops
from .errors import invalid, unsupported, wrong_type
from .framework import AttrValue, Operator, OpRole, Program, default_startup_program, in_dygraph_mode, program_guard
from .initializer import ConstantInitializer
from .layer_helper import LayerHelper, check_variable
from .layers.tensor import create_global_var
from .regularizer import WeightDecayRegularizer, append_regularization_ops
from .schedules import LearningRateDecay
from .variable import Parameter, Variable
from .vartype import VarType

Rate: TypeAlias = float | Variable | LearningRateDecay
"""A learning rate: a number; a Variable of shape [1]; in dygraph, what changes it from step to step."""


def decaying(owner: str, argument: str, value: float) -> float:
    """A share that a mean keeps of its past; ProgramError unless it is from 0 to 1, 1 excluded."""
    if not 0.0 <= value < 1.0:
        raise invalid(f"{owner}: {argument} is {value}", "give a number from 0 to 1, 1 excluded")
    return float(value)


@dataclass(frozen=True)
class Accumulator:
    """State that a rule keeps for each parameter.

    Attributes:
        name: As in the variable's name, ``PARAMETER_NAME_0``.
        slot: The op's input.
        result: The op's output, None if the op does not write it.
        fill: What every element starts with.
        single: One number, of shape [1], instead of one for each element of the parameter.
    """

    name: str
    slot: str
    result: str | None
    fill: float = 0.0
    single: bool = False


class Optimizer:
    """Base of all update rules.

    A rule names its op (``op_type``), what it keeps (``_state``) and its constants (``_attrs``).

    Args:
        learning_rate: A number, or a Variable of shape [1].
        parameter_list: Parameters (or names) to update; all trainable ones if None.
        regularization: Decay for parameters whose ParamAttr names none.
        grad_clip: Clip of the gradients before decay and update.
        name: Prefix of the accumulators' names.
    """

    op_type: ClassVar[str]
    reads_rate: ClassVar[bool] = True
    """Whether the op has a learning rate."""

    def __init__(
        self,
        learning_rate: Rate,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
    ) -> None:
        self.type = type(self).__name__.removesuffix("Optimizer")
        if isinstance(learning_rate, LearningRateDecay):
            self._check_decay(learning_rate)
        elif isinstance(learning_rate, bool) or not isinstance(learning_rate, int | float | Variable):
            raise wrong_type(
                f"{self.type}: learning_rate is {type(learning_rate).__name__}", "give a number or a Variable"
            )
        if grad_clip is not None and not isinstance(grad_clip, GradientClipBase):
            raise wrong_type(
                f"{self.type}: grad_clip is {type(grad_clip).__name__}", "give a fluid.clip.GradientClipBy..."
            )
        if regularization is not None and not isinstance(regularization, WeightDecayRegularizer):
            raise wrong_type(
                f"{self.type}: regularization is {type(regularization).__name__}", "give a fluid.regularizer.L2Decay"
            )
        self.regularization = regularization
        self._learning_rate = learning_rate
        self._parameter_list = parameter_list
        self._grad_clip = grad_clip
        self._name = name
        self._rates: dict[int, Variable] = {}
        self._accumulators: defaultdict[str, dict[str, Variable]] = defaultdict(dict)

    def _check_decay(self, decay: LearningRateDecay) -> None:
        """Refuse a learning rate that cannot be followed here."""
        if in_dygraph_mode():
            return
        kind = type(decay).__name__
        raise unsupported(
            f"{self.type}: {kind} is a learning rate of dygraph, and this is a Program",
            "use fluid.layers.*_decay, or write a learning rate of your own between steps: tensor.set on its variable; "
            f"{kind} works inside fluid.dygraph.guard()",
        )

    def _state(self) -> tuple[Accumulator, ...]:
        """What the rule keeps for each parameter, in fluid's order."""
        return ()

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        """Constants of the rule for one parameter."""
        del param
        return {}

    def _create_accumulators(self, param: Parameter) -> None:
        for kept in self._state():
            self._add_accumulator(kept, param)

    def _append_update(self, param: Parameter, grad: Variable, rate: Variable) -> Operator:
        """Record the update of one parameter."""
        inputs: dict[str, list[Variable]] = {"Param": [param], "Grad": [grad]}
        outputs: dict[str, list[Variable]] = {"ParamOut": [param]}
        for kept in self._state():
            accumulator = self._accumulators[kept.name][param.name]
            inputs[kept.slot] = [accumulator]
            if kept.result is not None:
                outputs[kept.result] = [accumulator]
        if self.reads_rate:
            inputs["LearningRate"] = [rate]
        return param.block.append_op(self.op_type, inputs, outputs, self._attrs(param))

    def _finish(self, params: Sequence[Parameter]) -> None:
        """Record what follows the updates of all parameters."""

    @property
    def learning_rate(self) -> Rate:
        """As the constructor was given it."""
        return self._learning_rate

    @property
    def parameter_list(self) -> Sequence[NameOrVariable] | None:
        """As the constructor was given it."""
        return self._parameter_list

    def backward(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
        callbacks: Sequence[object] | None = None,
    ) -> ParamsGrads:
        """Ask for the gradients; layers may be appended on them before `apply_gradients`."""
        if callbacks:
            raise unsupported(
                f"{self.type}.backward: callbacks are not available", "append layers on the gradients it returns"
            )
        check_variable(f"{self.type}.minimize", "loss", loss)
        listed = self._parameter_list if parameter_list is None else parameter_list
        with program_guard(loss.block.program, startup_program or default_startup_program()):
            return self._gradients(loss, listed, no_grad_set)

    def _gradients(
        self,
        loss: Variable,
        parameter_list: Sequence[NameOrVariable] | None,
        no_grad_set: Iterable[NameOrVariable] | None,
    ) -> ParamsGrads:
        return append_backward(loss, parameter_list, no_grad_set)

    def apply_gradients(self, params_grads: ParamsGrads) -> list[Operator]:
        """Record clip, decay and update, the parameters in the order of their names; gives the update ops."""
        return self._apply(params_grads, self._grad_clip)

    def apply_clipped(self, params_grads: ParamsGrads, grad_clip: GradientClipBase | None) -> list[Operator]:
        """`apply_gradients` with another clip; the constructor's if None."""
        return self._apply(params_grads, self._grad_clip if grad_clip is None else grad_clip)

    def apply_optimize(
        self, loss: Variable, startup_program: Program | None, params_grads: ParamsGrads
    ) -> list[Operator]:
        """`apply_gradients` inside the loss's program."""
        with program_guard(loss.block.program, startup_program or default_startup_program()):
            return self.apply_gradients(params_grads)

    def _apply(self, params_grads: ParamsGrads, grad_clip: GradientClipBase | None) -> list[Operator]:
        if not params_grads:
            raise invalid(
                f"{self.type}: there is no parameter to update",
                "the loss must depend on a trainable parameter; look at parameter_list, stop_gradient and trainable",
            )
        program = params_grads[0][0].block.program
        ordered = sorted(params_grads, key=lambda pair: pair[0].name)
        with program.role(OpRole.OPTIMIZE):
            clipped = append_gradient_clip_ops(ordered) if grad_clip is None else grad_clip(ordered)
            decayed = append_regularization_ops(clipped, self.regularization)
            for param, _ in decayed:
                self._create_accumulators(param)
            rate = self._global_rate(program)
            updates = [self._append_update(p, g, self._rate_of(p, rate)) for p, g in decayed]
            self._finish([p for p, _ in decayed])
        trained.note(program, default_startup_program())
        return updates

    def minimize(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
        grad_clip: GradientClipBase | None = None,
    ) -> tuple[list[Operator], ParamsGrads]:
        """Record gradients and updates.

        Args:
            loss: One floating-point element.
            startup_program: Where accumulators are initialised; the default startup program if None.
            parameter_list: Parameters or names; the constructor's, or all trainable ones, if None.
            no_grad_set: Variables or names that no gradient passes through.
            grad_clip: Like the constructor's.

        Returns:
            The update ops, and ``[(parameter, gradient)]`` with the gradients before clip and decay.
        """
        params_grads = self.backward(loss, startup_program, parameter_list, no_grad_set)
        with program_guard(loss.block.program, startup_program or default_startup_program()):
            if grad_clip is None:
                return self.apply_gradients(params_grads), params_grads
            return self._apply(params_grads, grad_clip), params_grads

    def get_opti_var_name_list(self) -> list[str]:
        """Names of the accumulators created so far."""
        return [var.name for by_param in self._accumulators.values() for var in by_param.values()]

    def _global_rate(self, program: Program) -> Variable:
        if isinstance(self._learning_rate, Variable):
            return self._learning_rate
        if program.uid not in self._rates:
            self._rates[program.uid] = create_global_var(
                name=unique_name.generate("learning_rate"),
                shape=[1],
                value=float(self._learning_rate),
                dtype="float32",
                persistable=True,
            )
        return self._rates[program.uid]

    def _rate_of(self, param: Parameter, rate: Variable) -> Variable:
        return rate if param.learning_rate == 1.0 else rate * param.learning_rate

    def _add_accumulator(self, kept: Accumulator, param: Parameter) -> None:
        if param.name in self._accumulators[kept.name]:
            raise invalid(
                f"{self.type}: {param.name} already has a {kept.name}",
                "use one optimizer per minimize",
            )
        full = f"{self._name}_{kept.name}" if self._name is not None else kept.name
        self._accumulators[kept.name][param.name] = LayerHelper(self.type.lower()).initialised_variable(
            unique_name.generate(f"{param.name}_{full}"),
            [1] if kept.single else list(param.shape),
            VarType.FP32 if param.dtype is VarType.FP16 else param.dtype,
            ConstantInitializer(kept.fill),
        )
