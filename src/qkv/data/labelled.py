"""Texts with labels: read from tables (CSV, TSV), and split so that no text stands on two sides."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qkv.data.cleaning import clean_text
from qkv.data.pairs import Skipped, TextFile, skipped_lines, unit_of
from qkv.errors import DataError, InputError
from qkv.files import open_bytes

MAX_CHARACTERS = 100_000
MAX_LABELS = 20

_RAGGED = "another number of columns than in the first row"
_EMPTY = "an empty text"
_NO_LABEL = "an empty label"
_TOO_LONG = f"more than {MAX_CHARACTERS:,} characters in one text"
_NOT_UTF8 = "bytes that are not UTF-8"
_HINTS = {
    _RAGGED: "quotes around a field that holds the separator",
    _EMPTY: "a text in every row, or another --text-column",
    _NO_LABEL: "a label in every row, or another --label-column",
    _TOO_LONG: "one text a row",
    _NOT_UTF8: "save the file as UTF-8",
}

TEXT_COLUMNS = ("text", "sentence", "review", "tweet", "content")
LABEL_COLUMNS = ("label", "polarity", "sentiment", "target", "class")
_PUBLISHED = ("polarity", "id", "date", "query", "user", "text")
POLARITY = {"0": "negative", "2": "neutral", "4": "positive"}
"""How Sentiment140 writes its labels."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, its label, the group that its row belongs to (empty where rows have none), and the line it began on."""

    text: str
    label: str
    group: str = ""
    line: int = 0


@dataclass(frozen=True)
class LabelledFile:
    """The texts of a file in its order, and what was skipped."""

    rows: list[Labelled]
    skipped: list[Skipped]


@dataclass(frozen=True)
class LabelledSplit:
    """Texts to train on, to choose a model by, and to judge it by once; and how many were left out beforehand.

    `repeated` stood in the data already, `contradicted` stood there with several labels.
    """

    train: list[Labelled]
    valid: list[Labelled]
    test: list[Labelled]
    repeated: int = 0
    contradicted: int = 0


# -- reading ---------------------------------------------------------------------------------------------------------


def read_labelled(
    path: str | Path, *, text: str | None = None, label: str | None = None, group: str | None = None
) -> LabelledFile:
    """Reads texts and their labels from a table, plain or compressed with gzip or zstd.

    Fields are parted by tabs where the first line has one, else by commas, else by semicolons; those of tables with
    tabs are taken as they stand, others may be quoted. The published layout of Sentiment140 (no header; polarity, id,
    date, query, user, text; rows that are not UTF-8 are Latin-1) is recognised. Rows that cannot be used are skipped
    and counted by reason.

    Args:
        text, label: columns, by their names in the header, or counted from 0 in a table without one; by default the
            first of `TEXT_COLUMNS` and of `LABEL_COLUMNS` that the header has. The 0, 2 and 4 of a column `polarity`
            are told as `POLARITY` has them.
        group: a column that parts the rows into groups, to be judged apart.

    Raises:
        DataError: the file is missing, empty or damaged, has no such column, or more than one row in a hundred cannot
            be used.
    """
    path = Path(path)
    wanted = {"text": text, "label": label} | ({} if group is None else {"group": group})
    layout = _layout(path, wanted)
    bad: dict[str, list[int]] = defaultdict(list)
    rows: list[Labelled] = []
    for line, fields in _rows(path, layout, bad):
        if fields is None:
            continue
        found = {name: fields[place].strip() for name, place in layout.places.items()}
        problem = _problem(found["text"]) or (None if found["label"] else _NO_LABEL)
        if problem is not None:
            bad[problem].append(line)
            continue
        if layout.polarity:
            found["label"] = POLARITY.get(found["label"], found["label"])
        rows.append(Labelled(**found, line=line))
    skipped = skipped_lines(path, bad, len(rows), _HINTS)
    return LabelledFile(rows, skipped)


