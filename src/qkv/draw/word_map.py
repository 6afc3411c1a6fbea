"""Maps of words: a page to pan, zoom and search that needs no network, SVG with real text, and PNG."""

import base64
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import vl_convert
from jaxtyping import Float64

from qkv.draw.colour import INK, MUTED, SERIES, shade
from qkv.draw.label import ems, shorten, visible
from qkv.draw.page import framed, mounted
from qkv.draw.shapes import SMALL, Panel, document, frame, headed, line_of_text, moved, stack, units, written
from qkv.errors import InputError
from qkv.types import WordMap, renders

_SIDE, _INSET = 620.0, 26.0
_NAME = 12
_LABEL_EMS = 12.0
_STILL = 1000  # up to so many words, the page holds a figure for readers that run no scripts


def word_map_page(maps: Sequence[WordMap], *, title: str, caption: str = "") -> str:
    """Maps of words side by side as one HTML page that needs no network.

    Each is panned and zoomed by itself; more words are named as one comes nearer, the most frequent first. A word that
    is pointed at, or searched for, is shown on every map with its nearest words in the space of its vectors.

    Args:
        maps: at least one; two stand side by side where there is room.
        title, caption: what stands above.

    Raises:
        InputError: no map, or one without words.

    >>> two = np.array([[0.0, 1.0], [2.0, 1.0]], dtype=np.float32)
    >>> near = np.array([[1], [0]])
    >>> one = WordMap(["oui", "non"], two, np.array([0, 0]), ["answers"], near, 1.0, "French", "drawn directly")
    >>> word_map_page([one], title="Two words").startswith("<!doctype html>")
    True
    """
    _require_words(maps)
    data = {"title": title, "caption": caption, "maps": [_fields(one) for one in maps]}
    figure = word_map_svg(maps) if sum(len(one.words) for one in maps) <= _STILL else ""
    return mounted(title, "atlas", "word_map", data, figure)


def word_map_svg(maps: Sequence[WordMap], *, title: str | None = None) -> str:
    """Maps of words side by side as SVG with real text; words are named as far as names do not cover one another.

    Args:
        maps: at least one.
        title: what stands above.

    Raises:
        InputError: no map, or one without words.

    >>> two = np.array([[0.0, 1.0], [2.0, 1.0]], dtype=np.float32)
    >>> near = np.array([[1], [0]])
    >>> one = WordMap(["oui", "non"], two, np.array([0, 0]), ["answers"], near, 1.0, "French", "drawn directly")
    >>> ">oui<" in word_map_svg([one])
    True
    """
    _require_words(maps)
    drawn = [stack([line_of_text(one.title, weight="bold"), _drawing(one), _facts_and_clusters(one)]) for one in maps]
    starts = np.cumsum([0.0, *(panel.width + 28 for panel in drawn)])
    side_by_side = "\n".join(moved(panel, start, 0.0) for panel, start in zip(drawn, starts.tolist(), strict=False))
    figure = Panel(float(starts[-1]) - 28, max(panel.height for panel in drawn), side_by_side)
    names = ", ".join(one.title for one in maps)
    return document(
        headed(figure, title), title or names, ". ".join(f"{one.title}: {word_map_facts(one)}" for one in maps)
    )


def word_map_png(maps: Sequence[WordMap], *, title: str | None = None, scale: int | float = 2) -> bytes:
    """`word_map_svg` as the bytes of a PNG, `scale` pixels to a unit.

    Raises:
        InputError: no map, or one without words.
    """
    return vl_convert.svg_to_png(word_map_svg(maps, title=title), scale=scale)


@renders("html", WordMap)
def word_map_cell(one: WordMap) -> str:
    """`word_map_page` of one map for a notebook's cell."""
    return framed(word_map_page([one], title=one.title), one.title, height=820)


@renders("svg", WordMap)
def word_map_figure(one: WordMap) -> str:
    """`word_map_svg` of one map for a notebook's cell, which needs no script."""
    return word_map_svg([one])


def word_map_facts(one: WordMap) -> str:
    """What is told of a map in one line."""
    near = one.neighbours.shape[1]
    return f"{len(one.words):,} words, {one.method}; keeps {100 * one.kept:.0f} % of each word's {near} nearest"


def _require_words(maps: Sequence[WordMap]) -> None:
    if not maps or not all(len(one.words) for one in maps):
        raise InputError("there is no map of words to show", expected="at least one map, with words")


# -- page ------------------------------------------------------------------------------------------------------------


def _fields(one: WordMap) -> dict[str, Any]:
    """What the page's script reads of a map: neighbours in 32 bits, places in 16, clusters in 16."""
    places = np.rint(65535 * _unit(one)).astype("<u2")
    raw = one.neighbours.astype("<u4").tobytes() + places.tobytes() + one.cluster.astype("<u2").tobytes()
    return {
        "title": one.title,
        "facts": word_map_facts(one),
        "words": [visible(word) for word in one.words],
        "names": [visible(name) for name in one.cluster_names],
        "near": one.neighbours.shape[1],
        "packed": base64.b64encode(zlib.compress(raw, 6)).decode(),
    }


