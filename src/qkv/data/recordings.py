"""Recordings with what is said in them: found in a folder or a zip archive by manifest or by name, and split."""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32

from qkv.data.audio import (
    Audio,
    FeatureConfig,
    Waveform,
    at_rate,
    decode_audio,
    read_audio,
    shortest,
    too_short,
)
from qkv.errors import DataError, InputError, unknown_name
from qkv.files import open_arrays, read_text_lines, require_file

LogMel = Float32[np.ndarray, "frames mels"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGIT_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<take>\d+)\.wav")
_SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")
_LISTED = 3  # names in a message
_FEATURES = ("mel", "offsets", "max_log10", "normalized")


@dataclass(frozen=True)
class Recording:
    """A recording and what is said in it.

    Attributes:
        name: what it is called where it comes from.
        text: its transcript.
        sound: its samples, at the rate that a model reads, or its log-mel frames where only those are known.
        speaker: who speaks, where that is known.
        take: which time of saying the same this is, for spoken digits whose names tell it; else -1.
    """

    name: str
    text: str
    sound: Waveform | LogMel
    speaker: str = ""
    take: int = -1


@dataclass(frozen=True)
class RecordingFolder:
    """The recordings found, in their order, and what there is to say of how they were read."""

    recordings: list[Recording]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RecordingSplit:
    """Recordings to train on, to choose a model by, to judge it by once; and those of a speaker kept from all three."""

    train: list[Recording]
    valid: list[Recording]
    test: list[Recording]
    stranger: list[Recording] = field(default_factory=list)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_recordings(
    path: str | Path, config: FeatureConfig, *, transcripts: str | Path | None = None, max_seconds: int | float = 60.0
) -> RecordingFolder:
    """Reads recordings and their transcripts.

    `path` is a folder or a zip archive of recordings, a manifest beside them, or an npz file of log-mel features. In a
    folder or archive, transcripts stand in `transcripts`, or in the one file of these that is there:

    - a TSV manifest: path, text and, if wanted, speaker; a first line `path TAB text` is a header;
    - LJ Speech's `metadata.csv`: `id|text|normalised text`, of which the last is read;

    or are told by file names `{digit}_{speaker}_{take}.wav`. A recording that is damaged, empty, silent or too long is
    left out and noted; so are other rates and channels, and lines of `metadata.csv` without a recording.

    Raises:
        DataError: no recording that can be used, a TSV manifest that names missing files, no transcripts.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _read_features(path, config)
    if path.suffix.lower() in _SOUNDS and path.is_file():
        raise DataError(
            "one recording, without its transcript",
            expected="a folder or a zip archive of recordings, or a manifest beside them",
            path=path,
        )
    if path.is_file() and path.suffix != ".zip" and not zipfile.is_zipfile(path):
        transcripts, path = path, path.parent
    with _Store.open(path) as store:
        rows = _transcribed(store, None if transcripts is None else Path(transcripts))
        return _read_all(store, rows, config, max_seconds)


def read_sounds(path: str | Path, config: FeatureConfig, *, max_seconds: int | float = 60.0) -> RecordingFolder:
    """Reads recordings that have no transcripts: one file, or all in a folder or a zip archive. Their texts are empty.

    Raises:
        DataError: none that can be used.
    """
    path = Path(path)
    if path.is_file() and not zipfile.is_zipfile(path):
        return RecordingFolder([Recording(str(path), "", at_rate(read_audio(path, max_seconds=max_seconds), config))])
    with _Store.open(path) as store:
        rows = (_Row(name, "") for name in store.names if PurePosixPath(name).suffix.lower() in _SOUNDS)
        return _read_all(store, rows, config, max_seconds)


@dataclass(frozen=True)
class _Row:
    """A line of a manifest."""

    file: str
    text: str
    speaker: str = ""
    take: int = -1


class _Store:
    """The files of a folder or of a zip archive, by their paths inside it."""

    def __init__(self, path: Path, names: Iterable[str], archive: zipfile.ZipFile | None):
        self.path, self._archive = path, archive
        self.names = sorted(names)

    @classmethod
    def open(cls, path: Path) -> "_Store":
        if path.is_dir():
            return cls(path, (str(one.relative_to(path).as_posix()) for one in path.rglob("*") if one.is_file()), None)
        try:
            archive = zipfile.ZipFile(require_file(path))
        except zipfile.BadZipFile as error:
            raise DataError(
                "not a zip archive, or one cut short", hint="fetch it again, or unpack it first", path=path
            ) from error
        return cls(path, (name for name in archive.namelist() if not name.endswith("/")), archive)

    def __enter__(self) -> "_Store":
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def where(self, name: str) -> Path:
        return self.path / name

    def audio(self, name: str, max_seconds: int | float) -> Audio:
        if self._archive is None:
            return read_audio(self.where(name), max_seconds=max_seconds)
        return decode_audio(self._unpacked(self._archive, name), self.where(name), max_seconds=max_seconds)

    def lines(self, name: str) -> Iterator[tuple[int, str]]:
        if self._archive is None:
            yield from read_text_lines(self.where(name))
            return
        for number, line in enumerate(self._unpacked(self._archive, name).split(b"\n"), start=1):
            try:
                yield number, line.rstrip(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError("not text", expected="UTF-8", path=self.where(name), line=number) from error

    def _unpacked(self, archive: zipfile.ZipFile, name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(
                f"damaged in the archive ({error})", hint="fetch it again", path=self.where(name)
            ) from error
        except RuntimeError as error:  # encrypted, or packed in a way that Python does not know
            raise DataError(f"cannot be unpacked ({error})", hint="unpack it first", path=self.where(name)) from error


def _transcribed(store: _Store, transcripts: Path | None) -> Iterator[_Row]:
    """What is said in which file, by the transcripts given, those in the store, or the names of its files."""
    if transcripts is not None:
        rows_of = _manifest_rows if transcripts.suffix == ".tsv" else _table_rows
        return rows_of(store, transcripts, read_text_lines(transcripts))
    tables = [name for name in store.names if PurePosixPath(name).name == "metadata.csv"]
    manifests = [name for name in store.names if name.endswith(".tsv")]
    if len(tables + manifests) > 1:
        raise DataError(
            "several manifests",
            expected="one",
            got=_some(tables + manifests),
            hint="--transcripts FILE, the one that is meant",
            path=store.path,
        )
    if tables:
        return _table_rows(store, store.where(tables[0]), store.lines(tables[0]))
    if manifests:
        return _manifest_rows(store, store.where(manifests[0]), store.lines(manifests[0]))
    named = [(name, found) for name in store.names if (found := _DIGIT_NAME.fullmatch(PurePosixPath(name).name))]
    if not named:
        raise DataError(
            "nothing says what the recordings say",
            expected="a TSV manifest (path, text), LJ Speech's metadata.csv, or names such as 7_theo_0.wav",
            got=_some(store.names) or "an empty folder",
            hint="--transcripts FILE where they are elsewhere",
            path=store.path,
        )
    return (_Row(name, DIGITS[int(found["digit"])], found["speaker"], int(found["take"])) for name, found in named)


def _manifest_rows(store: _Store, path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[_Row]:
    """Rows of a TSV manifest, whose paths are seen from its own folder, or from that of the recordings."""
    inside = path.parent.relative_to(store.path).as_posix() if path.is_relative_to(store.path) else "."
    names, missing, rows = set(store.names), [], []
    for line, text in lines:
        cells = text.split("\t")
        if not text.strip() or (line == 1 and [cell.strip().lower() for cell in cells[:2]] == ["path", "text"]):
            continue
        if len(cells) < 2 or not cells[1].strip():
            raise DataError(
                "a line without a transcript", expected="path TAB text", got=repr(text[:80]), path=path, line=line
            )
        beside, within = (str(PurePosixPath(folder, cells[0])) for folder in (inside, "."))
        if beside not in names and within not in names:
            missing.append((line, cells[0]))
        rows.append(_Row(beside if beside in names else within, cells[1], cells[2].strip() if len(cells) > 2 else ""))
    if missing:
        raise DataError(
            f"the manifest names {len(missing)} recording{'s'[: len(missing) - 1]} not there",
            expected=f"files of {store.path}, as seen from there",
            got=_some([name for _, name in missing]),
            path=path,
            line=missing[0][0],
        )
    return iter(rows)


def _table_rows(store: _Store, path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[_Row]:
    """Rows of LJ Speech's layout: those of recordings that are there, since parts of that set are common."""
    files_by_id = {
        PurePosixPath(name).stem: name for name in store.names if PurePosixPath(name).suffix.lower() in _SOUNDS
    }
    for line, text in lines:
        cells = text.split("|")
        if not text.strip():
            continue
        if len(cells) < 2:
            raise DataError(
                "not a table of transcripts",
                expected="id|text|normalised text",
                got=repr(text[:80]),
                path=path,
                line=line,
            )
        if cells[0] in files_by_id:
            yield _Row(files_by_id[cells[0]], cells[-1])


