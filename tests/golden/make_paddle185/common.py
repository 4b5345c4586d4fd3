"""What the scripts of this folder share: values of state dicts, and call stacks without folders."""

import pathlib
import re

import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]


def values(state):
    """The arrays of a dygraph state dict; entries that are no variables stay as they are."""
    return {k: v.numpy() if isinstance(v, fluid.core.VarBase) else v for k, v in state.items()}


def neutral(program_bytes):
    """The same ProgramDesc with short call stacks that name no folders of this machine."""
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
