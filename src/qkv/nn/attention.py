"""Attention with parameters: multi-head (names and state of `torch.nn.MultiheadAttention`) and additive."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import additive_attention, combine_masks, mask_from_torch
from qkv.nn.forms import AttentionConfig, Past
from qkv.trace import recording, step


class MultiheadAttention(nn.Module):
    """Several attentions side by side, each in its own subspace (Vaswani et al. 2017, section 3.2.2).

    `softmax(Q K^T / sqrt(head_dim)) V` for each head, with `Q = query W_q^T + b_q` and so on, joined by `out_proj`.
    Arguments, initial values and state are those of `torch.nn.MultiheadAttention`, so that its weights load.

    Args:
        embed_dim: the width of queries and of the output.
        num_heads: how many heads share that width; divides it.
        dropout: the share of weights dropped while training.
        bias: whether the projections have biases.
        add_bias_kv, add_zero_attn: in torch's places; only False.
        kdim, vdim: the widths of keys and values; `embed_dim` where left out.
        batch_first: in torch's place; only True, so tensors are `(batch, length, width)`.
        attention: another form than softmax; a form's own parameters come under `form.` in the state.
        key_bias: False leaves the keys' projection alone without one, which softmax does not see: it adds the same to
            every score of a query. `in_proj_bias` then holds those of queries and values.

    Raises:
        InputError: sizes that do not fit, or one of the forms left out.

    >>> attention = MultiheadAttention(embed_dim=6, num_heads=2)
    >>> output, weights = attention(*3 * [torch.randn(1, 5, 6)], average_attn_weights=False)
    >>> output.shape, weights.shape
    (torch.Size([1, 5, 6]), torch.Size([1, 2, 5, 5]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        attention: AttentionConfig | None = None,
        key_bias: bool = True,
    ):
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise InputError(
                "the heads cannot share the width",
                expected="a positive embed_dim that num_heads divides",
                got=f"embed_dim={embed_dim}, num_heads={num_heads}",
            )
        if add_bias_kv or add_zero_attn:
            raise InputError("add_bias_kv and add_zero_attn are not supported", expected="False for both")
        require_batch_first(batch_first)
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.dropout = dropout

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self.packed = self.kdim == self.vdim == embed_dim
        if self.packed:
            self.in_proj_weight = parameter(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = parameter(embed_dim, embed_dim)
            self.k_proj_weight = parameter(embed_dim, self.kdim)
            self.v_proj_weight = parameter(embed_dim, self.vdim)
        self.in_proj_bias = parameter((3 if key_bias else 2) * embed_dim) if bias else None
        self.key_bias = key_bias
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.form = (attention or AttentionConfig()).build(num_heads, self.head_dim).to(device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial values as torch's: Glorot's for the projections in (packed ones as one matrix), zero biases."""
        for name, parameter in self.named_parameters(recurse=False):
            nn.init.zeros_(parameter) if name == "in_proj_bias" else nn.init.xavier_uniform_(parameter)
        if self.out_proj.bias is not None:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Float[Tensor, "batch queries embed_dim"],
        key: Float[Tensor, "batch keys key_dim"],
        value: Float[Tensor, "batch keys value_dim"],
        key_padding_mask: Bool[Tensor, "batch keys"] | Float[Tensor, "batch keys"] | None = None,
        need_weights: bool = True,
        attn_mask: Bool[Tensor, "... queries keys"] | Float[Tensor, "... queries keys"] | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        mask: Bool[Tensor, "... #queries keys"] | None = None,
    ) -> tuple[Float[Tensor, "batch queries embed_dim"], Float[Tensor, "batch *heads queries keys"] | None]:
        """Attends, and returns the output with the weights, or with None where they are not wanted.

        Args:
            query, key, value: one and the same tensor for self-attention, which then costs one projection.
            key_padding_mask, attn_mask: as in `torch.nn.MultiheadAttention`: True (or -inf) means left out.
            need_weights: False takes the fused path, which computes no weights.
            average_attn_weights: the mean over heads instead of `(batch, heads, queries, keys)`.
            is_causal: no query sees a key after it; needs no mask beside it, and adds to one that is given.
            mask: the house's own: True means may be attended to; broadcasts to `(batch, heads, queries, keys)`.

        Raises:
            InputError: widths that are not those of this module, or a mask that cannot be used.
        """
        mask = combine_masks(mask, mask_from_torch(attn_mask, key_padding_mask, num_heads=self.num_heads))
        kind = "self" if query is key is value else "cross"
        if kind == "self" and self.packed:
            q, k, v = self.project(query)
        else:
            q, (k, v) = self.project_query(query), self.project_key_value(key, value)
        output, weights = self.attend(q, k, v, mask, is_causal, need_weights=need_weights, kind=kind)
        return output, weights.mean(dim=1) if weights is not None and average_attn_weights else weights

    def project(
        self, x: Float[Tensor, "batch length embed_dim"]
    ) -> tuple[
        Float[Tensor, "batch heads length head_dim"],
        Float[Tensor, "batch heads length head_dim"],
        Float[Tensor, "batch heads length head_dim"],
    ]:
        """Queries, keys and values of self-attention, split into heads, by one product."""
        self._require_width("query, key and value", x, self.embed_dim)
        q, k, v = self._heads(F.linear(x, self.in_proj_weight, self._bias()), 3)
        return q, k, v

    def project_query(
        self, query: Float[Tensor, "batch queries embed_dim"]
    ) -> Float[Tensor, "batch heads queries head_dim"]:
        """The queries, split into heads."""
        self._require_width("query", query, self.embed_dim)
        weight = self.in_proj_weight[: self.embed_dim] if self.packed else self.q_proj_weight
        bias = None if self.in_proj_bias is None else self.in_proj_bias[: self.embed_dim]
        (q,) = self._heads(F.linear(query, weight, bias), 1)
        return q

    def project_key_value(
        self, key: Float[Tensor, "batch keys key_dim"], value: Float[Tensor, "batch keys value_dim"]
    ) -> tuple[Float[Tensor, "batch heads keys head_dim"], Float[Tensor, "batch heads keys head_dim"]]:
        """Keys and values, split into heads; by one product where both come from the same tensor."""
        self._require_width("key", key, self.kdim)
        self._require_width("value", value, self.vdim)
        bias = self._bias()
        bias = None if bias is None else bias[self.embed_dim :]
        if self.packed and key is value:
            k, v = self._heads(F.linear(key, self.in_proj_weight[self.embed_dim :], bias), 2)
            return k, v
        if self.packed:
            key_weight, value_weight = self.in_proj_weight[self.embed_dim :].chunk(2)
        else:
            key_weight, value_weight = self.k_proj_weight, self.v_proj_weight
        key_bias, value_bias = (None, None) if bias is None else bias.chunk(2)
        (k,) = self._heads(F.linear(key, key_weight, key_bias), 1)
        (v,) = self._heads(F.linear(value, value_weight, value_bias), 1)
        return k, v

    def attend(
        self,
        q: Float[Tensor, "batch heads queries head_dim"],
        k: Float[Tensor, "batch heads keys head_dim"],
        v: Float[Tensor, "batch heads keys head_dim"],
        mask: Bool[Tensor, "... #queries keys"] | None = None,
        is_causal: bool = False,
        *,
        need_weights: bool = False,
        kind: Literal["self", "cross"] = "self",
    ) -> tuple[Float[Tensor, "batch queries embed_dim"], Float[Tensor, "batch heads queries keys"] | None]:
        """Attends over what is projected already, joins the heads, and records `weights` while something records."""
        dropout = self.dropout if self.training else 0.0
        output, weights = self.form(q, k, v, mask, is_causal=is_causal, dropout=dropout, need_weights=need_weights)
        if recording():
            recorded = weights
            if recorded is None:
                _, recorded = self.form(q, k, v, mask, is_causal=is_causal, need_weights=True)
            self._record(recorded, kind, asked=need_weights)
        return self._join(output), weights

    # -- a position at a time

    def start(self, x: Float[Tensor, "batch length embed_dim"], room: int) -> Past:
        """An empty past of self-attention, for at most `room` positions, of the type and batch of `x`."""
        return self.form.start(self.project_query(x), room)

    def keep(
        self, memory: Float[Tensor, "batch keys key_dim"], mask: Bool[Tensor, "batch #heads 1 keys"] | None = None
    ) -> Past:
        """A memory, projected once, to be attended to by many single queries."""
        return self.form.keep(*self.project_key_value(memory, memory), mask)

    def step(self, x: Float[Tensor, "batch 1 embed_dim"], past: Past) -> Float[Tensor, "batch 1 embed_dim"]:
        """Self-attention of the next position to all up to itself; it becomes part of the past."""
        output, weights = self.form.step(*self.project(x), past)
        self._record(weights, "self", asked=True)
        return self._join(output)

    def read(
        self,
        query: Float[Tensor, "batch 1 embed_dim"],
        past: Past,
        mask: Bool[Tensor, "batch #heads 1 keys"] | None = None,
    ) -> Float[Tensor, "batch 1 embed_dim"]:
        """Attention of one position to what `keep` made of a memory; `mask` as there."""
        output, weights = self.form.read(self.project_query(query), past, mask)
        self._record(weights, "cross", asked=True)
        return self._join(output)

    def _bias(self) -> Float[Tensor, " three_embed_dims"] | None:
        """The biases of queries, keys and values, with zeros for keys that have none."""
        if self.in_proj_bias is None or self.key_bias:
            return self.in_proj_bias
        of_query, of_value = self.in_proj_bias.chunk(2)
        return torch.cat((of_query, torch.zeros_like(of_query), of_value))

    def _record(self, weights: Tensor | None, kind: Literal["self", "cross"], *, asked: bool) -> None:
        if weights is not None:
            step("weights", weights, kind=kind, **self.form.facts(asked=asked))

    def _join(self, output: Tensor) -> Tensor:
        return self.out_proj(output.transpose(1, 2).flatten(-2))

    def _heads(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Splits `(batch, length, parts * embed_dim)` into parts of `(batch, heads, length, head_dim)`, as views."""
        return projected.unflatten(-1, (parts, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4).unbind()

    def _require_width(self, name: str, x: Tensor, width: int) -> None:
        if x.dim() != 3 or x.shape[-1] != width:
            raise InputError(
                f"{name} cannot be attended with",
                expected=f"(batch, length, {width})",
                got=f"{tuple(x.shape)}",
                hint="x[None] for a batch of one" if x.dim() == 2 else "",
            )

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, kdim={self.kdim}, vdim={self.vdim}"


class AdditiveAttention(nn.Module):
    """Attention whose scores come from a small network: `v . tanh(W query + U key)` (Bahdanau et al. 2015, A.1.2).

    Args:
        query_dim: the width of queries.
        key_dim: the width of keys.
        attention_dim: the width in which they meet.

    >>> attention = AdditiveAttention(query_dim=3, key_dim=5, attention_dim=7)
    >>> memory = torch.randn(1, 4, 5)
    >>> context, weights = attention(torch.randn(1, 2, 3), memory, memory)
    >>> context.shape, weights.shape
    (torch.Size([1, 2, 5]), torch.Size([1, 2, 4]))
    """

    def __init__(self, query_dim: int, key_dim: int, attention_dim: int):
        super().__init__()
        self.project_query = nn.Linear(query_dim, attention_dim)
        self.project_key = nn.Linear(key_dim, attention_dim, bias=False)
        self.scorer = nn.Parameter(torch.empty(attention_dim).uniform_(-1, 1) * attention_dim**-0.5)

    def forward(
        self,
        query: Float[Tensor, "batch queries query_dim"],
        key: Float[Tensor, "batch keys key_dim"],
        value: Float[Tensor, "batch keys value_dim"],
        mask: Bool[Tensor, "#batch #queries keys"] | None = None,
    ) -> tuple[Float[Tensor, "batch queries value_dim"], Float[Tensor, "batch queries keys"]]:
        """The values averaged by the weights, and the weights. `mask` is True where a query may attend to a key."""
        return self.attend(query, self.project_key(key), value, mask)

    def attend(
        self,
        query: Float[Tensor, "batch queries query_dim"],
        projected_key: Float[Tensor, "batch keys attention_dim"],
        value: Float[Tensor, "batch keys value_dim"],
        mask: Bool[Tensor, "#batch #queries keys"] | None = None,
    ) -> tuple[Float[Tensor, "batch queries value_dim"], Float[Tensor, "batch queries keys"]]:
        """`forward` with keys that `project_key` has been through: a decoder projects them once, not at each step."""
        output, weights = additive_attention(self.project_query(query), projected_key, value, self.scorer, mask)
        step("weights", weights[:, None], kind="cross", obtained="captured", backend="additive", signed=False)
        return output, weights


def require_batch_first(batch_first: bool) -> None:
    """Refuses torch's older layout, `(length, batch, width)`."""
    if not batch_first:
        raise InputError(
            "batch_first=False is not supported",
            expected="tensors of shape (batch, length, width)",
            hint="batch_first=True, with x.transpose(0, 1) where x is (length, batch, width)",
        )
