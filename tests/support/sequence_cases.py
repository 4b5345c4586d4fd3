"""Calls of sequence layers whose results, lengths and gradients Paddle 1.8.5 and fluidc must agree on.

Every case is four sequences (or groups of them), some of them empty, so that all cases fit into one program.  What is
compared besides the results are the gradients of ``sum(sin(result))``.  Runs under Python 3.7, too.
"""

import numpy as np
from layer_parity.table import numbers, parameter_value


class Rows:
    """What is fed: rows of ``width`` (a number or the extents of a row), divided by ``lengths``, level by level."""

    def __init__(self, width, *lengths, **options):
        self.width = (width,) if isinstance(width, int) else tuple(width)
        self.lengths = [list(level) for level in lengths]
        self.dtype = options.get("dtype", "float32")
        self.values = options.get("values")
        self.count = options.get("count", sum(self.lengths[-1]) if lengths else 4)

    def array(self, name):
        if self.values is not None:
            return np.array(self.values, self.dtype).reshape((-1, *self.width))
        return numbers(name, (self.count, *self.width)).astype(self.dtype)

    @property
    def differentiable(self):
        return self.dtype.startswith("float")


A, B, C, D = [2, 0, 3, 1], [1, 4, 0, 2], [1, 1, 1, 1], [5, 2, 1, 3]
OUTER = [2, 0, 1, 3]
INNER = [3, 1, 2, 0, 1, 4]
EVEN = [2, 4, 0, 6]


def words(*lengths, **options):
    options.setdefault("dtype", "int64")
    return Rows(1, *lengths, **options)


def column(values, dtype="int64"):
    return Rows(1, values=values, dtype=dtype)


CASES = {}


def case(name, call, *inputs):
    assert name not in CASES
    CASES[name] = (call, inputs)


for kind in ("sum", "average", "sqrt", "max", "first", "last"):
    case("pool_" + kind, lambda L, x, kind=kind: L.sequence_pool(x, kind), Rows(3, A))
    case("pool2_" + kind, lambda L, x, kind=kind: L.sequence_pool(x, kind), Rows(2, OUTER, INNER))