def _unit(one: WordMap) -> Float64[np.ndarray, "words 2"]:
    """The places, moved and scaled alike on both axes until they just go into the square from 0 to 1."""
    xy = one.xy.astype(np.float64)
    low, span = xy.min(axis=0), float(np.ptp(xy, axis=0).max()) or 1.0
    return (xy - low + (span - np.ptp(xy, axis=0)) / 2) / span


# -- figure ----------------------------------------------------------------------------------------------------------


def _drawing(one: WordMap) -> Panel:
    """The points of a map, and as many names as there is room for."""
    places = _unit(one) * (1, -1) * (_SIDE - 2 * _INSET)  # up is down on paper
    places += _INSET - places.min(axis=0)
    height = float(places[:, 1].max()) + _INSET
    radius = min(3.2, max(1.0, 50 / math.sqrt(len(one.words))))
    points = [
        _mark(int(cluster), x, y, radius)
        for (x, y), cluster in reversed(list(zip(places.tolist(), one.cluster.tolist(), strict=True)))
    ]
    taken = np.empty((0, 4))
    texts = []
    labels = [
        (
            name,
            *np.median(places[one.cluster == number], axis=0).tolist(),
            _NAME,
            shade((_colour(number), INK), 0.35),
            "bold",
        )
        for number, name in enumerate(one.cluster_names)
    ]
    labels += [(word, x, y - 8, SMALL, INK, "") for word, (x, y) in zip(one.words, places.tolist(), strict=True)]
    for label, x, y, size, colour, weight in labels:
        text = shorten(visible(label), 2 * _LABEL_EMS)
        half = ems(text) * size / 2 + 2
        x = min(max(x, half), _SIDE - half)
        box = np.array([x - half, y - size / 2 - 1, x + half, y + size / 2 + 1])
        apart = (taken[:, 0] >= box[2]) | (box[0] >= taken[:, 2]) | (taken[:, 1] >= box[3]) | (box[1] >= taken[:, 3])
        if apart.all():
            taken = np.vstack([taken, box])
            texts.append(written(text, x, y, "middle", size=size, colour=colour, weight=weight))
    halo = 'style="paint-order:stroke" stroke="#ffffff" stroke-width="3" stroke-linejoin="round"'
    body = f'<g opacity="0.85">{"".join(points)}</g>\n<g {halo}>{"".join(reversed(texts))}</g>'
    return Panel(_SIDE, height, f"{frame(0.0, 0.0, _SIDE, height)}\n{body}")


def _facts_and_clusters(one: WordMap) -> Panel:
    """What is told of a map, and the marks of its clusters with their names, as many a line as go into it."""
    rows = [Panel(_SIDE, SMALL + 4.0, written(word_map_facts(one), 0.0, SMALL / 2, "start", size=SMALL, colour=MUTED))]
    x, line, lines = 0.0, [], []
    for number, name in enumerate(one.cluster_names):
        text = shorten(visible(name), 2 * _LABEL_EMS)
        width = ems(text) * SMALL + 30
        if line and x + width > _SIDE:
            lines.append(line)
            x, line = 0.0, []
        line.append(_mark(number, x + 5, 6.0, 4.0) + written(text, x + 14, 6.0, "start", size=SMALL))
        x += width
    rows += [Panel(_SIDE, 12.0, "".join(line)) for line in [*lines, line]]
    return Panel(_SIDE, sum(row.height + 4 for row in rows), _below(rows))


def _below(rows: Sequence[Panel]) -> str:
    return "\n".join(moved(row, 0.0, 18.0 * place) for place, row in enumerate(rows))


def _colour(cluster: int) -> str:
    return SERIES[cluster % len(SERIES)]


def _mark(cluster: int, x: float, y: float, radius: float) -> str:
    """The mark of a cluster: the colours come again in another form."""
    form, colour = cluster // len(SERIES) % 3, _colour(cluster)
    if form == 0:
        return f'<circle cx="{units(x)}" cy="{units(y)}" r="{units(radius)}" fill="{colour}"/>'
    if form == 1:
        place = f'x="{units(x - 0.9 * radius)}" y="{units(y - 0.9 * radius)}"'
        return f'<rect {place} width="{units(1.8 * radius)}" height="{units(1.8 * radius)}" fill="{colour}"/>'
    top, low, side = units(y - 1.3 * radius), units(y + 0.9 * radius), 1.2 * radius
    corners = f"{units(x)},{top} {units(x + side)},{low} {units(x - side)},{low}"
    return f'<polygon points="{corners}" fill="{colour}"/>'
