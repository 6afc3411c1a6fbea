"""What a check found: text for a terminal, a page, and maps of where an array is wrong."""

import math

import numpy as np
from jaxtyping import Float

from qkv.draw.colour import BLUES, GRID, MUTED, ORANGES, shade
from qkv.draw.label import ems
from qkv.draw.page import framed
from qkv.draw.report import Block, Facts, Figure, Heading, Paragraph, Table, report_page, table_markdown
from qkv.draw.shapes import CRISP, SMALL, Panel, document, frame, headed, stack, units, written
from qkv.errors import InputError
from qkv.types import Claim, Report, renders

_TOLD = 5
_WIDE, _TALL, _CELL = 640.0, 420.0, 16.0
_MOST = 160  # rows or columns that are drawn one by one; of more, the worst of each few stands for them
_FACTS = {
    "judged": "judged one at a time",
    "zero": "0 on both sides",
    "kinks": "at a kink, left out",
    "too_small": "too small to tell",
    "together": "judged together",
}


def check_text(report: Report) -> str:
    """A report as text for a terminal.

    >>> claim = Claim("w", "correct", 3e-9, 1e-6, facts={"entries": 6, "judged": 6, "wrong": 0})
    >>> print(check_text(Report("loss", [claim])))
    loss: all of it agrees
    <BLANKLINE>
    | name | verdict | entries | judged | wrong | worst error |
    | :--- | :------ | ------: | -----: | ----: | ----------: |
    | w    | correct |       6 |      6 |     0 |       3e-09 |
    """
    parts = [f"{report.title}: {_verdict(report)}", table_markdown(_summary(report))]
    for claim in report.wrong:
        lines = [f"{claim.name} is wrong{_rows(claim)}. {_cause(claim)}".rstrip()]
        rows = [["entry", "yours", "numeric", "relative error"], *_entries(claim)]
        widths = [max(len(row[x]) for row in rows) for x in range(4)]
        lines += ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        parts.append("\n".join(lines))
    if report.notes:
        parts.append("\n".join(report.notes))
    return "\n\n".join(parts)


def check_page(report: Report) -> str:
    """A report as one HTML page that needs no script and no network, with a map of each array that is wrong.

    >>> "<h1>loss</h1>" in check_page(Report("loss", [Claim("w", "correct", 0.0, 1e-6)]))
    True
    """
    blocks: list[Block] = [Paragraph(f"{_verdict(report).capitalize()}."), _summary(report)]
    for claim in report.wrong:
        blocks += [Heading(claim.name), Paragraph(f"Wrong{_rows(claim)}. {_cause(claim)}")]
        if claim.errors is not None and claim.errors.size:
            blocks.append(Figure(error_map_svg(claim), _caption(claim)))
        blocks.append(Table(["entry", "yours", "numeric", "relative error"], _entries(claim)))
        blocks.append(Facts({_FACTS[name]: claim.facts[name] for name in _FACTS if claim.facts.get(name)}))
    blocks += [Heading("How it was judged"), *map(Paragraph, report.notes)] if report.notes else []
    return report_page(report.title, blocks)


def error_map_svg(claim: Claim) -> str:
    """Where an array is wrong, as SVG: entries that agree blue, wrong ones orange and darker with their error.

    An array of more than two axes is drawn with all but its first side by side; a large one by the worst of each few.

    Raises:
        InputError: a claim about no array.

    >>> wrong = Claim("w", "wrong", 1.0, 1e-6, errors=np.array([[0.0, 1.0], [np.nan, 0.5]]))
    >>> error_map_svg(wrong).count("<rect") > 4
    True
    """
    if claim.errors is None or not claim.errors.size:
        raise InputError(f"there is no map of {claim.name}", expected="a claim about an array")
    shape = claim.errors.shape
    whole = claim.errors.reshape(1 if len(shape) < 2 else shape[0], -1)
    errors = _worst(whole)
    rows, columns = errors.shape
    size = min(_CELL, _WIDE / columns, _TALL / rows)
    width, height = max(columns * size, 3.0), max(rows * size, 3.0)
    body = [f'<rect width="{units(width)}" height="{units(height)}" fill="{GRID}"/>']
    for y, row in enumerate(errors.tolist()):
        fills = [None if math.isnan(error) else _fill(error, claim.tolerance) for error in row]
        start = 0
        for x in range(1, columns + 1):
            if x == columns or fills[x] != fills[start]:
                if fills[start] is not None:
                    place = f'x="{units(start * size)}" y="{units(y * size)}"'
                    cells = f'width="{units((x - start) * size)}" height="{units(size)}"'
                    body.append(f'<rect {place} {cells} fill="{fills[start]}" {CRISP}/>')
                start = x
    body.append(frame(0.0, 0.0, width, height))
    body += _ticks(whole.shape, width, height)
    words = f"{claim.name}, {' x '.join(map(str, shape)) or 'one number'}"
    panel = stack([Panel(width + 34, height + 14, "\n".join(body)), _legend(claim.tolerance)])
    return document(headed(panel, words), words, _caption(claim))


