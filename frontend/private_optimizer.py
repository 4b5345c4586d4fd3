"""Optimizers over privatised gradients: the request for them, and the refusal of any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import unique_name
from .backward import NameOrVariable, append_backward
from .clip import GradientClipBase, ParamsGrads
from .dygraph.base import eager_program
from .dygraph.private import PrivateTraining
from .dygraph.variable import EagerParameter, EagerVariable
from .framework import Operator, Program, in_dygraph_mode
from .initializer import ConstantInitializer
from .layer_helper import LayerHelper
from .optimizer_base import Optimizer
from .privacy_spec import Phase, PrivacySpec
from .private_arguments import Arguments, Clip
from .reach import producers
from .schedules import LearningRateDecay
from .variable import Parameter, Variable
from .vartype import VarType


class PrivateOptimizer(Optimizer):
    """Base: gradients carry ``privacy``, and only such gradients are applied.

    Attributes:
        privacy: What is stated.
        training: Its steps in dygraph.
    """

    privacy: PrivacySpec
    training: PrivateTraining

    def _check_decay(self, decay: LearningRateDecay) -> None:
        if decay.follows_loss:
            Arguments(self.type).refuse(
                "ReduceLROnPlateau chooses the learning rate by losses, which are not private",
                "schedules by step are public: use fluid.layers.*_decay, or set a value between steps by hand from "
                "public information",
            )
        super()._check_decay(decay)

    def _begin(self) -> None:
        """Have the gradients of the parameters that are listed be private in dygraph, from now on."""
        self.training = PrivateTraining(self, self.type, self.privacy)
        listed = self.parameter_list or ()
        eager = in_dygraph_mode() or any(isinstance(each, EagerParameter) for each in listed)
        if listed and eager and self.privacy.mechanism != "paddle":
            self._claim(self._eager_parameters(listed))

    def _claim(self, parameters: Sequence[EagerParameter]) -> None:
        self.training.claim(parameters)
        eager_program().recorder.has_private = True
        self._keep_bound()

    def _keep_bound(self) -> None:
        clip = self.privacy.clip
        if self.privacy.clipping == "quantile" and isinstance(clip, float) and self.training.bound is None:
            name, block = unique_name.generate("dp_clip"), eager_program().global_block()
            self.training.bound = block.stated_variable(name, np.array([clip], np.float32))

    def backward(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
        callbacks: Sequence[object] | None = None,
    ) -> ParamsGrads:
        """Ask for private gradients.

        In dygraph: those that ``loss.backward()`` left, which is private for the parameters that the optimizer was
        given as ``parameter_list``. Without a list, the backward that nobody looked at yet becomes private now.
        """
        is_plain = self.privacy.mechanism == "paddle" or self.training.parameters
        if isinstance(loss, EagerVariable) and in_dygraph_mode() and not is_plain:
            listed = None if parameter_list is None else {p.name for p in self._eager_parameters(parameter_list)}
            self._keep_bound()
            eager_program().recorder.make_private(loss, self.training, listed)
        return super().backward(loss, startup_program, parameter_list, no_grad_set, callbacks)

    def _gradients_left(
        self,
        parameter_list: Sequence[NameOrVariable] | None,
        no_grad_set: Iterable[NameOrVariable] | None,
    ) -> ParamsGrads:
        if self.privacy.mechanism == "paddle":
            return super()._gradients_left(parameter_list, no_grad_set)
        listed = self._eager_parameters(self.training.parameters if parameter_list is None else parameter_list)
        return self._left([p for p in listed if p.has_gradient], no_grad_set)

    def _gradients(
        self,
        loss: Variable,
        parameter_list: Sequence[NameOrVariable] | None,
        no_grad_set: Iterable[NameOrVariable] | None,
    ) -> ParamsGrads:
        if self.privacy.mechanism == "paddle":
            return append_backward(loss, parameter_list, no_grad_set)
        bound = self._clip_state()
        return append_backward(loss, parameter_list, no_grad_set, privacy=self.privacy, clip_state=bound)

    def _clip_state(self) -> str:
        """The variable that holds the bound of quantile clipping, made now; "" for the other modes."""
        clip = self.privacy.clip
        if self.privacy.clipping != "quantile" or not isinstance(clip, float):
            return ""
        helper = LayerHelper(self.type.lower())
        name = unique_name.generate("dp_clip")
        return helper.initialised_variable(name, [1], VarType.FP32, ConstantInitializer(clip)).name

    def _apply(self, params_grads: ParamsGrads, grad_clip: GradientClipBase | None) -> list[Operator]:
        if self.privacy.mechanism != "paddle":
            for param, grad in params_grads:
                self._check_private(param, grad)
        return self._update(params_grads, grad_clip)

    def _update(self, params_grads: ParamsGrads, grad_clip: GradientClipBase | None) -> list[Operator]:
        return super()._apply(params_grads, grad_clip)

    def _check_private(self, param: Parameter, grad: Variable) -> None:
        """Refuse a gradient that does not come from this optimizer's own backward."""
        if isinstance(grad, EagerVariable):
            own = grad.node in self.training.gradients
        else:
            sources = [op for op in producers(param.block.program, grad.name) if op.type == "backward"]
            own = bool(sources) and all(op.attr("privacy") is self.privacy for op in sources)
        if not own:
            Arguments(self.type).refuse(
                f"the gradient {grad.name} of {param.name} does not come from {self.type}.backward, "
                "so it is not private",
                "pass on what this optimizer's backward() returned",
            )


