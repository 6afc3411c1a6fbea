"""A reference formula, and what it computes with one of its operands another: the variants that mistakes are found by.

A formula is the source of a function and of those that it calls. Every name, call, operator and number in it is a
switch: it may be another of its kind, be left out, stand twice. What is particular to a case (orders of gates, ways to
split heads, norm order) is listed with the case, and tried first.
"""

import ast
import copy
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FrameType, ModuleType
from typing import Any

from torch import Tensor

from qkv.check.parity.formulas import common
from qkv.check.parity.formulas.common import ACTIVATIONS

# What a cause can be called, and what the name stands for.
CAUSES = {
    "activation": "a nonlinearity is left out, or another's",
    "axis": "softmax or a mean runs along another axis",
    "bias": "a bias is left out, counted twice, or another's",
    "direction": "a sequence is read or put back in the wrong direction",
    "dropout": "dropout is left out, stands elsewhere, or is at work in evaluation",
    "epsilon": "the epsilon of a norm is another, or stands elsewhere",
    "factor": "a factor is left out or too many",
    "gate order": "gates lie in another order than the reference's",
    "gradient": "values are right, but part of a gradient is cut off",
    "groups": "channels are dealt out to groups otherwise",
    "heads": "heads are split or joined along the wrong axis",
    "kernel": "a kernel is turned round",
    "mask": "a mask or padding is ignored, of the opposite meaning, or at the wrong place",
    "norm": "a norm is left out, or another's",
    "norm order": "norms stand after blocks instead of before them, or before instead of after",
    "operand": "another value stands in an operation",
    "operation": "another operator stands between two values",
    "padding": "padding is left out, of another size, or its row is treated otherwise",
    "precision": "part of it is computed in less precision than its inputs have",
    "projection": "the weights of query, key and value are exchanged",
    "reset": "the reset gate stands before the product, not after it",
    "residual": "what goes past a block is left out, counted twice, or something else",
    "scale": "scores are scaled otherwise, or not at all",
    "sign": "a sign is the other way round",
    "state": "a state is not carried on, or is another's",
    "stride": "stride or dilation is left out or of the other axis",
    "term": "a term is left out or too many",
    "transposed": "a weight stands transposed",
    "variance": "the variance is computed otherwise",
    "weight": "another weight stands in a product, or none",
    "other": "no single change of the formula, and no two that were tried, compute what it does",
}


@dataclass(frozen=True)
class Named:
    """A change that a case lists: everywhere in its formula, `old` becomes `new`."""

    cause: str
    old: str
    new: str
    words: str = ""


@dataclass(frozen=True)
class Change:
    """One change: a name out of `CAUSES`, and what becomes of a function where it is the one that changes."""

    cause: str
    made: Callable[[int, ast.FunctionDef], ast.FunctionDef | None]
    words: str = ""


class Formula:
    """The source of reference functions.

    Args:
        module: where they are written.
        names: the function that is called, and those that it calls and that may be changed too.
        named: changes of this case's own.
    """

    def __init__(self, module: ModuleType, names: Sequence[str], named: Iterable[Named] = ()):
        self.module, self.names, self.named = module, names, tuple(named)
        self.file = f"<formula {names[0]}>"

    @cached_property
    def parts(self) -> list[ast.FunctionDef]:
        """The functions, as trees."""
        whole = ast.parse(inspect.getsource(self.module)).body
        return [part for part in whole if isinstance(part, ast.FunctionDef) and part.name in self.names]

    @cached_property
    def codes(self) -> list[CodeType]:
        return [compile(ast.Module([part], []), self.file, "exec") for part in self.parts]

    @cached_property
    def right(self) -> "Variant":
        """The formula as it is."""
        return Variant(self, ())

    def variants(self, run: Callable[[Mapping[str, Any]], Any]) -> Iterator["Variant"]:
        """All single changes, the likeliest first; `run` runs the formula, so that its names are known."""
        known = self._known(run)
        for named in self.named:
            if any(named.old in ast.unparse(part) for part in self.parts):
                yield Variant(self, (Change(named.cause, _replacement(named.old, named.new), named.words),))
        for stage in (_less, _otherwise, _swapped, _more):
            for place, part in enumerate(self.parts):
                for function, statement in _statements(part.name, part.body):
                    for cause, old, new in stage(statement, known.get(function, {})):
                        path = _path(part, old)
                        if path is not None:
                            yield Variant(self, (Change(cause, _placement(place, path, old, new)),))

    def _known(self, run: Callable[[Mapping[str, Any]], Any]) -> dict[str, dict[str, Any]]:
        """What each function's names stand for when it returns: shapes of tensors, and "function"."""
        found: dict[str, dict[str, Any]] = {}

        def watch(frame: FrameType, event: str, _: Any) -> None:
            if event == "return" and frame.f_code.co_filename == self.file:
                mine = found.setdefault(frame.f_code.co_name, {})
                for name, value in frame.f_locals.items():
                    if isinstance(value, Tensor):
                        mine.setdefault(name, tuple(value.shape))
                    elif callable(value):
                        mine.setdefault(name, "function")
                    elif isinstance(value, tuple) and all(isinstance(one, Tensor) for one in value):
                        mine.setdefault(name, tuple(tuple(one.shape) for one in value))

        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            run(self.right.functions)
        finally:
            sys.setprofile(before if callable(before) else None)
        return found