def _read_all(store: _Store, rows: Iterable[_Row], config: FeatureConfig, max_seconds: int | float) -> RecordingFolder:
    """The recordings of all rows, and what had to be done to read them."""
    recordings, left_out, rates, several = [], [], Counter[int](), 0
    for row in rows:
        try:
            audio = store.audio(row.file, max_seconds)
        except DataError as error:
            left_out.append((row.file, error))
            continue
        waveform = at_rate(audio, config)
        if len(waveform) < shortest(config):
            left_out.append((row.file, too_short(row.file, config)))
            continue
        rates[audio.sample_rate] += 1
        several += audio.channels > 1
        recordings.append(Recording(row.file, row.text, waveform, row.speaker, row.take))
    notes = [
        f"{count:,} recordings of {rate:,} Hz "
        + (
            f"are read as they are, with mel filters for {config.mel_rate:,} Hz"
            if config.mel_rate
            else f"resampled to {config.sample_rate:,} Hz"
        )
        for rate, count in sorted(rates.items())
        if rate != (config.mel_rate or config.sample_rate)
    ]
    if several:
        notes.append(f"{several:,} recordings of several channels averaged to one")
    if left_out:
        names = _some([name for name, _ in left_out])
        notes.append(f"left out {len(left_out):,} recordings that cannot be used, {names}; the first: {left_out[0][1]}")
    if not recordings:
        if left_out:
            raise left_out[0][1]
        raise DataError(
            "no recording to read",
            expected=f"files such as {', '.join(_SOUNDS[:3])}, named by the transcripts if there are any",
            got=_some(store.names) or "an empty folder",
            path=store.path,
        )
    return RecordingFolder(recordings, notes)


