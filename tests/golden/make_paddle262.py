"""Writes tests/golden/paddle262 with Paddle 2.6.2: state dicts as Paddle 2 pickles them.

    python3.11 -m venv v2 && v2/bin/pip install paddlepaddle==2.6.2
    v2/bin/python tests/golden/make_paddle262.py

layer.pdparams and layer.pdopt are of a layer and its Adam with a NoamDecay (protocol 4; protocol2.* the same in 2);
nested.pdparams is what scripts call a checkpoint: both of them in one dict, with a number of epochs and a scalar.
"""

import pathlib

import numpy as np
import paddle  # pyright: ignore[reportMissingImports]

FOLDER = pathlib.Path(__file__).resolve().parent / "paddle262"

paddle.seed(7)
net = paddle.nn.Sequential(paddle.nn.Linear(2, 3), paddle.nn.BatchNorm1D(3))
decay = paddle.optimizer.lr.NoamDecay(100, 1000)
adam = paddle.optimizer.Adam(decay, parameters=net.parameters())
net(paddle.ones([4, 2])).mean().backward()
adam.step()
decay.step()
FOLDER.mkdir(exist_ok=True)
for name, protocol in (("layer", 4), ("protocol2", 2)):
    paddle.save(net.state_dict(), str(FOLDER / f"{name}.pdparams"), protocol=protocol)
    paddle.save(adam.state_dict(), str(FOLDER / f"{name}.pdopt"), protocol=protocol)
checkpoint = {"model": net.state_dict(), "optimizer": adam.state_dict(), "epoch": 3, "best": np.float32(0.5)}
paddle.save(checkpoint, str(FOLDER / "nested.pdparams"))
