"""Programs with loops, branches and structured losses, each built alike by Paddle 1.8.5 and by fluidc.

Every function of ``CASES`` builds one and says what is fed, fetched and differentiated.  Runs under Python 3.7, too.
"""

from collections import namedtuple

import numpy as np

# feed: name -> array, or (array, lengths) of sequences; outs: fetched; wrt: whose gradients are asked for of the sum
# of squares of ``outs`` (or of ``costs``, where these are given).
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


def tokens(fluid, name, lengths, width, scale=1):
    """Sequences [T, width] whose gradient is that of the parameter ``name``, and what is fed for them."""
    total = sum(lengths)
    ids = fluid.data(name + "_ids", [-1, 1], "int64", 1)
    value = fluid.initializer.NumpyArrayInitializer(scale * numbers(name, total, width))
    attr = fluid.ParamAttr(name=name, initializer=value)
    x = fluid.layers.embedding(ids, [total, width], param_attr=attr)
    return x, {name + "_ids": (np.arange(total).reshape(total, 1), lengths)}


def costs_of(fluid, made):
    """The sum of squares that is differentiated."""
    layers = fluid.layers
    parts = made.outs if made.costs is None else made.costs
    squares = [layers.elementwise_mul(v, v) for v in parts]
    pooled = [layers.sequence_pool(v, "sum") if v.lod_level else v for v in squares]
    return layers.sums([layers.reduce_sum(v) for v in pooled])


