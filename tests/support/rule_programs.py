"""Small trainings with every rule of ``fluid.optimizer``, and programs of learning-rate schedules.

Built alike by Paddle 1.8.5 and by fluidc; runs under Python 3.7, too.
"""

import numpy as np
from layer_parity.table import numbers

STEPS = 5
SCHEDULED = 20
ROWS = 4

RULES = {
    "sgd": lambda o, **k: o.SGD(0.1, **k),
    "momentum": lambda o, **k: o.Momentum(0.1, 0.9, **k),
    "nesterov": lambda o, **k: o.Momentum(0.1, 0.9, use_nesterov=True, **k),
    "lars_momentum": lambda o, **k: o.LarsMomentum(0.1, 0.9, lars_coeff=0.5, lars_weight_decay=0.01, **k),
    "adagrad": lambda o, **k: o.Adagrad(0.1, initial_accumulator_value=0.1, **k),
    "decayed_adagrad": lambda o, **k: o.DecayedAdagrad(0.1, decay=0.9, **k),
    "adam": lambda o, **k: o.Adam(0.05, beta1=0.8, beta2=0.9, **k),
    "adamax": lambda o, **k: o.Adamax(0.05, beta1=0.8, beta2=0.9, **k),
    "lamb": lambda o, **k: o.LambOptimizer(0.05, lamb_weight_decay=0.02, **k),
    "adadelta": lambda o, **k: o.Adadelta(0.5, rho=0.9, **k),
    "rmsprop": lambda o, **k: o.RMSPropOptimizer(0.05, rho=0.9, momentum=0.5, **k),
    "centered_rmsprop": lambda o, **k: o.RMSPropOptimizer(0.05, rho=0.9, epsilon=1e-3, centered=True, **k),
    "ftrl": lambda o, **k: o.Ftrl(0.1, l1=0.02, l2=0.02, **k),
}
UNCLIPPED = ("lars_momentum",)


def network(fluid, **first):
    """A loss of two layers; ``first`` are options of the first weight."""
    L = fluid.layers
    x, y = fluid.data("x", [ROWS, 3], "float32"), fluid.data("y", [ROWS, 1], "float32")
    hidden = L.fc(x, 4, act="tanh", param_attr=fluid.ParamAttr(name="first", **first), bias_attr="shift")
    out = L.fc(hidden, 1, param_attr=fluid.ParamAttr(name="second", learning_rate=0.5), bias_attr="last")
    return hidden, L.mean(L.square_error_cost(out, y))


def feeds(step):
    return {
        "x": numbers(f"x{step}", (ROWS, 3), -2.0, 2.0),
        "y": numbers(f"y{step}", (ROWS, 1), -3.0, 3.0),
    }


def plain(rule):
    def build(fluid):
        _, loss = network(fluid)
        RULES[rule](fluid.optimizer).minimize(loss)

    return build


def decayed(rule, clip):
    """Weight decay of the optimizer and of one weight, a clip, and a schedule."""

    def build(fluid):
        _, loss = network(fluid, regularizer=fluid.regularizer.L1Decay(0.02))
        options = {"regularization": fluid.regularizer.L2Decay(0.05), "grad_clip": CLIPS[clip](fluid.clip)}
        optimizer = RULES[rule](fluid.optimizer, **options)
        optimizer.minimize(loss)

    return build


CLIPS = {
    "value": lambda clip: clip.GradientClipByValue(0.2, -0.1),
    "norm": lambda clip: clip.GradientClipByNorm(0.3),
    "global_norm": lambda clip: clip.GradientClipByGlobalNorm(0.4),
    "some": lambda clip: clip.GradientClipByGlobalNorm(0.4, need_clip=lambda p: p.name in ("first", "last")),
    "one_sided": lambda clip: clip.GradientClipByValue(0.1),
    "norm_of_some": lambda clip: clip.GradientClipByNorm(0.1, need_clip=lambda p: p.name == "first"),
}


def groups(fluid):
    """Two groups of parameters, each with a norm of its own, and one parameter in none: Paddle clips nothing."""
    _, loss = network(fluid)
    clip, block = fluid.clip, fluid.default_main_program().global_block()
    near = [block.var("first"), block.var("shift")]
    clip.set_gradient_clip(clip.GradientClipByGlobalNorm(0.2, group_name="near"), param_list=near)
    clip.set_gradient_clip(clip.GradientClipByGlobalNorm(0.1, group_name="far"), param_list=["second"])
    fluid.optimizer.Momentum(0.1, 0.9).minimize(loss)


def two_norms(fluid):
    """A clip for each parameter, but not the same."""
    _, loss = network(fluid)
    clip = fluid.clip
    clip.set_gradient_clip(clip.GradientClipByGlobalNorm(0.3, group_name="far"), param_list=["first", "last"])
    clip.set_gradient_clip(clip.GradientClipByGlobalNorm(0.2, group_name="near"), param_list=["shift", "second"])
    fluid.optimizer.Momentum(0.1, 0.9).minimize(loss)


def two_kinds(fluid):
    _, loss = network(fluid)
    clip = fluid.clip
    clip.set_gradient_clip(clip.GradientClipByGlobalNorm(0.3))
    clip.set_gradient_clip(clip.GradientClipByValue(0.05), param_list=["shift"])
    fluid.optimizer.SGD(0.1).minimize(loss)


