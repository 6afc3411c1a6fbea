"""Sentence pairs: read from tab-separated text, and split so that no source sentence stands on two sides."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qkv.errors import DataError, InputError
from qkv.files import read_lines

Normalisation = Literal["nfc", "nfkc", "none"]

MAX_WORDS = 1000
MAX_BAD_SHARE = 0.01

_NOT_UTF8 = "bytes that are not UTF-8"
_TOO_FEW = "too few columns"
_EMPTY = "an empty side"
_TOO_LONG = f"more than {MAX_WORDS:,} words in one field"
_HINTS = {
    _NOT_UTF8: "save the file as UTF-8",
    _TOO_FEW: "columns parted by tabs, or other column numbers (counted from 0)",
    _EMPTY: "a sentence on both sides of the tab",
    _TOO_LONG: "one sentence a line",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation."""

    source: str
    target: str


@dataclass(frozen=True)
class Skipped:
    """Lines that were left out for one reason: how many, and the numbers of the first of them.

    >>> print(Skipped("too few columns", 5, (2, 7, 11)))
    too few columns: 5 (lines 2, 7, 11, ...)
    """

    reason: str
    count: int
    lines: tuple[int, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.lines) else ""
        return f"{self.reason}: {self.count} (line{'s'[: self.count - 1]} {', '.join(map(str, self.lines))}{more})"


@dataclass(frozen=True)
class PairFile:
    """The pairs of a file in its order, and what was skipped."""

    pairs: list[Pair]
    skipped: list[Skipped]


@dataclass(frozen=True)
class TextFile:
    """The texts of a file, one for each of its lines (empty where the line could not be used), and what was skipped."""

    texts: list[str]
    skipped: list[Skipped]