class DpOptimizer(PrivateOptimizer):
    """Any update rule on private gradients: ``DpOptimizer(fluid.optimizer.Adam(1e-3), clip=1.0, ...)`` is DP-Adam.

    The gradients are those of `Dpsgd`. What ``inner`` does with them (its rule, weight decay, gradient clip and
    learning rate) is post-processing and costs no privacy.

    Args:
        inner: The optimizer that applies the gradients; not a private one itself.
        clip: C, the bound on one example's gradient norm; for ``clipping="per-group"`` several.
        batch_size: L, the expected lot size: a public constant, whatever the size of the batch that is fed.
        sigma: Noise multiplier; None: it follows from ``epsilon`` and ``max_steps``.
        parameter_list: Parameters or names; ``inner``'s own if None. Others get neither update nor noise.
        dataset_size: As in `Dpsgd`, like all that follow.
        sample_rate: q itself.
        delta: Failure probability of the guarantee.
        max_steps: Number of steps the guarantee covers.
        epsilon: The budget.
        sampler: poisson, balls, shuffle or sequential.
        adjacency: add-remove, replace-one or zero-out; None is the sampler's own.
        clipping: flat, per-group, automatic or quantile.
        clipping_options: Numbers of that mode.
        mechanism: gaussian or discrete.
        phases: Steps with constants of their own (`fluid.privacy.Phase`).

    Raises:
        PrivacyError: A parameter that cannot be part of a guarantee, or an ``inner`` that is no ordinary optimizer.
    """

    def __init__(
        self,
        inner: Optimizer,
        clip: Clip,
        batch_size: float,
        sigma: float | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        *,
        dataset_size: int | None = None,
        sample_rate: float | None = None,
        delta: float | None = None,
        max_steps: int | None = None,
        epsilon: float | None = None,
        sampler: str = "poisson",
        adjacency: str | None = None,
        clipping: str = "flat",
        clipping_options: Mapping[str, float] | None = None,
        mechanism: str = "gaussian",
        phases: Sequence[Phase] | None = None,
    ) -> None:
        arguments = Arguments("DpOptimizer")
        if not isinstance(inner, Optimizer) or isinstance(inner, PrivateOptimizer):
            arguments.refuse(
                f"inner is {type(inner).__name__}, not an ordinary optimizer",
                "give an instance, such as fluid.optimizer.Adam(0.001)",
            )
        if type(inner).minimize is not Optimizer.minimize:
            arguments.refuse(
                f"inner is {type(inner).__name__}, whose minimize does more than to apply gradients",
                "give the optimizer itself; decay apart from the gradient goes around: "
                "fluid.contrib.extend_with_decoupled_weight_decay(fluid.optimizer.DpOptimizer)",
            )
        if mechanism == "paddle":
            arguments.refuse(
                "mechanism 'paddle' is an update rule of its own, which is not private", "use Dpsgd for the comparison"
            )
        if sigma is None and epsilon is None and not phases:
            arguments.refuse("neither sigma nor epsilon is stated", "state sigma, or epsilon with delta and max_steps")
        if parameter_list is not None and inner.parameter_list is not None:
            arguments.refuse("both it and inner have a parameter_list", "give it to one of the two")
        super().__init__(inner.learning_rate, inner.parameter_list if parameter_list is None else parameter_list)
        self.type = "DpOptimizer"
        self.inner = inner
        self.privacy = arguments.spec(
            clip,
            batch_size,
            sigma,
            dataset_size=dataset_size,
            sample_rate=sample_rate,
            delta=delta,
            max_steps=max_steps,
            epsilon=epsilon,
            sampler=sampler,
            adjacency=adjacency,
            clipping=clipping,
            clipping_options=clipping_options,
            mechanism=mechanism,
            phases=phases,
        )
        self._begin()

    def _update(self, params_grads: ParamsGrads, grad_clip: GradientClipBase | None) -> list[Operator]:
        return self.inner.apply_clipped(params_grads, grad_clip)

    def get_opti_var_name_list(self) -> list[str]:
        """Names of the accumulators that ``inner`` created so far."""
        return self.inner.get_opti_var_name_list()

    def current_step_lr(self) -> float:
        """``inner``'s."""
        return self.inner.current_step_lr()

    def state_dict(self) -> dict[str, Any]:
        """``inner``'s."""
        return self.inner.state_dict()

    def set_dict(self, state_dict: Mapping[str, Any] | None) -> None:
        """``inner``'s."""
        self.inner.set_dict(state_dict)
