"""Everything random that a seed decides, built alike by Paddle 1.8.5 and by fluidc; runs under Python 3.7, too.

``INITIALIZERS`` gives an initializer from the ``fluid.initializer`` module and a seed of its own (0: none), ``LAYERS``
the results of layers that draw numbers.
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
                parameter(fluid, f"{kind}.{number}.{seed}", shape, make(fluid.initializer, seed))
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


def data(fluid, name, shape):
    return fluid.data(name, list(shape), "float32")


def rows():
    return np.array([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.2], [0.0, 0.0, 1.0, 0.0]] * 40, "float32")


def images():
    return np.arange(3 * 2 * 7 * 6).reshape(3, 2, 7, 6).astype("float32")


# Each under the seed of the program, and with one of its own where it has one. What has none is left out: Paddle draws
# it afresh in every step.
LAYERS = {
    "uniform": lambda f: f.layers.uniform_random([5, 7], min=-0.5, max=2.0, seed=3),
    "uniform_long": lambda f: f.layers.uniform_random([4099], seed=12345),
    "gaussian": lambda f: f.layers.gaussian_random([5, 7], mean=1.0, std=0.3, seed=3),
    "uniform_like": lambda f: f.layers.uniform_random_batch_size_like(data(f, "rows", (120, 4)), [-1, 2], seed=3),
    "gaussian_like": lambda f: f.layers.gaussian_random_batch_size_like(data(f, "rows", (120, 4)), [-1, 2], seed=3),
    "randint": lambda f: f.layers.randint(0, 10, [50], seed=5),
    "randint_wide": lambda f: f.layers.randint(-7, 2**30, [3, 5], seed=6),
    "randint_short": lambda f: f.layers.randint(9, shape=[4], dtype="int32", seed=1),
    "randperm": lambda f: f.layers.randperm(10, seed=5),
    "randperm_long": lambda f: f.layers.randperm(1000, dtype="int32", seed=77),
    "sampling": lambda f: f.layers.sampling_id(data(f, "rows", (120, 4)), seed=5),
    "sampling_part": lambda f: f.layers.sampling_id(data(f, "rows", (120, 4)), min=0.1, max=0.5, seed=9),
    "sampling_wide": lambda f: f.layers.sampling_id(f.layers.cast(data(f, "rows", (120, 4)), "float64"), seed=5),
    "crop": lambda f: f.layers.random_crop(data(f, "images", (3, 2, 7, 6)), [4, 3], seed=5),
    "crop_channels": lambda f: f.layers.random_crop(data(f, "images", (3, 2, 7, 6)), [1, 7, 2], seed=1234),
    "dropout": lambda f: f.layers.dropout(data(f, "images", (3, 2, 7, 6)), 0.3),
    "dropout_own": lambda f: f.layers.dropout(data(f, "images", (3, 2, 7, 6)), 0.6, seed=8),
    "dropout_scaled": lambda f: f.layers.dropout(
        data(f, "images", (3, 2, 7, 6)), 0.2, dropout_implementation="upscale_in_train"
    ),
    "dropout_test": lambda f: f.layers.dropout(data(f, "images", (3, 2, 7, 6)), 0.2, is_test=True),
    "dropout_scaled_test": lambda f: f.layers.dropout(
        data(f, "images", (3, 2, 7, 6)), 0.2, is_test=True, dropout_implementation="upscale_in_train"
    ),
}
RUNS = 3


def feeds(program):
    given = {"rows": rows(), "images": images()}
    return {name: array for name, array in given.items() if name in program.global_block().vars}
