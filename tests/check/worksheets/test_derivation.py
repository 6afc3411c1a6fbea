"""Adjoints derived by rule: short forms, and every operation held to autograd."""

import ast

import pytest

from qkv.check.worksheets.adjoint import problem_of
from qkv.check.worksheets.derivation import derivation
from qkv.check.worksheets.judge import judge, taken
from qkv.check.worksheets.sheet import read_sheet
from qkv.check.worksheets.syntax import Graph, parse
from qkv.check.worksheets.verdict import Scope
from qkv.errors import InputError


def derived(text: str) -> dict[str, str]:
    """The last form of every adjoint; each was held to autograd on the way."""
    scope = Scope()
    sheet = parse(text)
    for statement in sheet.statements:
        taken(statement, scope)
    found = derivation(problem_of(scope.graphs[-1], scope))
    return {one.name: ast.unparse(one.links[-1]) for one in found}


GIVEN = "given x, y : (n,)\ngiven A : (m, n)\ngiven B : (n, m)\ngiven u : (m,)\ngiven s : scalar\ngraph\n"


@pytest.mark.parametrize(
    "loss",
    [
        "sum(A @ B)", "x @ B @ u", "dot(x, y) * s", "sum(outer(u, x) * A)", "sum((A @ B).T)", "sum(A.T * B)",
        "sum(A / (1 + B.T**2))", "sum(sigmoid(A) * tanh(B.T))", "sum(exp(x) * relu(y))", "sum(log(1 + x**2))",
        "sqrt(1 + dot(x, x))", "norm(x) * norm(A)", "trace(A @ B)", "sum(diag(x) @ B)", "sum(diag(A @ B))",
        "dot(softmax(x), y)", "sum(softmax(A) * B.T)", "sum(softmax(A, axis=0) * B.T)", "dot(log_softmax(x), y)",
        "sum(log_softmax(A) * B.T)", "dot(concat(x, u, y), concat(y, u, x))", "mean(A**3)", "sum(mean(A, axis=0) * x)",
        "sum(mean(A, axis=1) * u)", "sum(s * A)", "sum(A + x)", "sum((A - x) * A)", "sum(A / s) - s**3", "sum(-A @ x)",
        "sum(u @ A)", "sum(n * x) / m",
    ],
)  # fmt: skip
def test_every_rule_agrees_with_autograd(loss: str):
    assert derived(f"{GIVEN}J = {loss}\nend")


def test_short_forms():
    text = "given t : onehot(m)\ngiven y : (m,)\ngraph\np = softmax(y)\nJ = -t @ log(p)\nend"
    assert derived(text)["y"] == "p - t"
    assert derived(text.replace("onehot(m)", "(m,)"))["y"] == "p * sum(t) - t"
    rows = "given T : onehot(n, m)\ngiven Y : (n, m)\ngraph\nP = softmax(Y)\nJ = -sum(T * log(P)) / n\nend"
    assert derived(rows)["Y"] == "(P - T) / n"


def test_like_terms_are_taken_together():
    assert derived(GIVEN + "e = x - y\nJ = sum(e * e) / 2\nend")["e"] == "e"


def test_functions_of_the_sheet_are_seen_through():
    assert derived("let f(z) = tanh(z) * 2\n" + GIVEN + "J = sum(f(x))\nend")["x"] == "2 * (1 - tanh(x) ** 2)"


def test_what_is_not_used_has_no_slope():
    assert derived(GIVEN + "z = 2 * x\nJ = sum(y)\nend")["z"] == "0 * ones(n)"


def test_the_shipped_pass_comes_out_as_it_is_claimed():
    scope, sheet = Scope(), read_sheet("backward_pass")[1]
    for statement in sheet.statements[:9]:
        taken(statement, scope)
    assert isinstance(sheet.statements[8], Graph)
    lines = [f"claim {one}" for one in derivation(problem_of(scope.graphs[0], scope))]
    head = sheet.text.split("claim bar(p)")[0]
    assert judge(parse(head + "\n".join(lines)), seconds=float("inf")).ok


@pytest.mark.parametrize("step", ["max(x)", "x[0]", "sum(x**y)"])
def test_operations_without_a_rule_are_named(step: str):
    with pytest.raises(InputError, match="there is no rule for the adjoint"):
        derived(f"{GIVEN}J = {step}\nend")
