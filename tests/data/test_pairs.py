import gzip
from collections import Counter

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.data.pairs import (
    Pair,
    Skipped,
    group_references,
    normalise_text,
    read_pairs,
    read_texts,
    sentence_key,
    split_pairs,
)
from qkv.errors import DataError, InputError

GOOD = [f"sentence {i}\tphrase {i}" for i in range(200)]


def write(path, lines, encode=lambda data: data):
    path.write_bytes(encode("\n".join(lines).encode()))
    return path


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_compression_is_recognised_by_content_whatever_the_name(tmp_path, encode):
    path = write(tmp_path / "pairs.txt", ["I see.\tJe vois.", "Go!\tVa !"], encode)
    assert read_pairs(path).pairs == [Pair("I see.", "Je vois."), Pair("Go!", "Va !")]


def test_columns_choose_sides_and_direction(tmp_path):
    path = write(tmp_path / "a.tsv", ["17\tGo!\tVa !\tCC BY"])
    assert read_pairs(path, columns=(1, 2)).pairs == [Pair("Go!", "Va !")]
    assert read_pairs(path, columns=(2, 1)).pairs == [Pair("Va !", "Go!")]


@pytest.mark.parametrize(
    ("form", "source"), [("nfc", "ﬁn café"), ("nfkc", "fin café"), ("none", "ﬁn cafe\N{COMBINING ACUTE ACCENT}")]
)
def test_unicode_forms_and_blanks(tmp_path, form, source):
    # A ligature, a letter with a combining accent, and no-break spaces.
    path = write(tmp_path / "a.tsv", [" ﬁn\u00a0\u202f cafe\N{COMBINING ACUTE ACCENT} \tend"])
    assert read_pairs(path, normalise=form).pairs == [Pair(source, "end")]


def test_blank_lines_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xef\xbb\xbfGo!\tVa !\r\n\r\nNo.\tNon.\r\n\n")
    read = read_pairs(path)
    assert read.pairs == [Pair("Go!", "Va !"), Pair("No.", "Non.")]
    assert read.skipped == []


BAD_LINES = {
    "bytes that are not UTF-8": b"caf\xe9\tcoffee",
    "too few columns": b"alone",
    "an empty side": b"half \t \xc2\xa0",
    "more than 1,000 words in one field": b"mot " * 10_000 + b"\tword",
}


@pytest.mark.parametrize(("reason", "line"), BAD_LINES.items(), ids=list(BAD_LINES))
def test_one_bad_line_in_a_small_file_is_refused_by_name_and_line(tmp_path, reason, line):
    path = tmp_path / "small.tsv"
    # 1 of 99 lines is more than one in a hundred, 1 of 100 is not.
    path.write_bytes(b"\n".join([b"a\tb"] * 6 + [line] + [b"a\tb"] * 92))
    with pytest.raises(DataError, match=rf"small\.tsv, line 7: {reason}; 1 of 99 lines .* Try: "):
        read_pairs(path)
    path.write_bytes(b"\n".join([b"a\tb"] * 6 + [line] + [b"a\tb"] * 93))
    read = read_pairs(path)
    assert len(read.pairs) == 99
    assert read.skipped == [Skipped(reason, 1, (7,))]


def test_skipped_lines_are_counted_by_reason_with_the_first_of_them(tmp_path):
    lines = [*GOOD, "alone", *GOOD, "alone", "x\t", "alone", "alone", *GOOD]
    read = read_pairs(write(tmp_path / "a.tsv", lines))
    assert read.skipped == [
        Skipped("too few columns", 4, (201, 402, 404)),
        Skipped("an empty side", 1, (403,)),
    ]
    assert [str(skipped) for skipped in read.skipped] == [
        "too few columns: 4 (lines 201, 402, 404, ...)",
        "an empty side: 1 (line 403)",
    ]


