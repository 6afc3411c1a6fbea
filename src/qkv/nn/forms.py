"""Forms of attention over heads, one module each: how queries weigh keys, and what a decoder keeps of the past.

`MultiheadAttention` projects into heads and joins them again; between the two stands one of these, chosen by
`AttentionConfig`. Tensors are `(batch, heads, length, head_dim)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import (
    EluFeatures,
    FeatureMap,
    LinearState,
    RandomFeatures,
    TaylorFeatures,
    additive_attention_weights,
    bilinear_attention,
    causal_mask,
    combine_masks,
    cosine_attention,
    kernel_attention,
    linear_attention,
    linear_attention_read,
    linear_attention_start,
    linear_attention_step,
    polynomial_kernel,
    rbf_kernel,
    softmax_attention,
    windowed_attention,
)
from qkv.functional.dropout import dropout as drop
from qkv.trace import recording
from qkv.types import Config, Fact

FormName = Literal[
    "softmax",
    "dot-product",
    "cosine",
    "bilinear",
    "additive",
    "rbf",
    "polynomial",
    "window",
    "linear-taylor",
    "linear-taylor-1",
    "linear-taylor-3",
    "linear-elu",
    "linear-random",
]
Attended = tuple[Tensor, Tensor | None]
"""Output, and weights where they were asked for."""


class AttentionOptions(Config):
    """What single forms of attention can be told."""

    scale: PositiveFloat | None = None
    """On scores: 1/sqrt(head_dim) where left out (1 for dot-product and linear-elu, sqrt(head_dim) for cosine)."""
    sigma: PositiveFloat | None = None
    """Width of the rbf kernel; by default sigma^2 = 2 sqrt(head_dim), with which q . k counts as in softmax."""
    degree: PositiveInt = Field(default=2, multiple_of=2)
    """Power of the polynomial kernel (1 + scale q . k)^degree; even, so that no weight is negative."""
    window: PositiveInt = 16
    """How far the window reaches, in positions; attention between two sequences has none and stays softmax."""
    features: PositiveInt = 256
    """How many random features."""


class AttentionConfig(AttentionOptions):
    """Which attention a Transformer is built of.

    >>> AttentionConfig(form="linear-taylor").build(num_heads=2, head_dim=8)
    LinearAttention(linear-taylor)
    """

    form: FormName = "softmax"
    """How queries weigh keys."""

    @property
    def is_linear(self) -> bool:
        """Whether no weights are ever formed."""
        return self.form.startswith("linear")

    def between(self) -> "AttentionConfig":
        """The same for attention from one sequence to another, where there is no window."""
        return self.model_copy(update={"form": "softmax"}) if self.form == "window" else self

    def build(self, num_heads: int, head_dim: int) -> "AttentionForm":
        """The form's module, for `num_heads` heads of width `head_dim`."""
        scale = self.scale or head_dim**-0.5
        match self.form:
            case "softmax":
                return SoftmaxAttention(scale)
            case "dot-product":
                return SoftmaxAttention(self.scale or 1.0)
            case "cosine":
                return CosineAttention(self.scale or head_dim**0.5)
            case "bilinear":
                return BilinearAttention(num_heads, head_dim, scale)
            case "additive":
                return AdditiveHeads(num_heads, head_dim)
            case "rbf":
                return KernelAttention(rbf_kernel(self.sigma or 2**0.5 * head_dim**0.25))
            case "polynomial":
                return KernelAttention(polynomial_kernel(self.degree), scale)
            case "window":
                return WindowedAttention(self.window, scale)
            case _:
                return LinearAttention(self, head_dim)


# -- what a decoder keeps --------------------------------------------------------------------------------------------


