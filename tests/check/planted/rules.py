"""Mistakes by rule: the source of a derivation with one place of its backward pass rewritten.

A rule is two pieces of Python, what is looked for and what it becomes. In both a single capital stands for any
expression, the same one wherever it stands, and `LINE` for the whole right-hand side of a line: `("A @ B", "B @ A")`
turns round every product, `("LINE", "-LINE")` every sign. What is written is what is run: a wrong backward pass has a
source to be read.
"""

import ast
import inspect
import linecache
import random
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import numpy as np

from tests.check.patterns import Fill, Swap, matches
from tests.check.planted.cases import Case
from tests.check.planted.derivations import Array, Gradients

Rule = tuple[str, str]
Rules = list[Rule] | Callable[[Case], Iterable[Rule]]


@dataclass(frozen=True)
class Kind:
    """One kind of mistake.

    Attributes:
        causes: its names; `derivative` is one only on lines that go through a nonlinearity.
        partly: names that are right too where not all of a gradient is off by one factor, but a term of it.
    """

    rules: Rules
    causes: set[str]
    partly: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Mistake:
    """A case with one line of its backward pass wrong."""

    kind: str
    case: Case
    right: str
    wrong: str
    derivation: Callable[..., tuple[Any, Gradients]]

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.case.name}: {self.wrong}"

    def function(self, parameters: dict[str, Array]) -> tuple[Any, Gradients]:
        """The loss, and the gradients with the mistake."""
        return self.case.run(self.derivation, parameters)


def planted(kinds: Mapping[str, Kind], cases: Sequence[Case], *, each: int, seed: int = 0) -> list[Mistake]:
    """Up to `each` mistakes of every kind, taken from the cases in turn; no two that come to the same.

    Mistakes that do not run, give arrays of other shapes or the right gradients are none.
    """
    made: dict[tuple[str, bytes], Mistake] = {}
    for name, kind in kinds.items():
        rng = random.Random(f"{seed} {name}")
        before, waiting = (
            len(made),
            [_candidates(name, kind.rules, case, rng) for case in rng.sample(cases, len(cases))],
        )
        while waiting and len(made) - before < each:
            turn = waiting.pop(0)
            for mistake in turn:
                outcome = _outcome(mistake)
                if outcome is not None and (mistake.case.name, outcome) not in made:
                    made[mistake.case.name, outcome] = mistake
                    waiting.append(turn)
                    break
    return list(made.values())


def _candidates(kind: str, rules: Rules, case: Case, rng: random.Random) -> Iterator[Mistake]:
    source = inspect.getsource(case.derivation)
    before = ast.unparse(ast.parse(source)).splitlines()
    every = list(rules(case) if callable(rules) else rules)
    for pattern, replacement in rng.sample(every, len(every)):
        places = list(rewritten(source, pattern, replacement))
        for text in rng.sample(places, len(places)):
            right, wrong = next(
                (old.strip(), new.strip()) for old, new in zip(before, text.splitlines(), strict=True) if old != new
            )
            yield Mistake(kind, case, right, wrong, _compiled(text, case.derivation))


def _outcome(mistake: Mistake) -> bytes | None:
    """What its gradients are, up to rounding; None where there are none, right ones, or parameters were written on."""
    case = mistake.case
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        copies = {name: value.copy() for name, value in case.parameters.items()}
        try:
            _, found = mistake.function(copies)
        except Exception:  # what was rewritten need not fit
            return None
    if any((copies[name] != value).any() for name, value in case.parameters.items()):
        return None  # the check refuses what changes its parameters
    _, expected = case.function(case.parameters)
    if any(
        np.shape(found[name]) != value.shape or not np.isfinite(found[name]).all() for name, value in expected.items()
    ):
        return None
    if not any(differs(found[name], value).any() for name, value in expected.items()):
        return None
    return b"".join(np.round(found[name] / np.abs(value).max(), 6).tobytes() for name, value in expected.items())


def rewritten(source: str, pattern: str, replacement: str) -> Iterator[str]:
    """The source with one place after the line of the loss rewritten; each such place in turn."""
    tree = ast.parse(source)
    wanted = _piece(pattern)
    for node in _backward(tree, lines=pattern == "LINE"):
        bound: dict[str, ast.AST] = {}
        if matches(wanted, node, bound):
            new = Fill(bound).visit(_piece(replacement))
            Swap(node, new).visit(tree)
            text = ast.unparse(tree)
            Swap(new, node).visit(tree)
            if text != ast.unparse(tree):
                yield text


def differs(found: Array, expected: Array) -> Array:
    """Where gradients are further apart than a ten-thousandth of the largest."""
    return np.abs(found - expected) > 1e-4 * np.abs(expected).max()


def multiple(mistake: Mistake, parameter: str) -> bool:
    """Whether the wrong gradient by a parameter is the right one times a factor."""
    at = mistake.case.parameters
    found, expected = (np.asarray(f(at)[1][parameter]).ravel() for f in (mistake.function, mistake.case.function))
    factor = found @ expected / (expected @ expected or 1)
    return not differs(found, factor * expected).any()


# -- names that rules are made from ----------------------------------------------------------------------------------


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """The names that the derivation gives to arrays, or lists of them, and their shapes."""
    text = re.sub("return .*", "return locals()", ast.unparse(ast.parse(inspect.getsource(case.derivation))))
    found: Any = case.run(_compiled(text, case.derivation), case.parameters)
    return {name: np.shape(value) for name, value in found.items() if isinstance(value, list | np.ndarray)}


# -- trees -----------------------------------------------------------------------------------------------------------


def _piece(text: str) -> ast.AST:
    statement = ast.parse(text).body[0]
    return statement.value if isinstance(statement, ast.Expr) else statement


def _backward(tree: ast.Module, *, lines: bool) -> Iterator[ast.AST]:
    """Every node after the line that defines the loss; or the right-hand sides of these lines alone."""
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    loss = next(k for k, line in enumerate(function.body) if ast.unparse(line).startswith("loss ="))
    for node in [node for line in function.body[loss + 1 : -1] for node in ast.walk(line)]:
        match node:
            case _ if not lines:
                yield node
            case ast.Assign() | ast.AugAssign():
                yield node.value
            case ast.Expr(ast.Call(args=[_, _, scattered])):
                yield scattered


def _compiled(text: str, derivation: Callable[..., Any]) -> Callable[..., Any]:
    assert isinstance(derivation, FunctionType)
    file = f"<planted {hash(text):x}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file  # as if read from a file
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(compile(text, file, "exec"), derivation.__globals__, names)
    return names[derivation.__name__]
