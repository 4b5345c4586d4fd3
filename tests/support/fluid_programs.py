"""Small programs in Paddle Fluid 1.8's API, each built alike by Paddle 1.8.5 and by fluidc.

``CASES`` maps a name to a function of the ``fluid`` module. The file runs under Python 3.7 as well, where the
committed goldens come from (see ``tests/frontend/make_goldens.py``).
"""

import numpy as np


def x_(fluid, shape=(8,), name="x", dtype="float32"):
    """A fed variable whose gradient is wanted."""
    return fluid.layers.data(name=name, shape=list(shape), dtype=dtype, stop_gradient=False)


def label(fluid, name="y"):
    return fluid.layers.data(name=name, shape=[1], dtype="int64")


def fc_plain(fluid):
    fluid.layers.fc(x_(fluid), size=4)


def fc_act_name(fluid):
    h = fluid.layers.fc(x_(fluid), size=4, act="relu", name="f")
    fluid.layers.fc(h, size=3, act="softmax", name="f", bias_attr=False)


def fc_list_flatten(fluid):
    a, b = x_(fluid, (3, 4), "a"), x_(fluid, (3, 5), "b")
    fluid.layers.fc([a, b], size=6, num_flatten_dims=2, act="tanh")
    fluid.layers.fc(a, size=2)
    fluid.layers.fc(a, size=2, num_flatten_dims=-1)


def fc_attrs(fluid):
    attr = fluid.ParamAttr(
        name="w_shared",
        initializer=fluid.initializer.Constant(0.5),
        learning_rate=0.1,
        regularizer=fluid.regularizer.L2Decay(0.01),
    )
    x = x_(fluid)
    fluid.layers.fc(x, size=8, param_attr=attr, bias_attr="b_shared")
    fluid.layers.fc(x, size=8, param_attr=attr, bias_attr="b_shared")


def initializers(fluid):
    i = fluid.initializer
    inits = [
        i.Constant(1.5),
        i.Uniform(-0.1, 0.2, seed=3),
        i.Normal(0.5, 2.0),
        i.TruncatedNormal(0.0, 0.02),
        i.Xavier(),
        i.Xavier(uniform=False),
        i.Xavier(fan_in=7, fan_out=5),
        i.MSRA(),
        i.MSRA(uniform=False, fan_in=9),
        i.NumpyArrayInitializer(np.arange(6, dtype="float32").reshape(2, 3)),
    ]
    for n, init in enumerate(inits):
        fluid.layers.create_parameter([2, 3], "float32", name="p" + str(n), default_initializer=init)


def initializers_seeded(fluid):
    fluid.default_main_program().random_seed = 90
    fluid.default_startup_program().random_seed = 91
    initializers(fluid)
    fluid.layers.dropout(x_(fluid), 0.3)
    fluid.layers.uniform_random([2, 2])
    fluid.layers.gaussian_random([2, 2])


def create_vars(fluid):
    fluid.layers.create_parameter([2, 3], "float32")
    fluid.layers.create_parameter([3], "float32", is_bias=True)
    fluid.layers.create_global_var([1], 0.5, "float32", persistable=True, name="g")
    fluid.layers.create_global_var([2], 1, "int64")
    fluid.layers.create_tensor("float32", name="t")
    fluid.layers.create_tensor("float32")
    fluid.layers.autoincreased_step_counter()


def data_layers(fluid):
    fluid.layers.data("a", [3, 4])
    fluid.layers.data("b", [-1, 3])
    fluid.layers.data("c", [2, 3], append_batch_size=False)
    fluid.data("d", [None, 3], dtype="int64")
    fluid.layers.data("s", [1], dtype="int64", lod_level=1)


def matmuls(fluid):
    a, b = x_(fluid, (3, 4), "a"), x_(fluid, (4, 5), "b")
    fluid.layers.matmul(a, b)
    fluid.layers.matmul(a, a, transpose_y=True, alpha=0.5)
    w = fluid.layers.create_parameter([4, 6], "float32", name="w")
    fluid.layers.matmul(a, w)
    v = fluid.layers.create_parameter([4], "float32", name="v")
    fluid.layers.matmul(v, v)
    fluid.layers.matmul(a, v)
    fluid.layers.mul(a, fluid.layers.create_parameter([12, 2], "float32", name="u"))
    fluid.layers.mul(a, w, x_num_col_dims=2)


