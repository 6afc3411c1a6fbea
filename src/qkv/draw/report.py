"""Reports: a page in one file, made of blocks that are plain values.

It needs no script and no network, follows the reader's light or dark scheme, and prints.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qkv.draw.page import page, static
from qkv.errors import InputError

Cell = str | int | float | None


@dataclass(frozen=True)
class Heading:
    """A heading below the report's own, which is of level 1."""

    text: str
    level: Literal[2, 3] = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Preformatted:
    """Text whose blanks and line ends count: a command, a listing."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and their values, one a line."""

    values: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """Rows under a header. Columns of numbers stand flush right; the best number of a column may be bold.

    Attributes:
        header: the names of the columns.
        rows: cells; floats are written with `digits` decimals, None as a dash. A text that begins with a number, such
            as "45.3 ± 0.4", counts as that number.
        best: the names of columns whose best cells are bold, and whether the `highest` or the `lowest` is best.

    Raises:
        InputError: a row of another length than the header, or a best column that the header has not.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    best: Mapping[str, Literal["highest", "lowest"]] | None = None
    digits: int = 2
    caption: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.header):
                raise InputError(
                    f"row {number} of the table does not fit its header",
                    expected=f"{len(self.header)} cells ({', '.join(self.header)})",
                    got=str(len(row)),
                )
        for name in self.best or {}:
            if name not in self.header:
                raise InputError(
                    f"the table has no column {name!r}", expected=f"one of {', '.join(self.header)}", got=repr(name)
                )


@dataclass(frozen=True)
class Figure:
    """A drawing, as the SVG that the functions of this room return, and what is to be seen in it."""

    svg: str
    caption: str = ""


Block = Heading | Paragraph | Preformatted | Facts | Table | Figure


def report_page(title: str, blocks: Sequence[Block]) -> str:
    """A whole HTML page of `blocks` in their order; every text is escaped, figures are taken as they are.

    >>> text = report_page("Run 1", [Heading("Scores"), Table(["model", "BLEU"], [["rnn", 31.25]])])
    >>> '<td class="number">31.25</td>' in text
    True
    """
    body = "\n".join(block_html(block) for block in blocks)
    return page(title, f'<main class="report">\n<h1>{html.escape(title)}</h1>\n{body}\n</main>', static("report.css"))


def table_markdown(table: Table) -> str:
    """`table` as Markdown whose columns also line up in a terminal.

    >>> print(table_markdown(Table(["model", "BLEU"], [["rnn", 31.25], ["transformer", 47.0]], {"BLEU": "highest"})))
    | model       |      BLEU |
    | :---------- | --------: |
    | rnn         |     31.25 |
    | transformer | **47.00** |
    """
    best, right = _best_cells(table), _number_columns(table)
    cells = [[_bar_safe(name) for name in table.header]]
    for y, row in enumerate(table.rows):
        written = [_bar_safe(_written(cell, table.digits)) for cell in row]
        cells.append([f"**{text}**" if (y, x) in best else text for x, text in enumerate(written)])
    widths = [max(4, *(len(row[x]) for row in cells)) for x in range(len(table.header))]
    lines = [_markdown_line(row, widths, right) for row in cells]
    rule = [
        ("-" * (width - 1) + ":" if flush else ":" + "-" * (width - 1))
        for width, flush in zip(widths, right, strict=True)
    ]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


def block_html(block: Block) -> str:
    """One block as HTML."""
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Preformatted(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Facts(values):
            lines = (
                f"<dt>{html.escape(name)}</dt><dd>{html.escape(_plain(value))}</dd>" for name, value in values.items()
            )
            return "<dl>\n" + "\n".join(lines) + "\n</dl>"
        case Table():
            return _table(block)
        case Figure(svg, caption):
            words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
            return f'<figure><div class="paper">{svg}</div>{words}</figure>'


def _table(table: Table) -> str:
    best, right = _best_cells(table), _number_columns(table)
    flush = [' class="number"' if number else "" for number in right]
    head = "".join(f"<th{look}>{html.escape(name)}</th>" for name, look in zip(table.header, flush, strict=True))
    lines = []
    for y, row in enumerate(table.rows):
        written = [html.escape(_written(cell, table.digits)) for cell in row]
        texts = [f"<strong>{text}</strong>" if (y, x) in best else text for x, text in enumerate(written)]
        lines.append(
            "<tr>" + "".join(f"<td{look}>{text}</td>" for text, look in zip(texts, flush, strict=True)) + "</tr>"
        )
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _written(cell: Cell, digits: int) -> str:
    return f"{cell:,.{digits}f}" if isinstance(cell, float) else _plain(cell)


def _plain(cell: Cell) -> str:
    match cell:
        case None:
            return "–"
        case bool():
            return "yes" if cell else "no"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:.6g}"
    return cell


def _number(cell: Cell) -> float | None:
    """The number that a cell is, or begins with."""
    if isinstance(cell, str):
        found = re.match(r"([-+−]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?)\s*(±|%|$)", cell)
        return float(found[1].replace(",", "").replace("−", "-")) if found else None
    return None if cell is None else float(cell)


def _number_columns(table: Table) -> list[bool]:
    columns = [[row[x] for row in table.rows if row[x] is not None] for x in range(len(table.header))]
    return [bool(column) and all(_number(cell) is not None for cell in column) for column in columns]


def _best_cells(table: Table) -> set[tuple[int, int]]:
    cells = set()
    for name, which in (table.best or {}).items():
        x = list(table.header).index(name)
        numbers = {y: number for y, row in enumerate(table.rows) if (number := _number(row[x])) is not None}
        if numbers:
            best = max(numbers.values()) if which == "highest" else min(numbers.values())
            cells |= {(y, x) for y, number in numbers.items() if number == best}
    return cells


def _bar_safe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _markdown_line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if flush else cell.ljust(width)
        for cell, width, flush in zip(cells, widths, right, strict=True)
    )
    return f"| {' | '.join(padded)} |"
