import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.pairs import normalise_text
from qkv.data.tokens import BOS_ID, EOS_ID, PAD_ID, SPECIALS, UNK_ID, Vocabulary, train_vocabulary, word_of
from qkv.errors import InputError

FRENCH = ["Où est-il aujourd'hui ?", "L'homme n'est pas là.", "Il est là, l'homme !", "vingt-deux, vingt-trois"] * 3
KINDS = ["word", "subword", "character"]
SENTENCES = ["It's cold.", "aujourd'hui ?", "L'homme est là !", "« Oui », dit-il...", "le 05/03/2014", "(a-b) 'c' d’e"]


@pytest.fixture(scope="module")
def vocabularies():
    return {kind: train_vocabulary([*FRENCH, *SENTENCES], kind, 400) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sentence", SENTENCES)
def test_known_text_comes_back_exactly(vocabularies, kind, sentence):
    vocabulary = vocabularies[kind]
    ids = vocabulary.encode(sentence)
    assert UNK_ID not in ids
    assert vocabulary.decode([BOS_ID, *ids, EOS_ID, PAD_ID]) == sentence


@pytest.mark.parametrize("kind", ["subword", "character"])
@given(text=st.text().map(normalise_text).filter(lambda text: "▁" not in text))
def test_any_text_at_all_comes_back_from_subwords_and_characters(vocabularies, kind, text):
    ids = vocabularies[kind].encode(text)
    assert not set(ids) & {PAD_ID, BOS_ID, EOS_ID, UNK_ID}
    assert vocabularies[kind].decode(ids) == text


def test_unseen_characters_are_spelt_in_bytes(vocabularies):
    # 你 is e4 bd a0 in UTF-8.
    vocabulary = vocabularies["subword"]
    assert vocabulary.tokens(vocabulary.encode("là 你"))[-3:] == ["<0xE4>", "<0xBD>", "<0xA0>"]
    assert vocabulary.decode(vocabulary.encode("là 你 😀")) == "là 你 😀"


def test_unknown_words_read_unk(vocabularies):
    vocabulary = vocabularies["word"]
    assert vocabulary.decode(vocabulary.encode("Il est parti là.")) == "Il est <unk> là."


@pytest.mark.parametrize("kind", KINDS)
def test_text_cannot_smuggle_in_special_tokens(vocabularies, kind):
    assert not set(vocabularies[kind].encode("<eos> <pad><bos> <0x41>")) & {PAD_ID, BOS_ID, EOS_ID}


def test_ids_by_hand():
    # Words by count, then by code point: ▁b 3, ▁a 2, "!" 1 and ▁c 1.
    vocabulary = train_vocabulary(["b a b", "a b c!"], "word", 100)
    assert vocabulary.pieces == [*SPECIALS, "▁b", "▁a", "!", "▁c"]
    assert vocabulary.encode("a b! z") == [5, 4, 6, UNK_ID]
    assert vocabulary.encode_many(["a", "", "c"]) == [[5], [], [7]]
    assert len(train_vocabulary(["b a b", "a b c!"], "word", 6)) == 6
    assert train_vocabulary(["b a b", "a b c!"], "word", 100, min_count=2).pieces == [*SPECIALS, "▁b", "▁a"]


def test_merges_by_hand():
    # "abab" twice: a+b is the most frequent neighbour pair (4), then ab+ab and ▁+ab (2 each).
    vocabulary = train_vocabulary(["abab abab"], "subword", 4 + 256 + 5)
    assert vocabulary.pieces[260:264] == ["a", "b", "▁", "ab"]
    assert len(vocabulary.encode("abab")) == 2
    assert len(vocabulary) == 265


def test_rare_characters_leave_room_for_merges():
    # Half of the room is for characters: the rest is spelt in bytes.
    chinese = "".join(chr(0x4E00 + i) for i in range(500))
    vocabulary = train_vocabulary([*FRENCH * 50, chinese], "subword", 4 + 256 + 60)
    assert len(vocabulary) == 320
    assert sum(len(piece) == 1 for piece in vocabulary.pieces) == 30
    assert vocabulary.decode(vocabulary.encode(chinese)) == chinese


def test_labels_are_readable_words(vocabularies):
    for vocabulary in vocabularies.values():
        assert vocabulary.tokens([BOS_ID, EOS_ID]) == ["<bos>", "<eos>"]
    words = vocabularies["word"]
    assert words.tokens(words.encode("Où est-il ?")) == ["Où", "est", "-", "il", "?"]
    characters = vocabularies["character"]
    assert characters.tokens(characters.encode("Où est")) == ["·", "O", "ù", "·", "e", "s", "t"]


def test_lowercase():
    vocabulary = train_vocabulary(["Été"], "word", 100, lowercase=True)
    assert vocabulary.decode(vocabulary.encode("ÉTÉ été")) == "été été"


@pytest.mark.parametrize("kind", KINDS)
def test_json_keeps_everything(vocabularies, kind):
    text = vocabularies[kind].to_json()
    json.loads(text)
    again = Vocabulary.from_json(text)
    assert again.to_json() == text
    assert len(again) == len(vocabularies[kind])
    assert again.encode_many(SENTENCES) == vocabularies[kind].encode_many(SENTENCES)


def test_the_same_texts_in_another_order_and_process_give_the_same_subwords(vocabularies):
    program = (
        "import sys; from qkv.data.tokens import train_vocabulary; "
        "print(train_vocabulary(sys.argv[1:], 'subword', 400).to_json())"
    )
    texts = [*FRENCH, *SENTENCES][::-1]
    other = subprocess.run([sys.executable, "-c", program, *texts], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == vocabularies["subword"].to_json()


def test_what_words_to_look_up():
    pieces = ["▁chat", "chat", "▁", "▁?", "?", "'", "7", "▁7", "<pad>", "<0x41>", "é"]
    assert [word_of(piece) for piece in pieces] == ["chat", None, None, "?", "?", "'", None, "7", None, None, None]


def test_refusals():
    with pytest.raises(InputError, match="a size above 260; got 260"):
        train_vocabulary(["a"], "subword", 260)
    with pytest.raises(InputError, match="no room for tokens in a word vocabulary"):
        train_vocabulary(["a"], "word", 4)
    with pytest.raises(InputError, match="no text"):
        train_vocabulary([], "word", 100)
    with pytest.raises(InputError, match="not a vocabulary"):
        Vocabulary.from_json('{"model": 7}')
    with pytest.raises(InputError, match="not a vocabulary of qkv"):
        Vocabulary.from_json('{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}')
