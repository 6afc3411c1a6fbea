"""What a wrong count or order is the right one of: other brackets, another size, products alone.

Each is verified by counting again.
"""

import ast
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import sympy

from qkv.check.worksheets.algebra import Definition, Setting
from qkv.check.worksheets.edited import exchanged, expressions
from qkv.check.worksheets.orders import Growth, Size, symbol, written
from qkv.check.worksheets.shapes import Shapes
from qkv.check.worksheets.slips import Slip, factors, powers, signs
from qkv.errors import InputError

_LONGEST = 7  # factors of a product whose brackets are tried


@dataclass(frozen=True)
class Claimed:
    """What is claimed of an expression.

    Attributes:
        expression: what the cost is of; None where the claim is about something else.
        node: the claimed side.
        true, size: the count, and what was claimed of it.
        order: whether as an order.
    """

    expression: ast.expr | None
    node: ast.expr
    true: Size
    size: Size
    order: bool


def slip(setting: Setting, claimed: Claimed, growth: Growth, counted: Callable[[ast.expr], Size | None]) -> Slip | None:
    """Of what the claimed count is the right one, or what would be right; None where nothing is found.

    Args:
        counted: what the other side of a claim comes to.
    """

    def met(count: Size, claim: Size) -> bool:
        if not claimed.order:
            return bool(sympy.expand(count - claim) == 0) or bool(sympy.simplify(count - claim) == 0)
        return growth.bounded(count, claim) is None and growth.bounded(claim, count) is None

    for stage in (_brackets, _products_alone, _parts, _renamed, _powers):
        for cause, told, count in stage(setting, claimed):
            if met(count, claimed.size):
                return Slip(cause, told)
    ratio = sympy.simplify(claimed.size / claimed.true)
    if ratio.is_number:
        return Slip("factor", f"the claim is {ratio} times the count")
    for cause, node in _edits(setting, claimed.node):
        count = counted(node)
        if count is not None and met(claimed.true, count):
            return Slip(cause, f"`{ast.unparse(node)}` would be right")
    return None


def _edits(setting: Setting, tree: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Edits of the claimed side: signs, powers, numbers, one size for another."""
    for stage in (signs, powers, _sizes, factors):
        for node in expressions(tree):
            for cause, new in stage(node, setting):
                yield cause, exchanged(tree, node, new)


def _sizes(node: ast.expr, setting: Setting) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Name):
        for name in setting.sizes:
            if name != node.id:
                yield "another size", ast.Name(name, ast.Load())


Found = Iterator[tuple[str, str, Size]]


def _brackets(setting: Setting, claimed: Claimed) -> Found:
    """Other orders in which products can be multiplied out, in what is claimed about or in a definition behind it."""
    if claimed.expression is None:
        return
    for node, others in _chains(claimed.expression):
        for other in others:
            count = _counted(setting, exchanged(claimed.expression, node, other))
            if count is not None:
                yield "other brackets", f"that is the count of `{ast.unparse(other)}`", count
    for name in sorted(setting.reach(claimed.expression) & setting.definitions.keys()):
        definition = setting.definitions[name]
        for node, others in _chains(definition.body):
            for other in others:
                body = exchanged(definition.body, node, other)
                changed = {**setting.definitions, name: Definition(definition.parameters, body)}
                count = _counted(replace(setting, definitions=changed), claimed.expression)
                if count is not None:
                    yield "other brackets", f"that is the count with `{ast.unparse(other)}` in {name}", count


def _chains(tree: ast.expr) -> Iterator[tuple[ast.expr, list[ast.expr]]]:
    """Each longest product in an expression, and the others that have its factors in the same order."""
    inside: set[int] = set()
    for node in expressions(tree):
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.MatMult) or id(node) in inside:
            continue
        inside |= {id(part) for part in _products(node)}
        chain = _chain(node)
        if 2 < len(chain) <= _LONGEST:
            here = ast.unparse(node)
            yield node, [other for other in _bracketed(chain) if ast.unparse(other) != here]


def _products(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        yield node
        yield from _products(node.left)
        yield from _products(node.right)


def _chain(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return _chain(node.left) + _chain(node.right)
    return [node]


def _bracketed(factors: Sequence[ast.expr]) -> Iterator[ast.expr]:
    if len(factors) == 1:
        yield factors[0]
    for place in range(1, len(factors)):
        for left, right in itertools.product(_bracketed(factors[:place]), list(_bracketed(factors[place:]))):
            yield ast.BinOp(left, ast.MatMult(), right)


def _products_alone(setting: Setting, claimed: Claimed) -> Found:
    """Counts that leave out what is done entry by entry, or count multiplications and additions apart."""
    if claimed.expression is None:
        return
    shapes = _Products(setting)
    try:
        shapes.evaluate(claimed.expression)
    except InputError:
        return
    rest = claimed.true - shapes.products
    yield "products alone", f"what is done entry by entry takes {written(rest, setting.sizes)} more", shapes.products
    yield "multiplications and additions apart", "here a multiply-add is one operation", claimed.true + shapes.products
    yield "multiplications and additions apart", "here a multiply-add is one operation", 2 * shapes.products


class _Products(Shapes):
    """Counts the multiply-adds of matrix products alone."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.products: Size = sympy.Integer(0)

    def matmul(self, a, b):
        before = self.operations
        made = super().matmul(a, b)
        self.products += self.operations - before
        return made


def _renamed(setting: Setting, claimed: Claimed) -> Found:
    """One size for another, in one place or in all."""
    for name, other in itertools.permutations(setting.sizes, 2):
        one, two = symbol(name), symbol(other)
        told = f"{other} stands for {name}"
        yield "another size", told, claimed.true.subs(one, two)
        yield (
            "another size",
            f"{name} and {other} are swapped",
            claimed.true.subs({one: two, two: one}, simultaneous=True),
        )
        terms = sympy.Add.make_args(sympy.expand(claimed.true))
        for term in terms:
            if term.has(one):
                yield "another size", told, claimed.true - term + term * two / one
                yield "another size", told, claimed.true - term + term.subs(one, two)


def _parts(setting: Setting, claimed: Claimed) -> Found:
    """A count without one of its terms."""
    terms = sympy.Add.make_args(sympy.expand(claimed.true))
    for count in (1, 2):
        for left_out in itertools.combinations(terms, count):
            if len(terms) > count:
                rest = sympy.Add(*left_out)
                yield "term left out", f"{written(rest, setting.sizes)} is left out", claimed.true - rest


def _powers(setting: Setting, claimed: Claimed) -> Found:
    """A power more or less of one size."""
    for name in setting.sizes:
        size = symbol(name)
        terms = sympy.Add.make_args(sympy.expand(claimed.true))
        for chosen in (terms, *([term] for term in terms)):
            part = sympy.Add(*chosen)
            rest = claimed.true - part
            if part.has(size):
                yield "power", f"a power of {name} is missing", rest + sympy.expand(part / size)
            yield "power", f"a power of {name} is too many", rest + sympy.expand(part * size)


def _counted(setting: Setting, expression: ast.expr) -> Size | None:
    shapes = Shapes(setting)
    try:
        shapes.evaluate(expression)
    except InputError:
        return None
    return sympy.expand(shapes.operations)
