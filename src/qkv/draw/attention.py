"""Attention maps as figures for paper, SVG and PNG.

Queries are rows, or the left column of a line figure; keys are columns, or its right one.
"""

import math
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import vl_convert

from qkv.draw.colour import BLUES, GREYS, MUTED, ORANGES, shade, text_on
from qkv.draw.label import ems, escaped, visible
from qkv.draw.shapes import (
    CRISP,
    FONT,
    GAP,
    SMALL,
    Panel,
    document,
    frame,
    grid,
    headed,
    label_width,
    labelled,
    line,
    line_of_text,
    stack,
    units,
    widest,
    written,
)
from qkv.errors import InputError, unknown_name
from qkv.types import AttentionMap, Trace, renders

SOLID, DASHED = 0.8, 0.25
_CELL_SIDE = 64  # queries and keys that a notebook's cell has room for
_NUMBERED = 12  # up to so many queries and keys, the cells of a matrix carry their numbers
_ROW_TOLERANCE = 0.02  # rows of bfloat16 sum to one within about 2^-8


@dataclass(frozen=True)
class Look:
    """How the weights of one figure become marks: the largest magnitude in it, its colours, where lines begin."""

    top: float
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    signed: bool
    solid: int | float = SOLID
    dashed: int | float = DASHED
    absolute: bool = False

    @classmethod
    def of(
        cls,
        attention: AttentionMap,
        *,
        monochrome: bool = False,
        solid: int | float = SOLID,
        dashed: int | float = DASHED,
        absolute: bool = False,
    ) -> "Look":
        if monochrome and attention.signed:
            raise InputError("greys cannot tell negative weights from positive ones", hint="monochrome=False")
        top = float(attention.weights.detach().abs().max()) or 1.0
        colours = (GREYS, GREYS) if monochrome else (BLUES, ORANGES)
        return cls(top, *colours, attention.signed, solid, dashed, absolute)

    def fill(self, weight: float) -> str:
        return shade(self.positive if weight >= 0 else self.negative, abs(weight) / self.top)

    def stroke(self, weight: float) -> str:
        return shade(self.positive if weight >= 0 else self.negative, 0.8)


def attention_svg(
    attention: AttentionMap,
    *,
    style: str = "matrix",
    title: str | None = None,
    monochrome: bool = False,
    solid: int | float = SOLID,
    dashed: int | float = DASHED,
    absolute: bool = False,
    numbers: bool | None = None,
) -> str:
    """An attention map as SVG with real text; all heads side by side where the map has several.

    Args:
        attention: `attention.mean()` or `attention.head(i)` make it one panel.
        style: `matrix`, cells darker for larger weights; or `lines`, a line from each query to the keys that it
            attends to most.
        title: printed above the figure.
        monochrome: greys, for print.
        solid, dashed: a line is solid from `solid` times the largest weight of its row, dashed from `dashed` times
            it, and not drawn below. The legend says so.
        absolute: `solid` and `dashed` are weights themselves, not parts of the row's largest.
        numbers: whether the cells of a matrix carry their weights; by default those of one head up to 12 x 12 do.

    Raises:
        InputError: an unknown style, a map without cells or whose rows do not sum to one, thresholds out of order,
            greys for signed weights.

    >>> import torch
    >>> weights = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    >>> labels = ["two", "hundred"], ["deux", "cent"]
    >>> alignment = AttentionMap(weights, *labels, "decoder", "cross", "captured", "softmax")
    >>> figure = attention_svg(alignment, style="lines")
    >>> "hundred" in figure, figure.count("stroke-dasharray")  # 0.3 of 0.7 is dashed, as is the legend's sample
    (True, 2)
    """
    if style not in ("matrix", "lines"):
        raise unknown_name("style", style, ["matrix", "lines"])
    if not 0 < dashed <= solid or (solid > 1 and not absolute):
        raise InputError(
            "the thresholds of the lines are out of order",
            expected="0 < dashed <= solid" + (" <= 1" if not absolute else ""),
            got=f"dashed={dashed}, solid={solid}",
        )
    attention = drawable(attention)
    look = Look.of(attention, monochrome=monochrome, solid=solid, dashed=dashed, absolute=absolute)
    if numbers is None:
        numbers = max(attention.weights.shape[1:]) <= _NUMBERED and attention.heads == 1
    heads = attention.weights.detach().cpu().double().tolist()
    if style == "matrix":
        drawn, legend = [_matrix(rows, attention, look, numbers) for rows in heads], matrix_legend(look)
    else:
        drawn, legend = [_lines(rows, attention, look) for rows in heads], _lines_legend(look)
    if attention.heads > 1:
        drawn = [stack([line_of_text(f"head {index}"), panel]) for index, panel in enumerate(drawn)]
    figure = headed(stack([grid(drawn), legend]), title)
    return document(figure, title or attention.layer, describe(attention))


