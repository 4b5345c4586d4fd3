"""Executor: compiles a program when it is first run and runs it on the values of a scope."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

from ..compiler.codegen.target import BuildOptions, check_target
from ..compiler.driver import Compiled, Source, compile_source
from ..compiler.errors import FluidcError, LoweringError, TargetError, VerifyError
from ..compiler.ir.types import DType, TensorType
from ..compiler.ops.grad import Backward
from ..compiler.ops.state import Read, Write
from ..runtime.engine import Buffer, Engine, aligned_zeros
from ..runtime.errors import DataError, PrivacyWarning
from ..runtime.keystream import Key, seeded_key
from ..runtime.stepper import Stepper
from .answers import answer
from .compiled_program import CompiledProgram
from .dataloader.program_reads import joined, with_batches
from .dataset import DatasetBase
from .dataset_runs import FetchHandler, run_from_dataset
from .errors import SequencesError, invalid, wrong_type
from .feed_types import feed_type
from .feeds import feed_arrays
from .framework import Program, default_main_program
from .host.call import Environment
from .host.plan import Plan
from .host.runner import Runner
from .host.segment import Segment, fed
from .host.values import Value
from .hosted import Plans
from .lod import LENGTHS, OUTER, LoDTensor
from .lots import Lot, arrays_of
from .lower import lower
from .memory import Memory
from .mistakes import check_fed, no_value, read_by
from .open_sizes import Choice, Sizes
from .places import CPUPlace, CUDAPlace, Place
from .profiler import RUN, timed
from .scope import Scope, global_scope
from .source import user_location
from .steps import PrivateSteps
from .targets import default_target
from .token_symbols import token_symbols
from .variable import Variable
from .watch import Call, announce

Array: TypeAlias = NDArray[Any]
Fetch: TypeAlias = "str | Variable"
Kept = TypeVar("Kept")

CACHED_STEPS = 64


@dataclass(frozen=True)
class _Code:
    """A compiled program and the engine that runs it."""

    compiled: Compiled
    engine: Engine


@dataclass(frozen=True)
class _Types:
    """What a step is compiled for.

    Attributes:
        types: Of the feeds, by parameter name.
        rows: The size of the batch; 0 for any.
    """

    types: Mapping[str, TensorType]
    rows: int


@dataclass
class _Step:
    """Compiled code on the buffers of one scope.

    Attributes:
        code: The code.
        stepper: It, bound to the buffers.
        key: Of the model's random numbers.
        buffers: What is shared with the scope.
        pending: Those that the program sets before anybody reads them: the scope gets them after the first run
            that succeeds.
        stated: Those that every run sets to an array of the program, and that array.
        shared: Memory of dygraph among the buffers that the program only reads.
        overwritten: Memory of dygraph that it writes.
    """

    code: _Code
    stepper: Stepper
    key: Key
    buffers: dict[str, Buffer]
    pending: dict[str, Buffer]
    stated: dict[str, Array]
    shared: list[Memory]
    overwritten: list[Memory]


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
        self._codes: OrderedDict[object, _Code] = OrderedDict()
        self._steps: OrderedDict[object, _Step] = OrderedDict()
        self._sizes: dict[object, Sizes] = {}
        self._counters: WeakKeyDictionary[Scope, dict[int, int]] = WeakKeyDictionary()
        self._plans = Plans()

    def close(self) -> None:
        """Forget everything compiled; the executor can be used again."""
        self._codes.clear()
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
        wanted = _fetch_names(program, fetch_list)
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
        plan = self._plans.of(program, tuple(dict.fromkeys(_fetch_names(program, fetch_list))))
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
                step = self._whole(program, arrays, fetches, scope, target)
            except (LoweringError, VerifyError) as error:
                plan = self._plans.refused(program, fetches, error)
                if plan is None:
                    raise
        if plan is not None:
            block = program.global_block()
            given = {n: Value.of(feed[n], block.vars[n]) for n in arrays if n in feed}
            results = self._run_plan(plan, program, given, fetches, scope, target, lot)
            if dense:
                _check_dense([name for name in fetches if results[name].lod])
            return {name: results[name].array if dense else results[name].tensor() for name in fetches}
        assert step is not None
        if dense:
            returned = {output.name for output in step.code.compiled.module.function("step").outputs}
            _check_dense([name for name in fetches if name + LENGTHS in returned])
        values = self._run_step(program, step, arrays, lot, scope)
        return {name: values[name] if dense else _tensor(values, name) for name in fetches}

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
            types = _Types(feeds.types, self._batch(program, feeds.arrays, segment.writes) if segment.trains else 0)
            pattern = tuple(feeds.types.items())
            try:
                if pattern in segment.unfit:
                    raise segment.unfit[pattern]
                step = self._step(program, types, segment.writes, scope, target, segment.stream)
                break
            except (LoweringError, VerifyError) as error:
                segment.unfit[pattern] = error
                refusals.append(error)
        else:
            raise refusals[0]
        if not segment.last:
            values.remember({name: step.buffers[name] for name in _written(step.code.compiled) & step.buffers.keys()})
            values.forget(list(step.pending))
        return self._run_step(program, step, feeds.arrays, lot, scope)

    def _run_step(
        self, program: Program, step: _Step, arrays: Mapping[str, Array], lot: Lot | None, scope: Scope
    ) -> dict[str, Array]:
        """One step, after which the scope has what the program sets before anybody reads it."""
        try:
            values = self._run(program, step, arrays, lot, scope)
        except DataError as error:
            raise read_by(program, error) from None
        for name, buffer in step.pending.items():
            scope.var(name).get_tensor().adopt(buffer)
        step.pending = {}
        scope.ran.add(program.uid)
        return values

    def _run(
        self, program: Program, step: _Step, feeds: Mapping[str, Array], lot: Lot | None, scope: Scope
    ) -> dict[str, Array]:
        """One step; after a failure the stated variables are what they were."""
        privacy = step.code.compiled.manifest.privacy
        # Steps for other feeds or fetches draw from the same stream: no two runs may share a dropout mask.
        counters = self._counters.setdefault(scope, {})
        step.stepper.seed(step.key, counters.get(program.uid, 0))
        for memory in step.shared:
            memory.settle()
        for memory in step.overwritten:
            memory.overwrite()
        before = {name: step.buffers[name].array.copy() for name in step.stated}
        for name, array in step.stated.items():
            step.buffers[name].put(array)
        try:
            with timed("step"):
                if privacy is None:
                    return step.stepper.run("step", feeds)
                return PrivateSteps.of(program, privacy).run(step.stepper, feeds, lot)
        except BaseException:  # an interrupt too
            for name, array in before.items():
                step.buffers[name].put(array)
            raise
        finally:
            counters[program.uid] = step.stepper.rng_counter

    # -- compiling ----------------------------------------------------------------------------------------------

    def _whole(
        self, program: Program, arrays: Mapping[str, Array], fetches: tuple[str, ...], scope: Scope, target: str
    ) -> _Step:
        """The step of a whole program; sizes of the arrays with which it cannot be compiled if they are open are not.

        Raises LoweringError and VerifyError for a program that cannot be compiled as a whole.
        """
        rows = _rows(program, arrays)
        sizes = self._sizes_of(program, fetches)
        choice = sizes.choose(rows, arrays)
        try:
            return self._step(program, _types(program, arrays, rows, choice), fetches, scope, target)
        except (LoweringError, VerifyError):
            if choice.pattern is None:
                raise
        choice = sizes.refuse(choice, rows)
        return self._step(program, _types(program, arrays, rows, choice), fetches, scope, target)

    def _step(
        self,
        program: Program,
        given: _Types,
        fetches: tuple[str, ...],
        scope: Scope,
        target: str,
        stream: str = "model",
    ) -> _Step:
        types, rows = given.types, given.rows
        key = (program.uid, program.version, tuple(sorted(types.items(), key=itemgetter(0))), fetches, rows, target)
        step = self._steps.get((key, id(scope)))
        if step is None or not _buffers_hold(step, scope):
            code = self._codes.get(key)
            if code is None:
                check_fed(program, types)
                with timed("compile"):
                    compiled = self._compile(program, types, fetches, rows, target)
                    code = _Code(compiled, self._engine(compiled))
                _keep(self._codes, key, code)
            step = _bound(code, program, scope, stream)
        _keep(self._steps, (key, id(scope)), step)
        return step

    def _engine(self, compiled: Compiled) -> Engine:
        """An engine that runs the code where this executor is told to."""
        built = compiled.built
        if not isinstance(self.place, CUDAPlace) or built.spec.kind != "cuda":
            return built.engine()
        from ..runtime.cuda.cudart import NoDeviceError  # most programs never run on a GPU
        from ..runtime.cuda.engine import CudaEngine

        try:
            return CudaEngine(built.members()["module.so"], built.spec, self.place.device_id)
        except NoDeviceError as error:
            hint = "use fluid.CPUPlace(); fluid.is_compiled_with_cuda() tells whether a GPU can be used"
            raise NoDeviceError(error.what, str(self.place), hint) from None

    def _batch(self, program: Program, feeds: Mapping[str, Array], fetches: tuple[str, ...]) -> int:
        """Rows to compile for: the size at hand for the first two sizes of a program, then 0 (any)."""
        return self._sizes_of(program, fetches).choose(_rows(program, feeds), {}).rows

    def _sizes_of(self, program: Program, fetches: tuple[str, ...]) -> Sizes:
        key = (program.uid, program.version, fetches)
        found = self._sizes.get(key)
        if found is None:
            found = self._sizes[key] = Sizes(program)
        return found

    def _compile(
        self, program: Program, types: Mapping[str, TensorType], fetches: tuple[str, ...], rows: int, target: str
    ) -> Compiled:
        source = lower(program, fetches=fetches, feed_types=types)
        for text in source.plan.warnings if source.plan is not None else ():
            warnings.warn(text, PrivacyWarning, stacklevel=4)
        # A startup program runs once: numpy is done before a compiler would start.
        target = target if _runs_often(source) else "reference"
        return compile_source(source, target=target, batch=rows, options=BuildOptions())


def _keep(cache: OrderedDict[object, Kept], key: object, value: Kept) -> None:
    """Put ``value`` in as the latest; the one unused longest may have to go."""
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > CACHED_STEPS:
        cache.popitem(last=False)


def _bound(code: _Code, program: Program, scope: Scope, stream: str) -> _Step:
    """The code on the buffers of a scope, with random numbers of the stream of that name.

    Raises ProgramError for a variable that has no value.
    """
    buffers: dict[str, Buffer] = {}
    own: dict[str, Buffer] = {}
    pending: dict[str, Buffer] = {}
    initial = code.compiled.source.initial
    written = _written(code.compiled)
    stated = {name: initial[name] for name in initial if name in written}
    needs_no_value = written - _read(code.compiled) | stated.keys()
    shared: dict[str, Memory] = {}
    variables = program.global_block().vars
    for spec in code.compiled.manifest.state:
        dtype = DType(spec.dtype).numpy
        declared = variables.get(spec.name)
        if declared is not None and declared.memory is not None:
            scope.lend(spec.name, declared.memory)
        variable = scope.find_var(spec.name)
        if spec.kind == "lot":
            own[spec.name] = Buffer(aligned_zeros(spec.shape, dtype))
        elif spec.name in initial and spec.name not in stated:
            # A constant of this program alone: another one may well have given its own the same name.
            own[spec.name] = Buffer(aligned_zeros(spec.shape, dtype))
            own[spec.name].put(initial[spec.name])
        elif variable is not None and variable.get_tensor().is_initialized:
            buffers[spec.name] = variable.get_tensor().buffer
            memory = variable.get_tensor().memory
            if memory is not None:
                shared[spec.name] = memory
        elif spec.name in needs_no_value:
            buffers[spec.name] = pending[spec.name] = Buffer(aligned_zeros(spec.shape, dtype))
        else:
            raise no_value(program, scope, spec.name)
    stepper = Stepper(code.compiled.manifest, code.engine, buffers | own)
    seed = program.random_seed
    key = seeded_key(seed, stream) if seed else os.urandom(32)
    kept = [memory for name, memory in shared.items() if name not in written]
    overwritten = [memory for name, memory in shared.items() if name in written]
    return _Step(code, stepper, key, buffers, pending, stated, kept, overwritten)


def _buffers_hold(step: _Step, scope: Scope) -> bool:
    """Whether the scope still has the buffers that the step was bound to."""
    for name, buffer in step.buffers.items():
        variable = scope.find_var(name)
        held = variable.get_tensor().buffer if variable and variable.get_tensor().is_initialized else None
        if held is not (None if name in step.pending else buffer):
            return False
    return True


def _fetch_names(program: Program, fetch_list: Sequence[Fetch] | Fetch | None) -> tuple[str, ...]:
    if fetch_list is None:
        return ()
    if isinstance(fetch_list, str | Variable):
        fetch_list = [fetch_list]
    names: list[str] = []
    for item in fetch_list:
        if not isinstance(item, str | Variable):
            raise wrong_type(f"fetch_list holds {item!r}", "give Variables or their names")
        name = item if isinstance(item, str) else item.name
        program.global_block().var(name)  # raises for a name the program does not have
        names.append(name)
    return tuple(names)


def _rows(program: Program, feeds: Mapping[str, Array]) -> int:
    """The size of the batch that is fed; 0 where feeds have several, or none."""
    rows = {len(array) for name, array in feeds.items() if array.ndim and _is_batched(program, name)}
    return next(iter(rows)) if len(rows) == 1 else 0


def _types(program: Program, feeds: Mapping[str, Array], rows: int, choice: Choice) -> _Types:
    types = {name: feed_type(program, name, array, rows or None, choice.symbols) for name, array in feeds.items()}
    return _Types(types, choice.rows)


def _is_batched(program: Program, name: str) -> bool:
    variable = program.global_block().vars.get(name)
    return (
        variable is not None
        and bool(variable.shape)
        and variable.shape[0] == -1
        and not variable.lod_level
        and name not in token_symbols(program)
    )


def _runs_often(source: Source) -> bool:
    """Whether a program is fed or trains; what does neither is a startup program, or as cheap as one."""
    fed = any(param.role == "feed" for function in source.module.functions for param in function.params)
    return fed or any(isinstance(op, Backward) for function in source.module.functions for op in function.ops)


def _read(compiled: Compiled) -> set[str]:
    """State that the program reads."""
    return {str(op.state) for op in compiled.module.function("step").ops if isinstance(op, Read)}


def _written(compiled: Compiled) -> set[str]:
    """State that the program sets, be it to an array: such a Write of what was read may be gone when compiled."""
    return {str(op.state) for op in compiled.source.module.function("step").ops if isinstance(op, Write)}


def _check_dense(divided: Sequence[str]) -> None:
    """Raise SequencesError where a fetch is divided into sequences, which an array cannot say."""
    for name in divided:
        raise SequencesError(
            f"run: the result {name!r} holds sequences, and an array does not say where each of them ends",
            where=user_location().place,
            hint="give return_numpy=False: it returns LoDTensors, with recursive_sequence_lengths()",
        )


def _tensor(values: Mapping[str, Array], name: str) -> LoDTensor:
    tensor = LoDTensor()
    tensor.set(values[name])
    if name + LENGTHS in values:
        levels = [values[name + suffix].tolist() for suffix in (OUTER, LENGTHS) if name + suffix in values]
        tensor.set_recursive_sequence_lengths(levels)
    return tensor
