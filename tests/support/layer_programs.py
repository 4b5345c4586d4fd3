"""Programs that show a layer's output and its gradients, each built alike by Paddle 1.8.5 and by fluidc.

Operands are parameters, and a step of SGD with learning rate 1 moves each of them by its gradient: comparing state
after the step compares gradients. ``CASES`` and the goldens are as in ``fluid_programs``; the file runs under Python
3.7, too.
"""

import numpy as np

CASES = {}


def case(build):
    CASES["layer_" + build.__name__.strip("_")] = build
    return build


def numbers(name, shape, low=-0.9, high=0.9):
    """Numbers that depend on the name alone; the same under every numpy."""
    state = sum(ord(c) * (i + 3) for i, c in enumerate(name))
    found = []
    for _ in range(int(np.prod(shape))):
        state = (state * 1103515245 + 12345) % 2147483648
        found.append(low + (high - low) * state / 2147483648.0)
    return np.array(found, "float32").reshape(shape)


def operand(fluid, name, shape, low=-0.9, high=0.9):
    """A parameter of known numbers."""
    value = fluid.initializer.NumpyArrayInitializer(numbers(name, shape, low, high))
    return fluid.layers.create_parameter(list(shape), "float32", name=name, default_initializer=value)


def fresh(fluid, name, shape):
    """Makes one operand after the other, so that every layer has a gradient of its own."""
    made = []

    def make():
        made.append(name)
        return operand(fluid, name + str(len(made)), shape)

    return make


def integers(fluid, values, dtype="int64"):
    """A constant."""
    return fluid.layers.assign(np.array(values, dtype))


def learn(fluid, *outs):
    """A step down the sum of all elements of ``outs``, each times a number of its own."""
    costs = []
    for out in outs:
        weights = fluid.layers.assign(np.cos(np.arange(np.prod(out.shape))).astype("float32").reshape(out.shape))
        costs.append(fluid.layers.reduce_sum(fluid.layers.elementwise_mul(out, weights)))
    fluid.optimizer.SGD(1.0).minimize(fluid.layers.sums(costs))


@case
def conv_transpose(fluid):
    x = operand(fluid, "x", (2, 4, 3, 5))
    f = fluid.layers.conv2d_transpose
    learn(
        fluid,
        f(x, 6, filter_size=3, act="tanh"),
        f(x, 6, filter_size=[3, 2], stride=[2, 3], padding=[1, 0], groups=2, bias_attr=False),
        f(x, 4, filter_size=3, stride=2, padding=1, dilation=2, output_size=[8, 12]),
        f(x, 2, filter_size=3, stride=3, output_size=[10, 17]),
        f(x, 2, output_size=[7, 9], stride=2, padding=[1, 0], dilation=[1, 2]),
        f(x, 2, filter_size=4, padding=[0, 1, 2, 0], stride=2),
        f(x, 2, filter_size=4, padding=[[0, 0], [0, 0], [1, 1], [0, 2]]),
        f(x, 2, filter_size=3, padding="SAME", stride=2, dilation=2),
        f(x, 2, filter_size=3, padding="VALID"),
        f(x, 4, filter_size=3, groups=4, use_cudnn=False),
        f(fluid.layers.transpose(x, [0, 2, 3, 1]), 6, filter_size=3, stride=2, groups=2, data_format="NHWC"),
    )


@case
def conv_formats(fluid):
    x = operand(fluid, "x", (2, 4, 7, 6))
    last = fluid.layers.transpose(x, [0, 2, 3, 1])
    conv, pool = fluid.layers.conv2d, fluid.layers.pool2d
    learn(
        fluid,
        conv(x, 4, 3, groups=4, use_cudnn=False),
        conv(x, 8, 3, groups=4, padding=1, use_cudnn=False, name="apart"),
        conv(x, 8, 3, groups=4),
        conv(last, 6, [3, 2], stride=2, padding=[1, 0], groups=2, data_format="NHWC", act="relu"),
        conv(last, 3, 3, padding=[[0, 0], [1, 2], [0, 1], [0, 0]], data_format="NHWC"),
        conv(x, 3, 3, padding=[1, 2, 0, 1], dilation=2),
        pool(last, 2, "avg", 2, data_format="NHWC"),
        pool(last, 3, "max", 2, pool_padding=1, ceil_mode=True, data_format="NHWC"),
        pool(last, global_pooling=True, pool_type="avg", data_format="NHWC"),
    )


