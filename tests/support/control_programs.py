"""Programs with loops, branches and structured losses, each built alike by Paddle 1.8.5 and by fluidc.

Every function of ``CASES`` builds one and says what is fed, fetched and differentiated.  Runs under Python 3.7, too.
"""

from collections import namedtuple

import numpy as np

# feed: name -> array, or (array, lengths) of sequences; outs: fetched; wrt: whose gradients are asked for of the sum
# of squares of the floating-point ``outs`` (or of ``costs``, where these are given).
Case = namedtuple("Case", "feed outs wrt costs")
CASES = {}


def case(build):
    CASES[build.__name__] = build
    return build


def built(feed, outs, wrt=(), costs=None):
    return Case(feed, list(outs), list(wrt), costs)


def numbers(name, *shape):
    """Numbers in [-1, 1) that depend on the name alone."""
    return np.random.RandomState(sum(map(ord, name))).uniform(-1, 1, shape).astype("float32")


def integers(name, high, *shape):
    return np.random.RandomState(sum(map(ord, name)) + 1).randint(0, high, shape).astype("int64")


def parameter(fluid, name, *shape):
    """An attribute of a parameter of known numbers."""
    return fluid.ParamAttr(name=name, initializer=fluid.initializer.NumpyArrayInitializer(numbers(name, *shape)))


def fed(fluid, name, shape, dtype="float32", lod_level=0):
    """A data variable that gradients reach."""
    x = fluid.data(name, shape, dtype, lod_level)
    x.stop_gradient = False
    return x


def costs_of(fluid, made):
    """The sum of squares that is differentiated."""
    layers = fluid.layers
    floats = [v for v in made.outs if str(v.dtype).split(":")[0].split(".")[-1].strip("<> ") in ("FP32", "FP64")]
    parts = floats if made.costs is None else made.costs
    return layers.sums([layers.reduce_sum(layers.elementwise_mul(v, v)) for v in parts])


def run(fluid, name, executor=None):
    """``{"outs": [...], "lods": [...], "grads": [...]}`` of a case."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        made = CASES[name](fluid)
        fetched = list(made.outs)
        if made.wrt:
            block = main.global_block()
            wrt = [block.var(v) if isinstance(v, str) else v for v in made.wrt]
            fetched += fluid.gradients(costs_of(fluid, made), wrt)
    place = fluid.CPUPlace()
    exe = executor or fluid.Executor(place)
    feed = {
        key: fluid.create_lod_tensor(value[0], [value[1]], place) if isinstance(value, tuple) else value
        for key, value in made.feed.items()
    }
    with fluid.scope_guard(fluid.Scope()):
        exe.run(startup)
        found = exe.run(main, feed=feed, fetch_list=fetched, return_numpy=False)
    count = len(made.outs)
    return {
        "outs": [np.array(v) for v in found[:count]],
        "lods": [v.lod() for v in found[:count]],
        "grads": [np.array(v) for v in found[count:]],
    }


# Conditional random fields ------------------------------------------------------------------------------------------


def _crf(fluid, x, label, labels, length=None):
    layers = fluid.layers
    cost = layers.linear_chain_crf(x, label, parameter(fluid, "crfw", labels + 2, labels), length)
    block = fluid.default_main_program().global_block()
    op = block.ops[-1]
    inner = [block.var(op.output(slot)[0]) for slot in ("Alpha", "EmissionExps", "TransitionExps")]
    path = layers.crf_decoding(x, fluid.ParamAttr(name="crfw"), length=length)
    right = layers.crf_decoding(x, fluid.ParamAttr(name="crfw"), label=label, length=length)
    return [cost, *inner, path, right], [x, "crfw"], [cost]


@case
def crf_padded(fluid):
    x, label = fed(fluid, "x", [-1, 5, 4]), fluid.data("label", [-1, 5, 1], "int64")
    length = fluid.data("length", [-1, 1], "int64")
    feed = {
        "x": 2 * numbers("x", 4, 5, 4),
        "label": integers("label", 4, 4, 5, 1),
        "length": np.array([[5], [1], [0], [3]]),
    }
    return built(feed, *_crf(fluid, x, label, 4, length))


@case
def crf_padded_flat(fluid):
    x, label = fed(fluid, "x", [-1, 3, 2]), fluid.data("label", [-1, 3], "int64")
    length = fluid.data("length", [-1], "int64")
    labels = integers("label", 2, 2, 3)
    labels[1, 2] = -7  # never read
    feed = {"x": 5 * numbers("x", 2, 3, 2), "label": labels, "length": np.array([3, 2])}
    return built(feed, *_crf(fluid, x, label, 2, length))


def _crf_sequences(fluid, lengths, labels):
    x = fed(fluid, "x", [-1, labels], lod_level=1)
    label = fluid.data("label", [-1, 1], "int64", 1)
    total = sum(lengths)
    feed = {
        "x": (3 * numbers("x", total, labels), lengths),
        "label": (integers("label", labels, total, 1), lengths),
    }
    return built(feed, *_crf(fluid, x, label, labels))


@case
def crf_sequences(fluid):
    return _crf_sequences(fluid, [4, 1, 6, 2], 5)


@case
def crf_sequences_empty(fluid):
    return _crf_sequences(fluid, [3, 0, 2], 3)
