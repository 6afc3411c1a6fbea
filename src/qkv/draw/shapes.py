"""The parts that figures are made of: texts, lines and frames as SVG, and panels that are stacked into a document."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from qkv.draw.colour import INK, MUTED, PAPER
from qkv.draw.label import ems, escaped, shorten, visible

FONT, SMALL, TITLE = 13, 11, 15
GAP = 8.0
CRISP = 'shape-rendering="crispEdges"'  # no seams between neighbours
_LABEL_EMS, _TITLE_EMS = 11.0, 60.0


@dataclass(frozen=True)
class Panel:
    """A drawing and the room that it takes, from its upper left corner."""

    width: float
    height: float
    body: str


def units(value: int | float) -> str:
    return f"{round(value, 2):.8g}"


def written(
    words: str,
    x: float,
    y: float,
    anchor: str,
    *,
    size: int = FONT,
    colour: str = INK,
    weight: str = "",
    turn: int = 0,
) -> str:
    """Words whose middle is at height `y`; the baseline is moved here since `dy` moves only the first Arabic letter."""
    place = f'x="{units(x)}" y="{units(y + 0.35 * size)}"'
    if turn:
        place += f' transform="rotate({turn} {units(x)} {units(y)})"'
    bold = f' font-weight="{weight}"' if weight else ""
    look = f'font-size="{size}" fill="{colour}"{bold} text-anchor="{anchor}"'
    return f"<text {place} {look}>{html.escape(words)}</text>"


def labelled(label: str, x: float, y: float, anchor: str, turn: int = 0) -> str:
    """A token, shortened where it is long; it then carries the whole of it as its title."""
    shown = visible(label)
    short = shorten(shown, _LABEL_EMS)
    text = written(short, x, y, anchor, turn=turn)
    return text if short == shown else text.replace("</text>", f"<title>{html.escape(shown)}</title></text>")


def label_width(label: str) -> float:
    return ems(shorten(visible(label), _LABEL_EMS)) * FONT


def widest(labels: Sequence[str]) -> float:
    return max(label_width(label) for label in labels)


def frame(x: float, y: float, width: int | float, height: int | float) -> str:
    place = f'x="{units(x)}" y="{units(y)}" width="{units(width)}" height="{units(height)}"'
    return f'<rect {place} fill="none" stroke="{MUTED}" stroke-width="0.5"/>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: bool) -> str:
    ends = f'x1="{units(x1)}" y1="{units(y1)}" x2="{units(x2)}" y2="{units(y2)}"'
    look = 'stroke-width="1.2" stroke-dasharray="5 4"' if dash else 'stroke-width="1.8"'
    return f'<line {ends} stroke="{colour}" {look}/>'


def line_of_text(words: str, size: int = FONT, weight: str = "") -> Panel:
    words = visible(words)
    return Panel(ems(words) * size, size + 4.0, written(words, 0.0, size / 2, "start", size=size, weight=weight))


def headed(panel: Panel, title: str | None) -> Panel:
    """The panel below its title, which is cut where it would be far wider than the panel."""
    if not title:
        return panel
    fitting = shorten(visible(title), max(panel.width / TITLE, _TITLE_EMS))
    return stack([line_of_text(fitting, TITLE, weight="bold"), panel])


def stack(panels: Sequence[Panel]) -> Panel:
    """Panels below one another."""
    body, y = [], 0.0
    for panel in panels:
        body.append(moved(panel, 0.0, y))
        y += panel.height + 14
    return Panel(max(panel.width for panel in panels), y - 14, "\n".join(body))


def grid(panels: Sequence[Panel], gap: int | float = 28) -> Panel:
    """Panels of one size in as many columns as rows, or one more."""
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    across, down = max(panel.width for panel in panels) + gap, max(panel.height for panel in panels) + gap
    body = [moved(panel, index % columns * across, index // columns * down) for index, panel in enumerate(panels)]
    return Panel(columns * across - gap, rows * down - gap, "\n".join(body))


def moved(panel: Panel, x: float, y: float) -> str:
    return f'<g transform="translate({units(x)} {units(y)})">\n{panel.body}\n</g>'


def document(panel: Panel, title: str, description: str) -> str:
    """A whole SVG file of one panel, with its margin and what readers of screens are told."""
    margin = 12.0
    width, height = math.ceil(panel.width + 2 * margin), math.ceil(panel.height + 2 * margin)
    inside = moved(panel, margin, margin)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" font-family="Helvetica, Arial, \'Liberation Sans\', sans-serif">\n'
        f"<title>{escaped(title)}</title>\n<desc>{escaped(description)}</desc>\n"
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>\n{inside}\n</svg>\n'
    )
