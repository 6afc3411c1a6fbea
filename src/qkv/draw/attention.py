"""Attention maps as figures for paper (SVG, PNG) and as a page to look into (HTML, no network).

Queries are rows, or the left column of a line figure; keys are columns, or its right one.
"""

import base64
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import vl_convert
from jaxtyping import Float
from torch import Tensor

from qkv.draw.colour import BLUES, GREYS, INK, MUTED, ORANGES, PAPER, shade, text_on
from qkv.draw.label import ems, escaped, shorten, visible
from qkv.draw.page import page, static
from qkv.errors import InputError, unknown_name
from qkv.types import AttentionMap, renders

SOLID, DASHED = 0.8, 0.25
_FONT, _SMALL, _TITLE = 13, 11, 15
_LABEL_EMS = 11.0
_GAP = 8.0
_NUMBERED = 12  # up to so many queries and keys, the cells of a matrix carry their numbers
_CRISP = 'shape-rendering="crispEdges"'  # no seams between neighbours
_STEPS = 32767  # int16: one format for weights of either sign, and errors below what a reader is shown


@dataclass(frozen=True)
class _Panel:
    width: float
    height: float
    body: str


@dataclass(frozen=True)
class _Look:
    """How the weights of one figure become marks: the largest magnitude in it, and its colours."""

    top: float
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    signed: bool
    solid: int | float
    dashed: int | float

    def fill(self, weight: float) -> str:
        return shade(self.positive if weight >= 0 else self.negative, abs(weight) / self.top)

    def stroke(self, weight: float) -> str:
        return shade(self.positive if weight >= 0 else self.negative, 0.8)


# -- figures ---------------------------------------------------------------------------------------------------------


def attention_svg(
    attention: AttentionMap,
    *,
    style: str = "matrix",
    title: str | None = None,
    monochrome: bool = False,
    solid: int | float = SOLID,
    dashed: int | float = DASHED,
) -> str:
    """An attention map as SVG with real text; all heads side by side where the map has several.

    Args:
        attention: `attention.mean()` or `attention.head(i)` make it one panel.
        style: `matrix`, cells darker for larger weights, with their numbers up to 12 x 12; or `lines`, a line from
            each query to the keys that it attends to most.
        title: printed above the figure.
        monochrome: greys, for print.
        solid, dashed: a line is solid from `solid` times the largest weight of its row, dashed from `dashed` times
            it, and not drawn below. The legend says so.

    Raises:
        InputError: an unknown style, a map without cells, thresholds out of order, greys for signed weights.

    >>> import torch
    >>> weights = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    >>> labels = ["two", "hundred"], ["deux", "cent"]
    >>> alignment = AttentionMap(weights, *labels, "decoder", "cross", "captured", "softmax")
    >>> figure = attention_svg(alignment, style="lines")
    >>> "hundred" in figure, figure.count("stroke-dasharray")  # 0.3 of 0.7 is dashed, as is the legend's sample
    (True, 2)
    """
    panels = {"matrix": _matrix, "lines": _lines}
    if style not in panels:
        raise unknown_name("style", style, panels)
    if not 0 < dashed <= solid <= 1:
        raise InputError(
            "the thresholds of the lines are out of order",
            expected="0 < dashed <= solid <= 1",
            got=f"dashed={dashed}, solid={solid}",
        )
    if monochrome and attention.signed:
        raise InputError("greys cannot tell negative weights from positive ones", hint="monochrome=False")
    _require_cells(attention)
    weights = attention.weights.detach().cpu().double()
    top = float(weights.abs().max()) or 1.0
    colours = (GREYS, GREYS) if monochrome else (BLUES, ORANGES)
    look = _Look(top, *colours, attention.signed, solid, dashed)
    drawn = [panels[style](rows, attention, look) for rows in weights.tolist()]
    if attention.heads > 1:
        drawn = [_stack([_line_of_text(f"head {index}", _FONT), panel]) for index, panel in enumerate(drawn)]
    legend = _matrix_legend(look) if style == "matrix" else _lines_legend(look)
    parts = [_grid(drawn), legend]
    if title:
        parts.insert(0, _line_of_text(title, _TITLE, weight="bold"))
    return _document(_stack(parts), title or attention.layer, _description(attention))


