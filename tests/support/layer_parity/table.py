"""Calls of layers on whose results and gradients Paddle 1.8.5 and fluidc must agree: what one is, how to run it.

A `Case` is one call of a layer on fed arrays.  ``record`` builds it and asks for the gradients of
``sum(weights * outputs)`` with respect to every floating-point input and trainable parameter.  All values depend on
names alone.  Runs under Python 3.7, too.
"""

import numpy as np


class Fed:
    """An array fed to a case: ``values``, or numbers between ``low`` and ``high``; ``fixed``: without a gradient."""

    def __init__(self, shape, dtype="float32", low=-0.9, high=0.9, values=None, fixed=False):
        self.shape, self.dtype, self.low, self.high, self.values = tuple(shape), dtype, low, high, values
        self.fixed = fixed or not dtype.startswith("float")

    def array(self, name):
        if self.values is not None:
            return np.array(self.values, self.dtype).reshape(self.shape)
        return numbers(name, self.shape, self.low, self.high).astype(self.dtype)


def f(*shape, **options):
    """Float32 numbers with a gradient."""
    return Fed(shape, **options)


def d(*shape, **options):
    """Float64 numbers with a gradient."""
    return Fed(shape, "float64", **options)


def given(values, dtype):
    """These values, without a gradient."""
    array = np.array(values, dtype)
    return Fed(array.shape, dtype, values=array.tolist(), fixed=True)


def i64(values):
    return given(values, "int64")


def i32(values):
    return given(values, "int32")


def flags(values):
    return given(values, "bool")


def at(values, dtype="float32"):
    """These values, with a gradient."""
    array = np.array(values, dtype)
    return Fed(array.shape, dtype, values=array.tolist())


class Case:
    """One call.

    Attributes:
        layer: The name in ``fluid.layers`` that it shows.
        call: ``call(fluid.layers, *variables)`` gives a Variable or a list of them.
        inputs: What is fed, in order.
        scale: Parameters hold numbers between minus and plus this; those that are not trained between 0.5 and 1.
        grads: Whether gradients are compared.
    """

    def __init__(self, layer, call, inputs, scale=0.9, grads=True):
        self.layer, self.call, self.inputs, self.scale, self.grads = layer, call, inputs, scale, grads


class Table(dict):
    """Cases by key, ``layer/number``."""

    def add(self, layer, call, *inputs, **options):
        number = sum(case.layer == layer for case in self.values())
        self[f"{layer}/{number}"] = Case(layer, call, inputs, **options)


def numbers(name, shape, low=-0.9, high=0.9):
    """Numbers that depend on the name alone; the same under every numpy."""
    count = int(np.prod(shape))
    state = sum(ord(c) * (i + 3) for i, c in enumerate(name)) * 2654435761 % 2147483648
    found = np.empty(count)
    for at_ in range(count):
        state = (state * 1103515245 + 12345) % 2147483648
        found[at_] = low + (high - low) * (state >> 8) / 8388608.0
    return found.reshape(shape).astype("float32")


class Recorded:
    """What a case is in a program: its feeds by name, results, parameters, and the gradients asked for."""

    def __init__(self, key, feeds, inputs, outs, parameters):
        self.key, self.feeds, self.inputs, self.outs, self.parameters = key, feeds, inputs, outs, parameters


def place(fluid, key, case):
    """Record the call of a case in the default program."""
    block = fluid.default_main_program().global_block()
    before = {p.name for p in block.all_parameters()}
    feeds, inputs = {}, []
    for n, fed in enumerate(case.inputs):
        name = f"{key}.x{n}".replace("/", ".")
        var = fluid.data(name, list(fed.shape), fed.dtype)
        var.stop_gradient = fed.fixed
        inputs.append(var)
        feeds[name] = fed.array(f"{key}.x{n}")
    outs = case.call(fluid.layers, *inputs)
    outs = list(outs) if isinstance(outs, (list, tuple)) else [outs]
    parameters = [p for p in block.all_parameters() if p.name not in before]
    return Recorded(key, feeds, inputs, outs, parameters)


def parameter_value(key, n, parameter, scale):
    low, high = (-scale, scale) if parameter.trainable else (0.5, 1.0)
    return numbers(f"{key}.p{n}", parameter.shape, low, high)


def wanted(recorded):
    """The Variables whose gradients are compared."""
    inputs = [x for x in recorded.inputs if not x.stop_gradient]
    return inputs + [p for p in recorded.parameters if p.trainable and not p.stop_gradient]


def cost(fluid, recorded, shapes, feeds):
    """``sum(weights * out)`` over the floating-point results; ``shapes`` are those that they turn out with."""
    layers, parts = fluid.layers, []
    for n, (out, shape) in enumerate(zip(recorded.outs, shapes)):
        if out.stop_gradient or not is_float(out):
            continue
        name = f"{recorded.key}.w{n}".replace("/", ".")
        dtype = dtype_name(out)
        weights = fluid.data(name, list(shape), dtype)
        weights.stop_gradient = True
        feeds[name] = numbers(f"{recorded.key}.w{n}", shape).astype(dtype)
        part = layers.reduce_sum(layers.elementwise_mul(out, weights))
        parts.append(part if dtype == "float32" else layers.cast(part, "float32"))
    return layers.sums(parts) if parts else None


def dtype_name(var):
    return {5: "float32", 6: "float64", 2: "int32", 3: "int64", 0: "bool", 20: "uint8", 4: "float16"}[int(var.dtype)]


def is_float(var):
    return dtype_name(var) in ("float32", "float64")
