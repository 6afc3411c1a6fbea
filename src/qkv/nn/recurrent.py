"""Recurrent cells and layers around the formulas of `functional.recurrence`, with the names and state of `torch.nn`."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from qkv.errors import InputError, InputTypeError
from qkv.functional import lengths_to_real
from qkv.functional.dropout import dropout, require_probability
from qkv.functional.recurrence import GRU_GATES, LSTM_GATES, gru, gru_step, lstm, lstm_step
from qkv.trace import recording, scope, step

State = tuple[Float[Tensor, "*layers_and_batch hidden"], Float[Tensor, "*layers_and_batch hidden"]]


# -- cells -----------------------------------------------------------------------------------------------------------


class _Recurrent(nn.Module):
    """What cells and layers share: sizes, and parameters drawn as torch draws them."""

    gates: ClassVar[Sequence[str]]

    def __init__(self, input_size: int, hidden_size: int, bias: bool):
        super().__init__()
        if min(input_size, hidden_size) < 1:
            raise InputError(
                "input_size and hidden_size cannot be sizes",
                expected="1 or more",
                got=f"{input_size} and {hidden_size}",
            )
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

    def _register(self, suffix: str, input_size: int, device: Any, dtype: Any) -> None:
        rows = len(self.gates) * self.hidden_size
        shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, self.hidden_size)}
        biases = {"bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in (shapes | biases if self.bias else shapes).items():
            setattr(self, name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))

    def reset_parameters(self) -> None:
        """Initial values as torch's: uniform, up to `1 / sqrt(hidden_size)` on either side of zero."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _weights(self, suffix: str = "") -> list[Tensor]:
        names = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * self.bias
        return [getattr(self, name + suffix) for name in names]

    def _checked(self, x: Any) -> Tensor:
        """`x` in the type of the weights; under autocast it may come in another."""
        weight = next(self.parameters())
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise InputTypeError(
                "input is of a type that cannot be read",
                expected="a floating tensor",
                got=str(x.dtype) if isinstance(x, Tensor) else type(x).__name__,
            )
        if x.shape[-1:] != (self.input_size,):
            raise InputError(
                "input is not as wide as this module was made for",
                expected=f"{self.input_size} numbers a position",
                got=f"shape {tuple(x.shape)}",
            )
        if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise InputTypeError(
                "input is of another type than the weights",
                expected=str(weight.dtype),
                got=str(x.dtype),
                hint="input.to(weight.dtype), or the module's .to(input.dtype)",
            )
        return x.to(weight.dtype)

    def _checked_state(self, name: str, state: Tensor | None, like: Tensor, *shape: int) -> Tensor:
        if state is None:
            return like.new_zeros(shape)
        if state.shape != shape:
            raise InputError(f"{name} does not fit the input", expected=f"{shape}", got=f"{tuple(state.shape)}")
        return state.to(like.dtype)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ", bias=False" * (not self.bias)


class _Cell(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, bias)
        self._register("", input_size, device, dtype)
        self.reset_parameters()


class LSTMCell(_Cell):
    """`lstm_step` with its weights, as `torch.nn.LSTMCell`.

    Args:
        input_size: the width of the input.
        hidden_size: the width of the state.
        bias: whether there are `bias_ih` and `bias_hh`.

    Raises:
        InputError: sizes below 1.

    >>> cell, state = LSTMCell(10, 20), None
    >>> for x in torch.randn(6, 3, 10):
    ...     state = cell(x, state)
    >>> [part.shape for part in state]
    [torch.Size([3, 20]), torch.Size([3, 20])]
    """

    gates = LSTM_GATES

    def forward(
        self,
        input: Float[Tensor, "*batch input"],  # noqa: A002 - torch's name
        hx: tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]] | None = None,
    ) -> tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]]:
        """The state `(h, c)` after an input; records `i, f, g, o, c, h`.

        Args:
            input: one input for each sequence, or for one sequence without a batch.
            hx: the state before it; zeros where left out.

        Raises:
            InputTypeError: an input that is not floating or not of the weights' type.
            InputError: shapes that do not fit.
        """
        x = self._checked(input)
        shape = (*x.shape[:-1], self.hidden_size)
        h, c = (None, None) if hx is None else hx
        state = self._checked_state("h", h, x, *shape), self._checked_state("c", c, x, *shape)
        with torch.autocast(x.device.type, enabled=False):
            return lstm_step(x, state, *self._weights())


