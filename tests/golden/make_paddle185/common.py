"""What the scripts of this folder share: where goldens lie, how a tree of arrays is written, neutral call stacks."""

import json
import pathlib
import re

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "paddle185"


def write_tree(name, tree):
    """Write nested dicts, lists, scalars and arrays as NAME.json and NAME.npz.

    An array stands in the JSON as {"dtype", "shape", "start"}: its elements are those of the npz's one flat array of
    that dtype from `start` on.  tests/support/paddle_goldens.py reads the pair.
    """
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
        if isinstance(node, np.generic):
            return node.item()
        return node

    text = json.dumps(encode(tree), separators=(",", ":"))
    GOLDENS.mkdir(exist_ok=True)
    (GOLDENS / (name + ".json")).write_text(text.replace("},", "},\n") + "\n")
    np.savez_compressed(str(GOLDENS / (name + ".npz")), **{k: np.concatenate(v) for k, v in flat.items()})


def uniform(seed, *shape):
    """float32 values in [-1, 1)."""
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32")


def set_parameters(layer, seed=0):
    """Give every parameter of a dygraph layer values that depend only on the seed and its place."""
    for i, parameter in enumerate(layer.parameters()):
        parameter.set_value(uniform(1000 * seed + i, *parameter.shape) * np.float32(0.5))


def values(state):
    """The arrays of a dygraph state dict; entries that are no variables stay as they are."""
    return {k: v.numpy() if isinstance(v, fluid.core.VarBase) else v for k, v in state.items()}


def weighted(out, seed=99):
    """sum(w * out) with fixed weights w: a loss whose gradients tell elements apart."""
    weights = fluid.dygraph.to_variable(uniform(seed, *out.shape))
    return fluid.layers.reduce_sum(fluid.layers.elementwise_mul(out, weights))


def neutral(program_bytes):
    """The same ProgramDesc with call stacks that name no folders of this machine."""
    desc = fluid.core.ProgramDesc(program_bytes)
    for b in range(desc.num_blocks()):
        block = desc.block(b)
        block._remove_op(0, 0)  # removes nothing, and makes it write its ops anew
        for i in range(block.op_size()):
            op = block.op(i)
            if op.has_attr("op_callstack"):
                stack = [re.sub(r'"[^"]*/', '"', line) for line in op.attr("op_callstack")]
                op._set_attr("op_callstack", stack[:2])
    return desc.serialize_to_string()


def neutral_file(path):
    path = pathlib.Path(path)
    path.write_bytes(neutral(path.read_bytes()))
