"""Metrics accumulated outside the program, over batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from . import unique_name
from .errors import invalid, unsupported
from .framework import Program, program_guard
from .initializer import ConstantInitializer
from .layer_helper import LayerHelper
from .layers.matching import detection_map
from .layers.tensor import cast, concat, fill_constant
from .missing import MissingName, missing_name
from .variable import Variable


class Runs(Protocol):
    """What runs programs: an Executor."""

    def run(self, program: Program, *, fetch_list: Sequence[Variable] | None = None) -> list[Any]:
        """Run one once; returns what is fetched."""
        ...


class MetricBase:
    """Values that `update` adds up and `eval` turns into a number; the base of a script's own metrics."""

    def __init__(self, name: str | None = None) -> None:
        self._name = type(self).__name__ if name is None else str(name)

    def __str__(self) -> str:
        return self._name

    def _states(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def reset(self) -> None:
        """Start again: every attribute without a leading underscore becomes zero; None, if it is no number."""
        for name, value in self._states().items():
            if isinstance(value, int | float):
                zero: object = type(value)(0)
            else:
                zero = np.zeros_like(value) if isinstance(value, np.ndarray | np.generic) else None
            setattr(self, name, zero)

    def get_config(self) -> dict[str, Any]:
        """Its name, and a copy of what it holds."""
        return {"name": self._name, "states": copy.deepcopy(self._states())}

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take in one batch."""
        del args, kwargs
        raise unsupported(f"{type(self).__name__}.update is not written", "derive from MetricBase and write it")

    def eval(self) -> Any:
        """The metric over everything since `reset`."""
        raise unsupported(f"{type(self).__name__}.eval is not written", "derive from MetricBase and write it")


class Accuracy(MetricBase):
    """Mean of batch accuracies, weighted by batch size; of arrays an array."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.value: Any = 0.0
        self.weight: Any = 0.0

    def update(self, value: Any, weight: Any) -> None:
        """Take in a batch's accuracy and its number of rows."""
        if np.size(weight) != 1 or np.min(weight) < 0:
            raise invalid(f"Accuracy.update: weight is {weight}", "give the number of rows")
        self.value = self.value + value * weight
        self.weight = self.weight + weight

    def eval(self) -> Any:
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

    def update(self, preds: ArrayLike, labels: ArrayLike) -> None:
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

    def update(self, preds: ArrayLike, labels: ArrayLike) -> None:
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

    def update(self, preds: ArrayLike, labels: ArrayLike) -> None:
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


class ChunkEvaluator(MetricBase):
    """Precision, recall and F1 of chunks, from the counts of `layers.chunk_eval`."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.num_infer_chunks: Any = 0
        self.num_label_chunks: Any = 0
        self.num_correct_chunks: Any = 0

    def update(self, num_infer_chunks: Any, num_label_chunks: Any, num_correct_chunks: Any) -> None:
        """Take in how many chunks of a batch were inferred, are labelled, and agree."""
        self.num_infer_chunks = self.num_infer_chunks + num_infer_chunks
        self.num_label_chunks = self.num_label_chunks + num_label_chunks
        self.num_correct_chunks = self.num_correct_chunks + num_correct_chunks

    def eval(self) -> tuple[Any, Any, Any]:
        right = float(np.asarray(self.num_correct_chunks).reshape(()))
        precision = right / self.num_infer_chunks if self.num_infer_chunks else 0
        recall = right / self.num_label_chunks if self.num_label_chunks else 0
        return precision, recall, 2 * precision * recall / (precision + recall) if right else 0


class EditDistance(MetricBase):
    """Mean of the distances of `layers.edit_distance`, and the share of sequences that are not right."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.total_distance: Any = 0.0
        self.seq_num: Any = 0
        self.instance_error: Any = 0

    def update(self, distances: Any, seq_num: Any) -> None:
        """Take in a batch's distances and how many they are."""
        found = np.asarray(distances)
        self.seq_num = self.seq_num + seq_num
        self.instance_error = self.instance_error + (seq_num - np.sum(found == 0))
        self.total_distance = self.total_distance + np.sum(found)

    def eval(self) -> tuple[Any, Any]:
        if self.seq_num == 0:
            raise invalid("EditDistance.eval: nothing has been taken in", "call update first")
        return self.total_distance / self.seq_num, self.instance_error / np.asarray(self.seq_num, np.float64)[()]


class DetectionMAP:
    """Mean average precision of detections inside the program, of each batch and of all since `reset`.

    Args:
        input: Rows of class, score and corners [n, 6] with LoD by image, what `layers.multiclass_nms` returns.
        gt_label: Classes of the true boxes [n, 1], with LoD by image.
        gt_box: Their corners [n, 4].
        gt_difficult: Which of them are difficult [n, 1]; None: none.
        class_num: How many classes there are, background included.
        background_label: Has no effect, as in Paddle 1.8.5.
        overlap_threshold: From which intersection over union on a detection is right.
        evaluate_difficult: Whether difficult boxes count.
        ap_version: ``integral``, or ``11point``.
    """

    def __init__(
        self,
        input: Variable,
        gt_label: Variable,
        gt_box: Variable,
        gt_difficult: Variable | None = None,
        class_num: int | None = None,
        background_label: int = 0,
        overlap_threshold: float = 0.5,
        evaluate_difficult: bool = True,
        ap_version: str = "integral",
    ) -> None:
        helper = LayerHelper("map_eval")
        columns = [gt_label] if gt_difficult is None else [gt_label, gt_difficult]
        label = concat([*(cast(x, gt_box.dtype) for x in columns), gt_box], axis=1)
        options: dict[str, Any] = {
            "overlap_threshold": overlap_threshold,
            "evaluate_difficult": evaluate_difficult,
            "ap_version": ap_version,
        }
        self.cur_map = detection_map(input, label, class_num, background_label, **options)

        def name(suffix: str) -> str:
            return f"{unique_name.generate(helper.name)}_{suffix}"

        block = helper.main_program.global_block()
        kinds = (("accum_pos_count", "int32"), ("accum_true_pos", "float32"), ("accum_false_pos", "float32"))
        states = [block.create_var(name=name(suffix), dtype=dtype, persistable=True) for suffix, dtype in kinds]
        self.has_state = helper.initialised_variable(name("has_state"), [1], "int32", ConstantInitializer(0))
        self.accum_map = detection_map(
            input,
            label,
            class_num,
            background_label,
            has_state=self.has_state,
            input_states=states,
            out_states=states,
            **options,
        )
        fill_constant([1], "int32", 1, out=self.has_state)

    def get_map_var(self) -> tuple[Variable, Variable]:
        """The Variables to fetch: of the batch, and of all since `reset`, float32 [1]."""
        return self.cur_map, self.accum_map

    def reset(self, executor: Runs, reset_program: Program | None = None) -> None:
        """Start again from nothing."""
        reset_program = Program() if reset_program is None else reset_program
        with program_guard(reset_program):
            state = self.has_state
            block = reset_program.global_block()
            var = block.create_var(name=state.name, shape=state.shape, dtype=state.dtype, persistable=True)
            fill_constant([1], "int32", 0, out=var)
        executor.run(reset_program)


__all__ = [
    "Accuracy",
    "Auc",
    "ChunkEvaluator",
    "CompositeMetric",
    "DetectionMAP",
    "EditDistance",
    "MetricBase",
    "Precision",
    "Recall",
]
