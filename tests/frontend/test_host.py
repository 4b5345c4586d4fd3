"""Programs with ops that run on the host: what runs where and in which order, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import LoweringError, PrivacyError
from fluidc.frontend.errors import ProgramError, SequencesError
from fluidc.frontend.host.call import Environment
from fluidc.frontend.host.plan import Plan, plan
from fluidc.frontend.host.segment import Segment
from fluidc.frontend.lower import lower, rules
from fluidc.runtime.errors import PrivacyWarning

L = fluid.layers
THREE: Any = 3  # what no argument takes
X = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
Y = np.array([[0], [2], [1], [1], [2], [0]], "int64")


@pytest.fixture(autouse=True)
def main() -> Iterator[fluid.Program]:
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 3
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(fluid.Scope()):
        yield main


def data(name: str = "x", shape: tuple[int, ...] = (-1, 4), dtype: str = "float32", **options: Any) -> fluid.Variable:
    return L.data(name, list(shape), append_batch_size=False, dtype=dtype, **options)


def executor() -> fluid.Executor:
    """Runs in numpy, where nothing is to be learnt from compiled code."""
    exe = fluid.Executor(fluid.CPUPlace(), target="reference")
    if fluid.default_startup_program().global_block().ops:
        exe.run(fluid.default_startup_program())
    return exe


def result(name: str, shape: tuple[int, ...], dtype: str = "float32") -> fluid.Variable:
    return fluid.default_main_program().current_block().create_var(name=name, shape=shape, dtype=dtype)


def planned(main: fluid.Program, *fetches: fluid.Variable) -> Plan:
    found = plan(main, [v.name for v in fetches], rules().keys())
    assert found is not None
    return found


def kinds(found: Plan) -> list[str]:
    """One word for each step: segments with how many ops they have."""
    return [f"{len(s.ops)} compiled" if isinstance(s, Segment) else s.op.type for s in found.steps]


def classifier() -> tuple[fluid.Variable, fluid.Variable]:
    scores = L.fc(data(), 3)
    loss = L.mean(L.softmax_with_cross_entropy(scores, data("y", (-1, 1), "int64")))
    return scores, loss


def errors(scores: fluid.Variable) -> fluid.Variable:
    """1 for each example that is classified wrongly, on the host."""
    label = scores.block.var("y")
    one = L.fill_constant_batch_size_like(label, [-1], "int64", 1)
    found = L.reshape(L.argmax(scores, 1), [-1, 1])
    return L.edit_distance(found, label, normalized=False, input_length=one, label_length=one)[0]


# -- order ------------------------------------------------------------------------------------------------------


def test_a_program_without_host_ops_has_no_plan(main: fluid.Program) -> None:
    classifier()
    assert plan(main, [], rules().keys()) is None
    assert executor().host_report() == ""


def test_metrics_run_after_the_whole_step(main: fluid.Program) -> None:
    scores, loss = classifier()
    distance = errors(scores)
    fluid.optimizer.SGD(0.1).minimize(loss)
    steps = kinds(planned(main, loss, distance))
    assert steps == [f"{len(main.global_block().ops) - 1} compiled", "edit_distance"]
    exe = executor()
    first, _ = exe.run(feed={"x": X, "y": Y}, fetch_list=[loss, distance])
    for _ in range(19):
        exe.run(feed={"x": X, "y": Y}, fetch_list=[loss, distance])
    last, _ = exe.run(feed={"x": X, "y": Y}, fetch_list=[loss, distance])
    assert last < first


@pytest.mark.parametrize("target", ["reference", pytest.param("cpu", marks=pytest.mark.nightly)])
def test_a_metric_changes_nothing_of_the_training(target: str) -> None:
    """The same schedule, statistics and random numbers, to the last bit."""

    def trained(*, metric: bool) -> list[np.ndarray]:
        program, startup = fluid.Program(), fluid.Program()
        program.random_seed = startup.random_seed = 5
        with fluid.program_guard(program, startup), fluid.unique_name.guard(), fluid.scope_guard(fluid.Scope()):
            hidden = L.dropout(L.batch_norm(L.fc(data(), 8, act="relu")), 0.5)
            scores = L.fc(hidden, 3)
            loss = L.mean(L.softmax_with_cross_entropy(scores, data("y", (-1, 1), "int64")))
            if metric:
                errors(scores)
                L.Print(loss, first_n=1, summarize=0)
            fluid.optimizer.Adam(L.piecewise_decay([2, 4], [0.1, 0.01, 0.001])).minimize(loss)
            exe = fluid.Executor(fluid.CPUPlace(), target=target)
            exe.run(startup)
            losses = [exe.run(program, feed={"x": X, "y": Y}, fetch_list=[loss])[0] for _ in range(6)]
            kept = [v.name for v in program.list_vars() if v.persistable]
            return losses + [np.array(fluid.global_scope().var(name).get_tensor()) for name in kept]

    for with_metric, without in zip(trained(metric=True), trained(metric=False), strict=True):
        np.testing.assert_array_equal(with_metric, without)


def test_host_ops_on_feeds_run_before_it(main: fluid.Program) -> None:
    ids = data("ids", (-1,), "int64")
    distinct, index = L.unique(ids, "int64")
    rows = L.gather(L.embedding(L.reshape(distinct, [-1, 1]), [9, 3]), index)
    loss = L.mean(rows)
    fluid.optimizer.SGD(1.0).minimize(loss)
    assert kinds(planned(main, loss))[0] == "unique"
    assert len(kinds(planned(main, loss))) == 2
    exe = executor()
    table = fluid.global_scope().var("embedding_0.w_0").get_tensor()
    before = np.array(table, np.float32)
    exe.run(feed={"ids": np.array([4, 2, 4], "int64")}, fetch_list=[loss])
    change = before - np.array(table, np.float32)
    np.testing.assert_allclose(change[4], 2 / 9, rtol=1e-5)
    np.testing.assert_allclose(change[2], 1 / 9, rtol=1e-5)
    assert not change[[0, 1, 3]].any()


def test_what_a_host_op_decides_for_the_loss_is_computed_before_it(main: fluid.Program) -> None:
    """The scores are computed twice: once for the host op, once where the loss is differentiated through them."""
    scores, _ = classifier()
    chosen = result("chosen", (-1, 1), "int64")
    chosen.stop_gradient = True
    L.py_func(lambda s: np.array(s).argmin(1).reshape(-1, 1), L.softmax(scores), chosen)
    loss = L.mean(L.softmax_with_cross_entropy(scores, chosen))
    fluid.optimizer.SGD(0.5).minimize(loss)
    found = planned(main, loss)
    first, call, second = found.steps
    assert isinstance(first, Segment)
    assert isinstance(second, Segment)
    assert not isinstance(call, Segment)
    assert "mul" in [op.type for op in first.ops]
    assert "mul" in [op.type for op in second.ops]
    exe = executor()
    losses = [exe.run(feed={"x": X, "y": Y}, fetch_list=[loss])[0].item() for _ in range(5)]
    weights = np.array(fluid.global_scope().var("fc_0.w_0").get_tensor())
    assert np.isfinite(weights).all()
    assert losses[1] < losses[0]


def test_what_would_run_twice_must_not_be_random(main: fluid.Program) -> None:
    scores = L.dropout(L.fc(data(), 3), 0.5)
    chosen = result("chosen", (-1, 1), "int64")
    chosen.stop_gradient = True
    L.py_func(lambda s: np.array(s).argmin(1).reshape(-1, 1), scores, chosen)
    loss = L.mean(L.softmax_with_cross_entropy(scores, chosen))
    fluid.optimizer.SGD(0.5).minimize(loss)
    with pytest.raises(LoweringError, match="dropout: a host op reads what is computed from it, and the loss too; it"):
        executor().run(feed={"x": X}, fetch_list=[loss])


def test_segments_serve_all_sizes(main: fluid.Program) -> None:
    hidden = L.fc(data(), 3)
    distinct, _ = L.unique(L.reshape(L.cast(hidden * 2.0, "int64"), [-1]))
    doubled = L.fc(L.reshape(L.cast(distinct, "float32"), [-1, 1]), 2)
    exe = executor()
    for rows in (3, 6, 5, 4):
        exe.run(feed={"x": X[:rows]}, fetch_list=[doubled])
    assert len(exe._steps) == 3  # the startup program, and one build of each segment


def test_segments_serve_sequences_of_all_lengths(main: fluid.Program) -> None:
    """Sequences with equal sums have lengths of their own; labels lie beside words, though no op asks for their LoD."""
    words, others = data("words", (-1, 4), lod_level=1), data("others", (-1, 4), lod_level=1)
    labels = data("labels", (-1, 1), "int64", lod_level=1)
    scores = L.fc(words, 3, act="softmax")
    right = L.mean(L.cross_entropy(scores, labels))
    pooled = L.sequence_pool(scores, "sum") + L.fc(L.sequence_pool(others, "max"), 3)
    distinct, _ = L.unique(L.cast(L.reshape(pooled, [-1]), "int64"))
    exe = executor()
    place = fluid.CPUPlace()
    for own, other in (([2, 3], [4, 1]), ([1, 4], [3, 2]), ([2, 2], [1, 1])):
        feed = {
            "words": fluid.create_lod_tensor(np.resize(X, (sum(own), 4)), [own], place),
            "labels": fluid.create_lod_tensor(np.resize(Y, (sum(own), 1)), [own], place),
            "others": fluid.create_lod_tensor(np.resize(X, (sum(other), 4)), [other], place),
        }
        found = exe.run(feed=feed, fetch_list=[right, distinct, pooled])
        starts = np.cumsum([0, *other[:-1]])
        assert found[2].shape == (2, 3)
        biggest = np.maximum.reduceat(np.resize(X, (sum(other), 4)), starts)
        weights = [np.array(fluid.global_scope().var(f"fc_1.{part}").get_tensor()) for part in ("w_0", "b_0")]
        given = np.add.reduceat(_probabilities(np.resize(X, (sum(own), 4))), [0, own[0]])
        np.testing.assert_allclose(found[2], given + biggest @ weights[0] + weights[1], rtol=1e-5)
    assert len(exe._steps) == 2


def _probabilities(x: np.ndarray) -> np.ndarray:
    """What the first layer makes of x."""
    weights = [np.array(fluid.global_scope().var(f"fc_0.{part}").get_tensor()) for part in ("w_0", "b_0")]
    e = np.exp(x @ weights[0] + weights[1])
    return e / e.sum(1, keepdims=True)


def test_a_fetch_that_nothing_computes(main: fluid.Program) -> None:
    L.unique(data("v", (-1,)))
    result("r", (1,))
    with pytest.raises(LoweringError, match="r is fetched, but nothing in the program computes it"):
        executor().run(feed={"v": X[0]}, fetch_list=["r"])


# -- loops ------------------------------------------------------------------------------------------------------


def _counting(limit: int) -> tuple[fluid.Variable, fluid.Variable]:
    return L.fill_constant([1], "int64", 0), L.fill_constant([1], "int64", limit)


def test_a_loop_with_a_host_op_is_stepped_through(main: fluid.Program) -> None:
    at, limit = _counting(3)
    total = L.fill_constant([1], "int64", 0)
    x = data("v", (-1,), "int64")
    going_on = L.less_than(at, limit)
    with L.While(going_on).block():
        distinct, _ = L.unique(L.elementwise_mod(x, L.elementwise_add(at, L.fill_constant([1], "int64", 1))))
        L.assign(L.elementwise_add(total, L.reduce_sum(L.cast(distinct * 0 + 1, "int64"))), total)
        L.increment(at, 1, in_place=True)
        L.less_than(at, limit, cond=going_on)
    values = np.arange(7)
    found, count = executor().run(feed={"v": values}, fetch_list=[total, at])
    assert found == sum(len(set(values % (i + 1))) for i in range(3))
    assert count == 3


def test_a_branch_that_is_not_taken_leaves_its_result(main: fluid.Program) -> None:
    x = data("v", (-1,), "int64")
    flag = data("flag", (1,), "bool")
    chosen = L.cond(flag, lambda: L.unique(x)[0], lambda: x * 2)
    exe = executor()
    values = np.array([5, 5, 1], "int64")
    for holds, expected in ((True, [5, 1]), (False, [10, 10, 2])):
        (found,) = exe.run(feed={"v": values, "flag": np.array([holds])}, fetch_list=[chosen])
        np.testing.assert_array_equal(found, expected)


def test_what_the_compiler_refuses_is_stepped_through(main: fluid.Program) -> None:
    """The shape changes from trip to trip, and how often only the data say."""
    x, limit = data("v", (-1, 2)), data("limit", (1,), "int64")
    at, all_rows = L.fill_constant([1], "int64", 0), L.scale(x, 1.0)
    going_on = L.less_than(at, limit)
    with L.While(going_on).block():
        L.assign(L.concat([all_rows, x], 0), all_rows)
        L.increment(at, 1, in_place=True)
        L.less_than(at, limit, cond=going_on)
    exe = executor()
    for times in (3, 1):
        (found,) = exe.run(feed={"v": X[:2, :2], "limit": np.array([times])}, fetch_list=[all_rows])
        np.testing.assert_array_equal(found, np.tile(X[:2, :2], (times + 1, 1)))
    (line,) = exe.host_report(fetch_list=[all_rows]).splitlines()
    assert re.search(r"block \(while\): the program cannot be compiled as a whole: .", line)


def test_feeds_of_host_ops_get_the_declared_type(main: fluid.Program) -> None:
    distinct, _ = L.unique(data("v", (-1,)))
    (found,) = executor().run(feed={"v": [0.5, 0.5, 1.0]}, fetch_list=[distinct])
    assert found.dtype == np.float32
    assert found.tolist() == [0.5, 1.0]


def test_the_report_says_what_runs_on_the_host_and_why(main: fluid.Program) -> None:
    x = data("v", (-1,), "int64")
    flag = data("flag", (1,), "bool")
    L.cond(flag, lambda: L.unique(x)[0], lambda: x * 2)
    lines = executor().host_report().splitlines()
    here = re.escape(__file__)
    assert re.fullmatch(here + r":\d+ cond \(conditional_block\): its block holds unique", lines[0])
    assert re.fullmatch(here + r":\d+ cond \(select_input\): it chooses between branches .*", lines[1])
    assert any(
        re.fullmatch(here + r":\d+ unique \(unique\): the size of its result depends on the values of its input", line)
        for line in lines
    )


# -- py_func ----------------------------------------------------------------------------------------------------


def test_py_func_gets_tensors_and_returns_arrays(main: fluid.Program) -> None:
    rows = data("rows", (-1, 1), lod_level=1)
    seen: list[list[list[int]]] = []

    def lengths(x: fluid.LoDTensor, y: fluid.LoDTensor) -> tuple[np.ndarray, fluid.LoDTensor]:
        seen.append(x.recursive_sequence_lengths())
        return np.array(x).sum(0), fluid.create_lod_tensor(np.array(y, np.float32) * 2, [[1, 2]], fluid.CPUPlace())

    total, twice = result("total", (1,)), result("twice", (-1, 1))
    returned = L.py_func(lengths, [rows, rows], [total, twice])
    assert isinstance(returned, list)
    assert returned[0] is total
    L.py_func(lambda x: seen.append([[len(np.array(x))]]), total, None)
    fed = fluid.create_lod_tensor(np.array([[1.0], [2.0], [4.0]], "float32"), [[2, 1]], fluid.CPUPlace())
    got = executor().run(feed={"rows": fed}, fetch_list=[total, twice], return_numpy=False)
    assert np.array(got[0]) == [7.0]
    assert got[1].recursive_sequence_lengths() == [[1, 2]]
    assert seen == [[[2, 1]], [[1]]]
    with pytest.raises(SequencesError, match="the result 'twice' holds sequences"):
        executor().run(feed={"rows": fed}, fetch_list=[twice])


def test_py_func_that_fails_leaves_the_scope_as_it_was(main: fluid.Program) -> None:
    _, loss = classifier()
    fluid.optimizer.Adam(0.1).minimize(loss)

    def fail(x: fluid.LoDTensor) -> None:
        raise KeyError("mine")

    L.py_func(fail, loss, None)
    exe = executor()
    names = [v.name for v in main.list_vars() if v.persistable]
    before = {name: np.array(fluid.global_scope().var(name).get_tensor()) for name in names}
    with pytest.raises(KeyError, match="mine") as caught:
        exe.run(feed={"x": X, "y": Y})
    assert caught.value.__notes__ == [f"in py_func (py_func) at {__file__}:{_line(fail) + 3}"]
    for name in names:
        np.testing.assert_array_equal(fluid.global_scope().var(name).get_tensor(), before[name])


def _line(function: object) -> int:
    return function.__code__.co_firstlineno  # type: ignore[attr-defined]


def test_state_is_copied_only_where_something_may_fail_later(
    main: fluid.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loss = classifier()
    L.Print(loss, summarize=0)
    fluid.optimizer.SGD(0.1).minimize(loss)
    copied: list[str] = []
    monkeypatch.setattr(Environment, "remember", lambda self, buffers: copied.extend(sorted(buffers)))
    exe = executor()
    exe.run(feed={"x": X, "y": Y})
    assert copied == []
    L.py_func(lambda x: None, loss, None)
    exe.run(feed={"x": X, "y": Y})
    assert copied == ["fc_0.b_0", "fc_0.w_0"]


def test_py_func_without_a_result_it_promised(main: fluid.Program) -> None:
    L.py_func(lambda x: None, data(), result("r", (1,)))
    with pytest.raises(ProgramError) as caught:
        executor().run(feed={"x": X})
    assert caught.value.what == "py_func: the function returned 0 values, the op has 1 results (r)"
    assert caught.value.hint == "return one array for each Variable in out"


def test_backward_func_without_a_gradient_it_promised(main: fluid.Program) -> None:
    out = result("out", (-1, 3))
    L.py_func(lambda x: np.array(x), L.fc(data(), 3), out, lambda x, y, dy: [])
    loss = L.mean(out)
    fluid.optimizer.SGD(0.1).minimize(loss)
    exe = executor()
    weights = fluid.global_scope().var("fc_0.w_0").get_tensor()
    before = np.array(weights)
    with pytest.raises(ProgramError) as caught:
        exe.run(feed={"x": X}, fetch_list=[loss])
    assert caught.value.what == "py_func: backward_func returned 0 values, the op has 1 inputs (fc_0.tmp_1)"
    assert caught.value.hint == "return one gradient for each Variable in x, None where there is none"
    np.testing.assert_array_equal(weights, before)


def test_backward_func_with_a_gradient_of_another_shape(main: fluid.Program) -> None:
    out = result("out", (-1, 3))
    L.py_func(lambda x: np.array(x), L.fc(data(), 3), out, lambda x, y, dy: np.zeros(2))
    loss = L.mean(out)
    fluid.optimizer.SGD(0.1).minimize(loss)
    with pytest.raises(ProgramError, match=r"py_func: backward_func returned \[2\] for fc_0.tmp_1 \[6, 3\]"):
        executor().run(feed={"x": X}, fetch_list=[loss])


def test_py_func_on_the_way_to_the_loss(main: fluid.Program) -> None:
    out = result("out", (-1, 3))
    L.py_func(lambda x: np.array(x), L.fc(data(), 3), out)
    loss = L.mean(out)
    fluid.optimizer.SGD(0.1).minimize(loss)
    with pytest.raises(LoweringError) as caught:
        executor().run(feed={"x": X}, fetch_list=[loss])
    assert caught.value.what == (
        f"py_func: py_func runs on the host (it calls Python) and stands between parameters and the loss {loss.name}, "
        "where it has no gradient"
    )
    assert caught.value.hint == (
        "set stop_gradient = True on its result, give py_func a backward_func, or use layers that have gradients"
    )


# -- Print ------------------------------------------------------------------------------------------------------


def _printed(text: str) -> list[str]:
    return [re.sub(r"^\d+\t", "TIME\t", line) for line in text.splitlines()]


def test_print_shows_value_and_gradient_after_the_step(main: fluid.Program, capsys: pytest.CaptureFixture[str]) -> None:
    x = data("x", (-1, 2), lod_level=1)
    shown = L.Print(L.fc(x, 1, param_attr=fluid.initializer.ConstantInitializer(0.5), bias_attr=False), message="fc")
    loss = L.mean(shown)
    fluid.optimizer.SGD(0.1).minimize(loss)
    fed = fluid.create_lod_tensor(np.arange(8).reshape(4, 2).astype("float32"), [[1, 3]], fluid.CPUPlace())
    executor().run(feed={"x": fed}, fetch_list=[loss])
    assert _printed(capsys.readouterr().out) == [
        "TIME\tfc\tThe place is:CPUPlace",
        "Tensor[fc_0.tmp_0]",
        "\tshape: [4,1,]",
        "\tdtype: f",
        "\tLoD: [[ 0,1,4, ]]",
        "\tdata: 0.5,2.5,4.5,6.5,",
        "TIME\tfc\tThe place is:CPUPlace",
        "Tensor[print_fc_0.tmp_0_0.tmp_0@GRAD]",
        "\tshape: [4,1,]",
        "\tdtype: f",
        "\tLoD: [[ 0,1,4, ]]",
        "\tdata: 0.25,0.25,0.25,0.25,",
    ]


def test_print_shows_the_gradient_at_its_place(main: fluid.Program, capsys: pytest.CaptureFixture[str]) -> None:
    """Other uses of what is printed add to its gradient, and not to that of the printed copy."""
    hidden = L.fc(data(), 1)
    shown = L.Print(hidden, print_phase="backward", summarize=2, print_tensor_name=False, print_tensor_shape=False)
    loss = L.reduce_sum(shown) + 3.0 * L.reduce_sum(hidden)
    fluid.optimizer.SGD(0.1).minimize(loss)
    executor().run(feed={"x": X}, fetch_list=[loss])
    assert _printed(capsys.readouterr().out)[1:] == ["\tdtype: f", "\tdata: 1,1,"]


def test_print_in_a_loop_counts(main: fluid.Program, capsys: pytest.CaptureFixture[str]) -> None:
    at, limit = _counting(4)
    going_on = L.less_than(at, limit)
    with L.While(going_on).block():
        L.Print(at, first_n=2, print_tensor_type=False, print_tensor_shape=False, print_tensor_name=False)
        L.increment(at, 1, in_place=True)
        L.less_than(at, limit, cond=going_on)
    exe = executor()
    for _ in range(2):
        exe.run(fetch_list=[at])
    assert _printed(capsys.readouterr().out)[1::2] == ["\tdata: 0,", "\tdata: 1,"] * 2


def test_print_in_a_compiled_loop_says_that_it_prints_nothing(main: fluid.Program) -> None:
    rnn = L.StaticRNN()
    with rnn.step():
        step = rnn.step_input(data("x", (3, 2, 4)))
        before = rnn.memory(init=data("first", (2, 4)))
        after = L.Print(step + before)
        rnn.update_memory(before, after)
        rnn.step_output(after)
    loss = L.mean(L.fc(rnn(), 1))
    fluid.optimizer.SGD(0.1).minimize(loss)
    with pytest.warns(UserWarning, match="Print is in a loop or branch that is compiled, and prints nothing there"):
        executor().run(feed={"x": np.ones((3, 2, 4), "f4"), "first": np.ones((2, 4), "f4")}, fetch_list=[loss])


# -- privacy ----------------------------------------------------------------------------------------------------


def _private(loss: fluid.Variable) -> None:
    fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=4.0, sigma=1.0, dataset_size=6).minimize(loss)


def test_private_programs_may_have_metrics(main: fluid.Program) -> None:
    scores, loss = classifier()
    distance = errors(scores)
    _private(loss)
    exe = executor()
    with pytest.warns(PrivacyWarning, match=r"edit_distance at .* its results are exact and NOT PRIVATE"):
        (found,) = exe.run(feed={"x": X, "y": Y}, fetch_list=[distance])
    assert set(found.reshape(-1)) <= {0.0, 1.0}
    assert fluid.privacy.spent(main).steps == 1


@pytest.mark.parametrize("kind", ["py_func", "print", "read by the step"])
def test_private_programs_refuse_other_host_ops(main: fluid.Program, kind: str) -> None:
    scores, loss = classifier()
    if kind == "py_func":
        L.py_func(lambda x: None, loss, None)
    elif kind == "print":
        loss = L.Print(loss)
    else:
        L.scale(errors(scores), 2.0)
    _private(loss)
    with pytest.raises(PrivacyError, match="runs on the host and sees examples as they are") as caught:
        executor().run(feed={"x": X, "y": Y}, fetch_list=[loss])
    assert "program.clone(for_test=True)" in str(caught.value.hint)


# -- artifacts --------------------------------------------------------------------------------------------------


def test_artifacts_name_the_op(main: fluid.Program) -> None:
    L.py_func(lambda x: None, data(), None)
    with pytest.raises(LoweringError, match=r"py_func: py_func is not compiled, but run on the host by an Executor"):
        lower(main)


def test_wrong_arguments(main: fluid.Program) -> None:
    x = data()
    with pytest.raises(TypeError, match="py_func: func and backward_func must be functions"):
        L.py_func(THREE, x, None)
    with pytest.raises(ProgramError, match="py_func: r has no shape"):
        L.py_func(len, x, result("r", ()))
    with pytest.raises(ProgramError, match="py_func: x is to be skipped, and is in neither x nor out"):
        L.py_func(len, None, result("q", (1,)), len, x)
    with pytest.raises(ProgramError, match="Print: print_phase is 'never'"):
        L.Print(x, print_phase="never")
    with pytest.raises(ProgramError, match="chunk_eval: unknown chunk_scheme 'BIO'"):
        L.chunk_eval(data("a", (-1, 1), "int64"), data("b", (-1, 1), "int64"), "BIO", 2)


def test_sequences_are_missing(main: fluid.Program) -> None:
    distance, _ = L.edit_distance(data("a", (-1, 1), "int64"), data("b", (-1, 1), "int64"))
    with pytest.raises(ProgramError, match="edit_distance: a has neither LoD nor lengths"):
        executor().run(feed={"a": Y, "b": Y}, fetch_list=[distance])
