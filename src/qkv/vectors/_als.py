"""GloVe by alternating least squares: every word exactly, given the contexts, then every context, given the words.

For one word, with the others' `c` and `bt` held, the loss is a quadratic in `(w, b)`. Its minimum solves
`(C^T F C + ridge s D) (w, b) = C^T F (log x - bt)`, where the rows of C are `(c, 1)`, F holds the weights `f(x)`, `s`
is their sum, and D keeps the bias free (Hu, Koren and Volinsky 2008, eq. 4, with a ridge that grows with the row's
weight). All of it is in the products of the columns of `sqrt(F) (C, 1, log x - bt)` with one another.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float32, Int, Int32
from scipy.sparse import csr_array
from threadpoolctl import ThreadpoolController

from qkv.compiled import compiled
from qkv.vectors._adagrad import weights_of
from qkv.vectors._threads import in_threads

CONJUGATE_FROM = 200
"""From this width on a few conjugate gradient steps, each from the last solution, cost less than solving."""

PARTS = 8
"""Into how many steps one side of a sweep is cut, for who wants to stop in between."""

_STEPS = 3
_CHUNK = 256
_GROUPS_PER_THREAD = 4
_blas = ThreadpoolController()


class LeastSquares:
    """The parameters, `[w, b, 1]` a word and `[c, 1, bt]` a context, and the counts by word and by context."""

    def __init__(
        self,
        counts: csr_array,
        tables: Sequence[Float32[np.ndarray, "words columns"]],
        *,
        x_max: float,
        alpha: float,
        ridge: float,
        threads: int,
    ):
        self.tables = [np.ascontiguousarray(table) for table in tables]
        by_row = _Weighted.of(counts, x_max, alpha)
        turned = csr_array(counts.T.tocsr())
        by_column = by_row if _same(turned, counts) else _Weighted.of(turned, x_max, alpha)
        self._counts = by_row, by_column
        self._ridge, self._threads = np.float32(ridge), threads

    def step(self, unit: int) -> None:
        """Solves one part of the words, or, after all of those, of the contexts."""
        side, part = divmod(unit, PARTS)
        counts = self._counts[side]
        bounds = _even(counts.indptr, PARTS)
        run = partial(self._solve, side, counts)
        inner = counts.indptr[bounds[part] : bounds[part + 1] + 1]
        groups = bounds[part] + _even(inner, self._threads * _GROUPS_PER_THREAD)
        with _blas.limit(limits=1, user_api="blas"):
            for _ in in_threads(run, list(pairwise(groups.tolist())), self._threads):
                pass

    def _solve(self, side: int, counts: "_Weighted", rows: tuple[int, int]) -> None:
        dim = self.tables[0].shape[1] - 2
        solve = _solve_rows if dim < CONJUGATE_FROM else _approach_rows
        # A context's row is `[c, 1, bt]`: seen from there, bias and one have changed places.
        solve(
            *counts, *rows, self.tables[1 - side], self.tables[side], dim + side, dim + 1 - side, self._ridge
        )  # fmt: skip

    def loss(self) -> float:
        """The sum of `f(x) (w . c + b + bt - log x)^2`."""
        return self._counts[0].loss(self.tables, self._threads)

    def balance(self) -> None:
        """Turns words and contexts so that both have the same Gram matrix: their products stay as they are.

        `W C^T = (Q R) (Q' R')^T`, and with the singular values of `R R'^T = U S V^T` the words become
        `Q U sqrt(S)` and the contexts `Q' V sqrt(S)`.
        """
        dim = self.tables[0].shape[1] - 2
        (q_words, r_words), (q_contexts, r_contexts) = (
            np.linalg.qr(table[:, :dim].astype(np.float64)) for table in self.tables
        )
        u, values, vt = np.linalg.svd(r_words @ r_contexts.T)
        self.tables[0][:, :dim] = q_words @ u * np.sqrt(values)
        self.tables[1][:, :dim] = q_contexts @ vt.T * np.sqrt(values)


class _Weighted(NamedTuple):
    """Counts by row: of each its logarithm and its weight `f(x)`."""

    indptr: Int[np.ndarray, " bounds"]
    indices: Int32[np.ndarray, " entries"]
    logs: Float32[np.ndarray, " entries"]
    weights: Float32[np.ndarray, " entries"]

    @classmethod
    def of(cls, counts: csr_array, x_max: float, alpha: float) -> "_Weighted":
        return cls(counts.indptr, counts.indices, np.log(counts.data), weights_of(counts.data, x_max, alpha))

    def loss(self, tables: Sequence[Float32[np.ndarray, "words columns"]], threads: int) -> float:
        bounds = _even(self.indptr, 4 * PARTS)

        def of(rows: tuple[int, int]) -> float:
            return _loss_of_rows(*self, *rows, *tables)

        return sum(in_threads(of, list(pairwise(bounds.tolist())), threads))


def weighted_loss(
    counts: csr_array,
    tables: Sequence[Float32[np.ndarray, "words columns"]],
    *,
    x_max: float,
    alpha: float,
    threads: int,
) -> float:
    """The sum of `f(x) (w . c + b + bt - log x)^2` over all counts that are not zero."""
    return _Weighted.of(counts, x_max, alpha).loss(tables, threads)


def _same(one: csr_array, other: csr_array) -> bool:
    pairs = ((one.indptr, other.indptr), (one.indices, other.indices), (one.data, other.data))
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def _even(indptr: np.ndarray, parts: int) -> np.ndarray:
    """Bounds of rows in parts with about as many entries each."""
    marks = indptr[0] + np.arange(parts + 1) * (int(indptr[-1]) - int(indptr[0])) // parts
    bounds = np.searchsorted(indptr, marks)
    bounds[0], bounds[-1] = 0, len(indptr) - 1
    return bounds


@no_type_check
@compiled
def _gather(indices, logs, weights, first, last, held, bias, one, into):
    """Rows `sqrt(f) [c, 1, log x - bt]` of some entries; what is held there as a bias stands in column `bias`."""
    dim = held.shape[1] - 2
    for n in range(last - first):
        row, root = held[indices[first + n]], np.sqrt(weights[first + n])
        for k in range(dim):
            into[n, k] = root * row[k]
        into[n, dim] = root * row[one]
        into[n, dim + 1] = root * (logs[first + n] - row[bias])


@no_type_check
@compiled
def _solve_rows(indptr, indices, logs, weights, begin, end, held, moving, own_bias, held_bias, ridge):
    """Puts the exact minimum into each row of `moving` that has counts."""
    columns = held.shape[1]
    dim = columns - 2
    gathered = np.empty((_CHUNK, columns), np.float32)
    products, more = np.empty((columns, columns), np.float32), np.empty((columns, columns), np.float32)
    pivot = np.empty(columns, np.float32)
    for row in range(begin, end):
        if indptr[row] == indptr[row + 1]:
            continue
        products[:] = 0
        for first in range(indptr[row], indptr[row + 1], _CHUNK):
            last = min(first + _CHUNK, indptr[row + 1])
            _gather(indices, logs, weights, first, last, held, held_bias, own_bias, gathered)
            some = gathered[: last - first]
            np.dot(some.T, some, more)
            products += more
        for k in range(dim):
            products[k, k] += ridge * products[dim, dim]
        _solve_in_place(products, dim + 1, pivot)
        for k in range(dim):
            moving[row, k] = products[k, dim + 1]
        moving[row, own_bias] = products[dim, dim + 1]


@no_type_check
@compiled
def _solve_in_place(a, size, pivot):
    """Leaves the solution of `A x = b` in the column after A, by elimination in the symmetric positive A."""
    for k in range(size):
        pivot[:] = a[k]
        share = np.float32(1) / pivot[k]
        for i in range(k + 1, size):
            times = share * pivot[i]
            for j in range(len(pivot)):  # those before k too: whole rows are quicker than their ends
                a[i, j] -= times * pivot[j]
    for k in range(size - 1, -1, -1):
        for j in range(k + 1, size):
            a[k, size] -= a[k, j] * a[j, size]
        a[k, size] /= a[k, k]


@no_type_check
@compiled
def _approach_rows(indptr, indices, logs, weights, begin, end, held, moving, own_bias, held_bias, ridge):
    """A few conjugate gradient steps (Hestenes and Stiefel 1952) from each row of `moving` towards its minimum."""
    dim = held.shape[1] - 2
    x, residual = np.empty(dim + 1, np.float32), np.empty(dim + 1, np.float32)
    direction, image = np.empty(dim + 1, np.float32), np.empty(dim + 1, np.float32)
    for row in range(begin, end):
        if indptr[row] == indptr[row + 1]:
            continue
        for k in range(dim):
            x[k] = moving[row, k]
        x[dim] = moving[row, own_bias]
        _apply(indptr, indices, logs, weights, row, held, x, held_bias, np.float32(1), ridge, residual)
        residual *= np.float32(-1)
        direction[:] = residual
        old = np.dot(residual, residual)
        for _ in range(_STEPS):
            if old <= 0:
                break
            _apply(indptr, indices, logs, weights, row, held, direction, held_bias, np.float32(0), ridge, image)
            step = old / np.dot(direction, image)
            x += step * direction
            residual -= step * image
            new = np.dot(residual, residual)
            direction *= new / old
            direction += residual
            old = new
        for k in range(dim):
            moving[row, k] = x[k]
        moving[row, own_bias] = x[dim]


@no_type_check
@compiled
def _apply(indptr, indices, logs, weights, row, held, x, bias, times, ridge, into):
    """`(C^T F C + ridge s D) x - times C^T F (log x - bt)` for one row."""
    dim, total = len(x) - 1, np.float32(0)
    into[:] = 0
    for entry in range(indptr[row], indptr[row + 1]):
        other, weight = held[indices[entry]], weights[entry]
        error = x[dim] - times * (logs[entry] - other[bias])
        for k in range(dim):
            error += other[k] * x[k]
        total += weight
        error *= weight
        for k in range(dim):
            into[k] += error * other[k]
        into[dim] += error
    for k in range(dim):
        into[k] += ridge * total * x[k]


@no_type_check
@compiled
def _loss_of_rows(indptr, indices, logs, weights, begin, end, words, contexts):
    total = 0.0
    for row in range(begin, end):
        word = words[row]
        for entry in range(indptr[row], indptr[row + 1]):
            context = contexts[indices[entry]]
            difference = -logs[entry]
            for k in range(len(word)):
                difference += word[k] * context[k]
            total += weights[entry] * difference * difference
    return total
