"""Scaled dot-product attention and rotary positions."""

from __future__ import annotations

import math

import numpy as np

from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim, DType
from ....compiler.ops.loss import Softmax
from .indexing import from_front
from .node import Node, NodeRules, Results


def _attention(n: Node) -> Results:
    """``softmax(q k' * scale + bias) v`` by heads, [N, heads, positions, features]."""
    b = n.b
    q = _by_heads(n, n.x("Q"), n.attr("q_num_heads", 0))
    k, v = (_by_heads(n, n.x(slot), n.attr("kv_num_heads", 0)) for slot in ("K", "V"))
    past: Dim = 0
    if n.has("past_key"):
        past = n.x("past_key").tensor.shape[2]
        k, v = b.concat([n.x("past_key"), k], 2), b.concat([n.x("past_value"), v], 2)
    keys, values = _repeated(n, k, q), _repeated(n, v, q)
    # Each side takes the root of the scale: half precision overflows late.
    scale = n.attr("scale", 0.0) or 1 / math.sqrt(n.fixed(q, 3))
    root = math.sqrt(abs(scale))
    stages: list[Value] = [b.matmul(b.scale(q, math.copysign(root, scale)), b.scale(keys, root), tb=True)]
    cap = n.attr("softcap", 0.0)
    stages.append(b.scale(b.tanh(b.scale(stages[0], 1 / cap)), cap) if cap else stages[0])
    scores, guarded = _biased(n, stages[1], past)
    stages.append(scores)
    precise = n.dtype("softmax_precision") or scores.tensor.dtype
    shares = _shares(n, b.cast(scores, precise), guarded)
    shares = b.cast(shares, scores.tensor.dtype)
    stages.append(shares)
    y = b.matmul(shares, values)
    if n.x("Q").tensor.rank == 3:
        rows, heads, positions, features = y.tensor.shape
        assert isinstance(heads, int)
        assert isinstance(features, int)
        y = b.reshape(b.transpose(y, (0, 2, 1, 3)), (rows, positions, heads * features))
    return y, k, v, stages[n.attr("qk_matmul_output_mode", 0)]


