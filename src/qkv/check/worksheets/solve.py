"""A worksheet that has no answers, solved: intermediates with their numbers, backward passes with their derivation.

`claim A = softmax(Q @ K.T / sqrt(2))` asks for a value: every product, quotient and sum on the way to it is worked out.
A `graph` asks for its adjoints. What comes out can be checked again: it is all right.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import torch

from qkv.check.worksheets.adjoint import problem_of
from qkv.check.worksheets.conclusions import CONCLUSIONS
from qkv.check.worksheets.derivation import derivation
from qkv.check.worksheets.evaluate import Evaluator
from qkv.check.worksheets.judge import taken
from qkv.check.worksheets.syntax import Claim, Given, Graph, Sheet, Statement, Unreadable
from qkv.check.worksheets.values import Exact, UnusableError, Value, floats
from qkv.check.worksheets.verdict import Scope
from qkv.check.worksheets.written import is_written
from qkv.draw.graph_of_steps import StepNode, steps_svg
from qkv.draw.solution import Equation, Graphed, Mapped, Part, Remark, Solution, Table
from qkv.draw.steps import number
from qkv.errors import InputError
from qkv.types import AttentionMap

_ENTRIES, _TERMS = 100, 16  # of a matrix and of a dot product that are written out


def solve(sheet: Sheet, *, title: str = "worksheet", dots: bool = False, seed: int = 0) -> Solution:
    """Works out what a worksheet asks for.

    Args:
        dots: whether the entries of products are written out term by term.
        seed: of the instances in which adjoints are held to autograd.

    Raises:
        InputError: a line that cannot be read or worked out, or nothing to work out.

    >>> from qkv.check.worksheets.syntax import parse
    >>> print(solve(parse("given X = [[2, 0], [1, 1]]\\nclaim Y = X @ X.T / 2")).filled)
    given X = [[2, 0], [1, 1]]
    claim Y = X @ X.T / 2 = [[2, 1], [1, 1]]
    """
    scope, parts, filled = Scope(seed=seed), list[Part](), list[str]()
    for statement in sheet.statements:
        if isinstance(statement, Unreadable):
            raise InputError(f"line {statement.line} cannot be read", expected=statement.expected, got=statement.text)
        try:
            lines, answers = _answered(statement, scope, dots)
            if not isinstance(statement, Claim) or statement.defines:  # all that says what names stand for
                taken(statement, scope)
        except InputError as error:
            raise InputError(f"line {statement.line}: {error}") from error
        parts += lines
        filled += answers
    if not any(isinstance(part, Equation) and part.links for part in parts):  # what is given has none
        raise InputError("there is nothing to work out", expected="claims such as `claim Y = X @ X.T`, or a graph")
    return Solution(title, parts, "\n".join(filled))


def _answered(statement: Statement, scope: Scope, dots: bool) -> tuple[list[Part], list[str]]:
    """What one statement comes to, and itself with its answer."""
    match statement:
        case Graph():
            return _adjoints(statement, scope)
        case Claim() if _called(statement.links[0]) == "bar":
            return [], []  # the graph above has said it
        case Claim() if _asks(statement, scope):
            return _numbers(statement, scope, dots)
        case Given(value=ast.expr() as given, names=names) if scope.numeric(given):
            value = scope.evaluator()(given)
            return [Equation([], _axes(scope.evaluator()), name, value=_table(value)) for name in names], [
                statement.text
            ]
    return [], [statement.text]


def _asks(claim: Claim, scope: Scope) -> bool:
    """Whether a claim has a formula of numbers and no value."""
    formulas = claim.links[bool(claim.defines) :]
    if claim.over or claim.condition or len(formulas) != 1 or is_written(formulas[0]):
        return False
    formula = formulas[0]
    if isinstance(formula, (ast.Compare, ast.BoolOp)):
        return False
    if isinstance(formula, ast.Call) and isinstance(formula.func, ast.Name) and formula.func.id in CONCLUSIONS:
        return scope.numeric(formula.args[0])
    return scope.numeric(formula)


# -- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(claim: Claim, scope: Scope, dots: bool) -> tuple[list[Part], list[str]]:
    formula, evaluate = claim.links[-1], scope.evaluator()
    axes = _axes(evaluate)
    if isinstance(formula, ast.Call) and isinstance(formula.func, ast.Name) and formula.func.id in CONCLUSIONS:
        found = _concluded(formula, evaluate)
        return [Equation([formula], axes, value=[[text] for text in found])], [_with_answer(claim, found)]
    parts: list[Part] = []
    for node in _inner(formula):
        value = evaluate(node)
        if value.ndim and not isinstance(node, (ast.List, ast.Tuple)):
            parts.append(_equation(node, value, evaluate, dots, minor=True))
    if _called(formula) == "softmax" and isinstance(formula, ast.Call):
        parts += _of_softmax(formula, evaluate)
    value = evaluate(formula)
    parts.append(_equation(formula, value, evaluate, dots, name=claim.defines))
    if weights := _weights(formula, value):
        parts.append(Mapped(weights))
    table = _table(value)
    rows = [f"[{', '.join(row)}]" for row in table]
    answer = table[0][0] if value.ndim == 0 else rows[0] if value.ndim == 1 else f"[{', '.join(rows)}]"
    return parts, [_with_answer(claim, [answer])]


def _equation(
    node: ast.expr, value: Value, evaluate: Evaluator, dots: bool, *, name: str = "", minor: bool = False
) -> Equation:
    products = _products(node, evaluate) if dots and isinstance(node, ast.BinOp) else []
    return Equation([node], _axes(evaluate), name, value=_table(value), products=products, minor=minor)


def _inner(node: ast.expr) -> Iterator[ast.expr]:
    """The products, sums and calls inside an expression, those that are needed first before all others."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and not (isinstance(node, ast.Call) and child is node.func):
            yield from _inner(child)
            if isinstance(child, (ast.BinOp, ast.Call)) and any(isinstance(part, ast.Name) for part in ast.walk(child)):
                yield child


