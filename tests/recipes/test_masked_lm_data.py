import numpy as np
import pytest

from qkv.data import NGrams
from qkv.errors import DataError, InputError
from qkv.recipes.base import validated
from qkv.recipes.masked_lm_data import (
    MASK,
    UNKNOWN,
    TextConfig,
    masked,
    read_other,
    read_rows,
    read_texts,
    read_words,
    require_one_mask,
    rows_of,
    sentences_of,
)
from qkv.vectors import Reading


def test_sentences_end_at_marks_empty_lines_rules_and_listings():
    text = "One two.  Three: four\nfive\n\nsix seven\n---------\neight nine\n>>> ten(1)"
    assert sentences_of([text], Reading()) == [
        ["one", "two"], ["three"], ["four", "five"], ["six", "seven"], ["eight", "nine"], ["ten", "1"],
    ]  # fmt: skip


def test_rows_are_the_runs_within_sentences():
    words = [MASK, UNKNOWN, "a", "b", "c"]
    rows = rows_of([["a", "b", "c", "z"], ["b", "a"], ["c", "c", "a"]], words, 3)
    assert rows.tolist() == [[2, 3, 4], [3, 4, 1], [4, 4, 2]]
    # Where no word stands for the unknown ones, there is no row with one.
    assert rows_of([["a", "b", "z", "b", "a", "b"]], [MASK, "a", "b"], 3).tolist() == [[2, 1, 2]]


@pytest.fixture
def text(tmp_path):
    lines = [f"a b c w{line} d. a b c" for line in range(20)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join([*lines, *lines[:3], "", "x y"]), encoding="utf-8")
    return path


def test_no_text_is_on_two_sides(text):
    assert len(read_texts(str(text))) == 21  # those that repeat stand once, empty lines not at all
    settings = TextConfig(length=3, vocabulary_size=60, valid_share=0.2, test_share=0.3)
    grams, told = read_rows(str(text), settings)
    own = [{word for word in np.unique(part).tolist() if grams.words[word].startswith("w")}
           for part in (grams.train, grams.valid, grams.test)]  # fmt: skip
    # The words of training are known; those of other texts, each of which has its own, are not.
    assert own[0]
    assert own[1] == own[2] == set()
    unknown = [(part == 1).any(axis=1).sum() for part in (grams.train, grams.valid, grams.test)]
    assert unknown[0] == 0
    assert min(unknown[1:]) > 0
    assert told.startswith("21 different texts; rows of 3 words within sentences; ")
    again, _ = read_rows(str(text), settings)
    other, _ = read_rows(str(text), settings.model_copy(update={"split_seed": 1}))
    assert again.words == grams.words
    assert other.words != grams.words  # other texts are trained on


def test_the_most_frequent_words_are_known(text):
    grams, told = read_rows(str(text), TextConfig(length=3, vocabulary_size=5))
    assert grams.words == [MASK, UNKNOWN, "a", "b", "c"]
    assert "5 words, which are " in told


def test_the_mask_comes_first_among_n_grams(tmp_path):
    rows = np.array([[0, 1], [1, 1]])
    moved = masked(NGrams(["a", "b"], rows, rows, rows), tmp_path)
    assert moved.words == [MASK, "a", "b"]
    assert moved.valid.tolist() == [[1, 2], [2, 2]]
    assert masked(moved, tmp_path) is moved
    with pytest.raises(DataError, match=r"\[MASK\] is not the first word of vocab\. Expected number 0; got 1"):
        masked(NGrams(["a", MASK], rows, rows, rows), tmp_path)


def test_n_grams_of_other_words(tmp_path):
    rows = np.array([[0, 1]])
    np.savez(tmp_path / "grams.npz", vocab=["a", "b"], train_inputs=rows, valid_inputs=rows, test_inputs=rows[:, ::-1])
    data = str(tmp_path / "grams.npz")
    assert read_other(data, [MASK, "a", "b"], 2, TextConfig()).tolist() == [[2, 1]]
    with pytest.raises(DataError, match=r"n-grams over other words than those of the run"):
        read_other(data, [MASK, "b", "a"], 2, TextConfig())
    with pytest.raises(InputError, match=r"has no row of 3 words that this run knows.*got rows of 2 words"):
        read_other(data, [MASK, "a", "b"], 3, TextConfig())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"text\.txt: the file is empty"),
        ("\n  \n", r"text\.txt: there is no text in it\. Expected lines of words"),
        ("one line alone", r"too little text to hold some out.*got 1, and shares of 0\.1 and 0\.1"),
        ("\n".join(f"short {line}" for line in range(30)), r"the texts for train have no row of 4 words"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "text.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_rows(str(path), TextConfig())


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match=r"--length cannot be used\. Expected greater than or equal to 2"):
        validated(TextConfig, {"length": 1})


# -- a phrase --------------------------------------------------------------------------------------------------------

WORDS = [MASK, "go", "to", "I", "school"]


def test_words_count_as_they_stand_in_small_letters_and_in_capitals():
    assert read_words("I Go TO [MASK]", WORDS) == [3, 1, 2, 0]
    assert read_words("i go to [mask]", WORDS) == [3, 1, 2, 0]


def test_a_word_that_is_not_known_is_named_with_one_alike():
    with pytest.raises(InputError, match=r"'scool' is not in the vocabulary.*4 words of this run\. Try: school"):
        read_words("go to scool", WORDS)
    with pytest.raises(InputError, match="the phrase is empty"):
        read_words(" ", WORDS)


def test_a_row_has_one_mask():
    require_one_mask([1, 0, 2], 3)
    for ids, message in (
        ([1, 2, 3], "no mask"),
        ([0, 0, 0], "3 masks"),
        ([0, 1], "too few"),
        ([0, 1, 2, 3], "too many"),
    ):
        with pytest.raises(InputError, match=f"the phrase has {message}"):
            require_one_mask(ids, 3)
