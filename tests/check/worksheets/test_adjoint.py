"""Claims about adjoints: right, wrong with a cause, carried forward, unusable."""

import re

import pytest

import qkv.check.worksheets.adjoint  # noqa: F401 - what it loads takes time that no worksheet has
from qkv.check.worksheets.judge import Judgement, judge
from qkv.check.worksheets.sheet import read_sheet, shipped
from qkv.check.worksheets.syntax import parse

GRAPH = """given x : (n,)
given W : (m, n)
given V : (m, n)
given b : (m,)
graph
z = W @ x + b
h = sigmoid(z)
r = h * (V @ x)
J = sum(r * r)
end
"""
RIGHT = {
    "r": "2 * r",
    "h": "bar(r) * (V @ x)",
    "z": "bar(h) * h * (1 - h)",
    "b": "bar(z)",
    "W": "outer(bar(z), x)",
    "V": "outer(bar(r) * h, x)",
    "x": "W.T @ bar(z) + V.T @ (bar(r) * h)",
}


def judged(**said: str) -> Judgement:
    lines = [f"claim bar({name}) = {value}" for name, value in (RIGHT | said).items() if value]
    return judge(parse(GRAPH + "\n".join(lines)))


def kinds(found: Judgement) -> dict[str, str]:
    return {line.name[4:-1]: line.verdict.kind for line in found.lines}


def test_a_right_backward_pass():
    found = judged()
    assert set(kinds(found).values()) == {"correct"}
    assert found.notes == []
    (figure,) = found.figures.values()
    assert figure.count("<rect") >= 8  # four leaves and four steps


def test_only_the_first_wrong_one_is_wrong():
    found = judged(h="bar(r)")
    assert kinds(found) == {
        "r": "correct", "h": "wrong", "z": "carried", "b": "carried", "W": "carried", "V": "correct", "x": "carried",
    }  # fmt: skip
    first = found.first_wrong
    assert first is not None
    assert first.name == "bar(h)"


def test_two_mistakes_are_both_wrong():
    assert [name for name, kind in kinds(judged(r="r", W="outer(x, bar(z))")).items() if kind == "wrong"] == ["r", "W"]


def test_a_slip_that_was_not_carried_is_right():
    found = judged(r="r", h="2 * r * (V @ x)")
    assert kinds(found)["r"] == "wrong"
    assert kinds(found)["h"] == "correct"


@pytest.mark.parametrize(
    ("name", "said", "cause", "words"),
    [
        ("r", "r", "missing factor", "`bar(r) = 2 * r` would be right"),
        ("r", "-2 * r", "sign", "the other sign"),
        ("h", "bar(r)", "", ""),
        ("z", "bar(h)", "missing derivative", "bar(h) * (h * (1 - h))"),
        ("z", "bar(h) * (1 - h**2)", "other derivative", "h * (1 - h)"),
        ("W", "outer(x, bar(z))", "outer order swapped", "`bar(W) = outer(bar(z), x)` would be right"),
        ("x", "W @ bar(z) + V.T @ (bar(r) * h)", "transposed matrix", "W.T @ bar(z)"),
        ("x", "W.T @ bar(z)", "missing path", "x is also used by r"),
        ("x", "W.T @ bar(z) - V.T @ (bar(r) * h)", "sign", "+ V.T"),
        ("x", "W.T @ bar(z) + W.T @ bar(z) + V.T @ (bar(r) * h)", "path twice", "through z is counted twice"),
        ("b", "bar(r)", "other operand", "`bar(b) = bar(z)` would be right"),
    ],
)
def test_causes_are_verified(name: str, said: str, cause: str, words: str):
    verdict = judged(**{name: said})[f"bar({name})"]
    assert verdict.kind == "wrong"
    assert verdict.cause == cause
    assert words in verdict.explanation


def test_a_sum_for_a_mean():
    text = "given y : (n,)\ngraph\nJ = mean(y * y)\nend\nclaim bar(y) = 2 * y"
    verdict = judge(parse(text))["bar(y)"]
    assert (verdict.cause, verdict.explanation) == ("sum for mean", "`bar(y) = 2 * y / n` would be right")


def test_links_are_judged_one_by_one():
    assert judged(r="2 * r = r + r").ok
    assert judged(r="2 * r = r")["bar(r)"].kind == "wrong"


def test_what_nobody_claims_is_listed():
    assert judged(W="", b="").notes == ["Nobody claims the adjoint of W, b."]


def test_numbers_are_used_as_they_are():
    # y = (2, 4), J = 4 + 16; bar(x) = 2 * 2 * y
    text = "given x = [1, 2]\ngraph\ny = 2 * x\nJ = sum(y**2)\nend\nclaim bar(y) = 2 * y\nclaim bar(x) = [8, 16]"
    assert judge(parse(text)).ok
    assert judge(parse(text.replace("16]", "17]")))["bar(x)"].kind == "wrong"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GRAPH + "claim bar(q) = 1", "unknown node of the graph 'q'"),
        (GRAPH + "claim bar(z) = q", "unknown name 'q'"),
        (GRAPH + "claim bar(z + b) = z", "an adjoint is claimed of one name"),
        ("claim bar(z) = 1", "there is no graph above"),
        (GRAPH.replace("W : (m, n)", "W : (n, n)") + "claim bar(b) = bar(z)", r"line 6 of the graph, z = W @ x \+ b"),
        (GRAPH.replace("sum(r * r)", "r") + "claim bar(b) = bar(z)", "J, the last step, is the loss"),
        (GRAPH.replace("r = h", "z = h") + "claim bar(b) = bar(z)", "line 8 gives z another meaning"),
        ("given x : (n,)\ngraph\nend\nclaim bar(x) = 1", "there is no step in the graph"),
    ],
)
def test_what_cannot_be_judged_says_why(text: str, message: str):
    verdict = judge(parse(text)).lines[-1].verdict
    assert verdict.kind == "unusable"
    assert re.search(message, verdict.explanation), verdict.explanation


def test_a_misfit_tells_both_shapes():
    verdict = judged(W="outer(x, bar(z))")["bar(W)"]
    assert verdict.notes == ["its shape is (n, m), that of W is (m, n)."]


@pytest.mark.parametrize("name", [name for name in shipped() if name.endswith(("backward", "backward_pass"))])
def test_shipped_ones_are_right(name: str):
    found = judge(read_sheet(name)[1])
    assert found.ok
    assert found.notes == []
