"""What the recipe sentiment reads, and which text falls to which part."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from qkv.data import (
    SETS,
    Labelled,
    LabelledSplit,
    clean_text,
    distinct,
    find,
    phrases,
    read_column,
    read_labelled,
    require_labels,
    split_labelled,
    verify,
)
from qkv.data.labelled import MAX_CHARACTERS
from qkv.errors import DataError, InputError
from qkv.types import Config

PHRASES = "phrases"
"""The embedded default: generated phrases of praise and blame."""


class LabelledConfig(Config):
    """Which columns of a table are read, and how its texts are cleaned and split."""

    text_column: str | None = None
    """The column of the texts: its name in the header, or its number, counted from 0, in a table without one."""
    label_column: str | None = None
    """The column of the labels."""
    group_column: str | None = None
    """A column that parts the texts into groups, to be judged apart; by default the named set's."""
    valid_share: float = 0.2
    """The share of the texts kept from training to choose by."""
    test_share: float = 0.2
    """The share kept from training to judge by, once; a named set that has a test part of its own is judged by that."""
    split_seed: int = 0
    """Another number draws other parts; runs can be compared only where it is the same."""


def parts(data: str, config: LabelledConfig, say: Callable[[str], None]) -> LabelledSplit:
    """The texts of a named set or file, or the generated phrases, split.

    Raises:
        DataError: texts that cannot be read, or only one label.
    """
    if data == PHRASES:
        return phrases(config.split_seed)
    rows = read(data, config, say)
    require_labels(rows, find(data))
    known = SETS.get(data)
    if known is None or "test" not in known.options:
        made = split_labelled(rows, valid=config.valid_share, test=config.test_share, seed=config.split_seed)
    else:
        test = read(known.options["test"], config, say)
        judged, *_ = distinct(test)
        kept, repeated, contradicted = distinct(rows)
        free = [row for key, row in kept.items() if key not in judged]
        rest = split_labelled(free, valid=config.valid_share, test=0.0, seed=config.split_seed)
        made = LabelledSplit(rest.train, rest.valid, test, repeated + len(kept) - len(free), contradicted)
    if made.repeated or made.contradicted:
        say(f"{data}: left out {made.repeated:,} texts that repeat others, {made.contradicted:,} with several labels")
    return made


def read(data: str, config: LabelledConfig, say: Callable[[str], None]) -> list[Labelled]:
    """All texts of a named set or file, or the generated test part; says what was skipped."""
    if data == PHRASES:
        return phrases(config.split_seed).test
    options = SETS[data].options if data in SETS else {}
    path, group = verify(data) if data in SETS else find(data), config.group_column or options.get("group")
    found = read_labelled(path, text=config.text_column, label=config.label_column, group=group)
    for skipped in found.skipped:
        say(f"{data}: skipped {skipped}")
    rows = [row for row in found.rows if row.label not in options.get("left_out", ())]
    return rows if group is None else [replace(row, group=f"{group}_{row.group}") for row in rows]


def read_known(data: str, config: LabelledConfig, labels: Sequence[str], say: Callable[[str], None]) -> list[Labelled]:
    """All texts of a named set or file, whose labels must be those of a run.

    Raises:
        DataError: another label, with its line.
    """
    rows = read(data, config, say)
    for row in rows:
        if row.label not in labels:
            raise DataError(
                f"unknown label {row.label!r}",
                expected=f"those that this run knows: {', '.join(labels)}",
                hint="the labels of the data, or a run trained with this one",
                path=data,
                line=row.line,
            )
    return rows


def read_unlabelled(data: str, config: LabelledConfig, say: Callable[[str], None]) -> list[str]:
    """The texts of a file, one for each of its rows."""
    found = read_column(find(data), config.text_column)
    for skipped in found.skipped:
        say(f"{data}: skipped {skipped}")
    return found.texts


def cleaned(rows: Sequence[Labelled], steps: Sequence[str]) -> list[str]:
    """The texts as models read them; one that cleaning leaves nothing of stays as it was."""
    return [clean_text(row.text, steps) or row.text for row in rows]


def one_text(text: str, steps: Sequence[str]) -> str:
    """A text that was typed, as models read it.

    Raises:
        InputError: it is empty, not text, or longer than the texts of a table may be.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError("the sentence is not text", expected="UTF-8", got=repr(text)) from error
    if not text.strip():
        raise InputError("the text is empty", expected="at least one word")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            "the text is too long", expected=f"at most {MAX_CHARACTERS:,} characters", got=f"{len(text):,}"
        )
    return clean_text(text, steps) or text


def fingerprint(rows: Sequence[Labelled]) -> str:
    """A short name for exactly these texts in this order."""
    digest = hashlib.blake2b(digest_size=8)
    for row in rows:
        digest.update(f"{row.label}\t{row.text}\n".encode())
    return digest.hexdigest()
