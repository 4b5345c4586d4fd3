"""Layers of dygraph: layers.json, layers.npz.

"cases": per name the class, its arguments and its inputs (how to build and call it); `full_name`, the state dict
(keys in order, with each parameter's name, trainable, stop_gradient, and default value drawn with random_seed 7), the
values that the parameters then were given, outputs, weights, loss = sum(weights * outputs) over all outputs, gradients
of inputs and parameters (None: no gradient), the state after the forward pass, and where it differs the outputs after
eval().  `layers` stands for the sublayers that a container is given; an argument {"variable": array} is a variable,
and {"attr": {}} a ParamAttr.
"structure": names and orders in Layers that use everything, and hooks.  "dropout": evaluation and scale in training.

What was found:
- Layer.eval() and train() are global: besides `training` of the layer and its sublayers they switch the tracer of the
  whole process.  In evaluation nothing is recorded: outputs have stop_gradient True and backward() leaves every
  gradient None.  fluid.layers.dropout obeys the tracer; the layers Dropout and BatchNorm obey their own `training`.
- BatchNorm's is_test argument does nothing in dygraph (`training` decides).  Its state dict has weight, bias, _mean and
  _variance; the last two are Parameters with trainable False, and parameters() lists them.  use_global_stats needs a
  ParamAttr (AttributeError without one) and computes with the running statistics in training too.
- GroupNorm has neither weight nor bias by default: None means False there.  The gradient of its input is wrong (it does
  not sum to zero over a group, as the gradient of a function that ignores a constant must); parameters' are right.
- SpectralNorm keeps weight_u and weight_v as they are (power iterations start from them anew at each call) and gives
  them no gradient, although trainable is True.
- SpectralNorm's gradient is neither that of its output (finite differences) nor the usual one that takes the vectors
  for constants.
- GRUUnit's gradient counts that of its first output, the hidden state, alone: gradients of the two others are ignored.
  Their weights are 0 here.  origin_mode is ignored in dygraph.
- BCELoss and NLLLoss give labels no gradient; MSELoss and L1Loss do.
- InstanceNorm's state dict says scale and bias, not weight and bias.
- epsilon of batch, layer and instance norm must be in [0, 0.001]; GroupNorm's need not.
- Two parameters of one name, alive or not, are refused within a guard: "parameter name [q] have be been used".
  create_parameter(attr=False) gives None.
- set_dict demands every key of the layer's state dict (RuntimeError) and equal shape and dtype (AssertionError),
  and warns of keys that it does not use.  With use_structured_name=False the keys are the parameters' names.
"""

from typing import Any

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from common import values
from paddle.fluid.dygraph import to_variable  # pyright: ignore[reportMissingImports]
from paddle_models import layer_of, uniform
from trees import GOLDENS, write_tree

X5 = uniform(12, 1, 2, 3, 4, 3)
X4 = uniform(1, 2, 4, 7, 6)
X3 = uniform(2, 2, 3, 4)
X2 = uniform(3, 5, 4)
IDS = np.array([[1, 0, 4], [4, 2, 0]], "int64")
LABELS = np.array([1, 0, 3, 2, 1], "int64")
CLASS_WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25], "float32")


def case(kind, args, inputs, evaluated=False, **kwargs):
    return {"class": kind, "args": list(args), "kwargs": kwargs, "inputs": inputs, "evaluated": evaluated}