@case
def norms(fluid):
    L = fluid.layers
    x, rows = operand(fluid, "x", (3, 4, 3, 2)), operand(fluid, "rows", (5, 4))
    learn(
        fluid,
        L.instance_norm(x),
        L.instance_norm(x, epsilon=0.001, param_attr="scale", bias_attr="shift", name="named"),
        L.instance_norm(L.reshape(x, [3, 4, 6])),
        L.batch_norm(L.transpose(x, [0, 2, 3, 1]), data_layout="NHWC", momentum=0.8),
        L.batch_norm(x, use_global_stats=True),
        L.batch_norm(rows, epsilon=0.001),
        L.layer_norm(x, begin_norm_axis=2),
        L.layer_norm(x, scale=False, begin_norm_axis=1),
        L.layer_norm(rows, shift=False, epsilon=0.001),
    )


@case
def spectral_norm(fluid):
    # Its outputs; the gradient of Paddle 1.8.5 is none.
    L = fluid.layers
    w = operand(fluid, "w", (2, 3, 2, 2))
    L.spectral_norm(w)
    L.spectral_norm(w, dim=1, power_iters=3, eps=0.01)
    L.spectral_norm(operand(fluid, "flat", (5, 3)), power_iters=0)


@case
def bilinear(fluid):
    x, y = operand(fluid, "x", (3, 4)), operand(fluid, "y", (3, 2))
    f = fluid.layers.bilinear_tensor_product
    learn(fluid, f(x, y, 5), f(x, y, 3, act="tanh", bias_attr=False, param_attr="shared"))


def record(fluid, type, inputs, shapes, attrs=None):
    """An op that no function of ``fluid.layers`` records; its results by the slots of ``shapes``."""
    block = fluid.default_main_program().current_block()
    outs = {}
    for slot, shape in shapes.items():
        name = fluid.unique_name.generate(type + "_out")
        outs[slot] = block.create_var(name=name, dtype="float32", shape=shape)
    block.append_op(type=type, inputs=inputs, outputs={n: [v] for n, v in outs.items()}, attrs=attrs or {})
    return outs


def nll(fluid, x, label, shape, reduction, weight=None, ignore_index=-100):
    inputs = {"X": [x], "Label": [label]}
    if weight is not None:
        inputs["Weight"] = [weight]
    attrs = {"reduction": reduction, "ignore_index": ignore_index}
    return record(fluid, "nll_loss", inputs, {"Out": shape, "Total_weight": [1]}, attrs)["Out"]


@case
def dygraph_losses(fluid):
    # The ops of dygraph's BCELoss and NLLLoss.
    p = operand(fluid, "p", (4, 3), 0.05, 0.95)
    target = fluid.layers.assign(numbers("target", (4, 3), 0.0, 1.0))
    certain = fluid.layers.assign(np.array([0, 1, 0, 1, 1e-20, 1e-13], "float32"))
    truth = fluid.layers.assign(np.array([1, 0, 0, 1, 1, 1], "float32"))
    x, image = operand(fluid, "x", (5, 3), -3.0, -0.1), operand(fluid, "image", (2, 3, 2, 2), -3.0, -0.1)
    label, pixels = integers(fluid, [0, 2, 1, 1, 0]), integers(fluid, [[[0, 2], [1, 1]], [[2, 2], [0, 1]]])
    weight = fluid.layers.assign(np.array([0.2, 0.5, 2.0], "float32"))
    ignored = integers(fluid, [0, 2, -100, 1, 0])
    outs = [
        record(fluid, "bce_loss", {"X": [p], "Label": [target]}, {"Out": [4, 3]})["Out"],
        record(fluid, "bce_loss", {"X": [certain], "Label": [truth]}, {"Out": [6]})["Out"],
        nll(fluid, x, ignored, [5], "none"),
        nll(fluid, x, ignored, [1], "mean"),
        nll(fluid, x, label, [1], "mean", weight, ignore_index=0),
        nll(fluid, image, pixels, [2, 2, 2], "none", weight),
    ]
    for reduction in ("mean", "sum"):
        outs += [
            nll(fluid, x, label, [1], reduction),
            nll(fluid, x, label, [1], reduction, weight),
            nll(fluid, image, pixels, [1], reduction, ignore_index=2),
        ]
    learn(fluid, *outs)


