"""Models that train privately in dygraph and as a Program: the same parameters, lots and noise key in both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import fluidc.frontend as fluid
from fluidc.frontend.dygraph.base import eager_program

Arrays = dict[str, np.ndarray]
Layer = Callable[..., Any]
L: Any = fluid.layers
PIXELS, STEPS, HIDDEN, WORDS = 6, 5, 4, 9


class Kit:
    """Layers by name: their parameters begin with numbers that the name decides, in both modes.

    In dygraph a layer is made once; as a Program its parameters are shared by name.
    """

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    @property
    def parameters(self) -> list[Any]:
        return [parameter for layer in self.made.values() for parameter in layer.parameters()]

    def _attr(self, name: str, *shape: int) -> Any:
        values = np.random.default_rng(sum(map(ord, name))).normal(0, 0.5, shape).astype("f")
        return fluid.ParamAttr(name, initializer=fluid.initializer.NumpyArrayInitializer(values))

    def linear(self, name: str, x: Any, size: int, act: str | None = None) -> Any:
        attrs = {"param_attr": self._attr(name + ".w", x.shape[-1], size), "bias_attr": self._attr(name + ".b", size)}
        if not fluid.in_dygraph_mode():
            return L.fc(x, size, num_flatten_dims=len(x.shape) - 1, act=act, **attrs)
        if name not in self.made:
            self.made[name] = fluid.dygraph.Linear(x.shape[-1], size, act=act, **attrs)
        return self.made[name](x)

    def conv(self, name: str, x: Any, filters: int, size: int, act: str) -> Any:
        weights = self._attr(name + ".w", filters, x.shape[1], size, size)
        attrs = {"param_attr": weights, "bias_attr": self._attr(name + ".b", filters), "act": act}
        if not fluid.in_dygraph_mode():
            return L.conv2d(x, filters, size, **attrs)
        if name not in self.made:
            self.made[name] = fluid.dygraph.Conv2D(x.shape[1], filters, size, **attrs)
        return self.made[name](x)

    def embedding(self, name: str, ids: Any, size: Sequence[int]) -> Any:
        attr = self._attr(name + ".w", *size)
        if not fluid.in_dygraph_mode():
            return fluid.embedding(ids, size, param_attr=attr)
        if name not in self.made:
            self.made[name] = fluid.dygraph.Embedding(size, param_attr=attr)
        return self.made[name](ids)


def _linear(kit: Kit, feeds: Mapping[str, Any]) -> Any:
    return kit.linear("out", kit.linear("in", feeds["x"], 5, "tanh"), 3)


def _cnn(kit: Kit, feeds: Mapping[str, Any]) -> Any:
    x = L.reshape(feeds["x"], [-1, 1, PIXELS, PIXELS])
    x = L.pool2d(kit.conv("conv", x, 4, 3, "relu"), 2, "max", 2)
    return kit.linear("out", L.reshape(x, [-1, 16]), 3)


def _lstm(kit: Kit, feeds: Mapping[str, Any]) -> Any:
    """An LSTM cell in a loop of Python over embedded words."""
    rows = kit.embedding("words", feeds["x"], [WORDS, PIXELS])
    hidden = L.fill_constant_batch_size_like(rows, [-1, HIDDEN], "float32", 0.0)
    cell = L.fill_constant_batch_size_like(rows, [-1, HIDDEN], "float32", 0.0)
    for t in range(STEPS):
        gates = kit.linear("cell", L.concat([rows[:, t], hidden], axis=1), 4 * HIDDEN)
        i, f, o, g = L.split(gates, 4, dim=1)
        cell = L.sigmoid(f + 1.0) * cell + L.sigmoid(i) * L.tanh(g)
        hidden = L.sigmoid(o) * L.tanh(cell)
    return kit.linear("out", hidden, 3)


@dataclass(frozen=True)
class TwoModes:
    """A model: ``scores(kit, feeds)`` is [N, 3]; ``row`` the shape of an example, of integers if ``high`` is given."""

    scores: Callable[[Kit, Mapping[str, Any]], Any]
    row: tuple[int, ...]
    high: int = 0

    def data(self, rows: int, seed: int = 0) -> Arrays:
        """``x`` and ``label`` of ``rows`` examples."""
        rng = np.random.default_rng(seed)
        shape = (rows, *self.row)
        x = rng.integers(0, self.high, shape) if self.high else rng.normal(size=shape).astype("f")
        return {"x": x, "label": rng.integers(0, 3, (rows, 1))}

    def loss(self, kit: Kit, feeds: Mapping[str, Any]) -> Any:
        """The mean cross entropy."""
        return L.mean(L.softmax_with_cross_entropy(self.scores(kit, feeds), feeds["label"]))

    def kit(self) -> Kit:
        """A new kit whose layers exist in dygraph, so that an optimizer can be given their parameters."""
        eager_program().global_block().swap_names()  # those of another kit
        kit = Kit()
        with fluid.dygraph.no_grad():
            self.loss(kit, {name: fluid.dygraph.to_variable(rows) for name, rows in self.data(1).items()})
        return kit


MODELS = {
    "linear": TwoModes(_linear, (7,)),
    "cnn": TwoModes(_cnn, (PIXELS * PIXELS,)),
    "lstm": TwoModes(_lstm, (STEPS,), WORDS),
}


def as_program(model: TwoModes, optimizer: Callable[[], Any], lots: Sequence[Arrays], target: str) -> Arrays:
    """Losses, and the parameters after the last step."""
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(scope):
        dtype = "int64" if model.high else "float32"
        feeds = {"x": fluid.data("x", [-1, *model.row], dtype), "label": fluid.data("label", [-1, 1], "int64")}
        loss = model.loss(Kit(), feeds)
        optimizer().minimize(loss)
        exe = fluid.Executor(target=target)
        exe.run(startup)
        losses = [exe.run(main, feed=lot, fetch_list=[loss])[0] for lot in lots]
        found = {p.name: np.array(scope.var(p.name).get_tensor()) for p in main.all_parameters()}
    return found | {"loss": np.array(losses)}


def in_dygraph(model: TwoModes, optimizer: Callable[[list[Any]], Any], lots: Sequence[Arrays], target: str) -> Arrays:
    """The same in dygraph."""
    with fluid.dygraph.guard(target=target):
        kit = model.kit()
        trained = optimizer(kit.parameters)
        losses: list[np.ndarray] = []
        for lot in lots:
            loss = model.loss(kit, {name: fluid.dygraph.to_variable(rows) for name, rows in lot.items()})
            loss.backward()
            trained.minimize(loss)
            losses.append(loss.numpy())
            trained.clear_gradients()
        found = {p.name: p.numpy() for p in kit.parameters}
    return found | {"loss": np.array(losses)}