def attention_png(
    attention: AttentionMap,
    *,
    style: str = "matrix",
    title: str | None = None,
    monochrome: bool = False,
    solid: int | float = SOLID,
    dashed: int | float = DASHED,
    absolute: bool = False,
    numbers: bool | None = None,
    scale: int | float = 2,
) -> bytes:
    """`attention_svg` as the bytes of a PNG, `scale` pixels to a unit.

    Letters are drawn with the fonts of this machine; where none has one of them, a warning names it. The SVG is drawn
    with the fonts of whoever reads it.

    Raises:
        InputError: as `attention_svg`; a scale that is not positive.
    """
    if not 0 < scale < math.inf:
        raise InputError("a figure needs a scale", expected="a positive number", got=str(scale))
    figure = attention_svg(
        attention,
        style=style,
        title=title,
        monochrome=monochrome,
        solid=solid,
        dashed=dashed,
        absolute=absolute,
        numbers=numbers,
    )
    _warn_of_missing_letters(visible(text) for text in (*attention.query_labels, *attention.key_labels, title or "-"))
    return vl_convert.svg_to_png(figure, scale=scale)


@renders("svg", AttentionMap)
def attention_figure(attention: AttentionMap) -> str:
    """`attention_svg` for a notebook's cell, which needs no script; an overview by blocks where the map is long."""
    return attention_svg(drawable(attention, _CELL_SIDE))


@renders("svg", Trace)
def trace_figure(trace: Trace) -> str:
    """The attention maps of a trace, each the mean of its heads, for a notebook's cell."""
    maps = [drawable(attention, _CELL_SIDE).mean() for attention in trace.maps()]
    if not maps:
        told = ["No attention weights were recorded, but these steps:", *trace.names[:20]]
        return document(stack([line_of_text(words) for words in told]), "trace", "names of steps")
    panels = []
    for attention in maps:
        (rows,) = attention.weights.double().tolist()
        matrix = _matrix(rows, attention, Look.of(attention), numbers=False)
        panels.append(stack([line_of_text(f"{attention.layer}, mean of heads"), matrix]))
    return document(grid(panels), "attention", f"attention of {len(maps)} layers")


def drawable(attention: AttentionMap, longest: int | None = None) -> AttentionMap:
    """The map with a weight in every cell; an overview of it where a side is longer than `longest`.

    Raises:
        InputError: it has no cells, or holds no shares: rows that sum, with what was dropped of them, neither to one
            nor to zero. Signed maps may hold any numbers.
    """
    if attention.weights.numel() == 0:
        raise InputError(
            f"the attention map of {attention.layer} has nothing to draw",
            expected="at least one head, one query and one key",
            got=f"weights of shape {tuple(attention.weights.shape)}",
        )
    if not attention.signed:
        _hold_to_shares(attention)
    # Blocks first: what was kept of a long map is small, the whole of it may not fit into memory.
    return (attention if longest is None else attention.overview(longest)).dense()


