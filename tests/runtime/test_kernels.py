"""The table of kernels: sizes, and the member of the artifact."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import small_artifact

from fluidc.runtime.artifact import Artifact, ArtifactError
from fluidc.runtime.kernels import (
    FunctionKernels,
    FusedOp,
    KernelBuffer,
    KernelCall,
    KernelTable,
    Work,
    bind_symbols,
    total,
)
from fluidc.runtime.sizes import Size

N = Size.symbol("N")
TABLE = KernelTable(
    8,
    (
        FunctionKernels(
            "step",
            (
                KernelBuffer("w", "argument", "f32", (Size.of(3), Size.of(2))),
                KernelBuffer("x", "argument", "f32", (N, Size.of(3))),
                KernelBuffer("linear.matmul", "intermediate", "f32", (N, Size.of(2)), "1,0"),
                KernelBuffer("reduce.sum", "result", "f64", ()),
            ),
            (
                KernelCall(
                    "matmul", (FusedOp("linear.matmul", "a.py:3 fc"), FusedOp("unary.relu", "")), 0,
                    (0, 1), (), (N,), (2,), Size.of(64), None, Work(N * 12, Size.of(0), N * 12 + 24, N * 8),
                ),
                KernelCall(
                    "sum", (FusedOp("reduce.sum", "a.py:4"),), 0,
                    (2, 0), (0,), (), (3,), Size.of(0), Size.of(8), Work(N * 2, N, N * 8, Size.of(8)),
                ),
            ),
            (3,),
        ),
    )
)  # fmt: skip

sizes = st.dictionaries(
    st.lists(st.sampled_from(["N", "T", "batch_2"]), max_size=3).map(lambda names: tuple(sorted(names))),
    st.integers(1, 10**15),
    max_size=4,
).map(lambda terms: sum((Size(((names, count),)) for names, count in terms.items()), Size()))


@given(sizes, sizes, st.integers(0, 100), st.integers(0, 100))
def test_sizes_are_numbers_once_symbols_are_known(a: Size, b: Size, n: int, t: int) -> None:
    values = {"N": n, "T": t, "batch_2": 7}
    assert (a + b).at(values) == a.at(values) + b.at(values)
    assert (a * b).at(values) == a.at(values) * b.at(values)
    assert Size.parse(str(a)) == a


@pytest.mark.parametrize("text", ["", "N+", "2**N", "N-1", "1.5", "*"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Size.parse(text)


def test_symbols_follow_from_shapes() -> None:
    buffers = [
        KernelBuffer("w", "argument", "f32", (Size.of(3),)),
        KernelBuffer("x", "argument", "f32", (N * 8, Size.symbol("T") + 1)),
    ]
    assert bind_symbols(buffers, [(3,), (24, 6)]) == {"N": 3, "T": 5}
    assert (N * N).solve(9) is None
    assert (N * 8).solve(9) is None


def test_the_table_is_a_member_and_is_read_back(tmp_path: Path) -> None:
    artifact = replace(small_artifact(), kernels=TABLE)
    artifact.write(tmp_path / "a.fluidc")
    read = Artifact.read(tmp_path / "a.fluidc")
    assert read.kernels == TABLE
    assert [member.name for member in read.manifest.members].count("kernels.json") == 1
    assert read.with_state({}).kernels == TABLE, "a trained artifact has it too"
    assert read.to_bytes() == artifact.to_bytes()


def test_a_file_without_table_is_read() -> None:
    assert Artifact.from_bytes(small_artifact().to_bytes(), "old.fluidc").kernels is None


def test_totals() -> None:
    step = TABLE.functions[0]
    assert str(total([kernel.work for kernel in step.kernels]).flops) == "14*N"
    assert step.memory() == (N * 8, N * 8)
    assert step.buffers[2].type == "f32[N,2] axes 1,0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["kernels"][0].update(inputs=[0, 9]), "a buffer that it does not list"),
        (lambda f: f.update(results=[4]), "a buffer that it does not list"),
        (lambda f: f["kernels"][1].update(updated=[1]), "overwrites a buffer that it does not read"),
        (lambda f: f["kernels"][0].update(ops=[]), "a kernel of no ops"),
        (lambda f: f["kernels"][0].update(main=2), "an integer in [0, 1]"),
        (lambda f: f["kernels"][0]["work"].update(flops="N^2"), "'N^2' is no size"),
        (lambda f: f["kernels"][0].update(workspace="?"), "'?' is no size"),
        (lambda f: f["buffers"][0].update(dtype="f8"), "one of f32"),
        (lambda f: f["buffers"][0].pop("layout"), "the field 'layout' is missing"),
        (lambda f: f.update(more=1), "the field 'more' is unknown here"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(change: Callable[[dict[str, Any]], object], said: str) -> None:
    data = json.loads(TABLE.to_bytes())
    change(data["functions"][0])
    with pytest.raises(ArtifactError, match="the table of kernels is not valid") as refused:
        KernelTable.from_bytes(json.dumps(data).encode(), "a.fluidc")
    assert said in refused.value.what
