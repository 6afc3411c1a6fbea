import gzip
import json
import math
import struct
import zipfile

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from safetensors.torch import save_file

from qkv.errors import DataError, InputError
from qkv.vectors.formats import read, write

WORDS = ["chat", "été", "chien"]
MATRIX = np.array([[0.5, -1.25], [3.0, 0.1], [1e-4, -7.0]], dtype=np.float32)

GLOVE = "".join(f"{word} {a} {b}\n" for word, (a, b) in zip(WORDS, MATRIX, strict=True)).encode()
BINARY_ROWS = [word.encode() + b" " + row.astype("<f4").tobytes() for word, row in zip(WORDS, MATRIX, strict=True)]
FORMATS = {
    "glove": GLOVE,
    "glove, Windows line ends": GLOVE.replace(b"\n", b"\r\n"),
    "glove, no last line end": GLOVE[:-1],
    "glove, byte order mark": b"\xef\xbb\xbf" + GLOVE,
    "glove, tabs and empty lines": GLOVE.replace(b" ", b"\t").replace(b"\n", b"\n\n"),
    "word2vec text": b"3 2\n" + GLOVE,
    "word2vec text, blanks at the ends": b"3 2\n" + GLOVE.replace(b"\n", b" \n"),
    "word2vec binary": b"3 2\n" + b"".join(BINARY_ROWS),
    "word2vec binary, line breaks": b"3 2\n" + b"".join(row + b"\n" for row in BINARY_ROWS),
}

every_format = pytest.mark.parametrize("data", FORMATS.values(), ids=list(FORMATS))


def written(tmp_path, data: bytes):
    path = tmp_path / "vectors"
    path.write_bytes(data)
    return path


# -- files of rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@every_format
def test_formats_are_recognised_by_content(tmp_path, data, encode):
    words, matrix = read(written(tmp_path, encode(data)))
    assert words == WORDS
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, MATRIX)


@every_format
def test_only_rows_asked_for_are_kept(tmp_path, data):
    words, matrix = read(written(tmp_path, data), ["chien", "loup"])
    assert words == ["chien"]
    np.testing.assert_array_equal(matrix, MATRIX[2:])
    assert read(written(tmp_path, data), [])[1].shape == (0, 2)


@pytest.mark.parametrize("form", ["text", "binary"])
def test_rows_that_lie_across_blocks(tmp_path, monkeypatch, form):
    monkeypatch.setattr("qkv.vectors.rows._BLOCK", 23)
    words, matrix = [f"w{row}" for row in range(101)], np.random.default_rng(0).normal(size=(101, 3)).astype(np.float32)
    path = write(tmp_path / ("v.vec" if form == "text" else "v.bin"), words, matrix)
    found, numbers = read(path)
    assert found == words
    np.testing.assert_array_equal(numbers, matrix)


def test_zeros_and_line_breaks_inside_binary_values(tmp_path):
    # 1.4e-44 is the bytes 0a 00 00 00: a line break, then zeros.
    rows = np.array([[0.0, 0.0], [np.frombuffer(b"\n\0\0\0", "<f4")[0], 0.0]], dtype="<f4")
    words, matrix = read(written(tmp_path, b"2 2\na " + rows[0].tobytes() + b"\nb " + rows[1].tobytes() + b"\n"))
    assert words == ["a", "b"]
    np.testing.assert_array_equal(matrix, rows)


def test_words_with_blanks_are_read(tmp_path):
    words, matrix = read(written(tmp_path, b". . . 3 4\na 1 2\nat name@domain.com 5 6\n"))
    assert words == [". . .", "a", "at name@domain.com"]
    np.testing.assert_array_equal(matrix, [[3, 4], [1, 2], [5, 6]])


@pytest.mark.parametrize("form", ["text", "binary"])
def test_what_is_left_out_is_told(tmp_path, form):
    words, rows = [b"a", b"\xff\xfe", b"a", b"b"], np.arange(8, dtype="<f4").reshape(4, 2)
    if form == "text":
        data = b"".join(b"%s %d %d\n" % (word, *row) for word, row in zip(words, rows, strict=True))
        told = r"left out 2 rows: line 2 \(a word that is not UTF-8\), line 3 \('a' again, as on 1\)"
    else:
        data = b"4 2\n" + b"".join(word + b" " + row.tobytes() for word, row in zip(words, rows, strict=True))
        told = r"left out 2 rows: row 2 \(a word that is not UTF-8\), row 3 \('a' again, as on 1\)"
    with pytest.warns(UserWarning, match=told):
        found, matrix = read(written(tmp_path, data))
    assert found == ["a", "b"]
    np.testing.assert_array_equal(matrix, rows[[0, 3]])