@dataclass(frozen=True)
class Variant:
    """A formula with changes; without any it is right."""

    formula: Formula
    changes: tuple[Change, ...]

    @property
    def cause(self) -> str:
        return self.changes[0].cause

    @cached_property
    def parts(self) -> list[ast.FunctionDef]:
        """The functions as changed; those that are not stay the same objects."""
        parts = list(self.formula.parts)
        for change in self.changes:
            for place, part in enumerate(parts):
                made = change.made(place, part)
                parts[place] = part if made is None else made
        return parts

    @cached_property
    def functions(self) -> dict[str, Any]:
        """Compiled, by name."""
        names = {**vars(common), **vars(self.formula.module)}
        for part, right, code in zip(self.parts, self.formula.parts, self.formula.codes, strict=True):
            if part is not right:
                code = compile(ast.fix_missing_locations(ast.Module([part], [])), self.formula.file, "exec")
            exec(code, names)
        return names

    def differences(self) -> list[tuple[str, str, str]]:
        """For each changed function: where it changes, the line in the reference, and as it is changed."""
        pairs = zip(self.formula.parts, self.parts, strict=True)
        return [_difference(right, part) for right, part in pairs if part is not right]

    def beside(self, other: "Variant") -> "Variant":
        """The changes of both."""
        return Variant(self.formula, self.changes + other.changes)


# -- single changes ----------------------------------------------------------------------------------------------------

Found = tuple[str, ast.AST, ast.AST]


def _less(statement: ast.stmt, _: Mapping[str, Any]) -> Iterator[Found]:
    """A call, a transpose, a term or a factor left out."""
    for node in _expressions(statement):
        match node:
            case ast.Call(func=ast.Attribute(value=inner, attr=name)) if name in _METHODS:
                yield _METHODS[name], node, inner
            case ast.Call(func=ast.Name(id=name), args=[inner, *_]) if name not in ("range", "len", "gates", "cat"):
                yield _of_call(name), node, inner
            case ast.Attribute(value=inner, attr="T" | "mT"):
                yield "transposed", node, inner
            case ast.UnaryOp(operand=inner):
                yield ("mask" if isinstance(node.op, ast.Invert) else "sign"), node, inner
            case ast.BinOp(left=left, right=right):
                yield _of_part(node, right, statement), node, left
                if not isinstance(node.op, (ast.Div, ast.Pow)):
                    yield _of_part(node, left, statement), node, right


_METHODS = {"flip": "direction", "masked_fill": "mask", "detach": "padding", "square": "variance"}


def _of_call(name: str) -> str:
    if name in ACTIVATIONS or name == "activation":
        return "activation"
    for part, cause in (("norm", "norm"), ("dropout", "dropout"), ("softmax", "activation"), ("sqrt", "operation")):
        if name.startswith(part):
            return cause
    return "operation"


def _of_part(whole: ast.BinOp, part: ast.expr, statement: ast.stmt) -> str:
    """What it means that a part of an operation is left out."""
    text = ast.unparse(part)
    if isinstance(whole.op, (ast.Add, ast.Sub)):
        if _is_bias(text):
            return "bias"
        if text == "eps":
            return "epsilon"
        return "residual" if _has_block(statement) else "term"
    if isinstance(whole.op, ast.MatMult):
        return "weight"
    if "shape" in text:
        return "scale"
    if text == "weight":
        return "weight"
    return "operand" if isinstance(part, ast.Name) or not isinstance(part, ast.Constant) else "factor"


