"""Attention by kernels: weights proportional to a similarity of query and key, as in kernel regression."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional._inputs import check_finite, check_inputs, exact_type, values_are_there
from qkv.functional._naive import naive_attention
from qkv.functional._softmax import masked_softmax
from qkv.functional.dropout import dropout as drop
from qkv.functional.mask import full_mask

Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class RbfKernel:
    """`exp(-|x - y|^2 / sigma^2)`, made by `rbf_kernel`."""

    sigma: float

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and isfinite(self.sigma)):
            raise InputError("sigma cannot be a bandwidth", expected="a number above 0", got=str(self.sigma))

    def __call__(
        self, query: Float[Tensor, "*batch queries head_dim"], key: Float[Tensor, "*batch keys head_dim"]
    ) -> Float[Tensor, "*batch queries keys"]:
        return self.log(query, key).exp()

    def log(
        self, query: Float[Tensor, "*batch queries head_dim"], key: Float[Tensor, "*batch keys head_dim"]
    ) -> Float[Tensor, "*batch queries keys"]:
        """`-|x - y|^2 / sigma^2`, by the products of `|x|^2 - 2 x . y + |y|^2`: no differences are held."""
        with torch.autocast(query.device.type, enabled=False):
            x, y = (side.to(exact_type(side)) / self.sigma for side in (query, key))
            return 2 * x @ y.mT - x.square().sum(dim=-1, keepdim=True) - y.square().sum(dim=-1)[..., None, :]


@dataclass(frozen=True)
class PolynomialKernel:
    """`(x . y + offset)^degree`, made by `polynomial_kernel`."""

    degree: int
    offset: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.degree, int) and self.degree >= 1):
            raise InputError("degree cannot be used", expected="a whole number from 1 on", got=str(self.degree))
        if not isfinite(self.offset):
            raise InputError("offset cannot be used", expected="a finite number", got=str(self.offset))

    def __call__(
        self, query: Float[Tensor, "*batch queries head_dim"], key: Float[Tensor, "*batch keys head_dim"]
    ) -> Float[Tensor, "*batch queries keys"]:
        with torch.autocast(query.device.type, enabled=False):
            x, y = (side.to(exact_type(side)) for side in (query, key))
            return (x @ y.mT + self.offset) ** self.degree


def rbf_kernel(sigma: float) -> RbfKernel:
    """The kernel `exp(-|x - y|^2 / sigma^2)`: attention by it is the regression of Nadaraya and Watson (1964).

    Raises:
        InputError: a `sigma` that is not above 0.

    >>> rbf_kernel(2.0)(torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]))
    tensor([[1.0000, 0.3679]])
    """
    return RbfKernel(sigma)


def polynomial_kernel(degree: int, offset: float = 1.0) -> PolynomialKernel:
    """The kernel `(x . y + offset)^degree`. Of odd degree it may be negative, which attention by it refuses.

    Raises:
        InputError: a `degree` below 1, or an `offset` that is not finite.

    >>> polynomial_kernel(2)(torch.ones(1, 1), torch.tensor([[1.0], [-2.0]]))
    tensor([[4., 1.]])
    """
    return PolynomialKernel(degree, offset)


def kernel_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    kernel: Kernel,
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    is_causal: bool = False,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"] | None]:
    """`sum_j k(q_i, k_j) v_j / sum_j k(q_i, k_j)` (Tsai et al. 2019, eq. 2), and the weights if asked for.

    Args:
        query, key, value: usually `(batch, heads, length, head_dim)`; any leading axes do. Queries and keys are points
            of one space, so of one width.
        kernel: gives `(*batch, queries, keys)` of numbers from 0 on. Where it has a method `log`, as that of
            `rbf_kernel` has, weights are the softmax of its logarithms: points far from all others then count too.
        mask: True where a query may attend to a key; broadcasts to the weights.
        is_causal: no query sees a key after it; the last query sits at the last key. Adds to `mask`.
        dropout: the share of weights set to zero, the others scaled up to make up for it. Applied whenever it is not 0.
        need_weights: also return the weights, those that made the output: after dropout.

    Raises:
        InputTypeError: tensors that are not floating, or a mask that is not boolean.
        InputError: shapes that cannot go together, NaN or infinity, a kernel of another shape, with negative values, or
            with no value above 0 for a query that has keys.

    >>> query, key, value = torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    >>> kernel_attention(query, key, value, rbf_kernel(2.0), need_weights=True)
    (tensor([[0.2689]]), tensor([[0.7311, 0.2689]]))
    """
    check_inputs(query=query, key=key, value=value)
    weights = drop(_weights(query, key, kernel, full_mask(query, key, mask, is_causal)), dropout)
    output = weights @ value
    check_finite(output, query=query, key=key, value=value)
    return output, weights if need_weights else None


def naive_kernel_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    kernel: Kernel,
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
    *,
    is_causal: bool = False,
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries keys"]]:
    """The definition of `kernel_attention`: for each query, the kernel's values over their sum."""
    mask = full_mask(query, key, mask, is_causal)
    return naive_attention(lambda q, keys: kernel(q[None], keys)[0], query, key, value, mask)


def _weights(query: Tensor, key: Tensor, kernel: Kernel, mask: Tensor | None) -> Tensor:
    log = getattr(kernel, "log", None)
    if log is not None:
        return masked_softmax(log(query, key), mask).to(query.dtype)
    values = kernel(query, key)
    _check_shape(values, (*query.shape[:-1], key.shape[-2]))
    values = values if mask is None else values.masked_fill(~mask, 0)
    total = values.sum(dim=-1, keepdim=True, dtype=exact_type(values))
    _check_values(values, total, mask)
    return (values / total.masked_fill(total == 0, 1)).to(query.dtype)


def _check_shape(values: Tensor, shape: tuple[int, ...]) -> None:
    if not values.is_floating_point():
        raise InputTypeError(
            "the kernel gives a type that cannot be used", expected="a floating tensor", got=str(values.dtype)
        )
    if values.shape != shape:
        raise InputError(
            "the kernel gives a shape that cannot be used",
            expected=f"{tuple(shape)}, a number for each query and key",
            got=f"{tuple(values.shape)}",
        )


def _check_values(values: Tensor, total: Tensor, mask: Tensor | None) -> None:
    if not values_are_there(values):
        return
    if bool((values < 0).any()):
        raise InputError(
            "the kernel gives negative values, of which no shares can be made",
            expected="numbers from 0 on",
            got=f"a smallest value of {values.min().item():.3g}",
            hint="an even degree, or an offset that keeps q . k + offset above 0, where the kernel is polynomial",
        )
    has_keys = values.shape[-1] > 0 if mask is None else mask.any(dim=-1)
    lost = (total[..., 0] == 0) & has_keys
    if bool(lost.any()):
        raise InputError(
            "the kernel gives nothing above 0 to a query that has keys",
            expected="a sum above 0 to divide by",
            got=f"0 at {tuple(lost.nonzero()[0].tolist())}",
            hint="a wider kernel, or one with a method `log` beside it, as rbf_kernel has, for far points",
        )
