"""Worksheets from the command line: exit codes, JSON, pages, folders."""

import csv
from pathlib import Path

import pytest

WRONG = "given X = [1, 2]\nclaim Y = 2 * X = [2, 5]\nclaim Z = Y + 1 = [3, 6]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text(WRONG)
    return path


def test_what_is_right(qkv_cli):
    answer = qkv_cli("check", "worksheet", "self_attention", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["ok"]
    assert answer.json["first_wrong"] is None
    assert {claim["verdict"] for claim in answer.json["claims"]} == {"correct"}


def test_what_is_wrong(qkv_cli, file, tmp_path):
    page, drawing, table = (tmp_path / "out" / name for name in ("page.html", "page.svg", "scores.csv"))
    answer = qkv_cli(
        "check", "worksheet", file, "--json", "--html", page, "--svg", drawing, "--csv", table, "--credit", 0.5
    )
    assert answer.code == 1, answer.err
    first, second = answer.json["claims"]
    assert first["entries"] == [{"row": 1, "column": 2, "claimed": 5.0, "value": 4.0}]
    assert (first["line"], second["verdict"], answer.json["first_wrong"]) == (2, "carried", "Y")
    assert (answer.json["points"], answer.json["of"]) == (0.5, 2.0)
    assert '<mark class="wrong">5</mark>' in page.read_text()
    assert drawing.read_text().startswith("<svg")
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert (row["worksheet"], row["wrong"], row["first wrong"], row["points"]) == ("mine.txt", "1", "Y", "0.5")
    told = qkv_cli("check", "worksheet", file)
    assert told.code == 1
    assert "(1, 2): 5 claimed, 4 is right" in told.out


@pytest.mark.usefixtures("file")
def test_a_folder(qkv_cli, tmp_path):
    (tmp_path / "other.txt").write_text(WRONG.replace("[2, 5]", "[2, 4]").replace("[3, 6]", "[3, 5]"))
    answer = qkv_cli("check", "worksheet", tmp_path, "--csv", tmp_path / "all.csv", "--html", tmp_path / "all.html")
    assert answer.code == 1
    assert "2 worksheets, 1 without a mistake" in answer.out
    assert [row["points"] for row in csv.DictReader((tmp_path / "all.csv").read_text().splitlines())] == ["1.0", "2.0"]
    assert "<table>" in (tmp_path / "all.html").read_text()


def test_the_shipped_ones_are_listed(qkv_cli):
    answer = qkv_cli("check", "worksheet", "--list")
    assert answer.code == 0
    assert "self_attention" in answer.out
    assert "Self-attention on three tokens" in answer.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.md"], "no such file"),
        (["self_atention"], "Try: self_attention"),
        ([], "no worksheet is named"),
        (["{file}", "--credit", "2"], "the credit for what is carried forward is a share"),
        (["{folder}", "--svg", "x.svg"], "--svg draws one worksheet"),
        (["{empty}"], "nothing is claimed"),
    ],
)
def test_what_cannot_be_judged(qkv_cli, file, tmp_path, words: list[str], message: str):
    empty = tmp_path / "empty" / "x.md"
    empty.parent.mkdir()
    empty.write_text("# Nothing\n")
    answer = qkv_cli("check", "worksheet", *(word.format(file=file, folder=tmp_path, empty=empty) for word in words))
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert "Traceback" not in answer.err
