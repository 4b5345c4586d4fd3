"""The verifier's privacy check of the clipping modes: modules tampered with in their text are refused."""

from __future__ import annotations

import pytest
from small_modules import AUTOMATIC, PER_GROUP, PHASES, QUANTILE, clipped_mlp, private_mlp

from fluidc.compiler.errors import FluidcError
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.verify import verify
from fluidc.compiler.ops import OPSET
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.privacy_flow import check_privacy_flow
from fluidc.compiler.pipeline import pipeline


def _text(module: Module, stage: Stage) -> str:
    return to_text(run_passes(module, pipeline(module, to=stage)))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Modules at stage ``private``, and those ending in ``@`` at stage ``target``."""
    made = {"groups": PER_GROUP, "automatic": AUTOMATIC, "quantile": QUANTILE, "phases": PHASES}
    found = {name: _text(clipped_mlp(config), Stage.PRIVATE) for name, config in made.items()}
    found |= {f"{name}@": _text(clipped_mlp(config), Stage.TARGET) for name, config in made.items()}
    return found | {"flat": _text(private_mlp(), Stage.PRIVATE)}


def check(text: str) -> None:
    module = parse(text, OPSET)
    verify(module)
    check_privacy_flow(module)


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    assert old in text, old
    return text.replace(old, new, count)


def unlabelled(text: str) -> str:
    for label in (" clipped<%c>", " clipped<%c#1>", " scaled<%c>", " scaled<%c#1>", " public"):
        text = text.replace(label, "")
    return text


def test_untouched_modules_pass(texts: dict[str, str]) -> None:
    for name, text in texts.items():
        check(text)
        if not name.endswith("@"):
            check(unlabelled(text))
        assert to_text(parse(text, OPSET)) == text


# Which module, what is changed, and a part of the message that names the broken rule.
TAMPERINGS = {
    "sqrt(K) dropped": ("groups", ", groups=2", "", "groups=1, but the module states groups=2"),
    "bound of the other group": ("groups", "{sigma=1.1, clip=0.5,", "{sigma=1.1, clip=1.0,", "the module states clip"),
    "noise of the other group": ("groups", "clip=1.0, lot=16.0, groups", "clip=0.5, lot=16.0, groups", "states clip"),
    "a parameter in two groups": (
        "groups",
        "groups=((@b0, @w0), (@w1,))",
        "groups=((@b0, @w0), (@w1, @w0))",
        "in 2 clip",
    ),
    "a parameter in no group": ("groups", "groups=((@b0, @w0), (@w1,))", "groups=((@b0,), (@w1,))", "in no clip group"),
    "one group for both": ("groups", "groups=((@b0, @w0), (@w1,))", "groups=((@b0, @w0, @w1),)", "groups and 2 bounds"),
    "bounds that are not joint": ("groups", "clips=(1.0, 0.5)", "clips=(1.0, 5.0)", "the bounds of the groups make"),
    "norm of the other group's parameter": ("groups", "params=(@w1,)", "params=(@w0,)", "states clip=1.0"),
    "sum clipped by the other group": (
        "groups",
        "dp.noisy_mean @w1, %s_w1, %c#1",
        "dp.noisy_mean @w1, %s_w1, %c",
        "other",
    ),
    "gamma of another size": ("automatic", "gamma=0.01} : f32", "gamma=0.001} : f32", "the module states gamma"),
    "gamma left out": ("automatic", ", gamma=0.01} : f32", "} : f32", "gamma=0.0, but the module states gamma=0.01"),
    "gamma that the module does not state": ("flat", "@w1)} : f32[N]", "@w1), gamma=0.5} : f32[N]", "states gamma=0.0"),
    "bound of another value": (
        "quantile",
        "%mask, %clip) {clip=1.0",
        "%mask, %lr) {clip=1.0",
        "its bound is not the state",
    ),
    "noise by another bound": ("quantile", "%z, %clip {", "%z, %lr {", "its bound is not the state"),
    "noise by a constant bound": ("quantile", "%z, %clip {", "%z {", "its bound is not the state"),
    "factor by a constant bound": (
        "quantile",
        "%mask, %clip) {clip=1.0",
        "%mask) {clip=1.0",
        "its bound is not the state",
    ),
    "less noise on the count": (
        "quantile",
        "{sigma=1.6, clip=0.5",
        "{sigma=0.6, clip=0.5",
        "the module states sigma=1.6",
    ),
    "smaller bound of the count": (
        "quantile",
        "{sigma=1.6, clip=0.5",
        "{sigma=1.6, clip=0.1",
        "the module states clip=0.5",
    ),
    "count divided otherwise": ("quantile", "clip=0.5, lot=16.0", "clip=0.5, lot=1.0", "the module states lot=16.0"),
    "count noise of the gradient's stream": ("quantile", "tensor=0, count=1, domain=2", "tensor=0, count=1", "belong"),
    "a count of other norms": (
        "quantile",
        "dp.count_below([%n2_w0, %n2_b0, %n2_w1]",
        "dp.count_below([%n2_w0, %n2_b0, %n2_b0]",
        "other norms",
    ),
    "the count itself moves the bound": ("quantile", "unary.scale(%votes)", "unary.scale(%below)", "without noise"),
    "less noise on the count than sigma_b": ("quantile", "sigma_b=0.8", "sigma_b=0.56", "the module states sigma"),
    "a quantile that costs more than sigma": ("quantile", "sigma_b=0.8", "sigma_b=0.5", "not above sigma/2"),
    "bound outside its range": ("quantile", "c_max=100.0", "c_max=0.5", "not ordered"),
    "the bound moves between micro-batches": (
        "quantile@",
        'state.write @"lot/b0", %acc_b0',
        "state.write @dp_clip_0, %clip",
        "between the micro-batches",
    ),
    "less noise in a later phase": ("phases", "sigmas=(1.1, 2.0)", "sigmas=(1.1, 1.0)", "the module states sigmas"),
    "phases in another order": (
        "phases", "sigmas=(1.1, 2.0), lots=(16.0, 24.0)", "sigmas=(1.1, 2.0), lots=(16.0, 16.0)", "module states lots",
    ),
    "the first phase's noise throughout": (
        "phases", ", _, %phase {sigma=1.1, clip=1.0, lot=16.0, sigmas=(1.1, 2.0), lots=(16.0, 24.0)}",
        " {sigma=1.1, clip=1.0, lot=16.0}", "states sigmas",
    ),
    "a phase more": ("phases", "sigmas=(1.1, 2.0), lots=(16.0, 24.0)", "sigmas=(1.1,), lots=(16.0,)", "states sigmas"),
    "phases that the module does not state": ("phases", ", phases=((5, 1.1, 16.0), (7, 2.0, 24.0))", "", "sigmas"),
    "other phases in the module": ("phases", "(7, 2.0, 24.0)", "(7, 3.0, 24.0)", "the module states sigmas"),
    "a module whose sigma is no phase's": ("phases", "sigma=1.1, phases", "sigma=2.0, phases", "first phase"),
    "phases of quantile clipping": (
        "quantile", "sigma_b=0.8", "sigma_b=0.8, phases=((5, 1.1, 16.0),)", "clipping 'quantile'",
    ),
    "a phase of no steps": ("phases", "((5, 1.1", "((0, 1.1", "a phase of 0 steps"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tampering_is_refused(texts: dict[str, str], what: str) -> None:
    kind, old, new, reason = TAMPERINGS[what]
    with pytest.raises(FluidcError) as caught:
        check(replaced(unlabelled(texts[kind]), old, new))
    assert reason in str(caught.value)


def edited(text: str, name: str, old: str, new: str) -> str:
    """The text with the op that makes ``%name`` changed."""
    line = next(line for line in text.splitlines() if line.strip().startswith(f"%{name} = "))
    return text.replace(line, replaced(line, old, new), 1)


def test_the_accounted_sigma_alone_is_too_little_noise(texts: dict[str, str]) -> None:
    text = unlabelled(texts["quantile"])
    line = next(line for line in text.splitlines() if line.strip().startswith("%g_w0 = "))
    sigma = line.split("sigma=")[1].split(",")[0]
    assert float(sigma) > 1.1
    with pytest.raises(FluidcError, match=r"sigma=1\.1, but the module states sigma=1\.51"):
        check(edited(text, "g_w0", f"sigma={sigma}", "sigma=1.1"))


def test_a_count_under_a_mask_of_its_own_is_refused(texts: dict[str, str]) -> None:
    """Rows that are no examples would add their -1/2: the mask must be the runtime's."""
    text = unlabelled(texts["quantile"])
    count = next(line for line in text.splitlines() if line.strip().startswith("%below = "))
    own = "    %all = elementwise.fill() {value=1.0} : bool[N]\n" + count.replace("%mask", "%all")
    with pytest.raises(FluidcError, match="its mask"):
        check(text.replace(count, own))


