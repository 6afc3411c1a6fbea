"""`qkv check network`, and `qkv check worksheet --solve`."""

import sys
from pathlib import Path

NETWORK = "given w = [1, 1]\nlet net(x) = {}(w @ x)\nclaim forall x in R^2: net(x) == 1 iff x[0] + x[1] > 0\n"


def test_proved_and_refuted(qkv_cli, tmp_path: Path):
    sheet = tmp_path / "net.txt"
    sheet.write_text(NETWORK.format("step"), encoding="utf-8")
    assert qkv_cli("check", "network", sheet).code == 0
    sheet.write_text(NETWORK.format("hard_threshold"), encoding="utf-8")
    answer = qkv_cli("check", "network", sheet, "--json")
    assert answer.code == 1
    (claim,) = answer.json["claims"]
    assert (claim["verdict"], claim["said"], claim["cause"]) == ("wrong", "refuted", "strictness")
    assert claim["notes"][0] == (
        "Counterexample: x = [0, 0]: net(x) is 1, the left side of iff is true, the right side is false."
    )


def test_other_claims_are_refused(qkv_cli, tmp_path: Path):
    sheet = tmp_path / "net.txt"
    sheet.write_text("claim c: 1 + 1 = 2\n", encoding="utf-8")
    answer = qkv_cli("check", "network", sheet)
    assert answer.code == 2
    assert "is about no network" in answer.err
    assert qkv_cli("check", "network", sheet, "--limit", "0").code == 2
    assert qkv_cli("check", "network", tmp_path / "none.txt").code == 2


def test_without_the_solver_there_is_nothing_to_prove(qkv_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "z3", None)
    answer = qkv_cli("check", "network", "superincreasing")
    assert answer.code == 2
    assert "pip install 'qkv[verify]'" in answer.err


def test_solve(qkv_cli, tmp_path: Path):
    sheet = tmp_path / "ask.txt"
    sheet.write_text("given X = [[1, 2]]\nclaim Y = X @ X.T\n", encoding="utf-8")
    answer = qkv_cli("check", "worksheet", sheet, "--solve", "--dots")
    assert answer.code == 0
    assert "- (1, 1): 1 · 1 + 2 · 2 = 5" in answer.out
    answer = qkv_cli("check", "worksheet", sheet, "--solve", "--format", "html", "--out", tmp_path / "a.html", "--json")
    assert answer.json["worksheet"] == "given X = [[1, 2]]\nclaim Y = X @ X.T = [[5]]"
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert qkv_cli("check", "worksheet", tmp_path, "--solve").code == 2
