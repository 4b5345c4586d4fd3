"""Random numbers as local functions of an ONNX file, in ONNX's own text: a reader of the file sees one node.

What each computes is defined in `runtime.keystream`; ONNX Runtime inlines the bodies when it loads a file.
"""

from __future__ import annotations

from functools import cache

from onnx import FunctionProto, parser

DOMAIN = "fluidc"
"""The domain of local functions."""

# The steps of `keystream.normals_from_words`, in as few passes over memory as ONNX allows.
#
# The radius's 64 bits are added up in float64, where the sum does not cancel.  ONNX has no log1p: with w = 1 - t,
# -log1p(-t) is -log(w) * t / (1 - w), in which w may as well be the greatest number below 1 where it would round to 1.
# ONNX Runtime's root is up to 4 ulp off; half of r + r^2 / r is good to 1.  Its Sin and Cos take any angle, on one
# thread: for an eighth of a turn polynomials are quicker (Chebyshev's, in the square of the angle, exact to 2e-8).
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
  near_radius = Sqrt (square)
  half = Constant <value = float {0.5}> ()
  other_radius = Div (square, near_radius)
  two_radii = Add (near_radius, other_radius)
  radius = Mul (two_radii, half)

  # 4 * angle + 2 - 2^31 wraps to twice the odd number k, which is an eighth of a turn at 2^30.
  angle = Cast <to = 6> (angle_bits)
  four = Constant <value = int32 {4}> ()
  offset = Constant <value = int32 {-2147483646}> ()
  angle_4 = Mul (angle, four)
  k_2 = Add (angle_4, offset)
  k_2_single = Cast <to = 1> (k_2)
  eighth_by_2_to_31 = Constant <value = float {3.6572953e-10}> ()
  a = Mul (k_2_single, eighth_by_2_to_31)
  b = Mul (a, a)
  sin_1 = Constant <value = float {-0.16666665}> ()
  sin_2 = Constant <value = float {0.008332749}> ()
  sin_3 = Constant <value = float {-0.0001958795}> ()
  sin_3b = Mul (b, sin_3)
  sin_23b = Add (sin_3b, sin_2)
  sin_23bb = Mul (sin_23b, b)
  sin_123b = Add (sin_23bb, sin_1)
  sin_123bb = Mul (sin_123b, b)
  sin_less_a = Mul (sin_123bb, a)
  sin_a = Add (sin_less_a, a)
  cos_1 = Constant <value = float {-0.5}> ()
  cos_2 = Constant <value = float {0.04166665}> ()
  cos_3 = Constant <value = float {-0.001388759}> ()
  cos_4 = Constant <value = float {2.4463836e-05}> ()
  one = Constant <value = float {1.0}> ()
  cos_4b = Mul (b, cos_4)
  cos_34b = Add (cos_4b, cos_3)
  cos_34bb = Mul (cos_34b, b)
  cos_234b = Add (cos_34bb, cos_2)
  cos_234bb = Mul (cos_234b, b)
  cos_1234b = Add (cos_234bb, cos_1)
  cos_less_1 = Mul (cos_1234b, b)
  cos_a = Add (cos_less_1, one)

  # Of the quadrants -2, -1, 0, 1 cosine + sine is -1, -1, 1, 1: the sign of the angle; cosine - sine is -1, 1, 1, -1:
  # its sign a quarter of a turn on.  (The clipped numbers are -1 for negative ones, else 0.)
  angle_single = Cast <to = 1> (angle)
  sum_sign = Clip (angle_single, minus_1, zero)
  quarter = Constant <value = int32 {1073741824}> ()
  angle_on = Add (angle, quarter)
  angle_on_single = Cast <to = 1> (angle_on)
  difference_sign = Clip (angle_on_single, minus_1, zero)
  cos_q_less_1 = Add (sum_sign, difference_sign)
  cos_q = Add (cos_q_less_1, one)
  sin_q = Sub (sum_sign, difference_sign)
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
def normals() -> tuple[FunctionProto, ...]:
    """``Normals(words, count)``: Box and Muller's transform (`keystream.normals_from_words`)."""
    return (parser.parse_function(_NORMALS),)