def _hold_to_shares(attention: AttentionMap) -> None:
    sums = attention.weights.detach().double().sum(dim=-1) + (0 if attention.dropped is None else attention.dropped)
    off = (sums - 1).abs().where(sums > _ROW_TOLERANCE, 0)
    if float(off.max()) > _ROW_TOLERANCE:
        head, query = divmod(int(off.argmax()), off.shape[1])
        raise InputError(
            f"the attention weights of {attention.layer} do not sum to one",
            expected="rows that sum to 1, or to 0 where there is nothing to attend to",
            got=f"{float(sums[head, query]):.4g} in head {head}, query {query} ({attention.query_labels[query]!r})",
            hint="weights recorded in eval mode, without dropout; or signed=True for a map of other numbers",
        )


def describe(attention: AttentionMap) -> str:
    told = f"{attention.kind}-attention, {attention.obtained}, {attention.backend}"
    if attention.dropped is None:
        return told
    return f"{told}, without the smallest weights (at most {float(attention.dropped.abs().max()):.2g} of a row)"


# -- styles ----------------------------------------------------------------------------------------------------------


def cells(
    rows: Sequence[Sequence[float]],
    attention: AttentionMap,
    look: Look,
    numbers: bool,
    *,
    left: float,
    top: float,
    size: int,
) -> str:
    """The squares of a matrix in their frame, each with its pair of labels and its weight as a tip."""
    body = []
    for y, (label, row) in enumerate(zip(attention.query_labels, rows, strict=True)):
        for x, weight in enumerate(row):
            fill = look.fill(weight)
            place = f'x="{units(left + x * size)}" y="{units(top + y * size)}" width="{size}" height="{size}"'
            tip = f"{escaped(label)} → {escaped(attention.key_labels[x])}: {weight:.4f}"
            body.append(f'<rect {place} fill="{fill}" {CRISP}><title>{tip}</title></rect>')
            if numbers:
                centre = left + (x + 0.5) * size, top + (y + 0.5) * size
                body.append(written(f"{weight:.2f}", *centre, "middle", size=SMALL, colour=text_on(fill)))
    body.append(frame(left, top, len(attention.key_labels) * size, len(rows) * size))
    return "\n".join(body)


def _matrix(rows: list[list[float]], attention: AttentionMap, look: Look, numbers: bool) -> Panel:
    queries, keys = len(attention.query_labels), len(attention.key_labels)
    size = 34 if numbers else 20 if max(queries, keys) <= 40 else 16
    left = widest(attention.query_labels) + GAP
    lengths = [label_width(label) for label in attention.key_labels]
    slanted = max(lengths) > size - 4
    top = max(lengths) * math.sin(math.pi / 4) + FONT if slanted else FONT + GAP
    # A slanted label reaches past its column: the figure is wide enough for the one that reaches furthest.
    reach = max((x + 1) * size + (length * math.cos(math.pi / 4) if slanted else 0) for x, length in enumerate(lengths))
    body = [
        labelled(label, left - GAP, top + (y + 0.5) * size, "end") for y, label in enumerate(attention.query_labels)
    ]
    body.append(cells(rows, attention, look, numbers, left=left, top=top, size=size))
    for x, label in enumerate(attention.key_labels):
        centre = left + (x + 0.5) * size
        if slanted:
            body.append(labelled(label, centre, top - GAP, "start", turn=-45))
        else:
            body.append(labelled(label, centre, top - FONT / 2 - 2, "middle"))
    return Panel(left + reach, top + queries * size, "\n".join(body))


def _lines(rows: list[list[float]], attention: AttentionMap, look: Look) -> Panel:
    queries, keys = len(attention.query_labels), len(attention.key_labels)
    span, height = 180.0, 24.0 * max(queries, keys)
    left = widest(attention.query_labels) + GAP
    right = left + span
    # The shorter column is spread over the height of the longer one: lines of an even alignment run level.
    query_y = [(index + 0.5) * height / queries for index in range(queries)]
    key_y = [(index + 0.5) * height / keys for index in range(keys)]
    body = []
    for y, row in zip(query_y, rows, strict=True):
        unit = 1.0 if look.absolute else max(abs(weight) for weight in row)
        for x, weight in enumerate(row):
            if weight and abs(weight) >= look.dashed * unit:
                dash = abs(weight) < look.solid * unit
                body.append(line(left, y, right, key_y[x], look.stroke(weight), dash))
    body += [labelled(label, left - GAP, y, "end") for label, y in zip(attention.query_labels, query_y, strict=True)]
    body += [labelled(label, right + GAP, y, "start") for label, y in zip(attention.key_labels, key_y, strict=True)]
    return Panel(right + GAP + widest(attention.key_labels), height, "\n".join(body))