def test_a_bound_computed_from_examples_is_refused(texts: dict[str, str]) -> None:
    """The largest norm of the lot as the bound: not public, whatever its type."""
    text = unlabelled(texts["quantile"])
    factor = next(line for line in text.splitlines() if line.strip().startswith("%c = "))
    own = (
        "    %big = reduce.max(%n2_w0) {axes=(0,)} : f64[]\n    %narrow = elementwise.cast(%big) {dtype=f32} : f32[]\n"
        "    %own = shape.reshape(%narrow) {shape=(1,)} : f32[1]\n"
    )
    with pytest.raises(FluidcError, match="its bound is not the state"):
        check(text.replace(factor, own + factor.replace("%mask, %clip)", "%mask, %own)")))


def test_a_bound_written_from_examples_is_refused(texts: dict[str, str]) -> None:
    text = unlabelled(texts["quantile"])
    write = next(line for line in text.splitlines() if "state.write @dp_clip_0" in line)
    own = (
        "    %big = reduce.max(%n2_w0) {axes=(0,)} : f64[]\n    %narrow = elementwise.cast(%big) {dtype=f32} : f32[]\n"
        "    %own = shape.reshape(%narrow) {shape=(1,)} : f32[1]\n    state.write @dp_clip_0, %own"
    )
    with pytest.raises(FluidcError, match="state 'dp_clip_0' is written a value that is mixed"):
        check(text.replace(write, own))


