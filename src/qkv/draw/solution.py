"""A worksheet solved: intermediates with their numbers, adjoints with their formulas, as Markdown, LaTeX or a page."""

import ast
import html
from collections.abc import Sequence
from dataclasses import dataclass

from qkv.draw.attention import attention_svg
from qkv.draw.formula import Axes, latex, mathml, named
from qkv.draw.page import page, static
from qkv.draw.steps import escaped_latex
from qkv.types import AttentionMap

Table = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Remark:
    """A line of running text; `section` where it begins one."""

    text: str
    section: bool = False


@dataclass(frozen=True)
class Equation:
    """What a name, an adjoint or nothing is equal to: expressions, and a value where there is one.

    Attributes:
        name: what stands on the left; with `bar`, the adjoint of it.
        value: the entries by row as they are written; a flat vector is one row.
        products: entries written out, a line each.
        minor: an intermediate on the way to the next equation that has a name.
    """

    links: Sequence[ast.expr]
    axes: Axes
    name: str = ""
    bar: bool = False
    value: Table | None = None
    products: Sequence[str] = ()
    minor: bool = False


@dataclass(frozen=True)
class Mapped:
    """Weights as lines: solid to the strongest keys of a query, dashed to the next."""

    attention: AttentionMap


@dataclass(frozen=True)
class Graphed:
    """A drawing as SVG."""

    svg: str
    caption: str


Part = Remark | Equation | Mapped | Graphed


@dataclass(frozen=True)
class Solution:
    """A worksheet with all its answers.

    Attributes:
        filled: the worksheet itself with its answers, which can be checked again.
    """

    title: str
    parts: Sequence[Part]
    filled: str


def solution_markdown(solution: Solution) -> str:
    """The solution as Markdown, formulas between dollar signs; at its end the filled worksheet in its own block."""
    parts = [f"# {solution.title}"]
    for part in solution.parts:
        match part:
            case Remark(text, section):
                parts.append(f"## {text}" if section else text)
            case Equation():
                parts.append(f"$${_sides(part, 'latex')}$$")
                parts += ["\n".join(f"- {line}" for line in part.products)] if part.products else []
            case Mapped(attention):
                parts.append("\n".join(f"- {line}" for line in _told(attention)))
            case Graphed():
                pass  # Markdown shows no drawing that is not a file
    return "\n\n".join([*parts, "## The worksheet, filled", f"```worksheet\n{solution.filled.rstrip()}\n```"]) + "\n"


def solution_latex(solution: Solution) -> str:
    """The solution as a LaTeX document that needs no package but amsmath."""
    lines = [r"\documentclass{article}", r"\usepackage{amsmath,graphicx}", r"\setlength{\parindent}{0pt}",
             r"\begin{document}", rf"\section*{{{escaped_latex(solution.title)}}}"]  # fmt: skip
    for part in solution.parts:
        match part:
            case Remark(text, section):
                lines.append(rf"\subsection*{{{escaped_latex(text)}}}" if section else escaped_latex(text) + r"\par")
            case Equation():
                lines.append(rf"\[ {_fitted(_sides(part, 'latex'))} \]")
                lines += [rf"{{\small {escaped_latex(line)}}}\par" for line in part.products]
            case Mapped(attention):
                lines += _picture(attention)
            case Graphed():
                pass  # the adjoints beside it say the same
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def solution_page(solution: Solution) -> str:
    """The solution as one HTML page that needs no script and no network; formulas are MathML."""
    body = [f"<h1>{html.escape(solution.title)}</h1>"]
    for part in solution.parts:
        match part:
            case Remark(text, section):
                body.append(f"<h2>{html.escape(text)}</h2>" if section else f"<p>{html.escape(text)}</p>")
            case Equation():
                formula = f"<mrow>{_sides(part, 'mathml')}</mrow>"
                body.append(f'<div class="wide"><math display="block">{formula}</math></div>')
                body += [f"<pre>{html.escape(chr(10).join(part.products))}</pre>"] if part.products else []
            case Mapped(attention):
                words = "".join(f"<li>{html.escape(line)}</li>" for line in _told(attention))
                svg = attention_svg(attention, style="lines")
                body.append(f'<figure><div class="paper">{svg}</div></figure>\n<ul>{words}</ul>')
            case Graphed(svg, caption):
                words = html.escape(caption)
                body.append(f'<figure><div class="paper">{svg}</div><figcaption>{words}</figcaption></figure>')
    body.append(f"<h2>The worksheet, filled</h2>\n<pre>{html.escape(solution.filled.rstrip())}</pre>")
    main = "\n".join(body)
    return page(solution.title, f'<main class="report">\n{main}\n</main>', static("report.css"))


# -- equations -------------------------------------------------------------------------------------------------------


