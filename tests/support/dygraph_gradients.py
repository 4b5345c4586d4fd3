"""Short dygraph programs about gradients and operators, for any `fluid`: Paddle 1.8.5 wrote their results as goldens.

Each function of CASES gets a `fluid` within a dygraph guard and gives a tree of arrays, numbers and lists.  Runs under
Python 3.7 too.
"""

from typing import Any

import numpy as np

A = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")


def variable(fluid, array=A, stop_gradient=False):
    v = fluid.dygraph.to_variable(array.copy())  # Paddle's variable would share the array's memory
    v.stop_gradient = stop_gradient
    return v


def arrays(variables):
    return [None if v is None else v.numpy() for v in variables]


def total(fluid, v):
    return fluid.layers.reduce_sum(v)


def intermediates(fluid):
    x = variable(fluid)
    y = x * x
    z = total(fluid, y * 3.0)
    z.backward()
    return [x.gradient(), y.gradient(), z.gradient()]


def before_backward(fluid):
    x = variable(fluid)
    return [x.gradient(), (x * x).gradient()]


def backward_overwrites(fluid):
    x = variable(fluid)
    seen = []
    for i in range(3):
        total(fluid, x * x * float(i + 1)).backward()
        seen.append(x.gradient())
    return seen


def backward_of_one_graph_twice(fluid):
    x = variable(fluid)
    z = total(fluid, x * x)
    z.backward()
    first = x.gradient()
    z.backward()
    return [first, x.gradient()]


def backward_by_a_strategy(fluid):
    strategy = fluid.dygraph.BackwardStrategy()
    strategy.sort_sum_gradient = True
    x = variable(fluid)
    total(fluid, x * x + x).backward(strategy)
    return x.gradient()


def backward_of_another_loss(fluid):
    x, w = variable(fluid), variable(fluid)
    total(fluid, x * x).backward()
    total(fluid, w * 2.0).backward()
    return [x.gradient(), w.gradient()]


def backward_of_many_elements(fluid):
    x = variable(fluid)
    y = x * x
    y.backward()
    return [x.gradient(), y.gradient()]


def backward_of_nothing(fluid):
    x = variable(fluid, stop_gradient=True)
    y = total(fluid, x * x)
    y.backward()
    return [x.gradient(), y.stop_gradient]


def used_often(fluid):
    x = variable(fluid)
    s = x * 0.0
    for _ in range(3):
        s = s + x * x
    total(fluid, s).backward()
    return x.gradient()


def cleared(fluid):
    x = variable(fluid)
    total(fluid, x * x).backward()
    first = x.gradient()
    x.clear_gradient()
    return [first, x.gradient()]


def cleared_layer(fluid):
    layer = fluid.dygraph.Linear(2, 1)
    unused = fluid.dygraph.Linear(2, 1)
    total(fluid, layer(variable(fluid))).backward()
    before = [layer.weight.gradient(), unused.weight.gradient()]
    layer.clear_gradients()
    cleared_gradient = layer.weight.gradient()
    total(fluid, layer(variable(fluid)) * 3.0).backward()
    return [before, cleared_gradient, layer.weight.gradient()]


def minimize_after_clear(fluid):
    """Momentum goes on with a gradient of zeros."""
    layer = fluid.dygraph.Linear(2, 1, bias_attr=False)
    layer.weight.set_value(np.ones((2, 1), "float32"))
    momentum = fluid.optimizer.Momentum(0.1, 0.5, parameter_list=layer.parameters())
    loss = total(fluid, layer(variable(fluid)))
    loss.backward()
    seen = []
    for _ in range(3):
        momentum.minimize(loss)
        layer.clear_gradients()
        seen.append(layer.weight.numpy())
    return seen


def minimize_twice(fluid):
    layer = fluid.dygraph.Linear(2, 1)
    layer.weight.set_value(np.ones((2, 1), "float32"))
    sgd = fluid.optimizer.SGD(0.1, parameter_list=layer.parameters())
    loss = total(fluid, layer(variable(fluid)))
    loss.backward()
    operators, pairs = sgd.minimize(loss)
    sgd.minimize(loss)
    return [layer.weight.numpy(), layer.bias.numpy(), len(operators), len(pairs)]


