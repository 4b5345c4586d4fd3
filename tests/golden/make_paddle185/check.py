"""Reads with Paddle what fluidc wrote into a folder, and compares it with the arrays that fluidc says are in it.

tests/golden/write_for_paddle.py DIR makes the folder:
  expected.json, expected.npz       a tree (tests/support/trees.py): per entry below, the arrays behind its files
  dygraph_adam.pdparams, .pdopt     save_dygraph of two_layers and its Adam; dygraph_decay: with NoamDecay,
                                    dygraph_epochs: StepDecay, dygraph_plateau: ReduceLROnPlateau
  cnn.pdparams, .pdopt              save_dygraph of conv_net and its Momentum
  static.pdparams, .pdopt, .pdmodel fluid.save of trained_with_momentum
  save_params/, save_persistables/  and NAME_combined/all: of the same program; save_vars/: two variables of it
  traced/                           TracedLayer.save_inference_model of image_classes
  traced_layers/NAME/               the same of every layer of layers.json, with another expected.json and .npz
  infer_NAME/, infer_NAME_combined/ save_inference_model; the combined one has files model and params
The models are those of tests/support/paddle_models.py.  Where training goes on, two more losses are compared.
"""

import pathlib

import numpy as np
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from common import values
from paddle_models import INFERRED, TRAINED, Static, optimizer_of, trained_with_momentum, two_layers
from trees import read_tree

to_variable = fluid.dygraph.to_variable


def loaded(prefix):
    """load_dygraph's two dicts; the second one keeps its table of names, which is of no use to an optimizer."""
    parameters, state = fluid.load_dygraph(prefix)
    state.pop("StructuredToParameterName@@", None)
    return parameters, state


class Differences:
    """What was compared and what differed."""

    def __init__(self):
        self.compared = 0
        self.found = []

    def same(self, where, got, want):
        self.compared += 1
        got, want = np.asarray(got), np.asarray(want)
        if got.dtype != want.dtype or got.shape != want.shape:
            self.found.append(f"{where}: {got.dtype}{got.shape}, wanted {want.dtype}{want.shape}")
        elif not np.allclose(got, want, rtol=2e-5, atol=1e-6):
            self.found.append(f"{where}: differs by {np.abs(got - want).max():.3g}")

    def same_keys(self, where, got, want):
        self.compared += 1
        if sorted(got) != sorted(want):
            self.found.append(f"{where}: {sorted(got)}, wanted {sorted(want)}")

    def same_all(self, where, got, want):
        self.same_keys(where, got, want)
        for key in want:
            if isinstance(want[key], dict):
                self.same_all(f"{where}/{key}", got[key], want[key])
            elif key in got and want[key] is None:
                self.same_keys(f"{where}/{key}", [got[key]], [None])
            elif key in got:
                self.same(f"{where}/{key}", got[key], want[key])


def check_two_layers(differences, folder, name, tree):
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        parameters, state = loaded(str(folder / name))
        differences.same_all(name + " parameters", parameters, tree["parameters"])
        differences.same_all(name + " optimizer", state, tree["optimizer"])
        with_names, _ = fluid.load_dygraph(str(folder / name), keep_name_table=True)
        differences.same_keys(name + " names", with_names["StructuredToParameterName@@"].items(), tree["names"].items())
        net = two_layers(fluid)
        net.set_dict(parameters)
        x = to_variable(tree["x"])
        differences.same(name + " out", net(x).numpy(), tree["out"])
        adam = optimizer_of(fluid, tree["made"], net.parameters())
        adam.set_dict(state)
        for i, want in enumerate(tree["next_losses"]):
            loss = fluid.layers.mean(fluid.layers.square(net(x)))
            differences.same(f"{name} loss {i}", loss.numpy(), want)
            loss.backward()
            adam.minimize(loss)
            net.clear_gradients()
        differences.same_all(name + " next", values(net.state_dict()), tree["next"])


def check_cnn(differences, folder, name, tree):
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        parameters, state = loaded(str(folder / name))
        net = TRAINED["cnn"](fluid)
        net.set_dict(parameters)
        differences.same_all(name + " parameters", values(net.state_dict()), tree["parameters"])
        differences.same_all(name + " optimizer", state, tree["optimizer"])
        loss = net(*map(to_variable, tree["batch"]))
        differences.same(name + " loss", loss.numpy(), tree["loss"])


