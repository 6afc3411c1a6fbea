"""Why a claimed adjoint is wrong: each cause is tried by recomputing, on every instance.

First the parts of the true adjoint are compared with what was claimed: the other sign, a path that is missing or taken
twice, a multiple. Then the claimed expression is edited at one place, until it is right.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from qkv.check.worksheets.backward import Filled, Problem, close, rebuilt
from qkv.check.worksheets.tensors import Number
from qkv.errors import InputError

_SLOPES = {
    "sigmoid": "{0} * (1 - {0})", "tanh": "(1 - {0}**2)", "exp": "{0}", "relu": "step({1})", "log": "1 / ({1})",
    "sqrt": "1 / (2 * {0})",
}  # fmt: skip
_FLIPPED: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}


@dataclass(frozen=True)
class Subject:
    """A wrong claim about the adjoint of one node.

    Attributes:
        claimed: the expression, and what it gives on each instance; None where its shapes do not fit.
        target: what would have been right there.
        paths: the parts of that by the step that each comes through.
        evaluate: the value of another expression on the instance of that number.
    """

    name: str
    problem: Problem
    claimed: ast.expr
    values: Sequence[Number | None]
    target: Sequence[Number]
    paths: Sequence[dict[str, Number]]
    filled: Sequence[Filled]
    evaluate: Callable[[ast.expr, int], Number]


@dataclass(frozen=True)
class Cause:
    """The name of a cause, and in words how it was verified."""

    name: str
    explanation: str


def cause_of(subject: Subject) -> Cause | None:
    """The likely cause of a wrong claim, verified on every instance; None where none was found."""
    return _whole(subject) or _edited(subject) or _multiple(subject)


# -- of the whole ----------------------------------------------------------------------------------------------------


def _whole(subject: Subject) -> Cause | None:
    values = [value for value in subject.values if value is not None]
    if len(values) < len(subject.target) or any(
        a.shape != b.shape for a, b in zip(values, subject.target, strict=True)
    ):
        return None

    def agrees(of: Callable[[int], Number]) -> bool:
        return all(close(values[k], of(k)) for k in range(len(values)))

    if agrees(lambda k: -subject.target[k]):
        return Cause("sign", "all of it has the other sign")
    users = list(subject.paths[0])
    for count in range(1, len(users)):
        for left_out in combinations(users, count):
            if agrees(lambda k, some=left_out: subject.target[k] - sum(subject.paths[k][user] for user in some)):
                return Cause(
                    "missing path", f"{subject.name} is also used by {_listed(left_out)}: that part is missing"
                )
    for user in users if len(users) > 1 else ():
        if agrees(lambda k, user=user: subject.target[k] + subject.paths[k][user]):
            return Cause("path twice", f"the part that comes through {user} is counted twice")
    return None


def _multiple(subject: Subject) -> Cause | None:
    """A number that all of it is off by, or the size of an axis."""
    ratios = []
    for value, target in zip(subject.values, subject.target, strict=True):
        if value is None or value.shape != target.shape or not bool(target.any()):
            return None
        ratio = float((value * target).sum() / (target * target).sum())
        if not ratio or not close(value, ratio * target):
            return None
        ratios.append(ratio)
    factor = ratios[0]
    if all(abs(ratio - factor) < 1e-8 * abs(factor) for ratio in ratios):
        kind = "missing factor" if abs(factor) < 1 else "factor too many"
        return Cause(kind, f"it is {factor:.6g} times what it should be")
    return None


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# -- at one place ----------------------------------------------------------------------------------------------------


def _edited(subject: Subject) -> Cause | None:
    """The first edit under which the claim is right on every instance."""
    tried = set()
    for name, new in _edits(subject):
        written = ast.unparse(new)
        if written in tried:
            continue
        tried.add(written)
        if _right(subject, new):
            return Cause(name, f"`bar({subject.name}) = {written}` would be right")
    return None


def _right(subject: Subject, new: ast.expr) -> bool:
    for k, target in enumerate(subject.target):
        try:
            if not close(subject.evaluate(new, k), target):
                return False
        except InputError:
            return False
    return True


def _edits(subject: Subject) -> Iterator[tuple[str, ast.expr]]:
    """Other expressions with the cause that each would be the cure of, those that change least first."""
    places = list(_places(subject.claimed))
    for stage in (_turned, _swapped, _signs, _steeper, _others, _other_slopes, _scaled, _shorter):
        for node in places:
            for name, new in stage(node, subject):
                yield name, replaced(subject.claimed, node, new)


def _places(node: ast.expr) -> Iterator[ast.expr]:
    """The expressions in an expression, it first; what an adjoint is of, functions and indices are none."""
    yield node
    if isinstance(node, ast.Call) and _called(node) == "bar":
        return
    aside = node.func if isinstance(node, ast.Call) else node.slice if isinstance(node, ast.Subscript) else None
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and child is not aside:
            yield from _places(child)


def replaced(whole: ast.expr, old: ast.AST, new: ast.expr) -> ast.expr:
    """A copy of `whole` with `new` in the place of `old`."""
    return rebuilt(whole, lambda node: new if node is old else None)


def _called(node: ast.expr) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _turned(node: ast.expr, _: Subject) -> Iterator[tuple[str, ast.expr]]:
    """A transpose more or less, the operands of an outer product."""
    if isinstance(node, ast.Call) and _called(node) == "outer" and len(node.args) == 2:
        yield "outer order swapped", _call("outer", node.args[1], node.args[0])
    elif isinstance(node, ast.Attribute):
        yield "transposed matrix", node.value
    elif isinstance(node, (ast.Name, ast.Call)):
        yield "transposed matrix", ast.Attribute(node, "T", ast.Load())


def _swapped(node: ast.expr, _: Subject) -> Iterator[tuple[str, ast.expr]]:
    """The two sides of a matrix product."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        for left, right in ((node.left, node.right), (node.right, node.left)):
            yield "outer order swapped", _call("outer", left, right)
            yield "transposed matrix", ast.BinOp(ast.Attribute(left, "T", ast.Load()), node.op, right)
            yield "transposed matrix", ast.BinOp(left, node.op, ast.Attribute(right, "T", ast.Load()))
        yield "transposed matrix", ast.BinOp(node.right, node.op, node.left)


