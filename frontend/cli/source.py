"""From a script on the command line to a captured module."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ...compiler.driver import Source
from ...compiler.errors import PrivacyError
from ...compiler.privacy import Run
from ..framework import Operator
from ..lower import lower
from ..lower.module import privacy_config
from .capture import CaptureError, Chosen, choose, feed_types, fetches, infer_fetches, run_script
from .model_kind import is_model, is_paddle
from .training import Training

_PRIVATE = (
    "train it by fluid.optimizer.Dpsgd, or name the private program: SCRIPT.py:NAME",
    "train it privately: --optimizer dpsgd:learning_rate=0.1,clip=1,batch_size=64,sigma=1.1",
)


@dataclass(frozen=True)
class Overrides:
    """Arguments of Dpsgd that the command line states instead of the script; None leaves the script's."""

    dataset_size: int | None = None
    sample_rate: float | None = None
    delta: float | None = None
    max_steps: int | None = None
    epsilon: float | None = None
    sampler: str | None = None
    adjacency: str | None = None

    @property
    def stated(self) -> dict[str, int | float | str]:
        """Those that are not None, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        path: The script.
        name: Global variable of the script that holds the program; None for the last one minimised.
        arguments: What the script finds in ``sys.argv[1:]``.
        feeds: Shapes by feed name, -1 for the batch.
        fetches: Names to return beside those that the script fetches.
        seed: Of initialisers and dropout that the script leaves unseeded.
        overrides: Privacy arguments.
        prior: Earlier runs on the same data, which the program's epsilon covers too.
        training: Loss and optimizer of a model that is imported; ``path`` then is an ``.onnx`` file, or Paddle's.
        params: The file that holds all values of a model of Paddle's; None: one for each variable.
    """

    path: Path
    name: str | None = None
    arguments: tuple[str, ...] = ()
    feeds: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    fetches: tuple[str, ...] = ()
    seed: int | None = None
    overrides: Overrides = field(default_factory=Overrides)
    prior: tuple[Run, ...] = ()
    training: Training = field(default_factory=Training)
    params: str | None = None

    @property
    def is_model(self) -> bool:
        """Whether a model is imported instead of a script being run."""
        return is_model(self.path, self.params)


@dataclass(frozen=True)
class Lowered:
    """A captured module, the program it was made from, and how long that took.

    Attributes:
        source: Ready for `compile_source`.
        chosen: The program.
        seconds: By phase: ``script``, ``accounting`` (private programs), ``lowering``.
        joint: ε of this run and the earlier ones; None where none were named.
    """

    source: Source
    chosen: Chosen
    seconds: dict[str, float]
    joint: float | None = None


def lowered(request: Request) -> Lowered:
    """Run the script, or import the model, and lower the program it asks for.

    Raises:
        FluidcError: What the script, fluid or the accountant refuses.
    """
    seconds: dict[str, float] = {}
    joint: float | None = None
    start = time.perf_counter()
    if request.is_model and request.name is not None:
        what = f"a model holds no program called {request.name}"
        raise CaptureError(what, str(request.path), f"leave :{request.name} out")
    if is_paddle(request.path, request.params):
        from .paddle_model import paddle_program  # loads protobuf

        chosen = paddle_program(request.path, request.training, request.params)
    elif request.is_model:
        from .onnx_model import onnx_program  # loads onnx

        stated = {name: shape for name, shape in request.feeds.items() if name != "label"}
        chosen = onnx_program(request.path, request.training, stated)
    else:
        chosen = choose(run_script(request.path, request.arguments), request.name)
    seconds["import" if request.is_model else "script"] = time.perf_counter() - start
    record = chosen.program.global_block().private_backward()
    if record is not None:
        start = time.perf_counter()
        joint = _account(record, request.overrides, request.prior)
        seconds["accounting"] = time.perf_counter() - start
    elif stated := request.overrides.stated:
        option = "--" + next(iter(stated)).replace("_", "-")
        raise PrivacyError(
            f"{option} states privacy for a program that is not private",
            where=str(request.path),
            hint=_PRIVATE[request.is_model],
        )
    if record is None and request.prior:
        raise PrivacyError(
            "--prior counts earlier runs in for a program that is not private",
            where=str(request.path),
            hint=_PRIVATE[request.is_model],
        )
    start = time.perf_counter()
    names = fetches(chosen, request.fetches)
    source = lower(
        chosen.program,
        startup=chosen.startup,
        fetches=names,
        feed_types=feed_types(chosen, request.feeds),
        infer_fetches=infer_fetches(chosen.program, tuple(dict.fromkeys([*names, *chosen.outputs]))),
    )
    if request.seed is not None:
        source = replace(source, seed=request.seed)
    seconds["lowering"] = time.perf_counter() - start
    return Lowered(source, chosen, seconds, joint)


def _account(record: Operator, overrides: Overrides, prior: tuple[Run, ...]) -> float | None:
    """Put the overrides into the record, and have the accountant's answers computed and stored.

    What follows then finds them, so that the time they take is told apart from the compiler's own. With earlier runs,
    sigma and max_steps are settled here, such that all runs together keep the stated epsilon; returned is what they
    cost together.
    """
    spec = record.attr("privacy")
    if overrides.stated:
        spec = replace(spec, **overrides.stated)
        record.set_attr("privacy", spec)
    _, plan = privacy_config(record, prior)
    if prior and plan.joint is None:
        raise PrivacyError(
            f"--prior: this run has no epsilon that could be added to the earlier ones: {plan.reason}",
            where=record.loc.place,
            hint="state dataset_size, delta, max_steps and sigma or epsilon in Dpsgd",
        )
    if prior:
        # Of training in phases every sigma is stated already.
        sigma = spec.sigma if plan.phases else plan.sigma
        spec = replace(spec, sigma=sigma, max_steps=plan.max_steps, epsilon=None)
        record.set_attr("privacy", spec)
        privacy_config(record)
    if plan.budget is not None:
        plan.budget.table()
    return plan.joint
