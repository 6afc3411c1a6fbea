"""What masked language models are trained on: rows of words, from n-grams as they come or from sentences of a text."""

import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field, NonNegativeInt

from qkv.data import NGrams, docstrings, find, read_ngrams
from qkv.data.docstrings import PACKAGES
from qkv.errors import DataError, InputError, unknown_name
from qkv.files import read_text_lines
from qkv.recipes.base import PARTED
from qkv.types import MASK_ID, Config
from qkv.vectors import Reading
from qkv.vectors.corpus import text_files

DOCSTRINGS = "docstrings"
MASK, UNKNOWN = "[MASK]", "[UNK]"
# A sentence ends at its mark, at an empty line, at a rule, and where a listing of a session begins.
_END = re.compile(r"(?<=[.!?:;])\s+|\n\s*\n|\n\s*>>>|\n\s*[-=~*]{3,}")


class TextConfig(Config):
    """How a text becomes rows of words; n-grams have all this behind them."""

    length: Annotated[int, Field(ge=2)] = 4
    """Words in a row, all of one sentence."""
    vocabulary_size: Annotated[int, Field(ge=3)] = 3000
    """At most so many words, the most frequent ones; the mask and the word for all others are among them."""
    tokens: Literal["words", "blanks"] = "words"
    """Runs of letters and digits of any script, or all that stands between blanks."""
    lower: bool = True
    """In lower case."""
    packages: Annotated[tuple[str, ...], PARTED] = PACKAGES
    """Of docstrings: installed packages, parted by commas, that are read beside Python's library."""
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of its texts kept from training to choose the model by."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of its texts kept from training to judge the model by, once."""
    split_seed: NonNegativeInt = 0
    """Another number draws other parts; runs can be compared only where it is the same."""

    @property
    def reading(self) -> Reading:
        return Reading(self.tokens, self.lower)


def read_rows(data: str, text: TextConfig) -> tuple[NGrams, str]:
    """Rows in their parts, with the mask first among the words, and what is to be told of them.

    Args:
        data: `docstrings`, a named set, an npz file of n-grams, a file whose lines are texts, or a folder of them.
        text: how texts are read.

    Raises:
        InputError: an unknown name, too little text.
        DataError: a file that cannot be read; n-grams with a mask that is not first, or without a part for the test.
    """
    if is_ngrams(data):
        grams = masked(read_ngrams(find(data)), find(data))
        if not len(grams.test):
            raise DataError(
                "no test_inputs in this npz file",
                expected="a part that is read once, when all is chosen",
                hint="a share of train_inputs, as test_inputs",
                path=find(data),
            )
        return grams, f"{grams.train.shape[1]}-grams over {len(grams.words):,} words, [MASK] among them"
    texts = read_texts(data, text.packages)
    parts = _split(texts, text)
    sentences = [sentences_of(part, text.reading) for part in parts]
    counts = Counter(word for sentence in sentences[0] for word in sentence)
    room = text.vocabulary_size - 2
    known = sorted(counts, key=lambda word: (-counts[word], word))[:room]
    words = [MASK, UNKNOWN, *known]
    rows = [rows_of(part, words, text.length) for part in sentences]
    for name, part in zip(("train", "valid", "test"), rows, strict=True):
        if not len(part):
            raise InputError(
                f"the texts for {name} have no row of {text.length} words",
                expected="sentences at least as long as a row",
                got=f"{len(texts):,} different texts in all",
                hint="more text, or a smaller --length",
            )
    share = sum(counts[word] for word in known) / counts.total()
    told = (
        f"{len(texts):,} different texts; rows of {text.length} words within sentences; {len(words):,} words, which "
        f"are {share:.1%} of the training text, all others {UNKNOWN}"
    )
    return NGrams(words, *rows), told


def read_other(data: str, words: Sequence[str], length: int, text: TextConfig) -> Int64[np.ndarray, "rows length"]:
    """All rows of other data, in the words of a run; n-grams are those of their part for the test, where they have one.

    Raises:
        InputError: no row of that length.
        DataError: n-grams over other words, or a file that cannot be read.
    """
    if is_ngrams(data):
        grams = masked(read_ngrams(find(data)), find(data))
        if grams.words != list(words):
            raise DataError("n-grams over other words than those of the run", expected=f"its {len(words):,} words, "
                            "in their order", got=f"{len(grams.words):,} words", path=find(data))  # fmt: skip
        rows = grams.test if len(grams.test) else grams.train
    else:
        rows = rows_of(sentences_of(read_texts(data, text.packages), text.reading), words, length)
    if not len(rows) or rows.shape[1] != length:
        raise InputError(
            f"{data} has no row of {length} words that this run knows",
            expected=f"sentences of {length} words or more",
            got=f"rows of {rows.shape[1]} words" if len(rows) else "none",
        )
    return rows


