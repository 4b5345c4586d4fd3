"""The independent checker: real private artifacts verify, and every forgery of one is refused for its own reason.

A forger repairs the hashes, so the tests do: what refuses is the checker, not the reader of files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from forgeries import FORGERIES, MODES, Forgery, through_file
from private_models import MODELS

import fluidc.frontend as fluid
from fluidc.compiler.driver import Source, compile_source
from fluidc.compiler.ir.core import PrivacyConfig
from fluidc.compiler.privacy import resolve
from fluidc.frontend.lower import lower
from fluidc.runtime.artifact import Artifact, ArtifactError, EpsilonEntry
from fluidc.runtime.certificate import Contradiction, Report, verify
from fluidc.runtime.certificate.reader import Unreadable, read
from fluidc.runtime.certificate.text import ROWS

layers = fluid.layers


def dpsgd(**changed: Any) -> fluid.optimizer.Optimizer:
    arguments: dict[str, Any] = {
        "learning_rate": 0.1, "clip": 1.0, "batch_size": 16.0, "sigma": 1.1,
        "sample_rate": 0.25, "delta": 1e-5, "max_steps": 8, **changed,
    }  # fmt: skip
    return fluid.optimizer.Dpsgd(**arguments)


def compiled(
    model: Callable[[], Any], optimizer: Callable[[], fluid.optimizer.Optimizer] = dpsgd, batch: int = 0
) -> Artifact:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        loss = model()
        optimizer().minimize(loss)
    source = lower(main, startup=startup, fetches=(loss.name,))
    return through_file(compile_source(source, target="reference", batch=batch, keep_ir=True).artifact())


def mlp() -> Any:
    x, y = layers.data("x", [6]), layers.data("y", [1], dtype="int64")
    logits = layers.fc(layers.fc(x, 5, act="tanh"), 3)
    return layers.mean(layers.softmax_with_cross_entropy(logits, y))


def conv() -> Any:
    x, y = layers.data("x", [1, 8, 8]), layers.data("y", [1], dtype="int64")
    hidden = layers.pool2d(layers.conv2d(x, 4, 3, act="relu"), 2, "max", 2)
    return layers.mean(layers.softmax_with_cross_entropy(layers.fc(hidden, 3), y))


def wide_conv() -> Any:
    """Wide enough for norms by Gram matrices of windows, group by group."""
    x = layers.data("x", [64, 4, 4])
    hidden = layers.conv2d(x, 512, 3, padding=1, groups=2, act="relu")
    return layers.mean(layers.fc(layers.conv2d(hidden, 256, 3, groups=2, act="relu"), 1))


def words() -> Any:
    x, y = layers.data("x", [7], dtype="int64"), layers.data("y", [1], dtype="int64")
    pooled = layers.reduce_mean(fluid.embedding(x, [11, 4]), dim=1)
    return layers.reduce_sum(layers.softmax_with_cross_entropy(layers.fc(pooled, 3), y))


def recurrent() -> Any:
    x, y = layers.data("x", [5, 4]), layers.data("y", [1], dtype="int64")
    steps = layers.transpose(x, [1, 0, 2])
    start = layers.fill_constant_batch_size_like(x, [-1, 3], "float32", 0.0)
    loop = layers.StaticRNN()
    with loop.step():
        row, before = loop.step_input(steps), loop.memory(init=start)
        after = layers.fc([row, before], 3, act="tanh")
        loop.update_memory(before, after)
        loop.step_output(after)
    last = layers.slice(cast(fluid.Variable, loop()), axes=[0], starts=[4], ends=[5])
    logits = layers.fc(layers.reshape(last, [-1, 3]), 3)
    return layers.mean(layers.softmax_with_cross_entropy(logits, y))


def normed() -> Any:
    x, y = layers.data("x", [6]), layers.data("y", [1])
    hidden = layers.layer_norm(layers.fc(x, 8, act="relu"))
    return layers.mean(layers.square_error_cost(layers.fc(hidden, 1), y))


def decayed() -> fluid.optimizer.Optimizer:
    rate = layers.exponential_decay(0.1, 10, 0.9)
    return dpsgd(learning_rate=rate)


CLIPPINGS: dict[str, dict[str, Any]] = {
    "per-group": {"clip": [0.3, 0.4, 0.5, 0.6], "clipping": "per-group"},
    "automatic": {"clipping": "automatic"},
    "quantile": {"clipping": "quantile", "clipping_options": {"quantile": 0.5, "sigma_b": 2.0}},
    "discrete": {"mechanism": "discrete"},
    "phases": {"max_steps": None, "phases": [fluid.privacy.Phase(5), fluid.privacy.Phase(3, 2.0, 32.0, 0.5)]},
}


PROGRAMS: dict[str, tuple[Callable[[], Any], Callable[[], fluid.optimizer.Optimizer]]] = {
    "mlp": (mlp, dpsgd),
    "convolution": (conv, dpsgd),
    "convolution by windows": (wide_conv, dpsgd),
    "embedding": (words, dpsgd),
    "recurrent": (recurrent, dpsgd),
    "layer_norm": (normed, dpsgd),
    "a schedule": (mlp, decayed),
    **{name: (mlp, lambda changed=changed: dpsgd(**changed)) for name, changed in CLIPPINGS.items()},
    "whole batches": (mlp, lambda: dpsgd(sample_rate=1.0)),
    "epochs": (mlp, lambda: dpsgd(sample_rate=None, dataset_size=64, sampler="shuffle")),
    "without accounting": (mlp, lambda: dpsgd(sample_rate=None, delta=None, max_steps=None)),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore::fluidc.frontend.PrivacyWarning")
def test_programs_verify(name: str) -> None:
    report = verify(compiled(*PROGRAMS[name]))
    assert report.ok, report.lines()
    assert [check.what for check in report.checks] == [
        "mechanism", "epsilon", "constants", "separability", "clipping", "noise", "state", "wiring",
    ]  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_verify(name: str) -> None:
    """Every way of taking norms: by rule, materialised, of parameters read twice."""
    module = MODELS[name].module(PrivacyConfig(clip=1.0, lot=16.0, sigma=1.1))
    source = Source(module, plan=resolve(clip=1.0, lot=16.0, sigma=1.1))
    report = verify(through_file(compile_source(source, target="reference", keep_ir=True).artifact()))
    assert report.ok, report.lines()


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return compiled(mlp)


@pytest.mark.parametrize("what", FORGERIES)
def test_forgery_is_refused(artifact: Artifact, what: str) -> None:
    forgery = FORGERIES[what]
    forged = forgery.of(artifact)
    if what == "a constant key":
        text = forged.ir["target"].replace("%c, %key, %draw {tensor=1,", "%c, %k, %draw {tensor=1,", 1)
        forged = through_file(replace(forged, ir={**forged.ir, "target": text}))
    found = verify(forged).contradiction
    assert found is not None, "the forgery was not noticed"
    assert (found.rule, forgery.says in str(found)) == (forgery.rule, True), str(found)


@pytest.fixture(scope="module")
def by_clipping() -> dict[str, Artifact]:
    return {name: compiled(mlp, lambda changed=changed: dpsgd(**changed)) for name, changed in CLIPPINGS.items()}


@pytest.mark.parametrize(("mode", "what"), [(mode, what) for mode, forgeries in MODES.items() for what in forgeries])
def test_forgery_of_a_clipping_mode_is_refused(by_clipping: dict[str, Artifact], mode: str, what: str) -> None:
    forgery = MODES[mode][what]
    found = verify(forgery.of(by_clipping[mode])).contradiction
    assert found is not None, "the forgery was not noticed"
    assert (found.rule, forgery.says in str(found)) == (forgery.rule, True), str(found)


def test_a_norm_of_rows_that_another_group_selected_is_refused(by_clipping: dict[str, Artifact]) -> None:
    """Rows that are dead in one group would have norm 0, and go unclipped, in the next."""
    grouped = by_clipping["per-group"]
    text = grouped.ir["private"]
    found = re.search(r"%_c#1 = dp.scale_rows\((%[\w.#]+), %c#1\)", text)
    assert found is not None
    selected = (
        f"%sel = dp.select_rows({found[1]}, %c) : f32[N,5] %wide = elementwise.cast(%sel) {{dtype=f64}} : f64[N,5] "
        "%squares = unary.square(%wide) : f64[N,5] %low = reduce.sum(%squares) {axes=(1,)} : f64[N] "
        "%c#1 = dp.clip_factor([%low]"
    )
    forged = text.replace("%c#1 = dp.clip_factor([%n2_fc_0.b_0]", selected)
    assert forged != text
    contradiction = verify(through_file(replace(grouped, ir={**grouped.ir, "private": forged}))).contradiction
    assert contradiction is not None
    assert (contradiction.rule, "norm of 'fc_0.b_0'" in contradiction.what) == ("3b.iii", True)


def test_forged_windows_of_a_convolution_are_refused() -> None:
    wide = compiled(wide_conv)
    for old, new in (
        ("conv.patches(%x) {pads=(1, 1, 1, 1), groups=2", "conv.patches(%x) {pads=(1, 1, 0, 0), groups=2"),
        ("conv.patches(%conv2d_0.tmp_2)", "conv.patches(%conv2d_0.tmp_0)"),
        ("w_shape=(512, 32, 3, 3)}", "w_shape=(512, 32, 3, 1)}"),
    ):
        found = verify(Forgery(("private",), old, new, "3b.iii", "").of(wide)).contradiction
        assert found is not None, new
        assert found.rule == "3b.iii", str(found)


def test_gradients_free_of_data_are_counted_by_example() -> None:
    """Where no example is on the way, only the elements that are summed tell whose norm a number is."""

    def weighted() -> Any:
        known = fluid.privacy.public(layers.data("known", [4], append_batch_size=False))
        return layers.mean(layers.elementwise_mul(layers.fc(layers.data("x", [3]), 4), known))

    free = compiled(weighted, batch=4)  # as many rows as columns: what is summed over the wrong axis has the right type
    assert verify(free).ok
    for old, new in (
        ("%7 = reduce.sum(%6) {axes=(1,)}", "%7 = reduce.sum(%6) {axes=(0,)}"),
        ("%12 = reduce.sum(%11) {axes=(0, 2, 3)}", "%12 = reduce.sum(%11) {axes=(0, 1, 2)}"),
        ("%5 = elementwise.cast(%1)", "%5 = elementwise.cast(%0)"),
        ("%5 = elementwise.cast(%1)", "%t = shape.transpose(%1) {perm=(1, 0)} : f32[4,4] %5 = elementwise.cast(%t)"),
        (
            "%n2_fc_0.b_0 = dp.norm_sq @fc_0.b_0, %12",
            "%r = shape.reshape(%12) {shape=(2, 2)} : f64[2,2] %t = shape.transpose(%r) {perm=(1, 0)} : f64[2,2] "
            "%p = shape.reshape(%t) {shape=(4,)} : f64[4] %n2_fc_0.b_0 = dp.norm_sq @fc_0.b_0, %p",
        ),
    ):
        found = verify(Forgery(("target",), old, new, "3b.iii", "").of(free)).contradiction
        assert found is not None, new
        assert found.rule == "3b.iii", str(found)


def test_a_contradiction_names_op_line_and_user(artifact: Artifact) -> None:
    forged = FORGERIES["a hidden layer is normalised over the batch"].of(artifact)
    found = verify(forged).contradiction
    assert isinstance(found, Contradiction)
    assert found.member == "ir/core.ir"
    assert "loss.softmax(%fc_0.tmp_1)" in found.op
    assert artifact.ir["core"].split("\n")[found.line - 1].strip().startswith("%fc_0.tmp_2")
    assert found.place.endswith(" fc")
    assert "test_certificate.py:" in found.place
    assert "before clipping" in str(found)


def forged_block(artifact: Artifact, **changed: Any) -> Report:
    privacy = artifact.manifest.privacy
    assert privacy is not None
    manifest = replace(artifact.manifest, privacy=replace(privacy, **changed))
    return verify(through_file(replace(artifact, manifest=manifest)))


def scaled_table(artifact: Artifact, factor: float) -> tuple[EpsilonEntry, ...]:
    privacy = artifact.manifest.privacy
    assert privacy is not None
    return tuple(replace(entry, epsilon=entry.epsilon * factor) for entry in privacy.table)


def test_a_forged_privacy_block_is_refused(artifact: Artifact) -> None:
    for changed, says in (
        ({"slack": 0.0}, "slack 0.0 is smaller"),
        ({"slack": 2.0**-8}, "too small to be true"),
        ({"slack": 2.0**-8, "accounting": "none", "reason": "?", "table": ()}, "slack is"),
        ({"parameters": ("fc_0.b_0", "fc_0.w_0", "fc_1.b_0")}, "trained parameters"),
        ({"table": scaled_table(artifact, 0.0)}, "too small to be true"),
        ({"table": scaled_table(artifact, 0.2)}, "too small to be true"),
        ({"table": reversed_counts(artifact)}, "epsilon falls"),
    ):
        found = forged_block(artifact, **changed).contradiction
        assert found is not None, changed
        assert says in str(found), str(found)


def test_a_float_program_does_not_pass_for_a_discrete_one(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"'fc_0.b_0' is trained without noise"):
        forged_block(artifact, mechanism="discrete", slack=0.0, grid_bits=20)


def reversed_counts(artifact: Artifact) -> tuple[EpsilonEntry, ...]:
    """A table whose epsilons fall with the number of steps."""
    privacy = artifact.manifest.privacy
    assert privacy is not None
    most = max(entry.count for entry in privacy.table)
    return tuple(
        replace(entry, epsilon=1000.0 - entry.epsilon) if entry.count < most else entry for entry in privacy.table
    )


@pytest.mark.filterwarnings("ignore::fluidc.frontend.PrivacyWarning")
def test_epsilon_of_whole_batches_is_held_against_the_closed_form() -> None:
    whole = compiled(mlp, lambda: dpsgd(sample_rate=1.0))
    assert verify(whole).ok
    found = forged_block(whole, table=scaled_table(whole, 0.97)).contradiction
    assert found is not None
    assert "too small to be true" in str(found)


def test_forged_wiring_is_refused(artifact: Artifact) -> None:
    """The runtime binds what the manifest says: it must be what the text's functions take and give."""
    step = artifact.manifest.function("step")

    def report(function: Any) -> Report:
        functions = tuple(function if f.name == "step" else f for f in artifact.manifest.functions)
        return verify(through_file(replace(artifact, manifest=replace(artifact.manifest, functions=functions))))

    key = next(i for i, binding in enumerate(step.inputs) if binding.kind == "key")
    inputs = list(step.inputs)
    inputs[key] = replace(inputs[key], kind="rng_key")
    assert "inputs of function 'step'" in str(report(replace(step, inputs=tuple(inputs))).contradiction)
    shown = tuple(replace(out, not_private=False) for out in step.outputs)
    assert "is not marked" in str(report(replace(step, outputs=shown)).contradiction)


