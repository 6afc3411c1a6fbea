"""The steps of recurrent sequences in torch's operations, forward and back, for any device and type.

`hidden` and `cells` hold the states before the first step and after every one, so that each step reads where the last
one wrote. What is written below in place was made by the caller for it.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import no_type_check

import torch
from torch import Tensor

Rows = tuple[slice, slice, slice]


def columns(units: int) -> int:
    """How many columns a gate of so many units takes."""
    return units


def empty(like: Tensor, *shape: int) -> Tensor:
    """Memory on the same device."""
    return like.new_empty(shape)


def steps(sizes: Sequence[int]) -> list[Rows]:
    """For each step its own rows, and those of the states before and after it.

    >>> steps([2, 2, 1])[2]  # the fifth input, the third and fifth of the states after inputs, two starts before them
    (slice(4, 5, None), slice(4, 5, None), slice(6, 7, None))
    """
    starts = [0, *accumulate(sizes)]
    read = [0, *(sizes[0] + start for start in starts)]
    return [
        (slice(start, start + size), slice(before, before + size), slice(sizes[0] + start, sizes[0] + start + size))
        for size, start, before in zip(sizes, starts, read, strict=False)
    ]


@no_type_check
def before(sizes: Sequence[int], states: Tensor) -> Tensor:
    """The state before each row: where no sequence ends early, these lie in one piece."""
    if sizes[0] == sizes[-1]:
        return states[: -sizes[0]] if sizes[0] else states
    return torch.cat([states[read] for _, read, _ in steps(sizes)])


@no_type_check
def lstm_forward(sizes: Sequence[int], weight: Tensor, gates: Tensor, hidden: Tensor, cells: Tensor) -> None:
    """Turns what inputs add to the gates into the gates, and writes the states."""
    by_gate = gates.unflatten(1, (4, -1))
    for here, read, write in steps(sizes):
        gates[here].addmm_(hidden[read], weight.T)
        i, f, g, o = by_gate[here].unbind(1)
        by_gate[here, :2].sigmoid_(), g.tanh_(), o.sigmoid_()
        torch.mul(f, cells[read], out=cells[write]).addcmul_(i, g)
        torch.mul(o, cells[write].tanh(), out=hidden[write])


@no_type_check
def lstm_backward(
    sizes: Sequence[int], weight: Tensor, gates: Tensor, cells: Tensor, d_hidden: Tensor, d_cells: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by what went into the gates, and by the first state.

    A gate's gradient is its slope, known for all steps at once, times that of `c` after the step (of `h`, for o).
    """
    i, f, g, o = gates.unflatten(1, (4, -1)).unbind(1)
    c, tanh = before(sizes, cells), cells[sizes[0] :].tanh()
    through_h = o * (1 - tanh.square())
    slopes = torch.stack((g * i * (1 - i), c * f * (1 - f), i * (1 - g.square()), tanh * o * (1 - o)), dim=1)
    d_gates = slopes.flatten(1)
    d_h, d_c = (d_hidden.new_zeros(sizes[0], d_hidden.shape[1]) for _ in range(2))
    for size, (here, _, _) in zip(reversed(sizes), reversed(steps(sizes)), strict=True):
        through = d_h[:size].add_(d_hidden[here])
        kept = d_c[:size].add_(d_cells[here]).addcmul_(through, through_h[here])
        slopes[here, :3] *= kept[:, None]
        slopes[here, 3] *= through
        kept *= f[here]
        torch.mm(d_gates[here], weight, out=through)
    return d_gates, d_h, d_c


@no_type_check
def gru_forward(sizes: Sequence[int], weight: Tensor, bias: Tensor | None, gates: Tensor, hidden: Tensor) -> Tensor:
    """Turns what inputs add to the gates into the gates and writes the states; returns all `W_hn h + b_hn`."""
    units = hidden.shape[1]
    candidates = empty(hidden, len(gates), units)
    for here, read, write in steps(sizes):
        h, (r_z, n) = hidden[read], gates[here].split((2 * units, units), dim=1)
        of_h = h @ weight.T if bias is None else torch.addmm(bias, h, weight.T)
        r_z.add_(of_h[:, : 2 * units]).sigmoid_()
        candidates[here] = of_h[:, 2 * units :]
        r, z = r_z.chunk(2, dim=1)
        n.addcmul_(r, candidates[here]).tanh_()
        torch.lerp(n, h, z, out=hidden[write])
    return candidates


@no_type_check
def gru_backward(
    sizes: Sequence[int], weight: Tensor, gates: Tensor, candidates: Tensor, hidden: Tensor, d_hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by what inputs and by what states put into the gates, and by the first state.

    Every gate's is its slope, known for all steps at once, times the gradient by `h` after the step.
    """
    r, z, n = gates.unflatten(1, (3, -1)).unbind(1)
    slope_n = (1 - z) * (1 - n.square())
    slope_r, slope_z = slope_n * candidates * r * (1 - r), (before(sizes, hidden) - n) * z * (1 - z)
    slopes = torch.stack((slope_r, slope_z, slope_n * r), dim=1)
    d_of_h = slopes.flatten(1)
    d_h = d_hidden.new_zeros(sizes[0], d_hidden.shape[1])
    d_after = torch.empty_like(slope_n)
    for size, (here, _, _) in zip(reversed(sizes), reversed(steps(sizes)), strict=True):
        through = torch.add(d_h[:size], d_hidden[here], out=d_after[here])
        slopes[here] *= through[:, None]
        torch.addmm(through * z[here], d_of_h[here], weight, out=d_h[:size])
    d_of_x = torch.cat((slopes[:, :2].flatten(1), slope_n * d_after), dim=1)
    return d_of_x, d_of_h, d_h
