"""The graph of layers: what becomes a box, and where boxes stand."""

from __future__ import annotations

import random
import re
from xml.etree import ElementTree

import pytest

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.frontend.lower import lower
from fluidc.runtime.page.graph import drawn
from fluidc.runtime.page.layers import LayerGraph, Node, chains, layer_graph
from fluidc.runtime.page.layout import BOX_HEIGHT, BOX_WIDTH, place


def ir(depth: int, private: bool = False) -> dict[str, str]:
    """The text of an MLP with ``depth`` hidden layers of one line in the script."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1], "int64")
        hidden = x
        for _ in range(depth):
            hidden = fluid.layers.fc(hidden, 4, act="relu")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(hidden, y))
        made = fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=8.0, sigma=1.0) if private else fluid.optimizer.Adam()
        made.minimize(loss)
    compiled = compile_source(lower(main, fetches=(loss.name,)), target="reference", keep_ir=True)
    return {str(stage): text for stage, text in compiled.stages.items()}


def test_layers_of_one_line_are_boxes_of_their_own() -> None:
    graph = layer_graph(ir(3))
    assert graph is not None
    kinds = [(node.kind, node.title) for node in graph.nodes]
    assert kinds == [
        ("feed", "x"), ("feed", "y"), ("layer", "fc"), ("layer", "fc"), ("layer", "fc"),
        ("layer", "softmax_with_cross_entropy"), ("layer", "mean"), ("gradient", "gradients"),
        ("update", "adam update"), ("fetch", "mean_0.tmp_0"),
    ]  # fmt: skip
    assert graph.nodes[3].parameters == ["fc_1.w_0", "fc_1.b_0"]
    assert graph.nodes[3].ops == ["linear.matmul", "elementwise.add", "unary.relu"]
    assert graph.nodes[3].detail == "f32[N,4]"
    assert re.fullmatch(r"test_graph\.py:\d+", graph.nodes[3].place)
    assert graph.nodes[8].detail == "6 parameters"
    assert graph.edges[0, 2] == ["f32[N,4]"]
    assert set(graph.edges) == {(0, 2), (2, 3), (3, 4), (4, 5), (1, 5), (5, 6), (6, 7), (7, 8), (6, 9)}


def test_a_private_step_says_so() -> None:
    graph = layer_graph(ir(1, private=True))
    assert graph is not None
    (box,) = (node for node in graph.nodes if node.kind == "gradient")
    assert (box.title, box.detail) == ("private gradients", "clipped by example, noised")


def test_large_graphs_are_drawn_by_their_chains() -> None:
    graph = layer_graph(ir(60))
    assert graph is not None
    assert [node.title for node in graph.nodes] == [
        "x", "y", "fc, fc, fc, …", "softmax_with_cross_entropy, mean", "gradients", "adam update", "mean_0.tmp_0",
    ]  # fmt: skip
    assert len(graph.nodes[2].parameters) == 120
    assert drawn(graph)


def test_chains_end_where_graphs_branch() -> None:
    graph = LayerGraph([Node("layer", name) for name in "abcdef"])
    graph.edges = {(0, 1): ["t"], (1, 2): ["t"], (1, 3): ["t"], (2, 4): ["t"], (3, 4): ["t"], (4, 5): ["t"]}
    made = chains(graph)
    assert [node.title for node in made.nodes] == ["a, b", "c", "d", "e, f"]
    assert set(made.edges) == {(0, 1), (0, 2), (1, 3), (2, 3)}


@pytest.mark.parametrize("text", [{}, {"captured": "no module"}, {"captured": "module {stage = captured} {\n}\n"}])
def test_without_a_text_there_is_no_graph(text: dict[str, str]) -> None:
    assert layer_graph(text) is None


@pytest.mark.parametrize("seed", range(8))
def test_boxes_stand_apart_and_below_what_they_read(seed: int) -> None:
    drawing = random.Random(seed)
    nodes = drawing.randrange(1, 30)
    edges = sorted({(a, b) for b in range(nodes) for a in range(b) if drawing.random() < 2 / (1 + b)})
    layout = place(nodes, edges)
    for a in range(nodes):
        x, y = layout.boxes[a]
        assert -1e-6 <= x <= layout.width - BOX_WIDTH + 1e-6
        assert 0 <= y <= layout.height - BOX_HEIGHT
        for b in range(a):
            left, top = layout.boxes[b]
            assert abs(x - left) >= BOX_WIDTH or abs(y - top) >= BOX_HEIGHT, (a, b)
    for (start, end), path in zip(edges, layout.paths, strict=True):
        (x1, y1), (x2, y2) = layout.boxes[start], layout.boxes[end]
        assert path[0] == (pytest.approx(x1 + BOX_WIDTH / 2), y1 + BOX_HEIGHT)
        assert path[-1] == (pytest.approx(x2 + BOX_WIDTH / 2), y2)
        assert [y for _, y in path] == sorted(y for _, y in path)
        for x, y in path[1:-1]:  # what passes a row passes between its boxes
            assert not any(left < x < left + BOX_WIDTH and top < y < top + BOX_HEIGHT for left, top in layout.boxes)


def test_whatever_a_box_is_called_is_text() -> None:
    name = '<script>alert("x")</script>'
    graph = LayerGraph([Node("feed", name, "&<>", "a'b\".py:3", [name], [name]), Node("layer", "b")], {(0, 1): [name]})
    picture = drawn(graph)
    assert "<script" not in picture
    ElementTree.fromstring(picture)
    assert drawn(LayerGraph()) == ""
    assert drawn(LayerGraph([Node("layer", "x")] * 1000)) == ""
