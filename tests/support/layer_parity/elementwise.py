"""Arithmetic, comparisons and functions of one element."""

from .table import Table, at, d, f, flags, given, i32, i64

TABLE = Table()
add = TABLE.add

FAR = [-40.0, -20.5, -3.2, -1.0, -0.4, 0.3, 0.5, 1.1, 2.7, 3.5, 6.5, 21.0, 30.0, 50.0]


def call(name, **options):
    return lambda L, *xs: getattr(L, name)(*xs, **options)


# Broadcasting: y lies along x's axes from `axis` on.
for name in ["add", "sub", "mul", "div", "max", "min", "pow"]:
    op = "elementwise_" + name
    low = 0.3 if name in ("pow", "div") else -0.9
    x3, r = f(2, 3, 4, low=0.3), dict(low=low)
    add(op, call(op), x3, f(2, 3, 4, **r))
    add(op, call(op), x3, f(4, **r))
    add(op, call(op, axis=1), x3, f(3, **r))
    add(op, call(op, axis=0), x3, f(2, 3, **r))
    add(op, call(op, axis=0, act="tanh"), x3, f(2, **r))
    add(op, call(op, axis=1), x3, f(3, 1, **r))
    add(op, call(op, axis=-1), x3, f(1, **r))
    add(op, call(op), x3, f(2, 3, 1, **r))
    add(op, call(op), x3, f(1, 3, 1, **r))
    add(op, call(op), d(2, 3, low=0.3), d(3, **r))
    if name != "pow":
        add(op, call(op), i64([[7, -8, 9], [1, 5, -3]]), i64([[2, 3, -4], [5, 2, 2]]))
        add(op, call(op), i32([[7, -8, 9], [1, 5, -3]]), i32([2, 3, 4]))
for name in ["mod", "floordiv"]:
    op = "elementwise_" + name
    for make in (i32, i64):
        add(op, call(op), make([[7, 8, 9], [1, 5, 3]]), make([[2, 3, 4], [5, 2, 2]]))
        add(op, call(op, axis=0), make([[7, 8, 9], [1, 5, 3]]), make([2, 3]))
add("elementwise_mod", call("elementwise_mod"), i64([[-7, 8, -9]]), i64([[3, -3, -4]]))
add("elementwise_floordiv", call("elementwise_floordiv"), i64([[-7, 8, -9]]), i64([[3, -3, -4]]))

for name in ["equal", "not_equal", "less_than", "less_equal", "greater_than", "greater_equal"]:
    add(name, call(name), at([[1.0, 2.0, 3.0]]), at([[1.0, 3.0, 2.0]]))
    add(name, call(name), i64([[1, 2, 3], [3, 3, 1]]), i64([1, 3, 2]))
    add(name, call(name), i32([1, 2, 3]), i32([2]))
    add(name, call(name), at([1.0, float("nan")], "float64"), at([1.0, float("nan")], "float64"))
for name in ["and", "or", "xor"]:
    add("logical_" + name, call("logical_" + name), flags([[True, True], [False, False]]), flags([[True, False]] * 2))
add("logical_not", call("logical_not"), flags([[True, False]]))
add("elementwise_equal", call("elementwise_equal"), f(2, 3), f(2, 3))
add("elementwise_equal", call("elementwise_equal"), i64([1, 2]), i64([1, 3]))
add("allclose", call("allclose"), at([1.0, 2.0]), at([1.0, 2.000001]))
add("allclose", call("allclose", rtol=0.1), at([1.0, 2.0]), at([1.0, 2.1]))
add("allclose", call("allclose"), at([1.0, float("nan")]), at([1.0, float("nan")]))
add("allclose", call("allclose", equal_nan=True), at([1.0, float("nan")]), at([1.0, float("nan")]))
for name in ["has_inf", "has_nan", "isfinite"]:
    add(name, call(name), at([1.0, 2.0]), grads=False)
    add(name, call(name), at([1.0, float("nan")]), grads=False)
    add(name, call(name), at([1.0, float("-inf")]), grads=False)
    add(name, call(name), d(2, 3), grads=False)
add("is_empty", call("is_empty"), f(2, 3))
add("increment", lambda L, x: L.increment(x, 2.0, in_place=False), at([1.5]))
add("increment", lambda L, x: L.increment(x, 3, in_place=False), i64([4]))

UNARY = """
abs ceil cos erf exp floor logsigmoid relu relu6 round sigmoid sign sin softplus softsign square tanh tanh_shrink atan
leaky_relu elu selu swish hard_sigmoid hard_swish brelu soft_relu stanh mish gelu hard_shrink softshrink
thresholded_relu
"""
# Functions of one element, far from zero and near it; float64 too.
for name in UNARY.split():
    if name != "mish":  # whose gradient in Paddle is that of another threshold
        add(name, call(name), f(2, 5))
    far = [v for v in FAR if name not in ("exp",) or v < 30]
    if name == "round":  # of which Paddle rounds some halves to the even number, depending on their place
        far = [v + 0.1 for v in far]
    add(name, call(name), at(far), grads=name != "mish")
    if name not in ("mish",):
        add(name, call(name), d(3, 2, low=-4.0, high=4.0))