def test_sums_of_two_groups_are_not_added(texts: dict[str, str]) -> None:
    """Each is bounded, but by another factor: nothing is known of both together."""
    text = unlabelled(texts["groups"])
    sums = next(line for line in text.splitlines() if line.strip().startswith("%s_w1 = "))
    both = (
        "\n    %turned = shape.transpose(%s_w1) {perm=(1, 0)} : f32[3,4]\n"
        "    %both = elementwise.add(%turned, %s_b0) : f32[3,4]"
    )
    with pytest.raises(FluidcError, match="a clipped sum reaches it without noise"):
        check(text.replace(sums, sums + both))


def test_a_phase_of_the_programs_own_is_refused(texts: dict[str, str]) -> None:
    """The first phase for ever: its index must be the runtime's."""
    text = unlabelled(texts["phases"])
    bits = next(line for line in text.splitlines() if "dp.bits" in line)
    own = "    %own = elementwise.fill() {value=0.0} : i64[]\n"
    with pytest.raises(FluidcError, match="its phase is not the one that the runtime supplies"):
        check(text.replace(bits, own + bits, 1).replace("_, %phase", "_, %own"))


def test_the_phase_is_for_noise_alone(texts: dict[str, str]) -> None:
    text = unlabelled(texts["phases"])
    bits = next(line for line in text.splitlines() if "dp.bits" in line)
    read = "    %own = elementwise.cast(%phase) {dtype=f32} : f32[]\n"
    with pytest.raises(FluidcError, match="it reads the phase of the step"):
        check(text.replace(bits, read + bits, 1))


def test_without_phases_nothing_reads_one(texts: dict[str, str]) -> None:
    for name, text in texts.items():
        assert ("phase" in text) == name.startswith("phases")
