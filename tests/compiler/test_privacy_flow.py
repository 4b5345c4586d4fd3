"""The verifier's privacy check: modules that were tampered with in their text are refused."""

from __future__ import annotations

import pytest
from private_models import MODELS
from small_modules import plain_mlp, private_mlp

from fluidc.compiler.errors import FluidcError
from fluidc.compiler.ir.core import PrivacyConfig
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.verify import verify
from fluidc.compiler.ops import OPSET
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.privacy_flow import check_privacy_flow
from fluidc.compiler.passes.privatize import Privatize
from fluidc.compiler.pipeline import pipeline


@pytest.fixture(scope="module")
def private_text() -> str:
    module = private_mlp()
    return to_text(run_passes(module, pipeline(module, to=Stage.PRIVATE)))


@pytest.fixture(scope="module")
def target_text() -> str:
    module = private_mlp()
    return to_text(run_passes(module, pipeline(module)))


def check(text: str) -> None:
    module = parse(text, OPSET)
    verify(module)
    check_privacy_flow(module)


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    assert old in text, old
    return text.replace(old, new, count)


def unlabelled(text: str) -> str:
    """The text without labels, so that what is derived decides and not what is stated."""
    for label in (" clipped<%c>", " scaled<%c>", " public"):
        text = text.replace(label, "")
    return text


def test_untouched_modules_pass(private_text: str, target_text: str) -> None:
    check(private_text)
    check(target_text)
    check(unlabelled(private_text))


