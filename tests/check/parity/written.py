"""Layers as people write them by hand, with the names of parameters that torch has; all of them are right.

They share nothing with the formulas of the check. Rules rewrite their sources into wrong ones.
"""
# ruff: noqa: RET504 - lines are what is rewritten

import math

import torch
import torch.nn.functional as F
from torch import nn


class LSTMCell(nn.Module):
    def __init__(self, input_size, hidden_size, bias=True):
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.randn(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.randn(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.randn(4 * hidden_size)) if bias else None
        self.bias_hh = nn.Parameter(torch.randn(4 * hidden_size)) if bias else None

    def forward(self, input, hx=None):  # noqa: A002
        if hx is None:
            zeros = input.new_zeros(input.shape[0], self.hidden_size)
            hx = (zeros, zeros)
        hidden, cell = hx
        wi, wf, wg, wo = torch.split(self.weight_ih, self.hidden_size)
        ui, uf, ug, uo = torch.split(self.weight_hh, self.hidden_size)
        if self.bias_ih is None:
            bi = bf = bg = bo = di = df = dg = do = 0.0
        else:
            bi, bf, bg, bo = torch.split(self.bias_ih, self.hidden_size)
            di, df, dg, do = torch.split(self.bias_hh, self.hidden_size)
        in_gate = torch.sigmoid(torch.matmul(input, wi.t()) + torch.matmul(hidden, ui.t()) + bi + di)
        forget_gate = torch.sigmoid(torch.matmul(input, wf.t()) + torch.matmul(hidden, uf.t()) + bf + df)
        cell_gate = torch.tanh(torch.matmul(input, wg.t()) + torch.matmul(hidden, ug.t()) + bg + dg)
        out_gate = torch.sigmoid(torch.matmul(input, wo.t()) + torch.matmul(hidden, uo.t()) + bo + do)
        kept = torch.mul(forget_gate, cell)
        written = torch.mul(in_gate, cell_gate)
        new_cell = kept + written
        new_hidden = torch.mul(out_gate, torch.tanh(new_cell))
        return new_hidden, new_cell


class GRUCell(nn.Module):
    def __init__(self, input_size, hidden_size, bias=True):
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.randn(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.randn(3 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.randn(3 * hidden_size)) if bias else None
        self.bias_hh = nn.Parameter(torch.randn(3 * hidden_size)) if bias else None

    def forward(self, input, hx=None):  # noqa: A002
        hidden = input.new_zeros(input.shape[0], self.hidden_size) if hx is None else hx
        wr, wz, wn = torch.split(self.weight_ih, self.hidden_size)
        ur, uz, un = torch.split(self.weight_hh, self.hidden_size)
        if self.bias_ih is None:
            br = bz = bn = dr = dz = dn = 0.0
        else:
            br, bz, bn = torch.split(self.bias_ih, self.hidden_size)
            dr, dz, dn = torch.split(self.bias_hh, self.hidden_size)
        reset = torch.sigmoid(torch.matmul(input, wr.t()) + br + torch.matmul(hidden, ur.t()) + dr)
        update = torch.sigmoid(torch.matmul(input, wz.t()) + bz + torch.matmul(hidden, uz.t()) + dz)
        candidate = torch.tanh(torch.matmul(input, wn.t()) + bn + reset * (torch.matmul(hidden, un.t()) + dn))
        return (1 - update) * candidate + update * hidden


class LSTM(nn.Module):
    def __init__(
        self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False
    ):
        super().__init__()
        self.hidden_size, self.num_layers, self.batch_first, self.dropout = (
            hidden_size,
            num_layers,
            batch_first,
            dropout,
        )
        self.ends = ["", "_reverse"] if bidirectional else [""]
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * len(self.ends)
            for end in self.ends:
                rows = 4 * hidden_size
                self.register_parameter(f"weight_ih_l{layer}{end}", nn.Parameter(torch.randn(rows, width)))
                self.register_parameter(f"weight_hh_l{layer}{end}", nn.Parameter(torch.randn(rows, hidden_size)))
                self.register_parameter(f"bias_ih_l{layer}{end}", nn.Parameter(torch.randn(rows)) if bias else None)
                self.register_parameter(f"bias_hh_l{layer}{end}", nn.Parameter(torch.randn(rows)) if bias else None)

    def step(self, x, hidden, cell, place):
        gates = F.linear(x, getattr(self, "weight_ih" + place), getattr(self, "bias_ih" + place))
        gates = gates + F.linear(hidden, getattr(self, "weight_hh" + place), getattr(self, "bias_hh" + place))
        in_gate, forget_gate, cell_gate, out_gate = torch.split(gates, self.hidden_size, dim=1)
        cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(in_gate) * torch.tanh(cell_gate)
        return torch.sigmoid(out_gate) * torch.tanh(cell), cell

    def forward(self, input, hx=None):  # noqa: A002
        steps = input.transpose(0, 1) if self.batch_first else input
        count = self.num_layers * len(self.ends)
        if hx is None:
            zeros = steps.new_zeros(count, steps.shape[1], self.hidden_size)
            hx = (zeros, zeros)
        first_hidden, first_cell = hx
        all_hidden, all_cell = [], []
        for layer in range(self.num_layers):
            if layer != 0:
                steps = F.dropout(steps, self.dropout, self.training)
            sides = []
            for number, end in enumerate(self.ends):
                place = f"_l{layer}{end}"
                which = layer * len(self.ends) + number
                hidden, cell = first_hidden[which], first_cell[which]
                sequence = torch.flip(steps, [0]) if number == 1 else steps
                made = []
                for x in sequence:
                    hidden, cell = self.step(x, hidden, cell, place)
                    made.append(hidden)
                whole = torch.stack(made)
                sides.append(torch.flip(whole, [0]) if number == 1 else whole)
                all_hidden.append(hidden)
                all_cell.append(cell)
            steps = torch.cat(sides, dim=2)
        output = steps.transpose(0, 1) if self.batch_first else steps
        return output, (torch.stack(all_hidden), torch.stack(all_cell))


class GRU(nn.Module):
    def __init__(
        self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False
    ):
        super().__init__()
        self.hidden_size, self.num_layers, self.batch_first, self.dropout = (
            hidden_size,
            num_layers,
            batch_first,
            dropout,
        )
        self.ends = ["", "_reverse"] if bidirectional else [""]
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * len(self.ends)
            for end in self.ends:
                rows = 3 * hidden_size
                self.register_parameter(f"weight_ih_l{layer}{end}", nn.Parameter(torch.randn(rows, width)))
                self.register_parameter(f"weight_hh_l{layer}{end}", nn.Parameter(torch.randn(rows, hidden_size)))
                self.register_parameter(f"bias_ih_l{layer}{end}", nn.Parameter(torch.randn(rows)) if bias else None)
                self.register_parameter(f"bias_hh_l{layer}{end}", nn.Parameter(torch.randn(rows)) if bias else None)

    def step(self, x, hidden, place):
        of_x = F.linear(x, getattr(self, "weight_ih" + place), getattr(self, "bias_ih" + place))
        of_h = F.linear(hidden, getattr(self, "weight_hh" + place), getattr(self, "bias_hh" + place))
        xr, xz, xn = torch.split(of_x, self.hidden_size, dim=1)
        hr, hz, hn = torch.split(of_h, self.hidden_size, dim=1)
        update = torch.sigmoid(xz + hz)
        candidate = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return (1 - update) * candidate + update * hidden

    def forward(self, input, hx=None):  # noqa: A002
        steps = input.transpose(0, 1) if self.batch_first else input
        count = self.num_layers * len(self.ends)
        start = steps.new_zeros(count, steps.shape[1], self.hidden_size) if hx is None else hx
        all_hidden = []
        for layer in range(self.num_layers):
            if layer != 0:
                steps = F.dropout(steps, self.dropout, self.training)
            sides = []
            for number, end in enumerate(self.ends):
                hidden = start[layer * len(self.ends) + number]
                sequence = torch.flip(steps, [0]) if number == 1 else steps
                made = []
                for x in sequence:
                    hidden = self.step(x, hidden, f"_l{layer}{end}")
                    made.append(hidden)
                whole = torch.stack(made)
                sides.append(torch.flip(whole, [0]) if number == 1 else whole)
                all_hidden.append(hidden)
            steps = torch.cat(sides, dim=2)
        output = steps.transpose(0, 1) if self.batch_first else steps
        return output, torch.stack(all_hidden)


class MultiheadAttention(nn.Module):
    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True):
        super().__init__()
        self.num_heads, self.dropout, self.head_dim = num_heads, dropout, embed_dim // num_heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.randn(3 * embed_dim)) if bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.batch_first = True

    def split(self, x):
        batch, length, _ = x.shape
        return x.reshape(batch, length, self.num_heads, self.head_dim).permute(0, 2, 1, 3)

    def join(self, x):
        batch, heads, length, width = x.shape
        return x.permute(0, 2, 1, 3).reshape(batch, length, heads * width)

    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None):
        query_weight, key_weight, value_weight = torch.chunk(self.in_proj_weight, 3)
        query_bias, key_bias, value_bias = (
            (None, None, None) if self.in_proj_bias is None else torch.chunk(self.in_proj_bias, 3)
        )
        queries = self.split(F.linear(query, query_weight, query_bias))
        keys = self.split(F.linear(key, key_weight, key_bias))
        values = self.split(F.linear(value, value_weight, value_bias))
        logits = torch.einsum("bhqd,bhkd->bhqk", queries, keys) / math.sqrt(self.head_dim)
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                logits = torch.where(attn_mask, float("-inf"), logits)
            else:
                logits = logits + attn_mask
        if key_padding_mask is not None:
            logits = torch.where(key_padding_mask[:, None, None, :], float("-inf"), logits)
        attention = torch.softmax(logits, dim=-1)
        attention = F.dropout(attention, self.dropout, self.training)
        mixed = torch.einsum("bhqk,bhkd->bhqd", attention, values)
        return self.out_proj(self.join(mixed)), attention