@case
def image_layers(fluid):
    L = fluid.layers
    x, wide = fresh(fluid, "x", (2, 8, 4, 5)), fresh(fluid, "wide", (2, 4, 4, 6))

    def last():
        return L.transpose(x(), [0, 2, 3, 1])

    scale, bias = operand(fluid, "scale", (8,)), operand(fluid, "bias", (8,))
    learn(
        fluid,
        L.adaptive_pool2d(x(), [3, 2], "avg"),
        L.adaptive_pool2d(x(), [3, 2], "max"),
        L.adaptive_pool2d(wide(), 2),
        L.adaptive_pool2d(wide(), [4, 3], "avg"),
        L.adaptive_pool2d(x(), 1, "avg"),
        L.pad2d(x(), [1, 2, 0, 1], pad_value=0.5),
        L.pad2d(x(), [1, 2, 0, 1], "reflect"),
        L.pad2d(x(), [0, 3, 4, 0], "reflect", name="mirrored"),
        L.pad2d(last(), [2, 0, 3, 1], "edge", data_format="NHWC"),
        L.lrn(x()),
        L.lrn(last(), n=3, k=2.0, alpha=0.5, beta=0.6, data_format="NHWC"),
        L.maxout(x(), 4),
        L.maxout(last(), 2, axis=-1),
        L.pixel_shuffle(x(), 2),
        L.shuffle_channel(wide(), 2),
        L.space_to_depth(wide(), 2),
        L.unfold(x(), [3, 2], 1, [1, 0], [1, 2]),
        L.unfold(wide(), 2, [1, 2], [1, 0, 0, 2]),
        L.affine_channel(x(), scale, bias),
        L.affine_channel(last(), scale, bias, data_layout="NHWC", act="relu"),
        L.temporal_shift(operand(fluid, "clips", (6, 8, 2, 2)), 3),
    )
    # Paddle 1.8.5 permutes the gradient like the output: right only where doing so twice changes nothing.
    L.shuffle_channel(x(), 4)


@case
def resizes(fluid):
    L = fluid.layers
    x = operand(fluid, "x", (2, 2, 4, 6))
    outs = []
    for size in ([3, 9], [8, 12], [1, 5], [4, 6]):
        outs += [
            L.resize_bilinear(x, size),
            L.resize_bilinear(x, size, align_corners=False),
            L.resize_bilinear(x, size, align_corners=False, align_mode=0),
            L.resize_nearest(x, size),
            L.resize_nearest(x, size, align_corners=False),
        ]
    last = L.transpose(x, [0, 2, 3, 1])
    outs += [
        L.resize_nearest(x, scale=2.5, align_corners=False),
        L.image_resize(x, scale=1.5),
        L.image_resize(last, [5, 7], resample="NEAREST", data_format="NHWC"),
        L.image_resize(last, [5, 7], data_format="NHWC"),
        L.image_resize_short(x, 7),
        L.interpolate(x, [3, 3], name="named"),
    ]
    learn(fluid, *outs)


@case
def matrices(fluid):
    L = fluid.layers
    m, v = fresh(fluid, "m", (4, 3)), fresh(fluid, "v", (3,))
    stack, wide = fresh(fluid, "stack", (2, 4, 3)), fresh(fluid, "wide", (2, 3, 5))
    learn(
        fluid,
        L.bmm(stack(), wide()),
        L.addmm(m(), stack()[0], operand(fluid, "square", (3, 3)), alpha=2.0, beta=0.5),
        L.addmm(operand(fluid, "row", (1, 2)), m(), operand(fluid, "tall", (3, 2))),
        L.dot(m(), m()),
        L.dot(v(), v()),
        L.cross(m(), m()),
        L.cross(m(), m(), dim=1),
        L.cross(wide(), wide(), dim=-2),
        L.dist(m(), m(), 2),
        L.dist(m(), m(), 1),
        L.dist(m(), m(), 2.5),
        L.dist(m(), m(), float("inf")),
        L.dist(m(), m(), float("-inf")),
        L.kron(m(), operand(fluid, "small", (2, 2))),
        L.tril(m()),
        L.tril(stack(), 1),
        L.triu(stack(), -1),
        L.triu(m(), diagonal=1, name="upper"),
        L.t(m()),
        L.eye(2, 3, batch_shape=[2]),
        L.trace(m()),
        L.trace(stack(), offset=-1, dim1=1, dim2=2),
    )
    L.dist(m(), m(), 0)


