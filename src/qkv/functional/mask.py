"""Masks: boolean, True where a query may attend to a key, broadcasting to `(batch, heads, queries, keys)`."""

from functools import reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional._inputs import check_edges


def causal_mask(
    queries: int, keys: int | None = None, *, device: torch.device | str | None = None
) -> Bool[Tensor, "queries keys"]:
    """The mask under which no query sees a key that comes after it. The last query sits at the last key.

    Args:
        queries: how many queries.
        keys: how many keys; as many as queries where left out. More keys than queries are a past that all may see.
        device: where the mask is made.

    >>> causal_mask(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    keys = queries if keys is None else keys
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def window_mask(
    queries: int,
    keys: int,
    window: int,
    *,
    is_causal: bool = False,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "queries keys"]:
    """The mask under which a query sees the keys at most `window` away; if causal, none after it.

    Args:
        queries, keys: how many of each; the last query sits at the last key.
        window: the largest distance, so that a query sees up to `2 * window + 1` keys, or `window + 1` if causal.
        is_causal: whether what comes after a query is hidden from it.
        device: where the mask is made.

    Raises:
        InputError: a `window` below 0.

    >>> window_mask(3, 4, 1).int()
    tensor([[1, 1, 1, 0],
            [0, 1, 1, 1],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    check_window(window)
    past = keys - queries
    band = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return band.tril(past if is_causal else past + window).triu(past - window)


def check_window(window: int) -> None:
    """Refuses what is not a whole number from 0 on."""
    if not isinstance(window, int) or window < 0:
        raise InputError("window cannot be a distance", expected="a whole number from 0 on", got=str(window))


def mask_from_edges(edge_index: Int[Tensor, "2 edges"], nodes: int) -> Bool[Tensor, "nodes nodes"]:
    """The mask under which a node sees those from which an edge leads to it, and itself only by an edge of its own.

    Args:
        edge_index: sources above targets: targets are the queries, sources the keys.
        nodes: how many there are.

    Raises:
        InputTypeError: numbers of nodes that are not 64-bit integers.
        InputError: an `edge_index` of another shape, or with numbers out of range.

    >>> mask_from_edges(torch.tensor([[0, 0], [1, 0]]), 2).int()
    tensor([[1, 0],
            [1, 0]], dtype=torch.int32)
    """
    check_edges(edge_index, nodes)
    source, target = edge_index
    mask = torch.zeros(nodes, nodes, dtype=torch.bool, device=edge_index.device)
    return mask.index_put((target, source), torch.ones_like(source, dtype=torch.bool))


def padding_mask(real: Bool[Tensor, "batch keys"]) -> Bool[Tensor, "batch 1 1 keys"]:
    """The mask that hides padding from all heads and queries; `real` is True at real positions.

    >>> padding_mask(torch.tensor([[True, True, False]])).shape
    torch.Size([1, 1, 1, 3])
    """
    return real[:, None, None, :]


def lengths_to_real(lengths: Int[Tensor, " batch"], length: int) -> Bool[Tensor, "batch length"]:
    """True at the first `lengths[i]` positions of row i.

    >>> lengths_to_real(torch.tensor([1, 3]), 3).int()
    tensor([[1, 0, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return torch.arange(length, device=lengths.device) < lengths[:, None]


def combine_masks(*masks: Bool[Tensor, "..."] | None) -> Bool[Tensor, "..."] | None:
    """What every one of `masks` allows; None stands for no restriction.

    Raises:
        InputError: masks that do not broadcast together.

    >>> combine_masks(None, torch.tensor([[True], [False]]), torch.tensor([True, False])).int()
    tensor([[1, 0],
            [0, 0]], dtype=torch.int32)
    """
    given = [mask for mask in masks if mask is not None]
    try:
        return reduce(torch.logical_and, given) if given else None
    except RuntimeError as error:
        raise InputError(
            "the masks do not fit together",
            expected="shapes that broadcast to (batch, heads, queries, keys)",
            got=" and ".join(str(tuple(mask.shape)) for mask in given),
        ) from error


def full_mask(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor | None:
    """`mask`, held to the shape of the weights, and joined with the causal one if asked.

    Raises:
        InputTypeError: a mask that is not boolean.
        InputError: a mask that does not broadcast to the weights.
    """
    queries, keys = query.shape[-2], key.shape[-2]
    if mask is not None:
        if mask.dtype != torch.bool:
            raise InputTypeError(
                "the mask is of a type that cannot be used",
                expected="a boolean mask, True where a query may attend to a key",
                got=str(mask.dtype),
                hint="mask.bool(), or mask_from_torch for masks made for torch.nn",
            )
        shape = (*query.shape[:-2], queries, keys)
        sizes = zip(reversed(mask.shape), reversed(shape), strict=False)
        if mask.dim() > len(shape) or any(size not in (1, wanted) for size, wanted in sizes):
            raise InputError(
                "the mask does not fit the weights",
                expected=f"a shape that broadcasts to {tuple(shape)}",
                got=f"{tuple(mask.shape)}",
            )
    return combine_masks(mask, causal_mask(queries, keys, device=query.device)) if is_causal else mask


def mask_from_torch(
    attn_mask: Bool[Tensor, "... queries keys"] | Float[Tensor, "... queries keys"] | None = None,
    key_padding_mask: Bool[Tensor, "batch keys"] | Float[Tensor, "batch keys"] | None = None,
    *,
    num_heads: int,
) -> Bool[Tensor, "..."] | None:
    """The masks of `torch.nn.MultiheadAttention`, where True means *left out*, as one of ours.

    Args:
        attn_mask: `(queries, keys)` or `(batch * heads, queries, keys)`; boolean, or floating with 0 where attention
            is allowed and -inf where it is not, as `nn.Transformer.generate_square_subsequent_mask` makes it.
        key_padding_mask: `(batch, keys)`, of the same kinds.
        num_heads: how many heads the first axis of a three-dimensional `attn_mask` counts for each item.

    Raises:
        InputTypeError: a mask that is neither boolean nor floating.
        InputError: a floating mask that holds anything beside 0 and -inf, or an `attn_mask` of another shape.

    >>> mask_from_torch(torch.tensor([[False, True], [False, False]]), num_heads=1).int()
    tensor([[1, 0],
            [1, 1]], dtype=torch.int32)
    """
    if attn_mask is not None:
        attn_mask = _allowed("attn_mask", attn_mask)
        if attn_mask.dim() == 3 and attn_mask.shape[0] % num_heads == 0:
            attn_mask = attn_mask.unflatten(0, (-1, num_heads))
        elif attn_mask.dim() != 2:
            raise InputError(
                "attn_mask has a shape that cannot be used",
                expected=f"(queries, keys) or (batch * {num_heads} heads, queries, keys)",
                got=f"{tuple(attn_mask.shape)}",
            )
    if key_padding_mask is not None:
        key_padding_mask = padding_mask(_allowed("key_padding_mask", key_padding_mask))
    return combine_masks(attn_mask, key_padding_mask)


def _allowed(name: str, left_out: Tensor) -> Bool[Tensor, "..."]:
    if left_out.dtype == torch.bool:
        return ~left_out
    if not left_out.is_floating_point():
        raise InputTypeError(
            f"{name} is of a type that cannot be used",
            expected="a boolean mask (True = left out) or a floating one of 0 and -inf",
            got=str(left_out.dtype),
            hint=f"{name}.bool()",
        )
    allowed = left_out == 0
    if not bool((allowed | (left_out == -torch.inf)).all()):
        raise InputError(
            f"{name} adds values to the scores, which no mask here does",
            expected="0 where attention is allowed and -inf where it is not",
            got=f"values from {float(left_out.min()):.3g} to {float(left_out.max()):.3g}",
            hint="a boolean mask",
        )
    return allowed
