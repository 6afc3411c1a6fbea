"""A graph of named steps, drawn: what reads what from top to bottom, and the adjoint of each node below its formula.

Nodes stand in layers by how many steps lead to them, in an order with few crossings (Sugiyama, Tagawa and Toda 1981),
as near above what reads them as their widths allow.
"""

import ast
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qkv.draw.colour import GRID, INK, MUTED, PAPER, SERIES
from qkv.draw.formula import END, HIGH, LOW, OVER, SLANTED, Axes, marked, named
from qkv.draw.label import ems, escaped
from qkv.draw.shapes import FONT, SMALL, Panel, document, headed, stack, units, written

_LINE, _PAD, _APART, _BETWEEN = 21.0, 9.0, 22.0, 44.0
_COLOURS = {
    "right": (SERIES[2], "adjoint, claimed and right"),
    "carried": (SERIES[4], "carried forward: right for what is claimed below"),
    "wrong": (SERIES[1], "wrong"),
    "derived": (SERIES[0], "adjoint"),
    "unclaimed": (MUTED, "nobody claims its adjoint"),
}
_ROUNDS = 24


@dataclass(frozen=True)
class StepNode:
    """A node of the graph.

    Attributes:
        formula: the expression that gives it; None for what is given.
        inputs: the names that it reads.
        adjoint: an expression for it, None where there is none.
        state: of the adjoint: `right`, `carried`, `wrong`, `derived` or `unclaimed`.
    """

    name: str
    formula: ast.expr | None = None
    inputs: Sequence[str] = ()
    adjoint: ast.expr | None = None
    state: str = ""

    def __post_init__(self) -> None:
        assert self.state in ("", *_COLOURS)


def steps_svg(nodes: Sequence[StepNode], axes: Axes, *, title: str | None = None) -> str:
    """The graph as SVG with real text.

    Args:
        nodes: what is given, and every step after all that it reads.
        axes: how many axes an expression has, None where that is not known.

    >>> read = lambda text: ast.parse(text, mode="eval").body
    >>> nodes = [StepNode("x"), StepNode("y", read("2 * x"), ["x"], read("1"), "derived")]
    >>> figure = steps_svg(nodes, lambda node: 0)
    >>> figure.count("<path")  # from one to the other
    1
    """
    boxes = {node.name: _Box.of(node, axes) for node in nodes}
    layers, joints = _layers(nodes)
    order = _ordered(layers, joints)
    widths = {name: boxes[name].width if name in boxes else 8.0 for layer in order for name in layer}
    x = _places(order, joints, widths)
    tops, y = {}, 0.0
    for layer in order:
        tall = max(boxes[name].height for name in layer if name in boxes)
        tops |= dict.fromkeys(layer, (y, tall))
        y += tall + _BETWEEN
    left = min(x[name] - widths[name] / 2 for name in x)
    body = [_edge(path, x, tops, boxes, joints, left) for path in _paths(nodes, joints)]
    for name, box in boxes.items():
        body.append(box.drawn(x[name] - left - box.width / 2, tops[name][0] + (tops[name][1] - box.height) / 2))
    right = max(x[name] + widths[name] / 2 for name in x)
    figure = stack([Panel(right - left, y - _BETWEEN, "\n".join(body)), _legend([node.state for node in nodes])])
    words = f"{sum(node.formula is not None for node in nodes)} steps from what is given to {nodes[-1].name}"
    return document(headed(figure, title), title or "graph", words)


@dataclass(frozen=True)
class _Box:
    """A node as drawn: its lines, each with its colour."""

    node: StepNode
    lines: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, node: StepNode, axes: Axes) -> "_Box":
        name = named(node.name, "marked")
        lines = [(name if node.formula is None else f"{name} = {marked(node.formula, axes)}", INK)]
        bar = named(node.name, "marked", bar=True)
        if node.adjoint is not None:
            lines.append((f"{bar} = {marked(node.adjoint, axes)}", _COLOURS[node.state][0]))
        elif node.state:
            lines.append((f"{bar} ?", _COLOURS[node.state][0]))
        return cls(node, lines)

    @property
    def width(self) -> float:
        return max(_width(text) for text, _ in self.lines) + 2 * _PAD

    @property
    def height(self) -> float:
        return len(self.lines) * _LINE + _PAD

    def drawn(self, x: float, y: float) -> str:
        given = self.node.formula is None
        edge = _COLOURS[self.node.state][0] if self.node.state == "wrong" else MUTED
        place = f'x="{units(x)}" y="{units(y)}" width="{units(self.width)}" height="{units(self.height)}" rx="4"'
        look = f'fill="{GRID if given else PAPER}" stroke="{edge}" stroke-width="{2 if edge != MUTED else 0.8}"'
        tip = f"<title>{escaped(' / '.join(_bare(text) for text, _ in self.lines))}</title>"
        body = [f"<rect {place} {look}>{tip}</rect>"]
        for row, (text, colour) in enumerate(self.lines):
            middle = y + _PAD / 2 + (row + 0.5) * _LINE
            body.append(_text(text, x + self.width / 2, middle, colour))
        return "\n".join(body)