def _by_heads(n: Node, x: Value, heads: int) -> Value:
    if x.tensor.rank == 4:
        return x
    if x.tensor.rank != 3 or heads < 1 or n.fixed(x, 2) % heads:
        raise n.error(f"{x.type} of {heads} heads", "its axes are batch, positions and the features of all heads")
    rows, positions, _ = x.tensor.shape
    return n.b.transpose(n.b.reshape(x, (rows, positions, heads, n.fixed(x, 2) // heads)), (0, 2, 1, 3))


def _repeated(n: Node, x: Value, q: Value) -> Value:
    """Keys or values as often as there are query heads for each."""
    heads, own = n.fixed(q, 1), n.fixed(x, 1)
    if own == heads:
        return x
    if heads % own:
        raise n.error(f"{heads} heads of queries on {own} of keys", "correct the model")
    rows, _, *rest = x.tensor.shape
    spread = n.b.broadcast(n.b.reshape(x, (rows, own, 1, *rest)), (rows, own, heads // own, *rest))
    return n.b.reshape(spread, (rows, heads, *rest))


def _biased(n: Node, scores: Value, past: Dim) -> tuple[Value, bool]:
    """Scores with what may not be seen at -inf; and whether a query may see nothing at all."""
    b, dtype = n.b, scores.tensor.dtype
    allowed, guarded = _positions(n, scores, past)
    mask = n.optional("attn_mask")
    if mask is not None:
        guarded = True
        lacking = n.fixed(scores, 3) - n.fixed(mask, mask.tensor.rank - 1) if mask.tensor.shape[-1] != 1 else 0
        ends = [0] * (mask.tensor.rank - 1) + [lacking]
        none = [0] * mask.tensor.rank
        if mask.tensor.dtype is DType.BOOL:
            allowed.append(b.pad(mask, none, ends, 0.0))
        else:
            scores = b.add(scores, b.pad(mask, none, ends, -np.inf))
    for one in allowed:
        scores = b.where(one, scores, n.number(dtype, -np.inf))
    return scores, guarded


def _positions(n: Node, scores: Value, past: Dim) -> tuple[list[Value], bool]:
    """Which keys queries may see by their positions alone, bool, broadcast against the scores."""
    b = n.b
    shape = (1, 1, *scores.tensor.shape[2:])

    def number(value: Dim) -> Value:
        return n.number(DType.I64, value) if isinstance(value, int) else b.extent(value, DType.I64)

    key, query = b.iota(shape, 3, DType.I64), b.iota(shape, 2, DType.I64)
    allowed: list[Value] = []
    offset = number(past)
    guarded = False
    length = n.optional("nonpad_kv_seqlen")
    if length is not None:
        length = b.reshape(b.cast(length, DType.I64), (*length.tensor.shape, 1, 1, 1))
        allowed.append(b.less(key, length))
        offset, guarded = b.sub(length, number(shape[2])), True
    at = b.add(query, offset)
    left, right = n.attr("left_window_size", -1), n.attr("right_window_size", -1)
    if n.attr("is_causal", 0):
        allowed.append(b.less_equal(key, at))
    if left >= 0:
        allowed.append(b.less_equal(b.sub(at, number(left)), key))
        guarded = True
    if right >= 0:
        allowed.append(b.less_equal(key, b.add(at, number(right))))
    return allowed, guarded


def _shares(n: Node, scores: Value, guarded: bool) -> Value:
    if not guarded:
        return n.b(Softmax(scores, 3))
    # A query that may see nothing takes nothing.
    zero = n.number(scores.tensor.dtype, 0)
    sees = n.b.less(n.number(scores.tensor.dtype, -np.inf), n.b.reduce_max(scores, (3,), keepdims=True))
    return n.b.where(sees, n.b(Softmax(n.b.where(sees, scores, zero), 3)), zero)


def _rotary(n: Node) -> Value:
    """Pairs of features turned by an angle that grows with the position."""
    b, given = n.b, n.x("X")
    x = _by_heads(n, given, n.attr("num_heads", 0))
    size = n.fixed(x, 3)
    turned = n.attr("rotary_embedding_dim", 0) or size
    if turned % 2 or turned > size:
        raise n.error(f"{turned} of {size} features are turned", "correct the model")
    cosine, sine = (_by_position(n, slot) for slot in ("cos_cache", "sin_cache"))
    part, rest = b.split(x, 3, [turned, size - turned]) if turned < size else (x, None)
    shape = part.tensor.shape
    if n.attr("interleaved"):
        pairs = b.reshape(part, (*shape[:3], turned // 2, 2))
        first, second = (b.reshape(v, (*shape[:3], turned // 2)) for v in b.split(pairs, 4, [1, 1]))
    else:
        first, second = b.split(part, 3, [turned // 2] * 2)
    real = b.sub(b.mul(cosine, first), b.mul(sine, second))
    imaginary = b.add(b.mul(sine, first), b.mul(cosine, second))
    if n.attr("interleaved"):
        out = b.reshape(b.stack([real, imaginary], 4), shape)
    else:
        out = b.concat([real, imaginary], 3)
    out = out if rest is None else b.concat([out, rest], 3)
    return out if given.tensor.rank == 4 else b.reshape(b.transpose(out, (0, 2, 1, 3)), given.tensor.shape)


def _by_position(n: Node, slot: str) -> Value:
    """A table of angles as [N, 1, positions, pairs]."""
    table, places = n.x(slot), n.optional("position_ids")
    if places is not None:
        table = n.b.gather(table, from_front(n, places, table.tensor.shape[0]), 0)
    rows, positions, pairs = table.tensor.shape
    return n.b.reshape(table, (rows, 1, positions, pairs))


RULES: NodeRules = {"Attention": _attention, "RotaryEmbedding": _rotary}
