"""What a head does, in numbers: where its weights stand, how spread they are, how much it repeats other heads."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qkv.errors import InputError


def head_statistics(
    weights: Float[Tensor, "heads queries keys"],
    separators: Bool[Tensor, " keys"] | None = None,
    *,
    kind: Literal["self", "cross"] = "self",
) -> dict[str, Float[Tensor, " heads"]]:
    """Numbers that tell the heads of a layer apart, each the mean over a head's queries.

    - `entropy`: `-sum_j w_ij log w_ij`, in nats: 0 where a query reads one key, `log n` where it reads n alike.
    - `distance`: `sum_j w_ij |i - j|`, how far away it reads, in tokens; of self-attention alone.
    - `itself`, `previous`, `next`: the share of its weights on the token itself and on its neighbours (over the
      queries that have one); of self-attention alone.
    - `first`: the share on the first token.
    - `separators`: the share on the tokens that are named, left out where none are. A head that has nothing to find
      often reads these (Clark et al. 2019, "What Does BERT Look At?", section 3.2).
    - `overlap`: the mean over the other heads of what two heads share (see `head_overlap`); 0 for a head alone.

    Args:
        weights: those of one layer for one text, or from one to another; rows with nothing to attend to count as zeros.
        separators: True at the keys to count as such.
        kind: `self` where keys are the tokens that ask, `cross` where they are others.

    Raises:
        InputError: weights that are negative or, of self-attention, not square, no token, or separators of another
            length.

    >>> weights = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]])  # reads the first; reads both
    >>> {name: value.tolist() for name, value in head_statistics(weights).items() if name in ("first", "overlap")}
    {'first': [1.0, 0.5], 'overlap': [0.5, 0.5]}
    """
    heads, queries, keys = _usable(weights).shape
    statistics = {"entropy": torch.special.entr(weights).sum(-1).mean(-1)}
    if kind == "self":
        if queries != keys:
            raise InputError(
                "weights are not those of heads over one text",
                expected="(heads, length, length)",
                got=f"{tuple(weights.shape)}",
                hint="kind='cross', where queries and keys are of two",
            )
        place = torch.arange(keys, device=weights.device)
        statistics |= {
            "distance": (weights * (place[:, None] - place).abs()).sum(-1).mean(-1),
            "itself": _share_at(weights, 0),
            "previous": _share_at(weights, -1),
            "next": _share_at(weights, 1),
        }
    statistics["first"] = weights[..., 0].mean(-1)
    if separators is not None:
        if separators.shape != (keys,):
            raise InputError(
                "separators do not fit the weights", expected=f"{keys} of them", got=f"{tuple(separators.shape)}"
            )
        statistics["separators"] = weights[..., separators].sum(-1).mean(-1)
    overlap = head_overlap(weights)
    return statistics | {"overlap": (overlap.sum(-1) - overlap.diagonal()) / max(heads - 1, 1)}


def head_overlap(weights: Float[Tensor, "heads queries keys"]) -> Float[Tensor, "heads heads"]:
    """What each two heads have in common: `sum_j min(p_ij, q_ij)`, the mean over queries.

    That is one minus the total variation distance: 1 where both read the same, 0 where no key is read by both.

    Raises:
        InputError: weights that are negative, or no token.

    >>> head_overlap(torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]]))
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]])
    """
    # A head at a time: all pairs at once would take `heads` times the memory of the weights.
    return torch.stack([torch.minimum(one, weights).sum(-1).mean(-1) for one in _usable(weights)])


def _share_at(weights: Tensor, offset: int) -> Tensor:
    """The mean weight on the key that stands `offset` from its query."""
    band = weights.diagonal(offset, dim1=-2, dim2=-1)
    return band.sum(-1) / max(band.shape[-1], 1)


def _usable(weights: Tensor) -> Tensor:
    if weights.dim() != 3 or weights.shape[1] == 0 or weights.shape[2] == 0:
        raise InputError(
            "weights are not those of heads",
            expected="(heads, queries, keys), with a token at least",
            got=f"{tuple(weights.shape)}",
        )
    if bool((weights < 0).any()):
        raise InputError(
            "weights are negative in places: they are no shares", got=f"a smallest one of {float(weights.min()):.3g}"
        )
    return weights
