"""A private step as one ONNX file, its words fed or made in the graph: noise and trajectory of the other targets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx_streams import about, streams
from private_runs import Program_, classifier, compiled, dpsgd, rows

import fluidc.frontend as fluid
from fluidc.compiler.codegen.built import BuildOptions
from fluidc.frontend.cli.onnx_file import onnx_file
from fluidc.runtime import keystream
from fluidc.runtime.keystream import Domain

STEPS, BATCH, SEED, HIDDEN = 20, 16, 2, 8
LOTS = [rows(count, seed=count) for count in (16, 0, 7, 15, 1) * 4]
KEYS = [keystream.insecure_key(b"one file", "step", draw) for draw in range(STEPS)]
FIRST_DRAW = 2**32 - 10  # the counter passes 32 bits on the way
PARAMETERS = ["fc_0.b_0", "fc_0.w_0", "fc_1.b_0", "fc_1.w_0"]

Array = np.ndarray[Any, Any]
SELF_CONTAINED = pytest.mark.parametrize("self_contained", [False, True], ids=["fed", "self-contained"])


def with_dropout() -> Any:
    layers: Any = fluid.layers
    x, label = layers.data("x", [5]), layers.data("label", [1], dtype="int64")
    hidden = layers.dropout(layers.fc(x, HIDDEN, act="tanh"), 0.3, dropout_implementation="upscale_in_train")
    return layers.mean(layers.softmax_with_cross_entropy(layers.fc(hidden, 3), label))


MODELS = {"mlp": classifier, "dropout": with_dropout}


@cache
def program(name: str, target: str) -> Program_:
    return compiled(MODELS[name], target, BATCH, dpsgd())


class Alone:
    """The exported step in ONNX Runtime alone; it hands out words and normals beside its own outputs.

    Attributes:
        words: (domain, tensor) of every keystream to what the graph calls it.
        normals: likewise, of those that become normals.
        state: that the last step returned; none before the first, which takes the file's own.
        counter: of the model's random numbers.
    """

    def __init__(self, name: str, self_contained: bool) -> None:
        artifact = program(name, "reference").artifact
        self.model = onnx.load_model_from_string(
            onnx_file(artifact, "step", BuildOptions(self_contained=self_contained), SEED)
        )
        self.about = about(self.model)
        self.words: dict[tuple[int, int], str] = {}
        self.normals: dict[tuple[int, int], str] = {}
        graph = self.model.graph
        for stream in self.about["fluidc.streams"]:
            self.words[stream["domain"], stream["tensor"]] = stream["input"]
        made = {node.output[0]: node for node in graph.node}
        for node in [node for node in graph.node if node.domain == "fluidc"]:
            if node.op_type == "ChaCha20":
                at = {attribute.name: int(attribute.i) for attribute in node.attribute}
                self.words[at["purpose"], at["tensor"]] = node.output[0]
                graph.output.append(helper.make_tensor_value_info(node.output[0], TensorProto.UINT32, None))
        for node in [node for node in made.values() if node.op_type == "Normals"]:
            stream = next(stream for stream, words in self.words.items() if words == node.input[0])
            self.normals[stream] = node.output[0]
            graph.output.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(self.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.state: dict[str, Array] = {}
        self.counter = 0

    def step(
        self, lot: Mapping[str, Array], key: bytes, draw: int, words: dict[str, Array] | None = None
    ) -> dict[str, Array]:
        """Take one step, on other ``words`` than those of the key where some are given; all that the graph puts out."""
        count = len(lot["x"])
        supplied: dict[str, Any] = {
            "key": keystream.key_words(key), "draw": np.uint64(draw), "mask": np.arange(BATCH) < count,
            "row": np.int64(0), "rng_key": keystream.key_words(keystream.step_model_key(key)),
            "rng_counter": np.uint64(self.counter),
        }  # fmt: skip
        supplied |= {name: np.resize(values, (BATCH, *values.shape[1:])) for name, values in lot.items()}
        inputs = self.about["fluidc.inputs"]
        arguments = [
            np.zeros(()) if given["kind"] == "state" else np.asarray(supplied[given["name"] or given["kind"]])
            for given in inputs
        ]
        fed = {
            given["input"]: argument
            for given, argument in zip(inputs, arguments, strict=True)
            if given["input"] and given["kind"] != "state"
        } | (streams(self.model, arguments) if words is None else words)
        self.counter += 1
        names = [output.name for output in self.session.get_outputs()]
        found = self.session.run(names, fed | self.state)
        values: dict[str, Array] = fed | dict(zip(names, found, strict=True))
        self.state = {o["name"]: values[o["output"]] for o in self.about["fluidc.outputs"] if o["kind"] == "state"}
        return values


@SELF_CONTAINED
def test_noise_is_that_of_every_target(self_contained: bool) -> None:
    """The bits of the words, and every normal to 1e-6."""
    alone = Alone("dropout", self_contained)
    sizes = {name: array.size for name, array in program("dropout", "cpu").session()[0].model.state.items()}
    noisy = {(Domain.GRADIENT, tensor): sizes[name] for tensor, name in enumerate(PARAMETERS)}
    assert alone.normals.keys() == noisy.keys()
    assert alone.words.keys() - noisy.keys() == {(Domain.MODEL, 0)}
    for draw in (0, 2**40 + 5):
        key = KEYS[draw % STEPS]
        of_model = keystream.step_model_key(key), alone.counter
        values = alone.step(LOTS[0], key, draw)
        for (domain, tensor), name in alone.words.items():
            used, number = (key, draw) if domain == Domain.GRADIENT else of_model
            expected = keystream.words(
                used, domain=Domain(domain), tensor=tensor, draw=number, count_blocks=values[name].size // 16
            )
            np.testing.assert_array_equal(values[name], expected.reshape(-1))
        for stream, count in noisy.items():
            expected = keystream.gaussian(key, domain=Domain.GRADIENT, tensor=stream[1], draw=draw, count=count)
            np.testing.assert_allclose(values[alone.normals[stream]], expected, rtol=0, atol=1e-6)


@SELF_CONTAINED
def test_an_empty_lot_is_all_noise(self_contained: bool) -> None:
    alone = Alone("mlp", self_contained)
    before = {
        name: array.copy() for name, array in program("mlp", "reference").session(seed=SEED)[0].model.state.items()
    }
    alone.step(rows(0), KEYS[0], 7)
    for tensor, name in enumerate(PARAMETERS):
        z = keystream.gaussian(KEYS[0], domain=Domain.GRADIENT, tensor=tensor, draw=7, count=before[name].size)
        # Rate, sigma, bound and lot size of the program.
        expected = before[name] - 0.5 * 1.0 * 0.7 / 16.0 * z.reshape(before[name].shape)
        np.testing.assert_allclose(alone.state[name], expected, rtol=0, atol=1e-6)


def test_words_of_zeros_are_no_noise_and_nothing_says_so() -> None:
    """What docs/onnx.md leaves to who feeds a file."""
    alone = Alone("mlp", self_contained=False)
    sizes = {value.name: value.type.tensor_type.shape.dim[0].dim_value for value in alone.model.graph.input}
    zeros = {name: np.zeros(sizes[name], np.uint32) for name in alone.words.values()}
    values = alone.step(LOTS[0], KEYS[0], 0, zeros)
    for name in alone.normals.values():
        np.testing.assert_allclose(np.abs(values[name]), 6.71227, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_trajectory(name: str) -> None:
    """20 lots of 0 to 16 rows under the same keys: on reference, on cpu, and in one file of either kind."""
    found: dict[str, dict[str, Array]] = {}
    for target in ("reference", "cpu"):
        session, _ = program(name, target).session(seed=SEED)
        for step, lot in enumerate(LOTS):
            session.model.stepper.run_lot(lot, key=KEYS[step], draw=FIRST_DRAW + step)
        found[target] = {parameter: session.model.state[parameter].copy() for parameter in PARAMETERS}
    for self_contained in (False, True):
        alone = Alone(name, self_contained)
        for step, lot in enumerate(LOTS):
            alone.step(lot, KEYS[step], FIRST_DRAW + step)
        found[f"onnx, {self_contained}"] = alone.state
    for other in found.values():
        for parameter in PARAMETERS:
            expected = found["reference"][parameter]
            assert np.abs(other[parameter] - expected).max() <= 1e-5 * np.abs(expected).max()