def attention_png(
    attention: AttentionMap,
    *,
    style: str = "matrix",
    title: str | None = None,
    monochrome: bool = False,
    solid: int | float = SOLID,
    dashed: int | float = DASHED,
    scale: int | float = 2,
) -> bytes:
    """`attention_svg` as the bytes of a PNG, `scale` pixels to a unit.

    Letters are drawn with the fonts of this machine: where none has, say, Chinese, its labels become empty boxes.
    Install one (such as Noto Sans CJK), or use the SVG, which is drawn with the fonts of whoever reads it.

    Raises:
        InputError: as `attention_svg`; a scale that is not positive.
    """
    if not 0 < scale < math.inf:
        raise InputError("a figure needs a scale", expected="a positive number", got=str(scale))
    figure = attention_svg(attention, style=style, title=title, monochrome=monochrome, solid=solid, dashed=dashed)
    return vl_convert.svg_to_png(figure, scale=scale)


def _require_cells(attention: AttentionMap) -> None:
    if attention.weights.numel() == 0:
        raise InputError(
            f"the attention map of {attention.layer} has nothing to draw",
            expected="at least one head, one query and one key",
            got=f"weights of shape {tuple(attention.weights.shape)}",
        )


def _description(attention: AttentionMap) -> str:
    return f"{attention.kind}-attention, {attention.obtained}, {attention.backend}"


def _matrix(rows: list[list[float]], attention: AttentionMap, look: _Look) -> _Panel:
    queries, keys = len(attention.query_labels), len(attention.key_labels)
    numbered = max(queries, keys) <= _NUMBERED and attention.heads == 1
    cell = 34 if numbered else 20 if max(queries, keys) <= 40 else 16
    left = _label_width(attention.query_labels) + _GAP
    lengths = [_shown_width(label) for label in attention.key_labels]
    slanted = max(lengths) > cell - 4
    above = max(lengths) * math.sin(math.pi / 4) + _FONT if slanted else _FONT + _GAP
    # A slanted label reaches past its column: the figure is wide enough for the one that reaches furthest.
    reach = max((x + 1) * cell + (length * math.cos(math.pi / 4) if slanted else 0) for x, length in enumerate(lengths))
    body = []
    for y, (label, row) in enumerate(zip(attention.query_labels, rows, strict=True)):
        body.append(_label(label, left - _GAP, above + (y + 0.5) * cell, "end"))
        for x, weight in enumerate(row):
            fill = look.fill(weight)
            place = f'x="{_n(left + x * cell)}" y="{_n(above + y * cell)}" width="{cell}" height="{cell}"'
            tip = f"{escaped(label)} → {escaped(attention.key_labels[x])}: {weight:.4f}"
            body.append(f'<rect {place} fill="{fill}" {_CRISP}><title>{tip}</title></rect>')
            if numbered:
                centre = left + (x + 0.5) * cell, above + (y + 0.5) * cell
                body.append(_text(f"{weight:.2f}", *centre, "middle", size=_SMALL, colour=text_on(fill)))
    for x, label in enumerate(attention.key_labels):
        centre = left + (x + 0.5) * cell
        if slanted:
            body.append(_label(label, centre, above - _GAP, "start", turn=-45))
        else:
            body.append(_label(label, centre, above - _FONT / 2 - 2, "middle"))
    body.append(_frame(left, above, keys * cell, queries * cell))
    return _Panel(left + reach, above + queries * cell, "\n".join(body))


def _lines(rows: list[list[float]], attention: AttentionMap, look: _Look) -> _Panel:
    queries, keys = len(attention.query_labels), len(attention.key_labels)
    span, height = 180.0, 24.0 * max(queries, keys)
    left = _label_width(attention.query_labels) + _GAP
    right = left + span
    # The shorter column is spread over the height of the longer one: lines of an even alignment run level.
    query_y = [(index + 0.5) * height / queries for index in range(queries)]
    key_y = [(index + 0.5) * height / keys for index in range(keys)]
    body = []
    for y, row in zip(query_y, rows, strict=True):
        strongest = max(abs(weight) for weight in row)
        for x, weight in enumerate(row):
            if strongest and abs(weight) >= look.dashed * strongest:
                dash = abs(weight) < look.solid * strongest
                body.append(_line(left, y, right, key_y[x], look.stroke(weight), dash))
    body += [_label(label, left - _GAP, y, "end") for label, y in zip(attention.query_labels, query_y, strict=True)]
    body += [_label(label, right + _GAP, y, "start") for label, y in zip(attention.key_labels, key_y, strict=True)]
    return _Panel(right + _GAP + _label_width(attention.key_labels), height, "\n".join(body))


