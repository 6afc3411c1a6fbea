"""Query and key matrices that send one word's attention to another: drawn at random, and found by gradient ascent."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from qkv.functional import softmax_attention_weights
from qkv.recipes.explain import Matrices

GOAL = 0.99999
_BATCH = 500
_STEP = 0.1


@dataclass(frozen=True)
class Trials:
    """The weight on the words aimed at under each of many pairs of random matrices."""

    weights: Float64[Tensor, " trials"]

    @property
    def best(self) -> float:
        return float(self.weights.max())

    @property
    def median(self) -> float:
        return float(self.weights.median())

    def share_above(self, weight: float) -> float:
        """The share of trials that put more than `weight` there."""
        return float((self.weights > weight).double().mean())


def random_trials(
    query: Float64[Tensor, " embed_dim"],
    keys: Float64[Tensor, "words embed_dim"],
    aim: Bool[Tensor, " words"],
    *,
    width: int,
    count: int,
    generator: torch.Generator,
) -> Trials:
    """`count` independent pairs of matrices whose entries are normal with variance `1 / embed_dim`, many at a time.

    Args:
        query: the vector of the word that asks.
        keys: those of all words.
        aim: which words the weight is wanted on.
        width: of queries and keys.
    """
    found = []
    for size in _batches(count):
        w_query, w_key = (
            torch.randn(size, len(query), width, generator=generator, dtype=torch.float64) * len(query) ** -0.5
            for _ in range(2)
        )
        weights = softmax_attention_weights(query[None] @ w_query, keys @ w_key)
        found.append(weights[:, 0, aim].sum(dim=-1))
    return Trials(torch.cat(found))


def _batches(count: int) -> Sequence[int]:
    return [min(_BATCH, count - start) for start in range(0, count, _BATCH)]


@dataclass(frozen=True)
class Found:
    """Where gradient ascent ended.

    Attributes:
        matrices: query and key matrices.
        weight: the weight that they put on the words aimed at.
        steps: how many it took.
        history: the weight at the start and after each step.
    """

    matrices: Matrices
    weight: float
    steps: int
    history: Sequence[float]


def ascend(
    query: Float64[Tensor, " embed_dim"],
    keys: Float64[Tensor, "words embed_dim"],
    aim: Bool[Tensor, " words"],
    *,
    width: int,
    steps: int,
    generator: torch.Generator,
) -> Found:
    """Raises `log sum_{j in aim} softmax(q Kᵀ / sqrt(width))_j` along its gradient until the weight passes 0.99999.

    Each step moves both matrices together by a fixed length: near the goal, where gradients vanish, as far as at the
    random start. Words of one vector cannot be told apart, so `aim` should hold all of them.

    Args:
        query, keys, aim, width: as in `random_trials`.
        steps: the most that are made.
    """
    start = Matrices.random(len(query), len(query), width, generator)
    assert start.query is not None
    assert start.key is not None
    both = torch.stack([start.query, start.key])
    history = []
    while True:
        w_query, w_key = both.requires_grad_()
        scores = (query[None] @ w_query) @ (keys @ w_key).mT * width**-0.5
        chance = torch.logsumexp(scores.log_softmax(dim=-1)[0, aim], dim=-1)
        history.append(float(chance.detach().exp()))
        if history[-1] > GOAL or len(history) > steps:
            both = both.detach()
            return Found(Matrices(both[0], both[1]), history[-1], len(history) - 1, history)
        (gradient,) = torch.autograd.grad(chance, both)
        both = both.detach() + _STEP * gradient / gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
