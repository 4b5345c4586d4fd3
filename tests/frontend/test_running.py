"""What scripts say around programs: strategies, data parallel programs, flags, fluid.core, profiler, data sets."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.errors import ArgumentTypeError, ProgramError
from fluidc.frontend.executor import FetchHandler
from fluidc.runtime.errors import DataError, FluidcError

THREE: Any = 3  # what no argument takes
X = (np.arange(12, dtype=np.float32).reshape(4, 3) - 5.0) / 10


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
        fluid.scope_guard(fluid.Scope()),
    ):
        yield


def executor() -> fluid.Executor:
    return fluid.Executor(target="reference")


def trained() -> fluid.Variable:
    x = fluid.data("x", [None, 3])
    loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(x, 1)))
    fluid.optimizer.SGD(0.1).minimize(loss)
    return loss


# Strategies ---------------------------------------------------------------------------------------------

# Paddle 1.8.5's fields and what it lets them be.
FIELDS = {
    fluid.BuildStrategy: {
        "async_mode": True, "cache_runtime_context": 1, "debug_graphviz_path": "graph", "enable_auto_fusion": True,
        "enable_backward_optimizer_op_deps": False, "enable_inplace": None, "enable_sequential_execution": True,
        "fuse_all_optimizer_ops": True, "fuse_all_reduce_ops": False, "fuse_bn_act_ops": True,
        "fuse_broadcast_ops": False, "fuse_elewise_add_act_ops": 1.0, "fuse_relu_depthwise_conv": True,
        "gradient_scale_strategy": fluid.BuildStrategy.GradientScaleStrategy.One,
        "hierarchical_allreduce_inter_nranks": 2, "is_distribution": True, "memory_optimize": True,
        "mkldnn_enabled_op_types": {"conv2d"}, "nccl_comm_num": 2, "num_trainers": 1,
        "reduce_strategy": fluid.BuildStrategy.ReduceStrategy.Reduce, "remove_unnecessary_lock": False,
        "sync_batch_norm": True, "trainer_id": 0, "trainers_endpoints": ["a"], "use_hierarchical_allreduce": True,
    },
    fluid.ExecutionStrategy: {
        "_dry_run": False, "allow_op_delay": True, "num_iteration_per_drop_scope": 1, "num_iteration_per_run": 2,
        "num_threads": 4, "use_cuda": False, "use_experimental_executor": False, "use_thread_barrier": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_strategies_have_paddles_fields(kind: Any) -> None:
    strategy, untouched = kind(), kind()
    for name, value in FIELDS[kind].items():
        setattr(strategy, name, value)
        assert getattr(strategy, name) == (bool(value) if isinstance(getattr(untouched, name), bool) else value)
    with pytest.raises(AttributeError, match=r"has no field 'fuse_everything'; it has .*num_t"):
        strategy.fuse_everything = True
    assert repr(untouched) == f"{kind.__name__}()"
    assert "True" in repr(strategy)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("memory_optimize", 1, "give bool or None"),
        ("reduce_strategy", 1, "give ReduceStrategy"),
        ("debug_graphviz_path", 3, "give str"),
        ("fuse_bn_act_ops", "x", "give True or False"),
        ("num_trainers", 1.5, "give int"),
        ("trainers_endpoints", "a", "give list"),
    ],
)
def test_fields_keep_their_types(name: str, value: object, says: str) -> None:
    with pytest.raises(ArgumentTypeError, match=says):
        setattr(fluid.BuildStrategy(), name, value)


def parallel(**options: Any) -> fluid.CompiledProgram:
    loss = trained()
    return fluid.CompiledProgram(fluid.default_main_program()).with_data_parallel(loss_name=loss.name, **options)


def strategy(**fields: Any) -> fluid.BuildStrategy:
    made = fluid.BuildStrategy()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


CUSTOMIZED = fluid.BuildStrategy.GradientScaleStrategy.Customized


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: fluid.CompiledProgram(THREE), "the program is int"),
        (lambda: fluid.CompiledProgram(fluid.Program(), THREE), "build_strategy is int"),
        (lambda: fluid.CompiledProgram(trained().block.program).with_data_parallel(), "loss_name is None"),
        (lambda: parallel().with_data_parallel(), "was called before"),
        (lambda: parallel(exec_strategy=3), "exec_strategy is int"),
        (lambda: parallel(places=[3]), "places holds 3"),
        (lambda: parallel(share_vars_from=fluid.CompiledProgram(fluid.Program())), "share_vars_from is not"),
        (lambda: parallel(build_strategy=strategy(num_trainers=2)), "there is one trainer"),
        (lambda: parallel(build_strategy=strategy(gradient_scale_strategy=CUSTOMIZED)), "would have to be fed"),
        (lambda: executor().run(parallel(places=[fluid.CUDAPlace(0)]), feed={"x": X}), "Executor runs on CPUPlace"),
        (lambda: executor().run(trained().block.program, feed=[{"x": X}, {"x": X}]), "is not data parallel"),
        (lambda: executor().run(parallel(), feed=[{"x": X}, {"y": X}]), "for different variables"),
        (lambda: executor().run(parallel(), feed=THREE), "feed is int"),
        (lambda: fluid.ParallelExecutor(False, trained().name, num_trainers=2), "num_trainers=2"),
        (lambda: fluid.ParallelExecutor(False, trained().name, share_vars_from=THREE), "share_vars_from is not one"),
        (lambda: fluid.DistributeTranspiler().transpile(0, trainers=2), "trainer 0 of 2"),
        (lambda: fluid.DistributeTranspiler().transpile(0, trainers="a:1,b:1"), "trainer 0 of 2"),
        (lambda: fluid.DistributeTranspiler().get_trainer_program(), "before transpile"),
        (lambda: fluid.DistributeTranspiler().get_pserver_program("a:1"), "not on servers"),
        (lambda: fluid.transpiler.HashName(["a:1"]), "over servers"),
        (lambda: fluid.transpiler.RoundRobin(["a:1"]), "over servers"),
        (lambda: fluid.get_flags("FLAGS_nothing"), "there is no flag FLAGS_nothing"),
        (lambda: fluid.get_flags(THREE), "get_flags: int"),
        (lambda: fluid.set_flags({"FLAGS_nothing": 1}), "there is no flag FLAGS_nothing"),
        (lambda: fluid.set_flags({"FLAGS_benchmark": "yes"}), "the flag FLAGS_benchmark is set to 'yes'"),
        (lambda: fluid.set_flags(THREE), "set_flags: int"),
        (lambda: fluid.profiler.start_profiler("TPU"), "state is 'TPU'"),
        (lambda: fluid.profiler.start_profiler("CPU", "Most"), "tracer_option is 'Most'"),
        (lambda: fluid.profiler.stop_profiler("name"), "sorted_key is 'name'"),
        (lambda: fluid.contrib.memory_usage(fluid.Program(), 0), "batch_size is 0"),
        (lambda: fluid.contrib.op_freq_statistic(THREE), "the program is int"),
        (lambda: fluid.contrib.extend_with_decoupled_weight_decay(THREE), "3 is no class of optimizers"),
        (lambda: fluid.DataFeedDesc("nowhere"), "nowhere cannot be read"),
    ],
)
def test_mistakes_are_refused_where_they_are_made(act: Callable[[], object], says: str) -> None:
    with pytest.raises(FluidcError, match=says) as caught:
        act()
    assert "test_running.py:" in (caught.value.where or "")
    assert caught.value.hint


def test_batches_for_several_devices_are_one_batch() -> None:
    exe = executor()
    loss = trained()
    words = fluid.data("words", [None, 1], lod_level=1)
    pooled = fluid.layers.sequence_pool(words, "sum")
    program = fluid.CompiledProgram(fluid.default_main_program()).with_data_parallel(
        loss_name=loss.name, places=[fluid.CPUPlace()] * 2
    )
    exe.run(fluid.default_startup_program())
    state = [fluid.global_scope().var(name).get_tensor() for name in ("fc_0.w_0", "fc_0.b_0")]
    before = [np.array(tensor) for tensor in state]
    tokens = [
        fluid.create_lod_tensor(np.arange(sum(n), dtype="f4").reshape(-1, 1), [n], exe.place) for n in ([2, 1], [3, 1])
    ]
    found = exe.run(
        program,
        feed=[{"x": X[:2], "words": tokens[0]}, {"x": X[2:], "words": tokens[1]}],
        fetch_list=[loss, pooled],
    )
    after = [np.array(tensor) for tensor in state]
    for tensor, value in zip(state, before):
        tensor.set(value)
    whole = fluid.create_lod_tensor(np.array([[0], [1], [2], [0], [1], [2], [3]], "f4"), [[2, 1, 3, 1]], exe.place)
    again = exe.run(program, feed={"x": X, "words": whole}, fetch_list=[loss, pooled])
    for mine, theirs in zip(found, again):
        np.testing.assert_array_equal(mine, theirs)
    for tensor, value in zip(state, after):
        np.testing.assert_array_equal(np.array(tensor), value)


# fluid.core, flags and what does nothing ----------------------------------------------------------------


def test_every_name_of_fluid_is_there() -> None:
    for name in fluid.__all__:
        assert getattr(fluid, name) is not None
    assert fluid.core.VarDesc.VarType.FP32 is fluid.VarType.FP32
    assert fluid.core.ParallelExecutor.BuildStrategy is fluid.BuildStrategy
    assert isinstance(fluid.core.Scope(), fluid.Scope)
    assert fluid.core.get_cuda_device_count() == 0 or fluid.is_compiled_with_cuda()
    assert fluid.learning_rate_decay.noam_decay is fluid.layers.noam_decay
    with pytest.raises(FluidcError, match=r"fluid\.core\.create_paddle_predictor is not implemented"):
        fluid.core.create_paddle_predictor(None)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        fluid.core.nothing  # noqa: B018


def test_variables_of_dygraph_are_varbases() -> None:
    with fluid.dygraph.guard():
        assert isinstance(fluid.dygraph.to_variable(X), fluid.core.VarBase)


def test_flags_are_kept() -> None:
    before = fluid.get_flags(["FLAGS_eager_delete_tensor_gb", "FLAGS_benchmark"])
    try:
        fluid.set_flags({"FLAGS_eager_delete_tensor_gb": 1, "FLAGS_benchmark": 1})
        assert fluid.get_flags("FLAGS_eager_delete_tensor_gb") == {"FLAGS_eager_delete_tensor_gb": 1.0}
        assert fluid.core.globals()["FLAGS_benchmark"] is True
    finally:
        fluid.set_flags(before)


def test_one_trainer_has_the_whole_program() -> None:
    transpiler = fluid.DistributeTranspiler(fluid.DistributeTranspilerConfig())
    transpiler.transpile(0, trainers=1)
    assert transpiler.get_trainer_program() is fluid.default_main_program()
    transpiler.transpile(0, trainers="127.0.0.1:6174")
    for nothing in (fluid.memory_optimize, fluid.release_memory):
        with pytest.warns(DeprecationWarning, match=f"fluid.{nothing.__name__} does nothing") as caught:
            nothing(fluid.default_main_program())
        assert caught[0].filename == __file__


def test_the_installation_is_checked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fluid.install_check, "is_compiled_with_cuda", lambda: False)
    fluid.install_check.run_check()
    assert "compiles, differentiates and trains on CPUPlace" in capsys.readouterr().out
    monkeypatch.setattr(fluid.install_check, "mean", fluid.layers.reduce_max)
    monkeypatch.setattr(fluid.install_check, "Executor", lambda place: executor())
    with pytest.raises(ProgramError, match="run_check: a mean on CPUPlace is"):
        fluid.install_check.run_check()


# Profiler -----------------------------------------------------------------------------------------------


def test_runs_are_timed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    exe = executor()
    x = fluid.data("x", [None, 3])
    total = fluid.layers.reduce_sum(x)
    with fluid.profiler.profiler("CPU", "total", str(tmp_path / "profile")):
        exe.run(feed={"x": X}, fetch_list=[total])
        fluid.profiler.reset_profiler()
        for _ in range(3):
            exe.run(feed={"x": X}, fetch_list=[total])
        fluid.profiler.start_profiler("All")  # it runs already
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["event", "calls", "total", "min", "max", "mean", "share"]
    rows = {line.split("  ")[0]: line.split()[-6:] for line in lines[2:]}
    assert {name: row[0] for name, row in rows.items()} == {"Executor.run": "3", "step": "3"}
    assert rows["Executor.run"][-1] == "100.0%"
    assert 0 < float(rows["step"][1]) <= float(rows["Executor.run"][1])
    trace = json.loads((tmp_path / "profile").read_text())["traceEvents"]
    assert [event["name"] for event in trace] == ["step", "Executor.run"] * 3
    fluid.profiler.stop_profiler()  # it is over
    assert capsys.readouterr().out == ""


def test_the_table_is_sorted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    exe = executor()
    total = fluid.layers.reduce_sum(fluid.data("x", [None, 3]))
    for column, key in enumerate(("calls", "total", "min", "max", "ave"), 1):
        with fluid.profiler.profiler("All", key, str(tmp_path / "profile")):
            for rows in (1, 2, 1):
                exe.run(feed={"x": X[:rows]}, fetch_list=[total])
            exe.close()
        rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
        assert sorted(row[0] for row in rows) == ["Executor.run", "compile", "step"]
        shown = [float(row[column]) for row in rows]
        assert shown == sorted(shown, reverse=True)
    with fluid.profiler.profiler("All", None, str(tmp_path / "profile")):
        pass
    assert "nothing was run" in capsys.readouterr().out
    with pytest.raises(ProgramError, match="cannot be written"), fluid.profiler.profiler("All", None, str(tmp_path)):
        pass


def test_nvprof_is_gone(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="writes nothing"), fluid.profiler.cuda_profiler(str(tmp_path / "out")):
        pass
    assert list(tmp_path.iterdir()) == []


# Files of samples ---------------------------------------------------------------------------------------


def dataset(folder: Path, *lines: str, kind: str = "QueueDataset", **options: Any) -> Any:
    """A data set for ``x`` of three numbers and ``y``, of one file."""
    (folder / "part").write_text("".join(line + "\n" for line in lines))
    made = fluid.DatasetFactory().create_dataset(kind)
    made.set_filelist([str(folder / "part")])
    made.set_use_var([fluid.data("x", [None, 3]), fluid.data("y", [None, 1], "int64")])
    for name, value in options.items():
        getattr(made, f"set_{name}")(value)
    return made


GOOD = ["3 1 2 3 1 4", "3 0.5 0 -1 1 18446744073709551615", "3 1 1 1 1 2"]


def test_lines_become_batches(tmp_path: Path) -> None:
    made = dataset(tmp_path, *GOOD, batch_size=2)
    batches = [{name: np.asarray(tensor).tolist() for name, tensor in feed.items()} for feed in made.batches()]
    assert batches[0] == {"x": [[1, 2, 3], [0.5, 0, -1]], "y": [[4], [-1]]}
    assert batches[1] == {"x": [[1, 1, 1]], "y": [[2]]}
    assert len(list(made.batches(drop_last=True))) == 1
    loader = fluid.io.DataLoader.from_dataset(made, [fluid.CPUPlace()], drop_last=False)
    assert [[feed["y"].shape() for feed in group] for group in loader()] == [[[2, 1]], [[1, 1]]]
    assert 'pipe_command: "cat"' in made.desc()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("3 1 2 3", "the line has no values for y"),
        ("3 1 2 x 1 1", "no numbers there"),
        ("3 1 2", "the line announces 3 values for x and has 2"),
        ("2 1 2 1 1", "x takes 3 values, the line has 2"),
        ("3 1 2 3 0", "announces 0 values for y"),
        ("3 1 2 3 1 1 7", "1 more words"),
    ],
)
def test_lines_that_do_not_fit(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        list(dataset(tmp_path, GOOD[0], line).batches())
    assert caught.value.where == f"{tmp_path / 'part'}:2"


def test_data_sets_that_are_not_complete(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="set_use_var was not called"):
        executor().train_from_dataset(dataset=fluid.DatasetFactory().create_dataset())
    made = dataset(tmp_path, *GOOD)
    made.set_filelist([str(tmp_path / "none")])
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(made.batches())
    made = dataset(tmp_path, *GOOD, pipe_command="exit 3")
    with pytest.raises(DataError, match="ended with status 3"):
        list(made.batches())
    with pytest.raises(ProgramError, match="the samples are not in memory"):
        list(dataset(tmp_path, *GOOD, kind="InMemoryDataset").batches())
    for act, says in (
        (lambda: made.set_batch_size(0), "set_batch_size: 0"),
        (lambda: made.set_filelist("part"), "set_filelist: a str"),
        (lambda: made.set_use_var([fluid.data("z", [None, -1, 3])]), "an open size besides the batch"),
        (lambda: made.set_use_var([fluid.data("d", [None, 3], "float64")]), "d holds float64"),
        (lambda: made.set_hdfs_config("a", "b"), "only local files"),
        (lambda: made.local_shuffle(), "QueueDataset.local_shuffle"),
        (lambda: fluid.DatasetFactory().create_dataset("Queue"), "there is no data set 'Queue'"),
        (lambda: fluid.DatasetFactory().create_dataset("BoxPSDataset"), "parameter server"),
        (lambda: executor().train_from_dataset(dataset=THREE), "dataset is int"),
        (lambda: executor().train_from_dataset(dataset=made, fetch_list=["x"], fetch_info=[]), "0 in fetch_info"),
        (lambda: executor().train_from_dataset(dataset=made, print_period=0), "print_period is 0"),
        (lambda: FetchHandler({}), "var_dict is empty"),
    ):
        with pytest.raises(FluidcError, match=says):
            act()


def test_samples_in_memory_are_shuffled(tmp_path: Path) -> None:
    made = dataset(tmp_path, *(f"3 {i} 0 0 1 1" for i in range(20)), kind="InMemoryDataset", batch_size=20)
    made.load_into_memory()
    assert made.get_memory_data_size() == made.get_shuffle_data_size() == 20

    def order() -> list[float]:
        return np.asarray(next(made.batches())["x"])[:, 0].tolist()

    plain = order()
    assert plain == list(range(20))
    made.local_shuffle()
    assert order() != plain
    assert sorted(order()) == plain
    made.release_memory()
    assert made.get_memory_data_size() == 0


def test_values_are_shown_while_a_data_set_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = dataset(tmp_path, *GOOD)
    total = fluid.layers.reduce_sum(fluid.default_main_program().global_block().var("x"))
    seen: list[float] = []

    class Handler(FetchHandler):
        def handler(self, res_dict: dict[str, Any]) -> None:
            seen.append(float(res_dict["total"][0]))

    executor().infer_from_dataset(
        dataset=made,
        fetch_list=[total],
        fetch_info=["sum"],
        print_period=2,
        fetch_handler=Handler({"total": total}, period_secs=0),
    )
    assert capsys.readouterr().out.splitlines() == ["batch 0  sum: [6.]", "batch 2  sum: [3.]"]
    assert seen == [6.0, -0.5, 3.0]


DESCRIBED = """
name: "MultiSlotDataFeed"
batch_size: 2  # of a batch
multi_slot_desc {
    slots { name: "words" type: "uint64" is_dense: false is_used: true }
    slots { name: "label" type: "uint64" is_dense: false is_used: false }
}
"""


def test_descriptions_of_data_sets(tmp_path: Path) -> None:
    (tmp_path / "feed.proto").write_text(DESCRIBED)
    desc = fluid.DataFeedDesc(str(tmp_path / "feed.proto"))
    desc.set_batch_size(128)
    desc.set_dense_slots(["label"])
    desc.set_use_slots(["label"])
    text = desc.desc()
    assert "batch_size: 128" in text
    assert 'name: "label"\n    type: "uint64"\n    is_dense: true\n    is_used: true' in text
    assert 'name: "words"\n    type: "uint64"\n    is_dense: false\n    is_used: true' in text
    (tmp_path / "again.proto").write_text(text)
    assert fluid.DataFeedDesc(str(tmp_path / "again.proto")).desc() == text
    with pytest.raises(ProgramError, match="there is no slot 'x'"):
        desc.set_use_slots(["x"])
    (tmp_path / "bad.proto").write_text("multi_slot_desc { slots {")
    with pytest.raises(ProgramError, match="braces that do not close"):
        fluid.DataFeedDesc(str(tmp_path / "bad.proto"))


# Counting and drawing programs --------------------------------------------------------------------------


def test_programs_are_counted() -> None:
    loss = trained()
    low, high, unit = fluid.contrib.memory_usage(fluid.default_main_program(), 4)
    assert 0 < low < high and unit == "B"  # noqa: PT018
    ops, pairs = fluid.contrib.op_freq_statistic(fluid.default_main_program())
    assert dict(ops)["mul"] == 1
    assert dict(pairs)["elementwise_add->square"] == 1
    assert loss.name


def test_programs_are_drawn_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained()
    block = fluid.default_main_program().global_block()
    fluid.debugger.draw_block_graphviz(block, highlights=["x"], path=str(tmp_path / "graph.dot"))
    text = (tmp_path / "graph.dot").read_text()
    assert text.startswith("digraph {") and text.endswith("}\n")  # noqa: PT018
    assert '"var x" -> "op 0"' in text
    assert '[shape=ellipse, label="x : float32[-1, 3], stop_gradient", style=filled' in text
    fluid.debugger.pprint_program_codes(fluid.default_main_program())
    fluid.debugger.pprint_block_codes(block)
    assert capsys.readouterr().out.count("= mul(") == 2


def test_weighted_averages() -> None:
    with pytest.warns(DeprecationWarning, match="WeightedAverage is deprecated"):
        average = fluid.average.WeightedAverage()
    with pytest.raises(ProgramError, match="nothing was added"):
        average.eval()
    average.add(np.array([2.0, 4.0]), np.array([1.0]))
    average.add(np.array([5.0, 1.0]), 2)
    np.testing.assert_array_equal(average.eval(), [4.0, 2.0])
    for value, weight in (("x", 1), (1.0, np.ones(3))):
        with pytest.raises(ArgumentTypeError):
            average.add(value, weight)


def test_values_of_parameters() -> None:
    trained()
    exe = executor()
    with pytest.raises(ProgramError, match=r"fc_0\.w_0 has no value"):
        fluid.io.get_parameter_value_by_name("fc_0.w_0", exe)
    exe.run(fluid.default_startup_program())
    (weight, _) = fluid.default_main_program().all_parameters()
    found = fluid.io.get_parameter_value(weight, exe)
    np.testing.assert_array_equal(found, fluid.io.get_parameter_value_by_name(weight.name, exe))
    assert found.shape == (3, 1)
    with pytest.raises(ProgramError, match="x is no parameter"):
        fluid.io.get_parameter_value_by_name("x", exe)


def test_nothing_warns_without_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fluid.CompiledProgram(trained().block.program, fluid.BuildStrategy())
