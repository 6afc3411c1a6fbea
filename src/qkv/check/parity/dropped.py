"""Dropout whose mask follows from the values it is given, so that two modules with dropout can be compared.

Random masks of two modules differ as soon as they draw in another order or layout. Here an entry is dropped or kept for
what it is: equal values have equal masks, wherever and in whatever order they are dropped, and dropout becomes one
more function that stands at its place or does not.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import _VF, Tensor, nn

from qkv.functional.dropout import dropout as _ours

_BINS = 2**14  # values nearer to each other than 1 / _BINS mostly share their fate: rounding changes none
_GOLDEN = 0.6180339887498949
_THEIRS = {"dropout": F.dropout, "attention": F.scaled_dot_product_attention, "open": torch.dropout}


def dropped(x: Tensor, p: float) -> Tensor:
    """`x` with about a share `p` of its entries set to zero, those of the same values each time.

    >>> x = torch.arange(8.0)
    >>> bool((dropped(x.flip(0), 0.5).flip(0) == dropped(x, 0.5)).all())
    True
    """
    draws = (x.detach() * _BINS).round() * _GOLDEN % 1
    return x * (draws >= p) / (1 - p) if p < 1 else x * 0


@dataclass
class Switch:
    """Whether dropout is `dropped`, or nothing at all."""

    on: bool = False


@contextmanager
def dropout_by_value() -> Iterator[Switch]:
    """Within, dropout of torch and of this library is `dropped` while the switch is on, and nothing while it is not."""
    active = Switch()

    def drop(x: Tensor, p: float = 0.5, training: bool = True, *_: Any, **__: Any) -> Tensor:
        return dropped(x, p) if training and active.on else x

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **others: Any,
    ) -> Tensor:
        if dropout_p == 0 or not active.on:
            return _THEIRS["attention"](query, key, value, attn_mask, 0.0, is_causal, **others)
        scale = others.get("scale") or query.shape[-1] ** -0.5
        scores = query @ key.mT * scale
        if is_causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        return dropped(scores.softmax(-1), dropout_p) @ value

    stands_for = {id(F.dropout): drop, id(torch.dropout): drop, id(_ours): drop, id(_THEIRS["attention"]): attention}
    cells = {name: getattr(_VF, name) for name in ("lstm_cell", "gru_cell")}
    recurrent = SimpleNamespace(**cells, lstm=_layered("lstm", drop), gru=_layered("gru", drop))
    with ExitStack() as stack:
        for module in list(sys.modules.values()):
            for name, value in list(getattr(module, "__dict__", {}).items()):
                if id(value) in stands_for:
                    stack.enter_context(mock.patch.object(module, name, stands_for[id(value)]))
        stack.enter_context(mock.patch.object(nn.modules.rnn, "_VF", recurrent))
        yield active


def _layered(kind: str, drop: Any) -> Any:
    """torch's recurrent layers one after the other, with dropout between them in the open."""
    whole = getattr(_VF, kind)

    def run(*arguments: Any) -> Any:
        packed = isinstance(arguments[1], Tensor) and arguments[1].dtype == torch.int64
        if packed:
            data, sizes, hx, weights, bias, layers, p, training, both = arguments
            first: tuple[Any, ...] = ()
        else:
            data, hx, weights, bias, layers, p, training, both, batch_first = arguments
            sizes, first = None, (batch_first,)
        states = hx if isinstance(hx, (tuple, list)) else (hx,)
        directions = 1 + both
        each = len(weights) // layers
        ends = []
        for layer in range(layers):
            data = drop(data, p, training) if layer else data
            part = tuple(state[layer * directions : (layer + 1) * directions] for state in states)
            start = part if kind == "lstm" else part[0]
            own = weights[layer * each : (layer + 1) * each]
            given = (data, sizes, start, own) if packed else (data, start, own)
            data, *end = whole(*given, bias, 1, 0.0, training, both, *first)
            ends.append(end)
        return data, *(torch.cat(parts) for parts in zip(*ends, strict=True))

    return run
