"""The window network's loss and gradients in single precision: what `window_lm` derives, computed where it is not zero.

Of the outputs of all positions only those of the hidden words count: rows are taken by the place of their hidden word,
and what is known to be zero is neither computed nor multiplied. Positions are computed side by side, and what they
share is added up in their order, so that any number of threads comes to the same bits.

On the way there, rows of the batch lie along vectors, in matrices whose names end in `_`: so every product, also on the
way back, goes through the parameters as they lie.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from qkv.compiled import compiled, in_team
from qkv.functional._lanes import LANES, ROWS, every, exp, larger, multiply, put, row, row_sum, zeros
from qkv.team import team
from qkv.types import MASK_ID

_ZERO, _ONE = np.float32(0), np.float32(1)


@no_type_check
@compiled
def _matrix(rows, columns):
    return zeros(rows * columns).reshape((rows, columns))


@no_type_check
@compiled
def _logistic(a_, bias):
    """`1 / (1 + exp(-(a + bias)))`, in place."""
    across = a_.shape[1] // LANES
    one, bound = every(_ONE), every(np.float32(-87))
    for unit in range(len(a_)):
        for r in range(unit * across, (unit + 1) * across):
            a = larger(row(a_, r) + every(bias[unit]), bound)
            put(a_, r, one / (one + exp(every(_ZERO) - a)))


@no_type_check
@compiled
def _cross_entropy(z_, bias, target, share):
    """The sum of `log sum_k exp z_k - z_target` over rows, where `z` lacks its bias; leaves `share (y - t)` there."""
    across, loss = z_.shape[1] // LANES, 0.0
    shares, largest, whole = zeros(z_.shape[1]), zeros(z_.shape[1]), zeros(z_.shape[1])
    for r in range(across):
        most = every(np.float32(-np.inf))
        for word in range(len(z_)):
            z = row(z_, word * across + r) + every(bias[word])
            put(z_, word * across + r, z)
            most = larger(z, most)
        put(largest, r, most)
    for i in range(len(target)):
        loss -= z_[target[i], i]
    for r in range(across):
        most, total = row(largest, r), every(_ZERO)
        for word in range(len(z_)):
            y = exp(row(z_, word * across + r) - most)
            put(z_, word * across + r, y)
            total = total + y
        put(whole, r, total)
    for i in range(len(target)):
        loss += np.log(whole[i]) + largest[i]
        shares[i] = share / whole[i]
    for r in range(across):
        scale = row(shares, r)
        for word in range(len(z_)):
            put(z_, word * across + r, row(z_, word * across + r) * scale)
    for i in range(len(target)):
        z_[target[i], i] -= share
    return loss


@no_type_check
@compiled
def _sums(x_, into):
    """Sums over the rows of a batch."""
    across = x_.shape[1] // LANES
    for i in range(len(x_)):
        total = row(x_, i * across)
        for r in range(i * across + 1, (i + 1) * across):
            total = total + row(x_, r)
        into[i] = row_sum(total)


@no_type_check
@compiled
def _place(ids, read, scattered, hidden, at, share, embedding, w1, b1, w2, b2, d_embedding, d_w1, d_b1, d_w2, d_b2):
    """The loss of the words hidden at place `at` of their rows, and what they add to the gradients."""
    rows = np.flatnonzero(hidden[:, at])
    count, dim = len(rows), embedding.shape[1]
    tiled, width = -(-count // ROWS) * ROWS, -(-count // LANES) * LANES
    if count == 0:
        d_w2[:] = _ZERO
        d_b2[:] = _ZERO
        return 0.0
    e, h, dz_ = _matrix(count, w1.shape[1]), _matrix(count, len(w1)), _matrix(len(w2), width)
    e_, h_ = _matrix(w1.shape[1], width), _matrix(len(w1), width)
    for r in range(count):
        for column in range(w1.shape[1]):
            e[r, column] = embedding[read[rows[r], column // dim], column % dim]
            e_[column, r] = e[r, column]
    multiply(w1, e_, h_)
    _logistic(h_, b1)
    multiply(w2, h_, dz_)
    loss = _cross_entropy(dz_, b2, ids[rows, at], share)

    da, de = _matrix(tiled, len(w1)), _matrix(tiled, w1.shape[1])
    multiply(dz_[:, :tiled].T, w2, da)
    for r in range(count):
        for unit in range(len(w1)):
            h[r, unit] = h_[unit, r]
            da[r, unit] *= h[r, unit] * (_ONE - h[r, unit])
            d_b1[unit] += da[r, unit]
    multiply(dz_[:, :count], h, d_w2)
    _sums(dz_, d_b2)
    multiply(da[:count].T, e, d_w1)
    multiply(da, w1, de)
    for r in range(count):
        for column in range(w1.shape[1]):
            d_embedding[scattered[rows[r], column // dim], column % dim] += de[r, column]
    return loss


@no_type_check
@compiled
def _move(x, moved, gradient, rate, momentum):
    """A step of descent with momentum, of numbers that lie in a row."""
    for i in range(len(x)):
        moved[i] = momentum * moved[i] + gradient[i]
        x[i] -= rate * moved[i]


@no_type_check
@compiled
def _output(output, rows, embedding, w1, b1, w2, b2, shared, d_w2, d_b2, losses, rate, momentum):
    """`_place` for one of the outputs; what all add to lies in `shared`, a row for each.

    Its own gradients go to `d_w2` and `d_b2`, unless there is a rate: then these are their running sums, and `w2` and
    `b2` move at once, while they are in the nearest cache.
    """
    ids, places, hidden, share = rows
    outputs, words, dim = len(losses), len(embedding), embedding.shape[1]
    own = slice(output * words, (output + 1) * words)
    w2, b2, d_w2, d_b2 = w2[own], b2[own], d_w2[own], d_b2[own]
    row, to_w1, to_b1 = shared[output], embedding.size, embedding.size + w1.size
    g_w2, g_b2 = (d_w2, d_b2) if rate == 0 else (_matrix(words, len(w1)), zeros(words))
    losses[output] = _place(
        ids, places[0], places[1], hidden, ids.shape[1] - outputs + output, share, embedding, w1, b1, w2, b2,
        row[:to_w1].reshape((words, dim)), row[to_w1:to_b1].reshape(w1.shape), row[to_b1:], g_w2, g_b2,
    )  # fmt: skip
    if rate != 0:
        _move(w2.reshape(-1), d_w2.reshape(-1), g_w2.reshape(-1), rate, momentum)
        _move(b2, d_b2, g_b2, rate, momentum)


@no_type_check
@compiled
def _outputs(team, ids, hidden, published, embedding, w1, b1, w2, b2, d_w2, d_b2, rate, momentum):
    """The mean loss, and the gradients that outputs share, one after another."""
    outputs, count = len(w2) // len(embedding), 0
    places = np.empty((2, *ids.shape), ids.dtype)  # rows of the embedding: those read, and those of the gradient
    for i in range(len(ids)):
        for n in range(ids.shape[1]):
            places[0, i, n] = MASK_ID if hidden[i, n] else ids[i, n]
            places[1, i, n] = ids[i, n] if published else places[0, i, n]
            count += hidden[i, n]
    shared, losses = np.zeros((outputs, embedding.size + w1.size + b1.size), np.float32), np.zeros(outputs)
    rows = (ids, places, hidden, np.float32(1 / count))
    given = (rows, embedding, w1, b1, w2, b2, shared, d_w2, d_b2, losses, rate, momentum)
    in_team(team, _output, outputs, given)
    for output in range(1, outputs):
        shared[0] += shared[output]
    return losses.sum() / count, shared[0]


@no_type_check
@compiled
def _descend(team, ids, hidden, published, embedding, w1, b1, w2, b2, moved, rate, momentum):
    """The mean loss before a step."""
    m_embedding, m_w1, m_b1, m_w2, m_b2 = moved
    loss, shared = _outputs(team, ids, hidden, published, embedding, w1, b1, w2, b2, m_w2, m_b2, rate, momentum)
    to_w1, to_b1 = embedding.size, embedding.size + w1.size
    _move(embedding.reshape(-1), m_embedding.reshape(-1), shared[:to_w1], rate, momentum)
    _move(w1.reshape(-1), m_w1.reshape(-1), shared[to_w1:to_b1], rate, momentum)
    _move(b1, m_b1, shared[to_b1:], rate, momentum)
    return loss


def usable(parameters: Mapping[str, np.ndarray]) -> bool:
    """Whether these can go through the loops: single precision, and whole tiles in every product."""
    embedding, w1, *_ = parameters.values()
    return embedding.dtype == np.float32 and len(embedding) >= ROWS and min(w1.shape) >= LANES


def loss_and_gradients(
    parameters: Mapping[str, Float32[np.ndarray, "..."]],
    ids: Int64[np.ndarray, "batch n"],
    hidden: Bool[np.ndarray, "batch n"],
    gradient: Literal["right", "published"] = "right",
) -> tuple[float, dict[str, Float32[np.ndarray, "..."]]]:
    """As `window_lm.loss_and_gradients`, for parameters that are `usable`, in the order of its `NAMES`."""
    embedding, w1, b1, w2, b2 = parameters.values()
    d_w2, d_b2 = _empty(*w2.shape), _empty(*b2.shape)
    ids, hidden = _in_one_piece(ids, hidden)
    published = gradient == "published"
    loss, shared = _outputs(team(), ids, hidden, published, embedding, w1, b1, w2, b2, d_w2, d_b2, _ZERO, _ZERO)
    d_embedding, d_w1, d_b1 = np.split(shared, (embedding.size, embedding.size + w1.size))
    gradients = (d_embedding.reshape(embedding.shape), d_w1.reshape(w1.shape), d_b1, d_w2, d_b2)
    return loss, dict(zip(parameters, gradients, strict=True))


def descend(
    parameters: Mapping[str, Float32[np.ndarray, "..."]],
    moved: Mapping[str, Float32[np.ndarray, "..."]],
    ids: Int64[np.ndarray, "batch n"],
    hidden: Bool[np.ndarray, "batch n"],
    gradient: Literal["right", "published"] = "right",
    *,
    rate: float,
    momentum: float,
) -> float:
    """The loss; moves `parameters` by `moved`, to which their gradients were added, all in place."""
    embedding, w1, b1, w2, b2 = parameters.values()
    ids, hidden = _in_one_piece(ids, hidden)
    sums, published = tuple(moved[name] for name in parameters), gradient == "published"
    steps = np.float32(rate), np.float32(momentum)
    return _descend(team(), ids, hidden, published, embedding, w1, b1, w2, b2, sums, *steps)


def _in_one_piece(*rows: np.ndarray) -> Iterator[np.ndarray]:
    """For rows that lie in any other way the loops would be compiled anew."""
    return map(np.ascontiguousarray, rows)


def _empty(*shape: int) -> np.ndarray:
    """Memory from torch, which begins with a cache line."""
    return torch.empty(shape).numpy()
