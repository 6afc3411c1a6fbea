"""Normal forms of matrix expressions: sums of products of symbols of any size, multiplied out by rule.

Two expressions with the same form are equal for all matrices; which rules were needed is kept. A flat vector is held as
a column, a sum as a product with ones, and what only wraps an expression (a function of it, say) as a factor that
stands for it.
"""

import ast
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import sympy

from qkv.check.worksheets.algebra import ELEMENTWISE, Algebra, Setting
from qkv.check.worksheets.orders import Size, polynomial
from qkv.check.worksheets.shapes import Shapes, broadcast
from qkv.check.worksheets.terms import (
    ONE,
    Factor,
    Form,
    Sum,
    Term,
    UnprovableError,
    alike,
    conjugated,
    form_of,
    in_order,
    is_ones,
    is_shift,
    joined,
    like,
    number_of,
    parts,
    same_size,
    shape_of,
    size_of,
    term_of,
    transpose_of,
)
from qkv.errors import InputError

RULES = {
    "definition": "definitions",
    "associativity": "(A B) C = A (B C)",
    "distributivity": "A (B + C) = A B + A C",
    "transpose": "(A B).T = B.T A.T",
    "permutation": "P.T P = I",
    "orthogonality": "Q.T Q = I",
    "equivariance": "f(P S P.T) = P f(S) P.T, for softmax or entry by entry",
    "ones": "P 1 = 1",
    "rows": "softmax(S) 1 = 1",
    "shift": "softmax(S + c 1.T) = softmax(S)",
    "trace": "trace(A B) = trace(B A)",
}
"""What a proof may use, by the name that it is asked for with."""

_POWER = 6  # up to which sums are multiplied out


@dataclass
class Rules:
    """Which rules may be used, and which were."""

    without: frozenset[str] = frozenset()
    used: set[str] = field(default_factory=set)

    def may(self, name: str) -> bool:
        """Whether a rule may be used; it counts as used from then on."""
        if name in self.without:
            return False
        self.used.add(name)
        return True


