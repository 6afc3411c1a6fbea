"""Recurrent steps as their equations, and whole sequences of them with a backward pass of their own.

In a sequence only `W_hh h` has to wait for the step before. The rest is done for all steps at once: the projection of
the inputs by one product, and in the backward pass the slopes of all gates, then the gradients by inputs and weights
by one product each. In single precision on a processor the steps of an LSTM are compiled loops (`_recurrence_cpu`).

Sequences of several lengths lie as torch packs them: step after step, at each the inputs of those sequences that still
go on, the longest one first; `sizes` says how many these are. Weights are torch's: all gates of a layer below one
another, for an LSTM in the order i, f, g, o, for a GRU r, z, n.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional import _recurrence, _recurrence_cpu
from qkv.functional._inputs import values_are_there
from qkv.functional.plain import opened
from qkv.trace import step

LSTM_GATES, GRU_GATES = ("i", "f", "g", "o"), ("r", "z", "n")


# -- one step --------------------------------------------------------------------------------------------------------


def lstm_step(
    x: Float[Tensor, "*batch input"],
    state: tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]],
    weight_ih: Float[Tensor, "four_hidden input"],
    weight_hh: Float[Tensor, "four_hidden hidden"],
    bias_ih: Float[Tensor, " four_hidden"] | None = None,
    bias_hh: Float[Tensor, " four_hidden"] | None = None,
) -> tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]]:
    """The state `(h', c')` after one input (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

        i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh), each with its own rows
        g = tanh(W_ih x + b_ih + W_hh h + b_hh)
        c' = f * c + i * g
        h' = o * tanh(c')

    Records `i, f, g, o, c, h`.

    Args:
        x: the input.
        state: `(h, c)` before it.
        weight_ih, weight_hh, bias_ih, bias_hh: the rows of i, f, g and o below one another.

    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> h, c = lstm_step(one, (zero, zero), torch.tensor([[0.0], [0.0], [9.0], [0.0]]), torch.zeros(4, 1))
    >>> round(c.item(), 3), round(h.item(), 3)  # half of tanh(9), then half of tanh(1 / 2)
    (0.5, 0.231)
    """
    (h, c), gates = _lstm_step(x, *state, weight_ih, weight_hh, bias_ih, bias_hh)
    for name, value in zip((*LSTM_GATES, "c", "h"), (*gates, c, h), strict=True):
        step(name, value)
    return h, c


def _lstm_step(x: Tensor, h: Tensor, c: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Any, bias_hh: Any):
    i, f, g, o = (F.linear(x, weight_ih, bias_ih) + F.linear(h, weight_hh, bias_hh)).chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return (h, c), (i, f, g, o)


def gru_step(
    x: Float[Tensor, "*batch input"],
    h: Float[Tensor, "*batch hidden"],
    weight_ih: Float[Tensor, "three_hidden input"],
    weight_hh: Float[Tensor, "three_hidden hidden"],
    bias_ih: Float[Tensor, " three_hidden"] | None = None,
    bias_hh: Float[Tensor, " three_hidden"] | None = None,
) -> Float[Tensor, "*batch hidden"]:
    """The state `h'` after one input (Cho et al. 2014, eq. 5 to 8), in the form that torch and cuDNN have.

        r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh), each with its own rows
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    The paper resets `h` before the product, `W_hn (r * h)`; here `r` comes after it, so that all of `W_hh h` is one
    product. Records `r, z, n, h`.

    Args:
        x: the input.
        h: the state before it.
        weight_ih, weight_hh, bias_ih, bias_hh: the rows of r, z and n below one another.

    >>> gru_step(torch.ones(1), torch.ones(1), torch.zeros(3, 1), torch.zeros(3, 1))  # half of the old, half of 0
    tensor([0.5000])
    """
    h, gates = _gru_step(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    for name, value in zip((*GRU_GATES, "h"), (*gates, h), strict=True):
        step(name, value)
    return h


def _gru_step(x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Any, bias_hh: Any):
    of_x = F.linear(x, weight_ih, bias_ih).chunk(3, dim=-1)
    of_h = F.linear(h, weight_hh, bias_hh).chunk(3, dim=-1)
    r = torch.sigmoid(of_x[0] + of_h[0])
    z = torch.sigmoid(of_x[1] + of_h[1])
    n = torch.tanh(of_x[2] + r * of_h[2])
    return (1 - z) * n + z * h, (r, z, n)


# -- sequences -------------------------------------------------------------------------------------------------------


def lstm(
    x: Float[Tensor, "rows input"],
    state: tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]],
    weight_ih: Float[Tensor, "four_hidden input"],
    weight_hh: Float[Tensor, "four_hidden hidden"],
    bias_ih: Float[Tensor, " four_hidden"] | None = None,
    bias_hh: Float[Tensor, " four_hidden"] | None = None,
    *,
    sizes: Sequence[int],
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"], Float[Tensor, "rows four hidden"]]:
    """`lstm_step` along sequences: the states `h` and `c` after every input, and the gates i, f, g, o there.

    `naive_lstm` is the definition. Differentiable twice; the gates carry no gradient.

    Args:
        x: the inputs of all steps, as torch packs them.
        state: `(h, c)` before the first.
        weight_ih, weight_hh, bias_ih, bias_hh: as in `lstm_step`.
        sizes: how many sequences go on at each step; they never grow.

    Raises:
        InputTypeError: tensors of different types.
        InputError: shapes or sizes that do not fit each other.

    >>> weights = torch.zeros(4, 1), torch.zeros(4, 1)
    >>> start = torch.zeros(2, 1), torch.ones(2, 1)
    >>> h, c, gates = lstm(torch.ones(3, 1), start, *weights, sizes=[2, 1])  # two inputs, then one: 0.5 c each time
    >>> c.T, gates.shape
    (tensor([[0.5000, 0.5000, 0.2500]]), torch.Size([3, 4, 1]))
    """
    h, c = state
    _check(4, sizes, x=x, h=h, c=c, weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh)
    if opened("lstm") or not values_are_there(x):
        return naive_lstm(x, state, weight_ih, weight_hh, bias_ih, bias_hh, sizes=sizes)
    bias = None if bias_ih is None or bias_hh is None else bias_ih + bias_hh
    return _LSTM.apply(x, h, c, weight_ih, weight_hh, bias, tuple(sizes))


def naive_lstm(
    x: Float[Tensor, "rows input"],
    state: tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]],
    weight_ih: Float[Tensor, "four_hidden input"],
    weight_hh: Float[Tensor, "four_hidden hidden"],
    bias_ih: Float[Tensor, " four_hidden"] | None = None,
    bias_hh: Float[Tensor, " four_hidden"] | None = None,
    *,
    sizes: Sequence[int],
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"], Float[Tensor, "rows four hidden"]]:
    """The definition of `lstm`: one step after the other."""
    (h, c), after = state, []
    for inputs in x.split(list(sizes)):
        size = len(inputs)
        (h, c), gates = _lstm_step(inputs, h[:size], c[:size], weight_ih, weight_hh, bias_ih, bias_hh)
        after.append((h, c, torch.stack(gates, dim=1)))
    hidden, cells, all_gates = (torch.cat(parts) for parts in zip(*after, strict=True))
    return hidden, cells, all_gates.detach()


def gru(
    x: Float[Tensor, "rows input"],
    state: Float[Tensor, "batch hidden"],
    weight_ih: Float[Tensor, "three_hidden input"],
    weight_hh: Float[Tensor, "three_hidden hidden"],
    bias_ih: Float[Tensor, " three_hidden"] | None = None,
    bias_hh: Float[Tensor, " three_hidden"] | None = None,
    *,
    sizes: Sequence[int],
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows three hidden"]]:
    """`gru_step` along sequences: the state after every input, and the gates r, z, n there.

    `naive_gru` is the definition. Differentiable twice; the gates carry no gradient.

    Args:
        x: the inputs of all steps, as torch packs them.
        state: `h` before the first.
        weight_ih, weight_hh, bias_ih, bias_hh: as in `gru_step`.
        sizes: how many sequences go on at each step; they never grow.

    Raises:
        InputTypeError: tensors of different types.
        InputError: shapes or sizes that do not fit each other.

    >>> h, gates = gru(torch.ones(3, 1), torch.ones(2, 1), torch.zeros(3, 1), torch.zeros(3, 1), sizes=[2, 1])
    >>> h.T  # two inputs, then one: half of the state each time
    tensor([[0.5000, 0.5000, 0.2500]])
    """
    _check(3, sizes, x=x, h=state, weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh)
    if opened("gru") or not values_are_there(x):
        return naive_gru(x, state, weight_ih, weight_hh, bias_ih, bias_hh, sizes=sizes)
    return _GRU.apply(x, state, weight_ih, weight_hh, bias_ih, bias_hh, tuple(sizes))


def naive_gru(
    x: Float[Tensor, "rows input"],
    state: Float[Tensor, "batch hidden"],
    weight_ih: Float[Tensor, "three_hidden input"],
    weight_hh: Float[Tensor, "three_hidden hidden"],
    bias_ih: Float[Tensor, " three_hidden"] | None = None,
    bias_hh: Float[Tensor, " three_hidden"] | None = None,
    *,
    sizes: Sequence[int],
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows three hidden"]]:
    """The definition of `gru`: one step after the other."""
    h, after = state, []
    for inputs in x.split(list(sizes)):
        h, gates = _gru_step(inputs, h[: len(inputs)], weight_ih, weight_hh, bias_ih, bias_hh)
        after.append((h, torch.stack(gates, dim=1)))
    hidden, all_gates = (torch.cat(parts) for parts in zip(*after, strict=True))
    return hidden, all_gates.detach()


# -- their gradients -------------------------------------------------------------------------------------------------


class _LSTM(torch.autograd.Function):
    """`hidden` and `cells` begin with the state before the first step, so that each step reads what the last one wrote.

    Columns of a gate may be more than units, filled up with zeros, where loops want whole rows.
    """

    @staticmethod
    @no_type_check
    def forward(ctx: Any, x, h, c, weight_ih, weight_hh, bias, sizes) -> tuple[Tensor, Tensor, Tensor]:
        loops = _recurrence_cpu if _recurrence_cpu.usable(x, h) else _recurrence
        (batch, units), columns = h.shape, loops.columns(h.shape[1])
        gates = _project(x, _widened(weight_ih, units, columns), _widened(bias, units, columns), loops.empty)
        hidden, cells = (_begun(state, len(x), columns, loops.empty) for state in (h, c))
        loops.lstm_forward(sizes, _widened(weight_hh, units, columns), gates, hidden, cells)
        ctx.save_for_backward(x, h, c, weight_ih, weight_hh, bias, gates, hidden, cells)
        ctx.sizes, ctx.loops = sizes, loops
        shown = gates.unflatten(1, (4, columns))[..., :units]
        ctx.mark_non_differentiable(shown)
        return hidden[batch:, :units], cells[batch:, :units], shown

    @staticmethod
    @no_type_check
    def backward(ctx: Any, d_hidden, d_cells, _) -> tuple[Tensor | None, ...]:
        *inputs, gates, hidden, cells = ctx.saved_tensors
        x, h, c, weight_ih, weight_hh, bias = inputs
        if torch.is_grad_enabled():  # a derivative of what is returned here will be wanted
            defined = naive_lstm(x, (h, c), weight_ih, weight_hh, bias, sizes=ctx.sizes)[:2]
            return *_through(defined, inputs, ctx.needs_input_grad, (d_hidden, d_cells)), None
        units, columns = h.shape[1], hidden.shape[1]
        d_hidden, d_cells = (F.pad(d, (0, columns - units)).contiguous() for d in (d_hidden, d_cells))
        d_gates, d_h, d_c = ctx.loops.lstm_backward(
            ctx.sizes, _widened(weight_hh, units, columns), gates, cells, d_hidden, d_cells
        )
        d_gates = d_gates.unflatten(1, (4, columns))[..., :units].reshape(len(x), 4 * units)
        before = _recurrence.before(ctx.sizes, hidden)[:, :units]
        d_bias = None if bias is None else d_gates.sum(dim=0)
        d_x = d_gates @ weight_ih if ctx.needs_input_grad[0] else None
        return d_x, d_h[:, :units], d_c[:, :units], d_gates.T @ x, d_gates.T @ before, d_bias, None


class _GRU(torch.autograd.Function):
    @staticmethod
    @no_type_check
    def forward(ctx: Any, x, h, weight_ih, weight_hh, bias_ih, bias_hh, sizes) -> tuple[Tensor, Tensor]:
        gates = _project(x, weight_ih, bias_ih, _recurrence.empty)
        hidden = _begun(h, len(x), h.shape[1], _recurrence.empty)
        candidates = _recurrence.gru_forward(sizes, weight_hh, bias_hh, gates, hidden)
        ctx.save_for_backward(x, h, weight_ih, weight_hh, bias_ih, bias_hh, gates, candidates, hidden)
        ctx.sizes = sizes
        shown = gates.unflatten(1, (3, -1))
        ctx.mark_non_differentiable(shown)
        return hidden[len(h) :], shown

    @staticmethod
    @no_type_check
    def backward(ctx: Any, d_hidden, _) -> tuple[Tensor | None, ...]:
        *inputs, gates, candidates, hidden = ctx.saved_tensors
        x, _, weight_ih, weight_hh, bias_ih, _ = inputs
        if torch.is_grad_enabled():
            defined = naive_gru(*inputs, sizes=ctx.sizes)[:1]
            return *_through(defined, inputs, ctx.needs_input_grad, (d_hidden,)), None
        d_of_x, d_of_h, d_h = _recurrence.gru_backward(ctx.sizes, weight_hh, gates, candidates, hidden, d_hidden)
        before = _recurrence.before(ctx.sizes, hidden)
        biases = (None if bias_ih is None else d.sum(dim=0) for d in (d_of_x, d_of_h))
        d_x = d_of_x @ weight_ih if ctx.needs_input_grad[0] else None
        return d_x, d_h, d_of_x.T @ x, d_of_h.T @ before, *biases, None


@no_type_check
def _project(x: Tensor, weight: Tensor, bias: Tensor | None, empty: Any) -> Tensor:
    """`x @ weight.T + bias` in memory of the loops."""
    into = empty(x, len(x), len(weight))
    return torch.mm(x, weight.T, out=into) if bias is None else torch.addmm(bias, x, weight.T, out=into)


@no_type_check
def _begun(state: Tensor, rows: int, columns: int, empty: Any) -> Tensor:
    """Room for the state after each of so many rows, the first one before them."""
    states = empty(state, len(state) + rows, columns)
    states[: len(state)] = F.pad(state, (0, columns - state.shape[1]))
    return states


@no_type_check
def _widened(weight: Tensor | None, units: int, columns: int) -> Tensor | None:
    """Rows of zeros below those of each gate, up to `columns`."""
    if weight is None or units == columns:
        return weight
    gates = weight.unflatten(0, (-1, units))
    return F.pad(gates, (0, 0) * (weight.dim() - 1) + (0, columns - units)).flatten(0, 1)


@no_type_check
def _through(outputs: Any, inputs: Any, needed: Any, gradients: Any) -> list[Tensor | None]:
    """The gradients of those inputs that need one, as a graph."""
    wanted = [x for x, need in zip(inputs, needed, strict=False) if need]
    made = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=True))
    return [next(made) if need else None for need in needed[: len(inputs)]]


def _check(gates: int, sizes: Sequence[int], **tensors: Tensor | None) -> None:
    """Refuses what compiled loops would read past its end; looks at no values."""
    if torch.compiler.is_compiling():
        return
    there = {name: x for name, x in tensors.items() if x is not None}
    rows, width = there["x"].shape
    batch, units = there["h"].shape
    shapes = {
        "c": (batch, units),
        "weight_ih": (gates * units, width),
        "weight_hh": (gates * units, units),
        "bias_ih": (gates * units,),
        "bias_hh": (gates * units,),
    }
    for name, x in there.items():
        if x.shape != shapes.get(name, x.shape):
            raise InputError(
                f"{name} does not fit x and h",
                expected=f"{shapes[name]}, for an input of {width} and a state of {units}",
                got=str(tuple(x.shape)),
            )
        if x.dtype != there["x"].dtype or not x.is_floating_point():
            raise InputTypeError(
                f"{name} is of a type that cannot be used here",
                expected="one floating type for all" if name == "x" else f"{there['x'].dtype}, that of x",
                got=str(x.dtype),
            )
    if ("bias_ih" in there) != ("bias_hh" in there):
        raise InputError("only one of bias_ih and bias_hh is given", expected="both or neither")
    if not sizes or sizes[0] != batch or sum(sizes) != rows or any(a < b for a, b in pairwise(sizes)) or sizes[-1] < 0:
        raise InputError(
            "sizes do not say how the rows of x lie",
            expected=f"numbers that never grow, from {batch} on, {rows} in all",
            got=", ".join(map(str, sizes[:8])) + ", ..." * (len(sizes) > 8),
        )