# -- text ------------------------------------------------------------------------------------------------------------

_MARKS = f"[{LOW}{HIGH}{OVER}{SLANTED}{END}]"


def _bare(text: str) -> str:
    return re.sub(_MARKS, "", text)


def _runs(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Pieces of a text with the marks that hold there."""
    marks: list[str] = []
    for piece in re.split(f"({_MARKS})", text):
        if piece == END:
            marks.pop()
        elif re.fullmatch(_MARKS, piece):
            marks.append(piece)
        elif piece:
            yield piece, frozenset(marks)


def _width(text: str) -> float:
    return sum(ems(piece) * (0.72 if marks & {LOW, HIGH} else 1.0) * FONT for piece, marks in _runs(text))


def _text(text: str, x: float, y: float, colour: str) -> str:
    """A line whose middle is at (x, y), with its marks as shifts, sizes, slants and lines above."""
    spans, shift = [], 0.0
    for piece, marks in _runs(text):
        wanted = 3.5 if LOW in marks else -4.5 if HIGH in marks else 0.0
        look = f' dy="{units(wanted - shift)}"' if wanted != shift else ""
        look += f' font-size="{SMALL - 1}"' if wanted else ""
        look += ' font-style="italic"' if SLANTED in marks else ""
        look += ' text-decoration="overline"' if OVER in marks else ""
        spans.append(f"<tspan{look}>{escaped(piece) if piece.strip() else piece}</tspan>")
        shift = wanted
    place = f'x="{units(x)}" y="{units(y + 0.35 * FONT)}" text-anchor="middle" xml:space="preserve"'
    return f'<text {place} font-size="{FONT}" fill="{colour}">{"".join(spans)}</text>'


# -- layout ----------------------------------------------------------------------------------------------------------


@dataclass
class _Joints:
    """Edges between neighbouring layers; a long edge is led through the layers between by joints of its own."""

    above: dict[str, list[str]] = field(default_factory=dict)
    below: dict[str, list[str]] = field(default_factory=dict)
    through: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, path: Sequence[str]) -> None:
        for upper, lower in itertools.pairwise(path):
            self.below.setdefault(upper, []).append(lower)
            self.above.setdefault(lower, []).append(upper)
        self.through[path[0], path[-1]] = list(path)


def _layers(nodes: Sequence[StepNode]) -> tuple[list[list[str]], _Joints]:
    """Names by layer, joints of long edges among them."""
    rank: dict[str, int] = {}
    for node in nodes:
        rank[node.name] = 1 + max((rank[name] for name in node.inputs), default=-1)
    for node in nodes:  # what is given comes just above what reads it first
        users = [rank[other.name] for other in nodes if node.name in other.inputs]
        if node.formula is None and users:
            rank[node.name] = min(users) - 1
    layers: list[list[str]] = [[] for _ in range(max(rank.values()) + 1)]
    for name, place in rank.items():
        layers[place].append(name)
    joints = _Joints()
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            between = [f"{name}>{node.name}>{place}" for place in range(rank[name] + 1, rank[node.name])]
            for place, joint in enumerate(between, start=rank[name] + 1):
                layers[place].append(joint)
            joints.add([name, *between, node.name])
    return layers, joints


def _ordered(layers: list[list[str]], joints: _Joints) -> list[list[str]]:
    """The layers, each in an order with few crossings: by the mean place of neighbours, down and up in turn."""
    best, fewest = layers, _crossings(layers, joints)
    for turn in range(_ROUNDS):
        downwards = turn % 2 == 0
        layers = [list(layer) for layer in layers]
        for place in range(1, len(layers)) if downwards else range(len(layers) - 2, -1, -1):
            beside = layers[place - 1 if downwards else place + 1]
            layers[place] = _nearest(layers[place], beside, joints.above if downwards else joints.below)
        if (count := _crossings(layers, joints)) < fewest:
            best, fewest = layers, count
    return best


def _nearest(layer: Sequence[str], beside: Sequence[str], neighbours: Mapping[str, Sequence[str]]) -> list[str]:
    """A layer in the order of the mean places of its neighbours in the one beside it."""
    spot = {name: place for place, name in enumerate(beside)}
    middle = {}
    for place, name in enumerate(layer):
        spots = [spot[other] for other in neighbours.get(name, ())]
        middle[name] = sum(spots) / len(spots) if spots else float(place)
    return sorted(layer, key=middle.__getitem__)


def _crossings(layers: Sequence[Sequence[str]], joints: _Joints) -> int:
    count = 0
    for upper, lower in itertools.pairwise(layers):
        spot = {name: place for place, name in enumerate(lower)}
        ends = [sorted(spot[other] for other in joints.below.get(name, ()) if other in spot) for name in upper]
        for first, second in itertools.combinations(ends, 2):
            count += sum(a > b for a in first for b in second)
    return count


def _places(order: Sequence[Sequence[str]], joints: _Joints, widths: Mapping[str, float]) -> dict[str, float]:
    """Where nodes stand in their layers: each as near to the middle of its neighbours as the others let it."""
    x: dict[str, float] = {}
    for layer in order:
        at = 0.0
        for name in layer:
            x[name] = at + widths[name] / 2
            at += widths[name] + _APART
    for turn in range(_ROUNDS):
        for layer in order if turn % 2 == 0 else reversed(order):
            wanted, weights = [], []
            for name in layer:
                beside = [*joints.above.get(name, ()), *joints.below.get(name, ())]
                wanted.append(sum(x[other] for other in beside) / len(beside) if beside else x[name])
                weights.append(4.0 if ">" in name else 1.0)  # joints want straight lines
            apart = [(widths[a] + widths[b]) / 2 + _APART for a, b in itertools.pairwise(layer)]
            x |= zip(layer, _apart(wanted, weights, apart), strict=True)
    return x


def _apart(wanted: Sequence[float], weights: Sequence[float], apart: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, by weighted squares, that are so far apart: pool adjacent violators."""
    offsets = list(itertools.accumulate(apart, initial=0.0))
    pools: list[list[float]] = []  # mean, weight, count
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        pools.append([want - offset, weight, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, more, count = pools.pop()
            last = pools[-1]
            last[0] = (last[0] * last[1] + mean * more) / (last[1] + more)
            last[1], last[2] = last[1] + more, last[2] + count
    flat = [mean for mean, _, count in pools for _ in range(int(count))]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]


# -- edges -----------------------------------------------------------------------------------------------------------


def _paths(nodes: Sequence[StepNode], joints: _Joints) -> list[list[str]]:
    return [joints.through[name, node.name] for node in nodes for name in dict.fromkeys(node.inputs)]


def _edge(
    path: Sequence[str],
    x: Mapping[str, float],
    tops: Mapping[str, tuple[float, float]],
    boxes: Mapping[str, _Box],
    joints: _Joints,
    left: float,
) -> str:
    """A curve through the joints of an edge, with a head at its end; ends share a side of a box evenly."""
    source, target = path[0], path[-1]
    at = _port(boxes[source], path[1], joints.below[source], x) - left
    y = tops[source][0] + (tops[source][1] + boxes[source].height) / 2
    parts = [f"M{units(at)} {units(y)}"]
    for name in path[1:]:
        top, tall = tops[name]
        end = x[name] - left
        down = top
        if name == target:
            end = _port(boxes[target], path[-2], joints.above[target], x) - left
            down = top + (tall - boxes[target].height) / 2 - 1
        bend = (y + down) / 2
        parts.append(f"C{units(at)} {units(bend)} {units(end)} {units(bend)} {units(end)} {units(down)}")
        at, y = end, down
        if name != target:
            y = top + tall
            parts.append(f"L{units(at)} {units(y)}")
    head = f"M{units(at - 3.5)} {units(y - 6)}L{units(at)} {units(y)}L{units(at + 3.5)} {units(y - 6)}"
    return f'<path d="{"".join(parts)}{head}" fill="none" stroke="{MUTED}" stroke-width="1.1"/>'


def _port(box: _Box, other: str, others: Sequence[str], x: Mapping[str, float]) -> float:
    spots = sorted(others, key=lambda name: x[name])
    apart = min(16.0, (box.width - 2 * _PAD) / max(len(spots), 1))
    return x[box.node.name] + (spots.index(other) - (len(spots) - 1) / 2) * apart


def _legend(states: Sequence[str]) -> Panel:
    body, x = [], 0.0
    marks = [(GRID, "given")] if "" in states or states else []
    marks += [(colour, words) for state, (colour, words) in _COLOURS.items() if state in states]
    for fill, words in marks:
        body.append(f'<rect x="{units(x)}" y="0" width="12" height="12" rx="2" fill="{fill}"/>')
        body.append(written(words, x + 17, 6.0, "start", size=SMALL, colour=MUTED))
        x += ems(words) * SMALL + 34
    return Panel(x, 12.0, "\n".join(body))
