"""Writes with fluidc what make_paddle185 --check reads with Paddle: python tests/golden/write_for_paddle.py DIR."""

import pathlib
import sys

import fluidc.frontend as fluid

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from saved_files import write_files, write_traced_layers

folder = pathlib.Path(sys.argv[1])
write_files(fluid, folder)
write_traced_layers(fluid, folder)
