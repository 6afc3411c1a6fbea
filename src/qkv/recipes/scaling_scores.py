"""Why scores are scaled, why weights come from a softmax, and how near Taylor's polynomials come to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import jacrev, vmap

from qkv.functional import (
    EluFeatures,
    FeatureMap,
    RandomFeatures,
    TaylorFeatures,
    linear_attention_weights,
    softmax_attention_weights,
)

WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
NORMS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
KEYS = 64
_HEAD_DIM, _FEATURES = 16, 128


@dataclass(frozen=True)
class Weighing:
    """What one way to weigh 64 keys does at one width, over rows of random scores.

    Attributes:
        weights: `softmax, scaled`, `softmax, not scaled`, `sum-normalised` or `hard max`.
        width: of queries and keys, whose entries are normal with variance 1.
        variance: of the scores that were weighed.
        entropy: of a row in nats, the mean; None where weights may be negative.
        absolute: the sum of a row's absolute weights, the median; 1 where none is negative.
        jacobian: the Frobenius norm of the weights' derivative by the scores, the median.
        gradient: the norm of what reaches the query when the gradient by the weights is normal with variance 1, the
            median.
    """

    weights: str
    width: int
    variance: float
    entropy: float | None
    absolute: float
    jacobian: float
    gradient: float


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1)


def _sum_normalised(scores: Tensor) -> Tensor:
    return scores / scores.sum(dim=-1, keepdim=True)


def _hard_max(scores: Tensor) -> Tensor:
    return (scores == scores.amax(dim=-1, keepdim=True)).to(scores.dtype)


def weighings(rows: int, generator: torch.Generator, widths: Sequence[int] = WIDTHS) -> list[Weighing]:
    """Each way to weigh at each width, over so many rows: a query, its keys, and a gradient, all drawn."""
    found = []
    for width in widths:
        query = torch.randn(rows, width, generator=generator, dtype=torch.float64)
        key = torch.randn(rows, KEYS, width, generator=generator, dtype=torch.float64)
        upstream = torch.randn(rows, KEYS, generator=generator, dtype=torch.float64)
        root = width**-0.5
        for name, scale, weigh in (
            ("softmax, scaled", root, _softmax),
            ("softmax, not scaled", 1.0, _softmax),
            ("sum-normalised", root, _sum_normalised),
            ("hard max", root, _hard_max),
        ):
            found.append(_weighing(name, scale, weigh, query, key, upstream))
    return found


def _weighing(
    name: str, scale: float, weigh: Callable[[Tensor], Tensor], query: Tensor, key: Tensor, upstream: Tensor
) -> Weighing:
    scores = scale * (key @ query[..., None]).squeeze(-1)
    weights, jacobian = weigh(scores), vmap(jacrev(weigh))(scores)
    # d query = scale * K^T J^T u, by the chain rule.
    gradient = scale * (key.mT @ (jacobian.mT @ upstream[..., None])).squeeze(-1)
    return Weighing(
        weights=name,
        width=query.shape[-1],
        variance=float(scores.var()),
        entropy=None if bool((weights < 0).any()) else abs(float(torch.special.entr(weights).sum(-1).mean())),
        absolute=float(weights.abs().sum(-1).median()),
        jacobian=float(torch.linalg.matrix_norm(jacobian).median()),
        gradient=float(gradient.norm(dim=-1).median()),
    )


@dataclass(frozen=True)
class Nearness:
    """How far the weights of a feature map are from softmax's where all queries and keys are `norm` long.

    `distance` is the total variation `sum |w - softmax| / 2` of a row, the mean over rows.
    """

    features: str
    norm: float
    distance: float


def nearness(rows: int, generator: torch.Generator, norms: Sequence[float] = NORMS) -> list[Nearness]:
    """Each feature map at each norm, over so many queries of random direction and 64 keys, 16 wide, without a scale."""
    query = torch.randn(rows, _HEAD_DIM, generator=generator, dtype=torch.float64)
    key = torch.randn(KEYS, _HEAD_DIM, generator=generator, dtype=torch.float64)
    query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
    maps: dict[str, FeatureMap] = {f"Taylor, order {order}": TaylorFeatures(order=order) for order in (1, 2, 3)}
    maps["elu + 1"] = EluFeatures()
    maps[f"FAVOR+, {_FEATURES} features"] = RandomFeatures.draw(
        _HEAD_DIM, _FEATURES, generator=generator, dtype=torch.float64
    )
    return [
        Nearness(name, norm, _distance(norm * query, norm * key, feature_map))
        for name, feature_map in maps.items()
        for norm in norms
    ]


def _distance(query: Tensor, key: Tensor, feature_map: FeatureMap) -> float:
    weights = linear_attention_weights(query, key, feature_map, vanishing="zeros")
    exact = softmax_attention_weights(query, key, scale=1.0)
    return float((weights - exact).abs().sum(dim=-1).mean() / 2)