def cases():
    return {
        "linear": case("Linear", (4, 5), [X2]),
        "linear_act": case("Linear", (4, 5), [X3], act="relu"),
        "linear_no_bias": case("Linear", (4, 5), [X2], bias_attr=False),
        "conv2d": case("Conv2D", (4, 3, 3), [X4]),
        "conv2d_groups": case("Conv2D", (4, 6, 3), [X4], groups=2, stride=2, padding=1, act="sigmoid"),
        "conv2d_dilation": case("Conv2D", (4, 2, [3, 2]), [X4], dilation=[2, 1], padding=[2, 0], bias_attr=False),
        "conv2d_depthwise": case("Conv2D", (4, 8, 3), [X4], groups=4, padding=1),
        "conv2d_transpose": case("Conv2DTranspose", (4, 3, 3), [X4]),
        "conv2d_transpose_stride": case("Conv2DTranspose", (4, 6, 3), [X4], stride=2, padding=1, groups=2),
        "conv2d_transpose_dilation": case("Conv2DTranspose", (4, 2, [3, 2]), [X4], dilation=2, act="tanh"),
        "conv2d_transpose_output": case("Conv2DTranspose", (4, 2, 3), [X4], stride=2, output_size=[16, 13]),
        "conv3d": case("Conv3D", (2, 4, [2, 3, 1]), [X5], stride=[1, 2, 1], padding=1, groups=2, act="relu"),
        "conv3d_dilation": case("Conv3D", (2, 3, 2), [X5], dilation=2, bias_attr=False),
        "conv3d_transpose": case("Conv3DTranspose", (2, 3, 2), [X5], stride=2, padding=1),
        "pool2d_max": case("Pool2D", (2,), [X4], pool_stride=2),
        "pool2d_avg": case("Pool2D", (3, "avg"), [X4], pool_stride=2, pool_padding=1),
        "pool2d_inclusive": case("Pool2D", (3, "avg", 2, 1), [X4], exclusive=False),
        "pool2d_ceil": case("Pool2D", ([3, 2], "max", [2, 1]), [X4], ceil_mode=True),
        "pool2d_global": case("Pool2D", (), [X4], pool_type="avg", global_pooling=True),
        "batch_norm": case("BatchNorm", (4,), [X4], evaluated=True),
        "batch_norm_2d": case("BatchNorm", (4,), [X2], evaluated=True, momentum=0.7, epsilon=0.001, act="relu"),
        "batch_norm_nhwc": case("BatchNorm", (6,), [X4], evaluated=True, data_layout="NHWC"),
        "batch_norm_is_test": case("BatchNorm", (4,), [X4], evaluated=True, is_test=True),
        "batch_norm_global": case("BatchNorm", (4,), [X4], True, use_global_stats=True, param_attr={"attr": {}}),
        "batch_norm_trainable_statistics": case("BatchNorm", (4,), [X4], evaluated=True, trainable_statistics=True),
        "layer_norm": case("LayerNorm", (4,), [X3]),
        "layer_norm_shape": case("LayerNorm", ([3, 4],), [X3], epsilon=0.001, act="relu"),
        "layer_norm_no_scale": case("LayerNorm", ([3, 4],), [X3], scale=False),
        "layer_norm_no_shift": case("LayerNorm", (4,), [X3], shift=False),
        "group_norm": case("GroupNorm", (4, 2), [X4]),
        "group_norm_affine": case(
            "GroupNorm", (4, 2), [X4], epsilon=0.01, act="relu", param_attr={"attr": {}}, bias_attr={"attr": {}}
        ),
        "instance_norm": case("InstanceNorm", (4,), [X4]),
        "instance_norm_epsilon": case("InstanceNorm", (4,), [X4], epsilon=0.001),
        "embedding": case("Embedding", ([5, 3],), [IDS]),
        "embedding_padding": case("Embedding", ([5, 3],), [IDS], padding_idx=0),
        "embedding_padding_from_the_end": case("Embedding", ([5, 3],), [IDS], padding_idx=-1),
        "dropout_none": case("Dropout", (0.0,), [X2], evaluated=True),
        "gru_unit": case("GRUUnit", (12,), [uniform(4, 5, 12), X2]),
        "gru_unit_origin": case("GRUUnit", (12,), [uniform(4, 5, 12), X2], origin_mode=True),
        "gru_unit_acts": case(
            "GRUUnit", (12,), [uniform(4, 5, 12), X2], activation="relu", gate_activation="tanh", bias_attr=False
        ),
        "prelu_all": case("PRelu", ("all",), [X4]),
        "prelu_channel": case("PRelu", ("channel",), [X4], channel=4),
        "prelu_element": case("PRelu", ("element",), [X4], input_shape=[2, 4, 7, 6]),
        "bilinear": case("BilinearTensorProduct", (4, 3, 2), [X2, uniform(5, 5, 3)]),
        "bilinear_act": case("BilinearTensorProduct", (4, 3, 2), [X2, uniform(5, 5, 3)], act="tanh", bias_attr=False),
        "spectral_norm": case("SpectralNorm", ([4, 2, 3],), [uniform(6, 4, 2, 3)]),
        "spectral_norm_dim": case("SpectralNorm", ([4, 2, 3],), [uniform(6, 4, 2, 3)], dim=1, power_iters=3, eps=0.01),
        "sequential": {
            **case("Sequential", (), [X2]),
            "layers": [[None, case("Linear", (4, 3), [], act="relu")], [None, case("Linear", (3, 2), [])]],
        },
        "sequential_named": {
            **case("Sequential", (), [X2]),
            "layers": [["first", case("Linear", (4, 3), [])], ["last", case("Linear", (3, 2), [], bias_attr=False)]],
        },
        "mse": case("MSELoss", (), [X2, uniform(7, 5, 4)]),
        "mse_sum": case("MSELoss", ("sum",), [X2, uniform(7, 5, 4)]),
        "mse_none": case("MSELoss", ("none",), [X2, uniform(7, 5, 4)]),
        "l1": case("L1Loss", (), [X2, uniform(7, 5, 4)]),
        "l1_sum": case("L1Loss", ("sum",), [X2, uniform(7, 5, 4)]),
        "l1_none": case("L1Loss", ("none",), [X2, uniform(7, 5, 4)]),
        **bce_cases(),
        "nll": case("NLLLoss", (), [X2, LABELS]),
        "nll_sum": case("NLLLoss", (), [X2, LABELS], reduction="sum"),
        "nll_none": case("NLLLoss", (), [X2, LABELS], reduction="none"),
        "nll_weight": case("NLLLoss", (), [X2, LABELS], weight={"variable": CLASS_WEIGHTS}),
        "nll_ignore": case("NLLLoss", (), [X2, LABELS], ignore_index=1),
        "nll_ignore_weight": case("NLLLoss", (), [X2, LABELS], ignore_index=1, weight={"variable": CLASS_WEIGHTS}),
        "nll_images": case("NLLLoss", (), [uniform(8, 2, 4, 2, 3), np.arange(12).reshape(2, 2, 3) % 4]),
        "nll_images_none": case(
            "NLLLoss", (), [uniform(8, 2, 4, 2, 3), np.arange(12).reshape(2, 2, 3) % 4], reduction="none"
        ),
        "nll_sequence": case("NLLLoss", (), [uniform(8, 2, 4, 3), np.arange(6).reshape(2, 3) % 4], reduction="none"),
    }


