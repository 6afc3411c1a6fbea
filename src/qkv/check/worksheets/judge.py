"""Judging a worksheet: its statements in order, each claim by the first judge that takes it.

A judge is a function `judge(claim, scope)` in a file of its own that returns a `Verdict`, or None for a claim that is
not for it. It may raise `UnusableError`. Files are read when a claim first needs them: z3, sympy and torch are slow.
"""

import ast
import contextlib
import difflib
import importlib
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType

from qkv.check.worksheets.arithmetic import AXES, FUNCTIONS
from qkv.check.worksheets.conclusions import CONCLUSIONS
from qkv.check.worksheets.evaluate import CONSTANTS
from qkv.check.worksheets.expressions import calls, names, parts
from qkv.check.worksheets.syntax import Claim, Given, Graph, Let, Sheet, Statement, Unreadable
from qkv.check.worksheets.verdict import Known, Scope, TimeLimitError, UnusableError, Verdict
from qkv.errors import unknown_name
from qkv.types import Claim as Judged
from qkv.types import Json, Report
from qkv.types import Verdict as Kind

JUDGES = ("conclusions", "numeric", "adjoint", "network", "cost", "proof", "identity")
"""The files of this package that judge claims, in the order in which a claim is shown to them."""

_ASIDE = frozenset({"bar", "cost", "grad", "hessian", "hvp", "jacobian", "iff", "O", "params", "size", "taylor"})
_NAMED = re.compile(r"\s*(?:given|let|claim)\s+(?:\w+\s*:\s*)?(\w+)\s*[=:(]")
_FINE: tuple[Kind, ...] = ("correct", "rounding")


@dataclass(frozen=True)
class Line:
    """A claim, or a line that cannot be used, and what it comes to."""

    statement: Statement
    verdict: Verdict

    @property
    def name(self) -> str:
        return self.statement.name if isinstance(self.statement, Claim) else f"line {self.statement.line}"


