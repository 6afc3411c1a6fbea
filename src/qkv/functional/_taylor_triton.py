"""Second-order Taylor linear attention on CUDA devices, as Triton kernels.

With scores `s_ij = q_i . k_j` the weights are `w_ij = (s_ij + 1)^2 + 1`, twice the Taylor polynomial `1 + s + s^2 / 2`
of `exp(s)` (the factor cancels), and

    o_i = sum_j w_ij v_j / n_i,    n_i = sum_j w_ij.

With `g_i = (dL/do_i) / n_i` and `e_i = -g_i . o_i` the gradient of a weight is `g_i . v_j + e_i`, so

    dL/dv_j = sum_i w_ij g_i
    dL/dq_i = sum_j 2 (s_ij + 1) (g_i . v_j + e_i) k_j
    dL/dk_j = sum_i 2 (s_ij + 1) (g_i . v_j + e_i) q_i.

Queries and keys play the same part: each vector carries a payload and one number more, keys `(v, 1)` and queries
`(g, e)`. Two kernels read one side for the other, `_attend` for sums of payloads and `_gradient` for sums of vectors:

- what is near, in the same segment, by tiles of weights that are never stored;
- what is far, in all segments before, by the state `S = sum_j c phi(k_j) [v_j, 1]` that `_remember` has made of it (the
  chunks of Yang et al. 2024, "Gated linear attention", with the features of Arora et al. 2024, "Simple linear
  attention language models"). Features are products of two entries, formed a tile at a time; `_pairs` lists them.

What comes after is read as what comes before, with time reversed. A segment is of `3 head_dim^2` positions, so that all
states take a fifth of the memory of values in float32 (a third for head_dim 8); what fits in one segment makes none.
All heads, segments and tiles run side by side.

Sums are in float32. Products are three of TF32 for float32 inputs, which is nearly float32, and one of TF32 for
bfloat16 and float16, whose numbers it holds exactly. Speed, and precision on a device, are not measured: the tests run
the kernels in Triton's interpreter, whose products are those of NumPy. Tiles, segments and the lengths from which
states are worth their cost are chosen by counting operations.
"""

from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:  # torch brings it where there can be a CUDA device; elsewhere `usable` says no
    triton, tl = SimpleNamespace(jit=no_type_check), SimpleNamespace(constexpr=int)


def usable(query: Tensor, value: Tensor) -> bool:
    """Whether `taylor_attention_triton` takes such a query (and key) and value, of any lengths but no keys.

    On a CUDA device, both in float32, bfloat16 or float16; `head_dim` 8, 16, 32 or 64; `value_dim` a multiple of 16 up
    to 128.

    >>> usable(torch.zeros(1, 1, 5, 16), torch.zeros(1, 1, 5, 64))  # on the CPU
    False
    """
    return (
        isinstance(triton, ModuleType)
        and query.is_cuda
        and torch.version.hip is None
        and query.dtype == value.dtype
        and query.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and query.shape[-1] in (8, 16, 32, 64)
        and value.shape[-1] in range(16, 129, 16)
        and value.shape[-2] > 0
    )


def taylor_attention_triton(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads keys head_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    *,
    is_causal: bool,
) -> Float[Tensor, "batch heads queries value_dim"]:
    """The values averaged by weights `(query @ key.mT + 1)^2 + 1`, for inputs that are `usable`.

    The scores are not scaled: callers scale the query. Causal attention is between as many queries as keys.
    Second derivatives go through the whole map of weights.
    """
    assert not is_causal or query.shape[2] == key.shape[2], "causal attention is between as many queries as keys"
    flat = (x.flatten(0, 1).contiguous() for x in (query, key, value))
    return _TaylorAttention.apply(*flat, is_causal).unflatten(0, query.shape[:2])