def embeddings(fluid):
    ids = label(fluid, "ids")
    fluid.layers.embedding(ids, size=[10, 4])
    fluid.layers.embedding(ids, size=[10, 4], padding_idx=-1, is_sparse=True, param_attr="emb")
    flat = fluid.data("flat", [None, 7], dtype="int64")
    fluid.embedding(flat, size=[10, 4], param_attr="emb")
    fluid.layers.embedding(fluid.layers.data("seq", [5, 1], dtype="int64"), size=[10, 4], padding_idx=2)
    fluid.layers.one_hot(ids, 10)
    fluid.one_hot(flat, 10)


def conv_pool(fluid):
    img = x_(fluid, (3, 8, 8), "img")
    c = fluid.layers.conv2d(img, num_filters=8, filter_size=3, padding=1, act="relu")
    fluid.layers.conv2d(img, 6, [3, 5], stride=[2, 1], padding=[1, 2], dilation=1, groups=3, bias_attr=False)
    fluid.layers.conv2d(img, 4, 3, padding="SAME")
    fluid.layers.conv2d(img, 4, 3, padding="VALID", dilation=2)
    fluid.layers.conv2d(c, 8, 3, groups=8)
    fluid.layers.pool2d(c, 2, "max", 2)
    fluid.layers.pool2d(c, 3, "avg", 2, pool_padding=1, exclusive=False)
    fluid.layers.pool2d(c, 3, "max", 2, ceil_mode=True)
    fluid.layers.pool2d(c, global_pooling=True, pool_type="avg")


def norms(fluid):
    img = x_(fluid, (6, 4, 4), "img")
    fluid.layers.batch_norm(img, act="relu")
    fluid.layers.batch_norm(img, is_test=True, momentum=0.5, moving_mean_name="mm", moving_variance_name="mv")
    fluid.layers.batch_norm(x_(fluid, (5,)), use_global_stats=True)
    fluid.layers.layer_norm(img)
    fluid.layers.layer_norm(img, scale=False, shift=False, begin_norm_axis=2, act="tanh")
    fluid.layers.group_norm(img, groups=3)


def dropouts(fluid):
    x = x_(fluid)
    fluid.layers.dropout(x, 0.5)
    fluid.layers.dropout(x, 0.2, seed=7, dropout_implementation="upscale_in_train")
    fluid.layers.dropout(x, 0.2, is_test=True)


def softmaxes(fluid):
    x = x_(fluid, (3, 4))
    fluid.layers.softmax(x)
    fluid.layers.softmax(x, axis=1)
    fluid.layers.log_softmax(x)
    fluid.layers.log_softmax(x, axis=1)


def losses(fluid):
    x, y = x_(fluid, (5,)), label(fluid)
    p = fluid.layers.softmax(x)
    fluid.layers.cross_entropy(p, y)
    fluid.layers.cross_entropy(p, p, soft_label=True)
    fluid.layers.softmax_with_cross_entropy(x, y)
    fluid.layers.softmax_with_cross_entropy(x, p, soft_label=True, return_softmax=True)
    fluid.layers.sigmoid_cross_entropy_with_logits(x, p)
    fluid.layers.sigmoid_cross_entropy_with_logits(x, p, ignore_index=-1, normalize=True)
    fluid.layers.square_error_cost(x, p)
    fluid.layers.mse_loss(x, p)
    fluid.layers.log_loss(fluid.layers.sigmoid(x_(fluid, (1,), "z")), x_(fluid, (1,), "t"))
    fluid.layers.huber_loss(x_(fluid, (1,), "z2"), x_(fluid, (1,), "t2"), 1.0)
    fluid.layers.smooth_l1(x, p)
    fluid.layers.smooth_l1(x, p, sigma=2.0, inside_weight=p, outside_weight=p)
    fluid.layers.label_smooth(p, epsilon=0.2)
    fluid.layers.kldiv_loss(x, p, reduction="batchmean")
    fluid.layers.cos_sim(x, p)


