"""Files of word vectors, by their content when read, by their ending when written. Nothing is unpickled.

npz and safetensors are memory-mapped: opening one reads its words, and of the matrix only what is used. What is a
row for each word (GloVe, word2vec, fastText) is parsed by `qkv.vectors.rows`.
"""

import struct
import zipfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from qkv import files
from qkv.errors import DataError, InputError
from qkv.vectors.rows import read_rows

ENDINGS = (".txt", ".vec", ".bin", ".npz", ".safetensors")
COMPRESSIONS = (".gz", ".zst")
_ALIGNMENT = 64
_ROWS_AT_ONCE = 4096

Writer = Callable[[bytes], Any]
Content = tuple[list[str], Float32[np.ndarray, "words dim"]]


# -- reading ---------------------------------------------------------------------------------------------------------


def read(path: str | Path, words: Collection[str] | None = None) -> Content:
    """The words of a file and their vectors, in the order of the file; which format it has, the file itself says.

    GloVe text is a word and its numbers on each line. word2vec (Mikolov et al. 2013) begins with a line of two counts,
    rows and width, as fastText's `.vec` does; its rows are text as in GloVe, or the word, a blank and little-endian
    float32 values. Both come plain or compressed with gzip or zstd; where a word stands twice the first counts, words
    that are not UTF-8 are left out, and a warning tells the lines. npz holds `words` and `matrix` (or `vectors`);
    safetensors holds `matrix` (or one matrix), with the words in a JSON file of the same name beside it.

    Args:
        words: keep only these; None keeps all.

    Raises:
        DataError: a row too short or too long, a value that is not a finite number, fewer or more rows than promised,
            a file cut short, or none of these formats.
    """
    path = files.require_file(path)
    with path.open("rb") as file:
        start = file.read(9)
    asked = None if words is None else set(words)
    if start.startswith(b"PK\x03\x04"):
        known, matrix = _read_npz(path)
    elif start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        known, matrix = _read_safetensors(path)
    else:
        return read_rows(path, asked)
    if matrix.ndim != 2 or len(matrix) != len(known):
        raise DataError(
            "words and matrix do not fit", expected=f"{len(known):,} rows", got=f"shape {matrix.shape}", path=path
        )
    if asked is None:
        return known, matrix
    rows = [row for row, word in enumerate(known) if word in asked]
    return [known[row] for row in rows], matrix[rows]


def _read_npz(path: Path) -> Content:
    with files.open_arrays(path) as archive:
        name = "matrix" if "matrix" in archive else "vectors"
        if "words" not in archive or name not in archive:
            raise DataError(
                "not an npz of word vectors", expected="words and matrix", got=", ".join(archive), path=path
            )
        words, mapped = archive["words"], _mapped(path, f"{name}.npy")
        matrix = archive[name].astype(np.float32, copy=False) if mapped is None else mapped
    if words.dtype != np.uint8:  # of somebody else's making
        return [str(word) for word in words], matrix
    try:
        return words.tobytes().decode().split("\n")[:-1], matrix
    except UnicodeDecodeError as error:
        raise DataError("words that are not UTF-8", path=path) from error


def _mapped(path: Path, member: str) -> Float32[np.ndarray, "words dim"] | None:
    """An array inside a zip file as it lies on the disk, unless it is compressed, of another type or askew."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        info = archive.getinfo(member)
        file.seek(info.header_offset)
        name, extra = struct.unpack("<26xHH", file.read(30))  # of the local header, whose lengths are its own
        file.seek(name + extra, 1)
        if info.compress_type != zipfile.ZIP_STORED or np.lib.format.read_magic(file) != (1, 0):
            return None
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.dtype("<f4") or fortran or file.tell() % dtype.alignment or not np.prod(shape):
            return None
        # Copied where written to, so that the array can be used as any other and the file stays as it is.
        return np.memmap(path, dtype, "c", file.tell(), shape).view(np.ndarray)


def _read_safetensors(path: Path) -> Content:
    tensors = files.read_tensors(path)  # mapped, too
    matrix = tensors.get("matrix", next(iter(tensors.values())) if len(tensors) == 1 else None)
    if matrix is None or matrix.dim() != 2:
        raise DataError("not word vectors", expected="one matrix", got=", ".join(tensors), path=path)
    beside = path.with_suffix(".json")
    document = files.read_json(beside)
    words = document.get("words") if isinstance(document, dict) else document
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError("not the words of vectors", expected='{"words": [...]}', path=beside)
    return words, matrix.float().numpy()


# -- writing ---------------------------------------------------------------------------------------------------------


def write(path: str | Path, words: Sequence[str], matrix: Float32[np.ndarray, "words dim"]) -> Path:
    """Writes word vectors, whole or not at all, in the format of the ending.

    `.txt` is GloVe text, `.vec` text with a header as word2vec and fastText have it, `.bin` word2vec binary; after
    these `.gz` or `.zst` compresses. `.npz` and `.safetensors` (with a `.json` of the words) open at once. Numbers are
    written so that reading gives them back exactly.

    Raises:
        InputError: another ending, or a word that the format cannot hold.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    ending = ending_of(path)
    _refuse_unwritable(words, ending)
    if ending == ".npz":
        _write_npz(path, words, matrix)
    elif ending == ".safetensors":
        files.write_json(path.with_suffix(".json"), {"words": list(words)})
        files.write_tensors(path, {"matrix": torch.from_numpy(np.array(matrix))})
    else:
        with files.create_bytes(path) as file:
            if ending != ".txt":
                file.write(f"{len(words)} {matrix.shape[1]}\n".encode())
            (_write_binary if ending == ".bin" else _write_text)(file.write, words, matrix)
    return path


