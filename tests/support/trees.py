"""Trees of arrays in files: how the goldens of Paddle 1.8.5 are written and read.

A tree is nested dicts, lists, scalars and arrays.  NAME.json holds it with every array as {"dtype", "shape", "start"}:
its elements are those of the one flat array of that dtype in NAME.npz from `start` on.  Runs under Python 3.7 too.
"""

import json
import pathlib
from typing import Any

import numpy as np

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "golden" / "paddle185"
_read: dict = {}


def write_tree(path, tree):
    """Write PATH.json and PATH.npz."""
    flat = {}
    lengths = {}

    def encode(node):
        if isinstance(node, np.ndarray):
            dtype = str(node.dtype)
            start = lengths.get(dtype, 0)
            flat.setdefault(dtype, []).append(node.ravel())
            lengths[dtype] = start + node.size
            return {"dtype": dtype, "shape": list(node.shape), "start": start}
        if isinstance(node, dict):
            return {str(key): encode(value) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            return [encode(value) for value in node]
        return node.item() if isinstance(node, np.generic) else node

    text = json.dumps(encode(tree), separators=(",", ":"))
    pathlib.Path(str(path) + ".json").write_text(text.replace("},", "},\n") + "\n")
    together: Any = {dtype: np.concatenate(parts) for dtype, parts in flat.items()}
    np.savez_compressed(str(path) + ".npz", **together)


def read_tree(path) -> Any:
    with np.load(str(path) + ".npz") as file:
        flat = {dtype: file[dtype] for dtype in file.files}

    def decode(node) -> Any:
        if isinstance(node, list):
            return [decode(value) for value in node]
        if not isinstance(node, dict):
            return node
        if node.keys() != {"dtype", "shape", "start"}:
            return {key: decode(value) for key, value in node.items()}
        shape, start = node["shape"], node["start"]
        return flat[node["dtype"]][start : start + int(np.prod(shape))].reshape(shape)

    return decode(json.loads(pathlib.Path(str(path) + ".json").read_text()))


def golden(name) -> Any:
    """The tree of one group of Paddle's goldens.  Not to be changed: readers share it."""
    if name not in _read:
        _read[name] = read_tree(GOLDENS / name)
    return _read[name]


def assert_same(got, want, rtol=1e-5, atol=1e-6, where="") -> None:
    """The same tree: keys in the same order, arrays of the same type and shape, numbers that are close."""
    if isinstance(want, dict):
        assert list(got) == list(want), f"{where}: keys {list(got)}, wanted {list(want)}"
        for key, value in want.items():
            assert_same(got[key], value, rtol, atol, f"{where}/{key}")
    elif isinstance(want, list):
        assert len(got) == len(want), f"{where}: {len(got)} entries, wanted {len(want)}"
        for i, (have, value) in enumerate(zip(got, want)):
            assert_same(have, value, rtol, atol, f"{where}/{i}")
    elif isinstance(want, np.ndarray):
        assert isinstance(got, np.ndarray), f"{where}: {got!r} is no array"
        assert (got.dtype, got.shape) == (want.dtype, want.shape), f"{where}: {got.dtype}{got.shape}"
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=where)
    elif isinstance(want, float):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=where)
    else:
        assert type(got) is type(want), f"{where}: {got!r}, wanted {want!r}"
        assert got == want, f"{where}: {got!r}, wanted {want!r}"
