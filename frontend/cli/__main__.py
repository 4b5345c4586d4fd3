"""``python -m fluidc.frontend.cli``: the same as ``fluidc``."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    main(prog_name="fluidc")
