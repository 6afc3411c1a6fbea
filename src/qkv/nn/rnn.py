"""Recurrent encoder and decoder for sequences to sequences. State is `(h, c)`."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from qkv.errors import InputError
from qkv.nn.attention import AdditiveAttention
from qkv.nn.recurrent import LSTM
from qkv.trace import scope

# The layer inside: `torch.nn.LSTM`, or `qkv.nn.LSTM`, which has the same names and numbers and records its gates.
# On few threads they take about the same time to train, but torch's is faster for a single sequence, as in decoding.
LAYER: type[nn.LSTM] | type[LSTM] = nn.LSTM

State = tuple[Float[Tensor, "layers batch hidden"], Float[Tensor, "layers batch hidden"]]


class LSTMEncoder(nn.Module):
    """Reads a sequence, in both directions unless told otherwise; padding takes no part.

    Both directions have `hidden_size` units; linear maps join them, in the memory and in the state that a decoder
    starts from (after Bahdanau et al. 2015, section 3.2, who give the decoder the backward direction alone).

    Args:
        input_size: the width of the embedded tokens.
        hidden_size: the width of the memory and of the state.
        num_layers: how many layers.
        dropout: the share dropped between layers.
        bidirectional: whether a second direction reads from the end.

    >>> encoder = LSTMEncoder(input_size=3, hidden_size=5, num_layers=2)
    >>> memory, (h, c) = encoder(torch.randn(1, 4, 3), torch.tensor([[True, True, True, False]]))
    >>> memory.shape, h.shape
    (torch.Size([1, 4, 5]), torch.Size([2, 1, 5]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0, bidirectional: bool = True
    ):
        super().__init__()
        self.lstm = lstm_layer(input_size, hidden_size, num_layers, dropout, bidirectional)
        self.bidirectional = bidirectional
        if bidirectional:
            self.join_memory = nn.Linear(2 * hidden_size, hidden_size)
            self.join_h = nn.Linear(2 * hidden_size, hidden_size)
            self.join_c = nn.Linear(2 * hidden_size, hidden_size)

    def forward(
        self, embedded: Float[Tensor, "batch length input"], real: Bool[Tensor, "batch length"]
    ) -> tuple[Float[Tensor, "batch length hidden"], State]:
        """The memory, one vector a position, and the state after the last real one.

        Args:
            embedded: the embedded tokens, padded at the end.
            real: True at real positions.

        Raises:
            InputError: a row without a real position.
        """
        lengths = real.sum(dim=1).cpu()  # packing wants them there
        if bool((lengths == 0).any()):
            row = int((lengths == 0).nonzero()[0])
            raise InputError(f"sequence {row} of the batch is empty", expected="at least one real position")
        if bool((lengths == embedded.shape[1]).all()):  # without padding the unpacked form is half as fast again
            memory, (h, c) = _run(self.lstm, embedded)
        else:
            packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            memory, (h, c) = _run(self.lstm, packed)
            memory, _ = pad_packed_sequence(memory, batch_first=True, total_length=embedded.shape[1])
        if not self.bidirectional:
            return memory, (h, c)
        return self.join_memory(memory), (self.join_h(_side_by_side(h)), self.join_c(_side_by_side(c)))


class LSTMDecoder(nn.Module):
    """Writes a sequence from a state, attending to a memory if told to.

    With attention the output is `tanh(W_c [context; h])` (Luong et al. 2015, eq. 5), the context found by additive
    scores; it does not feed back into the recurrence, so all steps of a known target take one call. Without, it is `h`.

    Args:
        input_size: the width of the embedded tokens.
        hidden_size: the width of the output and of the state.
        memory_size: the width of the memory.
        num_layers: how many layers.
        dropout: the share dropped between layers.
        attention: whether to attend to the memory.

    >>> decoder = LSTMDecoder(input_size=3, hidden_size=5, memory_size=5, attention=True)
    >>> state = (torch.zeros(1, 1, 5), torch.zeros(1, 1, 5))
    >>> output, state = decoder(torch.randn(1, 2, 3), state, torch.randn(1, 7, 5))
    >>> output.shape
    torch.Size([1, 2, 5])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        attention: bool = True,
    ):
        super().__init__()
        self.lstm = lstm_layer(input_size, hidden_size, num_layers, dropout)
        self.attention = AdditiveAttention(hidden_size, memory_size, hidden_size) if attention else None
        self.combine = nn.Linear(memory_size + hidden_size, hidden_size, bias=False) if attention else None

    def start(self, memory: Float[Tensor, "batch keys memory"]) -> Float[Tensor, "batch keys hidden"] | None:
        """The memory's projected keys, for `forward` to use at every step; None without attention."""
        return None if self.attention is None else self.attention.project_key(memory)

    def forward(
        self,
        embedded: Float[Tensor, "batch length input"],
        state: State,
        memory: Float[Tensor, "batch keys memory"],
        memory_mask: Bool[Tensor, "batch keys"] | None = None,
        keys: Float[Tensor, "batch keys hidden"] | None = None,
    ) -> tuple[Float[Tensor, "batch length hidden"], State]:
        """The outputs and the state after them: a whole target at once, or a position at a time, with equal results.

        Args:
            embedded: the embedded tokens.
            state: `(h, c)` before them, each `(layers, batch, hidden)`.
            memory: what the encoder made of the source; unused without attention.
            memory_mask: True at its real positions.
            keys: what `start(memory)` returned, to save projecting the memory again.
        """
        h, state = _run(self.lstm, embedded, state)
        if self.attention is None or self.combine is None:
            return h, state
        projected_key: Tensor = self.attention.project_key(memory) if keys is None else keys
        mask = None if memory_mask is None else memory_mask[:, None]
        with scope("attention"):
            context, _ = self.attention.attend(h, projected_key, memory, mask)
        return torch.tanh(self.combine(torch.cat((context, h), dim=-1))), state


def lstm_layer(
    input_size: int, hidden_size: int, num_layers: int, dropout: float, bidirectional: bool = False
) -> nn.LSTM | LSTM:
    """The layer that models are built of."""
    dropout = dropout if num_layers > 1 else 0.0  # torch warns of a dropout that has nowhere to be
    return LAYER(input_size, hidden_size, num_layers, batch_first=True, dropout=dropout, bidirectional=bidirectional)


def _run(lstm: nn.LSTM | LSTM, x: Any, state: State | None = None) -> tuple[Any, State]:
    """`lstm` on a tensor or a packed sequence; on a GPU in float32 under autocast, which would make it float16."""
    if not (x.is_cuda and torch.is_autocast_enabled("cuda")):
        return lstm(x, state)
    with torch.autocast("cuda", enabled=False):
        return lstm(x.float(), None if state is None else (state[0].float(), state[1].float()))


def _side_by_side(
    states: Float[Tensor, "layers_and_directions batch hidden"],
) -> Float[Tensor, "layers batch both_directions"]:
    return torch.cat((states[0::2], states[1::2]), dim=-1)
