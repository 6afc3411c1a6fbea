"""What a node's place in its graph tells of it, and what the known targets around it do: numbers for each node.

Nothing here reads the target of a node that is not known, and no node's inputs hold its own: where a node is asked, its
target is left out of what is known, for all nodes, so that it comes back by no way, a loop, two steps or a twin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import coo_matrix, csr_matrix, diags, identity
from scipy.sparse.linalg import svds

from qkv.data.graphs import Graph

DAMPING = 0.85
_STEPS = 100
_LIKE = 24  # classes that are looked at as alike to one's own
_BLOCK = 1024


@dataclass(frozen=True)
class Structure:
    """A graph's matrices and what follows from them alone, worked out when first asked for.

    Attributes:
        graph: the edges and features.
        components: how many directions of the adjacency's singular vectors go into `inputs`.
        basis: the directions of the features' singular vectors, features by directions, where they were found on
            another graph; None finds them here.
    """

    graph: Graph
    components: int
    basis: Float[np.ndarray, "features directions"] | None = None

    @cached_property
    def out(self) -> csr_matrix:
        """1 where an edge leads from row to column, between different nodes."""
        source, target = self.graph.edge_index.numpy()
        between = source != target
        shape = (self.graph.nodes, self.graph.nodes)
        made = coo_matrix((np.ones(int(between.sum())), (source[between], target[between])), shape=shape).tocsr()
        made.data[:] = 1
        made.sort_indices()
        return csr_matrix(made)

    @cached_property
    def either(self) -> csr_matrix:
        """1 where an edge leads either way between different nodes."""
        made = csr_matrix(self.out + self.out.T)
        made.data[:] = 1
        made.sort_indices()
        return made

    @cached_property
    def twins(self) -> Int64[np.ndarray, " nodes"]:
        """A number for each node, the same for those whose edges join them to the same nodes, whichever way."""
        return _classes(self.either)

    @cached_property
    def followers(self) -> Int64[np.ndarray, " nodes"]:
        """A number for each node, the same for those whose edges lead to the same nodes, loops counted."""
        source, target = self.graph.edge_index.numpy()
        shape = (self.graph.nodes, self.graph.nodes)
        return _classes(csr_matrix(coo_matrix((np.ones(len(source)), (source, target)), shape=shape)))

    @cached_property
    def feature_directions(self) -> Float[np.ndarray, "features directions"] | None:
        """The directions in which features weighted by their rarity vary most; None where there are none."""
        if self.basis is not None or self.graph.features is None:
            return self.basis
        weighted = _weighted(csr_matrix(self.graph.features))
        count = min(2 * max(self.components, 16), min(_size(weighted)) - 1)
        return _singular(weighted, count)[2] if count > 0 else None

    @cached_property
    def inputs(self) -> Float[np.ndarray, "nodes inputs"]:
        """Degrees, PageRank, hubs and authorities, triangles, how many twins; singular vectors of adjacency and
        features."""
        into, out, either = (np.asarray(matrix.sum(axis=1)).ravel() for matrix in (self.out.T, self.out, self.either))
        around = _averaging(self.either)
        triangles = _triangles(self.either)
        hubs, authorities = _hubs(self.out)
        columns = [
            *map(np.log1p, (into, out, either)),
            *(_page_rank(matrix) for matrix in (self.out, csr_matrix(self.out.T), self.either)),
            around @ np.log1p(either),
            around @ np.log1p(into),
            np.log1p(triangles),
            triangles / np.maximum(either * (either - 1), 1),
            *(np.log1p(np.bincount(number)[number]) for number in (self.twins, self.followers)),
            hubs,
            authorities,
        ]
        blocks = [np.stack(columns, axis=1)]
        count = min(self.components, self.graph.nodes - 2)
        if count > 0 and self.out.nnz:
            scaled = diags(np.maximum(out, 1) ** -0.5) @ self.out @ diags(np.maximum(into, 1) ** -0.5)
            left, sizes, right = _singular(csr_matrix(scaled), count)
            blocks += [left * sizes, right * sizes]
        if (directions := self.feature_directions) is not None:
            blocks += [_feature_places(self.graph, directions)]
        return np.concatenate(blocks, axis=1)

    @cached_property
    def _alike(self) -> list[tuple[Int64[np.ndarray, "nodes like"], Float[np.ndarray, "nodes like"]]]:
        """For each node the groups of followers most alike to its own, and how far: by edges out, either, features."""
        first = np.unique(self.followers, return_index=True)[1]
        matrices = [self.out, csr_matrix(self.either + identity(self.graph.nodes))]
        if self.graph.features is not None and _size(csr_matrix(self.graph.features))[1]:
            matrices.append(csr_matrix(self.graph.features))
        return [_most_alike(_weighted(matrix)[first], self.followers) for matrix in matrices]

    def around(
        self, known: Bool[np.ndarray, " nodes"], target: Float[np.ndarray, " nodes"]
    ) -> Float[np.ndarray, "nodes inputs"]:
        """What the known targets around each node tell: of its neighbours, of those two steps away, of nodes alike.

        Args:
            known: whose targets may be read: not those of nodes that are asked, which neighbours would hand back.
            target: numbers, read where `known`.
        """
        held = np.where(known, target, 0.0)
        count = known.astype(float)
        middle = held.sum() / max(count.sum(), 1)
        degree = np.maximum(np.asarray(self.either.sum(axis=1)).ravel(), 1)
        columns = []
        for matrix in (self.out, csr_matrix(self.out.T), self.either, self.either @ diags(1 / degree)):
            weight = matrix @ count
            columns += [(matrix @ held + middle) / (weight + 1), np.log1p(weight)]
        for matrix in (self.out, self.either):
            # Two steps to a node that shares an end; the way back to where one came from is taken off.
            share = 1 / np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1)
            back = matrix @ share
            total, weight = (matrix @ (share * (matrix.T @ one)) - back * one for one in (held, count))
            columns += [(total + 0.1 * middle) / (weight + 0.1), np.log1p(np.maximum(weight, 0))]
        sums, counts = (np.bincount(self.followers, one) for one in (held, count))
        means = sums / np.maximum(counts, 1)
        for classes, alike in self._alike:
            there = counts[classes] > 0
            value = np.where(there, means[classes], middle)
            for power in (1, 4):
                weight = there * alike**power
                columns.append(((weight * value).sum(axis=1) + 1e-3 * middle) / (weight.sum(axis=1) + 1e-3))
            best = np.argmax(there * (alike + 1e-9), axis=1)[:, None]
            columns += [np.take_along_axis(one, best, axis=1)[:, 0] for one in (value, there * alike)]
        return np.stack(columns, axis=1)


def look_up(
    group: Int64[np.ndarray, " nodes"], known: Bool[np.ndarray, " nodes"], target: Float[np.ndarray, " nodes"]
) -> Float[np.ndarray, " nodes"]:
    """For each node the mean known target of the others in its group, NaN where there is none.

    >>> look_up(np.array([0, 0, 0, 1]), np.array([True, True, False, True]), np.array([1.0, 3.0, 9.0, 5.0]))
    array([ 3.,  1.,  2., nan])
    """
    held = np.where(known, target, 0.0)
    sums, counts = np.bincount(group, held)[group] - held, np.bincount(group, known)[group] - known
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _classes(matrix: csr_matrix) -> Int64[np.ndarray, " rows"]:
    """A number for each row, the same for those with entries in the same columns."""
    matrix.sort_indices()
    numbers: dict[bytes, int] = {}
    ends = matrix.indptr
    rows = (matrix.indices[ends[row] : ends[row + 1]].tobytes() for row in range(len(ends) - 1))
    return np.array([numbers.setdefault(row, len(numbers)) for row in rows], dtype=np.int64)


def _size(matrix: csr_matrix) -> tuple[int, int]:
    """Rows and columns."""
    rows, columns = matrix.shape  # pyright: ignore[reportGeneralTypeIssues] - of a matrix they are there
    return rows, columns


def _singular(matrix: csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest singular values, and the vectors of each side as columns; the same from run to run."""
    start = np.random.default_rng(0).normal(size=min(_size(matrix)))
    left, sizes, right = map(np.asarray, svds(matrix, k=count, v0=start))
    return left, sizes, right.T


