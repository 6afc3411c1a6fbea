"""Orders of growth: polynomials in several sizes, and which of them bounds which.

Sizes are 1 or more and grow as they like, within conditions such as `m <= n`. Written `n = t^u`, a monomial `n^a m^b`
grows as `t^(a u_n + b u_m)`, and conditions become linear in u. So a sum bounds a monomial where no direction u lets
the monomial outgrow all terms of the sum: a linear programme, whose solution is the direction in which it does.
"""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from scipy.optimize import linprog

from qkv.errors import InputError

Size = Any
"""An expression of sympy's, whose own annotations promise less than it keeps."""

Direction = dict[str, float]


def symbol(name: str) -> sympy.Symbol:
    """The size of that name."""
    return sympy.Symbol(name, positive=True, integer=True)


@dataclass(frozen=True)
class Growth:
    """How sums of monomials in `sizes` compare, where sizes grow within `conditions`.

    Raises:
        InputError: a condition that says nothing about how sizes grow.

    >>> n, m = symbol("n"), symbol("m")
    >>> Growth(["n", "m"]).bounded(n * m + m, n * m), Growth(["n", "m"]).bounded(n**2, n * m)
    (None, {'n': 1.0, 'm': 0.0})
    >>> Growth(["n", "m"], [ast.parse("n <= m", mode="eval").body]).bounded(n**2, n * m)
    """

    sizes: Sequence[str]
    conditions: Sequence[ast.expr] = ()

    def bounded(self, small: Size, large: Size) -> Direction | None:
        """None where `small` is O(`large`), else how sizes can grow so that it is not."""
        bounds = self.monomials(large)
        for one in self.monomials(small):
            away = np.array([one - other for other in bounds], dtype=float)
            found = self._outgrows(away)
            if found is not None:
                return found
        return None

    def leading(self, polynomial: Size) -> Size:
        """The terms of a polynomial that no others bound, each without its factor; of equals, one.

        >>> L, D = symbol("L"), symbol("D")
        >>> Growth(["L", "D"]).leading(2 * L**2 * D + 4 * L**2 + L)
        D*L**2
        """
        terms = [term for term, _ in sorted(_terms(polynomial), key=lambda one: _rank(one[0], self.sizes))]
        kept: list[Size] = []
        for place, term in enumerate(terms):
            others = kept + terms[place + 1 :]
            if not others or self.bounded(term, sympy.Add(*others)) is not None:
                kept.append(term)
        return sympy.Add(*kept)

    def exponent(self, polynomial: Size, direction: Direction) -> float:
        """The power of t with which a polynomial grows where each size is `t ** direction`."""
        along = np.array([direction[name] for name in self.sizes])
        return max(float(np.dot(one, along)) for one in self.monomials(polynomial))

    def monomials(self, polynomial: Size) -> list[np.ndarray]:
        """The exponents of each term that counts: those with a factor above zero.

        Raises:
            InputError: something else than a sum of products of powers of sizes.
        """
        found = []
        for term, factor in _terms(polynomial):
            powers = term.as_powers_dict()
            exponents = np.zeros(len(self.sizes))
            for base, power in powers.items():
                if base == 1:
                    continue
                if not (base.is_Symbol and base.name in self.sizes and power.is_number):
                    raise InputError(
                        f"{term} is no product of powers of sizes",
                        expected=f"a sum of such products in {', '.join(self.sizes)}",
                    )
                exponents[self.sizes.index(base.name)] = float(power)
            if factor > 0:
                found.append(exponents)
        return found or [np.zeros(len(self.sizes))]

    def _outgrows(self, away: np.ndarray) -> Direction | None:
        """The direction in which all rows of `away` grow, of those that the conditions allow."""
        count = len(self.sizes)
        rows = [np.append(-row, 1.0) for row in away]  # row . u >= t, and t as large as can be
        rows += [np.append(-row, 0.0) for row in self._cone()]
        bounds = [(0.0, 1.0)] * count + [(None, 1.0)]
        done = linprog(
            np.append(np.full(count, 1e-6), -1.0), A_ub=np.array(rows), b_ub=np.zeros(len(rows)), bounds=bounds
        )
        if done.status != 0 or done.x[-1] <= 1e-9:
            return None
        return {name: round(float(value), 6) for name, value in zip(self.sizes, done.x[:-1], strict=True)}

    def _cone(self) -> list[np.ndarray]:
        """Rows r with `r . u >= 0`, which is what conditions come to."""
        return [row for condition in self.conditions for row in self._half_spaces(condition)]

    def _half_spaces(self, condition: ast.expr) -> list[np.ndarray]:
        if isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And):
            return [row for part in condition.values for row in self._half_spaces(part)]
        rows = []
        for small, strict, large in comparisons(condition):
            above = self.monomials(large)
            if len(above) != 1:
                raise InputError(
                    f"{ast.unparse(condition)} does not say how sizes grow",
                    expected="a single product on the larger side, such as m <= n",
                )
            rows += [above[0] - one for one in self.monomials(small)]
            if strict is None:
                rows += [one - above[0] for one in self.monomials(small)]
        return rows


