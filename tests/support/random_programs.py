"""Everything random that a seed decides, built alike by Paddle 1.8.5 and by fluidc; runs under Python 3.7, too.

``INITIALIZERS`` gives an initializer from the ``fluid.initializer`` module and a seed of its own (0: none), ``LAYERS`` the
results of layers that draw numbers.
"""

import numpy as np

SIZES = [(1,), (7,), (1000,), (300, 200), (8, 3, 5, 5), (2, 3)]
SEED = 90

INITIALIZERS = {
    "constant": lambda i, seed: i.Constant(1.5),
    "uniform": lambda i, seed: i.Uniform(-0.1, 0.3, seed=seed),
    "uniform_default": lambda i, seed: i.Uniform(seed=seed),
    "normal": lambda i, seed: i.Normal(0.5, 2.0, seed=seed),
    "normal_default": lambda i, seed: i.Normal(seed=seed),
    "truncated": lambda i, seed: i.TruncatedNormal(0.1, 0.02, seed=seed),
    "truncated_default": lambda i, seed: i.TruncatedNormal(seed=seed),
    "xavier": lambda i, seed: i.Xavier(seed=seed),
    "xavier_normal": lambda i, seed: i.Xavier(uniform=False, seed=seed),
    "xavier_fans": lambda i, seed: i.Xavier(fan_in=7, fan_out=5, seed=seed),
    "msra": lambda i, seed: i.MSRA(seed=seed),
    "msra_normal": lambda i, seed: i.MSRA(uniform=False, seed=seed),
    "msra_fan": lambda i, seed: i.MSRA(fan_in=9, seed=seed),
}
DIAGONAL = {
    "diag": lambda i: i.Uniform(-0.1, 0.3, seed=5, diag_num=3, diag_step=4, diag_val=2.5),
    "diag_wide": lambda i: i.Uniform(-0.1, 0.3, seed=5, diag_num=2, diag_step=5),
}


def parameter(fluid, name, shape, initializer, dtype="float32"):
    return fluid.layers.create_parameter(list(shape), dtype, name=name, default_initializer=initializer)


def initialised(fluid):
    """A parameter for each initializer, size, kind of seed and type, by name."""
    fluid.default_startup_program().random_seed = fluid.default_main_program().random_seed = SEED
    for kind, make in sorted(INITIALIZERS.items()):
        for number, shape in enumerate(SIZES):
            if kind == "constant" and number > 1:
                continue
            for seed in (0, 17) if number in (1, 3) else (0,):
                parameter(fluid, "{}.{}.{}".format(kind, number, seed), shape, make(fluid.initializer, seed))
        if not kind.startswith(("xavier_", "msra_", "truncated")):
            parameter(fluid, kind + ".double", (7, 3), make(fluid.initializer, 0), "float64")
    for kind, make_diagonal in DIAGONAL.items():
        parameter(fluid, kind, (4, 4 if kind == "diag" else 6), make_diagonal(fluid.initializer))
    parameter(fluid, "bilinear", (3, 1, 4, 4), fluid.initializer.Bilinear())
    parameter(fluid, "bilinear_odd", (2, 1, 3, 3), fluid.initializer.Bilinear())
    array = np.arange(6).reshape(2, 3)
    parameter(fluid, "array", (2, 3), fluid.initializer.NumpyArrayInitializer(array.astype("float32")))
    parameter(fluid, "whole", (2, 3), fluid.initializer.NumpyArrayInitializer(array.astype("int32")), "int32")
    fluid.layers.fc(fluid.data("x", [2, 5]), 4, name="fc")
    fluid.layers.embedding(fluid.data("ids", [2, 1], "int64"), [9, 4], param_attr="table")
    fluid.layers.conv2d(fluid.data("image", [1, 3, 5, 5]), 2, 3, name="conv")