def check_static(differences, folder, name, tree):
    def fresh(s):
        loss, _ = trained_with_momentum(fluid)
        s.exe.run(s.startup)
        return loss

    with Static(fluid) as s:
        loss = fresh(s)
        fluid.load(s.main, str(folder / name), s.exe)
        differences.same_all("fluid.load", s.persistables(), tree["persistables"])
        for i, want in enumerate(tree["next_losses"]):
            (got,) = s.exe.run(s.main, feed=tree["feed"], fetch_list=[loss])
            differences.same(f"static loss {i}", got, want)
        state = fluid.load_program_state(str(folder / name))
        differences.same_all("load_program_state", state, tree["persistables"])
        program = fluid.Program.parse_from_string((folder / (name + ".pdmodel")).read_bytes())
        known = {v.name: tuple(v.shape) for v in s.main.list_vars() if v.persistable}
        got = {v.name: tuple(v.shape) for v in program.list_vars() if v.persistable}
        differences.same_keys("pdmodel persistables", got.items(), known.items())
    scope = fluid.Scope()
    with fluid.scope_guard(scope):
        for key, value in tree["persistables"].items():
            scope.var(key).get_tensor().set(value, fluid.CPUPlace())
        (got,) = fluid.Executor(fluid.CPUPlace()).run(program, feed=tree["feed"], fetch_list=[loss.name])
        differences.same("pdmodel loss", got, tree["next_losses"][0])
    for kind in ("params", "persistables"):
        load = getattr(fluid.io, "load_" + kind)
        for where, filename in (("save_" + kind, None), ("save_" + kind + "_combined", "all")):
            with Static(fluid) as s:
                fresh(s)
                load(s.exe, str(folder / where), s.main, filename=filename)
                want = {key: tree["persistables"][key] for key in tree[kind]}
                got = s.persistables()
                differences.same_all("load_" + where, {key: got[key] for key in want}, want)
    with Static(fluid) as s:
        fresh(s)
        chosen = [s.main.global_block().var(key) for key in tree["vars"]]
        fluid.io.load_vars(s.exe, str(folder / "save_vars"), s.main, vars=chosen)
        got = s.persistables()
        for key in tree["vars"]:
            differences.same("load_vars " + key, got[key], tree["persistables"][key])


def check_inference(differences, folder, name, tree):
    for where, names in ((name, (None, None)), (name + "_combined", ("model", "params"))):
        scope = fluid.Scope()
        with fluid.scope_guard(scope):
            exe = fluid.Executor(fluid.CPUPlace())
            program, feeds, fetches = fluid.io.load_inference_model(str(folder / where), exe, *names)
            differences.same_keys(where + " feeds", feeds, tree["feed"])
            outputs = exe.run(program, feed=tree["feed"], fetch_list=fetches)
            differences.same_keys(where + " outputs", [len(outputs)], [len(tree["outputs"])])
            for i, (got, want) in enumerate(zip(outputs, tree["outputs"])):
                differences.same(f"{where} output {i}", got, want)
            for key, want in tree["parameters"].items():
                differences.same(f"{where} {key}", np.array(scope.find_var(key).get_tensor()), want)


def check_traced(differences, folder, name, tree):
    scope = fluid.Scope()
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace())
        program, feeds, fetches = fluid.io.load_inference_model(str(folder / name), exe)
        (got,) = exe.run(program, feed={feeds[0]: tree["image"]}, fetch_list=fetches)
        differences.same(name + " output", got, tree["out"])
        for key, want in tree["parameters"].items():
            differences.same(f"{name} {key}", np.array(scope.find_var(key).get_tensor()), want)


def check_traced_layers(differences, folder):
    for name, tree in read_tree(folder / "expected").items():
        with fluid.scope_guard(fluid.Scope()):
            exe = fluid.Executor(fluid.CPUPlace())
            program, feeds, fetches = fluid.io.load_inference_model(str(folder / name), exe)
            outputs = exe.run(program, feed=dict(zip(feeds, tree["inputs"])), fetch_list=fetches)
        differences.same_keys(name + " outputs", [len(outputs)], [len(tree["outputs"])])
        for i, (got, want) in enumerate(zip(outputs, tree["outputs"])):
            differences.same(f"{name} output {i}", got, want)


CHECKS = {
    "dygraph_adam": check_two_layers,
    "dygraph_decay": check_two_layers,
    "dygraph_epochs": check_two_layers,
    "dygraph_plateau": check_two_layers,
    "cnn": check_cnn,
    "static": check_static,
    "traced": check_traced,
}
CHECKS.update({"infer_" + name: check_inference for name in INFERRED})


def check(folder):
    """Compare everything in the folder; True if nothing differs."""
    folder = pathlib.Path(folder)
    tree = read_tree(folder / "expected")
    differences = Differences()
    differences.same_keys("entries", tree, CHECKS)
    for name, entry in tree.items():
        CHECKS[name](differences, folder, name, entry)
    check_traced_layers(differences, folder / "traced_layers")
    for line in differences.found:
        print(line)
    print(f"{differences.compared} comparisons, {len(differences.found)} differences")
    return not differences.found