def comparisons(condition: ast.expr) -> list[tuple[Size, bool | None, Size]]:
    """A comparison of sizes as pairs, the smaller first: strict or not, None where both are equal.

    Raises:
        InputError: no comparison.
    """
    if not isinstance(condition, ast.Compare):
        raise InputError(f"{ast.unparse(condition)} is no comparison of sizes", expected="such as m <= n")
    sides = [polynomial(side) for side in (condition.left, *condition.comparators)]
    found = []
    for left, op, right in zip(sides, condition.ops, sides[1:], strict=False):
        match op:
            case ast.Lt() | ast.LtE():
                found.append((left, isinstance(op, ast.Lt), right))
            case ast.Gt() | ast.GtE():
                found.append((right, isinstance(op, ast.Gt), left))
            case ast.Eq():
                found.append((left, None, right))
            case _:
                raise InputError(f"{ast.unparse(condition)} is no comparison of sizes", expected="<, <=, >, >= or ==")
    return found


def met(conditions: Sequence[ast.expr], names: Sequence[str]) -> Callable[[Sequence[int]], bool]:
    """Whether sizes, given in the order of their names, meet all conditions.

    Raises:
        InputError: something else than comparisons of these sizes.

    >>> met([ast.parse("m <= n and n < 5", mode="eval").body], ["m", "n"])([2, 3])
    True
    """
    tests = []
    for condition in conditions:
        for part in condition.values if isinstance(condition, ast.BoolOp) else [condition]:
            for one, strict, other in comparisons(part):
                tests.append((strict, compiled(other - one, names)))

    def all_met(sizes: Sequence[int]) -> bool:
        apart = ((strict, difference(*sizes)) for strict, difference in tests)
        return all(by == 0 if strict is None else by > 0 if strict else by >= 0 for strict, by in apart)

    return all_met


def compiled(size: Size, names: Sequence[str]) -> Callable[..., Any]:
    """A polynomial as a function of numbers, in the order of their names.

    Raises:
        InputError: it has other names.
    """
    unknown = sorted({str(name) for name in size.free_symbols} - set(names))
    if unknown:
        raise InputError(f"{', '.join(unknown)} is no size here", expected=f"one of {', '.join(names) or 'none'}")
    plain = size.subs({name: sympy.Symbol(name.name) for name in size.free_symbols})
    return sympy.lambdify([sympy.Symbol(name) for name in names], plain, "math")


def polynomial(node: ast.expr, leaf: Callable[[ast.expr], Size | None] = lambda _: None) -> Size:
    """An expression in sizes, in which every name is one but where `leaf` says what an expression comes to.

    Raises:
        InputError: something else than arithmetic on sizes.

    >>> polynomial(ast.parse("2 * V * (d + 1)", mode="eval").body)
    2*V*(d + 1)
    """
    said = leaf(node)
    if said is not None:
        return said
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return sympy.nsimplify(value, rational=True)
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -polynomial(operand, leaf)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](polynomial(left, leaf), polynomial(right, leaf))
        case ast.Call(func=ast.Name(id="sqrt"), args=[inside]):
            return sympy.sqrt(polynomial(inside, leaf))
    raise InputError(f"{ast.unparse(node)} is no size", expected="arithmetic on sizes, such as n**2 + n * m")


_ARITHMETIC: dict[type[ast.operator], Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


def written(size: Size, order: Sequence[str] = ()) -> str:
    """A polynomial as people write it: factors in the `order` of their names, terms of high degree first.

    >>> L, D = symbol("L"), symbol("D")
    >>> written(4 * L**2 + 2 * L**2 * D, "LD")
    '2 * L**2 * D + 4 * L**2'
    """
    if not sympy.expand(size).is_polynomial():
        return str(sympy.simplify(size)).replace("**", "^").replace("*", " * ").replace("^", "**").replace("/", " / ")
    names = sorted((str(name) for name in size.free_symbols), key=lambda name: ((*order, name).index(name), name))
    parts = []
    for term, factor in sorted(_terms(size), key=lambda one: _rank(one[0], names)):
        powers = {str(base): power for base, power in term.as_powers_dict().items()}
        factors = [name if powers[name] == 1 else f"{name}**{powers[name]}" for name in names if name in powers]
        number = [str(abs(factor))] * (abs(factor) != 1 or not factors)
        parts += ["-" if factor < 0 else "+", " * ".join([*number, *factors])]
    return " ".join(parts).removeprefix("+ ")


def _rank(term: Size, names: Sequence[str]) -> tuple:
    powers = {str(base): power for base, power in term.as_powers_dict().items()}
    return -sum(powers.get(name, 0) for name in names), [-powers.get(name, 0) for name in names]


def _terms(polynomial: Size) -> list[tuple[Size, Any]]:
    """The terms of a sum, each as a product of powers and the number before it."""
    found = []
    for term in sympy.Add.make_args(sympy.expand(polynomial)):
        factor, rest = term.as_coeff_Mul()
        found.append((rest, factor))
    return found
