"""Twenty steps of the programs in examples/classic: programs.json.

Per program "initial", all that its startup program sets, as hashes of the bits (`classic_programs.digest`), and
"curve", what each step returns: its loss or losses, and the accuracy where there is one.

What was found:
- Parameters of one shape and one kind of initialiser are equal under a program's seed, so a target network starts as a
  copy of its policy.
- A program clones its dropout's seed: the mask is the same at every step.
"""

import json

import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from classic_programs import NAMES, STEPS, curve, digest, load, state
from trees import GOLDENS


def run(name):
    module = load(name)
    scope = fluid.Scope()
    with fluid.scope_guard(scope):
        model = module.build()
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(model.startup)
        initial = {key: digest(array) for key, array in sorted(state(fluid, model, scope).items())}
        return {"initial": initial, "curve": curve(module, exe, model, STEPS)}


def write():
    tree = {name: run(name) for name in NAMES}
    text = json.dumps(tree, separators=(",", ":"))
    for mark, broken in (('",', '",\n'), ("},", "},\n"), ("],[", "],\n[")):
        text = text.replace(mark, broken)
    (GOLDENS / "programs.json").write_text(text + "\n")
