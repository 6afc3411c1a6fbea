"""What the recipe speech reads: Morse code, spoken digits joined, recordings with transcripts; how they are spelled."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from qkv.data import (
    SETS,
    FeatureConfig,
    Recording,
    digits_by_name,
    find,
    joined,
    morse,
    read_recordings,
    split_recordings,
    verify,
)
from qkv.errors import InputError
from qkv.recipes.base import PARTED
from qkv.types import Config

MORSE = "morse"
"""The embedded default: random words keyed as Morse code, generated."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz ,.?-"

Say = Callable[[str], None]
_Bounds = Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=2), PARTED]


class RecordingsConfig(Config):
    """Which recordings are read, how they are joined and split, and how their transcripts are spelled."""

    transcripts: str | None = None
    """The file of transcripts, where it is not among the recordings: TSV (path, text), or `id|text|normalised`."""
    max_seconds: float = Field(default=30.0, gt=0)
    """Longer recordings are left out; `show` refuses them."""
    digits: _Bounds = (3, 6)
    """Of spoken digits: the fewest and the most that are joined to a sequence of one speaker; 1,1: single ones."""
    letters: _Bounds = (2, 5)
    """Of Morse code: the fewest and the most letters of a word."""
    sequences: PositiveInt = 1600
    """Of Morse code and digits: how many are drawn anew for each epoch."""
    judged: int = Field(default=300, ge=2)
    """Of Morse code and digits: how many are drawn, once, to judge by; half as many to choose by."""
    growth: NonNegativeInt = 0
    """Of Morse code and digits: over so many epochs the most letters or digits grow from 1."""
    test_speaker: str | None = None
    """A speaker kept from training, to be judged by apart."""
    alphabet: str = ALPHABET
    """The characters of transcripts, which are read in lower case; others are left out, and it is said which."""
    valid_share: float = Field(default=0.1, gt=0, lt=1)
    """Of recordings with transcripts: the share kept from training to choose the model by."""
    test_share: float = Field(default=0.1, gt=0, lt=1)
    """The share kept from training to judge the model by, once."""
    split_seed: NonNegativeInt = 0
    """Another number draws other parts; runs can be compared only where it is the same."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> "RecordingsConfig":
        for name, (least, most) in (("digits", self.digits), ("letters", self.letters)):
            if least > most:
                raise InputError(
                    f"--{name} cannot be used", expected="the fewest, then the most", got=f"{least} and {most}"
                )
        if self.alphabet != "".join(dict.fromkeys(self.alphabet.lower())):
            raise InputError(
                "--alphabet cannot be used", expected="lower-case characters, each once", got=self.alphabet
            )
        return self


@dataclass(frozen=True)
class Parts:
    """What is heard in each epoch, and the fixed parts.

    Attributes:
        stranger: the speaker kept from training.
        drawn: whether each epoch hears others.
    """

    train: Callable[[int], Sequence[Recording]]
    valid: list[Recording]
    test: list[Recording]
    stranger: list[Recording]
    drawn: bool

    @property
    def fixed(self) -> dict[str, list[Recording]]:
        """The fixed parts that are there, by their names."""
        named = {"valid": self.valid, "test": self.test, "stranger": self.stranger}
        return {name: some for name, some in named.items() if some}


def parts(data: str, config: RecordingsConfig, features: FeatureConfig, seed: int, say: Say) -> Parts:
    """The recordings of a configuration, split.

    Raises:
        DataError: recordings that cannot be read.
        InputError: too few of them, or no such speaker.
    """
    if data == MORSE:
        return _morse_parts(config, features, seed)
    recordings = read(data, config, features, say)
    split = split_recordings(
        recordings,
        valid=config.valid_share,
        test=config.test_share,
        seed=config.split_seed,
        test_speaker=config.test_speaker,
    )
    if not digits_by_name(recordings):
        return Parts(lambda _: split.train, split.valid, split.test, split.stranger, drawn=False)
    drawn = np.random.default_rng(config.split_seed)
    fixed = {
        name: joined(some, count, drawn, least=config.digits[0], most=config.digits[1]) if some else []
        for name, some, count in (
            ("valid", split.valid, config.judged // 2),
            ("test", split.test, config.judged),
            ("stranger", split.stranger, config.judged),
        )
    }

    @lru_cache(maxsize=1)
    def sequences(epoch: int) -> list[Recording]:
        generator = np.random.default_rng((seed, epoch))
        least, most = _grown(config.digits, epoch, config.growth)
        return joined(split.train, config.sequences, generator, least=least, most=most)

    return Parts(sequences, **fixed, drawn=True)


def _morse_parts(config: RecordingsConfig, features: FeatureConfig, seed: int) -> Parts:
    """Words of the fixed parts are never heard in training."""
    if config.test_speaker is not None:
        raise InputError(
            "Morse code has no speakers",
            got=f"--test-speaker {config.test_speaker}",
            hint="--data fsdd, which has five",
        )
    rate, fixed = features.sample_rate, np.random.default_rng(config.split_seed)
    test = morse(config.judged, fixed, letters=_grown(config.letters, 0, 0), sample_rate=rate)
    kept = {one.text for one in test}
    valid = morse(config.judged // 2, fixed, letters=_grown(config.letters, 0, 0), sample_rate=rate, without=kept)
    kept |= {one.text for one in valid}

    @lru_cache(maxsize=1)
    def words(epoch: int) -> list[Recording]:
        generator = np.random.default_rng((seed, epoch))
        letters = _grown(config.letters, epoch, config.growth)
        return morse(config.sequences, generator, letters=letters, sample_rate=rate, without=kept)

    return Parts(words, valid, test, [], drawn=True)


def _grown(bounds: Sequence[int], epoch: int, growth: int) -> tuple[int, int]:
    """The fewest and the most in an epoch: from 1 on in those that grow.

    >>> [_grown((3, 6), epoch, 12) for epoch in (0, 1, 2, 11, 12)]
    [(1, 1), (1, 1), (1, 2), (1, 6), (3, 6)]
    """
    least, most = bounds
    return (least, most) if epoch >= growth else (1, 1 + epoch * most // growth)


def read(data: str, config: RecordingsConfig, features: FeatureConfig, say: Say) -> list[Recording]:
    """All recordings of a named set, a folder, an archive or a manifest, spelled; says what was done to them."""
    path = verify(data) if data in SETS else find(data)
    transcripts = None if config.transcripts is None else find(config.transcripts)
    found = read_recordings(path, features, transcripts=transcripts, max_seconds=config.max_seconds)
    for note in found.notes:
        say(f"{data}: {note}")
    return spelled(found.recordings, config.alphabet, lambda note: say(f"{data}: {note}"))


def spelled(recordings: Sequence[Recording], alphabet: str, say: Say) -> list[Recording]:
    """`recordings` with their transcripts in an alphabet; says which symbols are left out, and where nothing is left.

    Raises:
        InputError: no transcript has a character of the alphabet.
    """
    unknown, changed, made = Counter[str](), 0, []
    for one in recordings:
        text = spell(one.text, alphabet)
        strange = [character for character in one.text.lower() if character not in alphabet and not character.isspace()]
        unknown.update(strange)
        changed += bool(strange)
        if text:
            made.append(replace(one, text=text))
    if not made:
        raise InputError("no transcript has a character of the alphabet", expected=alphabet, hint="--alphabet")
    if unknown:
        most = " ".join(symbol for symbol, _ in unknown.most_common(8))
        say(
            f"{sum(unknown.values()):,} symbols that the alphabet lacks are left out of {changed:,} transcripts, most "
            f"often {most} (--alphabet has them read)"
        )
    if len(made) < len(recordings):
        say(f"left out {len(recordings) - len(made):,} recordings of whose transcripts nothing is left")
    return made


def spell(text: str, alphabet: str) -> str:
    """`text` in lower case with the characters of an alphabet alone, blanks squeezed.

    >>> spell("The  Königsberg, 1887!", ALPHABET)
    'the knigsberg,'
    """
    words = ("".join(one for one in word if one in alphabet) for word in text.lower().split())
    return (" " if " " in alphabet else "").join(word for word in words if word)


def fingerprint(recordings: Sequence[Recording]) -> str:
    """A short name for exactly these recordings in this order."""
    digest = hashlib.blake2b(digest_size=8)
    for one in recordings:
        digest.update(f"{one.name}\t{one.text}\t{one.sound.shape}\n".encode())
        digest.update(one.sound[:1000].tobytes())
    return digest.hexdigest()
