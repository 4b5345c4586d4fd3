"""fluid.CompiledProgram: a program with a word on how to compile it."""

from __future__ import annotations

from collections.abc import Sequence

from ..compiler.codegen.target import check_target
from ..compiler.errors import TargetError
from .dataloader.batches import places_of
from .errors import invalid, unsupported, wrong_type
from .framework import Program
from .places import CUDAPlace, Place
from .source import user_location
from .strategies import BuildStrategy, ExecutionStrategy, GradientScaleStrategy


class CompiledProgram:
    """A program that `Executor.run` compiles for a target of its own.

    Args:
        program_or_graph: What is run: a Program.
        build_strategy: Hints; see `fluid.BuildStrategy`.

    Attributes:
        program: What is run.
        target: Where; None: the executor's target.
        devices: How many devices fluid would split a batch for; None if the program is not data parallel. It runs on
            one device in any case, and a batch is not split.
    """

    def __init__(self, program_or_graph: Program, build_strategy: BuildStrategy | None = None) -> None:
        if not isinstance(program_or_graph, Program):
            raise wrong_type(
                f"CompiledProgram: the program is {type(program_or_graph).__name__}", "pass a fluid.Program"
            )
        self.program = program_or_graph
        self.target: str | None = None
        self.devices: int | None = None
        self._build_strategy = _checked(build_strategy)
        self._places: list[Place] = []

    def with_target(self, target: str) -> CompiledProgram:
        """Compile for ``target`` (``cpu``, ``onnx``, ``reference``) whatever the executor's is; returns itself.

        Raises TargetError for a target that there is not.
        """
        try:
            check_target(target)
        except TargetError as error:
            raise TargetError(error.what, user_location().place, error.hint) from None
        self.target = target
        return self

    def with_data_parallel(
        self,
        loss_name: str | None = None,
        build_strategy: BuildStrategy | None = None,
        exec_strategy: ExecutionStrategy | None = None,
        share_vars_from: CompiledProgram | None = None,
        places: Place | Sequence[Place] | None = None,
    ) -> CompiledProgram:
        """Train as fluid does on several devices, on one: what is fed is the whole batch; returns itself.

        With a mean as loss the gradients are those of fluid on any number of devices. A fetched loss is one number,
        not one for each device.

        Args:
            loss_name: The name of the loss; needed if the program trains.
            build_strategy: Takes the place of the constructor's.
            exec_strategy: See `fluid.ExecutionStrategy`.
            share_vars_from: A data parallel program; variables are shared by name in the scope anyway.
            places: Of the executor's kind.

        Raises:
            ProgramError: It was called before, the program trains and there is no loss_name, or what
                share_vars_from or places hold does not fit.
            UnsupportedError: Several trainers, or a gradient of the loss that is fed.
        """
        if self.devices is not None:
            raise invalid("with_data_parallel was called before on this CompiledProgram", "make a new CompiledProgram")
        trains = any(op.type == "backward" for op in self.program.global_block().ops)
        if trains and loss_name is None:
            raise invalid("with_data_parallel: the program trains, and loss_name is None", "give loss_name=loss.name")
        if loss_name is not None:
            self.program.global_block().var(loss_name if isinstance(loss_name, str) else loss_name.name)
        if build_strategy is not None:
            self._build_strategy = _checked(build_strategy)
        if exec_strategy is not None and not isinstance(exec_strategy, ExecutionStrategy):
            raise wrong_type(
                f"with_data_parallel: exec_strategy is {type(exec_strategy).__name__}",
                "give a fluid.ExecutionStrategy()",
            )
        if share_vars_from is not None and (
            not isinstance(share_vars_from, CompiledProgram) or share_vars_from.devices is None
        ):
            raise invalid(
                "with_data_parallel: share_vars_from is not a data parallel program",
                "give a CompiledProgram on which with_data_parallel was called, or None",
            )
        self._places = [] if places is None else places_of("with_data_parallel", places)
        self.devices = max(1, len(self._places))
        return self

    def check_place(self, place: Place) -> None:
        """Refuse places of another kind than the executor's."""
        for each in self._places:
            if type(each) is not type(place):
                raise invalid(
                    f"with_data_parallel: places holds {each}, and the Executor runs on {place}",
                    f"give {'fluid.cuda_places()' if isinstance(place, CUDAPlace) else 'fluid.cpu_places()'}, "
                    "or leave places out",
                )


def _checked(strategy: BuildStrategy | None) -> BuildStrategy | None:
    """Refuse what is no hint but asks for another computation."""
    if strategy is None:
        return None
    if not isinstance(strategy, BuildStrategy):
        raise wrong_type(
            f"CompiledProgram: build_strategy is {type(strategy).__name__}", "give a fluid.BuildStrategy()"
        )
    if strategy.num_trainers > 1:
        raise unsupported(
            f"BuildStrategy.num_trainers is {strategy.num_trainers}: there is one trainer", "leave it at 1"
        )
    if strategy.gradient_scale_strategy is GradientScaleStrategy.Customized:
        raise unsupported(
            "GradientScaleStrategy.Customized: the gradient of the loss would have to be fed",
            "scale the loss, or use fluid.gradients(loss, parameters, target_gradients=...)",
        )
    return strategy
