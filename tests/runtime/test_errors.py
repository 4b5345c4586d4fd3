from __future__ import annotations

import pickle

import pytest
from fluidc.runtime.errors import ArtifactError, BudgetError, FluidcError


def test_an_error_prints_its_three_parts_on_three_lines() -> None:
    error = ArtifactError("the file is not an artifact", "model.fluidc", "compile the script again")
    assert str(error).splitlines() == [
        "the file is not an artifact",
        "  where: model.fluidc",
        "  what to do: compile the script again",
    ]


def test_an_error_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(BudgetError("too many steps", "step 7", "stop here")))
    assert isinstance(error, BudgetError)
    assert (error.what, error.where, error.hint) == ("too many steps", "step 7", "stop here")


def test_all_three_parts_are_asked_for() -> None:
    with pytest.raises(TypeError):
        FluidcError("only what")  # pyright: ignore[reportCallIssue]
