"""Counts against a dictionary of pairs, whatever the threads, the memory and the parts."""

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from qkv import files
from qkv.errors import DataError, InputError, InputTypeError, StorageError
from qkv.vectors import Cooccurrence, cooccurrence, corpus, count_cooccurrence


def naive(texts: list[str], *, window: int, weighting: str, symmetric: bool, min_count: int) -> dict:
    """The definition: every pair of places, one by one."""
    frequencies = Counter(word for text in texts for word in text.split())
    counts: Counter[tuple[str, str]] = Counter()
    for text in texts:
        words = [word for word in text.split() if frequencies[word] >= min_count]
        for i, word in enumerate(words):
            for distance, other in enumerate(words[i + 1 : i + 1 + window], start=1):
                weight = 1 / distance if weighting == "harmonic" else 1
                counts[word, other] += weight
                if symmetric:
                    counts[other, word] += weight
    return dict(counts)


def as_dictionary(counted: Cooccurrence) -> dict:
    coo = counted.counts.tocoo()
    return {
        (counted.words[i], counted.words[j]): value
        for i, j, value in zip(coo.row.tolist(), coo.col.tolist(), coo.data.tolist(), strict=True)
    }


def same(one: Cooccurrence, other: Cooccurrence) -> bool:
    return (
        one.words == other.words
        and np.array_equal(one.frequencies, other.frequencies)
        and np.array_equal(one.counts.indptr, other.counts.indptr)
        and np.array_equal(one.counts.indices, other.counts.indices)
        and np.array_equal(one.counts.data, other.counts.data)
    )


def test_by_hand():
    # a b a c: a-b 1 apart, a-a 2 (1/2, both ways), a-c 3 (1/3) and 1; b-a 1, b-c 2 (1/2).
    counted = count_cooccurrence(["a b a c"], min_count=1, window=3)
    assert counted.words == ["a", "b", "c"]
    expected = [[1, 2, 4 / 3], [2, 0, 0.5], [4 / 3, 0.5, 0]]
    np.testing.assert_allclose(counted.toarray(), expected, rtol=1e-7)


def test_what_follows_only():
    counted = count_cooccurrence(["a b c"], min_count=1, window=2, symmetric=False, weighting="flat")
    assert counted.toarray().tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]


texts = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=17).map(" ".join), min_size=1, max_size=5)


@settings(max_examples=80)
@given(
    texts=texts,
    window=st.integers(1, 19),
    weighting=st.sampled_from(["harmonic", "flat"]),
    symmetric=st.booleans(),
    min_count=st.integers(1, 3),
    threads=st.integers(1, 3),
    short=st.booleans(),
    sharded=st.booleans(),
)
def test_is_its_definition(
    tmp_path_factory, texts, window, weighting, symmetric, min_count, threads, short: bool, sharded: bool
):
    expected = naive(texts, window=window, weighting=weighting, symmetric=symmetric, min_count=min_count)
    options = {"window": window, "weighting": weighting, "symmetric": symmetric, "min_count": min_count}
    shards = tmp_path_factory.mktemp("shards") if sharded else None
    with pytest.MonkeyPatch.context() as patch:
        if short:  # parts of a few rows, on the disk
            patch.setattr(cooccurrence, "_MEGABYTE", 67)
        if not expected:
            with pytest.raises(InputError):
                count_cooccurrence(texts, **options, threads=threads, memory_mb=1, shards=shards)
            return
        counted = count_cooccurrence(texts, **options, threads=threads, memory_mb=1, shards=shards)
    found = as_dictionary(counted)
    assert found.keys() == expected.keys()
    for pair, value in expected.items():
        assert found[pair] == np.float32(value) or found[pair] == pytest.approx(value, rel=1e-7)
    assert counted.counts.has_sorted_indices
    assert shards is None or not list(shards.rglob("*.npz"))