@renders("html", Report)
def check_cell(report: Report) -> str:
    """`check_page` for a notebook's cell."""
    return framed(check_page(report), report.title, height=480)


def _verdict(report: Report) -> str:
    names = [claim.name for claim in report.wrong]
    if not names:
        return "all of it agrees"
    right = sum(claim.verdict == "correct" for claim in report.claims)
    return f"{len(names)} of {len(report.claims)} wrong ({', '.join(names)}), {right} right"


def _rows(claim: Claim) -> str:
    rows, zeros = (claim.facts.get(name) for name in ("rows", "rows_of_zeros"))
    alone = str(zeros).isdecimal()
    only = f"; row {zeros} has only zeros" if alone else f"; rows {zeros} have only zeros"
    return (f" in rows {rows}" if rows else "") + (only if zeros else "")


def _cause(claim: Claim) -> str:
    return f"Likely cause: {claim.cause}: {claim.explanation}." if claim.cause else ""


def _summary(report: Report) -> Table:
    header = ["name", "verdict", "entries", "judged", "wrong", "worst error"]
    rows = []
    for claim in report.claims:
        entries, judged = (claim.facts.get(name, "") for name in ("entries", "judged"))
        wrong = claim.facts.get("wrong", "")
        rows.append([claim.name, claim.verdict, entries, judged, wrong, f"{claim.error:.1g}"])
    return Table(header, rows)


def _entries(claim: Claim) -> list[list[str]]:
    return [
        [
            f"{claim.name}[{', '.join(map(str, entry.index))}]",
            f"{entry.claimed:.6g}",
            f"{entry.value:.6g}",
            f"{entry.error:.2g}",
        ]
        for entry in claim.entries[:_TOLD]
    ]


def _caption(claim: Claim) -> str:
    wrong, judged = claim.facts.get("wrong", 0), claim.facts.get("judged", 0)
    return f"{wrong:,} of the {judged:,} entries judged are wrong; grey ones were not judged one at a time."


def _worst(errors: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "some few"]:
    """The errors, or the largest of each block where there are many."""
    rows, columns = (-(-size // _MOST) for size in errors.shape)
    tall, wide = -(-errors.shape[0] // rows), -(-errors.shape[1] // columns)
    padded = np.full((tall * rows, wide * columns), -np.inf)
    padded[: errors.shape[0], : errors.shape[1]] = np.where(np.isnan(errors), -np.inf, errors)
    largest = padded.reshape(tall, rows, wide, columns).max(axis=(1, 3))
    return np.where(np.isinf(largest), np.nan, largest)


def _fill(error: float, tolerance: float) -> str:
    if error <= tolerance:
        return BLUES[1]
    amount = math.log(error / tolerance) / math.log(1 / tolerance) if error < 1 else 1.0
    return shade(ORANGES[1:], amount)


def _ticks(shape: tuple[int, ...], width: float, height: float) -> list[str]:
    """First and last row on the right, first and last column below."""
    rows, columns = shape
    marks = [(0, "start", 0.0), (columns - 1, "end", width)] if columns > 1 else []
    body = [written(str(k), x, height + 8, anchor, size=SMALL, colour=MUTED) for k, anchor, x in marks]
    ends = [(0, min(SMALL / 2, height / 2)), (rows - 1, height - min(SMALL / 2, height / 2))] if rows > 1 else []
    if len(ends) == 2 and ends[1][1] - ends[0][1] < SMALL:
        ends = ends[:1]
    return body + [written(str(k), width + 5, y, "start", size=SMALL, colour=MUTED) for k, y in ends]


def _legend(tolerance: float) -> Panel:
    body, x = [], 0.0
    marks = [(BLUES[1], "agrees"), (_fill(1.01 * tolerance, tolerance), f"off by more than {tolerance:.0e}")]
    marks += [(_fill(tolerance**0.5, tolerance), f"{tolerance**0.5:.0e}"), (_fill(1.0, tolerance), "all of it")]
    for fill, words in [*marks, (GRID, "not judged alone")]:
        body.append(f'<rect x="{units(x)}" y="0" width="12" height="12" fill="{fill}"/>' + frame(x, 0.0, 12, 12))
        body.append(written(words, x + 17, 6.0, "start", size=SMALL, colour=MUTED))
        x += ems(words) * SMALL + 34
    return Panel(x, 12.0, "\n".join(body))