def built_program(fluid, name):
    """A case and its programs."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        return CASES[name](fluid), main, startup


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
        if startup.global_block().ops:
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
    x, feed = tokens(fluid, "x", lengths, labels, scale=3)
    label = fluid.data("label", [-1, 1], "int64", 1)
    feed["label"] = (integers("label", labels, sum(lengths), 1), lengths)
    outs, _, costs = _crf(fluid, x, label, labels)
    return built(feed, outs, ["x", "crfw"], costs)


@case
def crf_sequences(fluid):
    return _crf_sequences(fluid, [4, 1, 6, 2], 5)


@case
def crf_sequences_empty(fluid):
    return _crf_sequences(fluid, [3, 0, 2], 3)


# Arrays and loops that count ------------------------------------------------------------------------------------------


def _number(fluid, value, dtype="int64"):
    return fluid.layers.fill_constant([1], dtype, value)


@case
def arrays_outside(fluid):
    """Constant indices, a gap, and joining."""
    layers = fluid.layers
    x, y = fed(fluid, "x", [-1, 3]), fed(fluid, "y", [-1, 3])
    array = layers.create_array("float32")
    layers.array_write(x, _number(fluid, 0), array)
    layers.array_write(layers.elementwise_mul(x, y), _number(fluid, 1), array)
    layers.array_write(y, _number(fluid, 2), array)
    joined, sizes = layers.tensor_array_to_tensor(array, axis=1)
    stacked, ones = layers.tensor_array_to_tensor(array, axis=0, use_stack=True)
    gap = layers.array_write(x, _number(fluid, 10))
    outs = [joined, sizes, stacked, ones, layers.array_length(array), layers.array_length(gap)]
    feed = {"x": numbers("x", 2, 3), "y": numbers("y", 2, 3)}
    return built(feed, outs, [x, y], [joined])


@case
def arrays_written_twice(fluid):
    layers = fluid.layers
    x, y = fed(fluid, "x", [-1, 3]), fed(fluid, "y", [-1, 3])
    array = layers.array_write(x, _number(fluid, 0))
    before = layers.array_read(array, _number(fluid, 0))
    layers.array_write(layers.elementwise_add(x, y), _number(fluid, 0), array)
    after = layers.array_read(array, _number(fluid, 0))
    feed = {"x": numbers("x", 2, 3), "y": numbers("y", 2, 3)}
    return built(feed, [before, after, layers.array_length(array)])


@case
def while_memory(fluid):
    """A recurrent net: the item before is read, the next one written; the last one and all of them are read behind."""
    layers = fluid.layers
    x, state = fed(fluid, "x", [-1, 4]), fed(fluid, "state", [-1, 4])
    i, n = _number(fluid, 0), _number(fluid, 3)
    i.stop_gradient = False
    memory = layers.array_write(state, i)
    less = layers.less_than(i, n)
    loop = layers.While(less)
    with loop.block():
        before = layers.array_read(memory, i)
        new = layers.fc(
            [before, x], 4, param_attr=[parameter(fluid, "a", 4, 4), parameter(fluid, "b", 4, 4)], act="tanh"
        )
        layers.increment(i)
        layers.array_write(new, i, memory)
        layers.less_than(i, n, cond=less)
    last = layers.array_read(memory, n)
    joined, _ = layers.tensor_array_to_tensor(memory, axis=1)
    outs = [last, joined, layers.array_length(memory)]
    return built({"x": numbers("x", 2, 4), "state": numbers("state", 2, 4)}, outs, [x, state, "a", "b"], [last])


@case
def while_inputs(fluid):
    """Items are read, and others written at the index of the step."""
    layers = fluid.layers
    x = fed(fluid, "x", [-1, 4])
    data = layers.create_array("float32")
    for k in range(4):
        layers.array_write(layers.scale(x, float(k) - 1.5), _number(fluid, k), data)
    i, n = _number(fluid, 0), _number(fluid, 4)
    i.stop_gradient = False
    results = layers.create_array("float32")
    less = layers.less_than(i, n)
    loop = layers.While(less)
    with loop.block():
        item = layers.array_read(data, i)
        layers.array_write(layers.elementwise_mul(item, item), i, results)
        layers.increment(i)
        layers.less_than(i, n, cond=less)
    joined, sizes = layers.tensor_array_to_tensor(results, axis=0)
    return built({"x": numbers("x", 2, 4)}, [joined, sizes], [x], [joined])


@case
def while_growing(fluid):
    """Items that differ in shape: each step joins one more row."""
    layers = fluid.layers
    x = fed(fluid, "x", [2, 3])
    i, n = _number(fluid, 0), _number(fluid, 3)
    i.stop_gradient = False
    array = layers.array_write(x, i)
    less = layers.less_than(i, n)
    loop = layers.While(less)
    with loop.block():
        before = layers.array_read(array, i)
        layers.increment(i)
        layers.array_write(layers.concat([before, layers.scale(x, 0.5)], axis=0), i, array)
        layers.less_than(i, n, cond=less)
    last = layers.array_read(array, n)
    return built({"x": numbers("x", 2, 3)}, [last, layers.array_length(array)], [x], [last])


# Recurrent nets on sequences ------------------------------------------------------------------------------------------


@case
def dynamic_rnn(fluid):
    """Memories that are filled, reordered, and (as Paddle has it) taken in the order of the longest."""
    layers = fluid.layers
    lengths = [2, 4, 1, 3]
    sentence, feed = tokens(fluid, "sentence", lengths, 4)
    start = fed(fluid, "start", [-1, 3])
    rnn = layers.DynamicRNN()
    with rnn.block():
        word = rnn.step_input(sentence)
        h = rnn.memory(shape=[4], value=0.5)
        g = rnn.memory(init=start, need_reorder=True)
        f = rnn.memory(init=start)
        attrs = [parameter(fluid, "a", 4, 4), parameter(fluid, "b", 4, 4)]
        h1 = layers.fc([word, h], 4, param_attr=attrs, act="tanh", bias_attr=False)
        attrs = [parameter(fluid, "c", 4, 3), parameter(fluid, "d", 3, 3), parameter(fluid, "e", 3, 3)]
        g1 = layers.fc([h1, g, f], 3, param_attr=attrs, act="sigmoid", bias_attr=False)
        rnn.update_memory(h, h1)
        rnn.update_memory(g, g1)
        rnn.update_memory(f, layers.scale(g1, 0.5))
        rnn.output(h1, g1)
    first, second = rnn()
    last = layers.sequence_last_step(first)
    feed = dict(feed, start=numbers("start", 4, 3))
    return built(feed, [first, second, last], ["sentence", start, "a", "b", "c", "d", "e"])


@case
def dynamic_rnn_attention(fluid):
    """A decoder that looks at all states of an encoder in every step."""
    layers = fluid.layers
    size, source_lengths, target_lengths = 4, [3, 1, 5], [2, 4, 3]
    encoded, feed = tokens(fluid, "encoded", source_lengths, size)
    target, more = tokens(fluid, "target", target_lengths, 3)
    feed.update(more)
    projected = layers.fc(encoded, size, param_attr=parameter(fluid, "project", size, size), bias_attr=False)
    boot = layers.fc(
        layers.sequence_first_step(encoded), size, param_attr=parameter(fluid, "boot", size, size), act="tanh"
    )

    def attention(states, keys, query):
        query = layers.fc(query, size, param_attr=parameter(fluid, "query", size, size), bias_attr=False)
        mixed = layers.elementwise_add(keys, layers.sequence_expand(x=query, y=keys))
        weights = layers.fc(mixed, 1, param_attr=parameter(fluid, "weigh", size, 1), act="tanh", bias_attr=False)
        weights = layers.reshape(layers.sequence_softmax(weights), [-1])
        return layers.sequence_pool(layers.elementwise_mul(states, weights, axis=0), "sum")

    rnn = layers.DynamicRNN()
    with rnn.block():
        word = rnn.step_input(target)
        states = rnn.static_input(encoded)
        keys = rnn.static_input(projected)
        hidden = rnn.memory(init=boot, need_reorder=True)
        context = attention(states, keys, hidden)
        attrs = [parameter(fluid, "a", size, size), parameter(fluid, "b", 3, size), parameter(fluid, "c", size, size)]
        new = layers.fc([context, word, hidden], size, param_attr=attrs, act="tanh", bias_attr=False)
        rnn.update_memory(hidden, new)
        rnn.output(layers.fc(new, 5, param_attr=parameter(fluid, "out", size, 5), act="softmax"))
    label = fluid.data("label", [-1, 1], "int64", 1)
    feed["label"] = (integers("label", 5, sum(target_lengths), 1), target_lengths)
    out = rnn()
    wrt = ["encoded", "target", "project", "boot", "query", "weigh", "a", "b", "c", "out"]
    return built(feed, [out, layers.cross_entropy(out, label)], wrt)


@case
def dynamic_rnn_undefined_beyond(fluid):
    """A step without a finite gradient at zeros, and a memory that runs out right behind the end of a sequence."""
    layers = fluid.layers
    words, feed = tokens(fluid, "words", [3, 1, 2], 2)
    budget = fed(fluid, "budget", [-1, 1])
    rnn = layers.DynamicRNN()
    with rnn.block():
        word = rnn.step_input(words)
        left = rnn.memory(init=budget, need_reorder=True)
        h = layers.fc(word, 3, param_attr=parameter(fluid, "a", 2, 3), bias_attr=False)
        length = layers.sqrt(layers.reduce_sum(layers.square(h), dim=[1], keep_dim=True))
        rnn.update_memory(left, layers.scale(left, bias=-1.0))
        rnn.output(layers.elementwise_div(h, length), layers.log(layers.elementwise_mul(left, length)))
    feed = dict(feed, budget=np.array([[2.5], [0.5], [1.5]], "float32"))
    return built(feed, rnn(), ["words", budget, "a"])


# Branches -------------------------------------------------------------------------------------------------------------


def _twice(fluid, x):
    """The double of ``x``, which passes no gradient."""
    found = fluid.layers.scale(x, 2.0)
    found.stop_gradient = True
    return found


@case
def stops_in_a_loop(fluid):
    """Only one factor of a product has a gradient; nor does the order of columns have one."""
    layers = fluid.layers
    words, feed = tokens(fluid, "words", [3, 1, 2], 2)
    rnn = layers.DynamicRNN()
    with rnn.block():
        word, before = rnn.step_input(words), rnn.memory(shape=[3], value=0.1)
        h = layers.fc(word, 3, param_attr=parameter(fluid, "a", 2, 3), bias_attr=False)
        largest, _ = layers.topk(h, 1)
        after = layers.tanh(layers.elementwise_mul(h, _twice(fluid, h)) + before)
        rnn.update_memory(before, after)
        rnn.output(layers.elementwise_mul(after, largest))
    return built(feed, [rnn()], ["words", "a"])


@case
def stops_in_a_branch(fluid):
    """As in a loop, in a block for some rows."""
    layers = fluid.layers
    x, y = fed(fluid, "x", [-1, 4]), fluid.data("y", [-1, 1])
    ie = layers.IfElse(layers.less_than(y, layers.fill_constant_batch_size_like(y, [-1, 1], "float32", 0.0)))
    with ie.true_block():
        rows = ie.input(x)
        ie.output(layers.elementwise_mul(rows, _twice(fluid, rows)))
    with ie.false_block():
        ie.output(layers.scale(ie.input(x), 0.5))
    sides = np.array([[0.5], [-0.5], [-1.0], [2.0], [0.25]], "float32")
    return built({"x": numbers("x", 5, 4), "y": sides}, ie(), [x])


@case
def if_else_undefined_beyond(fluid):
    """Blocks that are not defined on the rows of each other."""
    layers = fluid.layers
    x = fed(fluid, "x", [-1, 2])
    y = layers.fc(x, 1, param_attr=parameter(fluid, "a", 2, 1), bias_attr=False)
    ie = layers.IfElse(layers.less_than(y, layers.fill_constant_batch_size_like(y, [-1, 1], "float32", 0.0)))
    with ie.true_block():
        ie.output(layers.sqrt(layers.scale(ie.input(y), -1.0)))
    with ie.false_block():
        ie.output(layers.log(ie.input(y)))
    return built({"x": numbers("x", 6, 2)}, ie(), [x, "a"])


@case
def if_else(fluid):
    """Rows of a batch take the result of the block that their condition names."""
    layers = fluid.layers
    x, y = fed(fluid, "x", [-1, 4]), fluid.data("y", [-1, 1])
    ie = layers.IfElse(layers.less_than(y, layers.fill_constant_batch_size_like(y, [-1, 1], "float32", 0.0)))
    with ie.true_block():
        rows = ie.input(x)
        ie.output(layers.fc(rows, 3, param_attr=parameter(fluid, "a", 4, 3), act="tanh"), layers.scale(rows, 2.0))
    with ie.false_block():
        rows = ie.input(x)
        ie.output(layers.softmax(layers.fc(rows, 3, param_attr=parameter(fluid, "b", 4, 3))), layers.scale(rows, 0.5))
    sides = np.array([[0.5], [-0.5], [-1.0], [2.0], [0.25]], "float32")
    return built({"x": numbers("x", 5, 4), "y": sides}, ie(), [x, "a", "b"])


def _cases_of(fluid, number):
    layers = fluid.layers
    x = fed(fluid, "x", [2, 3])
    k = fluid.data("k", [1], "int64")

    def two():
        return layers.scale(x, 2.0)

    def square():
        return layers.elementwise_mul(x, x)

    def half():
        return layers.scale(x, 0.5)

    one = _number(fluid, 1)
    outs = [
        layers.cond(layers.less_than(k, one), two, square),
        layers.case([(layers.less_than(k, one), square), (layers.equal(k, one), half)], default=two),
        layers.switch_case(k, {1: half, 2: square}, default=two),
    ]
    return built({"x": numbers("x", 2, 3), "k": np.array([number])}, outs, [x])


@case
def branches_first(fluid):
    return _cases_of(fluid, 0)


@case
def branches_second(fluid):
    return _cases_of(fluid, 1)


@case
def branches_third(fluid):
    return _cases_of(fluid, 2)


@case
def switch(fluid):
    layers = fluid.layers
    step = fluid.data("step", [1], "float32")
    rate = layers.create_global_var([1], 0.0, "float32", persistable=True, name="rate")
    with layers.Switch() as choice:
        with choice.case(layers.less_than(step, _number(fluid, 2.0, "float32"))):
            layers.assign(_number(fluid, 0.1, "float32"), rate)
        with choice.case(layers.less_than(step, _number(fluid, 4.0, "float32"))):
            layers.assign(_number(fluid, 0.2, "float32"), rate)
        with choice.default():
            layers.assign(_number(fluid, 0.3, "float32"), rate)
    return built({"step": np.array([3.0], "float32")}, [rate])


@case
def while_by_value(fluid):
    """A loop whose end is computed."""
    layers = fluid.layers
    x = fluid.data("x", [1], "float32")
    total, bound = layers.assign(x), _number(fluid, 10.0, "float32")
    less = layers.less_than(total, bound)
    loop = layers.While(less)
    with loop.block():
        layers.assign(layers.scale(total, 2.0), total)
        layers.less_than(total, bound, cond=less)
    (i, y) = layers.while_loop(
        lambda i, y: layers.less_than(i, _number(fluid, 4)),
        lambda i, y: [layers.increment(i), layers.elementwise_add(y, x)],
        [_number(fluid, 1), layers.assign(x)],
    )
    return built({"x": np.array([0.7], "float32")}, [total, i, y])


# Connectionist temporal classification --------------------------------------------------------------------------------


def _ctc_padded(fluid, steps, counts, blank=0, norm=False):
    rows, length, most = len(steps), max(steps), max(counts)
    x = fed(fluid, "x", [length, -1, 4])
    label = fluid.data("label", [-1, most], "int32")
    names = [fluid.data(name, [-1], "int64") for name in ("steps", "counts")]
    labels = np.array([[1, 1, 2], [2, 3, 1], [3, 1, 2], [1, 1, 1]], "int32")[:rows, :most] - (blank > 0)
    feed = {
        "x": 3 * numbers("x", length, rows, 4),
        "label": labels,
        "steps": np.array(steps),
        "counts": np.array(counts),
    }
    return built(feed, [fluid.layers.warpctc(x, label, blank, norm, *names)], [x])


@case
def ctc_padded(fluid):
    return _ctc_padded(fluid, [6, 4, 2, 5], [3, 2, 1, 0])


@case
def ctc_normed(fluid):
    return _ctc_padded(fluid, [5, 4, 2], [3, 2, 1], blank=3, norm=True)


@case
def ctc_too_short(fluid):
    """Labels that do not fit: three in three steps, with a repeat."""
    return _ctc_padded(fluid, [3, 2], [3, 1])


@case
def ctc_sequences(fluid):
    steps, counts = [6, 3, 4], [2, 1, 3]
    x, feed = tokens(fluid, "x", steps, 4, scale=3)
    label = fluid.data("label", [-1, 1], "int32", 1)
    feed["label"] = (1 + integers("label", 3, sum(counts), 1).astype("int32"), counts)
    return built(feed, [fluid.layers.warpctc(x, label)], ["x"])


# Many classes ---------------------------------------------------------------------------------------------------------


@case
def hsigmoid(fluid):
    """Ways of two and of three nodes."""
    x, label = fed(fluid, "x", [-1, 3]), fluid.data("label", [-1, 1], "int64")
    cost = fluid.layers.hsigmoid(x, label, 6, parameter(fluid, "w", 5, 3), parameter(fluid, "b", 5, 1))
    return built({"x": numbers("x", 4, 3), "label": np.array([[0], [5], [3], [1]])}, [cost], [x, "w", "b"])


@case
def hsigmoid_custom(fluid):
    layers = fluid.layers
    x, label = fed(fluid, "x", [-1, 3]), fluid.data("label", [-1, 1], "int64")
    table, code = fluid.data("table", [-1, 3], "int64"), fluid.data("code", [-1, 3], "int64")
    paths = {"path_table": table, "path_code": code, "is_custom": True}
    cost = layers.hsigmoid(x, label, 4, parameter(fluid, "w", 4, 3), bias_attr=False, **paths)
    feed = {
        "x": numbers("x", 3, 3),
        "label": np.array([[0], [1], [2]]),
        "table": np.array([[0, 2, -1], [0, 1, 3], [0, -1, -1]]),
        "code": np.array([[0, 1, -1], [1, 0, 1], [1, -1, -1]]),
    }
    return built(feed, [cost], [x, "w"])


def _nce(fluid, **options):
    x, label = fed(fluid, "x", [-1, 3]), fluid.data("label", [-1, 1], "int64")
    sizes = {"num_total_classes": 7, "param_attr": parameter(fluid, "w", 7, 3)}
    cost = fluid.layers.nce(x, label, bias_attr=parameter(fluid, "b", 7, 1), num_neg_samples=4, **sizes, **options)
    op = next(op for op in fluid.default_main_program().global_block().ops if op.type == "nce")
    block = fluid.default_main_program().global_block()
    drawn = [block.var(op.output(slot)[0]) for slot in ("SampleLogits", "SampleLabels")]
    feed = {"x": numbers("x", 3, 3), "label": np.array([[0], [5], [3]])}
    return built(feed, [cost, *drawn], [x, "w", "b"], [cost])


@case
def nce_seeded(fluid):
    return _nce(fluid, seed=5)
