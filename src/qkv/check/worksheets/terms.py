"""What normal forms of matrix expressions are made of: sums of products, in an order that depends on nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import sympy

from qkv.check.worksheets.orders import Size, symbol
from qkv.check.worksheets.shapes import Shape
from qkv.errors import InputError

ONE = sympy.Integer(1)
_LARGEST = 400  # terms of a form


class UnprovableError(InputError):
    """An expression that the rules do not reach into: a derivative, or one that multiplied out is too long."""


@dataclass(frozen=True)
class Factor:
    """What stands in a product: a symbol, or a function of forms.

    Attributes:
        name: of the symbol or of the function.
        rows, columns: its sizes.
        arguments: the forms or words that a function is of; none for a symbol.
        kind: of a symbol, out of `KINDS`; of a function of single entries, `entries`.
        flipped: whether it is transposed.
    """

    name: str
    rows: Size = ONE
    columns: Size = ONE
    arguments: tuple[Any, ...] = ()
    kind: str = ""
    flipped: bool = False

    @property
    def transposed(self) -> "Factor":
        if self.rows == self.columns == ONE or self.kind == "symmetric":
            return self
        turned = replace(self, rows=self.columns, columns=self.rows)
        if self.kind == "entries":  # what is done entry by entry is done as well to the transposes
            return replace(turned, arguments=in_order(map(_turned, self.arguments)))
        return replace(turned, flipped=not self.flipped)


@dataclass(frozen=True)
class Term:
    """Powers of numbers, which commute, times a product of matrices, which do not; an empty one is the identity."""

    scalars: tuple[tuple[Factor, Fraction], ...] = ()
    product: tuple[Factor, ...] = ()


@dataclass(frozen=True)
class Form:
    """A sum of terms with the numbers before them, in an order that depends on nothing but the terms.

    Attributes:
        axes: 0 for a number, 1 for a flat vector, which is a column here, 2 for a matrix.
    """

    terms: tuple[tuple[Term, Fraction], ...]
    rows: Size = ONE
    columns: Size = ONE
    axes: int = 0

    @property
    def shape(self) -> Shape:
        return Shape((self.rows, self.columns)[: self.axes])

    @property
    def is_number(self) -> bool:
        return self.rows == ONE and self.columns == ONE

    def with_product(self, product: Iterable[Factor]) -> "Form":
        """A single product of this shape."""
        return replace(self, terms=((Term((), tuple(product)), Fraction(1)),))

    @property
    def constant(self) -> Fraction | None:
        """The number that it is, where it is one."""
        if not self.terms:
            return Fraction(0)
        ((term, number), *rest) = self.terms
        return number if self.is_number and not rest and term == Term() else None


Sum = dict[Term, Fraction]


def form_of(terms: Mapping[Term, Fraction], rows: Size = ONE, columns: Size = ONE, axes: int = 0) -> Form:
    if len(terms) > _LARGEST:
        raise UnprovableError("multiplied out this is too long", expected=f"at most {_LARGEST} terms")
    kept = [(term, number) for term, number in terms.items() if number]
    return Form(tuple(sorted(kept, key=repr)), rows, columns, axes)


def like(form: Form, terms: Mapping[Term, Fraction]) -> Form:
    return form_of(terms, form.rows, form.columns, form.axes)


def term_of(powers: Mapping[Factor, Fraction], product: Iterable[Factor]) -> Term:
    kept = ((factor, power) for factor, power in powers.items() if power)
    return Term(tuple(sorted(kept, key=repr)), tuple(product))


def joined(one: Iterable[tuple[Factor, Fraction]], other: Iterable[tuple[Factor, Fraction]]) -> dict[Factor, Fraction]:
    powers = dict(one)
    for factor, power in other:
        powers[factor] = powers.get(factor, Fraction(0)) + power
    return powers


def transpose_of(term: Term) -> Term:
    return Term(term.scalars, tuple(factor.transposed for factor in reversed(term.product)))


def _turned(form: Form) -> Form:
    return form_of({transpose_of(term): number for term, number in form.terms}, form.columns, form.rows, form.axes)


def number_of(product: Sequence[Factor]) -> Factor:
    """A product that is a single number, which its transpose is too."""
    turned = [factor.transposed for factor in reversed(product)]
    chosen = min(list(product), turned, key=repr)
    return chosen[0] if len(chosen) == 1 else Factor("number", arguments=tuple(chosen))


def parts(product: tuple[Factor, ...]) -> list[tuple[Factor, ...]]:
    """The parts of a product entry by entry, or the product itself."""
    if len(product) == 1 and product[0].name == "product" and product[0].kind == "entries":
        return [form.terms[0][0].product for form in product[0].arguments]
    return [product]


def in_order(forms: Iterable[Form]) -> tuple[Form, ...]:
    return tuple(sorted(forms, key=repr))


def alike(ends: set[Factor | None]) -> bool:
    """Whether products that have an end of their own all have the same permutation there."""
    return len(ends) == 1 and all(one is not None and one.kind == "permutation" for one in ends)


def conjugated(products: Sequence[tuple[Factor, ...]]) -> Factor | None:
    """The permutation P where every product is the identity or `P ... P.T`."""
    ends = {(product[0], product[-1].transposed) for product in products if product}
    if len(ends) != 1:
        return None
    ((first, last),) = ends
    return first if first == last and first.kind == "permutation" else None


def is_ones(factor: Factor) -> bool:
    return factor.name == "ones" and not factor.kind


def is_shift(term: Term) -> bool:
    """Whether a term adds the same to a whole row: `c 1.T`."""
    return len(term.product) > 1 - bool(term.product and term.product[-1].rows == ONE) and is_ones(term.product[-1])


def size_of(form: Form) -> Size:
    """The size that a number stands for."""
    total = sympy.Integer(0)
    for term, number in form.terms:
        if any(factor.kind != "size" for factor, _ in term.scalars):
            raise UnprovableError("a size is no whole number or name of a size")
        powers = (symbol(factor.name) ** sympy.Rational(str(power)) for factor, power in term.scalars)
        total += sympy.Rational(str(number)) * sympy.Mul(*powers)
    return sympy.expand(total)


def shape_of(form: Form) -> Shape:
    if form.axes:
        return form.shape
    try:
        return Shape((), size_of(form))
    except UnprovableError:
        return Shape(())


def same_size(one: Size, other: Size) -> bool:
    return bool(one == other or sympy.expand(one - other) == 0)
