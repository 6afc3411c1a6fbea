"""The steps of an LSTM on a processor in single precision, forward and back, as compiled loops.

Sequences of a batch do not meet, so each thread takes some of them from the first step to the last and waits for
nobody. A step is one product, in tiles that stay in registers (`_lanes`), and a pass over gates and states, 32 units at
a time; between steps nothing goes back to the interpreter. A gate has whole rows of `LANES` columns, filled up with
zeros, which stay zeros: `tanh(0) = 0`, and no gradient comes back from them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import no_type_check

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.compiled import compiled
from qkv.functional._lanes import LANES, ROWS, every, exp, larger, panels, product, put, row
from qkv.team import side_by_side

_ONE, _TWO, _FAR = np.float32(1), np.float32(2), np.float32(-87)
_LINE = 16  # floats in a cache line


@no_type_check
@compiled
def _exp(x):
    """`e^x`, at 87 and beyond as at 87."""
    zero = every(np.float32(0))
    return exp(zero - larger(zero - x, every(_FAR)))


@no_type_check
@compiled
def _sigmoid(x):
    return every(_ONE) / (every(_ONE) + _exp(every(np.float32(0)) - x))


@no_type_check
@compiled
def _tanh(x):
    return every(_ONE) - every(_TWO) / (every(_ONE) + _exp(x + x))


@no_type_check
@compiled
def _tiles(count):
    """How many rows the tiles of so many have."""
    return (count + ROWS - 1) // ROWS * ROWS


@no_type_check
@compiled
def _forward(sizes, first, last, weight, gates, hidden, cells):
    """The sequences from `first` to `last`; `weight` is `W_hh^T` in panels of columns."""
    batch, blocks = sizes[0], hidden.shape[1] // LANES
    units = weight.shape[1]
    h = panels(last - first, blocks * LANES)
    room = panels(last - first, 4 * blocks * LANES).reshape(-1)
    for b in range(last - first):
        for u in range(blocks):
            put(h, u * h.shape[1] + b, row(hidden, (first + b) * blocks + u))
    read, here = 0, 0
    for size in sizes:
        count = min(last, size) - first
        if count <= 0:
            break
        tiles = _tiles(count)
        of_h = room[: 4 * blocks * tiles * LANES].reshape((4 * blocks, tiles, LANES))
        product(h, weight, units, of_h, False)
        for b in range(count):
            gate, state = (here + first + b) * 4 * blocks, first + b
            for u in range(blocks):
                i = _sigmoid(row(gates, gate + u) + row(of_h, u * tiles + b))
                f = _sigmoid(row(gates, gate + blocks + u) + row(of_h, (blocks + u) * tiles + b))
                g = _tanh(row(gates, gate + 2 * blocks + u) + row(of_h, (2 * blocks + u) * tiles + b))
                o = _sigmoid(row(gates, gate + 3 * blocks + u) + row(of_h, (3 * blocks + u) * tiles + b))
                c = f * row(cells, (read + state) * blocks + u) + i * g
                now = o * _tanh(c)
                put(gates, gate + u, i)
                put(gates, gate + blocks + u, f)
                put(gates, gate + 2 * blocks + u, g)
                put(gates, gate + 3 * blocks + u, o)
                put(cells, (batch + here + state) * blocks + u, c)
                put(hidden, (batch + here + state) * blocks + u, now)
                put(h, u * h.shape[1] + b, now)
        read = batch + here
        here += size


@no_type_check
@compiled
def _backward(sizes, first, last, weight, gates, cells, d_hidden, d_cells, d_gates, d_h, d_c):
    """The same sequences from the last step on; `weight` is `W_hh` in panels of columns."""
    batch, blocks = sizes[0], cells.shape[1] // LANES
    one = every(_ONE)
    came = panels(last - first, 4 * blocks * LANES)
    room = panels(last - first, blocks * LANES).reshape(-1)
    here = len(gates)
    for t in range(len(sizes) - 1, -1, -1):
        size = sizes[t]
        here -= size
        read = 0 if t == 0 else batch + here - sizes[t - 1]
        count = min(last, size) - first
        if count <= 0:
            continue
        for b in range(count):
            gate, state = (here + first + b) * 4 * blocks, first + b
            for u in range(blocks):
                at = state * blocks + u
                i, f = row(gates, gate + u), row(gates, gate + blocks + u)
                g, o = row(gates, gate + 2 * blocks + u), row(gates, gate + 3 * blocks + u)
                tanh = _tanh(row(cells, (batch + here + state) * blocks + u))
                through = row(d_h, at) + row(d_hidden, here * blocks + at)
                kept = row(d_c, at) + row(d_cells, here * blocks + at) + through * o * (one - tanh * tanh)
                d_i, d_f = kept * g * i * (one - i), kept * row(cells, read * blocks + at) * f * (one - f)
                d_g, d_o = kept * i * (one - g * g), through * tanh * o * (one - o)
                put(d_c, at, kept * f)
                for gate_of, d in ((0, d_i), (1, d_f), (2, d_g), (3, d_o)):
                    put(d_gates, gate + gate_of * blocks + u, d)
                    put(came, (gate_of * blocks + u) * came.shape[1] + b, d)
        tiles = _tiles(count)
        back = room[: blocks * tiles * LANES].reshape((blocks, tiles, LANES))
        product(came, weight, 4 * blocks * LANES, back, False)
        for b in range(count):
            for u in range(blocks):
                put(d_h, (first + b) * blocks + u, row(back, u * tiles + b))


# -- sequences in threads --------------------------------------------------------------------------------------------


def _shared(kernel: Callable[..., None], sizes: Sequence[int], *tensors: Tensor) -> None:
    """Calls `kernel` for whole tiles of sequences, as much work in each of as many threads as torch has."""
    threads, steps, arrays = torch.get_num_threads(), np.array(sizes), [tensor.numpy() for tensor in tensors]
    tiles = np.arange(0, sizes[0], ROWS)
    work = np.array([0, *(steps[:, None] > tiles).sum(axis=0).cumsum()])
    ends = ROWS * np.searchsorted(work, work[-1] * np.arange(threads + 1) / threads)
    shares = [(int(a), int(b)) for a, b in pairwise(ends.clip(max=sizes[0])) if a < b]
    side_by_side(lambda share: kernel(steps, *share, *arrays), shares)


def usable(x: Tensor, h: Tensor) -> bool:
    """Whether these can go through the loops: single precision, on a processor, and something there."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and min(x.numel(), h.numel()) > 0


