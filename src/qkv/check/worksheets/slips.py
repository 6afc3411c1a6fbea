"""What would make a wrong side of an identity right: small edits of its tree, each verified by computing it.

The edits are those of mistakes that people make in derivations, the likeliest first; the one that agrees with the other
side in random instances is called the likely cause.
"""

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from qkv.check.worksheets.algebra import ELEMENTWISE, Definition, Setting, calls_in, functions
from qkv.check.worksheets.edited import exchanged, expressions
from qkv.check.worksheets.instances import Instance, Number, Tensors, instances
from qkv.check.worksheets.orders import polynomial
from qkv.errors import InputError

_TRIALS = 900  # edits tried
_CLOSE = 1e-9
_FACTORS = (2, 0.5, 4, 0.25, 3, 1 / 3, 6, 1 / 6, -2, -0.5)
_AXES = ("softmax", "log_softmax", "sum", "mean", "max", "min")
_NOT_COMPUTED = (InputError, RuntimeError, IndexError, TypeError, ValueError)


@dataclass(frozen=True)
class Slip:
    """A likely cause, verified.

    Attributes:
        cause: the name of the mistake.
        told: what would be right.
    """

    cause: str
    told: str


@dataclass(frozen=True)
class Repair:
    """An edit, and what it is called if it mends the claim."""

    cause: str
    node: ast.expr


class Target:
    """What a claimed side should be, in a few instances.

    Args:
        left: the other side.
        claimed: the side that is edited.
    """

    def __init__(self, setting: Setting, left: ast.expr, claimed: ast.expr, seed: int):
        self.setting, self.claimed = setting, claimed
        names = [ast.Name(name, ast.Load()) for name in setting.symbols]  # edits may bring in any of them
        found = itertools.islice(instances(setting, (left, *names), 3, seed), 0, None, 4)
        self.places = [at for at in found if bool(self.value(left, at).isfinite().all())]
        self.values = [self.value(left, at) for at in self.places]

    def value(self, node: ast.expr, at: Instance, setting: Setting | None = None) -> Number:
        """What an expression comes to in an instance."""
        return Tensors(setting or self.setting, at).evaluate(node).detach()

    def met(self, node: ast.expr, setting: Setting | None = None) -> bool:
        """Whether an expression comes to what it should in every instance."""
        try:
            return bool(self.places) and all(
                _close(self.value(node, at, setting), value) for at, value in zip(self.places, self.values, strict=True)
            )
        except _NOT_COMPUTED:
            return False

    def at_first(self, node: ast.expr) -> Number | None:
        """What an expression comes to in the first instance; None where it cannot be computed."""
        try:
            return self.value(node, self.places[0])
        except _NOT_COMPUTED:
            return None


def slip(setting: Setting, left: ast.expr, claimed: ast.expr, seed: int = 0) -> Slip | None:
    """The first edit of `claimed` with which it agrees with `left`; None where none is found.

    >>> from qkv.check.worksheets.algebra import Symbol
    >>> read = lambda text: ast.parse(text, mode="eval").body
    >>> setting = Setting({"A": Symbol((read("n"), read("m"))), "x": Symbol((read("m"),))})
    >>> slip(setting, read("grad(sum((A @ x)**2), x)"), read("A.T @ (A @ x)"))
    Slip(cause='factor', told='`2 * (A.T @ (A @ x))` would be right')
    """
    target = Target(setting, left, claimed, seed)
    if not target.places:
        return None
    tried: set[str] = set()
    for stage in (*_repairs(target), _residual(target)):
        found: list[Slip] = []
        for repair in stage:
            text = ast.unparse(repair.node)
            if text in tried or len(tried) > _TRIALS:
                continue
            tried.add(text)
            if target.met(repair.node):
                found.append(Slip(repair.cause, f"`{text}` would be right"))
        if found:
            return min(found, key=lambda one: len(one.told))
    return _condition(target, left) or _definition(target, left)


# -- the whole ---------------------------------------------------------------------------------------------------------