def bce_cases():
    inputs = [uniform(9, 5, 3) * np.float32(0.4) + np.float32(0.5), (uniform(10, 5, 3) > 0).astype("float32")]
    weight = {"variable": uniform(11, 5, 3)}
    return {
        "bce": case("BCELoss", (), inputs),
        "bce_sum": case("BCELoss", (), inputs, reduction="sum"),
        "bce_none": case("BCELoss", (), inputs, reduction="none"),
        "bce_weight": case("BCELoss", (), inputs, weight=weight),
    }


def give_values(layer):
    """Values that depend on the parameter's place; variances stay positive, vectors of SpectralNorm too."""
    for i, parameter in enumerate(layer.parameters()):
        value = uniform(200 + i, *parameter.shape)
        if i == 3 and isinstance(layer, fluid.dygraph.BatchNorm):
            value = np.abs(value) + np.float32(0.5)
        parameter.set_value(value)


def tuple_of(outputs):
    return tuple(outputs) if isinstance(outputs, (list, tuple)) else (outputs,)


def measured(spec):
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        fluid.default_main_program().random_seed = fluid.default_startup_program().random_seed = 7
        layer = layer_of(fluid, spec)
        tree = dict(spec, full_name=layer.full_name())
        tree["state"] = [
            {
                "key": key,
                "name": p.name,
                "trainable": p.trainable,
                "stop_gradient": p.stop_gradient,
                "default": p.numpy(),
            }
            for key, p in layer.state_dict().items()
        ]
        tree["parameters"] = [p.name for p in layer.parameters()]
        give_values(layer)
        tree["values"] = values(layer.state_dict())
        inputs = []
        for array in spec["inputs"]:
            inputs.append(to_variable(array))
            inputs[-1].stop_gradient = array.dtype.kind != "f"
        outputs = tuple_of(layer(*inputs))
        loss: Any = None
        tree["outputs"], tree["weights"] = [], []
        for i, out in enumerate(outputs):
            weights = uniform(300 + i, *out.shape)
            if i and spec["class"] == "GRUUnit":
                weights *= 0
            tree["outputs"].append(out.numpy())
            tree["weights"].append(weights)
            term = fluid.layers.reduce_sum(out * to_variable(weights))
            loss = term if loss is None else loss + term
        tree["loss"] = loss.numpy()
        tree["after"] = values(layer.state_dict())
        loss.backward()
        tree["input_gradients"] = [x.gradient() for x in inputs]
        tree["gradients"] = {key: p.gradient() for key, p in layer.state_dict().items()}
        if spec["evaluated"]:
            layer.eval()
            tree["evaluated"] = [out.numpy() for out in tuple_of(layer(*inputs))]
            layer.train()
        return tree


