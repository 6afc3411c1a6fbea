"""Attention, normalisation and Transformer layers: Vaswani et al. 2017, section 3; Ba et al. 2016, equation 4."""
# pyright: reportCallIssue=false
# ruff: noqa: N803, N806 - matrices are capitals; every result has a name that can be another's

from torch import inf, softmax, sqrt

from qkv.check.parity.formulas.common import dropout, join_heads, split_heads


def multihead_attention(
    query, key, value, W_q, W_k, W_v, b_q, b_k, b_v, W_o, b_o, heads, allowed, added, real, p, training
):
    q = split_heads(query @ W_q.T + b_q, heads)
    k = split_heads(key @ W_k.T + b_k, heads)
    v = split_heads(value @ W_v.T + b_v, heads)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if added is not None:
        scores = scores + added
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -inf)
    if real is not None:
        scores = scores.masked_fill(~real, -inf)
    weights = dropout(softmax(scores, -1), p, training)
    output = join_heads(weights @ v) @ W_o.T + b_o
    return output, weights


def layer_norm(x, weight, bias, eps, axes):
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    return (x - mean) / sqrt(variance + eps) * weight + bias


def encoder_layer(src, attention, ff, norms, heads, activation, norm_first, eps, masks, p, training):
    W_1, b_1, W_2, b_2 = ff

    def attend(x):
        output, _ = multihead_attention(x, x, x, *attention, heads, *masks, p, training)
        return dropout(output, p, training)

    def feed_forward(x):
        inner = dropout(activation(x @ W_1.T + b_1), p, training)
        return dropout(inner @ W_2.T + b_2, p, training)

    def norm1(x):
        return layer_norm(x, *norms[0], eps, -1)

    def norm2(x):
        return layer_norm(x, *norms[1], eps, -1)

    if norm_first:
        x = src + attend(norm1(src))
        y = x + feed_forward(norm2(x))
    else:
        x = norm1(src + attend(src))
        y = norm2(x + feed_forward(x))
    return y


def decoder_layer(
    tgt, memory, attention, cross, ff, norms, heads, activation, norm_first, eps, masks, cross_masks, p, training
):
    W_1, b_1, W_2, b_2 = ff

    def attend(x):
        output, _ = multihead_attention(x, x, x, *attention, heads, *masks, p, training)
        return dropout(output, p, training)

    def attend_to_memory(x):
        output, _ = multihead_attention(x, memory, memory, *cross, heads, *cross_masks, p, training)
        return dropout(output, p, training)

    def feed_forward(x):
        inner = dropout(activation(x @ W_1.T + b_1), p, training)
        return dropout(inner @ W_2.T + b_2, p, training)

    def norm1(x):
        return layer_norm(x, *norms[0], eps, -1)

    def norm2(x):
        return layer_norm(x, *norms[1], eps, -1)

    def norm3(x):
        return layer_norm(x, *norms[2], eps, -1)

    if norm_first:
        x = tgt + attend(norm1(tgt))
        y = x + attend_to_memory(norm2(x))
        z = y + feed_forward(norm3(y))
    else:
        x = norm1(tgt + attend(tgt))
        y = norm2(x + attend_to_memory(x))
        z = norm3(y + feed_forward(y))
    return z
