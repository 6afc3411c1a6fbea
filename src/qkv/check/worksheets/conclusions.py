"""What a person concludes from a map: the strongest and the second key of a query, orders, comparisons.

`strongest(A, row 1) = 3` says that the largest entry of row 1 is its third, `second(A, row 1) = 2` that the next is its
second, `weakest`, and `order(A, row 1) = [3, 2, 1]`, the largest first; all count from 1. Without a row, a list with
one for each row. Of equal entries either may be named.
"""

import ast
from collections.abc import Callable, Sequence

import numpy as np

from qkv.check.worksheets.arithmetic import shape_text, whole
from qkv.check.worksheets.evaluate import Evaluator, line
from qkv.check.worksheets.expressions import calls
from qkv.check.worksheets.syntax import Claim
from qkv.check.worksheets.values import Exact, UnusableError, Value, floats
from qkv.check.worksheets.verdict import Lane, Scope, Verdict
from qkv.types import Entry

CONCLUSIONS = frozenset({"order", "second", "strongest", "weakest"})
"""The functions that only stand in conclusions."""

_LANES: tuple[Lane, ...] = ("claimed", "followed")
_SAME = 1e-12


def judge(claim: Claim, scope: Scope) -> Verdict | None:
    """Judges comparisons and orders of numbers; None for other claims."""
    if claim.over or claim.condition:
        return None
    compares = len(claim.links) == 1 and isinstance(claim.links[0], (ast.Compare, ast.BoolOp, ast.UnaryOp))
    if compares and scope.numeric(claim.links[0]):
        return _statement(claim.links[0], scope)
    concluded = [link for link in claim.links if calls(link) & CONCLUSIONS]
    if not concluded:
        return None
    call, others = concluded[0], [link for link in claim.links if link is not concluded[0]]
    outermost = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CONCLUSIONS
    if not isinstance(call, ast.Call) or not outermost or len(others) != 1:
        raise UnusableError(
            f"{', '.join(sorted(calls(call) & CONCLUSIONS))} stands alone on one side", hint="strongest(A, row 1) = 3"
        )
    return _ranking(call, others[0], scope)


def _statement(node: ast.expr, scope: Scope) -> Verdict:
    """A comparison, or several with `and`, `or`, `not` between them."""
    if _true(node, scope.evaluator()):
        return Verdict("correct")
    told = [f"{ast.unparse(part)} is {_number(scope.evaluator()(part))}" for part in _sides(node)]
    return _other_lanes(node, lambda lane: _true(node, scope.evaluator(lane)), scope, notes=[f"{', '.join(told)}."])


def _other_lanes(
    node: ast.expr,
    holds: Callable[[Lane], bool],
    scope: Scope,
    notes: Sequence[str] = (),
    entries: Sequence[Entry] = (),
    cause: tuple[str, str] = ("", ""),
) -> Verdict:
    """What is not true: carried, off by rounding, or wrong."""
    mistaken = any(known.kind in ("wrong", "carried") for known in scope.used(node).values())
    if any(holds(lane) for lane in _LANES):
        return Verdict("carried" if mistaken else "rounding", notes=notes)
    return Verdict("wrong", entries, *cause, notes=notes)