def test_memory_threads_and_shards_change_no_bit(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    text = [" ".join(f"w{number}" for number in generator.zipf(1.3, 101) if number < 400) for _ in range(31)]
    options = {"min_count": 1, "window": 7}
    expected = count_cooccurrence(text, **options, threads=1)
    monkeypatch.setattr(cooccurrence, "_MEGABYTE", 1009)
    assert same(count_cooccurrence(text, **options, threads=3, memory_mb=1), expected)
    assert same(count_cooccurrence(text, **options, memory_mb=1, shards=tmp_path), expected)


def test_parts_merge_to_the_whole():
    parts = [["a b c a", "d a"], ["c c b", "b d e"]]
    whole = count_cooccurrence([*parts[0], *parts[1]], min_count=1)
    first, second = (count_cooccurrence(part, min_count=1, words=whole.words) for part in parts)
    merged = first.merge([second])
    assert merged.words == whole.words
    assert merged.frequencies.tolist() == whole.frequencies.tolist()
    np.testing.assert_allclose(merged.toarray(), whole.toarray(), rtol=1e-7)


def test_other_words_merge_too():
    first = Cooccurrence.from_ngrams(np.array([[0, 1]]), ["x", "y"])
    second = Cooccurrence.from_ngrams(np.array([[0, 1], [1, 1]]), ["z", "y"])
    merged = first.merge([second])
    assert merged.words == ["y", "x", "z"]
    assert merged.toarray().tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_ngrams_by_hand():
    # 0 1 0 twice: 0-1 and 1-0 two each; 1 1 0 three times: 1-1 and 1-0 three each.
    counted = Cooccurrence.from_ngrams(np.array([[0, 1, 0], [1, 1, 0]]), ["a", "b"], np.array([2, 3]))
    assert counted.toarray().tolist() == [[0, 2], [5, 3]]
    assert counted.frequencies.tolist() == [7, 8]
    assert counted.toarray().dtype == np.float64


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_gives_back_what_was_saved(tmp_path):
    counted = count_cooccurrence(["naïve 語 a b", "a b"], min_count=1, tokens="blanks")
    assert same(Cooccurrence.load(counted.save(tmp_path / "counts.npz")), counted)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "counts.npz"
    count_cooccurrence(["a b c"], min_count=1).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not an npz file of plain arrays"):
        Cooccurrence.load(path)
    path.write_bytes(b"text")
    with pytest.raises(DataError, match="not an npz file of plain arrays"):
        Cooccurrence.load(path)
    with pytest.raises(DataError, match="no such file"):
        Cooccurrence.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": np.array(2)}, "a newer qkv"),
        ({"indices": np.array([1, 9], np.int32)}, "do not fit together"),
        ({"indptr": np.array([0, 2, 1])}, "do not fit together"),
        ({"values": np.array([1, np.nan], np.float32)}, "do not fit together"),
    ],
)
def test_counts_that_do_not_fit_are_refused(tmp_path, changed: dict, message: str):
    path = count_cooccurrence(["a b"], min_count=1).save(tmp_path / "counts.npz")
    with np.load(path) as arrays:
        written = dict(arrays)
    np.savez(path, **{**written, **changed})
    with pytest.raises(DataError, match=message):
        Cooccurrence.load(path)


def test_a_stopped_count_goes_on(tmp_path, monkeypatch):
    text = ["a b c d e f g h i j k l m"] * 3
    expected = count_cooccurrence(text, min_count=1)

    def stop(at: cooccurrence.CountProgress):
        if at.rows > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_cooccurrence(text, min_count=1, shards=tmp_path, progress=stop)
    kept = len(list(tmp_path.rglob("*.npz")))
    assert kept > 0
    damaged = next(tmp_path.rglob("0-*.npz"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:31])
    with pytest.raises(DataError, match="a damaged part of a count"):
        count_cooccurrence(text, min_count=1, shards=tmp_path)
    damaged.write_bytes(whole)
    made = []
    part = cooccurrence._Matrix._part
    monkeypatch.setattr(cooccurrence._Matrix, "_part", lambda self, *rows: made.append(rows) or part(self, *rows))
    assert same(count_cooccurrence(text, min_count=1, shards=tmp_path), expected)
    assert made
    assert made[0][0] > 5  # what was finished is not counted again


def test_a_full_disk_says_so(monkeypatch):
    class Full:
        def __init__(self, **_):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(corpus.tempfile, "TemporaryFile", Full)
    monkeypatch.setattr(cooccurrence, "_MEGABYTE", 8)
    with pytest.raises(StorageError, match="the disk is full"):
        count_cooccurrence(["a b c d e f"], min_count=1, memory_mb=1)
    assert files.storage is corpus.storage


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"window": 0}, InputError, "window is too small. Expected 1 or more; got 0"),
        ({"min_count": 0}, InputError, "min_count is too small"),
        ({"max_words": -1}, InputError, "max_words is too small"),
        ({"window": 2.5}, InputTypeError, "window cannot be used"),
        ({"weighting": "linear"}, InputError, "unknown weighting 'linear'"),
        ({"words": ["a", "a"]}, InputError, "words has one twice"),
        ({"min_count": 1, "max_words": 1}, InputError, "no two words stand together"),
    ],
)
@pytest.mark.usefixtures("no_shape_hook")
def test_options_that_cannot_be_used(options: dict, kind: type, message: str):
    with pytest.raises(kind, match=message):
        count_cooccurrence(["a b"], **options)


def test_ngrams_that_do_not_fit():
    with pytest.raises(InputError, match=r"ngrams name words that are not there\. Expected numbers from 0 to 1"):
        Cooccurrence.from_ngrams(np.array([[0, 2]]), ["a", "b"])
    with pytest.raises(InputError, match="weights do not fit"):
        Cooccurrence.from_ngrams(np.array([[0, 1]]), ["a", "b"], np.array([-1.0]))
