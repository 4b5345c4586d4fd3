"""What seeds decide: random_numbers.json and .npz, of the programs of tests/support/random_programs.

"initialised": per parameter its type, shape, the SHA-256 of its bytes, and its first eight numbers.  "layers": per name
what each of three runs gives.  "eager": the digests of a few dygraph layers under a seed.

What was found:
- Every op starts the engine (std::minstd_rand) anew from its seed, in every run; a float64 takes two draws.
- Layers that draw do not look at the program's seed; initializers and dropout do.
- normal_distribution uses the C library's logf; the truncated normal inverts by the formula for the centre alone.
- randperm is srand and random_shuffle of the C library; random_crop alone goes on from run to run.
- uniform_random ignores its dtype: the result is float32.
- Bilinear's rows lie between those of the weights, as i / size is not a whole number in Python 3.
"""

import hashlib

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from random_programs import LAYERS, RUNS, SEED, feeds, initialised
from trees import GOLDENS, write_tree


def described(array):
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"dtype": str(array.dtype), "sizes": list(array.shape), "sha256": digest, "first": array.ravel()[:8]}


def parameters():
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        initialised(fluid)
    with fluid.scope_guard(scope):
        fluid.Executor(fluid.CPUPlace()).run(startup)
        return {p.name: described(np.array(scope.find_var(p.name).get_tensor())) for p in main.all_parameters()}


def layer(build):
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = SEED
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        out = build(fluid)
    with fluid.scope_guard(fluid.Scope()):
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(startup)
        return np.stack([exe.run(main, feed=feeds(main), fetch_list=[out])[0] for _ in range(RUNS)])


def eager():
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        fluid.default_startup_program().random_seed = fluid.default_main_program().random_seed = SEED
        layers = [
            fluid.dygraph.Linear(30, 20),
            fluid.dygraph.Conv2D(3, 8, 3),
            fluid.dygraph.Embedding([50, 6]),
            fluid.dygraph.Linear(7, 5, param_attr=fluid.initializer.TruncatedNormal(0.0, 0.5)),
        ]
        found = {p.name: described(p.numpy()) for each in layers for p in each.parameters()}
        fluid.default_startup_program().random_seed = fluid.default_main_program().random_seed = 0
        return found


def write():
    layers = {name: layer(build) for name, build in LAYERS.items()}
    write_tree(GOLDENS / "random_numbers", {"initialised": parameters(), "layers": layers, "eager": eager()})
