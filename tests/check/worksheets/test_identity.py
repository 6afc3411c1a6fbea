import ast
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.check.worksheets.algebra import Setting, Symbol
from qkv.check.worksheets.identity import TOLERANCE, Identities
from qkv.check.worksheets.instances import Instance, Tensors
from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.syntax import parse
from qkv.check.worksheets.verdict import Verdict

GLOVE = "given W, Wt : (V, d)\ngiven X : (V, V)\nlet R = W @ Wt.T - X\nlet L = sum(R**2)\n"
SYMMETRIC = "given W : (V, d)\ngiven X : {}\nlet R = W @ W.T - X\nlet L = sum(R**2)\n"
QUADRATIC = "given v, x, y : {}\nlet L(x) = dot(v, x)**2 / 2\n"
LAYER = "given X : (n, d)\ngiven A, B : (d, k)\nlet attention(X) = softmax((X @ A) @ (X @ B).T) @ X\n"


def only(text: str) -> Verdict:
    """What becomes of the last claim."""
    return judge(parse(text)).lines[-1].verdict


@pytest.mark.parametrize(
    "text",
    [
        f"{GLOVE}claim grad(L, W) = 2 * R @ Wt",
        f"{GLOVE}claim grad(L, Wt) = 2 * R.T @ W",
        f"{SYMMETRIC.format('(V, V)')}claim grad(L, W) = 2 * (R + R.T) @ W",
        f"{SYMMETRIC.format('symmetric(V)')}claim grad(L, W) = 4 * R @ W",
        f"{QUADRATIC.format('(n,)')}claim grad(L, x) = v * dot(v, x)",
        f"{QUADRATIC.format('(n,)')}claim hessian(L, x) = outer(v, v)",
        f"{QUADRATIC.format('(n,)')}claim hvp(L, x, y) = v * (v.T @ y)",
        f"{QUADRATIC.format('(n, 1)')}claim hessian(L, x) = v @ v.T",
        f"{QUADRATIC.format('(n, 1)')}claim hvp(L, x, y) = v * (v.T @ y)",
        f"{LAYER}claim attention(P @ X) = P @ attention(X) for permutation P",
        "given q, k : (D,)\ngiven phi(x) = concat(1, x, vec(outer(x, x)) / sqrt(2))\n"
        "claim dot(phi(q), phi(k)) = 1 + q @ k + (q @ k)**2 / 2",
        "given y : (n,)\nclaim jacobian(softmax(y), y) = diag(softmax(y)) - outer(softmax(y), softmax(y))",
        "given x : positive(n)\nclaim grad(sum(log(x)), x) = 1 / x",
        "given x, y : (n,)\nclaim exp(log(x) + log(y)) = x * y",  # drawn again from positive numbers
        "given Q : orthogonal(n)\ngiven v : (n,)\nclaim norm(Q @ v) = norm(v)",
        "given x, y : (n,)\nclaim grad(dot(grad(sum(x**3), x), y), x) = 6 * x * y",  # of a gradient
        "given A : (n, m)\ngiven m <= n\nclaim A @ A.T = (A @ A.T).T",
        "given x : (n,)\ngiven c : scalar\nclaim sum(c * x) = c * sum(x)",
        "given x : (n,)\nclaim grad(sum(relu(x)), x) = step(x)",
        "given A : (n, m)\nclaim mean(A) = sum(A) / (n * m)",
    ],
)
def test_what_holds_is_supported(text: str):
    found = only(text)
    assert (found.kind, found.said) == ("correct", "supported")
    assert found.facts["instances"] >= 8
    assert found.facts["deviation"] <= TOLERANCE


