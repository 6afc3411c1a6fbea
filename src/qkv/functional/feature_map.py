"""Feature maps: `phi(q) . phi(k)` in place of `exp(q . k)`, which makes attention linear in the length.

A feature map is called on keys, `(..., head_dim) -> (..., features)`. Those of queries (`of_queries`) may differ from
that by a positive factor a query, which the normaliser of attention cancels and which keeps them in range. `kernel`
gives the weights that a map implies, before they are normalised.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement, product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from qkv.errors import InputError


class FeatureMap(ABC):
    """What `linear_attention` asks of a feature map."""

    @property
    @abstractmethod
    def signed(self) -> bool:
        """Whether weights may be negative."""

    @property
    def may_vanish(self) -> bool:
        """Whether the weights of a query can add up to nothing: because they cancel, or because they underflow."""
        return True

    @abstractmethod
    def size(self, head_dim: int) -> int:
        """How many features a vector of `head_dim` numbers has."""

    @abstractmethod
    def __call__(self, x: Float[Tensor, "*batch length head_dim"]) -> Float[Tensor, "*batch length features"]:
        """The features of each vector."""

    def of_queries(self, query: Float[Tensor, "*batch queries head_dim"]) -> Float[Tensor, "*batch queries features"]:
        """The features of queries, each scaled by a positive number that the normaliser cancels."""
        return self(query)

    def kernel(
        self, query: Float[Tensor, "*batch queries head_dim"], key: Float[Tensor, "*batch keys head_dim"]
    ) -> Float[Tensor, "*batch queries keys"]:
        """`phi(q) . phi(k)` of each query and key, up to a positive number a query."""
        return self.of_queries(query) @ self(key).mT


@dataclass(frozen=True)
class TaylorFeatures(FeatureMap):
    """Features whose products are the Taylor polynomial of `exp(q . k)`: `sum over n <= order of (q . k)^n / n!`.

    Unfolded, degree n has one feature for each sequence of n coordinates, `x_i x_j ... / sqrt(n!)` (`[1, x,
    vec(x x^T) / sqrt 2]` for order 2; Arora et al. 2024, section 3.1). `x_i x_j` and `x_j x_i` are the same number, so
    the fold keeps each multiset of coordinates once. With e_i the times that coordinate i occurs in it, the feature is

        phi_e(x) = product over i of x_i^e_i / sqrt(e_i!),

    the coefficient being `sqrt(n! / (e_1! ... e_d!)) / sqrt(n!)`: as many sequences fall together as the multinomial
    coefficient says. Proof, by the multinomial theorem:

        (q . k)^n / n! = (sum_i q_i k_i)^n / n! = sum over |e| = n of product_i (q_i k_i)^e_i / e_i!
                       = sum over |e| = n of phi_e(q) phi_e(k).

    A multiset of at most `order` coordinates is one of exactly `order` coordinates of `(1, x)`, so there are
    `C(d + order, order)` features: 17, 153 and 969 for d = 16 and orders 1 to 3, against `sum of d^n`, 17, 273, 4369.

    Even orders are positive. Order 1 is negative below `q . k = -1`, order 3 below -1.596: such maps are `signed`, and
    models trained with them keep `|q . k|` below 1.

    Args:
        order: 1, 2 or 3.
        folded: each multiset of coordinates once.

    Raises:
        InputError: another order.

    >>> TaylorFeatures(order=2)(torch.tensor([[2.0, 3.0]]))  # 1, x, and y; x^2 / sqrt 2, xy, y^2 / sqrt 2
    tensor([[1.0000, 2.0000, 3.0000, 2.8284, 6.0000, 6.3640]])
    """

    order: int = 2
    folded: bool = True

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            whole = isinstance(self.order, int) and self.order >= 0
            raise InputError(
                "the order of Taylor features cannot be used",
                expected="1, 2 or 3",
                got=f"{self.order}, {self._size(16):,} features at head_dim 16" if whole else repr(self.order),
                hint="order=1 at the least: order 0 weighs all keys alike" if self.order == 0 else "order=2",
            )

    @property
    def signed(self) -> bool:
        return self.order % 2 == 1

    @property
    def may_vanish(self) -> bool:
        return self.signed  # 1 + s + s^2 / 2 is 1/2 at least

    def size(self, head_dim: int) -> int:
        return self._size(head_dim)

    def _size(self, head_dim: int) -> int:
        if self.folded:
            return math.comb(head_dim + self.order, self.order)
        return sum(head_dim**degree for degree in range(self.order + 1))

    def __call__(self, x: Float[Tensor, "*batch length head_dim"]) -> Float[Tensor, "*batch length features"]:
        one = torch.ones_like(x[..., :1])
        if self.folded:
            with_one = torch.cat([one, x], dim=-1)
            first, *rest = _fold(x.shape[-1], self.order, x.dtype, x.device)
            features = with_one @ first
            for factor in rest:
                features = features * (with_one @ factor)
            return features
        degrees = [one]
        for degree in range(1, self.order + 1):
            degrees.append((degrees[-1][..., :, None] * x[..., None, :]).flatten(-2) / math.sqrt(degree))
        return torch.cat(degrees, dim=-1)

    def kernel(
        self, query: Float[Tensor, "*batch queries head_dim"], key: Float[Tensor, "*batch keys head_dim"]
    ) -> Float[Tensor, "*batch queries keys"]:
        """`sum over n <= order of s^n / n!` with `s = q . k`, by Horner's rule and without features."""
        scores = query @ key.mT
        weights = one = scores.new_ones(())
        for degree in range(self.order, 0, -1):
            weights = torch.addcmul(one, scores, weights, value=1 / degree)
        return weights


