import re
from collections import Counter

import pytest

from qkv.data import phrases
from qkv.data.phrases import _NOUNS, _NUISANCES, _WORDS, BAD, GOOD, templates
from qkv.errors import InputError


def form(text: str) -> str:
    """A phrase with its nouns, adjectives and nuisances taken out."""
    words = "|".join([*_NOUNS, *_NUISANCES, *_WORDS[GOOD], *_WORDS[BAD]])
    return re.sub(r"\ban? (?=_)", "a ", re.sub(rf"\b({words})\b", "_", text))


@pytest.fixture(scope="module")
def split():
    return phrases(seed=2, train=1500, valid=300, test=500)


def test_no_template_and_no_phrase_stands_on_two_sides(split):
    forms = [{form(row.text) for row in part} for part in (split.train, split.valid, split.test)]
    assert len(set.union(*forms)) == sum(map(len, forms))
    texts = [row.text for part in (split.train, split.valid, split.test) for row in part]
    assert len(set(texts)) == len(texts) == 2300


def test_all_words_of_the_test_part_stand_in_training(split):
    train, test = ({word for row in part for word in row.text.split()} for part in (split.train, split.test))
    assert test <= train


def test_labels_are_equally_frequent_and_words_tell_little(split):
    for part, size in ((split.train, 1500), (split.valid, 300), (split.test, 500)):
        assert Counter(row.label for row in part) == {GOOD: size // 2, BAD: size // 2}
    good = [row.label == GOOD for row in split.train if "brilliant" in row.text]
    assert 0.35 < sum(good) / len(good) < 0.8


def test_labels_by_hand():
    rules = {  # what decides is told by what joins; a denial turns the word round
        r"^the \w+ was not bad at all$": GOOD,
        r"^although nobody found the \w+ dull , the \w+ was really nasty$": BAD,
        r"^the \w+ was great , if you like waiting$": BAD,
    }
    phrase = [row for seed in (0, 1) for row in phrases(seed, train=5000, valid=2, test=2).train]
    for rule, label in rules.items():
        found = {row.label for row in phrase if re.match(rule, row.text)}
        assert found <= {label}, rule
    assert {row.label for row in phrase if re.match(r"^the \w+ was (really )?great$", row.text)} == {GOOD}
    assert {row.label for row in phrase if re.match(r"^the \w+ was anything but great$", row.text)} == {BAD}


def test_the_same_seed_draws_the_same():
    assert phrases(3, train=20, valid=10, test=10) == phrases(3, train=20, valid=10, test=10)
    assert phrases(3, train=20, valid=10, test=10) != phrases(4, train=20, valid=10, test=10)
    assert len(set(templates())) == len(templates()) == 6 * 9 * 8 + 3 * 9


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match=r"2 to 20,000 phrases in each; got train=30000"):
        phrases(train=30_000)
