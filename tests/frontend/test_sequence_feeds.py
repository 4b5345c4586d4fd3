"""Sequences of different lengths as programs are fed them and answer: what shares rows, what sizes follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.compiler.errors import LoweringError
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ops import OPSET
from fluidc.frontend import step_cache
from fluidc.frontend.errors import ProgramError, SequencesError
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import default_feeds, lower
from fluidc.frontend.token_symbols import joined_feeds, token_symbols
from fluidc.runtime.errors import DataError
from fluidc.runtime.session import Session
from fluidc.runtime.stepper import Stepper

L = fluid.layers
TARGETS = ("reference", "cpu", "onnx")


@pytest.fixture(autouse=True)
def program() -> Iterator[Program]:
    main = Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, Program()), fluid.scope_guard(fluid.Scope()):
        yield main


def words(name: str, dtype: str = "int64", width: int = 1, level: int = 1) -> Any:
    return L.data(name, [width], dtype=dtype, lod_level=level)


def fed(lengths: Sequence[int], width: int = 1, dtype: str = "int64", start: int = 0) -> Any:
    rows = (np.arange(sum(lengths) * width).reshape(-1, width) + start).astype(dtype)
    return fluid.create_lod_tensor(rows, [list(lengths)], fluid.CPUPlace())


def executor(target: str) -> Any:
    return fluid.Executor(fluid.CPUPlace(), target=target)


# -- which feeds share their rows -------------------------------------------------------------------------------


def test_one_kind_of_sequences_has_the_rows_T(program: Program) -> None:
    L.sequence_pool(words("x", "float32"), "sum")
    assert token_symbols(program) == {"x": "T"}
    assert {name: str(kind) for name, kind in default_feeds(program).items()} == {
        "x": "f32[T,1]",
        "x@lengths": "i64[N]",
    }


def test_feeds_that_are_pooled_apart_have_rows_of_their_own(program: Program) -> None:
    a, b = words("a", "float32"), words("b.c", "float32")
    L.concat([L.sequence_pool(a, "sum"), L.sequence_pool(b, "sum")], axis=1)
    assert token_symbols(program) == {"a": "T_a", "b.c": "T_b_c"}


def test_feeds_that_are_added_row_by_row_share_theirs(program: Program) -> None:
    a, b, c, d = (words(name) for name in "abcd")
    first = L.embedding(a, [9, 4]) + L.embedding(b, [9, 4])
    hidden = L.fc([first, L.embedding(c, [9, 4])], 2, act="tanh")
    L.cross_entropy(L.softmax(hidden), d)
    L.sequence_pool(L.embedding(words("e"), [9, 4]), "sum")
    assert joined_feeds(program) == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}
    assert set(token_symbols(program).values()) == {"T_a", "T_e"}


def test_symbols_of_names_that_look_alike_differ(program: Program) -> None:
    for name in ("a.b", "a_b"):
        L.sequence_pool(words(name, "float32"), "sum")
    assert sorted(token_symbols(program).values()) == ["T_a_b", "T_a_b_1"]


def test_the_sharing_follows_edits(program: Program) -> None:
    a, b = words("a", "float32"), words("b", "float32")
    assert set(token_symbols(program).values()) == {"T_a", "T_b"}
    L.elementwise_add(a, b)
    assert set(token_symbols(program).values()) == {"T"}


# -- feeding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_two_kinds_of_sequences_and_dense_features(program: Program, target: str) -> None:
    a, b, dense = words("a", "float32"), words("b", "float32"), L.data("dense", [2])
    out = L.concat([L.sequence_pool(a, "sum"), L.sequence_pool(b, "max"), dense], axis=1)
    exe = executor(target)
    rows = np.ones((3, 2), np.float32)
    for of_a, of_b in (([1, 2, 0], [3, 1, 4]), ([5, 1, 1], [1, 1, 1])):
        feed = {"a": fed(of_a, dtype="float32"), "b": fed(of_b, dtype="float32", start=3), "dense": rows}
        (found,) = exe.run(program, feed, [out])
        stops = np.cumsum(of_b) + 2
        wanted = [[sum(range(sum(of_a[:i]), sum(of_a[: i + 1]))), stops[i], 1, 1] for i in range(3)]
        np.testing.assert_array_equal(found, wanted)


def test_labels_of_rows_need_no_lod_level(program: Program) -> None:
    """As Paddle takes them: an array with one label for every row."""
    x, label, other = words("x"), L.data("label", [1], dtype="int64"), L.data("other", [1], dtype="int64")
    hidden = L.embedding(x, [9, 4])
    of_rows = L.reduce_sum(L.cross_entropy(L.softmax(hidden), label))
    of_sequences = L.reduce_sum(L.cross_entropy(L.softmax(L.sequence_pool(hidden, "sum")), other))
    assert token_symbols(program) == {"x": "T", "label": "T"}
    assert str(default_feeds(program)["label"]) == "i64[T,1]"
    assert str(default_feeds(program)["other"]) == "i64[N,1]"
    exe = executor("reference")
    exe.run(fluid.default_startup_program())
    feed = {"x": fed([2, 1]), "label": np.array([[0], [1], [2]]), "other": np.array([[3], [0]])}
    first, second = exe.run(program, feed, [of_rows, of_sequences])
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    with pytest.raises(DataError, match=r"different numbers of sizes of T: 'x' has 3, 'label' has 2"):
        exe.run(program, {**feed, "label": np.array([[0], [1]])}, [of_rows])


@pytest.mark.parametrize("target", TARGETS)
def test_a_tagging_program_joins_its_feeds(program: Program, target: str) -> None:
    a, b, tag = words("a"), words("b"), words("tag")
    scores = L.fc([L.embedding(a, [20, 4]), L.embedding(b, [20, 4])], 3, act="softmax")
    loss = L.mean(L.cross_entropy(scores, tag))
    fluid.optimizer.SGD(0.1).minimize(loss)
    exe = executor(target)
    exe.run(fluid.default_startup_program())
    tags = fluid.create_lod_tensor(np.array([[0], [1], [2], [1]]), [[3, 1]], fluid.CPUPlace())
    feed = {"a": fed([3, 1]), "b": fed([3, 1], start=7), "tag": tags}
    losses = [float(exe.run(program, feed, [loss])[0][0]) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)


def test_joined_feeds_of_other_lengths_are_refused_by_name(program: Program) -> None:
    a, b = words("a", "float32"), words("b", "float32")
    out = L.sequence_pool(a + b, "sum")
    exe = executor("reference")
    for lengths, what in (
        ([2, 1], "sequence 0 has 1 rows in 'a', 2 in 'b'"),
        ([1, 3], "sequence 1 has 2 rows in 'a', 3"),
    ):
        with pytest.raises(DataError, match=r"joins the feeds 'a' and 'b' row by row") as caught:
            exe.run(program, {"a": fed([1, 2], dtype="float32"), "b": fed(lengths, dtype="float32")}, [out])
        assert what in caught.value.what
        assert "lengths [1, 2]" in str(caught.value.where)
        assert str(lengths) in str(caught.value.where)
    with pytest.raises(DataError, match=r"different numbers of rows: .*'a@lengths' has 2, 'b@lengths' has 3"):
        exe.run(program, {"a": fed([1, 2], dtype="float32"), "b": fed([1, 1, 1], dtype="float32")}, [out])


@pytest.mark.parametrize("lengths", [[1, 3], [4, -1]])
def test_lengths_that_do_not_divide_the_rows_are_refused(program: Program, lengths: list[int]) -> None:
    out = L.sequence_pool(words("a", "float32"), "sum")
    feed = {"a": np.ones((3, 1), np.float32), "a@lengths": np.array(lengths)}
    stepper = _stepper(program, out.name)
    with pytest.raises(DataError, match=rf"feed 'a' has 3 rows; its lengths \[{lengths[0]}, {lengths[1]}\] add up to"):
        stepper.run("step", feed)


def _stepper(program: Program, *fetches: str) -> Any:
    compiled = compile_source(lower(program, fetches=fetches), target="reference")
    return Stepper(compiled.manifest, compiled.built.engine(), {})


def test_an_artifact_takes_steps_and_no_data_set(program: Program) -> None:
    out = L.sequence_pool(words("a", "float32"), "sum")
    source = lower(program, fetches=[out.name], infer_fetches=[out.name])
    compiled = compile_source(source, target="reference")
    session = Session.load(compiled.artifact(), compiled.built.engine())
    feed = {"a": np.ones((3, 1), np.float32), "a@lengths": np.array([2, 1])}
    np.testing.assert_array_equal(session.run(feed)[out.name], [[2], [1]])
    with pytest.raises(DataError, match=r"the feed 'a' holds sequences of different lengths, which no data set does"):
        session.evaluate(feed)


def test_sequences_fed_to_a_dense_variable_are_its_rows(program: Program) -> None:
    x = L.data("x", [1])
    out = L.scale(x, 2.0)
    (found,) = executor("reference").run(program, {"x": fed([2, 1], dtype="float32")}, [out])
    np.testing.assert_array_equal(found, [[0], [2], [4]])


def test_few_builds_serve_two_hundred_totals(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = words("a", "float32"), words("b", "float32")
    out = L.concat([L.sequence_pool(a, "sum"), L.sequence_pool(b, "sum")], axis=1)
    mask = L.sequence_mask(L.data("n", [1], dtype="int64"), dtype="float32")
    exe = executor("reference")
    builds: list[int] = []
    compiled = step_cache.compiled_code
    monkeypatch.setattr(step_cache, "compiled_code", lambda *given: builds.append(1) or compiled(*given))
    draw = np.random.default_rng(0)
    for _ in range(200):
        of_a, of_b, n = (draw.integers(1, 30, 4).tolist() for _ in range(3))
        feed = {"a": fed(of_a, dtype="float32"), "b": fed(of_b, dtype="float32"), "n": np.array(n).reshape(4, 1)}
        pooled, places = exe.run(program, feed, [out, mask])
        assert pooled[-1, 0] == sum(range(sum(of_a[:3]), sum(of_a)))
        assert places.shape == (4, 1, max(n))
    assert len(builds) <= 4


def test_a_list_of_sequences_says_how_to_feed_it(program: Program) -> None:
    out = L.sequence_pool(words("a", "float32"), "sum")
    for value in ([[1.0, 2.0], [3.0]], [[1.0], [3.0]]):
        with pytest.raises(ProgramError, match=r"is a list of 2 parts") as caught:
            executor("reference").run(program, {"a": value}, [out])
        assert f"fluid.create_lod_tensor(rows, [{[len(part) for part in value]}], place)" in str(caught.value.hint)


def test_missing_levels_and_parts_of_several_lengths_are_named(program: Program) -> None:
    nested, dense = L.sequence_pool(words("x", "float32", level=2), "sum"), L.scale(L.data("d", [2]), 2.0)
    exe = executor("reference")
    with pytest.raises(ProgramError, match=r"has lod_level 2, the LoDTensor has 1 level of lengths"):
        exe.run(program, {"x": fed([2, 1], dtype="float32")}, [nested])
    with pytest.raises(ProgramError, match=r"feed 'd' is a list whose parts have different lengths"):
        exe.run(program, {"d": [[1.0, 2.0], [3.0]]}, [dense])


def test_a_feeder_takes_samples_of_sequences(program: Program) -> None:
    x, y = words("x"), words("y", "float32", width=2, level=2)
    feeder = fluid.DataFeeder([x, y], fluid.CPUPlace())
    made = feeder.feed([([1, 2, 3], [[[1, 2]], [[3, 4], [5, 6]]]), ([4], [[[7, 8]]])])
    assert made["x"].recursive_sequence_lengths() == [[3, 1]]
    assert made["y"].recursive_sequence_lengths() == [[2, 1], [1, 2, 1]]
    assert made["y"].shape() == [4, 2]
    for sample, what in (
        ((1, [[[1, 2]]]), "a sample holds 1 where a sequence is expected"),
        (([1], [3.0]), "a sample holds 3.0 where a sequence is expected"),
        (([1], [[[1, 2, 3]]]), "field y has rows of shape [3], declared is [2]"),
        (([1], [[[1, 2], [3]]]), "field y has rows of shape [1] and [2]"),
    ):
        with pytest.raises(ProgramError) as caught:
            feeder.feed([sample])
        assert what in caught.value.what


# -- nested sequences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_nested_sequences_are_pooled_from_the_inside(program: Program, target: str) -> None:
    x = words("x", "float32", level=2)
    once = L.sequence_pool(x, "sum")
    assert once.lod_level == 1
    twice, same = L.sequence_pool(once, "max"), L.scale(x, 2.0)
    assert {n: str(t) for n, t in default_feeds(program).items()} == {
        "x": "f32[T,1]", "x@lengths": "i64[S_T]", "x@outer": "i64[N]",
    }  # fmt: skip
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    feed = {"x": fluid.create_lod_tensor(rows, [[2, 0, 2], [3, 3, 0, 2]], fluid.CPUPlace())}
    sums, most, doubled = executor(target).run(program, feed, [once, twice, same], return_numpy=False)
    assert (np.array(sums).ravel().tolist(), sums.lod()) == ([3, 12, 0, 13], [[0, 2, 2, 4]])
    assert (np.array(most).ravel().tolist(), most.lod()) == ([12, 0, 13], [])
    assert doubled.lod() == [[0, 2, 2, 4], [0, 3, 6, 6, 8]]


def test_groups_of_joined_feeds_agree_too(program: Program) -> None:
    out = L.sequence_pool(words("x", "float32", level=2) + words("y", "float32", level=2), "sum")
    rows = np.ones((4, 1), np.float32)
    made = [fluid.create_lod_tensor(rows, [outer, [1, 2, 1]], fluid.CPUPlace()) for outer in ([2, 1], [1, 2])]
    with pytest.raises(DataError, match=r"sequence 0 has 2 rows in 'x@outer', 1 in 'y@outer'"):
        executor("reference").run(program, {"x": made[0], "y": made[1]}, [out], return_numpy=False)


# -- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_sequences_are_fetched_as_lod_tensors(program: Program, target: str) -> None:
    x = words("x", "float32")
    doubled, pooled = L.scale(x, 2.0), L.sequence_pool(x, "sum")
    found = executor(target).run(program, {"x": fed([2, 0, 1], dtype="float32")}, [doubled, pooled], return_numpy=False)
    assert found[0].recursive_sequence_lengths() == [[2, 0, 1]]
    assert found[1].lod() == []
    np.testing.assert_array_equal(np.array(found[0]), [[0], [2], [4]])


def test_an_array_cannot_hold_sequences(program: Program) -> None:
    doubled = L.scale(words("x", "float32"), 2.0)
    with pytest.raises(SequencesError, match=r"holds sequences[\s\S]*give return_numpy=False") as caught:
        executor("reference").run(program, {"x": fed([2, 1], dtype="float32")}, [doubled])
    assert isinstance(caught.value, RuntimeError)


# -- sizes that lengths decide ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_a_mask_is_as_wide_as_the_greatest_length(program: Program, target: str) -> None:
    mask = L.sequence_mask(L.data("n", [1], dtype="int64"), dtype="float32")
    assert mask.shape == (-1, 1, -1)
    exe = executor(target)
    for lengths in ([1, 3], [2, 0, 5], [0, 0]):
        (found,) = exe.run(program, {"n": np.array(lengths).reshape(-1, 1)}, [mask])
        wanted = np.arange(max(1, *lengths)) < np.array(lengths)[:, None, None]
        np.testing.assert_array_equal(found, wanted)
    module = lower(program).module
    (param,) = [p for p in module.function("step").params if p.role == "extent"]
    assert (param.name, str(param.value.type)) == ("max(n)", "bool[L]")
    assert to_text(parse(to_text(module), OPSET)) == to_text(module)


def test_a_size_that_only_the_program_knows_is_refused(program: Program) -> None:
    n = L.data("n", [1], dtype="int64")
    L.sequence_mask(L.elementwise_mod(n, L.fill_constant([1], "int64", 3)))
    with pytest.raises(LoweringError, match=r"values that the program computes") as caught:
        lower(program)
    assert "test_sequence_feeds.py" in str(caught.value.where)


def test_numbers_that_give_no_size_are_refused(program: Program) -> None:
    mask = L.sequence_mask(L.data("n", [1], dtype="int64"))
    with pytest.raises(DataError, match=r"the size max\(n\) cannot be worked out"):
        executor("reference").run(program, {"n": np.array([[1 << 40]])}, [mask])


def test_lists_of_ids_make_a_column_that_flat_data_refuses() -> None:
    ids = fluid.data("ids", [None], "int64", lod_level=1)
    pooled = L.sequence_pool(fluid.embedding(ids, [10, 4]), "sum")
    exe = fluid.Executor(fluid.CPUPlace(), target="reference")
    exe.run(fluid.default_startup_program())
    lists = [[1, 2, 3], [1, 2]]
    with pytest.raises(ProgramError, match=r"rows of shape \[5, 1\]") as caught:
        exe.run(feed={"ids": fluid.create_lod_tensor(lists, [[3, 2]], fluid.CPUPlace())}, fetch_list=[pooled])
    assert "np.concatenate(lists)" in str(caught.value.hint)
    flat = fluid.create_lod_tensor(np.concatenate(lists), [[3, 2]], fluid.CPUPlace())
    assert exe.run(feed={"ids": flat}, fetch_list=[pooled])[0].shape == (2, 4)


def test_rows_in_the_order_of_a_rank_table() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(6, 1)
    main = Program()
    with fluid.program_guard(main, Program()), fluid.scope_guard(fluid.Scope()):
        x = fluid.layers.data("x", [1], lod_level=1)
        table = fluid.layers.control_flow.lod_rank_table(x)
        longest = fluid.layers.control_flow.max_sequence_len(table)
        ordered = fluid.layers.reorder_lod_tensor_by_rank(x, table)
        feed = {"x": fluid.create_lod_tensor(rows, [[1, 3, 2]], fluid.CPUPlace())}
        found, count = fluid.Executor(target="reference").run(main, feed, [ordered, longest], return_numpy=False)
    assert found.recursive_sequence_lengths() == [[3, 2, 1]]
    assert np.array(found).ravel().tolist() == [1, 2, 3, 4, 5, 0]
    assert np.array(count).ravel().tolist() == [3]
