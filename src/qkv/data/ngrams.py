"""n-grams of words as numbers, in parts for training and validation, from npz files."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from qkv.errors import DataError
from qkv.files import require_file


@dataclass(frozen=True)
class NGrams:
    """Runs of words, each a row of places in `words`."""

    words: list[str]
    train: Int64[np.ndarray, "train n"]
    valid: Int64[np.ndarray, "valid n"]


def read_ngrams(path: str | Path) -> NGrams:
    """Reads `vocab`, `train_inputs` and `valid_inputs` of an npz file.

    Where there are `train_targets` and `valid_targets` too, they are the last words of the rows.

    Raises:
        DataError: no such file or a damaged one, arrays that are absent or do not fit, numbers without a word.
    """
    path = require_file(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:  # objects, damaged, one array
        raise DataError(f"not an npz file of plain arrays ({error})", path=path) from error
    absent = [name for name in ("vocab", "train_inputs", "valid_inputs") if name not in found]
    if absent:
        raise DataError(f"no {absent[0]} in this npz file", got=", ".join(found) or "nothing", path=path)
    words = [str(word) for word in found["vocab"].reshape(-1)]
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise DataError(f"vocab has {twice!r} twice", expected="each word once", path=path)
    return NGrams(words, *(_rows(found, part, len(words), path) for part in ("train", "valid")))


def _rows(found: dict[str, np.ndarray], part: str, words: int, path: Path) -> Int64[np.ndarray, "rows n"]:
    rows = found[f"{part}_inputs"]
    if rows.ndim == 2 and f"{part}_targets" in found:
        last = found[f"{part}_targets"].reshape(-1, 1)
        if len(last) != len(rows):
            raise DataError(f"{part}_targets do not fit", expected=f"{len(rows)}", got=f"{len(last)}", path=path)
        rows = np.hstack([rows, last])
    if rows.ndim != 2 or rows.dtype.kind not in "iu" or len(rows) == 0 or rows.shape[1] < 2:
        raise DataError(
            f"{part}_inputs are no n-grams",
            expected="rows of two whole numbers or more",
            got=f"{rows.dtype} of shape {rows.shape}",
            path=path,
        )
    if rows.min() < 0 or rows.max() >= words:
        raise DataError(
            f"{part} has numbers without a word",
            expected=f"0 to {words - 1}",
            got=f"{rows.min()} to {rows.max()}",
            path=path,
        )
    return rows.astype(np.int64)
