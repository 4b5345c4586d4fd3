"""Learning rate decays of dygraph: decays.json, decays.npz.

Per decay ("cases"): its class and arguments ({"decay": ...} is another decay, {"lambda": r} is `lambda epoch: r **
epoch`); `before`: current_step_lr() before the first minimize; `rates`: current_step_lr() after each of 12 minimize
of SGD; `parameter`: the one parameter, whose gradient is 1, after each of them; `states`: the optimizer's state dict
before the first, after the 5th and after the 12th minimize; `resumed`: rates 6 to 12 of a new optimizer that set_dict
got the state of step 5.  `epoch_after` lists the steps after which .epoch() is called, `losses` what .step(loss) gets
after each.  "functions": what fluid.layers.*_decay give in dygraph: class and attributes.

What was found:
- Each minimize calls the decay, which counts; current_step_lr() is the rate of the last minimize; before the first it
  computes a rate without counting.
- LinearLrWarmup ignores start_lr in dygraph: its rate is (end_lr - start_lr) / warmup_steps * step, without + start_lr.
  A decay inside it is counted from its first step on, also during the warm-up (and by current_step_lr() before the
  first minimize), and is not part of the state.
- PolynomialDecay and the others compute in float32 from a step divided in Python.
- StepDecay, MultiStepDecay and LambdaDecay are saved as LR_Scheduler {epoch_num, learning_rate} without global_step;
  ReduceLROnPlateau as {cooldown_counter, best_loss, num_bad_epochs, epoch_num, learning_rate} with a global_step of 0,
  for it never counts steps.
- current_step_lr() of a ReduceLROnPlateau before the first minimize is a TypeError (`before` is None here).
- set_dict with the arrays of load_dygraph makes step_num a number of numpy, on which PolynomialDecay(cycle=True) then
  fails; `resumed` was measured with the variables of state_dict(), which work.
"""

from typing import Any

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from common import values
from paddle.fluid import dygraph  # pyright: ignore[reportMissingImports]
from trees import GOLDENS, write_tree

STEPS = 12
LOSSES = [1.0, 0.9, 0.9, 0.95, 0.91, 0.8, 0.85, 0.81, 0.83, 0.82, 0.84, 0.9]


def case(kind, *args, **kwargs):
    return {"class": kind, "args": list(args), "kwargs": kwargs}


def cases():
    return {
        "noam": case("NoamDecay", 16, 4),
        "noam_rate": case("NoamDecay", 16, 4, begin=3, step=2, learning_rate=0.5),
        "exponential": case("ExponentialDecay", 0.1, 4, 0.5),
        "exponential_staircase": case("ExponentialDecay", 0.1, 4, 0.5, staircase=True, begin=1),
        "natural_exp": case("NaturalExpDecay", 0.1, 4, 0.5),
        "natural_exp_staircase": case("NaturalExpDecay", 0.1, 4, 0.5, True),
        "inverse_time": case("InverseTimeDecay", 0.1, 4, 0.5),
        "inverse_time_staircase": case("InverseTimeDecay", 0.1, 4, 0.5, staircase=True),
        "polynomial": case("PolynomialDecay", 0.1, 5, 0.01, power=2.0),
        "polynomial_cycle": case("PolynomialDecay", 0.1, 5, 0.01, cycle=True),
        "piecewise": case("PiecewiseDecay", [3, 6], [0.1, 0.05, 0.01], 0),
        "cosine": case("CosineDecay", 0.1, 3, 4),
        "warmup": case("LinearLrWarmup", 0.1, 4, 0.0, 0.1),
        "warmup_start": case("LinearLrWarmup", 0.1, 4, 0.02, 0.1, begin=0),
        "warmup_noam": case("LinearLrWarmup", {"decay": case("NoamDecay", 16, 4)}, 4, 0.0, 0.1),
        "warmup_piecewise": case(
            "LinearLrWarmup", {"decay": case("PiecewiseDecay", [3, 8], [0.1, 0.05, 0.01], 0)}, 5, 0.0, 0.1
        ),
        "step": dict(case("StepDecay", 0.1, 2, decay_rate=0.5), epoch_after=[2, 4, 5, 8, 10]),
        "multi_step": dict(case("MultiStepDecay", 0.1, [1, 3], 0.5), epoch_after=[2, 4, 5, 8, 10]),
        "lambda": dict(case("LambdaDecay", 0.1, {"lambda": 0.9}), epoch_after=[2, 4, 5, 8, 10]),
        "plateau": dict(case("ReduceLROnPlateau", 0.1, decay_rate=0.5, patience=1), losses=LOSSES),
        "plateau_cooldown": dict(
            case("ReduceLROnPlateau", 0.1, decay_rate=0.5, patience=1, cooldown=2, min_lr=0.04), losses=LOSSES
        ),
        "plateau_max": dict(
            case("ReduceLROnPlateau", 0.1, mode="max", patience=2, threshold=0.05, threshold_mode="abs"), losses=LOSSES
        ),
    }