def dropout_evaluated(kind):
    """Outputs of Dropout(0.4) in evaluation; for the training mask only: which elements are kept or scaled."""
    with fluid.dygraph.guard(fluid.CPUPlace()):
        layer = fluid.dygraph.Dropout(0.4, dropout_implementation=kind)
        x = to_variable(X2)
        layer.eval()
        evaluated = layer(x).numpy()
        layer.train()
        trained = layer(x).numpy()
        kept = trained[trained != 0] / X2[trained != 0]
        return {"x": X2, "evaluated": evaluated, "kept_scale": float(np.round(kept, 5).max())}


class Everything(fluid.dygraph.Layer):
    def __init__(self, name):
        super().__init__()
        self.late = None
        self.own = self.create_parameter([2, 3])
        self.offset = self.create_parameter([3], is_bias=True)
        self.named = self.create_parameter([3], attr=fluid.ParamAttr(name=name))
        self.first = fluid.dygraph.Linear(3, 4)
        self.norm = fluid.dygraph.BatchNorm(4)
        self.blocks = fluid.dygraph.LayerList([fluid.dygraph.Linear(4, 4, bias_attr=False) for _ in range(2)])
        self.tables = fluid.dygraph.ParameterList([self.create_parameter([2]) for _ in range(2)])
        self.chain = fluid.dygraph.Sequential(("a", fluid.dygraph.Linear(4, 2)), ("b", fluid.dygraph.Pool2D(2)))
        self.add_sublayer("added", fluid.dygraph.Embedding([3, 2]))
        self.add_parameter("extra", self.create_parameter([1], dtype="float64"))
        self.plain = 3
        self.frozen = self.create_parameter([2], attr=fluid.ParamAttr(trainable=False))


class ABTestNet(fluid.dygraph.Layer):
    def __init__(self, name_scope=None):
        super().__init__(name_scope)
        self.inner = fluid.dygraph.Linear(2, 2)
        self.w = self.create_parameter([2])


def described(layer):
    return {
        "full_name": layer.full_name(),
        "state": [[k, p.name, list(p.shape), p.trainable] for k, p in layer.state_dict().items()],
        "parameters": [p.name for p in layer.parameters()],
        "own_parameters": [p.name for p in layer.parameters(include_sublayers=False)],
        "named_parameters": [[k, p.name] for k, p in layer.named_parameters()],
        "named_parameters_prefix": [k for k, _ in layer.named_parameters(prefix="root")],
        "own_state": list(layer.state_dict(include_sublayers=False)),
        "prefixed_state": list(layer.state_dict(structured_name_prefix="root.")),
        "sublayers": [sub.full_name() for sub in layer.sublayers()],
        "named_sublayers": [[k, sub.full_name()] for k, sub in layer.named_sublayers()],
        "named_sublayers_self": [[k, sub.full_name()] for k, sub in layer.named_sublayers(include_self=True)],
        "training": [sub.training for sub in layer.sublayers()],
    }


def structure():
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        tree: Any = {"everything": described(Everything("mine")), "again": described(Everything("yours"))}
        tree["camel"] = [described(ABTestNet()), described(ABTestNet()), described(ABTestNet("my_scope"))]
        calls = []
        layer = fluid.dygraph.Linear(2, 2)
        layer.weight.set_value(uniform(13, 2, 2))
        layer.register_forward_pre_hook(lambda la, inputs: calls.append(["pre", type(inputs).__name__, len(inputs)]))
        layer.register_forward_post_hook(lambda la, inputs, out: calls.append(["post", type(out).__name__ != ""]))
        doubled = layer.register_forward_pre_hook(lambda la, inputs: (inputs[0] * 2.0,))
        tripled = layer.register_forward_post_hook(lambda la, inputs, out: out * 3.0)
        x = uniform(12, 2, 2)
        hooked = layer(to_variable(x)).numpy()
        doubled.remove()
        tripled.remove()
        tree["hooks"] = {
            "calls": calls[:2],
            "x": x,
            "weight": layer.weight.numpy(),
            "hooked": hooked,
            "plain": layer(to_variable(x)).numpy(),
        }
        return tree


def write():
    tree = {"cases": {name: measured(spec) for name, spec in cases().items()}, "structure": structure()}
    tree["dropout"] = {kind: dropout_evaluated(kind) for kind in ("downgrade_in_infer", "upscale_in_train")}
    write_tree(GOLDENS / "layers", tree)