def is_ngrams(data: str) -> bool:
    """Whether `data` names an npz file."""
    return data != DOCSTRINGS and find(data).is_file() and zipfile.is_zipfile(find(data))


def masked(grams: NGrams, path: Path) -> NGrams:
    """The same n-grams with the mask first among their words, where they have none."""
    if MASK not in grams.words:
        moved = {part: getattr(grams, part) + 1 for part in ("train", "valid", "test")}
        return NGrams([MASK, *grams.words], **moved)
    if grams.words[MASK_ID] != MASK:
        raise DataError(
            f"{MASK} is not the first word of vocab", expected="number 0", got=str(grams.words.index(MASK)), path=path
        )
    return grams


def read_texts(data: str, packages: Sequence[str] = PACKAGES) -> list[str]:
    """The different texts of `data`, in the order in which they come."""
    if data == DOCSTRINGS:
        found: Iterable[str] = docstrings(packages)
    else:
        found = (line for file in text_files(find(data)) for _, line in read_text_lines(file) if line.strip())
    texts = list(dict.fromkeys(found))
    if not texts:
        raise DataError("there is no text in it", expected="lines of words", path=find(data))
    return texts


def sentences_of(texts: Iterable[str], reading: Reading) -> list[list[str]]:
    """The words of each sentence."""
    parted = (reading.prepared(sentence).decode().split() for text in texts for sentence in _END.split(text))
    return [sentence for sentence in parted if sentence]


def rows_of(sentences: Iterable[Sequence[str]], words: Sequence[str], length: int) -> Int64[np.ndarray, "rows length"]:
    """All runs of `length` words within sentences, as places in `words`; words that it has not are unknown.

    >>> rows_of([["a", "b", "c"], ["b"], ["z", "a"]], ["[MASK]", "[UNK]", "a", "b", "c"], 2).tolist()
    [[2, 3], [3, 4], [1, 2]]
    """
    places = {word: place for place, word in enumerate(words)}
    unknown = places.get(UNKNOWN, -1)
    runs = [np.empty((0, length), np.int64)]
    for sentence in sentences:
        if len(sentence) >= length:
            ids = np.array([places.get(word, unknown) for word in sentence])
            runs.append(np.lib.stride_tricks.sliding_window_view(ids, length))
    rows = np.concatenate(runs)
    return rows[(rows >= 0).all(axis=1)]  # where no word stands for the unknown ones, their rows are left out


def _split(texts: Sequence[str], text: TextConfig) -> list[list[str]]:
    """Texts for training, validation and test: none is on two sides."""
    valid, test = (round(len(texts) * share) for share in (text.valid_share, text.test_share))
    if min(valid, test, len(texts) - valid - test) < 1:
        raise InputError(
            "too little text to hold some out",
            expected="texts for training, validation and test; a line is one",
            got=f"{len(texts)}, and shares of {text.valid_share:g} and {text.test_share:g}",
        )
    order: list[int] = np.random.default_rng(text.split_seed).permutation(len(texts)).tolist()
    cuts = (order[valid + test :], order[:valid], order[valid : valid + test])
    return [[texts[place] for place in places] for places in cuts]


# -- a phrase --------------------------------------------------------------------------------------------------------


def read_words(text: str, words: Sequence[str]) -> list[int]:
    """The numbers of the words of `text`, parted by blanks.

    A word that is not known as it stands counts in small letters, or in capitals.

    Raises:
        InputError: no word, one that is not in the vocabulary (with one that is alike).

    >>> read_words("Go to [MASK]", ["[MASK]", "go", "to"])
    [1, 2, 0]
    """
    places = {word: place for place, word in enumerate(words)}
    ids = []
    for word in text.split():
        known = next((form for form in (word, word.lower(), word.upper()) if form in places), None)
        if known is None:
            near = unknown_name("word", word, words).hint
            count = f"one of the {len(words) - 1:,} words of this run"
            raise InputError(f"{word!r} is not in the vocabulary", expected=count, hint=near)
        ids.append(places[known])
    if not ids:
        raise InputError("the phrase is empty", expected=f"words, such as 'go to {MASK} school'")
    return ids


def require_one_mask(ids: Sequence[int], length: int) -> None:
    """Refuses a phrase that is not a row with one mask.

    Raises:
        InputError: no mask or several, more words or fewer than a row has.
    """
    expected = f"{length} words, one of them {MASK}"
    masks = list(ids).count(MASK_ID)
    if masks != 1:
        raise InputError(f"the phrase has {masks or 'no'} mask{'s' * (masks > 1)}", expected=expected,
                         hint=f"{MASK} in the place of the word to be predicted")  # fmt: skip
    if len(ids) != length:
        many = "many" if len(ids) > length else "few"
        raise InputError(f"the phrase has too {many} words", expected=expected, got=str(len(ids)))