class _TaylorAttention(torch.autograd.Function):
    @staticmethod
    @no_type_check
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Tensor:
        options = _options(query, value, is_causal)
        ones = torch.ones(key.shape[:2], dtype=_sum_dtype(key), device=key.device)
        keys = _remember(key, value, ones, options)
        output, total = _attend(query, keys, options)
        # The output as yet unrounded: in backward it is subtracted from values that may all be near it.
        ctx.save_for_backward(query, output, total, *keys)
        ctx.options = options
        return output.to(query.dtype)

    @staticmethod
    @no_type_check
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, output, total, *keys = ctx.saved_tensors
        keys, forwards, backwards = _Memory(*keys), ctx.options, {**ctx.options, "backwards": True}
        if torch.is_grad_enabled():  # to be differentiated again, which kernels are not
            plain = partial(_plain, is_causal=forwards["is_causal"])
            return *torch.func.vjp(plain, query, keys.vectors, keys.payload)[1](grad), None
        g = (grad / total[..., None]).contiguous()
        e = -(g * output).sum(dim=-1)
        queries = _remember(query, g, e, backwards)
        dquery = _gradient(query, g, e, keys, forwards)
        dkey = _gradient(keys.vectors, keys.payload, keys.extra, queries, backwards)
        dvalue, _ = _attend(keys.vectors, queries, backwards, normalised=False)
        return dquery, dkey, dvalue.to(keys.payload.dtype), None