def _of_softmax(call: ast.Call, evaluate: Evaluator) -> list[Part]:
    """The exponentials that a softmax is made of, and their sums."""
    powers = ast.Call(ast.Name("exp"), [call.args[0]], [])
    axis = call.keywords or [ast.keyword("axis", ast.UnaryOp(ast.USub(), ast.Constant(1)))]
    sums = ast.Call(ast.Name("sum"), [powers], axis)
    return [Equation([node], _axes(evaluate), value=_table(evaluate(node)), minor=True) for node in (powers, sums)]


def _products(node: ast.BinOp, evaluate: Evaluator) -> list[str]:
    """The entries of a matrix product, each as the sum that it is."""
    if not isinstance(node.op, ast.MatMult):
        return []
    sides = [_texts(evaluate(side)) for side in (node.left, node.right)]
    left, right = np.atleast_2d(sides[0]), sides[1] if sides[1].ndim == 2 else sides[1][:, None]
    result = np.array(_texts(evaluate(node))).reshape(len(left), right.shape[1])
    if result.size > _ENTRIES or left.shape[1] > _TERMS:
        return []
    return [
        f"({row + 1}, {column + 1}): {_sum_of(left[row].tolist(), right[:, column].tolist())} = {result[row, column]}"
        for row, column in np.ndindex(result.shape)
    ]


def _sum_of(left: Iterable[str], right: Iterable[str]) -> str:
    return " + ".join(f"{_held(a)} · {_held(b)}" for a, b in zip(left, right, strict=True))


