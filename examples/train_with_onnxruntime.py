"""Train an exported step with ONNX Runtime alone; nothing of fluidc is imported.

fluidc compile examples/digits.py:plain -o digits.onnx -- --data data
python examples/train_with_onnxruntime.py digits.onnx data/train.npz 500

A private step takes lots instead of batches. The file clips and adds noise; that lots are drawn as they are accounted,
and how many, its caller answers for: `fluidc run` does both.
"""

import json
import os
import sys

import numpy as np
import onnxruntime

if len(sys.argv) != 4:
    raise SystemExit(__doc__)
onnxruntime.set_default_logger_severity(3)  # it warns of state that may be fed
path, data, steps = sys.argv[1], dict(np.load(sys.argv[2])), int(sys.argv[3])
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
notes = session.get_modelmeta().custom_metadata_map
inputs, outputs = json.loads(notes["fluidc.inputs"]), json.loads(notes["fluidc.outputs"])
sizes = {value.name: value.shape for value in session.get_inputs()}
privacy, state = json.loads(notes.get("fluidc.privacy", "null")), {}  # state begins with the file's own values
values, written = [], {}
rows, rng, batch = len(next(iter(data.values()))), np.random.default_rng(), sizes["@mask"][0] if privacy else 64
if privacy and (privacy["sampler"] != "poisson" or privacy["q_num"] is None or privacy["phases"]):
    raise SystemExit("this script draws Poisson lots of one sample rate; the step is to get others")
taken = json.loads(notes.get("fluidc.trained", "{}")).get("steps", 0)  # behind the file's own values
if privacy and taken + steps > (privacy["max_steps"] or taken + steps):
    raise SystemExit(f"the privacy of {privacy['max_steps']} steps is accounted for, not of {taken + steps}")
written, fetched = {}, {}
for step in range(steps):
    # Of a private program each row takes part with probability q, by words of the operating system's generator.
    lot = np.flatnonzero(np.frombuffer(os.urandom(4 * rows), np.uint32) < privacy["q_num"]) if privacy else None
    chosen = rng.permutation(rows)[:batch] if lot is None else lot
    if len(chosen) > batch:
        raise SystemExit(f"a lot of {len(chosen)} rows, and the step takes {batch}: compile with a larger --batch")
    places = np.append(chosen, np.zeros(batch - len(chosen), int)) if privacy else chosen  # what is added is masked
    own = {
        "key": np.frombuffer(os.urandom(32), np.uint32),  # of the noise: new, secret, and used for this step alone
        "rng_key": np.frombuffer(os.urandom(32), np.uint32), "draw": np.uint64(step), "rng_counter": np.uint64(step),
        "mask": np.arange(batch) < len(chosen), "row": np.int64(0),
    }  # fmt: skip
    fed = {i["input"]: np.asarray(own[i["kind"]]) for i in inputs if i["input"] and i["kind"] in own}
    fed |= {i["input"]: data[i["name"]][places] for i in inputs if i["input"] and i["kind"] == "feed"}
    values = session.run([output["output"] for output in outputs], fed | state)
    written = {o["name"]: value for o, value in zip(outputs, values, strict=True) if o["kind"] == "state"}
    fetched = {o["name"]: value for o, value in zip(outputs, values, strict=True) if o["kind"] == "fetch"}
    state = {i["input"]: written[i["name"]] for i in inputs if i["input"] and i["name"] in written}
print({name: value for name, value in fetched.items() if value.size == 1})
np.savez("trained.npz", **written)
