"""Forward and backward passes in plain NumPy, worked out by hand: the right ones, from which the wrong ones are made.

Each is a function of its parameters and of data, both by name, and returns the loss and its gradients by parameter.
All that follows the line which defines the loss is the backward pass; `dx` is the loss's derivative by `x`. Numbers are
of whatever type comes in.
"""

import math
from typing import Any

import numpy as np

EPS = 1e-3
"""What layer normalisation adds to the variance."""

Array = np.ndarray
Gradients = dict[str, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def relu(x: Array) -> Array:
    return np.where(x > 0, x, 0)


def relu_slope(x: Array) -> Array:
    return x > 0


def hard_tanh(x: Array) -> Array:
    return np.where(x > 1, 1, np.where(x < -1, -1, x))


def hard_tanh_slope(x: Array) -> Array:
    return (x > -1) & (x < 1)


def tanh_slope(x: Array) -> Array:
    return 1 - np.tanh(x) ** 2


def window(embedding, w1, b1, w2, b2, *, ids, hidden) -> tuple[Any, Gradients]:
    """A masked language model: words side by side, of which one is hidden and read as word 0, logistic units, and a
    softmax at each position; the cross-entropy of the hidden words."""
    batch, places = ids.shape
    vocab = len(embedding)
    read = np.where(hidden, 0, ids)
    e = embedding[read].reshape(batch, -1)
    a = e @ w1.T + b1
    h = sigmoid(a)
    y = softmax((h @ w2.T + b2).reshape(batch, places, vocab))
    t = ids[:, :, None] == np.arange(vocab)
    mask = hidden[:, :, None]
    loss = -(mask * t * np.log(y)).sum() / batch

    dz = (mask * (y - t) / batch).reshape(batch, places * vocab)
    d_w2 = dz.T @ h
    d_b2 = dz.sum(axis=0)
    dh = dz @ w2
    da = dh * (h * (1 - h))
    d_w1 = da.T @ e
    d_b1 = da.sum(axis=0)
    de = (da @ w1).reshape(batch, places, -1)
    d_embedding = np.zeros_like(embedding)
    np.add.at(d_embedding, read, de)
    return loss, {"embedding": d_embedding, "w1": d_w1, "b1": d_b1, "w2": d_w2, "b2": d_b2}


def lstm(weight_ih, weight_hh, bias, h0, c0, *, x, target) -> tuple[Any, Gradients]:
    """Steps of an LSTM from one learned state, gates in the order i, f, g, o; half the squared error of all outputs."""
    steps, batch, _ = x.shape
    h, c = [h0 + np.zeros_like(target[0])], [c0 + np.zeros_like(target[0])]
    i, f, g, o = [], [], [], []
    for t in range(steps):
        a_i, a_f, a_g, a_o = np.split(x[t] @ weight_ih.T + h[t] @ weight_hh.T + bias, 4, axis=1)
        i, f, g, o = [*i, sigmoid(a_i)], [*f, sigmoid(a_f)], [*g, np.tanh(a_g)], [*o, sigmoid(a_o)]
        c.append(f[t] * c[t] + i[t] * g[t])
        h.append(o[t] * np.tanh(c[t + 1]))
    loss = sum(((h[t + 1] - target[t]) ** 2).sum() for t in range(steps)) / (2 * batch)

    d_weight_ih, d_weight_hh, d_bias = np.zeros_like(weight_ih), np.zeros_like(weight_hh), np.zeros_like(bias)
    dh, dc = np.zeros_like(h[0]), np.zeros_like(c[0])
    for t in reversed(range(steps)):
        dh = dh + (h[t + 1] - target[t]) / batch
        dc = dc + dh * o[t] * (1 - np.tanh(c[t + 1]) ** 2)
        da_i = dc * g[t] * (i[t] * (1 - i[t]))
        da_f = dc * c[t] * (f[t] * (1 - f[t]))
        da_g = dc * i[t] * (1 - g[t] ** 2)
        da_o = dh * np.tanh(c[t + 1]) * (o[t] * (1 - o[t]))
        da = np.concatenate([da_i, da_f, da_g, da_o], axis=1)
        d_weight_ih += da.T @ x[t]
        d_weight_hh += da.T @ h[t]
        d_bias += da.sum(axis=0)
        dh = da @ weight_hh
        dc = dc * f[t]
    d_h0 = dh.sum(axis=0)
    d_c0 = dc.sum(axis=0)
    return loss, {"weight_ih": d_weight_ih, "weight_hh": d_weight_hh, "bias": d_bias, "h0": d_h0, "c0": d_c0}


def attention(x, wq, wk, wv, wo, *, allowed, real, target) -> tuple[Any, Gradients]:
    """Scaled attention where `allowed`, with projections; half the squared error at real positions."""
    q, k, v = x @ wq, x @ wk, x @ wv
    scale = math.sqrt(q.shape[-1])
    w = softmax(np.where(allowed, q @ k.swapaxes(1, 2) / scale, -np.inf))
    c = w @ v
    y = c @ wo
    mask = real[:, :, None]
    count = int(real.sum())
    loss = (mask * (y - target) ** 2).sum() / (2 * count)

    dy = mask * (y - target) / count
    d_wo = (c.swapaxes(1, 2) @ dy).sum(axis=0)
    dc = dy @ wo.T
    dv = w.swapaxes(1, 2) @ dc
    dw = dc @ v.swapaxes(1, 2)
    ds = w * (dw - (dw * w).sum(axis=-1, keepdims=True))
    dq = ds @ k / scale
    dk = ds.swapaxes(1, 2) @ q / scale
    d_wq = (x.swapaxes(1, 2) @ dq).sum(axis=0)
    d_wk = (x.swapaxes(1, 2) @ dk).sum(axis=0)
    d_wv = (x.swapaxes(1, 2) @ dv).sum(axis=0)
    d_x = dq @ wq.T + dk @ wk.T + dv @ wv.T
    return loss, {"x": d_x, "wq": d_wq, "wk": d_wk, "wv": d_wv, "wo": d_wo}


def layer_norm(w1, b1, gamma, beta, w2, b2, *, x, labels, activation, slope) -> tuple[Any, Gradients]:
    """Two layers with layer normalisation between them; the cross-entropy of labels."""
    batch = len(x)
    a = x @ w1.T + b1
    mean = a.mean(axis=1, keepdims=True)
    variance = ((a - mean) ** 2).mean(axis=1, keepdims=True)
    n = (a - mean) / np.sqrt(variance + EPS)
    u = gamma * n + beta
    h = activation(u)
    y = softmax(h @ w2.T + b2)
    t = labels[:, None] == np.arange(len(b2))
    loss = -(t * np.log(y)).sum() / batch

    dz = (y - t) / batch
    d_w2 = dz.T @ h
    d_b2 = dz.sum(axis=0)
    dh = dz @ w2
    du = dh * slope(u)
    d_gamma = (du * n).sum(axis=0)
    d_beta = du.sum(axis=0)
    dn = du * gamma
    da = (dn - dn.mean(axis=1, keepdims=True) - n * (dn * n).mean(axis=1, keepdims=True)) / np.sqrt(variance + EPS)
    d_w1 = da.T @ x
    d_b1 = da.sum(axis=0)
    return loss, {"w1": d_w1, "b1": d_b1, "gamma": d_gamma, "beta": d_beta, "w2": d_w2, "b2": d_b2}


def convolution(images, filters, bias, weight, *, target, stride, padding) -> tuple[Any, Gradients]:
    """Convolution, ReLU, the mean over positions, a linear layer; half the squared error."""
    batch, _, height, width = images.shape
    _, _, rows, columns = filters.shape
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    tall, wide = (height + 2 * padding - rows) // stride + 1, (width + 2 * padding - columns) // stride + 1
    a = bias[:, None, None]
    for i in range(rows):
        for j in range(columns):
            seen = padded[:, :, i : i + stride * tall : stride, j : j + stride * wide : stride]
            a = a + np.einsum("bcyx,oc->boyx", seen, filters[:, :, i, j])
    h = relu(a)
    pooled = h.mean(axis=(2, 3))
    error = pooled @ weight.T - target
    loss = (error**2).sum() / (2 * batch)

    dy = error / batch
    d_weight = dy.T @ pooled
    dh = (dy @ weight)[:, :, None, None] / (tall * wide)
    da = dh * (a > 0)
    d_bias = da.sum(axis=(0, 2, 3))
    d_filters, d_padded = np.zeros_like(filters), np.zeros_like(padded)
    for i in range(rows):
        for j in range(columns):
            seen = padded[:, :, i : i + stride * tall : stride, j : j + stride * wide : stride]
            d_filters[:, :, i, j] = np.einsum("boyx,bcyx->oc", da, seen)
            d_seen = np.einsum("boyx,oc->bcyx", da, filters[:, :, i, j])
            d_padded[:, :, i : i + stride * tall : stride, j : j + stride * wide : stride] += d_seen
    d_images = d_padded[:, :, padding : padding + height, padding : padding + width]
    return loss, {"images": d_images, "filters": d_filters, "bias": d_bias, "weight": d_weight}


def max_pooling(filters, bias, weight, *, images, target, stride) -> tuple[Any, Gradients]:
    """Convolution, the largest value over positions, a linear layer; half the squared error."""
    batch, _, height, width = images.shape
    maps, _, rows, columns = filters.shape
    tall, wide = (height - rows) // stride + 1, (width - columns) // stride + 1
    seen = np.empty((batch, *filters.shape[1:], tall, wide), images.dtype)
    for i in range(rows):
        for j in range(columns):
            seen[:, :, i, j] = images[:, :, i : i + stride * tall : stride, j : j + stride * wide : stride]
    a = (np.einsum("bcijyx,ocij->boyx", seen, filters) + bias[:, None, None]).reshape(batch, maps, -1)
    best = a.argmax(axis=-1)[:, :, None]
    top = np.take_along_axis(a, best, axis=-1)[:, :, 0]
    error = top @ weight.T - target
    loss = (error**2).sum() / (2 * batch)

    dy = error / batch
    d_weight = dy.T @ top
    d_top = dy @ weight
    da = np.zeros_like(a)
    np.put_along_axis(da, best, d_top[:, :, None], axis=-1)
    d_bias = da.sum(axis=(0, 2))
    d_filters = np.einsum("bcijyx,boyx->ocij", seen, da.reshape(batch, maps, tall, wide))
    return loss, {"filters": d_filters, "bias": d_bias, "weight": d_weight}
