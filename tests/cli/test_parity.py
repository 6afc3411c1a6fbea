"""qkv check parity: exit codes, JSON, the page, and what cannot be compared."""

from pathlib import Path

import pytest

TEXT = """
import torch
from torch import nn

class Right(nn.LSTMCell):
    def forward(self, x, hx=None):
        print("computing")
        return super().forward(x, hx)

class Wrong(nn.LSTMCell):
    def forward(self, x, hx):
        h, c = super().forward(x, hx)
        return h, -c

class Separate(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(4 * hidden_size, input_size)), nn.Parameter(torch.zeros(7, 7))

    def forward(self, x, hx):
        return hx
"""
ONE = ("--sizes", "input_size=3, hidden_size=5")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    return path


def test_what_agrees(qkv_cli, file):
    answer = qkv_cli("check", "parity", f"{file}:Right", "torch.nn.LSTMCell", *ONE, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["ok"]
    assert {claim["name"] for claim in answer.json["claims"]} >= {
        "h",
        "c",
        "gradient by input",
        "gradient by weight_hh",
    }
    assert answer.json["mapping"]["weight_ih"] == "weight_ih"
    assert any("prints" in note for note in answer.json["notes"])


def test_what_is_wrong(qkv_cli, file, tmp_path):
    page = tmp_path / "out" / "page.html"
    answer = qkv_cli("check", "parity", f"{file}:Wrong", "torch.nn.LSTMCell", *ONE, "--html", page)
    assert answer.code == 1, answer.err
    assert answer.out.startswith("Wrong and LSTMCell: ")
    assert "It first goes wrong" in answer.out
    assert "sign" in answer.out
    assert "c is wrong first in float64, one step (input_size=3, hidden_size=5):" in answer.out
    assert "<svg" in page.read_text()


def test_a_reference_of_ones_own(qkv_cli, file):
    answer = qkv_cli("check", "parity", f"{file}:Right", f"{file}:Right", "--case", "LSTMCell", *ONE)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{file}:Wrng", "torch.nn.LSTMCell"], "Try: Wrong"),
        (["{file}:Right", "torch.nn.LSTMCel"], "Try: LSTMCell"),
        (["{file}:Right", "torch.no.LSTMCell"], "there is no module 'torch.no'"),
        (["{file}:Right", "LSTMCell"], "Try: torch.nn.LSTMCell"),
        (["{broken}:Right", "torch.nn.LSTMCell"], "it raises ModuleNotFoundError"),
        (["nowhere.py:Right", "torch.nn.LSTMCell"], "no such file"),
        (["{file}:Separate", "torch.nn.LSTMCell"], "could not be mapped"),
        (["{file}:Right", "torch.nn.LSTMCell", "--sizes", "3, 5"], "--sizes cannot be read"),
        (["{file}:Right", "torch.nn.LSTMCell", "--sizes", "hidden_size=5"], "Right raises TypeError"),
        (["{file}:Right", "torch.nn.LSTMCell", "--map", "{broken}"], "not JSON"),
        (["{file}:Right", "torch.nn.Linear"], "not known what to call Right with"),
    ],
)
def test_what_cannot_be_compared(qkv_cli, file, words: list[str], message: str):
    broken = file.with_name("broken.py")
    broken.write_text("import nowhere_at_all\n")
    answer = qkv_cli("check", "parity", *(word.format(file=file, broken=broken) for word in words))
    assert answer.code == 2, answer.out
    assert message in answer.err
    assert "Traceback" not in answer.err
