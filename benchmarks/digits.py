"""The digits MLP: the plain and the private program of examples/digits.py as sources to compile."""

from __future__ import annotations

import fluidc.frontend as fluid
from fluidc.compiler.driver import Source
from fluidc.frontend.lower import lower

BATCH = 64


def source(*, private: bool) -> Source:
    """MLP 64-64-10 with softmax cross entropy, one training step and its evaluation."""
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 1
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        image = fluid.layers.data("image", [64], dtype="float32")
        label = fluid.layers.data("label", [1], dtype="int64")
        logits = fluid.layers.fc(fluid.layers.fc(image, 64, act="tanh"), 10)
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
        if private:
            fluid.optimizer.Dpsgd(learning_rate=0.1, clip=1.0, batch_size=BATCH, sigma=1.0).minimize(loss)
        else:
            fluid.optimizer.SGD(learning_rate=0.1).minimize(loss)
    return lower(main, startup=startup, fetches=(loss.name,), infer_fetches=(loss.name,))
