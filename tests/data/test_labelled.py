import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data import Labelled, distinct, read_column, read_labelled, require_labels, split_labelled, text_key
from qkv.errors import DataError, InputError


@pytest.fixture
def write(tmp_path):
    def made(content: str | bytes, name: str = "data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return made


def told(path, **columns) -> list[tuple[str, str, str, int]]:
    return [(row.text, row.label, row.group, row.line) for row in read_labelled(path, **columns).rows]


def test_tables_are_read_by_the_names_of_their_columns(write):
    expected = [("good, really", "pos", "", 2), ('"so"\nbad', "neg", "", 3), ("fine", "pos", "", 5)]
    path = write('id,Text,label\n1,"good, really",pos\n2,"""so""\nbad",neg\n3,fine,pos\n')
    assert told(path) == expected
    assert told(write(gzip.compress(path.read_bytes()), "data.csv.gz")) == expected
    assert told(path, group="id")[1][2] == "2"
    assert told(path, text="id", label="label")[2][:2] == ("3", "pos")


@pytest.mark.parametrize("mark", ["\t", ";"])
def test_other_separators(write, mark):
    path = write(f'sentence{mark}class\n"a" b{mark}x\nc{mark}y\n'.replace('"a"', '"a"' if mark == "\t" else "'a'"))
    assert [row[1] for row in told(path)] == ["x", "y"]
    # Between tabs a quote is a character like any.
    assert told(path)[0][0] == ('"a" b' if mark == "\t" else "'a' b")


def test_columns_by_number_are_of_a_table_without_header(write):
    path = write("pos\tgood\nneg\tbad\n", "data.tsv")
    assert told(path, text="1", label="0") == [("good", "pos", "", 1), ("bad", "neg", "", 2)]
    with pytest.raises(DataError, match=r"data\.tsv, line 1: no column for the text\. Expected a first line with text"):
        read_labelled(path)
    with pytest.raises(DataError, match=r"no column for the label\. Expected a first line with 7; got pos, good"):
        read_labelled(path, text="1", label="7")


def test_the_published_layout_is_recognised(write):
    # No header, six columns, Latin-1 where a row is not UTF-8.
    rows = (
        b'"0","1467810369","Mon Apr 06","NO_QUERY","_x_","caf\xe9, no"\n'
        b'"4","1467810672","Tue Jun 16","NO_QUERY","y","caf\xc3\xa9 yes"\n'
        b'"2","1467810673","Tue Jun 16","NO_QUERY","z","so so"\n'
    )
    path = write(rows)
    expected = [("café, no", "negative", "", 1), ("café yes", "positive", "", 2), ("so so", "neutral", "", 3)]
    assert told(path) == expected
    assert read_column(path).texts == ["café, no", "café yes", "so so"]
    assert [row[2] for row in told(path, text="5", group="user")] == ["_x_", "y", "z"]
    with pytest.raises(DataError, match="got polarity, id, date, query, user, text"):
        read_labelled(path, text="words")


def test_polarities_of_a_header_have_names_too(write):
    assert [row[1] for row in told(write("text,polarity\na,0\nb,4\nc,1\n"))] == ["negative", "positive", "1"]
    assert [row[1] for row in told(write("text,label\na,0\nb,4\n"))] == ["0", "4"]


def test_bad_rows_are_skipped_and_counted_with_their_lines(write):
    rows = ["text,label", *[f"t{i},{'ab'[i % 2]}" for i in range(498)], "one,two,three", ",a", "x,", "\xe9,a"]
    path = write("\n".join(rows).encode("latin-1"))
    found = read_labelled(path)
    assert len(found.rows) == 498
    assert [(one.reason, one.lines) for one in found.skipped] == [
        ("another number of columns than in the first row", (500,)),
        ("an empty text", (501,)),
        ("an empty label", (502,)),
        ("bytes that are not UTF-8", (503,)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,x\nb\nc,y\n", r"line 3: another number of columns .*; 1 of 3 .*quotes around a field"),
        ("text,label\na,x\n,y\n", r"line 3: an empty text; 1 of 2 lines cannot be used"),
        ("text,label\na,x\nb,\n", r"line 3: an empty label"),
        ("text,label\n" + "a" * 1_000_000 + ",x\nb,y\n", r"line 2: more than 100,000 characters in one text; 1 of 2"),
        ("text,label\n" + "a" * 100_001 + ",x\nb,y\n", r"line 2: more than 100,000 characters in one text; 1 of 2"),
        ('text,label\n"a,x\n' + "b,y\n" * 50_000, r"line 2: more than 100,000 .* close the quote"),
        ("text,label\n", "nothing but blank lines"),
        ("\n\n", "nothing but blank lines"),
        ("", "the file is empty"),
        (b"text,label\n\xff,x\nb,y\n", "line 2: bytes that are not UTF-8"),
        ("tweet,mood\na,x\n", r"line 1: no column for the label\. Expected a first line with label or polarity"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_line(write, content, message):
    with pytest.raises(DataError, match=message):
        read_labelled(write(content))


def test_labels_to_train_on():
    rows = [Labelled("a", "x"), Labelled("b", "y"), Labelled("c", "x")]
    assert require_labels(rows, "f") == ["x", "y"]
    with pytest.raises(DataError, match=r"f: all texts have the same label\. Expected 2 to 20 labels; got 'x'"):
        require_labels(rows[::2], "f")
    with pytest.raises(DataError, match="21 different labels"):
        require_labels([Labelled("a", str(i)) for i in range(21)], "f")


def test_texts_to_predict_from_stay_aligned(write):
    assert read_column(write("label,text\nx,one\ny,two\n")).texts == ["one", "two"]
    assert read_column(write("one, two\nthree\n", "lines.txt")).texts == ["one, two", "three"]
    rows = [f"{i},t{i}" for i in range(398)]
    found = read_column(write("\n".join(["id,text", *rows[:5], "5,", *rows[6:], "a,b,c"])))
    assert len(found.texts) == 399
    assert (found.texts[4], found.texts[5], found.texts[6], found.texts[398]) == ("t4", "", "t6", "")
    with pytest.raises(DataError, match="no column for the text"):
        read_column(write("id,text\n0,a\n"), "words")


def test_texts_that_cleaning_makes_alike_are_one():
    rows = [
        Labelled("@ann Good http://a.b", "+", line=1),
        Labelled("@bob  good http://c.d", "+", line=2),
        Labelled("bad", "-", line=3),
        Labelled("Bad", "+", line=4),
        Labelled("BAD", "-", line=5),
        Labelled("new", "-", line=6),
    ]
    kept, repeated, contradicted = distinct(rows)
    assert [row.line for row in kept.values()] == [1, 6]
    assert (repeated, contradicted) == (1, 3)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xy")), min_size=8), st.integers(0, 9))
def test_no_text_stands_on_two_sides(pairs, seed):
    rows = [Labelled(f"{text} {text.upper() * (i % 3)}", label) for i, (text, label) in enumerate(pairs)]
    try:
        split = split_labelled(rows, valid=0.3, test=0.3, seed=seed)
    except InputError:  # too few of a label, or none left
        return
    keys = [text_key(row.text) for part in (split.train, split.valid, split.test) for row in part]
    assert len(set(keys)) == len(keys)
    assert len(keys) + split.repeated + split.contradicted == len(rows)


def test_the_side_of_a_text_is_its_own():
    rows = [Labelled(f"text {i}", "ab"[i % 2], line=i) for i in range(997)]
    few, many = (split_labelled(some, valid=0.2, test=0.2, seed=3) for some in (rows[:500], rows))
    assert {row.line for row in few.test} == {row.line for row in many.test if row.line < 500}
    assert {row.line for row in split_labelled(rows, valid=0.2, test=0.2, seed=4).test} != {r.line for r in many.test}
    # Shares of 0.2 of 997: 199, with a deviation of 13.
    assert 150 < len(many.test) < 250


@pytest.mark.parametrize(
    ("valid", "test", "message"),
    [
        (0.6, 0.4, "leave nothing to train on"),
        (-0.1, 0.2, "leave nothing"),
        (0.2, 0.2, "no text with the label 'rare'"),
    ],
)
def test_splits_that_leave_nothing_are_refused(valid, test, message):
    rows = [*(Labelled(f"text {i}", "ab"[i % 2]) for i in range(100)), Labelled("once", "rare", line=17)]
    with pytest.raises(InputError, match=message):
        split_labelled(rows, valid=valid, test=test, seed=0)
