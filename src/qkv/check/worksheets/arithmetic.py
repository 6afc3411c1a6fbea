"""Operators and functions of worksheets on their numbers: exact where they can be, else float64; shapes as in NumPy.

Every function takes arrays without axes, with one or two; `axis` counts from 0 or from the end, and may be `rows` or
`queries` (0), `columns` or `keys` (-1). What a result would hold is counted before it is computed.
"""

import ast
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from qkv.check.worksheets.values import Exact, UnusableError, Value, floats, kept, objects

ENTRIES = 250_000
"""How many numbers an array may hold."""

AXES = {"rows": 0, "queries": 0, "columns": -1, "keys": -1}
"""Axes by what people call them: the queries of attention weights are rows, the keys columns."""

_EXACT_WORK, _EXACT_POWER = 200_000, 64


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape in words.

    >>> shape_text((2, 3)), shape_text((4,)), shape_text(())
    ('2 x 3', 'a vector of 4', 'a number')
    """
    if not shape:
        return "a number"
    return f"a vector of {shape[0]}" if len(shape) == 1 else " x ".join(map(str, shape))


def fits(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape`, if an array of it may be made."""
    if len(shape) > 2:
        raise UnusableError("an array with three axes", expected="numbers, vectors and matrices")
    if math.prod(shape) > ENTRIES:
        raise UnusableError(f"{shape_text(shape)} is too large", expected=f"at most {ENTRIES:,} numbers")
    if 0 in shape:
        raise UnusableError("an empty array", expected="at least one number")
    return shape


def whole(value: Value, what: str) -> int:
    """A whole number, for an axis or an index."""
    number = value.fractions()[0] if isinstance(value, Exact) and value.ndim == 0 else None
    if number is None or number.denominator != 1:
        raise UnusableError(f"{what} is no whole number")
    return int(number)


# -- operators ---------------------------------------------------------------------------------------------------------


