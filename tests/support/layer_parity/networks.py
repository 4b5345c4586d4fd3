"""Layers with parameters, normalisation, softmax and losses."""

from .table import Table, at, d, f, given, i64

TABLE = Table()
add = TABLE.add


def call(name, **options):
    return lambda L, *xs: getattr(L, name)(*xs, **options)


add("fc", call("fc", size=3), f(2, 4))
add("fc", call("fc", size=3, act="tanh"), f(2, 3, 2))
add("fc", call("fc", size=3, num_flatten_dims=2, act="softmax"), f(2, 3, 2))
add("fc", call("fc", size=3, num_flatten_dims=-1, bias_attr=False), f(2, 3, 2))
add("fc", lambda L, x, y: L.fc([x, y], 2, act="relu"), f(2, 3), f(2, 4))
add("fc", call("fc", size=3), d(2, 4))
add("fc", lambda L, x: L.fc(L.fc(x, 3, param_attr="shared"), 3, param_attr="shared"), f(2, 3))
add("embedding", call("embedding", size=[5, 3]), i64([[1], [4], [1]]))
add("embedding", call("embedding", size=[5, 3], padding_idx=1), i64([[1], [4], [1]]))
add("embedding", call("embedding", size=[5, 3], padding_idx=-1), i64([[[1], [4]], [[0], [2]]]))
add("embedding", call("embedding", size=[5, 3], is_sparse=True), i64([[1], [4], [1]]), grads=False)
add("embedding", call("embedding", size=[5, 3], dtype="float64"), i64([[1], [4], [1]]))
for mode in ("all", "channel", "element"):
    add("prelu", call("prelu", mode=mode), f(2, 3, 2, 2))
add("prelu", call("prelu", mode="all"), f(3, 4))
add("bilinear_tensor_product", call("bilinear_tensor_product", size=3), f(2, 3), f(2, 4))
add("bilinear_tensor_product", call("bilinear_tensor_product", size=2, act="tanh", bias_attr=False), f(2, 3), f(2, 2))
add("dropout", call("dropout", dropout_prob=0.3, is_test=True), f(2, 3), grads=False)
add(
    "dropout",
    call("dropout", dropout_prob=0.3, is_test=True, dropout_implementation="upscale_in_train"),
    f(2, 3),
    grads=False,
)
add("dropout", call("dropout", dropout_prob=0.0), f(2, 3))
add("dropout", call("dropout", dropout_prob=1.0), f(2, 3))
for how in ("downgrade_in_infer", "upscale_in_train"):
    add("dropout", call("dropout", dropout_prob=0.4, seed=7, dropout_implementation=how), f(4, 9))
    add("dropout", call("dropout", dropout_prob=0.75, seed=11, dropout_implementation=how), d(4, 9))

for options in (dict(), dict(act="relu"), dict(epsilon=1e-3, momentum=0.5), dict(use_global_stats=True)):
    add("batch_norm", call("batch_norm", **options), f(3, 2, 2, 2))
add("batch_norm", call("batch_norm"), f(5, 3))
add("batch_norm", call("batch_norm", data_layout="NHWC"), f(2, 2, 2, 3))
add("batch_norm", call("batch_norm", is_test=True), f(3, 2, 2, 2), grads=False)
for options in (
    dict(),
    dict(begin_norm_axis=2),
    dict(scale=False),
    dict(shift=False, epsilon=1e-3),
    dict(begin_norm_axis=2, act="relu"),
):
    add("layer_norm", call("layer_norm", **options), f(2, 3, 4))
add("layer_norm", call("layer_norm"), d(2, 3))
add("group_norm", call("group_norm", groups=2), f(2, 4, 2, 2))
add("group_norm", call("group_norm", groups=1, epsilon=1e-3, act="relu"), f(2, 4, 2, 2))
add("group_norm", call("group_norm", groups=4, param_attr=False, bias_attr=False), f(2, 4, 3, 2))
add("group_norm", call("group_norm", groups=2, param_attr="scale", bias_attr="bias"), f(2, 4, 3, 2))
add("group_norm", call("group_norm", groups=2, bias_attr="shift"), f(2, 4, 3, 2))
add("group_norm", call("group_norm", groups=2, param_attr="factor"), f(2, 4, 3, 2))
add("instance_norm", call("instance_norm"), f(2, 3, 2, 2))
add("instance_norm", call("instance_norm", epsilon=1e-3), f(2, 3, 4))
add("spectral_norm", call("spectral_norm", power_iters=2), f(3, 4), grads=False)
for options in (dict(), dict(axis=0), dict(axis=1)):
    add("softmax", call("softmax", **options), f(2, 3, 4))
    add("log_softmax", call("log_softmax", **options), f(2, 3, 4))
add("softmax", call("softmax"), at([[-100.0, 0.0, 100.0], [1.0, 1.0, 1.0]]))
add("softmax", call("softmax"), f(4))
add("softmax", call("softmax"), d(2, 3))
add("log_softmax", call("log_softmax", dtype="float64"), f(2, 3))
add("label_smooth", call("label_smooth", epsilon=0.2), f(2, 4))
add("label_smooth", lambda L, x, p: L.label_smooth(x, prior_dist=p), f(2, 4), f(1, 4, fixed=True))

