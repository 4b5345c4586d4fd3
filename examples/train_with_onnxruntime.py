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
data, rng, state = np.load(args.data), np.random.default_rng(int.from_bytes(os.urandom(16))), {}
rows, shapes = len(data[data.files[0]]), {value.name: value.shape for value in session.get_inputs()}
for step in range(args.steps):
    privacy = about.get("fluidc.privacy")  # Poisson lots: each row takes part with probability q
    batch = next((shapes[i["input"]][0] for i in about["fluidc.inputs"] if i["kind"] == "mask"), args.batch)
    chosen = np.flatnonzero(rng.random(rows) < privacy["q_num"] / 2**32) if privacy else rng.permutation(rows)[:batch]
    if privacy and len(chosen) > batch:
        raise SystemExit(f"a lot of {len(chosen)} rows, and the step takes {batch}: compile with a larger --batch")
    places = np.resize(np.append(chosen, 0), batch) if privacy else chosen  # padding is masked out
    made = {
        "key": np.frombuffer(os.urandom(32), np.uint32),  # of the noise: new, secret, and used for this step alone
        "draw": np.uint64(step), "mask": np.arange(batch) < len(chosen), "row": np.int64(0), "phase": np.int64(0),
        "rng_key": np.frombuffer(os.urandom(32), np.uint32), "rng_counter": np.uint64(step), "clock": np.uint64(0),
    }  # fmt: skip
    fed = {i["input"]: data[i["name"]][places] if i["kind"] == "feed" else np.asarray(made[i["kind"]])
           for i in about["fluidc.inputs"] if i["input"] and i["kind"] != "state"}  # fmt: skip
    values = session.run(None, fed | state)
    named = zip(about["fluidc.outputs"], values, strict=True)
    outputs = {(output["kind"], output["name"]): value for output, value in named}
    state = {name: value for (kind, name), value in outputs.items() if kind == "state"}
print({name: value for (kind, name), value in outputs.items() if kind == "fetch"})
if args.output:
    np.savez(args.output, **state)
