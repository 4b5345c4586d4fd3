"""Write ``golden/programs.json``: what Paddle 1.8.5 records for every program of ``fluid_programs.CASES``.

Run with a Python 3.7 that has ``paddlepaddle==1.8.5``::

    python3.7 -m venv v37 && v37/bin/pip install paddlepaddle==1.8.5 'protobuf<3.21' 'urllib3<2'
    v37/bin/python tests/frontend/make_goldens.py
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
# What Paddle keeps for its own executor says nothing about the program.
BOOKKEEPING = {
    "op_role", "op_role_var", "op_namescope", "op_callstack", "op_device", "use_mkldnn", "use_cudnn", "workspace_size_MB",
    "use_quantizer", "mkldnn_data_type", "is_sparse_grad", "data_format_mkldnn", "fuse_relu_before_depthwise_conv",
    "exhaustive_search", "use_addto", "fuse_with_relu", "fuse_relu", "fuse_brelu", "fuse_brelu_threshold",
    "fuse_activation", "fuse_alpha", "fuse_beta", "fuse_residual_connection", "force_fp32_output", "Scale_in",
    "Scale_out", "Scale_in_eltwise", "Scale_weights", "Scale_x", "Scale_y", "quantize", "is_mkldnn",
    "x_data_format", "y_data_format", "skip_quant", "with_quant_attr",
}  # fmt: skip


def convert(value):
    if isinstance(value, (list, tuple)):
        return [convert(v) for v in value]
    if hasattr(value, "idx"):
        return {"block": value.idx}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return int(value)


def record(program):
    blocks = []
    for block in program.blocks:
        ops = []
        for op in block.ops:
            if op.type.endswith("_grad") or op.attr("op_role") in (1, 257):
                continue
            attrs = {}
            for name in sorted(op.attr_names):
                if name in BOOKKEEPING:
                    continue
                attrs[name] = {"block": op._block_attr_id(name)} if name == "sub_block" else convert(op.attr(name))
            ops.append(
                {
                    "type": op.type,
                    "in": {n: op.input(n) for n in sorted(op.input_names) if op.input(n)},
                    "out": {n: op.output(n) for n in sorted(op.output_names) if op.output(n)},
                    "attrs": attrs,
                    "role": op.attr("op_role"),
                }
            )
        variables = {}
        for name, var in sorted(block.vars.items()):
            if "@GRAD" in name or "@STATES" in name:
                continue
            try:
                described = [list(var.shape), str(var.dtype).split(".")[-1], bool(var.persistable), var.lod_level]
            except Exception:  # a step scope or an array has neither shape nor type
                described = None
            variables[name] = described and described + [bool(var.stop_gradient)]
        blocks.append({"ops": ops, "vars": variables, "parent": block.parent_idx})
    return blocks


def main():
    import paddle.fluid as fluid
    from fluid_programs import CASES

    goldens = {}
    for name, build in sorted(CASES.items()):
        main_program, startup = fluid.Program(), fluid.Program()
        with fluid.unique_name.guard(), fluid.program_guard(main_program, startup):
            build(fluid)
        goldens[name] = {"main": record(main_program), "startup": record(startup)}
    with open(os.path.join(HERE, "golden", "programs.json"), "w") as file:
        json.dump(goldens, file, sort_keys=True, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
