import numpy as np
import pytest

from qkv.data.ngrams import read_ngrams
from qkv.errors import DataError

WORDS = np.array(["a", "b", "c"])
TRAIN, VALID = np.array([[0, 1, 2], [2, 2, 0]], dtype=np.int16), np.array([[1, 1, 1]], dtype=np.int16)


def saved(path, **arrays):
    np.savez(path / "grams.npz", **{"vocab": WORDS, "train_inputs": TRAIN, "valid_inputs": VALID} | arrays)
    return path / "grams.npz"


def test_rows_of_words(tmp_path):
    found = read_ngrams(saved(tmp_path))
    assert found.words == ["a", "b", "c"]
    assert (found.train == TRAIN).all()
    assert (found.valid == VALID).all()
    assert found.train.dtype == np.int64


def test_targets_are_the_last_words(tmp_path):
    found = read_ngrams(saved(tmp_path, train_targets=np.array([1, 0]), valid_targets=np.array([2])))
    assert found.train.tolist() == [[0, 1, 2, 1], [2, 2, 0, 0]]
    assert found.valid.tolist() == [[1, 1, 1, 2]]


def test_both_published_forms_hold_the_same(shared_data):
    folder = shared_data / "nlm-250"
    parted, masked = read_ngrams(folder / "ngrams.npz"), read_ngrams(folder / "ngrams_masked.npz")
    assert (parted.train.shape, parted.valid.shape) == ((372_500, 4), (46_500, 4))
    assert masked.words == ["[MASK]", *parted.words]
    assert (masked.train == parted.train + 1).all()
    assert (masked.valid == parted.valid + 1).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_inputs": TRAIN + 1}, "train has numbers without a word. Expected 0 to 2; got 1 to 3"),
        ({"valid_inputs": -VALID}, "valid has numbers without a word. Expected 0 to 2; got -1 to -1"),
        ({"train_inputs": TRAIN[:0]}, r"train_inputs are no n-grams.*got int16 of shape \(0, 3\)"),
        ({"train_inputs": TRAIN[:, :1]}, r"two whole numbers or more; got int16 of shape \(2, 1\)"),
        ({"train_inputs": TRAIN[0]}, r"got int16 of shape \(3,\)"),
        ({"valid_inputs": VALID / 2}, "got float64"),
        ({"train_targets": np.array([1])}, "train_targets do not fit. Expected 2; got 1"),
        ({"vocab": np.array(["a", "b", "a"])}, "vocab has 'a' twice"),
        ({"vocab": np.array([None, 1, "a"], dtype=object)}, "not an npz file of plain arrays"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        read_ngrams(saved(tmp_path, **arrays))


def test_files_that_cannot_be_used(tmp_path):
    np.savez(tmp_path / "other.npz", vocab=WORDS)
    with pytest.raises(DataError, match=r"other.npz: no train_inputs in this npz file. Got vocab"):
        read_ngrams(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("to be or not to be")
    with pytest.raises(DataError, match=r"text.npz: not an npz file of plain arrays"):
        read_ngrams(tmp_path / "text.npz")
    whole = saved(tmp_path).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut.npz: not an npz file of plain arrays"):
        read_ngrams(tmp_path / "cut.npz")
    np.save(tmp_path / "one.npy", TRAIN)
    with pytest.raises(DataError, match=r"one.npy: not an npz file of plain arrays"):
        read_ngrams(tmp_path / "one.npy")
    with pytest.raises(DataError, match="no such file"):
        read_ngrams(tmp_path / "none.npz")