class TransformerEncoderLayer(nn.Module):
    def __init__(
        self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation="relu", norm_first=False, bias=True
    ):
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias)
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias)
        self.norm1 = nn.LayerNorm(d_model, bias=bias)
        self.norm2 = nn.LayerNorm(d_model, bias=bias)
        self.dropout, self.activation, self.norm_first, self.batch_first = dropout, activation, norm_first, True

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def attention_block(self, x, mask, padding):
        attended, _ = self.self_attn(x, x, x, padding, mask)
        return self.drop(attended)

    def feed_forward_block(self, x):
        wide = self.linear1(x)
        wide = F.gelu(wide) if self.activation == "gelu" else F.relu(wide)
        wide = self.drop(wide)
        return self.drop(self.linear2(wide))

    def forward(self, src, src_mask=None, src_key_padding_mask=None):
        x = src
        if self.norm_first:
            x = x + self.attention_block(self.norm1(x), src_mask, src_key_padding_mask)
            x = x + self.feed_forward_block(self.norm2(x))
            return x
        x = self.norm1(x + self.attention_block(x, src_mask, src_key_padding_mask))
        x = self.norm2(x + self.feed_forward_block(x))
        return x


class TransformerDecoderLayer(nn.Module):
    def __init__(
        self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation="relu", norm_first=False, bias=True
    ):
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias)
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias)
        self.norm1 = nn.LayerNorm(d_model, bias=bias)
        self.norm2 = nn.LayerNorm(d_model, bias=bias)
        self.norm3 = nn.LayerNorm(d_model, bias=bias)
        self.dropout, self.activation, self.norm_first, self.batch_first = dropout, activation, norm_first, True

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def self_block(self, x, mask, padding):
        return self.drop(self.self_attn(x, x, x, padding, mask)[0])

    def cross_block(self, x, memory, mask, padding):
        return self.drop(self.multihead_attn(x, memory, memory, padding, mask)[0])

    def feed_forward_block(self, x):
        wide = self.linear1(x)
        wide = F.gelu(wide) if self.activation == "gelu" else F.relu(wide)
        return self.drop(self.linear2(self.drop(wide)))

    def forward(
        self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None, memory_key_padding_mask=None
    ):
        x = tgt
        if self.norm_first:
            x = x + self.self_block(self.norm1(x), tgt_mask, tgt_key_padding_mask)
            x = x + self.cross_block(self.norm2(x), memory, memory_mask, memory_key_padding_mask)
            x = x + self.feed_forward_block(self.norm3(x))
            return x
        x = self.norm1(x + self.self_block(x, tgt_mask, tgt_key_padding_mask))
        x = self.norm2(x + self.cross_block(x, memory, memory_mask, memory_key_padding_mask))
        x = self.norm3(x + self.feed_forward_block(x))
        return x


