"""Text as numbers of words: what is a word, what is a document, and what is refused."""

import gzip
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings

from qkv.errors import DataError, InputError, InputTypeError
from qkv.vectors import corpus
from qkv.vectors.corpus import BREAK, Reading, Spool, read_corpus

PLAIN = Reading("blanks", lower=False)


def read(texts, reading: Reading = PLAIN, *, min_count: int = 1, max_words=None, words=None, memory: int = 1 << 30):
    return read_corpus(texts, reading, min_count=min_count, max_words=max_words, words=words, memory=memory)


def documents(read_: corpus.Corpus) -> list[list[str]]:
    """The words of each document, back from their ranks."""
    found: list[list[str]] = [[]]
    for rank in read_.stream.tolist():
        if rank == BREAK:
            found.append([])
        else:
            found[-1].append(read_.words[rank])
    return [words for words in found if words]


def test_by_hand():
    # b three times, a and c twice: of these a comes first, and c, the third, is dropped and leaves no gap.
    found = read(["b a b", "c", "b c a"], min_count=2, max_words=2)
    assert found.words == ["b", "a"]
    assert found.frequencies.tolist() == [3, 2]
    assert found.stream.tolist() == [0, 1, 0, BREAK, 0, 1, BREAK]


def test_equals_are_ranked_by_their_bytes():
    assert read(["zebra Ähre apple Zulu"]).words == ["Zulu", "apple", "zebra", "Ähre"]


def test_the_most_frequent_are_kept():
    assert read(["a a a b b c"], max_words=2).words == ["a", "b"]


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (PLAIN, [["Don't", "STOP,", "naïve"], ["x-2"]]),
        (Reading(), [["don't", "stop", "naïve"], ["x", "2"]]),
        (Reading(lower=False), [["Don't", "STOP", "naïve"], ["x", "2"]]),
        (Reading("blanks", documents="running"), [["don't", "stop,", "naïve", "x-2"]]),
    ],
    ids=["blanks", "words", "words as written", "running"],
)
def test_what_a_word_is(tmp_path, reading: Reading, expected: list[list[str]]):
    path = tmp_path / "text.txt"
    path.write_text("Don't STOP, naïve\n\n x-2", encoding="utf-8")
    assert documents(read(path, reading)) == expected


def test_a_string_is_one_document():
    assert documents(read(["one\ntwo", "three"])) == [["one", "two"], ["three"]]


def test_files_and_folders_in_any_compression(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.txt").write_text("\ufeffplain")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / "inner" / "c.zst").write_bytes(zstandard.compress(b"tight\nlast"))
    (tmp_path / ".hidden").write_text("never")
    assert documents(read(tmp_path)) == [["plain"], ["packed"], ["tight"], ["last"]]


@settings(max_examples=40)
@given(
    lines=st.lists(st.lists(st.text("aàb-語c", min_size=1, max_size=11), max_size=5), max_size=7),
    block=st.integers(7, 31),
)
def test_blocks_cut_no_word(tmp_path_factory, lines: list[list[str]], block: int):
    path = tmp_path_factory.mktemp("blocks") / "text.txt"
    path.write_text("\n".join(" ".join(words) for words in lines) + "\nend", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "_BLOCK", block)
        assert documents(read(path)) == [*[words for words in lines if words], ["end"]]


def test_more_words_than_the_table_first_has():
    words = [f"{'prefix-of-many-words-' * (i % 2)}{i}" for i in range(70_001)]
    found = read([" ".join(words), " ".join(words[:2])])
    assert len(found.words) == 70_001
    assert sorted(found.words[:2]) == sorted(words[:2])
    assert [word for rank in found.stream[:70_001].tolist() for word in [found.words[rank]]] == words


def test_a_given_vocabulary_is_taken_as_it_is():
    found = read(["b a b c"], words=["never", "c", "b"])
    assert found.words == ["never", "c", "b"]
    assert found.frequencies.tolist() == [0, 1, 2]
    assert found.stream.tolist() == [2, 2, 1, BREAK]


def test_a_spool_on_the_disk_holds_the_same():
    parts = [np.arange(5, dtype=np.int32), np.arange(3, dtype=np.int32)]
    for limit in (0, 21, 1000):
        spool = Spool(np.int32, limit)
        for part in parts:
            spool.append(part)
        assert spool.array().tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert read(["a b a"], memory=0).stream.tolist() == [0, 1, 0, BREAK]


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [b"\x00\x01", b"\xff\xfe", b"caf\xe9 "], ids=["zero bytes", "UTF-16", "Latin-1"])
def test_binary_junk_is_refused_with_its_line(tmp_path, bad: bytes):
    path = tmp_path / "junk.txt"
    path.write_bytes(b"one\ntwo\nthree " + bad + b"\nfour")
    with pytest.raises(DataError, match=r"junk.txt, line 3: not text. Expected UTF-8; got the byte"):
        read(path)


def test_the_line_counts_from_the_beginning_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "_BLOCK", 11)
    path = tmp_path / "junk.txt"
    path.write_bytes(b"one two\n" * 7 + b"\xff")
    with pytest.raises(DataError, match="line 8: not text"):
        read(path)


def test_a_text_without_blanks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "_BLOCK", 5)
    monkeypatch.setattr(corpus, "_LONGEST_WORD", 20)
    (tmp_path / "long.txt").write_text("x" * 100)
    with pytest.raises(DataError, match="no blank"):
        read(tmp_path / "long.txt")


@pytest.mark.parametrize(
    ("texts", "kind", "message"),
    [
        ([], InputError, "the text has no words"),
        (["", " \n"], InputError, "the text has no words"),
        ("a text", InputTypeError, "texts is one string"),
        ([3], InputTypeError, "texts cannot be read.*got int"),
        (Path("nowhere.txt"), DataError, "no such file"),
    ],
)
@pytest.mark.usefixtures("no_shape_hook")
def test_texts_that_cannot_be_read(texts, kind, message: str):
    with pytest.raises(kind, match=message):
        read(texts)


def test_empty_folders_and_vocabularies(tmp_path):
    with pytest.raises(InputError, match="a folder without files"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"no word is left.*3 times or more; got 'b', 2 times"):
        read(["b a b"], min_count=3)
    with pytest.raises(InputError, match=r"no word is left.*words of the text"):
        read(["b a b"], words=["x"])


@pytest.mark.usefixtures("no_shape_hook")
def test_other_readings():
    with pytest.raises(InputError, match=r"unknown tokens 'word'.*Try: words"):
        Reading("word")
