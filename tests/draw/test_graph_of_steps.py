"""Graphs of steps: layers, few crossings, places that do not overlap."""

import ast
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.draw.graph_of_steps import StepNode, _apart, steps_svg


def read(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


NODES = [
    StepNode("x", state="unclaimed"),
    StepNode("a", read("2 * x"), ["x"], read("bar(b)"), "wrong"),
    StepNode("b", read("a + x"), ["a", "x"], read("1"), "right"),
]


def test_every_node_and_every_edge_is_drawn():
    figure = steps_svg(NODES, lambda _: None, title="A & b")
    drawn = ElementTree.fromstring(figure)
    titles = [title.text for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["A & b", "x / x ?", "a = 2 · x / a = b", "b = a + x / b = 1"]
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}path"))) == 3
    assert "nobody claims its adjoint" in figure
    assert "carried" not in figure  # the legend tells of what there is


def test_unknown_states_are_refused():
    with pytest.raises(AssertionError):
        StepNode("x", state="maybe")


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0.1, 9), st.floats(0, 50)), min_size=1, max_size=8))
def test_places_keep_their_distance_and_their_middle(rows):
    wanted, weights, gaps = (list(column) for column in zip(*rows, strict=True))
    placed = _apart(wanted, weights, gaps[1:])
    assert all(b - a >= gap - 1e-9 for a, b, gap in zip(placed, placed[1:], gaps[1:], strict=False))
    # Nothing is gained by moving all of them.
    moved = sum(weight * (place - want) for weight, place, want in zip(weights, placed, wanted, strict=True))
    assert abs(moved) < 1e-6
