import ast

import pytest

from qkv.check.worksheets.algebra import Definition, Setting, Symbol
from qkv.check.worksheets.orders import polynomial, written
from qkv.check.worksheets.shapes import Shapes
from qkv.errors import InputError


def read(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


SETTING = Setting(
    {
        name: Symbol(tuple(map(read, shape)))
        for name, shape in {"A": "nm", "B": "mk", "S": "nn", "v": "n", "w": "m", "c": ("n", "1")}.items()
    },
    {"X": [[1.0, 2.0], [3.0, 4.0]]},
    {"R": Definition((), read("A @ B")), "f": Definition(("x",), read("exp(x) / sum(exp(x))"))},
)


@pytest.mark.parametrize(
    ("text", "shape", "operations"),
    [
        ("A @ B", "(n, k)", "n * m * k"),
        ("A @ w", "(n,)", "n * m"),
        ("v @ A", "(m,)", "n * m"),
        ("v @ v", "a number", "n"),
        ("A.T", "(m, n)", "0"),
        ("A + 1", "(n, m)", "n * m"),
        ("A / sqrt(m)", "(n, m)", "n * m"),  # the root of a size is not counted
        ("S + c", "(n, n)", "n**2"),
        ("A + w", "(n, m)", "n * m"),
        ("softmax(S)", "(n, n)", "3 * n**2"),
        ("sum(A, axis=1)", "(n,)", "n * m"),
        ("sum(A, axis=0, keepdims=1)", "(1, m)", "n * m"),
        ("mean(A)", "a number", "n * m"),
        ("max(A, axis=columns)", "(n,)", "n * m"),
        ("outer(v, w)", "(n, m)", "n * m"),
        ("dot(v, v)", "a number", "n"),
        ("trace(S)", "a number", "n"),
        ("diag(v)", "(n, n)", "0"),
        ("diag(S)", "(n,)", "0"),
        ("vec(A)", "(m * n,)", "0"),
        ("concat(v, w)", "(m + n,)", "0"),
        ("concat(1, v)", "(n + 1,)", "0"),
        ("concat(A, A, axis=1)", "(n, 2 * m)", "0"),
        ("ones(n, 2)", "(n, 2)", "0"),
        ("eye(m)", "(m, m)", "0"),
        ("A[0]", "(m,)", "0"),
        ("A[:, 1:]", "(n, m - 1)", "0"),
        ("A[:-1]", "(n - 1, m)", "0"),
        ("taylor(v, 2)", "(n**2 + n + 1,)", "n**2 + n + 1"),
        ("[v, v]", "(2, n)", "0"),
        ("X @ X", "(2, 2)", "8"),
        ("R + R", "(n, k)", "n * m * k + n * k"),  # what has a name is computed once
        ("f(v + v)", "(n,)", "5 * n"),  # as is what a function is called with: n, twice the exponential, a sum, n
        ("grad(sum(A**2), A)", "(n, m)", None),
        ("jacobian(A @ w, w)", "(n, m)", None),
        ("hessian(v @ v, v)", "(n, n)", None),
        ("hessian(sum(c * c), c)", "(n, n)", None),
        ("hvp(v @ v, v, v)", "(n,)", None),
    ],
)
def test_shapes_and_operations_by_hand(text: str, shape: str, operations: str | None):
    shapes = Shapes(SETTING)
    assert str(shapes.evaluate(read(text))) == shape
    if operations is None:
        assert shapes.derived
    else:
        assert (shapes.operations - polynomial(read(operations))).expand() == 0, written(shapes.operations)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A @ A", r"shapes do not fit in a product.*got \(n, m\) @ \(n, m\)"),
        ("A + B", r"do not fit entry by entry.*\(n, m\) and \(m, k\)"),
        ("v @ v.T", r"a number, not a matrix.*outer\(v, v\)"),
        ("dot(v, w)", "do not fit in dot"),
        ("concat(A, B)", "do not fit in concat"),
        ("sum(A, axis=2)", "no axis 2"),
        ("A[0, 0, 0]", "too many indices"),
        ("ones(v)", "takes sizes"),
        ("outer(v)", "another number of arguments"),
        ("grad(A, A)", "of a single number"),
        ("grad(sum(A), 2)", "grad is by a name"),
        ("hvp(v @ v, v, w)", "along a vector of the shape"),
        ("f(v, w)", "called with other arguments"),
        ("f", "f is a function"),
        ("Q @ A", "unknown name 'Q'"),
        ("sofmax(A)", "unknown function 'sofmax'.*softmax"),
        ("A @ 2", "between vectors and matrices"),
        ("[v, w @ w]", "rows of a list differ"),
        ("A if v else w", "cannot be used here"),
    ],
)
def test_refusals(text: str, message: str):
    with pytest.raises(InputError, match=message):
        Shapes(SETTING).evaluate(read(text))


def test_definitions_without_an_end_are_refused():
    with pytest.raises(InputError, match="without an end"):
        Shapes(Setting(definitions={"a": Definition((), read("a + 1"))})).evaluate(read("a"))
