import numpy as np
import pytest
import torch

from qkv.errors import InputError
from qkv.vectors import EmbeddedSentence, WordVectors, embed_sentences, spellings, words_of

VECTORS = WordVectors(["to", "be", "Paris"], np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32))


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("i swam, quickly.", ["i", "swam", ",", "quickly", "."]),
        ("can't won't it's", ["ca", "n't", "wo", "n't", "it", "'s"]),
        ("3.5 well-known été 中文", ["3.5", "well-known", "été", "中文"]),
        (" \n", []),
    ],
)
def test_words_are_parted_as_in_glove(sentence, words):
    assert words_of(sentence) == words


def test_a_word_has_its_vector_or_that_of_its_small_letters():
    first, second = embed_sentences(["To be", "Paris"], VECTORS)
    assert first.vectors.dtype == torch.float64
    assert first.vectors.tolist() == [[1, 2], [3, 4]]
    assert second.vectors.tolist() == [[5, 6]]


def test_words_without_a_vector_are_named_and_treated_as_asked():
    (dropped,) = embed_sentences(["to swim be swim"], VECTORS)
    assert (dropped.words, dropped.missing) == (["to", "be"], ["swim"])
    (zero,) = embed_sentences(["to swim be swim"], VECTORS, unknown="zero")
    assert zero.words == ["to", "swim", "be", "swim"]
    assert zero.vectors.tolist() == [[1, 2], [0, 0], [3, 4], [0, 0]]
    with pytest.raises(InputError, match=r"no vector for 'swim'\..*Try: --unknown drop or zero"):
        embed_sentences(["to swim be swim"], VECTORS, unknown="stop")


@pytest.mark.parametrize("unknown", ["drop", "zero", "stop"])
def test_a_sentence_of_which_nothing_is_known(unknown):
    with pytest.raises(InputError, match=r"no vector for 'nage', 'vite'\..*Try: --vectors"):
        embed_sentences(["nage vite nage"], VECTORS, unknown=unknown)


def test_a_sentence_without_words():
    with pytest.raises(InputError, match=r"a sentence without words\. Expected at least one word; got ' '"):
        embed_sentences(["to", " "], VECTORS)


@pytest.mark.usefixtures("no_shape_hook")
def test_an_unknown_way_with_unknown_words():
    with pytest.raises(InputError, match=r"unknown way with unknown words 'dropp'.*Try: drop"):
        embed_sentences(["to"], VECTORS, unknown="dropp")


def test_words_by_name_and_by_position():
    sentence = EmbeddedSentence(["To", "be", "to", "7"], torch.zeros(4, 2, dtype=torch.float64), [])
    assert [sentence.position(word) for word in ("be", "BE", "1", "3", "7")] == [1, 1, 0, 2, 3]
    with pytest.raises(InputError, match=r"the word 'to' stands 2 times.*one of its positions 1, 3\. Try: 3"):
        sentence.position("to")
    for word in ("0", "5", "bee"):
        with pytest.raises(InputError, match=f"unknown word of the sentence '{word}'"):
            sentence.position(word)


def test_a_file_is_asked_for_words_as_they_stand_and_in_lower_case():
    assert spellings(["To", "be"]) == {"To", "to", "be"}