def _read_features(path: Path, config: FeatureConfig) -> RecordingFolder:
    """Log-mel features end to end with their transcripts: `mel` in bytes, 255 for the loudest, 0 for 8 powers of ten
    below it."""
    with open_arrays(path) as arrays:
        if any(name not in arrays for name in _FEATURES):
            raise DataError("not log-mel features", expected=", ".join(_FEATURES), got=", ".join(arrays), path=path)
        mel, offsets, loudest, texts = (arrays[name] for name in _FEATURES)
        ids = arrays["ids"] if "ids" in arrays else np.arange(len(texts)).astype(str)
    count = offsets.size - 1
    fits = [
        mel.ndim == 2 and mel.dtype == np.uint8,
        offsets.ndim == 1 and offsets.dtype.kind in "iu" and count > 0,
        all(each.shape == (count,) for each in (loudest, texts, ids)) and loudest.dtype.kind == "f",
    ]
    edges = offsets.astype(np.int64) if all(fits) else np.zeros(1)
    if not all(fits) or edges[0] != 0 or edges[-1] != len(mel) or (np.diff(edges) < 1).any():
        told = {"mel": mel, "offsets": offsets, "max_log10": loudest, "normalized": texts, "ids": ids}
        raise DataError(
            "arrays that do not fit each other",
            expected="mel in bytes, (frames, mels); offsets rising from 0 to the number of frames; one max_log10, text "
            "and id for each recording",
            got=", ".join(f"{name} {array.dtype} {array.shape}" for name, array in told.items()),
            path=path,
        )
    if mel.shape[1] != config.mels:
        raise DataError(
            "features of another width than asked for",
            expected=f"{config.mels} mel filters",
            got=str(mel.shape[1]),
            hint=f"--features.mels {mel.shape[1]}, for a model that is trained on them",
            path=path,
        )
    if not np.isfinite(loudest).all():
        raise DataError("max_log10 holds NaN or infinity", path=path)
    log = [
        top - 8 + mel[start:end].astype(np.float32) * np.float32(8 / 255)
        for start, end, top in zip(offsets[:-1], offsets[1:], loudest, strict=True)
    ]
    return RecordingFolder(
        [Recording(str(name), str(text), (one + 4) / 4) for name, text, one in zip(ids, texts, log, strict=True)]
    )


