import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.ngrams import NGramBatches, read_ngrams
from qkv.errors import DataError, InputError

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
    assert found.test.shape == (0, 3)


def test_targets_are_the_last_words(tmp_path):
    test = {"test_inputs": np.array([[2, 1, 2]]), "test_targets": np.array([0])}
    found = read_ngrams(saved(tmp_path, train_targets=np.array([1, 0]), valid_targets=np.array([2]), **test))
    assert found.train.tolist() == [[0, 1, 2, 1], [2, 2, 0, 0]]
    assert found.valid.tolist() == [[1, 1, 1, 2]]
    assert found.test.tolist() == [[2, 1, 2, 0]]


def test_both_published_forms_hold_the_same(shared_data):
    folder = shared_data / "nlm-250"
    parted, masked = read_ngrams(folder / "ngrams.npz"), read_ngrams(folder / "ngrams_masked.npz")
    assert [part.shape for part in (parted.train, parted.valid, parted.test)] == [(372_500, 4)] + 2 * [(46_500, 4)]
    assert masked.words == ["[MASK]", *parted.words]
    assert (masked.train == parted.train + 1).all()
    assert (masked.valid == parted.valid + 1).all()
    assert (masked.test == parted.test + 1).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_inputs": TRAIN + 1}, "train has numbers without a word. Expected 0 to 2; got 1 to 3"),
        ({"valid_inputs": -VALID}, "valid has numbers without a word. Expected 0 to 2; got -1 to -1"),
        ({"train_inputs": TRAIN[:0]}, r"train_inputs are no n-grams.*got int16 of shape \(0, 3\)"),
        ({"train_inputs": TRAIN[:, :1]}, r"two whole numbers or more; got int16 of shape \(2, 1\)"),
        ({"train_inputs": TRAIN[0]}, r"got int16 of shape \(3,\)"),
        ({"valid_inputs": VALID / 2}, "got float64"),
        ({"test_inputs": TRAIN + 1}, "test has numbers without a word. Expected 0 to 2; got 1 to 3"),
        ({"test_inputs": TRAIN[:, :2]}, "test has rows of another length than train. Expected 3; got 2"),
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


# -- batches ---------------------------------------------------------------------------------------------------------

ROWS = np.arange(33).reshape(11, 3)


def seen(batches, epoch, start=0):
    """The words to be predicted, row by row, and the rows."""
    found = list(batches.epoch(epoch, start))
    ids, hidden = (torch.cat([getattr(batch, name) for batch in found]) for name in ("ids", "hidden"))
    assert (hidden.sum(1) == 1).all()
    return ids[:, 0].div(3, rounding_mode="floor").tolist(), hidden.int().argmax(1).tolist()


def test_every_row_once_with_the_last_one_smaller():
    batches = NGramBatches(ROWS, batch_size=4, seed=0, hide="random")
    assert [len(batch.ids) for batch in batches.epoch(0)] == [4, 4, 3]
    assert len(batches) == 3
    rows, _ = seen(batches, 0)
    assert sorted(rows) == list(range(11))
    assert rows != list(range(11))
    assert seen(NGramBatches(ROWS, batch_size=4, seed=0, hide="random", shuffle=False), 0)[0] == list(range(11))


def test_each_hides_every_word_once():
    batches = NGramBatches(ROWS, batch_size=4, seed=0, hide="each", shuffle=False)
    assert len(batches) == 9
    assert seen(batches, 0) == (3 * list(range(11)), [0] * 11 + [1] * 11 + [2] * 11)
    first = next(batches.epoch(5))
    assert (first.weight, first.tokens) == (4, 12)
    assert first.to("cpu").hidden.equal(first.hidden)


def test_last_hides_the_last_word():
    rows, places = seen(NGramBatches(ROWS, batch_size=5, seed=7, hide="last"), 0)
    assert sorted(rows) == list(range(11))
    assert places == [2] * 11


def test_all_words_or_those_of_one_place():
    whole = list(NGramBatches(ROWS, batch_size=4, seed=0, hide="all").epoch(0))
    assert all(batch.hidden.all() for batch in whole)
    assert [batch.weight for batch in whole] == [12, 12, 9]
    batches = NGramBatches(ROWS, batch_size=4, seed=0, hide=1, shuffle=False)
    assert len(batches) == 3
    assert seen(batches, 0) == (list(range(11)), [1] * 11)


def test_random_words_are_a_function_of_seed_epoch_and_row():
    def places(seed, epoch, **kind):
        rows, hidden = seen(NGramBatches(ROWS, batch_size=4, seed=seed, hide="random", **kind), epoch)
        return [place for _, place in sorted(zip(rows, hidden, strict=True))]

    assert places(3, 1) == places(3, 1) == places(3, 1, shuffle=False)
    assert len({tuple(places(seed, epoch)) for seed in (3, 4) for epoch in (0, 1)}) == 4
    assert set(places(3, 1)) == {0, 1, 2}


@given(st.sampled_from(["random", "each", "last", "all", 1]), st.integers(1, 13), st.data())
def test_an_epoch_goes_on_in_its_middle(hide, batch_size, data):
    batches = NGramBatches(ROWS, batch_size=batch_size, seed=0, hide=hide)
    start = data.draw(st.integers(0, len(batches) - 1))
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, start))
    assert len(whole) == len(batches)
    for one, other in zip(whole[start:], rest, strict=True):
        assert one.ids.equal(other.ids)
        assert one.hidden.equal(other.hidden)


def test_batches_that_cannot_be():
    with pytest.raises(
        InputError, match=r"no rows to make batches of\. Expected one or more, of words; got shape \(0, 3"
    ):
        NGramBatches(ROWS[:0], batch_size=4, seed=0, hide="each")
    with pytest.raises(InputError, match=r"batch_size is too small\. Expected 1 or more; got 0"):
        NGramBatches(ROWS, batch_size=0, seed=0, hide="each")
