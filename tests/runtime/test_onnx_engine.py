"""The ONNX engine on models made by hand: state on two sides, streams, sizes, failures, and models that lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto
from onnx_functions import edited, model, node, stream

from fluidc.runtime import keystream, onnx_engine
from fluidc.runtime.buffers import Buffer, aligned, aligned_copy
from fluidc.runtime.errors import EngineError
from fluidc.runtime.keystream import Domain
from fluidc.runtime.onnx_engine import OnnxEngine
from fluidc.runtime.threads import numpy_threads

pytest.importorskip("onnxruntime")
Array = NDArray[Any]

# One step of linear regression by SGD: the old w is read after the new one could have been written.
GRADIENT = [
    node("MatMul", "x w", "out"),
    node("Sub", "out y", "residual"),
    node("Mul", "residual residual", "squares"),
    node("ReduceMean", "squares", "loss", keepdims=0),
    node("Transpose", "x", "xt", perm=[1, 0]),
    node("MatMul", "xt residual", "g"),
    node("Mul", "g lr", "change"),
    node("Sub", "w change", "w@NEXT"),
    node("Add", "seen one", "seen@NEXT"),
]
STEP = model(
    GRADIENT,
    ["state w: f32[3,1]", "state seen: i64[]", "state lr: f32[]", "feed x: f32[N,3]", "feed y: f32[N,1]"],
    ["fetch loss: f32[]", "fetch out: f32[N,1]", "state w: f32[3,1]", "state seen: i64[]"],
    symbols={"N": [3, 0, 1]},
    one=np.array(1, np.int64),
)
INFER = model(
    [node("MatMul", "x w", "out")],
    ["state w: f32[3,1]", "feed x: f32[N,3]"],
    ["fetch out: f32[N,1]"],
    symbols={"N": [1, 0, 1]},
)
STARTUP = model(
    [node("Constant", "", "w@NEXT", value_floats=[1.0, 2.0, 3.0])],
    ["state w: f32[3]", "state unused: f32[2]"],
    ["state w: f32[3]"],
)
MODELS = {"step": STEP, "infer": INFER}


def engine(models: dict[str, ModelProto] | None = None, threads: int = 1) -> OnnxEngine:
    return OnnxEngine({name: made.SerializeToString() for name, made in (models or MODELS).items()}, threads)


def buffer(values: object, dtype: str = "f4") -> Buffer:
    return Buffer(aligned_copy(np.array(values, dtype)))


def rows(count: int, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 3)).astype(np.float32)
    return aligned_copy(x), aligned_copy(x @ np.array([[1], [-2], [0.5]], np.float32))


class Linear:
    """State of the linear model, bound to an engine, with numpy's version beside it."""

    def __init__(self, run: OnnxEngine) -> None:
        self.engine = run
        self.w, self.seen, self.lr = buffer(np.zeros((3, 1))), buffer(0, "i8"), buffer(0.05)
        self.handles = [run.state(each) for each in (self.w, self.seen, self.lr)]
        self.expected = np.zeros((3, 1), np.float32)

    def step(self, x: Array, y: Array) -> list[Array]:
        fetched = self.engine.call("step", [*self.handles, self.engine.tensor(x), self.engine.tensor(y)])
        residual = x @ self.expected - y
        np.testing.assert_allclose(fetched[0], np.mean(residual**2), rtol=1e-5)
        np.testing.assert_allclose(fetched[1], x @ self.expected, rtol=1e-5, atol=1e-6)
        self.expected = self.expected - np.float32(0.05) * (x.T @ residual)
        return fetched

    def infer(self, x: Array) -> Array:
        return self.engine.call("infer", [self.handles[0], self.engine.tensor(x)])[0]


# -- state ------------------------------------------------------------------------------------------------------------


