"""Programs trained on the emulated device by `CudaEngine`: run in a `cuda_worker.Worker`."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cuda_jobs import tvm_for_device
from cuda_worker import device
from private_runs import MASTER, classifier, dpsgd

import fluidc.frontend as fluid
from fluidc.compiler.codegen import target
from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.reference import ReferenceEngine
from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.driver import Compiled, compile_source
from fluidc.compiler.ir.core import Module
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.cuda.engine import CudaEngine
from fluidc.runtime.engine import Array, Engine
from fluidc.runtime.errors import EngineError
from fluidc.runtime.kernels import KernelTable
from fluidc.runtime.manifest import TargetSpec
from fluidc.runtime.session import Session

ROWS = 12
STEPS = 6
L: Any = fluid.layers


class Library:
    """A module compiled for the emulated device."""

    def __init__(self, module: Module) -> None:
        tvm_for_device()
        from fluidc.compiler.codegen.tvm.cuda.arch import Options
        from fluidc.compiler.codegen.tvm.cuda.build import compile_module

        cpu = host_cpu()
        made = compile_module(module, Options(cpu, ("sm_90",)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "module.so"
            made.executable.export_library(str(path))
            self._code = path.read_bytes()
        self.spec = TargetSpec("cuda", cpu.triple, cpu.name, cpu.features, 0, ("sm_90",))
        self.kernels: KernelTable | None = None

    def engine(self) -> CudaEngine:
        return CudaEngine(self._code, self.spec)

    def members(self) -> Mapping[str, bytes]:
        return {"module.so": self._code}


@contextmanager
def cuda_target() -> Iterator[None]:
    """Have the compiler compile for the emulated device, a program once only."""
    kept: dict[str, Library] = {}

    def build(module: Module, options: BuildOptions) -> Library:
        from fluidc.compiler.ir.printer import to_text

        return kept.setdefault(to_text(module, locations=False), Library(module))

    before = target.TARGETS
    target.TARGETS = {**before, "cuda": build}
    try:
        yield
    finally:
        target.TARGETS = before


def _plain() -> Any:
    x, label = L.data("x", [5]), L.data("label", [1], dtype="int64")
    hidden = L.dropout(L.fc(x, 8, act="tanh"), 0.3, dropout_implementation="upscale_in_train")
    return L.mean(L.softmax_with_cross_entropy(L.fc(hidden, 3), label))


def program(build: Callable[[], Any], optimizer: Callable[[], Any]) -> tuple[Program, Program, Any]:
    main, startup = Program(), Program()
    main.random_seed = startup.random_seed = 5
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        loss = build()
        optimizer().minimize(loss)
    return main, startup, loss


def momentum() -> Any:
    return fluid.optimizer.Momentum(0.2, 0.9)


@cache
def plain() -> Compiled:
    main, startup, loss = program(_plain, momentum)
    with cuda_target():
        return compile_source(
            lower(main, startup=startup, fetches=(loss.name,), infer_fetches=(loss.name,)), target="cuda", keep_ir=True
        )


@cache
def private() -> Compiled:
    main, startup, _ = program(classifier, dpsgd())
    with cuda_target():
        return compile_source(lower(main, startup=startup), target="cuda", batch=8, keep_ir=True)


def reference(compiled: Compiled) -> Engine:
    return ReferenceEngine(compiled.module)


def session(compiled: Compiled, engine: Engine | None = None, **options: Any) -> Session:
    return Session.load(compiled.artifact(), engine or compiled.built.engine(), seed=3, **options)


def batches(count: int, rows: int = ROWS, seed: int = 0) -> list[dict[str, Array]]:
    draw = np.random.default_rng(seed)
    return [
        {"x": draw.normal(size=(rows, 5)).astype(np.float32), "label": draw.integers(0, 3, size=(rows, 1))}
        for _ in range(count)
    ]


def losses(run: Session, fed: list[dict[str, Array]]) -> list[float]:
    return [float(next(iter(run.run(feeds).values())).ravel()[0]) for feeds in fed]


def state(run: Session) -> dict[str, Array]:
    return {name: array.copy() for name, array in run.model.state.items()}


# What tests ask for -------------------------------------------------------------------------------------------------
def trajectories() -> dict[str, Any]:
    """Both engines' losses and state, and what the device did in each step."""
    fed = batches(STEPS)
    expected = session(plain(), reference(plain()))
    found = session(plain())
    made = losses(expected, fed)
    device().check(device().runtime.cudaDeviceSynchronize())  # the startup function may still be under way
    steps: list[dict[str, int]] = []
    seen: list[float] = []
    for feeds in fed:
        device().reset()
        seen += losses(found, [feeds])
        steps.append(device().counters())
    return {"expected": (made, state(expected)), "found": (seen, state(found)), "steps": steps}


