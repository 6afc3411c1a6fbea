"""Second-order Taylor attention on a processor, forward and backward: compiled loops around small matrix products.

The weights are `2 (1 + s + s^2 / 2) = (s + 1)^2 + 1` with `s = q . k`: the factor 2 cancels in the normaliser, and what
is left costs two operations. The features behind them, `phi(q) . phi(k) = 2 + 2 s + s^2`, are the squares, the products
of two coordinates, the coordinates and one; the coefficient 2 of all but the squares is with the queries. Features are
made a chunk at a time and never kept, not for the backward pass either; what is carried from chunk to chunk is
`sum_j phi(k_j) v_j^T`, one matrix a head, and `sum_j phi(k_j)`.

Heads run side by side. A chunk is as long as a row of `_lanes`, and its matrices are whole tiles, with zeros
where they have no numbers: positions past the end have no value and no gradient, so whatever their features are they
add nothing. What was compiled is kept on disk for the next process.
"""

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qkv.compiled import compiled
from qkv.functional._lanes import LANES, every, panels, product, put, row, row_sum, transposed_product
from qkv.team import side_by_side

CHUNK = LANES  # positions at a time: their features, the carried matrix and the values stay in the nearest caches
_TWO, _ONE, _ZERO = np.float32(2), np.float32(1), np.float32(0)


# -- one chunk: positions along the rows, so that every loop runs over neighbours in memory --------------------------


@no_type_check
@compiled
def _size(head_dim):
    """The number of features."""
    return 1 + head_dim + head_dim * (head_dim + 1) // 2


@no_type_check
@compiled
def _read(x, scale, into):
    """Positions as rows, each times its number of `scale`."""
    for panel in range(len(into)):
        first = panel * LANES
        for i in range(len(x)):
            for c in range(min(x.shape[1] - first, LANES)):
                into[panel, i, c] = x[i, first + c] * scale[i]
        into[panel, len(x) : CHUNK] = _ZERO


@no_type_check
@compiled
def _write(x, scale, into):
    for panel in range(len(x)):
        first = panel * LANES
        for i in range(len(into)):
            for c in range(min(into.shape[1] - first, LANES)):
                into[i, first + c] = x[panel, i, c] * scale[i]


@no_type_check
@compiled
def _read_across(x, scale, into):
    """Positions as columns."""
    for c in range(x.shape[1]):
        for i in range(len(x)):
            into[0, c, i] = x[i, c] * scale[i]
        into[0, c, len(x) : CHUNK] = _ZERO


@no_type_check
@compiled
def _write_across(x, into):
    for i in range(len(into)):
        for c in range(into.shape[1]):
            into[i, c] = x[0, c, i]


@no_type_check
@compiled
def _features(x, d, coefficient, phi):
    """Writes the features of positions, which are the columns of `x`, as the columns of `phi`."""
    f = 0
    for a in range(d):
        x_a = row(x, a)
        put(phi, f, x_a * x_a)
        scaled = every(coefficient) * x_a
        for b in range(a + 1, d):
            put(phi, f + b - a, scaled * row(x, b))
        f += d - a
        put(phi, f, scaled)
        f += 1
    put(phi, f, every(coefficient))


@no_type_check
@compiled
def _features_backward(x, d, coefficient, gradient, sign, common, dx):
    """Adds to `dx` what comes back through `_features` from `gradient[:, i] + sign[i] * common`."""
    f, signs = 0, row(sign, 0)
    for a in range(d):
        x_a = row(x, a)
        came = row(gradient, f) + signs * every(common[f])
        d_a = row(dx, a) + every(_TWO) * x_a * came
        for b in range(a + 1, d):
            f += 1
            came = every(coefficient) * (row(gradient, f) + signs * every(common[f]))
            d_a += came * row(x, b)
            put(dx, b, row(dx, b) + came * x_a)
        f += 1
        put(dx, a, d_a + every(coefficient) * (row(gradient, f) + signs * every(common[f])))
        f += 1


@no_type_check
@compiled
def _add_rows(phi, weights, sums):
    """`sums[f] += sum_i phi[f, i] * weights[i]`."""
    for f in range(len(sums)):
        sums[f] += row_sum(row(phi, f) * row(weights, 0))


