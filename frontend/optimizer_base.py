"""What all optimizers share: gradients, clip, decay, learning rate and accumulators, in fluid's order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import trained, unique_name
from .backward import NameOrVariable, append_backward, names_of
from .clip import GradientClipBase, ParamsGrads, append_gradient_clip_ops
from .dygraph.base import eager_program
from .dygraph.private import PrivateTraining
from .dygraph.variable import EagerParameter, EagerVariable
from .errors import invalid, unsupported, warn, wrong_type
from .framework import (
    AttrValue,
    Operator,
    OpRole,
    Program,
    default_main_program,
    default_startup_program,
    in_dygraph_mode,
    program_guard,
)
from .initializer import ConstantInitializer, NumpyArrayInitializer
from .layer_helper import LayerHelper, check_variable
from .layers.tensor import create_global_var
from .optimizer_state import check_complete, check_fit, fitting, state_of
from .parameter_list import UnsizedParameters
from .regularizer import WeightDecayRegularizer, append_regularization_ops
from .schedules import LearningRateDecay
from .schedules.numbers import number_of
from .scope import global_scope
from .state_dicts import missing_optimizer_state
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

    def shape(self, param: Parameter) -> list[int]:
        """Its shape for a parameter."""
        return [1] if self.single else list(param.shape)

    def dtype(self, param: Parameter) -> VarType:
        """Its element type for a parameter: that of half-precision ones is float32."""
        return VarType.FP32 if param.dtype is VarType.FP16 else param.dtype


class Optimizer:
    """Base of all update rules.

    A rule names its op (``op_type``), what it keeps (``_state``) and its constants (``_attrs``).

    Args:
        learning_rate: A number, or a Variable of shape [1]; in dygraph also a schedule, such as `NoamDecay`.
        parameter_list: Parameters (or names) to update; all trainable ones if None, in dygraph all that have a
            gradient.
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
        if isinstance(parameter_list, UnsizedParameters):
            parameter_list.refuse(self.type)
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
        # A generator would be used up by the first step.
        self._parameter_list = list(parameter_list) if isinstance(parameter_list, Iterator) else parameter_list
        self._grad_clip = grad_clip
        self._name = name
        self._rates: dict[int, Variable] = {}
        self._step_rate: Variable | None = None
        # By the kind of the accumulator, then by the name of the parameter; `_names` in the order of their creation.
        self._accumulators: defaultdict[str, dict[str, Variable]] = defaultdict(dict)
        self._names: dict[tuple[str, str], str] = {}
        self._restored: dict[str, NDArray[Any]] = {}
        self._said_no_gradients = False

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

    @cached_property
    def _kept(self) -> tuple[Accumulator, ...]:
        return self._state()

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        """Constants of the rule for one parameter."""
        del param
        return {}

    def _append_update(self, param: Parameter, grad: Variable, rate: Variable) -> Operator:
        """Record the update of one parameter."""
        inputs: dict[str, list[Variable]] = {"Param": [param], "Grad": [grad]}
        outputs: dict[str, list[Variable]] = {"ParamOut": [param]}
        for kept in self._kept:
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
        """Ask for the gradients; layers may be appended on them before `apply_gradients`.

        In dygraph: the gradients that ``loss.backward()`` left, [] if it was not called.
        """
        if callbacks:
            raise unsupported(
                f"{self.type}.backward: callbacks are not available", "append layers on the gradients it returns"
            )
        check_variable(f"{self.type}.minimize", "loss", loss)
        listed = self._parameter_list if parameter_list is None else parameter_list
        if isinstance(loss, EagerVariable):
            return self._gradients_left(listed, no_grad_set)
        with program_guard(loss.block.program, startup_program or default_startup_program()):
            return self._gradients(loss, listed, no_grad_set)

    def _gradients(
        self,
        loss: Variable,
        parameter_list: Sequence[NameOrVariable] | None,
        no_grad_set: Iterable[NameOrVariable] | None,
    ) -> ParamsGrads:
        return append_backward(loss, parameter_list, no_grad_set)

    def _gradients_left(
        self,
        parameter_list: Sequence[NameOrVariable] | None,
        no_grad_set: Iterable[NameOrVariable] | None,
    ) -> ParamsGrads:
        """Parameters with the gradients that the last backward left at them.

        Raises:
            PrivacyError: One of them is trained by a private optimizer.
        """
        found = self._left(parameter_list, no_grad_set)
        for param, _ in found:
            training = PrivateTraining.training_of(param) if isinstance(param, EagerParameter) else None
            if training is not None:
                raise training.refusal(
                    f"{self.type} would update {param.name}, which it trains",
                    f"update by another rule with DpOptimizer({self.type}(...), ...), or give {self.type} a "
                    "parameter_list of other parameters",
                )
        return found

    def _left(
        self,
        parameter_list: Sequence[NameOrVariable] | None,
        no_grad_set: Iterable[NameOrVariable] | None,
    ) -> ParamsGrads:
        if not in_dygraph_mode():
            raise invalid(
                f"{self.type}.minimize is called outside dygraph", "write: with fluid.dygraph.guard(): around the step"
            )
        barred = set(names_of(f"{self.type}.minimize", "no_grad_set", no_grad_set))
        params = self._eager_parameters(parameter_list)
        pairs = [(p, p.grad) for p in params if p.trainable and p.name not in barred]
        return [(p, grad) for p, grad in pairs if grad is not None]

    def _eager_parameters(self, listed: Sequence[NameOrVariable] | None) -> list[EagerParameter]:
        """Those of a list, in its order; those that have a gradient if there is none."""
        program = eager_program()
        if listed is None:
            return program.recorder.parameters_with_gradients()
        params: list[EagerParameter] = []
        for each in listed:
            param = program.global_block().var(each) if isinstance(each, str) else each
            if not isinstance(param, EagerParameter):
                raise wrong_type(
                    f"{self.type}: parameter_list holds {type(each).__name__}, not a parameter of dygraph",
                    "give model.parameters()",
                )
            params.append(param)
        return params

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
        eager = in_dygraph_mode()
        if not params_grads and not eager:
            raise invalid(
                f"{self.type}: there is no parameter to update",
                "the loss must depend on a trainable parameter; look at parameter_list, stop_gradient and trainable",
            )
        program = eager_program() if eager else params_grads[0][0].block.program
        ordered = params_grads if eager else sorted(params_grads, key=lambda pair: pair[0].name)
        with program.role(OpRole.OPTIMIZE):
            # A step without gradients changes no parameter; a schedule counts it all the same, as in Paddle.
            clipped = ordered
            if ordered:
                clipped = append_gradient_clip_ops(ordered) if grad_clip is None else grad_clip(ordered)
            decayed = append_regularization_ops(clipped, self.regularization)
            self._create_accumulators([param for param, _ in decayed], eager=eager)
            rate = self._global_rate(program)
            updates = [self._append_update(p, g, self._rate_of(p, rate)) for p, g in decayed]
            self._finish([p for p, _ in decayed])
        if eager:
            return []
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

        In dygraph: update the parameters by the gradients that ``loss.backward()`` left; call it first. Without
        gradients nothing changes but the step that a schedule counts.

        Args:
            loss: One floating-point element.
            startup_program: Where accumulators are initialised; the default startup program if None.
            parameter_list: Parameters or names; the constructor's, or all trainable ones, if None.
            no_grad_set: Variables or names that no gradient passes through.
            grad_clip: Like the constructor's.

        Returns:
            The update ops ([] in dygraph), and ``[(parameter, gradient)]`` with the gradients before clip and decay.

        Warns:
            UserWarning: No parameter has a gradient in dygraph; said once.
        """
        params_grads = self.backward(loss, startup_program, parameter_list, no_grad_set)
        if in_dygraph_mode() and not params_grads and not self._said_no_gradients:
            self._said_no_gradients = True
            warn(f"{self.type}.minimize: no parameter has a gradient, and none changes; call loss.backward() first")
        with program_guard(loss.block.program, startup_program or default_startup_program()):
            if grad_clip is None:
                return self.apply_gradients(params_grads), params_grads
            return self._apply(params_grads, grad_clip), params_grads

    def get_opti_var_name_list(self) -> list[str]:
        """Names of the accumulators created so far, in the order of their creation."""
        return list(self._names.values())

    def clear_gradients(self) -> None:
        """In dygraph: forget the gradients of the parameters that `minimize` would update."""
        for param in self._eager_parameters(self._parameter_list):
            param.clear_gradient()

    def current_step_lr(self) -> float:
        """The learning rate of the last ``minimize``; before the first one that which it will use.

        In a Program the rate that the present scope holds, and the number that was given before it holds one.

        Raises:
            ProgramError: The rate is computed by a Program that has to run for it.
        """
        rate = self._learning_rate
        if isinstance(rate, LearningRateDecay):
            if self._step_rate is not None:
                return number_of(self.type, "learning_rate", self._step_rate)
            return number_of(self.type, "learning_rate", rate.rate())
        if isinstance(rate, EagerVariable):
            return float(rate)
        if isinstance(rate, Variable):
            held = self._held(rate)
            if held is None:
                raise invalid(
                    f"{self.type}.current_step_lr: {rate.name} is computed by its Program in each step",
                    "fetch it: exe.run(..., fetch_list=[learning_rate])",
                )
            return held
        static = [var for var in self._rates.values() if not isinstance(var, EagerVariable)]
        held = self._held(static[-1]) if static else None
        return float(rate) if held is None else held

    def _global_learning_rate(self, program: Program | None = None) -> Variable | None:
        """The learning rate of a Program (the default one if None) as a Variable, None before `minimize`.

        Scripts that are older than `current_step_lr` ask for it by this name.
        """
        rate = self._learning_rate
        if isinstance(rate, LearningRateDecay):
            return self._step_rate
        if isinstance(rate, Variable):
            return rate
        return self._rates.get((program or default_main_program()).uid)

    def _held(self, rate: Variable) -> float | None:
        """What the present scope holds of a learning rate, None if it holds nothing."""
        slot = global_scope().find_var(rate.name)
        if slot is None or not slot.get_tensor().is_initialized:
            return None
        return number_of(self.type, rate.name, np.asarray(slot.get_tensor().array))

    def state_dict(self) -> dict[str, Any]:
        """The state in dygraph: accumulators by name, once `minimize` or `set_dict` has run, and the schedule's state.

        The accumulators are the Variables themselves. With a schedule as learning rate there are ``LR_Scheduler``,
        the schedule's own state, and ``global_step``, its number of the step, as int32 of shape [1].

        Raises:
            ProgramError: The accumulators belong to a Program.
        """
        decay = self._learning_rate if isinstance(self._learning_rate, LearningRateDecay) else None
        return state_of(self._eager_accumulators("state_dict").values(), self._restored, decay)

    def set_dict(self, state_dict: Mapping[str, Any] | None) -> None:
        """Go on from a state; accumulators that do not exist yet get their values when `minimize` creates them.

        Args:
            state_dict: What `state_dict` or `fluid.load_dygraph` gave; None, for a file that was not found, changes
                nothing.

        Raises:
            ProgramError: It does not fit; nothing is changed.
            ArgumentTypeError: A value of another type; nothing is changed.

        Warns:
            UserWarning: It is None, or holds a schedule that is not used.
        """
        accumulators = self._eager_accumulators("set_dict")
        if state_dict is None:
            warn(missing_optimizer_state())
            return
        decay = self._learning_rate if isinstance(self._learning_rate, LearningRateDecay) else None
        kinds = [self._full(kept.name) for kept in self._kept]
        restored = fitting(self.type, state_dict, accumulators, kinds, decay)
        for name, var in accumulators.items():
            var.set_value(restored.values[name])
        self._restored = {name: value for name, value in restored.values.items() if name not in accumulators}
        if decay is not None:
            decay.restore(restored.schedule)
            self._step_rate = None

    def _eager_accumulators(self, method: str) -> dict[str, EagerVariable]:
        """The accumulators by name; refused where they are those of a Program."""
        found: dict[str, EagerVariable] = {}
        for by_param in self._accumulators.values():
            for var in by_param.values():
                if not isinstance(var, EagerVariable):
                    raise invalid(
                        f"{self.type}.{method} is for dygraph; this optimizer updates a Program",
                        "fluid.save and fluid.load keep the state of a Program",
                    )
                found[var.name] = var
        return found

    def _global_rate(self, program: Program) -> Variable:
        rate = self._learning_rate
        if isinstance(rate, LearningRateDecay):
            self._check_decay(rate)
            self._step_rate = rate()
            return self._step_rate
        if isinstance(rate, Variable):
            return rate
        if program.uid not in self._rates:
            self._rates[program.uid] = create_global_var(
                name=unique_name.generate("learning_rate"),
                shape=[1],
                value=float(rate),
                dtype="float32",
                persistable=True,
            )
        return self._rates[program.uid]

    def _rate_of(self, param: Parameter, rate: Variable) -> Variable:
        return rate if param.learning_rate == 1.0 else rate * param.learning_rate

    def _full(self, name: str) -> str:
        return name if self._name is None else f"{self._name}_{name}"

    def _create_accumulators(self, params: Sequence[Parameter], *, eager: bool) -> None:
        """Create what the rule keeps; in dygraph what is there already, and what `set_dict` brought, is used."""
        new: list[tuple[Accumulator, Parameter, str]] = []
        for param in params:
            for kept in self._kept:
                if param.name not in self._accumulators[kept.name]:
                    key = kept.name, param.name
                    if key not in self._names:
                        self._names[key] = unique_name.generate(f"{param.name}_{self._full(kept.name)}")
                    new.append((kept, param, self._names[key]))
                elif not eager:
                    raise invalid(
                        f"{self.type}: {param.name} already has a {kept.name}", "use one optimizer per minimize"
                    )
        if self._restored:
            self._check_restored(new, eager=eager)
        for kept, param, name in new:
            restored = self._restored.pop(name, None)
            self._accumulators[kept.name][param.name] = LayerHelper(self.type.lower()).initialised_variable(
                name,
                kept.shape(param),
                kept.dtype(param),
                ConstantInitializer(kept.fill) if restored is None else NumpyArrayInitializer(restored),
            )

    def _check_restored(self, new: Sequence[tuple[Accumulator, Parameter, str]], *, eager: bool) -> None:
        """Refuse what `set_dict` brought where it does not fit what is created now."""
        if not eager:
            raise invalid(
                f"{self.type}: set_dict brought a state of dygraph, and this is a Program", "load it with fluid.load"
            )
        check_complete(self.type, self._restored, [name for _, _, name in new])
        for kept, param, name in new:
            check_fit(self.type, name, self._restored[name], kept.shape(param), kept.dtype(param))
