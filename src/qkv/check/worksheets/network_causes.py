"""Why a refuted claim about a network does not hold: one thing is changed at a time, until it does.

A change that a known counterexample still refutes is passed over; any other is put to the solver, whose answer is
either a proof or one more counterexample, which sorts out changes to come.
"""

import ast
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from qkv.check.worksheets.backward_causes import Cause, replaced
from qkv.check.worksheets.network import Array, Point, Question, decide, fails, written
from qkv.check.worksheets.syntax import Let

_SECONDS = 2.0  # for one proof
_STRICT: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt,
}  # fmt: skip
_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.Lt, ast.GtE: ast.LtE, ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip


def cause_of(question: Question, points: Sequence[Point], seconds: float = 5.0) -> Cause | None:
    """The first change of one thing under which the claim is proved.

    Args:
        points: counterexamples that are known.
        seconds: of this process, in which to look for it.
    """
    deadline, known = time.process_time() + seconds, list(points)
    for name, words, changed in _changes(question):
        if time.process_time() > deadline:
            return None
        if any(fails(changed, point) for point in known):
            continue
        decision = decide(changed, _SECONDS)
        if decision.verdict == "proved":
            return Cause(name, f"it would hold {words}")
        known += [example.point for example in decision.counterexamples]
    return None


def _changes(question: Question) -> Iterator[tuple[str, str, Question]]:
    """Questions with one thing changed, each with the name of the cause and the change in words."""
    trees = {"": question.claim, **{name: let.value for name, let in question.functions.items()}}
    for stage in (_strictness, _bounds):
        for name, tree in trees.items():
            for node in ast.walk(tree):
                for cause, words, new in stage(node):
                    yield cause, words, _with(question, name, replaced(tree, node, new))
    for name, array in sorted(question.numbers.items(), key=lambda item: item[1].size):
        for place, entry in np.ndenumerate(array):
            for value in _others(entry):
                changed: Array = array.copy()
                changed[place] = value
                counted = ", ".join(str(index + 1) for index in place)
                where = f"entry ({counted}) of {name}" if place else name
                numbers = {**question.numbers, name: changed}
                words = f"with {written(value)}, not {written(entry)}, for {where}"
                yield _kind(name, question), words, replace(question, numbers=numbers)
    for name, tree in trees.items():
        indices = [part for node in ast.walk(tree) if isinstance(node, ast.Subscript) for part in ast.walk(node.slice)]
        for node in ast.walk(tree):
            for new in _constants(node) if node not in indices else ():
                words = f"with {ast.unparse(new)}, not {ast.unparse(node)}"
                yield "number", words, _with(question, name, replaced(tree, node, new))
            for cause, words, new in _comparisons(node):
                yield cause, words, _with(question, name, replaced(tree, node, new))


def _with(question: Question, name: str, tree: ast.expr) -> Question:
    if not name:
        return replace(question, claim=tree)
    let: Let = replace(question.functions[name], value=tree)
    return replace(question, functions={**question.functions, name: let})


Change = tuple[str, str, ast.expr]


def _strictness(node: ast.AST) -> Iterator[Change]:
    """What happens on the boundary: `>` or `>=`, `step` or `hard_threshold`."""
    if isinstance(node, ast.Compare):
        for place, op in enumerate(node.ops):
            if type(op) in _STRICT:
                new = _compared(node, place, _STRICT[type(op)]())
                yield "strictness", f"with `{ast.unparse(new)}`, not `{ast.unparse(node)}`", new
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("step", "hard_threshold"):
        other = "step" if node.func.id == "hard_threshold" else "hard_threshold"
        yield "strictness", f"with {other}, not {node.func.id}", ast.Call(ast.Name(other, ast.Load()), node.args, [])


def _comparisons(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        for place, op in enumerate(node.ops):
            if type(op) in _TURNED:
                turned = _TURNED[type(op)]
                for new in (turned, _STRICT.get(turned, turned)):
                    other = _compared(node, place, new())
                    yield "comparison", f"with `{ast.unparse(other)}`, not `{ast.unparse(node)}`", other


def _compared(node: ast.Compare, place: int, op: ast.cmpop) -> ast.Compare:
    return ast.Compare(node.left, [*node.ops[:place], op, *node.ops[place + 1 :]], node.comparators)


def _bounds(node: ast.AST) -> Iterator[Change]:
    """Other bounds of `indicator(lo, hi)`."""
    if not isinstance(node, ast.Call) or "indicator" not in (_name(node), _name(node.func)):
        return
    call = node if _name(node) == "indicator" else node.func
    assert isinstance(call, ast.Call)
    for place in range(len(call.args) - 2, len(call.args)):
        bound = call.args[place]
        try:
            value = Fraction(ast.literal_eval(bound))
        except (ValueError, TypeError):
            continue
        for other in _others(value):
            new = ast.parse(str(other), mode="eval").body
            changed = ast.Call(call.func, [*call.args[:place], new, *call.args[place + 1 :]], [])
            words = f"with the bound {other}, not {value}"
            yield "bound", words, changed if call is node else ast.Call(changed, node.args, [])


def _name(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _constants(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Constant):
        for other in _others(Fraction(str(node.value))):
            yield ast.parse(str(other), mode="eval").body


def _others(value: Fraction) -> list[Fraction]:
    """Numbers that people take for one another, the nearest first."""
    half = Fraction(1, 2)
    near = [-value, value - 1, value + 1, Fraction(0), value - half, value + half, value - 2, value + 2, 2 * value]
    return [other for other in dict.fromkeys(near) if other != value]


def _kind(name: str, question: Question) -> str:
    """Whether an array multiplies or is added."""
    sums = [
        node
        for let in question.functions.values()
        for node in ast.walk(let.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub))
    ]
    added = any(isinstance(side, ast.Name) and side.id == name for node in sums for side in (node.left, node.right))
    return "bias" if added else "weight"
