"""Paddle's ``dpsgd`` ops in a training program: replaced by differentially private SGD, or kept for comparison."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ....compiler.errors import PrivacyError
from ....runtime.errors import PrivacyWarning
from ...dpsgd import Dpsgd
from ...op_role import OpRole
from .records import Record

_CONSTANTS = ("clip", "batch_size", "sigma")
"""Attributes of the op that are arguments of `Dpsgd` by the same name."""

_DOCUMENTED = {"clip": 0.9, "batch_size": 0.999, "sigma": 1e-8}
"""What Paddle's documentation gives as defaults: another optimizer's constants."""


@dataclass(frozen=True)
class PrivacyRequest:
    """Arguments of `Dpsgd` that are stated for a program's ``dpsgd`` ops; None: the file's own, or not stated."""

    mechanism: str = "gaussian"
    clip: float | None = None
    batch_size: float | None = None
    sigma: float | None = None
    dataset_size: int | None = None
    sample_rate: float | None = None
    delta: float | None = None
    max_steps: int | None = None
    epsilon: float | None = None
    sampler: str | None = None
    adjacency: str | None = None

    @property
    def stated(self) -> dict[str, Any]:
        """Those that are not None but the mechanism, by name."""
        return {f.name: v for f in fields(self) if f.name != "mechanism" and (v := getattr(self, f.name)) is not None}


class Replacement:
    """Changes a program's records when its ``dpsgd`` ops are replaced, and knows the report afterwards.

    Args:
        request: What is stated.
        source: What messages call the file.
    """

    def __init__(self, request: PrivacyRequest, source: str) -> None:
        self.request = request
        self.source = source
        self.report: str | None = None

    def __call__(self, records: list[Record]) -> None:
        """Replace the ops in place.

        Raises:
            PrivacyError: What is stated does not fit the program, or the program cannot be private.
        """
        updates = [op for op in records if op.type == "dpsgd"]
        if not updates:
            if self.request.stated or self.request.mechanism != "gaussian":
                name = next(iter(self.request.stated), "mechanism")
                self._refuse(
                    f"{name} states privacy, but the program has no dpsgd op",
                    "save the program without its optimizer, and train it by fluid.optimizer.Dpsgd",
                )
            return
        if self.request.mechanism == "paddle":
            self._keep(len(updates))
            return
        constants = self._constants(updates)
        backward = self._backward(records, updates)
        private = Dpsgd(0.0, **self._arguments(constants)).privacy
        parameters = [name for op in updates for name in op.inputs.get("Param", ())]
        gradients = dict(zip(backward.inputs["Wrt"], backward.outputs["Grads"]))
        order = [name for name in backward.inputs["Wrt"] if name in parameters]
        backward.inputs["Wrt"], backward.outputs["Grads"] = order, [gradients[name] for name in order]
        backward.attrs |= {"parameters": order, "privacy": private}
        for op in updates:
            # What is private is the gradient; the update itself is plain SGD.
            op.type, op.attrs = "sgd", {}
        self.report = self._report(constants, order, records)

    def _keep(self, count: int) -> None:
        if self.request.stated:
            name = next(iter(self.request.stated))
            self._refuse(
                f"{name} is stated for mechanism='paddle', which keeps Paddle's own ops; they are not private",
                "leave mechanism out: the default replaces them by what is accounted for",
            )
        warnings.warn(
            f"{self.source}: {count} dpsgd ops of Paddle's are kept. They clip whole batch gradients and add one "
            "scalar draw: this gives no differential privacy",
            PrivacyWarning,
            stacklevel=6,
        )

    def _constants(self, updates: Sequence[Record]) -> dict[str, float]:
        """The file's constants, as far as nothing else is stated."""
        found: dict[str, float] = {}
        for name in _CONSTANTS:
            stated = getattr(self.request, name)
            values = sorted({float(op.attrs.get(name, 0.0)) for op in updates})
            if stated is None and len(values) > 1:
                self._refuse(
                    f"the dpsgd ops have {name} {', '.join(f'{v:g}' for v in values)}: one training has one",
                    f"state it: {name}={values[-1]:g}",
                )
            found[name] = float(f"{values[0]:.7g}") if stated is None else stated
        return found

    def _arguments(self, constants: Mapping[str, float]) -> dict[str, Any]:
        """Arguments of `Dpsgd`; it warns of those that are left out, as of Paddle's documented defaults."""
        request = self.request
        given = {**request.stated, "mechanism": request.mechanism}
        for name in _CONSTANTS:
            if getattr(request, name) is None and constants[name] != _DOCUMENTED[name]:
                given[name] = constants[name]
        if request.sigma is None and request.epsilon is not None:
            given["sigma"] = None  # it follows from the budget
        return given

    def _backward(self, records: Sequence[Record], updates: Sequence[Record]) -> Record:
        """The program's only backward, whose gradients nobody but the private updates reads."""
        found = [op for op in records if op.type == "backward"]
        if len(found) != 1:
            self._refuse(
                f"the program has {len(found)} backward passes: one private training has one loss",
                "add the losses up, or keep Paddle's ops: mechanism='paddle'",
            )
        (backward,) = found
        updated = {name for op in updates for name in op.inputs.get("Param", ())}
        others = [op for op in records if op.role is OpRole.OPTIMIZE and op.type != "dpsgd" and "Param" in op.inputs]
        if others:
            names = ", ".join(name for op in others for name in op.inputs["Param"])
            self._refuse(
                f"{names} of the same program are updated by {others[0].type}, whose gradients are not private",
                "train all parameters by one optimizer, or keep Paddle's ops: mechanism='paddle'",
            )
        gradients = dict(zip(backward.outputs["Grads"], backward.inputs["Wrt"]))
        raw = {gradient for gradient, name in gradients.items() if name not in updated}
        leaks = [(op.type, name) for op in records if op is not backward for name in op.reads if name in raw]
        if leaks:
            kind, name = leaks[0]
            self._refuse(
                f"{kind} reads {name}, a gradient of examples that no noise is added to",
                "save a program without it, or keep Paddle's ops: mechanism='paddle'",
            )
        missing = updated - set(gradients.values())
        if missing:
            self._refuse(
                f"dpsgd updates {', '.join(sorted(missing))}, whose gradients are not of the program's loss",
                "save the program before minimize, and train it by fluid.optimizer.Dpsgd",
            )
        return backward

    def _report(self, constants: Mapping[str, float], parameters: Sequence[str], records: Sequence[Record]) -> str:
        request = self.request

        def origin(name: str) -> str:
            return "the file's" if getattr(request, name) is None else "stated"

        calibrated = request.sigma is None and request.epsilon is not None
        sigma = "from epsilon" if calibrated else f"{constants['sigma']:g} ({origin('sigma')})"
        rest = ", ".join(f"{k}={v}" for k, v in request.stated.items() if k not in _CONSTANTS) or "nothing"
        between = [op.type for op in records if op.role is OpRole.OPTIMIZE and "Param" not in op.inputs]
        count = len(parameters)
        lines = [
            f"{self.source}: Paddle's dpsgd on {count} parameters is replaced by differentially private SGD (CCS'16)",
            "  why    Paddle's op clips the gradient of the whole batch, each tensor by itself, and adds one number,",
            "         drawn from the clock, to every element: no example's influence is bounded, and the noise cancels",
            "  now    each example's gradient over all these parameters together is clipped to C; every element of",
            "         their sum gets noise of its own, of standard deviation sigma * C; the result is divided by L",
            f"  C      {constants['clip']:g} ({origin('clip')})",
            f"  L      {constants['batch_size']:g} ({origin('batch_size')}); in Paddle's op it divides the noise only",
            f"  sigma  {sigma}; in Paddle's op it is the standard deviation itself",
            f"  stated {rest}",
            f"  for    {', '.join(parameters)}",
        ]
        if between:
            lines.append(f"  after  {', '.join(between)}, written before dpsgd, are applied to the private gradient")
        if request.dataset_size is None and request.sample_rate is None:
            lines.append("  note   epsilon stays unknown: state dataset_size, delta and max_steps")
        lines.append("  mechanism='paddle' keeps Paddle's op instead, for comparison")
        return "\n".join(lines)

    def _refuse(self, what: str, hint: str) -> None:
        raise PrivacyError(f"load_program: {what}", where=self.source, hint=hint)
