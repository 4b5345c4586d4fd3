"""Layers of no other group."""

from .table import Table, at, d, f, i32, i64

TABLE = Table()
add = TABLE.add


def call(name, **options):
    return lambda L, *xs: getattr(L, name)(*xs, **options)


add("affine_grid", call("affine_grid", out_shape=[2, 3, 3, 4]), f(2, 2, 3))
add("affine_grid", call("affine_grid", out_shape=[1, 1, 2, 2]), d(1, 2, 3))
add("grid_sampler", call("grid_sampler"), f(2, 3, 3, 4), f(2, 3, 4, 2))
add("grid_sampler", call("grid_sampler"), f(1, 2, 3, 3), f(1, 3, 3, 2, low=-1.7, high=1.7))
add("grid_sampler", call("grid_sampler"), d(1, 2, 4, 3), d(1, 4, 3, 2))
for options in (dict(), dict(offset=1), dict(offset=-2), dict(dim1=0, dim2=1), dict(dim1=1, dim2=0, offset=1)):
    add("diag_embed", call("diag_embed", **options), f(2, 3))
add("diag_embed", call("diag_embed", dim1=0, dim2=2), f(2, 2, 3))
add("diag_embed", call("diag_embed"), i64([[1, 2]]))
add("fsp_matrix", call("fsp_matrix"), f(2, 3, 2, 4), f(2, 2, 2, 4))
add("fsp_matrix", call("fsp_matrix"), d(1, 2, 3, 3), d(1, 2, 3, 3))
add("mean_iou", call("mean_iou", num_classes=4), i32([[0, 1, 2], [1, 1, 3]]), i32([[0, 2, 2], [1, 0, 3]]))
add("mean_iou", call("mean_iou", num_classes=5), i64([0, 1, 2, 1]), i64([0, 2, 2, 1]))
LABELS = [[-2.0], [-1.0], [0.0], [0.3], [1.0], [1.7]]
add("teacher_student_sigmoid_loss", call("teacher_student_sigmoid_loss"), f(6, 1), at(LABELS))
add("teacher_student_sigmoid_loss", call("teacher_student_sigmoid_loss"), f(6, 1, low=-20.0, high=20.0), at(LABELS))
add(
    "teacher_student_sigmoid_loss",
    call("teacher_student_sigmoid_loss", soft_max_up_bound=0.3, soft_max_lower_bound=-0.3),
    f(6, 1),
    at(LABELS),
)
for options in (dict(), dict(act="leaky_relu", act_alpha=0.3), dict(act="elu", act_alpha=0.7), dict(momentum=0.5)):
    add("inplace_abn", call("inplace_abn", **options), f(3, 2, 2, 2))
for both in (([1.0, 2.0], [3.0, 4.5]), (0.5, 2.0)):
    for name in ("Normal", "Uniform"):
        add(name, lambda L, n=name, b=both: getattr(L, n)(*b).entropy())
add("Normal", lambda L, m, s, v: L.Normal(m, s).log_prob(v), f(2, 3), f(2, 3, low=0.3), f(2, 3))
add("Normal", lambda L, m, s: L.Normal(m, s).kl_divergence(L.Normal(s, m * m + 0.5)), f(2, 3), f(2, 3, low=0.3))
add("Normal", lambda L, m, s: L.Normal(m, s).entropy(), f(2, 3), f(2, 3, low=0.3))
add("Normal", lambda L: L.Normal(0.0, 1.0).log_prob(L.fill_constant([1], "float32", 0.8)))
add("Normal", lambda L: L.Normal([0.0, 1.0], [1.0, 2.0]).sample([3], seed=5), grads=False)
add("Normal", lambda L: L.Normal(0.5, 2.0).sample([2, 2], seed=7), grads=False)
add("Uniform", lambda L, v: L.Uniform([0.1, 0.2], [0.9, 0.8]).log_prob(v), f(2, low=0.3, high=0.7))
add("Uniform", lambda L, a, b: L.Uniform(a, b).entropy(), f(2, 3), f(2, 3, low=1.0, high=2.0))
add("Uniform", lambda L: L.Uniform([0.0, 1.0], [1.0, 2.0]).sample([3], seed=5), grads=False)
add("Uniform", lambda L: L.Uniform(0.5, 2.0).sample([2, 2], seed=7), grads=False)
add("Categorical", lambda L, x: L.Categorical(x).entropy(), f(2, 4))
add("Categorical", lambda L, x, y: L.Categorical(x).kl_divergence(L.Categorical(y)), f(2, 4), f(2, 4))
DIAGONAL = [[0.4, 0.0], [0.0, 0.9]]
add("MultivariateNormalDiag", lambda L, m, s: L.MultivariateNormalDiag(m, s).entropy(), f(2), at(DIAGONAL))
add(
    "MultivariateNormalDiag",
    lambda L, m, s, o: L.MultivariateNormalDiag(m, s).kl_divergence(L.MultivariateNormalDiag(o, s * 0.5 + 0.1)),
    f(2),
    at(DIAGONAL),
    f(2),
    grads=False,
)