def columns(units: int) -> int:
    """How many columns a gate of so many units takes."""
    return -(-units // LANES) * LANES


def empty(like: Tensor, *shape: int) -> Tensor:  # noqa: ARG001 - as `_recurrence` has it
    """Memory from NumPy, which unlike torch asks for huge pages; it begins with a cache line."""
    count = int(np.prod(shape))
    numbers = np.empty(count + _LINE, np.float32)
    start = -(numbers.ctypes.data // numbers.itemsize) % _LINE
    return torch.from_numpy(numbers[start : start + count].reshape(shape))


def lstm_forward(sizes: Sequence[int], weight: Tensor, gates: Tensor, hidden: Tensor, cells: Tensor) -> None:
    """Turns what inputs add to the gates into the gates, and writes the states."""
    across = weight.unflatten(0, (-1, LANES)).mT.contiguous()
    _shared(_forward, sizes, across, gates, hidden, cells)


def lstm_backward(
    sizes: Sequence[int], weight: Tensor, gates: Tensor, cells: Tensor, d_hidden: Tensor, d_cells: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by what went into the gates, and by the first state."""
    width = cells.shape[1]
    filled = F.pad(weight, (0, width - weight.shape[1]))
    across = filled.unflatten(1, (-1, LANES)).transpose(0, 1).contiguous()
    d_gates = empty(gates, *gates.shape)
    d_h, d_c = (torch.zeros(sizes[0], width) for _ in range(2))
    _shared(_backward, sizes, across, gates, cells, d_hidden, d_cells, d_gates, d_h, d_c)
    return d_gates, d_h, d_c
