"""Forged texts of one private artifact (the two-layer network of tests/runtime/test_certificate.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fluidc.runtime.artifact import Artifact

TEXTS = ("core", "private", "update", "target")
NORMS = ("private", "update", "target")


def through_file(artifact: Artifact) -> Artifact:
    """As it is after a file was written, with the hashes of what is in it, and read."""
    return Artifact.from_bytes(artifact.to_bytes(), "test.fluidc")


@dataclass(frozen=True)
class Forgery:
    """``old`` becomes ``new`` in the texts of ``stages`` (and in the stored proof, where it stands there too).

    ``%{a}`` in ``old`` is any value, the same one in ``new``; a stage ``target@apply`` means that function of it.
    ``rule`` is what must refuse it, ``says`` a part of the reason.
    """

    stages: tuple[str, ...]
    old: str
    new: str
    rule: str
    says: str

    def of(self, artifact: Artifact) -> Artifact:
        """The forged artifact. Raises AssertionError where there is nothing to forge."""
        pattern = re.sub(r"%\\\{(\w)\\\}", r"(?P<\1>%[\\w.#]+)", re.escape(self.old))
        texts = dict(artifact.ir)
        for where in self.stages:
            stage, _, function = where.partition("@")
            start = texts[stage].index(f"func @{function}") if function else 0
            rest, count = re.subn(pattern, self._new, texts[stage][start:], count=1)
            assert count, (where, self.old)
            texts[stage] = texts[stage][:start] + rest
        proof = (artifact.proof or "").replace(self.old, self.new)
        return through_file(replace(artifact, ir=texts, proof=proof))

    def _new(self, found: re.Match[str]) -> str:
        return re.sub(r"%\{(\w)\}", lambda name: found[name[1]], self.new)


NOISE = "{sigma=1.1, clip=1.0, lot=16.0} : f32[3] public"
W0 = "%g_fc_0.w_0 = dp.noisy_mean @fc_0.w_0, %s_fc_0.w_0, %c, %z {sigma=1.1, clip=1.0, lot=16.0} : f32[6,5] public"

FORGERIES: dict[str, Forgery] = {
    # Separability, and the proof of it.
    "a hidden layer is normalised over the batch": Forgery(
        TEXTS, "%fc_0.tmp_2 = unary.tanh(%fc_0.tmp_1)", "%fc_0.tmp_2 = loss.softmax(%fc_0.tmp_1) {axis=0}",
        "3", "softmax: it works along axis 0, the batch",
    ),
    "a batch mean is called example": Forgery(
        TEXTS,
        "%fc_0.tmp_2 = unary.tanh(%fc_0.tmp_1) : ",
        "%m = reduce.mean(%fc_0.tmp_1) {axes=(0,)} : f32[5] %fc_0.tmp_2 = elementwise.sub(%fc_0.tmp_1, %m) : ",
        "3", "sum over the batch enters it",
    ),
    "a detached batch mean": Forgery(
        ("core",),
        "%fc_0.tmp_2 = unary.tanh(%fc_0.tmp_1) : ",
        "%m = reduce.max(%fc_0.tmp_1) {axes=(0,)} : f32[5] %d = grad.stop(%m) : f32[5] "
        "%fc_0.tmp_2 = elementwise.sub(%fc_0.tmp_1, %d) : ",
        "3", "takes one value out of the whole batch",
    ),
    "scores of all pairs of examples": Forgery(
        ("private",),
        "%fc_0.tmp_2 = unary.tanh(%fc_0.tmp_1) : ",
        "%s = linear.matmul(%fc_0.tmp_1, %fc_0.tmp_1) {tb=true} : f32[N,N] "
        "%fc_0.tmp_2 = linear.matmul(%s, %fc_0.tmp_1) : ",
        "3", "pairs every example with every other",
    ),
    "the size of the batch in the loss": Forgery(
        ("core",),
        "%fc_0.tmp_2 = unary.tanh(%fc_0.tmp_1) : ",
        "%m = shape.extent() {dim=N, dtype=f32} : f32[] %fc_0.tmp_2 = elementwise.div(%fc_0.tmp_1, %m) : ",
        "3", "size of the batch depends on every example",
    ),
    "an op that the checker does not know": Forgery(
        TEXTS, "unary.tanh(%fc_0.tmp_1)", "unary.wonder(%fc_0.tmp_1)", "3", "no rule that keeps examples apart",
    ),
    "a loss that is not per example": Forgery(
        ("core",), "grad.backward([%example_loss]", "grad.backward([%mean_0.tmp_0]", "3", "not one value per example",
    ),
    "a gradient that is not private": Forgery(
        ("core",), "[], []) {private=true}", "[], [])", "flow", "differentiates examples without privatising",
    ),
    "a proof line edited": Forgery(
        TEXTS, "unary.tanh(example(axis=0)) -> example(axis=0)", "unary.tanh(example(axis=0)) -> public",
        "proof", "line 7",
    ),
    "the op in a proof line edited": Forgery(
        TEXTS, "elementwise.add(example(axis=0), public)", "elementwise.mul(example(axis=0), public)", "proof", "add",
    ),
    "the batch in the proof": Forgery(TEXTS, "feed y: example(axis=0)", "feed y: public", "proof", "line 2"),
    "a feed without a batch axis": Forgery(
        TEXTS[:3], 'feed "x" %x: f32[N,6]', 'feed "x" %x: f32[16,6]', "3", "no batch axis",
    ),
    "a feed declared public in the text": Forgery(
        ("private",), "{clip=1.0, lot=16.0, sigma=1.1}", '{clip=1.0, lot=16.0, sigma=1.1, public_feeds=("x",)}',
        "manifest", "public feeds",
    ),
    # Clip factor, groups, norms.
    "another bound in the factor": Forgery(
        ("target",), "{clip=1.0, params", "{clip=2.0, params", "3b.v", "clip is 2.0",
    ),
    "other constants in an earlier text": Forgery(
        ("private",), "privacy {clip=1.0", "privacy {clip=0.5", "3b.v", "clip is 0.5",
    ),
    "the norm without a parameter": Forgery(
        NORMS, "[%n2_fc_0.w_0, %n2_fc_0.b_0, ", "[%n2_fc_0.w_0, ", "3b.ii", "one norm term per parameter",
    ),
    "a parameter out of norm and list": Forgery(
        ("private",),
        "[%n2_fc_0.w_0, %n2_fc_0.b_0, %n2_fc_1.w_0, %n2_fc_1.b_0], %mask) {clip=1.0, params=(@fc_0.w_0, @fc_0.b_0, ",
        "[%n2_fc_0.w_0, %n2_fc_1.w_0, %n2_fc_1.b_0], %mask) {clip=1.0, params=(@fc_0.w_0, ",
        "3b.i", "no clip group",
    ),
    "a parameter twice in the norm": Forgery(
        NORMS, "params=(@fc_0.w_0, @fc_0.b_0,", "params=(@fc_0.w_0, @fc_0.w_0,", "3b.ii", "two norm terms",
    ),
    "the norm term of another tensor": Forgery(
        NORMS, "[%n2_fc_0.w_0, %n2_fc_0.b_0, ", "[%n2_fc_0.w_0, %n2_fc_1.b_0, ", "3b.iii", "norm of 'fc_0.b_0'",
    ),
    "half the norm": Forgery(
        ("private",),
        "%n2_fc_0.w_0 = dp.norm_sq @fc_0.w_0, %{n}",
        "%h = unary.scale(%{n}) {factor=0.5} : f64[N] %n2_fc_0.w_0 = dp.norm_sq @fc_0.w_0, %h",
        "3b.iii", "norm of 'fc_0.w_0'",
    ),
    "squares of one factor twice": Forgery(
        ("private",), "elementwise.mul(%{a}, %{b}) : f64[N]", "elementwise.mul(%{b}, %{b}) : f64[N]",
        "3b.iii", "norm of 'fc_0.w_0'",
    ),
    "squares that leave columns out": Forgery(
        ("private",),
        "unary.square(%{a}) : f64[N,6]",
        "unary.neg(%{a}) : f64[N,6]",
        "3b.iii", "fc_0.w_0",
    ),
    "squares in float32": Forgery(
        ("private",), "elementwise.cast(%x) {dtype=f64} : f64[N,6]",
        "elementwise.cast(%x) {dtype=f32} : f32[N,6]", "3b.iii", "fc_0.w_0",
    ),
    "a second clip factor": Forgery(
        ("target",),
        "%x_live = dp.select_rows(%x, %c)",
        "%c2 = dp.clip_factor([%n2_fc_0.w_0], %mask) {clip=1.0, params=(@fc_0.w_0,)} : f32[16] "
        "%x_live = dp.select_rows(%x, %c)",
        "3b.i", "no clip group",
    ),
    "a factor that is a constant": Forgery(
        ("private",),
        "%_c = dp.scale_rows(%{d}, %c)",
        "%one = elementwise.fill() {value=1.0} : f32[N] %_c = dp.scale_rows(%{d}, %one)",
        "3b.i", "does not come from a clip factor",
    ),
    "a mask of ones": Forgery(
        ("private",),
        "%c = dp.clip_factor([%n2_fc_0.w_0, %n2_fc_0.b_0, %n2_fc_1.w_0, %n2_fc_1.b_0], %mask)",
        "%m = elementwise.fill() {value=1.0} : bool[N] "
        "%c = dp.clip_factor([%n2_fc_0.w_0, %n2_fc_0.b_0, %n2_fc_1.w_0, %n2_fc_1.b_0], %m)",
        "3b.iv", "mask is not the one that the runtime supplies",
    ),
    "raw rows beside the scaled ones": Forgery(
        ("private",), "linear.matmul(%x_live, %_c) {ta=true}", "linear.matmul(%x, %_c) {ta=true}",
        "3", "did not select",
    ),
    "rows selected and not scaled": Forgery(
        ("private",), "%_c = dp.scale_rows(%{d}, %c) : f32[N,5] scaled<%c>",
        "%_c = dp.select_rows(%{d}, %c) : f32[N,5]", "proof", "clipped<%c>",
    ),
    "rows scaled twice by their product": Forgery(
        ("private",), "%x_live = dp.select_rows(%x, %c) : f32[N,6]",
        "%x_live = dp.scale_rows(%x, %c) : f32[N,6] scaled<%c>", "3", "linear.matmul",
    ),
    # Noise.
    "half the noise of one tensor": Forgery(
        ("target",), "{tensor=2, sigma=1.1, ", "{tensor=2, sigma=0.55, ", "3b.v", "sigma is 0.55",
    ),
    "half the noise of one tensor, before fusion": Forgery(
        ("update",), NOISE, NOISE.replace("1.1", "0.55"), "3b.v", "sigma is 0.55",
    ),
    "a larger divisor": Forgery(
        ("private",), W0, W0.replace("lot=16.0", "lot=160.0"), "3b.v", "lot is 160.0",
    ),
    "the lot is the number of rows": Forgery(
        ("private",), "elementwise.max(%{a}, %{b}) : f32[]",
        "dp.noisy_mean @fc_0.w_0, %{a}, %c, %z {sigma=1.1, clip=1.0, lot=16.0} : f32[]", "3b.iv", "read twice",
    ),
    "two tensors share a keystream": Forgery(
        ("target",), "{tensor=2, sigma=1.1", "{tensor=0, sigma=1.1", "3b.iv", "keystream 0 is used by two ops",
    ),
    "the keystream of another tensor": Forgery(
        ("private",), "{tensor=1, count=30}", "{tensor=4, count=30}", "3b.iv", "is not that of 'fc_0.w_0'",
    ),
    "a keystream of another domain": Forgery(
        ("private",), "{tensor=1, count=30}", "{tensor=1, count=30, domain=4}", "3b.iv", "not that of gradient noise",
    ),
    "a keystream too short": Forgery(("private",), "count=30}", "count=3}", "3b.iv", "one number per element"),
    "bits read twice": Forgery(
        ("private",), "@fc_0.b_0, %s_fc_0.b_0, %c, %z#1 {", "@fc_0.b_0, %s_fc_0.b_0, %c, %z {", "3b.iv", "read twice",
    ),
    "a fetched keystream": Forgery(
        ("private",), 'return "mean_0.tmp_0" = %mean_0.tmp_0', 'return "z" = %z, "mean_0.tmp_0" = %mean_0.tmp_0',
        "3b.iv", "shows the key",
    ),
    "a constant key": Forgery(
        ("target",), "%fc_0.w_0 = state.read @fc_0.w_0 : f32[6,5]",
        "%k = elementwise.fill() {value=7.0} : u32[8] %fc_0.w_0 = state.read @fc_0.w_0 : f32[6,5]",
        "3b.iv", "key is not the one that the runtime supplies",
    ),
    "noise on a sum of raw rows": Forgery(
        ("private",), "%s_fc_0.b_0 = reduce.sum(%_c#1) {axes=(0,)} : f32[5] clipped<%c>",
        "%s_fc_0.b_0 = reduce.sum(%fc_0.tmp_1) {axes=(0,)} : f32[5]", "flow", "noise is added to what is total(sum)",
    ),
    "the update takes the sum without noise": Forgery(
        NORMS, "optim.sgd(%fc_0.b_0, %g_fc_0.b_0, ", "optim.sgd(%fc_0.b_0, %s_fc_0.b_0, ", "flow", "without noise",
    ),
    "a clipped sum added to another": Forgery(
        ("private",), W0, "%t = elementwise.add(%s_fc_0.w_0, %s_fc_0.w_0) : f32[6,5] "
        + W0.replace("%s_fc_0.w_0,", "%t,"), "3b.iii", "norm of 'fc_0.w_0'",
    ),
    "a clipped sum minus itself": Forgery(
        ("private",), W0, "%t = elementwise.sub(%s_fc_0.w_0, %s_fc_0.w_0) : f32[6,5] " + W0, "3b.vi", "without noise",
    ),
    "a parameter without noise": Forgery(
        ("target",), '%g_fc_0.b_0 = dp.add_noise @fc_0.b_0, %s_fc_0.b_0, %c, %key, %draw {tensor=0, sigma=1.1, '
        'clip=1.0, lot=16.0} : f32[5] public', "%g_fc_0.b_0 = elementwise.fill() {value=0.0} : f32[5] public",
        "3b.i", "its sums are",
    ),
    # What leaves the step.
    "a raw gradient in model state": Forgery(
        ("update",),
        "state.write @fc_0.b_0, %fc_0.b_0#1",
        "%raw = reduce.sum(%fc_0.tmp_1) {axes=(0,)} : f32[5] state.write @fc_0.b_0, %raw",
        "flow", "model state 'fc_0.b_0' is written what is total(sum)",
    ),
    "the loss becomes the learning rate": Forgery(
        ("private",), 'state.write @fc_1.w_0, %fc_1.w_0#1\n    return "m',
        'state.write @fc_1.w_0, %fc_1.w_0#1 state.write @learning_rate_0, %mean_0.tmp_0\n    return "m',
        "flow", "'learning_rate_0' is written",
    ),
    "a clipped sum is fetched": Forgery(
        ("private",), 'return "mean_0.tmp_0" = ', 'return "s" = %s_fc_0.w_0, "mean_0.tmp_0" = ',
        "flow", "fetch 's' is clipped<%c>",
    ),
    # Lots.
    "the sum of a lot of another parameter": Forgery(
        ("target",), "@fc_0.b_0, %lot_fc_0.b_0, _,", "@fc_0.b_0, %lot_fc_1.b_0, _,", "3b.i", "lot sum of 'fc_0.b_0'",
    ),
    "a lot sum that is not cleared": Forgery(
        ("target@apply",), 'state.write @"lot/fc_0.b_0", %{z} ', 'state.write @"lot/fc_0.b_0", %lot_fc_0.b_0 ',
        "3b.vi", "neither added to nor cleared",
    ),
    "a batch added twice to its lot": Forgery(
        ("target",), "%acc_fc_0.b_0 = dp.accumulate(%{l}", "%again = dp.accumulate(%{l}, %s_fc_0.b_0) : f32[5] "
        "%acc_fc_0.b_0 = dp.accumulate(%{l}", "3b.vi", "added twice",
    ),
    "rows added to a lot": Forgery(
        ("target",), "%acc_fc_0.b_0 = dp.accumulate(%{l}, %s_fc_0.b_0)",
        "%acc_fc_0.b_0 = dp.accumulate(%{l}, %fc_0.b_0)", "3b.vi", "public",
    ),
    # Damage.
    "a value that nothing defines": Forgery(
        ("private",), "linear.matmul(%x_live, %_c)", "linear.matmul(%x_liv, %_c)", "text", "before anything defines it",
    ),
    "a value defined twice": Forgery(("private",), "%_c#1 = dp", "%_c = dp", "text", "one definition"),
    "text that breaks off": Forgery(("update",), "state.write @fc_0.b_0,", "state.write @fc_0.b_0", "text", "expected"),
}  # fmt: skip

QUANTILE_NOISE = "sigma=1.1441121284831564, clip=1.0"

MODES: dict[str, dict[str, Forgery]] = {
    "per-group": {
        "the root of the number of groups": Forgery(("target",), ", groups=4}", "}", "3b.v", "groups is 1"),
        "another group's bound in the noise": Forgery(
            ("private",), "{sigma=1.1, clip=0.4,", "{sigma=1.1, clip=0.3,", "3b.v", "clip is 0.3",
        ),
        "another group's bound in the factor": Forgery(
            ("update",), "{clip=0.4, params=(@fc_0.b_0,)}", "{clip=0.6, params=(@fc_0.b_0,)}", "3b.v", "clip is 0.6",
        ),
        "rows scaled by another group's factor": Forgery(
            ("private",), "dp.scale_rows(%{d}, %c#1) : f32[N,5] scaled<%c#1>", "dp.scale_rows(%{d}, %c) : f32[N,5]",
            "proof", "clipped<%c#1>",
        ),
        "two groups under one factor": Forgery(
            ("private",), "[%n2_fc_0.w_0], %mask) {clip=0.3, params=(@fc_0.w_0,)}",
            "[%n2_fc_0.w_0, %n2_fc_0.b_0], %mask) {clip=0.3, params=(@fc_0.w_0, @fc_0.b_0)}", "3b.i", "no clip group",
        ),
        "other groups in the text": Forgery(("core",), "(@fc_0.b_0,)", "(@fc_1.b_0,)", "3b.v", "groups is"),
    },
    "automatic": {
        "no gamma": Forgery(("target",), "@fc_1.b_0), gamma=0.01}", "@fc_1.b_0)}", "3b.v", "gamma is 0.0"),
    },
    "quantile": {
        "the gradient's noise without the count's share": Forgery(
            ("target",), QUANTILE_NOISE, "sigma=1.1, clip=1.0", "3b.v", "sigma is 1.1",
        ),
        "less noise on the count": Forgery(("private",), "{sigma=4.0, clip=0.5", "{sigma=0.4, clip=0.5", "3b.v", "0.4"),
        "a count without noise": Forgery(
            ("private",), "dp.noisy_mean @dp_clip_0, %below, _, %z#4 {sigma=4.0, clip=0.5, lot=16.0} : f32[] public",
            "shape.reshape(%below) {shape=()} : f32[]", "flow", "without noise",
        ),
        "a count of other norms": Forgery(
            ("private",), "dp.count_below([%n2_fc_0.w_0, %n2_fc_0.b_0,", "dp.count_below([%n2_fc_0.b_0, %n2_fc_0.w_0,",
            "3b.ii", "other norms",
        ),
        "a bound that is another state": Forgery(
            ("private",), "state.read @dp_clip_0", "state.read @learning_rate_0", "3b.v", "not the state 'dp_clip_0'",
        ),
        "a constant bound": Forgery(
            ("private",), "%mask, %clip) {clip=1.0,", "%mask) {clip=1.0,", "3b.v", "not the state",
        ),
        "the keystream of a gradient for the count": Forgery(
            ("private",), ", domain=2}", "}", "3b.iv", "keystream 0 is used by two ops",
        ),
        "the bound moves within a lot": Forgery(
            ("target@accumulate",), 'state.write @"lot/dp_clip_0", ', "state.write @dp_clip_0, %clip "
            'state.write @"lot/dp_clip_0", ', "flow", "before the lot is complete",
        ),
    },
    "phases": {
        "less noise in a later phase": Forgery(
            ("target",), "sigmas=(1.1, 2.0)", "sigmas=(1.1, 1.1)", "3b.v", "sigmas are (1.1, 1.1)",
        ),
        "another lot in a later phase": Forgery(
            ("private",), ", lots=(16.0, 32.0)", ", lots=(16.0, 16.0)", "3b.v", "lots are (16.0, 16.0)",
        ),
        "the first phase for ever": Forgery(
            ("target",), ", _, %phase {tensor=1, sigma=1.1, clip=1.0, lot=16.0, sigmas=(1.1, 2.0), lots=(16.0, 32.0)}",
            " {tensor=1, sigma=1.1, clip=1.0, lot=16.0}", "3b.v", "sigmas are ()",
        ),
        "no operand of the phase": Forgery(
            ("target",), ", _, %phase {tensor=1,", " {tensor=1,", "3b.v", "operand of a phase",
        ),
        "a phase of the program's own": Forgery(
            ("private",), "%g_fc_0.w_0 = dp.noisy_mean @fc_0.w_0, %s_fc_0.w_0, %c, %z, _, %phase",
            "%own = elementwise.fill() {value=0.0} : i64[] "
            "%g_fc_0.w_0 = dp.noisy_mean @fc_0.w_0, %s_fc_0.w_0, %c, %z, _, %own", "3b.iv", "its phase is not the one",
        ),
        "a phase that the program reads": Forgery(
            ("private",), "%fc_0.tmp_2 = unary.tanh(%fc_0.tmp_1) : ",
            "%i = elementwise.cast(%phase) {dtype=f32} : f32[] %fc_0.tmp_2 = unary.tanh(%fc_0.tmp_1) : ",
            "3b.iv", "read by another op",
        ),
        "a fetched phase": Forgery(
            ("private",), 'return "mean_0.tmp_0" = ', 'return "p" = %phase, "mean_0.tmp_0" = ',
            "3b.iv", "shows the key",
        ),
        "more steps than the manifest says": Forgery(
            ("core", "private", "update"), "phases=((5, 1.1, 16.0)", "phases=((6, 1.1, 16.0)", "3b.v", "phases is",
        ),
    },
    "discrete": {
        "a finer grid in one sum": Forgery(
            ("target",), "dp.grid_sum(%{g}, %live) {clip=1.0, bits=20} : i64[5]",
            "dp.grid_sum(%{g}, %live) {clip=1.0, bits=21} : i64[5]", "3b.v", "bits is 21",
        ),
        "integers that were not checked": Forgery(
            ("private",), "dp.grid_sum(%gi_fc_0.w_0, %live)", "dp.grid_sum(%gi_fc_0.w_0, %c)",
            "3b.i", "check of the integers",
        ),
        "other integers than those checked": Forgery(
            ("private",), "dp.grid_norm_sq(%gi_fc_0.w_0, %c)", "dp.grid_norm_sq(%gi_fc_1.w_0, %c)",
            "3b.iii", "not of the integers that were checked",
        ),
        "a parameter that is not checked": Forgery(
            ("private",), "dp.grid_live([%t2_fc_0.w_0, %t2_fc_0.b_0,", "dp.grid_live([%t2_fc_0.b_0,",
            "3b.ii", "one norm of integers per parameter",
        ),
        "the noise of another parameter": Forgery(
            ("private",), "%live, %y_fc_0.b_0 {", "%live, %y_fc_0.w_0 {", "3b.iv", "not what the runtime supplies",
        ),
        "fetched noise": Forgery(
            ("private",), 'return "mean_0.tmp_0" = ', 'return "z" = %y_fc_0.b_0, "mean_0.tmp_0" = ',
            "3b.iv", "shows the key",
        ),
        "a bound too wide for the grid": Forgery(
            ("target",), "{clip=0.9990234375, params", "{clip=1.0, params", "3b.v", "clip is 1.0",
        ),
        "a norm in floats": Forgery(
            ("private",), "dp.grid_norm_sq(%gi_fc_0.w_0, %c)", "dp.row_norm_sq(%gi_fc_0.w_0)",
            "3b.iii", "no norm of integers",
        ),
    },
}  # fmt: skip