@no_type_check
@compiled
def _normaliser(phi, sums, weights):
    """`sum_f phi[f, i] * sums[f] + sum_j weights[j, i]` of the queries `i`, as a row."""
    sum_here = every(_ZERO)
    for f in range(len(sums)):
        sum_here += row(phi, f) * every(sums[f])
    for j in range(weights.size // LANES):
        sum_here += row(weights, j)
    return sum_here


@no_type_check
@compiled
def _weights(scores, seen, weights):
    """`(s + 1)^2 + 1` where the mask `seen` has one, zero where it has zero."""
    one = every(_ONE)
    for i in range(CHUNK):
        plus_one = row(scores, i) + one
        put(weights, i, (plus_one * plus_one + one) * row(seen, i))


@no_type_check
@compiled
def _weights_backward(scores, seen, d_weights, common, shared, d_scores):
    """`2 (s + 1)` times the gradients by the weights, `d_weights[i] + common[i] + shared`."""
    for i in range(CHUNK):
        came = row(d_weights, i) + every(common[i]) + shared
        put(d_scores, i, every(_TWO) * (row(scores, i) + every(_ONE)) * came * row(seen, i))


@no_type_check
@compiled
def _through_division(d_output, output, total, shares, h):
    """How `output = numerator / total` passes gradients on: `d_output * shares` to the numerator, `h` to the total."""
    for i in range(len(total)):
        shares[i], inner = _ONE / total[i], _ZERO
        for c in range(output.shape[1]):
            inner += d_output[i, c] * output[i, c]
        h[i] = -inner * shares[i]
    h[len(total) :] = _ZERO


# -- one head --------------------------------------------------------------------------------------------------------


@no_type_check
@compiled
def _causal_forward(query, key, value, output, total):
    """`output[i] = sum_(j <= i) w_ij v_j / total[i]`: each chunk against the state before it and against itself."""
    (length, d), m = query.shape, value.shape[1]
    size = _size(d)
    q, k, phi = panels(d, CHUNK), panels(d, CHUNK), panels(size, CHUNK)
    state, sums = panels(size, m), np.zeros(size, np.float32)
    v, numerator = panels(CHUNK, m), panels(CHUNK, m)
    totals, shares, ones = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32), np.ones(CHUNK, np.float32)
    scores, weights = panels(CHUNK, CHUNK), panels(CHUNK, CHUNK)  # key, query
    seen = np.triu(np.ones((CHUNK, CHUNK), np.float32))
    for start in range(0, length, CHUNK):
        here = slice(start, min(start + CHUNK, length))
        _read_across(query[here], ones, q)
        _read_across(key[here], ones, k)
        _read(value[here], ones, v)
        transposed_product(k, q, d, scores, False, False)
        _weights(scores, seen, weights)
        _features(q, d, _TWO, phi)
        put(totals, 0, _normaliser(phi, sums, weights))
        transposed_product(phi, state, size, numerator, False, False)
        transposed_product(weights, v, CHUNK, numerator, True, True)
        put(shares, 0, every(_ONE) / row(totals, 0))
        _write(numerator, shares, output[here])
        total[here] = totals[: len(total[here])]
        _features(k, d, _ONE, phi)
        product(phi, v, CHUNK, state, True)
        _add_rows(phi, ones, sums)


