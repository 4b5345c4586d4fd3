"""``paddle.version``: that of the API which scripts find, Paddle 1.8.5's."""

from __future__ import annotations

full_version = "1.8.5"
major, minor, patch, rc = "1", "8", "5", "0"
istaged = True
commit = "fluidc"
with_mkl = "OFF"


def show() -> None:
    """Print the version."""
    print("full_version:", full_version)
    print("major:", major)
    print("minor:", minor)
    print("patch:", patch)
    print("rc:", rc)


def mkl() -> str:
    """Whether Intel's MKL computes: ``OFF``."""
    return with_mkl
