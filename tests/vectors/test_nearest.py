import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from qkv.errors import InputError, NotFiniteError
from qkv.vectors.nearest import MEASURES, Search, naive_nearest

every_measure = pytest.mark.parametrize("by", MEASURES)


def drawn(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def test_by_hand():
    # Of (3, 4), (1, 0) and (0, 2), seen from (1, 0): cosines 3/5, 1 and 0; products 3, 1 and 0; distances
    # sqrt(4 + 16) = sqrt(20), 0 and sqrt(1 + 4) = sqrt(5).
    matrix, query = np.array([[3, 4], [1, 0], [0, 2]], np.float32), np.array([[1, 0]], np.float32)
    for by, order, scores in (
        ("cosine", [1, 0, 2], [1, 0.6, 0]),
        ("dot", [0, 1, 2], [3, 1, 0]),
        ("euclidean", [1, 2, 0], [0, 5**0.5, 20**0.5]),
    ):
        rows, found = Search(matrix, by)(query, 3)
        assert rows.tolist() == [order]
        np.testing.assert_allclose(found, [scores], rtol=1e-12)


@every_measure
@pytest.mark.parametrize("rows", [1, 31, 32, 33, 95, 96, 97, 211])
def test_the_same_as_scoring_all(by, rows, monkeypatch):
    monkeypatch.setattr("qkv.vectors.nearest._TILE", 13 * 96)  # three groups of 32 rows at once
    matrix, queries = drawn(rows, 7), drawn(13, 7, seed=1)
    for top in (1, 11, 37):
        found, scores = Search(matrix, by)(queries, top)
        expected, exact = naive_nearest(matrix, queries, top, by)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(scores, exact)


@every_measure
def test_queries_beyond_one_block(by):
    matrix, queries = drawn(101, 3), drawn(601, 3, seed=1)
    np.testing.assert_array_equal(Search(matrix, by)(queries, 5)[0], naive_nearest(matrix, queries, 5, by)[0])
    np.testing.assert_array_equal(
        Search(matrix, by)(queries, 5)[0][300:301], Search(matrix, by)(queries[300:301], 5)[0]
    )


@given(st.integers(1, 70), st.integers(1, 5), st.integers(1, 9), st.integers(0, 1000), st.sampled_from(MEASURES))
def test_small_numbers_tie_often(rows, dim, top, seed, by):
    # Small whole numbers: many rows score alike, exactly; any of those may be found, but no worse one.
    generator = np.random.default_rng(seed)
    matrix, queries = (generator.integers(-2, 3, (size, dim)).astype(np.float32) for size in (rows, 3))
    found, scores = Search(matrix, by)(queries, top)
    assert found.shape == (3, min(top, rows))
    assert all(len(set(some)) == len(some) for some in found.tolist())
    np.testing.assert_allclose(scores, naive_nearest(matrix, queries, top, by)[1], atol=1e-12)


@every_measure
def test_large_numbers(by):
    matrix = 1e4 * drawn(997, 11)
    np.testing.assert_array_equal(Search(matrix, by)(matrix[:5], 3)[0], naive_nearest(matrix, matrix[:5], 3, by)[0])


def test_distances_far_from_the_origin():
    # Without the mean taken off, |x|^2 of 1e8 would drown differences of 1 in single precision.
    matrix = drawn(997, 5) + np.float32(1e4)
    np.testing.assert_array_equal(
        Search(matrix, "euclidean")(matrix[:7], 3)[0], naive_nearest(matrix, matrix[:7], 3, "euclidean")[0]
    )


def test_nothing_is_like_zeros():
    matrix = np.array([[0, 0], [1, 1], [-1, 0]], np.float32)
    rows, scores = Search(matrix)(np.array([[1, 1], [0, 0]], np.float32), 3)
    assert rows.tolist() == [[1, 0, 2], [0, 1, 2]]
    np.testing.assert_allclose(scores, [[1, 0, -(0.5**0.5)], [0, 0, 0]])


@every_measure
def test_no_queries_and_no_rows(by):
    assert Search(drawn(5, 3), by)(np.empty((0, 3), np.float32), 2)[0].shape == (0, 2)
    assert Search(np.empty((0, 3), np.float32), by)(drawn(2, 3), 2)[0].shape == (2, 0)


def test_the_order_of_rows_changes_nothing():
    matrix, queries = drawn(211, 5), drawn(3, 5, seed=2)
    order = np.random.default_rng(0).permutation(211)
    np.testing.assert_array_equal(order[Search(matrix[order])(queries, 7)[0]], Search(matrix)(queries, 7)[0])


@pytest.mark.usefixtures("no_shape_hook")
def test_what_cannot_be_searched():
    with pytest.raises(InputError, match=r"unknown measure 'cosin'.*Try: cosine"):
        Search(drawn(3, 2), "cosin")
    bad = drawn(3, 2)
    bad[1, 0] = np.nan
    with pytest.raises(NotFiniteError, match="NaN or infinity in row 1 of the matrix"):
        Search(bad)
    with pytest.raises(NotFiniteError, match="NaN or infinity in queries"):
        Search(drawn(3, 2))(bad, 1)
    with pytest.raises(InputError, match=r"queries of another width\. Expected 2 numbers; got 3"):
        Search(drawn(3, 2))(drawn(1, 3), 1)
    with pytest.raises(InputError, match=r"top is too small\. Expected at least 1; got 0"):
        Search(drawn(3, 2))(drawn(1, 2), 0)