def _sides(equation: Equation, form: str) -> str:
    write = latex if form == "latex" else mathml
    sides = [named(equation.name, form, bar=equation.bar)] if equation.name else []
    sides += [write(link, equation.axes) for link in equation.links]
    if equation.value is not None:
        sides.append(_value(equation.value, form))
    return (" = " if form == "latex" else "<mo>=</mo>").join(sides)


def _value(table: Table, form: str) -> str:
    if len(table) == len(table[0]) == 1:
        return _entry(table[0][0], form)
    if form == "latex":
        rows = r" \\ ".join(" & ".join(_entry(entry, form) for entry in row) for row in table)
        # One column that is repeated: the matrices of amsmath have ten at most.
        return rf"\left[\begin{{array}}{{*{{{len(table[0])}}}{{r}}}} {rows} \end{{array}}\right]"
    cells = (f"<mtr>{''.join(f'<mtd>{_entry(entry, form)}</mtd>' for entry in row)}</mtr>" for row in table)
    return f"<mrow><mo>[</mo><mtable>{''.join(cells)}</mtable><mo>]</mo></mrow>"


def _entry(text: str, form: str) -> str:
    """A number as it is written: with a fraction line, a power of ten."""
    top, _, bottom = text.lstrip("-").partition("/")
    mantissa, _, power = top.partition("e")
    if form == "latex":
        number = rf"{mantissa} \cdot 10^{{{int(power)}}}" if power else r"\infty" if top == "inf" else top
        number = rf"\tfrac{{{top}}}{{{bottom}}}" if bottom else number
        return f"-{number}" if text.startswith("-") else number
    number = f"<mn>{'∞' if mantissa == 'inf' else mantissa}</mn>"
    if power:
        number = f"<mrow>{number}<mo>·</mo><msup><mn>10</mn><mn>{int(power)}</mn></msup></mrow>"
    number = f"<mfrac><mn>{top}</mn><mn>{bottom}</mn></mfrac>" if bottom else number
    return f"<mrow><mo>−</mo>{number}</mrow>" if text.startswith("-") else number


def _fitted(formula: str) -> str:
    """A formula that is made narrower where it is wider than a line."""
    return rf"\resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{$\displaystyle {formula}$}}"


# -- maps ------------------------------------------------------------------------------------------------------------


def _told(attention: AttentionMap) -> list[str]:
    """For each query its strongest and its second key, with what they weigh."""
    told = []
    for label, row in zip(attention.query_labels, attention.weights[0].tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda key: -row[key])
        keys = [f"{attention.key_labels[key]} ({row[key]:.4f})" for key in order[:2]]
        told.append(f"{label}: " + ", then ".join(keys))
    return told


def _picture(attention: AttentionMap, *, solid: float = 0.8, dashed: float = 0.25) -> list[str]:
    """The map as a LaTeX picture: a query on the left, its keys on the right, as `attention_svg` draws lines."""
    rows = attention.weights[0].tolist()
    queries, keys, step, span = len(rows), len(rows[0]), 14, 120
    tall = step * max(queries, keys)
    left = [tall - (place + 0.5) * tall / queries for place in range(queries)]
    right = [tall - (place + 0.5) * tall / keys for place in range(keys)]
    lines = [rf"\begin{{center}}\setlength{{\unitlength}}{{1pt}}\begin{{picture}}({span + 120},{tall})"]
    for y, label in zip(left, attention.query_labels, strict=True):
        lines.append(rf"\put(56,{y:.1f}){{\makebox(0,0)[r]{{{escaped_latex(label)}}}}}")
    for y, label in zip(right, attention.key_labels, strict=True):
        lines.append(rf"\put({span + 64},{y:.1f}){{\makebox(0,0)[l]{{{escaped_latex(label)}}}}}")
    for y, row in zip(left, rows, strict=True):
        largest = max(row)
        for end, weight in zip(right, row, strict=True):
            if weight and weight >= dashed * largest:
                pieces = 1 if weight >= solid * largest else 12
                lines += [_stroke((60.0, y), (span + 60.0, end), piece, pieces) for piece in range(pieces)]
    words = f"solid: at least {solid:g} of the row's largest weight; dashed: at least {dashed:g} of it"
    return [*lines, r"\end{picture}\end{center}", rf"{{\small {words}}}\par"]


def _stroke(start: tuple[float, float], end: tuple[float, float], piece: int, pieces: int) -> str:
    """One of so many dashes of a line, or all of it."""
    first, last = piece / pieces, 1.0 if pieces == 1 else (piece + 0.55) / pieces
    (x, y), (end_x, end_y) = start, end
    points = [(x + at * (end_x - x), y + at * (end_y - y)) for at in (first, (first + last) / 2, last)]
    return r"\qbezier" + "".join(f"({across:.1f},{up:.1f})" for across, up in points)
