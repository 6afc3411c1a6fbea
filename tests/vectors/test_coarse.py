import numpy as np
import pytest

from qkv.vectors._coarse import GROUP, Coarse
from qkv.vectors.nearest import Search, naive_nearest


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_by_hand():
    # 33 rows of (1, 0) and one of (0, 1), the last: it stands in the second group, and scores 1 where the others
    # score 0. No step is off here by more than half of 1/127, so that the first group cannot reach it.
    rows = np.tile(np.array([1, 0], np.float32), (34, 1))
    rows[33] = 0, 1
    assert Coarse(rows).groups(np.array([0, 1], np.float32), 1).tolist() == [1]
    # The first offset lifts its group above.
    offset = np.zeros(34, np.float32)
    offset[0] = 3
    assert Coarse(rows, offset).groups(np.array([0, 1], np.float32), 1).tolist() == [0]


@pytest.mark.parametrize("rows", [1, 31, 33, 257, 2003])
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 11, 300])
@pytest.mark.parametrize("top", [1, 7])
def test_no_group_of_the_best_is_left_out(rows, dim, top):
    matrix, offset = drawn(rows, dim) * np.geomspace(1e-3, 1e3, rows, dtype=np.float32)[:, None], drawn(rows, seed=1)
    for query in drawn(5, dim, seed=2):
        best = np.argsort(-(matrix.astype(np.float64) @ query + offset))[:top]
        groups = Coarse(matrix, offset).groups(query, top)
        assert set(best // GROUP) <= set(groups.tolist())
    # What saves the time: among many rows alike in length few groups are left.
    if rows == 2003 and dim == 11:
        assert len(Coarse(drawn(rows, dim)).groups(query, top)) < rows / GROUP / 2


def test_rows_of_zeros_and_large_numbers():
    matrix = np.concatenate([np.zeros((40, 3), np.float32), 1e15 * drawn(100, 3)])
    query = drawn(1, 3, seed=1)
    np.testing.assert_array_equal(Search(matrix, "dot")(query, 3)[0], naive_nearest(matrix, query, 3, "dot")[0])
