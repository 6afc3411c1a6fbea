import re
import xml.etree.ElementTree as ET

import pytest
import torch

from qkv.draw import DrawnGraph, graph_svg, matrix_svg, points, svg
from qkv.errors import InputError

EDGES = torch.tensor([[0, 1, 2, 2], [1, 0, 0, 2]])
XY = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 4.0]])


def graph(**options) -> DrawnGraph:
    return DrawnGraph(EDGES, XY, ["a", "b", "<c>"], **options)


def test_edges_there_and_back_are_one_line_and_loops_none():
    figure = graph_svg(graph(edge_weight=torch.tensor([0.25, 1.0, 0.5, 9.0])))
    ET.fromstring(figure)
    lines = re.findall(r'<line [^>]*stroke-width="([\d.]+)"', figure)
    # Of a - b the heavier, 1.0; of c - a 0.5; as shares of the most, 9, on a width of 0.5 and 5 more.
    assert sorted(map(float, lines)) == pytest.approx([0.5 + 5 * 0.5 / 9, 0.5 + 5 / 9], abs=0.01)
    assert "a – b: 1.000" in figure


def test_nodes_have_the_colour_of_their_group_or_value():
    by_group = graph_svg(graph(groups=["x", "y", "x"], marked=[1]))
    colours = re.findall(r'<circle [^>]*r="10" fill="(#\w+)"', by_group)
    assert colours[0] == colours[2] != colours[1]
    assert by_group.count('stroke-width="3"') == 1
    by_value = graph_svg(graph(values=[0.0, 1.0, 3.0]))
    assert len(set(re.findall(r'<circle [^>]*fill="(#\w+)"', by_value))) == 3
    assert "from 0 (pale) to 3 (dark)" in by_value
    assert "&lt;c&gt;" in by_value


def test_nodes_stand_where_they_lie():
    places = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="10"', graph_svg(graph()))
    (ax, ay), (bx, by), (cx, cy) = [tuple(map(float, place)) for place in places]
    assert cx == pytest.approx((ax + bx) / 2)
    assert ay == by < cy


def test_a_matrix_has_a_cell_a_number():
    figure = matrix_svg(torch.tensor([[0.0, 2.0], [-1.0, 0.0]]))
    ET.fromstring(figure)
    assert "0, 1: 2" in figure
    assert "1, 0: -1" in figure
    assert figure.count("<title>") == 3


def test_points_lie_on_like_axes():
    figure = svg(points([(1.0, 1.5), (2.0, 1.75)], x="true", y="told"))
    assert "true" in figure
    assert "told" in figure


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: graph_svg(DrawnGraph(EDGES[:, :0], XY[:0], [])), "a graph of this size cannot be drawn.*got 0"),
        (lambda: graph_svg(DrawnGraph(EDGES, XY, ["a", "b"])), "xy do not fit the nodes"),
        (lambda: graph_svg(graph(groups=["x"])), "groups do not fit the nodes.*3, one a node; got 1"),
        (lambda: graph_svg(graph(values=[0.0, 1.0, float("nan")])), "values hold NaN or infinity"),
        (lambda: graph_svg(DrawnGraph(EDGES + 1, XY, ["a", "b", "c"])), "names a node that is not there"),
        (lambda: matrix_svg(torch.zeros(0, 3)), "a matrix of this size cannot be drawn"),
        (lambda: matrix_svg(torch.full((1, 1), torch.inf)), "the matrix holds NaN or infinity"),
        (lambda: points([], x="x", y="y"), "there is nothing to draw"),
        (lambda: points([(0.0, float("inf"))], x="x", y="y"), "a point is not finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message: str):
    with pytest.raises(InputError, match=message):
        draw()