@no_type_check
@compiled
def _causal_backward(query, key, value, output, total, d_output, d_query, d_key, d_value):
    """Queries from the first chunk on, with the state before each; then keys and values from the last chunk back."""
    (length, d), m = query.shape, value.shape[1]
    size = _size(d)
    q, k, dx = panels(d, CHUNK), panels(d, CHUNK), panels(d, CHUNK)
    phi, came = panels(size, CHUNK), panels(size, CHUNK)
    state, sums = panels(size, m), np.zeros(size, np.float32)
    v, g, across = panels(CHUNK, m), panels(CHUNK, m), panels(m, CHUNK)
    h, shares = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    scores, weights, d_scores = panels(CHUNK, CHUNK), panels(CHUNK, CHUNK), panels(CHUNK, CHUNK)
    ones, zeros = np.ones(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    seen = np.triu(np.ones((CHUNK, CHUNK), np.float32))
    for start in range(0, length, CHUNK):
        here = slice(start, min(start + CHUNK, length))
        _read_across(query[here], ones, q)
        _read_across(key[here], ones, k)
        _read(value[here], ones, v)
        _through_division(d_output[here], output[here], total[here], shares, h)
        _read_across(d_output[here], shares, across)
        product(state, across, m, came, False)
        product(v, across, m, weights, False)  # gradients by the weights inside the chunk: key, query
        transposed_product(k, q, d, scores, False, False)
        _weights_backward(scores, seen, weights, zeros, row(h, 0), d_scores)
        product(k, d_scores, CHUNK, dx, False)
        _features_backward(q, d, _TWO, came, h, sums, dx)
        _write_across(dx, d_query[here])
        _features(k, d, _ONE, phi)
        product(phi, v, CHUNK, state, True)
        _add_rows(phi, ones, sums)

    state[:] = _ZERO
    sums[:] = _ZERO
    seen = np.tril(np.ones((CHUNK, CHUNK), np.float32))
    d_values = panels(CHUNK, m)
    for start in range((length - 1) // CHUNK * CHUNK, -1, -CHUNK):
        here = slice(start, min(start + CHUNK, length))
        _read_across(query[here], ones, q)
        _read_across(key[here], ones, k)
        _read_across(value[here], ones, across)
        _through_division(d_output[here], output[here], total[here], shares, h)
        _read(d_output[here], shares, g)
        product(state, across, m, came, False)
        product(g, across, m, d_scores, False)  # gradients by the weights inside the chunk: query, key
        transposed_product(q, k, d, scores, False, False)
        _weights_backward(scores, seen, d_scores, h, every(_ZERO), d_scores)
        _weights(scores, seen, weights)
        _features(k, d, _ONE, phi)
        transposed_product(phi, state, size, d_values, False, False)
        transposed_product(weights, g, CHUNK, d_values, True, False)
        _write(d_values, ones, d_value[here])
        product(q, d_scores, CHUNK, dx, False)
        _features_backward(k, d, _ONE, came, ones, sums, dx)
        _write_across(dx, d_key[here])
        _features(q, d, _TWO, phi)
        product(phi, g, CHUNK, state, True)
        _add_rows(phi, h, sums)


@no_type_check
@compiled
def _gather(key, value, k, v, phi, state, sums):
    """`state = sum_j phi(k_j) v_j^T` and `sums = sum_j phi(k_j)`."""
    ones, there = np.ones(CHUNK, np.float32), np.ones(CHUNK, np.float32)
    for start in range(0, len(key), CHUNK):
        here = slice(start, min(start + CHUNK, len(key)))
        there[len(key) - start :] = _ZERO
        _read_across(key[here], ones, k)
        _read(value[here], ones, v)
        _features(k, key.shape[1], _ONE, phi)
        product(phi, v, CHUNK, state, True)
        _add_rows(phi, there, sums)


@no_type_check
@compiled
def _full_forward(query, key, value, output, total):
    """`output[i] = sum_j w_ij v_j / total[i]` over all keys."""
    (length, d), m = query.shape, value.shape[1]
    size = _size(d)
    x, phi, v = panels(d, CHUNK), panels(size, CHUNK), panels(CHUNK, m)
    state, sums = panels(size, m), np.zeros(size, np.float32)
    totals, shares, ones = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32), np.ones(CHUNK, np.float32)
    none_inside = np.empty((1, 0, CHUNK), np.float32)
    _gather(key, value, x, v, phi, state, sums)
    for start in range(0, length, CHUNK):
        here = slice(start, min(start + CHUNK, length))
        _read_across(query[here], ones, x)
        _features(x, d, _TWO, phi)
        put(totals, 0, _normaliser(phi, sums, none_inside))
        transposed_product(phi, state, size, v, False, False)
        put(shares, 0, every(_ONE) / row(totals, 0))
        _write(v, shares, output[here])
        total[here] = totals[: len(total[here])]


@no_type_check
@compiled
def _full_backward(query, key, value, output, total, d_output, d_query, d_key, d_value):
    """Queries against the state of all keys, then keys and values against that of all queries' gradients."""
    (length, d), m = query.shape, value.shape[1]
    size = _size(d)
    x, dx, phi, came = panels(d, CHUNK), panels(d, CHUNK), panels(size, CHUNK), panels(size, CHUNK)
    g, across = panels(CHUNK, m), panels(m, CHUNK)
    h, shares, ones = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32), np.ones(CHUNK, np.float32)
    state, sums = panels(size, m), np.zeros(size, np.float32)
    back, back_sums = panels(size, m), np.zeros(size, np.float32)
    _gather(key, value, x, g, phi, state, sums)
    for start in range(0, length, CHUNK):
        here = slice(start, min(start + CHUNK, length))
        _read_across(query[here], ones, x)
        _through_division(d_output[here], output[here], total[here], shares, h)
        _read(d_output[here], shares, g)
        _read_across(d_output[here], shares, across)
        product(state, across, m, came, False)
        dx[:] = _ZERO
        _features_backward(x, d, _TWO, came, h, sums, dx)
        _write_across(dx, d_query[here])
        _features(x, d, _TWO, phi)
        product(phi, g, CHUNK, back, True)
        _add_rows(phi, h, back_sums)
    for start in range(0, len(key), CHUNK):
        here = slice(start, min(start + CHUNK, len(key)))
        _read_across(key[here], ones, x)
        _read_across(value[here], ones, across)
        _features(x, d, _ONE, phi)
        transposed_product(phi, back, size, g, False, False)
        _write(g, ones, d_value[here])
        product(back, across, m, came, False)
        dx[:] = _ZERO
        _features_backward(x, d, _ONE, came, ones, back_sums, dx)
        _write_across(dx, d_key[here])


