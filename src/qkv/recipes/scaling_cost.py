"""What attention costs: seconds, memory and operations of each form at one length, and the laws fitted to them."""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from qkv.draw import PowerLaw
from qkv.functional import (
    EluFeatures,
    FeatureMap,
    RandomFeatures,
    TaylorFeatures,
    linear_attention,
    softmax_attention,
)
from qkv.types import Config

FormName = Literal["softmax-naive", "softmax", "linear-taylor", "linear-elu", "linear-random", "self-attention"]
Attend = Callable[..., Tensor]


class Sizes(Config):
    """How wide the attention is that is measured."""

    heads: PositiveInt = 2
    """How many heads run side by side."""
    head_dim: PositiveInt = 16
    """The width of queries and keys in a head."""
    value_dim: PositiveInt = 64
    """The width of values in a head."""
    features: PositiveInt = 128
    """How many random features FAVOR+ has."""


@dataclass(frozen=True)
class Form:
    """What is known of a form before it is measured: what it is, and how its time and its memory grow."""

    told: str
    time: str
    memory: str


FORMS: Mapping[FormName, Form] = {
    "softmax-naive": Form("softmax(Q Kᵀ) V with its weights in memory", "O(L² D)", "O(L²)"),
    "softmax": Form("the same through scaled_dot_product_attention", "O(L² D)", "O(L D)"),
    "linear-taylor": Form("linear attention, Taylor features of order 2", "O(L H D)", "O(L D)"),
    "linear-elu": Form("linear attention, elu + 1", "O(L H D)", "O(L D)"),
    "linear-random": Form("linear attention, positive random features (FAVOR+)", "O(L H D)", "O(L D)"),
    "self-attention": Form("softmax(X Wq Wkᵀ Xᵀ) X Wv, fused", "O(L d D + L² D)", "O(L d)"),
}


@dataclass(frozen=True)
class Cost:
    """What one form costs at one length, forward alone or with backward.

    `megabytes` are those that torch held at once beside the inputs. `operations` are those of the matrix products, as
    torch counts them; where it saw none (`counted` is false), they are those of the formula.
    """

    form: FormName
    is_causal: bool
    backward: bool
    length: int
    seconds: float
    megabytes: float
    operations: int
    counted: bool


def measure(
    names: Sequence[FormName],
    sizes: Sizes,
    length: int,
    *,
    backward: bool,
    rounds: int,
    least_seconds: int | float = 0,
    max_megabytes: int,
    generator: torch.Generator,
) -> list[Cost]:
    """Costs of all forms at one length, causal and not: medians of calls in which they take turns.

    The turns end after so many rounds, or `least_seconds` where that is later. A form whose weights would need more
    than `max_megabytes` is left out.
    """
    calls: dict[tuple[FormName, bool, bool], Callable[[], None]] = {
        (name, is_causal, with_backward): _call(name, sizes, length, is_causal, with_backward, generator)
        for name in names
        if _weights_megabytes(name, sizes, length) <= max_megabytes
        for is_causal in (True, False)
        for with_backward in (False, True)[: 1 + backward]
    }
    # Both also warm up: the first call compiles and fills caches.
    operations = {key: _operations(call) for key, call in calls.items()}
    megabytes = {key: _peak_megabytes(call) for key, call in calls.items()}
    seconds: dict[tuple[FormName, bool, bool], list[float]] = {key: [] for key in calls}
    start, done = time.perf_counter(), 0
    while done < rounds or time.perf_counter() - start < least_seconds:
        done += 1
        for key, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[key].append(time.perf_counter() - began)
    return [
        Cost(
            *key,
            length=length,
            seconds=statistics.median(seconds[key]),
            megabytes=megabytes[key],
            operations=operations[key] or _formula(sizes, length, backward=key[2]),
            counted=operations[key] > 0,
        )
        for key in calls
    ]


# -- what is called --------------------------------------------------------------------------------------------------


def _call(
    name: FormName, sizes: Sizes, length: int, is_causal: bool, backward: bool, generator: torch.Generator
) -> Callable[[], None]:
    """One call of a form on random inputs."""
    attend = _attend(name, sizes, generator)
    drawn = [torch.randn(shape, generator=generator) for shape in _shapes(name, sizes, length)]
    cotangent = torch.randn(1, sizes.heads, length, sizes.value_dim, generator=generator)

    def forward() -> None:
        with torch.no_grad():
            attend(*drawn, is_causal=is_causal)

    def both() -> None:
        torch.autograd.grad(attend(*inputs, is_causal=is_causal), inputs, cotangent)

    inputs = [x.requires_grad_(backward) for x in drawn]
    return both if backward else forward


def _shapes(name: FormName, sizes: Sizes, length: int) -> list[tuple[int, ...]]:
    if name == "self-attention":
        embed_dim, narrow = sizes.heads * sizes.value_dim, sizes.heads * sizes.head_dim
        return [(1, length, embed_dim), (embed_dim, narrow), (embed_dim, narrow), (embed_dim, embed_dim)]
    widths = (sizes.head_dim, sizes.head_dim, sizes.value_dim)
    return [(1, sizes.heads, length, width) for width in widths]