@case
def selections(fluid):
    L = fluid.layers
    m, cube = fresh(fluid, "m", (4, 3)), fresh(fluid, "cube", (3, 4, 2))
    rows = integers(fluid, [2, 0, 2])
    learn(
        fluid,
        L.index_select(m(), rows),
        L.index_select(cube(), integers(fluid, [1, 0], "int32"), dim=2),
        L.index_sample(m(), integers(fluid, [[0, 0], [1, 2], [2, 1], [0, 1]])),
        L.gather_nd(cube(), integers(fluid, [[0, 1], [2, 3], [0, 1]])),
        L.scatter_nd_add(m(), integers(fluid, [[1], [3], [1]]), operand(fluid, "rows", (3, 3))),
        L.scatter_nd(integers(fluid, [[1, 2], [0, 0], [1, 2]]), operand(fluid, "values", (3,)), [2, 3]),
        L.crop(m(), shape=[2, 2], offsets=[1, 1]),
        L.crop(cube(), shape=[1, 4, 1]),
        L.crop_tensor(cube(), shape=[2, -1, 1], offsets=[1, 1, 0]),
        L.roll(m(), 2),
        L.roll(cube(), [1, -1], [0, 2]),
        L.roll(cube(), -3, 1),
        L.flip(cube(), [0, -1]),
        L.flip(m(), [1]),
        L.multiplex([m(), m(), m()], integers(fluid, [[2], [0], [1], [2]], "int32")),
        L.pad_constant_like(m(), operand(fluid, "part", (2, 3)), 0.5),
    )
    L.meshgrid([operand(fluid, "a", (2,)), operand(fluid, "b", (3,))])
    L.shard_index(integers(fluid, [[1], [6], [12], [19]]), 20, 2, 0)
    L.shard_index(integers(fluid, [[1], [6], [12], [19]]), 20, 3, 1, ignore_value=-7)


@case
def small_functions(fluid):
    L = fluid.layers
    x, z = fresh(fluid, "x", (4, 3)), operand(fluid, "z", (4, 3))
    far = fluid.layers.assign(np.array([[-30.0, -10.0, 0.0], [1.0, 15.0, 40.0]], "float32"))
    learn(
        fluid,
        L.clamp(x(), -0.5, 0.4),
        L.clamp(x(), min=-0.2, max=0.9, name="named"),
        L.mish(x()),
        L.mish(far),
        L.addcmul(z, x(), x(), 0.5),
        L.full([2, 3], 1.5),
        L.full_like(z, 2.0),
        L.logsumexp(x(), dim=[1]),
    )
    L.mish(z, threshold=0.5)  # whose gradient in Paddle is that of another limit
    L.full_like(z, 2.0, dtype="int64")
    L.arange(1, 6, 2, "int64")
    L.is_empty(z)
    L.allclose(z, z)
    L.allclose(z, L.scale(z, 1.01), rtol=1e-3)
    L.allclose(z, L.scale(z, 1.01), rtol=0.02)
    L.elementwise_equal(z, z)
    nowhere = L.assign(np.array([1.0, float("nan"), -2.0], "float32"))
    L.has_nan(nowhere)
    L.has_nan(z)
    L.has_inf(nowhere)
    L.has_inf(L.assign(np.array([1.0, -float("inf"), float("nan")], "float32")))


@case
def more_losses(fluid):
    L = fluid.layers
    x, column = fresh(fluid, "x", (4, 3)), fresh(fluid, "c", (4, 1))
    label = integers(fluid, [[0], [2], [1], [2]])
    target = L.assign(numbers("target", (4, 1), 0.0, 1.0))
    sides = L.assign(np.array([[1.0], [-1.0], [1.0], [-1.0]], "float32"))
    p = operand(fluid, "p", (4, 3), 0.1, 0.9)
    image = operand(fluid, "image", (2, 3, 2, 2))
    weights = L.softmax(operand(fluid, "weights", (4, 3)))
    places = integers(fluid, [[[[0, 2], [1, 1]]], [[[2, 2], [0, 1]]]])
    learn(
        fluid,
        L.log_loss(L.sigmoid(column()), L.sigmoid(column())),
        L.sigmoid_cross_entropy_with_logits(x(), L.sigmoid(x())),
        L.kldiv_loss(L.log_softmax(x()), L.softmax(x())),
        L.cross_entropy(L.softmax(x()), L.softmax(x()), soft_label=True),
        L.rank_loss(L.sigmoid(column()), column(), column()),
        L.huber_loss(column(), column(), 0.4),
        L.smooth_l1(x(), x()),
        L.square_error_cost(x(), x()),
        L.cos_sim(x(), x()),
        L.rank_loss(target, column(), column()),
        L.margin_rank_loss(sides, column(), column(), margin=0.3),
        L.bpr_loss(x(), label),
        L.dice_loss(p, label),
        L.npair_loss(x(), x(), L.assign(np.array([0, 1, 0, 2], "float32"))),
        L.softmax_with_cross_entropy(image, places, axis=1),
        L.softmax_with_cross_entropy(x(), weights, soft_label=True),
        L.cross_entropy(p, label, ignore_index=1),
    )
    # Paddle 1.8.5 says that ignored labels add nothing to the gradient, and lets them.
    L.softmax_with_cross_entropy(x(), label, ignore_index=2)


