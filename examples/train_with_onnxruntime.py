"""Train an exported step with ONNX Runtime alone; nothing of fluidc is imported.

fluidc compile examples/digits.py:plain -o digits.onnx -- --data data
python examples/train_with_onnxruntime.py digits.onnx data/train.npz --steps 500

A private step takes lots instead of batches. The file clips and adds noise; that lots
are drawn as they are accounted, and how many, its caller answers for: `fluidc run` does both.
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np
import onnxruntime

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("data", help=".npz file, one array per feed")
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("-o", "--output", help="write the trained state to this .npz file")
args = parser.parse_args()

onnxruntime.set_default_logger_severity(3)  # it warns of state that may be fed
session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
notes = session.get_modelmeta().custom_metadata_map
about = {name: json.loads(text) for name, text in notes.items() if text[0] in "[{"}
inputs, privacy = [i for i in about["fluidc.inputs"] if i["input"]], about.get("fluidc.privacy")
if privacy and (privacy["sampler"] != "poisson" or privacy["q_num"] is None or privacy["phases"]):
    raise SystemExit("this script draws Poisson lots of one sample rate; the step is to get others")
before = about.get("fluidc.trained", {}).get("steps", 0)  # behind the file's own values
if privacy and privacy["max_steps"] and before + args.steps > privacy["max_steps"]:
    raise SystemExit(f"the privacy of {privacy['max_steps']} steps is accounted for, not of {before + args.steps}")
data, rng, state = dict(np.load(args.data)), np.random.default_rng(), {}
rows, shapes = len(next(iter(data.values()))), {value.name: value.shape for value in session.get_inputs()}
batch = next((shapes[i["input"]][0] for i in inputs if i["kind"] == "mask"), args.batch)
for step in range(args.steps):
    if privacy:  # each row takes part with probability q, in words of the operating system's generator
        chosen = np.flatnonzero(np.frombuffer(os.urandom(4 * rows), np.uint32) < privacy["q_num"])
    else:
        chosen = rng.permutation(rows)[:batch]
    if len(chosen) > batch:
        raise SystemExit(f"a lot of {len(chosen)} rows, and the step takes {batch}: compile with a larger --batch")
    places = np.resize(np.append(chosen, 0), batch) if privacy else chosen  # padding is masked out
    made = {
        "key": np.frombuffer(os.urandom(32), np.uint32),  # of the noise: new, secret, and used for this step alone
        "draw": np.uint64(step), "mask": np.arange(batch) < len(chosen), "row": np.int64(0),
        "rng_key": np.frombuffer(os.urandom(32), np.uint32), "rng_counter": np.uint64(step),
    }  # fmt: skip
    fed = {i["input"]: data[i["name"]][places] if i["kind"] == "feed" else np.asarray(made[i["kind"]])
           for i in inputs if i["kind"] != "state"}  # fmt: skip
    values = session.run(None, fed | {name: value for name, value in state.items() if name in shapes})
    named = zip(about["fluidc.outputs"], values, strict=True)
    outputs = {(output["kind"], output["name"]): value for output, value in named}
    state = {name: value for (kind, name), value in outputs.items() if kind == "state"}
print({name: value for (kind, name), value in outputs.items() if kind == "fetch"})
if args.output:
    np.savez(args.output, **state)