def require_labels(rows: Sequence[Labelled], path: str | Path) -> list[str]:
    """The labels of texts to train on, sorted.

    Raises:
        DataError: there is only one, or there are more than `MAX_LABELS`.
    """
    labels = sorted({row.label for row in rows})
    if not 2 <= len(labels) <= MAX_LABELS:
        raise DataError(
            "all texts have the same label" if len(labels) == 1 else f"{len(labels):,} different labels",
            expected=f"2 to {MAX_LABELS} labels",
            got=", ".join(repr(name) for name in labels[:3]),
            hint="another --label-column",
            path=path,
        )
    return labels


def read_column(path: str | Path, text: str | None = None) -> TextFile:
    """Reads the texts of a table, to predict from: one for each row, so that answers stay aligned.

    Args:
        text: the column, as in `read_labelled`; a file without a column called as usual is one text a line.

    Raises:
        DataError: the file is missing, empty or damaged, has no such column, or more than one row in a hundred cannot
            be used.
    """
    path = Path(path)
    layout = _layout(path, {"text": text}, lines_too=text is None)
    bad: dict[str, list[int]] = defaultdict(list)
    texts: list[str] = []
    for line, fields in _rows(path, layout, bad):
        texts.append("")
        if fields is not None:
            found = fields[layout.places["text"]].strip()
            if (problem := _problem(found)) is not None:
                bad[problem].append(line)
            else:
                texts[-1] = found
    return TextFile(texts, skipped_lines(path, bad, sum(map(bool, texts)), _HINTS))


def _problem(text: str) -> str | None:
    return _EMPTY if not text else _TOO_LONG if len(text) > MAX_CHARACTERS else None


@dataclass(frozen=True)
class _Layout:
    """How a table is laid out: where which column stands, and what its first row is."""

    separator: str
    places: dict[str, int]
    width: int
    header: bool
    published: bool
    polarity: bool


def _layout(path: Path, wanted: Mapping[str, str | None], *, lines_too: bool = False) -> _Layout:
    """Where the wanted columns stand; with `lines_too`, a file that has them not is one text a line."""
    with _open_text(path) as file:
        first = next((line for line in file if line.strip()), None)
    if first is None:
        raise DataError("nothing but blank lines", path=path)
    separator = next((mark for mark in "\t,;" if mark in first), ",")
    fields = next(csv.reader([first], delimiter=separator, quoting=_quoting(separator)))
    published = len(fields) == 6 and fields[0] in POLARITY and fields[1].isdecimal()
    names = [name.strip().casefold() for name in (_PUBLISHED if published else fields)]
    if lines_too and not set(names) & {*TEXT_COLUMNS}:
        return _Layout("\x1f", {"text": 0}, 1, header=False, published=False, polarity=False)
    places = {what: _place(what, name, names, path) for what, name in wanted.items()}
    named = published or not all(name is not None and name.isdecimal() for name in wanted.values())
    polarity = named and "label" in places and names[places["label"]] == "polarity"
    return _Layout(separator, places, len(fields), named and not published, published, polarity)


def _place(what: str, wanted: str | None, names: Sequence[str], path: Path) -> int:
    """The place of a column that is asked for by name or number, or that is called as usual."""
    if wanted is not None and wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    usual = {"text": TEXT_COLUMNS, "label": LABEL_COLUMNS}.get(what, ()) if wanted is None else (wanted.casefold(),)
    place = next((names.index(name) for name in usual if name in names), None)
    if place is None:
        raise DataError(
            f"no column for the {what}",
            expected=f"a first line with {' or '.join(usual)}",
            got=", ".join(name[:30] for name in names[:12]),
            hint=f"--{what}-column with a name of it, or with a number, counted from 0, where it is no header",
            path=path,
            line=1,
        )
    return place


@contextmanager
def _open_text(path: Path) -> Iterator[Iterable[str]]:
    """The lines of a file; a byte that is not UTF-8 becomes a lone surrogate, by which its row is known later."""
    with open_bytes(path) as file:
        yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")  # pyright: ignore


def _quoting(separator: str) -> Literal[0, 3]:
    """Fields between commas may be quoted; between tabs a quote is a character like any."""
    return csv.QUOTE_MINIMAL if separator in ",;" else csv.QUOTE_NONE