def reductions(fluid):
    x = x_(fluid, (3, 4))
    L = fluid.layers
    L.mean(x)
    for f in (L.reduce_sum, L.reduce_mean, L.reduce_max, L.reduce_min, L.reduce_prod):
        f(x)
        f(x, dim=1)
        f(x, dim=[1, -1], keep_dim=True)
    b = L.cast(x, "bool")
    L.reduce_all(b, dim=-1)
    L.reduce_any(b)
    L.cumsum(x)
    L.cumsum(x, axis=1, exclusive=True, reverse=True)
    L.isfinite(x)
    L.logsumexp(x, dim=[-1])


def elementwise(fluid):
    x = x_(fluid, (3, 4))
    w = fluid.layers.create_parameter([3], "float32", name="w")
    L = fluid.layers
    for f in (
        L.elementwise_add,
        L.elementwise_sub,
        L.elementwise_mul,
        L.elementwise_div,
        L.elementwise_max,
        L.elementwise_min,
        L.elementwise_pow,
    ):
        f(x, x)
        f(x, w, axis=1, act="relu", name="named")
    L.sum([x, x, x])
    L.sums([x, x])
    L.scale(x, 2.0, bias=1.0)
    L.scale(x, 2.0, bias=1.0, bias_after_scale=False, act="tanh")
    L.pow(x, 3.0)
    L.clip(x, -1.0, 1.0)
    L.clip_by_norm(x, 2.0)


def activations(fluid):
    x = x_(fluid)
    L = fluid.layers
    for n in [
        "exp",
        "tanh",
        "sigmoid",
        "sqrt",
        "rsqrt",
        "abs",
        "square",
        "floor",
        "ceil",
        "round",
        "reciprocal",
        "sin",
        "cos",
        "acos",
        "asin",
        "atan",
        "softplus",
        "softsign",
        "logsigmoid",
        "tanh_shrink",
        "relu",
        "log",
        "sign",
        "erf",
    ]:
        getattr(L, n)(x)
    L.gelu(x)
    L.gelu(x, approximate=True)
    L.softshrink(x, 0.4)
    L.hard_shrink(x, 0.4)
    L.thresholded_relu(x, 0.8)
    L.relu6(x)
    L.leaky_relu(x)
    L.elu(x, 0.5)
    L.selu(x)
    L.swish(x)
    L.hard_sigmoid(x)
    L.hard_swish(x)
    L.brelu(x)
    L.soft_relu(x)
    L.stanh(x)
    L.relu(x, name="r")


def prelu_l2(fluid):
    img = x_(fluid, (3, 4, 4), "img")
    fluid.layers.prelu(img, "all")
    fluid.layers.prelu(img, "channel")
    fluid.layers.prelu(img, "element")
    fluid.layers.l2_normalize(img, axis=1)


def shapes(fluid):
    L = fluid.layers
    x = x_(fluid, (3, 4))
    L.cast(x, "int64")
    L.concat([x, x], axis=1)
    L.concat([x, x], axis=-1)
    L.split(x, 2, dim=2)
    L.split(x, [1, 2], dim=1)
    L.split(x, [1, -1])
    L.stack([x, x], axis=1)
    L.unstack(x, axis=1)
    L.reshape(x, [-1, 12])
    L.reshape(x, [0, 2, -1], act="relu")
    L.reshape(L.scale(x), [0, 0, 2, 2], inplace=True)
    L.transpose(x, [0, 2, 1])
    u = L.unsqueeze(x, [1])
    L.squeeze(u, [1])
    L.unsqueeze(x, axes=[1, 3])
    L.flatten(x)
    L.flatten(x, axis=2)
    L.slice(x, axes=[1, 2], starts=[0, -2], ends=[2, 100])
    L.strided_slice(x, axes=[1], starts=[0], ends=[3], strides=[2])
    L.expand(x, [1, 2, 3])
    L.expand_as(L.reduce_sum(x, dim=1, keep_dim=True), x)
    L.shape(x)
    L.size(x)
    L.reverse(x, [1])
    L.reverse(x, 2)
    L.pad(x, [0, 0, 1, 2, 0, 1], 0.5)


