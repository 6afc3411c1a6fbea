"""Words laid out on a plane, so that what is near in the space of their vectors is near on the map.

A map says how far it can be trusted: `WordMap.kept` is the share of the nearest words that are nearest on it too.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from threadpoolctl import threadpool_limits

from qkv.errors import InputError
from qkv.types import WordMap
from qkv.vectors.word_vectors import WordVectors

NEIGHBOURS = 10
_FEWEST = 3
_NAMED_BY = 3
_MOST_CLUSTERS = 14
_PERPLEXITY = 30.0
_BLOCK = 2**23  # distances at a time: 64 MB


def word_map(
    vectors: WordVectors,
    *,
    title: str = "",
    measure: Literal["cosine", "euclidean"] = "cosine",
    perplexity: int | float | None = None,
    clusters: int | None = None,
    seed: int = 0,
) -> WordMap:
    """Lays words out on a plane by t-SNE, and groups them; vectors of two dimensions are drawn as they are.

    The words are laid out in the order of the alphabet on one thread, so that the map of the same vectors and seed is
    the same to the last bit, in whatever order they come and however many processors there are.

    Args:
        vectors: at least 3 words. A map of thousands takes minutes: `vectors.subset(vectors.words[:1000])`.
        title: what the vectors are called.
        measure: which distance counts as near: between directions, or between the vectors themselves. Vectors of two
            dimensions are compared by the distance that one sees.
        perplexity: about how many neighbours a word is kept close to; 30 by default, fewer for fewer words.
        clusters: how many groups; by default more for more words, up to 14.
        seed: decides where the search for groups, and t-SNE's, begins.

    Raises:
        InputError: fewer than 3 words, vectors of one dimension, or that hold NaN; a perplexity that is not between 1
            and the number of words; more clusters than words; a negative seed.

    Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9 (2008), by scikit-learn with its start
    from the principal components; groups are those of k-means.

    >>> corners = np.array([[0, 0], [0, 1], [9, 9], [9, 8]], dtype=np.float32)
    >>> drawn = word_map(WordVectors(["red", "blue", "one", "two"], corners), clusters=2)
    >>> drawn.method, drawn.cluster.tolist(), drawn.kept
    ('drawn directly', [0, 0, 1, 1], 1.0)
    """
    count, dim = vectors.matrix.shape
    _require(count, dim, perplexity, clusters, seed)
    if not np.isfinite(vectors.matrix).all():
        word = vectors.words[int(np.flatnonzero(~np.isfinite(vectors.matrix).all(axis=1))[0])]
        raise InputError(f"the vector of {word!r} holds NaN or infinity", expected="numbers")
    direct = dim == 2
    points = vectors.matrix.astype(np.float64)
    if measure == "cosine" and not direct:
        points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    if perplexity is None:
        perplexity = min(_PERPLEXITY, (count - 1) / 3)
    if clusters is None:
        clusters = min(_MOST_CLUSTERS, max(2, round((count / 8) ** 0.5)))
    order = np.array(sorted(range(count), key=vectors.words.__getitem__))
    with threadpool_limits(1):
        xy = vectors.matrix if direct else _by_order(order, points, lambda sorted_: _tsne(sorted_, perplexity, seed))
        cluster = _by_order(order, points, lambda sorted_: _k_means(sorted_, clusters, seed))
    near = nearest(points, min(NEIGHBOURS, count - 1))
    numbers, cluster = _by_first(cluster)
    names = [_name(vectors.words, points, cluster == number) for number in range(numbers)]
    how = "drawn directly" if direct else f"t-SNE, {measure}, perplexity {perplexity:g}, seed {seed}"
    kept = shared(near, nearest(xy, near.shape[1]))
    return WordMap(vectors.words, xy, cluster, names, near, kept, title, how)


def overlap(first: WordMap, second: WordMap) -> float:
    """The share of a word's ten nearest on one map that are among its ten nearest on the other, a mean over words.

    Only words on both maps are looked at.

    Raises:
        InputError: fewer than 3 words are on both.

    >>> square = np.array([[0, 0], [0, 1], [9, 9], [9, 8]], dtype=np.float32)
    >>> drawn = word_map(WordVectors(["red", "blue", "one", "two"], square))
    >>> overlap(drawn, drawn)
    1.0
    """
    places = {word: place for place, word in enumerate(second.words)}
    both = [(place, places[word]) for place, word in enumerate(first.words) if word in places]
    if len(both) < _FEWEST:
        raise InputError("the two maps have too few words in common", expected="3 or more", got=str(len(both)))
    ours, theirs = np.array(both).T
    k = min(NEIGHBOURS, len(both) - 1)
    return shared(nearest(first.xy[ours], k), nearest(second.xy[theirs], k))


def nearest(points: Float[np.ndarray, "words dim"], k: int) -> Int64[np.ndarray, "words {k}"]:
    """The `k` points nearest to each by Euclidean distance, nearest first, without itself.

    >>> nearest(np.array([[0.0], [1.0], [5.0], [4.5]]), 2).tolist()
    [[1, 3], [0, 3], [3, 1], [2, 1]]
    """
    points = points.astype(np.float64)
    points -= points.mean(axis=0)
    squares = (points**2).sum(axis=1)
    found = np.empty((len(points), k), np.int64)
    block = max(1, _BLOCK // len(points))
    for start in range(0, len(points), block):
        rows = slice(start, start + block)
        distances = squares[rows, None] + squares - 2 * points[rows] @ points.T
        distances[np.arange(len(distances)), np.arange(start, start + len(distances))] = np.inf
        near = np.argpartition(distances, k - 1, axis=1)[:, :k]
        by_distance = np.argsort(np.take_along_axis(distances, near, axis=1), axis=1, kind="stable")
        found[rows] = np.take_along_axis(near, by_distance, axis=1)
    return found


def shared(first: Int64[np.ndarray, "words k"], second: Int64[np.ndarray, "words k"]) -> float:
    """The share of each word's neighbours in one list that the other has too, a mean over words.

    >>> shared(np.array([[1, 2], [0, 2], [0, 1]]), np.array([[2, 1], [2, 3], [3, 4]]))
    0.5
    """
    return float((first[:, :, None] == second[:, None, :]).any(axis=2).mean())


def _require(count: int, dim: int, perplexity: int | float | None, clusters: int | None, seed: int) -> None:
    if count < _FEWEST:
        raise InputError("too few words for a map", expected=f"{_FEWEST} or more", got=str(count))
    if dim < 2:
        raise InputError("vectors of one dimension make no map", expected="two dimensions or more", got=str(dim))
    if perplexity is not None and not 1 <= perplexity < count:
        raise InputError(
            "perplexity cannot be used",
            expected=f"1 or more, and less than the {count:,} words",
            got=f"{perplexity:g}",
            hint=f"{min(_PERPLEXITY, (count - 1) / 3):g}",
        )
    if clusters is not None and not 1 <= clusters <= count:
        raise InputError("clusters cannot be used", expected=f"1 to {count:,}, the words", got=str(clusters))
    if not 0 <= seed < 2**32:
        raise InputError("the seed cannot be used", expected="0 to 4,294,967,295", got=str(seed))


def _by_order(
    order: Int64[np.ndarray, " words"],
    points: Float64[np.ndarray, "words dim"],
    solve: Callable[[Float64[np.ndarray, "words dim"]], np.ndarray],
) -> np.ndarray:
    """What `solve` finds for the points in one order, put back into their own."""
    found = solve(points[order])
    restored = np.empty_like(found)
    restored[order] = found
    return restored


def _tsne(
    points: Float64[np.ndarray, "words dim"], perplexity: int | float, seed: int
) -> Float32[np.ndarray, "words 2"]:
    from sklearn.manifold import TSNE

    if (points == points[0]).all():
        return np.zeros((len(points), 2), np.float32)  # no principal components to begin with
    return TSNE(perplexity=perplexity, random_state=seed).fit_transform(points).astype(np.float32)


def _k_means(points: Float64[np.ndarray, "words dim"], clusters: int, seed: int) -> Int64[np.ndarray, " words"]:
    from sklearn.cluster import KMeans

    clusters = min(clusters, len(np.unique(points, axis=0)))
    return KMeans(clusters, n_init="auto", random_state=seed).fit_predict(points).astype(np.int64)


def _by_first(cluster: Int64[np.ndarray, " words"]) -> tuple[int, Int64[np.ndarray, " words"]]:
    """How many clusters there are, and their numbers in the order of their first words."""
    _, first, inverse = np.unique(cluster, return_index=True, return_inverse=True)
    return len(first), np.argsort(np.argsort(first))[inverse]


def _name(words: Sequence[str], points: Float64[np.ndarray, "words dim"], inside: np.ndarray) -> str:
    """The words nearest to the middle of a cluster, nearest first."""
    members = np.flatnonzero(inside)
    distances = ((points[members] - points[members].mean(axis=0)) ** 2).sum(axis=1)
    central = members[np.argsort(distances, kind="stable")[:_NAMED_BY]]
    return ", ".join(words[place] for place in map(int, central))
