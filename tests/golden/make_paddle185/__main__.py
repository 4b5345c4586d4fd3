"""Writes the goldens of tests/golden/paddle185 with the real Paddle 1.8.5.

Paddle 1.8.5 runs under Python 3.7 only.  To make its environment (about 600 MB) and write all goldens:

    python3.7 -m venv v37
    v37/bin/pip install paddlepaddle==1.8.5 'protobuf<3.21' 'urllib3<2'
    v37/bin/python -W ignore tests/golden/make_paddle185            # or only some: ... make_paddle185 files layers

With --check DIR it instead reads files that fluidc wrote and compares what is in them (module check):

    .venv/bin/python tests/golden/write_for_paddle.py DIR
    v37/bin/python -W ignore tests/golden/make_paddle185 --check DIR

The tests need nothing of this: they read the committed goldens.  Each module writes one group and says at its
top what is in it and what was found surprising.
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "support"))  # the models, which the tests build too

import api
import check
import control
import datasets
import decays
import files
import gradients
import host
import layers
import mistakes_of_185
import parity
import programs
import random_numbers
import recurrent
import rules
import sequences
import training
import wrappers

GROUPS = {
    "api": api.write,
    "files": files.write,
    "layers": layers.write,
    "mistakes": mistakes_of_185.write,
    "datasets": datasets.write,
    "decays": decays.write,
    "training": training.write,
    "gradients": gradients.write,
    "control": control.write,
    "programs": programs.write,
    "parity": parity.write,
    "recurrent": recurrent.write,  # pyright: ignore[reportAttributeAccessIssue]
    "host": host.write,
    "wrappers": wrappers.write,
    "rules": rules.write,
    "sequences": sequences.write,
    "random_numbers": random_numbers.write,
}

if sys.argv[1:2] == ["--check"]:
    sys.exit(0 if check.check(*sys.argv[2:]) else 1)
for group in sys.argv[1:] or GROUPS:
    GROUPS[group]()