def _averaging(matrix: csr_matrix) -> csr_matrix:
    """The matrix whose product is a mean over each row's entries."""
    return csr_matrix(diags(1 / np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1)) @ matrix)


def _triangles(matrix: csr_matrix) -> Float[np.ndarray, " nodes"]:
    """Twice the number of triangles at each node; block by block, for ways of two steps are far more than edges."""
    counts = []
    for start in range(0, _size(matrix)[0], _BLOCK):
        rows = csr_matrix(matrix[start : start + _BLOCK])
        counts.append(np.asarray(csr_matrix(rows @ matrix).multiply(rows).sum(axis=1)).ravel())
    return np.concatenate(counts)


def _page_rank(matrix: csr_matrix) -> Float[np.ndarray, " nodes"]:
    """Logarithms of PageRank (Page et al. 1999), times the number of nodes."""
    nodes, _ = _size(matrix)
    onward, ends = csr_matrix(_averaging(matrix).T), np.asarray(matrix.sum(axis=1)).ravel() == 0
    rank = np.full(nodes, 1 / nodes)
    for _ in range(_STEPS):
        rank = (1 - DAMPING) / nodes + DAMPING * (onward @ rank + rank[ends].sum() / nodes)
    return np.log(rank * nodes)


def _hubs(matrix: csr_matrix) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Logarithms of hubs and authorities (Kleinberg 1999), times the number of nodes, the smallest cut."""
    nodes, _ = _size(matrix)
    hubs = authorities = np.full(nodes, 1 / nodes)
    for _ in range(_STEPS):
        authorities = matrix.T @ hubs
        authorities = authorities / max(authorities.sum(), 1e-12)
        hubs = matrix @ authorities
        hubs = hubs / max(hubs.sum(), 1e-12)
    return np.log(hubs * nodes + 1e-3), np.log(authorities * nodes + 1e-3)


def _weighted(matrix: csr_matrix) -> csr_matrix:
    """Rows of length one, columns weighted by how few rows have them (Spärck Jones 1972)."""
    rows, columns = _size(matrix)
    rarity = np.log(1 + rows / np.maximum(np.bincount(matrix.indices, minlength=columns), 1))
    scaled = csr_matrix(matrix @ diags(rarity))
    length = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())
    return csr_matrix(diags(1 / np.maximum(length, 1e-9)) @ scaled)


def _feature_places(graph: Graph, directions: Float[np.ndarray, "features directions"]) -> np.ndarray:
    """Where features lie in these directions, and how many a node has; ones that the directions know not are left."""
    features = csr_matrix(graph.features if graph.features is not None else (graph.nodes, len(directions)))
    width = min(_size(features)[1], len(directions))
    weighted = _weighted(csr_matrix(features[:, :width]))
    return np.column_stack([weighted @ directions[:width], np.log1p(np.diff(features.indptr))])


def _most_alike(
    rows: csr_matrix, group: Int64[np.ndarray, " nodes"]
) -> tuple[Int64[np.ndarray, "nodes like"], Float[np.ndarray, "nodes like"]]:
    """For the group of each node, the other groups whose rows have the largest products with its own, and those."""
    count, _ = _size(rows)
    keep = min(_LIKE, count)
    classes, alike = np.zeros((count, keep), np.int64), np.zeros((count, keep))
    turned = csr_matrix(rows.T)
    for start in range(0, count, _BLOCK):
        block = (rows[start : start + _BLOCK] @ turned).toarray()
        own = np.arange(len(block))
        block[own, start + own] = 0.0
        best = np.argpartition(-block, keep - 1, axis=1)[:, :keep]
        classes[start : start + _BLOCK] = best
        alike[start : start + _BLOCK] = np.take_along_axis(block, best, axis=1)
    return classes[group], alike[group]


def folds(
    group: Int64[np.ndarray, " nodes"], count: int, generator: np.random.Generator
) -> Int64[np.ndarray, " nodes"]:
    """A number below `count` for each node, drawn at random, the same for all nodes of a group."""
    return generator.integers(0, count, int(group.max(initial=0)) + 1)[group]


def shares(group: Int64[np.ndarray, " nodes"], known: Sequence[bool] | np.ndarray) -> Float[np.ndarray, " nodes"]:
    """One, shared among the known nodes of a group."""
    return 1 / np.maximum(np.bincount(group, known)[group], 1)