def _repairs(target: Target) -> Iterator[Iterator[Repair]]:
    """Edits of the claimed side in stages: of those of one stage that mend it, the shortest is told."""
    tree = target.claimed
    yield iter([Repair("sign", _minus(tree))])
    yield (Repair("factor", _times(factor, tree)) for factor in _FACTORS)
    sizes = _sizes(target.setting)
    yield (Repair("mean", ast.BinOp(tree, op, size)) for size in sizes for op in (ast.Div(), ast.Mult()))
    for stage in (
        _transposes, _orders, signs, _axes, _scales, _means, powers, _terms, _operands, factors, _missing, _functions,
        _products,
    ):  # fmt: skip
        yield _everywhere(tree, lambda node, stage=stage: stage(node, target.setting))


def _everywhere(tree: ast.expr, edits: Any) -> Iterator[Repair]:
    for node in expressions(tree):
        for cause, new in edits(node):
            yield Repair(cause, exchanged(tree, node, new))


def _residual(target: Target) -> Iterator[Repair]:
    """A term that is missing: what is left over is a multiple of some product of names."""
    claimed = target.at_first(target.claimed)
    if claimed is None or claimed.shape != target.values[0].shape:
        return
    rest = target.values[0] - claimed
    for node in _pool(target):
        value = target.at_first(node)
        if value is None or (value.dim() and value.shape != rest.shape) or not bool(value.abs().max() > _CLOSE):
            continue
        place = int(value.abs().argmax()) if value.dim() else 0
        ratio = round(float(rest.reshape(-1)[place] / value.reshape(-1)[place]), 9)
        if 8 * ratio == int(8 * ratio) and ratio and _close(ratio * value.expand_as(rest), rest):
            term = node if abs(ratio) == 1 else _times(abs(ratio), node)
            yield Repair("term left out", ast.BinOp(target.claimed, ast.Add() if ratio > 0 else ast.Sub(), term))


def _pool(target: Target) -> Iterator[ast.expr]:
    """Numbers, parts of the claim, names, and products of two of them."""
    yield ast.Constant(1)
    parts = [node for node in expressions(target.claimed) if not isinstance(node, ast.Constant)]
    parts += _small_terms(target.setting)
    parts = list({ast.unparse(part): part for part in parts}.values())[:10]
    yield from (_call("diag", part) for part in parts)
    yield from (_call("outer", *pair) for pair in itertools.product(parts, repeat=2))
    turned = [ast.Attribute(part, "T", ast.Load()) for part in parts if not isinstance(part, ast.Attribute)]
    yield from parts
    yield from turned
    for one, other in itertools.product([*parts, *turned], repeat=2):
        yield ast.BinOp(one, ast.MatMult(), other)
    for one, other in itertools.combinations_with_replacement(parts, 2):
        yield ast.BinOp(one, ast.Mult(), other)


def _condition(target: Target, left: ast.expr) -> Slip | None:
    """Whether the claim holds where a matrix is symmetric."""
    reached = target.setting.reach(left, target.claimed)
    for name, one in target.setting.symbols.items():
        square = len(one.shape) == 2 and not one.kind and polynomial(one.shape[0]) == polynomial(one.shape[1])
        if square and name in reached:
            symbols = {**target.setting.symbols, name: replace(one, kind="symmetric")}
            limited = Target(replace(target.setting, symbols=symbols), left, target.claimed, 1)
            if limited.met(target.claimed):
                return Slip(f"only for symmetric {name}", f"it holds where {name} is symmetric, and not for all {name}")
    return None


def _definition(target: Target, left: ast.expr) -> Slip | None:
    """Whether an edit of a definition that only the claimed side stands on mends it, or one that both stand on."""
    names = target.setting.reach(left, target.claimed) & target.setting.definitions.keys()
    for name in sorted(names):
        definition = target.setting.definitions[name]
        for stage in (_transposes, _orders, signs, _axes, _scales, powers, _operands, factors):
            for repair in _everywhere(definition.body, lambda node, stage=stage: stage(node, target.setting)):
                setting = _with(target.setting, name, repair.node)
                if _agree(setting, left, target):
                    head = f"{name}({', '.join(definition.parameters)})" if definition.parameters else name
                    return Slip(repair.cause, f"with `{head} = {ast.unparse(repair.node)}` it would hold")
    return None


def _agree(setting: Setting, left: ast.expr, target: Target) -> bool:
    try:
        return all(
            _close(target.value(left, at, setting), target.value(target.claimed, at, setting)) for at in target.places
        )
    except _NOT_COMPUTED:
        return False


