"""Worksheets as judged: the person's own text with right, rounded, carried and wrong entries marked, causes beside it.

As text for a terminal, a page, a drawing; and a table over many of them.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qkv.draw.colour import INK, MUTED
from qkv.draw.label import ems
from qkv.draw.page import page, static
from qkv.draw.report import Block, Heading, Paragraph, Table, block_html, table_markdown
from qkv.draw.shapes import SMALL, Panel, document, headed, units, written
from qkv.types import Verdict

# Right, let pass and wrong, told apart by colour-blind readers too: filled, and its letters or stripe.
_FILLS = {"correct": "#cfe8d5", "rounding": "#e3efc9", "carried": "#ffe2ae", "wrong": "#f6b8b0"}
_STRIPES = {
    "correct": "#2d8a4a", "rounding": "#7c9a2e", "carried": "#c98500", "wrong": "#c0341d", "unusable": "#7a5ca8",
    "undecided": "#5b6470",
}  # fmt: skip
_MONO, _LINE, _ADVANCE = 13, 19.0, 7.83
_WRAPPED = 46.0
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class MarkedText:
    """A piece of a line, and how it is judged where it is an entry."""

    text: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class MarkedLine:
    """A statement or a paragraph of a worksheet as it was written.

    Attributes:
        number: of its first line, counted from 1.
        pieces: its text, cut where entries begin and end.
        prose: whether it stands around the statements.
        verdict: of a claim; `said` is what people are told, such as `proved`.
        notes: what is told beside it, a sentence each.
        figures: SVG that is drawn below it.
    """

    number: int
    pieces: Sequence[MarkedText]
    prose: bool = False
    verdict: Verdict | None = None
    said: str = ""
    notes: Sequence[str] = ()
    figures: Sequence[str] = ()

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class MarkedSheet:
    """A worksheet as judged: in one sentence, line by line, and its score sheet."""

    title: str
    summary: str
    lines: Sequence[MarkedLine]
    score: Table
    notes: Sequence[str] = field(default=())


def worksheet_text(sheet: MarkedSheet) -> str:
    """A judged worksheet as text for a terminal: the score sheet, then what is to be said, line by line."""
    parts = [f"{sheet.title}: {sheet.summary}", table_markdown(sheet.score)]
    for line in sheet.lines:
        if line.notes:
            first = line.text.strip().split("\n")[0]
            told = f"line {line.number}, {line.said}: {first}" if line.said else f"line {line.number}: {first}"
            parts.append("\n".join([told, *(f"  {note}" for note in line.notes)]))
    return "\n\n".join([*parts, *sheet.notes])


def worksheet_page(sheet: MarkedSheet) -> str:
    """A judged worksheet as one HTML page that needs no script and no network.

    >>> line = MarkedLine(1, [MarkedText("claim Y = "), MarkedText("3", "wrong")], verdict="wrong", said="wrong")
    >>> '<mark class="wrong">3</mark>' in worksheet_page(MarkedSheet("Sums", "1 wrong", [line], Table(["claim"], [])))
    True
    """
    told = [Paragraph(f"{_capital(sheet.summary)}."), *map(Paragraph, sheet.notes)]
    body = [*map(block_html, told), _legend()]
    body += [_prose(line) if line.prose else _statement(line) for line in sheet.lines]
    return _page(sheet.title, [*body, block_html(Heading("Score")), block_html(sheet.score)])


def worksheet_svg(sheet: MarkedSheet) -> str:
    """The statements of a judged worksheet as SVG, with what is said of them beside."""
    lines = [line for line in sheet.lines if not line.prose and line.text.strip()]
    column = max((len(row) for line in lines for row in line.text.split("\n")), default=0) * _ADVANCE + 56
    body, y, width = [], 0.0, column
    for line in lines:
        rows, x, top = line.text.count("\n") + 1, 34.0, y
        body.append(written(str(line.number), 20.0, y + _LINE / 2, "end", size=SMALL, colour=MUTED))
        for piece in line.pieces:
            for place, part in enumerate(piece.text.split("\n")):
                if place:
                    x, y = 34.0, y + _LINE
                body.append(_monospaced(part, x, y, _FILLS.get(piece.verdict or "")))
                x += len(part) * _ADVANCE
        notes = [row for note in [line.said, *line.notes] if note for row in _wrapped(note)] if line.verdict else []
        for place, note in enumerate(notes):
            bold = "bold" if place == 0 else ""
            colour = _STRIPES.get(line.verdict or "", INK) if place == 0 else INK
            body.append(
                written(note, column, top + place * 16 + _LINE / 2, "start", size=SMALL + 1, colour=colour, weight=bold)
            )
            width = max(width, column + ems(note) * (SMALL + 1))
        height = max(rows * _LINE, 16.0 * len(notes) + 4)
        if line.verdict:
            stripe = _STRIPES.get(line.verdict, MUTED)
            body.append(f'<rect x="24" y="{units(top)}" width="3" height="{units(height - 2)}" fill="{stripe}"/>')
        y = top + height
    panel = Panel(width, y, "\n".join(body))
    return document(headed(panel, sheet.title), sheet.title, f"{_capital(sheet.summary)}.")


def worksheets_page(title: str, summary: str, table: Table, common: Table, unusable: Mapping[str, str]) -> str:
    """A folder of judged worksheets as a page: a table over all of them, the mistakes that are common, what is wrong
    with files that cannot be used."""
    blocks: list[Block] = [Paragraph(f"{_capital(summary)}."), table]
    if common.rows:
        blocks += [Heading("Mistakes that are common"), common]
    if unusable:
        blocks += [
            Heading("Files that cannot be used"),
            *(Paragraph(f"{name}: {why}") for name, why in unusable.items()),
        ]
    return _page(title, list(map(block_html, blocks)))


def _page(title: str, body: Sequence[str]) -> str:
    main = [f'<main class="report worksheet">\n<h1>{html.escape(title)}</h1>', *body, "</main>"]
    return page(title, "\n".join(main), static("report.css") + static("worksheet.css"))


def _statement(line: MarkedLine) -> str:
    pieces = "".join(
        f'<mark class="{piece.verdict}">{html.escape(piece.text)}</mark>' if piece.verdict else html.escape(piece.text)
        for piece in line.pieces
    )
    told = f"<strong>{html.escape(line.said)}</strong>" if line.said else ""
    told += "".join(f"<p>{html.escape(note)}</p>" for note in line.notes)
    figures = "".join(f'<figure><div class="paper">{figure}</div></figure>' for figure in line.figures)
    return (
        f'<div class="statement {line.verdict or ""}"><pre data-line="{line.number}">{pieces}</pre>'
        f'<div class="said">{told}</div></div>{figures}'
    )


def _prose(line: MarkedLine) -> str:
    text = line.text.strip()
    level = len(text) - len(text.lstrip("#"))
    if 0 < level < 4 and text[level : level + 1] == " ":
        return f"<h{max(level, 2)}>{html.escape(text[level:].strip())}</h{max(level, 2)}>"
    return "<p>" + _CODE.sub(r"<code>\1</code>", html.escape(text)) + "</p>"


def _legend() -> str:
    words: Mapping[str, str] = {
        "correct": "right", "rounding": "off by rounding", "carried": "carried forward", "wrong": "wrong",
    }  # fmt: skip
    marks = " ".join(f'<mark class="{name}">{told}</mark>' for name, told in words.items())
    return f'<p class="legend">Entries: {marks}</p>'


def _monospaced(text: str, x: float, y: float, fill: str | None) -> str:
    """Letters of one width each, on a ground of `fill`."""
    if not text:
        return ""
    width = len(text) * _ADVANCE
    ground = (
        f'<rect x="{units(x)}" y="{units(y + 1)}" width="{units(width)}" height="17" fill="{fill}"/>' if fill else ""
    )
    place = f'x="{units(x)}" y="{units(y + _LINE / 2 + 0.35 * _MONO)}" textLength="{units(width)}"'
    font = "font-family=\"'DejaVu Sans Mono', Menlo, Consolas, monospace\""
    look = f'font-size="{_MONO}" fill="{INK}" xml:space="preserve" lengthAdjust="spacingAndGlyphs"'
    return f"{ground}<text {place} {font} {look}>{html.escape(text)}</text>"


def _wrapped(text: str) -> list[str]:
    """A sentence in rows."""
    rows = [""]
    for word in text.split():
        if rows[-1] and ems(f"{rows[-1]} {word}") > _WRAPPED:
            rows.append(word)
        else:
            rows[-1] = f"{rows[-1]} {word}".strip()
    return rows


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