def _plain(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    """The definition."""
    weights = (query @ key.mT + 1).square() + 1
    weights = weights.tril() if is_causal else weights
    return weights @ value / weights.sum(dim=-1, keepdim=True)


class _Memory(NamedTuple):
    """One side as the other reads it: what is near, and the states of what is far."""

    vectors: Float[Tensor, "heads length head_dim"]
    payload: Float[Tensor, "heads length value_dim"]
    extra: Float[Tensor, "heads length"]
    states: Float[Tensor, "heads slots features value_dim"]
    totals: Float[Tensor, "heads slots features"]


_Options = dict[str, Any]


def _remember(vectors: Tensor, payload: Tensor, extra: Tensor, options: _Options) -> _Memory:
    """The states after each segment but the last, which is nobody's past, if causal; else the one of all segments."""
    (heads, length, _), features = vectors.shape, options["features"]
    slots = triton.cdiv(length, options["segment"])
    if options["is_causal"]:
        slots -= 1
    elif length <= features:  # tiles cost less than states
        slots = 0
    states = extra.new_empty(heads, slots, features, payload.shape[-1])
    totals = extra.new_empty(heads, slots, features)
    grid = heads, slots, features // options["block"]
    with torch.cuda.device_of(vectors):
        _state_kernel[grid](vectors, payload, extra, states, totals, length, slots, **options)
    if options["is_causal"]:
        states, totals = states.cumsum_(dim=1), totals.cumsum_(dim=1)
    elif slots:
        states, totals = states.sum(dim=1, keepdim=True), totals.sum(dim=1, keepdim=True)
    return _Memory(vectors, payload, extra, states, totals)


def _attend(x: Tensor, memory: _Memory, options: _Options, *, normalised: bool = True) -> tuple[Tensor, Tensor]:
    """For each x the payloads summed by weight, over the extras summed by weight if `normalised`; and the latter."""
    heads, length, _ = x.shape
    output = memory.extra.new_empty(heads, length, options["value_dim"])
    total = memory.extra.new_empty(heads, length)
    sizes = length, memory.vectors.shape[1], memory.states.shape[1]
    grid = heads, triton.cdiv(length, options["tile"])
    with torch.cuda.device_of(x):
        _attend_kernel[grid](x, *memory, output, total, *sizes, normalised, **options)
    return output, total


def _gradient(x: Tensor, payload: Tensor, extra: Tensor, memory: _Memory, options: _Options) -> Tensor:
    """For each x, which carries `payload` and `extra`, the gradient that comes to it through its weights."""
    heads, length, _ = x.shape
    gradient = torch.empty_like(x)
    sizes = length, memory.vectors.shape[1], memory.states.shape[1]
    grid = heads, triton.cdiv(length, options["tile"])
    with torch.cuda.device_of(x):
        _gradient_kernel[grid](x, payload, extra, *memory, gradient, *sizes, **options)
    return gradient


def _sum_dtype(x: Tensor) -> torch.dtype:
    """float32; float64 for float64, which tests use."""
    return torch.promote_types(x.dtype, torch.float32)


def _options(query: Tensor, value: Tensor, is_causal: bool) -> _Options:
    """What the kernels are compiled for."""
    head_dim, value_dim = query.shape[-1], value.shape[-1]
    block = 32
    return {
        "head_dim": head_dim,
        "value_dim": value_dim,
        "features": triton.cdiv(head_dim * (head_dim // 2 + 2), block) * block,
        "segment": 3 * head_dim**2,
        "is_causal": is_causal,
        "backwards": False,
        "exact": tl.float64 if query.dtype == torch.float64 else tl.float32,
        "precision": "tf32x3" if query.dtype == torch.float32 else "tf32",
        # Positions and features that a program holds at once: what fits in 99 KB. Products of three need more room.
        "tile": 32 if query.dtype == torch.float32 or head_dim > 16 or value_dim > 64 else 64,
        "block": block,
        "padded_head_dim": max(16, head_dim),  # the smallest that a product takes
        "padded_value_dim": triton.next_power_of_2(value_dim),
    }


@triton.jit
@no_type_check
def _pairs(feature, head_dim: tl.constexpr):
    """The two entries whose product a feature is, -1 standing for a factor of 1, and how often it is in the weights.

    `(q . k + 1)^2 + 1` is the sum of `q_a^2 k_a^2` (once), of `q_a q_b k_a k_b` for a < b, `q_a k_a` and 1 (twice).
    Pairs are numbered by shift and first entry: `x_a x_(a + shift)`, with indices taken modulo `head_dim`. At a shift
    of half of them each pair comes up again, which leaves room for the 1; the next shift is of the single entries.
    """
    half: tl.constexpr = head_dim // 2
    shift, left = feature // head_dim, feature % head_dim
    again = (shift == half) & (left >= half)
    right = tl.where(again | (shift > half), -1, (left + shift) % head_dim)
    unused = (again & (left > half)) | (shift > half + 1)
    count = tl.where(unused, 0, tl.where(shift == 0, 1, 2))
    return tl.where(again, -1, left), right, count


@triton.jit
@no_type_check
def _factors(x, rows, real, entry, head_dim: tl.constexpr, exact: tl.constexpr):
    """One factor of each feature."""
    mask = real[:, None] & (entry >= 0)[None, :]
    return tl.load(x + rows[:, None] * head_dim + entry[None, :], mask=mask, other=1.0).to(exact)


@triton.jit
@no_type_check
def _matrix(x, rows, real, width: tl.constexpr, padded: tl.constexpr, exact: tl.constexpr):
    """Rows of a matrix, filled up with zeros."""
    columns = tl.arange(0, padded)
    mask = real[:, None] & (columns < width)[None, :]
    return tl.load(x + rows[:, None] * width + columns[None, :], mask=mask, other=0.0).to(exact)


@triton.jit
@no_type_check
def _rows(at, length, backwards: tl.constexpr):
    """Where in memory positions are, and whether they are."""
    return (length - 1 - at if backwards else at), at < length


@triton.jit
@no_type_check
def _reach(index, others, slots, segment: tl.constexpr, is_causal: tl.constexpr, tile: tl.constexpr):
    """The state that a tile reads (-1: none), and the range that it reads directly."""
    if is_causal:
        number = index * tile // segment
        slot, start, end = number - 1, number * segment, tl.minimum((index + 1) * tile, others)
    else:
        slot, start, end = slots - 1, 0, tl.where(slots > 0, 0, others)
    return slot, start, end


@triton.jit
@no_type_check
def _state_kernel(
    y, payload, extra, states, totals, length, slots,
    head_dim: tl.constexpr, value_dim: tl.constexpr, features: tl.constexpr, segment: tl.constexpr,
    is_causal: tl.constexpr, backwards: tl.constexpr, exact: tl.constexpr, precision: tl.constexpr,  # noqa: ARG001
    tile: tl.constexpr, block: tl.constexpr, padded_head_dim: tl.constexpr, padded_value_dim: tl.constexpr,  # noqa: ARG001
):  # fmt: skip
    """A block of features of the state of one segment: `c * phi(y)^T [payload, extra]`."""
    head, slot = tl.program_id(0).to(tl.int64), tl.program_id(1)
    y += head * length * head_dim
    payload += head * length * value_dim
    extra += head * length
    feature = tl.program_id(2) * block + tl.arange(0, block)
    left, right, count = _pairs(feature, head_dim)
    state = tl.zeros((block, padded_value_dim), exact)
    total = tl.zeros((block,), exact)
    for start in range(slot * segment, tl.minimum((slot + 1) * segment, length), tile):
        rows, real = _rows(start + tl.arange(0, tile), length, backwards)
        phi = _factors(y, rows, real, left, head_dim, exact) * _factors(y, rows, real, right, head_dim, exact)
        u = _matrix(payload, rows, real, value_dim, padded_value_dim, exact)
        state = tl.dot(tl.trans(phi), u, state, input_precision=precision)
        total += tl.sum(phi * tl.load(extra + rows, mask=real, other=0.0)[:, None], axis=0)
    places = (head * slots + slot) * features + feature
    columns = tl.arange(0, padded_value_dim)
    state_at = states + places[:, None] * value_dim + columns[None, :]
    tl.store(state_at, state * count[:, None], mask=(columns < value_dim)[None, :])
    tl.store(totals + places, total * count)


@triton.jit
@no_type_check
def _attend_kernel(
    x, y, payload, extra, states, totals, output, sums, length, others, slots, normalised: tl.constexpr,
    head_dim: tl.constexpr, value_dim: tl.constexpr, features: tl.constexpr, segment: tl.constexpr,
    is_causal: tl.constexpr, backwards: tl.constexpr, exact: tl.constexpr, precision: tl.constexpr,
    tile: tl.constexpr, block: tl.constexpr, padded_head_dim: tl.constexpr, padded_value_dim: tl.constexpr,
):  # fmt: skip
    """One tile of `phi(x) S + w payload`, and of the same sum of the extras."""
    head, index = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += head * length * head_dim
    y += head * others * head_dim
    payload += head * others * value_dim
    extra += head * others
    slot, start, end = _reach(index, others, slots, segment, is_causal, tile)
    at = index * tile + tl.arange(0, tile)
    rows, real = _rows(at, length, backwards)
    result = tl.zeros((tile, padded_value_dim), exact)
    total = tl.zeros((tile,), exact)
    if slot >= 0:
        for first in range(0, features, block):
            feature = first + tl.arange(0, block)
            left, right, _ = _pairs(feature, head_dim)
            phi = _factors(x, rows, real, left, head_dim, exact) * _factors(x, rows, real, right, head_dim, exact)
            places = (head * slots + slot) * features + feature
            state = _matrix(states, places, feature < features, value_dim, padded_value_dim, exact)
            result = tl.dot(phi, state, result, input_precision=precision)
            total += tl.sum(phi * tl.load(totals + places)[None, :], axis=1)
    x_tile = _matrix(x, rows, real, head_dim, padded_head_dim, exact)
    for first in range(start, end, tile):
        other = first + tl.arange(0, tile)
        near, there = _rows(other, others, backwards)
        y_tile = _matrix(y, near, there, head_dim, padded_head_dim, exact)
        u = _matrix(payload, near, there, value_dim, padded_value_dim, exact)
        scores = tl.dot(x_tile, tl.trans(y_tile), input_precision=precision)
        weights = (scores + 1) * (scores + 1) + 1
        if is_causal:
            weights = tl.where(other[None, :] <= at[:, None], weights, 0.0)
        result = tl.dot(weights, u, result, input_precision=precision)
        total += tl.sum(weights * tl.load(extra + near, mask=there, other=0.0)[None, :], axis=1)
    if normalised:
        result = result / total[:, None]
    columns = tl.arange(0, padded_value_dim)
    output_at = output + (head * length + rows)[:, None] * value_dim + columns[None, :]
    tl.store(output_at, result, mask=real[:, None] & (columns < value_dim)[None, :])
    tl.store(sums + head * length + rows, total, mask=real)


@triton.jit
@no_type_check
def _gradient_kernel(
    x, upstream, upstream_extra, y, payload, extra, states, totals, gradient, length, others, slots,
    head_dim: tl.constexpr, value_dim: tl.constexpr, features: tl.constexpr, segment: tl.constexpr,
    is_causal: tl.constexpr, backwards: tl.constexpr, exact: tl.constexpr, precision: tl.constexpr,
    tile: tl.constexpr, block: tl.constexpr, padded_head_dim: tl.constexpr, padded_value_dim: tl.constexpr,
):  # fmt: skip
    """One tile of `sum_j 2 (x . y_j + 1) (upstream . payload_j + upstream_extra extra_j) y_j`."""
    head, index = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += head * length * head_dim
    upstream += head * length * value_dim
    y += head * others * head_dim
    payload += head * others * value_dim
    extra += head * others
    slot, start, end = _reach(index, others, slots, segment, is_causal, tile)
    at = index * tile + tl.arange(0, tile)
    rows, real = _rows(at, length, backwards)
    up = _matrix(upstream, rows, real, value_dim, padded_value_dim, exact)
    up_extra = tl.load(upstream_extra + head * length + rows, mask=real, other=0.0)
    columns = tl.arange(0, padded_head_dim)
    result = tl.zeros((tile, padded_head_dim), exact)
    if slot >= 0:
        for first in range(0, features, block):
            feature = first + tl.arange(0, block)
            left, right, _ = _pairs(feature, head_dim)
            places = (head * slots + slot) * features + feature
            state = _matrix(states, places, feature < features, value_dim, padded_value_dim, exact)
            dphi = tl.dot(up, tl.trans(state), input_precision=precision)
            dphi += up_extra[:, None] * tl.load(totals + places)[None, :]
            # Each factor's gradient goes to the entry that it came from: a product with rows of an identity.
            dleft = dphi * _factors(x, rows, real, right, head_dim, exact)
            dright = dphi * _factors(x, rows, real, left, head_dim, exact)
            to_left = (left[:, None] == columns[None, :]).to(exact)
            to_right = (right[:, None] == columns[None, :]).to(exact)
            result = tl.dot(dleft, to_left, result, input_precision=precision)
            result = tl.dot(dright, to_right, result, input_precision=precision)
    x_tile = _matrix(x, rows, real, head_dim, padded_head_dim, exact)
    for first in range(start, end, tile):
        other = first + tl.arange(0, tile)
        near, there = _rows(other, others, backwards)
        y_tile = _matrix(y, near, there, head_dim, padded_head_dim, exact)
        u = _matrix(payload, near, there, value_dim, padded_value_dim, exact)
        scores = tl.dot(x_tile, tl.trans(y_tile), input_precision=precision)
        dweights = tl.dot(up, tl.trans(u), input_precision=precision)
        dweights += up_extra[:, None] * tl.load(extra + near, mask=there, other=0.0)[None, :]
        dscores = 2 * (scores + 1) * dweights
        if is_causal:
            dscores = tl.where(other[None, :] <= at[:, None], dscores, 0.0)
        result = tl.dot(dscores, y_tile, result, input_precision=precision)
    gradient_at = gradient + (head * length + rows)[:, None] * head_dim + columns[None, :]
    tl.store(gradient_at, result, mask=real[:, None] & (columns < head_dim)[None, :])