@pytest.mark.parametrize(
    ("text", "cause", "counterexample"),
    [
        # (W Wt^T - X) at W = 0, Wt = 1, X = -1 is 1, its gradient 2, not 1: the smallest sizes, the smallest entries.
        (f"{GLOVE}claim grad(L, W) = R @ Wt", "factor", r"V = 1, d = 1, W = \[\[0\]\], Wt = \[\[1\]\]"),
        (f"{GLOVE}claim grad(L, W) = 2 * R.T @ Wt", "transposed operand", r"V = 2, d = 1"),
        (f"{SYMMETRIC.format('(V, V)')}claim grad(L, W) = 4 * R @ W", "only for symmetric X", "V = 2, d = 1"),
        (f"{QUADRATIC.format('(n,)')}claim hessian(L, x) = outer(v, x)", "another operand", "n = 1"),
        (f"{QUADRATIC.format('(n,)')}claim grad(L, x) = -v * dot(v, x)", "sign", "n = 1"),
        (f"{LAYER}claim attention(P @ X) = attention(X) for permutation P", "factor left out", "n = 2, d = 1, k = 1"),
        ("given A, B : (n, n)\nclaim A @ B = B @ A", "operands swapped", "n = 2"),
        ("given A : (n, n)\nclaim softmax(A, axis=0) = softmax(A)", "other axis", "n = 2"),
        ("given A : (n, m)\nclaim mean(A) = sum(A)", "mean", "n = 1, m = 2|n = 2, m = 1"),
        ("given x, y : (n,)\nclaim (x + y)**2 = x**2 + y**2", "term left out", "n = 1"),
        (
            "given q, k : (D,)\ngiven phi(x) = concat(1, x, vec(outer(x, x)))\n"
            "claim dot(phi(q), phi(k)) = 1 + q @ k + (q @ k)**2 / 2",
            "scaled",
            "D = 1, q = .1., k = .1.",
        ),
    ],
)
def test_what_does_not_is_refuted_by_a_small_counterexample(text: str, cause: str, counterexample: str):
    found = only(text)
    assert (found.kind, found.said, found.cause) == ("wrong", "refuted", cause)
    assert re.search(f"smallest counterexample found: {counterexample}", found.notes[0])
    assert found.entries


def test_the_entries_of_a_counterexample_are_named():
    # A @ B and B @ A at the smallest n and entries: one entry differs, by 1.
    (entry, *_) = only("given A, B : (n, n)\nclaim A @ B = B @ A").entries
    assert sorted((entry.claimed, entry.value)) in ([0.0, 1.0], [-1.0, 0.0])


def test_a_wrong_definition_is_named_where_the_claim_is_right():
    text = "given x : (n,)\nlet f(x) = sum(x**3)\nclaim grad(f, x) = 2 * x"
    found = only(text)
    assert found.cause in ("power", "another operand")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{GLOVE}claim grad(L, W) = 2 * R @ Wt.T", r"\(V, V\) @ \(d, V\).*2 \* R @ Wt"),
        (f"{GLOVE}claim grad(L, W) = (2 * R @ Wt).T", r"other shapes.*\(V, d\) and \(d, V\)"),
        ("given v, x : (n,)\nclaim hessian(sum(v * x), x) = v @ v.T", r"outer\(v, v\)"),
        ("given x : (n,)\nclaim grad(x, x) = 1", "of a single number"),
        ("given X : (n, d)\nclaim P @ X @ P = X for permutation P", "shapes do not fit"),
        ("given x : (n, 0)\nclaim x = x", "whole number above zero|no sizes|neither"),
        ("given x : (n,)\nclaim log(-exp(x)) = x", "neither side has a value"),
    ],
)
def test_refusals(text: str, message: str):
    found = only(text)
    assert found.kind == "unusable", found
    assert re.search(message, found.explanation), found.explanation


def test_sizes_meet_the_conditions():
    setting = Setting({"A": Symbol((ast.Name("n"), ast.Name("m")))}, conditions=[ast.parse("n < m", mode="eval").body])
    comparison = Identities(setting).compare(ast.Name("A"), ast.Name("A"))
    assert all(sizes["n"] < sizes["m"] for sizes in comparison.sizes)
    assert len(comparison.sizes) == 5


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_products_with_a_hessian_are_those_of_its_columns(seed: int):
    setting = Setting({name: Symbol((ast.Name("n"),)) for name in "xy"})
    read = lambda text: ast.parse(text, mode="eval").body  # noqa: E731
    generator = torch.Generator().manual_seed(seed)
    at = Instance({"n": 3}, {name: torch.randn(3, generator=generator, dtype=torch.float64) for name in "xy"})
    tensors = Tensors(setting, at)
    loss = "sum(tanh(x)**2) * sum(x)"
    whole = tensors.evaluate(read(f"hessian({loss}, x) @ y"))
    torch.testing.assert_close(tensors.evaluate(read(f"hvp({loss}, x, y)")), whole)
    torch.testing.assert_close(whole, tensors.evaluate(read(f"jacobian(grad({loss}, x), x) @ y")))