def indexing(fluid):
    L = fluid.layers
    x = x_(fluid, (4,))
    L.gather(x, L.data("i", [3], dtype="int32", append_batch_size=False))
    L.gather_nd(x, L.data("nd", [2, 1], dtype="int32", append_batch_size=False))
    w = L.create_parameter([6, 4], "float32", name="w")
    L.scatter(
        w,
        L.data("si", [2], dtype="int64", append_batch_size=False),
        L.data("su", [2, 4], append_batch_size=False),
    )
    L.argmax(x, axis=1)
    L.argmin(x)
    L.argsort(x, axis=-1)
    L.argsort(x, descending=True)
    L.topk(x, 2)


def where_index(fluid):
    fluid.layers.where(fluid.layers.cast(label(fluid), "bool"))


def fills(fluid):
    L = fluid.layers
    x = x_(fluid, (3, 4))
    c = L.fill_constant([2, 3], "float32", 1.5)
    L.fill_constant([1], "int64", 3)
    L.fill_constant_batch_size_like(x, [-1, 7], "float32", 0.25)
    L.fill_constant_batch_size_like(x, [5, -1], "int64", 2, input_dim_idx=1, output_dim_idx=1)
    L.zeros([2], "float32")
    L.ones([2], "int64")
    L.zeros_like(x)
    L.ones_like(x)
    L.assign(x)
    L.assign(np.array([[1.0, 2.0]], dtype="float32"))
    L.assign(np.array([3, 4], dtype="int32"))
    L.assign(x, c)
    L.range(0, 10, 2, "int64")
    L.linspace(0.0, 1.0, 5, "float32")
    L.eye(3, 4)
    L.uniform_random([2, 3], min=-0.5, max=0.5, seed=3)
    L.gaussian_random([2, 3], mean=1.0)
    L.uniform_random_batch_size_like(x, [-1, 9])
    L.gaussian_random_batch_size_like(x, [-1, 9], std=0.1)
    L.diag(np.arange(3, dtype="float32"))


def compares(fluid):
    L = fluid.layers
    x, z = x_(fluid, (4,)), x_(fluid, (4,), "z")
    for f in (L.equal, L.not_equal, L.less_than, L.less_equal, L.greater_than, L.greater_equal):
        b = f(x, z)
    c = L.less_than(x, z, force_cpu=False)
    L.less_than(x, z, cond=c)
    L.logical_and(b, c)
    L.logical_or(b, c)
    L.logical_xor(b, c)
    L.logical_not(b)
    n = L.fill_constant([1], "int64", 0)
    L.increment(n)
    L.increment(n, value=2.0, in_place=False)


def sugar(fluid):
    x, z = x_(fluid, (3, 4)), x_(fluid, (3, 4), "z")
    _ = x + 1
    _ = 1 + x
    _ = x - 2.5
    _ = 2 - x
    _ = x * 3
    _ = 3 * x
    _ = x / 4
    _ = 4 / x
    _ = x**2
    _ = 2**x
    _ = -x
    _ = x + z
    _ = x - z
    _ = x * z
    _ = x / z
    _ = x**z
    _ = x % z
    _ = x > 0
    _ = x < z
    _ = x >= z
    _ = x <= 1
    _ = x == z
    _ = x != z
    _ = x[0]
    _ = x[:, 1]
    _ = x[1:3, :, -1]
    _ = x[:, 0:2, ::-1]
    n = fluid.layers.fill_constant([1], "int64", 3)
    _ = n + 1
    _ = n / 2
    _ = n // 2
    _ = x.astype("float64")


def accuracy(fluid):
    p = fluid.layers.softmax(x_(fluid, (5,)))
    fluid.layers.accuracy(p, label(fluid))
    fluid.layers.accuracy(p, label(fluid, "y2"), k=2)


def sequences(fluid):
    seq = fluid.layers.data("s", [1], dtype="int64", lod_level=1)
    e = fluid.layers.embedding(seq, size=[20, 6])
    for kind in ["sum", "average", "sqrt", "max", "last", "first"]:
        fluid.layers.sequence_pool(e, kind)
    fluid.layers.sequence_first_step(e)
    fluid.layers.sequence_last_step(e)
    fluid.layers.sequence_softmax(fluid.layers.fc(e, 1))


