"""Metrics accumulated outside the program, over batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .errors import invalid
from .missing import MissingName, missing_name


class MetricBase(ABC):
    """Values that `update` adds up and `eval` turns into a number."""

    def __init__(self, name: str | None = None) -> None:
        self._name = type(self).__name__ if name is None else str(name)

    def __str__(self) -> str:
        return self._name

    @abstractmethod
    def reset(self) -> None:
        """Start again from nothing."""

    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take in one batch."""

    @abstractmethod
    def eval(self) -> Any:
        """The metric over everything since `reset`."""


class Accuracy(MetricBase):
    """Mean of batch accuracies, weighted by batch size."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.reset()

    def reset(self) -> None:
        self.value = 0.0
        self.weight = 0.0

    def update(self, value: ArrayLike, weight: ArrayLike) -> None:  # type: ignore[override]
        """Take in a batch's accuracy and its number of rows."""
        rows = float(np.asarray(weight).reshape(()))
        if rows < 0:
            raise invalid(f"Accuracy.update: weight is {rows}", "give the number of rows")
        self.value += float(np.asarray(value).reshape(-1)[0]) * rows
        self.weight += rows

    def eval(self) -> float:
        if self.weight == 0:
            raise invalid("Accuracy.eval: nothing has been taken in", "call update first")
        return self.value / self.weight


class _Binary(MetricBase):
    """Counts of a binary classifier whose scores are rounded to 0 or 1."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.reset()

    def reset(self) -> None:
        self.tp = 0
        self.fp = 0
        self.fn = 0

    def update(self, preds: ArrayLike, labels: ArrayLike) -> None:  # type: ignore[override]
        """Take in scores in [0, 1] and labels 0 or 1, both of shape [N] or [N, 1]."""
        predicted = np.rint(np.asarray(preds)).astype(np.int64).reshape(-1)
        actual = np.asarray(labels).astype(np.int64).reshape(-1)
        if predicted.shape != actual.shape:
            raise invalid(f"{self}: {predicted.size} predictions and {actual.size} labels", "give one per row")
        self.tp += int(np.sum((predicted == 1) & (actual == 1)))
        self.fp += int(np.sum((predicted == 1) & (actual != 1)))
        self.fn += int(np.sum((predicted != 1) & (actual == 1)))


class Precision(_Binary):
    """True positives among what was called positive; 0 when nothing was."""

    def eval(self) -> float:
        called = self.tp + self.fp
        return self.tp / called if called else 0.0


class Recall(_Binary):
    """True positives among what is positive; 0 when nothing is."""

    def eval(self) -> float:
        actual = self.tp + self.fn
        return self.tp / actual if actual else 0.0


class CompositeMetric(MetricBase):
    """Several metrics of the same predictions and labels."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self._metrics: list[MetricBase] = []

    def add_metric(self, metric: MetricBase) -> None:
        self._metrics.append(metric)

    def reset(self) -> None:
        for metric in self._metrics:
            metric.reset()

    def update(self, preds: ArrayLike, labels: ArrayLike) -> None:  # type: ignore[override]
        for metric in self._metrics:
            metric.update(preds, labels)

    def eval(self) -> list[Any]:
        return [metric.eval() for metric in self._metrics]


class Auc(MetricBase):
    """Area under the ROC curve from a histogram of scores with ``num_thresholds`` + 1 bins."""

    def __init__(self, name: str, curve: str = "ROC", num_thresholds: int = 4095) -> None:
        super().__init__(name)
        if curve != "ROC":
            raise invalid(f"Auc: curve {curve!r} is not available", "use 'ROC'")
        self._bins = num_thresholds + 1
        self.reset()

    def reset(self) -> None:
        self._positive = np.zeros(self._bins, np.int64)
        self._negative = np.zeros(self._bins, np.int64)

    def update(self, preds: ArrayLike, labels: ArrayLike) -> None:  # type: ignore[override]
        """Take in probabilities [N, 2] (of the negative and the positive class) and labels [N] or [N, 1]."""
        scores = np.asarray(preds)[:, 1]
        bins = np.clip((scores * (self._bins - 1)).astype(np.int64), 0, self._bins - 1)
        actual = np.asarray(labels).reshape(-1) != 0
        self._positive += np.bincount(bins[actual], minlength=self._bins)
        self._negative += np.bincount(bins[~actual], minlength=self._bins)

    def eval(self) -> float:
        positive, negative = np.cumsum(self._positive[::-1]), np.cumsum(self._negative[::-1])
        if positive[-1] == 0 or negative[-1] == 0:
            return 0.0
        heights = np.concatenate([[0], positive])
        widths = np.diff(np.concatenate([[0], negative]))
        area = np.sum(widths * (heights[1:] + heights[:-1]) / 2.0)
        return float(area / (positive[-1] * negative[-1]))


def __getattr__(name: str) -> MissingName:
    return missing_name("fluid.metrics", name, {}, "compute it with numpy from what the Executor returns")
