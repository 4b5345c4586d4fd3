"""Reads the goldens that tests/golden/make_paddle185 wrote with the real Paddle 1.8.5."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "paddle185"


@functools.cache
def golden(name: str) -> Any:
    """The tree of one group: nested dicts and lists, with arrays at their places.  Not to be changed: it is shared."""
    with np.load(FOLDER / f"{name}.npz") as file:
        flat = {dtype: file[dtype] for dtype in file.files}

    def decode(node: Any) -> Any:
        if isinstance(node, list):
            return [decode(value) for value in node]
        if not isinstance(node, dict):
            return node
        if node.keys() != {"dtype", "shape", "start"}:
            return {key: decode(value) for key, value in node.items()}
        shape, start = node["shape"], node["start"]
        return flat[node["dtype"]][start : start + int(np.prod(shape))].reshape(shape)

    return decode(json.loads((FOLDER / f"{name}.json").read_text()))
