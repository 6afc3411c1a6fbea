"""What formulas are made of, and what may stand in the place of each."""

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.check.parity.dropped import dropped

ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": F.softplus,
    "hardsigmoid": F.hardsigmoid,
    "softmax_last": lambda x: x.softmax(-1),
}
sigmoid, tanh, relu, gelu, gelu_tanh, silu, leaky_relu, elu, softplus, hardsigmoid, softmax_last = ACTIVATIONS.values()


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """As `torch.nn.functional.dropout`, with the mask that follows from the values."""
    return dropped(x, p) if training else x


def gates(rows: Tensor | None, lie: str, wanted: str) -> list[Tensor]:
    """The parts of `rows`, which lie in one order, in the order wanted; zeros where there are none."""
    if rows is None:
        return [torch.zeros(()) for _ in wanted]
    parts = dict(zip(lie, rows.chunk(len(lie)), strict=True))
    return [parts[name] for name in wanted]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`(batch, length, heads * width)` as `(batch, heads, length, width)`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """The way back from `split_heads`."""
    return x.transpose(1, 2).flatten(2)


def heads_in_turn(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


def heads_over_length(x: Tensor, heads: int) -> Tensor:
    return x.reshape(x.shape[0], heads, x.shape[1], -1)


def joined_in_turn(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(2)


def joined_over_length(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], x.shape[2], -1)
