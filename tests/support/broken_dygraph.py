"""The mechanism in dygraph, broken in one place each; ``broken`` has what both modes share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fluidc.frontend.dygraph import private, private_execution, recorder
from fluidc.frontend.dygraph.private import Step
from fluidc.runtime import stepper


def any_function(patch: pytest.MonkeyPatch) -> None:
    """Every step may compute its gradient in its own way."""
    of = Step.of

    def forgetful(training: Any, *args: Any) -> Any:
        training.core = None
        return of(training, *args)

    patch.setattr(Step, "of", forgetful)


def any_origin(patch: pytest.MonkeyPatch) -> None:
    """Values that were computed before count as arrays of the caller."""
    check = private._check_known

    def trusting(training: Any, record: Any, node: Any, behind: Any) -> None:
        if node.value is not None and node.fed is None:
            node.fed = recorder.BY_CALLER
        check(training, record, node, behind)

    patch.setattr(private, "_check_known", trusting)


def raw_gradients(patch: pytest.MonkeyPatch) -> None:
    """``grad`` goes through private parameters."""
    patch.setattr(recorder, "refuse_raw", lambda walk, asked: None)


def not_withheld(patch: pytest.MonkeyPatch) -> None:
    """What gets no gradient says nothing of it."""
    patch.setattr(recorder, "withhold", lambda training, nodes: None)


def kept_examples(patch: pytest.MonkeyPatch) -> None:
    """An op beside the gradient may keep values of the examples."""
    patch.setattr(private, "_check_kept", lambda *args: None)


def copies_of_the_lot(patch: pytest.MonkeyPatch) -> None:
    """A step reads what the caller made of the copy that he was given."""
    patch.setattr(private_execution, "_array", lambda node, step: node.value)


def any_lot(patch: pytest.MonkeyPatch) -> None:
    """A step is a lot's if one of its arrays is."""
    of = Step.of

    def claimed(*args: Any) -> Any:
        step, records = of(*args)
        lots = [node.fed.lot for node in step.examples if node.fed is not None and node.fed.lot is not None]
        return replace(step, lot=lots[0] if lots else None), records

    patch.setattr(Step, "of", claimed)


def one_mask(patch: pytest.MonkeyPatch) -> None:
    """Dropout draws the same whatever the key of the step is."""
    patch.setattr(stepper, "step_model_key", lambda key: bytes(32))