def build(spec):
    def value(node):
        if not isinstance(node, dict):
            return node
        return build(node["decay"]) if "decay" in node else lambda epoch: node["lambda"] ** epoch

    return getattr(dygraph, spec["class"])(*map(value, spec["args"]), **spec["kwargs"])


class Run:
    """SGD with the decay on one parameter w and the loss sum(w), whose gradient is 1."""

    def __init__(self, spec):
        self.spec = spec
        self.decay = build(spec)
        self.layer = dygraph.Layer("one")
        one = fluid.initializer.Constant(1.0)
        self.layer.w = self.layer.create_parameter([1], default_initializer=one)
        self.sgd = fluid.optimizer.SGD(self.decay, parameter_list=self.layer.parameters())

    def step(self, i):
        """The i-th step, from 1 on; gives the rate that it used."""
        loss = fluid.layers.reduce_sum(self.layer.w)
        loss.backward()
        self.sgd.minimize(loss)
        self.layer.clear_gradients()
        rate = float(self.sgd.current_step_lr())
        if i in self.spec.get("epoch_after", []):
            self.decay.epoch()
        if "losses" in self.spec:
            self.decay.step(dygraph.to_variable(np.array([self.spec["losses"][i - 1]], "float32")))
        return rate

    def state(self):
        return values(self.sgd.state_dict())


def measured(spec):
    with dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        tree: Any = dict(spec, before=None, rates=[], parameter=[])
        if "losses" not in spec:
            tree["before"] = float(Run(spec).sgd.current_step_lr())
        run = Run(spec)
        saved = None
        tree["states"] = [run.state()]
        for i in range(1, STEPS + 1):
            tree["rates"].append(run.step(i))
            tree["parameter"].append(float(run.layer.w.numpy()[0]))
            if i == 5:
                saved = run.sgd.state_dict()
                tree["states"].append(values(saved))
        tree["states"].append(run.state())
        again = Run(spec)
        again.sgd.set_dict(saved)
        tree["resumed"] = [again.step(i) for i in range(6, STEPS + 1)]
        return tree


def functions():
    """What the functions of fluid.layers give in dygraph."""
    layers = fluid.layers
    with dygraph.guard(fluid.CPUPlace()):
        made = {
            "noam_decay": layers.noam_decay(16, 4, 0.5),
            "exponential_decay": layers.exponential_decay(0.1, 4, 0.5, True),
            "natural_exp_decay": layers.natural_exp_decay(0.1, 4, 0.5, True),
            "inverse_time_decay": layers.inverse_time_decay(0.1, 4, 0.5, True),
            "polynomial_decay": layers.polynomial_decay(0.1, 5, 0.01, 2.0, True),
            "piecewise_decay": layers.piecewise_decay([3, 6], [0.1, 0.05, 0.01]),
            "cosine_decay": layers.cosine_decay(0.1, 3, 4),
            "linear_lr_warmup": layers.linear_lr_warmup(0.1, 4, 0.0, 0.1),
        }
        tree = {}
        for name, decay in made.items():
            run = [decay() for _ in range(4)]
            tree[name] = {"class": type(decay).__name__, "rates": [float(rate.numpy()[0]) for rate in run]}
        return tree


def write():
    write_tree(
        GOLDENS / "decays",
        {"cases": {name: measured(spec) for name, spec in cases().items()}, "functions": functions()},
    )
