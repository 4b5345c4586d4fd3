"""`CudaEngine` on the emulated device, whose work runs only when somebody waits for it: no wait is forgotten."""

from __future__ import annotations

from functools import cache
from typing import Any

import cuda_device
import cuda_modules
import cuda_runs
import numpy as np
import pytest
from cuda_worker import Worker

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))


@cache
def worker() -> Worker:
    return Worker(devices=2, late=1, memory=8 << 30)


def asked(function: Any) -> Any:
    return worker().run(function).value


def check_states(expected: dict[str, Any], found: dict[str, Any]) -> None:
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=2e-6, err_msg=name)


def check_losses(expected: list[float], found: list[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_training_takes_the_steps_of_numpy_in_one_launch_each() -> None:
    made = asked(cuda_runs.trajectories)
    check_losses(made["expected"][0], made["found"][0])
    check_states(made["expected"][1], made["found"][1])
    steps = made["steps"]
    kernels = steps[0]["launches"]
    assert kernels > 1
    assert [step["launches"] for step in steps] == [kernels] * len(steps), "a step ran once, the captured one too"
    assert [step["graph_launches"] for step in steps] == [0, *[1] * (len(steps) - 1)]
    assert [step["graphs"] for step in steps] == [0, 1, *[0] * (len(steps) - 2)]
    for step in steps[2:]:
        moved = step["host_to_device"], step["device_to_host"], step["device_to_device"]
        assert moved == (1, 1, 0), "what is fed goes there, the loss comes back, and state stays"
        # The loss, and the wait for the copy of a secret: the key of dropout is one.
        assert step["syncs"] <= 2
        assert step["allocations"] == step["frees"] == step["host_allocations"] == 0


def test_kernel_by_kernel_gives_the_same() -> None:
    assert asked(cuda_runs.without_graphs) == {"launched": 0, "same": True}


def test_values_that_are_set_count_from_the_next_step() -> None:
    made = asked(cuda_runs.values_set_between_steps)
    check_losses(*made["found"])
    check_states(*made["state"])


def test_every_size_has_its_own_graph() -> None:
    check_losses(*asked(cuda_runs.sizes_in_turn))


def test_sequences_of_changing_lengths() -> None:
    check_losses(*asked(cuda_runs.sequences_in_turn))


def test_engines_share_state() -> None:
    made = asked(cuda_runs.engines_in_turn)
    check_losses(made["expected"][0], made["found"][0])
    check_states(made["expected"][1], made["found"][1])


def test_copies_of_state_have_its_values() -> None:
    made = asked(cuda_runs.copies)
    assert made["away"]
    assert made["apart"]
    np.testing.assert_array_equal(made["copy"], made["values"])
    np.testing.assert_array_equal(made["pickle"], made["values"])
    assert (made["later"] != made["values"]).any()


def test_a_forked_child_has_the_values_and_takes_no_step() -> None:
    made = asked(cuda_runs.forked)
    seen, told = made["child"]
    check_states(made["state"], seen)
    assert told.startswith("this process was forked from one that uses the GPU, and cannot use it\n  at CUDA device 0")
    assert made["after"] == made["straight"], "the parent goes on"


@pytest.mark.parametrize(("room", "begun"), [(64 << 10, False), (400 << 10, True)], ids=["feeds", "values"])
def test_a_step_without_memory_leaves_state_as_it_was(room: int, begun: bool) -> None:
    """Also where some of its kernels had run."""
    made = worker().run(cuda_runs.out_of_memory, room).value
    first, where, hint = made["message"].split("\n")
    assert first.startswith("the device is out of memory: ")
    assert " wanted, and " in first
    assert first.endswith(" are free")
    assert where == "  at CUDA device 0"
    assert "smaller batches" in hint
    assert bool(made["launches"]) is begun
    check_states(made["kept"], made["again"])
    assert np.isfinite(made["loss"]).all()


def test_state_that_was_changed_before_memory_ran_out_is_put_back() -> None:
    made = asked(cuda_modules.updates_before_it_runs_out_of_memory)
    assert made["begun"] == [1, 1], "the update had run"
    assert made["seen"] == [0.0, 1.0]


def test_what_does_not_fit_is_refused() -> None:
    ordinal, architecture, library, function = asked(cuda_runs.refused)
    assert ordinal.startswith(
        "there is no CUDA device 2: this process sees 2 devices, numbers 0 to 1\n  at device 2\n  give a number"
    )
    assert architecture == (
        "the artifact has no code for this chip, sm_90: it has sm_80, compute_100\n  at CUDA device 0\n"
        "  compile the program again with --arch sm_90"
    )
    assert library.startswith("the compiled module does not load: ")
    assert function.startswith("the module has no function 'nothing'\n")


def test_private_steps_are_those_of_numpy() -> None:
    made = asked(cuda_runs.private_trajectories)
    check_states(made["expected"], made["found"])


def test_keys_are_wiped() -> None:
    """Feeds are not: they show that the search finds what is there."""
    made = asked(cuda_runs.what_is_left_of_keys)
    assert made["host"] == made["device"] == 0
    assert made["feeds"] > 0


def test_sessions_train_stop_resume_and_export() -> None:
    made = asked(cuda_runs.trained_by_session)
    for name, array in made["straight"].items():
        np.testing.assert_array_equal(made["resumed"][name], array)
    assert made["copied there"] == 1, "a checkpoint and an export leave state where it is"
    assert made["exported"]
    for name, array in made["exported"].items():
        np.testing.assert_array_equal(made["stopped"][name], array)


def test_executors_train_and_test_on_a_place() -> None:
    made = asked(cuda_runs.by_executor)
    check_losses(*made["losses"])
    np.testing.assert_allclose(made["weights"][1], made["weights"][0], rtol=1e-4, atol=2e-6)


def test_what_cannot_be_captured_is_told_and_run_as_it_is() -> None:
    made = asked(cuda_modules.looks_at_device_values)
    values = np.arange(4, dtype=np.float32)
    for found, flag in zip(made["found"], (True, False, True, False), strict=True):
        np.testing.assert_array_equal(found, values + values if flag else values * values)
    (told,) = made["told"]
    assert told.startswith("main is launched kernel by kernel, since it cannot be captured as a CUDA graph: ")


def test_commands_compile_and_run_for_a_device() -> None:
    made = asked(cuda_runs.by_command_line)
    said = made["said"]
    check_states(made["states"]["reference"], made["states"]["cuda"])
    assert made["states"]["bundled"], said["bundle"] + said["bundled"]
    for name, array in made["states"]["cuda"].items():
        np.testing.assert_array_equal(made["states"]["bundled"][name], array)
    assert "code for sm_80, sm_90 with TF32" in said["inspect cuda"]
    assert "code for" not in said["inspect reference"]
    assert "its kernels are not clocked one by one" in said["profile"]
    assert "FLUIDC_CUDA_GRAPH=0 nsys profile" in said["profile"]
    assert "device 1 is named, and the artifact runs on none: it was compiled for reference" in said["device"]