def ending_of(path: Path) -> str:
    """The ending that says how vectors are written there, without that of a compression.

    Raises:
        InputError: no format has it.
    """
    compressed = path.suffix in COMPRESSIONS
    ending = Path(path.stem).suffix if compressed else path.suffix
    if ending not in ENDINGS or (compressed and ending in ENDINGS[3:]):
        raise InputError(
            f"no format has the ending of {path.name}",
            expected=f"one of {', '.join(ENDINGS)}; after the first three also {' or '.join(COMPRESSIONS)}",
        )
    return ending


def _refuse_unwritable(words: Sequence[str], ending: str) -> None:
    """Words are parted by line breaks and, in files of rows, from their numbers by a blank."""
    if ending == ".safetensors":
        return
    joined = "\n".join(words)
    broken = joined.count("\n") >= len(words) > 0
    blank = ending != ".npz" and any(mark in joined for mark in " \t\r\v\f")
    if broken or blank or (ending != ".npz" and not all(words)):
        bad = next(word for word in words if not word or any(mark in word for mark in " \t\r\v\f\n"))
        raise InputError(
            f"the word {bad!r} cannot be written as {ending}", expected="words without blanks", hint=".safetensors"
        )


def _write_npz(path: Path, words: Sequence[str], matrix: Float32[np.ndarray, "words dim"]) -> None:
    letters = np.frombuffer("".join(f"{word}\n" for word in words).encode(), np.uint8)
    arrays = {"words": letters, "matrix": np.ascontiguousarray(matrix, dtype="<f4")}
    with files.atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            assert archive.fp is not None
            # A field of padding puts the numbers where they can be mapped. 30 bytes of header, 20 for large sizes.
            begins = archive.fp.tell() + 30 + len(info.filename) + 20 + 4
            info.extra = struct.pack("<HH", 0xD935, -begins % _ALIGNMENT) + bytes(-begins % _ALIGNMENT)
            with archive.open(info, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)


def _write_text(write: Writer, words: Sequence[str], matrix: Float32[np.ndarray, "words dim"]) -> None:
    line = "%s" + " %.*g" * matrix.shape[1] + "\n"
    for start in range(0, len(words), _ROWS_AT_ONCE):
        some = matrix[start : start + _ROWS_AT_ONCE].astype(np.float64)
        pairs = np.stack([_digits(some), some], axis=2).reshape(len(some), -1).astype(object)
        pairs[:, ::2] = pairs[:, ::2].astype(int)
        named = zip(words[start : start + len(some)], pairs.tolist(), strict=True)
        write("".join(line % (word, *row) for word, row in named).encode())


def _digits(numbers: np.ndarray) -> Any:
    """How many significant digits a number of single precision needs to be read back as it is: 6 to 9."""
    size = np.where(numbers == 0, 1, np.abs(numbers))
    digits = np.full(numbers.shape, 9)
    for fewer in (8, 7, 6):
        unit = 10.0 ** (np.floor(np.log10(size)) - fewer + 1)
        digits[(np.round(numbers / unit) * unit).astype(np.float32) == numbers.astype(np.float32)] = fewer
    return digits


def _write_binary(write: Writer, words: Sequence[str], matrix: Float32[np.ndarray, "words dim"]) -> None:
    for start in range(0, len(words), _ROWS_AT_ONCE):
        rows = zip(
            words[start : start + _ROWS_AT_ONCE], matrix[start : start + _ROWS_AT_ONCE].astype("<f4"), strict=True
        )
        write(b"".join(word.encode() + b" " + row.tobytes() + b"\n" for word, row in rows))