for name in ["acos", "asin"]:
    add(name, call(name), f(2, 5))
    add(name, call(name), d(3))
for name in ["log", "log1p", "reciprocal", "rsqrt", "sqrt"]:
    add(name, call(name), f(2, 5, low=0.1, high=9.0))
    add(name, call(name), d(4, low=0.1, high=0.9))
add("abs", call("abs"), at([0.0, -0.0, 1.0]))
add("abs", call("abs"), i64([-3, 4]))
add("relu", call("relu"), at([0.0, -0.0, 1.0]))
add("sign", call("sign"), at([0.0, -2.0, 5.0]))
add("round", call("round"), at([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999]))
add("square", call("square"), i64([-3, 4]))
add("gelu", call("gelu", approximate=True), f(2, 5, low=-4.0, high=4.0))
add("leaky_relu", call("leaky_relu", alpha=0.3), f(2, 5))
add("elu", call("elu", alpha=0.3), f(2, 5))
add("selu", call("selu", scale=1.5, alpha=2.0), f(2, 5))
add("swish", call("swish", beta=2.0), f(2, 5, low=-3.0, high=3.0))
add("hard_sigmoid", call("hard_sigmoid", slope=0.7, offset=0.2), f(2, 5))
# Whose gradients in Paddle are those of other numbers.
add("hard_swish", call("hard_swish", threshold=1.0, scale=2.0, offset=0.5), f(2, 5), grads=False)
add("brelu", call("brelu", t_min=-0.3, t_max=0.4), f(2, 5))
add("relu6", call("relu6", threshold=0.5), f(2, 5))
add("soft_relu", call("soft_relu", threshold=0.5), f(2, 5), grads=False)
add("stanh", call("stanh", scale_a=1.2, scale_b=0.3), f(2, 5))
add("softshrink", call("softshrink", alpha=0.2), f(2, 5))
add("hard_shrink", call("hard_shrink", threshold=0.2), f(2, 5))
add("thresholded_relu", call("thresholded_relu", threshold=0.2), f(2, 5))
add("mish", call("mish"), f(2, 5))
for name in ["sqrt", "rsqrt", "log", "reciprocal"]:
    add(name, call(name), at([0.0, 1e-30, 4.0]), grads=False)

for x in (f(2, 3), d(2, 3)):
    add("scale", call("scale", scale=2.0, bias=0.5), x)
    add("scale", call("scale", scale=2.0, bias=0.5, bias_after_scale=False), x)
    add("pow", call("pow", factor=2.0), x)
    add("clip", call("clip", min=-0.3, max=0.4), x)
add("scale", call("scale", scale=3.0, bias=1.0, act="relu"), f(2, 3))
add("scale", call("scale", scale=2.5, bias=0.7), i64([[1, 2, -3]]))
add("scale", call("scale", scale=2.5, bias=0.7), i32([[1, 2, -3]]))
add("scale", lambda L, x, s: L.scale(x, scale=s, bias=1.0), f(2, 3), given([0.5], "float32"))
add("pow", call("pow", factor=0.5), f(2, 3, low=0.1))
add("pow", call("pow", factor=-1.5), f(2, 3, low=0.1))
add("pow", call("pow", factor=3.0), at([-2.0, 0.0, 1.5]))
add("pow", call("pow", factor=0.0), at([-2.0, 0.0, 1.5]), grads=False)
add("pow", call("pow", factor=2), i64([-3, 4]))
add("pow", lambda L, x, y: L.pow(x, y), f(2, 3, low=0.1), given([2.5], "float32"))
add("clip", call("clip", min=-0.4, max=0.4), at([-0.4, 0.4, 0.1, 0.5]))
add("clip_by_norm", call("clip_by_norm", max_norm=0.5), f(2, 3))
add("clip_by_norm", call("clip_by_norm", max_norm=50.0), f(2, 3))
add("clamp", call("clamp", min=-0.3, max=0.4), f(2, 3))
for name in ["sum", "sums"]:
    add(name, lambda L, x, y, z, n=name: getattr(L, n)([x, y, z]), f(2, 3), f(2, 3), f(2, 3))
    add(name, lambda L, x, n=name: getattr(L, n)([x, x]), f(2, 3))
    add(name, lambda L, x, y, n=name: getattr(L, n)([x, y]), i64([1, 2]), i64([5, 7]))
    add(name, lambda L, x, y, n=name: getattr(L, n)([x, y]), d(3), d(3))
add("sum", lambda L, x: L.sum(x), f(2, 3))
add("addcmul", call("addcmul", value=0.5), f(2, 3), f(2, 3), f(2, 3))
add("addcmul", call("addcmul"), f(2, 3), f(1, 3), f(1, 3))
for to in ("float64", "int64", "int32", "bool", "uint8"):
    add("cast", lambda L, x, to=to: L.cast(x, to), at([[0.0, 1.7, 2.5], [7.9, 3.0, 0.2]]))
for source in (i64([0, 2, 300]), i32([0, 2, -3]), flags([True, False])):
    for to in ("float32", "int64", "bool"):
        add("cast", lambda L, x, to=to: L.cast(x, to), source)