def everywhere(fluid):
    """A clip of the program, beside one of the optimizer."""
    _, loss = network(fluid)
    fluid.clip.set_gradient_clip(fluid.clip.GradientClipByNorm(0.1))
    fluid.optimizer.SGD(0.1).minimize(loss)


def errors(fluid):
    """A hidden gradient clipped on its way back."""
    hidden, loss = network(fluid)
    hidden.error_clip = fluid.clip.ErrorClipByValue(max=0.01, min=-0.02)
    fluid.optimizer.SGD(0.5).minimize(loss)


def scheduled(fluid):
    _, loss = network(fluid)
    L = fluid.layers
    rate = L.linear_lr_warmup(L.polynomial_decay(0.2, 4, 0.01, power=2.0), 2, 0.0, 0.2)
    fluid.optimizer.Adam(rate, regularization=fluid.regularizer.L2Decay(0.05)).minimize(loss)


def variable_rate(fluid):
    _, loss = network(fluid)
    rate = fluid.layers.create_global_var([1], 0.3, "float32", persistable=True, name="rate")
    fluid.optimizer.Momentum(rate, 0.5).minimize(loss)


def by_hand(fluid):
    """Backward and apply_gradients, with a layer between them."""
    _, loss = network(fluid)
    optimizer = fluid.optimizer.SGD(0.1)
    gradients = optimizer.backward(loss)
    halved = [(p, fluid.layers.scale(g, 0.5)) for p, g in gradients]
    optimizer.apply_gradients(halved)


TRAININGS = {"plain_" + rule: plain(rule) for rule in RULES}
for _number, _rule in enumerate(sorted(RULES)):
    _clip = sorted(CLIPS)[_number % len(CLIPS)]
    TRAININGS["_".join([_rule, "decayed", _clip])] = decayed(_rule, _clip)
for _clip in CLIPS:
    TRAININGS["clip_" + _clip] = decayed("sgd", _clip)
for _build in (groups, two_norms, two_kinds, everywhere, errors, scheduled, variable_rate, by_hand):
    TRAININGS[_build.__name__] = _build


def _counted(fluid):
    """A counter of the user's beside the schedules' own."""
    L = fluid.layers
    return [L.autoincreased_step_counter("mine", begin=3, step=2), L.exponential_decay(0.1, 2, 0.5), L.noam_decay(8, 3)]


def _switched(fluid):
    """As old scripts write their own schedule."""
    L = fluid.layers
    rate = L.create_global_var([1], 0.0, "float32", persistable=True, name="own_rate")
    step = L.learning_rate_scheduler._decay_step_counter()
    with fluid.program_guard(fluid.default_main_program()), L.control_flow.Switch() as switch:
        with switch.case(step < 6.0):
            L.tensor.assign(0.5 * (step / 6.0), rate)
        with switch.default():
            L.tensor.assign(L.polynomial_decay(0.5, 12, 0.0, power=1.0), rate)
    return [rate, step]


SCHEDULES = {
    "noam": lambda f: f.layers.noam_decay(64, 4),
    "noam_scaled": lambda f: f.layers.noam_decay(16, 10, learning_rate=2.0),
    "exponential": lambda f: f.layers.exponential_decay(0.1, 3, 0.5),
    "exponential_stairs": lambda f: f.layers.exponential_decay(0.1, 3, 0.5, staircase=True),
    "natural_exp": lambda f: f.layers.natural_exp_decay(0.1, 3, 0.5),
    "natural_exp_stairs": lambda f: f.layers.natural_exp_decay(0.1, 3, 0.5, staircase=True),
    "inverse_time": lambda f: f.layers.inverse_time_decay(0.1, 3, 0.5),
    "inverse_time_stairs": lambda f: f.layers.inverse_time_decay(0.1, 3, 0.5, staircase=True),
    "polynomial": lambda f: f.layers.polynomial_decay(0.1, 12, 0.01, 1.0),
    "polynomial_power": lambda f: f.layers.polynomial_decay(0.1, 12, 0.01, 2.0),
    "polynomial_cycle": lambda f: f.layers.polynomial_decay(0.1, 4, 0.01, 0.5, cycle=True),
    "piecewise": lambda f: f.layers.piecewise_decay([3, 7, 12], [1.0, 0.5, 0.1, 0.05]),
    "cosine": lambda f: f.layers.cosine_decay(0.1, 3, 5),
    "warmup": lambda f: f.layers.linear_lr_warmup(0.1, 5, 0.0, 0.1),
    "warmup_of_polynomial": lambda f: f.layers.linear_lr_warmup(f.layers.polynomial_decay(0.1, 15, 0.0), 5, 0.01, 0.2),
    "warmup_of_piecewise": lambda f: f.layers.linear_lr_warmup(f.layers.piecewise_decay([8], [0.3, 0.1]), 5, 0.0, 0.3),
    "warmup_of_cosine": lambda f: f.layers.linear_lr_warmup(f.layers.cosine_decay(0.1, 4, 5), 6, 0.0, 0.1),
    "two": lambda f: [f.layers.noam_decay(8, 3), f.layers.cosine_decay(0.1, 3, 5)],
    "two_in_order": lambda f: [f.layers.cosine_decay(0.1, 3, 5), f.layers.noam_decay(8, 3)],
    "counted": _counted,
    "switched": _switched,
}


def start(name, shape):
    """What a parameter begins with."""
    return numbers("start " + name, shape, -0.9, 0.9)


def listed(outs):
    return list(outs) if isinstance(outs, (list, tuple)) else [outs]


def arrays(values):
    return [np.array(v) for v in values]
