"""What else an expression might have been taken for: small edits of its tree, each a mistake that people make.

Those that people make most often come first. Each carries the name of its cause and says in words what was done.
"""

import ast
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qkv.check.worksheets.syntax import Let

_NESTED = 24
_UNARY = ("exp", "log", "relu", "sigmoid", "sqrt", "tanh")
_REDUCED = ("max", "mean", "min", "sum")


@dataclass(frozen=True)
class Edited:
    """A part of an expression that was taken for another.

    Attributes:
        cause: the name of the mistake.
        old: the part as it should be.
        new: as it was taken.
    """

    cause: str
    old: ast.expr
    new: ast.expr

    def __str__(self) -> str:
        return f"`{ast.unparse(self.old)}` was computed as `{ast.unparse(self.new)}`"


@dataclass(frozen=True)
class Known:
    """What an edit may draw on: the shapes of names, those of parts of the expression by identity."""

    shapes: Mapping[str, tuple[int, ...]]
    parts: Mapping[int, tuple[int, ...]]

    def shape(self, node: ast.AST) -> tuple[int, ...] | None:
        return self.parts.get(id(node))


def edits(tree: ast.expr, known: Known) -> Iterator[Edited]:
    """Edits of an expression, the likeliest first."""
    for stage in (_scales, _softmaxes, _products, _signs, _functions, _terms, _axes, _places, _operands, _factors):
        for node in expressions(tree):
            for cause, new in stage(node, known):
                yield Edited(cause, node, new)


def expressions(tree: ast.expr) -> Iterator[ast.expr]:
    """The parts of an expression that have a value, from the outside in."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.expr):
            yield node
        below = node.args if isinstance(node, ast.Call) else [*ast.iter_child_nodes(node)]
        if isinstance(node, ast.Subscript):
            below = [node.value]
        waiting += [child for child in below if isinstance(child, ast.expr)]


def exchanged(tree: ast.expr, old: ast.AST, new: ast.AST) -> ast.expr:
    """A tree with `new` where `old` stood; what is not above it is shared."""
    found = _exchanged(tree, old, new)
    assert isinstance(found, ast.expr)
    return found


def _exchanged(tree: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    if tree is old:
        return new
    changed: dict[str, object] = {}
    for name, value in ast.iter_fields(tree):
        below = value if isinstance(value, list) else [value]
        now = [_exchanged(child, old, new) if isinstance(child, ast.AST) else child for child in below]
        if any(one is not other for one, other in zip(now, below, strict=True)):
            changed[name] = now if isinstance(value, list) else now[0]
    if not changed:
        return tree
    twin = copy.copy(tree)
    for name, value in changed.items():
        setattr(twin, name, value)
    return twin


def inlined(tree: ast.expr, functions: Mapping[str, Let], depth: int = 0) -> ast.expr:
    """An expression with the functions that a worksheet defines written out."""
    if depth > _NESTED:
        return tree
    return _Inliner(functions, depth).visit(copy.deepcopy(tree))


class _Inliner(ast.NodeTransformer):
    def __init__(self, functions: Mapping[str, Let], depth: int):
        self.functions, self.depth = functions, depth

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = self.functions.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if function is None or len(function.parameters or ()) != len(node.args):
            return node
        given = dict(zip(function.parameters or (), node.args, strict=True))
        return inlined(_Filled(given).visit(copy.deepcopy(function.value)), self.functions, self.depth + 1)


class _Filled(ast.NodeTransformer):
    """Puts arguments in the place of parameters."""

    def __init__(self, given: Mapping[str, ast.expr]):
        self.given = given

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.given.get(node.id, node)


# -- mistakes, those of one node at a time -----------------------------------------------------------------------------

Found = Iterator[tuple[str, ast.expr]]


def _scales(node: ast.expr, known: Known) -> Found:
    """A factor that scales a matrix: left out, by d and not by its root, by the root of another size."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Mult, ast.Div)):
        return
    for side, other in ((node.right, node.left), (node.left, node.right)):
        scale = known.shape(side) == () and known.shape(other) != ()
        if not scale and _under_root(side) is None:
            continue
        if isinstance(node.op, ast.Div) and side is node.left:
            continue
        for root in expressions(side):
            if (inside := _under_root(root)) is not None:
                yield "scaled by d", exchanged(node, root, inside)
        yield "no scale", other
        for size in sorted({size for shape in known.shapes.values() for size in shape}):
            for root in (part for part in expressions(side) if _under_root(part) is not None):
                yield "another scale", exchanged(node, root, _call("sqrt", ast.Constant(size)))


