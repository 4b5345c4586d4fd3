"""What running programs gives, around the programs themselves: wrappers.json.

By the name of a function of tests/support/running_programs.py what it returns: batches of all readers, fetches of data
parallel programs, parameters after training on files, eight steps of the optimizers that wrap another, the averages of
parameters and the parameters put back.

What was found:
- ExponentialMovingAverage.apply divides the averages in place: a second apply divides them again.
- Its thres_steps has no effect if it holds integers, as the counters of fluid do: (1 + n) / (10 + n) is then 0.
- ExecutionStrategy.num_iteration_per_run has no effect: a run takes one step.
- Whether a reader was started is not looked at: Executor.run waits for ever.
- DistributeTranspiler and its like were not run.
"""

import json
import pathlib
import tempfile

import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from running_programs import READERS, RUNNING, WRAPPERS
from trees import GOLDENS


def write():
    found = {}
    for script in READERS + RUNNING + WRAPPERS:
        with tempfile.TemporaryDirectory() as folder:
            found[script.__name__] = script(fluid, folder)
    text = json.dumps(found, separators=(",", ":"))
    pathlib.Path(GOLDENS, "wrappers.json").write_text(text + "\n")