def test_files_that_hold_no_pairs(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_pairs(tmp_path / "absent.tsv")
    with pytest.raises(DataError, match="empty"):
        read_pairs(write(tmp_path / "empty.tsv", []))
    with pytest.raises(DataError, match="nothing but blank lines"):
        read_pairs(write(tmp_path / "blank.tsv", ["", "  ", ""]))
    with pytest.raises(DataError, match=r"line 1: too few columns; 2 of 2 lines .* columns parted by tabs"):
        read_pairs(write(tmp_path / "one.tsv", ["Go!", "No."]))
    with pytest.raises(DataError, match="damaged"):
        read_pairs(write(tmp_path / "cut.gz", GOOD, lambda data: gzip.compress(data)[:-20]))
    with pytest.raises(InputError, match=r"counted from 0; got \(0, -1\)"):
        read_pairs(write(tmp_path / "a.tsv", GOOD), columns=(0, -1))


def test_texts_stay_aligned_with_their_lines(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\n".join([b"un", b"", b"\xff\xfe", *[b"deux  trois\textra"] * 150]))
    read = read_texts(path)
    assert read.texts == ["un", "", "", *["deux trois"] * 150]
    assert read.skipped == [Skipped("bytes that are not UTF-8", 1, (3,))]
    with pytest.raises(DataError, match="line 1: too few columns"):
        read_texts(path, column=1)


# -- splitting -------------------------------------------------------------------------------------------------------


def test_what_a_sentence_key_ignores():
    assert sentence_key("Où est-il ?") == sentence_key("ou est il") == "ouestil"
    assert sentence_key("STRASSE") == sentence_key("Straße")
    assert sentence_key("?!") != sentence_key("...")
    assert sentence_key("deux") != sentence_key("dix")


texts = st.text(st.sampled_from("aàbBçc .!?'é-"), min_size=1, max_size=3)


@given(
    sources=st.lists(texts, min_size=1, max_size=60),
    fractions=st.sampled_from([(0.3, 0.3), (0.0, 0.5), (0.1, 0.2)]),
    seed=st.integers(-(2**40), 2**40),
)
def test_no_source_key_stands_on_two_sides_and_nothing_is_lost(sources, fractions, seed):
    # Enough others for no part to stay empty.
    pairs = [Pair(source, str(i)) for i, source in enumerate([*sources, *(f"phrase {i}" for i in range(100))])]
    split = split_pairs(pairs, valid=fractions[0], test=fractions[1], seed=seed)
    train, valid, test = ({sentence_key(p.source) for p in part} for part in (split.train, split.valid, split.test))
    assert len(train | valid | test) == len(train) + len(valid) + len(test)
    assert Counter([*split.train, *split.valid, *split.test]) == Counter(pairs)


def test_the_side_of_a_pair_depends_on_seed_and_key_alone():
    pairs = [Pair(f"phrase {i}", "x") for i in range(300)]
    whole = split_pairs(pairs, valid=0.1, test=0.2, seed=3)
    half = split_pairs(pairs[::-2], valid=0.1, test=0.2, seed=3)
    assert set(half.test) == set(whole.test) & set(pairs[::-2])
    assert split_pairs(pairs, valid=0.1, test=0.2, seed=4).test != whole.test


def test_a_split_that_cannot_be():
    pairs = [Pair(f"phrase {i}", "x") for i in range(11)]
    with pytest.raises(InputError, match=r"sum to less than 1; got valid=0.5, test=0.5"):
        split_pairs(pairs, valid=0.5, test=0.5, seed=0)
    with pytest.raises(InputError, match="no pair fell to the part 'test'"):
        split_pairs(pairs, valid=0.0, test=1e-9, seed=0)


def test_references_are_grouped_by_identical_source():
    pairs = [Pair("b", "1"), Pair("a", "2"), Pair("b", "3"), Pair("B", "4")]
    assert group_references(pairs) == (["b", "a", "B"], [["1", "3"], ["2"], ["4"]])


@settings(max_examples=50)
@given(st.text())
def test_normalising_twice_changes_nothing(text):
    for form in ("nfc", "none"):
        once = normalise_text(text, form)
        assert normalise_text(once, form) == once


def test_real_sentence_pairs(shared_data, tmp_path):
    with gzip.open(shared_data / "eng-fra" / "eng-fra.txt.gz", "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()[::40]
    read = read_pairs(write(tmp_path / "sample.gz", lines, gzip.compress), columns=(1, 0))
    assert len(read.pairs) == len(lines) == 3213
    assert read.skipped == []
    assert read.pairs[0] == Pair("Va !", "Go.")
    # No-break spaces before French marks have become plain ones.
    assert not any("\u00a0" in pair.source or "\u202f" in pair.source for pair in read.pairs)
