"""Claims about adjoints, `bar(a1) = ...` in a graph: each is judged from those that are claimed above it.

A claim is right if it gives the true adjoint in random instances of several sizes. One that does not, but is what
follows from the adjoints claimed above it, carries a mistake forward; any other is wrong, and why is looked for.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from qkv.check.worksheets.algebra import FUNCTIONS, names_in
from qkv.check.worksheets.backward import Problem, close, filled
from qkv.check.worksheets.backward_causes import Cause, Subject, cause_of
from qkv.check.worksheets.names import setting_above
from qkv.check.worksheets.syntax import Claim, Graph
from qkv.check.worksheets.tensors import Number
from qkv.check.worksheets.verdict import Scope, UnusableError, Verdict
from qkv.draw.graph_of_steps import StepNode, steps_svg
from qkv.errors import InputError, unknown_name


@dataclass(frozen=True)
class Judged:
    """What became of one claim.

    Attributes:
        deviation: the largest difference from what would have been right, relative to the largest entry of the two.
        cause: of a wrong claim, where one was found and verified.
        note: what to tell a reader beside it.
    """

    name: str
    verdict: Literal["correct", "carried", "wrong"]
    deviation: float = 0.0
    cause: Cause | None = None
    note: str = ""


@dataclass
class Backward:
    """The backward pass of a graph, claim by claim.

    Raises:
        InputError: a graph that cannot be computed.

    >>> from qkv.check.worksheets.algebra import Setting, Symbol
    >>> from qkv.check.worksheets.syntax import parse
    >>> sheet = parse("graph\\ny = W @ x\\nJ = sum(y * y)\\nend\\nclaim bar(y) = y\\nclaim bar(x) = W.T @ bar(y)")
    >>> (graph, first, second) = sheet.statements
    >>> setting = Setting({"W": Symbol((ast.Name("m"), ast.Name("n"))), "x": Symbol((ast.Name("n"),))})
    >>> backward = Backward(Problem(graph.assignments, setting))
    >>> backward.judge("y", first.links[1:]).cause
    Cause(name='missing factor', explanation='`bar(y) = 2 * y` would be right')
    >>> backward.judge("x", second.links[1:]).verdict, backward.unclaimed()
    ('carried', ['W'])
    """

    problem: Problem
    seed: int = 0
    judged: dict[str, Judged] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._functions = {*FUNCTIONS, *self.problem.setting.definitions, "bar"}
        self._filled = filled(self.problem, self.seed)
        self._true = [one.sweep({}).derived for one in self._filled]
        self._claimed: list[dict[str, Number]] = [{} for _ in self._filled]
        self._said: dict[str, ast.expr] = {}

    def judge(self, name: str, links: Sequence[ast.expr]) -> Judged:
        """Judges `bar(name) = link = link ...`; the last link is what claims below it start from.

        Raises:
            InputError: a node that is not in the graph, a name that is not known.
        """
        nodes = list(self._true[0])
        if name not in nodes:
            raise unknown_name("node of the graph", name, nodes)
        for read in dict.fromkeys(read for link in links for read in names_in(link)):
            if read not in (*nodes, *self.problem.setting.sizes, *self._functions):
                raise unknown_name("name", read, nodes)
        swept = [one.sweep(claimed) for one, claimed in zip(self._filled, self._claimed, strict=True)]
        known = [
            one.values | {f"bar({node})": claimed.get(node, bar) for node, bar in back.derived.items()}
            for one, back, claimed in zip(self._filled, swept, self._claimed, strict=True)
        ]
        target = [back.derived[name] for back in swept]
        found = Judged(name, "correct")
        for link in links:
            values = self._values(link, known)
            one = self._link(name, link, values, [true[name] for true in self._true], target)
            if one.verdict == "wrong":
                subject = Subject(
                    name, self.problem, link, values, target, [back.paths[name] for back in swept], self._filled,
                    lambda node, k: self._filled[k].evaluate(node, known[k]),
                )  # fmt: skip
                found = Judged(name, "wrong", one.deviation, cause_of(subject), one.note)
                break
            found = one if one.verdict == "carried" else found
        self._keep(name, self._values(links[-1], known))
        self.judged[name], self._said[name] = found, links[-1]
        return found

    def unclaimed(self) -> list[str]:
        """The leaves whose adjoint nobody claims."""
        return [name for name in self.problem.leaves if name not in self.judged.keys() | self.problem.constants]

    def svg(self) -> str:
        """The graph with the adjoints claimed, coloured by what became of the claims."""
        states = {"correct": "right", "carried": "carried", "wrong": "wrong"}

        def node(name: str, formula: ast.expr | None, inputs: Sequence[str]) -> StepNode:
            if name in self.judged:
                return StepNode(name, formula, inputs, self._said[name], states[self.judged[name].verdict])
            asked = name not in (*self.problem.constants, self.problem.loss)
            return StepNode(name, formula, inputs, None, "unclaimed" if asked else "")

        leaves = [node(name, None, ()) for name in self.problem.leaves]
        steps = [node(step.name, step.value, self.problem.inputs(step)) for step in self.problem.steps]
        return steps_svg([*leaves, *steps], self.problem.axes)

    def _values(self, link: ast.expr, known: Sequence[Mapping[str, Number]]) -> list[Number | None]:
        """What an expression gives in each instance, None where its shapes do not fit."""
        values: list[Number | None] = []
        for one, at in zip(self._filled, known, strict=True):
            try:
                values.append(one.evaluate(link, at))
            except InputError:
                values.append(None)
        return values

    def _link(
        self,
        name: str,
        link: ast.expr,
        values: Sequence[Number | None],
        true: Sequence[Number],
        target: Sequence[Number],
    ) -> Judged:
        here = [one for one in values if one is not None]
        if len(here) < len(target) or here[0].shape != target[0].shape:
            return Judged(name, "wrong", float("inf"), note=self._misfit(name, link))
        if all(map(close, here, true)):
            return Judged(name, "correct")
        if all(map(close, here, target)):
            return Judged(name, "carried", note="It is right for the adjoints claimed above it")
        apart = [
            float((a - b).abs().max() / torch.maximum(a.abs().max(), b.abs().max()))
            for a, b in zip(here, target, strict=True)
        ]
        return Judged(name, "wrong", max(apart))

    def _misfit(self, name: str, link: ast.expr) -> str:
        try:
            return f"its shape is {self.problem.shape(link)}, that of {name} is {self.problem.shape(ast.Name(name))}"
        except InputError as error:
            return str(error).rstrip(".")

    def _keep(self, name: str, values: Sequence[Number | None]) -> None:
        """Takes what is claimed as said, where it has the shape for it."""
        for one, claimed, value in zip(self._filled, self._claimed, values, strict=True):
            if value is not None and value.shape == one.values[name].shape:
                claimed[name] = value


def problem_of(graph: Graph, scope: Scope) -> Problem:
    """A graph with what its names stand for.

    Raises:
        UnusableError: a graph without steps, one that gives a name twice.
    """
    if not graph.assignments:
        raise UnusableError("there is no step in the graph", expected="lines such as a1 = W1 @ x + b1")
    seen: set[str] = set()
    for step in graph.assignments:
        if step.name in seen or step.name in scope.numbers or step.name in scope.shapes:
            raise UnusableError(f"line {step.line} gives {step.name} another meaning", expected="a name for each step")
        seen.add(step.name)
    return Problem(graph.assignments, setting_above(scope))


def judge(claim: Claim, scope: Scope) -> Verdict | None:
    """Judges a claim about an adjoint, `bar(NAME) = ...`, in the last graph above it."""
    first = claim.links[0]
    if not (isinstance(first, ast.Call) and isinstance(first.func, ast.Name) and first.func.id == "bar"):
        return None
    if len(claim.links) < 2 or len(first.args) != 1 or not isinstance(first.args[0], ast.Name):
        raise UnusableError("an adjoint is claimed of one name", expected="claim bar(NAME) = EXPRESSION")
    if not scope.graphs:
        raise UnusableError("there is no graph above", expected="lines NAME = EXPRESSION between graph and end")
    try:
        found = backward_of(scope.graphs[-1], scope).judge(first.args[0].id, claim.links[1:])
    except InputError as error:
        raise UnusableError.of(error) from error
    notes = [f"{found.note}."] if found.note else []
    cause = found.cause or Cause("", "")
    return Verdict(found.verdict, cause=cause.name, explanation=cause.explanation, notes=notes)


def backward_of(graph: Graph, scope: Scope) -> Backward:
    """The backward pass of a graph, as far as it has been judged in this sheet."""
    passes: dict[int, Backward] = scope.memory.setdefault("adjoint", {})
    if graph.line not in passes:
        passes[graph.line] = Backward(problem_of(graph, scope), scope.seed)
    return passes[graph.line]


def closing(scope: Scope) -> tuple[list[str], dict[int, str]]:
    """What is to be said of graphs once all claims are judged: notes, and drawings by the lines of the graphs."""
    notes, figures = [], {}
    for line, backward in scope.memory.get("adjoint", {}).items():
        if left := backward.unclaimed():
            notes.append(f"Nobody claims the adjoint of {', '.join(left)}.")
        figures[line] = backward.svg()
    return notes, figures