def _softmaxes(node: ast.expr, known: Known) -> Found:
    """Over columns, not normalised, without exponentials, left out."""
    name, argument = _unary(node)
    if name not in ("softmax", "log_softmax"):
        return
    flat = known.shape(argument) is not None and len(known.shape(argument) or ()) < 2
    if not flat:
        was = _axis(node)
        yield "softmax over columns", _with_axis(node, -1 if was in (0, -2) else 0)
        summed = _call("sum", _call("exp", argument))
        yield "other axis", ast.BinOp(_call("exp", argument), ast.Div(), summed)
    if name == "softmax":
        yield "not normalised", _call("exp", argument)
        whole = _with_axis(_call("sum", argument, keepdims=1), -1) if not flat else _call("sum", argument)
        yield "function left out", ast.BinOp(argument, ast.Div(), whole)
        yield "another function", _call("sigmoid", argument)
    yield "function left out", argument


def _products(node: ast.expr, _: Known) -> Found:
    """Operands of a matrix product turned or swapped; entry by entry."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "outer"
        and len(node.args) == 2
    ):
        yield "operands swapped", _call("outer", node.args[1], node.args[0])
    if isinstance(node, ast.Attribute):
        yield "transposed operand", node.value
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.MatMult):
        return
    left, right = node.left, node.right
    if isinstance(right, ast.Attribute) and ast.unparse(right.value) != ast.unparse(left):
        yield "query and key swapped", ast.BinOp(right.value, ast.MatMult(), ast.Attribute(left, "T", ast.Load()))
    yield "operands swapped", ast.BinOp(right, ast.MatMult(), left)
    for side in (left, right):
        turned = side.value if isinstance(side, ast.Attribute) else ast.Attribute(side, "T", ast.Load())
        yield "transposed operand", exchanged(node, side, turned)
    yield "transposed operand", ast.Attribute(node, "T", ast.Load())
    yield "product entry by entry", ast.BinOp(left, ast.Mult(), right)
    if isinstance(right, ast.Attribute):
        yield "product entry by entry", ast.BinOp(left, ast.Mult(), right.value)


def _signs(node: ast.expr, _: Known) -> Found:
    """Minus for plus, and the other way round."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "sign", node.operand
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield "sign", ast.BinOp(node.left, other, node.right)
        yield "sign", ast.BinOp(_minus(node.left), node.op, node.right)
    name, argument = _unary(node)
    if name in ("exp", "sigmoid", "softmax", "log", "log_softmax") or isinstance(node, ast.Name):
        yield "sign", exchanged(node, argument, _minus(argument)) if name else _minus(node)