def static_rnn(fluid):
    L = fluid.layers
    x = x_(fluid, (3, 4))
    x = L.transpose(x, [1, 0, 2])
    h0 = L.fill_constant_batch_size_like(x, [-1, 6], "float32", 0.0, input_dim_idx=1)
    rnn = L.StaticRNN()
    with rnn.step():
        word = rnn.step_input(x)
        prev = rnn.memory(init=h0)
        h = L.fc([word, prev], 6, act="tanh")
        rnn.update_memory(prev, h)
        rnn.step_output(h)
    out = rnn()
    L.reduce_mean(out)


def static_rnn_batch_ref(fluid):
    L = fluid.layers
    x = L.data("x", [5, -1, 4], append_batch_size=False, stop_gradient=False)
    rnn = L.StaticRNN()
    with rnn.step():
        word = rnn.step_input(x)
        prev = rnn.memory(shape=[-1, 6], batch_ref=word, init_value=0.5)
        h = L.fc([word, prev], 6)
        rnn.update_memory(prev, h)
        rnn.output(h, prev)
    rnn()


def cells(fluid):
    L = fluid.layers
    x, h, c = x_(fluid, (4,)), x_(fluid, (3,), "h"), x_(fluid, (3,), "c")
    h, c = L.lstm_unit(x, h, c)
    L.lstm_unit(x, h, c, forget_bias=0.7, param_attr="w", bias_attr=False, name="named")
    gates = L.fc(x, 9)
    h, _, _ = L.gru_unit(gates, h, 9)
    L.gru_unit(gates, h, 9, param_attr="w9", bias_attr=False, origin_mode=True)


def static_rnn_lstm(fluid):
    L = fluid.layers
    x = L.transpose(x_(fluid, (5, 4)), [1, 0, 2])
    rnn = L.StaticRNN()
    with rnn.step():
        row = rnn.step_input(x)
        h = rnn.memory(shape=[-1, 3], batch_ref=row)
        c = rnn.memory(shape=[-1, 3], batch_ref=row)
        new_h, new_c = L.lstm_unit(row, h, c, forget_bias=1.0)
        rnn.update_memory(h, new_h)
        rnn.update_memory(c, new_c)
        rnn.step_output(new_h)
    rnn()


def sequence_masks(fluid):
    n = fluid.layers.data("n", [], dtype="int64")
    fluid.layers.sequence_mask(n, maxlen=4)
    fluid.layers.sequence_mask(label(fluid), maxlen=3, dtype="float32")


def while_loop_block(fluid):
    L = fluid.layers
    i = L.fill_constant([1], "int64", 0)
    n = L.fill_constant([1], "int64", 5)
    acc = L.fill_constant([1], "float32", 0.0)
    c = L.less_than(i, n)
    loop = L.While(c)
    with loop.block():
        L.assign(acc + 2.0, acc)
        L.increment(i)
        L.less_than(i, n, cond=c)


def while_loop_fn(fluid):
    L = fluid.layers
    i = L.fill_constant([1], "int64", 0)
    s = L.fill_constant([1], "float32", 0.0)
    L.while_loop(lambda i, s: L.less_than(i, L.fill_constant([1], "int64", 4)), lambda i, s: [i + 1, s + 0.5], [i, s])


def conds(fluid):
    L = fluid.layers
    x = x_(fluid, (4,))
    a = L.fill_constant([1], "float32", 0.1)
    b = L.fill_constant([1], "float32", 0.2)
    L.cond(L.less_than(a, b), lambda: x * 2.0, lambda: x + 1.0)


def nets(fluid):
    n = fluid.nets
    img = x_(fluid, (3, 8, 8), "img")
    n.simple_img_conv_pool(img, 4, 3, 2, 2, act="relu")
    n.img_conv_group(img, [4, 6], 2, conv_act="relu", conv_with_batchnorm=[True, False], pool_stride=2)
    n.glu(x_(fluid, (6,)))
    q, k = x_(fluid, (5, 8), "q"), x_(fluid, (4, 8), "k")
    n.scaled_dot_product_attention(q, k, k)
    n.scaled_dot_product_attention(q, k, k, num_heads=2)


