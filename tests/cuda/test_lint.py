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

PRODUCTS = ("linear_", "conv_", "optim_", "dp_accumulate", "dp_gram", "unary_", "elementwise_")
"""Names of kernels that may hold a product, whose tiles have rules of their own."""

ALLOWED = {
    ("launches", "control_scan"): "a scan is a loop of launches, which one graph captures",
    ("idle", "control_scan"): "steps of a loop are small",
    ("uncoalesced", "pool_max2d_grad"): "windows read across lines of images; not tiled yet",
    ("idle", "pool_max2d_grad"): "likewise",
    ("idle", "dp_add_noise"): "few parameters need few blocks of the keystream",
    ("uncoalesced", "dp_clipped_sum"): "filters of an example lie with their channels innermost, their sums do not",
    ("uncoalesced", "reduce_sum_dp_row_norm_sq"): "channels innermost, one result per channel and example",
    ("uncoalesced", "reduce_mean"): "a group's channels are a few of those side by side",
    ("uncoalesced", "norm_standardize"): "likewise",
}


def launches_of(name: str, *, private: bool) -> list[lint.Launch]:
    benchmark = BENCHMARKS[name]
    module = source(benchmark.model, benchmark.batch, private=private).module
    for step in pipeline(module, batch=benchmark.batch):
        module = step.run(module)
    # The startup function runs on the reference target.
    functions = tuple(f for f in module.functions if f.name != "startup")
    builder, _ = lowered(replace(module, functions=functions))
    return lint.launches(builder.get())


@pytest.mark.parametrize("name", ["mlp", "cnn", "embedding"])
@pytest.mark.parametrize("private", [False, True], ids=["plain", "private"])
def test_benchmark_models_use_the_device(name: str, private: bool) -> None:
    found = launches_of(name, private=private)
    assert found
    left = [f for f in lint.findings(found) if not f.launch.function.startswith(PRODUCTS) and _reason(f) is None]
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


def test_too_much_shared_memory_is_found() -> None:
    def write(block: DeviceBlock, x: Buffer, y: Buffer) -> None:
        with block.launch(integer(4096), 256) as (number, thread):
            held = block.shared(DType.F32, 20_000)
            place = number * integer(256) + thread
            block.write(held, thread, block.read(x, place))
            block.write(y, place, block.read(held, thread))

    assert [f.kind for f in lint_of(write)] == ["shared"]
