"""Reductions, products of matrices, and what counts or orders elements."""

from .table import Table, at, d, f, flags, i32, i64

TABLE = Table()
add = TABLE.add


def call(name, **options):
    return lambda L, *xs: getattr(L, name)(*xs, **options)


for name in ["sum", "mean", "max", "min", "prod"]:
    op = "reduce_" + name
    for options in (
        dict(),
        dict(dim=0),
        dict(dim=-1),
        dict(dim=[0, 2]),
        dict(dim=[1], keep_dim=True),
        dict(dim=[-1, 0], keep_dim=True),
    ):
        add(op, call(op, **options), f(2, 3, 4))
    # Paddle refuses the gradient.
    add(op, call(op, keep_dim=True), f(2, 3, 4), grads=False)
    add(op, call(op, dim=1), d(2, 3))
    add(op, call(op), f(1))
    add(op, call(op, dim=0), f(3))
    if name != "mean":
        add(op, call(op, dim=1), i64([[1, 5, 3], [4, 4, -2]]))
        add(op, call(op), i32([[1, 5, 3], [4, 4, -2]]))
for name in ("reduce_max", "reduce_min"):
    add(name, call(name, dim=1), at([[1.0, 3.0, 3.0], [2.0, 1.0, 1.0]]))
add("reduce_prod", call("reduce_prod", dim=1), at([[1.5, 3.0, 2.0], [2.0, 1.0, -1.0]]))
for name in ("reduce_all", "reduce_any"):
    for options in (dict(), dict(dim=0), dict(dim=-1, keep_dim=True), dict(dim=[0, 1])):
        add(name, call(name, **options), flags([[True, False, True], [True, True, True]]))
add("mean", call("mean"), f(2, 3))
add("mean", call("mean"), f(1))
add("mean", call("mean"), d(2, 3))
add("logsumexp", call("logsumexp"), f(2, 3))
add("logsumexp", call("logsumexp", dim=1, keepdim=True), f(2, 3))
add("logsumexp", call("logsumexp", dim=[-1]), d(2, 3))
for options in (
    dict(),
    dict(axis=0),
    dict(axis=1, exclusive=True),
    dict(axis=-1, reverse=True),
    dict(axis=0, exclusive=True, reverse=True),
):
    add("cumsum", call("cumsum", **options), f(3, 4))
add("cumsum", call("cumsum", axis=1), d(2, 3))
add("cumsum", call("cumsum", axis=1), i64([[1, 2, 3]]))
for name in ("argmax", "argmin"):
    for options in (dict(), dict(axis=1), dict(axis=-1), dict(axis=-2)):
        add(name, call(name, **options), f(3, 4))
    add(name, call(name, axis=1), at([[2.0, 1.0, 2.0], [1.0, 1.0, 3.0]]))
    add(name, call(name, axis=0), i64([3, 1, 3]))
    add(name, call(name, axis=0), d(3))
for options in (dict(), dict(axis=0), dict(axis=-1, descending=True), dict(axis=1, descending=True)):
    add("argsort", call("argsort", **options), f(3, 4))
add("argsort", call("argsort"), i64([[3, 1, 2]]))
add("argsort", call("argsort"), d(5))
add("topk", call("topk", k=2), f(3, 5))
add("topk", call("topk", k=3), f(5))
add("topk", call("topk", k=1), d(2, 2, 4))

for shapes, options in (
    (((2, 3), (3, 4)), dict()),
    (((3, 2), (3, 4)), dict(transpose_x=True)),
    (((2, 3), (4, 3)), dict(transpose_y=True, alpha=0.5)),
    (((5, 2, 3), (5, 3, 4)), dict()),
    (((5, 2, 3), (3, 4)), dict()),
    (((2, 2, 2, 3), (2, 2, 4, 3)), dict(transpose_y=True)),
    (((3,), (3,)), dict()),
    (((2, 3), (3,)), dict()),
    (((3,), (3, 2)), dict()),
    (((5, 2, 3), (3,)), dict()),
    (((2, 1), (1, 2)), dict(alpha=2.0)),
):
    add("matmul", call("matmul", **options), f(*shapes[0]), f(*shapes[1]))
add("matmul", call("matmul"), d(2, 3), d(3, 2))
add("mul", call("mul"), f(2, 3), f(3, 4))
add("mul", call("mul", x_num_col_dims=2), f(2, 3, 4), f(4, 5))
add("mul", call("mul", y_num_col_dims=2), f(2, 6), f(2, 3, 4))
add("mul", call("mul"), f(2, 3, 2), f(6, 2))
add("mul", call("mul"), d(2, 3), d(3, 2))
add("bmm", call("bmm"), f(2, 3, 4), f(2, 4, 2))
add("bmm", call("bmm"), d(2, 1, 4), d(2, 4, 2))
add("addmm", call("addmm", alpha=2.0, beta=0.5), f(2, 3), f(2, 4), f(4, 3))
add("addmm", call("addmm"), f(1, 3), f(2, 4), f(4, 3))
add("addmm", call("addmm"), d(2, 3), d(2, 4), d(4, 3))
add("dot", call("dot"), f(3), f(3))
add("dot", call("dot"), f(2, 3), f(2, 3))
add("dot", call("dot"), d(2, 3), d(2, 3))
add("dot", call("dot"), i64([1, 2]), i64([3, 4]))
add("cross", call("cross"), f(3, 4), f(3, 4))
add("cross", call("cross"), f(2, 3), f(2, 3))
add("cross", call("cross", dim=1), f(3, 3), f(3, 3))
add("cross", call("cross", dim=1), d(2, 3), d(2, 3))
for p in (1, 2, 2.5, float("inf"), float("-inf")):
    add("dist", call("dist", p=p), f(2, 3), f(2, 3))
add("dist", call("dist"), f(2, 3), f(3))
add("dist", call("dist", p=0), f(2, 3), f(2, 3), grads=False)
add("dist", call("dist"), d(3), d(3))
add("kron", call("kron"), f(2, 3), f(3, 2))
add("kron", call("kron"), f(2), f(2, 2))
add("kron", call("kron"), d(2, 2), d(2, 1))
for options in (dict(), dict(offset=1), dict(offset=-1), dict(dim1=1, dim2=0)):
    add("trace", call("trace", **options), f(3, 4))
add("trace", call("trace", dim1=0, dim2=2), f(2, 3, 2))
add("trace", call("trace", dim1=-1, dim2=-2), d(2, 3, 2))
for name in ("tril", "triu"):
    add(name, call(name), f(3, 4))
    add(name, call(name, diagonal=1), f(2, 3, 3))
    add(name, call(name, diagonal=-1), d(3, 2))
    add(name, call(name), i64([[1, 2], [3, 4]]))
add("cos_sim", call("cos_sim"), f(3, 4), f(3, 4))
add("cos_sim", call("cos_sim"), f(3, 4), f(1, 4))
add("l2_normalize", call("l2_normalize", axis=1), f(2, 3, 4))
add("l2_normalize", call("l2_normalize", axis=-1), f(2, 3))
add("l2_normalize", call("l2_normalize", axis=0, epsilon=0.1), f(2, 3))
