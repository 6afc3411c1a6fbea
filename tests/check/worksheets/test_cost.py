import re

import pytest

from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.sheet import read_sheet
from qkv.check.worksheets.syntax import parse
from qkv.check.worksheets.verdict import Verdict

ATTENTION = "given Q, K, V : (L, D)\ngiven F, G : (L, H)\n"
HESSIAN = """given v, y1 : (n, 1)
given y2 : (m, 1)
let reverse = ((v @ v.T) @ y1) @ y2.T
let forward = v @ (v.T @ (y1 @ y2.T))
"""


def only(text: str) -> Verdict:
    """What becomes of the last claim."""
    return judge(parse(text)).lines[-1].verdict


@pytest.mark.parametrize(
    ("claim", "word", "cause"),
    [
        # (L x D)(D x L), L^2 divisions, a softmax of L^2 entries, (L x L)(L x D): L^2 D + L^2 + 3 L^2 + L^2 D.
        ("cost(softmax(Q @ K.T / sqrt(D)) @ V) = 2 * L**2 * D + 4 * L**2", "correct", ""),
        ("cost(softmax(Q @ K.T / sqrt(D)) @ V) = O(L**2 * D)", "correct", ""),
        ("cost(softmax(Q @ K.T / sqrt(D)) @ V) = O(L**2 * D**2)", "loose", "power"),
        ("cost(softmax(Q @ K.T / sqrt(D)) @ V) = O(L * D**2)", "wrong", "another size"),
        ("cost(softmax(Q @ K.T) @ V) = 2 * L**2 * D", "wrong", "products alone"),
        ("cost(softmax(Q @ K.T) @ V) = 4 * L**2 * D + 3 * L**2", "wrong", "multiplications and additions apart"),
        ("cost(F @ (G.T @ V)) = O(L * H * D)", "correct", ""),
        ("cost((F @ G.T) @ V) = O(L * H * D)", "wrong", "other brackets"),
        ("cost(F @ (G.T @ V)) = O(L**2 * (H + D))", "wrong", "other brackets"),
        ("cost((F @ G.T) @ V) = O(L**2 * D) if H <= D", "correct", ""),
        ("O(cost((F @ G.T) @ V)) = O(L**2 * D)", "wrong", "term left out"),
        ("size(Q @ K.T) = L**2 = O(L**2)", "correct", ""),
        ("size(Q) = 2 * L * D", "wrong", "factor"),
        ("params(Q, F) = L * (D + H)", "correct", ""),
        ("params(Q, F) = L * D", "wrong", "term left out"),
        ("cost(Q @ K.T) = cost(K @ Q.T)", "correct", ""),
        ("cost(Q @ K.T) / size(Q @ K.T) = D", "correct", ""),
    ],
)
def test_attention_by_hand(claim: str, word: str, cause: str):
    found = only(f"{ATTENTION}claim {claim}")
    assert (found.said, found.cause) == (word, cause)
    assert (found.kind == "correct") == (word == "correct")


@pytest.mark.parametrize(
    ("claim", "kind", "cause"),
    [
        # v v^T, then times y1: n^2 each, then n m. From the right: n m three times.
        ("cost(reverse) = 2 * n**2 + n * m = O(n**2 + n * m)", "correct", ""),
        ("cost(forward) = 3 * n * m = O(n * m)", "correct", ""),
        ("cost(forward) < cost(reverse) if m < n", "correct", ""),
        ("cost(forward) < cost(reverse) if m > n", "wrong", "other condition"),
        ("cost(forward) < cost(reverse)", "wrong", ""),
        ("cost(forward) == cost(reverse) if m == n", "correct", ""),
        ("O(cost(forward)) < O(cost(reverse)) if m > n", "wrong", "other condition"),
        ("O(cost(forward)) <= O(cost(reverse)) if m > n", "correct", ""),
        ("O(cost(forward)) < O(cost(reverse)) if m < n", "correct", ""),
        ("O(cost(forward)) > O(cost(reverse))", "wrong", ""),
        ("cost(reverse) = O(n * m) if m >= n", "correct", ""),
        ("cost(reverse) = O(n * m)", "wrong", "other brackets"),
    ],
)
def test_the_orders_of_a_hessian_product(claim: str, kind: str, cause: str):
    found = only(f"{HESSIAN}claim {claim}")
    assert (found.kind, found.cause) == (kind, cause)


def test_a_refuted_comparison_gives_the_smallest_sizes():
    # At n = 1, m = 2: 3 n m = 6 against 2 n^2 + n m = 4.
    found = only(f"{HESSIAN}claim cost(forward) < cost(reverse) if m > n")
    assert found.notes == ["3 * n * m against 2 * n**2 + n * m: at n = 1, m = 2 it is 6 against 4."]
    assert found.explanation == "it holds where m < n"


def test_the_shipped_false_conclusion_is_found_and_its_right_form_raises_no_alarm():
    _, sheet = read_sheet("forward_mode")
    found = judge(sheet)
    assert [line.verdict.kind for line in found.lines] == ["correct"] * 3 + ["wrong"]
    assert found.first_wrong is not None
    assert (found.first_wrong.name, found["wins"].cause) == ("wins", "other condition")
    assert judge(parse(sheet.text.replace("if m > n\n", "if m < n\n"))).ok
    assert not judge(parse(sheet.text.replace("if m > n\n", "if m >= n\n"))).ok
    # A slip in a count above is found too, and is then the first.
    slipped = judge(parse(sheet.text.replace("3 * n * m", "2 * n * m")))
    assert slipped.first_wrong is not None
    assert slipped.first_wrong.name == "line 13"


def test_a_loose_bound_says_how_sizes_grow_apart():
    (note,) = only(f"{ATTENTION}claim cost(Q @ K.T) = O(L**3 * D)").notes
    assert note == (
        "L**2 * D operations: O(L**3 * D) is true but loose, for with L = t and all else as it is the bound grows as "
        "t**3 and the count as t**2."
    )


def test_sizes_of_taylor_features_for_every_order():
    text = "given q : (D,)\ngiven r >= 1\n"
    assert only(f"{text}claim size(taylor(q, r + 1)) = 1 + D * size(taylor(q, r))").kind == "correct"
    assert only(f"{text}claim size(taylor(q, r)) = (D**r - 1) / (D - 1)").kind == "wrong"


def test_brackets_in_a_definition_are_found():
    text = "given X : (N, d)\ngiven A : (N, N)\ngiven W : (d, D)\nlet layer(X) = A @ X @ W\n"
    found = only(f"{text}claim cost(layer(X)) = O(N * d * D + N**2 * D)")
    assert found.cause == "other brackets"
    assert "A @ (X @ W)" in found.explanation


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("cost(Q @ K) = O(L)", r"got \(L, D\) @ \(L, D\)"),
        ("cost(Q) = O(N)", "N is no size here"),
        ("cost(grad(sum(Q), Q)) = O(L)", "depends on how the derivative is found"),
        ("cost(Q)", "one side says nothing"),
        ("cost(Q) = O(L, D)", "O is of one sum"),
        ("cost(Q) = O(log(L))", "is no size"),
        ("cost(Q) < cost(K) if L < 1", "no sizes meet the conditions"),
    ],
)
def test_refusals(claim: str, message: str):
    found = only(f"{ATTENTION}claim {claim}")
    assert found.kind == "unusable"
    assert re.search(message, found.explanation), found.explanation
