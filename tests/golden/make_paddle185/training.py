"""Twenty steps of three dygraph models: training.json, training.npz.

"models": per model its four batches (step i takes batch i % 4), initial parameters and how they are named.
"cases": per run the model, how its optimizer is made (a class of fluid.optimizer and arguments; {"decay": ...},
{"regularizer": ...} and {"clip": ...} are objects made from a class and arguments), the 20 losses, the state dict of
the model and of the optimizer (keys in Paddle's order) at the end, and `state_before`, the optimizer's keys before the
first minimize.

The models are those of tests/support/paddle_models.py.

What was found:
- The optimizer's state lists one accumulator of all parameters after the other, in the order in which parameters were
  created, and leaves out frozen parameters.
- Weight decay in dygraph is applied to every parameter with a gradient, after clipping, as in a static program.
- state_dict() of the optimizer has no learning rate when the rate is a number.
"""

from typing import Any

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from common import values
from paddle.fluid import dygraph  # pyright: ignore[reportMissingImports]
from paddle.fluid.dygraph import to_variable  # pyright: ignore[reportMissingImports]
from paddle_models import TRAINED, labels, optimizer_of, set_parameters, uniform
from trees import GOLDENS, write_tree

STEPS = 20
BATCHES = {
    "linear": lambda i: [uniform(10 + i, 8, 6), uniform(20 + i, 8, 1)],
    "attrs": lambda i: [uniform(10 + i, 8, 6), uniform(20 + i, 8, 1)],
    "cnn": lambda i: [uniform(30 + i, 6, 1, 8, 8), labels(40 + i, 6, 1)],
    "lstm": lambda i: [4 * labels(50 + i, 6, 5) + labels(60 + i, 6, 5), labels(70 + i, 6, 1)],
}


def case(model, optimizer, *args, **kwargs):
    return {"model": model, "optimizer": optimizer, "args": list(args), "kwargs": kwargs}


def cases():
    noam = {"decay": ["NoamDecay", 32, 8]}
    tree = {}
    for model in ("linear", "cnn", "lstm"):
        tree[model + "_sgd"] = case(model, "SGD", 0.1)
        tree[model + "_momentum"] = case(model, "Momentum", 0.05, 0.9)
        tree[model + "_adam_noam"] = case(model, "Adam", noam)
    tree.update(
        {
            "sgd_l2": case("linear", "SGD", 0.1, regularization={"regularizer": ["L2Decay", 0.05]}),
            "adam_l1": case("linear", "Adam", 0.02, regularization={"regularizer": ["L1Decay", 0.05]}),
            "sgd_by_value": case("linear", "SGD", 0.1, grad_clip={"clip": ["GradientClipByValue", 0.05]}),
            "momentum_by_norm": case("linear", "Momentum", 0.05, 0.9, grad_clip={"clip": ["GradientClipByNorm", 0.1]}),
            "adam_by_global_norm": case(
                "lstm",
                "Adam",
                0.02,
                grad_clip={"clip": ["GradientClipByGlobalNorm", 0.1]},
                regularization={"regularizer": ["L2Decay", 0.05]},
            ),
            "attrs_sgd": case("attrs", "SGD", 0.1, regularization={"regularizer": ["L2Decay", 0.05]}),
            "attrs_adam_decay": case("attrs", "Adam", {"decay": ["ExponentialDecay", 0.05, 5, 0.5]}),
            "nesterov": case("linear", "Momentum", 0.05, 0.9, use_nesterov=True),
            "adam": case("linear", "Adam", 0.02, beta1=0.8, beta2=0.95, epsilon=1e-6),
            "adamax": case("linear", "Adamax", 0.02),
            "adagrad": case("linear", "Adagrad", 0.1),
            "decayed_adagrad": case("linear", "DecayedAdagrad", 0.05),
            "adadelta": case("linear", "Adadelta", 0.1),
            "rmsprop": case("linear", "RMSProp", 0.02, momentum=0.5, centered=True),
            "ftrl": case("linear", "Ftrl", 0.1),
            "lamb": case("linear", "Lamb", 0.02),
            "lars": case("linear", "LarsMomentum", 0.5, 0.9),
        }
    )
    return tree


def initialised(name):
    model = TRAINED[name](fluid)
    set_parameters(model)
    if name == "cnn":
        model.norm._mean.set_value(np.zeros(4, "float32"))
        model.norm._variance.set_value(np.ones(4, "float32"))
    return model


def run(spec):
    batch = BATCHES[spec["model"]]
    with dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        model = initialised(spec["model"])
        optimizer = optimizer_of(fluid, spec, model.parameters())
        tree: Any = dict(spec, state_before=list(optimizer.state_dict()), losses=[])
        for i in range(STEPS):
            loss = model(*map(to_variable, batch(i % 4)))
            loss.backward()
            optimizer.minimize(loss)
            model.clear_gradients()
            tree["losses"].append(float(loss.numpy()[0]))
        tree["after"] = values(model.state_dict())
        tree["state"] = values(optimizer.state_dict())
        return tree


def model_of(name):
    with dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        state = initialised(name).state_dict()
        return {
            "batches": [BATCHES[name](i) for i in range(4)],
            "initial": values(state),
            "names": {key: p.name for key, p in state.items()},
        }


def write():
    tree = {
        "models": {name: model_of(name) for name in TRAINED},
        "cases": {name: run(spec) for name, spec in cases().items()},
    }
    write_tree(GOLDENS / "training", tree)
