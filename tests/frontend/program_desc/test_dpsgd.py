"""Paddle's dpsgd ops in training programs: replaced by private SGD with a report, or kept for comparison."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import GOLDENS, golden

import fluidc.frontend as fluid
from fluidc.compiler.errors import PrivacyError
from fluidc.frontend.compat.program_desc.dpsgd import PrivacyRequest, Replacement
from fluidc.frontend.compat.program_desc.loading import LoadedProgram
from fluidc.frontend.compat.program_desc.records import Record
from fluidc.frontend.op_role import OpRole

GOLDEN = dict(np.load(Path(__file__).parent / "paddle_programs.npz"))
STATED: dict[str, Any] = {"dataset_size": 100, "delta": 1e-3, "max_steps": 20}


def loaded(case: str, **options: Any) -> LoadedProgram:
    main, startup = (GOLDEN[f"{case}/{part}"].tobytes() for part in ("main", "startup"))
    return fluid.io.load_program(main, startup, **options)


def spec_of(model: LoadedProgram) -> Any:
    record = model.program.global_block().private_backward()
    assert record is not None
    return record.attr("privacy")


def types(model: LoadedProgram) -> list[str]:
    ops = model.program.global_block().ops
    at = next(i for i, op in enumerate(ops) if op.type == "backward")
    return [op.type for op in ops[at:]]


def test_the_ops_are_replaced_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    model = loaded("private", **STATED)
    spec = spec_of(model)
    assert (spec.clip, spec.lot, spec.sigma, spec.dataset_size, spec.delta, spec.max_steps) == (
        0.5, 8.0, 1.25, 100, 1e-3, 20,
    )  # fmt: skip
    # What the program applied to the gradient before dpsgd stays where it was: behind the private gradient.
    assert types(model) == ["backward", "clip_by_norm", "clip_by_norm", "scale", "sum", "sgd", "sgd"]
    record = model.program.global_block().private_backward()
    assert record is not None
    assert record.attr("parameters") == record.input("Wrt") == ["fc_0.w_0", "fc_0.b_0"]
    report = capsys.readouterr().out
    for text in (
        "Paddle's dpsgd on 2 parameters is replaced by differentially private SGD",
        "clips the gradient of the whole batch",
        "C      0.5 (the file's)",
        "L      8 (the file's)",
        "sigma  1.25 (the file's)",
        "stated dataset_size=100, delta=0.001, max_steps=20",
        "for    fc_0.w_0, fc_0.b_0",
        "after  clip_by_norm, clip_by_norm, scale, sum, written before dpsgd",
        "mechanism='paddle' keeps",
    ):
        assert text in report


def test_it_trains_as_the_same_program_built_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Under one noise key, the imported program and one of fluidc's own layers have equal parameters."""
    model = loaded("private", **STATED)
    capsys.readouterr()
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x, y = fluid.layers.data("x", [4]), fluid.layers.data("y", [1])
        attr = fluid.ParamAttr(regularizer=fluid.regularizer.L2Decay(0.01))
        loss = fluid.layers.mean(fluid.layers.square_error_cost(fluid.layers.fc(x, 1, param_attr=attr), y))
        fluid.clip.set_gradient_clip(fluid.clip.GradientClipByNorm(2.0))
        fluid.optimizer.Dpsgd(0.1, clip=0.5, batch_size=8.0, sigma=1.25, **STATED).minimize(loss)
    rng = np.random.default_rng(1)
    points = {"x": rng.normal(size=(100, 4)).astype("float32"), "y": rng.normal(size=(100, 1)).astype("float32")}
    weights = rng.normal(size=(4, 1)).astype("float32")
    ends = []
    for program, first in ((model.program, model.startup), (main, startup)):
        executor, scope = fluid.Executor(target="reference"), fluid.Scope()
        with pytest.warns(fluid.PrivacyWarning, match="INSECURE"):
            known = fluid.privacy.insecure_noise_key(bytes(range(32)))
        with fluid.scope_guard(scope), known:
            executor.run(first)
            scope.var("fc_0.w_0").get_tensor().set(weights)
            ledger = tmp_path / str(program.uid)
            for lot in itertools.islice(fluid.privacy.poisson_batches(points, program, ledger), 5):
                executor.run(program, feed=lot)
            ends.append([np.array(scope.var(name).get_tensor()) for name in ("fc_0.w_0", "fc_0.b_0")])
    for mine, theirs in zip(*ends, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.allclose(ends[0][0], weights)


def test_constants_can_be_stated_instead(capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_of(loaded("private", clip=1.0, batch_size=4.0, sigma=2.0, sampler="shuffle", mechanism="discrete"))
    assert (spec.clip, spec.lot, spec.sigma, spec.sampler, spec.mechanism) == (1.0, 4.0, 2.0, "shuffle", "discrete")
    report = capsys.readouterr().out
    assert "sigma  2 (stated)" in report
    assert "epsilon stays unknown" in report
    assert spec_of(loaded("private", **STATED, epsilon=3.0)).sigma is None
    assert "sigma  from epsilon" in capsys.readouterr().out


def test_documented_defaults_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(fluid.PrivacyWarning, match="documented defaults clip=0.9, batch_size=0.999, sigma=1e-08"):
        model = loaded("private_defaults")
    assert spec_of(model).documented_defaults == ("clip", "batch_size", "sigma")
    capsys.readouterr()


def test_paddles_op_is_kept_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """With Paddle's own seed of the clock nothing can be compared but what it does not touch: the first loss."""
    files, wanted = GOLDENS / "files", golden("files")["train_dpsgd"]
    with pytest.warns(fluid.PrivacyWarning, match="4 dpsgd ops of Paddle's are kept") as warned:
        model = fluid.io.load_program(
            files / "train_dpsgd_main.pb", files / "train_dpsgd_startup.pb", mechanism="paddle"
        )
    assert warned[0].filename == __file__
    assert types(model) == ["backward", *["dpsgd"] * 4]
    assert capsys.readouterr().out == ""
    executor, scope = fluid.Executor(target="reference"), fluid.Scope()
    for name, value in wanted["initial"].items():
        scope.var(name).get_tensor().set(value)
    (loss,) = executor.run(model.program, feed=wanted["feed"], fetch_list=model.losses, scope=scope)
    np.testing.assert_allclose(loss, wanted["losses"][0], rtol=1e-5)


@pytest.mark.parametrize(
    ("case", "options", "text"),
    [
        ("private", {"mechanism": "paddle", "epsilon": 1.0}, "epsilon is stated for mechanism='paddle'"),
        ("private", {"mechanism": "other"}, "unknown mechanism 'other'"),
        ("private", {"sigma": -1.0}, "sigma is -1"),
        ("stopped", {"epsilon": 1.0}, "epsilon states privacy, but the program has no dpsgd op"),
        ("stopped", {"mechanism": "paddle"}, "mechanism states privacy, but the program has no dpsgd op"),
    ],
)
def test_what_does_not_fit_is_refused(case: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(PrivacyError, match=text):
        loaded(case, **options)


def test_bytes_alone_do_not_choose() -> None:
    with pytest.raises(PrivacyError, match=r"dpsgd op, which is not private(.|\n)*load_program"):
        fluid.Program.parse_from_string(GOLDEN["private/main"].tobytes())


def _backward(*parameters: str) -> Record:
    gradients = [f"{name}@GRAD" for name in parameters]
    return Record(
        "backward", {"Targets": ["loss"], "Wrt": list(parameters)}, {"Grads": gradients}, {"parameters": parameters},
        OpRole.BACKWARD,
    )  # fmt: skip


def _dpsgd(name: str, clip: float = 1.0) -> Record:
    attrs = {"clip": clip, "batch_size": 4.0, "sigma": 1.0}
    return Record("dpsgd", {"Param": [name], "Grad": [f"{name}@GRAD"]}, {"ParamOut": [name]}, attrs, OpRole.OPTIMIZE)


def _sgd(name: str) -> Record:
    return Record("sgd", {"Param": [name], "Grad": [f"{name}@GRAD"]}, {"ParamOut": [name]}, {}, OpRole.OPTIMIZE)


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([_backward("w"), _backward("v"), _dpsgd("w"), _dpsgd("v")], "has 2 backward passes"),
        ([_backward("w", "v"), _dpsgd("w"), _sgd("v")], "v of the same program are updated by sgd"),
        ([_backward("w", "v"), _dpsgd("w"), Record("print", {"X": ["v@GRAD"]}, {})], "print reads v@GRAD, a gradient"),
        ([_backward("w"), _dpsgd("w"), _dpsgd("v")], "dpsgd updates v, whose gradients are not"),
        ([_backward("w", "v"), _dpsgd("w", 1.0), _dpsgd("v", 2.0)], "the dpsgd ops have clip 1, 2"),
    ],
)
def test_programs_that_cannot_be_private_are_refused(records: list[Record], text: str) -> None:
    with pytest.raises(PrivacyError, match=text):
        Replacement(PrivacyRequest(), "it")(records)


def test_gradients_that_nobody_reads_are_dropped() -> None:
    records = [_backward("v", "w", "x"), _dpsgd("w"), _dpsgd("v")]
    Replacement(PrivacyRequest(), "it")(records)
    assert records[0].inputs["Wrt"] == records[0].attrs["parameters"] == ["v", "w"]
    assert records[0].outputs["Grads"] == ["v@GRAD", "w@GRAD"]
