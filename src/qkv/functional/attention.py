"""Attention: how each query weighs the keys, and the values averaged by those weights.

The fast forms compute no weights unless asked; `output == weights @ value` holds for each. A query with nothing to
attend to gets zeros. Each form has its naive twin below it, which is the definition that the tests hold it to.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qkv.errors import InputError
from qkv.functional._inputs import check_finite, check_inputs
from qkv.functional._naive import exponential, naive_attention
from qkv.functional._softmax import attend, full_scale, masked_softmax, softmax_weights
from qkv.functional.mask import full_mask


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
        InputTypeError: tensors that are not floating, or a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, or scores that overflow.

    >>> query, key = torch.zeros(1, 2), torch.ones(4, 2)
    >>> softmax_attention_weights(query, key, torch.tensor([[True, True, False, False]]))
    tensor([[0.5000, 0.5000, 0.0000, 0.0000]])
    """
    check_inputs(query=query, key=key)
    weights = softmax_weights(query, key, mask, scale=scale, is_causal=is_causal)
    check_finite(weights, query=query, key=key)
    return weights


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
        InputTypeError: tensors that are not floating, or a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, or scores that overflow.

    >>> query, key, value = torch.zeros(1, 2), torch.ones(2, 2), torch.tensor([[1.0], [3.0]])
    >>> softmax_attention(query, key, value, need_weights=True)
    (tensor([[2.]]), tensor([[0.5000, 0.5000]]))
    """
    check_inputs(query=query, key=key, value=value)
    output, weights = attend(
        query, key, value, mask, scale=scale, is_causal=is_causal, dropout=dropout, need_weights=need_weights
    )
    check_finite(output, query=query, key=key, value=value)
    return output, weights


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
    factor = full_scale(query, scale)
    mask = full_mask(query, key, mask, is_causal)
    return naive_attention(lambda q, keys: exponential(keys @ q * factor), query, key, value, mask)


def cosine_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    scale: float = 1.0,
    is_causal: bool = False,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"] | None]:
    """`softmax(scale * cos(query, key)) @ value` (Graves et al. 2014, eq. 5 and 6), and the weights if asked for.

    Cosines differ by 2 at most, so no weight is more than `exp(2 * scale)` times another: sharp weights take a scale of
    10 or more. The cosine with a vector of zeros is 0.

    Args:
        query, key, value, mask, is_causal, dropout, need_weights: as in `softmax_attention`.
        scale: the sharpness.

    Raises:
        InputTypeError: tensors that are not floating, or a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, or scores that overflow.

    >>> query, key, value = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 5.0], [0.0, -1.0]]), torch.eye(2)
    >>> cosine_attention(query, key, value)[0]
    tensor([[0.5000, 0.5000]])
    """
    check_inputs(query=query, key=key, value=value)
    output, weights = attend(
        _unit(query),
        _unit(key),
        value,
        mask,
        scale=scale,
        is_causal=is_causal,
        dropout=dropout,
        need_weights=need_weights,
    )
    check_finite(output, query=query, key=key, value=value)
    return output, weights


def naive_cosine_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    scale: float = 1.0,
    is_causal: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The definition of `cosine_attention`, for vectors that are not zero."""
    mask = full_mask(query, key, mask, is_causal)
    return naive_attention(
        lambda q, keys: exponential(scale * keys @ q / (keys.norm(dim=-1) * q.norm())), query, key, value, mask
    )


