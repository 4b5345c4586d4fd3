"""Cases of the private update.

Expectations are loops over examples in exact sums; the keystream is the ``cryptography`` package's ChaCha20 and the
normals are Box–Muller in double precision, both written from RFC 8439 and the documented layout.
"""

import math
import struct

import numpy as np
from cases import Case, ErrorCase, floats, tensor
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from fluidc.compiler.ir.core import StateName, Value
from fluidc.compiler.ops import dp
from fluidc.compiler.ops.dp_noise import AddNoise, Bits, NoisyMean
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind

E0 = ExampleKind(0)
W = StateName("w")
KEY = np.arange(1, 9, dtype=np.uint32) * np.uint32(0x01020304)
DRAW = np.array(2**40 + 5, np.uint64)
NAN, INF = float("nan"), float("inf")


def keystream(key, draw, tensor_index, blocks, domain=1):
    """RFC 8439 words of blocks 0, 1, … under the documented nonce."""
    draw = int(draw)
    nonce = struct.pack("<III", domain << 24 | tensor_index, draw % 2**32, draw >> 32)
    cipher = Cipher(algorithms.ChaCha20(key.astype("<u4").tobytes(), struct.pack("<I", 0) + nonce), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(64 * blocks)), "<u4").astype(np.uint32)