def _matrix_legend(look: _Look) -> _Panel:
    low = -look.top if look.signed else 0.0
    bars, thick, size = 60, 2, _SMALL
    start, end, sides = f"{low:.2g}", f"{look.top:.2g} weight", "rows are queries, columns keys"
    left = ems(start) * size + 6
    right = left + bars * thick
    body = [_text(start, 0.0, 6.0, "start", size=size, colour=MUTED)]
    for index in range(bars):
        fill = look.fill(low + (look.top - low) * index / (bars - 1))
        place = f'x="{_n(left + index * thick)}" y="0" width="{thick}" height="12"'
        body.append(f'<rect {place} fill="{fill}" {_CRISP}/>')
    body.append(_frame(left, 0.0, bars * thick, 12))
    body.append(_text(end, right + 6, 6.0, "start", size=size, colour=MUTED))
    body.append(_text(sides, 0.0, 24.0, "start", size=size, colour=MUTED))
    return _Panel(max(right + 6 + ems(end) * size, ems(sides) * size), 30.0, "\n".join(body))


def _lines_legend(look: _Look) -> _Panel:
    samples = [
        (look.stroke(1.0), False, f"at least {look.solid:g} of the row's largest weight"),
        (look.stroke(1.0), True, f"at least {look.dashed:g} of it"),
    ]
    if look.signed:
        samples.append((look.stroke(-1.0), False, "negative"))
    body = []
    for index, (colour, dash, words) in enumerate(samples):
        y = 8.0 + 18 * index
        body.append(_line(0.0, y, 32.0, y, colour, dash))
        body.append(_text(words, 40.0, y, "start", size=_SMALL, colour=MUTED))
    sides = "queries on the left, keys on the right"
    body.append(_text(sides, 0.0, 8.0 + 18 * len(samples), "start", size=_SMALL, colour=MUTED))
    width = max(40 + ems(samples[0][2]) * _SMALL, ems(sides) * _SMALL)
    return _Panel(width, 18.0 * (len(samples) + 1), "\n".join(body))


# -- svg -------------------------------------------------------------------------------------------------------------


def _n(value: float) -> str:
    return f"{round(value, 2):.8g}"


def _text(
    words: str,
    x: float,
    y: float,
    anchor: str,
    *,
    size: int = _FONT,
    colour: str = INK,
    weight: str = "",
    turn: int = 0,
) -> str:
    """Words whose middle is at height `y`; the baseline is moved here since `dy` moves only the first Arabic letter."""
    place = f'x="{_n(x)}" y="{_n(y + 0.35 * size)}"'
    if turn:
        place += f' transform="rotate({turn} {_n(x)} {_n(y)})"'
    bold = f' font-weight="{weight}"' if weight else ""
    look = f'font-size="{size}" fill="{colour}"{bold} text-anchor="{anchor}"'
    return f"<text {place} {look}>{html.escape(words)}</text>"


def _label(label: str, x: float, y: float, anchor: str, turn: int = 0) -> str:
    shown = visible(label)
    short = shorten(shown, _LABEL_EMS)
    text = _text(short, x, y, anchor, turn=turn)
    return text if short == shown else text.replace("</text>", f"<title>{html.escape(shown)}</title></text>")


def _shown_width(label: str) -> float:
    return ems(shorten(visible(label), _LABEL_EMS)) * _FONT


def _label_width(labels: Sequence[str]) -> float:
    return max(_shown_width(label) for label in labels)


def _frame(x: float, y: float, width: int, height: int) -> str:
    place = f'x="{_n(x)}" y="{_n(y)}" width="{width}" height="{height}"'
    return f'<rect {place} fill="none" stroke="{MUTED}" stroke-width="0.5"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: bool) -> str:
    ends = f'x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"'
    look = 'stroke-width="1.2" stroke-dasharray="5 4"' if dash else 'stroke-width="1.8"'
    return f'<line {ends} stroke="{colour}" {look}/>'


def _line_of_text(words: str, size: int, weight: str = "") -> _Panel:
    words = visible(words)
    return _Panel(ems(words) * size, size + 4.0, _text(words, 0.0, size / 2, "start", size=size, weight=weight))


def _stack(panels: Sequence[_Panel]) -> _Panel:
    """Panels below one another."""
    body, y = [], 0.0
    for panel in panels:
        body.append(_moved(panel, 0.0, y))
        y += panel.height + 14
    return _Panel(max(panel.width for panel in panels), y - 14, "\n".join(body))