def _with(setting: Setting, name: str, body: ast.expr) -> Setting:
    changed = Definition(setting.definitions[name].parameters, body)
    return replace(setting, definitions={**setting.definitions, name: changed})


# -- edits of one node: what it is called, and what should stand there -------------------------------------------------

Found = Iterator[tuple[str, ast.expr]]


def _transposes(node: ast.expr, _: Setting) -> Found:
    if isinstance(node, ast.Attribute):
        yield "transposed operand", node.value
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        for side in (node.left, node.right):
            yield "transposed operand", exchanged(node, side, _untransposed(side))
    if not isinstance(node, (ast.Constant, ast.Attribute)):
        yield "transposed operand", ast.Attribute(node, "T", ast.Load())


def _orders(node: ast.expr, _: Setting) -> Found:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.MatMult, ast.Sub, ast.Div)):
        cause = "sign" if isinstance(node.op, ast.Sub) else "operands swapped"
        yield cause, ast.BinOp(node.right, node.op, node.left)
        if isinstance(node.op, ast.MatMult):
            if isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.MatMult):  # A B C for A C B
                inner = node.left
                yield "operands swapped", _matmul(_matmul(inner.left, node.right), inner.right)
                yield "operands swapped", _matmul(_matmul(inner.right, inner.left), node.right)
            one, other = (_untransposed(side) for side in (node.left, node.right))
            yield "operands swapped", _matmul(other, one)
    if isinstance(node, ast.Call) and len(node.args) == 2 and calls_in(node) & {"outer", "concat"}:
        yield "operands swapped", ast.Call(node.func, node.args[::-1], node.keywords)


def signs(node: ast.expr, _: Setting) -> Found:
    """Plus for minus."""
    if isinstance(node, ast.UnaryOp):
        yield "sign", node.operand
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield "sign", ast.BinOp(node.left, other, node.right)
        yield "sign", ast.BinOp(_minus(node.left), node.op, node.right)
    if isinstance(node, (ast.Name, ast.Call)):
        yield "sign", _minus(node)


def _axes(node: ast.expr, _: Setting) -> Found:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _AXES and node.args:
        for axis in (0, 1, None):
            words = [ast.keyword("axis", ast.Constant(axis))] if axis is not None else []
            words += [word for word in node.keywords if word.arg != "axis"]
            yield "other axis", ast.Call(node.func, node.args[:1], words)


def _scales(node: ast.expr, setting: Setting) -> Found:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
        if node.func.id == "sqrt":
            yield "root of the scale", node.args[0]
            for size in _sizes(setting):
                yield "another scale", _call("sqrt", size)
        if node.func.id in ("softmax", "log_softmax"):
            for size in _sizes(setting):
                scaled = ast.BinOp(node.args[0], ast.Div(), _call("sqrt", size))
                yield "no scale", exchanged(node, node.args[0], scaled)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.Mult)):
        if isinstance(node.right, (ast.Name, ast.Constant)):
            yield "scaled by d", ast.BinOp(node.left, node.op, _call("sqrt", node.right))
        if isinstance(node.op, ast.Div):
            yield "factor", ast.BinOp(node.left, ast.Mult(), node.right)
            yield "scaled", node.left


def _means(node: ast.expr, setting: Setting) -> Found:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("sum", "mean"):
        other = "mean" if node.func.id == "sum" else "sum"
        yield "mean", ast.Call(ast.Name(other, ast.Load()), node.args, node.keywords)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Name):
        yield "mean", node.left
    if isinstance(node, ast.BinOp):
        for size in _sizes(setting):
            yield "mean", ast.BinOp(node, ast.Div(), size)
            yield "mean", ast.BinOp(node, ast.Mult(), size)


def powers(node: ast.expr, _: Setting) -> Found:
    """A power more or less."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        yield "power", node.left
        for step in (1, -1):
            yield "power", ast.BinOp(node.left, ast.Pow(), ast.BinOp(node.right, ast.Add(), ast.Constant(step)))
    elif not isinstance(node, ast.Constant):
        yield from (("power", ast.BinOp(node, ast.Pow(), ast.Constant(exponent))) for exponent in (2, 3, 4))


def _terms(node: ast.expr, _: Setting) -> Found:
    """One term too many."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield "term too many", node.left
        yield "term too many", _minus(node.right) if isinstance(node.op, ast.Sub) else node.right


