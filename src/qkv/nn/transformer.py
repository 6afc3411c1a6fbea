"""Transformer layers and stacks: arguments and state of `torch.nn`, and decoding a position at a time.

Arguments with torch's names mean what they mean in torch (a True in a mask leaves out); the keyword-only masks are the
house's own (True may be attended to).
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qkv.errors import InputError, unknown_name
from qkv.functional import combine_masks, mask_from_torch
from qkv.nn.attention import MultiheadAttention, require_batch_first
from qkv.nn.dropout import Dropout
from qkv.nn.forms import AttentionConfig, Past
from qkv.trace import scope

Map = Callable[[Tensor], Tensor]
TorchMask = Bool[Tensor, "... _queries _keys"] | Float[Tensor, "... _queries _keys"]
TorchPadding = Bool[Tensor, "batch _keys"] | Float[Tensor, "batch _keys"]

_ACTIVATIONS: dict[str, Map] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each with a residual and a norm (Vaswani et al. 2017, section 3.1).

    Arguments, initial values and state are those of `torch.nn.TransformerEncoderLayer`, so that its weights load.

    Args:
        d_model: the width.
        nhead: how many heads.
        dim_feedforward: the inner width of the feed-forward network.
        dropout: the share dropped of each block's output, inside the feed-forward network, and of the weights.
        activation: `"relu"`, `"gelu"` or a function.
        layer_norm_eps: what the norms add to the variance.
        batch_first: in torch's place; only True.
        norm_first: the norm before each block (Xiong et al. 2020) instead of after the residual.
        bias: whether linear maps and norms have biases.
        attention_dropout: another share for the weights; 0 keeps attention fused while training, and linear attention,
            which has no weights, takes no other.
        attention: another form than softmax (see `AttentionConfig`).
        key_bias: False leaves the keys' projections without biases (see `MultiheadAttention`).

    Raises:
        InputError: sizes that do not fit, an unknown activation, `batch_first=False`.

    >>> TransformerEncoderLayer(6, 2, dim_feedforward=11)(torch.randn(1, 5, 6)).shape
    torch.Size([1, 5, 6])
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Map = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        norm_first: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        attention_dropout: float | None = None,
        attention: AttentionConfig | None = None,
        key_bias: bool = True,
    ):
        super().__init__()
        require_batch_first(batch_first)
        weights_dropout = _weights_dropout(dropout, attention_dropout, attention)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        kind: dict[str, Any] = {"attention": attention, "key_bias": key_bias}
        self.self_attn = MultiheadAttention(d_model, nhead, weights_dropout, bias, **kind, **place)
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias, **place)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias, **place)
        self.norm1 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm2 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.dropout = Dropout(dropout)
        self.activation = _activation(activation)
        self.norm_first = norm_first

    def forward(
        self,
        src: Float[Tensor, "batch length d_model"],
        src_mask: TorchMask | None = None,
        src_key_padding_mask: TorchPadding | None = None,
        is_causal: bool = False,
        *,
        mask: Bool[Tensor, "... #length length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The layer's output.

        Args:
            src: the sequence.
            src_mask, src_key_padding_mask: torch's: True (or -inf) means left out.
            is_causal: no position sees a later one; needs no mask beside it, and adds to one that is given.
            mask: the house's own: True means may be attended to; broadcasts to `(batch, heads, length, length)`.
        """
        mask = combine_masks(mask, mask_from_torch(src_mask, src_key_padding_mask, num_heads=self.self_attn.num_heads))
        x = src
        if self.norm_first:
            x = x + self._self_attention(self.norm1(x), mask, is_causal)
            x = x + self._feed_forward(self.norm2(x))
        else:
            x = self.norm1(x + self._self_attention(x, mask, is_causal))
            x = self.norm2(x + self._feed_forward(x))
        return x

    def _self_attention(self, x: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        with scope("self_attn"):
            return self.dropout(self.self_attn(x, x, x, need_weights=False, is_causal=is_causal, mask=mask)[0])

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))


