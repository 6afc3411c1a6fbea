"""Expressions of a worksheet over names, walked once for all: what they come to is for each algebra to say.

`Tensors` computes them in random instances, `Sizes` finds shapes and counts operations, `Forms` multiplies them out by
rule. All three mean the same by a name, a definition and a call, which is what stands here.
"""

import ast
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from qkv.check.worksheets.arithmetic import AXES
from qkv.errors import InputError, unknown_name

T = TypeVar("T")

DERIVATIVES = {"grad": 2, "jacobian": 2, "hessian": 2, "hvp": 3}
"""How many arguments each derivative takes: a function, what it is differentiated by, and for `hvp` a vector."""

ELEMENTWISE = ("abs", "exp", "log", "sqrt", "sigmoid", "relu", "tanh", "step", "hard_threshold")
REDUCTIONS = ("sum", "mean", "max", "min", "argmax")
FUNCTIONS = (
    *ELEMENTWISE, *REDUCTIONS, "softmax", "log_softmax", "trace", "diag", "vec", "concat", "ones", "zeros",
    "eye", "norm", "outer", "dot", "taylor", *DERIVATIVES,
)  # fmt: skip

_CONSTANTS = {"pi": math.pi, "e": math.e}
_DEEPEST = 40  # definitions within definitions
_OPERATORS = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.MatMult: "matmul",
    ast.Pow: "power",
}


@dataclass(frozen=True)
class Symbol:
    """A name of which nothing is known but its shape and, where it is said, its kind: one of `syntax.KINDS`."""

    shape: tuple[ast.expr, ...]
    kind: str = ""


@dataclass(frozen=True)
class Definition:
    """What a name stands for; a function where it has parameters."""

    parameters: tuple[str, ...]
    body: ast.expr


@dataclass(frozen=True)
class Setting:
    """What a claim is made over.

    Attributes:
        symbols: names given by shape.
        values: names given by numbers.
        definitions: names and functions defined from others, all of them earlier ones.
        conditions: what is assumed of sizes, such as `m <= n`.
    """

    symbols: Mapping[str, Symbol] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    conditions: Sequence[ast.expr] = ()

    @property
    def sizes(self) -> list[str]:
        """The names of sizes, in the order in which shapes and conditions mention them."""
        shapes = (size for symbol in self.symbols.values() for size in symbol.shape)
        found = map(names_in, [*shapes, *self.conditions])
        return list(dict.fromkeys(name for names in found for name in names))

    def reach(self, *expressions: ast.expr) -> set[str]:
        """All names that expressions stand on, through definitions too."""
        waiting, seen = [name for node in expressions for name in names_in(node)], set[str]()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                if (definition := self.definitions.get(name)) is not None:
                    waiting += set(names_in(definition.body)) - set(definition.parameters)
        return seen

    def limited(self, *expressions: ast.expr) -> "Setting":
        """This setting with no more names than expressions stand on, and what is assumed of their sizes."""
        reached = self.reach(*expressions)
        symbols = {name: one for name, one in self.symbols.items() if name in reached}
        values = {name: one for name, one in self.values.items() if name in reached}
        definitions = {name: one for name, one in self.definitions.items() if name in reached}
        sizes = {name for one in symbols.values() for size in one.shape for name in names_in(size)} | reached
        conditions = [condition for condition in self.conditions if set(names_in(condition)) <= sizes]
        return Setting(symbols, values, definitions, conditions)


