"""An artifact for the emulated device: made in a `cuda_worker.Worker`."""

from __future__ import annotations

from cuda_runs import cuda_target
from digits_programs import digits

from fluidc.compiler.driver import compile_source
from fluidc.frontend.lower import lower


def artifact() -> bytes:
    """The digits MLP, by Momentum."""
    made = digits()
    with cuda_target():
        source = lower(made.main, startup=made.startup, fetches=(made.loss,), infer_fetches=(made.loss,))
        return compile_source(source, target="cuda", keep_ir=True).artifact().to_bytes()