def test_steps_of_any_size_train_and_other_functions_see_it() -> None:
    linear = Linear(engine())
    for count in (5, 8, 8, 1, 5, 100):
        x, y = rows(count, seed=count)
        y /= count
        linear.step(x, y)
        np.testing.assert_allclose(linear.infer(x), x @ linear.expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(linear.w.array, linear.expected, rtol=1e-5)
    assert linear.seen.array == 6
    assert linear.lr.array == np.float32(0.05)


def test_a_step_copies_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Any] = []
    monkeypatch.setattr(np, "copyto", lambda *arrays: copies.append(arrays))
    linear = Linear(engine())
    x, y = rows(4)
    for number in range(1, 8):
        linear.step(x, y)
        assert linear.w.is_away == (number % 2 == 1)
        assert linear.seen.is_away == linear.w.is_away
    assert not copies
    assert not linear.lr.is_away
    assert len(linear.lr.sides) == 1  # what is only read takes no second array
    assert linear.w.is_away
    _ = linear.w.array
    assert len(copies) == 1


def test_fetches_and_feeds_are_the_callers() -> None:
    linear = Linear(engine())
    x, y = rows(4)
    before = x.copy()
    kept = linear.step(x, y)
    first = [array.copy() for array in kept]
    linear.step(x, y)
    np.testing.assert_array_equal(x, before)
    for array, was in zip(kept, first, strict=True):
        np.testing.assert_array_equal(array, was)  # later steps do not write into it
    assert all(array.flags.writeable and array.flags.c_contiguous for array in kept)


def test_what_the_owner_writes_is_what_the_next_step_reads_on_either_side() -> None:
    linear = Linear(engine())
    x, y = rows(4)
    for _ in range(3):
        linear.step(x, y)
        linear.w.array[...] = linear.expected = np.array([[0.5], [0], [1]], np.float32)
        np.testing.assert_allclose(linear.infer(x), x @ linear.expected, rtol=1e-6)
        linear.step(x, y)
        linear.w.put(0)
        linear.expected = np.zeros((3, 1), np.float32)
        linear.lr.array[...] = 0.05
    linear.step(x, y)
    np.testing.assert_allclose(linear.w.array, linear.expected, rtol=1e-5)


def test_engines_and_scopes_that_share_buffers_or_models_do_not_mix_them_up() -> None:
    run = engine()
    first, second = Linear(run), Linear(run)  # one engine, two sets of state
    second.w.put(1)
    second.expected += 1
    other = engine()  # another engine on the first's state
    x, y = rows(6)
    for _ in range(3):
        first.step(x, y)
        second.step(x, y)
        second.step(x, y)
        seen = other.call("infer", [other.state(first.w), other.tensor(x)])[0]
        np.testing.assert_allclose(seen, x @ first.expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.w.array, first.expected, rtol=1e-5)
    np.testing.assert_allclose(second.w.array, second.expected, rtol=1e-5)


def test_functions_that_write_parts_of_the_state_take_turns() -> None:
    """Every combination of sides occurs, more of them than are kept bound."""
    names = [f"s{i}" for i in range(5)]
    functions = {
        name: model([node("Add", f"{name} x", f"{name}@NEXT")], [f"state {name}: f32[2]", "feed x: f32[2]"],
                    [f"state {name}: f32[2]"])
        for name in names
    }  # fmt: skip
    total = "s0 s1 s2 s3 s4"
    functions["sum"] = model(
        [node("Sum", total, "sum")], [f"state {name}: f32[2]" for name in names], ["fetch sum: f32[2]"]
    )
    run = engine(functions)
    state = [run.state(buffer((0, 0))) for _ in names]
    expected, random = np.zeros(2), np.random.default_rng(0)
    for number in range(200):
        which = int(random.integers(5))
        given = aligned_copy(random.integers(0, 9, 2).astype(np.float32))
        run.call(names[which], [state[which], run.tensor(given)])
        expected += given
        (found,) = run.call("sum", state)
        np.testing.assert_array_equal(found, expected)
        if number % 17 == 0:
            _ = state[int(random.integers(5))].array


def test_state_that_is_only_written_needs_no_value() -> None:
    run = engine({"startup": STARTUP})
    w, unused = buffer((np.nan,) * 3), buffer((7, 7))
    assert run.call("startup", [run.state(w), run.state(unused)]) == []
    assert w.array.tolist() == [1, 2, 3]
    assert unused.array.tolist() == [7, 7]


