"""The local functions of exported files that make random numbers, run by ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from fluidc.compiler.codegen.onnx import noise
from fluidc.runtime import keystream

ANGLES = np.array([0, 1, 2**29 - 1, 2**29, 2**30 - 1], np.uint32)
HALVES = (0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)


def session(
    functions: tuple[onnx.FunctionProto, ...], inputs: dict[str, tuple[int, tuple[int | str, ...]]], **attributes: Any
) -> ort.InferenceSession:
    """The first function as a model that the strict checks accept."""
    function = functions[0]
    node = helper.make_node(function.name, list(inputs), ["result"], domain=function.domain, **attributes)
    element = TensorProto.FLOAT if function.name == "Normals" else TensorProto.UINT32
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("result", element, ["n"])],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(noise.DOMAIN, 1)]
    model = helper.make_model(graph, ir_version=9, opset_imports=imports, functions=functions)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def normals_session() -> ort.InferenceSession:
    return session(noise.normals(), {"words": (TensorProto.UINT32, ("w",)), "count": (TensorProto.INT64, ())})


@pytest.fixture(scope="module")
def box_muller() -> ort.InferenceSession:
    return normals_session()


def normals(box_muller: ort.InferenceSession, words: np.ndarray, count: int) -> np.ndarray:
    (found,) = box_muller.run(None, {"words": words.reshape(-1), "count": np.asarray(count)})
    assert found.shape == (count,)
    assert found.dtype == np.float32
    return found


def words_with(seed: int, blocks: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, (blocks, 16), dtype=np.uint32)


@pytest.mark.parametrize("count", [1, 17, 160, 161, 300_001])
def test_normals(box_muller: ort.InferenceSession, count: int) -> None:
    words = words_with(count, keystream.blocks_for(count))
    found = normals(box_muller, words, count)
    np.testing.assert_allclose(found, keystream.normals_from_words(words, count), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, keystream.normals_from_words_f64(words, count), rtol=3e-7, atol=0)


def test_normals_of_more_words_than_they_need(box_muller: ort.InferenceSession) -> None:
    words = words_with(1, 48)
    np.testing.assert_array_equal(normals(box_muller, words, 7), normals(box_muller, words[:16], 7))
    assert normals(box_muller, words[:0], 0).size == 0


def test_normals_of_every_kind_of_triple(box_muller: ort.InferenceSession) -> None:
    """All quadrants at both ends and the middle of each, with the radii of either end and of a half."""
    triples = [(hi, lo, q * 2**30 + a) for hi in HALVES for lo in HALVES for q in range(4) for a in ANGLES]
    words = np.zeros((keystream.blocks_for(10 * len(triples)), 16), np.uint32)
    words[: len(triples), :3] = triples
    count = 10 * len(words)
    found = normals(box_muller, words, count)
    np.testing.assert_allclose(found, keystream.normals_from_words(words, count), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, keystream.normals_from_words_f64(words, count), rtol=3e-7, atol=0)
    assert np.abs(found).max() == pytest.approx(9.492583, rel=1e-6)


@pytest.mark.parametrize("bits", range(0, 32, 3))
@pytest.mark.parametrize("up", [0, 2**32 - 1])
def test_tails_of_the_radius(box_muller: ort.InferenceSession, bits: int, up: int) -> None:
    """``hi`` below 2^bits (the largest radii), and its mirror image (the smallest, which are never zero)."""
    count = 40_000
    words = words_with(bits, keystream.blocks_for(count))
    words[:, 0:15:3] = (words[:, 0:15:3] & np.uint32(2**bits - 1)) ^ np.uint32(up)
    words[::2, 1:15:3] >>= np.uint32(bits)
    words[:, 1:15:3] ^= np.uint32(up)
    found = normals(box_muller, words, count)
    np.testing.assert_allclose(found, keystream.normals_from_words(words, count), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, keystream.normals_from_words_f64(words, count), rtol=3.5e-7, atol=0)
    assert np.all(found != 0)


def words(key: np.ndarray, *, purpose: int, tensor: int, draw: int, first: int, count: int) -> np.ndarray:
    inputs: dict[str, tuple[int, tuple[int | str, ...]]] = {
        "key": (TensorProto.UINT32, (8,)),
        "draw": (TensorProto.UINT64, ()),
        "first": (TensorProto.INT64, ()),
        "count": (TensorProto.INT64, ()),
    }
    chacha = session(noise.chacha20(), inputs, purpose=purpose, tensor=tensor)
    given = {"key": key, "draw": np.array(draw, np.uint64), "first": np.array(first), "count": np.array(count)}
    (found,) = chacha.run(None, given)
    assert found.dtype == np.uint32
    return found


def test_the_block_of_rfc_8439() -> None:
    """Section 2.3.2: nonce 000000090000004a00000000 is (9 * 2^24, 0x4a000000, 0)."""
    key = np.frombuffer(bytes(range(32)), "<u4")
    found = words(key, purpose=9, tensor=0, draw=0x4A000000, first=1, count=1)
    assert found.astype("<u4").tobytes().hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_the_zero_key_of_rfc_8439() -> None:
    """Appendix A.1, the first two."""
    found = words(np.zeros(8, np.uint32), purpose=0, tensor=0, draw=0, first=0, count=2).astype("<u4")
    assert found[:16].tobytes().hex().startswith("76b8e0ada0f13d90405d6ae55386bd28")
    assert found[16:].tobytes().hex().startswith("9f07e7be5551387a98ba977c732d080d")


@pytest.mark.parametrize(
    ("draw", "first", "count"),
    [(0, 0, 1), (2**32 - 1, 3, 0), (2**32, 0, 16), (2**40 + 5, 2**31 - 3, 7), (2**48 - 1, 2**32 - 33, 33)],
)
def test_words(draw: int, first: int, count: int) -> None:
    key = words_with(draw % 97, 1)[0, :8]
    found = words(key, purpose=4, tensor=2**24 - 1, draw=draw, first=first, count=count)
    expected = keystream.words(
        key, domain=keystream.Domain.MODEL, tensor=2**24 - 1, draw=draw, first_block=first, count_blocks=count
    )
    np.testing.assert_array_equal(found, expected.reshape(-1))
