"""Claims about costs and sizes: operations counted from shapes, and orders of growth compared.

`cost(...)` counts by the convention of `shapes`, `size(...)` the entries of an array, `params(...)` those of several.
`O(...)` is tight: a bound that is true but larger than need be is called loose.
"""

import ast
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import sympy

from qkv.check.worksheets.algebra import Setting, calls_in
from qkv.check.worksheets.cost_slips import Claimed, slip
from qkv.check.worksheets.names import links_of, setting_of, unusable
from qkv.check.worksheets.orders import Direction, Growth, Size, comparisons, compiled, met, polynomial, written
from qkv.check.worksheets.shapes import Shapes
from qkv.check.worksheets.syntax import Claim
from qkv.check.worksheets.verdict import Scope, Verdict
from qkv.errors import InputError

COUNTED = {"cost", "size", "params", "O"}
"""The functions that make a claim one about costs."""

_SEARCHED = 1024  # instances of sizes in which a comparison of counts is tried


@dataclass(frozen=True)
class Costing:
    """What became of a claim about costs.

    Attributes:
        word: what it is called; `loose` is a true bound that is not tight, `supported` what held in all sizes tried.
        told: the count, and how the claim compares with it.
        cause: the likely cause of a wrong one, verified by counting again; `explanation` in words.
    """

    word: Literal["correct", "wrong", "loose", "supported"]
    told: str
    cause: str = ""
    explanation: str = ""


@dataclass(frozen=True)
class Count:
    """A number of operations or entries, or where `order` is set what grows as it does."""

    size: Size
    order: bool = False