case("pool_pad_value", lambda L, x: L.sequence_pool(x, "max", pad_value=1.5), Rows(2, B))
case("pool_one", lambda L, x: L.sequence_pool(x, "sqrt"), Rows(1, B))
case("first_step", lambda L, x: L.sequence_first_step(x), Rows(2, D))
case("last_step", lambda L, x: L.sequence_last_step(x), Rows(2, D))
case("softmax", lambda L, x: L.sequence_softmax(x), Rows(1, D))
case("softmax2", lambda L, x: L.sequence_softmax(x), Rows(1, [2, 1, 1, 2], [3, 1, 2, 2, 1, 4]))
case("conv", lambda L, x: L.sequence_conv(x, 4, 3), Rows(3, A))
case("conv_even", lambda L, x: L.sequence_conv(x, 2, 2), Rows(3, D))
case("conv_start", lambda L, x: L.sequence_conv(x, 2, 3, padding_start=0, act="tanh"), Rows(3, D))
case("conv_back", lambda L, x: L.sequence_conv(x, 2, 3, padding_start=-2, bias_attr=False), Rows(2, D))
case("conv_wide", lambda L, x: L.sequence_conv(x, 2, 5), Rows(2, B))
case("conv_pool", lambda L, x: L.sequence_pool(L.sequence_conv(x, 3, 3, act="sigmoid"), "max"), Rows(3, B))
case("row_conv", lambda L, x: L.row_conv(x, 2), Rows(3, D))
case("row_conv_act", lambda L, x: L.row_conv(x, 1, act="relu"), Rows(2, C))
case("concat", lambda L, x, y: L.sequence_concat([x, y]), Rows(2, A), Rows(2, B))
case("concat3", lambda L, x, y, z: L.sequence_concat([x, y, z]), Rows(2, A), Rows(2, C), Rows(2, A))
case("concat_words", lambda L, x, y: L.sequence_concat([x, y]), words(A), words(D))
case("expand_rows", lambda L, x, y: L.sequence_expand(x, y), Rows(2), Rows(1, A))
case("expand_sequences", lambda L, x, y: L.sequence_expand(x, y), Rows(2, D), Rows(1, B))
case("expand_empty", lambda L, x, y: L.sequence_expand(x, y), Rows(2, A), Rows(1, B))
case("expand_outer", lambda L, x, y: L.sequence_expand(x, y, ref_level=0), Rows(2), Rows(1, OUTER, INNER))
case("expand_outer_sequences", lambda L, x, y: L.sequence_expand(x, y, ref_level=0), Rows(2, D), Rows(1, OUTER, INNER))
case("expand_pool", lambda L, x, y: L.sequence_pool(L.sequence_expand(x, y), "average"), Rows(2, D), Rows(1, C))
case("expand_as", lambda L, x, y: L.sequence_expand_as(x, y), Rows(3), Rows(1, D))
case("expand_as_empty", lambda L, x, y: L.sequence_expand_as(x, y), Rows(3), Rows(1, A))
case("pad", lambda L, x: L.sequence_pad(x, L.fill_constant([1], "float32", -0.5)), Rows(2, A))
case("pad_to", lambda L, x: L.sequence_pad(x, L.fill_constant([1], "float32", 0.0), maxlen=5), Rows((2, 3), A))
case("pad_row", lambda L, x: L.sequence_pad(x, L.assign(np.array([1.5, -2], "float32"))), Rows(2, D))
case("pad_words", lambda L, x: L.sequence_pad(x, L.fill_constant([1], "int64", 9)), words(A))
case("unpad", lambda L, x, n: L.sequence_unpad(x, n), Rows((3, 2)), Rows((), values=[1, 3, 0, 2], dtype="int64"))
case(
    "pad_unpad",
    lambda L, x: L.sequence_unpad(*L.sequence_pad(x, L.fill_constant([1], "float32", 0.0))),
    Rows(2, A),
)
case("reshape_down", lambda L, x: L.sequence_reshape(x, 2), Rows(4, A))
case("reshape_up", lambda L, x: L.sequence_reshape(x, 4), Rows(2, EVEN))
case("reshape_across", lambda L, x: L.sequence_reshape(x, 4), Rows(6, EVEN))
case("reverse", lambda L, x: L.sequence_reverse(x), Rows(3, A))
case("reverse_words", lambda L, x: L.sequence_reverse(x), words(D))
case(
    "scatter",
    lambda L, x, i, u: L.sequence_scatter(x, i, u),
    Rows(4),
    words(D, values=[0, 1, 2, 3, 0, 1, 1, 3, 2, 0, 2]),
    Rows(1, D),
)
case(
    "slice",
    lambda L, x, at, n: L.sequence_slice(x, at, n),
    Rows(2, D),
    column([0, 1, 0, 1]),
    column([3, 1, 1, 2]),
)
case("enumerate", lambda L, x: L.sequence_enumerate(x, 3, pad_value=7), words(A))
case("enumerate_two", lambda L, x: L.sequence_enumerate(x, 2), words(B))
case("mask", lambda L, n: L.sequence_mask(n), column([1, 0, 4, 2]))
case("mask_fixed", lambda L, n: L.sequence_mask(n, maxlen=3, dtype="float32"), column([1, 0, 4, 2]))
case("mask_of_most", lambda L, n: L.sequence_mask(n, maxlen=L.cast(L.reduce_max(n), "int32")), column([1, 0, 3, 2]))
case("reset_like", lambda L, x, y: L.lod_reset(x, y), Rows(2, A), Rows(1, [0, 1, 4, 1]))
case("reset_to", lambda L, x: L.lod_reset(x, target_lod=[0, 2, 2, 6]), Rows(2, A))
case("reset_pool", lambda L, x: L.sequence_pool(L.lod_reset(x, target_lod=[0, 1, 6]), "max"), Rows(2, A))
case("append", lambda L, x: L.lod_append(x, [0, 1, 3, 3, 5, 6, 6]), Rows(2, [1, 3, 0, 2]))
case("im2sequence", lambda L, x: L.im2sequence(x, 2, 1), Rows((2, 3, 4)))
case("im2sequence_padded", lambda L, x: L.im2sequence(x, [3, 2], [2, 1], [1, 0]), Rows((1, 5, 4)))
case("im2sequence_beyond", lambda L, x: L.im2sequence(x, [2, 2], [2, 3], [0, 1, 1, 0]), Rows((1, 5, 6)))
case("position", lambda L, x: L.add_position_encoding(x, 0.5, 2.0), Rows(6, A))
case("position_two", lambda L, x: L.add_position_encoding(x, 1.0, 1.0), Rows(2, D))
case("position_padded", lambda L, x: L.add_position_encoding(x, 1.5, 0.5), Rows((3, 4)))
case("row_conv_padded", lambda L, x: L.row_conv(x, 2), Rows((4, 3)))
# Several kinds of sequences, and what goes on between them.
case(
    "attention",
    lambda L, x, state: L.sequence_pool(
        x
        * L.sequence_softmax(
            L.fc(L.fc(x, 3, bias_attr=False) + L.sequence_expand(state, x), 1, act="tanh", bias_attr=False)
        ),
        "sum",
    ),
    Rows(3, D),
    Rows(3),
)
case(
    "joined",
    lambda L, x, y: L.sequence_conv(L.fc([x, y], 3) + L.concat([x, y], axis=1), 2, 3),
    Rows(1, A),
    Rows(2, A),
)


