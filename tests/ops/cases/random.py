"""Random ops: values from an independent ChaCha20 and from numbers observed on paddlepaddle 1.8.5."""

import math
import struct

import numpy as np
import scipy.stats as st
from cases import Case, ErrorCase, floats, tensor
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind
from fluidc.compiler.ops.random import Bits, Dropout, Normal, TruncatedNormal, Uniform

KEY = np.arange(8, dtype=np.uint32) * np.uint32(0x01234567)
DRAW = np.array(2**40 + 5, np.uint64)
STREAM = 7


def f32(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape)


def words(count: int) -> np.ndarray:
    """Keystream of domain 4, by another implementation."""
    nonce = struct.pack("<III", 4 << 24 | STREAM, int(DRAW) % 2**32, int(DRAW) >> 32)
    cipher = Cipher(algorithms.ChaCha20(KEY.astype("<u4").tobytes(), struct.pack("<I", 0) + nonce), None).encryptor()
    return np.frombuffer(cipher.update(bytes(64 * -(-count // 16))), "<u4")[:count]


def uniforms(count: int) -> np.ndarray:
    return np.array([int(w) // 256 / 2**24 for w in words(count)])


def normals(count: int) -> np.ndarray:
    """Element by element as the privacy documentation lays normals out, in double precision."""
    stream, out = words(count * 16 + 2560), np.empty(count)
    for e in range(count):
        group, j, lane = e // 160, e % 160 // 16, e % 16
        hi, lo, an = (int(w) for w in stream[16 * (16 * group + lane) + j // 2 * 3 :][:3])
        u = (hi * 2**32 + lo + 0.5) / 2**64
        k = 2 * (an & 0x3FFFFFFF) + 1 - 2**30
        angle = k * math.pi / 4 / 2**30 + (an >> 30) * math.pi / 2
        out[e] = math.sqrt(-2 * math.log(u)) * (math.sin(angle) if j % 2 else math.cos(angle))
    return out


def truncated(u: np.ndarray, mean: float, std: float) -> np.ndarray:
    low, high = st.norm.cdf([-2, 2])
    return mean + std * st.norm.ppf(low + (high - low) * u)


def dropped(x: np.ndarray, kept: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    mask = np.where(kept.reshape(x.shape), factor, 0.0)
    return x * mask, mask


# Seed 7, paddlepaddle 1.8.5: uniform_random(-0.3, 0.7), gaussian_random and truncated_gaussian_random(0.5, 2).
PADDLE_UNIFORM = [
    -0.2998426556587219, 0.2952271103858948, -0.09053178131580353, -0.058721065521240234,
    0.4756898880004883, 0.0278283953666687, 0.30483072996139526, 0.48605871200561523,
]  # fmt: skip
PADDLE_NORMAL = [
    -0.8325995206832886, -0.9964474439620972, -0.8904818296432495, 2.7265100479125977,
    3.1434826850891113, 1.4687459468841553, -0.3450629711151123,
]  # fmt: skip
PADDLE_TRUNCATED = [
    -3.494446039199829, 0.9596920609474182, -1.0262964963912964, -0.8298401832580566,
    1.9329174757003784, -0.3486616909503937, 1.007009744644165, 1.9978117942810059,
]  # fmt: skip
PADDLE_KEPT = np.array([0, 1, 0, 0, 1, 1, 1, 1])


def of_lot(
    values: np.ndarray, shape: tuple[int, ...], row: int, axis: int = 0, pre: int = 1, post: int = 1
) -> np.ndarray:
    """The part of a batch that begins with example ``row``: each example owns consecutive values, in its own order."""
    out = np.empty(shape, values.dtype)
    rows = shape[axis] // (pre * post)
    part = out.size // rows
    for i in range(rows):
        places = np.array([(u * rows + i) * post + t for u in range(pre) for t in range(post)])
        at = (slice(None),) * axis + (places,)
        out[at] = values[(row + i) * part : (row + i + 1) * part].reshape(out[at].shape)
    return out


SOURCE = (KEY, DRAW)
ROW = (KEY, DRAW, np.array(5, np.int64))
OF_ROWS = (PUBLIC, PUBLIC, PUBLIC)
SHARED = (PUBLIC, PUBLIC)
BAD = np.array([np.inf, 1, np.nan, 2, -1, -2, -3, -4], np.float32)

CASES = [
    Case("random.uniform", lambda k, c: Uniform(k, c, f32(5, 7), -1.0, 3.0, stream=STREAM), SOURCE,
         lambda k, c: uniforms(35).reshape(5, 7) * 4 - 1, kinds=SHARED, kind=PUBLIC),
    Case("random.uniform-scalar", lambda k, c: Uniform(k, c, f32(), 0.0, 1.0, stream=STREAM), SOURCE,
         lambda k, c: uniforms(1).reshape(())),
    Case("random.uniform-paddle", lambda: Uniform(None, None, f32(2, 4), -0.3, 0.7, seed=7, generator="paddle"), (),
         lambda: np.reshape(PADDLE_UNIFORM, (2, 4)), rtol=0, atol=0),
    Case("random.normal", lambda k, c: Normal(k, c, f32(3, 67), 0.5, 2.0, stream=STREAM), SOURCE,
         lambda k, c: normals(201).reshape(3, 67) * 2 + 0.5, rtol=2e-6, atol=2e-6, kinds=SHARED, kind=PUBLIC),
    Case("random.normal-paddle", lambda: Normal(None, None, f32(7), 0.5, 2.0, seed=7, generator="paddle"), (),
         lambda: np.array(PADDLE_NORMAL), rtol=3e-7),
    Case("random.truncated_normal", lambda k, c: TruncatedNormal(k, c, f32(50), 0.5, 2.0, stream=STREAM), SOURCE,
         lambda k, c: truncated(uniforms(50), 0.5, 2.0), rtol=1e-6, atol=4e-6, kinds=SHARED, kind=PUBLIC),
    Case("random.truncated_normal-paddle",
         lambda: TruncatedNormal(None, None, f32(8), 0.5, 2.0, seed=7, generator="paddle"), (),
         lambda: np.array(PADDLE_TRUNCATED), rtol=0, atol=1.2e-5),
    Case("random.bits", lambda k, c: Bits(k, c, TensorType(DType.U32, (3, 11)), stream=STREAM), SOURCE,
         lambda k, c: words(33).reshape(3, 11), rtol=0, atol=0, kinds=SHARED, kind=PUBLIC),
    Case("random.dropout", lambda k, c, x: Dropout(k, c, x, 0.3, stream=STREAM), (*SOURCE, floats(6, 5)),
         lambda k, c, x: dropped(x, uniforms(30) >= 0.3, 1.0), (2,)),
    Case("random.dropout-upscale", lambda k, c, x: Dropout(k, c, x, 0.3, "upscale_in_train", stream=STREAM),
         (*SOURCE, floats(6, 5)), lambda k, c, x: dropped(x, uniforms(30) >= 0.3, 1 / 0.7), (2,)),
    Case("random.dropout-rows", lambda k, c, x: Dropout(k, c, x, 0.3, stream=STREAM), (*SOURCE, floats(4, 5)),
         lambda k, c, x: dropped(x, uniforms(20) >= 0.3, 1.0), kinds=(PUBLIC, PUBLIC, ExampleKind(0)),
         kind=(ExampleKind(0), ExampleKind(0))),
    Case("random.dropout-blocks", lambda k, c, x: Dropout(k, c, x, 0.3, stream=STREAM), (*SOURCE, floats(6, 5)),
         lambda k, c, x: dropped(x, uniforms(30) >= 0.3, 1.0), kinds=(PUBLIC, PUBLIC, ExampleKind(0, 2, 1)),
         kind=(ExampleKind(0, 2, 1), ExampleKind(0, 2, 1))),
    Case("random.dropout-columns", lambda k, c, x: Dropout(k, c, x, 0.3, stream=STREAM), (*SOURCE, floats(3, 4)),
         lambda k, c, x: dropped(x, uniforms(12) >= 0.3, 1.0), kinds=(PUBLIC, PUBLIC, ExampleKind(1)),
         kind=(ExampleKind(1), ExampleKind(1))),
    Case("random.dropout-of-lot", lambda k, c, r, x: Dropout(k, c, x, 0.3, row=r, stream=STREAM), (*ROW, floats(4, 5)),
         lambda k, c, r, x: dropped(x, of_lot(uniforms(45), (4, 5), 5) >= 0.3, 1.0), (3,),
         kinds=(*OF_ROWS, ExampleKind(0)), kind=(ExampleKind(0), ExampleKind(0))),
    Case("random.dropout-of-lot-whole-blocks", lambda k, c, r, x: Dropout(k, c, x, 0.3, row=r, stream=STREAM),
         (*ROW, floats(3, 32)), lambda k, c, r, x: dropped(x, of_lot(uniforms(256), (3, 32), 5) >= 0.3, 1.0)),
    Case("random.dropout-of-lot-columns", lambda k, c, r, x: Dropout(k, c, x, 0.3, row=r, axis=1, stream=STREAM),
         (*ROW, floats(3, 4, 2)), lambda k, c, r, x: dropped(x, of_lot(uniforms(54), (3, 4, 2), 5, 1) >= 0.3, 1.0),
         kinds=(*OF_ROWS, ExampleKind(1)), kind=(ExampleKind(1), ExampleKind(1))),
    Case("random.dropout-of-lot-blocks",
         lambda k, c, r, x: Dropout(k, c, x, 0.3, row=r, pre=2, post=3, stream=STREAM), (*ROW, floats(12, 5)),
         lambda k, c, r, x: dropped(x, of_lot(uniforms(210), (12, 5), 5, 0, 2, 3) >= 0.3, 1.0),
         kinds=(*OF_ROWS, ExampleKind(0, 2, 3)), kind=(ExampleKind(0, 2, 3), ExampleKind(0, 2, 3))),
    Case("random.uniform-of-lot", lambda k, c, r: Uniform(k, c, f32(3, 7), -1.0, 3.0, row=r, stream=STREAM), ROW,
         lambda k, c, r: of_lot(uniforms(56), (3, 7), 5) * 4 - 1, kinds=OF_ROWS, kind=ExampleKind(0)),
    Case("random.normal-of-lot", lambda k, c, r: Normal(k, c, f32(3, 67), 0.5, 2.0, row=r, stream=STREAM), ROW,
         lambda k, c, r: of_lot(normals(536), (3, 67), 5) * 2 + 0.5, rtol=2e-6, atol=2e-6, kinds=OF_ROWS,
         kind=ExampleKind(0)),
    Case("random.normal-of-lot-whole-groups",
         lambda k, c, r: Normal(k, c, f32(2, 160), 0.0, 1.0, row=r, stream=STREAM), ROW,
         lambda k, c, r: of_lot(normals(1120), (2, 160), 5), rtol=2e-6, atol=2e-6),
    Case("random.truncated_normal-of-lot",
         lambda k, c, r: TruncatedNormal(k, c, f32(4, 9), 0.5, 2.0, row=r, axis=1, stream=STREAM), ROW,
         lambda k, c, r: truncated(of_lot(uniforms(56), (4, 9), 5, 1), 0.5, 2.0), rtol=1e-6, atol=4e-6,
         kinds=OF_ROWS, kind=ExampleKind(1)),
    Case("random.bits-of-lot", lambda k, c, r: Bits(k, c, TensorType(DType.U32, (3, 11)), row=r, stream=STREAM), ROW,
         lambda k, c, r: of_lot(words(88), (3, 11), 5), rtol=0, atol=0, kinds=OF_ROWS, kind=ExampleKind(0)),
    Case("random.dropout-of-lot-mixed", lambda k, c, r, x: Dropout(k, c, x, 0.3, row=r, stream=STREAM),
         (*ROW, floats(4, 5)), lambda k, c, r, x: dropped(x, of_lot(uniforms(45), (4, 5), 5) >= 0.3, 1.0),
         kinds=(PUBLIC, PUBLIC, TotalKind("sum"), ExampleKind(0)), kind=("mixed", "mixed")),
    Case("random.dropout-paddle-rows", lambda x: Dropout(None, None, x, 0.3, seed=7, generator="paddle"),
         (floats(2, 4),), lambda x: dropped(x, PADDLE_KEPT, 1.0), kinds=(ExampleKind(0),), kind=("mixed", "mixed")),
    Case("random.dropout-first-stream", lambda k, c, x: Dropout(k, c, x, 0.0, stream=0), (*SOURCE, floats(2, 3)),
         lambda k, c, x: (x, np.ones((2, 3)))),
    Case("random.uniform-many", lambda k, c: Uniform(k, c, f32(70), 0.0, 1.0, stream=STREAM), SOURCE,
         lambda k, c: uniforms(70)),
    Case("random.dropout-all", lambda k, c, x: Dropout(k, c, x, 1.0, "upscale_in_train", stream=STREAM),
         (*SOURCE, floats(6, 5)), lambda k, c, x: dropped(x, np.zeros(30), 1.0)),
    Case("random.dropout-paddle", lambda x: Dropout(None, None, x, 0.3, seed=7, generator="paddle"),
         (floats(2, 4),), lambda x: dropped(x, PADDLE_KEPT, 1.0), (0,)),
    Case("random.dropout-not-finite", lambda x: Dropout(None, None, x, 0.3, seed=7, generator="paddle"),
         (BAD,), lambda x: (np.where(PADDLE_KEPT, x, 0), PADDLE_KEPT)),
]  # fmt: skip

ERRORS = [
    ErrorCase("random.uniform-key", lambda: Uniform(None, None, f32(3), 0.0, 1.0), (), "needs a key and a counter"),
    ErrorCase("random.uniform-types", lambda k, c: Uniform(k, c, f32(3), 0.0, 1.0), (tensor("u32[4]"), tensor("u64[]")),
              "key and counter are u32[8] and u64[], not u32[4] and u64[]"),
    ErrorCase("random.uniform-both", lambda k, c: Uniform(k, c, f32(3), 0.0, 1.0, generator="paddle"),
              (tensor("u32[8]"), tensor("u64[]")), "takes a seed, not a key and a counter"),
    ErrorCase("random.normal-dtype", lambda: Normal(None, None, tensor("f64[3]"), 0.0, 1.0, generator="paddle"), (),
              "draws f32, not f64[3]; cast the result"),
    ErrorCase("random.bits-paddle", lambda: Bits(None, None, tensor("u32[3]"), generator="paddle"), (),
              "not random words"),
    ErrorCase("random.uniform-row", lambda k, c, r: Uniform(k, c, f32(3), 0.0, 1.0, row=r),
              (tensor("u32[8]"), tensor("u64[]"), tensor("i32[]")), "the first row is i64[], not i32[]"),
    ErrorCase("random.uniform-axis", lambda k, c, r: Uniform(k, c, f32(3, 4), 0.0, 1.0, row=r, pre=2),
              (tensor("u32[8]"), tensor("u64[]"), tensor("i64[]")), "axis 0 is not 2 * N * 1 long: [3, 4]"),
    ErrorCase("random.uniform-part", lambda k, c, r: Uniform(k, c, tensor("f32[N,T]"), 0.0, 1.0, row=r),
              (tensor("u32[8]"), tensor("u64[]"), tensor("i64[]")), "one example's part has no fixed size: [N, T]"),
    ErrorCase("random.dropout-p", lambda k, c, x: Dropout(k, c, x, 1.5),
              (tensor("u32[8]"), tensor("u64[]"), tensor("f32[3]")),
              "probability 1.5 is outside [0, 1]"),
]  # fmt: skip
