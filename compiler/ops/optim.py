"""Optimizer rules: pure updates of one parameter, formulas as fluid 1.8 computes them, one fused kernel each.

``lr`` and the powers of beta are one number each, of shape ``[]`` or ``[1]``.  Results come in the order of
the operands they replace, the parameter first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..ir.core import Value
from .base import Op
from .optim_base import Maths, Update


@dataclass(frozen=True, eq=False)
class Sgd(Update):
    """``param - lr * grad``."""

    name: ClassVar[str] = "optim.sgd"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad")
    updated: ClassVar[tuple[str, ...]] = ("param",)

    lr: Value

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any) -> tuple[Any, ...]:
        return (p - s["lr"] * g,)


@dataclass(frozen=True, eq=False)
class Momentum(Update):
    """``v = mu * v + g``; ``p -= lr * v``, or with ``nesterov`` ``p -= lr * (g + mu * v)``.  Results ``p, v``."""

    name: ClassVar[str] = "optim.momentum"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "velocity")
    updated: ClassVar[tuple[str, ...]] = ("param", "velocity")

    velocity: Value
    lr: Value
    mu: float
    nesterov: bool = False

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, v: Any) -> tuple[Any, ...]:
        v = self.mu * v + g
        step = g + self.mu * v if self.nesterov else v
        return p - s["lr"] * step, v


@dataclass(frozen=True, eq=False)
class LarsMomentum(Update):
    """Momentum with a rate of its own per parameter (You et al., arXiv 1708.03888).  Results ``p, v``.

    ``rate = lr * coeff * |p| / (|g| + decay * |p|)``, or ``lr`` when a norm is zero;
    ``v = mu * v + rate * (g + decay * p)``; ``p -= v``.
    """

    name: ClassVar[str] = "optim.lars_momentum"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "velocity")
    updated: ClassVar[tuple[str, ...]] = ("param", "velocity")
    normed: ClassVar[tuple[str, ...]] = ("param", "grad")

    velocity: Value
    lr: Value
    mu: float
    coeff: float = 0.001
    decay: float = 0.0005

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, v: Any) -> tuple[Any, ...]:
        lr, np_, ng = s["lr"], s["norm of param"], s["norm of grad"]
        both = (np_ > 0.0) & (ng > 0.0)
        rate = m.where(both, lr * self.coeff * np_ / (ng + self.decay * np_), lr)
        v = self.mu * v + rate * (g + self.decay * p)
        return p - v, v


@dataclass(frozen=True, eq=False)
class Adagrad(Update):
    """``G += g**2``; ``p -= lr * g / (sqrt(G) + epsilon)``.  Results ``p, G``."""

    name: ClassVar[str] = "optim.adagrad"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "moment")
    updated: ClassVar[tuple[str, ...]] = ("param", "moment")

    moment: Value
    lr: Value
    epsilon: float = 1e-6

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, total: Any) -> tuple[Any, ...]:
        total = total + g * g
        return p - s["lr"] * g / (m.sqrt(total) + self.epsilon), total


@dataclass(frozen=True, eq=False)
class DecayedAdagrad(Update):
    """Adagrad on a decaying mean: ``G = decay * G + (1 - decay) * g**2``.  Results ``p, G``."""

    name: ClassVar[str] = "optim.decayed_adagrad"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "moment")
    updated: ClassVar[tuple[str, ...]] = ("param", "moment")

    moment: Value
    lr: Value
    decay: float = 0.95
    epsilon: float = 1e-6

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, mean: Any) -> tuple[Any, ...]:
        mean = self.decay * mean + self.one_minus(self.decay) * g * g
        return p - s["lr"] * g / (m.sqrt(mean) + self.epsilon), mean


@dataclass(frozen=True, eq=False)
class Adam(Update):
    """Adam (Kingma and Ba, ICLR'15), with the bias correction folded into the rate and ``epsilon`` left alone.

    ``rate = lr * sqrt(1 - beta2_pow) / (1 - beta1_pow)``; ``p -= rate * m1 / (sqrt(m2) + epsilon)``.  The
    powers are those of the current step: they start at beta, not at 1.  Results
    ``p, m1, m2, beta1_pow, beta2_pow``.
    """

    name: ClassVar[str] = "optim.adam"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "moment1", "moment2")
    updated: ClassVar[tuple[str, ...]] = ("param", "moment1", "moment2")
    powers: ClassVar[tuple[str, ...]] = ("beta1_pow", "beta2_pow")
    scalars: ClassVar[tuple[str, ...]] = ("beta1_pow", "beta2_pow", "lr")

    moment1: Value
    moment2: Value
    beta1_pow: Value
    beta2_pow: Value
    lr: Value
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def advance(self, name: str) -> float:
        return self.beta1 if name == "beta1_pow" else self.beta2

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, m1: Any, m2: Any) -> tuple[Any, ...]:
        m1 = self.beta1 * m1 + self.one_minus(self.beta1) * g
        m2 = self.beta2 * m2 + self.one_minus(self.beta2) * g * g
        rate = s["lr"] * m.sqrt(1.0 - s["beta2_pow"]) / (1.0 - s["beta1_pow"])
        return p - rate * (m1 / (m.sqrt(m2) + self.epsilon)), m1, m2


@dataclass(frozen=True, eq=False)
class Adamax(Update):
    """Adam with the infinity norm: ``u = max(|g|, beta2 * u + epsilon)``; ``p -= lr / (1 - beta1_pow) * m / u``.

    Results ``p, m, u, beta1_pow``.
    """

    name: ClassVar[str] = "optim.adamax"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "moment", "inf_norm")
    updated: ClassVar[tuple[str, ...]] = ("param", "moment", "inf_norm")
    powers: ClassVar[tuple[str, ...]] = ("beta1_pow",)
    scalars: ClassVar[tuple[str, ...]] = ("beta1_pow", "lr")

    moment: Value
    inf_norm: Value
    beta1_pow: Value
    lr: Value
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def advance(self, name: str) -> float:
        return self.beta1

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, moment: Any, u: Any) -> tuple[Any, ...]:
        moment = self.beta1 * moment + self.one_minus(self.beta1) * g
        u = m.maximum(m.abs(g), self.beta2 * u + self.epsilon)
        return p - s["lr"] / (1.0 - s["beta1_pow"]) * (moment / u), moment, u


@dataclass(frozen=True, eq=False)
class Lamb(Update):
    """LAMB (You et al., ICLR'20) as fluid 1.8 has it: without bias correction.  Results ``p, m1, m2``.

    ``r = m1 / (sqrt(m2) + epsilon) + decay * p``; ``p -= lr * |p| / |r| * r``, the ratio 1 when a norm is zero.
    """

    name: ClassVar[str] = "optim.lamb"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "moment1", "moment2")
    updated: ClassVar[tuple[str, ...]] = ("param", "moment1", "moment2")
    normed: ClassVar[tuple[str, ...]] = ("param", "direction")

    moment1: Value
    moment2: Value
    lr: Value
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    decay: float = 0.01

    def moments(self, g: Any, m1: Any, m2: Any) -> tuple[Any, Any]:
        """Both decaying means after this gradient."""
        m1 = self.beta1 * m1 + self.one_minus(self.beta1) * g
        return m1, self.beta2 * m2 + self.one_minus(self.beta2) * g * g

    def direction(self, m: Maths, s: dict[str, Any], p: Any, g: Any, m1: Any, m2: Any) -> Any:
        m1, m2 = self.moments(g, m1, m2)
        return m1 / (m.sqrt(m2) + self.epsilon) + self.decay * p

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, m1: Any, m2: Any) -> tuple[Any, ...]:
        np_, nr = s["norm of param"], s["norm of direction"]
        rate = s["lr"] * m.where((np_ > 0.0) & (nr > 0.0), np_ / nr, 1.0)
        return (p - rate * self.direction(m, s, p, g, m1, m2), *self.moments(g, m1, m2))


@dataclass(frozen=True, eq=False)
class Adadelta(Update):
    """Adadelta (Zeiler, arXiv 1212.5701) as fluid 1.8 has it.  Results ``p``, ``squares``, ``updates``.

    fluid overwrites the mean of squared updates before it takes the step, so the step reads the new mean:
    the first one is sqrt(2) times the paper's.  There is no learning rate.
    """

    name: ClassVar[str] = "optim.adadelta"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "squares", "updates")
    updated: ClassVar[tuple[str, ...]] = ("param", "squares", "updates")
    scalars: ClassVar[tuple[str, ...]] = ()

    squares: Value
    updates: Value
    rho: float = 0.95
    epsilon: float = 1e-6

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, squares: Any, updates: Any) -> tuple[Any, ...]:
        rest = self.one_minus(self.rho)
        squares = self.rho * squares + rest * g * g
        step = m.sqrt((updates + self.epsilon) / (squares + self.epsilon)) * g
        updates = self.rho * updates + rest * step * step
        return p - m.sqrt((updates + self.epsilon) / (squares + self.epsilon)) * g, squares, updates


@dataclass(frozen=True, eq=False)
class RmsProp(Update):
    """``S = rho * S + (1 - rho) * g**2``; ``v = momentum * v + lr * g / sqrt(S + epsilon)``; ``p -= v``.

    Results ``p, S, v``.
    """

    name: ClassVar[str] = "optim.rmsprop"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "mean_square", "moment")
    updated: ClassVar[tuple[str, ...]] = ("param", "mean_square", "moment")

    mean_square: Value
    moment: Value
    lr: Value
    rho: float = 0.95
    epsilon: float = 1e-6
    momentum: float = 0.0

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, square: Any, v: Any) -> tuple[Any, ...]:
        square = self.rho * square + self.one_minus(self.rho) * g * g
        v = self.momentum * v + s["lr"] * g / m.sqrt(square + self.epsilon)
        return p - v, square, v


@dataclass(frozen=True, eq=False)
class CenteredRmsProp(Update):
    """RMSProp with the variance instead of the mean square: ``sqrt(S - G**2 + epsilon)``, ``G`` the mean gradient.

    Results ``p, S, G, v``.
    """

    name: ClassVar[str] = "optim.centered_rmsprop"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "mean_square", "mean_grad", "moment")
    updated: ClassVar[tuple[str, ...]] = ("param", "mean_square", "mean_grad", "moment")

    mean_square: Value
    mean_grad: Value
    moment: Value
    lr: Value
    rho: float = 0.95
    epsilon: float = 1e-6
    momentum: float = 0.0

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, square: Any, mean: Any, v: Any) -> tuple[Any, ...]:
        square = self.rho * square + self.one_minus(self.rho) * g * g
        mean = self.rho * mean + self.one_minus(self.rho) * g
        v = self.momentum * v + s["lr"] * g / m.sqrt(square - mean * mean + self.epsilon)
        return p - v, square, mean, v


@dataclass(frozen=True, eq=False)
class Ftrl(Update):
    """FTRL-Proximal (McMahan et al., KDD'13).  Results ``p``, ``squared``, ``linear``.

    ``l1`` and ``l2`` are used as given plus 1e-10, as fluid does.  (fluid's optimizer class passes l1 for both.)
    """

    name: ClassVar[str] = "optim.ftrl"
    tensors: ClassVar[tuple[str, ...]] = ("param", "grad", "squared", "linear")
    updated: ClassVar[tuple[str, ...]] = ("param", "squared", "linear")

    squared: Value
    linear: Value
    lr: Value
    l1: float = 0.0
    l2: float = 0.0
    lr_power: float = -0.5

    def formula(self, m: Maths, s: dict[str, Any], p: Any, g: Any, squared: Any, linear: Any) -> tuple[Any, ...]:
        lr, l1, l2 = s["lr"], self.l1 + 1e-10, self.l2 + 1e-10

        def root(x: Any) -> Any:
            return m.sqrt(x) if self.lr_power == -0.5 else m.pow(x, -self.lr_power)

        new = squared + g * g
        linear = linear + g - (root(new) - root(squared)) / lr * p
        shrunk = (l1 * m.sign(linear) - linear) / (root(new) / lr + 2.0 * l2)
        return m.where(m.abs(linear) > l1, shrunk, 0.0), new, linear


OPS: tuple[type[Op], ...] = (
    Sgd, Momentum, LarsMomentum, Adagrad, DecayedAdagrad, Adam, Adamax, Lamb, Adadelta, RmsProp, CenteredRmsProp, Ftrl,
)  # fmt: skip