@dataclass(frozen=True)
class Costs:
    """Counts over the shapes of a setting, and how they compare.

    >>> from qkv.check.worksheets.algebra import Symbol
    >>> read = lambda text: ast.parse(text, mode="eval").body
    >>> costs = Costs(Setting({name: Symbol((read("L"), read("D"))) for name in "QKV"}))
    >>> costs.judge([read("cost(softmax(Q @ K.T) @ V)"), read("O(L**2 * D)")]).word
    'correct'
    >>> costs.judge([read("size(Q)"), read("L + D")]).told
    'L * D entries, not L + D'
    """

    setting: Setting

    def judge(self, links: Sequence[ast.expr]) -> Costing:
        """Judges `cost(...) = ...`, links in a chain each against the first, or a comparison such as `<`.

        Raises:
            InputError: shapes that do not fit, names that are not known, orders of what has none.
        """
        if len(links) == 1 and isinstance(links[0], ast.Compare):
            return self._compared(links[0])
        first, *others = map(self.count, links)
        found = Costing("correct", "")
        for node, other in zip(links[1:], others, strict=True):
            found = self._equal(first, other, what=_what(links[0]))
            if found.word != "correct":
                return self._explained(found, links[0], node, first, other)
        return found

    def _explained(self, found: Costing, left: ast.expr, right: ast.expr, true: Count, claimed: Count) -> Costing:
        """A wrong claim with what it is the right count of, or what would be right."""
        expression = None
        if isinstance(left, ast.Call) and isinstance(left.func, ast.Name) and left.func.id == "cost":
            expression = left.args[0]
        wrong = Claimed(expression, right, true.size, claimed.size, true.order or claimed.order)
        why = slip(self.setting, wrong, self.growth, self._count_or_none)
        if why is None:
            return replace(found, cause="loose bound") if found.word == "loose" else found
        return replace(found, cause=why.cause, explanation=why.told)

    def count(self, node: ast.expr) -> Count:
        """What one side of a claim comes to."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "O":
            if len(node.args) != 1 or node.keywords:
                raise InputError("O is of one sum", expected="such as O(n**2 + n * m)", got=ast.unparse(node))
            return Count(self._polynomial(node.args[0]), order=True)
        return Count(self._polynomial(node))

    def _count_or_none(self, node: ast.expr) -> Size | None:
        try:
            return self.count(node).size
        except InputError:
            return None

    def _polynomial(self, node: ast.expr) -> Size:
        return sympy.expand(polynomial(node, self._counted))

    def _counted(self, node: ast.expr) -> Size | None:
        match node:
            case ast.Name(id=name) if name not in self.setting.sizes and name in self.setting.definitions:
                return self._polynomial(self.setting.definitions[name].body)
            case ast.Call(func=ast.Name(id="cost"), args=[expression], keywords=[]):
                return self._operations(expression)
            case ast.Call(func=ast.Name(id="size"), args=[expression], keywords=[]):
                return Shapes(self.setting).evaluate(expression).entries
            case ast.Call(func=ast.Name(id="params"), args=arrays, keywords=[]) if arrays:
                return sympy.Add(*(Shapes(self.setting).evaluate(array).entries for array in arrays))
        return None

    def _operations(self, expression: ast.expr) -> Size:
        shapes = Shapes(self.setting)
        shapes.evaluate(expression)
        if shapes.derived:
            raise InputError(
                f"what {ast.unparse(expression)} costs depends on how the derivative is found",
                hint="write out the product that is computed",
            )
        return sympy.expand(shapes.operations)

    @property
    def growth(self) -> Growth:
        return Growth(self.setting.sizes, self.setting.conditions)

    def _written(self, size: Size) -> str:
        return written(size, self.setting.sizes)

    def _said(self, count: Count) -> str:
        return f"O({self._written(count.size)})" if count.order else self._written(count.size)

    # -- equal

    def _equal(self, true: Count, claimed: Count, what: str) -> Costing:
        """`claimed` against `true`, orders where either is one."""
        if not (true.order or claimed.order):
            if sympy.simplify(self._identified(true.size - claimed.size)) == 0:
                return Costing("correct", f"{self._said(true)} {what}".rstrip())
            return Costing("wrong", f"{self._said(true)}{what and f' {what}'}, not {self._said(claimed)}")
        growth = self._growth_of(true.size, claimed.size)
        above, below = growth.bounded(true.size, claimed.size), growth.bounded(claimed.size, true.size)
        counted = f"{self._written(true.size)}{what and f' {what}'}"
        leading = growth.leading(true.size)
        told = f"{counted}, of order {self._written(leading)}" if leading != true.size else counted
        if above is None and below is None:
            return Costing("correct", told)
        if above is None and below is not None:
            grown = _grown(growth, below, claimed.size, true.size)
            return Costing(
                "loose",
                f"{told}: {self._said(claimed)} is true but loose, for {grown.format('the bound', 'the count')}",
            )
        assert above is not None
        grown = _grown(growth, above, true.size, claimed.size)
        return Costing("wrong", f"{told}, not {self._said(claimed)}: {grown.format('the count', 'the claim')}")

    def _identified(self, size: Size) -> Size:
        """A size with those put for one another that conditions say to be equal."""
        for condition in self.setting.conditions:
            for one, strict, other in comparisons(condition):
                if strict is None and one.is_Symbol:
                    size = size.subs(one, other)
        return size

    def _growth_of(self, *sizes: Size) -> Growth:
        growth = self.growth
        unknown = sorted({str(name) for size in sizes for name in size.free_symbols} - set(growth.sizes))
        if unknown:
            raise InputError(
                f"{', '.join(unknown)} is no size here",
                expected=f"sizes of what is given: {', '.join(growth.sizes) or 'none'}",
            )
        return growth

    # -- compared

    def _compared(self, claim: ast.Compare) -> Costing:
        """`cost(...) < cost(...)`: counts in all sizes, orders by how they grow."""
        if len(claim.ops) != 1 or not isinstance(claim.ops[0], (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq)):
            raise InputError("one comparison at a time", expected="<, <=, >, >= or ==", got=ast.unparse(claim))
        left, op, right = self.count(claim.left), claim.ops[0], self.count(claim.comparators[0])
        if isinstance(op, ast.Eq):
            return self._equal(left, right, what="")
        found = self._smaller(left, right, op)
        if found.word != "wrong":
            return found
        for condition in self.setting.conditions:
            for other in _turned(condition):
                if self.assuming(other)._smaller(left, right, op).word == "correct":
                    return replace(found, cause="other condition", explanation=f"it holds where {ast.unparse(other)}")
        return found

    def _smaller(self, left: Count, right: Count, op: ast.cmpop) -> Costing:
        strict = isinstance(op, (ast.Lt, ast.Gt))
        small, large = (left, right) if isinstance(op, (ast.Lt, ast.LtE)) else (right, left)
        if small.order or large.order:
            return self._orders_compared(small, large, strict)
        return self._counts_compared(small.size, large.size, strict)

    def _orders_compared(self, small: Count, large: Count, strict: bool) -> Costing:
        growth = self._growth_of(small.size, large.size)
        above, below = growth.bounded(small.size, large.size), growth.bounded(large.size, small.size)
        told = " against ".join(self._written(growth.leading(count.size)) for count in (small, large))
        if above is not None:
            grown = _grown(growth, above, small.size, large.size)
            return Costing("wrong", f"{told}: {grown.format('the first', 'the second')}")
        if strict and below is None:
            return Costing("wrong", f"{told}: of the same order{_within(self.setting.conditions)}")
        return Costing("correct", told)

    def _counts_compared(self, small: Size, large: Size, strict: bool) -> Costing:
        told = f"{self._written(small)} against {self._written(large)}"
        tried, names = 0, self.setting.sizes
        first, second = (compiled(count, names) for count in (small, large))
        for sizes in self._instances():
            tried += 1
            one, other = first(*sizes), second(*sizes)
            if one > other or (strict and one == other):
                where = ", ".join(f"{name} = {size}" for name, size in zip(names, sizes, strict=True))
                return Costing("wrong", f"{told}: at {where} it is {one} against {other}")
        if not tried:
            raise InputError("no sizes meet the conditions", got=_within(self.setting.conditions).strip())
        if _positive(large - small, self.setting.conditions, strict):
            return Costing("correct", told)
        return Costing("supported", f"{told}: so in all {tried:,} sizes tried")

    def _instances(self) -> Iterator[Sequence[int]]:
        """Sizes that meet the conditions, small ones first."""
        names = self.setting.sizes
        largest = max(2, int(_SEARCHED ** (1 / max(len(names), 1))))
        chosen = itertools.product(range(1, largest + 1), repeat=len(names))
        return filter(met(self.setting.conditions, names), sorted(chosen, key=sum))

    def assuming(self, condition: ast.expr) -> "Costs":
        """These counts under another condition in the place of all."""
        return Costs(replace(self.setting, conditions=(condition,)))


def is_cost(links: Sequence[ast.expr]) -> bool:
    """Whether a claim is about costs, sizes or orders."""
    return any(calls_in(link) & COUNTED for link in links)


def _positive(apart: Size, conditions: Sequence[ast.expr], strict: bool) -> bool:
    """Whether a polynomial is above zero for all sizes, seen from the signs of its factors.

    Every size is 1 and something; under `m < n`, n is m and something more.
    """
    for condition in conditions:
        for small, less, large in comparisons(condition) if isinstance(condition, ast.Compare) else ():
            if large.is_Symbol and not small.has(large) and less is not None:
                apart = apart.subs(large, small + int(less) + sympy.Symbol(f"{large}_", nonnegative=True))
    for name in sorted(apart.free_symbols, key=str):
        if name.is_positive:
            apart = apart.subs(name, 1 + sympy.Symbol(f"{name}__", nonnegative=True))
    terms = sympy.expand(apart).as_coefficients_dict()
    return all(bool(factor >= 0) for factor in terms.values()) and (not strict or bool(terms.get(sympy.S.One, 0) > 0))


def _turned(condition: ast.expr) -> Iterator[ast.expr]:
    """The opposite of a comparison, and equality."""
    opposite = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
    if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and type(condition.ops[0]) in opposite:
        for op in (opposite[type(condition.ops[0])], ast.Eq):
            yield ast.Compare(condition.left, [op()], condition.comparators)


def _what(node: ast.expr) -> str:
    """What is counted."""
    called = calls_in(node)
    return "operations" if "cost" in called else "entries" if called & {"size", "params"} else ""


def _grown(growth: Growth, direction: Direction, more: Size, less: Size) -> str:
    """How two counts grow apart, with places for what each is called."""
    moving = {name: power for name, power in direction.items() if power > 0}
    where = " and ".join(f"{name} = {_power('t', power)}" for name, power in moving.items())
    rest = "" if len(moving) == len(direction) else " and all else as it is"
    first, second = (_power("t", growth.exponent(size, direction)) for size in (more, less))
    return f"with {where}{rest} {{}} grows as {first} and {{}} as {second}"


def _power(name: str, power: float) -> str:
    return "1" if power == 0 else name if power == 1 else f"{name}**{power:g}"


def _within(conditions: Sequence[ast.expr]) -> str:
    return f" where {' and '.join(map(ast.unparse, conditions))}" if conditions else ""


def judge(claim: Claim, scope: Scope) -> Verdict | None:
    """Judges a claim about costs, sizes, numbers of parameters or orders of growth; None for others."""
    links = links_of(claim, scope)
    if not is_cost(links):
        return None
    with unusable():
        if len(links) == 1 and not isinstance(links[0], ast.Compare):
            raise InputError("one side says nothing", expected="a count or an order, such as O(n * m)")
        setting = setting_of(claim, scope, links)
        if setting is None:
            raise InputError("nothing here has a shape in names", hint="given X : (n, m)")
        found = Costs(setting).judge(links)
    return Verdict(
        "correct" if found.word in ("correct", "supported") else "wrong",
        cause=found.cause,
        explanation=found.explanation,
        word=found.word,
        notes=[f"{found.told}."],
    )
