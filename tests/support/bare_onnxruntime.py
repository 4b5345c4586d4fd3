"""Take steps of an exported function with numpy and onnxruntime, and nothing of fluidc: also run in other environments.

    python bare_onnxruntime.py MODEL.onnx FEEDS.npz STEPS OUT.npz

FEEDS.npz holds every input that is not state; ``@draw`` and ``@rng_counter`` count the steps from what they hold.
OUT.npz gets every fetch of all steps, stacked, and the last state.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime as ort


def train(model: str, feeds: dict[str, np.ndarray], steps: int) -> dict[str, np.ndarray]:
    """Fetches of all steps, stacked, and the last state, by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs = json.loads(session.get_modelmeta().custom_metadata_map["fluidc.outputs"])
    wanted = {value.name for value in session.get_inputs()}
    fed = {name: value for name, value in feeds.items() if name in wanted}
    state: dict[str, np.ndarray] = {}
    fetched: dict[str, list[np.ndarray]] = {}
    for _ in range(steps):
        values = session.run([output["output"] for output in outputs], fed | state)
        for output, value in zip(outputs, values, strict=True):
            if output["kind"] == "state":
                state[output["name"]] = value
            else:
                fetched.setdefault(output["name"], []).append(value)
        for counter in {"@draw", "@rng_counter"} & fed.keys():
            fed[counter] = np.asarray(fed[counter] + np.uint64(1))
    return {name: np.stack(found) for name, found in fetched.items()} | state


if __name__ == "__main__":
    path, data, count, out = sys.argv[1:]
    np.savez(out, allow_pickle=False, **train(path, dict(np.load(data)), int(count)))
