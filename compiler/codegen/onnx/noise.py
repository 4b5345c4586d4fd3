"""Random numbers as local functions of an ONNX file, in ONNX's own text: a reader of the file sees one node.

What each computes is defined in `runtime.keystream`; ONNX Runtime inlines the bodies when it loads a file.
"""

from __future__ import annotations

from functools import cache

from onnx import FunctionProto, parser

DOMAIN = "fluidc"
"""The domain of local functions."""

# The steps of `keystream.normals_from_words`, as few passes over memory as ONNX allows.  The sum of the radius's 64
# bits and the root are in float64 (the sum would cancel, and ONNX Runtime's float32 root is 4 ulp off); its
# logarithm is good to 1 ulp in float32.  ONNX has no log1p: with w = 1 - t, -log1p(-t) is -log(w) * t / (1 - w), in
# which w may as well be the greatest number below 1 where it would round to 1.
_NORMALS = """
<domain: "fluidc", opset_import: ["" : 20],
 doc_string: "The first count (i64[]) standard normals, f32[count], of ChaCha20 words u32[16 * blocks]; blocks: a
 multiple of 16.  Block b holds five triples (hi, lo, angle); triple p makes the normals 2p and 2p+1 of the block, and
 element e is normal e % 160 / 16 of block 16 * (e / 160) + e % 16.">
Normals (words, count) => (normals)
{
  # [groups of 16 blocks, 5 triples, 16 blocks] of each: hi, lo, angle.
  grid = Constant <value_ints = [-1, 16, 16]> ()
  blocks = Reshape (words, grid)
  by_word = Transpose <perm = [0, 2, 1]> (blocks)
  at_0 = Constant <value_ints = [0]> ()
  at_1 = Constant <value_ints = [1]> ()
  at_2 = Constant <value_ints = [2]> ()
  end = Constant <value_ints = [15]> ()
  step = Constant <value_ints = [3]> ()
  hi_bits = Slice (by_word, at_0, end, at_1, step)
  lo_bits = Slice (by_word, at_1, end, at_1, step)
  angle_bits = Slice (by_word, at_2, end, at_1, step)

  # u = (signed hi + (lo + 1/2) * 2^-32) * 2^-32, in (-1/2, 1/2): t where it is positive, else -t for 1 - t.
  hi = Cast <to = 6> (hi_bits)
  hi_wide = Cast <to = 11> (hi)
  lo_wide = Cast <to = 11> (lo_bits)
  two_to_minus_32_wide = Constant <value = double {2.3283064365386963e-10}> ()
  two_to_minus_33_wide = Constant <value = double {1.1641532182693481e-10}> ()
  lo_part = Mul (lo_wide, two_to_minus_32_wide)
  both = Add (hi_wide, lo_part)
  middle = Add (both, two_to_minus_33_wide)
  middle_single = Cast <to = 1> (middle)
  two_to_minus_32 = Constant <value = float {2.3283064365386963e-10}> ()
  u = Mul (middle_single, two_to_minus_32)

  # w is u, or 1 + u where u is negative; u / (w + shift) is then 1, or t / (1 - w).
  hi_single = Cast <to = 1> (hi)
  minus_1 = Constant <value = float {-1.0}> ()
  zero = Constant <value = float {0.0}> ()
  shift = Clip (hi_single, minus_1, zero)
  near_w = Sub (u, shift)
  below_1 = Constant <value = float {0.99999994}> ()
  w = Min (near_w, below_1)
  log_w = Log (w)
  divisor = Add (w, shift)
  ratio = Div (u, divisor)
  log_u = Mul (log_w, ratio)
  minus_2 = Constant <value = float {-2.0}> ()
  square = Mul (log_u, minus_2)
  square_wide = Cast <to = 11> (square)
  radius_wide = Sqrt (square_wide)
  radius = Cast <to = 1> (radius_wide)

  # 4 * angle + 2 - 2^31 wraps to twice the odd number k, which is an eighth of a turn at 2^30.
  angle = Cast <to = 6> (angle_bits)
  four = Constant <value = int32 {4}> ()
  offset = Constant <value = int32 {-2147483646}> ()
  angle_4 = Mul (angle, four)
  k_2 = Add (angle_4, offset)
  k_2_single = Cast <to = 1> (k_2)
  eighth_by_2_to_31 = Constant <value = float {3.6572953e-10}> ()
  a = Mul (k_2_single, eighth_by_2_to_31)
  cos_a = Cos (a)
  sin_a = Sin (a)

  # The quadrant is what k leaves of the angle, -2 to 1: (angle - k / 2) * 2^-30 is half more, but for roundings.  The
  # sum with 1.5 * 2^22, where floats are 1/2 apart, rounds them away (ONNX Runtime's Round takes five times as long).
  angle_single = Cast <to = 1> (angle)
  quarter = Constant <value = float {0.25}> ()
  k_half = Mul (k_2_single, quarter)
  rest = Sub (angle_single, k_half)
  two_to_minus_30 = Constant <value = float {9.313225746154785e-10}> ()
  turned = Mul (rest, two_to_minus_30)
  large_less_half = Constant <value = float {6291455.5}> ()
  large = Constant <value = float {6291456.0}> ()
  rounded = Add (turned, large_less_half)
  quadrant = Sub (rounded, large)

  # Its cosine and sine: -1, 0, 1, 0 and 0, -1, 0, 1.
  one = Constant <value = float {1.0}> ()
  steps = Abs (quadrant)
  cos_q = Sub (one, steps)
  even = Abs (cos_q)
  odd = Sub (one, even)
  sin_q = Mul (quadrant, odd)
  radius_cos_q = Mul (radius, cos_q)
  radius_sin_q = Mul (radius, sin_q)
  x_0 = Mul (cos_a, radius_cos_q)
  x_1 = Mul (sin_a, radius_sin_q)
  x = Sub (x_0, x_1)
  y_0 = Mul (sin_a, radius_cos_q)
  y_1 = Mul (cos_a, radius_sin_q)
  y = Add (y_0, y_1)

  x_rows = Unsqueeze (x, at_2)
  y_rows = Unsqueeze (y, at_2)
  pairs = Concat <axis = 2> (x_rows, y_rows)
  flat = Constant <value_ints = [-1]> ()
  all = Reshape (pairs, flat)
  stop = Reshape (count, flat)
  normals = Slice (all, at_0, stop)
}
"""


@cache
def normals() -> FunctionProto:
    """``Normals(words, count)``: Box and Muller's transform (`keystream.normals_from_words`)."""
    return parser.parse_function(_NORMALS)
