"""Writes golden/layers.json with paddlepaddle 1.8.5: outputs and input gradients of layers.

Run with a Python that has paddle installed (3.7); nothing else uses this file.
"""

import json
import pathlib

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

L = fluid.layers


def draw(name, *shape):
    """Class numbers, probabilities or numbers in [-2, 2], by the first letters of the name."""
    state = np.random.RandomState(sum(map(ord, name)))
    if name.startswith("label"):
        return state.randint(0, 3, shape).astype("int64")
    if name.startswith("p"):
        e = np.exp(state.uniform(-1, 1, shape))
        return (e / e.sum(-1, keepdims=True)).astype("float32")
    return state.uniform(-2, 2, shape).astype("float32")


ATTR = fluid.ParamAttr
LAYERS = {
    "softmax": ([("x", 4, 3)], lambda x: L.softmax(x)),
    "log_softmax": ([("x", 4, 3)], lambda x: L.log_softmax(x)),
    "softmax_cross_entropy": ([("x", 4, 3), ("label", 4, 1)], lambda x, y: L.softmax_with_cross_entropy(x, y)),
    "softmax_cross_entropy_soft": (
        [("x", 4, 3), ("p", 4, 3)],
        lambda x, p: L.softmax_with_cross_entropy(x, p, soft_label=True),
    ),
    "cross_entropy": ([("p", 4, 3), ("label", 4, 1)], lambda p, y: L.cross_entropy(p, y)),
    "cross_entropy_soft": ([("p", 4, 3), ("pq", 4, 3)], lambda p, q: L.cross_entropy(p, q, soft_label=True)),
    "sigmoid_cross_entropy": ([("x", 4, 3), ("p", 4, 3)], lambda x, p: L.sigmoid_cross_entropy_with_logits(x, p)),
    "square_error": ([("x", 4, 3), ("y", 4, 3)], lambda x, y: L.square_error_cost(x, y)),
    "huber": ([("x", 4, 1), ("y", 4, 1)], lambda x, y: L.huber_loss(x, y, 0.7)),
    "smooth_l1": ([("x", 4, 3), ("y", 4, 3)], lambda x, y: L.smooth_l1(x, y, sigma=1.5)),
    "log_loss": ([("p", 4, 1), ("pq", 4, 1)], lambda p, q: L.log_loss(L.scale(p, 0.4), L.scale(q, 0.3))),
    "kldiv_mean": ([("x", 4, 3), ("p", 4, 3)], lambda x, p: L.kldiv_loss(x, p, "mean")),
    "kldiv_batchmean": ([("x", 4, 3), ("p", 4, 3)], lambda x, p: L.kldiv_loss(x, p, "batchmean")),
    "rank": (
        [("pl", 4, 1), ("x", 4, 1), ("y", 4, 1)],
        lambda p, x, y: L.rank_loss(L.scale(p, 0.6), x, y),
    ),
    "margin_rank": ([("pl", 4, 1), ("x", 4, 1), ("y", 4, 1)], lambda p, x, y: L.margin_rank_loss(p, x, y, 0.1)),
    "label_smooth": ([("p", 4, 3)], lambda p: L.label_smooth(p, epsilon=0.2)),
    "l2_normalize": ([("x", 4, 3)], lambda x: L.l2_normalize(x, 1)),
    "cos_sim": ([("x", 4, 3), ("y", 4, 3)], lambda x, y: L.cos_sim(x, y)),
    "layer_norm": ([("x", 3, 4, 2)], lambda x: L.layer_norm(x, begin_norm_axis=1)),
    "group_norm": ([("x", 2, 4, 3, 2)], lambda x: L.group_norm(x, 2)),
    "instance_norm": ([("x", 2, 4, 3, 2)], lambda x: L.instance_norm(x)),
    "batch_norm": ([("x", 3, 2, 2, 2)], lambda x: L.batch_norm(x)),
    "conv2d": (
        [("x", 2, 4, 5, 6), ("w", 6, 2, 3, 2)],
        lambda x, w: conv(x, w),
    ),
    "max_pool": ([("x", 2, 2, 5, 6)], lambda x: L.pool2d(x, [3, 2], "max", [2, 2], [1, 0], ceil_mode=True)),
    "avg_pool": ([("x", 2, 2, 5, 6)], lambda x: L.pool2d(x, [3, 2], "avg", [2, 2], [1, 0], ceil_mode=True)),
    "avg_pool_inclusive": (
        [("x", 2, 2, 5, 6)],
        lambda x: L.pool2d(x, [3, 2], "avg", [2, 2], [1, 0], ceil_mode=True, exclusive=False),
    ),
}


def conv(x, w):
    helper = fluid.layer_helper.LayerHelper("conv2d")
    out = helper.create_variable_for_type_inference("float32")
    attributes = {"strides": [2, 1], "paddings": [1, 0, 2, 1], "dilations": [1, 2], "groups": 2, "use_cudnn": False}
    helper.append_op(type="conv2d", inputs={"Input": x, "Filter": w}, outputs={"Output": out}, attrs=attributes)
    return out


def run(inputs, layer):
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.scope_guard(scope), fluid.program_guard(main, startup), fluid.unique_name.guard():
        feeds = {name: draw(name, *shape) for name, *shape in inputs}
        values = []
        for name, array in feeds.items():
            value = fluid.data(name, array.shape, str(array.dtype))
            value.stop_gradient = array.dtype != np.float32
            values.append(value)
        out = layer(*values)
        # A cotangent that differs from element to element.
        weights = L.assign(np.cos(np.arange(np.prod(out.shape), dtype="float32")).reshape(out.shape))
        wanted = [v for v in values if not v.stop_gradient]
        grads = fluid.gradients([L.reduce_sum(L.elementwise_mul(out, weights))], wanted)
        grads = {v.name: g for v, g in zip(wanted, grads) if g is not None}
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        found = exe.run(main, feed=feeds, fetch_list=[out, *grads.values()])
        kept = {v.name: np.array(scope.find_var(v.name).get_tensor()).ravel().tolist()
                for v in main.list_vars() if v.persistable and v.name.endswith(("w_1", "w_2"))}  # fmt: skip
    slopes = {name: g.ravel().tolist() for name, g in zip(grads, found[1:])}
    fed = {name: {"shape": list(x.shape), "data": x.ravel().tolist()} for name, x in feeds.items()}
    out = {"out": found[0].ravel().tolist(), "shape": list(found[0].shape)}
    return {"feeds": fed, **out, "grads": slopes, "state": kept}


path = pathlib.Path(__file__).with_name("golden") / "layers.json"
results = {name: run(*entry) for name, entry in LAYERS.items()}
path.write_text(json.dumps(results, separators=(",", ":")) + "\n")