def minimize_without_backward(fluid):
    layer = fluid.dygraph.Linear(2, 1)
    layer.weight.set_value(np.ones((2, 1), "float32"))
    sgd = fluid.optimizer.SGD(0.1, parameter_list=layer.parameters())
    result = sgd.minimize(total(fluid, layer(variable(fluid))))
    return [[list(part) for part in result], layer.weight.numpy()]


def gradients_accumulate_by_hand(fluid):
    """The sum of losses of several batches is the way to accumulate."""
    x = variable(fluid)
    loss: Any = None
    for i in range(3):
        term = total(fluid, x * x * float(i + 1))
        loss = term if loss is None else loss + term
    loss.backward()
    return x.gradient()


def detach(fluid):
    x = variable(fluid)
    y = x * x
    d = y.detach()
    total(fluid, d * x).backward()
    return [x.gradient(), y.gradient(), d.gradient(), d.stop_gradient, d.numpy()]


def stopped_intermediate(fluid):
    x = variable(fluid)
    y = x * x
    y.stop_gradient = True
    total(fluid, y * x).backward()
    return [x.gradient(), y.gradient()]


def stop_gradients(fluid):
    x = fluid.dygraph.to_variable(A.copy())
    layer = fluid.dygraph.Linear(2, 1)
    return [x.stop_gradient, (x * x).stop_gradient, layer.weight.stop_gradient, layer(x).stop_gradient]


def persistables(fluid):
    x = fluid.dygraph.to_variable(A.copy())
    return [x.persistable, fluid.dygraph.Linear(2, 1).weight.persistable]


def no_grad_block(fluid):
    x = variable(fluid)
    with fluid.dygraph.no_grad():
        y = x * x
    total(fluid, y * x).backward()
    return [y.stop_gradient, x.gradient()]


def no_grad_function(fluid):
    x = variable(fluid)

    @fluid.dygraph.no_grad
    def squared(v):
        return v * v

    y = squared(x)
    total(fluid, y * x).backward()
    return [y.stop_gradient, x.gradient()]


def evaluation(fluid):
    """Nothing is recorded while a layer has put everything into evaluation."""
    layer = fluid.dygraph.Linear(2, 1)
    layer.eval()
    x = variable(fluid)
    y = total(fluid, layer(x))
    y.backward()
    layer.train()
    return [y.stop_gradient, layer.weight.gradient(), x.gradient()]


def one_variable_given_back(fluid):
    v = fluid.dygraph.to_variable(A.copy())
    return [fluid.dygraph.to_variable(v) is v, fluid.dygraph.to_variable(A.copy(), name="mine").name]


def dtypes(fluid):
    seen = []
    for dtype in ("bool", "uint8", "int32", "int64", "float32", "float64"):
        v = fluid.dygraph.to_variable(np.ones((2,), dtype))
        seen.append([str(v.numpy().dtype), int(v.dtype), list(v.shape), v.stop_gradient])
    return seen


def casts(fluid):
    x = variable(fluid, A - np.float32(1.5))
    return [x.astype(kind).numpy() for kind in ("int64", "bool", "float64", "int32")]


def cast_gradient(fluid):
    x = variable(fluid)
    total(fluid, x.astype("float64") * x.astype("float64")).backward()
    return x.gradient()


def set_value(fluid):
    x = variable(fluid)
    x.set_value(A * 2)
    first = x.numpy()
    x.set_value(fluid.dygraph.to_variable(A * 3))
    return [first, x.numpy()]


def numpy_is_a_copy(fluid):
    x = variable(fluid)
    x.numpy()[:] = 7
    return x.numpy()


def indexing(fluid):
    x = variable(fluid, np.arange(24).reshape(2, 3, 4).astype("float32"))
    parts = [x[0], x[0, 1], x[:, 1], x[0:1], x[:, 0:2, 1:], x[-1], x[:, -2:], x[0, 1, 2], x[::2], x[::-1]]
    return arrays(parts)


def index_gradient(fluid):
    x = variable(fluid, np.arange(6).reshape(2, 3).astype("float32"))
    total(fluid, x[:, 1:] * x[:, 1:] + x[0, 0]).backward()
    return x.gradient()


def index_gradient_of_a_step(fluid):
    x = variable(fluid, np.arange(6).reshape(2, 3).astype("float32"))
    total(fluid, x[:, ::2] * x[:, ::2]).backward()
    return x.gradient()


def iteration(fluid):
    x = variable(fluid)
    return [len(x), [row.numpy() for row in x]]