@dataclass
class KeyValues:
    """Keys and values so far, with room for more: the first `length` positions are filled."""

    key: Float[Tensor, "batch heads room head_dim"]
    value: Float[Tensor, "batch heads room head_dim"]
    length: int

    def append(
        self, key: Float[Tensor, "batch heads 1 head_dim"], value: Float[Tensor, "batch heads 1 head_dim"]
    ) -> None:
        """Writes the next position."""
        self.key[:, :, self.length : self.length + 1] = key
        self.value[:, :, self.length : self.length + 1] = value
        self.length += 1

    @property
    def nbytes(self) -> int:
        """How much it takes."""
        return self.key.nbytes + self.value.nbytes

    def last(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """The keys and values of the last positions that are filled, or of all, as views."""
        start = 0 if count is None else max(self.length - count, 0)
        return self.key[:, :, start : self.length], self.value[:, :, start : self.length]

    def select(self, indices: Int[Tensor, " chosen"]) -> None:
        """Keeps these rows of the batch, in this order; a row may be left out or come more than once."""
        for name in ("key", "value"):
            old = getattr(self, name)
            new = old.new_empty(len(indices), *old.shape[1:])
            new[:, :, : self.length] = old[:, :, : self.length].index_select(0, indices)
            setattr(self, name, new)


@dataclass
class Summed:
    """The past as linear attention keeps it: of one size, however long it is."""

    state: LinearState

    @property
    def nbytes(self) -> int:
        """How much it takes."""
        return self.state.weighted.nbytes + self.state.total.nbytes

    def select(self, indices: Int[Tensor, " chosen"]) -> None:
        """Keeps these rows of the batch, in this order; a row may be left out or come more than once."""
        weighted, total = (part.index_select(0, indices) for part in (self.state.weighted, self.state.total))
        self.state = LinearState(weighted, total)


Past = KeyValues | Summed


# -- forms -----------------------------------------------------------------------------------------------------------


class Options(TypedDict, total=False):
    """What every form can be asked: no query sees a later key, a share of weights is dropped, weights come too."""

    is_causal: bool
    dropout: float
    need_weights: bool


class AttentionForm(nn.Module):
    """What `MultiheadAttention` asks of a form.

    Attributes:
        backend: what computes the output where weights are asked for, and `backend_without` where they are not.
        implied: the weights are never there, only implied by what is computed.
        signed: weights may be negative.
    """

    backend = "softmax"
    backend_without = "softmax"
    implied = False
    signed = False

    def forward(
        self,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch heads keys head_dim"],
        value: Float[Tensor, "batch heads keys value_dim"],
        mask: Bool[Tensor, "... #queries keys"] | None = None,
        **options: Unpack[Options],
    ) -> Attended:
        """The output, and the weights if asked for; `mask` is True where a query may attend to a key."""
        raise NotImplementedError

    def facts(self, *, asked: bool) -> dict[str, Fact]:
        """How the weights of a call came about, which asked for them or did not."""
        obtained = "implied" if self.implied else "captured" if asked else "recomputed"
        return {"obtained": obtained, "backend": self.backend if asked else self.backend_without, "signed": self.signed}

    def start(self, key: Float[Tensor, "batch heads length head_dim"], room: int) -> Past:
        """An empty past for at most `room` positions, of the type and batch of `key`."""
        empty = key.new_empty(2, *key.shape[:2], room, key.shape[3])
        return KeyValues(empty[0], empty[1], 0)

    def keep(
        self,
        key: Float[Tensor, "batch heads keys head_dim"],
        value: Float[Tensor, "batch heads keys head_dim"],
        mask: Bool[Tensor, "batch #heads 1 keys"] | None,  # noqa: ARG002 - keys stay apart: it can come with `read`
    ) -> Past:
        """A past of these positions, to be read and not added to."""
        return KeyValues(key.contiguous(), value.contiguous(), key.shape[2])

    def step(
        self,
        query: Float[Tensor, "batch heads 1 head_dim"],
        key: Float[Tensor, "batch heads 1 head_dim"],
        value: Float[Tensor, "batch heads 1 head_dim"],
        past: Any,
    ) -> Attended:
        """Adds a position to the past and attends to all of it, as the causal form does there."""
        past.append(key, value)
        return self.read(query, past)

    def read(
        self,
        query: Float[Tensor, "batch heads 1 head_dim"],
        past: Any,
        mask: Bool[Tensor, "batch #heads 1 keys"] | None = None,
    ) -> Attended:
        """Attends to the past."""
        return self(query, *past.last(), mask, need_weights=_in_the_open(query))


class SoftmaxAttention(AttentionForm):
    """Scaled dot products under a softmax."""

    backend_without = "scaled_dot_product_attention"

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, query, key, value, mask=None, **options: Unpack[Options]) -> Attended:
        return softmax_attention(query, key, value, mask, scale=self.scale, **options)

    def extra_repr(self) -> str:
        return f"scale={self.scale:.4g}"


class CosineAttention(SoftmaxAttention):
    """Cosines under a softmax: no score passes `scale`."""

    def forward(self, query, key, value, mask=None, **options: Unpack[Options]) -> Attended:
        return cosine_attention(query, key, value, mask, scale=self.scale, **options)


class WindowedAttention(SoftmaxAttention):
    """Softmax over the keys near each query."""

    def __init__(self, window: int, scale: float):
        super().__init__(scale)
        self.window = window

    def forward(self, query, key, value, mask=None, **options: Unpack[Options]) -> Attended:
        return windowed_attention(query, key, value, self.window, mask, scale=self.scale, **options)

    def read(self, query, past, mask=None) -> Attended:
        # One query, at the end of a past that is cut to its window: what is left is plain softmax.
        key, value = past.last(self.window + 1)
        mask = None if mask is None else mask[..., -key.shape[2] :]
        return softmax_attention(query, key, value, mask, scale=self.scale, need_weights=_in_the_open(query))


class BilinearAttention(AttentionForm):
    """`q W k` under a softmax, with a matrix for each head that starts as the scaled dot product."""

    backend_without = "scaled_dot_product_attention"

    def __init__(self, num_heads: int, head_dim: int, scale: float):
        super().__init__()
        self.weight = nn.Parameter(scale * torch.eye(head_dim).repeat(num_heads, 1, 1))

    def forward(self, query, key, value, mask=None, **options: Unpack[Options]) -> Attended:
        return bilinear_attention(query, key, value, self.weight, mask, **options)


