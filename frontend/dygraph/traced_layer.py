"""`TracedLayer`: a Layer as a Program that shares the Layer's parameters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import invalid, wrong_type
from ..framework import in_dygraph_mode
from ..io import save_inference_model
from ..lod import LoDTensor
from ..scope import Scope, global_scope, scope_guard
from .base import eager_program, to_variable
from .graph import Array
from .layers import Layer
from .trace import Call, Fixed, Trace, mapped, trace
from .variable import EagerVariable

if TYPE_CHECKING:
    from ..executor import Executor


class TracedLayer:
    """A Layer as a Program; made by `trace`.

        with fluid.dygraph.guard():
            outputs, traced = fluid.dygraph.TracedLayer.trace(model, [x])
        (predicted,) = traced([array])                    # predicts
        with fluid.program_guard(traced.program, startup):
            ...                                           # append a loss and an optimizer, train it with an Executor

    The program trains the very parameters of the Layer: eager code sees their new values, and the other way round. They
    have values, so no startup program is needed for them.

    Attributes:
        program: What was recorded; layers may be appended.
        feed_names: Its data variables, in the order of the inputs: ``feed_0``, ...
        fetch_names: Its results, in the order of the outputs.
        scope: Where a call runs it.
    """

    def __init__(self, traced: Trace) -> None:
        self.program = traced.program
        self.feed_names = [v.name for v in traced.feeds]
        self.fetch_names = [v.name for v in traced.fetches]
        self.scope = Scope()
        self._predicting = traced.program.clone()
        self._executor: Executor | None = None
        for var in traced.program.list_vars():
            if var.memory is not None:
                self.scope.lend(var.name, var.memory)
                # So that whoever looks for values in the scope at hand finds them, unless it holds others.
                tensor = global_scope().var(var.name).get_tensor()
                if tensor.memory is not None or not tensor.is_initialized:
                    global_scope().lend(var.name, var.memory)

    @staticmethod
    def trace(layer: Layer, inputs: Any, *, fixed: Fixed = False) -> tuple[Any, TracedLayer]:
        """Call ``layer(*inputs)``, and record it as a Program.

        ``forward`` runs three times: once on the values, and twice on Variables without values, for two numbers of
        rows. Python's ``if``, ``for`` and ``while`` are taken as they go then; values cannot be looked at. Layers
        compute as in training or in evaluation as they are set now (`Layer.train`, `Layer.eval`); a clone for test of
        the program computes as in evaluation. What the Layer holds beside parameters, and what it computes in numpy,
        are constants of the program.

        Args:
            layer: What is traced.
            inputs: A Variable or an array, or a list of them; lists may be nested.
            fixed: The first axis of every input is the batch, of any extent in the program. True fixes it to the
                inputs' extents; numbers of inputs name those whose first axis is no batch.

        Returns:
            The value of the call, as dygraph gives it, and the TracedLayer.

        Raises:
            ProgramError: Outside dygraph; or what is recorded depends on the number of rows in a way that cannot be
                left open.
            ArgumentTypeError: The code looks at a value.
        """
        if not in_dygraph_mode():
            raise invalid("TracedLayer.trace is called outside dygraph", "write: with fluid.dygraph.guard():")
        if not isinstance(layer, Layer):
            raise wrong_type(
                f"TracedLayer.trace: layer is {type(layer).__name__}",
                "give a fluid.dygraph.Layer; for a function there is ProgramTranslator().get_program(function, ...)",
            )
        args = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
        args = mapped(args, lambda v: to_variable(v) if isinstance(v, np.ndarray) else v)
        outputs = layer(*args)
        what = f"TracedLayer.trace({type(layer).__name__})"
        traced = trace(Call(layer, args, {}), what, fixed)
        made = traced.startup.all_parameters()
        if made:
            op = traced.startup.global_block().ops[0]
            raise invalid(
                f"{what}: {op.loc.layer} makes a new parameter {made[0].name} whenever it is called, at {op.loc.place}",
                "create a layer of fluid.dygraph in __init__ and call it in forward",
            )
        return outputs, TracedLayer(traced)

    def set_strategy(self, build_strategy: object = None, exec_strategy: object = None) -> None:
        """Paddle's, without effect: the program is compiled as one function in any case."""
        del build_strategy, exec_strategy

    def __call__(self, inputs: Sequence[Any]) -> list[Array]:
        """The outputs for other inputs, computed by the program as it was traced.

        Args:
            inputs: As many Variables or arrays as were traced, one list.
        """
        if not isinstance(inputs, list | tuple):
            raise wrong_type(f"TracedLayer: the inputs are {type(inputs).__name__}", "give a list, one for each input")
        if len(inputs) != len(self.feed_names):
            raise invalid(
                f"TracedLayer: {len(inputs)} inputs are given, {len(self.feed_names)} were traced",
                "give as many, in one flat list",
            )
        if self._executor is None:
            from ..executor import Executor  # the compiler takes time to load

            self._executor = Executor(target=eager_program().recorder.target)
        feed = {name: _array(value) for name, value in zip(self.feed_names, inputs, strict=True)}
        return self._executor.run(self._predicting, feed=feed, fetch_list=self.fetch_names, scope=self.scope)

    def save_inference_model(
        self,
        dirname: str | os.PathLike[str],
        feed: Sequence[int] | None = None,
        fetch: Sequence[int] | None = None,
    ) -> None:
        """Write the program and its parameters, as `fluid.io.save_inference_model` does.

        Args:
            dirname: The folder.
            feed: Numbers of the inputs that the saved model has; all if None.
            fetch: Numbers of the outputs, likewise.
        """
        with scope_guard(self.scope):
            save_inference_model(
                dirname,
                chosen("feed", self.feed_names, feed),
                chosen("fetch", self.fetch_names, fetch),
                None,
                self._predicting,
            )


def chosen(argument: str, names: Sequence[str], numbers: Sequence[int] | None) -> list[str]:
    """The names of these numbers, all if None.  Raises ProgramError for a number that there is not."""
    if numbers is None:
        return list(names)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(names):
            raise invalid(
                f"save_inference_model: {argument} holds {number!r}", f"give numbers from 0 to {len(names) - 1}"
            )
    return [names[number] for number in numbers]


def _array(value: object) -> Array:
    if isinstance(value, EagerVariable):
        return value.numpy()
    return np.asarray(value.array if isinstance(value, LoDTensor) else value)
