"""Files as Paddle writes them, and what is in them: files/*, files.json, files.npz.

Each entry of the tree names its files and the arrays behind them:
  dygraph_adam, dygraph_decay   save_dygraph of a two-layer net and its Adam (float rate; NoamDecay) after 3 steps
  static                        fluid.save, save_params and save_persistables (separate, combined) of one training
                                program: fc, batch_norm, fc, Momentum, exponential_decay, L2Decay, after 2 steps
  infer_{mlp,cnn,embedding}     save_inference_model, separate (folder) and combined (folder_combined), with a feed
                                and what Paddle's own load_inference_model fetches for it
  train_{adam,dpsgd}            ProgramDescs of startup and training, parameters before, feeds, losses and parameters
                                after each of 3 steps

What was found:
- save_inference_model appends its `scale` ops to the user's own program: a second call names its targets
  save_infer_model/scale_0.tmp_1, and so on.
- fluid.save puts exactly the Parameters (batch_norm's running statistics among them) into .pdparams and the other
  persistables into .pdopt; with a decay there is no learning_rate variable, but @LR_DECAY_COUNTER@.
- `save_params` writes what is a Parameter: scale and bias of batch_norm and also its running mean and variance, which
  are Parameters with trainable=False.
- Dpsgd with a private `_seed` draws one scalar per op and step, the same at each step.
"""

import os
import shutil

import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from common import neutral, neutral_file, values
from paddle_models import INFERRED, Static, labels, set_parameters, trained, trained_with_momentum, two_layers, uniform
from trees import GOLDENS, write_tree

FILES = GOLDENS / "files"


def files_of(folder):
    return sorted(os.listdir(str(FILES / folder)))


def dygraph_files(prefix, rate):
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        net = two_layers(fluid)
        set_parameters(net)
        adam = fluid.optimizer.Adam(rate(), parameter_list=net.parameters())
        x = uniform(1, 6, 4)
        initial = values(net.state_dict())
        losses = []
        for _ in range(3):
            loss = fluid.layers.mean(fluid.layers.square(net(fluid.dygraph.to_variable(x))))
            losses.append(loss.numpy())
            loss.backward()
            adam.minimize(loss)
            net.clear_gradients()
        fluid.save_dygraph(net.state_dict(), str(FILES / prefix))
        fluid.save_dygraph(adam.state_dict(), str(FILES / prefix))
        return {
            "prefix": "files/" + prefix,
            "x": x,
            "initial": initial,
            "losses": losses,
            "out": net(fluid.dygraph.to_variable(x)).numpy(),
            "parameters": values(net.state_dict()),
            "names": {key: parameter.name for key, parameter in net.state_dict().items()},
            "optimizer": values(adam.state_dict()),
        }


def static_files():
    with Static(fluid) as s:
        loss, logits = trained_with_momentum(fluid)
        s.exe.run(s.startup)
        initial = s.persistables()
        feed = {"x": uniform(2, 6, 4), "label": labels(3, 6, 1)}
        losses = [s.exe.run(s.main, feed=feed, fetch_list=[loss])[0] for _ in range(2)]
        fluid.save(s.main, str(FILES / "static"))
        neutral_file(FILES / "static.pdmodel")
        for save in (fluid.io.save_params, fluid.io.save_persistables):
            save(s.exe, str(FILES / save.__name__), s.main)
            save(s.exe, str(FILES / (save.__name__ + "_combined")), s.main, filename="all")
        tree = {
            "prefix": "files/static",
            "feed": feed,
            "initial": initial,
            "losses": losses,
            "persistables": s.persistables(),
            "parameters": [p.name for p in s.main.all_parameters()],
            "trainable": [p.name for p in s.main.all_parameters() if p.trainable],
            "fetch": [loss.name, logits.name],
            "save_params": files_of("save_params"),
            "save_persistables": files_of("save_persistables"),
        }
        tree["next_losses"] = [s.exe.run(s.main, feed=feed, fetch_list=[loss])[0] for _ in range(2)]
        return tree


def inference_files(name, build):
    folder = "infer_" + name
    with Static(fluid) as s:
        feeds, targets, feed = build(fluid)
        s.exe.run(s.startup)
        s.give_values()
        tree = {"feed": feed, "parameters": s.persistables()}
        plain, combined = str(FILES / folder), str(FILES / (folder + "_combined"))
        before = s.main.global_block().desc.op_size()
        tree["targets"] = fluid.io.save_inference_model(plain, feeds, targets, s.exe, s.main)
        tree["ops_added"] = s.main.global_block().desc.op_size() - before
        fluid.io.save_inference_model(combined, feeds, targets, s.exe, s.main, "model", "params")
        neutral_file(FILES / folder / "__model__")
        neutral_file(FILES / (folder + "_combined") / "model")
        tree["files"] = files_of(folder)
    for path, names in ((plain, (None, None)), (combined, ("model", "params"))):
        with fluid.scope_guard(fluid.Scope()):
            exe = fluid.Executor(fluid.CPUPlace())
            program, feeds, fetches = fluid.io.load_inference_model(path, exe, *names)
            outputs = exe.run(program, feed=feed, fetch_list=fetches)
        tree["combined" if names[0] else "separate"] = {
            "feeds": feeds,
            "fetches": [v.name for v in fetches],
            "shapes": [list(v.shape) for v in fetches],
            "outputs": outputs,
        }
    return tree


def training_program(name, optimizer):
    with Static(fluid) as s:
        loss, logits = trained(fluid, optimizer())
        files = {}
        for kind, program in (("main", s.main), ("startup", s.startup)):
            files[kind] = f"files/{name}_{kind}.pb"
            (GOLDENS / files[kind]).write_bytes(neutral(program.desc.serialize_to_string()))
        s.exe.run(s.startup)
        feed = {"x": uniform(7, 8, 4), "label": labels(8, 8, 1)}
        tree = {"files": files, "feed": feed, "initial": s.persistables(), "loss": loss.name, "logits": logits.name}
        tree["losses"], tree["after"] = [], []
        for _ in range(3):
            tree["losses"].append(s.exe.run(s.main, feed=feed, fetch_list=[loss])[0])
            tree["after"].append(s.persistables())
        return tree


def adam():
    regularizer = fluid.regularizer.L2Decay(0.01)
    return fluid.optimizer.Adam(0.05, regularization=regularizer, grad_clip=fluid.clip.GradientClipByGlobalNorm(0.2))


def dpsgd():
    optimizer = fluid.optimizer.Dpsgd(0.1, clip=0.5, batch_size=8.0, sigma=1.5)
    optimizer._seed = 7
    return optimizer


def write():
    if FILES.exists():
        shutil.rmtree(str(FILES))
    FILES.mkdir(parents=True)
    tree = {
        "dygraph_adam": dygraph_files("dygraph_adam", lambda: 0.01),
        "dygraph_decay": dygraph_files("dygraph_decay", lambda: fluid.dygraph.NoamDecay(16, 4)),
        "static": static_files(),
        "train_adam": training_program("train_adam", adam),
        "train_dpsgd": training_program("train_dpsgd", dpsgd),
    }
    for name, build in INFERRED.items():
        tree["infer_" + name] = inference_files(name, build)
    write_tree(GOLDENS / "files", tree)