class AdditiveHeads(AttentionForm):
    """`v . tanh(q + k)` under a softmax, with a scorer v for each head; queries and keys are projected before."""

    backend = backend_without = "additive"

    def __init__(self, num_heads: int, head_dim: int):
        super().__init__()
        self.scorer = nn.Parameter(torch.empty(num_heads, head_dim).uniform_(-1, 1) * head_dim**-0.5)

    def forward(self, query, key, value, mask=None, **options: Unpack[Options]) -> Attended:
        if options.get("is_causal"):
            mask = combine_masks(mask, causal_mask(query.shape[-2], key.shape[-2], device=query.device))
        weights = additive_attention_weights(query, key, self.scorer, mask)
        weights = drop(weights, options.get("dropout", 0.0))
        return weights @ value, weights if options.get("need_weights") else None


class KernelAttention(AttentionForm):
    """Weights in proportion to a kernel of query and key, each scaled by the square root of `scale`."""

    backend = backend_without = "kernel"

    def __init__(self, kernel: Callable[[Tensor, Tensor], Tensor], scale: float = 1.0):
        super().__init__()
        self.kernel, self.scale = kernel, scale

    def forward(self, query, key, value, mask=None, **options: Unpack[Options]) -> Attended:
        root = self.scale**0.5
        return kernel_attention(query * root, key * root, value, self.kernel, mask, **options)

    def extra_repr(self) -> str:
        return f"{self.kernel}, scale={self.scale:.4g}"


class LinearAttention(AttentionForm):
    """`linear_attention`: cost linear in the length, and a past of fixed size.

    Taylor features of odd order may give negative weights: there queries and keys are cut to length, so that
    `|q . k|` is 0.9 and the normaliser cannot vanish. Weights are never formed, so none can be dropped.

    Args:
        config: names the feature map.
        head_dim: the width of a head.
    """

    implied = True

    def __init__(self, config: AttentionConfig, head_dim: int):
        super().__init__()
        self.backend = self.backend_without = self.name = config.form
        self.scale = config.scale or (1.0 if config.form == "linear-elu" else head_dim**-0.5)
        # Random features are part of what was learned: drawn once, kept with the weights.
        drawn = RandomFeatures.draw(head_dim, config.features).projection if config.form == "linear-random" else None
        self.projection: Tensor | None
        self.register_buffer("projection", drawn)
        self.signed = self.feature_map.signed

    @property
    def feature_map(self) -> FeatureMap:
        if self.projection is not None:
            return RandomFeatures(self.projection)
        if self.name == "linear-elu":
            return EluFeatures()
        return TaylorFeatures(order={"linear-taylor-1": 1, "linear-taylor-3": 3}.get(self.name, 2))

    def forward(self, query, key, value, mask=None, **options: Unpack[Options]) -> Attended:
        if dropout := options.get("dropout"):
            raise InputError(
                "linear attention has no weights to drop",
                expected="a dropout of 0 on attention weights",
                got=f"{dropout}",
                hint="attention_dropout=0",
            )
        return linear_attention(
            self._in_range(query),
            self._in_range(key),
            value,
            self.feature_map,
            mask,
            is_causal=options.get("is_causal", False),
            vanishing="zeros",
            need_weights=options.get("need_weights", False),
        )

    def start(self, key, room: int) -> Past:
        if self._rather_apart(room, key.shape[3]):
            return super().start(key, room)
        nothing = key[:, :, :0]
        return Summed(linear_attention_start(nothing, nothing, self.feature_map))

    def keep(self, key, value, mask) -> Past:
        if self._rather_apart(*key.shape[2:]):
            return super().keep(key, value, mask)
        return Summed(linear_attention_start(self._in_range(key), value, self.feature_map, mask))

    def step(self, query, key, value, past) -> Attended:
        if isinstance(past, KeyValues):
            return super().step(query, key, value, past)
        query, key = self._in_range(query), self._in_range(key)
        output, past.state = linear_attention_step(query, key, value, past.state, self.feature_map, vanishing="zeros")
        return output, None

    def read(self, query, past, mask=None) -> Attended:
        if isinstance(past, KeyValues):
            return super().read(query, past, mask)
        # What the mask hides, `keep` has left out.
        return linear_attention_read(self._in_range(query), past.state, self.feature_map, vanishing="zeros"), None

    def _rather_apart(self, keys: int, head_dim: int) -> bool:
        """Whether so many keys and values are less to keep, and to read, than what they sum up to."""
        return keys * 2 * head_dim < self.feature_map.size(head_dim) * (head_dim + 1)

    def _in_range(self, x: Tensor) -> Tensor:
        """Queries or keys, so that their products are those of scaled attention or, signed, 0.9 at the most."""
        return 0.9**0.5 * F.normalize(x, dim=-1) if self.signed else x * self.scale**0.5

    def extra_repr(self) -> str:
        return self.name


def _in_the_open(query: Tensor) -> bool:
    """Whether one query had better have its weights: on a processor products are faster than the fused path."""
    return query.device.type == "cpu" or recording()