def _signs(node: ast.expr, _: Subject) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.UnaryOp):
        yield "sign", node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _FLIPPED:
        yield "sign", ast.BinOp(node.left, _FLIPPED[type(node.op)](), node.right)
        yield "sign", ast.BinOp(ast.UnaryOp(ast.USub(), node.left), node.op, node.right)
    elif not isinstance(node, ast.Constant):
        yield "sign", ast.UnaryOp(ast.USub(), node)


def slopes(problem: Problem) -> list[ast.expr]:
    """The derivatives of the nonlinearities in a graph, in terms of its nodes."""
    found = {}
    for step in problem.steps:
        for node in ast.walk(step.value):
            if isinstance(node, ast.Call) and (way := _SLOPES.get(_called(node))):
                made = step.name if node is step.value else ast.unparse(node)
                found[way.format(made, ast.unparse(node.args[0]))] = None
    return [_expression(text) for text in found]


def _steeper(node: ast.expr, subject: Subject) -> Iterator[tuple[str, ast.expr]]:
    """Times the derivative of a nonlinearity."""
    for slope in slopes(subject.problem):
        yield "missing derivative", ast.BinOp(node, ast.Mult(), slope)


def _other_slopes(node: ast.expr, subject: Subject) -> Iterator[tuple[str, ast.expr]]:
    """The derivative of a nonlinearity in the place of what stands there."""
    if _called(node) != "bar":
        for slope in slopes(subject.problem):
            yield "other derivative", slope


def _scaled(node: ast.expr, subject: Subject) -> Iterator[tuple[str, ast.expr]]:
    for size in subject.filled[0].sizes:
        yield "sum for mean", ast.BinOp(node, ast.Div(), ast.Name(size, ast.Load()))
        yield "factor too many", ast.BinOp(node, ast.Mult(), ast.Name(size, ast.Load()))
    if not isinstance(node, ast.Constant):
        yield "missing factor", ast.BinOp(ast.Constant(2), ast.Mult(), node)
        yield "factor too many", ast.BinOp(node, ast.Div(), ast.Constant(2))


def _shorter(node: ast.expr, _: Subject) -> Iterator[tuple[str, ast.expr]]:
    """One side of what has two."""
    if isinstance(node, ast.BinOp):
        adds = isinstance(node.op, (ast.Add, ast.Sub))
        name = "term too many" if adds else "factor too many"
        yield name, node.left
        yield name, node.right if not isinstance(node.op, ast.Sub) else ast.UnaryOp(ast.USub(), node.right)


def _others(node: ast.expr, subject: Subject) -> Iterator[tuple[str, ast.expr]]:
    """Another name of the same shape, another adjoint of the same shape."""
    values = subject.filled[0].values
    nodes = [*(step.name for step in subject.problem.steps), *subject.problem.leaves]
    if isinstance(node, ast.Name) and node.id in values:
        for other in nodes:
            if other != node.id and values[other].shape == values[node.id].shape:
                yield "other operand", ast.Name(other, ast.Load())
        for other in nodes:
            if other != subject.name and values[other].shape == values[node.id].shape:
                yield "other operand", _call("bar", ast.Name(other, ast.Load()))
    if isinstance(node, ast.Call) and _called(node) == "bar" and isinstance(node.args[0], ast.Name):
        shape = values[node.args[0].id].shape if node.args[0].id in values else torch.Size()
        for other in nodes:
            if other != node.args[0].id and other != subject.name and values[other].shape == shape:
                yield "other operand", _call("bar", ast.Name(other, ast.Load()))


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
