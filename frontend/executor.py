"""Executor: compiles a program when it is first run and runs it on the values of a scope."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..compiler.codegen.target import check_target
from ..compiler.errors import FluidcError, LoweringError, TargetError, VerifyError
from .answers import answer
from .bound_step import run_step
from .compiled_code import Types, state_written
from .compiled_program import CompiledProgram
from .dataloader.program_reads import joined, with_batches
from .dataset import DatasetBase
from .dataset_runs import FetchHandler, run_from_dataset
from .errors import invalid, wrong_type
from .feeds import feed_arrays
from .fetches import Fetch, check_dense, fetch_names, tensor_of
from .framework import Program, default_main_program
from .host.call import Environment
from .host.plan import Plan
from .host.runner import Runner
from .host.segment import Segment, fed
from .host.values import Value
from .hosted import Plans
from .lod import LENGTHS
from .lots import Lot, arrays_of
from .places import CPUPlace, CUDAPlace, Place
from .profiler import RUN, timed
from .scope import Scope, global_scope
from .source import user_location
from .step_cache import StepCache
from .steps import PrivateSteps
from .targets import default_target
from .variable import Variable
from .watch import Call, announce

Array: TypeAlias = NDArray[Any]


def _fetch_var(name: str | Variable, scope: Scope | None = None, return_numpy: bool = True) -> Any:
    """A variable's value in a scope, the global one if None: an array, or the tensor that the scope holds.

    Raises:
        ProgramError: The scope has no such value.
    """
    name = name.name if isinstance(name, Variable) else name
    held = (scope or global_scope()).find_var(name)
    if held is None:
        raise invalid(f"the scope has no variable {name!r}", "run what makes it; only persistable variables stay")
    tensor = held.get_tensor()
    return answer(np.array(tensor)) if return_numpy else tensor


class Executor:
    """Runs programs.

    Args:
        place: ``CPUPlace()`` (also when None) runs on this machine's processor, ``CUDAPlace(i)`` on GPU i, where what
            programs share stays from run to run; a startup program runs on the processor.
        target: ``cpu`` compiles with TVM; ``onnx`` runs by ONNX Runtime; ``reference`` runs every op in numpy, slow and
            exact; ``cuda`` is the one of CUDAPlace, and without such a place runs on GPU 0.

    A program is compiled once per version, feed types and fetches; what it reads and writes lives in the scope,
    so a training program, its test clone and others share variables by name.
    """

    def __init__(self, place: Place | None = None, target: str | None = None) -> None:
        self.place = place or CPUPlace()
        self.target = target or ("cuda" if isinstance(place, CUDAPlace) else default_target())
        if isinstance(place, CUDAPlace) and self.target != "cuda":
            raise invalid(
                f"Executor: {place} is a GPU, and the target {self.target!r} does not run there",
                "use CPUPlace(), or leave target out",
            )
        try:
            check_target(self.target)
        except TargetError as error:
            raise TargetError(error.what, user_location().place, error.hint) from None
        self._steps = StepCache(self.place)
        self._counters: WeakKeyDictionary[Scope, dict[int, int]] = WeakKeyDictionary()
        self._plans = Plans()

    def close(self) -> None:
        """Forget everything compiled; the executor can be used again."""
        self._steps.clear()
        self._plans.clear()

    def run(
        self,
        program: Program | CompiledProgram | None = None,
        feed: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
        fetch_list: Sequence[Fetch] | Fetch | None = None,
        feed_var_name: str = "feed",
        fetch_var_name: str = "fetch",
        scope: Scope | None = None,
        return_numpy: bool = True,
        use_program_cache: bool = False,
        return_merged: bool = True,
        use_prune: bool = False,
    ) -> list[Any]:
        """Run every op of a program once.

        Args:
            program: The default main program if None; a CompiledProgram may name a target of its own.
            feed: Data variable name to array (or LoDTensor), or a lot of `fluid.privacy.poisson_batches`; a list of
                such dicts, one for each device of a data parallel program, is joined into one batch. What the
                program's own readers give (`fluid.io.DataLoader.from_generator(iterable=False)`) is not fed.
            fetch_list: Variables or names whose values at the end of the step are returned.
            scope: Where persistable variables live; the global scope if None.
            return_numpy: False returns LoDTensors, which results with sequences need.
            return_merged: False gives a list of one array for each fetch of a data parallel program, as fluid has it.
            feed_var_name, fetch_var_name, use_program_cache, use_prune: fluid's; without effect.

        Returns:
            One array per fetch, a copy; ``[]`` without a fetch_list. What a private program returns of its examples,
            such as the loss, is exact and NOT PRIVATE.

        Raises:
            FluidcError: A feed or fetch that does not fit, a variable without a value, or a program that cannot
                be compiled.  The scope is then as it was.
            EOFException: A reader of the program has no more data; the scope is as it was.
        """
        del feed_var_name, fetch_var_name, use_program_cache, use_prune
        program = default_main_program() if program is None else program
        target, devices = self.target, None
        if isinstance(program, CompiledProgram):
            program.check_place(self.place)
            target, devices = program.target or target, program.devices
            program = program.program
        if not isinstance(program, Program):
            raise wrong_type(f"run: the program is {type(program).__name__}", "pass a fluid.Program")
        if not program.global_block().ops and not fetch_list:
            warnings.warn("Executor.run: the program has no ops; nothing is done", stacklevel=2)
            return []
        scope = global_scope() if scope is None else scope
        wanted = fetch_names(program, fetch_list)
        fetches = tuple(dict.fromkeys(wanted))  # a step returns each once
        lot = feed if isinstance(feed, Lot) else None
        given = arrays_of(lot) if lot is not None else joined(feed, data_parallel=devices is not None)
        with timed(RUN):
            fed = with_batches(program, given)
            if fed is not given:
                lot = None  # what a reader gives was not drawn for the step
            values = self._run_once(program, fed, fetches, lot, scope, target, dense=return_numpy)
        answers = [answer(values[name]) for name in wanted]
        return answers if return_merged or devices is None else [[each] for each in answers]

    def train_from_dataset(
        self,
        program: Program | CompiledProgram | None = None,
        dataset: DatasetBase | None = None,
        scope: Scope | None = None,
        thread: int = 0,
        debug: bool = False,
        fetch_list: Sequence[Fetch] | None = None,
        fetch_info: Sequence[str] | None = None,
        print_period: int = 100,
        fetch_handler: FetchHandler | None = None,
    ) -> None:
        """Run a program once for every batch of a data set, in the order of its files.

        Args:
            program: The default main program if None.
            dataset: What `fluid.DatasetFactory` made.
            scope: Where persistable variables live; the global scope if None.
            thread, debug: fluid's: its threads train at once, each on its own files, here one step follows the other.
            fetch_list: Variables that are printed every ``print_period`` batches, after their ``fetch_info``.
            fetch_info: A text for each of fetch_list; its name if None.
            print_period: In batches.
            fetch_handler: Is given the values of its variables every ``period_secs`` seconds.

        Raises:
            FluidcError: A data set that is not complete, a line that does not fit, or what `run` raises.
        """
        del thread, debug
        run_from_dataset(self.run, program, dataset, scope, fetch_list, fetch_info, print_period, fetch_handler)

    def infer_from_dataset(
        self,
        program: Program | CompiledProgram | None = None,
        dataset: DatasetBase | None = None,
        scope: Scope | None = None,
        thread: int = 0,
        debug: bool = False,
        fetch_list: Sequence[Fetch] | None = None,
        fetch_info: Sequence[str] | None = None,
        print_period: int = 100,
        fetch_handler: FetchHandler | None = None,
    ) -> None:
        """`train_from_dataset` of a program for inference: it is run as it is, so give one that does not train."""
        del thread, debug
        run_from_dataset(self.run, program, dataset, scope, fetch_list, fetch_info, print_period, fetch_handler)

    def host_report(self, program: Program | None = None, fetch_list: Sequence[Fetch] | Fetch | None = None) -> str:
        """Which ops of a program run in numpy on the host, and why: one line each; "" where all are compiled.

        Of a program that has been run with these fetches it also tells what the compiler refused.
        """
        program = default_main_program() if program is None else program
        plan = self._plans.of(program, tuple(dict.fromkeys(fetch_names(program, fetch_list))))
        return "" if plan is None else plan.explained()

    # -- running ------------------------------------------------------------------------------------------------

    def _run_once(
        self,
        program: Program,
        feed: Mapping[str, object],
        fetches: tuple[str, ...],
        lot: Lot | None,
        scope: Scope,
        target: str,
        *,
        dense: bool,
    ) -> dict[str, Any]:
        """Run a program once; every fetch by name, an array if ``dense``, else a LoDTensor."""
        arrays = feed_arrays(program, feed)
        announce(Call(program, arrays, fetches))
        plan = self._plans.of(program, fetches)
        step = None
        if plan is None:
            try:
                step = self._steps.whole(program, arrays, fetches, scope, target)
            except (LoweringError, VerifyError) as error:
                plan = self._plans.refused(program, fetches, error)
                if plan is None:
                    raise
        if plan is not None:
            block = program.global_block()
            given = {n: Value.of(feed[n], block.vars[n]) for n in arrays if n in feed}
            results = self._run_plan(plan, program, given, fetches, scope, target, lot)
            if dense:
                check_dense([name for name in fetches if results[name].lod])
            return {name: results[name].array if dense else results[name].tensor() for name in fetches}
        assert step is not None
        if dense:
            returned = {output.name for output in step.code.compiled.module.function("step").outputs}
            check_dense([name for name in fetches if name + LENGTHS in returned])
        values = run_step(program, step, arrays, lot, scope, self._counters.setdefault(scope, {}))
        return {name: values[name] if dense else tensor_of(values, name) for name in fetches}

    def _run_plan(
        self,
        plan: Plan,
        program: Program,
        feeds: Mapping[str, Value],
        fetches: tuple[str, ...],
        scope: Scope,
        target: str,
        lot: Lot | None,
    ) -> dict[str, Value]:
        """Compiled segments and host ops in turn; after a failure the scope is as it was."""
        values = Environment(program.global_block(), scope, feeds)

        def run_segment(segment: Segment, given: dict[str, Value]) -> dict[str, Array]:
            return self._run_segment(segment, given, values, target, lot)

        def failed() -> None:
            steps = PrivateSteps.find(program)
            if steps is not None:
                steps.refused(lot)

        with values.undone_on_failure():
            Runner(values, run_segment, failed).run(plan)
            return {name: values.fetched(name) for name in fetches}

    def _run_segment(
        self, segment: Segment, given: dict[str, Value], values: Environment, target: str, lot: Lot | None
    ) -> dict[str, Array]:
        program, scope = segment.program, values.scope
        empty = any(not value.array.size for value in given.values())
        target = "reference" if empty or segment.is_plain else target
        refusals: list[FluidcError] = []
        for open_sizes in (False,) if empty else (True, False):
            feeds = fed(segment, given, open_sizes=open_sizes)
            types = Types(feeds.types, self._steps.rows(program, feeds.arrays, segment.writes) if segment.trains else 0)
            pattern = tuple(feeds.types.items())
            try:
                if pattern in segment.unfit:
                    raise segment.unfit[pattern]
                step = self._steps.step(program, types, segment.writes, scope, target, segment.stream)
                break
            except (LoweringError, VerifyError) as error:
                segment.unfit[pattern] = error
                refusals.append(error)
        else:
            raise refusals[0]
        if not segment.last:
            values.remember(
                {name: step.buffers[name] for name in state_written(step.code.compiled) & step.buffers.keys()}
            )
            values.forget(list(step.pending))
        return run_step(program, step, feeds.arrays, lot, scope, self._counters.setdefault(scope, {}))
