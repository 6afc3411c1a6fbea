"""Checks from the command line: exit codes, JSON, the page."""

from pathlib import Path

import pytest

TEXT = """
import numpy as np

def right(parameters):
    w = parameters["w"]
    print("computing")
    return (w**2).sum(), {"w": 2 * w}

def wrong(parameters):
    w = parameters["w"]
    return (w**2).sum(), {"w": w}

def raises(parameters):
    return parameters["v"]

def integers(parameters):
    return 1.0, {"w": np.ones((2, 3), int)}

def sample():
    return {"w": np.array([[1.0, -2.0, 3.0], [0.5, 0.25, 2.0]])}

print("read")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    return path


def test_what_agrees(qkv_cli, file):
    answer = qkv_cli("check", "gradients", f"{file}:right", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["ok"]
    (claim,) = answer.json["claims"]
    assert (claim["name"], claim["verdict"], claim["facts"]["judged"]) == ("w", "correct", 6)
    assert any("prints" in note for note in answer.json["notes"])


def test_what_is_wrong(qkv_cli, file, tmp_path):
    page = tmp_path / "out" / "page.html"
    answer = qkv_cli("check", "gradients", f"{file}:wrong", "--html", page, "--points", 2, "--json")
    assert answer.code == 1, answer.err
    (claim,) = answer.json["claims"]
    assert (claim["verdict"], claim["cause"]) == ("wrong", "factor")
    assert claim["entries"][0] == {
        "index": [0, 0],
        "claimed": 1.0,
        "value": pytest.approx(2.0),
        "error": pytest.approx(0.5),
    }
    assert "<svg" in page.read_text()
    told = qkv_cli("check", "gradients", f"{file}:wrong")
    assert told.code == 1
    assert "w is wrong in rows 0 to 1. Likely cause: factor: " in told.out
    assert "w[0, 0]" in told.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine.py"], "names no code"),
        (["{file}:wron"], "Try: wrong"),
        (["{file}:raises"], "raises KeyError: 'v'"),
        (["{file}:integers"], "holds no floating-point numbers"),
        (["{file}:right", "--points", "0"], "points is too small"),
        (["nowhere.py:f"], "no such file"),
    ],
)
def test_what_cannot_be_judged(qkv_cli, file, words: list[str], message: str):
    answer = qkv_cli("check", "gradients", *(word.format(file=file) for word in words))
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert "Traceback" not in answer.err