@case
def older_layers(fluid):
    L = fluid.layers
    x, image, row = fresh(fluid, "x", (4, 3)), fresh(fluid, "image", (2, 3, 2, 4)), operand(fluid, "row", (3,))
    hidden, cell = L.lstm_unit(x(), operand(fluid, "h", (4, 2)), operand(fluid, "c", (4, 2)), forget_bias=0.5)
    new, _, _ = L.gru_unit(operand(fluid, "gates", (4, 6)), operand(fluid, "before", (4, 2)), 6)
    learn(
        fluid,
        L.prelu(image(), "all"),
        L.prelu(image(), "channel"),
        L.prelu(image(), "element"),
        L.l2_normalize(image(), axis=1),
        L.l2_normalize(x(), axis=-1, epsilon=0.1),
        hidden,
        cell,
        new,
        L.reduce_max(x(), dim=1),
        L.reduce_min(image(), dim=[1, 3]),
        L.reduce_prod(x(), dim=0, keep_dim=True),
        L.elementwise_max(x(), row, axis=1),
        L.elementwise_div(x(), L.exp(row), axis=1),
        L.elementwise_pow(L.exp(x()), row, axis=1),
        L.stack([x(), x()], axis=1),
        L.expand(x(), [2, 3]),
        L.gather(x(), integers(fluid, [3, 1])),
        L.gather(x(), integers(fluid, [3, 1, 3]), overwrite=False),
        L.cumsum(x(), axis=0, reverse=True),
        L.strided_slice(image(), [2, 3], [0, 0], [2, 4], [1, 2]),
        L.one_hot(integers(fluid, [[1], [0]]), 4),
    )


@case
def running_statistics(fluid):
    # Without a gradient: Paddle's test mode has none.
    x, rows = operand(fluid, "x", (3, 4, 3, 2)), operand(fluid, "rows", (5, 4))
    fluid.layers.batch_norm(x, is_test=True)
    for number, (testing, trainable, frozen) in enumerate([(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 0), (0, 0, 1)]):
        names = [part + str(number) for part in ("scale", "bias", "mean", "variance")]
        scale, bias, mean, variance = (operand(fluid, name, (4,), 0.5, 0.9) for name in names)
        mean.stop_gradient = variance.stop_gradient = True
        inputs = {"X": [rows], "Scale": [scale], "Bias": [bias], "Mean": [mean], "Variance": [variance]}
        block = fluid.default_main_program().current_block()
        made = {
            slot: [block.create_var(name=slot + str(number), dtype="float32", shape=shape)]
            for slot, shape in (("Y", [5, 4]), ("SavedMean", [4]), ("SavedVariance", [4]))
        }
        attrs = {
            "momentum": 0.8,
            "epsilon": 1e-4,
            "is_test": bool(testing),
            "trainable_statistics": bool(trainable),
            "use_global_stats": bool(frozen),
            "data_layout": "NCHW",
        }
        outputs = dict(made, MeanOut=[mean], VarianceOut=[variance])
        block.append_op(type="batch_norm", inputs=inputs, outputs=outputs, attrs=attrs)


@case
def auc(fluid):
    L = fluid.layers
    scores = L.softmax(L.data("scores", [2]))
    label = L.data("label", [1], dtype="int64")
    L.auc(scores, label, num_thresholds=7, slide_steps=2)
    L.auc(scores, label, num_thresholds=15)


@case
def cases(fluid):
    L = fluid.layers

    def number(value):
        return lambda: L.fill_constant([1], "float32", value)

    x, y = L.fill_constant([1], "float32", 0.3), L.fill_constant([1], "float32", 0.1)
    less, more = L.less_than(x, y), L.less_than(y, x)
    L.case([(less, number(1.0)), (more, number(2.0)), (more, number(3.0))], default=number(4.0))
    L.case([(less, number(1.0)), (less, number(2.0))])
    one, nine = L.fill_constant([1], "int32", 1), L.fill_constant([1], "int64", 9)
    L.switch_case(one, {1: number(1.0), 2: number(2.0)}, default=number(3.0))
    L.switch_case(nine, [(4, number(1.0)), (2, number(2.0))])
    L.switch_case(nine, [number(1.0), number(2.0)], default=number(3.0))
