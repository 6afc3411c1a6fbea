"""From a vector for each token to one for the text."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def mean_pooled(
    x: Float[Tensor, "batch length embed_dim"], real: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch embed_dim"]:
    """The mean over the real positions of each row.

    >>> mean_pooled(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])).item()
    2.0
    """
    weights = real.to(x.dtype) / real.sum(dim=1, keepdim=True)
    return torch.einsum("bl,bld->bd", weights.to(x.dtype), x)


def max_pooled(
    x: Float[Tensor, "batch length embed_dim"], real: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch embed_dim"]:
    """The largest entry of each column over the real positions of each row.

    >>> max_pooled(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])).item()
    3.0
    """
    return x.masked_fill(~real[..., None], -torch.inf).amax(dim=1)


def max_and_mean(
    x: Float[Tensor, "batch length embed_dim"], real: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch twice"]:
    """Both, side by side: what is said anywhere, and what is said throughout."""
    return torch.cat((max_pooled(x, real), mean_pooled(x, real)), dim=1)
