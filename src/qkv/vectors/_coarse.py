"""Rows with one byte a number: a quarter of what must be read to score all of them for a single query.

A number is rounded to one of 255 steps, whose width each row has its own. With `w` the width, a product with a query is
off by at most `w / 2 sum |query|`, so that every group of rows has a bound above and a bound below its best score. The
k best rows lie in groups whose bound above reaches the k-th largest bound below: few, and scored again exactly.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int64

from qkv.compiled import compiled

GROUP = 32
_STRIP = 256  # rows whose sums are made side by side
_STEPS = 127
_LEAST = np.finfo(np.float32).min


class Coarse:
    """Bounds of `rows @ query + offset`, made from codes of one byte."""

    def __init__(self, rows: Float32[np.ndarray, "rows dim"], offset: Float32[np.ndarray, " rows"] | None = None):
        strips = -(-len(rows) // _STRIP)
        shape = (strips, _STRIP)
        self._width = np.zeros(shape, np.float32)
        self._offset = np.full(shape, _LEAST)  # what fills the last strip is never near
        width = np.abs(rows).max(axis=1, initial=0) / _STEPS
        self._width.reshape(-1)[: len(rows)] = width
        self._offset.reshape(-1)[: len(rows)] = 0 if offset is None else offset
        codes = np.zeros((strips * _STRIP, rows.shape[1]), np.int8)
        np.rint(rows / np.where(width == 0, 1, width)[:, None], out=codes[: len(rows)], casting="unsafe")
        self._codes = np.ascontiguousarray(codes.reshape(strips, _STRIP, -1).swapaxes(1, 2))

    def groups(self, query: Float32[np.ndarray, " dim"], top: int) -> Int64[np.ndarray, " groups"]:
        """The groups of `GROUP` neighbouring rows that can hold any of the `top` rows with the largest scores."""
        above, below = np.empty((2, self._width.size // GROUP), np.float32)
        # Half a step, and what sums in single precision are off by.
        off = np.abs(query).sum() * (0.5 + _STEPS * len(query) * np.finfo(np.float32).eps)
        _bounds(self._codes, self._width, self._offset, query, np.float32(off), above, below)
        if top >= len(below):
            return np.arange(len(below))
        return np.flatnonzero(above >= np.partition(below, -top)[-top])


@no_type_check
@compiled
def _bounds(codes, width, offset, query, off, above, below):
    dim, groups = len(query), _STRIP // GROUP
    sums = np.empty(_STRIP, np.float32)
    for strip in range(len(codes)):
        sums[:] = 0
        for d in range(dim % 4):
            for row in range(_STRIP):
                sums[row] += query[d] * np.float32(codes[strip, d, row])
        for d in range(dim % 4, dim, 4):  # sums are read and written once for four columns
            _add_four(sums, codes[strip, d : d + 4], query[d : d + 4])
        for group in range(groups):
            most = least = _LEAST
            for row in range(group * GROUP, (group + 1) * GROUP):
                score = sums[row] * width[strip, row] + offset[strip, row]
                most = max(most, score + off * width[strip, row])
                least = max(least, score - off * width[strip, row])
            above[strip * groups + group], below[strip * groups + group] = most, least


@no_type_check
@compiled
def _add_four(sums, codes, query):
    for row in range(len(sums)):
        sums[row] += (
            query[0] * np.float32(codes[0, row])
            + query[1] * np.float32(codes[1, row])
            + query[2] * np.float32(codes[2, row])
            + query[3] * np.float32(codes[3, row])
        )