def without_graphs() -> dict[str, Any]:
    fed = batches(STEPS)
    with_graphs = session(plain())
    without = session(plain(), CudaEngine(plain().built.members()["module.so"], graphs=False))
    device().reset()
    seen = losses(without, fed)
    launched = device().counters()["graph_launches"]
    return {"launched": launched, "same": seen == losses(with_graphs, fed)}


def values_set_between_steps() -> dict[str, Any]:
    """The owner writes a rate and a parameter between steps, by both of a buffer's ways."""
    fed = batches(STEPS)
    runs = [session(plain(), reference(plain())), session(plain())]
    found: list[list[float]] = []
    for run in runs:
        seen = losses(run, fed[:3])
        rate = next(name for name in run.model.buffers if "learning_rate" in name)
        run.model.buffers[rate].put(0.05)
        weight = next(spec.name for spec in run.model.manifest.state if spec.trainable)
        run.model.buffers[weight].array[...] *= 0.5
        found.append(seen + losses(run, fed[3:]))
    return {"found": found, "state": [state(run) for run in runs]}


def sizes_in_turn() -> list[list[float]]:
    """Batches of several sizes, training and inference in turn."""
    found: list[list[float]] = []
    for run in (session(plain(), reference(plain())), session(plain())):
        seen: list[float] = []
        for number in range(9):
            rows = (ROWS, 3, 300)[number % 3]
            seen += losses(run, batches(1, rows, seed=number))
            values = run.predict(batches(1, 4, seed=50)[0])
            seen += [float(np.sum(value)) for value in values.values()]
        found.append(seen)
    return found


def engines_in_turn() -> dict[str, Any]:
    """Several engines on the same buffers: two on one device, one on another, and numpy."""
    from fluidc.runtime.stepper import Stepper

    fed = batches(8)
    expected = session(plain(), reference(plain()))
    made = losses(expected, fed)
    code = plain().built.members()["module.so"]
    first = session(plain())
    model = first.model
    others: list[Engine] = [CudaEngine(code), CudaEngine(code, device=1), reference(plain())]
    steppers = [model.stepper, *(Stepper(model.manifest, engine, model.buffers) for engine in others)]
    seen: list[float] = []
    for number, feeds in enumerate(fed):
        stepper, before = steppers[number % 4], steppers[(number - 1) % 4]
        stepper._rng_key[...] = model.stepper._rng_key
        if number:
            stepper._rng_counter[...] = before._rng_counter
        seen.append(float(next(iter(stepper.run("step", feeds).values())).ravel()[0]))
    return {"expected": (made, state(expected)), "found": (seen, state(first))}


def copies() -> dict[str, Any]:
    """Buffers that are copied and pickled while their values are on the device."""
    run = session(plain())
    losses(run, batches(3))
    name = next(spec.name for spec in run.model.manifest.state if spec.trainable)
    buffer = run.model.buffers[name]
    away = buffer.is_away
    copied, pickled = copy.deepcopy(buffer), pickle.loads(pickle.dumps(buffer))
    values = buffer.array.copy()
    losses(run, batches(1))
    return {
        "away": away, "copy": copied.array, "pickle": pickled.array, "values": values, "later": buffer.array,
        "apart": not np.shares_memory(copied.array, buffer.home),
    }  # fmt: skip


def forked() -> dict[str, Any]:
    """What a forked child sees of state on the device, and what it is told when it takes a step."""
    run = session(plain())
    fed = batches(4)
    losses(run, fed[:3])
    read, write = os.pipe()
    child = os.fork()
    if not child:
        answer: Any = None
        try:
            seen = state(run)
            try:
                losses(run, fed[3:])
            except EngineError as error:
                answer = seen, str(error)
            del run
            gc.collect()
        finally:
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pickle.load(pipe)
    os.waitpid(child, 0)
    after = losses(run, fed[3:])
    other = session(plain())
    straight = losses(other, fed)
    before = session(plain())
    losses(before, fed[:3])
    return {"child": answer, "state": state(before), "after": after, "straight": straight[3:]}


def out_of_memory(room: int) -> dict[str, Any]:
    """A first step on a batch for which ``room`` bytes are too few, then one on a batch that fits."""
    expected, run = session(plain()), session(plain())
    losses(expected, batches(3))
    losses(run, batches(3))
    kept = state(expected)
    device().configure(memory=device().counters()["live_bytes"] + room)
    device().reset()
    try:
        losses(run, batches(1, 4000))
        message = ""
    except EngineError as error:
        message = str(error)
    launches = device().counters()["launches"]
    again = state(run)
    return {
        "message": message, "kept": kept, "again": again, "launches": launches,
        "loss": losses(run, batches(1, seed=2)),
    }  # fmt: skip


