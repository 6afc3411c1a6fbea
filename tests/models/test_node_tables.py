import numpy as np
import pytest

from qkv import files
from qkv.errors import DataError, InputError
from qkv.models import NodeTable

ROWS = 67


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, 3)).astype(np.float32)
    return x, 2.0 * x[:, 0] + (x[:, 1] > 0), draw.random(ROWS) + 0.5


@pytest.mark.parametrize("name", ["median", "ridge", "boosting", "trees"])
def test_what_was_stored_says_the_same(name, tmp_path):
    x, y, importance = table()
    made = NodeTable(name, x, y, importance, seed=3)
    made.save(tmp_path / "table.safetensors")
    again = NodeTable.load(tmp_path / "table.safetensors", name, seed=3)
    np.testing.assert_array_equal(again.predict(x), made.predict(x))
    error = np.abs(made.predict(x) - y).mean()
    middling = np.abs(np.median(y) - y).mean()
    assert error == pytest.approx(middling) if name == "median" else error < 0.6 * middling


def test_importance_counts():
    x = np.zeros((2, 1), np.float32)
    trees = NodeTable("trees", x, np.array([0.0, 4.0]), np.array([3.0, 1.0]), seed=0)
    assert trees.predict(x).tolist() == pytest.approx([1, 1])


def test_a_line_stays_within_what_it_has_seen():
    x = np.arange(11, dtype=np.float32)[:, None]
    ridge = NodeTable("ridge", x, x[:, 0].astype(float), np.ones(11), seed=0)
    assert ridge.predict(np.array([[1e4]], np.float32)).tolist() == [10]


def test_what_is_no_table_is_refused(tmp_path):
    import torch

    files.write_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(2)})
    with pytest.raises(DataError, match="not the table of a regressor"):
        NodeTable.load(tmp_path / "other.safetensors", "trees", seed=0)
    with pytest.raises(InputError, match="there is nothing to fit to"):
        NodeTable("median", np.zeros((0, 1), np.float32), np.zeros(0), np.zeros(0), seed=0)
