"""Worksheets as people meet them: files, shipped ones, folders, scores; what is drawn of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qkv.check import Worksheet
from qkv.check.worksheets.sheet import Credit, read_folder, shipped
from qkv.errors import DataError, InputError

WRONG = "given X = [1, 2]\nclaim Y = 2 * X = [2, 5]\nclaim Z = Y + 1 = [3, 6]\nclaim W = X + 1 = [2, 3\n"
RIGHT = "given X = [1, 2]\nclaim Y = 2 * X = [2, 4]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text(WRONG)
    (tmp_path / "b" / "c.md").write_text(f"# Sums\n\n```worksheet\n{RIGHT}```\n")
    (tmp_path / "d.txt").write_text(WRONG.replace("[2, 5]", "[2, -4]").replace("[3, 6]", "[3, -3]"))
    (tmp_path / "notes.md").write_text("# Nothing\n")
    return tmp_path


def test_points_and_credit():
    # Y is wrong, Z carried forward, W unreadable.
    assert Worksheet(WRONG).points == (1.0, 3.0)
    assert Worksheet(WRONG, credit=Credit(points=2.0, carried=0.25)).points == (0.5, 6.0)
    assert Worksheet(RIGHT).points == (1.0, 1.0)


def test_a_worksheet_knows_its_claims():
    sheet = Worksheet(WRONG)
    assert not sheet.ok
    assert sheet.first_wrong == "Y"
    assert sheet["Z"].kind == "carried"
    with pytest.raises(KeyError):
        sheet["V"]
    report = sheet.judgement.report
    assert [claim.name for claim in report.wrong] == ["Y"]
    assert report["Y"].line == 2
    assert Worksheet(RIGHT).first_wrong is None


def test_text_page_and_drawing_show_the_same():
    sheet = Worksheet(WRONG, title="Sums & more")
    text, page, svg = sheet.text(), sheet.page(), sheet.svg()
    for drawn in (text, page, svg):
        assert "(1, 2): 5 claimed, 4 is right" in drawn
        assert "3 claims, 1 carried forward, 1 wrong, 1 unusable" in drawn.replace("3 Claims", "3 claims")
    assert '<mark class="wrong">5</mark>' in page
    assert '<mark class="carried">6</mark>' in page
    assert "<h1>Sums &amp; more</h1>" in page
    assert "Sums &amp; more" in svg
    assert "<iframe" in sheet._repr_html_()


def test_prose_stands_around_its_statements():
    text = "# Sums\n\nFirst we\nadd <b>.\n\n## Then\n\n```worksheet\n" + RIGHT + "```\n\nThat is all."
    page = Worksheet(text, title="Sums").page()
    places = [page.index(part) for part in ("First we add &lt;b&gt;.", "<h2>Then</h2>", "claim Y", "That is all.")]
    assert places == sorted(places)
    assert page.count("Sums") == 2  # of the window and of the page, not of the prose again


def test_shipped_ones_are_read_by_name():
    assert {"self_attention", "cross_attention", "linear_attention", "softmax_gradient"} <= set(shipped())
    sheet = Worksheet.read("self-attention")
    assert sheet.ok
    assert sheet.title == shipped()["self_attention"]


@pytest.mark.parametrize("name", ["self_attention", "cross_attention", "linear_attention", "softmax_gradient"])
def test_shipped_ones_of_numbers_are_right(name: str):
    assert Worksheet.read(name).ok


def test_a_folder_is_a_table(folder: Path):
    found = read_folder(folder, credit=Credit(carried=0.5))
    assert not found.ok
    assert list(found.sheets) == ["a.txt", "b/c.md", "d.txt"]
    assert list(found.unusable) == ["notes.md"]
    first = found.rows[0]
    assert (first["worksheet"], first["wrong"], first["carried"], first["points"], first["of"]) == (
        "a.txt",
        1,
        1,
        0.5,
        3.0,
    )
    assert found.common == [("of no named kind", 1, 1), ("sign of an entry", 1, 1)]
    assert "3 worksheets, 1 without a mistake; 1 cannot be used" in found.text()
    assert "Mistakes that are common" in found.page()
    assert found.document()["worksheets"]["d.txt"]["first_wrong"] == "Y"


# -- what cannot be used -----------------------------------------------------------------------------------------------


def test_there_must_be_a_claim():
    with pytest.raises(InputError, match="nothing is claimed in the worksheet"):
        Worksheet("given X = 1")
    with pytest.raises(InputError, match="line 1 cannot be read: expected given"):
        Worksheet("giben X = 1")


def test_files_must_be_there_and_text(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        Worksheet.read(tmp_path / "none.md")
    with pytest.raises(InputError, match=r"unknown worksheet 'self_atention'.*Try: self_attention"):
        Worksheet.read("self_atention")
    (tmp_path / "bytes.txt").write_bytes(b"claim \xff = 1")
    with pytest.raises(DataError, match="not text"):
        Worksheet.read(tmp_path / "bytes.txt")
    (tmp_path / "empty.txt").write_text("given X = 1")
    with pytest.raises(DataError, match=r"empty.txt: nothing is claimed"):
        Worksheet.read(tmp_path / "empty.txt")


def test_folders_must_hold_worksheets(tmp_path: Path):
    with pytest.raises(DataError, match="no worksheets in the folder"):
        read_folder(tmp_path)
    (tmp_path / "notes.md").write_text("# Nothing\n")
    with pytest.raises(DataError, match="no worksheet in the folder can be used"):
        read_folder(tmp_path)


@pytest.mark.parametrize(("points", "carried"), [(0.0, 1.0), (1.0, 1.5), (1.0, -0.5), (float("nan"), 1.0)])
def test_credit_is_a_share(points: float, carried: float):
    with pytest.raises(InputError):
        Credit(points, carried)


# -- libraries that only some claims need ------------------------------------------------------------------------------

NEEDY = """given A = [[2, 0], [1, 3]]
claim S = A @ A.T = [[4, 2], [2, 10]]
given X, Y : (n, m)
claim costs: cost(X + Y) = O(n * m)
claim net: forall x in R: relu(x) >= 0
"""


def test_without_the_solver_all_else_is_judged(monkeypatch):
    monkeypatch.setitem(sys.modules, "z3", None)
    sheet = Worksheet(NEEDY)
    assert [line.verdict.kind for line in sheet.judgement.lines] == ["correct", "correct", "unusable"]
    assert sheet["net"].explanation == "this takes z3, which is not installed. Try: pip install 'qkv[verify]'"


def test_numbers_are_judged_without_sympy():
    script = f"""
import json, sys
sys.modules["sympy"] = None
from qkv.check import Worksheet
lines = Worksheet({NEEDY!r}).judgement.lines
print(json.dumps([[line.verdict.kind, line.verdict.explanation] for line in lines]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, *others = json.loads(done.stdout)
    assert first == ["correct", ""]
    assert others == [["unusable", "this takes sympy, which is not installed. Try: pip install 'qkv[verify]'"]] * 2
