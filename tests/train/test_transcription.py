import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.errors import InputError
from qkv.train import (
    cosine_similarity,
    damerau_levenshtein_similarity,
    jaccard_similarity,
    transcript_scores,
)
from qkv.train.transcription import SIMILARITIES

EVERY = pytest.mark.parametrize("measure", list(SIMILARITIES.values()), ids=list(SIMILARITIES))
TEXTS = st.text("abc ", max_size=11)


def test_measures_by_hand():
    a, b = ["one", "two", "two", "three"], ["two", "one", "four"]
    # Sets: {one, two} of {one, two, three, four}. Counts: (1, 2, 1, 0) and (1, 1, 0, 1): 3 / (sqrt 6 sqrt 3).
    assert jaccard_similarity(a, b) == 2 / 4
    assert cosine_similarity(a, b) == pytest.approx(3 / math.sqrt(18), abs=1e-12)
    # "one two" turned round is one edit, "two" left out another, "three" replaced by "four" the third: 1 - 3 / 4.
    assert damerau_levenshtein_similarity(a, b) == 1 - 3 / 4


def test_the_distance_is_the_true_one():
    # "ca" becomes "ac" by a swap and "abc" by an insertion between the two: 2 edits. Where nothing may be edited twice
    # (the restricted distance) it takes 3.
    assert damerau_levenshtein_similarity("ca", "abc") == pytest.approx(1 - 2 / 3)


def test_order_is_seen_by_one_measure_alone():
    said, turned = ["three", "one", "four"], ["four", "three", "one"]
    assert jaccard_similarity(said, turned) == 1
    assert cosine_similarity(said, turned) == pytest.approx(1)
    assert damerau_levenshtein_similarity(said, turned) == pytest.approx(1 / 3)


@EVERY
def test_of_nothing(measure):
    assert measure([], []) == 1
    assert measure(["one"], []) == 0
    assert measure([], ["one"]) == 0


@given(TEXTS, TEXTS)
def test_measures_are_shares_and_the_same_both_ways(a, b):
    for name, measure in SIMILARITIES.items():
        similarity = measure(a, b)
        assert 0 <= similarity <= 1 + 1e-12
        assert similarity == pytest.approx(measure(b, a), abs=1e-12), name
        assert measure(a, a) == pytest.approx(1)


def test_scores_by_hand():
    scores = transcript_scores(["one two", "siz"], ["two one", "six"])
    # Characters: "one two" to "two one" takes four replacements at "one" and "two" (o kept twice: n-w, e-o and so on);
    # by words both measures of bags are 1 and 0, the list's 1/2 and 0.
    assert scores.metrics["jaccard_words"] == 0.5
    assert scores.metrics["cosine_words"] == pytest.approx(0.5)
    assert scores.metrics["damerau_levenshtein_words"] == 0.25
    # words: two replacements of two, one of one; over three words of the references
    assert scores.metrics["word_error_rate"] == 1.0
    # characters of "six": one of three differs
    assert scores.each[1].similarities["damerau_levenshtein_characters"] == pytest.approx(2 / 3)
    assert scores.each[1].similarities["jaccard_characters"] == 2 / 4


def test_the_error_rate_is_over_all_tokens_together():
    # 1 edit of 1 character and 0 of 9: 1 / 10, not the mean of 1 and 0
    assert transcript_scores(["b", "abcabcabc"], ["a", "abcabcabc"]).metrics["character_error_rate"] == 0.1


def test_rank_correlations_and_disputes():
    said = ["one two three", "one two", "four five", "six"]
    understood = ["three two one", "one two", "four", "two"]
    scores = transcript_scores(understood, said)
    found = scores.rank_correlations("words")
    # Jaccard 1, 1, 1/2, 0 and Damerau-Levenshtein 1/3, 1, 1/2, 0: ranks 3.5 3.5 2 1 and 2 4 3 1, whose correlation is
    # 2.5 / sqrt(4.5 x 5).
    assert found["jaccard_words, damerau_levenshtein_words"] == pytest.approx(3 / math.sqrt(4.5 * 5), abs=0.11)
    (first, *_) = scores.disputed(3)
    assert first.reference == "one two three"
    assert all(one.reference != "one two" for one in scores.disputed(9))
    assert set(transcript_scores(["a"], ["a"]).rank_correlations().values()) == {None}


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="got 1 transcripts, 2 references"):
        transcript_scores(["a"], ["a", "b"])
    with pytest.raises(InputError, match="at least one"):
        transcript_scores([], [])
