"""The rows of a matrix that are nearest to a query: exact, many queries at once.

Scores are made a tile at a time, and of each tile only the largest of every 32 neighbouring rows is kept. The k best
rows lie in the k groups with the largest maxima: were one of them in another group, k groups would each hold a row at
least as good. Only the rows of those groups are scored again. For a few queries, reading all rows is what takes the
time, and their groups are found from rows of one byte a number.
"""

from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from qkv.errors import InputError, NotFiniteError, unknown_name
from qkv.vectors._coarse import GROUP, Coarse

Measure = Literal["cosine", "dot", "euclidean"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

_FEW_QUERIES = 4
_MOST_QUERIES = 256
_TILE = 1 << 20  # scores at once, 4 MB of them: they stay in a processor's cache
_MOST_CANDIDATES = 1 << 23

Found = tuple[Int64[np.ndarray, "queries top"], Float64[np.ndarray, "queries top"]]


class Search:
    """Rows made ready once to be searched often, by one measure.

    For cosines they are divided by their lengths. For Euclidean distances the mean is taken off and a column
    `-|row|^2 / 2` added, so that `query . row - |row|^2 / 2` is largest where `|query - row|` is smallest.

    Raises:
        InputError: an unknown measure.
        NotFiniteError: a row with NaN or infinity.
    """

    def __init__(self, matrix: Float32[np.ndarray, "rows dim"], by: Measure = "cosine"):
        if by not in MEASURES:
            raise unknown_name("measure", by, MEASURES)
        self.matrix = matrix
        self.by: Measure = by
        rows = torch.from_numpy(matrix)
        lengths = torch.linalg.vector_norm(rows, dim=1)
        if not bool(lengths.isfinite().all()):
            raise NotFiniteError(f"NaN or infinity in row {int((~lengths.isfinite()).nonzero()[0])} of the matrix")
        self._mean = torch.zeros(rows.shape[1])
        if by == "cosine":
            rows = rows / _not_zero(lengths)[:, None]
        elif by == "euclidean" and len(rows):
            self._mean = rows.mean(dim=0)
            centred = rows - self._mean
            rows = torch.cat([centred, -0.5 * centred.square().sum(dim=1, keepdim=True)], dim=1)
        self.rows: Float32[Tensor, "rows width"] = rows

    def __call__(self, queries: Float[np.ndarray, "queries dim"], top: int) -> Found:
        """The nearest rows of each query, best first, and how near they are in double precision.

        Args:
            queries: as many as wanted; they are worked on in blocks.
            top: how many rows for each; all, where there are fewer.

        Raises:
            InputError: queries of another width, or a `top` below 1.
            NotFiniteError: NaN or infinity in a query.
        """
        if queries.shape[1] != self.matrix.shape[1]:
            raise InputError(
                "queries of another width", expected=f"{self.matrix.shape[1]} numbers", got=str(queries.shape[1])
            )
        require_top(top)
        if not np.isfinite(queries).all():
            raise NotFiniteError("NaN or infinity in queries")
        top = min(top, len(self.matrix))
        wanted = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
        if self.by == "cosine":
            wanted = wanted / _not_zero(torch.linalg.vector_norm(wanted, dim=1, keepdim=True))
        elif self.by == "euclidean":
            wanted = torch.cat([wanted - self._mean, torch.ones(len(wanted), 1)], dim=1)
        if not (top and len(queries)):
            return np.empty((len(queries), top), np.int64), np.empty((len(queries), top))
        few = len(wanted) <= _FEW_QUERIES
        index = self._one_by_one(wanted, top) if few else self._by_blocks(wanted, top).numpy()
        scores = exact_scores(queries, self.matrix, index, self.by)
        order = np.lexsort((index, scores if self.by == "euclidean" else -scores))
        return np.take_along_axis(index, order, axis=1), np.take_along_axis(scores, order, axis=1)

    @cached_property
    def _coarse(self) -> Coarse:
        rows = self.rows.numpy()
        return Coarse(rows[:, :-1], rows[:, -1]) if self.by == "euclidean" else Coarse(rows)

    def _one_by_one(self, wanted: Float32[Tensor, "queries width"], top: int) -> Int64[np.ndarray, "queries top"]:
        return np.stack([self._best_of(query, top) for query in wanted.numpy()])

    def _best_of(self, query: Float32[np.ndarray, " width"], top: int) -> Int64[np.ndarray, " top"]:
        # In NumPy: torch would share these small sums among threads that then wait for more by turning in circles, and
        # keep the processor from the next query.
        groups = self._coarse.groups(query[:-1] if self.by == "euclidean" else query, top)
        candidates = (groups[:, None] * GROUP + np.arange(GROUP)).reshape(-1)
        candidates = candidates[candidates < len(self.rows)]
        scores = self.rows.numpy()[candidates] @ query
        return candidates[np.argpartition(scores, -top)[-top:]]

    def _by_blocks(self, wanted: Float32[Tensor, "queries width"], top: int) -> Int64[Tensor, "queries top"]:
        block = max(1, min(_MOST_QUERIES, _MOST_CANDIDATES // (top * GROUP * self.rows.shape[1])))
        tile = torch.empty(max(_TILE, block * GROUP))
        return torch.cat([self._best_in(self._groups(some, top, tile), some, top) for some in wanted.split(block)])

    def _groups(
        self, queries: Float32[Tensor, "queries width"], top: int, tile: Float32[Tensor, " scores"]
    ) -> Int64[Tensor, "queries groups"]:
        """The groups with the largest maxima, which hold the best rows."""
        rows, count = self.rows, len(queries)
        groups, at_once = -(-len(rows) // GROUP), len(tile) // count // GROUP * GROUP
        maxima = torch.empty(groups, count)
        asked = queries.T.contiguous()
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            scores = tile[: len(some) * count].view(len(some), count)
            torch.mm(some, asked, out=scores)
            whole, first = len(some) // GROUP * GROUP, start // GROUP
            if whole:
                grouped = scores[:whole].view(-1, GROUP, count)
                torch.amax(grouped, dim=1, out=maxima[first : first + whole // GROUP])
            if whole < len(some):
                maxima[-1] = scores[whole:].amax(dim=0)
        return maxima.T.contiguous().topk(min(top, groups), sorted=False).indices

    def _best_in(
        self, groups: Int64[Tensor, "queries groups"], queries: Float32[Tensor, "queries width"], top: int
    ) -> Int64[Tensor, "queries top"]:
        """The best rows within these groups, scored again."""
        rows = self.rows
        candidates = (groups[:, :, None] * GROUP + torch.arange(GROUP)).flatten(1)
        beyond = candidates >= len(rows)
        candidates = candidates.masked_fill(beyond, 0)
        scores = torch.bmm(rows[candidates], queries[:, :, None])[:, :, 0].masked_fill(beyond, -torch.inf)
        return candidates.gather(1, scores.topk(top).indices)


def require_top(top: int) -> None:
    """Refuses to look for less than one."""
    if top < 1:
        raise InputError("top is too small", expected="at least 1", got=str(top))


def _not_zero(lengths: Tensor) -> Tensor:
    return torch.where(lengths == 0, 1, lengths)


def exact_scores(
    queries: Float[np.ndarray, "queries dim"],
    matrix: Float32[np.ndarray, "rows dim"],
    index: Int64[np.ndarray, "queries top"],
    by: Measure,
) -> Float64[np.ndarray, "queries top"]:
    """How near each query is to the rows named for it, in double precision; nothing is like a vector of zeros."""
    rows, wanted = matrix[index].astype(np.float64), queries.astype(np.float64)[:, None, :]
    if by == "euclidean":
        return np.linalg.norm(rows - wanted, axis=2)
    products = (rows * wanted).sum(axis=2)
    if by == "dot":
        return products
    lengths = np.linalg.norm(rows, axis=2) * np.linalg.norm(wanted, axis=2)
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def naive_nearest(
    matrix: Float32[np.ndarray, "rows dim"], queries: Float[np.ndarray, "queries dim"], top: int, by: Measure
) -> Found:
    """What `Search` finds, by scoring everything and sorting it."""
    everything = np.tile(np.arange(len(matrix)), (len(queries), 1))
    scores = exact_scores(queries, matrix, everything, by)
    order = np.argsort(scores if by == "euclidean" else -scores, axis=1, kind="stable")[:, :top]
    return order, np.take_along_axis(scores, order, axis=1)