def bilinear_attention(
    query: Float[Tensor, "*batch queries query_dim"],
    key: Float[Tensor, "*batch keys key_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    weight: Float[Tensor, "*#batch query_dim key_dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    is_causal: bool = False,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"] | None]:
    """`softmax(query @ weight @ key.mT) @ value` (Luong et al. 2015, section 3.1, "general"), and the weights if asked.

    Args:
        query, key, value, mask, is_causal, dropout, need_weights: as in `softmax_attention`, but that queries and keys
            may differ in width.
        weight: `W`, one for all or one for each head; whatever scale is wanted is in it.

    Raises:
        InputTypeError: tensors that are not floating, or a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, or scores that overflow.

    >>> query, key, value = torch.zeros(1, 3), torch.ones(2, 2), torch.tensor([[1.0], [3.0]])
    >>> bilinear_attention(query, key, value, torch.ones(3, 2))[0]
    tensor([[2.]])
    """
    check_inputs(query=query, key=key, value=value, same_width=False)
    _check_bilinear(query, key, weight)
    output, weights = attend(
        query @ weight, key, value, mask, scale=1.0, is_causal=is_causal, dropout=dropout, need_weights=need_weights
    )
    check_finite(output, query=query, key=key, value=value, weight=weight)
    return output, weights


def naive_bilinear_attention(
    query: Float[Tensor, "*batch queries query_dim"],
    key: Float[Tensor, "*batch keys key_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    weight: Float[Tensor, "*#batch query_dim key_dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    is_causal: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The definition of `bilinear_attention`: scores `sum_ab q_a W_ab k_b`."""
    mask = full_mask(query, key, mask, is_causal)
    weight = weight.expand(*query.shape[:-2], -1, -1)
    return naive_attention(
        lambda q, keys, w: exponential(torch.einsum("a,ab,jb->j", q, w, keys)), query, key, value, mask, weight
    )


def additive_attention_weights(
    query: Float[Tensor, "*batch queries dim"],
    key: Float[Tensor, "*batch keys dim"],
    scorer: Float[Tensor, "*#batch dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> Float[Tensor, "*batch queries keys"]:
    """The softmax over j of `e_ij = v . tanh(W s_i + U h_j)` (Bahdanau et al. 2015, appendix A.1.2).

    Args:
        query: `W s`, projected already.
        key: `U h`, projected already.
        scorer: `v`; one for all, or one for each of the leading axes, such as heads.
        mask: True where a query may attend to a key; broadcasts to the weights.

    Raises:
        InputTypeError: tensors that are not floating, or a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, or scores that overflow.

    >>> additive_attention_weights(torch.zeros(1, 3), torch.zeros(2, 3), torch.ones(3))
    tensor([[0.5000, 0.5000]])
    """
    check_inputs(query=query, key=key)
    weights = _additive_weights(query, key, scorer, mask)
    check_finite(weights, query, query=query, key=key, scorer=scorer)
    return weights


def additive_attention(
    query: Float[Tensor, "*batch queries dim"],
    key: Float[Tensor, "*batch keys dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    scorer: Float[Tensor, "*#batch dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The values averaged by `additive_attention_weights`, and those weights (Bahdanau et al. 2015, eq. 5 and 6).

    Args:
        query: `W s`, projected already.
        key: `U h`, projected already.
        value: what is averaged, usually `h` itself.
        scorer: `v`; one for all, or one for each of the leading axes, such as heads.
        mask: True where a query may attend to a key; broadcasts to the weights.

    Raises:
        InputTypeError: tensors that are not floating, or a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, or scores that overflow.

    >>> output, weights = additive_attention(
    ...     torch.zeros(1, 3), torch.zeros(2, 3), torch.tensor([[1.0], [3.0]]), torch.ones(3)
    ... )
    >>> output
    tensor([[2.]])
    """
    check_inputs(query=query, key=key, value=value)
    weights = _additive_weights(query, key, scorer, mask)
    output = weights @ value
    check_finite(output, query, query=query, key=key, value=value, scorer=scorer)
    return output, weights


def naive_additive_attention(
    query: Float[Tensor, "*batch queries dim"],
    key: Float[Tensor, "*batch keys dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    scorer: Float[Tensor, "*#batch dim"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The definition of `additive_attention`: for each query, the softmax over the keys that it may attend to."""
    mask, scorer = full_mask(query, key, mask), scorer.expand(*query.shape[:-2], -1)
    return naive_attention(
        lambda q, keys, v: exponential(torch.stack([v @ torch.tanh(q + k) for k in keys])),
        query,
        key,
        value,
        mask,
        scorer,
    )


def _additive_weights(query: Tensor, key: Tensor, scorer: Tensor, mask: Tensor | None) -> Tensor:
    met = torch.tanh(query[..., :, None, :] + key[..., None, :, :])
    scores = met @ scorer if scorer.dim() == 1 else (met @ scorer[..., None, :, None]).squeeze(-1)
    return masked_softmax(scores, full_mask(query, key, mask)).to(query.dtype)


def _unit(x: Tensor) -> Tensor:
    """`x / |x|`, and zeros, with a gradient of zero, where `x` is."""
    # Entries are brought to 1 at most before they are squared, so that squares neither overflow nor vanish. By that
    # factor, too, the cosine does not change: no gradient goes through it.
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    x = x / largest.masked_fill(largest == 0, torch.inf)
    square = x.square().sum(dim=-1, keepdim=True)
    return x * square.masked_fill(square == 0, 1).rsqrt()


def _check_bilinear(query: Tensor, key: Tensor, weight: Tensor) -> None:
    if not torch.compiler.is_compiling() and weight.shape[-2:] != (query.shape[-1], key.shape[-1]):
        raise InputError(
            "weight does not fit query and key",
            expected=f"(..., {query.shape[-1]}, {key.shape[-1]})",
            got=f"{tuple(weight.shape)}",
        )