class Algebra(ABC, Generic[T]):
    """What expressions come to; `evaluate` walks them, the methods without a body say what their parts come to."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.known: dict[str, T] = {}  # what named things came to: each is worked out once
        self._depth = 0

    # -- what parts come to

    @abstractmethod
    def number(self, value: int | float) -> T: ...
    @abstractmethod
    def symbol(self, name: str) -> T: ...
    @abstractmethod
    def size(self, name: str) -> T: ...
    @abstractmethod
    def value(self, value: Any) -> T: ...
    @abstractmethod
    def transpose(self, a: T) -> T: ...
    @abstractmethod
    def negate(self, a: T) -> T: ...
    @abstractmethod
    def add(self, a: T, b: T) -> T: ...
    @abstractmethod
    def multiply(self, a: T, b: T) -> T: ...
    @abstractmethod
    def divide(self, a: T, b: T) -> T: ...
    @abstractmethod
    def power(self, a: T, b: T) -> T: ...
    @abstractmethod
    def matmul(self, a: T, b: T) -> T: ...
    @abstractmethod
    def index(self, a: T, places: ast.expr) -> T: ...
    @abstractmethod
    def stack(self, rows: list[T]) -> T: ...
    @abstractmethod
    def call(self, name: str, arguments: list[T], keywords: dict[str, T]) -> T: ...
    @abstractmethod
    def derivative(self, name: str, of: ast.expr, by: str, along: T | None, local: Mapping[str, T]) -> T: ...

    @abstractmethod
    def is_flat(self, a: T) -> bool:
        """Whether this is a vector without rows and columns."""

    def subtract(self, a: T, b: T) -> T:
        return self.add(a, self.negate(b))

    # -- the walk

    def evaluate(self, node: ast.expr, local: Mapping[str, T] | None = None) -> T:
        """What an expression comes to, where `local` says what parameters stand for.

        Raises:
            InputError: a name that is not known, shapes that do not fit, what this algebra does not know.
        """
        local = local or {}
        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                return self.number(value)
            case ast.Name(id=name):
                return self.named(name, local)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.negate(self.evaluate(operand, local))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.evaluate(operand, local)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                a, b = self.evaluate(left, local), self.evaluate(right, local)
                if isinstance(op, ast.MatMult) and _is_transpose(right) and self.is_flat(a) and self.is_flat(b):
                    raise InputError(
                        f"{ast.unparse(node)} of flat vectors is a number, not a matrix",
                        hint=f"outer({ast.unparse(left)}, {ast.unparse(right.value)})",  # pyright: ignore[reportAttributeAccessIssue] - a transpose has one
                    )
                return getattr(self, _OPERATORS[type(op)])(a, b)
            case ast.Attribute(value=value, attr="T"):
                return self.transpose(self.evaluate(value, local))
            case ast.Subscript(value=value, slice=places):
                return self.index(self.evaluate(value, local), places)
            case ast.List(elts=rows) | ast.Tuple(elts=rows):
                return self.stack([self.evaluate(row, local) for row in rows])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                return self._called(name, arguments, keywords, local)
        raise InputError(f"{ast.unparse(node)} cannot be used here", expected="arithmetic over names")

    def named(self, name: str, local: Mapping[str, T]) -> T:
        """What a name stands for."""
        if name in local:
            return local[name]
        if name not in self.known:
            self.known[name] = self._looked_up(name)
        return self.known[name]

    def _looked_up(self, name: str) -> T:
        setting = self.setting
        if name in setting.symbols:
            return self.symbol(name)
        if name in setting.values:
            return self.value(setting.values[name])
        if name in setting.definitions:
            definition = setting.definitions[name]
            if definition.parameters:
                called = f"{name}({', '.join(definition.parameters)})"
                raise InputError(f"{name} is a function", expected=called, got=name, hint=called)
            return self._within(definition.body, {})
        if name in setting.sizes:
            return self.size(name)
        if name in _CONSTANTS:
            return self.number(_CONSTANTS[name])
        raise unknown_name("name", name, [*setting.symbols, *setting.values, *setting.definitions, *setting.sizes])

    def _called(self, name: str, arguments: list[ast.expr], keywords: list[ast.keyword], local: Mapping[str, T]) -> T:
        definition = self.setting.definitions.get(name)
        if definition is None or not definition.parameters:
            if name in DERIVATIVES:
                return self._derived(name, arguments, local)
            if name not in FUNCTIONS:
                raise unknown_name("function", name, [*FUNCTIONS, *functions(self.setting)])
            values = [self.evaluate(argument, local) for argument in arguments]
            return self.call(name, values, {str(word.arg): self._option(word.value, local) for word in keywords})
        if keywords or len(arguments) != len(definition.parameters):
            expected = f"{name}({', '.join(definition.parameters)})"
            raise InputError(
                f"{name} is called with other arguments", expected=expected, got=f"{len(arguments)} of them"
            )
        values = [self.evaluate(argument, local) for argument in arguments]
        return self._within(definition.body, dict(zip(definition.parameters, values, strict=True)))

    def _option(self, node: ast.expr, local: Mapping[str, T]) -> T:
        """The value of a keyword argument; axes may go by what people call them."""
        if isinstance(node, ast.Name) and node.id in AXES and not (node.id in local or node.id in self.setting.symbols):
            return self.number(AXES[node.id])
        return self.evaluate(node, local)

    def _within(self, body: ast.expr, local: Mapping[str, T]) -> T:
        if self._depth >= _DEEPEST:
            raise InputError("definitions stand on one another without an end", expected=f"at most {_DEEPEST} deep")
        self._depth += 1
        try:
            return self.evaluate(body, local)
        finally:
            self._depth -= 1

    def _derived(self, name: str, arguments: list[ast.expr], local: Mapping[str, T]) -> T:
        usage = f"{name}(L, x{', y' * (DERIVATIVES[name] - 2)})"
        if len(arguments) != DERIVATIVES[name] or not isinstance(arguments[1], ast.Name):
            got = f"{name}({', '.join(map(ast.unparse, arguments))})"
            raise InputError(f"{name} is by a name", expected=usage, got=got)
        of, by = arguments[0], arguments[1].id
        definition = self.setting.definitions.get(of.id) if isinstance(of, ast.Name) else None
        if definition and definition.parameters:  # `L` for `L(x)`
            own = [by] if len(definition.parameters) == 1 else definition.parameters
            of = ast.Call(of, [ast.Name(parameter) for parameter in own], [])
        along = self.evaluate(arguments[2], local) if len(arguments) == 3 else None
        return self.derivative(name, of, by, along, local)


def functions(setting: Setting) -> list[str]:
    """The names of functions that a setting defines."""
    return [name for name, definition in setting.definitions.items() if definition.parameters]


def names_in(node: ast.AST) -> Iterator[str]:
    """The names that an expression mentions, functions among them, in order."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id


def calls_in(node: ast.AST) -> set[str]:
    """The functions that an expression calls by name."""
    return {part.func.id for part in ast.walk(node) if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)}


def _is_transpose(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "T"