class Forms(Algebra[Form]):
    """Expressions in their normal forms.

    >>> from qkv.check.worksheets.algebra import Symbol
    >>> read = lambda text: ast.parse(text, mode="eval").body
    >>> forms = Forms(Setting({name: Symbol((read("n"), read("n"))) for name in "AB"}))
    >>> forms.evaluate(read("(A @ B + A).T")) == forms.evaluate(read("A.T + B.T @ A.T"))
    True
    """

    def __init__(self, setting: Setting, rules: Rules | None = None):
        super().__init__(setting)
        self.rules = rules or Rules()

    def is_flat(self, a: Form) -> bool:
        return a.axes == 1

    def _within(self, body: ast.expr, local: Mapping[str, Form]) -> Form:
        self.rules.used.add("definition")
        return super()._within(body, local)

    # -- what stands alone

    def number(self, value: int | float) -> Form:
        return form_of({Term(): Fraction(str(value))})

    def symbol(self, name: str) -> Form:
        one = self.setting.symbols[name]
        sizes = tuple(polynomial(size) for size in one.shape)
        rows, columns = (*sizes, ONE, ONE)[:2]
        return self._of(Factor(name, rows, columns, kind=one.kind), len(sizes))

    def size(self, name: str) -> Form:
        return self._scalar(Factor(name, kind="size"))

    def value(self, value: Any) -> Form:
        sizes = Shapes(self.setting).value(value).sizes
        rows, columns = (*sizes, ONE, ONE)[:2]
        return self._of(Factor("numbers", rows, columns, (str(value),)), len(sizes))

    # -- arithmetic

    def negate(self, a: Form) -> Form:
        return like(a, {term: -number for term, number in a.terms})

    def add(self, a: Form, b: Form) -> Form:
        a, b = self._lifted(a, b)
        total: Sum = dict(a.terms)
        for term, number in b.terms:
            total[term] = total.get(term, Fraction(0)) + number
        return like(a, total)

    def multiply(self, a: Form, b: Form) -> Form:
        for number, other in ((a, b), (b, a)):
            if number.is_number and number.axes <= other.axes:
                return self._times(number, other)
        a, b = self._lifted(a, b)
        if len(a.terms) * len(b.terms) > 1 and not self.rules.may("distributivity"):
            a, b = _group(a), _group(b)
        made = like(a, {})
        for one, first in a.terms:
            for other, second in b.terms:
                term = self._entrywise(one, other, a)
                made = self.add(made, like(a, {term: first * second}))
        return made

    def divide(self, a: Form, b: Form) -> Form:
        return self.multiply(a, self._inverse(b))

    def power(self, a: Form, b: Form) -> Form:
        exponent = b.constant
        if exponent is None:
            return self._opaque("power", [a, b])
        if not a.is_number:
            return self.multiply(a, a) if exponent == 2 else self._each(f"power {exponent}", a)
        if exponent.denominator == 1 and 0 <= exponent <= _POWER:
            made = self.number(1)
            for _ in range(int(exponent)):
                made = self._times(made, a)
            return replace(made, axes=a.axes)
        return self._scalar_power(a, exponent)

    def transpose(self, a: Form) -> Form:
        if a.axes < 2:
            return a
        if (len(a.terms) == 1 and len(a.terms[0][0].product) < 2) or self.rules.may("transpose"):
            flipped = {transpose_of(term): number for term, number in a.terms}
            return form_of(flipped, a.columns, a.rows, 2)
        return self.transpose(_group(a))

    def matmul(self, a: Form, b: Form) -> Form:
        axes = max(a.axes + b.axes - 2, 0)
        left = self._row(a) if a.axes == 1 else a
        if left.columns != b.rows and sympy.expand(left.columns - b.rows) != 0:
            raise InputError("shapes do not fit in a product", got=f"{a.shape} @ {b.shape}")
        if any(len(term.product) > 1 for term, _ in b.terms) and not self.rules.may("associativity"):
            b = _group(b)
        if len(left.terms) * len(b.terms) > 1 and not self.rules.may("distributivity"):
            left, b = _group(left), _group(b)
        total: Sum = {}
        for one, first in left.terms:
            for other, second in b.terms:
                term = self._product(one, other)
                total[term] = total.get(term, Fraction(0)) + first * second
        made = form_of(total, left.rows, b.columns, 2)
        if a.axes == 1 and b.axes == 2:
            made = form_of({transpose_of(term): number for term, number in made.terms}, b.columns, ONE, 1)
        return replace(made, axes=axes)

    # -- parts of arrays and functions

    def index(self, a: Form, places: ast.expr) -> Form:
        sizes = Shapes(self.setting).index(a.shape, places).sizes
        rows, columns = (*sizes, ONE, ONE)[:2]
        return self._of(Factor("index", rows, columns, (a, ast.unparse(places))), len(sizes))

    def stack(self, rows: list[Form]) -> Form:
        sizes = Shapes(self.setting).stack([row.shape for row in rows]).sizes
        first, second = (*sizes, ONE)[:2]
        return self._of(Factor("stack", first, second, (*rows,)), len(sizes))

    def call(self, name: str, arguments: list[Form], keywords: dict[str, Form]) -> Form:
        axis = keywords.get("axis", arguments[1] if len(arguments) == 2 else None)
        place = None if axis is None or axis.constant is None else int(axis.constant)
        a = arguments[0] if arguments else self.number(0)
        match name:
            case "dot":
                return replace(self.matmul(self._column(a), self._column(arguments[1])), axes=0)
            case "outer":
                one, other = (replace(self._column(argument), axes=2) for argument in arguments)
                return self.matmul(one, self.transpose(other))
            case "sum" | "mean":
                total = self._summed(a, place, keep="keepdims" in keywords)
                return total if name == "sum" else self.divide(total, self._counted(a, place))
            case "ones":
                return self._ones(arguments)
            case "eye":
                size = size_of(a)
                return form_of({Term(): Fraction(1)}, size, size, 2)
            case "trace":
                return self._trace(a)
            case "softmax" | "log_softmax":
                if place is not None and place % max(a.axes, 1) == 0 and a.axes == 2:
                    return self.transpose(self._rowwise(name, self.transpose(a)))
                return self._rowwise(name, a)
            case "diag" if a.axes == 1:
                return self._diagonal(a)
            case _ if name in ELEMENTWISE:
                if name == "sqrt" and a.is_number:
                    return self._scalar_power(a, Fraction(1, 2))
                return self._each(name, a)
        return self._opaque(name, arguments, keywords)

    def derivative(self, name: str, of: ast.expr, by: str, along: Form | None, local: Mapping[str, Form]) -> Form:  # noqa: ARG002 - refused before they matter
        raise UnprovableError(f"rules do not reach into {name}({ast.unparse(of)}, {by})")

    # -- terms

    def _product(self, one: Term, other: Term) -> Term:
        """The product of two terms, shortened by the rules for neighbours and with the numbers in it taken out."""
        product: list[Factor] = list(one.product)
        for factor in other.product:
            product.append(factor)
            while len(product) > 1 and (shorter := self._neighbours(product[-2], product[-1])) is not None:
                product[-2:] = shorter
        return self._numbers_out(joined(one.scalars, other.scalars), product)

    def _neighbours(self, one: Factor, other: Factor) -> list[Factor] | None:
        """What two factors beside one another come to; None where they stay."""
        if one.kind in ("permutation", "orthogonal") and one.transposed == other:
            return [] if self.rules.may("permutation" if one.kind == "permutation" else "orthogonality") else None
        if one.kind == "permutation" and is_ones(other) and self.rules.may("ones"):
            return [other]
        if other.kind == "permutation" and is_ones(one) and self.rules.may("ones"):
            return [one]
        if one.name == "softmax" and not one.flipped and one.columns != ONE and is_ones(other):
            return _shortened(replace(other, rows=one.rows)) if self.rules.may("rows") else None
        if other.name == "softmax" and other.flipped and other.rows != ONE and is_ones(one):
            return _shortened(replace(one, columns=other.columns)) if self.rules.may("rows") else None
        return None

    def _numbers_out(self, scalars: Mapping[Factor, Fraction], product: Sequence[Factor]) -> Term:
        """Cuts a product where a size is 1: what lies between two cuts is a number."""
        powers = dict(scalars)
        ends = [0] * (bool(product) and product[0].rows == ONE)
        ends += [place + 1 for place, factor in enumerate(product) if factor.columns == ONE]
        if len(ends) < 2 or (len(product) > 2 and not self.rules.may("associativity")):
            return term_of(powers, product)
        for start, end in itertools.pairwise(ends):
            number = number_of(product[start:end])
            powers[number] = powers.get(number, Fraction(0)) + 1
        return term_of(powers, [*product[: ends[0]], *product[ends[-1] :]])

    def _times(self, number: Form, other: Form) -> Form:
        """A number times anything."""
        if len(number.terms) * len(other.terms) > 1 and not self.rules.may("distributivity"):
            number, other = self._whole(number), self._whole(other) if other.is_number else _group(other)
        total: Sum = {}
        for one, first in number.terms:
            for term, second in other.terms:
                made = term_of(joined(one.scalars, term.scalars), term.product)
                total[made] = total.get(made, Fraction(0)) + first * second
        return like(other, total)

    def _whole(self, number: Form) -> Form:
        """A sum as one number."""
        return number if len(number.terms) == 1 else replace(self._scalar(_sum(number)), axes=number.axes)

    def _inverse(self, a: Form) -> Form:
        return self._scalar_power(a, Fraction(-1)) if a.is_number else self._each("power -1", a)

    def _scalar_power(self, a: Form, exponent: Fraction) -> Form:
        if len(a.terms) != 1 or a.terms[0][1] < 0:
            return replace(self._scalar(_sum(a), exponent), axes=a.axes)
        ((term, number),) = a.terms
        powers = {factor: power * exponent for factor, power in term.scalars}
        if exponent.denominator == 1:
            number = number ** int(exponent)
        elif number != 1:
            powers[Factor("number", arguments=(str(number),))], number = exponent, Fraction(1)
        return replace(form_of({term_of(powers, ()): number}), axes=a.axes)

    # -- entries

    def _entrywise(self, one: Term, other: Term, shape: Form) -> Term:
        """The product of two terms entry by entry."""
        before, products, after = self._pulled([one.product, other.product])
        known = [product for product in products if not (product and all(map(is_ones, product)))]
        found = [part for product in known for part in parts(product)]
        product = (
            Factor("product", shape.rows, shape.columns, in_order(map(shape.with_product, found)), kind="entries"),
        )
        if len(found) < 2:  # the other one is all ones
            product = found[0] if found else one.product
        return term_of(joined(one.scalars, other.scalars), (*before, *product, *after))

    def _each(self, name: str, a: Form) -> Form:
        """A function of single entries."""
        if a.is_number:
            return replace(self._scalar(Factor(name, arguments=(replace(a, axes=0),))), axes=a.axes)
        before, inside, after = self._outside(a)
        return a.with_product((*before, Factor(name, a.rows, a.columns, (inside,), kind="entries"), *after))

    def _rowwise(self, name: str, a: Form) -> Form:
        """A softmax of every row; of a flat vector as the row that it is."""
        row = self._row(a) if a.axes == 1 else a
        terms = dict(row.terms)
        if row.columns != ONE and any(is_shift(term) for term in terms) and self.rules.may("shift"):
            terms = {term: number for term, number in terms.items() if not is_shift(term)}
        before, inside, after = self._outside(like(row, terms))
        factor = Factor(name, row.rows, row.columns, (replace(inside, axes=2),))
        made = like(row, {self._numbers_out({}, (*before, factor, *after)): Fraction(1)})
        return replace(self.transpose(made), axes=1) if a.axes == 1 else made

    def _diagonal(self, a: Form) -> Form:
        before, inside, _ = self._outside(a)
        factor = Factor("diag", a.rows, a.rows, (inside,), kind="symmetric")
        after = [one.transposed for one in reversed(before)]
        return form_of({Term((), (*before, factor, *after)): Fraction(1)}, a.rows, a.rows, 2)

    def _outside(self, a: Form) -> tuple[Sequence[Factor], Form, Sequence[Factor]]:
        """The permutations that all terms of a form begin or end with, and the form without them."""
        before, products, after = self._pulled([term.product for term, _ in a.terms])
        inside = zip(a.terms, products, strict=True)
        return before, like(a, {Term(term.scalars, product): number for (term, number), product in inside}), after

    def _pulled(
        self, products: Sequence[tuple[Factor, ...]]
    ) -> tuple[Sequence[Factor], list[tuple[Factor, ...]], Sequence[Factor]]:
        """Permutations at the beginnings and ends of products; ones and the identity have whichever is wanted."""
        before, after, rest = list[Factor](), list[Factor](), list(products)
        while True:
            first = {product[0] if product else None for product in rest if not (product and is_ones(product[0]))}
            last = {product[-1] if product else None for product in rest if not (product and is_ones(product[-1]))}
            if alike(first) and self.rules.may("equivariance"):
                before.append(next(one for one in first if one))
                rest = [product[not is_ones(product[0]) :] for product in rest]
            elif alike(last) and self.rules.may("equivariance"):
                after.insert(0, next(one for one in last if one))
                rest = [product[: len(product) - (not is_ones(product[-1]))] for product in rest]
            elif (both := conjugated(rest)) is not None and self.rules.may("equivariance"):
                before.append(both)
                after.insert(0, both.transposed)
                rest = [product[1:-1] for product in rest]
            else:
                return before, rest, after

    # -- sums

    def _summed(self, a: Form, axis: int | None, *, keep: bool) -> Form:
        """A sum as products with ones; `keep` leaves an axis of 1."""
        if a.axes == 0:
            return a
        if axis is None or a.axes == 1:
            made = self.matmul(self._row(self._one(a.rows)), replace(a, axes=2))
            return replace(self.matmul(made, replace(self._one(a.columns), axes=2)), axes=a.axes if keep else 0)
        if axis % 2:
            return replace(self.matmul(a, replace(self._one(a.columns), axes=2)), axes=1 + keep)
        down = self.matmul(self._row(self._one(a.rows)), a)
        return down if keep else replace(self.transpose(down), axes=1)

    def _counted(self, a: Form, axis: int | None) -> Form:
        return self._in_sizes(a.rows * a.columns if axis is None else (a.rows, a.columns)[axis % max(a.axes, 1)])

    def _trace(self, a: Form) -> Form:
        made = self.number(0)
        for term, number in a.terms:
            scalars = form_of({term_of(dict(term.scalars), ()): number})
            made = self.add(made, self._times(scalars, self._traced(term.product, a.rows)))
        return made

    def _traced(self, product: tuple[Factor, ...], size: Size) -> Form:
        """The trace of a product, which is that of each rotation and of their transposes."""
        rounds = [product[place:] + product[:place] for place in range(len(product))]
        if len(product) > 1 and not self.rules.may("trace"):
            rounds = [product]
        terms = []
        for turned in rounds:
            whole = Term()
            for factor in turned:
                whole = self._product(whole, Term((), (factor,)))
            terms += [whole, transpose_of(whole)]
        if not product or any(term == Term() for term in terms):
            return self._in_sizes(size)
        best = min(terms, key=lambda term: (len(term.product), repr(term)))
        if best.product:
            rest = Form(((Term((), best.product), Fraction(1)),), size, size, 2)
            best = term_of(joined(best.scalars, [(Factor("trace", arguments=(rest,)), Fraction(1))]), ())
        return form_of({best: Fraction(1)})

    # -- making forms

    def _of(self, factor: Factor, axes: int) -> Form:
        if factor.rows == factor.columns == ONE:
            return replace(self._scalar(factor), axes=axes)
        return form_of({Term((), (factor,)): Fraction(1)}, factor.rows, factor.columns, axes)

    def _scalar(self, factor: Factor, power: Fraction = Fraction(1)) -> Form:
        return form_of({Term(((factor, power),)): Fraction(1)})

    def _opaque(self, name: str, arguments: Sequence[Form], keywords: Mapping[str, Form] | None = None) -> Form:
        """A function that no rule is about: equal where what it is of is."""
        named = keywords or {}
        if name == "power":
            sizes = broadcast(*(one.shape for one in arguments))
        else:
            shapes = {key: shape_of(one) for key, one in named.items()}
            sizes = Shapes(self.setting).call(name, [shape_of(one) for one in arguments], shapes).sizes
        rows, columns = (*map(sympy.expand, sizes), ONE, ONE)[:2]
        return self._of(Factor(name, rows, columns, (*arguments, *sorted(named.items(), key=repr))), len(sizes))

    def _ones(self, sizes: Sequence[Form]) -> Form:
        first, *others = (self._one(size_of(size)) for size in sizes)
        return self.matmul(replace(first, axes=2), self._row(others[0])) if others else first

    def _one(self, size: Size) -> Form:
        """A flat vector of ones."""
        return replace(self._of(Factor("ones", size), 1) if size != ONE else self.number(1), axes=1)

    def _row(self, a: Form) -> Form:
        """A flat vector as a row."""
        return form_of({transpose_of(term): number for term, number in a.terms}, a.columns, a.rows, 2)

    def _column(self, a: Form) -> Form:
        return a if a.columns == ONE else self._row(a)

    def _lifted(self, a: Form, b: Form) -> tuple[Form, Form]:
        """Both in the shape that they are broadcast to."""
        sizes = broadcast(a.shape, b.shape)
        return self._lift(a, sizes), self._lift(b, sizes)

    def _lift(self, a: Form, sizes: Sequence[Size]) -> Form:
        if len(sizes) == a.axes and all(map(same_size, a.shape.sizes, sizes)):
            return a
        if len(sizes) < 2:
            return replace(self._times(replace(a, axes=0), self._one(sizes[0])), axes=1)
        whole = self._row(a) if a.axes == 1 else replace(a, axes=2)
        if not same_size(whole.rows, sizes[0]):
            whole = self.matmul(replace(self._one(sizes[0]), axes=2), whole)
        if not same_size(whole.columns, sizes[1]):
            whole = self.matmul(whole, self._row(self._one(sizes[1])))
        return whole

    def _in_sizes(self, size: Size) -> Form:
        """A size as a number."""
        total: Sum = {}
        for part in sympy.Add.make_args(sympy.expand(size)):
            number, rest = part.as_coeff_Mul()
            powers = {
                Factor(base.name, kind="size"): Fraction(str(power))
                for base, power in rest.as_powers_dict().items()
                if base != 1
            }
            total[term_of(powers, ())] = Fraction(str(number))
        return form_of(total)


def _shortened(ones: Factor) -> list[Factor]:
    """Ones, of which a single one is left out."""
    return [] if ones.rows == ones.columns else [ones]


def _group(a: Form) -> Form:
    """A form as a factor that no rule looks into."""
    return (
        a
        if len(a.terms) == 1 and len(a.terms[0][0].product) < 2
        else a.with_product([Factor("group", a.rows, a.columns, (a,))])
    )


def _sum(number: Form) -> Factor:
    """A sum as a factor that stands for it."""
    return Factor("sum", arguments=(replace(number, axes=0),))
