from __future__ import annotations

import pickle

import pytest

from fluidc.compiler.errors import VerifyError
from fluidc.runtime.errors import ArtifactError, BudgetError, FluidcError


def test_an_error_prints_its_three_parts_on_three_lines() -> None:
    error = ArtifactError("the file is not an artifact", "model.fluidc", "compile the script again")
    assert str(error).splitlines() == [
        "the file is not an artifact",
        "  at model.fluidc",
        "  compile the script again",
    ]


def test_an_error_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(BudgetError("too many steps", "step 7", "stop here")))
    assert isinstance(error, BudgetError)
    assert (error.what, error.where, error.hint) == ("too many steps", "step 7", "stop here")


def test_a_part_that_is_missing_takes_no_line() -> None:
    assert str(VerifyError("no such value")) == "no such value"
    assert str(VerifyError("no such value", hint="define it first")) == "no such value\n  define it first"
    error = pickle.loads(pickle.dumps(VerifyError("no such value", where="line 3")))
    assert (type(error), str(error)) == (VerifyError, "no such value\n  at line 3")


def test_the_runtime_always_gives_all_three_parts() -> None:
    with pytest.raises(TypeError):
        ArtifactError("only what")  # pyright: ignore[reportCallIssue]


def test_one_base_catches_the_errors_of_every_room() -> None:
    assert issubclass(VerifyError, FluidcError)
    assert issubclass(ArtifactError, FluidcError)
