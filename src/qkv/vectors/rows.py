"""Files of rows, a word and its numbers each: GloVe text, word2vec text and binary, fastText `.vec`; gzip, zstd too."""

import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64

from qkv.errors import DataError
from qkv.files import open_bytes
from qkv.vectors.parsing import parse_text, split_binary

MAX_DIM = 100_000
_BLOCK = 1 << 22
_LONGEST_LINE = 1 << 24
_TOLD = 5
_MARK = b"\xef\xbb\xbf"
_OTHERS = {
    b"\xba\x16\x4f\x2f": "a whole fastText model",
    b"\x80": "a pickle, which could run anything when it is read",
    b"\x93NUMPY": "an npy file, which has no words",
}


@dataclass(frozen=True)
class _Layout:
    """How a file of rows is laid out; `rows` is None where no header promises a number of them."""

    dim: int
    rows: int | None = None
    binary: bool = False


@dataclass(frozen=True)
class _Rows:
    """Rows as they come: words, vectors, the lines (rows, in binary files) that they stand on, and lines left out."""

    words: list[str]
    matrix: Float32[np.ndarray, "rows dim"]
    lines: Int64[np.ndarray, " rows"]
    left_out: Sequence[tuple[int, str]] = ()

    def where(self, keep: Sequence[bool], left_out: Sequence[tuple[int, str]] = ()) -> "_Rows":
        mask = np.array(keep, dtype=bool)
        words = [word for word, kept in zip(self.words, keep, strict=True) if kept]
        return _Rows(words, self.matrix[mask], self.lines[mask], [*self.left_out, *left_out])


def read_rows(path: Path, asked: Collection[str] | None = None) -> tuple[list[str], Float32[np.ndarray, "words dim"]]:
    """The words and vectors of a file of rows; see `qkv.vectors.formats.read`."""
    layout = _sniff(path)
    count, blocks = 0, []
    for block in (_binary_blocks if layout.binary else _text_blocks)(path, layout):
        count += len(block.words) + len(block.left_out)
        blocks.append(block if asked is None else block.where([word in asked for word in block.words]))
    if layout.rows is not None and count != layout.rows:
        raise _wrong_count(layout, str(count), path)
    found = _Rows(
        [word for block in blocks for word in block.words],
        np.concatenate([np.empty((0, layout.dim), np.float32), *(block.matrix for block in blocks)]),
        np.concatenate([np.empty(0, np.int64), *(block.lines for block in blocks)]),
        [one for block in blocks for one in block.left_out],
    )
    if len(set(found.words)) < len(found.words):
        found = _first_ones(found)
    if found.left_out:
        unit = "row" if layout.binary else "line"
        told = [f"{unit} {line} ({why})" for line, why in sorted(found.left_out)[:_TOLD]]
        told += ["more"] * (len(found.left_out) > _TOLD)
        rows = "1 row" if len(found.left_out) == 1 else f"{len(found.left_out):,} rows"
        warnings.warn(f"{path}: left out {rows}: {', '.join(told)}", stacklevel=2)
    return found.words, found.matrix


def _first_ones(rows: _Rows) -> _Rows:
    """Each word once, with the vector that stands first."""
    first: dict[str, int] = {}
    keep = [first.setdefault(word, place) == place for place, word in enumerate(rows.words)]
    again = [place for place, kept in enumerate(keep) if not kept]
    lines = rows.lines.tolist()
    left_out = [
        (lines[place], f"{rows.words[place]!r} again, as on {lines[first[rows.words[place]]]}") for place in again
    ]
    return rows.where(keep, left_out)


def _decoded(words: list[bytes], matrix: np.ndarray, lines: Int64[np.ndarray, " rows"]) -> _Rows:
    """Rows with their words as text; those that are not UTF-8 are left out."""
    try:
        return _Rows(b"\n".join(words).decode().split("\n") if words else [], matrix, lines)
    except UnicodeDecodeError:
        texts = [word.decode(errors="replace") for word in words]
        good = [text.encode() == word for text, word in zip(texts, words, strict=True)]
        left_out = [
            (line, "a word that is not UTF-8") for line, kept in zip(lines.tolist(), good, strict=True) if not kept
        ]
        return _Rows(texts, matrix, lines).where(good, left_out)


def _sniff(path: Path) -> _Layout:
    with open_bytes(path) as file:
        first, sample = file.readline(_LONGEST_LINE), file.read(4096)
    fields = first.removeprefix(_MARK).split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        rows, dim = (int(field) if len(field) < 20 else MAX_DIM + 1 for field in fields)
        if not 1 <= dim <= MAX_DIM:
            raise DataError("a header that cannot be", expected=f"1 to {MAX_DIM:,} dimensions", got=str(dim), path=path)
        return _Layout(dim, rows, binary=not _is_number(b"".join(sample.split(maxsplit=2)[1:2])))
    if not 2 <= len(fields) <= MAX_DIM + 1 or not _is_number(fields[-1]):
        other = next((what for magic, what in _OTHERS.items() if first.startswith(magic)), "")
        raise DataError(
            "not a file of word vectors",
            expected="a word and its numbers, parted by blanks",
            got=other,
            hint="the program that wrote it saves vectors as text too" if other else "",
            path=path,
            line=1,
        )
    # A word of several fields may stand on line 1 too: of it, only what stands last can be numbers.
    words = next((place for place in range(len(fields), 0, -1) if not _is_number(fields[place - 1])), 1)
    return _Layout(len(fields) - words)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _wrong_count(layout: _Layout, got: str, path: Path) -> DataError:
    return DataError(
        "not the number of rows that line 1 promises",
        expected=f"{layout.rows} rows",
        got=got,
        hint="fetch the file again: it may be cut short",
        path=path,
    )