def test_a_missing_text_and_a_missing_proof_are_refused(artifact: Artifact) -> None:
    texts = {stage: text for stage, text in artifact.ir.items() if stage != "private"}
    found = verify(through_file(replace(artifact, ir=texts))).contradiction
    assert found is not None
    assert "ir/private.ir is missing" in str(found)
    found = verify(through_file(replace(artifact, proof=None))).contradiction
    assert found is not None
    assert found.rule == "proof"
    short = "\n".join((artifact.proof or "").split("\n")[:-2])
    found = verify(through_file(replace(artifact, proof=short))).contradiction
    assert found is not None
    assert found.rule == "proof"


def test_a_batch_of_one_row_is_not_verified() -> None:
    """There, an axis of examples cannot be told from any axis of extent 1: refused, not taken on trust."""
    module = MODELS["mlp"].module(PrivacyConfig(clip=1.0, lot=16.0, sigma=1.1))
    source = Source(module, plan=resolve(clip=1.0, lot=16.0, sigma=1.1))
    built = compile_source(source, target="reference", batch=1, keep_ir=True).artifact()
    found = verify(through_file(built)).contradiction
    assert found is not None
    assert (found.rule, found.member) == ("batch", "ir/target.ir")


def test_an_ordinary_program_has_nothing_to_verify() -> None:
    plain = compiled(mlp, lambda: fluid.optimizer.SGD(0.1))
    with pytest.raises(ArtifactError, match="ordinary program"):
        verify(plain)


def test_reader_reads_what_the_printer_writes(artifact: Artifact) -> None:
    text = read(artifact.ir["private"])
    step = text.function("step")
    assert step is not None
    assert [param.role for param in step.params] == ["feed", "feed", "mask", "key", "draw"]
    assert step.types["%x"].shape == (ROWS, 6)
    (factor,) = [op for op in step.ops if op.name == "dp.clip_factor"]
    assert factor.texts("params") == ("fc_0.w_0", "fc_0.b_0", "fc_1.w_0", "fc_1.b_0")
    assert factor.groups[1] == "%mask"
    noise = next(op for op in step.ops if op.name == "dp.noisy_mean")
    assert (noise.states, noise.number("sigma")) == (("fc_0.w_0",), 1.1)
    assert artifact.ir["private"].split("\n")[noise.line - 1].strip().startswith("%g_fc_0.w_0 = dp.noisy_mean")


@pytest.mark.parametrize("text", ["", "module", "module {stage = core} {", "module {stage = core} {} x", "\x00"])
def test_reader_refuses_what_is_no_module(text: str) -> None:
    with pytest.raises(Unreadable):
        read(text)