# -- heads in threads ------------------------------------------------------------------------------------------------


def _each_head(kernel: Callable[..., None], *tensors: Tensor) -> None:
    """Calls `kernel` with the slices of every head."""
    heads = list(zip(*(tensor.numpy() for tensor in tensors), strict=True))
    side_by_side(lambda head: kernel(*head), heads)


def _empty(*shape: int) -> Tensor:
    """Memory from NumPy, which unlike torch asks for huge pages: faults on small ones took a fifth of the time."""
    return torch.from_numpy(np.empty(shape, np.float32))


class _TaylorAttention(torch.autograd.Function):
    @staticmethod
    @no_type_check
    def forward(ctx, query, key, value, is_causal):
        output, total = _empty(*query.shape[:2], value.shape[2]), _empty(*query.shape[:2])
        _each_head(_causal_forward if is_causal else _full_forward, query, key, value, output, total)
        ctx.save_for_backward(query, key, value, output, total)
        ctx.is_causal = is_causal
        return output

    @staticmethod
    @no_type_check
    def backward(ctx, d_output):
        query, key, value, output, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients: through the definition, which autograd knows
            defined = _definition(query, key, value, ctx.is_causal)
            return *torch.autograd.grad(defined, (query, key, value), d_output, create_graph=True), None
        gradients = [_empty(*x.shape) for x in (query, key, value)]
        kernel = _causal_backward if ctx.is_causal else _full_backward
        _each_head(kernel, query, key, value, output, total, d_output.contiguous(), *gradients)
        return *gradients, None


def _definition(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Tensor:
    weights = (query @ key.mT + 1).square() + 1
    weights = weights.tril() if is_causal else weights
    return weights @ value / weights.sum(-1, keepdim=True)


def usable(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether these can go through the kernels: single precision, on a processor, and something there."""
    return (
        all(x.device.type == "cpu" and x.dtype == torch.float32 for x in (query, key, value))
        and min(query.numel(), key.numel(), value.numel()) > 0
    )


def taylor_attention(
    query: Float[Tensor, "*batch queries head_dim"],
    key: Float[Tensor, "*batch keys head_dim"],
    value: Float[Tensor, "*batch keys value_dim"],
    *,
    is_causal: bool = False,
) -> Float[Tensor, "*batch queries value_dim"]:
    """Linear attention with the second-order Taylor features of `exp(q . k)`.

    Args:
        query, key, value: what `usable` allows; all of the same leading axes.
        is_causal: no query sees a key after it; as many keys as queries.

    >>> taylor_attention(torch.zeros(3, 2), torch.ones(3, 2), torch.tensor([[1.0], [3.0], [8.0]]), is_causal=True)
    tensor([[1.],
            [2.],
            [4.]])
    """
    query_, key_, value_ = (x.reshape(-1, *x.shape[-2:]).contiguous() for x in (query, key, value))
    output: Any = _TaylorAttention.apply(query_, key_, value_, is_causal)
    return output.reshape(*query.shape[:-1], value.shape[-1])