@dataclass(frozen=True)
class Judgement:
    """What a worksheet comes to: each of its claims, and each line that cannot be read, in their order.

    Attributes:
        notes: on graphs, such as which adjoints nobody claims; `figures` of them as SVG, by their lines.
    """

    title: str
    sheet: Sheet
    lines: Sequence[Line]
    scope: Scope
    notes: Sequence[str] = ()
    figures: Mapping[int, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return all(line.verdict.kind in _FINE for line in self.lines)

    @property
    def first_wrong(self) -> Line | None:
        """The first claim that is wrong by itself."""
        return next((line for line in self.lines if line.verdict.kind == "wrong"), None)

    def __getitem__(self, name: str) -> Verdict:
        """The verdict on the claim of that name."""
        for line in self.lines:
            if line.name == name:
                return line.verdict
        raise KeyError(name)

    @property
    def report(self) -> Report:
        """The same as a report of any check, its first claim in trouble with its likely cause."""
        claims = []
        for line in self.lines:
            verdict = line.verdict
            error = max((entry.error for entry in verdict.entries), default=0.0)
            claims.append(
                Judged(line.name, verdict.kind, error, 0.0, verdict.entries, verdict.cause, verdict.explanation,
                       verdict.facts, line=line.statement.line)
            )  # fmt: skip
        return Report(self.title, claims)

    def document(self) -> Json:
        """All of it as plain data for JSON; rows and columns count from 1."""
        claims = [
            {
                "name": line.name,
                "line": line.statement.line,
                "verdict": line.verdict.kind,
                "said": line.verdict.said,
                "entries": [
                    {"row": entry.index[0] + 1, "column": entry.index[1] + 1}
                    | {"claimed": _finite(entry.claimed), "value": _finite(entry.value)}
                    for entry in line.verdict.entries
                ],
                "cause": line.verdict.cause,
                "explanation": line.verdict.explanation,
                "notes": list(line.verdict.notes),
                "facts": dict(line.verdict.facts),
            }
            for line in self.lines
        ]
        first = self.first_wrong
        found = {"title": self.title, "ok": self.ok, "claims": claims, "first_wrong": first and first.name}
        return found | {"notes": list(self.notes)}


def judge(
    sheet: Sheet, *, title: str = "worksheet", seconds: float = 60.0, limit: float = 10.0, seed: int = 0
) -> Judgement:
    """Judges every claim of a worksheet.

    Args:
        seconds: for all of it; claims that are not reached by then are undecided.
        limit: seconds for one proof or search.
        seed: of instances that are drawn.

    >>> from qkv.check.worksheets.syntax import parse
    >>> found = judge(parse("given X = [[2, 0]]\\nclaim Y = 2 * X = [[4, 1]]\\nclaim Z = Y + 1 = [[5, 2]]"))
    >>> [line.verdict.kind for line in found.lines], found.lines[0].verdict.entries[0].value
    (['wrong', 'carried'], 0.0)
    """
    scope = Scope(deadline=time.monotonic() + seconds, seed=seed, limit=limit)
    lines = []
    for statement in sheet.statements:
        try:
            verdict = taken(statement, scope)
        except UnusableError as error:
            verdict = Verdict("unusable", explanation=str(error))
            for name in _defined(statement):
                scope.lost[name] = statement.line
        except TimeLimitError:
            verdict = Verdict("undecided", explanation=f"the {seconds:g} s for the whole worksheet are over")
        if verdict is not None:
            lines.append(Line(statement, verdict))
    return Judgement(title, sheet, lines, scope, *_on_graphs(scope))


def _on_graphs(scope: Scope) -> tuple[Sequence[str], Mapping[int, str]]:
    """Notes and figures of the graphs whose adjoints were judged."""
    if "adjoint" not in scope.memory:
        return (), {}
    return importlib.import_module("qkv.check.worksheets.adjoint").closing(scope)


def taken(statement: Statement, scope: Scope) -> Verdict | None:
    """Takes a statement into account, and answers for it where it is a claim."""
    match statement:
        case Unreadable():
            scope.lost |= dict.fromkeys(_defined(statement), statement.line)
            if statement.salvaged is not None and statement.salvaged.defines:
                with contextlib.suppress(UnusableError):
                    _judged(statement.salvaged, scope)
            where = f"line {statement.line}, column {statement.column}"
            return Verdict("unusable", explanation=f"It cannot be read: expected {statement.expected} ({where})")
        case Claim():
            return _judged(statement, scope)
        case Let(parameters=None):
            _name(scope, statement.name, statement.value)
        case Let():
            scope.forget(statement.name)
            scope.functions[statement.name] = statement
        case Graph():
            scope.graphs.append(statement)
        case Given():
            _given(statement, scope)
    return None


def _given(given: Given, scope: Scope) -> None:
    for name in given.names:
        if given.value is not None:
            _name(scope, name, given.value)
            continue
        scope.forget(name)
        if given.domain is not None:
            scope.domains[name] = given.domain
        elif given.shape is not None:
            scope.shapes[name] = given.shape
            scope.kinds[name] = given.kind
    if given.condition is not None:
        scope.assumptions.append(given.condition)


def _name(scope: Scope, name: str, value: ast.expr) -> None:
    """Makes `name` stand for an expression: for its numbers, where all in it are numbers."""
    _require_known(value, scope)
    if scope.numeric(value):
        true = scope.evaluator()(value)
        known = Known(true, true, true)
        with contextlib.suppress(UnusableError):  # what a mistake above makes impossible is not followed
            known = Known(true, scope.evaluator("claimed")(value), scope.evaluator("followed")(value))
        scope.forget(name)
        scope.numbers[name] = known
    else:
        scope.forget(name)
        scope.definitions[name] = value


def _judged(claim: Claim, scope: Scope) -> Verdict:
    scope.check_time()
    called = set().union(*(calls(link) for link in claim.links))
    if not claim.over and not called & _ASIDE:
        for link in claim.links[bool(claim.defines) :]:
            _require_known(link, scope)
    for name in JUDGES:
        start = time.monotonic()
        module = _loaded(name)
        scope.deadline += time.monotonic() - start  # the first time takes seconds, which are not the worksheet's
        verdict = module.judge(claim, scope)
        if verdict is not None:
            if claim.defines and claim.defines not in scope.names():
                scope.forget(claim.defines)
                scope.definitions[claim.defines] = claim.links[1]
            return verdict
    raise UnusableError("nothing here can judge such a claim", hint="docs/worksheets.md, for what can be claimed")


def _loaded(judge: str) -> ModuleType:
    """The file of a judge, which may need a library that only some need."""
    try:
        return importlib.import_module(f"qkv.check.worksheets.{judge}")
    except ModuleNotFoundError as error:
        if error.name != "sympy":
            raise
        raise UnusableError("this takes sympy, which is not installed", hint="pip install 'qkv[verify]'") from error


def _require_known(node: ast.expr, scope: Scope) -> None:
    """Raises where a name or a function means nothing here."""
    sizes = set().union(*(names(size) for shape in scope.shapes.values() for size in shape))
    known = scope.names() | sizes | CONSTANTS.keys() | AXES.keys()
    for name in sorted(names(node) - known):
        if name in scope.functions or name in FUNCTIONS:
            raise UnusableError(f"{name} is a function", hint=f"{name}(...)")
        for row in (part for part in parts(node) if isinstance(part, ast.List)):
            for place, entry in enumerate(row.elts, start=1):
                if isinstance(entry, ast.Name) and entry.id == name:
                    raise UnusableError(f"entry {place} is {name!r}", expected="a number")
        if name in scope.lost:
            raise UnusableError(f"{name} was to come from line {scope.lost[name]}, which cannot be used")
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        raise UnusableError(f"{name} is used but given nowhere above", hint=near[0] if near else f"given {name} = ...")
    for name in sorted(calls(node) - FUNCTIONS.keys() - scope.functions.keys() - _ASIDE - CONCLUSIONS):
        raise UnusableError.of(unknown_name("function", name, [*FUNCTIONS, *scope.functions]))


def _defined(statement: Statement) -> tuple[str, ...]:
    match statement:
        case Given():
            return statement.names
        case Let():
            return (statement.name,)
        case Claim(defines=name) if name:
            return (name,)
        case Unreadable():
            found = _NAMED.match(statement.text)
            return (found[1],) if found else ()
    return ()


def _finite(number: float) -> float | str:
    """A number for JSON, which has no infinity."""
    return number if math.isfinite(number) else str(number)
