"""Adam where Paddle 1.8.5's gradient of a table is sparse, and where it is not: losses of four steps, from Paddle."""

from __future__ import annotations

import numpy as np
import pytest

import fluidc.frontend as fluid

SPARSE = [0.1677399, 0.1167273, 0.0210830, 0.0048604]
DENSE = [0.1677399, 0.1413735, 0.0291840, 0.0043098]
DECAYED = [0.1677399, 0.0922602, 0.0153287, 0.0052006]
L2 = fluid.regularizer.L2Decay(0.1)


def losses(sparse: bool, clip=None, decay=None, dense_too: bool = False) -> list[float]:
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 5
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(fluid.Scope()):
        ids = fluid.layers.data("ids", [1], dtype="int64")
        rows = fluid.layers.embedding(ids, [7, 3], is_sparse=sparse, param_attr="t")
        if dense_too:
            rows = rows + fluid.layers.embedding(ids, [7, 3], param_attr="t")
        loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(rows, 2)))
        fluid.optimizer.Adam(0.1, grad_clip=clip, regularization=decay).minimize(loss)
        exe = fluid.Executor(target="reference")
        exe.run(startup)
        feed = {"ids": np.array([[1], [3], [1]])}
        return [float(exe.run(main, feed, [loss])[0].item()) for _ in range(4)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"sparse": True}, SPARSE),
        ({"sparse": False}, DENSE),
        ({"sparse": True, "dense_too": True}, [0.6709597, 0.5283227, 0.1409164, 0.0052152]),
        ({"sparse": True, "decay": L2}, DECAYED),
        ({"sparse": False, "decay": L2}, DECAYED),
        (
            {"sparse": True, "clip": fluid.clip.GradientClipByGlobalNorm(0.1)},
            [0.1677399, 0.1167104, 0.0194622, 0.0092936],
        ),
        ({"sparse": True, "clip": fluid.clip.GradientClipByValue(0.01)}, [0.1677399, 0.1167262, 0.0790170, 0.0384204]),
        ({"sparse": True, "clip": fluid.clip.GradientClipByNorm(0.01)}, [0.1677399, 0.1166281, 0.0197784, 0.0089032]),
    ],
    ids=["sparse", "dense", "both", "sparse decayed", "dense decayed", "global norm", "value", "norm"],
)
def test_losses_are_paddles(given, wanted) -> None:
    np.testing.assert_allclose(losses(**given), wanted, rtol=2e-5)
