"""Twenty steps of three dygraph models: training.json, training.npz.

"models": per model its four batches (step i takes batch i % 4), initial parameters and how they are named.
"cases": per run the model, how its optimizer is made (a class of fluid.optimizer and arguments; {"decay": ...},
{"regularizer": ...} and {"clip": ...} are objects made from a class and arguments), the 20 losses, the state dict of
the model and of the optimizer (keys in Paddle's order) at the end, and `state_before`, the optimizer's keys before the
first minimize.

The models, which the tests build anew:
  linear   Linear(6, 8, relu), Linear(8, 1); mean of square_error_cost
  attrs    linear, the first weight at twice the rate, the second with L1Decay(0.02) of its own, the last bias frozen
  cnn      Conv2D(1, 4, 3, no bias), BatchNorm(4, relu), Pool2D(2, max, 2), reshape, Linear(36, 3);
           mean of softmax_with_cross_entropy
  lstm     Embedding([12, 4]), an LSTM cell of one Linear(9, 20) whose columns are input gate, forget gate, output gate
           and candidate, over 5 steps from zeros, Linear(5, 3); mean of softmax_with_cross_entropy

What was found:
- The optimizer's state lists one accumulator of all parameters after the other, in the order in which parameters were
  created, and leaves out frozen parameters.
- Weight decay in dygraph is applied to every parameter with a gradient, after clipping, as in a static program.
- state_dict() of the optimizer has no learning rate when the rate is a number.
"""

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from common import set_parameters, uniform, values, write_tree
from paddle.fluid import dygraph  # pyright: ignore[reportMissingImports]
from paddle.fluid.dygraph import to_variable  # pyright: ignore[reportMissingImports]

STEPS = 20
layers = fluid.layers


class LinearNet(dygraph.Layer):
    def __init__(self, first=None, second=None, bias=None):
        super().__init__()
        self.hidden = dygraph.Linear(6, 8, act="relu", param_attr=first)
        self.out = dygraph.Linear(8, 1, param_attr=second, bias_attr=bias)

    def forward(self, x, y):
        return layers.mean(layers.square_error_cost(self.out(self.hidden(x)), y))


def attrs_net():
    return LinearNet(
        fluid.ParamAttr(learning_rate=2.0),
        fluid.ParamAttr(regularizer=fluid.regularizer.L1Decay(0.02)),
        fluid.ParamAttr(trainable=False),
    )


class ConvNet(dygraph.Layer):
    def __init__(self):
        super().__init__()
        self.conv = dygraph.Conv2D(1, 4, 3, bias_attr=False)
        self.norm = dygraph.BatchNorm(4, act="relu")
        self.pool = dygraph.Pool2D(2, "max", 2)
        self.out = dygraph.Linear(36, 3)

    def forward(self, image, label):
        hidden = self.pool(self.norm(self.conv(image)))
        logits = self.out(layers.reshape(hidden, [hidden.shape[0], -1]))
        return layers.mean(layers.softmax_with_cross_entropy(logits, label))


class LstmNet(dygraph.Layer):
    def __init__(self):
        super().__init__()
        self.table = dygraph.Embedding([12, 4])
        self.cell = dygraph.Linear(9, 20)
        self.out = dygraph.Linear(5, 3)

    def forward(self, ids, label):
        rows = self.table(ids)
        h = c = layers.fill_constant([ids.shape[0], 5], "float32", 0.0)
        for t in range(ids.shape[1]):
            gates = self.cell(layers.concat([rows[:, t], h], axis=1))
            i, f, o, candidate = layers.split(gates, 4, dim=1)
            c = layers.sigmoid(f) * c + layers.sigmoid(i) * layers.tanh(candidate)
            h = layers.sigmoid(o) * layers.tanh(c)
        return layers.mean(layers.softmax_with_cross_entropy(self.out(h), label))


def labels(seed, *shape):
    return np.random.RandomState(seed).randint(0, 3, shape).astype("int64")


MODELS = {
    "linear": (LinearNet, lambda i: [uniform(10 + i, 8, 6), uniform(20 + i, 8, 1)]),
    "attrs": (attrs_net, lambda i: [uniform(10 + i, 8, 6), uniform(20 + i, 8, 1)]),
    "cnn": (ConvNet, lambda i: [uniform(30 + i, 6, 1, 8, 8), labels(40 + i, 6, 1)]),
    "lstm": (LstmNet, lambda i: [4 * labels(50 + i, 6, 5) + labels(60 + i, 6, 5), labels(70 + i, 6, 1)]),
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


def value(node):
    if not isinstance(node, dict):
        return node
    ((kind, (name, *args)),) = node.items()
    home = {"decay": dygraph, "regularizer": fluid.regularizer, "clip": fluid.clip}[kind]
    return getattr(home, name)(*args)


def run(spec):
    make, batch = MODELS[spec["model"]]
    with dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        model = make()
        set_parameters(model)
        reset_statistics(model)
        optimizer = getattr(fluid.optimizer, spec["optimizer"])(
            *map(value, spec["args"]),
            parameter_list=model.parameters(),
            **{k: value(v) for k, v in spec["kwargs"].items()},
        )
        tree = dict(spec, state_before=list(optimizer.state_dict()), losses=[])
        for i in range(STEPS):
            loss = model(*map(to_variable, batch(i % 4)))
            loss.backward()
            optimizer.minimize(loss)
            model.clear_gradients()
            tree["losses"].append(float(loss.numpy()[0]))
        tree["after"] = values(model.state_dict())
        tree["state"] = values(optimizer.state_dict())
        return tree


def reset_statistics(model):
    if isinstance(model, ConvNet):
        model.norm._mean.set_value(np.zeros(4, "float32"))
        model.norm._variance.set_value(np.ones(4, "float32"))


def model_of(name):
    make, batch = MODELS[name]
    with dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        model = make()
        set_parameters(model)
        reset_statistics(model)
        state = model.state_dict()
        return {
            "batches": [batch(i) for i in range(4)],
            "initial": values(state),
            "names": {key: p.name for key, p in state.items()},
        }


def write():
    tree = {
        "models": {name: model_of(name) for name in MODELS},
        "cases": {name: run(spec) for name, spec in cases().items()},
    }
    write_tree("training", tree)