def _grid(panels: Sequence[_Panel]) -> _Panel:
    """Panels of one size in as many columns as rows, or one more."""
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    across, down = panels[0].width + 28, panels[0].height + 28
    body = [_moved(panel, index % columns * across, index // columns * down) for index, panel in enumerate(panels)]
    return _Panel(columns * across - 28, rows * down - 28, "\n".join(body))


def _moved(panel: _Panel, x: float, y: float) -> str:
    return f'<g transform="translate({_n(x)} {_n(y)})">\n{panel.body}\n</g>'


def _document(panel: _Panel, title: str, description: str) -> str:
    margin = 12.0
    width, height = math.ceil(panel.width + 2 * margin), math.ceil(panel.height + 2 * margin)
    inside = _moved(panel, margin, margin)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" font-family="Helvetica, Arial, \'Liberation Sans\', sans-serif">\n'
        f"<title>{escaped(title)}</title>\n<desc>{escaped(description)}</desc>\n"
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>\n{inside}\n</svg>\n'
    )


# -- page ------------------------------------------------------------------------------------------------------------


def attention_page(maps: Sequence[AttentionMap], *, title: str, caption: str = "") -> str:
    """Attention maps as one HTML page that needs no network: layers and heads to choose from, matrix and line view.

    Weights travel as 16-bit steps of their row's largest; the page states the largest error that this makes.

    Raises:
        InputError: no map, or one without cells.

    >>> import torch
    >>> one = AttentionMap(torch.ones(1, 1, 1), ["yes"], ["oui"], "decoder", "cross", "captured", "softmax")
    >>> attention_page([one], title="oui").startswith("<!doctype html>")
    True
    """
    if not maps:
        raise InputError("there is no attention map to show", expected="at least one map", got="none")
    encoded = [_encoded(attention) for attention in maps]
    data = {
        "title": title,
        "caption": caption,
        "error": max(error for _, error in encoded),
        "solid": SOLID,
        "dashed": DASHED,
        "maps": [fields for fields, _ in encoded],
    }
    # Inside a script element only "<" could end it; JSON may spell it as an escape.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    body = (
        '<main class="viewer"><noscript>This page draws with JavaScript, which is switched off.</noscript></main>\n'
        f'<script type="application/json" id="maps">{text}</script>'
    )
    start = 'mount(document.querySelector("main"), JSON.parse(document.getElementById("maps").textContent));'
    return page(title, body, static("viewer.css"), f"{static('viewer.js')}\n{start}")


@renders("html", AttentionMap)
def attention_cell(attention: AttentionMap) -> str:
    """`attention_page` of one map for a notebook's cell, in a frame of its own: nothing in it meets other cells."""
    inside = html.escape(attention_page([attention], title=f"{attention.kind.capitalize()}-attention"))
    height = min(820, 330 + 34 * max(attention.weights.shape[1:]))
    return (
        f'<iframe srcdoc="{inside}" sandbox="allow-scripts" title="attention of {html.escape(attention.layer)}" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


def _encoded(attention: AttentionMap) -> tuple[dict[str, Any], float]:
    """What the page's script reads of a map, and the largest error of a weight in it."""
    _require_cells(attention)
    steps, counts = quantise(attention.weights.detach().cpu().float())
    restored = counts.double() * steps.double()[..., None]
    error = float((restored - attention.weights.detach().cpu()).abs().max())
    fields = {
        "layer": attention.layer,
        "facts": _description(attention),
        "signed": attention.signed,
        "heads": attention.heads,
        "queries": [visible(label) for label in attention.query_labels],
        "keys": [visible(label) for label in attention.key_labels],
        "steps": _base64(steps, "<f4"),
        "counts": _base64(counts, "<i2"),
    }
    return fields, error


def quantise(
    weights: Float[Tensor, "heads queries keys"],
) -> tuple[Float[Tensor, "heads queries"], Float[Tensor, "heads queries keys"]]:
    """The step of each row and each weight as a whole number of its steps, at most 32,767 of them either way.

    >>> steps, counts = quantise(torch.tensor([[[0.5, 0.25, 0.0]]]))
    >>> counts.tolist()
    [[[32767.0, 16384.0, 0.0]]]
    """
    steps = weights.abs().amax(dim=-1) / _STEPS
    counts = (weights / steps.clamp(min=torch.finfo(steps.dtype).tiny)[..., None]).round().clamp(-_STEPS, _STEPS)
    return steps, counts


def _base64(values: Tensor, form: str) -> str:
    return base64.b64encode(values.numpy().astype(form).tobytes()).decode()
