"""Graphs as figures: nodes as discs in the colour of their class or value, edges as wide as they weigh."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qkv.draw.colour import BLUES, INK, MUTED, ORANGES, PAPER, SERIES, shade, text_on
from qkv.draw.label import escaped
from qkv.draw.shapes import CRISP, FONT, SMALL, Panel, document, frame, headed, stack, units, written
from qkv.errors import InputError

_WIDTH, _HEIGHT, _RADIUS = 560.0, 420.0, 10.0
_MOST = 400  # nodes; further ones would hide each other
_CELL = 14.0


@dataclass(frozen=True)
class DrawnGraph:
    """A graph laid out on a plane; `graph_svg` draws it.

    Attributes:
        edge_index: sources above targets; of two edges there and back the heavier one is drawn.
        xy: the place of each node, in any units.
        names: what stands in each node.
        groups: the group of each node, which gives its colour; None where values do.
        values: a number for each node, in blues from the least to the most; None where groups do.
        edge_weight: how wide each edge is drawn; alike where left out.
        marked: nodes with a thick rim.
        tips: what each node tells beside its name, shown when pointed at.
    """

    edge_index: Int[Tensor, "2 edges"]
    xy: Float[Tensor, "nodes 2"]
    names: Sequence[str]
    groups: Sequence[str] | None = None
    values: Sequence[float] | None = None
    edge_weight: Float[Tensor, " edges"] | None = None
    marked: Sequence[int] = ()
    tips: Sequence[str] | None = None


def graph_svg(graph: DrawnGraph, *, title: str | None = None) -> str:
    """A graph as SVG.

    Raises:
        InputError: no node, more than 400, places, names, groups or values that do not fit, or numbers that are not
            finite.

    >>> one = DrawnGraph(torch.tensor([[0], [1]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]), ["a", "b"], groups="xy")
    >>> graph_svg(one).count("<circle")
    4
    """
    _require_drawable(graph)
    places = _placed(graph.xy)
    body = [*_edges(graph, places), *_nodes(graph, places)]
    panel = Panel(_WIDTH, _HEIGHT, "\n".join(body))
    told = f"A graph of {len(graph.names)} nodes and {graph.edge_index.shape[1]} edges."
    return document(headed(stack([panel, _legend(graph)]), title), title or "graph", told)


def matrix_svg(matrix: Float[Tensor, "rows columns"], *, title: str | None = None) -> str:
    """A matrix as SVG: a cell a number, blue above zero and orange below, the darker the larger; zeros stay white.

    Raises:
        InputError: no cell, more than 200 rows or columns, or numbers that are not finite.

    >>> matrix_svg(torch.eye(3)).count("<rect")
    5
    """
    rows, columns = matrix.shape
    if not 0 < min(matrix.shape) <= max(matrix.shape) <= 200:
        raise InputError("a matrix of this size cannot be drawn", expected="1 to 200 rows and columns",
                         got=str(tuple(matrix.shape)))  # fmt: skip
    if not bool(torch.isfinite(matrix).all()):
        raise InputError("the matrix holds NaN or infinity")
    top = float(matrix.abs().max()) or 1.0
    size = min(_CELL, _WIDTH / max(rows, columns))
    left = 2.4 * SMALL
    body = []
    for y, row in enumerate(matrix.tolist()):
        for x, value in enumerate(row):
            if value:
                colour = shade(BLUES if value > 0 else ORANGES, abs(value) / top)
                place = f'x="{units(left + x * size)}" y="{units(left + y * size)}"'
                tip = f"<title>{y}, {x}: {value:.4g}</title>"
                body.append(
                    f'<rect {place} width="{units(size)}" height="{units(size)}" fill="{colour}" {CRISP}>{tip}</rect>'
                )
    step = math.ceil(1.7 * SMALL / size)
    sides = [(str(y), left - 4, left + (y + 0.5) * size, "end") for y in range(0, rows, step)]
    sides += [(str(x), left + (x + 0.5) * size, left - SMALL, "middle") for x in range(0, columns, step)]
    body += [written(*side, size=SMALL, colour=MUTED) for side in sides]
    body.append(frame(left, left, columns * size, rows * size))
    panel = Panel(left + columns * size, left + rows * size, "\n".join(body))
    return document(headed(panel, title), title or "matrix", f"A matrix of {rows} rows and {columns} columns.")


def _placed(xy: Tensor) -> list[tuple[float, float]]:
    """The places of nodes on the paper, each axis stretched to its room."""
    margin = 1.6 * _RADIUS
    low = xy.min(dim=0).values
    span = (xy.max(dim=0).values - low).clamp(min=1e-9)
    room = torch.tensor([_WIDTH - 2 * margin, _HEIGHT - 2 * margin])
    return [(x, y) for x, y in (margin + (xy - low) / span * room).tolist()]


def _edges(graph: DrawnGraph, places: Sequence[tuple[float, float]]) -> list[str]:
    count = graph.edge_index.shape[1]
    weights = [1.0] * count if graph.edge_weight is None else graph.edge_weight.tolist()
    top = max(map(abs, weights), default=0.0) or 1.0
    drawn: dict[tuple[int, int], float] = {}
    for source, target, weight in zip(*graph.edge_index.tolist(), weights, strict=True):
        ends = (min(source, target), max(source, target))
        if source != target and abs(weight) >= abs(drawn.get(ends, 0.0)):
            drawn[ends] = weight
    lines = []
    for (a, b), weight in sorted(drawn.items(), key=lambda edge: abs(edge[1])):
        share = abs(weight) / top
        width = 1.2 if graph.edge_weight is None else 0.5 + 5 * share
        colour = MUTED if graph.edge_weight is None else shade(("#c9cfd6", INK), share)
        (x1, y1), (x2, y2) = places[a], places[b]
        ends = f'x1="{units(x1)}" y1="{units(y1)}" x2="{units(x2)}" y2="{units(y2)}"'
        tip = (
            ""
            if graph.edge_weight is None
            else f"<title>{escaped(f'{graph.names[a]} – {graph.names[b]}')}: {weight:.3f}</title>"
        )
        look = f'stroke="{colour}" stroke-width="{units(width)}" stroke-opacity="0.75"'
        lines.append(f"<line {ends} {look}>{tip}</line>")
    return lines


def _nodes(graph: DrawnGraph, places: Sequence[tuple[float, float]]) -> list[str]:
    colours = _colours(graph)
    marked = set(graph.marked)
    discs = []
    for node, ((x, y), name) in enumerate(zip(places, graph.names, strict=True)):
        rim = f'stroke="{INK}" stroke-width="3"' if node in marked else f'stroke="{PAPER}" stroke-width="1.2"'
        tip = escaped(f"{name}: {graph.tips[node]}" if graph.tips else name)
        disc = f'<circle cx="{units(x)}" cy="{units(y)}" r="{units(_RADIUS)}" fill="{colours[node]}" {rim}/>'
        label = written(name[:3], x, y, "middle", size=SMALL, colour=text_on(colours[node]))
        discs.append(f"<g><title>{tip}</title>{disc}{label}</g>")
    return discs


def _colours(graph: DrawnGraph) -> list[str]:
    if graph.groups is not None:
        by_group = _group_colours(graph.groups)
        return [by_group[group] for group in graph.groups]
    if graph.values is None:
        return [SERIES[5]] * len(graph.names)
    low, high = min(graph.values), max(graph.values)
    span = (high - low) or 1.0
    return [shade(BLUES[1:], (value - low) / span) for value in graph.values]


def _group_colours(groups: Sequence[str]) -> Mapping[str, str]:
    names = sorted(set(groups))
    return {name: SERIES[place % len(SERIES)] for place, name in enumerate(names)}


def _legend(graph: DrawnGraph) -> Panel:
    if graph.groups is None:
        if graph.values is None:
            return Panel(0.0, 0.0, "")
        low, high = min(graph.values), max(graph.values)
        words = f"from {low:.3g} (pale) to {high:.3g} (dark)"
        return Panel(_WIDTH, float(FONT), written(words, 0.0, FONT / 2, "start", size=SMALL))
    body, x = [], 0.0
    for name, colour in _group_colours(graph.groups).items():
        body.append(f'<circle cx="{units(x + 6)}" cy="{units(FONT / 2)}" r="6" fill="{colour}"/>')
        body.append(written(name, x + 17, FONT / 2, "start", size=SMALL))
        x += 34 + 0.62 * SMALL * len(name)
    return Panel(x, float(FONT), "\n".join(body))


def _require_drawable(graph: DrawnGraph) -> None:
    nodes = len(graph.names)
    if not 0 < nodes <= _MOST:
        raise InputError("a graph of this size cannot be drawn", expected=f"1 to {_MOST} nodes", got=str(nodes))
    for name, rows in (("xy", graph.xy), ("groups", graph.groups), ("values", graph.values), ("tips", graph.tips)):
        if rows is not None and len(rows) != nodes:
            raise InputError(f"{name} do not fit the nodes", expected=f"{nodes}, one a node", got=str(len(rows)))
    weights = graph.xy.new_zeros(0) if graph.edge_weight is None else graph.edge_weight
    values = torch.tensor(graph.values if graph.values is not None else [0.0])
    for name, numbers in (("xy", graph.xy), ("edge_weight", weights), ("values", values)):
        if not bool(torch.isfinite(numbers).all()):
            raise InputError(f"{name} hold NaN or infinity")
    if graph.edge_index.numel() and not 0 <= int(graph.edge_index.min()) <= int(graph.edge_index.max()) < nodes:
        raise InputError("edge_index names a node that is not there", expected=f"0 to {nodes - 1}")