def _attend(name: FormName, sizes: Sizes, generator: torch.Generator) -> Attend:
    match name:
        case "softmax-naive":
            return lambda q, k, v, is_causal: softmax_attention(q, k, v, is_causal=is_causal, need_weights=True)[0]
        case "softmax":
            return _fused
        case "self-attention":
            return lambda x, wq, wk, wv, is_causal: _fused(
                *(_heads(x @ weight / x.shape[-1] ** 0.5, sizes.heads) for weight in (wq, wk, wv)), is_causal=is_causal
            )
        case _:
            feature_map = _feature_map(name, sizes, generator)
            scale = sizes.head_dim**-0.5
            return lambda q, k, v, is_causal: linear_attention(q * scale, k, v, feature_map, is_causal=is_causal)[0]


def _fused(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    # A processor's fused path takes queries and keys as wide as values. Zeros change no score.
    scale, missing = query.shape[-1] ** -0.5, max(0, value.shape[-1] - query.shape[-1])
    query, key = (F.pad(x, (0, missing)) for x in (query, key))
    return softmax_attention(query, key, value, scale=scale, is_causal=is_causal)[0]


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _feature_map(name: FormName, sizes: Sizes, generator: torch.Generator) -> FeatureMap:
    match name:
        case "linear-elu":
            return EluFeatures()
        case "linear-random":
            return RandomFeatures.draw(sizes.head_dim, sizes.features, generator=generator)
        case _:
            return TaylorFeatures(order=2)


# -- what is measured ------------------------------------------------------------------------------------------------


def _operations(call: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def _formula(sizes: Sizes, length: int, *, backward: bool) -> int:
    """Operations of Taylor attention: each key into the state, each query out of it, `features x (value_dim + 1)`.

    Two such products forward; five more backward, one of which makes the state again.
    """
    features = TaylorFeatures(order=2).size(sizes.head_dim)
    return (7 if backward else 2) * 2 * sizes.heads * length * features * (sizes.value_dim + 1)


def _peak_megabytes(call: Callable[[], None]) -> float:
    """The most that torch's allocator had handed out at once since the call began."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter would be taken for ours
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        call()
    recorded: Any = found.profiler
    changes = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    held = np.cumsum([event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())])
    return float(held.max(initial=0)) / 2**20


def _weights_megabytes(name: FormName, sizes: Sizes, length: int) -> float:
    """What scores, weights and the gradient of either take where a form holds them."""
    return 4 * 4 * sizes.heads * length**2 / 2**20 if name == "softmax-naive" else 0.0


# -- what follows ----------------------------------------------------------------------------------------------------


def series(costs: Sequence[Cost], form: str, *, is_causal: bool, backward: bool) -> list[Cost]:
    """The costs of one form by length."""
    return [cost for cost in costs if (cost.form, cost.is_causal, cost.backward) == (form, is_causal, backward)]


def crossing(costs: Sequence[Cost], *, is_causal: bool, backward: bool) -> float:
    """The `crossover` of linear attention of second order with fused softmax."""
    softmax, linear = (
        {cost.length: cost.seconds for cost in series(costs, form, is_causal=is_causal, backward=backward)}
        for form in ("softmax", "linear-taylor")
    )
    return crossover(softmax, linear)


def power_law(x: Sequence[int | float], y: Sequence[int | float]) -> PowerLaw | None:
    """The power law nearest to the longer half of the points, by least squares in logarithms; None of fewer than two.

    >>> power_law([1, 2, 4, 8], [9, 9, 12, 48])
    PowerLaw(exponent=2.0, factor=0.75, start=4)
    """
    start = len(x) // 2
    if len(x) - start < 2:
        return None
    exponent, offset = np.polyfit(np.log(x[start:]), np.log(y[start:]), 1)
    return PowerLaw(round(float(exponent), 12), round(math.exp(offset), 12), x[start])


def crossover(slower: Mapping[int, int | float], faster: Mapping[int, int | float]) -> float:
    """The length from which on `faster` is faster, between measured lengths by a straight line in logarithms.

    0 where it is so from the shortest length on, infinity where it is not so at the longest.

    >>> crossover({128: 1.0, 256: 4.0, 512: 16.0}, {128: 4.0, 256: 8.0, 512: 16.0 / 2})
    362.0
    """
    lengths = sorted(slower.keys() & faster.keys())
    gains = [math.log(slower[length] / faster[length]) for length in lengths]
    if not gains or gains[-1] <= 0:
        return math.inf
    before = max((place for place, gain in enumerate(gains) if gain <= 0), default=None)
    if before is None:
        return 0.0
    share = gains[before] / (gains[before] - gains[before + 1])
    return float(round(lengths[before] * (lengths[before + 1] / lengths[before]) ** share))
