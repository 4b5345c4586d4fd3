"""Options of the commands that read a fluid script or import a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .call_spec import CallSpec, CallSpecType
from .model_kind import MODEL, is_model

if TYPE_CHECKING:
    from .training import Training

F = TypeVar("F", bound=Callable[..., Any])

_FEED = re.compile(r"([^=]+)=([^=]+)")


class ScriptName(click.ParamType):
    """``SCRIPT.py``, ``SCRIPT.py:NAME``, ``MODEL.onnx`` or a model of Paddle's; gives (path, name or None)."""

    name = "script"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Path, str | None]:
        """The path of a file, or of a model's folder, that exists, and the name."""
        if isinstance(value, tuple):
            return value
        text, colon, name = str(value).rpartition(":")
        if not colon or not name.isidentifier():
            text, name = str(value), ""
        path = Path(text)
        if path.is_dir() and not (path / MODEL).is_file():
            self.fail(f"the folder {text!r} has no {MODEL}", param, ctx)
        if not path.is_file() and not path.is_dir():
            self.fail(f"there is no file {text!r}", param, ctx)
        return path, name or None


class FeedShape(click.ParamType):
    """``NAME=N,1,28,28``; gives (name, sizes with -1 for the batch N)."""

    name = "name=shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """The feed's name and its sizes."""
        if isinstance(value, tuple):
            return value
        found = _FEED.fullmatch(str(value))
        sizes = found[2].split(",") if found else []
        if found is None or not all(size == "N" or size.isdecimal() for size in sizes) or "N" in sizes[1:]:
            self.fail(f"{value!r} is not NAME=SIZE,SIZE,... with N, the batch, at most in front", param, ctx)
        return found[1], tuple(-1 if size == "N" else int(size) for size in sizes)


def script_options(command: F) -> F:
    """What a script is run and lowered with."""
    added: Sequence[Callable[[F], F]] = (
        click.option(
            "--feed",
            "feeds",
            type=FeedShape(),
            multiple=True,
            metavar="NAME=SHAPE",
            help="Sizes of a feed, N for the batch: --feed image=N,1,28,28.",
        ),
        click.option("--fetch", "fetches", multiple=True, metavar="NAME", help="Also return this variable."),
        click.option("--dataset-size", type=int, metavar="n", help="Public number of examples, for q = L/n."),
        click.option("--sample-rate", type=float, metavar="Q", help="The sampling rate q itself."),
        click.option("--delta", type=float, metavar="D", help="Failure probability of the guarantee."),
        click.option("--max-steps", type=int, metavar="T", help="Private steps that the guarantee covers."),
        click.option("--epsilon", type=float, metavar="E", help="The budget; sigma left out follows from it."),
        click.option(
            "--sampler",
            type=click.Choice(["poisson", "balls", "shuffle", "sequential"]),
            help="How lots are drawn of the data, which the guarantee accounts for [the script's own].",
        ),
        click.option(
            "--adjacency",
            type=click.Choice(["add-remove", "replace-one", "zero-out"]),
            help="Which data sets the guarantee calls neighbours [the script's, else the sampler's own].",
        ),
        click.option(
            "--loss",
            type=CallSpecType(),
            metavar="NAME[:ARG=VALUE,...]",
            help="Of a model: a loss layer on its first output and a feed named label.",
        ),
        click.option(
            "--optimizer",
            type=CallSpecType(),
            metavar="NAME[:ARG=VALUE,...]",
            help="Of a model: adam:learning_rate=1e-3, dpsgd:learning_rate=0.1,clip=1,batch_size=64,sigma=1.1, ...",
        ),
        click.option(
            "--trainable",
            multiple=True,
            metavar="GLOB",
            help="Of a model: train only these parameters; may be repeated.",
        ),
        click.option(
            "--params", metavar="FILE", help="Of a model of Paddle's: the file in its folder that holds all values."
        ),
        click.argument("script_args", nargs=-1, type=click.UNPROCESSED),
    )
    for add in reversed(added):
        command = add(command)
    return command


def training_of(
    path: Path,
    loss: CallSpec | None,
    optimizer: CallSpec | None,
    trainable: tuple[str, ...],
    params: str | None,
) -> Training:
    """How a model is trained, checked.

    Raises:
        click.BadParameter: Options that do not fit, or that are given with a script.
    """
    from .training import Training, check_training

    if params is not None and path.suffix in (".py", ".onnx", ".pdmodel", ".fluidc"):
        raise click.BadParameter("it is for a folder that Paddle wrote", param_hint="--params")
    training = Training(loss, optimizer, trainable)
    if not is_model(path, params) and training.stated is not None:
        raise click.BadParameter("it is for a model; a script states it itself", param_hint=training.stated)
    check_training(training)
    return training
