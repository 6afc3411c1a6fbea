"""Counting and training from the command line."""

import numpy as np
import pytest

from qkv.vectors import Cooccurrence, WordVectors


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat\nthe dog sat on the log\n" * 7, encoding="utf-8")
    return path


def test_from_text_to_vectors(qkv_cli, text, tmp_path):
    counts, vectors = tmp_path / "counts.npz", tmp_path / "vectors.txt"
    answer = qkv_cli("vectors", "count", text, "--window", 3, "--out", counts, "--json")
    assert answer.code == 0, answer.err
    assert answer.json == {"counts": str(counts), "words": 7, "tokens": 84, "entries": answer.json["entries"]}
    assert Cooccurrence.load(counts).entries == answer.json["entries"] > 0
    answer = qkv_cli("vectors", "train", counts, "--dim", 3, "--epochs", 4, "--out", vectors, "--json")
    assert answer.code == 0, answer.err
    assert "epoch 4: loss" in answer.err
    assert answer.json["metrics"]["loss"] == answer.json["history"][-1] < answer.json["history"][0]
    assert WordVectors.load(vectors).matrix.shape == (7, 3)
    assert not (tmp_path / "vectors.txt.state").exists()


def test_text_alone_and_counts_in_parts_train_the_same(qkv_cli, text, tmp_path):
    options = ("--dim", 2, "--epochs", 2, "--solver", "als", "--kind", "words")
    whole, parts = tmp_path / "whole.npz", [tmp_path / "1.npz", tmp_path / "2.npz"]
    assert qkv_cli("vectors", "train", text, *options, "--out", whole).code == 0
    assert qkv_cli("vectors", "count", text, "--out", tmp_path / "all.npz", "--shards", tmp_path / "kept").code == 0
    lines = text.read_text().splitlines(keepends=True)
    for part, own in zip(parts, (lines[:3], lines[3:]), strict=True):
        source = part.with_suffix(".txt")
        source.write_text("".join(own))
        answer = qkv_cli("vectors", "count", source, "--vocabulary", tmp_path / "all.npz", "--out", part)
        assert answer.code == 0, answer.err
    merged = tmp_path / "merged.npz"
    assert qkv_cli("vectors", "train", *parts, *options, "--out", merged).code == 0
    np.testing.assert_allclose(WordVectors.load(merged).matrix, WordVectors.load(whole).matrix, atol=1e-2)


def test_ngrams_are_counted_by_consecutive_pairs(qkv_cli, tmp_path):
    grams = np.array([[0, 1, 2], [1, 2, 2]])
    np.savez(tmp_path / "grams.npz", vocab=np.array(["a", "b", "c"]), train_inputs=grams, valid_inputs=grams[:1])
    answer = qkv_cli("vectors", "count", tmp_path / "grams.npz", "--out", tmp_path / "counts.npz")
    assert answer.code == 0, answer.err
    counts = Cooccurrence.load(tmp_path / "counts.npz")
    assert counts.words == ["a", "b", "c"]
    np.testing.assert_array_equal(counts.toarray(), [[0, 1, 0], [0, 0, 2], [0, 0, 1]])  # a b, b c twice, c c


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["count", "{text}", "--out", "{out}.txt"], "counts are kept as npz"),
        (["count", "--packages", "nosuchpackage", "--out", "{out}"], "no package 'nosuchpackage'"),
        (["count", "{text}", "--packages", "numpy", "--out", "{out}"], "--packages beside texts"),
        (["count", "{text}", "--window", "0", "--out", "{out}"], "window is too small"),
        (["count", "nowhere.txt", "--out", "{out}"], "no such file"),
        (["count", "{text}", "--min-count", "99", "--out", "{out}"], "no word is left in the vocabulary"),
        (["train", "{text}", "--dim", "8", "--out", "{out}"], "more dimensions than words"),
        (["train", "{text}", "--dim", "0", "--out", "{out}"], "--dim cannot be used"),
        (["train", "{text}", "--out", "{out}.pdf"], "no format has the ending"),
        (["train", "{text}", "--out", "{out}.gz"], "no format has the ending"),
        (["train", "{text}", "{out}", "--out", "{out}"], "texts and counts together"),
        (["train", "{out}", "--out", "{out}"], "no such file"),
    ],
)
def test_what_cannot_be_used(qkv_cli, text, tmp_path, words: list[str], message: str):
    out = tmp_path / "out.npz"
    answer = qkv_cli("vectors", *(word.format(text=text, out=out) for word in words))
    assert answer.code == 2
    assert message in answer.err
    assert not out.exists()
