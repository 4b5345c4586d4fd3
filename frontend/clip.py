"""Clipping of gradients before the update."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from .errors import invalid, warn, wrong_type
from .framework import Program, default_main_program
from .layers.math import elementwise_div, elementwise_max, elementwise_mul, reduce_sum, sums
from .layers.ops import clip, clip_by_norm, sqrt, square
from .layers.tensor import fill_constant
from .variable import Parameter, Variable

ParamsGrads = list[tuple[Parameter, Variable]]


class ErrorClipByValue:
    """Limits a variable's own gradient to [min, max] while the backward pass goes through it."""

    def __init__(self, max: float, min: float | None = None) -> None:
        self.max = float(max)
        self.min = -self.max if min is None else float(min)

    def __str__(self) -> str:
        return f"ErrorClipByValue, min={self.min}, max={self.max}"


class GradientClipBase(ABC):
    """Calling it records the clip of the gradients it is given."""

    def __init__(self, need_clip: Callable[[Parameter], bool] | None = None) -> None:
        if need_clip is not None and not callable(need_clip):
            raise wrong_type("need_clip is not a function", "give a function of the parameter that returns a bool")
        self.need_clip = need_clip

    def _wanted(self, param: Parameter) -> bool:
        return self.need_clip is None or self.need_clip(param)

    @abstractmethod
    def __call__(self, params_grads: ParamsGrads) -> ParamsGrads:
        """The same parameters with their clipped gradients, in the same order."""


class GradientClipByValue(GradientClipBase):
    """Each element limited to [min, max]; min is -max if None."""

    def __init__(
        self, max: float, min: float | None = None, need_clip: Callable[[Parameter], bool] | None = None
    ) -> None:
        super().__init__(need_clip)
        if min is None and not max > 0.0:
            raise invalid(f"GradientClipByValue: max is {max}", "give a positive limit, or min as well")
        self.max = float(max)
        self.min = -self.max if min is None else float(min)

    def __call__(self, params_grads: ParamsGrads) -> ParamsGrads:
        return [(p, clip(g, self.min, self.max) if self._wanted(p) else g) for p, g in params_grads]

    def __str__(self) -> str:
        return f"Gradient Clip By Value, min = {self.min:f}, max={self.max:f}"


class GradientClipByNorm(GradientClipBase):
    """Each gradient scaled so that its own L2 norm is at most ``clip_norm``."""

    def __init__(self, clip_norm: float, need_clip: Callable[[Parameter], bool] | None = None) -> None:
        super().__init__(need_clip)
        self.clip_norm = float(clip_norm)

    def __call__(self, params_grads: ParamsGrads) -> ParamsGrads:
        return [(p, clip_by_norm(g, self.clip_norm) if self._wanted(p) else g) for p, g in params_grads]

    def __str__(self) -> str:
        return f"Gradient Clip By Norm, clip_norm={self.clip_norm:f}"


class GradientClipByGlobalNorm(GradientClipBase):
    """All gradients scaled by one factor so that their joint L2 norm is at most ``clip_norm``."""

    def __init__(
        self,
        clip_norm: float,
        group_name: str = "default_group",
        need_clip: Callable[[Parameter], bool] | None = None,
    ) -> None:
        super().__init__(need_clip)
        self.clip_norm = float(clip_norm)
        self.group_name = group_name

    def __call__(self, params_grads: ParamsGrads) -> ParamsGrads:
        members = [g for p, g in params_grads if self._wanted(p)]
        if not members:
            return params_grads
        factor = self.factor(members)
        return [(p, elementwise_mul(g, factor) if self._wanted(p) else g) for p, g in params_grads]

    def factor(self, grads: Sequence[Variable]) -> Variable:
        """By what ``grads`` are multiplied so that their joint norm is at most ``clip_norm``."""
        norm = sqrt(sums([reduce_sum(square(g)) for g in grads]))
        limit = fill_constant([1], norm.dtype, self.clip_norm)
        return elementwise_div(limit, elementwise_max(limit, norm))

    def __str__(self) -> str:
        return f"Gradient Clip By GlobalNorm, global_norm={self.clip_norm:f}"


def set_gradient_clip(
    clip: GradientClipBase, param_list: Sequence[Parameter | str] | None = None, program: Program | None = None
) -> None:
    """Give parameters (all of the program's if None) a clip; an optimizer's own ``grad_clip`` takes its place."""
    if not isinstance(clip, GradientClipBase):
        raise wrong_type(
            f"set_gradient_clip: clip is {type(clip).__name__}", "give a GradientClipByValue, ByNorm or ByGlobalNorm"
        )
    program = program or default_main_program()
    params = program.all_parameters() if param_list is None else param_list
    if program.is_eager and not params:
        raise invalid(
            "set_gradient_clip: there are no parameters yet",
            "make the layers first, or give the optimizer grad_clip=",
        )
    for item in params:
        param = program.global_block().var(item) if isinstance(item, str) else item
        if not isinstance(param, Parameter):
            raise wrong_type(f"set_gradient_clip: {item!r} is not a parameter", "give parameters or their names")
        param.gradient_clip = copy.copy(clip)
    program.edited()


def append_gradient_clip_ops(params_grads: ParamsGrads) -> ParamsGrads:
    """Clip gradients as `set_gradient_clip` asked, and as Paddle 1.8.5 then does it.

    One parameter without a clip, and nothing is clipped; where clips differ, that of the last parameter is everybody's,
    with the norm of its own group; and ``need_clip`` is not asked. Warnings say so.
    """
    clips = [(param, param.gradient_clip) for param, _ in params_grads]
    given = [clipping for _, clipping in clips if clipping is not None]
    without = [param.name for param, clipping in clips if clipping is None]
    if not given:
        return params_grads
    if without:
        warn(
            f"set_gradient_clip: {without[0]} has no clip, and so nothing is clipped, as in Paddle 1.8.5; "
            "give the optimizer grad_clip= with need_clip= to choose parameters"
        )
        return params_grads
    last = given[-1]
    if any(str(clipping) != str(last) or _group(clipping) != _group(last) for clipping in given):
        warn(
            f"set_gradient_clip: the clips of parameters differ, and that of {clips[-1][0].name} is used for all, "
            f"as in Paddle 1.8.5 ({last})"
        )
    if not isinstance(last, GradientClipByGlobalNorm):
        everywhere = copy.copy(last)
        everywhere.need_clip = None
        return everywhere(params_grads)
    members = [
        grad
        for (_, clipping), (_, grad) in zip(clips, params_grads, strict=True)
        if isinstance(clipping, GradientClipByGlobalNorm) and clipping.group_name == last.group_name
    ]
    norms = {clipping.clip_norm for clipping in given if _group(clipping) == _group(last)}  # type: ignore[union-attr]
    if len(norms) > 1:
        one, other = sorted(norms)[:2]
        raise invalid(
            f"group {last.group_name} has clip_norm {other} and {one}",
            "all parameters of one group must have one clip_norm",
        )
    factor = last.factor(members)
    return [(param, elementwise_mul(grad, factor)) for param, grad in params_grads]


def _group(clipping: GradientClipBase) -> str | None:
    return clipping.group_name if isinstance(clipping, GradientClipByGlobalNorm) else None