@dataclass
class DecoderLayerCache:
    """What one decoder layer keeps between steps: the positions so far, and the memory."""

    self_past: Past
    cross_past: Past

    @property
    def nbytes(self) -> int:
        """How much it takes."""
        return self.self_past.nbytes + self.cross_past.nbytes

    def select(self, indices: Int[Tensor, " chosen"]) -> None:
        """Keeps these rows of the batch, in this order; a row may be left out or come more than once."""
        self.self_past.select(indices)
        self.cross_past.select(indices)


@dataclass
class DecoderCache:
    """What a decoder keeps between steps; `start` makes it, `step` fills it, `select` reorders it, all in place."""

    layers: list[DecoderLayerCache]
    cross_mask: Bool[Tensor, "batch #heads 1 keys"] | None
    batch: int
    max_length: int
    length: int = 0
    """How many positions are decoded."""

    @property
    def nbytes(self) -> int:
        """How much it takes."""
        return sum(layer.nbytes for layer in self.layers)

    def select(self, indices: Int[Tensor, " chosen"]) -> None:
        """Keeps these rows of the batch, in this order; a row may be left out or come more than once."""
        self.batch = len(indices)
        for layer in self.layers:
            layer.select(indices)
        if self.cross_mask is not None:
            self.cross_mask = self.cross_mask.index_select(0, indices)


