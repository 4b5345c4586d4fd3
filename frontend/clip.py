"""Clipping of gradients before the update."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from .errors import invalid, wrong_type
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
        squares = [reduce_sum(square(g)) for p, g in params_grads if self._wanted(p)]
        if not squares:
            return params_grads
        norm = sqrt(sums(squares))
        limit = fill_constant([1], norm.dtype, self.clip_norm)
        factor = elementwise_div(limit, elementwise_max(limit, norm))
        return [(p, elementwise_mul(g, factor) if self._wanted(p) else g) for p, g in params_grads]

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
    """Clip each gradient as `set_gradient_clip` asked; global norms are taken over each group together."""
    result: dict[str, Variable] = {p.name: g for p, g in params_grads}
    groups: dict[str, tuple[GradientClipBase, ParamsGrads]] = {}
    for i, (param, grad) in enumerate(params_grads):
        clipping = param.gradient_clip
        if clipping is None:
            continue
        key = f"group {clipping.group_name}" if isinstance(clipping, GradientClipByGlobalNorm) else f"own {i}"
        first, members = groups.setdefault(key, (clipping, []))
        if (
            isinstance(first, GradientClipByGlobalNorm)
            and isinstance(clipping, GradientClipByGlobalNorm)
            and first.clip_norm != clipping.clip_norm
        ):
            raise invalid(
                f"group {clipping.group_name} has clip_norm {first.clip_norm} and {clipping.clip_norm}",
                "all parameters of one group must have one clip_norm",
            )
        members.append((param, grad))
    for clipping, members in groups.values():
        result.update({p.name: g for p, g in clipping(members)})
    return [(p, result[p.name]) for p, _ in params_grads]
