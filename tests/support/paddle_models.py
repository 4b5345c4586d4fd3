"""Models and programs for any `fluid`: goldens of them were written with Paddle 1.8.5, and the tests build them anew.

Runs under Python 3.7 too.
"""

import numpy as np


def uniform(seed, *shape):
    """float32 values in [-1, 1)."""
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32")


def labels(seed, *shape, classes=3):
    return np.random.RandomState(seed).randint(0, classes, shape).astype("int64")


def set_parameters(layer, seed=0):
    """Give every parameter of a dygraph layer values that depend only on the seed and its place."""
    for i, parameter in enumerate(layer.parameters()):
        parameter.set_value(uniform(1000 * seed + i, *parameter.shape) * np.float32(0.5))


# Models of dygraph.  Each function makes a layer.


def two_layers(fluid):
    class TwoLayers(fluid.dygraph.Layer):
        def __init__(self):
            super().__init__()
            self.hidden = fluid.dygraph.Linear(4, 5, act="relu")
            self.out = fluid.dygraph.Linear(5, 3, bias_attr=False)

        def forward(self, x):
            return self.out(self.hidden(x))

    return TwoLayers()


def linear_net(fluid, first=None, second=None, bias=None):
    class LinearNet(fluid.dygraph.Layer):
        def __init__(self):
            super().__init__()
            self.hidden = fluid.dygraph.Linear(6, 8, act="relu", param_attr=first)
            self.out = fluid.dygraph.Linear(8, 1, param_attr=second, bias_attr=bias)

        def forward(self, x, y):
            return fluid.layers.mean(fluid.layers.square_error_cost(self.out(self.hidden(x)), y))

    return LinearNet()


def attrs_net(fluid):
    """The first weight learns at twice the rate, the second has an L1 decay of its own, the last bias is frozen."""
    return linear_net(
        fluid,
        fluid.ParamAttr(learning_rate=2.0),
        fluid.ParamAttr(regularizer=fluid.regularizer.L1Decay(0.02)),
        fluid.ParamAttr(trainable=False),
    )


def conv_net(fluid):
    class ConvNet(fluid.dygraph.Layer):
        def __init__(self):
            super().__init__()
            self.conv = fluid.dygraph.Conv2D(1, 4, 3, bias_attr=False)
            self.norm = fluid.dygraph.BatchNorm(4, act="relu")
            self.pool = fluid.dygraph.Pool2D(2, "max", 2)
            self.out = fluid.dygraph.Linear(36, 3)

        def forward(self, image, label):
            hidden = self.pool(self.norm(self.conv(image)))
            logits = self.out(fluid.layers.reshape(hidden, [hidden.shape[0], -1]))
            return fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))

    return ConvNet()


def lstm_net(fluid):
    """An embedding and an LSTM cell; the columns of `cell` are input, forget and output gate, and candidate."""
    layers = fluid.layers

    class LstmNet(fluid.dygraph.Layer):
        def __init__(self):
            super().__init__()
            self.table = fluid.dygraph.Embedding([12, 4])
            self.cell = fluid.dygraph.Linear(9, 20)
            self.out = fluid.dygraph.Linear(5, 3)

        def forward(self, ids, label):
            rows = self.table(ids)
            h = c = layers.fill_constant_batch_size_like(rows, [-1, 5], "float32", 0.0)
            for t in range(ids.shape[1]):
                gates = self.cell(layers.concat([rows[:, t], h], axis=1))
                i, f, o, candidate = layers.split(gates, 4, dim=1)
                c = layers.sigmoid(f) * c + layers.sigmoid(i) * layers.tanh(candidate)
                h = layers.sigmoid(o) * layers.tanh(c)
            return layers.mean(layers.softmax_with_cross_entropy(self.out(h), label))

    return LstmNet()


def image_classes(fluid):
    """Classes of 2x8x8 images: convolution, batch norm, pooling, dropout, linear."""

    class ImageClasses(fluid.dygraph.Layer):
        def __init__(self):
            super().__init__()
            self.conv = fluid.dygraph.Conv2D(2, 3, 3, stride=2, padding=1, act="relu")
            self.norm = fluid.dygraph.BatchNorm(3)
            self.pool = fluid.dygraph.Pool2D(2, "avg", 2)
            self.dropout = fluid.dygraph.Dropout(0.3)
            self.out = fluid.dygraph.Linear(12, 3, act="softmax")

        def forward(self, image):
            hidden = self.dropout(self.pool(self.norm(self.conv(image))))
            return self.out(fluid.layers.reshape(hidden, [-1, 12]))

    return ImageClasses()


TRAINED = {"linear": linear_net, "attrs": attrs_net, "cnn": conv_net, "lstm": lstm_net}


def made(fluid, node):
    """An optimizer's argument: {"decay": [class, *arguments]}, also "regularizer" and "clip", is an object."""
    if not isinstance(node, dict):
        return node
    ((kind, (name, *args)),) = node.items()
    home = {"decay": fluid.dygraph, "regularizer": fluid.regularizer, "clip": fluid.clip}[kind]
    return getattr(home, name)(*args)