class TransformerDecoderLayer(nn.Module):
    """Self-attention, attention to a memory, a feed-forward network (Vaswani et al. 2017, section 3.1).

    Arguments, initial values and state are those of `torch.nn.TransformerDecoderLayer`, so that its weights load; the
    arguments are described at `TransformerEncoderLayer`.

    >>> layer = TransformerDecoderLayer(6, 2, dim_feedforward=11)
    >>> layer(torch.randn(1, 3, 6), torch.randn(1, 5, 6), tgt_is_causal=True).shape
    torch.Size([1, 3, 6])
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Map = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        norm_first: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        attention_dropout: float | None = None,
        attention: AttentionConfig | None = None,
        key_bias: bool = True,
    ):
        super().__init__()
        require_batch_first(batch_first)
        weights_dropout = _weights_dropout(dropout, attention_dropout, attention)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        between = None if attention is None else attention.between()
        kinds = ({"attention": form, "key_bias": key_bias} for form in (attention, between))
        self.self_attn, self.multihead_attn = (
            MultiheadAttention(d_model, nhead, weights_dropout, bias, **kind, **place) for kind in kinds
        )
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias, **place)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias, **place)
        self.norm1 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm2 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm3 = nn.LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.dropout = Dropout(dropout)
        self.activation = _activation(activation)
        self.norm_first = norm_first

    def forward(
        self,
        tgt: Float[Tensor, "batch length d_model"],
        memory: Float[Tensor, "batch memory_length d_model"],
        tgt_mask: TorchMask | None = None,
        memory_mask: TorchMask | None = None,
        tgt_key_padding_mask: TorchPadding | None = None,
        memory_key_padding_mask: TorchPadding | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        *,
        self_mask: Bool[Tensor, "... #length length"] | None = None,
        cross_mask: Bool[Tensor, "... #length memory_length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The layer's output.

        Args:
            tgt: the sequence.
            memory: what the encoder made of the source.
            tgt_mask, memory_mask: torch's: True (or -inf) means left out.
            tgt_key_padding_mask, memory_key_padding_mask: the same, for keys alone.
            tgt_is_causal: no position sees a later one; needs no mask beside it, and adds to one that is given.
            memory_is_causal: the same for the memory.
            self_mask, cross_mask: the house's own: True means may be attended to; broadcast to
                `(batch, heads, length, length)` and `(batch, heads, length, memory_length)`.
        """
        heads = self.self_attn.num_heads
        self_mask = combine_masks(self_mask, mask_from_torch(tgt_mask, tgt_key_padding_mask, num_heads=heads))
        cross_mask = combine_masks(cross_mask, mask_from_torch(memory_mask, memory_key_padding_mask, num_heads=heads))
        return self._blocks(
            tgt,
            lambda x: self.self_attn(x, x, x, need_weights=False, is_causal=tgt_is_causal, mask=self_mask)[0],
            lambda x: self.multihead_attn(
                x, memory, memory, need_weights=False, is_causal=memory_is_causal, mask=cross_mask
            )[0],
        )

    def start(
        self,
        memory: Float[Tensor, "batch keys d_model"],
        max_length: int,
        cross_mask: Bool[Tensor, "batch #heads 1 keys"] | None = None,
    ) -> DecoderLayerCache:
        """An empty cache for at most `max_length` steps, with the memory's keys and values packed once."""
        return DecoderLayerCache(
            self.self_attn.start(memory[:, :1], max_length), self.multihead_attn.keep(memory, cross_mask)
        )

    def step(
        self,
        tgt: Float[Tensor, "batch 1 d_model"],
        cache: DecoderLayerCache,
        cross_mask: Bool[Tensor, "batch #heads 1 keys"] | None = None,
    ) -> Float[Tensor, "batch 1 d_model"]:
        """The output at the next position, which becomes part of the cache; `cross_mask` as for `start`."""
        return self._blocks(
            tgt,
            lambda x: self.self_attn.step(x, cache.self_past),
            lambda x: self.multihead_attn.read(x, cache.cross_past, cross_mask),
        )

    def _blocks(self, x: Tensor, self_attention: Map, cross_attention: Map) -> Tensor:
        if self.norm_first:
            x = x + self._attention("self_attn", self_attention, self.norm1(x))
            x = x + self._attention("multihead_attn", cross_attention, self.norm2(x))
            x = x + self._feed_forward(self.norm3(x))
        else:
            x = self.norm1(x + self._attention("self_attn", self_attention, x))
            x = self.norm2(x + self._attention("multihead_attn", cross_attention, x))
            x = self.norm3(x + self._feed_forward(x))
        return x

    def _attention(self, name: str, attend: Map, x: Tensor) -> Tensor:
        with scope(name):
            return self.dropout(attend(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(nn.Module):
    """A stack of encoder layers; state as of `torch.nn.TransformerEncoder`.

    Args:
        encoder_layer: copied `num_layers` times, so all layers start out the same.
        num_layers: how many.
        norm: what the last layer's output goes through, such as the `LayerNorm` that `norm_first` asks for.

    >>> encoder = TransformerEncoder(TransformerEncoderLayer(6, 2, dim_feedforward=11), num_layers=2)
    >>> encoder(torch.randn(1, 5, 6)).shape
    torch.Size([1, 5, 6])
    """

    def __init__(self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: nn.Module | None = None):
        super().__init__()
        self.layers = nn.ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_heads = encoder_layer.self_attn.num_heads
        self.norm = norm

    def forward(
        self,
        src: Float[Tensor, "batch length d_model"],
        src_mask: TorchMask | None = None,
        src_key_padding_mask: TorchPadding | None = None,
        is_causal: bool = False,
        *,
        mask: Bool[Tensor, "... #length length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The output of the last layer; the arguments are those of `TransformerEncoderLayer.forward`.

        torch calls the second argument `mask`. By position it is torch's here too; by that name it is the house's own.
        """
        mask = combine_masks(mask, mask_from_torch(src_mask, src_key_padding_mask, num_heads=self.num_heads))
        x = src
        for i, layer in enumerate(self.layers):
            with scope(f"layers.{i}"):
                x = layer(x, is_causal=is_causal, mask=mask)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(nn.Module):
    """A stack of decoder layers; state as of `torch.nn.TransformerDecoder`.

    `forward` takes a whole target at once. `start` and `step` take it a position at a time, with the same results:
    each step costs one position instead of all before it.

    Args:
        decoder_layer: copied `num_layers` times, so all layers start out the same.
        num_layers: how many.
        norm: what the last layer's output goes through, such as the `LayerNorm` that `norm_first` asks for.

    >>> decoder = TransformerDecoder(TransformerDecoderLayer(6, 2, dim_feedforward=11), num_layers=2).eval()
    >>> target, memory = torch.randn(1, 3, 6), torch.randn(1, 5, 6)
    >>> whole = decoder(target, memory, tgt_is_causal=True)
    >>> cache = decoder.start(memory, None, max_length=3)
    >>> steps = [decoder.step(target[:, i : i + 1], cache) for i in range(3)]
    >>> torch.allclose(torch.cat(steps, dim=1), whole, atol=1e-6)
    True
    """

    def __init__(self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: nn.Module | None = None):
        super().__init__()
        layers = nn.ModuleList(copy.deepcopy(decoder_layer) for _ in range(num_layers))
        self.layers = cast("Sequence[TransformerDecoderLayer]", layers)  # ModuleList does not say what it holds
        self.num_heads = decoder_layer.self_attn.num_heads
        self.norm = norm

    def forward(
        self,
        tgt: Float[Tensor, "batch length d_model"],
        memory: Float[Tensor, "batch memory_length d_model"],
        tgt_mask: TorchMask | None = None,
        memory_mask: TorchMask | None = None,
        tgt_key_padding_mask: TorchPadding | None = None,
        memory_key_padding_mask: TorchPadding | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        *,
        self_mask: Bool[Tensor, "... #length length"] | None = None,
        cross_mask: Bool[Tensor, "... #length memory_length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The output of the last layer; the arguments are those of `TransformerDecoderLayer.forward`."""
        heads = self.num_heads
        self_mask = combine_masks(self_mask, mask_from_torch(tgt_mask, tgt_key_padding_mask, num_heads=heads))
        cross_mask = combine_masks(cross_mask, mask_from_torch(memory_mask, memory_key_padding_mask, num_heads=heads))
        x = tgt
        for i, layer in enumerate(self.layers):
            with scope(f"layers.{i}"):
                x = layer(
                    x,
                    memory,
                    tgt_is_causal=tgt_is_causal,
                    memory_is_causal=memory_is_causal,
                    self_mask=self_mask,
                    cross_mask=cross_mask,
                )
        return x if self.norm is None else self.norm(x)

    @torch.no_grad()
    def start(
        self,
        memory: Float[Tensor, "batch keys d_model"],
        cross_mask: Bool[Tensor, "batch #heads 1 keys"] | None,
        max_length: int,
    ) -> DecoderCache:
        """An empty cache for decoding at most `max_length` positions against `memory`.

        Args:
            memory: what the encoder made of the source.
            cross_mask: True where the memory may be attended to, such as `padding_mask(real)`.
            max_length: how many positions there is room for.
        """
        layers = [layer.start(memory, max_length, cross_mask) for layer in self.layers]
        return DecoderCache(layers, cross_mask, len(memory), max_length)

    @torch.no_grad()
    def step(self, tgt: Float[Tensor, "batch 1 d_model"], cache: DecoderCache) -> Float[Tensor, "batch 1 d_model"]:
        """The output at the next position, as `forward` with `tgt_is_causal` has it there; fills the cache.

        Raises:
            InputError: another batch size than the cache's, more than one position, or no room left.
        """
        if tgt.shape[:2] != (cache.batch, 1):
            raise InputError(
                "the step does not fit the cache",
                expected=f"one position for each of {cache.batch} rows",
                got=f"{tuple(tgt.shape)}",
            )
        if cache.length == cache.max_length:
            raise InputError(
                f"the cache is full at {cache.max_length} positions", hint="start with a larger max_length"
            )
        x = tgt
        for i, layer in enumerate(self.layers):
            with scope(f"layers.{i}"):
                x = layer.step(x, cache.layers[i], cache.cross_mask)
        cache.length += 1
        return x if self.norm is None else self.norm(x)


def _weights_dropout(dropout: float, weights_dropout: float | None, attention: AttentionConfig | None) -> float:
    if weights_dropout is None:
        return 0.0 if attention is not None and attention.is_linear else dropout
    return weights_dropout


def _activation(activation: str | Map) -> Map:
    if callable(activation):
        return activation
    if activation not in _ACTIVATIONS:
        raise unknown_name("activation", activation, _ACTIVATIONS, hint="a function of one tensor")
    return _ACTIVATIONS[activation]
