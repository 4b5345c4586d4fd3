"""``make ort-api``: on-device artifacts under ``onnxruntime.training.api`` as it is published, with torch installed.

Every program of tests/support/on_device.py, the benchmark models among them, is trained by it for `on_device.STEPS`
steps, saved, loaded and evaluated on the way, and by fluidc's own session from the same values on the same batches.
Differences are told relative to losses, and to the largest element of a variable (at least 0.01).  Exit code 1 where
losses differ by more than 1e-5.  Arguments choose programs whose names begin so.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime
from on_device import JOBS, MODELS, STEPS, by_ort, by_session

LIMIT = 1e-5


def main(chosen: tuple[str, ...]) -> int:
    warnings.simplefilter("ignore")  # seeded noise is told each time
    print(f"onnxruntime {onnxruntime.__version__}, torch {metadata.version('torch')}, {STEPS} steps")
    print(f"{'program':<32}{'first loss':>12}{'last loss':>12}{'losses differ by':>18}{'variables by':>14}")
    worst = 0.0
    for name, job in {**JOBS, **MODELS}.items():
        if not name.startswith(chosen):
            continue
        compiled = job.compiled()
        expected = by_session(job, compiled)
        with tempfile.TemporaryDirectory() as folder:
            found = by_ort(job, compiled, Path(folder), without_torch=False)
        loss = next(iter(found.fetches[0]))
        losses = np.array([[float(np.ravel(f[loss])[0]) for f in run.fetches] for run in (found, expected)])
        off = float(np.max(np.abs(losses[0] - losses[1]) / np.abs(losses[1])))
        state = max(
            float(np.abs(value - expected.state[name]).max() / max(0.01, np.abs(value).max()))
            for name, value in found.state.items()
        )
        print(f"{name:<32}{losses[0, 0]:12.6f}{losses[0, -1]:12.6f}{off:18.1e}{state:14.1e}")
        worst = max(worst, off)
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or ("",)))