class Conv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True):
        super().__init__()
        pair = lambda value: (value, value) if isinstance(value, int) else tuple(value)  # noqa: E731
        self.kernel_size, self.stride, self.padding, self.dilation = map(pair, (kernel_size, stride, padding, dilation))
        self.groups = groups
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.randn(out_channels)) if bias else None

    def forward(self, input):  # noqa: A002
        step_y, step_x = self.stride
        far_y, far_x = self.dilation
        high, wide = self.kernel_size
        pad_y, pad_x = self.padding
        image = F.pad(input, (pad_x, pad_x, pad_y, pad_y))
        rows = (image.shape[2] - far_y * (high - 1) - 1) // step_y + 1
        columns = (image.shape[3] - far_x * (wide - 1) - 1) // step_x + 1
        of_group = []
        for part, kernel in zip(image.chunk(self.groups, 1), self.weight.chunk(self.groups), strict=True):
            total = 0.0
            for y in range(high):
                for x in range(wide):
                    seen = part[:, :, far_y * y :, far_x * x :][:, :, ::step_y, ::step_x][:, :, :rows, :columns]
                    total = total + torch.einsum("bcyx,oc->boyx", seen, kernel[:, :, y, x])
            of_group.append(total)
        output = torch.cat(of_group, dim=1)
        return output if self.bias is None else output + self.bias[:, None, None]


