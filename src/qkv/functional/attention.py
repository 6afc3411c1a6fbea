"""Attention: how each query weighs the keys, and the values averaged by those weights.

The fast forms compute no weights unless asked; `output == weights @ value` holds for each. A query with nothing to
attend to gets zeros. Each form has its naive twin below it, which is the definition that the tests hold it to.
"""

from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional.dropout import dropout as drop
from qkv.functional.mask import causal_mask, combine_masks


def softmax_attention_weights(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
) -> Float[Tensor, "*batch queries keys"]:
    """`softmax(query @ key.mT * scale)` over the keys that the mask allows (Vaswani et al. 2017, eq. 1).

    Args:
        query, key: usually `(batch, heads, length, head_dim)`; any leading axes do.
        mask: True where a query may attend to a key; broadcasts to the weights.
        scale: `1 / sqrt(head_dim)` where left out.
        is_causal: no query sees a key after it; the last query sits at the last key. Adds to `mask`.

    Raises:
        InputTypeError: a mask that is not boolean.
        InputError: a mask that does not broadcast to the weights.

    >>> query, key = torch.zeros(1, 2), torch.ones(4, 2)
    >>> softmax_attention_weights(query, key, torch.tensor([[True, True, False, False]]))
    tensor([[0.5000, 0.5000, 0.0000, 0.0000]])
    """
    mask = _full_mask(query, key, mask, is_causal)
    query_scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    return _masked_softmax(query_scaled @ key.mT, mask).to(query.dtype)


def softmax_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"] | None]:
    """`softmax(query @ key.mT * scale) @ value` (Vaswani et al. 2017, eq. 1), and the weights if asked for.

    Without weights it runs through `scaled_dot_product_attention`, which never holds them. Weights that are handed out
    are those that made the output: after dropout.

    Args:
        query, key, value: usually `(batch, heads, length, head_dim)`; any leading axes do.
        mask: True where a query may attend to a key; broadcasts to the weights.
        scale: `1 / sqrt(head_dim)` where left out.
        is_causal: no query sees a key after it; the last query sits at the last key. Adds to `mask`.
        dropout: the share of weights set to zero, the others scaled up to make up for it. Applied whenever it is not 0.
        need_weights: also return the weights.

    Raises:
        InputTypeError: a mask that is not boolean.
        InputError: a mask that does not broadcast to the weights.

    >>> query, key, value = torch.zeros(1, 2), torch.ones(2, 2), torch.tensor([[1.0], [3.0]])
    >>> softmax_attention(query, key, value, need_weights=True)
    (tensor([[2.]]), tensor([[0.5000, 0.5000]]))
    """
    if need_weights:
        weights = softmax_attention_weights(query, key, mask, scale=scale, is_causal=is_causal)
        weights = drop(weights, dropout)
        return weights @ value, weights
    if mask is not None or query.shape[-2] != key.shape[-2]:  # the fused path takes one or the other, and only squares
        mask, is_causal = _full_mask(query, key, mask, is_causal), False
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # torch's backward in bfloat16 takes three to eight times as long as in float32 up to 256 keys.
        with torch.autocast("cpu", enabled=False):
            output, _ = softmax_attention(
                query.float(), key.float(), value.float(), mask, scale=scale, is_causal=is_causal, dropout=dropout
            )
        return output.bfloat16(), None
    output = F.scaled_dot_product_attention(
        query, key, value, mask, dropout_p=dropout, is_causal=is_causal, scale=scale
    )
    return output, None


def naive_softmax_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The definition of `softmax_attention`: for each query, the softmax over the keys that it may attend to."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return _naive_attention(
        lambda q, keys: keys @ q * scale, query, key, value, _full_mask(query, key, mask, is_causal)
    )


def additive_attention_weights(
    query: Float[Tensor, "*batch queries dim"],
    key: Float[Tensor, "*batch keys dim"],
    scorer: Float[Tensor, " dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> Float[Tensor, "*batch queries keys"]:
    """The softmax over j of `e_ij = v . tanh(W s_i + U h_j)` (Bahdanau et al. 2015, appendix A.1.2).

    Args:
        query: `W s`, projected already.
        key: `U h`, projected already.
        scorer: `v`.
        mask: True where a query may attend to a key; broadcasts to the weights.

    Raises:
        InputTypeError: a mask that is not boolean.
        InputError: a mask that does not broadcast to the weights.

    >>> additive_attention_weights(torch.zeros(1, 3), torch.zeros(2, 3), torch.ones(3))
    tensor([[0.5000, 0.5000]])
    """
    mask = _full_mask(query, key, mask, is_causal=False)
    scores = torch.tanh(query[..., :, None, :] + key[..., None, :, :]) @ scorer
    return _masked_softmax(scores, mask).to(query.dtype)


def additive_attention(
    query: Float[Tensor, "*batch queries dim"],
    key: Float[Tensor, "*batch keys dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    scorer: Float[Tensor, " dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The values averaged by `additive_attention_weights`, and those weights (Bahdanau et al. 2015, eq. 5 and 6).

    Args:
        query: `W s`, projected already.
        key: `U h`, projected already.
        value: what is averaged, usually `h` itself.
        scorer: `v`.
        mask: True where a query may attend to a key; broadcasts to the weights.

    Raises:
        InputTypeError: a mask that is not boolean.
        InputError: a mask that does not broadcast to the weights.

    >>> output, weights = additive_attention(
    ...     torch.zeros(1, 3), torch.zeros(2, 3), torch.tensor([[1.0], [3.0]]), torch.ones(3)
    ... )
    >>> output
    tensor([[2.]])
    """
    weights = additive_attention_weights(query, key, scorer, mask)
    return weights @ value, weights


def naive_additive_attention(
    query: Float[Tensor, "*batch queries dim"],
    key: Float[Tensor, "*batch keys dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    scorer: Float[Tensor, " dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The definition of `additive_attention`: for each query, the softmax over the keys that it may attend to."""
    return _naive_attention(
        lambda q, keys: torch.stack([scorer @ torch.tanh(q + k) for k in keys]),
        query,
        key,
        value,
        _full_mask(query, key, mask, is_causal=False),
    )


def _masked_softmax(
    scores: Float[Tensor, "*batch queries keys"], mask: Bool[Tensor, "*#batch #queries keys"] | None
) -> Float[Tensor, "*batch queries keys"]:
    if mask is None:  # torch's softmax sums in single precision where scores are in half
        return scores.softmax(dim=-1)
    # The lowest number instead of -inf: a row without keys is then finite in both directions, and zeroed after.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0)


def _full_mask(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor | None:
    """`mask`, checked, and joined with the causal one if asked."""
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


def _naive_attention(score, query, key, value, mask):
    *batch, queries, keys = (*query.shape[:-1], key.shape[-2])
    mask = torch.ones(keys, dtype=torch.bool, device=query.device) if mask is None else mask
    mask = mask.expand(*batch, queries, keys)
    weights, output = query.new_zeros(*batch, queries, keys), query.new_zeros(*batch, queries, value.shape[-1])
    for *item, i in product(*map(range, (*batch, queries))):
        allowed = mask[(*item, i)].nonzero().flatten().tolist()
        if not allowed:
            continue
        scores = score(query[(*item, i)], key[(*item, allowed)])
        shares = (scores - scores.max()).exp()
        shares = shares / shares.sum()
        weights[(*item, i, allowed)] = shares
        output[(*item, i)] = shares @ value[(*item, allowed)]
    return output, weights
