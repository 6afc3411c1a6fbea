import ast
import itertools

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.check.worksheets.orders import Growth, met, polynomial, symbol, written
from qkv.errors import InputError


def read(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def growth(*conditions: str) -> Growth:
    return Growth(["n", "m"], [read(condition) for condition in conditions])


@pytest.mark.parametrize(
    ("small", "large", "conditions", "bounded"),
    [
        ("n", "n * m", (), True),
        ("n * m", "n + m", (), False),
        ("n * m", "n**2 + m**2", (), True),  # n m <= (n^2 + m^2) / 2, though neither square alone bounds it
        ("n**2 + n * m", "n * m", (), False),
        ("n**2 + n * m", "n * m", ("n <= m",), True),
        ("n**2", "n * m", ("m >= n",), True),
        ("n * m**2", "m**3", ("n < m",), True),
        ("n * m", "m", ("n <= 8",), True),  # a size that is bounded counts as 1
        ("n**2", "m", ("n**2 <= m",), True),
        ("n**3", "m", ("n**2 <= m",), False),
        ("n**2", "n * m", ("n == m",), True),
        ("5", "1", (), True),
        ("n", "1", (), False),
        ("n", "n * sqrt(m)", (), True),
    ],
)
def test_bounds_by_hand(small: str, large: str, conditions: tuple[str, ...], bounded: bool):
    found = growth(*conditions).bounded(polynomial(read(small)), polynomial(read(large)))
    assert (found is None) == bounded


def test_a_direction_is_one_in_which_the_first_outgrows_the_second():
    along = growth()
    small, large = polynomial(read("n**2 + m")), polynomial(read("n * m"))
    direction = along.bounded(small, large)
    assert direction is not None
    assert along.exponent(small, direction) > along.exponent(large, direction)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4))
def test_bounded_sums_stay_bounded_by_their_ratio_at_large_sizes(terms: list[tuple[int, int]]):
    n, m = symbol("n"), symbol("m")
    large = sum((n**a * m**b for a, b in terms), start=sympy.Integer(0))
    # Along every direction on a grid the largest exponent of a bounded monomial is no larger than the sum's.
    for a, b in itertools.product(range(3), repeat=2):
        exceeds = any(
            a * u + b * v > max(x * u + y * v for x, y in terms) for u, v in itertools.product(range(13), repeat=2)
        )
        assert (growth().bounded(n**a * m**b, large) is not None) == exceeds


def test_leading_terms():
    n, m = symbol("n"), symbol("m")
    assert growth().leading(2 * n**2 + 3 * n * m + n + 7) == n**2 + n * m
    assert growth("n <= m").leading(2 * n**2 + 3 * n * m + n) == n * m
    assert growth().leading(sympy.Integer(7)) == 1


def test_conditions_are_met_or_not():
    assert met([read("m < n <= 5")], "mn")([2, 5])
    assert not met([read("m < n and n < 5")], "mn")([2, 5])
    assert met([read("m == 2 * n")], "mn")([4, 2])


def test_polynomials_are_written_in_the_order_of_names():
    assert written(polynomial(read("D * L**2 + L + 3")), ["L", "D"]) == "L**2 * D + L + 3"
    assert written(polynomial(read("n - m / 2")), ["n"]) == "n - 1/2 * m"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: polynomial(read("log(n)")), "log.n. is no size"),
        (lambda: growth("n <= m + 1").bounded(symbol("n"), symbol("m")), "does not say how sizes grow"),
        (lambda: growth("n + m").bounded(symbol("n"), symbol("m")), "no comparison of sizes"),
        (lambda: growth("n != m").bounded(symbol("n"), symbol("m")), "no comparison of sizes"),
        (lambda: growth().monomials(2 ** symbol("n")), "no product of powers"),
        (lambda: growth().monomials(symbol("k")), "no product of powers"),
    ],
)
def test_refusals(call, message: str):
    with pytest.raises(InputError, match=message):
        call()