@given(
    st.lists(
        st.one_of(
            st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
            st.floats(-1e30, 1e30).map(repr),
            st.from_regex(r"[+-]?([0-9]{1,25}(\.[0-9]{0,25})?|\.[0-9]{1,25})(e[+-]?[0-9]{1,2})?", fullmatch=True),
        ),
        min_size=1,
        max_size=50,
    )
)
def test_numbers_are_what_python_reads(tmp_path_factory, texts):
    with np.errstate(over="ignore"):
        expected = np.array([float(text) for text in texts]).astype(np.float32)
    texts = [text for text, number in zip(texts, expected, strict=True) if math.isfinite(number)] or ["1"]
    expected = np.array([float(text) for text in texts]).astype(np.float32)
    path = tmp_path_factory.mktemp("numbers") / "v.txt"
    path.write_text("".join(f"w{row} {text}\n" for row, text in enumerate(texts)))
    np.testing.assert_array_equal(read(path)[1][:, 0].view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize(
    "text",
    [
        "0.30000000000000004", "3.4028234663852886e38", "1e-45", "1.1754943508222875e-38", "16777217", "-0", "0e999",
        "9007199254740993", "1.00000005960464477539062500000000000001", "1.00000005960464477539062499999999999999",
        "00000000000000000000000000001.5", "123456789012345678901234567890e-25", "1E5", ".5", "5.",
    ],
)  # fmt: skip
def test_close_calls_of_rounding(tmp_path, text):
    # Halves between two float32 numbers, numbers with more digits than fit, the smallest and largest ones.
    found = read(written(tmp_path, f"word {text}\n".encode()))[1][0, 0]
    assert found.tobytes() == np.float64(text).astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a 1 2 3\nb 1 2 3\nc 1 2\nd 1 2 3\n", "line 3: a row too short. Expected 3 numbers .*; got 2"),
        (b"a 1 2\nb 1 2 3\n", "line 2: a row too long. Expected 2 numbers .*; got 3"),
        (b"2 3\na 1 2\nb 1 2\n", "line 2: a row too short. Expected 3 numbers after the word, as line 1 has it; got 2"),
        (b"a 1 2\nb\n", "line 2: a row too short. Expected 2 numbers .*; got 0"),
        (b"a 1 2\nb 1 two\n", "line 2: not a number"),
        (b"a 1 2\nb 1 1e\n", "line 2: not a number"),
        (b"a 1 2\nb 1 1.2.3\n", "line 2: not a number"),
        (b"a 1 2\nb 1 nan\n", "line 2: NaN or infinity"),
        (b"a 1 2\n\nb 1 1e39\n", "line 3: NaN or infinity"),
        (b"5 2\na 1 2\nb 1 2\n", "not the number of rows that line 1 promises. Expected 5 rows; got 2"),
        (b"1 2\na 1 2\nb 1 2\n", "Expected 1 rows; got 2"),
        (FORMATS["word2vec binary"][:-3], "Expected 3 rows; got 2 whole ones"),
        (FORMATS["word2vec binary"] + b"more", "Expected 3 rows; got more"),
        (b"3 2\n" + b"a " + np.array([np.inf, 1], "<f4").tobytes(), "NaN or infinity in the vector of row 1"),
        (b"3 999999999\na 1 2\n", "a header that cannot be. Expected 1 to 100,000 dimensions; got 999999999"),
        (b"3 " + b"9" * 5000 + b"\na 1 2\n", "a header that cannot be"),
        (b"Go.\tVa !\n", "line 1: not a file of word vectors"),
        (b"word\n", "line 1: not a file of word vectors"),
        (b"1 2 3\n4 5 6\n7 8\n", "line 3: a row too short"),
        (b"\x80\x04\x95junk", "line 1: not a file of word vectors.*got a pickle.*saves vectors as text"),
        (b"\xba\x16\x4f\x2f\x0c\0\0\0", "got a whole fastText model"),
        (b"\0\xff\n\0" * 100, "line 1: not a file of word vectors"),
        (b"", "the file is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_files_are_refused(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        read(written(tmp_path, data))


def test_a_short_row_is_refused_even_where_nobody_asked_for_it(tmp_path):
    with pytest.raises(DataError, match="line 2: a row too short"):
        read(written(tmp_path, b"a 1 2\nb 1\n"), ["a"])


def test_lines_and_words_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("qkv.vectors.rows._LONGEST_LINE", 100)
    monkeypatch.setattr("qkv.vectors.rows._BLOCK", 64)
    with pytest.raises(DataError, match="a line of more than 100 bytes"):
        read(written(tmp_path, b"a 1 2\n" + b"b" * 1000))
    with pytest.raises(DataError, match="Expected 2 rows; got 0 whole ones"):
        read(written(tmp_path, b"2 2\n\xff\xff" + b"b" * 1000))


# -- npz and safetensors ---------------------------------------------------------------------------------------------


def test_npz_of_others(tmp_path):
    np.savez(tmp_path / "a.npz", words=np.array(WORDS), vectors=MATRIX.astype(np.float64))
    np.savez_compressed(tmp_path / "b.npz", words=np.array(WORDS), matrix=MATRIX)
    np.savez(tmp_path / "c.npz", words=np.array(WORDS), matrix=np.asfortranarray(MATRIX))
    for name in "abc":
        words, matrix = read(tmp_path / f"{name}.npz")
        assert words == WORDS
        np.testing.assert_array_equal(matrix, MATRIX)


def test_safetensors_of_others(tmp_path):
    save_file({"embedding.weight": torch.from_numpy(MATRIX).half()}, tmp_path / "v.safetensors")
    (tmp_path / "v.json").write_text(json.dumps(WORDS))
    words, matrix = read(tmp_path / "v.safetensors")
    assert words == WORDS
    np.testing.assert_array_equal(matrix, MATRIX.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_what_is_mapped_is_not_read_and_not_written_to(tmp_path, ending):
    path = write(tmp_path / f"v{ending}", WORDS, MATRIX)
    before = path.read_bytes()
    _, matrix = read(path)
    assert matrix.__array_interface__["data"][0] % 4 == 0
    with open("/proc/self/maps") as maps:
        assert any(path.name in line for line in maps)
    matrix[0] = 7
    assert path.read_bytes() == before
    np.testing.assert_array_equal(read(path, ["été"])[1], MATRIX[1:2])


def test_npz_files_that_are_none(tmp_path):
    path = tmp_path / "v.npz"
    cases = [
        (
            {"words": np.array(WORDS), "matrix": MATRIX[:2]},
            r"words and matrix do not fit\. Expected 3 rows; got shape \(2, 2\)",
        ),
        (
            {"words": np.array(WORDS), "m": MATRIX},
            r"not an npz of word vectors\. Expected words and matrix; got words, m",
        ),
        (
            {"words": np.array(WORDS, dtype=object), "matrix": MATRIX},
            "not an npz file of plain arrays, or a damaged one",
        ),
        ({"words": np.frombuffer(b"\xff\n" * 3, np.uint8), "matrix": MATRIX}, "words that are not UTF-8"),
    ]
    for arrays, message in cases:
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            read(path)
    whole = write(path, WORDS, MATRIX).read_bytes()
    for size in (5, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("words.npy", b"junk")
        archive.writestr("matrix.npy", b"junk")
    with pytest.raises(DataError, match="not an npz file of plain arrays, or a damaged one"):
        read(path)


def test_safetensors_files_that_are_none(tmp_path):
    path = write(tmp_path / "v.safetensors", WORDS, MATRIX)
    whole = path.read_bytes()
    (tmp_path / "v.json").write_text('{"words": [1, 2, 3]}')
    with pytest.raises(DataError, match=r"v\.json: not the words of vectors"):
        read(path)
    (tmp_path / "v.json").unlink()
    with pytest.raises(DataError, match=r"v\.json: no such file"):
        read(path)
    path.write_bytes(whole[:-3])
    with pytest.raises(DataError, match="not a safetensors file, or a damaged one"):
        read(path)
    save_file({"a": torch.zeros(3, 2), "b": torch.zeros(3, 2)}, path)
    with pytest.raises(DataError, match="Expected one matrix; got a, b"):
        read(path)
    path.write_bytes(struct.pack("<Q", 2) + b"{]")
    with pytest.raises(DataError):
        read(path)


# -- writing ---------------------------------------------------------------------------------------------------------

ROWS = [".txt", ".vec", ".bin"]
WRITTEN = [ending + compression for ending in ROWS for compression in ("", ".gz", ".zst")] + [".npz", ".safetensors"]


@pytest.mark.parametrize("ending", WRITTEN)
def test_what_is_written_is_read_back_exactly(tmp_path, ending):
    words = [f"wört{row}" for row in range(5003)]
    bits = np.random.default_rng(3).integers(0, 2**32, (5003, 7), dtype=np.uint32).view(np.float32)
    matrix = np.where(np.isfinite(bits), bits, np.float32(0.1))
    found, numbers = read(write(tmp_path / f"v{ending}", words, matrix))
    assert found == words
    np.testing.assert_array_equal(numbers, matrix)


def test_text_is_as_short_as_it_can_be(tmp_path):
    matrix = np.array([[0.418, -0.00012345, 1e20], [0, 16777216, 0.3333333]], np.float32)
    assert (
        write(tmp_path / "v.txt", ["a", "b"], matrix).read_text()
        == "a 0.418 -0.00012345 1e+20\nb 0 16777216 0.3333333\n"
    )


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_number_comes_back(tmp_path_factory, number):
    matrix = np.array([[number]], np.float32)
    path = write(tmp_path_factory.mktemp("number") / "v.txt", ["a"], matrix)
    np.testing.assert_array_equal(read(path)[1], matrix)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("v.pkl", ["a"], "no format has the ending of v.pkl. Expected one of .txt, .vec"),
        ("v.npz.gz", ["a"], "no format has the ending of v.npz.gz"),
        ("v", ["a"], "no format has the ending of v"),
        ("v.txt", ["a b"], "the word 'a b' cannot be written as .txt"),
        ("v.bin.gz", [""], "the word '' cannot be written as .bin"),
        ("v.npz", ["a\nb"], "the word 'a.nb' cannot be written as .npz.*Try: .safetensors"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, words, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / name, words, np.ones((1, 2), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_words_with_blanks_where_they_can_be(tmp_path):
    for name, words in (("v.npz", ["a b", ""]), ("v.safetensors", ["a\nb", " "])):
        assert read(write(tmp_path / name, words, np.ones((2, 3), np.float32)))[0] == words
