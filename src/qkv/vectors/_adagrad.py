"""GloVe by stochastic descent: AdaGrad over the counts in random order, threads without locks.

The matrix of counts is cut into tiles, and the words of a tile's rows and columns fit into a core's own cache. Tiles
that share neither rows nor columns are descended side by side (Gemulla et al. 2011): nothing is written by two threads,
so any number of them comes to the same bits.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float32, Int32, Int64
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from scipy.sparse import csr_array

from qkv.compiled import compiled
from qkv.vectors._threads import in_threads

_LANES = 16
_CACHE = 3 << 19  # bytes of a core's own cache that the rows and columns of a tile may take
_MOST_BLOCKS = 64
_STILL = np.float32(1e30)  # a sum of squares by which no step is left


class _RowBlock(NamedTuple):
    """The counts in one block of rows, tile by tile, in random order within each."""

    rows: Int32[np.ndarray, " entries"]
    columns: Int32[np.ndarray, " entries"]
    logs: Float32[np.ndarray, " entries"]
    weights: Float32[np.ndarray, " entries"]
    offsets: Int64[np.ndarray, " tiles"]


class AdaGrad:
    """The parameters and their sums of squared gradients, and the counts in the order in which they are descended.

    A row of `rows` is `[w, b, 1]` for a word and `[c, 1, bt]` for a context, so that their product is
    `w . c + b + bt`; beside each parameter its sum of squares. The ones stay ones: their sums are too large for a step.
    """

    def __init__(
        self,
        counts: csr_array,
        tables: Sequence[Float32[np.ndarray, "words columns"]],
        *,
        x_max: float,
        alpha: float,
        rate: float,
        seed: int,
        threads: int,
    ):
        size, columns = tables[0].shape
        self.width = -(-columns // _LANES) * _LANES
        self.rate, self.seed, self.threads = np.float32(rate), seed, threads
        # Words of all frequencies in each block, so that tiles are of one size.
        self.blocks = max(1, min(_MOST_BLOCKS, size, -(-2 * size * 2 * 4 * self.width // _CACHE)))
        self._each = -(-size // self.blocks)
        self._place = np.arange(size) % self.blocks * self._each + np.arange(size) // self.blocks
        self.rows = np.zeros((2, self.blocks * self._each, 2, self.width), np.float32)
        self.rows[:, :, 1] = 1
        for side, (table, still) in enumerate(zip(tables, (columns - 1, columns - 2), strict=True)):
            self.rows[side, self._place, 0, :columns] = table
            self.rows[side, :, 1, columns - 2 : columns] = self.rate**2  # biases begin at full speed
            self.rows[side, :, 1, still] = _STILL
        self._columns = columns
        cut = partial(_row_block, counts, self.blocks, x_max, alpha, seed)
        self._counts = list(in_threads(cut, range(self.blocks), threads))

    def tables(self) -> list[Float32[np.ndarray, "words columns"]]:
        """The parameters, a row a word."""
        return [self.rows[side, self._place, 0, : self._columns] for side in (0, 1)]

    def step(self, epoch: int, unit: int) -> float:
        """Descends one tile of each block of rows; the sum of `f(x) (...)^2` as it was met."""
        shift = int(np.random.default_rng([self.seed, epoch]).permutation(self.blocks)[unit])
        return sum(in_threads(partial(self._descend, shift), range(self.blocks), self.threads))

    def _descend(self, shift: int, block: int) -> float:
        counts, other = self._counts[block], (block + shift) % self.blocks
        here = slice(counts.offsets[other], counts.offsets[other + 1])
        words, contexts = (
            self.rows[side, at * self._each : (at + 1) * self._each] for side, at in ((0, block), (1, other))
        )
        rows, columns, logs, weights, _ = counts
        return _descend(words, contexts, rows[here], columns[here], logs[here], weights[here], self.rate)


def _row_block(counts: csr_array, blocks: int, x_max: float, alpha: float, seed: int, block: int) -> _RowBlock:
    entries = int(np.diff(counts.indptr)[block::blocks].sum())
    made = _RowBlock(
        np.empty(entries, np.int32), np.empty(entries, np.int32), np.empty(entries, np.float32),
        np.empty(entries, np.float32), np.zeros(blocks + 1, np.int64),
    )  # fmt: skip
    start = np.random.default_rng([seed, block]).integers(1, 2**63, dtype=np.uint64)
    _cut_row_block(counts.indptr, counts.indices, counts.data, block, blocks, x_max, alpha, start, *made)
    return made


def weights_of(counts: Float32[np.ndarray, " entries"], x_max: float, alpha: float) -> Float32[np.ndarray, " entries"]:
    """`f(x)`: how much a count weighs (Pennington, Socher and Manning 2014, eq. 9)."""
    return np.minimum(np.float32(1), (counts / np.float32(x_max)) ** np.float32(alpha))


@no_type_check
@compiled
def _cut_row_block(indptr, indices, data, block, blocks, x_max, alpha, state, rows, columns, logs, weights, offsets):
    for row in range(block, len(indptr) - 1, blocks):
        for entry in range(indptr[row], indptr[row + 1]):
            offsets[indices[entry] % blocks + 1] += 1
    for tile in range(blocks):
        offsets[tile + 1] += offsets[tile]
    following = offsets[:-1].copy()
    for row in range(block, len(indptr) - 1, blocks):
        for entry in range(indptr[row], indptr[row + 1]):
            at = following[indices[entry] % blocks]
            following[indices[entry] % blocks] += 1
            rows[at], columns[at] = row // blocks, indices[entry] // blocks
            logs[at], weights[at] = np.log(data[entry]), min(np.float32(1), np.float32((data[entry] / x_max) ** alpha))
    for tile in range(blocks):
        for at in range(offsets[tile + 1] - 1, offsets[tile], -1):
            state ^= state << np.uint64(13)  # xorshift (Marsaglia 2003)
            state ^= state >> np.uint64(7)
            state ^= state << np.uint64(17)
            other = offsets[tile] + np.int64((state >> np.uint64(1)) % np.uint64(at + 1 - offsets[tile]))
            rows[at], rows[other] = rows[other], rows[at]
            columns[at], columns[other] = columns[other], columns[at]
            logs[at], logs[other] = logs[other], logs[at]
            weights[at], weights[other] = weights[other], weights[at]


@no_type_check
@compiled
def _descend(words, contexts, rows, columns, logs, weights, rate):
    """One AdaGrad step for every count, in their order; the weighted squares that it met, added up."""
    cost, width = 0.0, words.shape[2]
    for n in range(len(rows)):
        word, context = rows[n] * 2 * width, columns[n] * 2 * width
        difference = _dot(words, word, contexts, context, width) - logs[n]
        gradient = weights[n] * difference
        cost += gradient * difference
        _move(words, word, contexts, context, width, rate * gradient)
    return cost


# What LLVM makes of plain loops here guards against rows that overlap, at each of the counts; these do not.

_VECTOR, _INT = ir.VectorType(ir.FloatType(), _LANES), ir.IntType(64)


def _loop(builder: Any, width: Any, sums: Sequence[Any], body: Any) -> Any:
    """Calls `body(place, sums)` for every vector up to `width`; what it returns are the next sums."""
    before, along, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(along)
    builder.position_at_end(along)
    place, held = builder.phi(_INT), [builder.phi(total.type) for total in sums]
    added = body(place, held)
    following = builder.add(place, _INT(_LANES))
    for phi, first, then in ((place, _INT(0), following), *zip(held, sums, added, strict=True)):
        phi.add_incoming(first, before)
        phi.add_incoming(then, along)
    builder.cbranch(builder.icmp_signed("<", following, width), along, after)
    builder.position_at_end(after)
    return added


@no_type_check
def _pointers(context, builder, signature, arguments):
    """For a place in the row of a word and in that of a context: where its vector begins."""
    data = [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 2)]

    def pointer(side, *places):
        place = arguments[2 * side + 1]
        for further in places:
            place = builder.add(place, further)
        return builder.bitcast(builder.gep(data[side], [place]), _VECTOR.as_pointer())

    return pointer


@no_type_check
@intrinsic
def _dot(context, words, word, contexts, other, width):  # noqa: ARG001 - typed by it
    """The product of a row of words and one of contexts."""

    def generate(context, builder, signature, arguments):
        pointer, width = _pointers(context, builder, signature, arguments), arguments[4]

        def body(place, sums):
            w, c = (builder.load(pointer(side, place), align=4) for side in (0, 1))
            return [builder.fadd(sums[0], builder.fmul(w, c, flags=("fast",)), flags=("fast",))]

        (total,) = _loop(builder, width, [ir.Constant(_VECTOR, [0.0] * _LANES)], body)
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{_LANES}f32")
        return builder.call(reduce, [ir.FloatType()(0.0), total], fastmath=("fast",))

    return types.float32(words, types.int64, contexts, types.int64, types.int64), generate


@no_type_check
@intrinsic
def _move(context, words, word, contexts, other, width, step):  # noqa: ARG001 - typed by it
    """`w -= g / sqrt(G)`, then `G += g^2`, for `g = step * c`; and the same with the sides exchanged."""

    def generate(context, builder, signature, arguments):
        pointer, width, step = _pointers(context, builder, signature, arguments), arguments[4], arguments[5]
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        root = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{_LANES}f32")
        first, lanes = ir.IntType(32)(0), ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        steps = builder.shuffle_vector(builder.insert_element(undefined, step, first), undefined, lanes)

        def body(place, sums):
            where = [(pointer(side, place), pointer(side, place, width)) for side in (0, 1)]
            (w, of_w), (c, of_c) = [[builder.load(each, align=4) for each in pair] for pair in where]
            for value, squares, across, (at, at_squares) in ((w, of_w, c, where[0]), (c, of_c, w, where[1])):
                gradient = builder.fmul(steps, across, flags=("fast",))
                scaled = builder.fdiv(gradient, builder.call(root, [squares], fastmath=("fast",)), flags=("fast",))
                builder.store(builder.fsub(value, scaled, flags=("fast",)), at, align=4)
                square = builder.fmul(gradient, gradient, flags=("fast",))
                builder.store(builder.fadd(squares, square, flags=("fast",)), at_squares, align=4)
            return sums

        _loop(builder, width, [], body)
        return context.get_dummy_value()

    return types.void(words, types.int64, contexts, types.int64, types.int64, types.float32), generate
