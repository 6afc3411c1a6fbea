import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_limits

from qkv.errors import InputError
from qkv.vectors import WordVectors
from qkv.vectors.layout import nearest, overlap, shared, word_map


def words(count: int) -> list[str]:
    return ["".join(letters) for letters in itertools.product("abcdefghijklm", repeat=3)][:count]


def blobs(groups: int, members: int, dim: int, seed: int = 0) -> WordVectors:
    """Words in groups that lie far from one another, each group's words one after the other."""
    generator = np.random.default_rng(seed)
    middles = 10 * np.eye(groups, dim)
    points = np.repeat(middles, members, axis=0) + generator.normal(size=(groups * members, dim))
    return WordVectors(words(len(points)), points.astype(np.float32))


@pytest.fixture(scope="module")
def mapped():
    return word_map(blobs(3, 13, 7), clusters=3)


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_neighbours_of_five_points():
    # On a line at 0, 1, 3, 7 and 12: the nearest of 3 is 1 (2 away), then 0 (3 away) and 7 (4 away).
    line = np.array([[0.0], [1.0], [3.0], [7.0], [12.0]])
    assert nearest(line, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 4], [3, 2]]
    assert nearest(line, 4)[2].tolist() == [1, 0, 3, 4]


def test_share_of_neighbours_of_five_points():
    # The points above with the second and the last in each other's place, at 0, 12, 3, 7 and 1. The nearest two are
    #   before: {1, 2} {0, 2} {0, 1} {2, 4} {2, 3}
    #   after:  {4, 2} {3, 2} {4, 0} {2, 1} {0, 2}
    #   both:      1      1      1      1      1     of 2: 5 of 10.
    before, after = (np.array([line], dtype=float).T for line in ([0, 1, 3, 7, 12], [0, 12, 3, 7, 1]))
    assert shared(nearest(before, 2), nearest(after, 2)) == 0.5


def test_blocks_of_rows_change_nothing(monkeypatch):
    points = np.random.default_rng(0).normal(size=(29, 3))
    whole = nearest(points, 5)
    monkeypatch.setattr("qkv.vectors.layout._BLOCK", 3 * 29)
    assert (nearest(points, 5) == whole).all()


def test_two_dimensions_are_drawn_as_they_are():
    vectors = WordVectors(["up", "down", "far"], np.array([[1, 2], [1, -2], [5, 1]], dtype=np.float32))
    drawn = word_map(vectors, title="plane", clusters=3)
    assert (drawn.xy == vectors.matrix).all()
    assert (drawn.method, drawn.title, drawn.kept) == ("drawn directly", "plane", 1.0)
    assert drawn.cluster_names == ["up", "down", "far"]


def test_clusters_are_named_by_their_most_central_words():
    # The middle of the first four is 1.5: b and c are 0.5 away, a and d 1.5.
    xy = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [50, 0], [50, 1], [50, 2]], dtype=np.float32)
    drawn = word_map(WordVectors(list("abcdefg"), xy), clusters=2)
    assert drawn.cluster.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert drawn.cluster_names == ["b, c, a", "f, e, g"]


