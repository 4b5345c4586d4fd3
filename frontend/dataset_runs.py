"""Running a program on a data set of files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from .dataset import DatasetBase
from .errors import invalid, wrong_type
from .prefetch import Prefetch
from .variable import Variable

_AHEAD = 8
"""Batches that a thread reads while a step runs."""


class FetchHandler:
    """Sees values while ``train_from_dataset`` runs; a subclass gives ``handler``.

    Args:
        var_dict: Its own names to Variables (or their names).
        period_secs: Seconds between two calls.
    """

    def __init__(self, var_dict: Mapping[str, Variable | str] | None = None, period_secs: float = 60) -> None:
        if not var_dict:
            raise invalid("FetchHandler: var_dict is empty", "give names and the Variables they stand for")
        self.var_dict = var_dict
        self.period_secs = period_secs

    def handler(self, res_dict: dict[str, np.ndarray]) -> None:
        """Print the values; they are by the names of ``var_dict``."""
        for name, value in res_dict.items():
            print(f"{name}: {value}")


class _Run(Protocol):
    """`Executor.run`."""

    def __call__(
        self,
        program: Any = None,
        feed: Any = None,
        fetch_list: Any = None,
        *,
        scope: Any = None,
    ) -> list[Any]: ...


def run_from_dataset(
    run: _Run,
    program: Any,
    dataset: object,
    scope: Any,
    fetch_list: Sequence[Variable | str] | None,
    fetch_info: Sequence[str] | None,
    print_period: int,
    fetch_handler: FetchHandler | None,
) -> None:
    """Run a program once for every batch; see `Executor.train_from_dataset`."""
    if not isinstance(dataset, DatasetBase):
        raise wrong_type(
            f"train_from_dataset: dataset is {type(dataset).__name__}",
            "give what fluid.DatasetFactory().create_dataset(...) made",
        )
    shown = list(fetch_list or ())
    texts = [v if isinstance(v, str) else v.name for v in shown] if fetch_info is None else list(fetch_info)
    if len(texts) != len(shown):
        raise invalid(
            f"train_from_dataset: {len(shown)} in fetch_list, {len(texts)} in fetch_info", "give one text for each"
        )
    if print_period <= 0:
        raise invalid(f"train_from_dataset: print_period is {print_period}", "give a positive number of batches")
    watched = {} if fetch_handler is None else fetch_handler.var_dict
    told = time.monotonic()
    batches = Prefetch(dataset.batches, _AHEAD)
    try:
        for number, feed in enumerate(batches):
            found = run(program, feed, [*shown, *watched.values()], scope=scope)
            if shown and number % print_period == 0:
                values = "  ".join(f"{text}: {value}" for text, value in zip(texts, found))
                print(f"batch {number}  {values}", flush=True)
            if fetch_handler is not None and time.monotonic() - told >= fetch_handler.period_secs:
                fetch_handler.handler(dict(zip(watched, found[len(shown) :])))
                told = time.monotonic()
    finally:
        batches.close()