@pytest.mark.parametrize("taken", [True, False])
def test_new_state_arrives_however_the_graph_makes_it(taken: bool) -> None:
    """Constants that are folded, branches, loops, and values that have two names."""
    from onnx import helper
    from onnx_functions import info

    then = helper.make_graph([node("Identity", "w", "a")], "then", [], [info("a: f32[2]")])
    other = helper.make_graph([node("Add", "w w", "b")], "else", [], [info("b: f32[2]")])
    body = helper.make_graph(
        [node("Add", "h w", "h_out"), node("Identity", "go", "go_out")],
        "body",
        [info("i: i64[]"), info("go: bool[]"), info("h: f32[2]")],
        [info("go_out: bool[]"), info("h_out: f32[2]")],
    )  # fmt: skip
    names = ("w", "branch", "loop", "zero", "same", "twice")
    made = model(
        [
            node("If", "c", "branch@NEXT", then_branch=then, else_branch=other),
            helper.make_node("Loop", ["n", "", "w"], ["loop@NEXT"], body=body),
            node("ConstantOfShape", "size", "zero@NEXT"),
            node("Identity", "w", "same@NEXT"),
            node("Add", "w w", "twice@NEXT"),
            node("Identity", "twice@NEXT", "shown"),
            node("Neg", "w", "w@NEXT"),
        ],
        [*(f"state {name}: f32[2]" for name in names), "feed c: bool[]", "feed n: i64[]"],
        [*(f"state {name}: f32[2]" for name in names), "fetch shown: f32[2]"],
        size=np.array([2], np.int64),
    )
    run = engine({"step": made})
    state = {name: buffer((3, 5)) for name in names}
    feeds = [run.tensor(aligned_copy(np.array(value))) for value in (taken, 3)]
    (shown,) = run.call("step", [*(run.state(each) for each in state.values()), *feeds])
    factors = {"w": -1, "branch": 1 if taken else 2, "loop": 4, "zero": 0, "same": 1, "twice": 2}
    for name, factor in factors.items():
        assert state[name].array.tolist() == [3 * factor, 5 * factor], name
    assert shown.tolist() == [6, 10]


@pytest.mark.parametrize("dtype", ["f32", "f64", "i64", "u32", "u64", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3)])
def test_every_element_type_and_shape_passes(dtype: str, shape: tuple[int, ...]) -> None:
    kind = f"{dtype}[{','.join(map(str, shape))}]"
    made = model(
        [node("Identity", "x", "s@NEXT"), node("Identity", "s", "y")],
        [f"state s: {kind}", f"feed x: {kind}"],
        [f"fetch y: {kind}", f"state s: {kind}"],
    )
    numpy = {"f32": "f4", "f64": "f8", "i64": "i8", "u32": "u4", "u64": "u8", "bool": "?"}[dtype]
    run = engine({"step": made})
    old = np.ones(shape, numpy)
    state = buffer(old, numpy)
    new = aligned_copy((np.arange(old.size).reshape(shape) * ((1 << 30) + 3)).astype(numpy))
    (found,) = run.call("step", [run.state(state), run.tensor(new)])
    assert (found.dtype, found.shape) == (old.dtype, shape)
    np.testing.assert_array_equal(found, old)
    np.testing.assert_array_equal(state.array, new)


def test_sizes_that_only_a_run_tells_are_found() -> None:
    made = model(
        [
            node("NonZero", "x", "where"),
            node("Concat", "x x", "twice", axis=0),
            node("NonZero", "twice", "of_both"),
            node("Add", "s one", "s@NEXT"),
        ],
        ["state s: f32[]", "feed x: f32[N]"],
        ["fetch where: i64[1,M]", "fetch of_both: i64[1,M2]", "fetch twice: f32[2*N]", "state s: f32[]"],
        symbols={"N": [1, 0, 1]},
        one=np.float32(1),
    )
    run = engine({"step": made})
    state = run.state(buffer(0))
    for values in ([1, 0, 2], [0, 1], [5, 5, 5, 5], [0]):
        where, of_both, twice = run.call("step", [state, run.tensor(aligned_copy(np.array(values, np.float32)))])
        assert where.tolist() == [np.flatnonzero(values).tolist()]
        assert twice.tolist() == values + values
        assert of_both.tolist() == [np.flatnonzero(values + values).tolist()]
    assert state.array == 4


# -- failures ---------------------------------------------------------------------------------------------------------

