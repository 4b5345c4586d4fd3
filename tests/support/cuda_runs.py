"""Programs trained on the emulated device by `CudaEngine`: run in a `cuda_worker.Worker`."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from cuda_device import libraries
from cuda_jobs import tvm_for_device
from cuda_worker import device
from private_runs import MASTER, classifier, dpsgd

import fluidc.frontend as fluid
from fluidc.compiler.codegen.cache import Cache
from fluidc.compiler.codegen.reference import ReferenceEngine
from fluidc.compiler.driver import Compiled, compile_source
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.cuda.engine import CudaEngine
from fluidc.runtime.engine import Array, Engine
from fluidc.runtime.errors import EngineError
from fluidc.runtime.session import Session

ROWS = 12
STEPS = 6
L: Any = fluid.layers


class _Emulated:
    """What stands for a compiler of CUDA C; `cuda_target` compiles."""

    title = "the emulated device"
    known = (80, 90)


@contextmanager
def _compiled_for_device(*_: object) -> Iterator[None]:
    tvm_for_device()
    yield


@contextmanager
def cuda_target() -> Iterator[None]:
    """Have the target ``cuda`` compile for the emulated device, and keep nothing for later."""
    room = "fluidc.compiler.codegen.tvm"
    with (
        mock.patch(f"{room}.cuda.kept.find_compiler", _Emulated),
        mock.patch(f"{room}.cuda.module_file.embedding", _compiled_for_device),
        mock.patch(f"{room}.kept.user_cache", return_value=Cache(None)),
        mock.patch(f"{room}.cuda.module_file.user_cache", return_value=Cache(None)),
    ):
        yield


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


def _of_sequences() -> Any:
    """Two kinds of sequences; what they are joined to and padded to has sizes that their lengths decide."""
    a, b = L.data("a", [4], lod_level=1), L.data("b", [4], lod_level=1)
    joined = L.sequence_conv(L.sequence_concat([a, L.sequence_reverse(b)]), 6, 3, act="tanh")
    padded, _ = L.sequence_pad(joined, L.fill_constant([1], "float32", 0.0))
    repeated = L.sequence_pool(L.sequence_expand(a, b), "sqrt")
    return L.elementwise_add(L.mean(L.reduce_max(padded, dim=1)), L.mean(L.fc(repeated, 6, act="tanh")))


def sequences_in_turn() -> list[list[float]]:
    """Steps on sequences of changing lengths, by numpy and on the device."""
    main, startup, loss = program(_of_sequences, momentum)
    with cuda_target():
        compiled = compile_source(lower(main, startup=startup, fetches=(loss.name,)), target="cuda")
    draw = np.random.default_rng(4)
    fed: list[dict[str, Array]] = []
    for of_a, of_b in (([2, 0, 3], [1, 4, 2]), ([1, 1, 1], [3, 0, 1]), ([2, 0, 3], [1, 4, 2]), ([7, 2, 5], [1, 1, 2])):
        rows = {name: draw.normal(size=(sum(n), 4)).astype(np.float32) for name, n in (("a", of_a), ("b", of_b))}
        fed.append({**rows, "a@lengths": np.array(of_a), "b@lengths": np.array(of_b)})
    return [losses(session(compiled, engine), fed) for engine in (reference(compiled), None)]


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
    spec = plain().built.spec
    found: list[str] = []
    for make in (
        lambda: CudaEngine(code, device=2),
        lambda: CudaEngine(code, replace(spec, architectures=("sm_80", "compute_100"))),
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
    """A run of many steps: checkpoints, resumption, export, and what a step copies to the device after those."""
    data = batches(1, 96, seed=9)[0]
    straight = session(plain())
    straight.train(data, steps=20, batch=ROWS)
    with tempfile.TemporaryDirectory() as folder:
        run, resumed = session(plain()), session(plain())
        run.train(data, steps=11, batch=ROWS)
        run.save(folder)
        path = Path(folder) / "trained.fluidc"
        run.export(path)
        device().reset()
        run.train(data, steps=1, batch=ROWS)
        copied = device().counters()["host_to_device"]
        resumed.resume(folder)
        stopped = state(resumed)
        resumed.train(data, steps=9, batch=ROWS)
        return {
            "straight": state(straight), "stopped": stopped, "resumed": state(resumed), "copied there": copied,
            "exported": dict(Artifact.read(path).state),
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
                executor, weight = make(), scope.var("fc_0.w_0")
                executor.run(startup)
                seen: list[float] = []
                for number, feeds in enumerate(fed):
                    seen.append(float(executor.run(main, feeds, [loss])[0].ravel()[0]))
                    seen.append(float(executor.run(test, feeds, [loss])[0].ravel()[0]))
                    if number == 2:
                        halved = np.asarray(weight.get_tensor(), np.float32) * 0.5
                        weight.get_tensor().set(halved, fluid.CPUPlace())
                found.append(seen)
                weights.append(np.array(weight.get_tensor()))
    return {"losses": found, "weights": weights}


SCRIPT = """
import numpy as np
import fluidc.frontend as fluid