def refused() -> list[str]:
    """Devices and code that do not fit."""
    code = plain().built.members()["module.so"]
    cpu = plain().built.spec
    found: list[str] = []
    for make in (
        lambda: CudaEngine(code, device=2),
        lambda: CudaEngine(code, TargetSpec("cuda", cpu.triple, cpu.cpu, cpu.features, 0, ("sm_80", "compute_100"))),
        lambda: CudaEngine(b"no library"),
        lambda: CudaEngine(code).call("nothing", []),
    ):
        try:
            make()
        except EngineError as error:
            found.append(str(error))
    return found


def private_trajectories() -> dict[str, Any]:
    """Lots of no rows, of some, and of more than a batch holds, under a known key."""
    draw = np.random.default_rng(1)
    sizes = (8, 3, 0, 20, 8, 17, 5, 8)
    lots = [
        {"x": draw.normal(size=(n, 5)).astype(np.float32), "label": draw.integers(0, 3, size=(n, 1))} for n in sizes
    ]
    found: list[dict[str, Array]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for engine in (reference(private()), private().built.engine()):
            run = session(private(), engine, insecure_noise_key=MASTER)
            for lot in lots:
                run.run(lot)
            found.append(state(run))
    return {"expected": found[0], "found": found[1]}


def what_is_left_of_keys() -> dict[str, int]:
    """After private steps, where the key of any of them is still found: in pinned memory, and on the device."""
    import ctypes

    from fluidc.runtime.cuda.plan import Plan
    from fluidc.runtime.keystream import insecure_key

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = session(private(), insecure_noise_key=MASTER)
        for lot in batches(4, 8):
            run.run(lot)
    engine: Any = run.model.stepper._engine
    engine.device.wait()
    keys = [bytes(insecure_key(MASTER, "step", number)) for number in range(1, 5)]
    assert all(isinstance(plan, Plan) for plan in engine._plans.values())
    feeding = engine._feeding
    sides = [side.values.tobytes() for side in feeding.sides]
    there = ctypes.string_at(feeding.address, feeding.capacity)  # the emulated device's memory is the host's
    fed = batches(4, 8)[-1]["x"].tobytes()
    return {
        "host": sum(key in side for key in keys for side in sides),
        "device": sum(key in there for key in keys),
        "feeds": sum(fed in place for place in (*sides, there)),
    }


def trained_by_session() -> dict[str, Any]:
    """A run of many steps: checkpoints, resumption, export, and what it copies home."""
    data = batches(1, 96, seed=9)[0]
    straight = session(plain())
    straight.train(data, steps=20, batch=ROWS)
    with tempfile.TemporaryDirectory() as folder:
        run = session(plain())
        run.train(data, steps=11, batch=ROWS)
        run.save(folder)
        resumed = session(plain())
        resumed.resume(folder)
        resumed.train(data, steps=9, batch=ROWS)
        path = Path(folder) / "trained.fluidc"
        run.export(path)
        exported = Artifact.read(path).state
        return {
            "straight": state(straight), "stopped": state(run), "resumed": state(resumed), "exported": dict(exported),
        }  # fmt: skip


def by_executor() -> dict[str, Any]:
    """A program and its test clone by an Executor for a GPU, with a value set in between; numpy's beside it."""
    main, startup, loss = program(_plain, momentum)
    test = main.clone(for_test=True)
    fed = batches(5)
    found: list[list[float]] = []
    weights: list[Array] = []
    with cuda_target():
        for make in (lambda: fluid.Executor(target="reference"), lambda: fluid.Executor(fluid.CUDAPlace(1))):
            scope = fluid.Scope()
            with fluid.scope_guard(scope):
                executor = make()
                executor.run(startup)
                seen: list[float] = []
                for number, feeds in enumerate(fed):
                    seen.append(float(executor.run(main, feeds, [loss])[0].ravel()[0]))
                    seen.append(float(executor.run(test, feeds, [loss])[0].ravel()[0]))
                    if number == 2:
                        tensor = scope.find_var("fc_0.w_0").get_tensor()
                        tensor.set(np.asarray(tensor) * 0.5, fluid.CPUPlace())
                found.append(seen)
                weights.append(np.array(scope.find_var("fc_0.w_0").get_tensor()))
    return {"losses": found, "weights": weights}
