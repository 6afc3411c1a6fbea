import html
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch

from qkv.draw.steps import (
    Observation,
    Worked,
    WorkedStep,
    number,
    worked_latex,
    worked_markdown,
    worked_page,
    worked_text,
)
from qkv.types import AttentionMap

LABELS = ["i", "50 % & 山"]


@pytest.fixture
def worked() -> Worked:
    vectors = torch.arange(22, dtype=torch.float64).reshape(2, 11) / 10
    weights = torch.tensor([[0.75, 0.25], [1.2049e-11, 1.0]], dtype=torch.float64)
    steps = [
        WorkedStep("x", "X: vectors", "Rows are words.", "X", "X", vectors, LABELS),
        WorkedStep("weights", "Weights", "Each row adds up to 1.", "A = softmax(X Xᵀ)", r"A_{ij} = E_{ij}", weights,
                   LABELS, LABELS, sums=True),
    ]  # fmt: skip
    attention = AttentionMap(weights[None].float(), LABELS, LABELS, "", "self", "captured", "softmax_attention")
    seen = [Observation("i", (("i", 0.75), (LABELS[1], 0.25))), Observation(LABELS[1], ((LABELS[1], 1.0),))]
    return Worked("i swam", ["No vector for 'zyx': left out."], steps, attention, seen)


def test_numbers_hide_nothing_and_flood_nothing():
    assert [number(value) for value in (1.0, -0.00125, 0.0, 3.4143e-17, 99999.5, -2e5)] == [
        "1.0000", "-0.0013", "0.0000", "3.4143e-17", "99999.5000", "-2.0000e+05",
    ]  # fmt: skip


def test_markdown(worked):
    text = worked_markdown(worked, entries=3)
    assert text.startswith("# i swam\n\nNo vector for 'zyx': left out.\n\n## 1. X: vectors\n\n$$X$$\n\n")
    assert "Rows are words. The first 3 of 11 columns." in text
    assert "| i        | 0.0000 | 0.1000 | 0.2000 |" in text
    # Columns with labels are written whole, numbers flush right, the row's sum at its end.
    assert "| 50 % & 山 | 1.2049e-11 |   1.0000 | 1.0000 |" in text
    assert "- “i” attends most to “i” (0.7500), then to “50 % & 山” (0.2500).\n" in text
    assert text.endswith("- “50 % & 山” attends most to “50 % & 山” (1.0000), the only one there is.\n")


def test_as_many_entries_as_asked(worked):
    assert "1.0000" in worked_text(worked, entries=11)
    assert "The first" not in worked_text(worked, entries=11)
    assert "The first 10 of 11 columns" in worked_text(worked, entries=10)


def test_terminal_columns_line_up(worked):
    lines = worked_text(worked, entries=3).splitlines()
    # The ideograph is two cells wide, so its line has one character less.
    first = next(line for line in lines if line.startswith("   i "))
    second = lines[lines.index(first) + 1]
    assert first == "   i          0.0000  0.1000  0.2000"
    assert second == "   50 % & 山  1.1000  1.2000  1.3000"
    assert "2. Weights:  A = softmax(X Xᵀ)" in lines


def test_latex_is_escaped_and_balanced(worked):
    text = worked_latex(worked, entries=3)
    assert text.startswith(r"\documentclass{article}")
    assert text.rstrip().endswith(r"\end{document}")
    assert r"\text{50 \% \& 山} & 1.2049 \cdot 10^{-11} & 1.0000 & 1.0000 \end{array}" in text
    assert r"\[ A_{ij} = E_{ij} \]" in text
    assert r"\begin{array}{r|rr|r}" in text
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    for environment in ("array", "itemize", "document"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") > 0


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(worked, tmp_path):
    words = r"a_b \ {c} #1 ~ ^ $ 5 % & <eos> | √2 · −1 “é”"
    labels = ["i", words]
    odd = [
        replace(step, heading=words, words=words, rows=labels, columns=step.columns and labels) for step in worked.steps
    ]
    seen = [Observation(words, (("i", 1.0),))]
    text = worked_latex(replace(worked, title=words, notes=[words], steps=odd, observations=seen), entries=11)
    (tmp_path / "steps.tex").write_text(text, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error", "-draftmode"]
    ran = subprocess.run(["pdflatex", *options, "steps.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-800:]
    assert "Missing character" not in ran.stdout


def test_the_page_is_whole_and_has_the_figure(worked):
    page = worked_page(worked)
    assert page.count("<svg") == 1
    assert page.count("<table>") == 2
    text = html.unescape(page)
    for told in ("i swam", "A = softmax(X Xᵀ)", "1.2049e-11", "“i” attends most to “i” (0.7500)"):
        assert told in text
    assert "50 % & 山" not in page  # escaped
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