class Embedding(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, padding_idx=None):
        super().__init__()
        self.padding_idx, self.embedding_dim = padding_idx, embedding_dim
        self.weight = nn.Parameter(torch.randn(num_embeddings, embedding_dim))

    def forward(self, input):  # noqa: A002
        table = self.weight
        if self.padding_idx is not None:
            still = torch.arange(table.shape[0]) == self.padding_idx
            table = torch.where(still[:, None], table.detach(), table)
        found = torch.index_select(table, 0, input.flatten())
        return found.reshape(*input.shape, self.embedding_dim)


class LayerNorm(nn.Module):
    def __init__(self, normalized_shape, eps=1e-5, bias=True):
        super().__init__()
        self.shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.weight = nn.Parameter(torch.randn(self.shape))
        self.bias = nn.Parameter(torch.randn(self.shape)) if bias else None
        self.eps = eps

    def forward(self, input):  # noqa: A002
        axes = tuple(range(input.dim() - len(self.shape), input.dim()))
        centre = torch.mean(input, dim=axes, keepdim=True)
        centred = input - centre
        spread = torch.mean(torch.pow(centred, 2), dim=axes, keepdim=True)
        scaled = centred * torch.rsqrt(spread + self.eps)
        scaled = scaled * self.weight
        return scaled if self.bias is None else scaled + self.bias


EVERY = (
    LSTMCell,
    GRUCell,
    LSTM,
    GRU,
    MultiheadAttention,
    TransformerEncoderLayer,
    TransformerDecoderLayer,
    Conv2d,
    Embedding,
    LayerNorm,
)
