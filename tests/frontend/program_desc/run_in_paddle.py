"""Run ProgramDescs that fluidc wrote in Paddle 1.8.5, and compare what they compute with what Paddle's own do.

``write_for_paddle.py`` writes the folder; then, with a Python 3.7 that has ``paddlepaddle==1.8.5``::

    v37/bin/python tests/frontend/program_desc/run_in_paddle.py GOLDENS
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "support"))


def read(fluid, path):
    with open(path, "rb") as file:
        return fluid.Program.parse_from_string(file.read())


def check_program(fluid, np, folder, case, golden):
    """One program of ``fluid_programs.CASES``: its results of the first step, from Paddle's initial values."""
    from fluid_programs import LENGTHS, feed_value

    main, startup = read(fluid, folder + "/" + case + ".main"), read(fluid, folder + "/" + case + ".startup")
    exe, scope = fluid.Executor(fluid.CPUPlace()), fluid.Scope()
    with fluid.scope_guard(scope):
        exe.run(startup)
        for key, value in golden.items():
            if key.startswith(case + "/init/"):
                tensor = scope.find_var(key.split("/", 2)[2])
                assert tensor is not None, key
                tensor.get_tensor().set(value, fluid.CPUPlace())
        made = {n for op in main.global_block().ops for slot in op.output_names for n in op.output(slot)}
        read_names = {n for op in main.global_block().ops for slot in op.input_names for n in op.input(slot)}
        feed = {}
        for v in main.global_block().vars.values():
            if v.name in read_names and v.name not in made and not v.persistable:
                dtype = str(np.dtype({5: "float32", 3: "int64", 2: "int32"}[int(v.dtype)]))
                array = feed_value(v.name, v.shape, dtype, v.lod_level, case, 0)
                if v.lod_level:
                    array = fluid.create_lod_tensor(array, [LENGTHS], fluid.CPUPlace())
                feed[v.name] = array
        prefix = case + "/0/"
        fetches = [k[len(prefix) :] for k in golden if k.startswith(prefix)]
        drawn = ("uniform_random", "gaussian_random")
        fetches = [n for n in fetches if n in made and not n.startswith(drawn)]
        for name, out in zip(fetches, exe.run(main, feed=feed, fetch_list=fetches, return_numpy=False)):
            np.testing.assert_allclose(np.array(out), golden[prefix + name], rtol=1e-5, atol=1e-6, err_msg=name)
    return len(fetches)


def main(folder):
    import numpy as np
    import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]

    golden = dict(np.load(os.path.join(HERE, "..", "golden", "values.npz")))
    failed = 0
    for case in sorted(name[:-5] for name in os.listdir(folder) if name.endswith(".main")):
        try:
            print(f"{case:40} {check_program(fluid, np, folder, case, golden)} values")
        except Exception as error:
            failed += 1
            print(f"{case:40} FAILED: {str(error)[-600:]}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