x, label = fluid.layers.data("x", [5]), fluid.layers.data("label", [1], dtype="int64")
hidden = fluid.layers.dropout(fluid.layers.fc(x, 8, act="tanh"), 0.3)
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(fluid.layers.fc(hidden, 3), label))
fluid.optimizer.Adam(0.05).minimize(loss)
exe = fluid.Executor(fluid.CUDAPlace(0))
exe.run(fluid.default_startup_program())
exe.run(feed={"x": np.zeros((4, 5), np.float32), "label": np.zeros((4, 1), np.int64)}, fetch_list=[loss])
"""


def by_command_line() -> dict[str, Any]:
    """A script compiled for GPUs and for numpy, and what running the artifacts by command gives."""
    from click.testing import CliRunner

    from fluidc.frontend.bundle.contents import LAUNCHER
    from fluidc.frontend.cli import main

    with tempfile.TemporaryDirectory() as folder, cuda_target():
        place = Path(folder)
        (place / "script.py").write_text(SCRIPT)
        np.savez(place / "data.npz", **batches(1, 48)[0])  # pyright: ignore[reportArgumentType]
        said: dict[str, str] = {}
        states: dict[str, dict[str, Array]] = {}

        def command(name: str, *arguments: str) -> None:
            result = CliRunner().invoke(main, arguments, catch_exceptions=False)
            said[name] = result.output if result.exit_code == 0 else f"exit code {result.exit_code}\\n{result.output}"

        for target in ("cuda", "reference"):
            code, trained = str(place / f"{target}.fluidc"), str(place / f"{target}-trained.fluidc")
            more = ("--arch", "sm_80,sm_90", "--tf32") if target == "cuda" else ()
            on = ("--device", "1") if target == "cuda" else ()
            command(f"compile {target}", "compile", str(place / "script.py"), "-o", code, "--target", target, *more)
            data = ("--data", str(place / "data.npz"))
            command(f"run {target}", "run", code, *data, "--steps", "8", "--seed", "3", "-o", trained, *on)
            command(f"inspect {target}", "inspect", code)
            if Path(trained).exists():
                states[target] = dict(Artifact.read(trained).state)
        bundle = place / "bundle"
        command("bundle", "bundle", str(place / "cuda.fluidc"), "-o", str(bundle))
        preloaded = ":".join(str(libraries() / name) for name in ("libcuda.so.1", "libcudart.so.13"))
        launched = [sys.executable, "-I", str(bundle / LAUNCHER), "run", *data, "--steps", "8", "--seed", "3"]
        trained = str(place / "bundled.fluidc")
        run = subprocess.run(
            [*launched, "-o", trained], env={"LD_PRELOAD": preloaded}, capture_output=True, text=True, check=False
        )
        said["bundled"] = run.stdout + run.stderr
        states["bundled"] = dict(Artifact.read(trained).state) if Path(trained).exists() else {}
        command("profile", "run", str(place / "cuda.fluidc"), *data, "--steps", "8", "--profile", str(place / "p.json"))
        command("device", "run", str(place / "reference.fluidc"), *data, "--steps", "8", "--device", "1")
        return {"said": said, "states": states}