def name_scopes(fluid):
    with fluid.name_scope("enc"):
        fluid.layers.fc(x_(fluid), 4)


def _mlp(fluid):
    x, y = x_(fluid), label(fluid)
    x.stop_gradient = True
    h = fluid.layers.fc(x, 6, act="relu")
    logits = fluid.layers.fc(h, 3)
    return fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, y))


def minimize_sgd(fluid):
    fluid.optimizer.SGD(0.1).minimize(_mlp(fluid))


def minimize_momentum_l2(fluid):
    fluid.optimizer.Momentum(0.1, 0.9, use_nesterov=True, regularization=fluid.regularizer.L2Decay(1e-4)).minimize(
        _mlp(fluid)
    )


def minimize_adam_global_norm(fluid):
    fluid.optimizer.Adam(1e-3, grad_clip=fluid.clip.GradientClipByGlobalNorm(1.0)).minimize(_mlp(fluid))


def minimize_adagrad_clip_value(fluid):
    fluid.optimizer.Adagrad(0.1, grad_clip=fluid.clip.GradientClipByValue(0.5), initial_accumulator_value=0.1).minimize(
        _mlp(fluid)
    )


def minimize_clip_norm_l1(fluid):
    fluid.optimizer.SGD(
        0.1, grad_clip=fluid.clip.GradientClipByNorm(0.5), regularization=fluid.regularizer.L1Decay(0.01)
    ).minimize(_mlp(fluid))


def minimize_param_attrs(fluid):
    x, y = x_(fluid), label(fluid)
    attr = fluid.ParamAttr(learning_rate=0.5, regularizer=fluid.regularizer.L1Decay(0.1))
    frozen = fluid.ParamAttr(name="frozen", trainable=False)
    h = fluid.layers.fc(x, 6, param_attr=attr, bias_attr=frozen)
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(h, y))
    lr = fluid.layers.create_global_var([1], 0.1, "float32", persistable=True, name="lr")
    fluid.optimizer.SGD(lr, regularization=fluid.regularizer.L2Decay(0.2)).minimize(loss)


def minimize_dpsgd(fluid):
    x = fluid.layers.data(name="X", shape=[1], dtype="float32")
    loss = fluid.layers.mean(fluid.layers.fc(input=x, size=10))
    fluid.optimizer.Dpsgd(learning_rate=0.01, clip=10.0, batch_size=16.0, sigma=1.0).minimize(loss)


def _rule(make):
    def case(fluid):
        make(fluid.optimizer).minimize(_mlp(fluid))

    return case


def _decay(schedule):
    def case(fluid):
        lr = schedule(fluid.layers)
        fluid.optimizer.SGD(lr).minimize(_mlp(fluid))

    return case