def _some(names: Sequence[str]) -> str:
    """The first of some names."""
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


# -- parting and joining ---------------------------------------------------------------------------------------------

# The published split of the Free Spoken Digit Dataset tests by takes 0 to 4; those after them choose.
_TEST_TAKES, _VALID_TAKES = range(5), range(5, 10)
_MANY = 5  # recordings of a text, from which on texts are words rather than sentences


def split_recordings(
    recordings: Sequence[Recording], *, valid: float, test: float, seed: int, test_speaker: str | None = None
) -> RecordingSplit:
    """Parts recordings at random; spoken digits by their takes, of which 0 to 4 test and 5 to 9 choose.

    Recordings of one and the same text fall to one part, but where texts are few: single words, said many times.

    Args:
        valid, test: shares of the recordings.
        test_speaker: whose recordings are kept from all three parts.

    Raises:
        InputError: no such speaker, or a part without recordings.
    """
    speakers = sorted({one.speaker for one in recordings})
    if test_speaker is not None and test_speaker not in speakers:
        raise unknown_name("speaker", test_speaker, [name for name in speakers if name])
    known = [one for one in recordings if one.speaker != test_speaker]
    stranger = [one for one in recordings if one.speaker == test_speaker] if test_speaker is not None else []
    if digits_by_name(recordings):
        parts = [[], [], []]
        for one in known:
            parts[0 if one.take in _TEST_TAKES else 1 if one.take in _VALID_TAKES else 2].append(one)
        expected = "takes from 0 to 4 to judge by, from 5 to 9 to choose by, and later ones to train on"
    else:
        few = len(known) >= _MANY * len({one.text for one in known})
        kinds = [one.name if few else one.text for one in known]
        drawn = sorted(set(kinds))
        order = [drawn[i] for i in np.random.default_rng(seed).permutation(len(drawn))]
        edges = np.cumsum([max(1, round(share * len(order))) for share in (test, valid)])
        place = {kind: int(np.searchsorted(edges, rank, side="right")) for rank, kind in enumerate(order)}
        parts = [[one for one, kind in zip(known, kinds, strict=True) if place[kind] == part] for part in range(3)]
        expected = "some to train on, to choose by and to judge by, each text in one part"
    if not all(parts):
        raise InputError(
            "too few recordings to part",
            expected=expected,
            got=f"{len(recordings)} of {len({one.text for one in recordings})} texts",
        )
    return RecordingSplit(parts[2], parts[1], parts[0], stranger)


def digits_by_name(recordings: Sequence[Recording]) -> bool:
    """Whether these are takes of spoken digits, which may be joined to sequences."""
    return all(one.text in DIGITS and one.speaker and one.take >= 0 for one in recordings)


def joined(
    recordings: Sequence[Recording], count: int, generator: np.random.Generator, *, least: int, most: int
) -> list[Recording]:
    """Sequences of `least` to `most` recordings of one speaker, drawn at random and put end to end.

    >>> one = Recording("7_theo_0.wav", "seven", np.ones(3, dtype=np.float32), "theo")
    >>> joined([one], 1, np.random.default_rng(0), least=2, most=2)[0].text
    'seven seven'
    """
    by_speaker: dict[str, list[Recording]] = {}
    for one in recordings:
        by_speaker.setdefault(one.speaker, []).append(one)
    speakers, made = sorted(by_speaker), []
    for number in range(count):
        own = by_speaker[speakers[generator.integers(len(speakers))]]
        some = [own[i] for i in generator.integers(len(own), size=generator.integers(least, most + 1))]
        sound = np.concatenate([one.sound for one in some])
        made.append(Recording(f"sequence {number}", " ".join(one.text for one in some), sound, some[0].speaker))
    return made
