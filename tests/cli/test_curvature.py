from pathlib import Path
from xml.etree import ElementTree

import pytest

CODE = """
import torch
from torch import nn

def loss(weight, x):
    print("a word")
    return (x @ weight).tanh().square().mean()

def loss_sample():
    return torch.ones(3, requires_grad=True), torch.arange(6.0).reshape(2, 3)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 3, dropout=0.0, batch_first=True)

    def loss(self, x):
        return self.layer(x).sin().mean()

def Net_sample():
    return torch.arange(8.0).sin().reshape(1, 2, 4)

class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**3).sum()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x.roll(1)

def wrong(x):
    return Wrong.apply(x)

def wrong_sample():
    return torch.arange(5.0)

def fails(x):
    raise ValueError("no such thing")

def vector(x):
    return x

def gone(x):
    return x.detach().sum()

fails_sample = vector_sample = gone_sample = wrong_sample
"""


@pytest.fixture
def code(tmp_path) -> Path:
    path = tmp_path / "code.py"
    path.write_text(CODE, encoding="utf-8")
    return path


def test_a_function_is_judged(qkv_cli, code, tmp_path):
    page = tmp_path / "page.html"
    answer = qkv_cli("check", "curvature", f"{code}:loss", "--costs", "--html", page, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert [(claim["name"], claim["verdict"]) for claim in found["claims"]] == [
        ("reverse-over-reverse", "correct"), ("difference of gradients", "correct"), ("symmetry", "correct"),
    ]  # fmt: skip
    assert len(found["eigenvalues"]["largest"]) == 3
    assert found["eigenvalues"]["largest"][-1] == pytest.approx(found["eigenvalues"]["smallest"][0])
    assert [cost["how"] for cost in found["costs"]] == [
        "gradient", "forward-over-reverse", "reverse-over-reverse", "explicit Hessian",
    ]  # fmt: skip
    assert "a word" in answer.err  # what the code prints is no answer
    assert "<h1>loss</h1>" in page.read_text(encoding="utf-8")


def test_a_module_is_judged_and_what_was_done_is_said(qkv_cli, code):
    answer = qkv_cli("check", "curvature", f"{code}:Net", "--top", 0, "--ways", "reverse, forward")
    assert answer.code == 0, answer.err
    assert "layer.self_attn: scaled_dot_product_attention by plain operations" in answer.out
    assert "layer: relu is made of linear pieces" in answer.out
    assert "Held to reverse-over-reverse" in answer.out
    assert "eigenvalue" not in answer.out


def test_what_is_wrong_leaves_with_one(qkv_cli, code):
    answer = qkv_cli("check", "curvature", f"{code}:wrong", "--top", 0)
    assert answer.code == 1
    assert "| symmetry                | wrong" in answer.out
    assert "argument 1[" in answer.out


def test_the_worked_example(qkv_cli, tmp_path):
    figure = tmp_path / "costs.svg"
    answer = qkv_cli("check", "curvature", "--sizes", "7,13", "--svg", figure, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["products"] == {"forward": [52, 26, 13], "reverse": [52, 26, 13]}
    assert [one["n"] for one in answer.json["costs"]] == [7] * 4 + [13] * 4
    assert answer.json["bracketings"][0]["operations"] == 3 * 100**2 + 100 * 10
    assert ElementTree.parse(figure).getroot().tag.endswith("svg")
    said = qkv_cli("check", "curvature", "--sizes", "7")
    assert "[52.0, 26.0, 13.0]" in said.out
    assert "((v vᵀ) y₁) y₂ᵀ: O(n² + nm)" in said.out


def test_what_cannot_be_judged(qkv_cli, code):
    for arguments, message in (
        ([f"{code}:los"], "unknown name 'los'"),
        ([code.with_name("none.py:loss")], "none.py: no such file"),
        ([f"{code}:fails"], f"{code}, line 41: fails raises ValueError: no such thing."),
        ([f"{code}:vector"], "the loss is not one number. Expected one; got shape (5,)"),
        ([f"{code}:gone"], "the loss of gone does not depend on any of its parameters"),
        ([f"{code}:loss", "--ways", "forward,sideways"], "unknown way 'sideways'"),
        ([f"{code}:loss", "--svg", "a.svg"], "--svg draws the worked example"),
        (["--sizes", "3,x"], "--sizes are not numbers of parameters"),
    ):
        answer = qkv_cli("check", "curvature", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert message in " ".join(answer.err.split())
