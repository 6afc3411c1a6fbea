"""Expressions of numbers, evaluated: a walk over the tree, nothing of it as Python."""

import ast
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qkv.check.worksheets.arithmetic import AXES, FUNCTIONS, OPERATORS, fits, negative, shape_text, transpose, whole
from qkv.check.worksheets.expressions import scaled
from qkv.check.worksheets.syntax import Let
from qkv.check.worksheets.values import Exact, UnusableError, Value, objects
from qkv.errors import unknown_name

CONSTANTS: dict[str, Value] = {"inf": np.array(math.inf), "pi": np.array(math.pi), "e": np.array(math.e)}
"""Names that stand for numbers unless a worksheet gives them another meaning."""

_WHOLE = ("axis", "keepdims", "row", "column")
_DEPTH = 24


@dataclass(frozen=True)
class Evaluator:
    """Evaluates expressions.

    Attributes:
        values: the numbers that names stand for.
        functions: defined by the worksheet.
        tick: called at every node; it may raise where time is over.
        depth: how many functions are being called inside one another.
    """

    values: Mapping[str, Value]
    functions: Mapping[str, Let]
    tick: Callable[[], None] = lambda: None
    depth: int = 0

    def __call__(self, node: ast.expr) -> Value:
        """The value of an expression.

        Raises:
            UnusableError: an unknown name, shapes that do not fit, what is no number.
        """
        self.tick()
        match node:
            case ast.Constant():
                numerator, denominator = scaled(node)
                return Exact(objects([numerator], ()), denominator)
            case ast.Name(id=name):
                return self._named(name)
            case ast.UnaryOp(op=ast.USub()):
                return negative(self(node.operand))
            case ast.UnaryOp(op=ast.UAdd()):
                return self(node.operand)
            case ast.BinOp():
                left, right = self(node.left), self(node.right)
                if (
                    isinstance(node.op, ast.MatMult)
                    and left.ndim == right.ndim == 1
                    and isinstance(node.right, ast.Attribute)
                ):
                    outer = f"outer({ast.unparse(node.left)}, {ast.unparse(node.right.value)})"
                    raise UnusableError(
                        f"{ast.unparse(node.right)} of a flat vector is the same flat vector",
                        expected="a matrix, or dot products without .T", hint=outer,
                    )  # fmt: skip
                return OPERATORS[type(node.op)](left, right)
            case ast.List() | ast.Tuple():
                return self._array(node)
            case ast.Attribute():
                return transpose(self(node.value))
            case ast.Subscript():
                return self._indexed(node)
            case ast.Call(func=ast.Name(id=name)):
                return self._called(name, node)
        raise UnusableError(f"{ast.unparse(node)} is no number")

    def _named(self, name: str) -> Value:
        if name in self.values:
            return self.values[name]
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in self.functions or name in FUNCTIONS:
            raise UnusableError(f"{name} is a function", hint=f"{name}(...)")
        raise UnusableError(f"{name} is used but given nowhere above")

    def _array(self, node: ast.List | ast.Tuple) -> Value:
        """A vector of numbers, or a matrix of rows."""
        if not node.elts:
            raise UnusableError("an empty list", expected="numbers in [ and ]")
        if (numbers := _numbers(node.elts)) is not None:
            return Exact(objects(numbers[0], fits((len(numbers[0]),))), numbers[1])
        rows = [self(entry) for entry in node.elts]
        shapes = [row.shape for row in rows]
        if len(set(shapes)) > 1:
            odd = next(place for place, shape in enumerate(shapes) if shape != shapes[0])
            raise UnusableError(
                f"row {odd + 1} does not fit the row above it" if shapes[odd] and shapes[0] else "a list of both",
                expected=shape_text(shapes[0]),
                got=shape_text(shapes[odd]),
            )
        fits((len(rows), *shapes[0]))
        if all(isinstance(row, Exact) for row in rows):
            exact = [row for row in rows if isinstance(row, Exact)]
            denominator = math.lcm(*(row.denominator for row in exact))
            scaled = [n * (denominator // row.denominator) for row in exact for n in row.numerators.flat]
            return Exact(objects(scaled, (len(rows), *shapes[0])), denominator)
        return np.stack([row.floats() if isinstance(row, Exact) else row for row in rows])

    def _indexed(self, node: ast.Subscript) -> Value:
        value = self(node.value)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if len(parts) > value.ndim:
            raise UnusableError(f"{len(parts)} indices into {shape_text(value.shape)}")
        index = []
        for part, size in zip(parts, value.shape, strict=False):
            if isinstance(part, ast.Slice):
                ends = (part.lower, part.upper, part.step)
                start, stop, step = (None if end is None else whole(self(end), "an index") for end in ends)
                if step == 0:
                    raise UnusableError("a step of 0")
                index.append(slice(start, stop, step))
                continue
            place = whole(self(part), "an index")
            if not -size <= place < size:
                raise UnusableError(f"no index {place}", expected=f"0 to {size - 1}, for {shape_text(value.shape)}")
            index.append(place)
        if isinstance(value, Exact):
            taken = np.asarray(value.numerators[tuple(index)], dtype=object)
            fits(taken.shape)
            return Exact(taken, value.denominator)
        taken = np.asarray(value[tuple(index)])
        fits(taken.shape)
        return taken

    def _called(self, name: str, node: ast.Call) -> Value:
        if name in self.functions:
            return self._own(self.functions[name], node)
        if name not in FUNCTIONS:
            raise UnusableError.of(unknown_name("function", name, [*FUNCTIONS, *self.functions]))
        function = FUNCTIONS[name]
        arguments = [self(argument) for argument in node.args]
        options = {word.arg: self._option(word) for word in node.keywords if word.arg}
        place = next((word for word in ("row", "column") if word in options), None)
        if place is not None and arguments:
            arguments[0] = line(arguments[0], place, options.pop(place))
        signature = _signature(function)
        try:
            bound = signature.bind(*arguments, **options)
        except TypeError as error:
            raise UnusableError(f"{name} takes {_spelled(signature)}", got=f"{ast.unparse(node)}") from error
        for word, value in bound.arguments.items():
            if word in _WHOLE and not isinstance(value, int):
                bound.arguments[word] = whole(value, word)
        return function(*bound.args, **bound.kwargs)

    def _option(self, word: ast.keyword) -> int:
        if isinstance(word.value, ast.Name) and word.value.id in AXES and word.value.id not in self.values:
            return AXES[word.value.id]
        return whole(self(word.value), str(word.arg))

    def _own(self, function: Let, node: ast.Call) -> Value:
        parameters = function.parameters or ()
        if len(node.args) != len(parameters) or node.keywords:
            raise UnusableError(f"{function.name} takes ({', '.join(parameters)})", got=ast.unparse(node))
        if self.depth >= _DEPTH:
            raise UnusableError(f"{function.name} calls functions more than {_DEPTH} deep")
        given = dict(zip(parameters, map(self, node.args), strict=True))
        return replace(self, values={**self.values, **given}, depth=self.depth + 1)(function.value)


def _numbers(entries: Sequence[ast.expr]) -> tuple[list[int], int] | None:
    """Numbers that stand in a list, over their common denominator; None where there is anything else."""
    found = []
    for entry in entries:
        bare = entry.operand if isinstance(entry, ast.UnaryOp) and isinstance(entry.op, ast.USub) else entry
        if not isinstance(bare, ast.Constant):
            return None
        numerator, denominator = scaled(bare)
        found.append((numerator if bare is entry else -numerator, denominator))
    common = max(denominator for _, denominator in found)  # powers of ten, so that each divides the largest
    return [numerator * (common // denominator) for numerator, denominator in found], common


def line(value: Value, which: str, place: int) -> Value:
    """One row or column of a matrix, counted from 1."""
    if value.ndim != 2:
        raise UnusableError(f"{which} {place} of {shape_text(value.shape)}", expected="a matrix")
    count = value.shape[which == "column"]
    if not 1 <= place <= count:
        raise UnusableError(f"no {which} {place} in {shape_text(value.shape)}", expected=f"1 to {count}")
    if isinstance(value, Exact):
        return Exact(
            value.numerators[place - 1] if which == "row" else value.numerators[:, place - 1], value.denominator
        )
    return value[place - 1] if which == "row" else value[:, place - 1]


_signature = functools.cache(inspect.signature)


def _spelled(signature: inspect.Signature) -> str:
    """The parameters of a function as one would type them."""
    spelled = []
    for parameter in signature.parameters.values():
        starred = "*" * (parameter.kind is parameter.VAR_POSITIONAL)
        default = "" if parameter.default in (parameter.empty, None) else f"={parameter.default}"
        spelled.append(f"{starred}{parameter.name}{default}")
    return f"({', '.join(spelled)})"
