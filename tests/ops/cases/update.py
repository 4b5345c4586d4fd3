"""Gradient clipping and regularisation; what they decompose to is what is tested."""

import numpy as np
from cases import Case, ErrorCase, floats, tensor

from fluidc.compiler.ops.kinds import PUBLIC
from fluidc.compiler.ops.update import ClipByGlobalNorm, ClipByNorm, ClipByValue, L1Decay, L2Decay

SMALL = floats(3, 2) * np.float32(1e-3)
ZERO = np.zeros((2, 3), np.float32)
GRADS = (floats(3, 2), floats(4, seed=1), floats(1, seed=2))


def by_norm(g: np.ndarray, clip: float) -> np.ndarray:
    norm = np.linalg.norm(g.astype(np.float64))
    return g * clip / norm if norm > clip else g


def by_global_norm(*grads: np.ndarray) -> tuple[np.ndarray, ...]:
    norm = np.linalg.norm(np.concatenate([g.ravel() for g in grads]).astype(np.float64))
    return tuple(g * (1.5 / norm if norm > 1.5 else 1) for g in grads)


CASES = [
    Case("update.clip_by_value", lambda g: ClipByValue(g, -0.5, 1.0), (floats(3, 4),), lambda g: g.clip(-0.5, 1.0)),
    Case("update.clip_by_norm", lambda g: ClipByNorm(g, 1.5), (floats(3, 4),), lambda g: by_norm(g, 1.5)),
    Case("update.clip_by_norm-small", lambda g: ClipByNorm(g, 1.5), (SMALL,), lambda g: g, rtol=0, atol=0),
    Case("update.clip_by_norm-zero", lambda g: ClipByNorm(g, 1.5), (ZERO,), lambda g: g, rtol=0, atol=0),
    Case("update.clip_by_global_norm", lambda *g: ClipByGlobalNorm(g, 1.5), GRADS, by_global_norm,
         kinds=(PUBLIC,) * 3, kind=PUBLIC),
    # With a float64 gradient the common norm is float64: squares beyond float32 are no infinities.
    Case("update.clip_by_global_norm-wide", lambda *g: ClipByGlobalNorm(g, 1.5), (np.array([3e30, -4e30]), ZERO),
         lambda g, zero: (np.array([0.9, -1.2]), zero)),
    Case("update.clip_by_global_norm-small", lambda *g: ClipByGlobalNorm(g, 1.5), (SMALL, ZERO), lambda *g: g, rtol=0,
         atol=0),
    Case("update.l1_decay", lambda g, p: L1Decay(g, p, 0.3), (floats(4), np.array([-2, 0, 1, 5], np.float32)),
         lambda g, p: g + np.float32(0.3) * np.array([-1, 0, 1, 1])),
    Case("update.l2_decay", lambda g, p: L2Decay(g, p, 0.3), (floats(4), floats(4, seed=1)), lambda g, p: g + 0.3 * p),
]  # fmt: skip

ERRORS = [
    ErrorCase("update.clip_by_value-bounds", lambda g: ClipByValue(g, 1.0, -1.0), (tensor("f32[3]"),), "lies above"),
    ErrorCase("update.clip_by_norm-bound", lambda g: ClipByNorm(g, 0.0), (tensor("f32[3]"),),
              "bound is positive, not 0.0"),
    ErrorCase("update.clip_by_global_norm-bound", lambda g: ClipByGlobalNorm((g,), -1.0), (tensor("f32[3]"),),
              "bound is positive, not -1.0"),
    ErrorCase("update.clip_by_global_norm-nothing", lambda: ClipByGlobalNorm((), 1.0), (), "no gradient to clip"),
    ErrorCase("update.l2_decay-types", lambda g, p: L2Decay(g, p, 0.1), (tensor("f32[3]"), tensor("f32[4]")),
              "belongs to a parameter of type f32[4]"),
]  # fmt: skip
