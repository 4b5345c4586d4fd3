"""Programs of which Paddle 1.8.5 writes ProgramDescs with what fluidc's own layers do not record.

Each builds into the default programs and gives what is compared: of training programs the losses.
"""


def data(fluid, name="x", shape=(4,)):
    return fluid.layers.data(name, list(shape))


def stopped(fluid):
    """A branch that no gradient passes, and a parameter that is not trained."""
    x = data(fluid)
    h = fluid.layers.fc(x, 5, act="tanh")
    side = fluid.layers.fc(h, 5)
    side.stop_gradient = True
    frozen = fluid.layers.fc(h, 3, param_attr=fluid.ParamAttr(trainable=False))
    out = fluid.layers.fc(fluid.layers.concat([side, frozen, h], axis=1), 1)
    loss = fluid.layers.mean(fluid.layers.square(out))
    fluid.optimizer.SGD(0.1).minimize(loss)
    return [loss]


def two_losses(fluid):
    """Two losses, each minimised by its own optimizer, over one trunk."""
    x = data(fluid)
    h = fluid.layers.fc(x, 5, act="tanh")
    first = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(h, 1)))
    second = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(h, 2)))
    heads = [p.name for p in fluid.default_main_program().all_parameters()]
    fluid.optimizer.SGD(0.1).minimize(first, parameter_list=heads[:4])
    fluid.optimizer.Momentum(0.05, 0.9).minimize(second, parameter_list=heads[4:])
    return [first, second]


def penalty(fluid):
    """A loss with the norm of a gradient in it."""
    x = data(fluid)
    x.stop_gradient = False
    score = fluid.layers.fc(fluid.layers.fc(x, 6, act="relu"), 1)
    (slope,) = fluid.gradients(score, x)
    norm = fluid.layers.reduce_sum(fluid.layers.square(slope), dim=1)
    loss = fluid.layers.mean(score) + fluid.layers.mean(norm)
    fluid.optimizer.SGD(0.05).minimize(loss)
    return [loss]


def sparse_embedding(fluid):
    """An embedding whose gradient is sparse in Paddle. (Its sparse Adam is a step ahead of itself, by mistake.)"""
    ids = fluid.layers.data("ids", [1], dtype="int64")
    rows = fluid.layers.embedding(ids, [7, 3], is_sparse=True)
    again = fluid.layers.embedding(ids, [7, 3], is_sparse=True, param_attr="embedding_0.w_0")
    loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(rows + 2.0 * again, 2)))
    fluid.optimizer.SGD(0.5).minimize(loss)
    return [loss]


def image(fluid):
    """Convolution, batch normalisation, pooling; gradients clipped together, weights decayed."""
    x = data(fluid, "image", (2, 6, 6))
    h = fluid.layers.conv2d(x, 4, 3, padding=1, bias_attr=False)
    h = fluid.layers.batch_norm(h, act="relu")
    h = fluid.layers.conv2d(h, 4, 3, groups=4)
    h = fluid.layers.pool2d(h, 2, "avg", 2, exclusive=False)
    y = fluid.layers.data("label", [1], dtype="int64")
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(fluid.layers.fc(h, 3), y))
    clip = fluid.clip.GradientClipByGlobalNorm(0.5)
    fluid.optimizer.Momentum(
        0.1, 0.9, regularization=fluid.regularizer.L2Decay(0.01), grad_clip=clip, use_nesterov=True
    ).minimize(loss)
    return [loss]


def warm_up(fluid):
    """A learning rate that a Switch assigns, step by step."""
    x = data(fluid)
    loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(x, 2)))
    step = fluid.layers.autoincreased_step_counter()
    rate = fluid.layers.create_global_var([1], 0.0, "float32", persistable=True, name="rate")
    two = fluid.layers.fill_constant([1], "int64", 2)
    with fluid.layers.Switch() as switch:
        with switch.case(step < two):
            fluid.layers.assign(fluid.layers.fill_constant([1], "float32", 0.01), rate)
        with switch.default():
            fluid.layers.assign(fluid.layers.fill_constant([1], "float32", 0.2), rate)
    fluid.optimizer.SGD(rate).minimize(loss)
    return [loss]


