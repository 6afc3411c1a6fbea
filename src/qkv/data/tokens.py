"""Vocabularies: text to ids and back, over words, subwords or characters.

Every scheme marks the blank before a word with `▁` in the token itself, so that tokens put together again are the
text: punctuation and apostrophes come back where they stood. The special tokens have fixed ids and are never made
from text.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from qkv.errors import InputError

Kind = Literal["word", "subword", "character"]

PAD, BOS, EOS, UNK = SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)

_BLANK = "▁"
# A character without a token of its own is spelt as its UTF-8 bytes, so that subwords and characters lose nothing.
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# Words, digits and marks, each with the blank before it: digits one by one, so that every number can be spelt.
_PIECES = r"▁?[\p{L}\p{M}]+|▁?\p{N}|▁?[^\p{L}\p{M}\p{N}▁]|▁"


class Vocabulary:
    """Tokens and their ids: 0 to 3 are `<pad>`, `<bos>`, `<eos>` and `<unk>`. Made by `train_vocabulary`.

    >>> vocabulary = train_vocabulary(["le chat dort", "le chien dort"], "word", size=100)
    >>> vocabulary.encode("le chat")
    [5, 6]
    >>> vocabulary.tokens([5, 6, 2]), vocabulary.decode([5, 6, 2])
    (['le', 'chat', '<eos>'], 'le chat')
    """

    pad_id, bos_id, eos_id, unk_id = PAD_ID, BOS_ID, EOS_ID, UNK_ID
    mask_id, mark_ids = UNK_ID, range(len(SPECIALS))

    def __init__(self, tokenizer: Tokenizer):
        ids = tokenizer.get_vocab()
        self._tokenizer = tokenizer
        self._pieces = sorted(ids, key=ids.__getitem__)
        if self._pieces[: len(SPECIALS)] != list(SPECIALS):
            raise InputError("not a vocabulary of qkv", expected=f"ids 0 to 3 to be {' '.join(SPECIALS)}")

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def pieces(self) -> list[str]:
        """All tokens as stored, `▁` standing for the blank before a word; place i holds the token of id i."""
        return self._pieces

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without start and end."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; padding, start and end are left out, unknown words read `<unk>`."""
        # The unknown token stands for a whole word, its blank included.
        pieces = [_BLANK + UNK if i == UNK_ID else self._pieces[i] for i in ids if i not in (PAD_ID, BOS_ID, EOS_ID)]
        return self._tokenizer.decoder.decode(pieces).strip(" ")

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The tokens of `ids` as labels to read: without the mark of the blank, or `·` where it is the whole token."""
        return [self._pieces[i].removeprefix(_BLANK) or "·" for i in ids]

    def to_json(self) -> str:
        return self._tokenizer.to_str(pretty=True)

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """The vocabulary that `to_json` wrote.

        Raises:
            InputError: the text is something else.
        """
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises the bare class
            raise InputError(f"not a vocabulary ({error})") from error
        return cls(tokenizer)


def word_of(piece: str) -> str | None:
    """The bare word (or mark) that a token starts, to look up in a list of words; None inside a word.

    >>> word_of("▁chat"), word_of("?"), word_of("tion"), word_of("▁"), word_of("<eos>")
    ('chat', '?', None, None, None)
    """
    if piece.startswith(_BLANK):
        return piece.removeprefix(_BLANK) or None
    return piece if len(piece) == 1 and not piece.isalnum() else None


def train_vocabulary(
    texts: Iterable[str], kind: Kind, size: int, *, lowercase: bool = False, min_count: int = 1
) -> Vocabulary:
    """Makes a vocabulary of at most `size` tokens, the same one whenever the texts are the same.

    `word` keeps the most frequent words and marks and reads all others as `<unk>`. `character` keeps the most
    frequent characters. `subword` starts from characters and merges the most frequent neighbours: byte-pair encoding
    (Sennrich, Haddow and Birch 2016). Neither of these two knows `<unk>`: what has no token is spelt in bytes.

    Args:
        size: the most tokens, the special ones (4, and 256 bytes where they are used) included.
        min_count: words or characters seen less often get no token.

    Raises:
        InputError: there is no text, or `size` has no room for any token.

    >>> vocabulary = train_vocabulary(["aujourd'hui", "il est là !"], "subword", size=300)
    >>> vocabulary.decode(vocabulary.encode("il est là aujourd'hui, 你好 !"))
    "il est là aujourd'hui, 你好 !"
    """
    fixed = [*SPECIALS] if kind == "word" else [*SPECIALS, *_BYTES]
    room = size - len(fixed)
    if room < 1:
        raise InputError(
            f"no room for tokens in a {kind} vocabulary", expected=f"a size above {len(fixed)}", got=str(size)
        )
    blank = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always", split=False)
    splitter = pre_tokenizers.Sequence([blank, pre_tokenizers.Split(Regex(_PIECES), "isolated")])
    folder = normalizers.Lowercase() if lowercase else normalizers.Sequence([])
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(folder.normalize_str(text)))
    if not words:
        raise InputError("there is no text to make a vocabulary from")
    if kind == "word":
        model = models.WordLevel(_numbered([*fixed, *_most_common(words, room, min_count)]), unk_token=UNK)
    else:
        characters = Counter[str]()
        for word, count in words.items():
            for character in word:
                characters[character] += count
        alphabet = _most_common(characters, room if kind == "character" else -(-room // 2), min_count)
        learned, merges = (alphabet, []) if kind == "character" else _merge(words, alphabet, room)
        model = models.BPE(_numbered([*fixed, *learned]), merges, unk_token=UNK, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = folder
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(replacement=_BLANK, prepend_scheme="always", split=False)]
    )
    return Vocabulary(tokenizer)


def alphabet_vocabulary(alphabet: str) -> Vocabulary:
    """A vocabulary of these characters alone, in their order after the special tokens; others read `<unk>`.

    Raises:
        InputError: no character, or one that comes twice.

    >>> vocabulary = alphabet_vocabulary("ab ")
    >>> len(vocabulary), vocabulary.encode("a b"), vocabulary.decode([4, 6, 5])
    (7, [4, 6, 5], 'a b')
    """
    if not alphabet or len(set(alphabet)) < len(alphabet):
        raise InputError("the alphabet cannot be used", expected="characters, each once", got=repr(alphabet))
    pieces = [_BLANK if character == " " else character for character in alphabet]
    tokenizer = Tokenizer(models.WordLevel(_numbered([*SPECIALS, *pieces]), unk_token=UNK))
    blank = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="never", split=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([blank, pre_tokenizers.Split(Regex("."), "isolated")])
    tokenizer.decoder = decoders.Metaspace(replacement=_BLANK, prepend_scheme="never", split=False)
    return Vocabulary(tokenizer)


def _most_common(counts: Counter[str], most: int, min_count: int) -> list[str]:
    """The most frequent keys; ties in the order of the keys, so that nothing depends on the order of the texts."""
    frequent = [key for key, count in counts.items() if count >= min_count]
    return sorted(frequent, key=lambda key: (-counts[key], key))[:most]


def _numbered(pieces: Iterable[str]) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(pieces)}


def _merge(words: Counter[str], alphabet: Sequence[str], room: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Byte-pair encoding of `words` over `alphabet`: the tokens, at most `room`, and the merges that make them."""
    rare = {ord(character): " " for word in words for character in word} | {ord(c): c for c in alphabet}
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=room, show_progress=False)
    learner.train_from_iterator((word.translate(rare) for word in words.elements()), trainer)
    model = json.loads(learner.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), [(left, right) for left, right in model["merges"]]
