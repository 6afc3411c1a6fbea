"""The user's own file: what is taken out of it, and what is said where that cannot be."""

from pathlib import Path

import pytest

from qkv.check.code import load_code
from qkv.errors import DataError, InputError

TEXT = """
from neighbour import START

def loss(parameters):
    return sum(parameters.values()), parameters

def loss_sample():
    return {"w": START}

def other(a, b): ...

def sample():
    return 3, 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("START = 7\n")
    (tmp_path / "mine.py").write_text(TEXT)
    return tmp_path / "mine.py"


def test_a_name_and_its_sample(file: Path):
    code = load_code(f"{file}:loss")
    assert (code.title, code.arguments) == ("loss", ({"w": 7},))
    assert load_code(f"{file}:other").arguments == (3, 5)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x = 1", "", "names no code. Expected FILE:NAME"),
        ("def loss(): ...", "los", "unknown name 'los'. Expected one of loss. Try: loss"),
        ("x = 1\nx.y", "x", "mine.py, line 2: it raises AttributeError"),
        ("import nowhere_at_all", "x", "line 1: it raises ModuleNotFoundError"),
        ("def f(:\n", "f", "line 1: not Python code"),
        ("raise SystemExit('used alone')", "f", "line 1: it raises SystemExit: used alone"),
        ("f = 1\ndef sample():\n    return 1 / 0", "f", r"line 3: sample\(\) raises ZeroDivisionError"),
    ],
)
def test_what_cannot_be_taken(tmp_path: Path, text: str, name: str, message: str):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_code(f"{path}:{name}")


def test_no_such_file(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        load_code(f"{tmp_path}/gone.py:f")
    (tmp_path / "mine.txt").write_text("f = 1")
    with pytest.raises(DataError, match=r"not Python code. Expected a file that ends in .py"):
        load_code(f"{tmp_path}/mine.txt:f")
