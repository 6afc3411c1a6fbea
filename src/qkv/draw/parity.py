"""What a comparison of two modules found: text for a terminal, and a page."""

from qkv.draw.checked import error_map_svg
from qkv.draw.page import framed
from qkv.draw.report import Block, Facts, Figure, Heading, Paragraph, Preformatted, Table, report_page, table_markdown
from qkv.types import Claim, Parity, renders

_TOLD = 3
_ARRAYS = 2  # that are wrong and whose entries are told
_MAPS = 6
_PRECISIONS = ("float64", "float32", "bfloat16")


def parity_text(report: Parity) -> str:
    """A comparison as text for a terminal.

    >>> facts = {"float64": 2e-16, "float32": 1e-7, "compared": 60, "wrong": 0}
    >>> claim = Claim("h", "correct", 2e-16, 1e-9, facts=facts)
    >>> print(parity_text(Parity("MyCell", [claim], reference="LSTMCell", mapping={"W": "weight_ih.T"})))
    MyCell and LSTMCell: all of it agrees
    <BLANKLINE>
    | array | verdict | float64 | float32 | compared | wrong |
    | :---- | :------ | ------: | ------: | -------: | ----: |
    | h     | correct |   2e-16 |   1e-07 |       60 |     0 |
    <BLANKLINE>
    Parameters: W is weight_ih.T.
    """
    parts = [f"{report.title} and {report.reference}: {_verdict(report)}"]
    if report.wrong:
        parts.append("\n".join([_cause(report), *(f"  {name:11} {text}" for name, text in _lines(report))]))
    parts.append(table_markdown(_summary(report)))
    for claim in report.wrong[:_ARRAYS]:
        rows = [["entry", "ours", "theirs", "relative error"], *_entries(claim, _TOLD)]
        widths = [max(len(row[x]) for row in rows) for x in range(4)]
        lines = [f"{claim.name} is wrong first {_where(claim)}:"]
        lines += ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        parts.append("\n".join(lines))
    told = _mapping(report)
    if told:
        parts.append(f"Parameters: {'; '.join(f'{name} is {text}' for name, text in told.items())}.")
    if report.notes:
        parts.append("\n".join(report.notes))
    return "\n\n".join(parts)


def parity_page(report: Parity) -> str:
    """A comparison as one HTML page that needs no script and no network, with maps of where arrays are wrong.

    >>> "<h1>MyCell and LSTMCell</h1>" in parity_page(Parity("MyCell", [], reference="LSTMCell"))
    True
    """
    blocks: list[Block] = [Paragraph(f"{_verdict(report).capitalize()}.")]
    if report.wrong:
        blocks.append(Paragraph(_cause(report)))
        if _lines(report):
            blocks.append(Preformatted("\n".join(f"{name:11} {text}" for name, text in _lines(report))))
    blocks.append(_summary(report))
    for claim in report.wrong[:_MAPS]:
        blocks += [Heading(claim.name), Paragraph(f"Wrong first {_where(claim)}.")]
        if claim.errors is not None and claim.errors.size:
            blocks.append(Figure(error_map_svg(claim), _caption(claim)))
        blocks.append(Table(["entry", "ours", "theirs", "relative error"], _entries(claim, 8)))
    told = _mapping(report)
    if told:
        blocks += [Heading("Which parameter is which"), Facts(told)]
    blocks += [Heading("How it was compared"), *map(Paragraph, report.notes)] if report.notes else []
    return report_page(f"{report.title} and {report.reference}", blocks)


@renders("html", Parity)
def parity_cell(report: Parity) -> str:
    """`parity_page` for a notebook's cell."""
    return framed(parity_page(report), report.title, height=480)


def _verdict(report: Parity) -> str:
    if not report.wrong:
        return "all of it agrees"
    right = [claim.name for claim in report.claims if claim.verdict == "correct"]
    agrees = f"; {', '.join(right)} agree{'s' * (len(right) == 1)}" if right else ""
    return f"{len(report.wrong)} of {len(report.claims)} arrays differ{agrees}"


def _cause(report: Parity) -> str:
    where = f" at {report.where}" if report.where else ""
    return f"It first goes wrong{where}: {report.cause}: {report.explanation}." if report.cause else ""


def _lines(report: Parity) -> list[tuple[str, str]]:
    """The line of the formula and what stands in its place, where the words do not hold both."""
    told = not report.line or report.line in report.explanation
    return [] if told else [("reference", report.line), ("ours", report.instead)]


def _summary(report: Parity) -> Table:
    kinds = [kind for kind in _PRECISIONS if any(kind in claim.facts for claim in report.claims)]
    rows = [
        [
            claim.name,
            claim.verdict,
            *(f"{claim.facts[kind]:.0e}" for kind in kinds),
            claim.facts["compared"],
            claim.facts["wrong"],
        ]
        for claim in report.claims
    ]
    return Table(["array", "verdict", *kinds, "compared", "wrong"], rows)


def _entries(claim: Claim, count: int) -> list[list[str]]:
    return [
        [str(list(entry.index)), f"{entry.claimed:.6g}", f"{entry.value:.6g}", f"{entry.error:.2g}"]
        for entry in claim.entries[:count]
    ]


def _where(claim: Claim) -> str:
    facts = claim.facts
    return f"in {facts['precision']}, {facts['trial']} ({facts['sizes']})" if "trial" in facts else "somewhere"


def _caption(claim: Claim) -> str:
    assert claim.errors is not None
    wrong = int((claim.errors > claim.tolerance).sum())
    return f"{wrong:,} of these {claim.errors.size:,} entries differ by more than is allowed."


def _mapping(report: Parity) -> dict[str, str]:
    """Parameters that are not simply those of the same name."""
    return {name: text for name, text in report.mapping.items() if text.replace("[", ".").replace("]", "") != name}