FAILS = model(
    [
        node("Add", "w x", "w@NEXT"),
        node("Gather", "w@NEXT place", "picked"),
    ],
    ["state w: f32[2]", "feed x: f32[2]", "feed place: i64[]"],
    ["fetch picked: f32[]", "state w: f32[2]"],
)


def test_a_step_that_fails_in_the_middle_leaves_state_as_it_was() -> None:
    run = engine({"step": FAILS})
    w, x = run.state(buffer((1, 2))), run.tensor(aligned_copy(np.ones(2, np.float32)))
    good, bad = (run.tensor(aligned_copy(np.array(place, np.int64))) for place in (1, 7))
    expected = 2.0
    for _ in range(2):  # from either side
        with pytest.raises(EngineError, match="did not run it") as caught:
            run.call("step", [w, x, bad])
        assert "indices element out of data bounds" in caught.value.what
        assert "onnxruntime_src" not in caught.value.what
        assert caught.value.where == "function 'step'"
        assert w.sides[0].tolist() == [expected - 1, expected]
        expected += 1
        assert run.call("step", [w, x, good])[0] == expected
    assert w.array.tolist() == [expected - 1, expected]


@pytest.mark.parametrize("spoil", [
    lambda run, given: given.pop(),
    lambda run, given: given.__setitem__(3, run.tensor(aligned((2, 5), np.dtype("f4")))),
    lambda run, given: given.__setitem__(3, run.tensor(aligned((2, 3), np.dtype("f8")))),
    lambda run, given: given.__setitem__(3, run.tensor(aligned((), np.dtype("f4")))),
    lambda run, given: given.__setitem__(0, run.state(buffer(np.zeros((4, 1))))),
    lambda run, given: given.__setitem__(0, run.state(buffer(np.zeros((3, 1)), "f8"))),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_and_change_nothing(spoil: Any) -> None:
    linear = Linear(run := engine())
    x, y = rows(2)
    linear.step(x, y)
    before = linear.w.array.copy()
    given = [*linear.handles, run.tensor(x), run.tensor(y)]
    spoil(run, given)
    with pytest.raises(EngineError) as caught:
        run.call("step", given)
    assert caught.value.where == "function 'step'"
    np.testing.assert_array_equal(linear.w.array, before)
    linear.step(x, y)
    np.testing.assert_allclose(linear.w.array, linear.expected, rtol=1e-5)


def test_memory_that_is_not_aligned_or_contiguous_is_not_taken() -> None:
    run = engine()
    for array in (aligned((2, 3), np.dtype("f4"))[:, ::2], aligned((9,), np.dtype("f4"))[1:]):
        for take in (run.tensor, lambda array: run.state(Buffer(array))):
            with pytest.raises(ValueError, match="64-byte"):
                take(array)


# -- streams ----------------------------------------------------------------------------------------------------------

KEY = np.arange(100, 108, dtype=np.uint32)
DRAW = (1 << 40) + 5


def words_model(*streams: Any, **symbols: Any) -> ModelProto:
    """Returns the words it is given: key, draw, row, and a feed x of N rows."""
    lengths = {s["input"]: f"{s['blocks']['scale'] * 16}{'*N' if s['blocks']['symbol'] else ''}" for s in streams}
    return model(
        [*(node("Identity", name, f"{name}_out") for name in lengths), node("Identity", "x", "same")],
        ["key: u32[8]", "draw: u64[]", "row: i64[]", "feed x: f32[N]"],
        [*(f"fetch {name}_out: u32[{length}]" for name, length in lengths.items()), "fetch same: f32[N]"],
        streams=streams,
        symbols={"N": [3, 0, 1]},
    )


class Streams:
    def __init__(self, *streams: Any) -> None:
        self.engine = engine({"step": words_model(*streams)})
        self.key, self.draw = aligned_copy(KEY), aligned_copy(np.array(DRAW, np.uint64))
        self.row = aligned_copy(np.array(0, np.int64))

    def call(self, count: int = 2, row: int = 0) -> list[Array]:
        self.row[...] = row
        x = aligned_copy(np.ones(count, np.float32))
        return self.engine.call("step", [self.engine.tensor(a) for a in (self.key, self.draw, self.row, x)])[:-1]

    @property
    def memory(self) -> list[Array]:
        return [words.array for words in self.engine._functions["step"]._words.values()]


def words(domain: Domain, tensor: int, blocks: int, first: int = 0, draw: int = DRAW, key: Array = KEY) -> Array:
    made = keystream.words(key, domain=domain, tensor=tensor, draw=draw, count_blocks=blocks, first_block=first)
    return made.ravel()


def test_streams_hold_the_words_of_their_key_draw_domain_and_tensor() -> None:
    given = Streams(
        stream("a", domain=1, tensor=0, scale=32), stream("b", domain=4, tensor=9, scale=16, symbol="N"),
    )  # fmt: skip
    for count in (2, 3, 3, 1):
        a, b = given.call(count)
        np.testing.assert_array_equal(a, words(Domain.GRADIENT, 0, 32))
        np.testing.assert_array_equal(b, words(Domain.MODEL, 9, 16 * count))
    given.draw[...] = 6
    given.key[...] += 1
    np.testing.assert_array_equal(given.call()[0], words(Domain.GRADIENT, 0, 32, draw=6, key=KEY + np.uint32(1)))


def test_sizes_are_counted_in_what_an_argument_has_of_them() -> None:
    """The first axis of the feed holds two elements of each row."""
    described = edited(words_model(stream("a", scale=16, symbol="N")), "fluidc.symbols", '{"N": [3, 0, 2]}')
    run = OnnxEngine({"step": described}, 1)
    feed = np.ones(6, np.float32)
    given = [aligned_copy(a) for a in (KEY, np.array(DRAW, np.uint64), np.array(0, np.int64), feed)]
    with pytest.raises(EngineError):  # the output is declared to have as many elements as there are rows
        run.call("step", [run.tensor(a) for a in given])
    assert [words.array.size for words in run._functions["step"]._words.values()] == [16 * 16 * 3]


def test_a_window_begins_where_the_rows_of_a_part_do() -> None:
    window = {"row": 2, "part": 40, "group": 160, "per": 16}
    given = Streams(stream("a", domain=4, scale=64, window=window), stream("b", domain=4, scale=64))
    for row in (0, 3, 4, 10, 64):
        a, b = given.call(row=row)
        np.testing.assert_array_equal(a, words(Domain.MODEL, 0, 64, first=row * 40 // 160 * 16))
        np.testing.assert_array_equal(b, words(Domain.MODEL, 0, 64))


def test_words_are_wiped_after_the_call_also_when_it_failed() -> None:
    failing = model(
        [node("Gather", "words place", "picked")],
        ["key: u32[8]", "draw: u64[]", "feed place: i64[]"],
        ["fetch picked: u32[]"],
        streams=[stream(scale=16)],
    )
    run = engine({"step": failing})
    key, draw = run.tensor(aligned_copy(KEY)), run.tensor(aligned_copy(np.array(DRAW, np.uint64)))
    (picked,) = run.call("step", [key, draw, run.tensor(aligned_copy(np.array(20, np.int64)))])
    assert picked == words(Domain.GRADIENT, 0, 16)[20]
    (memory,) = (each.array for each in run._functions["step"]._words.values())
    assert memory.size == 256
    assert not memory.any()
    with pytest.raises(EngineError, match="out of data bounds"):
        run.call("step", [key, draw, run.tensor(aligned_copy(np.array(9999, np.int64)))])
    assert not memory.any()


def test_words_stay_in_one_place_while_sizes_stay() -> None:
    given = Streams(stream("a", scale=16, symbol="N"))
    given.call(3)
    (memory,) = given.memory
    given.call(3)
    assert given.memory[0] is memory
    given.call(4)
    assert given.memory[0] is not memory
    assert not memory.any()


def test_a_stream_that_would_repeat_itself_is_refused() -> None:
    window = {"row": 2, "part": 1 << 20, "group": 1, "per": 1}
    given = Streams(stream("a", domain=4, scale=16, window=window))
    with pytest.raises(EngineError, match=r"no random words for 'a': blocks .* pass the 32-bit block counter"):
        given.call(row=1 << 12)
    given.draw[...] = 1 << 48
    with pytest.raises(EngineError, match="draw = 281474976710656 is outside"):
        given.call()


# -- models that lie --------------------------------------------------------------------------------------------------

STREAMED = words_model(stream("a", scale=16))
ARGUMENTS = json.loads(next(p.value for p in STREAMED.metadata_props if p.key == "fluidc.inputs"))


def changed(position: int, **fields: Any) -> str:
    return json.dumps([each | fields if i == position else each for i, each in enumerate(ARGUMENTS)])


LIES: list[tuple[str, str | None, str]] = [
    ("inputs", None, "it has no metadata 'fluidc.inputs'"),
    ("outputs", None, "no metadata 'fluidc.outputs'"),
    ("symbols", None, "no metadata 'fluidc.symbols'"),
    ("streams", None, "no metadata 'fluidc.streams'"),
    ("inputs", "[", "not readable JSON"),
    ("inputs", "[" * 100_000, "not readable JSON"),
    ("inputs", "{}", "a list is wanted"),
    ("inputs", '[], "more": 1', "'more' is unknown here"),
    ("inputs", changed(0, kind="secret"), 'one of state, feed, .* is wanted, found "secret"'),
    ("inputs", changed(0, kind=3), "one of state, feed"),
    ("inputs", changed(3, kind="feed", input="y"), "not those that it says it has: it has 'x'"),
    ("inputs", changed(0, input="key"), "it lacks 'key'"),
    ("inputs", changed(0, input="x"), "'x' is listed twice"),
    ("inputs", changed(2, input="a"), "'a' is listed twice"),
    ("inputs", changed(0, extra=1), "'extra' is unknown here"),
    ("inputs", json.dumps([*ARGUMENTS[1:], ARGUMENTS[0]]), "takes argument 0 for a key"),
    ("outputs", "[]", "outputs are not those that it says it has: it has 'a_out'"),
    ("outputs", '[{"kind": "state", "name": "w", "output": "a_out"}]', "the result 'w' is no state"),
    ("outputs", '[{"kind": "fetch", "name": "w"}]', "'output' is missing"),
    ("symbols", "[]", "an object is wanted"),
    ("symbols", '{"N": [9, 0, 1]}', "the size of N is read from argument 9 of 4"),
    ("symbols", '{"N": [3, 0, 0]}', "argument, axis and scale are wanted"),
    ("symbols", '{"N": [3]}', "argument, axis and scale are wanted"),
    ("symbols", '{"N": [-1, 0, 1]}', "an integer in"),
    ("streams", "[]", "it has 'a'"),
    ("streams", json.dumps([stream("a", key=1)]), "takes argument 1 for a key"),
    ("streams", json.dumps([stream("a", draw=0)]), "takes argument 0 for a draw"),
    ("streams", json.dumps([stream("a", draw=77)]), "takes argument 77 for a draw"),
    ("streams", json.dumps([stream("a", domain=7)]), "there is no domain 7"),
    ("streams", json.dumps([stream("a", tensor=1 << 24)]), "an integer in"),
    ("streams", json.dumps([stream("a", scale=0)]), "an integer in"),
    ("streams", json.dumps([stream("a", symbol="M")]), "has the length M, which no argument tells"),
    ("streams", json.dumps([stream("a", window={"row": 0, "part": 1, "group": 1, "per": 1})]), "for a row"),
    ("streams", json.dumps([stream("a", window={"row": 2, "part": 1, "group": 0, "per": 1})]), "an integer in"),
]


@pytest.mark.parametrize(("key", "text", "message"), LIES, ids=[message for _, _, message in LIES])
def test_a_model_that_does_not_say_how_it_is_called_is_refused(key: str, text: str | None, message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        OnnxEngine({"step": edited(STREAMED, f"fluidc.{key}", text)}, 1)
    assert caught.value.where is not None
    assert caught.value.where.startswith("step.onnx")
    assert caught.value.hint == "compile the script again"


def test_the_size_of_a_symbol_is_not_read_from_state_nor_beyond_the_axes() -> None:
    wrong = edited(INFER, "fluidc.symbols", '{"N": [0, 0, 1]}')
    with pytest.raises(EngineError, match="read from state, whose sizes are fixed"):
        OnnxEngine({"infer": wrong}, 1)
    run = OnnxEngine({"infer": edited(INFER, "fluidc.symbols", '{"N": [1, 5, 1]}')}, 1)
    with pytest.raises(EngineError, match=r"argument 1 has no axis 5: it is \[2, 3\]"):
        run.call("infer", [run.state(buffer(np.zeros((3, 1)))), run.tensor(rows(2)[0])])


@pytest.mark.parametrize("data", [b"", b"onnx", STEP.SerializeToString()[:-200], bytes(range(256))],
                         ids=["empty", "text", "truncated", "bytes"])  # fmt: skip
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        OnnxEngine({"step": data}, 1)
    assert caught.value.where is not None
    assert caught.value.where.startswith("step.onnx")


def test_an_op_that_this_runtime_lacks_is_named() -> None:
    made = model([node("Magic", "x", "y", domain="com.microsoft")], ["feed x: f32[2]"], ["fetch y: f32[2]"])
    made.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(EngineError, match=r"does not load the model: .*Magic") as caught:
        engine({"step": made})
    assert "onnxruntime-training" in (caught.value.hint or "")


def test_a_function_that_there_is_not_is_named() -> None:
    with pytest.raises(EngineError, match="no function 'apply'") as caught:
        engine().call("apply", [])
    assert caught.value.where == "functions: infer, step"


def test_a_fetch_of_a_type_that_numpy_lacks_is_refused() -> None:
    made = model([node("Cast", "x", "y", to=16)], ["feed x: f32[2]"], ["fetch y: bf16[2]"])
    with pytest.raises(EngineError, match=r"'y' is a tensor\(bfloat16\)"):
        engine({"step": made})


def test_a_missing_installation_is_told_by_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(onnx_engine.importlib, "import_module", fail)
    with pytest.raises(EngineError, match="onnxruntime is not installed") as caught:
        engine()
    assert "pip install onnxruntime" in (caught.value.hint or "")


# -- the process ------------------------------------------------------------------------------------------------------

_QUIET = """
import sys
from pathlib import Path
import numpy as np
from fluidc.runtime.buffers import Buffer, aligned_copy
from fluidc.runtime.errors import EngineError
from fluidc.runtime.onnx_engine import OnnxEngine
run = OnnxEngine({"step": Path(sys.argv[1]).read_bytes()}, 2)
w, x = run.state(Buffer(aligned_copy(np.ones(2, "f4")))), run.tensor(aligned_copy(np.ones(2, "f4")))
try:
    run.call("step", [w, x, run.tensor(aligned_copy(np.array(9)))])
except EngineError:
    print("refused", "tvm" in sys.modules)
"""


def test_nothing_is_written_to_the_terminal_and_nothing_more_is_loaded(tmp_path: Any) -> None:
    (tmp_path / "step.onnx").write_bytes(FAILS.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _QUIET, str(tmp_path / "step.onnx")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("refused False\n", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_goes_on_without_the_workers() -> None:
    run = engine(threads=2)
    linear = Linear(run)
    x, y = rows(200_000)  # enough for both threads
    arguments = [*linear.handles, run.tensor(x), run.tensor(y)]
    linear.lr.put(1e-6)
    run.call("step", arguments)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            run.call("step", arguments)
            os.write(write, linear.w.array.tobytes())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as found:
        of_child = np.frombuffer(found.read(), np.float32)
    assert os.waitpid(child, 0)[1] == 0
    run.call("step", arguments)
    np.testing.assert_allclose(linear.w.array.ravel(), of_child, rtol=1e-5)


def test_workers_rest_after_a_call() -> None:
    run = engine(threads=2)
    linear = Linear(run)
    with numpy_threads(1):  # its own spin longer
        x, y = rows(200_000)
    time.sleep(0.15)  # those of earlier tests too
    linear.lr.put(0)
    arguments = [*linear.handles, run.tensor(x), run.tensor(y)]
    shares: list[float] = []
    for _ in range(3):
        run.call("step", arguments)
        start = time.process_time()
        time.sleep(0.02)
        shares.append((time.process_time() - start) / 0.02)
    assert min(shares) < 0.5


def test_threads_are_those_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def session(library: Any, function: str, made: bytes, threads: int, profiles: Any) -> Any:
        asked.append(threads)
        return original(library, function, made, threads, profiles)

    original = onnx_engine._session
    monkeypatch.setattr(onnx_engine, "_session", session)
    for threads in (1, 2):
        engine(threads=threads)
    assert asked == [1, 1, 2, 2]
    with pytest.raises(EngineError, match="threads is 0"):
        engine(threads=0)