# -- text ------------------------------------------------------------------------------------------------------------


def _text_blocks(path: Path, layout: _Layout) -> Iterator[_Rows]:
    """The rows of each block of whole lines, parsed in threads while the next ones are read."""
    threads = torch.get_num_threads()
    running: deque[Future[_Rows]] = deque()
    with open_bytes(path) as file, ThreadPoolExecutor(threads) as pool:
        line = 1
        if layout.rows is not None:
            file.readline()
            line = 2
        for text in _whole_lines(file.read, path):
            running.append(pool.submit(_parsed, text, line, layout, path))
            line += text.count(b"\n")
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _whole_lines(read: Callable[[int], bytes], path: Path) -> Iterator[bytes]:
    rest = b""
    while chunk := read(_BLOCK):
        whole, mark, last = chunk.rpartition(b"\n")
        if mark:
            yield rest + whole + mark
            rest = last
        else:
            rest += chunk
        if len(rest) > _LONGEST_LINE:
            raise DataError("not a file of word vectors", got=f"a line of more than {_LONGEST_LINE:,} bytes", path=path)
    if rest:
        yield rest + b"\n"


def _parsed(text: bytes, first: int, layout: _Layout, path: Path) -> _Rows:
    """The rows of whole lines, of which the first is the line `first` of the file."""
    count = text.count(b"\n")
    if first == 1 and text.startswith(_MARK):
        text = text.removeprefix(_MARK)
    matrix = np.empty((count, layout.dim), np.float32)
    letters, plain = np.empty(len(text), np.uint8), np.empty(count, np.bool_)
    used = parse_text(np.frombuffer(text, np.uint8), matrix, letters, plain)
    words, lines = letters[:used].tobytes().split(b"\n")[:-1], np.arange(first, first + count)
    if plain.all():
        return _decoded(words, matrix, lines)
    # Rare: words with blanks in them, numbers that need all of Python's care, and whatever is wrong.
    each, blank = text.split(b"\n"), np.zeros(count, np.bool_)
    for row in np.flatnonzero(~plain).tolist():
        fields = each[row].split()
        if fields:
            words[row], matrix[row] = _careful(fields, layout, path, first + row)
        blank[row] = not fields
    return _decoded([word for word, no in zip(words, blank, strict=True) if not no], matrix[~blank], lines[~blank])


def _careful(fields: list[bytes], layout: _Layout, path: Path, line: int) -> tuple[bytes, Float32[np.ndarray, " dim"]]:
    """The word of a row and its numbers."""
    numbers = len(fields) - 1
    # Some of GloVe's words hold blanks (". . ."), so more fields are too many only where they are numbers.
    if numbers < layout.dim or (numbers > layout.dim and _is_number(fields[-layout.dim - 1])):
        raise DataError(
            f"a row too {'short' if numbers < layout.dim else 'long'}",
            expected=f"{layout.dim} numbers after the word, as line 1 has it",
            got=str(numbers),
            hint="fetch the file again: it may be damaged",
            path=path,
            line=line,
        )
    try:
        with np.errstate(over="ignore"):
            vector = np.array(list(map(float, fields[-layout.dim :]))).astype(np.float32)
    except ValueError as error:
        raise DataError(f"not a number ({error})", path=path, line=line) from error
    if not np.isfinite(vector).all():
        raise DataError("NaN or infinity in a vector", path=path, line=line)
    return b" ".join(fields[: -layout.dim]), vector


# -- binary ----------------------------------------------------------------------------------------------------------


def _binary_blocks(path: Path, layout: _Layout) -> Iterator[_Rows]:
    done, rest, total, width = 0, b"", layout.rows or 0, 4 * layout.dim
    with open_bytes(path) as file:
        file.readline()
        while done < total and (chunk := file.read(_BLOCK)):
            data = rest + chunk
            most = min(total - done, len(data) // (width + 1))
            raw, letters = np.empty((most, width), np.uint8), np.empty(len(data), np.uint8)
            rows, at, used = split_binary(np.frombuffer(data, np.uint8), raw, letters)
            matrix = raw[:rows].view("<f4").astype(np.float32, copy=False)
            finite = np.isfinite(matrix).all(axis=1)
            if not finite.all():
                raise DataError(f"NaN or infinity in the vector of row {done + int(finite.argmin()) + 1}", path=path)
            words = letters[:used].tobytes().split(b"\n")[:-1]
            if len(words) != rows:
                raise DataError("not a file of word vectors", got="a word with a line break in it", path=path)
            yield _decoded(words, matrix, np.arange(done + 1, done + rows + 1))
            done, rest = done + rows, data[at:]
            if len(rest) > _LONGEST_LINE:
                break  # no word is so long
        if done < total:
            raise _wrong_count(layout, f"{done} whole ones", path)
        if (rest + file.read(2)).strip():
            raise _wrong_count(layout, "more", path)