def optimizer_of(fluid, spec, parameters):
    """The optimizer that a spec {"optimizer", "args", "kwargs"} describes."""
    args = [made(fluid, node) for node in spec["args"]]
    kwargs = {key: made(fluid, node) for key, node in spec["kwargs"].items()}
    return getattr(fluid.optimizer, spec["optimizer"])(*args, parameter_list=parameters, **kwargs)


def layer_of(fluid, spec):
    """A layer by its class and arguments: {"variable": array} is a variable, {"attr": {...}} a ParamAttr."""

    def value(node):
        if not isinstance(node, dict):
            return node
        if "variable" in node:
            return fluid.dygraph.to_variable(node["variable"])
        return fluid.ParamAttr(**node["attr"])

    args = list(spec["args"])
    for name, sub in spec.get("layers", []):
        args.append(layer_of(fluid, sub) if name is None else (name, layer_of(fluid, sub)))
    return getattr(fluid.dygraph, spec["class"])(*args, **{k: value(v) for k, v in spec["kwargs"].items()})


# Static programs.  Each function builds into the default programs.


def trained_with_momentum(fluid):
    """fc, batch_norm and fc under Momentum with a decay and L2Decay; the loss and the logits."""
    x = fluid.data("x", [None, 4], "float32")
    label = fluid.data("label", [None, 1], "int64")
    hidden = fluid.layers.batch_norm(fluid.layers.fc(x, 5), act="relu")
    logits = fluid.layers.fc(hidden, 3)
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
    rate = fluid.layers.exponential_decay(0.1, 2, 0.5)
    fluid.optimizer.Momentum(rate, 0.9, regularization=fluid.regularizer.L2Decay(0.01)).minimize(loss)
    return loss, logits


def trained(fluid, optimizer):
    """Two fc under an optimizer; the loss and the logits."""
    x = fluid.data("x", [None, 4], "float32")
    label = fluid.data("label", [None, 1], "int64")
    hidden = fluid.layers.fc(x, 5, act="relu")
    logits = fluid.layers.fc(hidden, 3)
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
    optimizer.minimize(loss)
    return loss, logits


def mlp(fluid):
    x = fluid.data("x", [None, 4], "float32")
    hidden = fluid.layers.fc(x, 5, act="tanh")
    return ["x"], [fluid.layers.fc(hidden, 3, act="softmax")], {"x": uniform(4, 6, 4)}


def cnn(fluid):
    image = fluid.data("image", [None, 2, 8, 8], "float32")
    hidden = fluid.layers.conv2d(image, 3, 3, stride=2, padding=1, bias_attr=False)
    hidden = fluid.layers.batch_norm(hidden, act="relu")
    hidden = fluid.layers.pool2d(hidden, 2, "avg", 2)
    hidden = fluid.layers.dropout(hidden, 0.3)
    out = fluid.layers.fc(hidden, 3)
    return ["image"], [out, hidden], {"image": uniform(5, 2, 2, 8, 8)}


def embedding(fluid):
    ids = fluid.data("ids", [None, 5], "int64")
    rows = fluid.embedding(ids, [11, 4], padding_idx=0)
    mean = fluid.layers.reduce_mean(rows, dim=1)
    out = fluid.layers.fc(mean, 2, act="sigmoid")
    return ["ids"], [out], {"ids": labels(6, 3, 5, classes=11)}


INFERRED = {"mlp": mlp, "cnn": cnn, "embedding": embedding}


class Static:
    """Programs under construction, with a scope and names of their own."""

    def __init__(self, fluid):
        self.main, self.startup, self.scope = fluid.Program(), fluid.Program(), fluid.Scope()
        self.main.random_seed = self.startup.random_seed = 7
        self.exe = fluid.Executor(fluid.CPUPlace())
        self.fluid = fluid
        self.guards = ()

    def __enter__(self):
        fluid = self.fluid
        self.guards = (
            fluid.scope_guard(self.scope),
            fluid.program_guard(self.main, self.startup),
            fluid.unique_name.guard(),
        )
        for guard in self.guards:
            guard.__enter__()
        return self

    def __exit__(self, *error):
        for guard in reversed(self.guards):
            guard.__exit__(*error)

    def persistables(self):
        names = [v.name for v in self.main.list_vars() if v.persistable and v.name not in ("feed", "fetch")]
        return {n: np.array(self.scope.find_var(n).get_tensor()) for n in sorted(names)}

    def give_values(self):
        """Values that depend on the parameter's place; running variances stay positive."""
        for i, p in enumerate(self.main.all_parameters()):
            value = uniform(50 + i, *p.shape)
            if ".w_2" in p.name:
                value = np.abs(value) + np.float32(0.5)
            self.scope.find_var(p.name).get_tensor().set(value, self.fluid.CPUPlace())
