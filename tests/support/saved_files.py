"""Writes, with any `fluid`, the folder that tests/golden/make_paddle185 --check reads with Paddle 1.8.5.

Runs under Python 3.7 too.
"""

import pathlib

import numpy as np
from paddle_models import (
    INFERRED,
    TRAINED,
    Static,
    image_classes,
    labels,
    layer_of,
    optimizer_of,
    set_parameters,
    trained_with_momentum,
    two_layers,
    uniform,
)
from trees import golden, write_tree


def values(state):
    """The arrays of a dygraph state dict; entries that are no variables stay as they are."""
    return {k: v.numpy() if hasattr(v, "numpy") else v for k, v in state.items()}


def _step(fluid, net, optimizer, x):
    loss = fluid.layers.mean(fluid.layers.square(net(x)))
    value = loss.numpy()
    loss.backward()
    optimizer.minimize(loss)
    net.clear_gradients()
    return value


def write_two_layers(fluid, prefix, made):
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        net = two_layers(fluid)
        set_parameters(net, 5)
        adam = optimizer_of(fluid, made, net.parameters())
        x = fluid.dygraph.to_variable(uniform(80, 6, 4))
        for _ in range(3):
            _step(fluid, net, adam, x)
        fluid.save_dygraph(net.state_dict(), prefix)
        fluid.save_dygraph(adam.state_dict(), prefix)
        return {
            "made": made,
            "x": x.numpy(),
            "out": net(x).numpy(),
            "parameters": values(net.state_dict()),
            "names": {key: parameter.name for key, parameter in net.state_dict().items()},
            "optimizer": values(adam.state_dict()),
            "next_losses": [_step(fluid, net, adam, x) for _ in range(2)],
            "next": values(net.state_dict()),
        }


def write_cnn(fluid, prefix):
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        net = TRAINED["cnn"](fluid)
        momentum = fluid.optimizer.Momentum(0.05, 0.9, parameter_list=net.parameters())
        batch = [uniform(81, 6, 1, 8, 8), labels(82, 6, 1)]
        for _ in range(3):
            loss = net(*map(fluid.dygraph.to_variable, batch))
            loss.backward()
            momentum.minimize(loss)
            net.clear_gradients()
        fluid.save_dygraph(net.state_dict(), prefix)
        fluid.save_dygraph(momentum.state_dict(), prefix)
        tree = {"parameters": values(net.state_dict()), "optimizer": values(momentum.state_dict()), "batch": batch}
        tree["loss"] = net(*map(fluid.dygraph.to_variable, batch)).numpy()
        return tree


def write_static(fluid, folder):
    with Static(fluid) as s:
        loss, _ = trained_with_momentum(fluid)
        s.exe.run(s.startup)
        feed = {"x": uniform(83, 6, 4), "label": labels(84, 6, 1)}
        for _ in range(3):
            s.exe.run(s.main, feed=feed, fetch_list=[loss])
        fluid.save(s.main, str(folder / "static"))
        for save in (fluid.io.save_params, fluid.io.save_persistables):
            save(s.exe, str(folder / save.__name__), s.main)
            save(s.exe, str(folder / (save.__name__ + "_combined")), s.main, filename="all")
        chosen = ["fc_0.w_0", "fc_0.w_0_velocity_0"]
        block = s.main.global_block()
        fluid.io.save_vars(s.exe, str(folder / "save_vars"), s.main, vars=[block.var(name) for name in chosen])
        persistables = s.persistables()
        return {
            "feed": feed,
            "persistables": persistables,
            "params": [p.name for p in s.main.all_parameters()],
            "vars": chosen,
            "next_losses": [s.exe.run(s.main, feed=feed, fetch_list=[loss])[0] for _ in range(2)],
        }


def write_inference(fluid, folder, name, build):
    with Static(fluid) as s:
        feeds, targets, feed = build(fluid)
        s.exe.run(s.startup)
        s.give_values()
        tree = {"feed": feed, "parameters": s.persistables()}
        fluid.io.save_inference_model(str(folder / name), feeds, targets, s.exe, s.main)
        together = str(folder / (name + "_combined"))
        fluid.io.save_inference_model(together, feeds, targets, s.exe, s.main, "model", "params")
        tree["outputs"] = s.exe.run(s.main.clone(for_test=True), feed=feed, fetch_list=targets)
        return tree


def write_traced(fluid, folder):
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        net = image_classes(fluid)
        set_parameters(net, 6)
        net.norm._variance.set_value(np.abs(uniform(85, 3)) + np.float32(0.5))
        net.eval()
        image = uniform(86, 2, 2, 8, 8)
        out, traced = fluid.dygraph.TracedLayer.trace(net, [fluid.dygraph.to_variable(image)])
        traced.save_inference_model(str(folder / "traced"))
        tree = {"image": image, "out": out.numpy(), "parameters": parameters_by_name(net)}
        net.train()
        return tree


# Neither takes another batch, which is open in what fluidc traces: there are weights of one shape in them.
UNTRACED = {"spectral_norm", "spectral_norm_dim", "bce_weight"}


def write_traced_layers(fluid, folder):
    """Every layer of the goldens, in evaluation, as an inference model of its own: traced_layers/NAME."""
    tree = {}
    for name, spec in golden("layers")["cases"].items():
        if name in UNTRACED:
            continue
        with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
            layer = layer_of(fluid, spec)
            layer.set_dict(spec["values"])
            layer.eval()
            outputs, traced = fluid.dygraph.TracedLayer.trace(
                layer, [fluid.dygraph.to_variable(a) for a in spec["inputs"]]
            )
            traced.save_inference_model(str(folder / "traced_layers" / name))
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            tree[name] = {"inputs": spec["inputs"], "outputs": [out.numpy() for out in outputs]}
            layer.train()
    write_tree(folder / "traced_layers" / "expected", tree)


def parameters_by_name(net):
    return {p.name: p.numpy() for p in net.parameters()}


def write_files(fluid, folder):
    """Fill the folder; gives the tree of what is in it."""
    folder = pathlib.Path(str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    made = {"optimizer": "Adam", "args": [0.01], "kwargs": {}}
    tree = {
        "dygraph_adam": write_two_layers(fluid, str(folder / "dygraph_adam"), made),
        "dygraph_decay": write_two_layers(
            fluid, str(folder / "dygraph_decay"), dict(made, args=[{"decay": ["NoamDecay", 16, 4]}])
        ),
        "dygraph_epochs": write_two_layers(
            fluid, str(folder / "dygraph_epochs"), dict(made, args=[{"decay": ["StepDecay", 0.01, 2]}])
        ),
        "dygraph_plateau": write_two_layers(
            fluid, str(folder / "dygraph_plateau"), dict(made, args=[{"decay": ["ReduceLROnPlateau", 0.01]}])
        ),
        "cnn": write_cnn(fluid, str(folder / "cnn")),
        "static": write_static(fluid, folder),
        "traced": write_traced(fluid, folder),
    }
    for name, build in INFERRED.items():
        tree["infer_" + name] = write_inference(fluid, folder, "infer_" + name, build)
    write_tree(folder / "expected", tree)
    return tree