def recurrent(fluid):
    """A loop that is trained through."""
    x = fluid.layers.data("steps", [4, 3, 2], append_batch_size=False)
    h = fluid.layers.fc(x, 5, num_flatten_dims=2)
    rnn = fluid.layers.StaticRNN()
    with rnn.step():
        now = rnn.step_input(h)
        before = rnn.memory(shape=[-1, 5], batch_ref=h, ref_batch_dim_idx=1)
        after = fluid.layers.fc([now, before], 5, act="tanh")
        rnn.update_memory(before, after)
        rnn.step_output(after)
    loss = fluid.layers.mean(fluid.layers.square(rnn()))
    fluid.optimizer.SGD(0.5).minimize(loss)
    return [loss]


def clipped_error(fluid):
    """The gradient of a hidden layer clipped on its way; fluidc refuses to compile it."""
    h = fluid.layers.fc(data(fluid), 5, act="tanh")
    h.error_clip = fluid.clip.ErrorClipByValue(0.01)
    loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(h, 1)))
    fluid.optimizer.SGD(0.1).minimize(loss)
    return [loss]


def private(fluid):
    """Paddle's dpsgd after weight decay and a clip."""
    x, y = data(fluid), fluid.layers.data("y", [1])
    attr = fluid.ParamAttr(regularizer=fluid.regularizer.L2Decay(0.01))
    loss = fluid.layers.mean(fluid.layers.square_error_cost(fluid.layers.fc(x, 1, param_attr=attr), y))
    fluid.clip.set_gradient_clip(fluid.clip.GradientClipByNorm(2.0))
    fluid.optimizer.Dpsgd(0.1, clip=0.5, batch_size=8.0, sigma=1.25).minimize(loss)
    return [loss]


def private_defaults(fluid):
    """Paddle's dpsgd as its documentation has it."""
    loss = fluid.layers.mean(fluid.layers.fc(data(fluid), 1))
    fluid.optimizer.Dpsgd(0.1).minimize(loss)
    return [loss]


def shapes(fluid):
    """Shapes, bounds and counts that are Variables."""
    layers = fluid.layers
    x = data(fluid, "x", (4, 6))
    dims = layers.shape(x)
    three, one = layers.fill_constant([1], "int32", 3), layers.fill_constant([1], "int32", 1)
    ids = layers.data("ids", [1], dtype="int64")
    return [
        layers.reshape(x, [layers.slice(dims, [0], [0], [1]), 12, layers.cast(one * 2, "int32")]),
        layers.fill_constant(dims, "float32", 0.25),
        layers.slice(x, [1], [one], [three]),
        layers.strided_slice(x, [2], [0], [6], [one * 2]),
        layers.expand(x, [1, one * 2, 1]),
        layers.topk(layers.reduce_sum(x, dim=1), three)[0],
        layers.one_hot(ids, layers.fill_constant([1], "int32", 5)),
        layers.range(0, three, 1, "int32"),
        layers.linspace(layers.fill_constant([1], "float32", 0.5), 2.0, 4, "float32"),
        layers.unsqueeze(x, [one]),
        layers.concat([x, x], axis=one),
        layers.split(x, [2, three - 1], dim=1)[1],
        layers.adaptive_pool2d(layers.reshape(x, [-1, 1, 4, 6]), [2, 3], "avg"),
        layers.adaptive_pool2d(layers.reshape(x, [-1, 1, 4, 6]), 1, "max"),
        layers.fill_constant([2], "int64", 2**40 + 1),
        layers.clip(x, 0.3, 0.6),
        layers.assign(sample()),
    ]


def sample():
    import numpy as np

    return np.array([[1, 2], [3, -4]], "int32")


TRAINING = {
    f.__name__: f for f in (stopped, two_losses, penalty, sparse_embedding, image, warm_up, recurrent)
}  # fmt: skip
STEPS = 4
OTHERS = {
    f.__name__: f for f in (clipped_error, private, private_defaults, shapes)
}  # fmt: skip