def normals(words, count):
    """Box–Muller with a 64-bit radius: element e is pair p = j // 2 of block 16 g + lane."""
    out = []
    for e in range(count):
        group, j, lane = e // 160, e % 160 // 16, e % 16
        high, low, angle = (int(words[(16 * group + lane) * 16 + 3 * (j // 2) + i]) for i in range(3))
        up = high >= 2**31
        if up:
            high, low = 2**32 - 1 - high, 2**32 - 1 - low
        t = high * 2.0**-32 + (low + 0.5) * 2.0**-64
        radius = math.sqrt(2 * (-math.log1p(-t) if up else -math.log(t)))
        a = (2 * (angle & 0x3FFFFFFF) + 1 - 2**30) * (math.pi / 4) * 2.0**-30 + (angle >> 30) * (math.pi / 2)
        out.append(radius * (math.sin(a) if j % 2 else math.cos(a)))
    return np.array(out)


def blocks_of(count):
    return -(-count // 160) * 16


def noisy(total, z, std, lot):
    return ((total.astype(np.float64) + std * z.reshape(total.shape)) / lot).astype(np.float32)


def by_row(f, pre=1, post=1, axis=0):
    """``f(row, c)`` for the slice (u, i, t) of every example i."""

    def expect(x, c):
        out = np.moveaxis(x, axis, 0).copy()
        for r in range(len(out)):
            out[r] = f(out[r], c[r // post % len(c)])
        return np.moveaxis(out, 0, axis)

    return expect


def scaled(row, c):
    return row * c if c > 0 else np.zeros_like(row)


def selected(row, c):
    return row if c > 0 else np.zeros_like(row)


TINY = float(np.finfo(np.float32).tiny)
SUBNORMAL = np.array([2.0**251, 2.0**254.0 * (1 + 1e-9), 2.0**254, 2.0**290, 2.0**298])  # squared norms


def factors(clip):
    def expect(*operands):
        *terms, mask = operands
        out = []
        for i, live in enumerate(mask):
            norm = math.sqrt(sum(float(t[i]) for t in terms))
            factor = min(1.0, clip / norm if norm else 1.0)
            out.append(factor if live and math.isfinite(norm) and factor >= TINY else 0.0)
        return np.array(out, np.float32)

    return expect


def automatic(clip, gamma):
    def expect(term, mask):
        norms = [math.sqrt(float(v)) for v in term]
        found = [clip / (n + gamma) if live and math.isfinite(n) else 0 for n, live in zip(norms, mask)]
        return np.array([factor if factor >= TINY else 0 for factor in found], "f4")

    return expect


def at_bound(*operands):
    """Flat clipping at the value of the last operand."""
    *rest, bound = operands
    return factors(float(bound[0]))(*rest)


def count_below(*operands):
    *terms, mask, bound = operands
    votes = 0.0
    for i, live in enumerate(mask):
        norm = math.sqrt(sum(float(t[i]) for t in terms))
        if live and math.isfinite(norm):
            votes += 0.5 if norm <= float(bound[0]) else -0.5
    return np.array(votes, np.float32)


def clipped_sum(g, c):
    out = np.zeros(g.shape[1:], g.dtype)
    for index in np.ndindex(*out.shape):
        out[index] = math.fsum(float(row[index]) * float(f) for row, f in zip(g, c) if f > 0)
    return out


C = np.array([0.5, 1.0, 0.0, 0.25], np.float32)
X = floats(4, 3, seed=1)
TINY_ROWS = np.ldexp(X / np.abs(X), [-126, -125, -127]).astype(np.float32)
DEAD = X.copy()
DEAD[2] = [INF, NAN, -INF]
N1, N2 = np.array([4.0, 0.25, 0.0, 9.0]), np.array([5.0, 0.0, 0.0, 16.0])
LIVE = np.array([True, True, True, False])
TOTAL = floats(5, 40, seed=3)
Z = keystream(KEY, DRAW, 7, blocks_of(TOTAL.size))


def rows(cls, f, x, tag="", **layout):
    pre, post, axis = layout.get("pre", 1), layout.get("post", 1), layout.get("axis", 0)
    kind = ExampleKind(axis, pre, post)
    return Case(
        cls.name + tag, lambda v, c: cls(v, c, axis, pre, post), (x, C), by_row(f, pre, post, axis),
        kinds=(kind, E0), kind=kind,
    )  # fmt: skip


def phased_mean(t: Value, c: Value, z: Value, p: Value) -> NoisyMean:
    return NoisyMean(t, c, z, 1.25, 0.5, 8.0, W, phase=p, sigmas=(1.25, 2.5), lots=(8.0, 16.0))


CASES = (
    rows(dp.ScaleRows, scaled, X),
    rows(dp.ScaleRows, scaled, floats(4), "-vector"),
    rows(dp.ScaleRows, scaled, floats(3, 4, 2), "-inner-batch", axis=1),
    rows(dp.ScaleRows, scaled, floats(8, 3), "-folded-time", post=2),
    rows(dp.ScaleRows, scaled, floats(24, 3), "-concatenated", pre=2, post=3),
    Case("dp.scale_rows-subnormal", dp.ScaleRows, (TINY_ROWS, C), by_row(lambda row, c: [
        p if abs(p) >= 2.0**-126 else 0.0 for p in (float(v) * float(c) for v in row)]), atol=0),
    Case("dp.scale_rows-dead", dp.ScaleRows, (DEAD, C), by_row(scaled)),
    rows(dp.SelectRows, selected, X),
    rows(dp.SelectRows, selected, floats(8, 3), "-folded-time", post=2),
    Case("dp.select_rows-dead", dp.SelectRows, (DEAD, C), by_row(selected)),
    Case("dp.row_norm_sq", dp.RowNormSq, (floats(4, 3, 5),), lambda g: np.array(
        [math.fsum(float(v) ** 2 for v in row.reshape(-1)) for row in g]), kinds=(E0,), kind=E0, rtol=1e-14),
    Case("dp.row_norm_sq-extremes", dp.RowNormSq, (np.array([[1e30, 1e30], [1e-30, 0.0]], np.float32),),
         lambda g: np.array([2 * float(g[0, 0]) ** 2, float(g[1, 0]) ** 2]), rtol=1e-14, atol=0),
    Case("dp.clip_factor", lambda a, b, m: dp.ClipFactor((a, b), m, 1.5, (W, StateName("b"))), (N1, N2, LIVE),
         factors(1.5),
         kinds=(E0, E0, E0), kind=E0),
    Case("dp.clip_factor-not-finite", lambda a, m: dp.ClipFactor((a,), m, 2.0, (W,)),
         (np.array([NAN, INF, 4.0, 1e-300]), np.ones(4, bool)), factors(2.0)),
    Case("dp.clip_factor-on-the-ball", lambda a, m: dp.ClipFactor((a,), m, 2.0, (W,)),
         (np.array([4.0, 4.0 + 1e-12, 0.0, 1e300]), np.ones(4, bool)), factors(2.0)),
    # Factors that float32 would round up by as much as their double: such rows are dead.
    Case("dp.clip_factor-subnormal", lambda a, m: dp.ClipFactor((a,), m, 2.0, (W,)), (SUBNORMAL, np.ones(5, bool)),
         factors(2.0), atol=0),
    Case("dp.clip_factor-automatic-subnormal", lambda a, m: dp.ClipFactor((a,), m, 2.0, (W,), gamma=0.25),
         (SUBNORMAL, np.ones(5, bool)), automatic(2.0, 0.25), atol=0),
    Case("dp.clip_factor-automatic", lambda a, m: dp.ClipFactor((a,), m, 2.0, (W,), gamma=0.25),
         (np.array([4.0, NAN, 0.0, 1e-300, 1e300]), np.ones(5, bool)), automatic(2.0, 0.25)),
    Case("dp.clip_factor-bound", lambda a, b, m, c: dp.ClipFactor((a, b), m, 9.0, (W, StateName("b")), bound=c),
         (N1, N2, LIVE, np.array([1.5], np.float32)), at_bound, kinds=(E0, E0, E0, PUBLIC), kind=E0),
    Case("dp.count_below", lambda a, b, m, c: dp.CountBelow((a, b), m, c, (W, StateName("b"))),
         (N1, N2, LIVE, np.array([0.5], np.float32)), count_below, kinds=(E0, E0, E0, PUBLIC), kind=TotalKind("sum")),
    Case("dp.count_below-not-finite", lambda a, m, c: dp.CountBelow((a,), m, c, (W,)),
         (np.array([NAN, INF, 4.0, 1e-300, 4.0 + 1e-12, 1.0]), np.ones(6, bool), np.array([2.0], np.float32)),
         count_below),
    Case("dp.clipped_sum", dp.ClippedSum, (floats(4, 3, 2), C), clipped_sum, atol=1e-6),
    Case("dp.clipped_sum-dead", dp.ClippedSum, (DEAD, C), clipped_sum, atol=1e-6),
    Case("dp.clipped_sum-none-lives", dp.ClippedSum, (DEAD, np.zeros(4, np.float32)), clipped_sum, atol=0),
    Case("dp.clipped_sum-scalars", dp.ClippedSum, (floats(4), C), clipped_sum, atol=1e-6),
    Case("dp.accumulate", dp.Accumulate, (X, X + 1), lambda a, x: np.array([[p + q for p,
         q in zip(*r)] for r in zip(a, x)])),
    Case("dp.bits", lambda k, d: Bits(k, d, 7, 200), (KEY, DRAW), lambda k, d: keystream(k, d, 7, blocks_of(200)),
         kinds=(PUBLIC, PUBLIC), kind=PUBLIC),
    Case("dp.bits-one-element", lambda k, d: Bits(k, d, 0, 1), (KEY, np.array(0, np.uint64)),
         lambda k, d: keystream(k, d, 0, 16)),
    Case("dp.noisy_mean", lambda t, c, z: NoisyMean(t, c, z, 1.25, 0.5, 8.0, W), (TOTAL, C, Z),
         lambda t, c, z: noisy(t, normals(z, t.size), 1.25 * 0.5, 8.0), rtol=1e-5, atol=1e-6,
         cpu="fused into dp.add_noise"),
    Case("dp.noisy_mean-no-factor", lambda t, z: NoisyMean(t, None, z, 2.0, 1.0, 4.0, W), (TOTAL, Z),
         lambda t, z: noisy(t, normals(z, t.size), 2.0, 4.0), rtol=1e-5, atol=1e-6, cpu="fused into dp.add_noise"),
    Case("dp.noisy_mean-groups", lambda t, c, z: NoisyMean(t, c, z, 1.25, 0.5, 8.0, W, groups=3), (TOTAL, C, Z),
         lambda t, c, z: noisy(t, normals(z, t.size), 1.25 * 0.5 * math.sqrt(3), 8.0), rtol=1e-5, atol=1e-6,
         cpu="fused into dp.add_noise"),
    Case("dp.noisy_mean-bound", lambda t, c, z, v: NoisyMean(t, c, z, 1.25, 9.0, 8.0, W, bound=v),
         (TOTAL, C, Z, np.array([0.75], np.float32)),
         lambda t, c, z, v: noisy(t, normals(z, t.size), 1.25 * 0.75, 8.0), rtol=1e-5, atol=1e-6,
         cpu="fused into dp.add_noise"),
    Case("dp.add_noise-groups", lambda t, c, k, d: AddNoise(t, c, k, d, 7, 1.25, 0.5, 8.0, W, groups=2),
         (TOTAL, C, KEY, DRAW), lambda t, c, k, d: noisy(
             t, normals(keystream(k, d, 7, blocks_of(t.size)), t.size), 1.25 * 0.5 * math.sqrt(2), 8.0),
         rtol=1e-5, atol=1e-6),
    Case("dp.add_noise-bound", lambda t, c, k, d, v: AddNoise(t, c, k, d, 7, 1.25, 9.0, 8.0, W, bound=v),
         (TOTAL, C, KEY, DRAW, np.array([0.75], np.float32)), lambda t, c, k, d, v: noisy(
             t, normals(keystream(k, d, 7, blocks_of(t.size)), t.size), 1.25 * 0.75, 8.0), rtol=1e-5, atol=1e-6),
    Case("dp.add_noise-count", lambda t, k, d: AddNoise(t, None, k, d, 0, 3.0, 0.5, 8.0, W, domain=2),
         (floats(), KEY, DRAW), lambda t, k, d: noisy(t, normals(keystream(k, d, 0, 16, domain=2), 1), 1.5, 8.0),
         rtol=1e-5, atol=1e-6),
    Case("dp.add_noise", lambda t, c, k, d: AddNoise(t, c, k, d, 7, 1.25, 0.5, 8.0, W), (TOTAL, C, KEY, DRAW),
         lambda t, c, k, d: noisy(t, normals(keystream(k, d, 7, blocks_of(t.size)), t.size), 1.25 * 0.5, 8.0),
         rtol=1e-5, atol=1e-6),
    Case("dp.noisy_mean-phase", phased_mean, (TOTAL, C, Z, np.array(1, np.int64)),
         lambda t, c, z, p: noisy(t, normals(z, t.size), 2.5 * 0.5, 16.0), rtol=1e-5, atol=1e-6,
         kinds=(PUBLIC, E0, PUBLIC, PUBLIC), kind=PUBLIC, cpu="fused into dp.add_noise"),
    *(Case(f"dp.add_noise-phase-{phase}", lambda t, c, k, d, p: AddNoise(
             t, c, k, d, 7, 1.25, 0.5, 8.0, W, groups=2, phase=p, sigmas=(1.25, 2.5, 0.5), lots=(8.0, 16.0, 4.0)),
           (TOTAL, C, KEY, DRAW, np.array(phase, np.int64)), lambda t, c, k, d, p, std=std, lot=lot: noisy(
               t, normals(keystream(k, d, 7, blocks_of(t.size)), t.size), std * 0.5 * math.sqrt(2), lot),
           rtol=1e-5, atol=1e-6)
      for phase, std, lot in ((0, 1.25, 8.0), (1, 2.5, 16.0), (2, 0.5, 4.0))),
    *(Case(f"dp.add_noise-no-phase-{phase}", lambda t, c, k, d, p: AddNoise(
             t, c, k, d, 7, 1.25, 0.5, 8.0, W, phase=p, sigmas=(1.25, 2.5), lots=(8.0, 16.0)),
           (TOTAL, C, KEY, DRAW, np.array(phase, np.int64)), lambda t, c, k, d, p: t * NAN)
      for phase in (-1, 2)),
    Case("dp.add_noise-scalar", lambda t, c, k, d: AddNoise(t, c, k, d, 3, 1.0, 1.0, 2.0, W),
         (floats(), C, KEY, DRAW), lambda t, c, k, d: noisy(t, normals(keystream(k, d, 3, 16), 1), 1.0, 2.0),
         rtol=1e-5, atol=1e-6),
)  # fmt: skip

ERRORS = (
    ErrorCase("dp.scale_rows-rows", dp.ScaleRows, (tensor("f32[6,3]"), tensor("f32[4]")), "the rows of f32[4]"),
    ErrorCase("dp.scale_rows-factors", dp.ScaleRows, (tensor("f32[4,3]"), tensor("f64[4]")), "clip factors are f32[N]"),
    ErrorCase("dp.clip_factor-mask", lambda a, m: dp.ClipFactor((a,), m, 1.0, (W,)), (tensor("f64[4]"),
              tensor("f32[4]")), "bool[N]"),
    ErrorCase("dp.clip_factor-single", lambda a, m: dp.ClipFactor((a,), m, 1.0, (W,)), (tensor("f32[4]"),
              tensor("bool[4]")), "f64[4]"),
    ErrorCase("dp.clip_factor-clip", lambda a, m: dp.ClipFactor((a,), m, 0.0, (W,)), (tensor("f64[4]"),
              tensor("bool[4]")), "positive"),
    ErrorCase("dp.clip_factor-names", lambda a, m: dp.ClipFactor((a,), m, 1.0, ()), (tensor("f64[4]"),
              tensor("bool[4]")), "0 parameters"),
    ErrorCase("dp.clip_factor-gamma", lambda a, m: dp.ClipFactor((a,), m, 1.0, (W,), gamma=-1.0), (tensor("f64[4]"),
              tensor("bool[4]")), "not negative"),
    ErrorCase("dp.clip_factor-bound", lambda a, m, c: dp.ClipFactor((a,), m, 1.0, (W,), bound=c), (tensor("f64[4]"),
              tensor("bool[4]"), tensor("f32[]")), "f32[1]"),
    ErrorCase("dp.count_below-single", lambda a, m, c: dp.CountBelow((a,), m, c, (W,)), (tensor("f32[4]"),
              tensor("bool[4]"), tensor("f32[1]")), "f64[4]"),
    ErrorCase("dp.clipped_sum-rows", dp.ClippedSum, (tensor("f32[3,2]"), tensor("f32[4]")), "one row for each"),
    ErrorCase("dp.accumulate-types", dp.Accumulate, (tensor("f32[3]"), tensor("f32[4]")), "cannot add"),
    ErrorCase("dp.bits-key", lambda k, d: Bits(k, d, 0, 1), (tensor("u32[2]"), tensor("u64[]")), "u32[8]"),
    ErrorCase("dp.noisy_mean-words", lambda t, z: NoisyMean(t, None, z, 1.0, 1.0, 1.0, W), (tensor("f32[3]"),
              tensor("u32[16]")), "keystream words"),
    ErrorCase("dp.noisy_mean-groups", lambda t, z: NoisyMean(t, None, z, 1.0, 1.0, 1.0, W, groups=0),
              (tensor("f32[3]"), tensor("u32[256]")), "at least one"),
    ErrorCase("dp.noisy_mean-phase-type", phased_mean, (tensor("f32[3]"), tensor("f32[4]"), tensor("u32[256]"),
              tensor("i64[1]")), "a phase is i64[]"),
    ErrorCase("dp.noisy_mean-no-phase", lambda t, z: NoisyMean(t, None, z, 1.0, 1.0, 1.0, W, sigmas=(1.0,),
              lots=(1.0,)), (tensor("f32[3]"), tensor("u32[256]")), "no operand that says which"),
    ErrorCase("dp.noisy_mean-phases", lambda t, z, p: NoisyMean(t, None, z, 1.0, 1.0, 1.0, W, phase=p,
              sigmas=(1.0, 2.0), lots=(1.0,)), (tensor("f32[3]"), tensor("u32[256]"), tensor("i64[]")), "one of both"),
    ErrorCase("dp.noisy_mean-first-phase", lambda t, z, p: NoisyMean(t, None, z, 1.0, 1.0, 1.0, W, phase=p,
              sigmas=(2.0,), lots=(1.0,)), (tensor("f32[3]"), tensor("u32[256]"), tensor("i64[]")), "first phase"),
)  # fmt: skip
