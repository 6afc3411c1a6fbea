"""Formulas: brackets where they must be, products by what their operands are, in all three forms."""

import ast
from xml.etree import ElementTree

import pytest

from qkv.draw.formula import END, HIGH, LOW, OVER, SLANTED, latex, marked, mathml, named

AXES = {"s": 0, "x": 1, "y": 1, "A": 2, "B": 2}


def read(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def axes(node: ast.expr) -> int | None:
    return 0 if isinstance(node, ast.Constant) else AXES.get(ast.unparse(node))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("(A + B) @ x", r"(A + B)\,x"),
        ("A + B @ x", r"A + B\,x"),
        ("x @ y", r"x^{\top}\,y"),
        ("-x @ y", r"-x^{\top}\,y"),
        ("outer(x, y)", r"x\,y^{\top}"),
        ("s * A", r"s\,A"),
        ("A * B", r"A \odot B"),
        ("A - (B - A)", "A - (B - A)"),
        ("(A + B).T", r"(A + B)^{\top}"),
        ("s**2 + A**2", r"s^{2} + A^{\odot 2}"),
        ("-A / s", r"-\frac{A}{s}"),
        ("sigmoid(A / s)", r"\sigma\left(\frac{A}{s}\right)"),
        ("concat(x, y)", r"\begin{bmatrix} x \\ y \end{bmatrix}"),
        ("[[1, 2], [3, 4]]", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"),
        ("A[0, 1:n]", r"A_{1, 2:n}"),
        ("sum(A, axis=0)", r"\operatorname{sum}_{\text{columns}}(A)"),
        ("strongest(A, row=1)", r"\operatorname{strongest}(A, \operatorname{row}\,1)"),
        ("x > 0 and y <= s", r"(x > 0) \land (y \leq s)"),
        ("step(x)", r"\mathbf{1}[x > 0]"),
    ],
)
def test_latex(text: str, written: str):
    assert latex(read(text), axes) == written


@pytest.mark.parametrize("text", ["softmax(A @ B.T / sqrt(2)) @ x", "bar(W1) * sum(A[0, :]) - norm(x)", "x > 0"])
def test_mathml_is_well_formed(text: str):
    ElementTree.fromstring(f"<math>{mathml(read(text), axes)}</math>")


def test_marks_begin_and_end():
    text = marked(read("bar(a1) / (A @ B.T)"), axes)
    assert text.count(END) == sum(text.count(mark) for mark in (LOW, HIGH, OVER, SLANTED))
    assert text.index("/") < text.index("(")  # on one line the denominator needs brackets


@pytest.mark.parametrize(("name", "written"), [("bg", "b_{g}"), ("xi", r"\xi"), ("W_QK", "W_{QK}"), ("h12", "h_{12}")])
def test_names(name: str, written: str):
    assert named(name) == written
