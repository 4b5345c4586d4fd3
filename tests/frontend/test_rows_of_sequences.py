"""Layers that rearrange each row of sequences by itself: the sequences stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

import fluidc.frontend as fluid

L = fluid.layers
ROWS = np.arange(24, dtype=np.float32).reshape(6, 4)
LENGTHS = [[1, 3, 2]]

LAYERS = {
    "concat": (lambda x: L.concat([x, x], axis=1), np.concatenate([ROWS, ROWS], 1)),
    "concat, counted from the end": (lambda x: L.concat([x, x], axis=-1), np.concatenate([ROWS, ROWS], 1)),
    "split": (lambda x: L.split(x, [1, 3], dim=1)[1], ROWS[:, 1:]),
    "slice": (lambda x: L.slice(x, [1], [1], [3]), ROWS[:, 1:3]),
    "stack": (lambda x: L.stack([x, x], axis=1), np.stack([ROWS, ROWS], 1)),
    "unsqueeze": (lambda x: L.unsqueeze(x, [1]), ROWS[:, None]),
    "squeeze": (lambda x: L.squeeze(L.unsqueeze(x, [2]), [2]), ROWS),
    "expand": (lambda x: L.expand(x, [1, 2]), np.tile(ROWS, (1, 2))),
}


def run(layer, target: str):
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(fluid.Scope()):
        out = layer(L.data("x", [4], lod_level=1))
        assert out.lod_level == 1
        exe = fluid.Executor(target=target)
        feed = {"x": fluid.create_lod_tensor(ROWS, LENGTHS, fluid.CPUPlace())}
        (found,) = exe.run(main, feed, [out], return_numpy=False)
        return found


@pytest.mark.parametrize("name", LAYERS)
def test_rows_are_rearranged(name: str) -> None:
    layer, wanted = LAYERS[name]
    found = run(layer, "reference")
    assert found.recursive_sequence_lengths() == LENGTHS
    np.testing.assert_array_equal(found, wanted)


def test_compiled() -> None:
    found = run(lambda x: L.concat(L.split(L.expand(x, [1, 2]), [3, 5], dim=1)[::-1], axis=1), "cpu")
    twice = np.tile(ROWS, (1, 2))
    np.testing.assert_array_equal(found, np.concatenate([twice[:, 3:], twice[:, :3]], 1))
