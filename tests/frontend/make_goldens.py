"""Write what Paddle 1.8.5 makes of every program of ``fluid_programs.CASES`` and ``layer_programs.CASES``.

``golden/programs.json`` holds the records, ``golden/values.npz`` the values of the first steps: ``case/step/name`` for
results, ``case/init/name`` for persistable variables before the first step, ``case/end/name`` after the last; so do
``golden/layers.json`` and ``golden/layer_values.npz``. Arguments pick one of the two: ``programs``, ``layers``.

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
    "op_role", "op_role_var", "op_namescope", "op_callstack", "op_device", "use_mkldnn", "use_cudnn",
    "workspace_size_MB", "use_quantizer", "mkldnn_data_type", "is_sparse_grad", "data_format_mkldnn",
    "fuse_relu_before_depthwise_conv",
    "exhaustive_search", "use_addto", "fuse_with_relu", "fuse_relu", "fuse_brelu", "fuse_brelu_threshold",
    "fuse_activation", "fuse_alpha", "fuse_beta", "fuse_residual_connection", "force_fp32_output", "Scale_in",
    "Scale_out", "Scale_in_eltwise", "Scale_weights", "Scale_x", "Scale_y", "quantize", "is_mkldnn",
    "x_data_format", "y_data_format", "skip_quant", "with_quant_attr",
}  # fmt: skip


# Slots that Paddle fills from a set, in an order that differs between runs.
SETS = {("recurrent", "parameters"), ("while", "X"), ("while", "Out"), ("conditional_block", "Input")}


def slot(op, name, args):
    return sorted(args) if (op.type, name) in SETS else args


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
                    "in": {n: slot(op, n, op.input(n)) for n in sorted(op.input_names) if op.input(n)},
                    "out": {n: slot(op, n, op.output(n)) for n in sorted(op.output_names) if op.output(n)},
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
            variables[name] = described and [*described, bool(var.stop_gradient)]
        blocks.append({"ops": ops, "vars": variables, "parent": block.parent_idx})
    return blocks


def run(fluid, name, main_program, startup, values):
    """Some steps on fixed feeds and fixed parameters."""
    import numpy as np
    from fluid_programs import LENGTHS, compared_names, feed_value, steps_of

    exe, scope = fluid.Executor(fluid.CPUPlace()), fluid.Scope()
    with fluid.scope_guard(scope):
        exe.run(startup)
        state = [v for v in main_program.list_vars() if v.persistable and scope.find_var(v.name) is not None]
        for v in state:
            tensor = scope.find_var(v.name).get_tensor()
            if v.name.endswith((".w_0", ".w_1")) or v.name in ("w", "u", "v", "emb"):
                tensor.set(feed_value(v.name, v.shape, "float32", 0, name, 0), fluid.CPUPlace())
            values["/".join([name, "init", v.name])] = np.array(tensor)
        fetches = compared_names(main_program)
        for step in range(steps_of(name)):
            feed = {}
            for v in main_program.global_block().vars.values():
                if not v.is_data or "@" in v.name:
                    continue
                dtype = str(np.dtype({5: "float32", 3: "int64", 2: "int32"}[int(v.dtype)]))
                array = feed_value(v.name, v.shape, dtype, v.lod_level, name, step)
                if v.lod_level:
                    array = fluid.create_lod_tensor(array, [LENGTHS], fluid.CPUPlace())
                feed[v.name] = array
            for n, out in zip(fetches, exe.run(main_program, feed=feed, fetch_list=fetches, return_numpy=False)):
                if np.array(out).size:  # a branch that is not taken leaves its results empty
                    values["/".join([name, str(step), n])] = np.array(out)
        for v in state:
            values["/".join([name, "end", v.name])] = np.array(scope.find_var(v.name).get_tensor())


def run_seeded(fluid, main_program, startup, values):
    """What Paddle's generator gives under a seed: initial values and dropout."""
    import numpy as np
    from fluid_programs import feed_value

    exe, scope = fluid.Executor(fluid.CPUPlace()), fluid.Scope()
    with fluid.scope_guard(scope):
        exe.run(startup)
        for v in main_program.all_parameters():
            values["initializers_seeded/end/" + v.name] = np.array(scope.find_var(v.name).get_tensor())
        x = feed_value("x", (-1, 8), "float32", 0, "initializers_seeded", 0)
        (out,) = exe.run(main_program, feed={"x": x}, fetch_list=["dropout_0.tmp_0"])
        values["initializers_seeded/0/dropout_0.tmp_0"] = out


def write(fluid, cases, records_file, values_file):
    """The records and values of some cases."""
    import numpy as np
    from fluid_programs import NO_VALUES

    goldens, values = {}, {}
    for name, build in sorted(cases.items()):
        main_program, startup = fluid.Program(), fluid.Program()
        with fluid.unique_name.guard(), fluid.program_guard(main_program, startup):
            build(fluid)
        goldens[name] = {"main": record(main_program), "startup": record(startup)}
        if name not in NO_VALUES and main_program.global_block().ops:
            run(fluid, name, main_program, startup, values)
        if name == "initializers_seeded":
            run_seeded(fluid, main_program, startup, values)
    with open(os.path.join(HERE, "golden", records_file), "w") as file:
        json.dump(goldens, file, sort_keys=True, separators=(",", ":"))
        file.write("\n")
    np.savez_compressed(os.path.join(HERE, "golden", values_file), **values)


def main():
    import fluid_programs
    import layer_programs
    import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

    wanted = sys.argv[1:] or ["programs", "layers"]
    if "programs" in wanted:
        write(fluid, fluid_programs.CASES, "programs.json", "values.npz")
    if "layers" in wanted:
        write(fluid, layer_programs.CASES, "layers.json", "layer_values.npz")


if __name__ == "__main__":
    main()
