"""Worksheets without answers, solved; what comes out is all right."""

import shutil
import subprocess
from pathlib import Path

import pytest

from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.sheet import read_sheet
from qkv.check.worksheets.solve import solve
from qkv.check.worksheets.syntax import parse
from qkv.draw import solution_latex, solution_markdown, solution_page
from qkv.draw.solution import Equation, Graphed, Mapped, Solution
from qkv.errors import InputError

ASKED = """given Q = [[3, 2], [1, -1]]
given K = [[2, -1], [-1, 3]]
given V = [[4], [1]]
claim S = Q @ K.T
claim A = softmax(S / sqrt(2))  # weights
claim Y = A @ V / 3
claim strongest(A)
claim second(A, row 1)
"""


@pytest.fixture(scope="module")
def solved() -> Solution:
    return solve(parse(ASKED), title="One & two", dots=True)


@pytest.fixture(scope="module")
def derived() -> Solution:
    return solve(read_sheet("regression_backward")[1])


def test_intermediates_by_hand(solved):
    values = {part.name: part.value for part in solved.parts if isinstance(part, Equation) and part.name}
    assert values["S"] == [["4", "3"], ["3", "-4"]]  # 3*2 + 2*-1, 3*-1 + 2*3; 1*2 + -1*-1, 1*-1 + -1*3
    assert values["A"] == [["0.6698", "0.3302"], ["0.9930", "0.0070"]]  # 1 / (1 + exp(-1 / sqrt(2))), ...
    minor = [part for part in solved.parts if isinstance(part, Equation) and part.minor]
    assert minor[0].value == [["2.8284", "2.1213"], ["2.1213", "-2.8284"]]  # S / sqrt(2)
    assert len([part for part in solved.parts if isinstance(part, Mapped)]) == 1


def test_products_are_written_out_on_request(solved):
    (scores,) = [part for part in solved.parts if isinstance(part, Equation) and part.name == "S"]
    assert scores.products[1] == "(1, 2): 3 · (-1) + 2 · 3 = 3"
    assert "·" not in solution_markdown(solve(parse(ASKED)))


def test_the_filled_worksheet_is_right(solved):
    assert solved.filled.splitlines()[3:5] == [
        "claim S = Q @ K.T = [[4, 3], [3, -4]]",
        "claim A = softmax(S / sqrt(2)) = [[0.6698, 0.3302], [0.9930, 0.0070]]  # weights",
    ]
    assert solved.filled.splitlines()[-2:] == ["claim strongest(A) = [1, 1]", "claim second(A, row 1) = 2"]
    found = judge(parse(solution_markdown(solved)), seconds=float("inf"))
    assert found.ok
    assert len(found.lines) == 5


def test_a_derivation_is_right_and_whole(derived):
    found = judge(parse(solution_markdown(derived)), seconds=float("inf"))
    assert found.ok
    assert found.notes == []
    assert r"$$\bar{Z} = \bar{H} \odot (1 - H^{\odot 2})$$" in solution_markdown(derived)
    assert sum(isinstance(part, Graphed) for part in derived.parts) == 1


def test_pages_stand_alone(solved, derived):
    page = solution_page(solved)
    assert "One &amp; two" in page
    assert page.count("stroke-dasharray") >= 2  # a dashed line, and the legend's
    assert "<math" in page
    assert "<script" not in page + solution_page(derived)


@pytest.mark.parametrize("which", ["solved", "derived"])
def test_latex_compiles(which: str, request, tmp_path: Path):
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("no LaTeX on this machine")
    (tmp_path / "sheet.tex").write_text(solution_latex(request.getfixturevalue(which)), encoding="utf-8")
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "sheet.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("given X = [[1, 2]]", "there is nothing to work out"),
        ("given X = [[1, 2]\nclaim Y = 2 * X", "line 1 cannot be read"),
        ("given X = [[1, 2]]\nclaim Y = X @ X", "line 2: .*fit"),
    ],
)
def test_what_cannot_be_solved_says_why(text: str, message: str):
    with pytest.raises(InputError, match=message):
        solve(parse(text))
