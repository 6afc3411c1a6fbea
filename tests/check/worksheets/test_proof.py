import ast
import re

import pytest

from qkv.check.worksheets.algebra import Definition, Setting, Symbol
from qkv.check.worksheets.forms import RULES, Forms, Rules
from qkv.check.worksheets.identity import Identities
from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.proof import proof
from qkv.check.worksheets.syntax import parse
from qkv.check.worksheets.verdict import Verdict


def read(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def symbol(shape: str, kind: str = "") -> Symbol:
    return Symbol(tuple(read(size) for size in shape.split()), kind)


SETTING = Setting(
    {
        "A": symbol("n n"),
        "B": symbol("n n"),
        "G": symbol("m n"),
        "v": symbol("n"),
        "w": symbol("n"),
        "u": symbol("n 1"),
        "c": symbol(""),
        "M": symbol("n n", "symmetric"),
        "P": symbol("n n", "permutation"),
        "Q": symbol("n n", "orthogonal"),
    },
    definitions={"f": Definition(("x",), read("softmax(x @ x.T / sqrt(n)) @ x"))},
)

PROVED = {
    ("A @ (B @ A)", "(A @ B) @ A"): ["associativity"],
    ("(A + B) @ A", "A @ A + B @ A"): ["distributivity"],
    ("(A - B) @ (A + B)", "A @ A + A @ B - B @ A - B @ B"): ["distributivity"],
    ("(A @ B).T", "B.T @ A.T"): ["transpose"],
    ("M.T @ A", "M @ A"): [],
    ("P @ P.T @ A", "A"): ["permutation"],
    ("Q.T @ (Q @ A)", "A"): ["associativity", "orthogonality"],
    ("softmax(P @ A @ P.T)", "P @ softmax(A) @ P.T"): ["equivariance"],
    ("softmax(P @ A @ P.T, axis=0)", "P @ softmax(A, axis=0) @ P.T"): ["transpose", "equivariance"],
    ("relu(P @ A @ G.T)", "P @ relu(A @ G.T)"): ["equivariance"],
    ("relu(P @ A @ P.T + eye(n))", "P @ relu(A + eye(n)) @ P.T"): ["equivariance"],
    ("(P @ A) * (P @ B)", "P @ (B * A)"): ["equivariance"],
    ("diag(P @ v)", "P @ diag(v) @ P.T"): ["equivariance"],
    ("tanh(P @ A + v)", "P @ tanh(A + v)"): ["equivariance"],
    ("(relu(A) * B).T", "B.T * relu(A.T)"): [],
    ("sum(P @ A, axis=0)", "sum(A, axis=0)"): ["associativity", "ones"],
    ("mean(P @ v)", "mean(v)"): ["associativity", "ones"],
    ("sum(softmax(A), axis=1)", "ones(n)"): ["rows"],
    ("sum(softmax(v))", "1"): ["rows"],
    ("softmax(A + u)", "softmax(A)"): ["shift"],
    ("softmax(v + c)", "softmax(v)"): ["shift"],
    ("trace(A @ B)", "trace(B @ A)"): ["trace"],
    ("trace(P @ A @ P.T)", "trace(A)"): ["permutation", "trace"],
    ("outer(v, v) @ w", "v * dot(v, w)"): ["associativity"],
    ("(u @ u.T) @ u", "u @ (u.T @ u)"): ["associativity"],
    ("(v @ w + 1)**2", "1 + 2 * dot(v, w) + (w @ v)**2"): ["distributivity"],
    ("v @ A", "A.T @ v"): [],
    ("A / sqrt(n) @ B", "A @ B / sqrt(n)"): [],
    ("A / sum(A)", "A * (1 / sum(A))"): [],
    ("f(P @ A)", "P @ f(A)"): ["definition", "associativity", "transpose", "permutation", "equivariance"],
}

NOT_PROVED = [
    ("A @ B", "B @ A"),
    ("softmax(P @ A)", "softmax(A)"),
    ("softmax(Q @ A)", "Q @ softmax(A)"),  # of permutations alone
    ("softmax(A + v)", "softmax(A)"),  # what is added along a row is not the same for all of it
    ("log_softmax(A) @ ones(n, 1)", "ones(n, 1)"),
    ("softmax(A, axis=0) @ ones(n, 1)", "ones(n, 1)"),
    ("f(A)", "f(P @ A)"),
    ("(A @ B).T", "A.T @ B.T"),
    ("sum(Q @ v)", "sum(v)"),
    ("relu(A + B)", "relu(A) + relu(B)"),
    ("A @ A - B @ B", "(A - B) @ (A + B)"),
    ("trace(A @ B)", "trace(A @ B.T)"),
    ("2 * A", "A"),
]


@pytest.mark.parametrize(("left", "right"), PROVED)
def test_what_rules_prove_and_which_they_are(left: str, right: str):
    assert proof(SETTING, read(left), read(right)) == PROVED[left, right]


@pytest.mark.parametrize(("left", "right"), PROVED)
def test_what_is_proved_holds_in_random_instances(left: str, right: str):
    assert Identities(SETTING.limited(read(left), read(right))).compare(read(left), read(right)).agrees


@pytest.mark.parametrize(("left", "right"), NOT_PROVED)
def test_what_is_false_is_not_proved(left: str, right: str):
    assert proof(SETTING, read(left), read(right)) is None
    assert not Identities(SETTING.limited(read(left), read(right))).compare(read(left), read(right)).agrees


@pytest.mark.parametrize("name", [name for name in RULES if name != "definition"])
def test_no_rule_can_be_left_out(name: str):
    needed = [sides for sides, rules in PROVED.items() if name in rules]
    assert needed
    for left, right in needed:
        forms = [Forms(SETTING, Rules(frozenset({name}))).evaluate(read(side)).terms for side in (left, right)]
        assert forms[0] != forms[1], (left, right)


# -- chains in worksheets --------------------------------------------------------------------------------------------

ATTENTION = """given X : (n, d)
given A, B, C : (d, k)
let attention(X) = softmax((X @ A) @ (X @ B).T / sqrt(k)) @ (X @ C)
"""
CHAIN = """claim attention(P @ X) = softmax(P @ (X @ A) @ (X @ B).T @ P.T / sqrt(k)) @ P @ (X @ C)
  = P @ softmax((X @ A) @ (X @ B).T / sqrt(k)) @ {} @ P @ (X @ C)
  = P @ attention(X) for permutation P"""


def only(text: str) -> Verdict:
    """What becomes of the last claim."""
    return judge(parse(text)).lines[-1].verdict


def test_a_chain_is_proved_link_by_link():
    found = only(ATTENTION + CHAIN.format("P.T"))
    assert (found.kind, found.said, found.facts["links"]) == ("correct", "proved", 3)
    assert "P.T P = I" in found.explanation
    assert [": proved" in note for note in found.notes] == [True] * 3


def test_the_link_that_fails_is_named_with_a_counterexample():
    found = only(ATTENTION + CHAIN.format("P"))
    assert (found.kind, found.said) == ("wrong", "refuted")
    assert "Link 2 of 3 does not hold" in found.notes[0]
    assert "smallest counterexample found: n = 3" in found.notes[0]  # P P is I for one or two tokens
    assert found.cause == "transposed operand"


def test_a_link_without_a_rule_is_supported():
    found = only("given x : positive(n)\nclaim exp(log(x) + log(x)) = x * x = x**2 by definition")
    assert (found.kind, found.said) == ("correct", "supported")
    assert found.explanation.startswith("1 of 2 links are proved, and no rule reaches the rest; it holds in 20")


def test_one_equation_is_proved_where_a_lemma_is_named():
    text = "given S : (n, n)\nclaim softmax(P @ S @ P.T) = P @ softmax(S) @ P.T{} for permutation P"
    assert only(text.format("")).said == "supported"
    assert only(text.format(" by equivariance")).said == "proved"
    (note,) = only(text.format(" by associativity")).notes
    assert note == "It does without (A B) C = A (B C)."


def test_derivatives_are_beyond_the_rules():
    found = only("given x : (n,)\nclaim grad(sum(x**2), x) = 2 * x by definition")
    assert found.said == "supported"
    assert re.match("No rule reaches it", found.explanation)


def test_long_products_of_sums_are_not_multiplied_out():
    factors = " @ ".join(["(A + B)"] * 10)
    found = only(f"given A, B : (n, n)\nclaim {factors} = {factors} + 0 * A by associativity")
    assert found.said in ("proved", "supported")