def conversions(fluid):
    one = variable(fluid, np.array([1.5], "float32"))
    zero = variable(fluid, np.array([0], "int64"))
    place = variable(fluid, np.array([1], "int64"))
    return [bool(one), bool(zero), float(one), int(one), ["a", "b", "c"][place]]


def operators(fluid):
    x, y = variable(fluid), variable(fluid, A[::-1].copy())
    row = variable(fluid, np.array([1.0, 2.0], "float32"))
    results = [x + y, x - y, x * y, x / y, x**y, x + 1, 1 + x, x - 1, 1 - x, x * 2, 2 * x, x / 2, 1 / x, x**2, 2**x]
    results += [-x, x + row, row + x, row - x, row / x, x < y, x <= y, x > y, x >= y, x == y, x != y, x > 2, x == 2]
    return arrays(results)


def operator_gradients(fluid):
    x, y = variable(fluid), variable(fluid, A[::-1].copy())
    row = variable(fluid, np.array([1.0, 2.0], "float32"))
    total(fluid, x * y + x / y - x**y + (1 - x) * (2 / y) + row * x + row / y - (-x)).backward()
    return [x.gradient(), y.gradient(), row.gradient()]


def integer_operators(fluid):
    i, j = variable(fluid, np.array([7, -5, 6], "int64")), variable(fluid, np.array([2, 3, 4], "int64"))
    return arrays([i + 1, i - j, i * 2, j // 2, j % 2, -i, i == 6])


def shapes(fluid):
    x = variable(fluid)
    reduced = total(fluid, x)
    return [list(x.shape), list(reduced.shape), list(fluid.layers.mean(x).shape), list(x[0, 0].shape)]


def grad_of_one(fluid):
    x = variable(fluid)
    result = fluid.dygraph.grad(x * x, x)
    return [arrays(result), isinstance(result, list), result[0].stop_gradient, x.gradient()]


def grad_of_tuples(fluid):
    x = variable(fluid)
    return arrays(fluid.dygraph.grad((x * x,), (x,)))


def grad_retain(fluid):
    x = variable(fluid)
    y = x * x
    first = fluid.dygraph.grad(y, x, retain_graph=True)
    return arrays(first + fluid.dygraph.grad(y, x))


def grad_then_backward(fluid):
    x = variable(fluid)
    y = x * x
    first = fluid.dygraph.grad(y, x, retain_graph=True)
    total(fluid, y).backward()
    return [arrays(first), x.gradient()]


def grad_create_graph(fluid):
    x = variable(fluid)
    (d,) = fluid.dygraph.grad(x * x, x, create_graph=True)
    total(fluid, d * d).backward()
    return [d.numpy(), d.stop_gradient, x.gradient()]


def grad_of_grad(fluid):
    x = variable(fluid)
    y = fluid.layers.square(x) * x
    (d,) = fluid.dygraph.grad(y, x, create_graph=True)
    return arrays([d, *fluid.dygraph.grad(d, x)])


def grad_added_to_loss(fluid):
    """What `create_graph` decides: whether the gradient's own dependence on x counts."""
    seen = []
    for create_graph in (False, True):
        x = variable(fluid)
        y = x * x
        (d,) = fluid.dygraph.grad(y, x, create_graph=create_graph, retain_graph=True)
        total(fluid, y + d).backward()
        seen.append(x.gradient())
    return seen


def grad_unused(fluid):
    x, w = variable(fluid), variable(fluid)
    return arrays(fluid.dygraph.grad(x * x, [x, w], allow_unused=True))


def grad_outputs(fluid):
    x = variable(fluid)
    y, z = x * x, x * 3.0
    weights = fluid.dygraph.to_variable(A.copy())
    first = fluid.dygraph.grad([y, z], x, grad_outputs=[weights, None], retain_graph=True)
    second = fluid.dygraph.grad(y, x, grad_outputs=weights, retain_graph=True)
    third = fluid.dygraph.grad([y, z], x, grad_outputs=[None, weights])
    return arrays(first + second + third)


def grad_outputs_graph(fluid):
    x, g = variable(fluid), variable(fluid)
    (d,) = fluid.dygraph.grad(x * x, x, grad_outputs=[g], create_graph=True)
    total(fluid, d * d).backward()
    return [g.gradient(), x.gradient()]


def grad_no_grad_vars(fluid):
    seen = []
    for form in (lambda v: v, lambda v: [v], lambda v: (v,), lambda v: {v}):
        x = variable(fluid)
        y = x * x
        seen += fluid.dygraph.grad(y * x, x, no_grad_vars=form(y))
    return arrays(seen)


def grad_of_intermediates(fluid):
    x = variable(fluid)
    y = x * x
    return arrays(fluid.dygraph.grad(y * x, [x, y]))


def grad_of_two_outputs(fluid):
    x = variable(fluid)
    y = x * x
    return arrays(fluid.dygraph.grad([y, y * y], x))


def grad_of_itself(fluid):
    x = variable(fluid)
    return arrays(fluid.dygraph.grad(x, x))


def grad_leaves_parameters_alone(fluid):
    layer = fluid.dygraph.Linear(2, 1)
    x = variable(fluid)
    fluid.dygraph.grad(layer(x), x)
    return [layer.weight.gradient(), x.gradient()]


def second_gradients(fluid):
    """Gradient of the squared gradient through the ops that have one in Paddle."""
    layers = fluid.layers
    functions = [
        layers.square,
        layers.sqrt,
        lambda v: layers.mul(v, v),
        lambda v: v * v - v,
        lambda v: layers.reshape(v * v, [4]),
        lambda v: (v * v)[0],
        lambda v: layers.split(v * v, 2, 1)[0],
        lambda v: layers.expand(v * v, [2, 1]),
        lambda v: layers.leaky_relu(v * v - v * 3.5),
        lambda v: layers.relu(v * v - v * 3.5),
        lambda v: layers.reduce_mean(v * v, dim=1),
        lambda v: v * v / (v + 1.0),
    ]
    seen = []
    for function in functions:
        x = variable(fluid)
        (d,) = fluid.dygraph.grad(function(x), x, create_graph=True)
        seen.append(fluid.dygraph.grad(layers.square(d), x)[0].numpy())
    return seen


def penalised(fluid, score, parameters, batches, optimizer):
    """Steps on score(fake) - score(real) + 10 mean((|d score/d mixed| - 1)^2): losses, penalties and parameters."""
    layers = fluid.layers
    losses, penalties = [], []
    for real, fake, share in batches:
        real, fake, share = (fluid.dygraph.to_variable(array) for array in (real, fake, share))
        mixed = layers.elementwise_mul(real, share, axis=0) + layers.elementwise_mul(fake, 1.0 - share, axis=0)
        mixed.stop_gradient = False
        outputs = score(mixed)
        (gradient,) = fluid.dygraph.grad(outputs, mixed, create_graph=True, retain_graph=True)
        flat = layers.reshape(gradient, [gradient.shape[0], -1])
        norms = layers.sqrt(layers.reduce_sum(layers.square(flat), dim=1) + 1e-12)
        penalty = layers.reduce_mean(layers.square(norms - 1.0))
        loss = layers.reduce_mean(score(fake)) - layers.reduce_mean(score(real)) + penalty * 10.0
        loss.backward()
        optimizer.minimize(loss)
        for parameter in parameters:
            parameter.clear_gradient()
        losses.append(float(loss.numpy()[0]))
        penalties.append(float(penalty.numpy()[0]))
    return {"losses": losses, "penalties": penalties, "parameters": arrays(parameters)}


def drawn(seed, *shape):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32")


def penalty_batches(*shape):
    return [(drawn(3 * i, *shape), drawn(3 * i + 1, *shape), np.abs(drawn(3 * i + 2, shape[0]))) for i in range(10)]


def parameters_of(fluid, *shapes):
    owner = fluid.dygraph.Layer("critic")
    made = []
    for i, shape in enumerate(shapes):
        made.append(owner.create_parameter(list(shape)))
        made[-1].set_value(drawn(100 + i, *shape))
    return made


def gradient_penalty(fluid):
    """A critic of two products with leaky_relu: 10 steps of Adam."""
    first, offset, second = made = parameters_of(fluid, (6, 8), (8,), (8, 1))

    def score(x):
        hidden = fluid.layers.leaky_relu(fluid.layers.elementwise_add(fluid.layers.mul(x, first), offset), 0.2)
        return fluid.layers.mul(hidden, second)

    adam = fluid.optimizer.Adam(0.02, beta1=0.5, beta2=0.9, parameter_list=made)
    return penalised(fluid, score, made, penalty_batches(5, 6), adam)


def gradient_penalty_of_images(fluid):
    """A critic of Conv2D, relu and a product: 10 steps of SGD."""
    conv = fluid.dygraph.Conv2D(1, 3, 3, stride=2, padding=1, bias_attr=False)
    conv.weight.set_value(drawn(110, 3, 1, 3, 3))
    (last,) = parameters_of(fluid, (12, 1))

    def score(x):
        hidden = fluid.layers.reshape(fluid.layers.relu(conv(x)), [x.shape[0], -1])
        return fluid.layers.mul(hidden, last)

    made = [conv.weight, last]
    sgd = fluid.optimizer.SGD(0.01, parameter_list=made)
    return penalised(fluid, score, made, penalty_batches(4, 1, 4, 4), sgd)


CASES = [
    intermediates,
    before_backward,
    backward_overwrites,
    backward_of_one_graph_twice,
    backward_by_a_strategy,
    backward_of_another_loss,
    backward_of_many_elements,
    backward_of_nothing,
    used_often,
    cleared,
    cleared_layer,
    minimize_after_clear,
    minimize_twice,
    minimize_without_backward,
    gradients_accumulate_by_hand,
    detach,
    stopped_intermediate,
    stop_gradients,
    persistables,
    no_grad_block,
    no_grad_function,
    evaluation,
    one_variable_given_back,
    dtypes,
    casts,
    cast_gradient,
    set_value,
    numpy_is_a_copy,
    indexing,
    index_gradient,
    index_gradient_of_a_step,
    iteration,
    conversions,
    operators,
    operator_gradients,
    integer_operators,
    shapes,
    grad_of_one,
    grad_of_tuples,
    grad_retain,
    grad_then_backward,
    grad_create_graph,
    grad_of_grad,
    grad_added_to_loss,
    grad_unused,
    grad_outputs,
    grad_outputs_graph,
    grad_no_grad_vars,
    grad_of_intermediates,
    grad_of_two_outputs,
    grad_of_itself,
    grad_leaves_parameters_alone,
    second_gradients,
    gradient_penalty,
    gradient_penalty_of_images,
]


def grad_of_unreachable(fluid):
    x, w = variable(fluid), variable(fluid)
    fluid.dygraph.grad(x * x, [x, w])


def grad_of_stopped_input(fluid):
    x = variable(fluid, stop_gradient=True)
    fluid.dygraph.grad(x * x, x)


def grad_of_nothing(fluid):
    fluid.dygraph.grad([], variable(fluid))


def grad_of_no_inputs(fluid):
    x = variable(fluid)
    fluid.dygraph.grad(x * x, [])


def grad_of_an_array(fluid):
    fluid.dygraph.grad(A, variable(fluid))


def grad_outputs_too_few(fluid):
    x = variable(fluid)
    fluid.dygraph.grad([x * x, x * 2.0], x, grad_outputs=[None])


def grad_outputs_of_another_shape(fluid):
    x = variable(fluid)
    fluid.dygraph.grad(x * x, x, grad_outputs=[fluid.dygraph.to_variable(np.ones(2, "float32"))])


def grad_not_only_inputs(fluid):
    x = variable(fluid)
    fluid.dygraph.grad(x * x, x, only_inputs=False)


def grad_of_an_input_twice(fluid):
    x = variable(fluid)
    fluid.dygraph.grad(x * x, [x, x])


def grad_of_an_output_twice(fluid):
    x = variable(fluid)
    y = x * x
    fluid.dygraph.grad([y, y], x)


def set_value_of_another_shape(fluid):
    variable(fluid).set_value(np.ones(3, "float32"))


def set_value_of_another_type(fluid):
    variable(fluid).set_value(A.astype("float64"))


def variable_of_a_list(fluid):
    fluid.dygraph.to_variable([1, 2, 3])


def truth_of_many(fluid):
    bool(variable(fluid))


def number_of_many(fluid):
    float(variable(fluid))


REFUSED = [
    grad_of_unreachable,
    grad_of_stopped_input,
    grad_of_nothing,
    grad_of_no_inputs,
    grad_of_an_array,
    grad_outputs_too_few,
    grad_outputs_of_another_shape,
    grad_not_only_inputs,
    grad_of_an_input_twice,
    grad_of_an_output_twice,
    set_value_of_another_shape,
    set_value_of_another_type,
    variable_of_a_list,
    truth_of_many,
    number_of_many,
]