def _true(node: ast.expr, evaluate: Evaluator) -> bool:
    match node:
        case ast.BoolOp(op=ast.And()):
            return all(_true(part, evaluate) for part in node.values)
        case ast.BoolOp():
            return any(_true(part, evaluate) for part in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _true(node.operand, evaluate)
        case ast.Compare():
            sides = [floats(evaluate(side)) for side in (node.left, *node.comparators)]
            return all(_compared(op, *pair) for op, *pair in zip(node.ops, sides, sides[1:], strict=False))
    raise UnusableError(f"{ast.unparse(node)} is neither true nor false", expected="a comparison")


def _compared(operator: ast.cmpop, left: np.ndarray, right: np.ndarray) -> bool:
    """Whether a comparison holds for all entries; what differs by rounding in float64 is equal."""
    try:
        left, right = np.broadcast_arrays(left, right)
    except ValueError as error:
        raise UnusableError(
            "a comparison of shapes that do not fit", got=f"{shape_text(left.shape)} and {shape_text(right.shape)}"
        ) from error
    same = (left == right) | np.isclose(left, right, rtol=_SAME, atol=_SAME)
    match operator:
        case ast.Eq():
            held = same
        case ast.NotEq():
            held = ~same
        case ast.Lt():
            held = (left < right) & ~same
        case ast.LtE():
            held = (left < right) | same
        case ast.Gt():
            held = (left > right) & ~same
        case _:
            held = (left > right) | same
    return bool(held.all())


def _sides(node: ast.expr) -> list[ast.expr]:
    """What is compared and is not written down as a number."""
    sides = [
        side for part in ast.walk(node) if isinstance(part, ast.Compare) for side in (part.left, *part.comparators)
    ]
    return [side for side in sides if not isinstance(side, ast.Constant)][:4]


def _number(value: Value) -> str:
    array = floats(value)
    return f"{float(array):.4g}" if array.ndim == 0 else shape_text(array.shape)


# -- rankings ----------------------------------------------------------------------------------------------------------


def _ranking(call: ast.Call, other: ast.expr, scope: Scope) -> Verdict:
    """Which entry is the strongest, the second, the weakest; or all in their order."""
    name = ast.unparse(call.func)
    true, named = _rows(call, scope, "true"), _named(name, other, scope)
    if true.shape[:1] != named.shape[:1]:
        raise UnusableError(
            f"{name} of {len(true)} rows",
            expected=f"{len(true)} answers",
            got=str(len(named)),
            hint=f"{name}(A, row 1) = 3",
        )
    if named.min() < 1 or named.max() > true.shape[1]:
        raise UnusableError(f"{name} counts from 1", expected=f"1 to {true.shape[1]}", got=_spelled(named))
    if not _wrong(name, true, named):
        return Verdict("correct", notes=_ties(name, true, named))
    answers = _answers(name, true)
    entries = [
        Entry((row, column), float(named[row, column]), float(answers[row, column]), 1.0)
        for row in _wrong(name, true, named)
        for column in range(named.shape[1])
        if named[row, column] != answers[row, column]
    ]
    return _other_lanes(
        call,
        lambda lane: not _wrong(name, _rows(call, scope, lane), named),
        scope,
        entries=entries,
        cause=_cause(name, true, named),
    )


def _rows(call: ast.Call, scope: Scope, lane: Lane) -> np.ndarray:
    """The rows that are ranked: all of a matrix, or the row or column that is named."""
    words = {word.arg: word.value for word in call.keywords}
    if len(call.args) != 1 or not words.keys() <= {"row", "column"} or len(words) > 1:
        name = ast.unparse(call.func)
        raise UnusableError(f"{name} takes a matrix and a row or column", hint=f"{name}(A, row 1) = 3")
    value = scope.evaluator(lane)(call.args[0])
    for word, place in words.items():
        value = line(value, str(word), whole(scope.evaluator()(place), str(word)))
    return np.atleast_2d(floats(value))


def _named(name: str, node: ast.expr, scope: Scope) -> np.ndarray:
    """The places that are claimed, one row for each row that is judged."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in CONCLUSIONS:
        return _answers(ast.unparse(node.func), _rows(node, scope, "true"))
    value = scope.evaluator()(node)
    if not isinstance(value, Exact) or value.denominator != 1:
        raise UnusableError(f"{name} is a place, counted from 1", got=ast.unparse(node))
    places = value.numerators.astype(int)
    if name == "order":
        return np.atleast_2d(places)
    return places.reshape(-1, 1)


def _answers(name: str, rows: np.ndarray) -> np.ndarray:
    order = np.argsort(-rows, axis=1, kind="stable") + 1
    if name == "order":
        return order
    place = {"strongest": 0, "second": min(1, rows.shape[1] - 1), "weakest": -1}[name]
    return order[:, place : place + 1 or None]


def _wrong(name: str, rows: np.ndarray, named: np.ndarray) -> list[int]:
    """The rows for which the answers are wrong: what is named must be as large as the answer, and no place twice."""
    right = np.take_along_axis(rows, _answers(name, rows) - 1, axis=1)
    ours = np.take_along_axis(rows, named - 1, axis=1) if right.shape == named.shape else np.full(right.shape, np.nan)
    same = np.isclose(ours, right, rtol=_SAME, atol=_SAME).all(axis=1)
    distinct = np.array([len(set(row)) == len(row) for row in named.tolist()])
    return np.flatnonzero(~(same & distinct)).tolist()


def _ties(name: str, rows: np.ndarray, named: np.ndarray) -> list[str]:
    tied = bool((_answers(name, rows) != named).any())
    return ["It is as large as another, so either may be named."] if tied else []


def _cause(name: str, rows: np.ndarray, named: np.ndarray) -> tuple[str, str]:
    """Why another place was named, where that can be shown."""
    if named.max() < rows.shape[1] and not _wrong(name, rows, named + 1):
        return "counted from 0", "places count from 1 in conclusions"
    for other in sorted(CONCLUSIONS - {name, "order"}):
        if name != "order" and not _wrong(other, rows, named):
            return "another place", f"that is the {other}"
    if name == "order" and not _wrong(name, -rows, named):
        return "order reversed", "the largest comes first"
    return "", ""


def _spelled(named: np.ndarray) -> str:
    return ", ".join(map(str, named.ravel().tolist()))
