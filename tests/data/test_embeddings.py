import gzip

import numpy as np
import pytest
import torch
import zstandard

from qkv.data.embeddings import read_vectors, vectors_for
from qkv.data.tokens import train_vocabulary
from qkv.errors import DataError

WORDS = ["chat", "été", "chien"]
MATRIX = np.array([[0.5, -1.25], [3.0, 0.1], [1e-4, -7.0]], dtype=np.float32)

GLOVE = "".join(f"{word} {a} {b}\n" for word, (a, b) in zip(WORDS, MATRIX, strict=True)).encode()
WORD2VEC_TEXT = b"3 2\n" + GLOVE
BINARY_ROWS = [word.encode() + b" " + row.astype("<f4").tobytes() for word, row in zip(WORDS, MATRIX, strict=True)]
FORMATS = {
    "glove": GLOVE,
    "glove, Windows line ends": GLOVE.replace(b"\n", b"\r\n"),
    "word2vec text": WORD2VEC_TEXT,
    "word2vec text, blanks at the ends": WORD2VEC_TEXT.replace(b"\n", b" \n"),
    "word2vec binary": b"3 2\n" + b"".join(BINARY_ROWS),
    "word2vec binary, line breaks": b"3 2\n" + b"".join(row + b"\n" for row in BINARY_ROWS),
}


def written(tmp_path, data: bytes):
    path = tmp_path / "vectors"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encode", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("data", FORMATS.values(), ids=list(FORMATS))
def test_formats_are_recognised_by_content(tmp_path, data, encode):
    vectors = read_vectors(written(tmp_path, encode(data)))
    assert vectors.words == WORDS
    assert vectors.dim == 2
    np.testing.assert_array_equal(vectors.matrix, MATRIX)


@pytest.mark.parametrize("data", FORMATS.values(), ids=list(FORMATS))
def test_only_rows_asked_for_are_kept(tmp_path, data):
    vectors = read_vectors(written(tmp_path, data), ["chien", "loup"])
    assert vectors.words == ["chien"]
    np.testing.assert_array_equal(vectors.matrix, MATRIX[2:])
    assert read_vectors(written(tmp_path, data), []).matrix.shape == (0, 2)


def test_zeros_and_line_breaks_inside_binary_values(tmp_path):
    # 1.4e-44 is the bytes 0a 00 00 00: a line break, then zeros.
    rows = np.array([[0.0, 0.0], [np.frombuffer(b"\n\0\0\0", "<f4")[0], 0.0]], dtype="<f4")
    vectors = read_vectors(written(tmp_path, b"2 2\na " + rows[0].tobytes() + b"\nb " + rows[1].tobytes() + b"\n"))
    assert vectors.words == ["a", "b"]
    np.testing.assert_array_equal(vectors.matrix, rows)


def test_words_with_blanks_first_of_duplicates_and_undecodable_words(tmp_path):
    vectors = read_vectors(written(tmp_path, b"a 1 2\n. . . 3 4\na 5 6\n\xff\xfe 7 8\nb 9 10\n"))
    assert vectors.words == ["a", ". . .", "b"]
    np.testing.assert_array_equal(vectors.matrix, [[1, 2], [3, 4], [9, 10]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a 1 2 3\nb 1 2 3\nc 1 2\nd 1 2 3\n", "line 3: a row too short. Expected 3 numbers .*; got 2"),
        (b"a 1 2\nb 1 2 3\n", "line 2: a row too long. Expected 2 numbers .*; got 3"),
        (b"2 3\na 1 2\nb 1 2\n", "line 2: a row too short. Expected 3 numbers after the word, as line 1 has it; got 2"),
        (b"a 1 2\nb 1 two\n", "line 2: not a number"),
        (b"a 1 2\nb 1 nan\n", "line 2: NaN or infinity"),
        (b"5 2\na 1 2\nb 1 2\n", "not the number of rows that line 1 promises. Expected 5 rows; got 2"),
        (b"1 2\na 1 2\nb 1 2\n", "Expected 1 rows; got 2"),
        (FORMATS["word2vec binary"][:-3], "Expected 3 rows; got 2 whole ones"),
        (FORMATS["word2vec binary"] + b"more", "Expected 3 rows; got more"),
        (b"3 2\n" + b"a " + np.array([np.inf, 1], "<f4").tobytes(), "NaN or infinity"),
        (b"3 999999999\na 1 2\n", "a header that cannot be. Expected 1 to 100,000 dimensions; got 999999999"),
        (b"Go.\tVa !\n", "line 1: not a file of word vectors"),
        (b"word\n", "line 1: not a file of word vectors"),
        (b"", "the file is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_files_are_refused(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        read_vectors(written(tmp_path, data))


def test_a_short_row_is_refused_even_where_nobody_asked_for_it(tmp_path):
    with pytest.raises(DataError, match="line 2: a row too short"):
        read_vectors(written(tmp_path, b"a 1 2\nb 1\n"), ["a"])


VOCABULARY = train_vocabulary(["Chat chien ? renard Renard loup l'ours"], "word", 100)


def row(matrix, word):
    return matrix[VOCABULARY.pieces.index(word)]


def test_tokens_find_their_word_or_its_lower_case(tmp_path):
    path = written(tmp_path, b"chien 1 2\nchat 3 4\n? 5 6\nrenard 7 8\nRenard 9 10\n<pad> 11 12\n' 13 14\nours 15 16\n")
    matrix, coverage = vectors_for(VOCABULARY, path)
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
    matrix, _ = vectors_for(vocabulary, path, seed=3)
    found = [vocabulary.pieces.index("▁a"), vocabulary.pieces.index("▁b")]
    drawn = [i for i in range(1, len(vocabulary)) if i not in found]
    assert matrix[drawn].std().item() == pytest.approx(matrix[found].std().item(), rel=0.1)
    assert torch.equal(matrix, vectors_for(vocabulary, path, seed=3)[0])
    assert not torch.equal(matrix, vectors_for(vocabulary, path, seed=4)[0])


def test_vectors_of_another_language_are_refused(tmp_path):
    with pytest.raises(DataError, match="no vector for any token of the vocabulary"):
        vectors_for(VOCABULARY, written(tmp_path, b"dog 1 2\ncat 3 4\n"))


def test_published_products_of_real_vectors(shared_data):
    sentence = ["i", "swam", "quickly", "across", "the", "river", "to", "get", "to", "the", "other", "bank"]
    vectors = read_vectors(shared_data / "glove-6b-50d" / "glove.6B.50d.part.txt.gz", sentence)
    assert set(vectors.words) == set(sentence)
    rows = vectors.matrix[[vectors.words.index(word) for word in sentence]]
    # Published with the vectors, to four decimals.
    published = [11.2500, -1.5239, 12.9733, 14.1935, 18.0800, 16.6162, 19.2234, 14.3078, 19.2234, 18.0800, 15.7850]
    np.testing.assert_allclose(rows @ rows[-1], [*published, 36.39205], atol=6e-5)