# What is changed, and a part of the message that names the broken rule.
TAMPERINGS = {
    "other clip in the factor": ("{clip=1.0, params", "{clip=2.0, params", "the module states clip"),
    "less noise": ("{sigma=1.1, clip=1.0, lot=16.0}", "{sigma=0.5, clip=1.0, lot=16.0}", "the module states sigma"),
    "other lot": ("{sigma=1.1, clip=1.0, lot=16.0}", "{sigma=1.1, clip=1.0, lot=8.0}", "the module states lot"),
    "keystream of another tensor": ("{tensor=0, count=4}", "{tensor=1, count=4}", "does not belong"),
    "keystream of another domain": ("{tensor=0, count=4}", "{tensor=0, count=4, domain=4}", "of domain 4"),
    "a constant for the key": ("key %key: u32[8]", 'feed "key" %key: u32[8]', ""),
    "norm without a parameter": (
        "dp.clip_factor([%n2_w0, %n2_b0, %n2_w1], %mask) {clip=1.0, params=(@w0, @b0, @w1)}",
        "dp.clip_factor([%n2_w0, %n2_w1], %mask) {clip=1.0, params=(@w0, @w1)}",
        "its norm covers",
    ),
    "norm of another product": ("[%n2_w0, %n2_b0, %n2_w1]", "[%n2_w0, %n2_b0, %n2_b0]", "does not read"),
    "a parameter twice in the norm": ("params=(@w0, @b0, @w1)", "params=(@w0, @w0, @w1)", "two terms"),
    "update with the clipped sum": ("optim.sgd(%w0, %g_w0, %lr)", "optim.sgd(%w0, %s_w0, %lr)", "without noise"),
    "noise on unclipped rows": ("dp.scale_rows(%8, %c)", "dp.select_rows(%8, %c)", ""),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tampering_is_refused(private_text: str, what: str) -> None:
    old, new, reason = TAMPERINGS[what]
    if what == "noise on unclipped rows":
        old = next(line.split(" = ")[1].split(" : ")[0] for line in private_text.splitlines() if "scale_rows" in line)
        new = old.replace("scale_rows", "select_rows")
    with pytest.raises(FluidcError) as caught:
        check(replaced(unlabelled(private_text), old, new))
    assert reason in str(caught.value)


def test_a_false_label_is_refused(private_text: str) -> None:
    """A text may not claim more than the ops give."""
    lying = replaced(private_text, "%s_w0 = ", "%s_w0 = ", 1).replace(" clipped<%c>", " public", 1)
    with pytest.raises(FluidcError, match="clipped"):
        check(lying)


def test_raw_gradient_cannot_be_written(private_text: str) -> None:
    text = unlabelled(private_text)
    product = next(line for line in text.splitlines() if "%s_w0 = linear.matmul" in line)
    raw = product.replace("%s_w0", "%raw").replace("%x_live", "%x")
    delta = next(line for line in text.splitlines() if "dp.scale_rows" in line).split("(")[1].split(",")[0]
    scaled = product.split("(")[1].split(",")[1].split(")")[0].strip()
    text = text.replace(product, f"{product}\n{raw.replace(scaled, delta)}")
    text = text.replace("optim.sgd(%w0, %g_w0, %lr)", "optim.sgd(%w0, %raw, %lr)")
    with pytest.raises(FluidcError, match="state 'w0' is written"):
        check(text)


def test_raw_rows_cannot_be_fetched(private_text: str) -> None:
    scaled = next(line.strip().split(" = ")[0] for line in private_text.splitlines() if "dp.scale_rows" in line)
    text = replaced(private_text, 'return "mean" =', f'return "leak" = {scaled}, "mean" =')
    with pytest.raises(FluidcError, match="fetch 'leak'"):
        check(text)


def test_fusing_noise_twice_from_one_stream_is_refused(target_text: str) -> None:
    assert "dp.add_noise" in target_text
    step = target_text.index("func @step")
    head, body = target_text[:step], target_text[step:]
    end = body.index("func @accumulate")
    body = body[:end].replace("{tensor=0,", "{tensor=1,") + body[end:]
    with pytest.raises(FluidcError, match="does not belong"):
        check(head + body)


def edited(text: str, **lines: str) -> str:
    """The text with whole ops replaced: ``s_w0="linear.matmul(...)"`` rewrites the op that makes ``%s_w0``."""
    changed: list[str] = []
    for line in text.splitlines():
        name = line.strip().split(" = ")[0].removeprefix("%") if " = " in line else ""
        kind = line.rsplit(" : ", 1)[-1]
        changed.append(f"    %{name} = {lines[name]} : {kind}" if name in lines else line)
    assert changed != text.splitlines()
    return "\n".join(changed) + "\n"


def operand(text: str, name: str, number: int) -> str:
    """Operand ``number`` of the op that makes ``%name``."""
    line = next(line for line in text.splitlines() if line.strip().startswith(f"%{name} = "))
    return line.split("(", 1)[1].split(")", 1)[0].split(", ")[number]


def test_no_noise_at_all_is_refused(private_text: str) -> None:
    """Leaving out every mechanism must not leave out the check."""
    text = unlabelled(private_text)
    text = edited(text, **{f"g_{p}": f"unary.scale(%s_{p}) {{factor=0.0625}}" for p in ("w0", "b0", "w1")})
    with pytest.raises(FluidcError, match="without noise"):
        check(text)


def test_a_module_that_only_claims_to_be_private_is_refused() -> None:
    """A plain module with a privacy block: no op of the mechanism, and its gradients are refused all the same."""
    plain = plain_mlp()
    text = to_text(run_passes(plain, pipeline(plain, to=Stage.PRIVATE)))
    claimed = text.replace("{stage = private} {", "{stage = private} {\n  privacy {clip=1.0, lot=16.0, sigma=1.1}")
    with pytest.raises(FluidcError, match="is written a value that is mixed"):
        check(claimed)


def test_a_factor_for_each_tensor_is_refused(private_text: str) -> None:
    text = unlabelled(private_text)
    factor = "    %c = dp.clip_factor([%n2_w0, %n2_b0, %n2_w1], %mask) {clip=1.0, params=(@w0, @b0, @w1)} : f32[N]"
    place = next(line for line in text.splitlines() if "%c = dp.clip_factor" in line)
    two = "\n".join(
        [
            factor.replace("[%n2_w0, %n2_b0, %n2_w1]", "[%n2_w0, %n2_b0]").replace("(@w0, @b0, @w1)", "(@w0, @b0)"),
            factor.replace("%c =", "%c1 =")
            .replace("[%n2_w0, %n2_b0, %n2_w1]", "[%n2_w1]")
            .replace("(@w0, @b0, @w1)", "(@w1,)"),
        ]
    )
    text = text.replace(place, two)
    head, _, tail = text.partition("%s_b0 = ")
    cut = tail.index("dp.select_rows")
    tail = tail[:cut] + tail[cut:].replace(", %c)", ", %c1)").replace(", %c,", ", %c1,")
    with pytest.raises(FluidcError, match="its norm covers"):
        check(head + "%s_b0 = " + tail)


def test_rows_that_were_not_selected_are_refused(private_text: str) -> None:
    text = unlabelled(private_text)
    for other in ("unary.scale(%x) {factor=1000.0}", "unary.scale(%x_live0) {factor=1000.0}"):
        with pytest.raises(FluidcError, match=r"not selected|not defined"):
            check(edited(text, x_live=other))


def test_a_norm_that_is_too_small_is_refused(private_text: str) -> None:
    """The term reads the right rows, and still does not bound them."""
    text = unlabelled(private_text)
    line = next(line for line in text.splitlines() if line.strip().startswith("%n2_w0 = "))
    smaller = line.replace("%n2_w0 = ", "%n2 = ") + "\n    %n2_w0 = unary.scale(%n2) {factor=0.5} : f64[N]"
    with pytest.raises(FluidcError, match="smaller than that of the gradient"):
        check(text.replace(line, smaller))


def test_a_mask_of_its_own_is_refused(private_text: str) -> None:
    text = unlabelled(private_text)
    factor = next(line for line in text.splitlines() if "dp.clip_factor" in line)
    own = "    %all = elementwise.fill() {value=1.0} : bool[N]\n" + factor.replace("%mask", "%all")
    with pytest.raises(FluidcError, match="its mask"):
        check(text.replace(factor, own))


def test_a_fixed_batch_cannot_be_checked() -> None:
    module = private_mlp()
    specialised = run_passes(module, pipeline(module, batch=16))
    with pytest.raises(FluidcError, match="cannot be checked"):
        check(to_text(specialised))


def model_text(name: str, rule: str, to: Stage = Stage.PRIVATE) -> str:
    module = MODELS[name].module(PrivacyConfig(clip=1.0, lot=8.0, sigma=1.0))
    passes = (Privatize(rule) if isinstance(p, Privatize) else p for p in pipeline(module, to=to))
    return unlabelled(to_text(run_passes(module, tuple(passes))))


@pytest.mark.parametrize("rule", ["gram", "direct"])
def test_a_norm_over_one_of_two_reads_is_refused(rule: str) -> None:
    """Tied reads have one norm with their cross terms: a block that is left out is seen."""
    text = model_text("auto_encoder", rule)
    check(text)
    line = next(line for line in text.splitlines() if "_norm_sq([" in line)
    groups = line.split("(", 1)[1].split(")", 1)[0]
    lefts, rights = groups.strip("[]").split("], [")
    shorter = ", ".join(lefts.split(", ")[:-1]), ", ".join(rights.split(", ")[:-1])
    with pytest.raises(FluidcError, match="does not read what"):
        check(text.replace(groups, f"[{shorter[0]}], [{shorter[1]}]"))


@pytest.mark.parametrize("rule", ["gram", "direct"])
def test_a_norm_of_partial_norms_is_refused(rule: str) -> None:
    """|a|^2 + |b|^2 is not |a + b|^2."""
    text = model_text("auto_encoder", rule)
    line = next(line for line in text.splitlines() if "_norm_sq([" in line)
    op, groups = line.split(" = ")[1].split("(")[0], line.split("(", 1)[1].split(")", 1)[0]
    lefts, rights = (part.split(", ") for part in groups.strip("[]").split("], ["))
    result, kind = line.strip().split(" = ")[0], " : f64[N]"
    parts = [f"    %part{i} = {op}([{x}], [{d}]){kind}" for i, (x, d) in enumerate(zip(lefts, rights, strict=True))]
    sums = [
        f"    %sum0 = elementwise.add(%part0, %part1){kind}",
        f"    {result} = elementwise.add(%sum0, %part2){kind}",
    ]
    with pytest.raises(FluidcError, match="is smaller than that of the gradient"):
        check(text.replace(line, "\n".join([*parts, *sums])))


def test_the_padding_of_a_norm_is_that_of_its_sum() -> None:
    """A norm that leaves an id out which the sum counts is too small."""
    text = model_text("language", "gram")
    check(text)
    line = next(line for line in text.splitlines() if "dp.gram_norm_sq" in line)
    assert "padding=(-1, -1, 0)" in line
    for other in ("(-1, 0, 0)", "(-1, 1, 0)"):
        with pytest.raises(FluidcError, match="is smaller than that of the gradient"):
            check(text.replace("padding=(-1, -1, 0)", f"padding={other}"))


def test_a_sum_counted_twice_is_refused() -> None:
    """Clipped sums of one factor add up over the reads of a parameter, no further."""
    text = model_text("auto_encoder", "gram")
    noisy = next(line for line in text.splitlines() if "dp.noisy_mean" in line)
    twice = f"    %twice = elementwise.add(%s_w, %s_w) : f32[4,3]\n{noisy.replace('%s_w,', '%twice,')}"
    assert "%twice," in twice
    with pytest.raises(FluidcError, match="is smaller than that of the gradient"):
        check(text.replace(noisy, twice))


def test_a_lot_counted_twice_is_refused(target_text: str) -> None:
    """In ``apply`` no norm is at hand: sums read from state are not added to each other."""
    text = unlabelled(target_text)
    noisy = next(line for line in text.splitlines() if "dp.add_noise @w0, %lot_w0" in line)
    twice = f"    %twice = elementwise.add(%lot_w0, %lot_w0) : f32[8,4]\n{noisy.replace('%lot_w0', '%twice')}"
    with pytest.raises(FluidcError, match="without noise"):
        check(text.replace(noisy, twice))


def test_images_paired_with_other_examples_are_refused() -> None:
    """The filter's gradient is a sum over examples only where images and cotangents lie alike."""
    text = model_text("frames", "gram")
    check(text)
    line = next(line for line in text.splitlines() if "conv.conv2d_filter_grad(" in line)
    images, _ = line.split("(", 1)[1].split(")", 1)[0].split(", ")
    kind = (
        next(each for each in text.splitlines() if each.strip().startswith(f"{images} = "))
        .split(" : ")[1]
        .split(" ")[0]
    )
    rows = kind.split("[")[1].split(",")[0]
    shape = kind.split("[")[1].rstrip("]").replace(rows, "{}")
    split = shape.format("5,N" if rows == "5*N" else rows)
    moved = shape.format("N,5")
    lines = [
        f"    %r0 = shape.reshape({images}) {{shape=({moved.replace(',', ', ')})}} : f32[{moved}]",
        f"    %r1 = shape.transpose(%r0) {{perm=(1, 0, 2, 3, 4)}} : f32[{split}]",
        f"    %r2 = shape.reshape(%r1) {{shape=({shape.format('5*N').replace(',', ', ')})}} : {kind}",
        line.replace(f"({images},", "(%r2,"),
    ]
    with pytest.raises(FluidcError, match="not known to sum them once"):
        check(text.replace(line, "\n".join(lines)))
