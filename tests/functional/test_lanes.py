"""Rows as values and products of panels, against NumPy."""

from typing import no_type_check

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from numba import njit

from qkv.functional._lanes import (
    LANES,
    ROWS,
    every,
    exp,
    larger,
    multiply,
    panels,
    product,
    put,
    row,
    row_sum,
    transposed_product,
)


def filled(rows: int, columns: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A matrix of random numbers, plain and in panels."""
    plain, laid_out = generator.standard_normal((rows, columns)).astype(np.float32), panels(rows, columns)
    for column in range(columns):
        laid_out[column // LANES, :rows, column % LANES] = plain[:, column]
    return plain, laid_out


def plain(laid_out: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return np.concatenate(list(laid_out), axis=1)[:rows, :columns]


def test_panels_are_zeros_that_begin_with_a_cache_line():
    for rows, columns in (1, 1), (7, 31), (153, 64), (8, 97):
        matrix = panels(rows, columns)
        count, there, lanes = matrix.shape
        assert (count - 1) * LANES < columns <= count * LANES
        assert lanes == LANES
        assert there >= rows
        assert matrix.ctypes.data % 64 == 0
        assert not matrix.any()


def test_operations_on_rows():
    @no_type_check
    @njit
    def combine(x, y, into):
        put(into, 1, (row(x, 0) + row(x, 1) * row(y, 0)) / every(np.float32(2)))
        put(into, 2, larger(row(x, 0), row(y, 0)) - row(x, 1))
        return row_sum(row(x, 1))

    generator = np.random.default_rng(0)
    (x, x_), (y, y_), into = filled(2, LANES, generator), filled(1, LANES, generator), panels(3, LANES)
    total = combine(x_, y_, into)
    np.testing.assert_allclose(into[0, 1], (x[0] + x[1] * y[0]) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(into[0, 2], np.maximum(x[0], y[0]) - x[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total, x[1].sum(), rtol=1e-5, atol=1e-6)
    assert not into[0, 0].any()


@no_type_check
@njit
def exponentials(x, into):
    for i in range(x.size // LANES):
        put(into, i, exp(row(x, i)))


def test_exponentials():
    x = np.concatenate([np.linspace(-87, 87, 100 * LANES - 2), [0.0, -0.0]]).astype(np.float32)
    found = np.empty_like(x)
    exponentials(x, found)
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=4e-7)
    assert (found[-2:] == 1).all()


def test_exponentials_of_what_is_small_or_no_number():
    x, found = np.full(LANES, -1e4, np.float32), np.empty(LANES, np.float32)
    x[:3] = np.nan, -np.inf, -88
    exponentials(x, found)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], np.exp(-87), rtol=1e-6)


sizes = st.integers(1, 3 * LANES + 1)


@settings(max_examples=30)
@given(rows=sizes, inner=sizes, columns=sizes, keep=st.booleans())
def test_product(rows: int, inner: int, columns: int, keep: bool):
    generator = np.random.default_rng(0)
    (a, a_), (b, b_), (c, c_) = (
        filled(*shape, generator) for shape in ((rows, inner), (inner, columns), (rows, columns))
    )
    product(a_, b_, inner, c_, keep)
    np.testing.assert_allclose(plain(c_, rows, columns), a @ b + keep * c, rtol=1e-4, atol=1e-4)


@settings(max_examples=30)
@given(rows=st.integers(1, LANES), inner=sizes, columns=sizes, keep=st.booleans(), triangular=st.booleans())
def test_transposed_product(rows: int, inner: int, columns: int, keep: bool, triangular: bool):
    generator = np.random.default_rng(0)
    (a, a_), (b, b_), (c, c_) = (
        filled(*shape, generator) for shape in ((inner, rows), (inner, columns), (rows, columns))
    )
    if triangular:
        a = np.triu(a)
        a_[0, :inner, :rows] = a
    transposed_product(a_, b_, inner, c_, keep, triangular)
    np.testing.assert_allclose(plain(c_, rows, columns), a.T @ b + keep * c, rtol=1e-4, atol=1e-4)


@settings(max_examples=30)
@given(rows=st.integers(ROWS, 40), inner=sizes, columns=st.integers(LANES, 3 * LANES), across=st.booleans())
def test_matrices_as_they_lie(rows: int, inner: int, columns: int, across: bool):
    generator = np.random.default_rng(0)
    shapes = ((inner, rows) if across else (rows, inner), (inner, columns + 3), (rows, columns + 5))
    a, b, c = (generator.standard_normal(shape).astype(np.float32) for shape in shapes)
    a, b, edge = a.T if across else a, b[:, :columns], c[:, columns:].copy()
    multiply(a, b, c[:, :columns])
    np.testing.assert_allclose(c[:, :columns], a @ b, rtol=1e-4, atol=1e-4)
    assert (c[:, columns:] == edge).all()
