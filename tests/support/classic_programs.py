"""The programs of examples/classic: how both Paddle and fluidc load them, and what is compared of a training run."""

import hashlib
import importlib.util
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "classic"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.py")))
STEPS = 20


def load(name):
    """The module of a program, anew: its ``paddle.fluid`` is the one that can be imported at this moment."""
    spec = importlib.util.spec_from_file_location("classic_" + name, str(FOLDER / (name + ".py")))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def programs(fluid, model):
    return [field for field in model if isinstance(field, fluid.Program)]


def state(fluid, model, scope):
    """What the programs keep from step to step, by name: parameters, accumulators, rates and counters."""
    arrays = {}
    for program in programs(fluid, model):
        for var in program.list_vars():
            held = scope.find_var(var.name) if var.persistable and var.name not in ("feed", "fetch") else None
            if held is not None:
                arrays[var.name] = np.array(held.get_tensor())
    return arrays


def digest(array):
    """Of an array: its type and shape, a hash of all its bits, and its first few values for the eye."""
    bits = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    first = [f"{value:.9g}" for value in array.reshape(-1)[:3]]
    return " ".join([f"{array.dtype}{list(array.shape)}", bits, *first])


def curve(module, exe, model, steps):
    """What each step returns, as numbers."""
    return [
        [float(np.asarray(value).reshape(-1)[0]) for value in module.step(exe, model, batch)]
        for batch in module.batches(steps)
    ]