P = dict(low=0.05, high=0.95)
add("cross_entropy", call("cross_entropy"), f(3, 4, **P), i64([[1], [0], [3]]))
add("cross_entropy", call("cross_entropy", ignore_index=0), f(3, 4, **P), i64([[1], [0], [3]]))
add("cross_entropy", call("cross_entropy"), f(3, 4, **P), i64([1, 0, 3]))
add("cross_entropy", call("cross_entropy"), f(2, 2, 4, **P), i64([[[1], [0]], [[3], [2]]]))
add("cross_entropy", call("cross_entropy", soft_label=True), f(3, 4, **P), f(3, 4, fixed=True, **P))
add("cross_entropy", call("cross_entropy"), d(3, 4, **P), i64([[1], [0], [3]]))
add("cross_entropy", call("cross_entropy"), at([[0.0, 1.0], [0.5, 0.5]]), i64([[0], [1]]), grads=False)
add("softmax_with_cross_entropy", call("softmax_with_cross_entropy"), f(3, 4), i64([[1], [0], [3]]))
add(
    "softmax_with_cross_entropy", call("softmax_with_cross_entropy", soft_label=True), f(3, 4), f(3, 4, fixed=True, **P)
)
add(
    "softmax_with_cross_entropy",
    call("softmax_with_cross_entropy", return_softmax=True),
    f(3, 4),
    i64([[1], [0], [3]]),
    grads=False,
)
add(
    "softmax_with_cross_entropy",
    call("softmax_with_cross_entropy", axis=1),
    f(2, 4, 3),
    i64([[[1, 0, 3]], [[2, 2, 0]]]),
)
add(
    "softmax_with_cross_entropy",
    call("softmax_with_cross_entropy", ignore_index=0),
    f(3, 4),
    i64([[1], [0], [3]]),
    grads=False,
)
add(
    "softmax_with_cross_entropy",
    call("softmax_with_cross_entropy", numeric_stable_mode=False),
    f(3, 4),
    i64([[1], [0], [3]]),
)
add("softmax_with_cross_entropy", call("softmax_with_cross_entropy"), d(3, 4), i64([[1], [0], [3]]))
for options in (dict(), dict(normalize=True), dict(ignore_index=-1), dict(ignore_index=-1, normalize=True)):
    add(
        "sigmoid_cross_entropy_with_logits",
        call("sigmoid_cross_entropy_with_logits", **options),
        f(2, 3),
        given([[0.0, 1.0, -1.0], [0.3, 1.0, 0.0]], "float32"),
    )
add("sigmoid_cross_entropy_with_logits", call("sigmoid_cross_entropy_with_logits"), d(2, 3), d(2, 3, fixed=True, **P))
add("square_error_cost", call("square_error_cost"), f(3, 1), f(3, 1))
add("mse_loss", call("mse_loss"), f(3, 2), f(3, 2))
add("log_loss", call("log_loss"), f(3, 1, **P), f(3, 1, fixed=True, **P))
add("log_loss", call("log_loss", epsilon=0.01), f(3, 1, **P), f(3, 1, fixed=True, **P))
add("huber_loss", call("huber_loss", delta=0.5), f(5, 1), f(5, 1))
add("huber_loss", call("huber_loss", delta=0.1), d(5, 1), d(5, 1))
add("smooth_l1", call("smooth_l1"), f(3, 4, low=-2.0, high=2.0), f(3, 4))
add("smooth_l1", call("smooth_l1", sigma=2.0), f(3, 4), f(3, 4))
add(
    "smooth_l1",
    lambda L, x, y, i, o: L.smooth_l1(x, y, i, o, sigma=0.5),
    f(3, 4, low=-2.0, high=2.0),
    f(3, 4),
    f(3, 4, fixed=True),
    f(3, 4, fixed=True),
)
add("smooth_l1", call("smooth_l1"), f(2, 2, 3), f(2, 2, 3))
for reduction in ("mean", "sum", "batchmean", "none"):
    add("kldiv_loss", call("kldiv_loss", reduction=reduction), f(3, 4), f(3, 4, fixed=True, **P))
add("kldiv_loss", call("kldiv_loss"), f(3, 2), given([[0.0, 1.0], [0.5, -0.5], [0.2, 0.8]], "float32"))
add("rank_loss", call("rank_loss"), f(4, 1, fixed=True, **P), f(4, 1), f(4, 1))
add("margin_rank_loss", call("margin_rank_loss"), given([[1.0], [-1.0], [1.0]], "float32"), f(3, 1), f(3, 1))
add(
    "margin_rank_loss", call("margin_rank_loss", margin=0.5), given([[1.0], [-1.0], [1.0]], "float32"), f(3, 1), f(3, 1)
)
add("bpr_loss", call("bpr_loss"), f(3, 4), i64([[1], [0], [3]]))
add("dice_loss", call("dice_loss"), f(3, 2, 4, **P), i64([[[1], [0]], [[3], [2]], [[1], [1]]]))
add("npair_loss", call("npair_loss"), f(3, 4), f(3, 4), given([0.0, 1.0, 0.0], "float32"))
add("npair_loss", call("npair_loss", l2_reg=0.1), f(3, 4), f(3, 4), given([0.0, 1.0, 2.0], "float32"))
add("accuracy", call("accuracy"), f(4, 3), i64([[1], [0], [2], [0]]))
add("accuracy", call("accuracy", k=2), f(4, 3), i64([[1], [0], [2], [0]]))
# Paddle passes on the gradient of the first result alone.
add("gru_unit", call("gru_unit", size=6), f(3, 6), f(3, 2), grads=False)
add("gru_unit", lambda L, x, h: L.gru_unit(x, h, 6)[0], f(3, 6), f(3, 2))
add("gru_unit", lambda L, x, h: L.gru_unit(x, h, 6, origin_mode=True, bias_attr=False)[0], f(3, 6), f(3, 2))
add("lstm_unit", call("lstm_unit", forget_bias=0.5), f(3, 4), f(3, 2), f(3, 2))