def test_what_lies_together_stays_together(mapped):
    assert mapped.cluster.tolist() == [0] * 13 + [1] * 13 + [2] * 13
    middles = [mapped.xy[mapped.cluster == number].mean(axis=0) for number in range(3)]
    spread = max(np.linalg.norm(mapped.xy[mapped.cluster == n] - middles[n], axis=1).max() for n in range(3))
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(middles, 2)) > spread
    assert (mapped.neighbours // 13 == np.arange(39)[:, None] // 13).all()
    assert mapped.kept > 0.8
    assert mapped.method == "t-SNE, cosine, perplexity 12.6667, seed 0"


# -- laws ------------------------------------------------------------------------------------------------------------

planes = arrays(np.float32, st.tuples(st.integers(3, 23), st.just(2)), elements=st.floats(-99, 99, width=32))


@settings(deadline=None, max_examples=10)
@given(planes, planes)
def test_shares_are_shares(first, second):
    count = min(len(first), len(second))
    maps = [word_map(WordVectors(words(count), xy[:count]), clusters=1) for xy in (first, second)]
    assert [one.kept for one in maps] == [1.0, 1.0]
    assert 0.0 <= overlap(*maps) <= 1.0
    assert overlap(*reversed(maps)) == pytest.approx(overlap(*maps))
    assert overlap(maps[0], maps[0]) == 1.0


def test_another_order_of_words_is_the_same_map(mapped):
    vectors = blobs(3, 13, 7)
    order = np.random.default_rng(1).permutation(39)
    again = word_map(WordVectors([vectors.words[row] for row in order], vectors.matrix[order]), clusters=3)
    assert (again.xy == mapped.xy[order]).all()
    same = again.cluster[:, None] == again.cluster
    assert (same == (mapped.cluster[order][:, None] == mapped.cluster[order])).all()
    assert again.kept == mapped.kept
    assert overlap(again, mapped) == 1.0


def test_the_seed_counts_and_the_number_of_threads_does_not(mapped):
    with threadpool_limits(3):
        assert (word_map(blobs(3, 13, 7), clusters=3).xy == mapped.xy).all()
    assert (word_map(blobs(3, 13, 7), clusters=3, seed=1, perplexity=5).xy != mapped.xy).any()


def test_lengths_count_by_euclidean_distance_only():
    vectors = blobs(2, 5, 3)
    longer = WordVectors(vectors.words, vectors.matrix * np.float32([[1], [4]] * 5))
    by_angle = [word_map(one, clusters=1).neighbours for one in (vectors, longer)]
    by_length = [word_map(one, clusters=1, measure="euclidean").neighbours for one in (vectors, longer)]
    assert (by_angle[0] == by_angle[1]).all()
    assert (by_length[0] != by_length[1]).any()


@pytest.mark.parametrize("vector", [[0, 0, 0], [1e-30, 0, 0], [1e18, 1e18, -1e18]])
def test_identical_vectors_make_a_map(vector):
    drawn = word_map(WordVectors(words(5), np.array([vector] * 5, dtype=np.float32)))
    assert np.isfinite(drawn.xy).all()
    assert len(drawn.cluster_names) == 1


def test_only_shared_words_are_compared():
    line = np.array([[0, 0], [1, 0], [3, 0], [7, 0], [12, 0]], dtype=np.float32)
    first = word_map(WordVectors(list("abcde"), line), clusters=1)
    second = word_map(WordVectors(list("xaybcdz"), np.repeat(line, 2, axis=0)[1:8] + np.eye(7, 2)), clusters=1)
    # Of a, b, c and d all three others are the nearest; x, y and z, which lie between them, do not count.
    assert overlap(first, second) == 1.0


# -- refusal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 3), {}, "too few words for a map. Expected 3 or more; got 2"),
        ((5, 1), {}, "vectors of one dimension make no map. Expected two dimensions or more"),
        ((5, 3), {"perplexity": 5}, "perplexity cannot be used. Expected 1 or more, and less than the 5 words; got 5"),
        ((5, 3), {"perplexity": 0.5}, "perplexity cannot be used"),
        ((5, 3), {"perplexity": float("nan")}, "perplexity cannot be used"),
        ((5, 3), {"clusters": 6}, "clusters cannot be used. Expected 1 to 5, the words; got 6"),
        ((5, 3), {"clusters": 0}, "clusters cannot be used"),
        ((5, 3), {"seed": -1}, "the seed cannot be used"),
    ],
)
def test_what_makes_no_map(shape, options, message):
    vectors = WordVectors(words(shape[0]), np.ones(shape, np.float32))
    with pytest.raises(InputError, match=message):
        word_map(vectors, **options)


def test_nan_is_refused():
    matrix = np.ones((5, 3), np.float32)
    matrix[3, 1] = np.nan
    with pytest.raises(InputError, match="'aad' holds NaN or infinity"):
        word_map(WordVectors(words(5), matrix, check=False))


def test_maps_without_common_words_have_no_overlap():
    xy = np.eye(3, 2, dtype=np.float32)
    first, second = (word_map(WordVectors(list(three), xy), clusters=1) for three in ("abc", "bcx"))
    with pytest.raises(InputError, match=r"too few words in common\. Expected 3 or more; got 2"):
        overlap(first, second)
