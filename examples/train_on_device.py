"""Train on-device artifacts by ONNX Runtime's training API; nothing of fluidc is imported.

fluidc compile examples/digits.py:plain --target ort-artifacts -o digits-device -- --data data
python examples/train_on_device.py digits-device data/train.npz --steps 500 -o trained.onnx

Of a private step, that lots are drawn as they are accounted, and how many, its caller answers for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

try:
    from onnxruntime.training import api
except ImportError:  # the package's own __init__ wants torch, which its api does not need
    package = types.ModuleType("onnxruntime.training")
    package.__path__ = [os.path.join(os.path.dirname(onnxruntime.__file__), "training")]
    sys.modules["onnxruntime.training"] = package
    from onnxruntime.training import api

parser = argparse.ArgumentParser()
parser.add_argument("artifacts", type=Path)
parser.add_argument("data", help=".npz file, one array per feed")
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("-o", "--output", help="write the last output of the eval model, for inference, to this .onnx file")
args = parser.parse_args()

about = json.loads((args.artifacts / "artifacts.json").read_text())
state = api.CheckpointState.load_checkpoint(args.artifacts / "checkpoint")
model = api.Module(args.artifacts / "training_model.onnx", state, args.artifacts / "eval_model.onnx")
optimizer = api.Optimizer(args.artifacts / "optimizer_model.onnx", model)
optimizer.set_learning_rate(float(state.properties["learning_rate"]))

data, rng, privacy = np.load(args.data), np.random.default_rng(), about["privacy"]
rows, wanted = len(data[data.files[0]]), about["training"]["inputs"]
if privacy and (privacy["sampler"] != "poisson" or privacy["q_num"] is None or privacy["phases"]):
    raise SystemExit("this script draws Poisson lots of one sample rate; the step is to get others")
if privacy and args.steps > (privacy["max_steps"] or args.steps):
    raise SystemExit(f"the privacy of {privacy['max_steps']} steps is accounted for, not of {args.steps}")
outputs: Any = ()
for step in range(args.steps):
    batch = next((wish["shape"][0] for wish in wanted if wish["name"] == "@mask"), args.batch)
    # Poisson lots: each row takes part with probability q, by words of the operating system's generator
    lot = np.flatnonzero(np.frombuffer(os.urandom(4 * rows), np.uint32) < privacy["q_num"]) if privacy else None
    chosen = rng.permutation(rows)[:batch] if lot is None else lot
    if privacy and len(chosen) > batch:
        raise SystemExit(f"a lot of {len(chosen)} rows, and the step takes {batch}: compile with a larger --batch")
    places = np.resize(np.append(chosen, 0), batch) if privacy else chosen  # padding is masked out
    fed = {name: data[name][places] for name in data.files} | {
        "@mask": np.arange(batch) < len(chosen),
        "@key": np.frombuffer(os.urandom(32), np.uint32),  # of the noise: new, secret, and used for this step alone
        "@draw": np.asarray(step, np.uint64),
        "@rng_key": np.frombuffer(os.urandom(32), np.uint32),
        "@rng_counter": np.asarray(step, np.uint64),
    }
    outputs = model(*(fed[wish["name"]] for wish in wanted))
    optimizer.step()
    model.lazy_reset_grad()
values = outputs if isinstance(outputs, tuple) else (outputs,)
named = zip(about["training"]["outputs"], values, strict=True)
print({output["name"]: value for output, value in named if value.size == 1})
if args.output:
    model.eval().export_model_for_inferencing(args.output, [about["eval"]["outputs"][-1]["name"]])