def _held(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _weights(formula: ast.expr, value: Value) -> AttentionMap | None:
    """The map of attention that a softmax of rows is, each query and key by its number."""
    rows = floats(value)
    shares = rows.ndim == 2 and bool((rows >= 0).all()) and np.allclose(rows.sum(axis=1), 1)
    if _called(formula) != "softmax" or not shares:
        return None
    queries, keys = ([f"{side} {place + 1}" for place in range(count)] for side, count in
                     zip(("query", "key"), rows.shape, strict=True))  # fmt: skip
    return AttentionMap(torch.tensor(rows)[None].float(), queries, keys, "attention", "self", "captured", "worksheet")


def _concluded(call: ast.Call, evaluate: Evaluator) -> list[str]:
    """What a conclusion comes to: the numbers of entries, counted from 1."""
    rows = np.atleast_2d(floats(evaluate(call.args[0])))
    places = [word.value for word in call.keywords if word.arg == "row"]
    if places:
        rows = rows[[int(ast.literal_eval(places[0])) - 1]]
    orders = np.argsort(-rows, axis=1, kind="stable") + 1
    if _called(call) == "order":
        lines = [f"[{', '.join(map(str, order))}]" for order in orders.tolist()]
        return lines if len(lines) == 1 else [f"[{', '.join(lines)}]"]
    place = {"strongest": 0, "second": min(1, rows.shape[1] - 1), "weakest": -1}[_called(call)]
    named = [str(order[place]) for order in orders.tolist()]
    return named if len(named) == 1 else [f"[{', '.join(named)}]"]


def _with_answer(claim: Claim, answer: Sequence[str]) -> str:
    bare, remark, words = claim.text.partition("#")
    return f"{bare.rstrip()} = {', '.join(answer)}" + (f"  {remark}{words}" if remark else "")


def _axes(evaluate: Evaluator):
    def axes(node: ast.expr) -> int | None:
        try:
            return evaluate(node).ndim
        except UnusableError:
            return None

    return axes


def _texts(value: Value) -> np.ndarray:
    """Entries as they are written: whole numbers, short decimals and fractions as they are, others with 4 decimals."""
    if isinstance(value, Exact):
        written = [_fraction(entry) for entry in value.fractions()]
    else:
        written = [str(entry) if np.isinf(entry) else number(float(entry)) for entry in value.ravel().tolist()]
    return np.array(written, dtype=object).reshape(value.shape)


def _fraction(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10_000
    if scaled.denominator == 1:
        return f"{float(value):.4f}".rstrip("0")
    return str(value) if value.denominator < 100 else number(float(value))


def _table(value: Value) -> Table:
    return np.atleast_2d(_texts(value)).tolist()


def _called(node: ast.expr) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


# -- graphs ----------------------------------------------------------------------------------------------------------


def _adjoints(graph: Graph, scope: Scope) -> tuple[list[Part], list[str]]:
    """The derivation of a backward pass, and the claims that it makes."""
    problem = problem_of(graph, scope)
    found = derivation(problem, scope.seed)
    adjoints = {one.name: one for one in found}
    said = {name: one.links[-1] for name, one in adjoints.items()}
    nodes = [StepNode(name, None, (), said.get(name), "derived" if name in said else "") for name in problem.leaves]
    nodes += [
        StepNode(step.name, step.value, problem.inputs(step), said[step.name], "derived") for step in problem.steps
    ]
    parts: list[Part] = [Remark("Forward", section=True)]
    parts += [Equation([step.value], problem.axes, step.name) for step in problem.steps]
    parts.append(Remark(f"Backward: the adjoint of v is the gradient of {problem.loss} by v", section=True))
    for one in found:
        uses = f"{one.name} is used by {' and '.join(one.uses)}: " if len(one.uses) > 1 else ""
        parts += [Remark(f"{uses}a part comes through each.")] if uses else []
        parts.append(Equation(one.links, problem.axes, one.name, bar=True))
    parts.append(Graphed(steps_svg(nodes, problem.axes), "What reads what, and the adjoint of each."))
    lines = ["graph", *(step.text.strip() for step in graph.assignments), "end"]
    return parts, [*lines, *(f"claim {one}" for one in found if one.name != problem.loss)]