def add(a: Value, b: Value) -> Value:
    """`a + b`."""
    _together(a, b, "+")
    if isinstance(a, Exact) and isinstance(b, Exact):
        denominator = math.lcm(a.denominator, b.denominator)
        ours, theirs = (x.numerators * (denominator // x.denominator) for x in (a, b))
        return _exact(ours + theirs, denominator)
    return _finite("+", np.add, a, b)


def subtract(a: Value, b: Value) -> Value:
    """`a - b`."""
    _together(a, b, "-")
    return add(a, negative(b))


def multiply(a: Value, b: Value) -> Value:
    """`a * b`, entry by entry."""
    _together(a, b, "*")
    if isinstance(a, Exact) and isinstance(b, Exact):
        return _exact(a.numerators * b.numerators, a.denominator * b.denominator)
    return _finite("*", np.multiply, a, b)


def divide(a: Value, b: Value) -> Value:
    """`a / b`, entry by entry."""
    _together(a, b, "/")
    if not np.all(b.numerators if isinstance(b, Exact) else b):
        raise UnusableError("division by zero")
    return multiply(a, _reciprocal(b)) if isinstance(b, Exact) else _finite("/", np.divide, a, b)


def power(a: Value, b: Value) -> Value:
    """`a ** b`, entry by entry."""
    _together(a, b, "**")
    if isinstance(a, Exact) and isinstance(b, Exact) and b.ndim == 0 and b.denominator == 1:
        exponent = int(b.numerators[()])
        if abs(exponent) <= _EXACT_POWER:
            if exponent < 0 and not np.all(a.numerators):
                raise UnusableError("division by zero, in a negative power of it")
            base = a if exponent >= 0 else _reciprocal(a)
            if isinstance(base, Exact):
                return _exact(base.numerators ** abs(exponent), base.denominator ** abs(exponent))
    return _finite("**", np.power, a, b)


def matmul(a: Value, b: Value) -> Value:
    """`a @ b`: dot products of rows and columns; a flat vector is a row on the left, a column on the right."""
    ours, theirs = a.shape, b.shape
    if not ours or not theirs:
        raise UnusableError(
            "@ of a number", expected="vectors or matrices on both sides",
            got=f"{shape_text(ours)} @ {shape_text(theirs)}", hint="*",
        )  # fmt: skip
    inner = theirs[-2] if len(theirs) == 2 else theirs[0]
    if ours[-1] != inner:
        raise UnusableError(
            f"{shape_text(ours)} @ {shape_text(theirs)} does not fit",
            expected="as many columns on the left as rows on the right",
            got=f"{ours[-1]} and {inner}",
            hint=_matmul_hint(ours, theirs),
        )
    fits(ours[:-1] + theirs[1:])
    work = math.prod(ours) * (theirs[1] if len(theirs) == 2 else 1)
    if isinstance(a, Exact) and isinstance(b, Exact) and work <= _EXACT_WORK:
        return _exact(a.numerators @ b.numerators, a.denominator * b.denominator)
    return _finite("@", np.matmul, a, b)


def negative(x: Value) -> Value:
    """`-x`."""
    return Exact(np.asarray(-x.numerators, dtype=object), x.denominator) if isinstance(x, Exact) else np.asarray(-x)


def transpose(x: Value) -> Value:
    """`x.T`; a flat vector stays what it is."""
    return _same(x, np.transpose)


OPERATORS: dict[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: add, ast.Sub: subtract, ast.Mult: multiply, ast.Div: divide, ast.Pow: power, ast.MatMult: matmul,
}  # fmt: skip


# -- functions ---------------------------------------------------------------------------------------------------------


def outer(a: Value, b: Value) -> Value:
    """The matrix of all products of two vectors."""
    for x in (a, b):
        if x.ndim != 1:
            raise UnusableError("outer takes two flat vectors", got=shape_text(x.shape), hint="@")
    fits((a.shape[0], b.shape[0]))
    return multiply(_same(a, lambda x: x[:, None]), b)


def dot(a: Value, b: Value) -> Value:
    """The dot product of two vectors."""
    if a.ndim != 1 or b.ndim != 1 or a.shape != b.shape:
        raise UnusableError(
            "dot takes two flat vectors of one length", got=f"{shape_text(a.shape)} and {shape_text(b.shape)}", hint="@"
        )
    return matmul(a, b)


def softmax(x: Value, axis: int = -1) -> np.ndarray:
    """`exp(x) / sum(exp(x))` along an axis; of rows where none is given."""
    raised = np.exp(_below_largest("softmax", x, axis))
    return raised / raised.sum(axis=axis, keepdims=True)


def log_softmax(x: Value, axis: int = -1) -> np.ndarray:
    """The logarithm of `softmax`, computed without it."""
    below = _below_largest("log_softmax", x, axis)
    return below - np.log(np.exp(below).sum(axis=axis, keepdims=True))


def _below_largest(name: str, x: Value, axis: int) -> np.ndarray:
    """Scores less the largest along an axis, which changes no softmax; -inf stands for what is hidden."""
    values = floats(x)
    _has_axis(values.shape, axis, name)
    largest = values.max(axis=axis, keepdims=True)
    if not np.isfinite(largest).all():
        raise UnusableError(f"{name} of nothing but -inf" if np.isneginf(largest).any() else f"{name} of inf")
    return values - largest


def exp(x: Value) -> np.ndarray:
    """`e ** x`."""
    return _finite("exp", np.exp, x)


def log(x: Value) -> np.ndarray:
    """The natural logarithm."""
    if not (floats(x) > 0).all():
        raise UnusableError("the logarithm of what is not positive")
    return _finite("log", np.log, x)


def sqrt(x: Value) -> Value:
    """The square root; of squares of rational numbers exactly."""
    if isinstance(x, Exact):
        if any(number < 0 for number in x.numerators.flat):
            raise UnusableError("the square root of what is negative")
        roots = [math.isqrt(number) for number in (*x.numerators.flat, x.denominator)]
        squares = [root * root for root in roots]
        if squares == [*x.numerators.flat, x.denominator]:
            return Exact(objects(roots[:-1], x.shape), roots[-1])
    elif (x < 0).any():
        raise UnusableError("the square root of what is negative")
    return _finite("sqrt", np.sqrt, x)


def sigmoid(x: Value) -> np.ndarray:
    """`1 / (1 + exp(-x))`."""
    return np.asarray(0.5 * (1 + np.tanh(floats(x) / 2)))


def relu(x: Value) -> Value:
    """`max(x, 0)`, entry by entry."""
    return _same(x, lambda array: np.maximum(array, 0))


def tanh(x: Value) -> np.ndarray:
    """The hyperbolic tangent."""
    return np.asarray(np.tanh(floats(x)))


def absolute(x: Value) -> Value:
    """`|x|`, entry by entry."""
    return _same(x, np.abs)


def total(x: Value, axis: int | None = None, keepdims: int = 0) -> Value:
    """The sum of all entries, or along an axis."""
    _has_axis(x.shape, axis, "sum")
    return _same(x, lambda array: np.sum(array, axis=axis, keepdims=bool(keepdims)))


def mean(x: Value, axis: int | None = None, keepdims: int = 0) -> Value:
    """The mean of all entries, or along an axis."""
    summed = total(x, axis, keepdims)
    count = math.prod(x.shape) if axis is None else x.shape[axis]
    return multiply(summed, Exact.of(Fraction(1, count)))


def maximum(x: Value, axis: int | None = None, keepdims: int = 0) -> Value:
    """The largest of all entries, or along an axis."""
    _has_axis(x.shape, axis, "max")
    return _same(x, lambda array: np.max(array, axis=axis, keepdims=bool(keepdims)))


def minimum(x: Value, axis: int | None = None, keepdims: int = 0) -> Value:
    """The smallest of all entries, or along an axis."""
    _has_axis(x.shape, axis, "min")
    return _same(x, lambda array: np.min(array, axis=axis, keepdims=bool(keepdims)))


def argmax(x: Value, axis: int | None = None) -> Value:
    """Where the largest stands, from 0; the first of equals."""
    _has_axis(x.shape, axis, "argmax")
    array = x.numerators if isinstance(x, Exact) else x
    return Exact(np.asarray(np.argmax(array, axis=axis), dtype=int).astype(object))


def trace(x: Value) -> Value:
    """The sum of the diagonal."""
    if x.ndim != 2:
        raise UnusableError("trace takes a matrix", got=shape_text(x.shape))
    return _same(x, np.trace)


def diag(x: Value) -> Value:
    """The matrix with a vector on its diagonal, or the diagonal of a matrix."""
    if x.ndim == 0:
        raise UnusableError("diag takes a vector or a matrix", got="a number")
    if x.ndim == 1:
        fits(x.shape * 2)
    return _same(x, np.diag)


def vec(x: Value) -> Value:
    """The columns of a matrix under one another, as a flat vector."""
    return _same(x, lambda array: array.ravel(order="F"))


def concat(*parts: Value, axis: int = 0) -> Value:
    """Arrays joined along an axis; numbers count as vectors of one."""
    if not parts:
        raise UnusableError("concat takes at least one array")
    raised = [part if part.ndim else _same(part, np.atleast_1d) for part in parts]
    shapes = ", ".join(shape_text(part.shape) for part in raised)
    if len({part.ndim for part in raised}) > 1:
        raise UnusableError("concat takes arrays with as many axes", got=shapes)
    _has_axis(raised[0].shape, axis, "concat")
    others = {part.shape[: axis % part.ndim] + part.shape[axis % part.ndim + 1 :] for part in raised}
    if len(others) > 1:
        raise UnusableError("concat takes arrays that fit along the other axis", got=shapes)
    fits((sum(math.prod(part.shape) for part in raised),))
    if all(isinstance(part, Exact) for part in raised):
        exact = [part for part in raised if isinstance(part, Exact)]
        denominator = math.lcm(*(part.denominator for part in exact))
        scaled = [part.numerators * (denominator // part.denominator) for part in exact]
        return _exact(np.concatenate(scaled, axis=axis), denominator)
    return np.concatenate([floats(part) for part in raised], axis=axis)


def ones(*sizes: Value) -> Value:
    """An array of ones."""
    return Exact(np.full(_sizes(sizes, "ones"), 1, dtype=object))


def zeros(*sizes: Value) -> Value:
    """An array of zeros."""
    return Exact(np.full(_sizes(sizes, "zeros"), 0, dtype=object))


def eye(size: Value) -> Value:
    """The identity matrix."""
    (n,) = _sizes((size,), "eye")
    fits((n, n))
    return Exact(np.eye(n, dtype=int).astype(object))


def norm(x: Value, axis: int | None = None) -> Value:
    """The square root of the sum of squares."""
    return sqrt(total(multiply(x, x), axis))


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "abs": absolute, "argmax": argmax, "concat": concat, "diag": diag, "dot": dot, "exp": exp, "eye": eye, "log": log,
    "log_softmax": log_softmax, "max": maximum, "mean": mean, "min": minimum, "norm": norm, "ones": ones,
    "outer": outer, "relu": relu, "sigmoid": sigmoid, "softmax": softmax, "sqrt": sqrt, "sum": total, "tanh": tanh,
    "trace": trace, "vec": vec, "zeros": zeros,
}  # fmt: skip
"""The functions of the language, by the names that they have there."""


# -- what they share ---------------------------------------------------------------------------------------------------


def _together(a: Value, b: Value, operator: str) -> None:
    try:
        fits(np.broadcast_shapes(a.shape, b.shape))
    except ValueError as error:
        if isinstance(error, UnusableError):
            raise
        raise UnusableError(
            f"{shape_text(a.shape)} {operator} {shape_text(b.shape)} does not fit",
            expected="one shape on both sides, or a number on one",
        ) from error


def _same(x: Value, function: Callable[[np.ndarray], np.ndarray]) -> Value:
    """A function that neither multiplies nor divides, on numerators alone."""
    if isinstance(x, Exact):
        return _exact(function(x.numerators), x.denominator)
    return np.asarray(function(x))


def _exact(numerators: np.ndarray | int, denominator: int) -> Value:
    return kept(Exact(np.asarray(numerators, dtype=object), denominator))


def _reciprocal(x: Exact) -> Value:
    common = math.lcm(*x.numerators.flat)
    turned = [x.denominator * (common // number) for number in x.numerators.flat]
    return kept(Exact(objects(turned, x.shape), common))


def _finite(what: str, function: Callable[..., np.ndarray], *values: Value) -> np.ndarray:
    """A function on float64; what is no number, or past the range without an infinity having gone in, is refused."""
    arrays = [floats(value) for value in values]
    with np.errstate(all="ignore"):
        result = np.asarray(function(*arrays))
    if np.isnan(result).any() or (np.isinf(result).any() and all(np.isfinite(array).all() for array in arrays)):
        raise UnusableError(f"{what} gives what is no number here", hint="smaller numbers")
    return result


def _has_axis(shape: tuple[int, ...], axis: int | None, name: str) -> None:
    if (axis is None and name not in ("softmax", "log_softmax")) or -len(shape) <= (axis or 0) < len(shape):
        return
    raise UnusableError(f"{name} has no axis {axis} of {shape_text(shape)}", hint="axis=0 or axis=-1")


def _sizes(sizes: tuple[Value, ...], name: str) -> tuple[int, ...]:
    whole_ones = tuple(whole(size, f"a size of {name}") for size in sizes)
    if not whole_ones or any(size < 1 for size in whole_ones):
        raise UnusableError(f"{name} takes sizes from 1 on")
    return fits(whole_ones)


def _matmul_hint(ours: tuple[int, ...], theirs: tuple[int, ...]) -> str:
    if len(theirs) == 2 and ours[-1] == theirs[1]:
        return "the transpose of the right side, .T"
    if len(ours) == 2 and ours[0] == (theirs[-2] if len(theirs) == 2 else theirs[0]):
        return "the transpose of the left side, .T"
    return ""