# Lanes are int32, whose sums wrap in ONNX Runtime (it adds no uint32); only a right shift has to see them unsigned.
_CHACHA20 = """
<domain: "fluidc", opset_import: ["" : 20, "fluidc" : 1],
 doc_string: "Words u32[16 * count] of a ChaCha20 keystream (RFC 8439): blocks first to first + count (i64[]) under key
 (u32[8]) and the nonce (purpose * 2^24 + tensor, draw mod 2^32, draw / 2^32); draw (u64[]) is below 2^48.">
ChaCha20 <purpose, tensor> (key, draw, first, count) => (words)
{
  # The state is a 4 x 4 matrix of words; of each row of the matrix, int32[4, count]: a, b, c, d.
  row = Constant <value_ints = [4, 1]> ()
  constants = Constant <value = int32[4, 1] {1634760805, 857760878, 2036477234, 1797285236}> ()
  at_0 = Constant <value_ints = [0]> ()
  at_4 = Constant <value_ints = [4]> ()
  at_8 = Constant <value_ints = [8]> ()
  key_low = Slice (key, at_0, at_4)
  key_high = Slice (key, at_4, at_8)
  b_bits = Reshape (key_low, row)
  c_bits = Reshape (key_high, row)
  b_first = Cast <to = 6> (b_bits)
  c_first = Cast <to = 6> (c_bits)

  zero = Constant <value_int = 0> ()
  one = Constant <value_int = 1> ()
  numbers = Range (zero, count, one)
  counters = Add (numbers, first)
  counters_row = Unsqueeze (counters, at_0)
  purpose_number = Constant <value_int: int = @purpose> ()
  tensor_number = Constant <value_int: int = @tensor> ()
  two_to_24 = Constant <value_int = 16777216> ()
  purpose_part = Mul (purpose_number, two_to_24)
  use = Add (purpose_part, tensor_number)
  half_bits = Constant <value = uint64 {32}> ()
  draw_high_bits = BitShift <direction = "RIGHT"> (draw, half_bits)
  draw_high = Cast <to = 7> (draw_high_bits)
  draw_low_bits = Cast <to = 12> (draw)
  draw_low = Cast <to = 7> (draw_low_bits)
  column = Constant <value_ints = [1, 1]> ()
  use_1 = Reshape (use, column)
  draw_low_1 = Reshape (draw_low, column)
  draw_high_1 = Reshape (draw_high, column)
  nonce = Concat <axis = 0> (use_1, draw_low_1, draw_high_1)
  three = Constant <value_ints = [3]> ()
  flat = Constant <value_ints = [-1]> ()
  count_1 = Reshape (count, flat)
  nonce_shape = Concat <axis = 0> (three, count_1)
  nonce_rows = Expand (nonce, nonce_shape)
  d_numbers = Concat <axis = 0> (counters_row, nonce_rows)
  d_bits = Cast <to = 12> (d_numbers)
  d_first = Cast <to = 6> (d_bits)

  four = Constant <value_ints = [4]> ()
  shape = Concat <axis = 0> (four, count_1)
  a_rows = Expand (constants, shape)
  b_rows = Expand (b_first, shape)
  c_rows = Expand (c_first, shape)
  ten = Constant <value_int = 10> ()
  true = Constant <value = bool {1}> ()
  a_last, b_last, c_last, d_last = Loop <body = double_round
    (int64 i, bool more, int32[4, n] a, int32[4, n] b, int32[4, n] c, int32[4, n] d) =>
    (bool again, int32[4, n] a_2, int32[4, n] b_4, int32[4, n] c_4, int32[4, n] d_4)
    {
      # Turning rows b, c and d puts the diagonals of the matrix into its columns.
      turn_1 = Constant <value_ints = [1, 2, 3, 0]> ()
      turn_2 = Constant <value_ints = [2, 3, 0, 1]> ()
      turn_3 = Constant <value_ints = [3, 0, 1, 2]> ()
      again = Identity (more)
      a_1, b_1, c_1, d_1 = fluidc.QuarterRounds (a, b, c, d)
      b_2 = Gather (b_1, turn_1)
      c_2 = Gather (c_1, turn_2)
      d_2 = Gather (d_1, turn_3)
      a_2, b_3, c_3, d_3 = fluidc.QuarterRounds (a_1, b_2, c_2, d_2)
      b_4 = Gather (b_3, turn_3)
      c_4 = Gather (c_3, turn_2)
      d_4 = Gather (d_3, turn_1)
    }> (ten, true, a_rows, b_rows, c_rows, d_first)

  a_sum = Add (a_last, constants)
  b_sum = Add (b_last, b_first)
  c_sum = Add (c_last, c_first)
  d_sum = Add (d_last, d_first)
  by_word = Concat <axis = 0> (a_sum, b_sum, c_sum, d_sum)
  by_block = Transpose <perm = [1, 0]> (by_word)
  lanes = Reshape (by_block, flat)
  words = Cast <to = 12> (lanes)
}
"""

# Of rows x, y, z: x += y; z ^= x; z <<<= left.  A product shifts left; what it loses at that end is added at the other.
_MIX = """
  {x}_{new} = Add ({x}_{old}, {y})
  mixed_{step} = BitwiseXor ({z}_{old}, {x}_{new})
  left_{step} = Constant <value = int32 {{{factor}}}> ()
  right_{step} = Constant <value = uint32 {{{right}}}> ()
  high_{step} = Mul (mixed_{step}, left_{step})
  bits_{step} = Cast <to = 12> (mixed_{step})
  low_bits_{step} = BitShift <direction = "RIGHT"> (bits_{step}, right_{step})
  low_{step} = Cast <to = 6> (low_bits_{step})
  {z}_{new} = Add (high_{step}, low_{step})"""
_QUARTER_ROUNDS = """
<domain: "fluidc", opset_import: ["" : 20], doc_string: "Four quarter rounds of ChaCha20 side by side.">
QuarterRounds (a_0, b_0, c_0, d_0) => (a_2, b_2, c_2, d_2)
"""
_STEPS = (("a", "b_0", "d", 0, 16), ("c", "d_1", "b", 0, 12), ("a", "b_1", "d", 1, 8), ("c", "d_2", "b", 1, 7))


def _quarter_rounds() -> str:
    mixed = (
        _MIX.format(step=step, x=x, y=y, z=z, old=old, new=old + 1, factor=1 << left, right=32 - left)
        for step, (x, y, z, old, left) in enumerate(_STEPS)
    )
    return _QUARTER_ROUNDS + "{" + "".join(mixed) + "\n}"


@cache
def chacha20() -> tuple[FunctionProto, ...]:
    """``ChaCha20(key, draw, first, count)``, and what it calls: `keystream.words`, whose domain is ``purpose`` here."""
    return parser.parse_function(_CHACHA20), parser.parse_function(_quarter_rounds())
