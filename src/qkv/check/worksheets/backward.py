"""A graph of named steps, forward and back: the adjoint of every node by autograd, one node at a time.

The adjoint of a node is the gradient of the loss by it (Griewank and Walther, Evaluating Derivatives, 2008, chapter 3):
`bar(v) = sum over what uses v of (d u / d v).T bar(u)`. Each node goes back alone, so that an adjoint can be asked
for from those that a person claims for the nodes behind it.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from qkv.check.worksheets.algebra import Definition, Setting
from qkv.check.worksheets.instances import Instance, Tensors, drawn, sizes_for
from qkv.check.worksheets.shapes import Shape, Shapes
from qkv.check.worksheets.syntax import Assignment
from qkv.check.worksheets.tensors import Number
from qkv.errors import InputError

_CHOICES = 4  # of sizes
_TOLERANCE = 1e-8
_CONSTANT = ("onehot", "distribution", "mask", "permutation")


@dataclass(frozen=True)
class Problem:
    """A graph, and what its leaves are.

    Attributes:
        steps: in the order in which they are computed; the last is the loss.
        setting: the shapes or numbers of the leaves, functions that are defined.
    """

    steps: Sequence[Assignment]
    setting: Setting

    @property
    def loss(self) -> str:
        return self.steps[-1].name

    @cached_property
    def leaves(self) -> list[str]:
        """What the steps read and none of them gives, in the order in which it is read; sizes left out."""
        made = {step.name for step in self.steps}
        return [name for name in dict.fromkeys(name for step in self.steps for name in self.inputs(step))
                if name not in made]  # fmt: skip

    @property
    def constants(self) -> set[str]:
        """Leaves that nobody asks the adjoint of: numbers, and what is given as a target, a mask or an order."""
        setting = self.setting
        return {name for name in self.leaves if name in setting.values or setting.symbols[name].kind in _CONSTANT}

    @cached_property
    def shapes(self) -> Shapes:
        """The shapes of all names and of all adjoints, which have those of their nodes.

        Raises:
            InputError: a step whose shapes do not fit, or that reads a name which is not known.
        """
        setting = self.setting
        nodes = {step.name: Definition((), step.value) for step in self.steps}
        bars = {f"bar({name})": Definition((), ast.Name(name)) for name in [*nodes, *setting.symbols, *setting.values]}
        shapes = Shapes(replace(setting, definitions={**setting.definitions, **nodes, **bars}))
        for step in self.steps:
            try:
                shapes.named(step.name, {})
            except InputError as error:
                raise InputError(f"line {step.line} of the graph, {step.text.strip()}: {error}") from error
        return shapes

    def shape(self, node: ast.expr) -> Shape:
        """The shape of an expression of nodes and adjoints.

        Raises:
            InputError: shapes that do not fit, a name that is not known.
        """
        return self.shapes.evaluate(plain(node))

    def axes(self, node: ast.expr) -> int | None:
        """How many axes an expression has, None where its shapes do not fit."""
        try:
            return len(self.shape(node).sizes)
        except InputError:
            return None

    def inputs(self, step: Assignment) -> list[str]:
        """The leaves and steps that a step reads, each once, in the order in which they stand there."""
        known = {*self.setting.symbols, *self.setting.values, *(one.name for one in self.steps)}
        in_order = re.findall(r"[^\W\d]\w*", ast.unparse(step.value))
        stands = [*in_order, *sorted(self.setting.reach(step.value))]
        return [name for name in dict.fromkeys(stands) if name in known]

    def users(self, name: str) -> list[str]:
        """The steps that read `name`."""
        return [step.name for step in self.steps if name in self.inputs(step)]


def value(node: ast.expr, at: Mapping[str, Number], sizes: Mapping[str, int], setting: Setting) -> Number:
    """The value of an expression where names, and adjoints such as `bar(a)`, are known.

    Raises:
        InputError: names that are not known, shapes that do not fit.
    """
    try:
        return Tensors(setting, Instance(sizes, at)).evaluate(plain(node), at)
    except (RuntimeError, IndexError, TypeError) as error:
        raise InputError(f"shapes do not fit in {ast.unparse(node)}") from error


def rebuilt(tree: Any, change: Callable[[ast.AST], ast.expr | None]) -> Any:
    """A copy of a tree with what `change` gives in the place of each node for which it gives anything."""
    if isinstance(tree, list):
        return [rebuilt(part, change) for part in tree]
    if not isinstance(tree, ast.AST):
        return tree
    new = change(tree)
    return type(tree)(**{name: rebuilt(part, change) for name, part in ast.iter_fields(tree)}) if new is None else new


def plain(node: ast.expr) -> ast.expr:
    """A copy with a name of its own in the place of each adjoint."""

    def name_for(node: ast.AST) -> ast.expr | None:
        bar = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "bar"
        return ast.Name(ast.unparse(node), ast.Load()) if bar else None

    return rebuilt(node, name_for)


class Filled:
    """One way to fill the leaves of a graph with numbers, computed forward.

    Attributes:
        sizes: what the names of sizes stand for.
        values: every leaf and every node.
    """

    def __init__(self, problem: Problem, sizes: Mapping[str, int], leaves: Mapping[str, Number]):
        self.problem, self.sizes = problem, dict(sizes)
        self.values: dict[str, Number] = dict(leaves)
        self._local: dict[str, tuple[Number, dict[str, Number]]] = {}
        for step in problem.steps:
            inputs = {name: self.values[name].clone().requires_grad_() for name in problem.inputs(step)}
            result = self.evaluate(step.value, inputs)
            self._local[step.name] = result, inputs
            self.values[step.name] = result.detach()

    def evaluate(self, node: ast.expr, at: Mapping[str, Number]) -> Number:
        """The value of an expression here, where names and adjoints are what `at` says."""
        return value(node, at, self.sizes, self.problem.setting)

    def back(self, step: str, bar: Number) -> dict[str, Number]:
        """What each input of one step gets through it, given the adjoint of the step."""
        result, inputs = self._local[step]
        if not result.requires_grad:
            return {name: torch.zeros_like(leaf) for name, leaf in inputs.items()}
        pulled = torch.autograd.grad(
            result, list(inputs.values()), bar, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return dict(zip(inputs, pulled, strict=True))

    def sweep(self, claimed: Mapping[str, Number]) -> "Swept":
        """All adjoints from the loss back, those of `claimed` nodes taken as said for what lies before them."""
        swept = Swept({}, {name: {} for name in self.values})
        for step in reversed(self.problem.steps):
            derived = self._sum(step.name, swept.paths[step.name])
            swept.derived[step.name] = derived
            for name, part in self.back(step.name, claimed.get(step.name, derived)).items():
                swept.paths[name][step.name] = part
        for leaf in self.problem.leaves:
            swept.derived[leaf] = self._sum(leaf, swept.paths[leaf])
        return swept

    def _sum(self, name: str, paths: Mapping[str, Number]) -> Number:
        if name == self.problem.loss:
            return torch.ones((), dtype=torch.float64)
        return sum(paths.values(), start=torch.zeros_like(self.values[name]))


@dataclass(frozen=True)
class Swept:
    """Adjoints as they follow from those behind them.

    Attributes:
        derived: of each node and leaf.
        paths: the parts of each, by the step that a part comes through.
    """

    derived: dict[str, Number]
    paths: dict[str, dict[str, Number]]


def filled(problem: Problem, seed: int = 0) -> list[Filled]:
    """Several ways to fill a graph with numbers: random ones, in distinct sizes.

    Raises:
        InputError: a name that is not known, shapes that do not fit, a loss that is not one number.
    """
    if problem.shape(ast.Name(problem.loss)).sizes:
        got = str(problem.shape(ast.Name(problem.loss)))
        raise InputError(f"{problem.loss}, the last step, is the loss", expected="one number", got=got)
    sizes = sizes_for(problem.shapes.setting, [problem.steps[-1].value], _CHOICES, seed)
    made = []
    for number in range(_CHOICES):
        generator = torch.Generator().manual_seed(seed * 1009 + number)
        made.append(_filled(problem, sizes[number % len(sizes)], generator))
    return made


def _filled(problem: Problem, sizes: Mapping[str, int], generator: torch.Generator) -> Filled:
    """Normal numbers, or their magnitudes where a step has no value for negative ones."""
    given = {name: torch.as_tensor(number, dtype=torch.float64) for name, number in problem.setting.values.items()}
    for style in ("normal", "positive"):
        leaves = {name: drawn(one, sizes, generator, style) for name, one in problem.setting.symbols.items()}
        for name, one in problem.setting.symbols.items():
            if not one.kind and len(one.shape) > 1:
                leaves[name] *= (
                    leaves[name].shape[-1] ** -0.5
                )  # so that sums of many terms drive no softmax to its ends
        made = Filled(problem, sizes, leaves | given)
        bad = [step for step in problem.steps if not bool(torch.isfinite(made.values[step.name]).all())]
        if not bad:
            return made
    raise InputError(f"{bad[0].name} has no finite value", got=ast.unparse(bad[0].value))


def close(left: Number, right: Number) -> bool:
    """Whether two arrays have one shape and agree to what rounding in float64 leaves."""
    if left.shape != right.shape:
        return False
    return bool(((left - right).abs() <= _TOLERANCE * max(_largest(left), _largest(right))).all())


def _largest(x: Number) -> float:
    return float(x.abs().max()) if x.numel() else 0.0
