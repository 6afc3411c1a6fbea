"""Text of any size as numbers of words: read block by block, parted into words, the rare ones left out.

A token is what stands between blanks of ASCII. Other choices rewrite the text first, so that one loop over its bytes
finds them all. A document ends where a line does; what stands in one document never meets a word of another.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, no_type_check

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from qkv.compiled import compiled
from qkv.errors import DataError, InputError, InputTypeError, unknown_name
from qkv.files import open_bytes, storage

Texts = Path | Iterable[Path] | Iterable[str]
TOKENS = ("words", "blanks")
DOCUMENTS = ("lines", "running")
BREAK = -1
"""Stands between two documents in a stream of words."""

_BLOCK = 1 << 22
_LONGEST_WORD = 1 << 24
_BLANKS = b" \n\t\r\x0b\x0c"
_BOM = b"\xef\xbb\xbf"
_WORD = re.compile(r"\w+(?:['’]\w+)*|\n")


# -- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """How text becomes words.

    Attributes:
        tokens: `words` are runs of letters, digits and underscores of any script, inner apostrophes included; `blanks`
            takes what stands between blanks as it is.
        lower: in lower case.
        documents: whether each of the `lines` of a file is a document, or a file is `running` text and one document.
    """

    tokens: Literal["words", "blanks"] = "words"
    lower: bool = True
    documents: Literal["lines", "running"] = "lines"

    def __post_init__(self) -> None:
        for name, given, choices in (("tokens", self.tokens, TOKENS), ("documents", self.documents, DOCUMENTS)):
            if given not in choices:
                raise unknown_name(name, str(given), choices)

    @property
    def as_it_is(self) -> bool:
        """Whether nothing is changed in a text."""
        return self == Reading("blanks", lower=False)

    def prepared(self, text: str) -> bytes:
        """The text with its words between blanks.

        >>> Reading().prepared("It's a SMALL step; a giant leap!")
        b"it's a small step a giant leap"
        """
        if self.lower:
            text = text.lower()
        return (" ".join(_WORD.findall(text)) if self.tokens == "words" else text).encode()


def blocks(texts: Texts, reading: Reading) -> Iterator[bytes]:
    """The texts as bytes whose words stand between blanks, cut where no word is; lines are documents.

    Args:
        texts: strings, each of them a document; or files, plain or compressed with gzip or zstd, and folders of them.

    Raises:
        DataError: a file that is no text in UTF-8, with the line where it is none; one that cannot be read.
        InputError: a folder without files.
        InputTypeError: neither strings nor paths; one string alone, which would be read letter by letter.
    """
    if isinstance(texts, str):
        raise InputTypeError("texts is one string", expected="paths, or several strings", hint="[text], or Path(text)")
    for text in [texts] if isinstance(texts, Path) else texts:
        if isinstance(text, Path):
            for path in text_files(text):
                yield from _file_blocks(path, reading)
        elif isinstance(text, str):
            yield reading.prepared(" ".join(text.splitlines())) + b"\n"
        else:
            raise InputTypeError("texts cannot be read", expected="paths or strings", got=type(text).__name__)


def text_files(path: Path) -> list[Path]:
    """The file, or the files of a folder and the folders in it, hidden ones left out.

    Raises:
        InputError: a folder without files.
    """
    if not path.is_dir():
        return [path]
    inner = (file for file in path.rglob("*") if file.is_file())
    found = sorted(file for file in inner if not any(part.startswith(".") for part in file.relative_to(path).parts))
    if not found:
        raise InputError("a folder without files", expected="files of text", path=path)
    return found


def _file_blocks(path: Path, reading: Reading) -> Iterator[bytes]:
    line = 1
    for block in _cut_at_blanks(path):
        text = _decoded(block, path, line)
        line += block.count(b"\n")
        if reading.as_it_is:
            yield block
            continue
        yield reading.prepared(text.replace("\n", " ") if reading.documents == "running" else text)
    yield b"\n"


def _cut_at_blanks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        rest = file.read(_BLOCK).removeprefix(_BOM)
        while more := file.read(_BLOCK):
            cut = max(rest.rfind(blank) for blank in (b" ", b"\n", b"\t")) + 1
            if cut == 0 and len(rest) > _LONGEST_WORD:
                raise DataError("no blank in 16 MB", expected="words", hint="text with blanks in it", path=path)
            if cut:
                yield rest[:cut]
            rest = rest[cut:] + more
        yield rest


def _decoded(block: bytes, path: Path, line: int) -> str:
    text, wrong = "", block.find(b"\0")
    try:
        text = block.decode()
    except UnicodeDecodeError as error:
        wrong = error.start if wrong < 0 else min(wrong, error.start)
    if wrong >= 0:
        raise DataError(
            "not text",
            expected="UTF-8",
            got=f"the byte {block[wrong]:#04x}",
            hint="the file in UTF-8 (iconv converts others)",
            path=path,
            line=line + block.count(b"\n", 0, wrong),
        )
    return text


# -- words as numbers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """A text as the ranks of its words in a vocabulary, the words that it lacks left out, `BREAK` between documents."""

    words: list[str]
    frequencies: Int64[np.ndarray, " words"]
    stream: Int32[np.ndarray, " positions"]


def read_corpus(
    texts: Texts,
    reading: Reading,
    *,
    min_count: int,
    max_words: int | None,
    words: Sequence[str] | None,
    memory: int,
) -> Corpus:
    """Reads the texts once, and ranks their words by how often they stand there; equals in the order of their bytes.

    Args:
        words: a vocabulary, which is then taken as it is.
        memory: bytes that the stream may take; beyond them it lives in a temporary file.

    Raises:
        InputError: no word is left.
    """
    table, spool = _WordTable(), Spool(np.int32, memory)
    for block in blocks(texts, reading):
        for numbers in table.numbers(np.frombuffer(block, np.uint8)):
            spool.append(numbers)
    counts = table.counts[: table.size]
    if not len(counts):
        raise InputError("the text has no words", expected="a text with words in it")
    if words is None:
        often = np.flatnonzero(counts >= min_count).tolist()
        ranked = sorted(zip((-counts[often]).tolist(), table.words(often), often, strict=True))[:max_words]
        order, names = [place for _, _, place in ranked], [name.decode() for _, name, _ in ranked]
    else:
        places = {name: place for place, name in enumerate(table.words(range(table.size)))}
        order, names = [places.get(word.encode(), -1) for word in words], list(words)
    known = np.array(order, np.int64) >= 0
    if not known.any():
        most = int(counts.argmax())
        raise InputError(
            "no word is left in the vocabulary",
            expected=f"a word that stands {min_count} times or more" if words is None else "words of the text",
            got=f"{table.words([most])[0].decode()!r}, {counts[most]} times, as the most frequent",
            hint="more text, or a smaller --min-count" if words is None else "",
        )
    rank = np.full(table.size, _LEFT_OUT, np.int32)
    rank[np.array(order)[known]] = np.flatnonzero(known)
    stream = spool.array()
    return Corpus(names, np.where(known, counts[order], 0), stream[: _keep(stream, rank)])


class Spool:
    """An array that grows at its end; past `limit` bytes it lives in a file that vanishes with it."""

    def __init__(self, dtype: type, limit: int):
        self._dtype, self._limit = np.dtype(dtype), limit
        self._held: list[np.ndarray] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, values: np.ndarray) -> None:
        self._held.append(values)
        self._bytes += values.nbytes
        if self._file is None and self._bytes <= self._limit:
            return
        with storage(tempfile.gettempdir()):
            self._file = self._file or tempfile.TemporaryFile(prefix="qkv-")  # noqa: SIM115 - see below
            for held in self._held:
                self._file.write(np.ascontiguousarray(held).data)  # tofile() does not say why it cannot
        self._held.clear()

    def array(self) -> np.ndarray:
        """All that was appended, in memory or mapped from the file."""
        if self._file is None:
            return np.concatenate(self._held) if self._held else np.empty(0, self._dtype)
        with storage(tempfile.gettempdir()):
            self._file.flush()
        return np.memmap(self._file, self._dtype, "r+").view(np.ndarray)

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()  # what is mapped stays


_LEFT_OUT = -2
_EMPTY = -1
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: its products differ in their upper bits


class _WordTable:
    """Every word met so far with a number, in the order of their first meeting, and how often it was met."""

    def __init__(self) -> None:
        self.size = self._letters = 0
        self.counts = np.zeros(1 << 16, np.int64)
        self._keys, self._ends = np.zeros(1 << 16, np.uint64), np.zeros((1 << 16) + 1, np.int64)
        self._slots, self._bytes = np.full(1 << 17, _EMPTY, np.int32), np.empty(1 << 20, np.uint8)

    def numbers(self, text: UInt8[np.ndarray, " bytes"]) -> Iterator[Int32[np.ndarray, " positions"]]:
        """The numbers of the words in `text`."""
        at = 0
        while at < len(text):
            found = np.empty(len(text) - at, np.int32)
            at, self.size, self._letters, count = _scan(
                text, at, self._slots, self._keys, self._ends, self._bytes, self.counts, self.size, found
            )
            yield found[:count].copy()
            self._make_room(len(text))

    def words(self, numbers: Iterable[int]) -> list[bytes]:
        letters, ends = self._bytes.tobytes(), self._ends.tolist()
        return [letters[ends[number] : ends[number + 1]] for number in numbers]

    def _make_room(self, letters: int) -> None:
        if self._letters + letters > len(self._bytes):
            self._bytes = np.concatenate([self._bytes, np.empty(len(self._bytes) + letters, np.uint8)])
        if 2 * self.size > len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros_like(self.counts)])
            self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
            self._ends = np.concatenate([self._ends, np.zeros_like(self._ends[1:])])
            self._slots = np.full(2 * len(self._slots), _EMPTY, np.int32)
            _place(self._slots, self._keys, self.size)


@no_type_check
@compiled
def _is_blank(byte):
    return byte == 32 or 9 <= byte <= 13


@no_type_check
@compiled
def _slot(key, mask):
    return np.int64((key * _ODD) >> np.uint64(32)) & mask


@no_type_check
@compiled
def _place(slots, keys, size):
    mask = len(slots) - 1
    for number in range(size):
        slot = _slot(keys[number], mask)
        while slots[slot] != _EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = number


@no_type_check
@compiled
def _scan(text, at, slots, keys, ends, letters, counts, size, found):
    """Numbers the words of `text` from `at` on, for as long as new ones find room; where it got to, and how many."""
    mask, n, used = len(slots) - 1, 0, ends[size]
    while at < len(text):
        byte = text[at]
        if _is_blank(byte):
            if byte == 10 and (n == 0 or found[n - 1] != BREAK):  # words before may be those of another block
                found[n] = BREAK
                n += 1
            at += 1
            continue
        # Up to eight letters are their own key; of longer words the eights before are stirred in.
        start, key, before = at, np.uint64(0), np.uint64(0)
        while at < len(text) and not _is_blank(text[at]):
            if (at - start) % 8 == 0 and at > start:
                key, before = np.uint64(0), (before ^ key) * _ODD
            key = (key << np.uint64(8)) | np.uint64(text[at])
            at += 1
        key ^= before
        slot, number, length = _slot(key, mask), _EMPTY, at - start
        while slots[slot] != _EMPTY:
            other = slots[slot]
            if keys[other] == key and ends[other + 1] - ends[other] == length:
                same = True
                if length > 8:
                    for i in range(length):
                        same = same and letters[ends[other] + i] == text[start + i]
                if same:
                    number = other
                    break
            slot = (slot + 1) & mask
        if number == _EMPTY:
            if size == len(counts) or used + length > len(letters):
                return start, size, used, n
            number = size
            slots[slot], keys[number] = number, key
            for i in range(start, at):
                letters[used] = text[i]
                used += 1
            size += 1
            ends[size] = used
        counts[number] += 1
        found[n] = number
        n += 1
    return at, size, used, n


@no_type_check
@compiled
def _keep(stream, rank):
    """Puts ranks in the place of numbers, closes up where words are left out, and tells how many are left."""
    n = 0
    for i in range(len(stream)):
        number = stream[i]
        kept = BREAK if number == BREAK else rank[number]
        if kept >= 0 or (kept == BREAK and n > 0 and stream[n - 1] != BREAK):
            stream[n] = kept
            n += 1
    return n
