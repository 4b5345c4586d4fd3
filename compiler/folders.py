"""Where results are kept between compilations."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FLUIDC_CACHE"


def user_folder(kind: str) -> Path | None:
    """The folder for results of a kind; None where nothing is to be kept.

    ``$FLUIDC_CACHE/KIND`` if the variable is set (set and empty: nothing is kept), else
    ``$XDG_CACHE_HOME/fluidc/KIND``, else ``~/.cache/fluidc/KIND``.
    """
    stated = os.environ.get(VARIABLE)
    if stated is not None:
        return Path(stated).absolute() / kind if stated else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG specification says to ignore relative ones
        return Path(base) / "fluidc" / kind
    try:
        return Path.home() / ".cache" / "fluidc" / kind
    except RuntimeError:  # a user without a home
        return None
