"""The launches of the benchmark models, at their real sizes, and what the lint finds in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fluidc.compiler.codegen.tvm.cuda import lint
from fluidc.compiler.codegen.tvm.cuda.build import lowered
from fluidc.compiler.codegen.tvm.cuda.device import DeviceBlock, device_host
from fluidc.compiler.codegen.tvm.kit import Buffer, Value, integer
from fluidc.compiler.codegen.tvm.tvm_api import tirx
from fluidc.compiler.ir.types import DType
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.frontend.bench.step import source

ALLOWED = {
    ("launches", "control_scan"): "a scan is a loop of launches, which one graph captures",
    ("idle", "dp_add_noise"): "a thread makes a whole block of the keystream: 26 010 numbers take 46 blocks of 64",
    ("uncoalesced", "reduce_sum_dp_row_norm_sq"): "channels that are split into heads or normalised in groups: the "
    "division in their index hides that neighbours lie side by side",
}
"""What is found and left, by the kind of finding and how the function's name starts, with the reason."""


def launches_of(name: str, *, private: bool) -> list[lint.Launch]:
    benchmark = BENCHMARKS[name]
    module = source(benchmark.model, benchmark.batch, private=private).module
    for step in pipeline(module, batch=benchmark.batch):
        module = step.run(module)
    # The startup function runs on the reference target.
    functions = tuple(f for f in module.functions if f.name != "startup")
    builder, _ = lowered(replace(module, functions=functions))
    return lint.launches(builder.get())


LARGE = {("resnet", False), ("resnet", True), ("transformer", True)}
CASES = [
    pytest.param(name, private, id=f"{name}-{kind}", marks=pytest.mark.nightly if (name, private) in LARGE else ())
    for name in BENCHMARKS
    for private, kind in ((False, "plain"), (True, "private"))
]


@pytest.mark.parametrize(("name", "private"), CASES)
def test_benchmark_models_use_the_device(name: str, private: bool) -> None:
    found = launches_of(name, private=private)
    assert found
    left = [finding for finding in lint.findings(found) if _reason(finding) is None]
    assert not left, "\n".join(map(str, left))


def _reason(finding: lint.Finding) -> str | None:
    for (kind, stem), reason in ALLOWED.items():
        if finding.kind == kind and finding.launch.function.startswith(stem):
            return reason
    return None


def test_a_step_of_many_small_tensors_is_few_launches() -> None:
    """24 kernels of a private update, were each tensor to have its own: zeros, noise and update are three."""
    builder = source(BENCHMARKS["mlp"].model, 256, private=True).module
    for step in pipeline(builder, batch=256):
        builder = step.run(builder)
    apply = tuple(f for f in builder.functions if f.name == "apply")
    assert len(lint.launches(lowered(replace(builder, functions=apply))[0].get())) == 3


# Kernels that are wrong on purpose ----------------------------------------------------------------------


def lint_of(write: Any, count: int = 1 << 20) -> list[lint.Finding]:
    """What is found in a function that ``write(block, source, target)`` fills."""
    block = DeviceBlock(device_host())
    x, y = (tirx.decl_buffer((count,), "float32", name=name) for name in "xy")
    write(block, x, y)
    return lint.findings(lint.launches_of("f", tirx.PrimFunc([x, y], block.finish()), {}))


def _copy(at: Any) -> Any:
    def write(block: DeviceBlock, x: Buffer, y: Buffer) -> None:
        with block.launch(integer(4096), 256) as (number, thread):
            place: Value = at(number, thread)
            block.write(y, place, block.read(x, place))

    return write


def test_a_copy_of_neighbours_is_fine() -> None:
    assert not lint_of(_copy(lambda number, thread: number * integer(256) + thread))


def test_neighbours_far_apart_are_found() -> None:
    assert [f.kind for f in lint_of(_copy(lambda number, thread: thread * integer(4096) + number))] == ["uncoalesced"]


def test_one_thread_for_everything_is_found() -> None:
    def write(block: DeviceBlock, x: Buffer, y: Buffer) -> None:
        with block.launch(integer(1), 256) as (_, thread), block.when(thread < integer(1)), block.loop(1 << 20) as i:
            block.write(y, i, block.read(x, i))

    assert [f.kind for f in lint_of(write)] == ["serial"]


def test_few_blocks_for_much_work_are_found() -> None:
    def write(block: DeviceBlock, x: Buffer, y: Buffer) -> None:
        with block.launch(integer(4), 1024) as (number, thread), block.loop(1 << 10) as i:
            place = (i * integer(4) + number) * integer(1024) + thread
            block.write(y, place, block.read(x, place))

    assert [f.kind for f in lint_of(write, 1 << 22)] == ["idle"]


def test_a_loop_of_launches_is_found() -> None:
    def write(block: DeviceBlock, x: Buffer, y: Buffer) -> None:
        with block.loop(64) as trip, block.launch(integer(64), 256) as (number, thread):
            place = (trip * integer(64) + number) * integer(256) + thread
            block.write(y, place, block.read(x, place))

    assert [f.kind for f in lint_of(write)] == ["launches"]


def test_products_are_left_to_their_own_estimate() -> None:
    def write(block: DeviceBlock, x: Buffer, y: Buffer) -> None:
        with block.made_by(lint.PRODUCT):
            _copy(lambda number, thread: thread * integer(4096) + number)(block, x, y)

    assert not lint_of(write)


def test_too_much_shared_memory_is_found() -> None:
    def write(block: DeviceBlock, x: Buffer, y: Buffer) -> None:
        with block.launch(integer(4096), 256) as (number, thread):
            held = block.shared(DType.F32, 20_000)
            place = number * integer(256) + thread
            block.write(held, thread, block.read(x, place))
            block.write(y, place, block.read(held, thread))

    assert [f.kind for f in lint_of(write)] == ["shared"]