def _is_bias(text: str) -> bool:
    return bool(re.match(r"b_\w+$|bias\b", text))


def _has_block(statement: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and re.match("attend|feed_forward", node.func.id)
        for node in ast.walk(statement)
    )


def _otherwise(statement: ast.stmt, _: Mapping[str, Any]) -> Iterator[Found]:
    """Another function, operator, sign, axis or number."""
    if isinstance(statement, ast.If):
        cause = "norm order" if "norm" in ast.unparse(statement.test) else "mask"
        yield cause, statement.test, ast.UnaryOp(ast.Not(), statement.test)
        return
    for node in _expressions(statement):
        match node:
            case ast.Name(id="training"):
                yield "dropout", node, ast.Constant(True)
            case ast.Name(id=name) if name in ACTIVATIONS or name == "activation":
                yield from (("activation", node, ast.Name(other, ast.Load())) for other in ACTIVATIONS if other != name)
            case ast.BinOp(op=op, left=left, right=right):
                for other in _OPERATORS.get(type(op), ()):
                    signs = {type(op), other} == {ast.Add, ast.Sub}
                    yield ("sign" if signs else "operation"), node, ast.BinOp(left, other(), right)
                if isinstance(op, ast.Sub):
                    yield "sign", node, ast.BinOp(right, op, left)
            case ast.IfExp(test=test, body=body, orelse=other):
                yield ("direction" if "direction" in ast.unparse(test) else "dropout"), node, other
                yield ("direction" if "direction" in ast.unparse(test) else "dropout"), node, body
            case ast.Call(func=ast.Name(id="softmax"), args=[inner, _]):
                yield from (("axis", node, _filled(f"softmax({{}}, {axis})", inner)) for axis in (-2, 1, 0))
            case ast.Call(func=ast.Attribute(value=inner, attr="mean"), args=[axis]):
                for other in (0, 1, -2):
                    yield "axis", axis, ast.parse(str(other), mode="eval").body


_OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add, ast.Mult),
    ast.Mult: (ast.Add, ast.Div),
    ast.Div: (ast.Mult,),
}


def _swapped(statement: ast.stmt, known: Mapping[str, Any]) -> Iterator[Found]:
    """Another value of the same shape; two names exchanged throughout the line."""
    names = [node for node in _expressions(statement) if isinstance(node, ast.Name) and node.id in known]
    for node in names:
        for other, shape in known.items():
            if other != node.id and shape == known[node.id]:
                yield _of_names(node.id, other, statement), node, ast.Name(other, ast.Load())
    value = getattr(statement, "value", None)
    present = sorted({node.id for node in names})
    for place, first in enumerate(present):
        for second in present[place + 1 :]:
            if value is not None and known[first] == known[second]:
                exchanged = _Renamed({first: second, second: first}).visit(copy.deepcopy(value))
                yield _of_names(first, second, statement), value, exchanged
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple):
        targets = [one.id for one in statement.targets[0].elts if isinstance(one, ast.Name)]
        for place, first in enumerate(targets):
            for second in targets[place + 1 :]:
                if known.get(first) == known.get(second) is not None:
                    exchanged = _Renamed({first: second, second: first}).visit(copy.deepcopy(statement.targets[0]))
                    yield _of_names(first, second, statement), statement.targets[0], exchanged


def _of_names(first: str, second: str, statement: ast.stmt) -> str:
    if re.match(r"W_[qkv]$", first):
        return "projection"
    if _is_bias(first):
        return "bias"
    if re.match("W_|weight", first):
        return "weight"
    if re.match("norm", first):
        return "norm"
    if re.match("attention|cross|masks", first):
        return "weight" if "mask" not in first else "mask"
    if _has_block(statement):
        return "residual"
    return "state" if re.match(r"[hc]_0", first + second) else "operand"


