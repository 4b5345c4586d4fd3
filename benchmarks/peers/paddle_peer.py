"""Static graphs of Paddle 2 as a contestant of `fluidc bench` (``protocol.py``).

With its default kernels: those of oneDNN (``FLAGS_use_mkldnn``) do not train.  Paddle 2.6.2 then fails in the gradient
of a mean, and dies in the gradient of a product whose other factor takes none.
"""

from __future__ import annotations

import os

import protocol
from protocol import LEARNING_RATE, Arrays, Contestant, Step

# Paddle's MKL takes its slowest path, on one thread, for processors that are not Intel's; this makes it 2.5x faster.
os.environ["MKL_DEBUG_CPU_TYPE"] = "5"

import paddle
from paddle.base import core
from paddle_models import MODELS, Weights


def made(name: str, arrays: Arrays) -> Step:
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    weights = Weights({k: v for k, v in arrays.items() if k not in ("x", "label")})
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        x = paddle.static.data("x", list(arrays["x"].shape), str(arrays["x"].dtype))
        label = paddle.static.data("label", list(arrays["label"].shape), "int64")
        loss = paddle.nn.functional.cross_entropy(MODELS[name](weights, x), label)
        paddle.optimizer.SGD(LEARNING_RATE).minimize(loss)
    place = paddle.CPUPlace()
    executor = paddle.static.Executor(place)
    feed = {"x": arrays["x"], "label": arrays["label"]}
    with paddle.static.scope_guard(scope):
        executor.run(startup)
        for parameter, value in weights.late.items():
            scope.find_var(parameter).get_tensor().set(value, place)

    def step() -> float:
        with paddle.static.scope_guard(scope):
            (value,) = executor.run(main, feed=feed, fetch_list=[loss])
        return float(value.reshape(()))

    return step


CONTESTANTS = [Contestant("paddle", False, frozenset(MODELS), made)]

if __name__ == "__main__":
    core.set_num_threads(protocol.limit_threads())
    paddle.enable_static()
    protocol.serve(CONTESTANTS, {"paddle": paddle.__version__})