def _functions(node: ast.expr, _: Known) -> Found:
    """Left out, another, to another base; powers."""
    name, argument = _unary(node)
    if name in _UNARY:
        yield "function left out", argument
        if name == "log":
            for base in (2, 10):
                yield "base of the logarithm", ast.BinOp(node, ast.Div(), _call("log", ast.Constant(base)))
        if name == "exp":
            for base in (2, 10):
                yield "base of the exponential", ast.BinOp(ast.Constant(base), ast.Pow(), argument)
        for other in _UNARY:
            if other != name:
                yield "another function", _call(other, argument)
    if name == "norm":
        yield "power", _call("sum", ast.BinOp(argument, ast.Mult(), argument))
        yield "another function", _call("sum", _call("abs", argument))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        yield "power", node.left
        yield "power", ast.BinOp(node.left, ast.Mult(), node.right)
        for step in (1, -1):
            yield "power", ast.BinOp(node.left, ast.Pow(), ast.BinOp(node.right, ast.Add(), ast.Constant(step)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        other = ast.Div() if isinstance(node.op, ast.Mult) else ast.Mult()
        yield "operation", ast.BinOp(node.left, other, node.right)
        yield "operation", ast.BinOp(node.left, ast.Add(), node.right)
        if isinstance(node.op, ast.Div):
            yield "operation", ast.BinOp(node.right, ast.Div(), node.left)


def _terms(node: ast.expr, _: Known) -> Found:
    """A term or a factor left out or taken twice."""
    if not isinstance(node, ast.BinOp):
        return
    if isinstance(node.op, (ast.Add, ast.Sub)):
        yield "term left out", node.left
        yield "term left out", _minus(node.right) if isinstance(node.op, ast.Sub) else node.right
        for side in (node.left, node.right):
            yield "term taken twice", ast.BinOp(node, node.op, side)
    elif isinstance(node.op, (ast.Mult, ast.MatMult)):
        yield "factor left out", node.left
        yield "factor left out", node.right
    elif isinstance(node.op, ast.Div):
        yield "not normalised", node.left


def _axes(node: ast.expr, known: Known) -> Found:
    """Sums for means, along the other axis, divided by the sums of the other axis."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
        return
    if node.func.id in _REDUCED:
        for other in _REDUCED:
            if other != node.func.id:
                cause = "mean" if {other, node.func.id} == {"mean", "sum"} else "another function"
                yield cause, ast.Call(ast.Name(other, ast.Load()), node.args, node.keywords)
    if node.func.id in (*_REDUCED, "norm", "argmax") and len(known.shape(node.args[0]) or ()) == 2:
        axes = (None, 0, 1) if _axis(node) is not None else (0, 1)
        for axis in axes:
            if axis != _axis(node):
                yield "other axis", _with_axis(node, axis)
    if node.func.id == "concat" and len(node.args) > 1:
        yield "operands swapped", ast.Call(node.func, node.args[::-1], node.keywords)


def _places(node: ast.expr, known: Known) -> Found:
    """Neighbouring entries, rows for columns."""
    if not isinstance(node, ast.Subscript):
        return
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for part in parts:
        if isinstance(part, ast.Slice):
            continue
        for step in (1, -1):
            near = ast.BinOp(part, ast.Add(), ast.Constant(step))
            yield "another index", ast.Subscript(node.value, exchanged(node.slice, part, near), ast.Load())
    if len(parts) == 2:
        yield "another index", ast.Subscript(node.value, ast.Tuple(parts[::-1], ast.Load()), ast.Load())
    elif len(known.shape(node.value) or ()) == 2:
        column = ast.Tuple([ast.Slice(), node.slice], ast.Load())
        yield "another index", ast.Subscript(node.value, column, ast.Load())


def _operands(node: ast.expr, known: Known) -> Found:
    """Another matrix of that shape, or its transpose."""
    if not isinstance(node, ast.Name):
        return
    shape = known.shapes.get(node.id)
    for name, other in known.shapes.items():
        if name != node.id and other == shape:
            yield "another operand", ast.Name(name, ast.Load())
    if shape is not None and len(shape) == 2:
        yield "transposed operand", ast.Attribute(node, "T", ast.Load())


def _factors(node: ast.expr, known: Known) -> Found:
    """Twice, half."""
    if isinstance(node, (ast.Constant, ast.Attribute)):
        return
    for factor in (2, 0.5):
        yield "factor", ast.BinOp(ast.Constant(factor), ast.Mult(), node)
    for size in sorted({size for size in known.shape(node) or () if size > 2}):
        yield "factor", ast.BinOp(node, ast.Mult(), ast.Constant(size))
        yield "factor", ast.BinOp(node, ast.Div(), ast.Constant(size))


# -- trees -------------------------------------------------------------------------------------------------------------


def _unary(node: ast.expr) -> tuple[str, ast.expr]:
    """The name and the argument of a call of one argument; nothing and the node itself for others."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        return node.func.id, node.args[0]
    return "", node


def _under_root(node: ast.expr) -> ast.expr | None:
    """What a square root is taken of; None for what is none."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and ast.unparse(node.right) in ("0.5", "1 / 2"):
        return node.left
    name, argument = _unary(node)
    return argument if name == "sqrt" else None


def _call(name: str, *arguments: ast.expr, **options: int) -> ast.Call:
    words = [ast.keyword(word, ast.Constant(value)) for word, value in options.items()]
    return ast.Call(ast.Name(name, ast.Load()), [*arguments], words)


def _minus(node: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.USub(), node)


def _axis(node: ast.expr) -> int | None:
    """The axis that a call names, if it is a number."""
    for word in node.keywords if isinstance(node, ast.Call) else []:
        if word.arg == "axis":
            text = ast.unparse(word.value)
            return {"rows": 0, "queries": 0, "columns": 1, "keys": 1, "-1": 1, "-2": 0, "0": 0, "1": 1}.get(text)
    return None


def _with_axis(node: ast.expr, axis: int | None) -> ast.expr:
    assert isinstance(node, ast.Call)
    words = [word for word in node.keywords if word.arg != "axis"]
    if axis is not None:
        words.append(ast.keyword("axis", ast.Constant(axis)))
    return ast.Call(node.func, node.args[:1], words)