def _rows(path: Path, layout: _Layout, bad: dict[str, list[int]]) -> Iterator[tuple[int, list[str] | None]]:
    """The fields of each row and the line that it begins on; None for one that cannot be read, which goes to `bad`."""
    with _open_text(path) as file:
        reader = csv.reader(file, delimiter=layout.separator, quoting=_quoting(layout.separator))
        waiting = layout.header
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader, None)
                if fields is None:
                    return
            except csv.Error as error:  # a field past the limit of the library, which is above ours
                if reader.line_num > line:  # what follows it cannot be trusted
                    hint = "close the quote that opens on this line"
                    raise DataError(f"{_TOO_LONG}, over many lines", hint=hint, path=path, line=line) from error
                bad[_TOO_LONG].append(line)
                yield line, None
                continue
            if not any(fields):
                continue
            if waiting:
                waiting = False
            elif len(fields) != layout.width:
                bad[_RAGGED].append(line)
                yield line, None
            elif (fields := _text(fields, layout)) is None:
                bad[_NOT_UTF8].append(line)
                yield line, None
            else:
                yield line, fields


def _text(fields: list[str], layout: _Layout) -> list[str] | None:
    """The fields of a row without the marks of undecoded bytes; None where those cannot be told."""
    if all(map(_is_text, fields)):
        return fields
    if not layout.published:
        return None
    return [field.encode(errors="surrogateescape").decode("latin-1") for field in fields]


def _is_text(field: str) -> bool:
    return field.isascii() or not any("\udc80" <= character <= "\udcff" for character in field)


# -- splitting -------------------------------------------------------------------------------------------------------


def text_key(text: str) -> str:
    """What two texts share that differ in case, in names and addresses, or in what else `clean_text` makes alike.

    >>> text_key("@ann Thaaaanks  http://t.co/1") == text_key("@bob thaanks http://t.co/2")
    True
    """
    return clean_text(text).casefold()


def distinct(rows: Iterable[Labelled]) -> tuple[dict[str, Labelled], int, int]:
    """Each text once, by its `text_key`; how many repeated an earlier one; how many were left out, as they stood with
    several labels.

    >>> rows = [Labelled("good", "+"), Labelled("Good", "+"), Labelled("bad", "+"), Labelled("bad", "-")]
    >>> kept, repeated, contradicted = distinct(rows)
    >>> [row.text for row in kept.values()], repeated, contradicted
    (['good'], 1, 2)
    """
    by_key: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        by_key[text_key(row.text)].append(row)
    kept = {key: same[0] for key, same in by_key.items() if len({row.label for row in same}) == 1}
    contradicted = sum(len(same) for key, same in by_key.items() if key not in kept)
    return kept, sum(map(len, by_key.values())) - contradicted - len(kept), contradicted


def split_labelled(rows: Iterable[Labelled], *, valid: float, test: float, seed: int) -> LabelledSplit:
    """Splits distinct texts: no `text_key` stands on two sides, and none twice.

    The side is a function of the key and the seed alone, so texts added later move none of those before.

    Args:
        valid, test: shares, in expectation.

    Raises:
        InputError: the shares leave nothing to train on, or a label is missing from a part that was asked for.

    >>> parts = split_labelled([Labelled(f"text {i}", "ab"[i % 2]) for i in range(999)], valid=0.2, test=0.2, seed=0)
    >>> len(parts.train), len(parts.valid), len(parts.test)
    (624, 170, 205)
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise InputError(
            "the parts of the split leave nothing to train on",
            expected="shares of at least 0 that sum to less than 1",
            got=f"valid={valid}, test={test}",
        )
    kept, repeated, contradicted = distinct(rows)
    split = LabelledSplit([], [], [], repeated, contradicted)
    for key, row in kept.items():
        place = unit_of(key, seed)
        (split.test if place < test else split.valid if place < test + valid else split.train).append(row)
    labels = {row.label: row.line for row in reversed(kept.values())}
    for name, share, part in (("train", 1, split.train), ("valid", valid, split.valid), ("test", test, split.test)):
        for label in sorted(labels.keys() - {row.label for row in part} if share else ()):
            raise InputError(
                f"no text with the label {label!r} fell to the part {name!r}",
                expected="texts of every label in every part",
                got=f"{sum(row.label == label for row in kept.values())} with it, the first on line {labels[label]}",
                hint="more of them, another seed of the split, or a label that is spelt as the others are",
            )
    return split