@lru_cache(maxsize=32)
def _fold(head_dim: int, order: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Matrices that pick, for each multiset, its coordinates of `(1, x)`; the first brings the coefficients.

    The features are the product of `(1, x) @ matrix`: picking by index takes several times as long.
    """
    multisets = sorted(
        combinations_with_replacement(range(head_dim + 1), order), key=lambda chosen: order - chosen.count(0)
    )
    counts = [Counter(chosen) for chosen in multisets]
    coefficients = [math.prod(math.factorial(n) for i, n in count.items() if i) ** -0.5 for count in counts]
    with torch.inference_mode(mode=False):  # what is kept serves training too
        picked = torch.tensor(multisets, device=device).T
        first, *rest = (F.one_hot(coordinates, head_dim + 1).T.to(dtype) for coordinates in picked)
        return (first * torch.tensor(coefficients, dtype=dtype, device=device), *rest)


def naive_taylor_features(x: Float[Tensor, "*batch length head_dim"], order: int) -> Float[Tensor, "*batch length _"]:
    """The definition of unfolded `TaylorFeatures`: one feature for each sequence of at most `order` coordinates."""
    features = []
    for degree in range(order + 1):
        for sequence in product(range(x.shape[-1]), repeat=degree):
            features.append(math.prod((x[..., i] for i in sequence), start=torch.ones_like(x[..., 0])))
            features[-1] = features[-1] / math.sqrt(math.factorial(degree))
    return torch.stack(features, dim=-1)


@dataclass(frozen=True)
class EluFeatures(FeatureMap):
    """`elu(x) + 1`, coordinate by coordinate: `x + 1` from 0 on and `exp(x)` below (Katharopoulos et al. 2020, eq. 7).

    >>> EluFeatures()(torch.tensor([[2.0, 0.0, -1.0]]))
    tensor([[3.0000, 1.0000, 0.3679]])
    """

    @property
    def signed(self) -> bool:
        return False

    def size(self, head_dim: int) -> int:
        return head_dim

    def __call__(self, x: Float[Tensor, "*batch length head_dim"]) -> Float[Tensor, "*batch length head_dim"]:
        positive = F.relu(x)
        return positive + (x - positive).exp()  # elu(x) itself is near -1 far below 0, where adding 1 loses digits

    def of_queries(self, query: Float[Tensor, "*batch queries head_dim"]) -> Float[Tensor, "*batch queries head_dim"]:
        """The features, divided by the largest where no coordinate is above 0 and all could underflow."""
        return self(query - query.amax(dim=-1, keepdim=True).clamp(max=0))


def naive_elu_features(x: Float[Tensor, "*batch length head_dim"]) -> Float[Tensor, "*batch length head_dim"]:
    """The definition of `EluFeatures`."""
    return F.elu(x) + 1


@dataclass(frozen=True, eq=False)
class RandomFeatures(FeatureMap):
    """Positive random features, whose products are `exp(q . k)` on average: FAVOR+ (Choromanski et al. 2021, lemma 1).

    `phi(x) = exp(w_i . x - |x|^2 / 2) / sqrt(features)` for each row w_i of `projection`, drawn from a normal
    distribution and not learned: `linear_attention` gives it no gradient.

    Queries are scaled by their largest feature. Keys have to share one scale, and in causal attention it may not be
    taken from keys that come later: as `w . x - |x|^2 / 2` is at most `|w|^2 / 2`, a constant of the projection alone
    keeps them from overflowing.

    Args:
        projection: one row a feature.

    >>> phi = RandomFeatures.draw(4, 10_000, generator=torch.Generator().manual_seed(0))
    >>> x = torch.tensor([[0.5, 0, 0, 0], [0, 0.5, 0, 0]])
    >>> (phi(x) @ phi(x).mT).round(decimals=1)  # exp(1/4) = 1.284 and exp(0) = 1
    tensor([[1.3000, 1.0000],
            [1.0000, 1.3000]])
    """

    projection: Float[Tensor, "features head_dim"]

    @classmethod
    def draw(
        cls,
        head_dim: int,
        features: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> "RandomFeatures":
        """Rows that are normal each, and orthogonal within each block of `head_dim` (section 2.4 of the paper).

        Orthogonal rows err less, and as each row alone is distributed as before, the average stays.

        Raises:
            InputError: a size below 1.
        """
        if head_dim < 1 or features < 1:
            raise InputError(
                "random features cannot be drawn", expected="sizes of 1 at least", got=f"{head_dim=}, {features=}"
            )
        blocks = -(-features // head_dim)
        device = None if generator is None else generator.device
        gaussian = torch.randn(2, blocks, head_dim, head_dim, generator=generator, device=device, dtype=dtype)
        directions, upper = torch.linalg.qr(gaussian[0])
        # Without these signs the directions would not be uniform (Mezzadri 2007).
        directions = directions * upper.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
        rows = directions.mT * gaussian[1].norm(dim=-1, keepdim=True)
        return cls(rows.flatten(0, 1)[:features])

    @property
    def signed(self) -> bool:
        return False

    def size(self, head_dim: int) -> int:
        self._require_width(head_dim)
        return self.projection.shape[0]

    def __call__(self, x: Float[Tensor, "*batch length head_dim"]) -> Float[Tensor, "*batch length features"]:
        # exp(60) leaves room in float32 for sums; up to there nothing is shifted, and small features do not underflow.
        excess = (self.projection.square().sum(dim=-1).amax() / 2 - 60).clamp(min=0)
        return self._exp(self._project(x) - x.square().sum(dim=-1, keepdim=True) / 2 - excess)

    def of_queries(self, query: Float[Tensor, "*batch queries head_dim"]) -> Float[Tensor, "*batch queries features"]:
        """The features, divided by the largest of each query."""
        projected = self._project(query)
        return self._exp(projected - projected.amax(dim=-1, keepdim=True))

    def _project(self, x: Tensor) -> Tensor:
        self._require_width(x.shape[-1])
        return x @ self.projection.to(x.dtype).mT

    def _exp(self, exponents: Tensor) -> Tensor:
        return exponents.exp() * self.projection.shape[0] ** -0.5

    def _require_width(self, head_dim: int) -> None:
        if head_dim != self.projection.shape[1]:
            raise InputError(
                "the projection of the random features does not fit query and key",
                expected=f"head_dim {self.projection.shape[1]}, as drawn",
                got=str(head_dim),
            )


def naive_random_features(
    x: Float[Tensor, "*batch length head_dim"], projection: Float[Tensor, "features head_dim"]
) -> Float[Tensor, "*batch length features"]:
    """The definition of `RandomFeatures`."""
    exponents = [x @ w - x.norm(dim=-1) ** 2 / 2 for w in projection]
    return torch.stack(exponents, dim=-1).exp() / math.sqrt(len(projection))
