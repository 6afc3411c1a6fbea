import numpy as np
import pytest
import torch

from qkv.data import train_vocabulary, word_of
from qkv.errors import DataError
from qkv.vectors import WordVectors, vectors_for

VOCABULARY = train_vocabulary(["Chat chien ? renard Renard loup l'ours"], "word", 100)


def rows_for(vocabulary, path, seed=0):
    return vectors_for([word_of(piece) for piece in vocabulary.pieces], path, pad_id=vocabulary.pad_id, seed=seed)


def written(tmp_path, data: bytes):
    path = tmp_path / "vectors"
    path.write_bytes(data)
    return path


def row(matrix, word):
    return matrix[VOCABULARY.pieces.index(word)]


def test_tokens_find_their_word_or_its_lower_case(tmp_path):
    path = written(tmp_path, b"chien 1 2\nchat 3 4\n? 5 6\nrenard 7 8\nRenard 9 10\n<pad> 11 12\n' 13 14\nours 15 16\n")
    matrix, coverage = rows_for(VOCABULARY, path)
    assert matrix.shape == (len(VOCABULARY), 2)
    assert row(matrix, "▁chien").tolist() == [1, 2]
    assert row(matrix, "▁Chat").tolist() == [3, 4]
    assert row(matrix, "▁?").tolist() == [5, 6]
    assert row(matrix, "▁renard").tolist() == [7, 8]
    assert row(matrix, "▁Renard").tolist() == [9, 10]
    assert row(matrix, "'").tolist() == [13, 14]
    assert matrix[VOCABULARY.pad_id].tolist() == [0, 0]
    # Inside a word there is no word to look up; special tokens are no words either.
    assert row(matrix, "ours").tolist() != [15, 16]
    assert (coverage.found, coverage.size, coverage.missing) == (6, len(VOCABULARY), ["l", "loup"])
    assert coverage.share == 6 / len(VOCABULARY)


def test_tokens_without_a_vector_are_drawn_as_wide_as_the_others(tmp_path):
    words = [f"w{i}" for i in range(2)]
    vocabulary = train_vocabulary(["a b " + " ".join("cdefghijklmnopqrstuvxyz")], "word", 100)
    generator = np.random.default_rng(0)
    lines = [" ".join([word, *map(str, generator.normal(0, 0.3, 101))]) for word in ["a", "b", *words]]
    path = written(tmp_path, "\n".join(lines).encode())
    matrix, _ = rows_for(vocabulary, path, seed=3)
    found = [vocabulary.pieces.index("▁a"), vocabulary.pieces.index("▁b")]
    drawn = [i for i in range(1, len(vocabulary)) if i not in found]
    assert matrix[drawn].std().item() == pytest.approx(matrix[found].std().item(), rel=0.1)
    assert torch.equal(matrix, rows_for(vocabulary, path, seed=3)[0])
    assert not torch.equal(matrix, rows_for(vocabulary, path, seed=4)[0])


def test_vectors_of_another_language_are_refused(tmp_path):
    with pytest.raises(DataError, match="no vector for any token of the vocabulary"):
        rows_for(VOCABULARY, written(tmp_path, b"dog 1 2\ncat 3 4\n"))


def test_published_products_of_real_vectors(shared_data):
    sentence = ["i", "swam", "quickly", "across", "the", "river", "to", "get", "to", "the", "other", "bank"]
    vectors = WordVectors.load(shared_data / "glove-6b-50d" / "glove.6B.50d.part.txt.gz", sentence)
    assert set(vectors.words) == set(sentence)
    rows = vectors[sentence]
    # Published with the vectors, to four decimals.
    published = [11.2500, -1.5239, 12.9733, 14.1935, 18.0800, 16.6162, 19.2234, 14.3078, 19.2234, 18.0800, 15.7850]
    np.testing.assert_allclose(rows @ rows[-1], [*published, 36.39205], atol=6e-5)