@dataclass(frozen=True)
class Split:
    """Pairs to train on, to choose a model by, and to judge it by once."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]


# -- reading ---------------------------------------------------------------------------------------------------------


def normalise_text(text: str, form: Normalisation = "nfkc") -> str:
    """`text` in a Unicode normal form, its blanks squeezed to single spaces.

    >>> normalise_text("un  cafe\\u0301\\u00a0!")
    'un café !'
    """
    if form != "none":
        text = unicodedata.normalize("NFC" if form == "nfc" else "NFKC", text)
    return " ".join(text.split())


def read_pairs(path: str | Path, *, columns: tuple[int, int] = (0, 1), normalise: Normalisation = "nfkc") -> PairFile:
    """Reads sentence pairs from tab-separated text, plain or compressed with gzip or zstd.

    Blank lines are passed over. Lines that cannot be used are skipped and counted by reason.

    Args:
        columns: where source and target stand, counted from 0; `(1, 0)` turns the direction round.
        normalise: the Unicode normal form of both sides.

    Raises:
        DataError: the file is missing, empty or damaged, or more than one line in a hundred cannot be used.
    """
    rows, skipped = _read_columns(Path(path), columns, normalise, required=True)
    return PairFile([Pair(*row) for row in rows if row], skipped)


def read_texts(path: str | Path, column: int = 0, *, normalise: Normalisation = "nfkc") -> TextFile:
    """Reads one column of a file, to predict from: text i belongs to line i + 1, so that answers stay aligned.

    Raises:
        DataError: the file is missing, empty or damaged, or more than one line in a hundred cannot be used.
    """
    rows, skipped = _read_columns(Path(path), (column,), normalise, required=False)
    return TextFile([row[0] if row else "" for row in rows], skipped)


def _read_columns(
    path: Path, columns: Sequence[int], form: Normalisation, required: bool
) -> tuple[list[list[str] | None], list[Skipped]]:
    """The fields asked for of every line, None for a line that is blank or cannot be used, and what was skipped."""
    if min(columns) < 0:
        raise InputError("a column that cannot be", expected="columns counted from 0", got=str(tuple(columns)))
    rows: list[list[str] | None] = []
    bad: dict[str, list[int]] = {}
    for number, line in read_lines(path):
        row = None
        if line is None:
            bad.setdefault(_NOT_UTF8, []).append(number)
        elif line.strip():
            row = _fields(line, columns, form, required)
            if isinstance(row, str):
                bad.setdefault(row, []).append(number)
                row = None
        rows.append(row)
    return rows, skipped_lines(path, bad, sum(row is not None for row in rows), _HINTS)


def _fields(line: str, columns: Sequence[int], form: Normalisation, required: bool) -> list[str] | str:
    """The fields asked for, or the reason why the line cannot be used."""
    fields = line.split("\t")
    if max(columns) >= len(fields):
        return _TOO_FEW
    row = [normalise_text(fields[column], form) for column in columns]
    if required and not all(row):
        return _EMPTY
    if any(field.count(" ") >= MAX_WORDS for field in row):
        return _TOO_LONG
    return row


def skipped_lines(path: Path, bad: Mapping[str, Sequence[int]], good: int, hints: Mapping[str, str]) -> list[Skipped]:
    """What was skipped of a file with `good` lines, from the numbers of its `bad` lines by reason.

    Raises:
        DataError: more than one line in a hundred, or all of them.
    """
    count = sum(map(len, bad.values()))
    if count > MAX_BAD_SHARE * (good + count):
        line, reason = min((lines[0], reason) for reason, lines in bad.items())
        raise DataError(
            f"{reason}; {count:,} of {good + count:,} lines cannot be used",
            expected="at most one bad line in a hundred",
            hint=hints[reason],
            path=path,
            line=line,
        )
    if not good:
        raise DataError("nothing but blank lines", path=path)
    return [Skipped(reason, len(lines), tuple(lines[:3])) for reason, lines in bad.items()]


# -- splitting -------------------------------------------------------------------------------------------------------


def sentence_key(text: str) -> str:
    """What two sentences share that differ in case, accents, punctuation or spacing alone.

    >>> sentence_key("Où est-il ?") == sentence_key("ou est il")
    True
    """
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    # A text of punctuation alone is its own key.
    return "".join(character for character in decomposed if character.isalnum()) or text


def split_pairs(pairs: Iterable[Pair], *, valid: float, test: float, seed: int) -> Split:
    """Splits pairs by their source sentence: no `sentence_key` of a source stands on two sides.

    The side is a function of the key and the seed alone, so pairs added later move none of those before. What this
    does not prevent: a target of the test part can also stand in the training part, with another source.

    Args:
        valid, test: shares of the source keys, in expectation.

    Raises:
        InputError: the shares leave nothing to train on, or a part that was asked for stays empty.

    >>> pairs = [Pair(f"phrase {i}", f"sentence {i}") for i in range(1000)]
    >>> parts = split_pairs(pairs, valid=0.05, test=0.1, seed=0)
    >>> len(parts.train), len(parts.valid), len(parts.test)
    (857, 40, 103)
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise InputError(
            "the parts of the split leave nothing to train on",
            expected="shares of at least 0 that sum to less than 1",
            got=f"valid={valid}, test={test}",
        )
    split = Split([], [], [])
    for pair in pairs:
        place = unit_of(sentence_key(pair.source), seed)
        (split.test if place < test else split.valid if place < test + valid else split.train).append(pair)
    for name, share, part in (("train", 1, split.train), ("valid", valid, split.valid), ("test", test, split.test)):
        if share and not part:
            raise InputError(f"no pair fell to the part {name!r}", hint="more pairs, a larger share, or another seed")
    return split


def unit_of(key: str, seed: int) -> float:
    """A number in [0, 1) that depends on the key and the seed alone."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, salt=seed.to_bytes(16, "big", signed=True)).digest()
    return int.from_bytes(digest, "big") / 2**64


def group_references(pairs: Iterable[Pair]) -> tuple[list[str], list[list[str]]]:
    """Each source once, in order of first appearance, and beside it all its translations.

    >>> group_references([Pair("oui", "yes"), Pair("non", "no"), Pair("oui", "aye")])
    (['oui', 'non'], [['yes', 'aye'], ['no']])
    """
    groups: dict[str, list[str]] = {}
    for pair in pairs:
        groups.setdefault(pair.source, []).append(pair.target)
    return list(groups), list(groups.values())
