"""Write the ProgramDescs that Paddle 1.8.5 makes of programs, and what some of them compute.

``programs.npz`` has ``CASE/main`` and ``CASE/startup`` of ``fluid_programs.CASES``: their bytes, without the texts of
call stacks, which would be most of the file. What they compute is in ``../golden/values.npz``.

``paddle_programs.npz`` has the same of ``paddle_programs``, ``CASE/init/NAME`` and ``CASE/end/NAME`` of persistable
variables before and after training, and ``CASE/STEP/NUMBER`` of what the programs give.

Run like ``tests/frontend/make_goldens.py``.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "support"))


def stripped(data):
    from paddle.fluid.proto import framework_pb2  # pyright: ignore[reportMissingImports]

    desc = framework_pb2.ProgramDesc.FromString(data)
    desc.ClearField("op_compatible_map")
    for block in desc.blocks:
        for op in block.ops:
            for attr in [a for a in op.attrs if a.name == "op_callstack"]:
                op.attrs.remove(attr)
    return desc.SerializeToString()


def run(fluid, np, name, main_program, startup, results, found):
    """What a program of ``paddle_programs`` computes, from parameters that are stated."""
    import paddle_programs
    from fluid_programs import feed_value

    found[name + "/results"] = np.array([v.name for v in results])
    if name not in paddle_programs.TRAINING and name != "shapes":
        return
    exe, scope = fluid.Executor(fluid.CPUPlace()), fluid.Scope()
    steps = paddle_programs.STEPS if name in paddle_programs.TRAINING else 1
    with fluid.scope_guard(scope):
        exe.run(startup)
        state = [v for v in main_program.list_vars() if v.persistable and scope.find_var(v.name) is not None]
        for v in state:
            tensor = scope.find_var(v.name).get_tensor()
            if v.name.endswith(".w_0"):
                tensor.set(feed_value(v.name, v.shape, "float32", 0, name, 0) - 0.5, fluid.CPUPlace())
            found["/".join([name, "init", v.name])] = np.array(tensor)
        for step in range(steps):
            feed = {}
            for v in main_program.global_block().vars.values():
                if v.is_data and "@" not in v.name:
                    dtype = str(np.dtype({5: "float32", 3: "int64", 2: "int32"}[int(v.dtype)]))
                    feed[v.name] = feed_value(v.name, v.shape, dtype, 0, name, step)
            for number, out in enumerate(exe.run(main_program, feed=feed, fetch_list=results)):
                found["/".join([name, str(step), str(number)])] = np.array(out)
        for v in state:
            found["/".join([name, "end", v.name])] = np.array(scope.find_var(v.name).get_tensor())


def main():
    import numpy as np
    import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
    import paddle_programs
    from fluid_programs import CASES

    found = {}
    for name, build in sorted(CASES.items()):
        main_program, startup = fluid.Program(), fluid.Program()
        with fluid.unique_name.guard(), fluid.program_guard(main_program, startup):
            build(fluid)
        for part, program in (("main", main_program), ("startup", startup)):
            data = stripped(program.desc.serialize_to_string())
            found[name + "/" + part] = np.frombuffer(data, np.uint8)
    np.savez_compressed(os.path.join(HERE, "programs.npz"), **found)
    found = {}
    for name, build in sorted({**paddle_programs.TRAINING, **paddle_programs.OTHERS}.items()):
        main_program, startup = fluid.Program(), fluid.Program()
        with fluid.unique_name.guard(), fluid.program_guard(main_program, startup):
            results = build(fluid)
        for part, program in (("main", main_program), ("startup", startup)):
            data = stripped(program.desc.serialize_to_string())
            found[name + "/" + part] = np.frombuffer(data, np.uint8)
        run(fluid, np, name, main_program, startup, results, found)
    np.savez_compressed(os.path.join(HERE, "paddle_programs.npz"), **found)


if __name__ == "__main__":
    main()