class GRUCell(_Cell):
    """`gru_step` with its weights, as `torch.nn.GRUCell`.

    Args:
        input_size: the width of the input.
        hidden_size: the width of the state.
        bias: whether there are `bias_ih` and `bias_hh`.

    Raises:
        InputError: sizes below 1.

    >>> GRUCell(10, 20)(torch.randn(3, 10)).shape
    torch.Size([3, 20])
    """

    gates = GRU_GATES

    def forward(
        self,
        input: Float[Tensor, "*batch input"],  # noqa: A002 - torch's name
        hx: Float[Tensor, "*batch hidden"] | None = None,
    ) -> Float[Tensor, "*batch hidden"]:
        """The state after an input; records `r, z, n, h`.

        Args:
            input: one input for each sequence, or for one sequence without a batch.
            hx: the state before it; zeros where left out.

        Raises:
            InputTypeError: an input that is not floating or not of the weights' type.
            InputError: shapes that do not fit.
        """
        x = self._checked(input)
        h = self._checked_state("h", hx, x, *x.shape[:-1], self.hidden_size)
        with torch.autocast(x.device.type, enabled=False):
            return gru_step(x, h, *self._weights())


# -- layers ----------------------------------------------------------------------------------------------------------


class _Layers(_Recurrent):
    """Layers over whole sequences: what `_sequence` does in one direction, in both and on top of each other."""

    states: ClassVar[Sequence[str]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: Any,
        dtype: Any,
    ):
        super().__init__(input_size, hidden_size, bias)
        require_probability(dropout)
        if num_layers < 1:
            raise InputError("num_layers cannot be a number of layers", expected="1 or more", got=str(num_layers))
        self.num_layers, self.batch_first, self.dropout = num_layers, batch_first, dropout
        self.bidirectional = bidirectional
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            width = input_size if layer == 0 else len(self.directions) * hidden_size
            for direction in self.directions:
                self._register(f"_l{layer}{direction}", width, device, dtype)
        self.reset_parameters()

    def extra_repr(self) -> str:
        defaults = {"num_layers": 1, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        said = [f"{name}={getattr(self, name)}" for name, usual in defaults.items() if getattr(self, name) != usual]
        return ", ".join([super().extra_repr(), *said])

    def _sequence(self, x: Tensor, state: list[Tensor], weights: list[Tensor], sizes: list[int]) -> list[Tensor]:
        """One direction of one layer: each of `states` after every input, and the gates there."""
        raise NotImplementedError

    def _run(self, x: Any, hx: Sequence[Tensor] | None, real: Tensor | None) -> tuple[Any, list[Tensor]]:
        """The output in the form of the input, and the last of each of `states`."""
        packed, restored = self._packed(x, real)
        rows, sizes = packed.data, packed.batch_sizes.tolist()
        count = self.num_layers * len(self.directions)
        single = isinstance(x, Tensor) and x.dim() == 2
        initial = self._initial(hx, rows, count, sizes[0], single, packed.sorted_indices)
        last, mirror = _places(sizes, rows.device, self.bidirectional)
        ends: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            rows = dropout(rows, self.dropout, self.training) if layer else rows
            outputs = []
            for direction in self.directions:
                suffix, start = f"l{layer}{direction}", [state[len(ends)] for state in initial]
                order = mirror if direction else None
                *after, gates = self._sequence(_ordered(rows, order), start, self._weights(f"_{suffix}"), sizes)
                ends.append([state[last] for state in after])
                if recording():
                    self._record(suffix, after, gates, order, packed)
                outputs.append(_ordered(after[0], order))
            rows = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
        final = [torch.stack(parts) for parts in zip(*ends, strict=True)]
        if packed.unsorted_indices is not None:
            final = [state[:, packed.unsorted_indices] for state in final]
        output = restored(PackedSequence(rows, *packed[1:]))
        return output, [state[:, 0] for state in final] if single else final

    def _packed(self, x: Any, real: Tensor | None) -> tuple[PackedSequence, Any]:
        """The input as packed rows, and what brings an output back into the input's form."""
        if isinstance(x, PackedSequence):
            if real is not None:
                raise InputError("real is given beside a packed sequence, which knows its lengths", expected="None")
            return PackedSequence(self._checked(x.data), *x[1:]), lambda packed: packed
        x = self._checked(x)
        if x.dim() not in (2, 3) or 0 in x.shape[:-1]:
            axes = "batch, length" if self.batch_first else "length, batch"
            raise InputError(
                "input has a shape that cannot be read",
                expected=f"({axes}, {self.input_size}), or (length, {self.input_size}) without a batch",
                got=str(tuple(x.shape)),
            )
        if real is not None:
            length = x.shape[1 if self.batch_first else 0]
            lengths = _lengths(real, x, self.batch_first)
            packed = pack_padded_sequence(x, lengths, self.batch_first, enforce_sorted=False)
            return packed, lambda packed: pad_packed_sequence(packed, self.batch_first, total_length=length)[0]
        single = x.dim() == 2
        steps = x[:, None] if single else x.transpose(0, 1) if self.batch_first else x
        length, batch, _ = steps.shape
        packed = PackedSequence(steps.reshape(length * batch, -1), torch.full((length,), batch))
        if single:
            return packed, lambda packed: packed.data
        axes = (1, 0, 2) if self.batch_first else (0, 1, 2)
        return packed, lambda packed: packed.data.unflatten(0, (length, batch)).permute(axes)

    def _initial(
        self, hx: Sequence[Tensor] | None, rows: Tensor, count: int, batch: int, single: bool, order: Tensor | None
    ) -> list[Tensor]:
        shape = (count, self.hidden_size) if single else (count, batch, self.hidden_size)
        given = [None] * len(self.states) if hx is None else hx
        named = zip(self.states, given, strict=True)
        found = [self._checked_state(f"{name}_0", state, rows, *shape) for name, state in named]
        if single:
            return [state[:, None] for state in found]
        return found if order is None else [state[:, order] for state in found]

    def _record(
        self, name: str, after: list[Tensor], gates: Tensor, order: Tensor | None, packed: PackedSequence
    ) -> None:
        values = [*gates.unbind(1), *reversed(after)]
        with scope(name):
            for key, value in zip((*self.gates, *reversed(self.states)), values, strict=True):
                whole = PackedSequence(_ordered(value.detach(), order), *packed[1:])
                step(key, pad_packed_sequence(whole, batch_first=True)[0])


class LSTM(_Layers):
    """Long short-term memory over sequences, as `torch.nn.LSTM`: same names, arguments, state and numbers.

    While recording, every layer and direction leaves its gates `i, f, g, o` and states `c, h` of all steps, each
    `(batch, length, hidden)`, under names such as `l0.i` and `l1_reverse.h`.

    Args:
        input_size: the width of the inputs.
        hidden_size: the width of the state.
        num_layers: how many layers, each reading the outputs of the one below.
        bias: whether there are biases.
        batch_first: whether tensors are `(batch, length, width)`, not `(length, batch, width)`.
        dropout: the share of outputs dropped between layers while training.
        bidirectional: whether a second direction reads from the end.
        proj_size: in torch's place; only 0.

    Raises:
        InputError: sizes below 1, a dropout outside 0 to 1, a projection.

    >>> output, (h, c) = LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True)(torch.randn(2, 7, 3))
    >>> output.shape, h.shape
    (torch.Size([2, 7, 10]), torch.Size([4, 2, 5]))
    """

    gates, states = LSTM_GATES, ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if proj_size:
            raise InputError(
                "proj_size is not supported",
                expected="0",
                got=str(proj_size),
                hint="a linear map on the output, or torch.nn.LSTM",
            )
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def forward(
        self,
        input: Float[Tensor, "*axes input"] | PackedSequence,  # noqa: A002 - torch's name
        hx: State | None = None,
        *,
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> tuple[Float[Tensor, "*axes outputs"] | PackedSequence, State]:
        """The outputs of the last layer at all positions, and the state `(h, c)` of every layer after the last.

        Args:
            input: `(length, batch, input)`, with the batch first if this was made so, `(length, input)`, or packed.
            hx: `(h, c)` before the first input, each `(layers * directions, batch, hidden)`; zeros where left out.
            real: True at the real positions of sequences padded at their ends; the others take no part, and their
                outputs are zeros.

        Raises:
            InputTypeError: an input that is not floating or not of the weights' type.
            InputError: shapes that do not fit, an empty sequence, padding that is not at the end.
        """
        output, (h, c) = self._run(input, hx, real)
        return output, (h, c)

    def _sequence(self, x: Tensor, state: list[Tensor], weights: list[Tensor], sizes: list[int]) -> list[Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            return list(lstm(x, (state[0], state[1]), *weights, sizes=sizes))


class GRU(_Layers):
    """Gated recurrent units over sequences, as `torch.nn.GRU`: same names, arguments, state and numbers.

    While recording, every layer and direction leaves its gates `r, z, n` and states `h` of all steps, each
    `(batch, length, hidden)`, under names such as `l0.r` and `l1_reverse.h`.

    Args:
        input_size: the width of the inputs.
        hidden_size: the width of the state.
        num_layers: how many layers, each reading the outputs of the one below.
        bias: whether there are biases.
        batch_first: whether tensors are `(batch, length, width)`, not `(length, batch, width)`.
        dropout: the share of outputs dropped between layers while training.
        bidirectional: whether a second direction reads from the end.

    Raises:
        InputError: sizes below 1, a dropout outside 0 to 1.

    >>> output, h = GRU(3, 5)(torch.randn(7, 2, 3))
    >>> output.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]))
    """

    gates, states = GRU_GATES, ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def forward(
        self,
        input: Float[Tensor, "*axes input"] | PackedSequence,  # noqa: A002 - torch's name
        hx: Float[Tensor, "*layers_and_batch hidden"] | None = None,
        *,
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> tuple[Float[Tensor, "*axes outputs"] | PackedSequence, Float[Tensor, "*layers_and_batch hidden"]]:
        """The outputs of the last layer at all positions, and the state of every layer after the last.

        Args:
            input: `(length, batch, input)`, with the batch first if this was made so, `(length, input)`, or packed.
            hx: the state before the first input, `(layers * directions, batch, hidden)`; zeros where left out.
            real: True at the real positions of sequences padded at their ends; the others take no part, and their
                outputs are zeros.

        Raises:
            InputTypeError: an input that is not floating or not of the weights' type.
            InputError: shapes that do not fit, an empty sequence, padding that is not at the end.
        """
        output, (h,) = self._run(input, None if hx is None else [hx], real)
        return output, h

    def _sequence(self, x: Tensor, state: list[Tensor], weights: list[Tensor], sizes: list[int]) -> list[Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            return list(gru(x, state[0], *weights, sizes=sizes))


def _ordered(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else rows[order]


def _places(sizes: list[int], device: torch.device, mirrored: bool) -> tuple[Tensor, Tensor | None]:
    """Where each sequence has its last row; and for each row, its counterpart as counted from the sequence's end."""
    starts = torch.tensor([0, *accumulate(sizes)][:-1])
    of_sequence = torch.tensor(sizes)[:, None] > torch.arange(sizes[0])  # which go on at a step
    lengths = of_sequence.sum(dim=0)
    last = starts[lengths - 1] + torch.arange(sizes[0])
    if not mirrored:
        return last.to(device), None
    time, sequence = of_sequence.nonzero(as_tuple=True)  # in the order of the rows
    return last.to(device), (starts[lengths[sequence] - 1 - time] + sequence).to(device)


def _lengths(real: Tensor, x: Tensor, batch_first: bool) -> Tensor:
    shape = tuple(x.shape[:2]) if batch_first else (x.shape[1], x.shape[0])
    if x.dim() != 3 or real.shape != shape or real.dtype != torch.bool:
        raise InputError(
            "real does not fit the input",
            expected=f"booleans of shape {shape}, batch and length" if x.dim() == 3 else "an input with a batch",
            got=f"{real.dtype} of shape {tuple(real.shape)}",
        )
    lengths = real.sum(dim=1).cpu()
    wrong = (lengths == 0) | (lengths_to_real(lengths, real.shape[1]) != real.cpu()).any(dim=1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        problem = "is empty" if lengths[row] == 0 else "has padding before its end"
        raise InputError(f"sequence {row} of the batch {problem}", expected="real positions, then padding")
    return lengths