def matrix_legend(look: Look) -> Panel:
    low = -look.top if look.signed else 0.0
    bars, thick = 60, 2
    start, end, sides = f"{low:.2g}", f"{look.top:.2g} weight", "rows are queries, columns keys"
    left = ems(start) * SMALL + 6
    right = left + bars * thick
    body = [written(start, 0.0, 6.0, "start", size=SMALL, colour=MUTED)]
    for index in range(bars):
        fill = look.fill(low + (look.top - low) * index / (bars - 1))
        place = f'x="{units(left + index * thick)}" y="0" width="{thick}" height="12"'
        body.append(f'<rect {place} fill="{fill}" {CRISP}/>')
    body.append(frame(left, 0.0, bars * thick, 12))
    body.append(written(end, right + 6, 6.0, "start", size=SMALL, colour=MUTED))
    body.append(written(sides, 0.0, 24.0, "start", size=SMALL, colour=MUTED))
    return Panel(max(right + 6 + ems(end) * SMALL, ems(sides) * SMALL), 30.0, "\n".join(body))


def _lines_legend(look: Look) -> Panel:
    if look.absolute:
        solid, dashed = f"a weight of at least {look.solid:g}", f"of at least {look.dashed:g}"
    else:
        solid, dashed = f"at least {look.solid:g} of the row's largest weight", f"at least {look.dashed:g} of it"
    samples = [(look.stroke(1.0), False, solid), (look.stroke(1.0), True, dashed)]
    if look.signed:
        samples.append((look.stroke(-1.0), False, "negative"))
    body = []
    for index, (colour, dash, words) in enumerate(samples):
        y = 8.0 + 18 * index
        body.append(line(0.0, y, 32.0, y, colour, dash))
        body.append(written(words, 40.0, y, "start", size=SMALL, colour=MUTED))
    sides = "queries on the left, keys on the right"
    body.append(written(sides, 0.0, 8.0 + 18 * len(samples), "start", size=SMALL, colour=MUTED))
    width = max(40 + ems(solid) * SMALL, ems(sides) * SMALL)
    return Panel(width, 18.0 * (len(samples) + 1), "\n".join(body))


# -- letters ---------------------------------------------------------------------------------------------------------

_NOWHERE = "\U0010fffd"  # private use, in no font


def _warn_of_missing_letters(texts: Iterable[str]) -> None:
    """Warns of the first letter that a PNG of `texts` would show as an empty box."""
    letters = dict.fromkeys("".join(texts))
    missing = next((letter for letter in letters if letter > "\u024f" and not _has_font(letter)), None)
    if missing:
        name = unicodedata.name(missing, f"U+{ord(missing):04X}")
        warnings.warn(
            f"no font of this machine has {missing!r} ({name}): the PNG shows an empty box for it. Install a font that "
            "has it, such as Noto Sans (Noto Sans CJK for Chinese, Japanese and Korean), or use the SVG.",
            stacklevel=3,
        )


@lru_cache(maxsize=4096)
def _has_font(letter: str) -> bool:
    """Whether `letter` is drawn otherwise than what no font has; marks and controls have no look of their own."""
    return unicodedata.category(letter) in ("Mn", "Me", "Mc", "Cf", "Cc") or _drawn(letter) != _drawn(_NOWHERE)


@lru_cache(maxsize=2)
def _drawn(letter: str) -> bytes:
    figure = document(Panel(30.0, 30.0, written(letter, 4.0, 15.0, "start", size=24)), "", "")
    return vl_convert.svg_to_png(figure, scale=1)
