"""What a judge of claims is handed and what it answers: the names known so far, and a verdict."""

import ast
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qkv.check.worksheets.arithmetic import AXES, FUNCTIONS
from qkv.check.worksheets.evaluate import CONSTANTS, Evaluator
from qkv.check.worksheets.expressions import calls, names
from qkv.check.worksheets.syntax import Claim, Domain, Graph, Let
from qkv.check.worksheets.values import UnusableError, Value
from qkv.types import Entry, Fact
from qkv.types import Verdict as Kind

__all__ = ["Known", "Mark", "Scope", "TimeLimitError", "UnusableError", "Verdict"]

Lane = Literal["true", "claimed", "followed"]
_BUILT_IN = CONSTANTS.keys() | AXES.keys()
_DEPTH = 24


class TimeLimitError(Exception):
    """There is no time left to judge this."""


@dataclass(frozen=True)
class Mark:
    """A place in the text of a claim, and how what stands there is judged."""

    start: int
    end: int
    kind: Kind


@dataclass(frozen=True)
class Verdict:
    """What a claim comes to.

    Attributes:
        kind: for programs.
        entries: those that are wrong, with `(row, column)` counted from 0; a flat vector is one row.
        cause: the likely cause by the name that its judge has for it; `explanation` in words.
        word: for people, where they hear another than `kind`: supported, proved, refuted, loose.
        notes: what else is worth saying, a sentence each.
        marks: entries in the text of the claim with their colours.
        facts: counts and the like, by name.
        figures: drawings as SVG.
    """

    kind: Kind
    entries: Sequence[Entry] = ()
    cause: str = ""
    explanation: str = ""
    word: str = ""
    notes: Sequence[str] = ()
    marks: Sequence[Mark] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    figures: Sequence[str] = ()

    @property
    def said(self) -> str:
        return self.word or self.kind


@dataclass(frozen=True)
class Known:
    """A name that stands for numbers.

    Attributes:
        true: what it is.
        claimed: what it was claimed to be, with the digits that were written.
        followed: what follows from the mistakes above it, with all digits.
        claim: the claim that defined it, None where it was given.
        kind: what that claim came to.
        rough: how far what was meant may lie from each entry that was written, None where nothing was rounded.
    """

    true: Value
    claimed: Value
    followed: Value
    claim: Claim | None = None
    kind: Kind = "correct"
    rough: np.ndarray | None = None


@dataclass
class Scope:
    """What is known where a claim stands.

    Attributes:
        numbers: names that stand for numbers.
        shapes: names of which only a shape is given, and `kinds` of what kind they are.
        domains: variables of which only a domain is given.
        functions: defined by `let f(x) = ...`.
        definitions: names that stand for an expression over names without numbers.
        assumptions: conditions that are given.
        graphs: in their order.
        lost: names that a line should define that could not be read, with its number.
        deadline: when judging ends, on the clock of `time.monotonic`.
        seed: of what is drawn.
        limit: seconds for one proof or search.
        memory: what a judge keeps from one claim to the next, by its name.
    """

    numbers: dict[str, Known] = field(default_factory=dict)
    shapes: dict[str, tuple[ast.expr, ...]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)
    functions: dict[str, Let] = field(default_factory=dict)
    definitions: dict[str, ast.expr] = field(default_factory=dict)
    assumptions: list[ast.expr] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    deadline: float = float("inf")
    seed: int = 0
    limit: float = 10.0
    memory: dict[str, Any] = field(default_factory=dict)

    def numeric(self, node: ast.AST) -> bool:
        """Whether all names in an expression stand for numbers, and its functions can be computed from numbers."""
        if not names(node) <= self.numbers.keys() | _BUILT_IN:
            return False
        for called in calls(node) - FUNCTIONS.keys():
            function = self.functions.get(called)
            if function is None or not self._computed(function):
                return False
        return True

    def _computed(self, function: Let, depth: int = 0) -> bool:
        free = names(function.value) - set(function.parameters or ())
        below = calls(function.value) - FUNCTIONS.keys()
        known = free <= self.numbers.keys() | _BUILT_IN and below <= self.functions.keys() and depth < _DEPTH
        return known and all(self._computed(self.functions[name], depth + 1) for name in below)

    def evaluator(self, lane: Lane = "true") -> Evaluator:
        """Evaluates expressions from what names are, what was claimed of them, or what followed; see `Known`."""
        values = {name: getattr(known, lane) for name, known in self.numbers.items()}
        return Evaluator(values, self.functions, self.check_time)

    def used(self, node: ast.expr) -> dict[str, Known]:
        """The names in an expression, and in the functions that it calls, that stand for numbers."""
        found, waiting, seen = {}, [node], set()
        while waiting:
            tree = waiting.pop()
            found |= {name: self.numbers[name] for name in names(tree) if name in self.numbers}
            for name in calls(tree) & self.functions.keys() - seen:
                seen.add(name)
                waiting.append(self.functions[name].value)
        return found

    def names(self) -> set[str]:
        """All names that mean something here, but for functions."""
        nodes = {node.name for graph in self.graphs for node in graph.assignments}
        return {*self.numbers, *self.shapes, *self.domains, *self.definitions, *nodes}

    def forget(self, name: str) -> None:
        """Makes room for another meaning of `name`."""
        for table in (self.numbers, self.shapes, self.kinds, self.domains, self.functions, self.definitions, self.lost):
            table.pop(name, None)

    def check_time(self) -> None:
        """Raises `TimeLimitError` once the deadline has passed."""
        if time.monotonic() > self.deadline:
            raise TimeLimitError
