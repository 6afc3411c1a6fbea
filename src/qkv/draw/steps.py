"""Worked steps: matrices with their formulas, as Markdown, LaTeX, a page or text for a terminal.

An axis that has labels is written whole; one without, such as the entries of a vector, only as far as asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from rich.cells import cell_len
from torch import Tensor

from qkv.draw.attention import attention_svg
from qkv.draw.label import visible
from qkv.draw.report import Block, Figure, Heading, Paragraph, Preformatted, Table, report_page, table_markdown
from qkv.types import AttentionMap

_FIGURE_CELLS = 40_000
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "-", "·": r"\ensuremath{\cdot}",
    "√": r"\ensuremath{\surd}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
})  # fmt: skip


@dataclass(frozen=True)
class WorkedStep:
    """One matrix on the way: what it is, how it came about in words and as a formula, its value.

    Attributes:
        name: the name under which it was recorded.
        rows: the labels of its rows.
        columns: the labels of its columns; None where they have only numbers.
        sums: whether the sum of each row stands beside it.
    """

    name: str
    heading: str
    words: str
    formula: str
    latex: str
    value: Float[Tensor, "rows columns"]
    rows: Sequence[str]
    columns: Sequence[str] | None = None
    sums: bool = False


@dataclass(frozen=True)
class Observation:
    """What one query attends to: the strongest keys with their weights, strongest first, two of them at most."""

    query: str
    keys: tuple[tuple[str, int | float], ...]

    def __str__(self) -> str:
        """In words.

        >>> print(Observation("bank", (("river", 0.75), ("bank", 0.25))))
        “bank” attends most to “river” (0.7500), then to “bank” (0.2500).
        """
        told = [f"“{visible(key)}” ({number(weight)})" for key, weight in self.keys]
        then = f", then to {told[1]}" if len(told) > 1 else ", the only one there is"
        return f"“{visible(self.query)}” attends most to {told[0]}{then}."


@dataclass(frozen=True)
class Worked:
    """A calculation: notes on what went in, its steps, and what a reader can see at its end."""

    title: str
    notes: Sequence[str]
    steps: Sequence[WorkedStep]
    attention: AttentionMap
    observations: Sequence[Observation]


def worked_markdown(worked: Worked, *, entries: int = 8) -> str:
    """`worked` as Markdown; formulas stand between dollar signs.

    Args:
        entries: how many columns are written of those without labels.
    """
    parts = [f"# {worked.title}", *worked.notes]
    for place, step in enumerate(worked.steps, start=1):
        table = table_markdown(_table(step, entries))
        parts += [f"## {place}. {step.heading}", f"$${step.latex}$$", _words(step, entries), table]
    parts += ["## What is to be seen", "\n".join(f"- {observation}" for observation in worked.observations)]
    return "\n\n".join(parts) + "\n"


def worked_latex(worked: Worked, *, entries: int = 8) -> str:
    """`worked` as a LaTeX document; labels that are not Latin need XeLaTeX or LuaLaTeX and a font that has them.

    Args:
        entries: how many columns are written of those without labels.
    """
    lines = [r"\documentclass{article}", r"\usepackage{amsmath,graphicx}", r"\begin{document}",
             rf"\section*{{{escaped_latex(worked.title)}}}",
             *(escaped_latex(note) + "\n" for note in worked.notes)]  # fmt: skip
    for place, step in enumerate(worked.steps, start=1):
        lines += [
            rf"\subsection*{{{place}. {escaped_latex(step.heading)}}}",
            escaped_latex(_words(step, entries)),
            rf"\[ {step.latex} \]",
            rf"\[ \resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{${_array(step, entries)}$}} \]",
        ]
    lines += [r"\subsection*{What is to be seen}", r"\begin{itemize}"]
    lines += [rf"\item {escaped_latex(str(observation))}" for observation in worked.observations]
    return "\n".join([*lines, r"\end{itemize}", r"\end{document}"]) + "\n"


def worked_page(worked: Worked, *, entries: int = 8) -> str:
    """`worked` as one HTML page that needs no script and no network, the weights also as a figure.

    Args:
        entries: how many columns are written of those without labels.
    """
    blocks: list[Block] = [Paragraph(note) for note in worked.notes]
    for place, step in enumerate(worked.steps, start=1):
        blocks += [
            Heading(f"{place}. {step.heading}"),
            Preformatted(step.formula),
            Paragraph(_words(step, entries)),
            _table(step, entries),
        ]
        if step.name == "weights" and worked.attention.weights.numel() <= _FIGURE_CELLS:
            blocks.append(Figure(attention_svg(worked.attention), "The weights: rows are queries, columns keys."))
    blocks.append(Heading("What is to be seen"))
    blocks += [Paragraph(str(observation)) for observation in worked.observations]
    return report_page(worked.title, blocks)


def worked_text(worked: Worked, *, entries: int = 8) -> str:
    """`worked` as text for a terminal.

    Args:
        entries: how many columns are written of those without labels.
    """
    parts = [worked.title, *worked.notes]
    for place, step in enumerate(worked.steps, start=1):
        parts += [
            f"{place}. {step.heading}:  {step.formula}\n   {_words(step, entries)}",
            _aligned(_table(step, entries)),
        ]
    parts += ["What is to be seen\n" + "\n".join(f"  {observation}" for observation in worked.observations)]
    return "\n\n".join(parts) + "\n"


def number(value: int | float) -> str:
    """`value` with four decimals, or with an exponent where these would hide or flood it.

    >>> number(0.25), number(1.2049e-11), number(0), number(-123456.7)
    ('0.2500', '1.2049e-11', '0.0000', '-1.2346e+05')
    """
    plain = value == 0 or 1e-3 <= abs(value) < 1e5
    return f"{value:.4f}" if plain else f"{value:.4e}"


def _words(step: WorkedStep, entries: int) -> str:
    width = step.value.shape[1]
    cut = step.columns is None and width > entries
    return f"{step.words} The first {entries} of {width} columns." if cut else step.words


def _table(step: WorkedStep, entries: int) -> Table:
    """The matrix of a step with its labels, cut to so many entries where the columns have none."""
    shown = step.value if step.columns is not None else step.value[:, :entries]
    names = step.columns if step.columns is not None else [str(place) for place in range(1, shown.shape[1] + 1)]
    header = ["", *map(visible, names), *(["sum"] * step.sums)]
    totals = step.value.sum(dim=1).tolist()
    rows = [
        [visible(label), *map(number, row), *([number(total)] * step.sums)]
        for label, row, total in zip(step.rows, shown.tolist(), totals, strict=True)
    ]
    return Table(header, rows)


def _aligned(table: Table) -> str:
    lines = [table.header, *table.rows]
    widths = [max(cell_len(str(line[x])) for line in lines) for x in range(len(table.header))]
    return "\n".join(
        "   "
        + "  ".join(
            _flush(str(cell), width, left=x == 0) for x, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _flush(cell: str, width: int, *, left: bool) -> str:
    blanks = " " * (width - cell_len(cell))
    return cell + blanks if left else blanks + cell


def _array(step: WorkedStep, entries: int) -> str:
    table = _table(step, entries)
    numbers = len(table.header) - 1 - step.sums
    header = " & ".join(rf"\text{{{escaped_latex(name)}}}" for name in table.header)
    rows = [
        " & ".join([rf"\text{{{escaped_latex(str(row[0]))}}}", *(_latex_number(str(cell)) for cell in row[1:])])
        for row in table.rows
    ]
    layout = "r|" + "r" * numbers + "|r" * step.sums
    return rf"\begin{{array}}{{{layout}}} {header} \\ \hline " + r" \\ ".join(rows) + r" \end{array}"


def escaped_latex(text: str) -> str:
    """`text` for LaTeX, as it reads."""
    return text.translate(_LATEX)


def _latex_number(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa
