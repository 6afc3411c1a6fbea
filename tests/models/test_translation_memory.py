from qkv.models import TranslationMemory


def test_the_nearest_sentence_by_hand():
    # "le chat" shares a word and a pair of words with the first, one word with the second, none with the third.
    memory = TranslationMemory(["le chat dort", "le chien court", "il pleut"], ["cat", "dog", "rain"])
    assert memory.translate(["le chat", "il", "un chien"]) == ["cat", "rain", "dog"]


def test_numbers_and_single_letters_tell_sentences_apart():
    memory = TranslationMemory(["page 7", "page 8", "y a", "y a ?"], ["seven", "eight", "there is", "is there"])
    assert memory.translate(["8", "7", "y a ?", "y a"]) == ["eight", "seven", "is there", "there is"]


def test_the_first_among_equals():
    memory = TranslationMemory(["oui", "oui", "non"], ["yes", "aye", "no"])
    assert memory.translate(["oui", "personne"]) == ["yes", "yes"]


def test_more_queries_than_are_compared_at_once():
    words = [f"mot{i}" for i in range(601)]
    memory = TranslationMemory(words, [word.upper() for word in words])
    assert memory.translate(words[::-1]) == [word.upper() for word in words[::-1]]
