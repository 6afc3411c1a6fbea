"""Layers written by hand: some as torch has them, some not quite."""

import math

import torch
from torch import nn


class FusedLSTMCell(nn.Module):
    """Right, in a layout of its own: one matrix for both inputs, input by output, gates f, i, o, g, one bias."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(input_size + hidden_size, 4 * hidden_size).uniform_(-0.1, 0.1))
        self.offset = nn.Parameter(torch.zeros(4 * hidden_size))

    def forward(self, x, state):
        h, c = state
        f, i, o, g = (torch.cat([x, h], dim=1) @ self.kernel + self.offset).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class ForgetfulLSTMCell(nn.LSTMCell):
    """Wrong: the forget gate has tanh."""

    def forward(self, x, state):
        h, c = state
        of_x = nn.functional.linear(x, self.weight_ih, self.bias_ih)
        i, f, g, o = (of_x + nn.functional.linear(h, self.weight_hh, self.bias_hh)).chunk(4, dim=1)
        c = torch.tanh(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class CutLSTMCell(nn.LSTMCell):
    """Right values, wrong gradients: none reaches the forget gate."""

    def forward(self, x, state):
        h, c = state
        of_x = nn.functional.linear(x, self.weight_ih, self.bias_ih)
        i, f, g, o = (of_x + nn.functional.linear(h, self.weight_hh, self.bias_hh)).chunk(4, dim=1)
        c = torch.sigmoid(f).detach() * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class Attention(nn.Module):
    """Right; its mask means the opposite of torch's."""

    def __init__(self, d_model, heads, dropout=0.0):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(d_model, d_model) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def scores(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])

    def forward(self, q, k, v, mask=None):
        batch, queries, width = q.shape
        q, k, v = (
            linear(x).view(batch, -1, self.heads, width // self.heads).transpose(1, 2)
            for linear, x in ((self.to_q, q), (self.to_k, k), (self.to_v, v))
        )
        scores = self.scores(q, k)
        if mask is not None:
            scores = scores.masked_fill(mask == 0, -math.inf)
        weights = self.dropout(scores.softmax(dim=-1))
        return self.to_out((weights @ v).transpose(1, 2).reshape(batch, queries, width))


class UnscaledAttention(Attention):
    """Wrong: no 1 / sqrt(head_dim)."""

    def scores(self, q, k):
        return q @ k.mT


class PreNormLayer(nn.TransformerEncoderLayer):
    """Wrong where `norm_first` is False: it normalises before its blocks all the same."""

    def __init__(self, *sizes, norm_first=False, **options):  # noqa: ARG002
        super().__init__(*sizes, norm_first=True, **options)
