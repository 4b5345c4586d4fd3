"""Random numbers that a private graph must not hold, in hand-made models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, defs, helper, numpy_helper, parser

from fluidc.compiler.codegen.onnx import lint, noise
from fluidc.compiler.errors import TargetError

HEAD = """<ir_version: 9, opset_import: ["" : 20, "com.microsoft" : 1, "fluidc" : 1, "other" : 1]>
step (float[4] x, bool yes, uint32[8] key, uint64 draw, int64 n, uint32[256] bits) => (float[4] y) """


def model(body: str, *functions: str) -> ModelProto:
    made = parser.parse_model(HEAD + "{" + body + "}")
    made.functions.extend(parser.parse_function(text) for text in functions)
    return made


def private(body: str) -> ModelProto:
    """With the functions of noise."""
    made = model(body)
    made.functions.extend((*noise.chacha20(), *noise.normals()))
    return made


FUNCTION = '<domain: "other", opset_import: ["" : 20, "other" : 1]> '
IN_A_BRANCH = """
  y = If (yes) <
    then_branch = a () => (float[4] p) { p = Identity (x) },
    else_branch = b () => (float[4] q) {
      q = Loop (n, yes, x) <body = c (int64 i, bool more, float[4] s) => (bool again, float[4] t) {
        again = Identity (more)
        t = RandomNormalLike (s)
      }>
    }
  >
"""

DRAWING = {
    "a node": model("y = RandomNormal <shape = [4]> ()"),
    "of another domain": model("y = com.microsoft.Dropout (x)"),
    "in a nested graph": model(IN_A_BRANCH),
    "in a function": model("y = other.Noisy (x)", FUNCTION + "Noisy (x) => (y) { y = RandomUniformLike (x) }"),
    "in a function of a function": model(
        "y = other.Outer (x)",
        FUNCTION + "Outer (x) => (y) { y = other.Inner (x) }",
        FUNCTION + "Inner (x) => (y) { y = Bernoulli (x) }",
    ),
    "in a graph of a function": model(
        "y = other.Branch (x, yes)",
        FUNCTION
        + """Branch (x, yes) => (y) {
          y = If (yes) <
            then_branch = a () => (p) { p = Multinomial (x) }, else_branch = b () => (q) { q = Identity (x) }
          >
        }""",
    ),
    "Dropout": model("y = Dropout (x)"),
}
UNKNOWN = {
    "com.microsoft.Sampling": model("y = com.microsoft.Sampling (x)"),
    "com.microsoft.BiasDropout": model("y = com.microsoft.BiasDropout (x)"),
    "com.microsoft.PythonOp": model("y = com.microsoft.PythonOp (x)"),
    "fluidc.Normals": model("y = fluidc.Normals (bits, n)"),  # the file does not say what it is
    "other.Noise": model("y = other.Noise (x)"),
}
KEYED_BY_NO_INPUT = {
    "'mine'": private("""
      mine = Constant <value = uint32[8] {1, 2, 3, 4, 5, 6, 7, 8}> ()
      words = fluidc.ChaCha20 <purpose = 1, tensor = 0> (mine, draw, n, n)
      y = fluidc.Normals (words, n)"""),
    "'first'": private("""
      first = Constant <value = uint64 {1}> ()
      words = fluidc.ChaCha20 <purpose = 1, tensor = 0> (key, first, n, n)
      y = fluidc.Normals (words, n)"""),
    "'counted'": private("counted = Cast <to = 12> (x) y = fluidc.Normals (counted, n)"),
}


@pytest.mark.parametrize("case", DRAWING)
def test_nodes_that_draw_are_refused(case: str) -> None:
    with pytest.raises(TargetError, match="whose random numbers anybody can compute"):
        lint.check_randomness(DRAWING[case])


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_nodes_are_refused(case: str) -> None:
    with pytest.raises(TargetError, match=f"holds {case} .*not known to draw no random numbers"):
        lint.check_randomness(UNKNOWN[case])


@pytest.mark.parametrize("case", KEYED_BY_NO_INPUT)
def test_keys_that_are_no_inputs_are_refused(case: str) -> None:
    with pytest.raises(TargetError, match=f"made of {case}, which is no input"):
        lint.check_randomness(KEYED_BY_NO_INPUT[case])


@pytest.mark.parametrize("name", ["key", "draw", "bits"])
def test_defaults_of_keys_and_words_are_refused(name: str) -> None:
    made = private("""
      words = fluidc.ChaCha20 <purpose = 1, tensor = 0> (key, draw, n, n)
      a = fluidc.Normals (words, n)
      b = fluidc.Normals (bits, n)
      y = Add (a, b)""")
    lint.check_randomness(made)
    made.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.uint32), name))
    with pytest.raises(TargetError, match=f"made of '{name}', which is no input"):
        lint.check_randomness(made)


def test_graphs_beside_the_graph_are_read() -> None:
    """Those of ``training_info``, of lists of graphs, and defaults of a function's attributes."""
    drawing = DRAWING["a node"].graph
    training = model("y = Identity (x)")
    training.training_info.add().algorithm.CopyFrom(drawing)
    listed = model("y = other.Many (x)", FUNCTION + "Many (x) => (y) { y = Identity (x) }")
    listed.graph.node[0].attribute.append(helper.make_attribute("bodies", [drawing]))
    default = model("y = other.One (x)", FUNCTION + "One (x) => (y) { y = Identity (x) }")
    default.functions[0].attribute_proto.append(helper.make_attribute("body", drawing))
    for made in (training, listed, default):
        with pytest.raises(TargetError, match="RandomNormal"):
            lint.check_randomness(made)


def test_where_it_stands_is_said() -> None:
    made = DRAWING["Dropout"]
    made.graph.node[0].doc_string = "train.py:7\n%y = random.dropout(%x)"
    with pytest.raises(TargetError, match="Dropout") as caught:
        lint.check_randomness(made)
    assert caught.value.where == "train.py:7"


def test_what_onnx_calls_not_deterministic_is_known() -> None:
    """Control flow draws what its graphs draw."""
    schemas: list[Any] = list(defs.get_all_schemas())
    kinds = {str(kind.name) for kind in schemas if kind.node_determinism == kind.NodeDeterminism.NonDeterministic}
    assert kinds - {"If", "Loop", "Scan", "SequenceMap", "AffineGrid"} == lint.RANDOM_NODES