class Placed:
    """A case in a program: what is fed by name, its results, what gradients are wanted of, and its parameters."""

    def __init__(self, name, feeds, outs, wanted, parameters):
        self.name, self.feeds, self.outs, self.wanted, self.parameters = name, feeds, outs, wanted, parameters


def place(fluid, name):
    """Record a case in the default program; ``feeds`` holds arrays and their lengths."""
    call, inputs = CASES[name]
    block = fluid.default_main_program().global_block()
    before = {p.name for p in block.all_parameters()}
    feeds, variables = {}, []
    for n, fed in enumerate(inputs):
        var_name = f"{name}.x{n}"
        var = fluid.layers.data(var_name, list(fed.width), dtype=fed.dtype, lod_level=len(fed.lengths))
        var.stop_gradient = not fed.differentiable
        variables.append(var)
        feeds[var_name] = (fed.array(var_name), fed.lengths)
    outs = call(fluid.layers, *variables)
    outs = list(outs) if isinstance(outs, (list, tuple)) else [outs]
    parameters = [p for p in block.all_parameters() if p.name not in before]
    wanted = [x for x in variables if not x.stop_gradient] + parameters
    return Placed(name, feeds, outs, wanted, parameters)


def cost(fluid, placed):
    """``sum(sin(result))`` over the results with a gradient; None without any."""
    layers = fluid.layers
    parts = (
        [layers.reduce_sum(layers.sin(out)) for out in placed.outs if out.dtype == placed.wanted[0].dtype]
        if (placed.wanted)
        else []
    )
    return layers.sums(parts) if parts else None


def fed(fluid, feeds):
    """What `Executor.run` is fed."""
    place_ = fluid.CPUPlace()
    return {
        name: fluid.create_lod_tensor(array, lengths, place_) if lengths else array
        for name, (array, lengths) in feeds.items()
    }


def set_parameters(fluid, scope, placed):
    for n, p in enumerate(placed.parameters):
        value = parameter_value(placed.name, n, p, 0.9).astype("float32")
        scope.var(p.name).get_tensor().set(value, fluid.CPUPlace())