CASES = {
    f.__name__.strip("_"): f
    for f in (
        fc_plain,
        fc_act_name,
        fc_list_flatten,
        fc_attrs,
        initializers,
        initializers_seeded,
        create_vars,
        data_layers,
        matmuls,
        embeddings,
        conv_pool,
        norms,
        dropouts,
        softmaxes,
        losses,
        reductions,
        elementwise,
        activations,
        prelu_l2,
        shapes,
        indexing,
        where_index,
        fills,
        compares,
        sugar,
        accuracy,
        sequences,
        static_rnn,
        static_rnn_batch_ref,
        cells,
        static_rnn_lstm,
        sequence_masks,
        while_loop_block,
        while_loop_fn,
        conds,
        nets,
        name_scopes,
        minimize_sgd,
        minimize_momentum_l2,
        minimize_adam_global_norm,
        minimize_adagrad_clip_value,
        minimize_clip_norm_l1,
        minimize_param_attrs,
        minimize_dpsgd,
    )
}
CASES["minimize_adadelta"] = _rule(lambda rules: rules.Adadelta(0.1))
CASES["minimize_adamax"] = _rule(lambda rules: rules.Adamax(0.01))
CASES["minimize_decayed_adagrad"] = _rule(lambda rules: rules.DecayedAdagrad(0.1))
CASES["minimize_ftrl"] = _rule(lambda rules: rules.Ftrl(0.1, l1=0.01))
CASES["minimize_lamb"] = _rule(lambda rules: rules.LambOptimizer(0.01))
CASES["minimize_lars"] = _rule(lambda rules: rules.LarsMomentum(0.1, 0.9))
CASES["minimize_rmsprop"] = _rule(lambda rules: rules.RMSPropOptimizer(0.01, momentum=0.5, centered=True))
CASES["decay_noam"] = _decay(lambda L: L.noam_decay(64, 4))
CASES["decay_exponential"] = _decay(lambda L: L.exponential_decay(0.1, 2, 0.5, staircase=True))
CASES["decay_natural_exp"] = _decay(lambda L: L.natural_exp_decay(0.1, 2, 0.5))
CASES["decay_inverse_time"] = _decay(lambda L: L.inverse_time_decay(0.1, 2, 0.5))
CASES["decay_polynomial"] = _decay(lambda L: L.polynomial_decay(0.1, 4, 0.01, 1.0))
CASES["decay_polynomial_cycle"] = _decay(lambda L: L.polynomial_decay(0.1, 2, 0.01, 1.0, cycle=True))
CASES["decay_piecewise"] = _decay(lambda L: L.piecewise_decay([2, 4], [1.0, 0.1, 0.01]))
CASES["decay_cosine"] = _decay(lambda L: L.cosine_decay(0.1, 2, 3))
CASES["decay_warmup"] = _decay(lambda L: L.linear_lr_warmup(0.1, 3, 0.0, 0.1))


# What Paddle's ops write for their own gradients; fluidc has no such results.
SCRATCH_SLOTS = frozenset(
    [
        "XShape",
        "Mask",
        "MaxIndex",
        "SavedMean",
        "SavedVariance",
        "Mean",
        "Variance",
        "Residual",
        "Diff",
        "MatchX",
        "MidOut",
        "Activated",
        "XNorm",
        "YNorm",
        "Norm",
        "StepScopes",
        "step_scopes",
        "Scope",
    ]
)
# Not compared by value: fresh random numbers, a result whose size depends on data, and an update of our own.
NO_VALUES = frozenset(["dropouts", "initializers", "initializers_seeded", "where_index", "minimize_dpsgd"])
SIGNED = frozenset(
    [
        "activations",
        "sugar",
        "reductions",
        "shapes",
        "compares",
        "prelu_l2",
        "conv_pool",
        "norms",
        "nets",
    ]
)
ROWS = 3
LENGTHS = [2, 0, 4]


def steps_of(case):
    """How many steps are compared: several where something is learnt."""
    return 3 if case.startswith(("minimize", "decay", "create_vars", "layer_auc")) else 1


def feed_value(name, shape, dtype, lod_level, case, step):
    """The array fed for a data variable; the same under every numpy."""
    size = [ROWS if d < 0 else d for d in shape]
    if lod_level:
        size[0] = sum(LENGTHS)
    count = int(np.prod(size))
    # A little generator of our own: numpy's streams differ between versions.
    state = sum(ord(c) * (i + 7) for i, c in enumerate(case + name)) + 101 * step
    numbers = []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2147483648
        numbers.append(state / 2147483648.0)
    u = np.array(numbers).reshape(size)
    if dtype.startswith("int"):
        return np.array([1, 0], dtype) if name == "si" else (u * 3).astype(dtype)
    low, high = (-0.9, 0.9) if case in SIGNED or case.startswith("layer_") else (0.1, 0.9)
    return (low + (high - low) * u).astype(dtype)


def compared_names(program):
    """Names of the global block's results whose values are compared, in order."""
    names = {}
    for op in program.global_block().ops:
        outputs = op.outputs if hasattr(op, "outputs") else {n: op.output(n) for n in op.output_names}
        for slot, args in outputs.items():
            for name in args:
                if slot not in SCRATCH_SLOTS and "@GRAD" not in name:
                    names[name] = None
    return [n for n in names if not program.global_block().var(n).persistable]
