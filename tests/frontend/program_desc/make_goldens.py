"""Write the ProgramDescs that Paddle 1.8.5 makes of the programs of ``fluid_programs.CASES``: ``programs.npz``.

``CASE/main`` and ``CASE/startup`` are their bytes, without the texts of call stacks, which would be most of the file.
What the programs compute is in ``../golden/values.npz``. Run like ``tests/frontend/make_goldens.py``.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "support"))


def stripped(data):
    from paddle.fluid.proto import framework_pb2

    desc = framework_pb2.ProgramDesc.FromString(data)
    desc.ClearField("op_compatible_map")
    for block in desc.blocks:
        for op in block.ops:
            for attr in [a for a in op.attrs if a.name == "op_callstack"]:
                op.attrs.remove(attr)
    return desc.SerializeToString()


def main():
    import numpy as np
    import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
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


if __name__ == "__main__":
    main()