def _more(statement: ast.stmt, _: Mapping[str, Any]) -> Iterator[Found]:
    """Something twice, negated, halved, cut off from gradients, dropped."""
    for node in _expressions(statement):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            for part in (node.right, node.left):
                yield _of_part(node, part, statement), node, ast.BinOp(node, ast.Add(), part)
        if not isinstance(node, (ast.Name, ast.Call, ast.BinOp)) or not _is_value(node):
            continue
        yield "gradient", node, _filled("{}.detach()", node)
        yield "dropout", node, _filled("dropout({}, p, training)", node)
        yield "sign", node, ast.UnaryOp(ast.USub(), node)
        for way in ("2 * {}", "{} / 2"):
            yield "factor", node, _filled(way, node)
        for name in ("tanh", "sigmoid", "relu"):
            yield "activation", node, _filled(f"{name}({{}})", node)


_NO_VALUES = {
    "p",
    "training",
    "heads",
    "range",
    "len",
    "gates",
    "weights_of",
    "eps",
    "axes",
    "dropout",
    "norm_first",
    "directions",
}


def _is_value(node: ast.expr) -> bool:
    return not (isinstance(node, ast.Name) and (node.id in _NO_VALUES or node.id in ACTIVATIONS))


# -- trees -------------------------------------------------------------------------------------------------------------

Path = list[tuple[str, int | None]]


def _statements(name: str, body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Every statement that computes something, those of functions inside among them, with its function's name."""
    for one in body:
        if isinstance(one, ast.FunctionDef):
            yield from _statements(one.name, one.body)
        if isinstance(one, (ast.Assign, ast.Return, ast.If, ast.Expr)):
            yield name, one
        if isinstance(one, (ast.If, ast.For)):
            yield from _statements(name, [*one.body, *one.orelse])


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    if isinstance(statement, (ast.Assign, ast.Return, ast.Expr)) and statement.value is not None:
        for node in ast.walk(statement.value):
            if isinstance(node, ast.expr):
                yield node


def _path(tree: ast.AST, wanted: ast.AST) -> Path | None:
    """The way down to a node."""
    for name, value in ast.iter_fields(tree):
        several = isinstance(value, list)
        for place, child in enumerate(value if several else [value]):
            step = (name, place if several else None)
            if child is wanted:
                return [step]
            if isinstance(child, ast.AST) and (rest := _path(child, wanted)) is not None:
                return [step, *rest]
    return None


def _placement(at: int, path: Path, old: ast.AST, new: ast.AST) -> Callable[[int, ast.FunctionDef], Any]:
    """Puts `new` at the end of a path in function number `at`, if what is there is still `old`."""
    return lambda place, part: _put(part, path, old, new) if place == at else None


def _put(node: Any, path: Path, old: ast.AST, new: ast.AST) -> Any:
    """A copy of a node with `new` at the end of the path, which shares all else; None where it does not lead there."""
    if not path:
        return new if ast.dump(node) == ast.dump(old) else None
    (name, place), *rest = path
    held = getattr(node, name, None)
    child = held if place is None else held[place] if isinstance(held, list) and place < len(held) else None
    below = _put(child, rest, old, new) if isinstance(child, ast.AST) else None
    if below is None:
        return None
    made = copy.copy(node)
    setattr(made, name, below if place is None else [*held[:place], below, *held[place + 1 :]])  # pyright: ignore
    return made


def _replacement(old: str, new: str) -> Callable[[int, ast.FunctionDef], Any]:
    """Puts the text `new` for `old`, everywhere in a function."""

    def made(_: int, part: ast.FunctionDef) -> ast.stmt | None:
        text = ast.unparse(part)
        return ast.parse(text.replace(old, new)).body[0] if old in text else None

    return made


def _difference(right: ast.FunctionDef, part: ast.FunctionDef) -> tuple[str, str, str]:
    lines, others = (ast.unparse(ast.fix_missing_locations(one)).splitlines() for one in (right, part))
    place = next((k for k, (a, b) in enumerate(zip(lines, others, strict=False)) if a != b), 0)
    stands = lines[place].strip()
    return stands.split(" = ")[0] if " = " in stands else "what it returns", stands, others[place].strip()


def _filled(way: str, blank: ast.expr) -> Any:
    whole = ast.parse(way.format("__it__"), mode="eval").body

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return copy.deepcopy(blank) if node.id == "__it__" else node

    return Fill().visit(whole)


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]):
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)
