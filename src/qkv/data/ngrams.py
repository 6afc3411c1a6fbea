"""n-grams of words as numbers: in parts for training, validation and test from npz files, and in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64

from qkv.errors import DataError, InputError
from qkv.files import open_arrays
from qkv.types import NGramBatch

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class NGrams:
    """Runs of words, each a row of places in `words`; `test` has no rows where a file has none."""

    words: list[str]
    train: Int64[np.ndarray, "train n"]
    valid: Int64[np.ndarray, "valid n"]
    test: Int64[np.ndarray, "test n"]


def read_ngrams(path: str | Path) -> NGrams:
    """Reads `vocab`, `train_inputs`, `valid_inputs` and, where there is one, `test_inputs` of an npz file.

    Where there are `train_targets` and so on too, they are the last words of the rows.

    Raises:
        DataError: no such file or a damaged one, arrays that are absent or do not fit, numbers without a word.
    """
    path = Path(path)
    with open_arrays(path) as arrays:
        found = dict(arrays)
    absent = [name for name in ("vocab", "train_inputs", "valid_inputs") if name not in found]
    if absent:
        raise DataError(f"no {absent[0]} in this npz file", got=", ".join(found) or "nothing", path=path)
    words = [str(word) for word in found["vocab"].reshape(-1)]
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise DataError(f"vocab has {twice!r} twice", expected="each word once", path=path)
    parts = {part: _rows(found, part, len(words), path) for part in PARTS if f"{part}_inputs" in found}
    n = parts["train"].shape[1]
    for part, rows in parts.items():
        if rows.shape[1] != n:
            raise DataError(
                f"{part} has rows of another length than train", expected=str(n), got=str(rows.shape[1]), path=path
            )
    return NGrams(words, **{"test": np.empty((0, n), np.int64)} | parts)


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


class NGramBatches:
    """Rows of words in batches, some word of each hidden.

    Args:
        rows: places of words, as they stand in the text.
        batch_size: rows in a batch; the last one of an epoch has those that are left.
        seed: with the number of the epoch, all that the order depends on.
        hide: which words of a row are to be predicted: `random`, one of them, drawn anew for each row in each epoch;
            `each`, one after the other, so that an epoch has every row as often as it is long (to judge by: no luck
            is in its mean); `last`, the last one; `all`, for models that read only what stands before a word; a
            number, the word in that place, counted from 0.
        shuffle: False keeps the order of the rows.

    Raises:
        InputError: no rows, or a batch of none.

    >>> batches = NGramBatches(np.array([[5, 3, 8], [2, 9, 4]]), batch_size=1, seed=0, hide="last", shuffle=False)
    >>> [(batch.ids.tolist(), batch.hidden.tolist()) for batch in batches.epoch(0)]
    [([[5, 3, 8]], [[False, False, True]]), ([[2, 9, 4]], [[False, False, True]])]
    """

    def __init__(
        self,
        rows: Int64[np.ndarray, "rows n"],
        *,
        batch_size: int,
        seed: int,
        hide: Literal["random", "each", "last", "all"] | int,
        shuffle: bool = True,
    ):
        if rows.size == 0:
            raise InputError("no rows to make batches of", expected="one or more, of words", got=f"shape {rows.shape}")
        if batch_size < 1:
            raise InputError("batch_size is too small", expected="1 or more", got=str(batch_size))
        self.rows, self.batch_size, self.seed, self.hide, self.shuffle = rows, batch_size, seed, hide, shuffle

    def __len__(self) -> int:
        """Batches in an epoch."""
        count, n = self.rows.shape
        return -(-count // self.batch_size) * (n if self.hide == "each" else 1)

    def epoch(self, number: int, start: int = 0) -> Iterator[NGramBatch]:
        """The batches of an epoch, from batch `start` on; unless places are random, one batch has one for all rows."""
        count, n = self.rows.shape
        generator = np.random.default_rng((self.seed, number))
        fixed = self.hide if isinstance(self.hide, int) else n - 1
        place = generator.integers(n, size=count) if self.hide == "random" else np.full(count, fixed)
        order = generator.permutation(count) if self.shuffle else np.arange(count)
        per_round = -(-count // self.batch_size)
        for batch in range(start, len(self)):
            first = batch % per_round * self.batch_size
            chosen = order[first : first + self.batch_size]
            here = np.full(len(chosen), batch // per_round) if self.hide == "each" else place[chosen]
            hidden = (np.arange(n) == here[:, None]) | (self.hide == "all")
            yield NGramBatch(torch.from_numpy(self.rows[chosen]), torch.from_numpy(hidden))