def _operands(node: ast.expr, setting: Setting) -> Found:
    if isinstance(node, ast.Name):
        for name in _named(setting):
            if name != node.id:
                yield "another operand", ast.Name(name, ast.Load())
                yield "another operand", ast.Attribute(ast.Name(name, ast.Load()), "T", ast.Load())


def factors(node: ast.expr, _: Setting) -> Found:
    """Another number in front, or one side of a product."""
    if isinstance(node, ast.Constant):
        for number in (1, 2, 4, 3):
            yield "factor", ast.Constant(number)
    else:
        for factor in _FACTORS[:8]:
            yield "factor", _times(factor, node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.MatMult)):
        yield "factor too many", node.right
        yield "factor too many", node.left


def _missing(node: ast.expr, setting: Setting) -> Found:
    """A name, or a function of one, that should be added or taken away."""
    if isinstance(node, (ast.Name, ast.UnaryOp, ast.BinOp)):
        for term in _small_terms(setting):
            yield "term left out", ast.BinOp(node, ast.Add(), term)
            yield "term left out", ast.BinOp(node, ast.Sub(), term)


def _functions(node: ast.expr, _: Setting) -> Found:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        yield "function too many", node.args[0]
        for name in (*ELEMENTWISE, "softmax"):
            if name != node.func.id:
                yield "another function", _call(name, node.args[0])
    elif isinstance(node, (ast.Name, ast.BinOp)):
        for name in (*ELEMENTWISE, "softmax", "diag", "sum"):
            yield "function left out", _call(name, node)


def _products(node: ast.expr, setting: Setting) -> Found:
    """A matrix or a factor that is missing."""
    if isinstance(node, ast.Constant):
        return
    for name in _named(setting):
        matrix = ast.Name(name, ast.Load())
        for one in (matrix, ast.Attribute(matrix, "T", ast.Load())):
            yield "factor left out", _matmul(one, node)
            yield "factor left out", _matmul(node, one)
        yield "factor left out", ast.BinOp(node, ast.Mult(), matrix)


# -- trees -------------------------------------------------------------------------------------------------------------


def _sizes(setting: Setting) -> list[ast.expr]:
    return [ast.Name(name, ast.Load()) for name in setting.sizes if name not in setting.symbols]


def _named(setting: Setting) -> list[str]:
    """Names of matrices and vectors, defined ones too."""
    return [*setting.symbols, *setting.values, *(setting.definitions.keys() - set(functions(setting)))]


def _small_terms(setting: Setting) -> list[ast.expr]:
    """Names, and what the definitions behind a claim do to them entry by entry or row by row."""
    named: list[ast.expr] = [ast.Name(name, ast.Load()) for name in _named(setting)]
    called = set().union(*(calls_in(one.body) for one in setting.definitions.values()))
    unary = ["softmax"] * bool(called & {"softmax", "log_softmax"}) + sorted(called & set(ELEMENTWISE))
    return named + [_call(function, name) for function in unary for name in named]


def _minus(node: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.USub(), node)


def _times(factor: int | float, node: ast.expr) -> ast.expr:
    """A number before an expression, or below it."""
    if abs(factor) < 1:
        below = round(1 / abs(factor))
        halved = ast.BinOp(node, ast.Div(), ast.Constant(below))
        return _minus(halved) if factor < 0 else halved
    number: ast.expr = ast.Constant(int(abs(factor)) if float(factor).is_integer() else abs(factor))
    return ast.BinOp(_minus(number) if factor < 0 else number, ast.Mult(), node)


def _matmul(left: ast.expr, right: ast.expr) -> ast.expr:
    return ast.BinOp(left, ast.MatMult(), right)


def _call(name: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), [*arguments], [])


def _untransposed(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Attribute) else ast.Attribute(node, "T", ast.Load())


def _close(one: Number, other: Number) -> bool:
    if one.numel() == other.numel() == 1 or min(one.dim(), other.dim()) < 2:
        one, other = one.squeeze(), other.squeeze()
    if one.shape != other.shape:
        return False
    scale = max(1.0, float(one.abs().max()), float(other.abs().max())) if one.numel() else 1.0
    return bool(torch.isfinite(one).all()) and float((one - other).abs().max()) <= _CLOSE * scale
