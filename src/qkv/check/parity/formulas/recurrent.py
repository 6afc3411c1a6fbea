"""LSTM and GRU: Hochreiter and Schmidhuber 1997 with forget gates, Cho et al. 2014 as torch and cuDNN have it."""
# ruff: noqa: N806, RET504 - matrices are capitals; every result has a name that can be another's

from torch import cat, sigmoid, stack, tanh

from qkv.check.parity.formulas.common import dropout, gates


def lstm_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    W_ii, W_if, W_ig, W_io = gates(weight_ih, "ifgo", "ifgo")
    W_hi, W_hf, W_hg, W_ho = gates(weight_hh, "ifgo", "ifgo")
    b_ii, b_if, b_ig, b_io = gates(bias_ih, "ifgo", "ifgo")
    b_hi, b_hf, b_hg, b_ho = gates(bias_hh, "ifgo", "ifgo")
    i = sigmoid(x @ W_ii.T + b_ii + h @ W_hi.T + b_hi)
    f = sigmoid(x @ W_if.T + b_if + h @ W_hf.T + b_hf)
    g = tanh(x @ W_ig.T + b_ig + h @ W_hg.T + b_hg)
    o = sigmoid(x @ W_io.T + b_io + h @ W_ho.T + b_ho)
    c_next = f * c + i * g
    h_next = o * tanh(c_next)
    return h_next, c_next


def gru_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    W_ir, W_iz, W_in = gates(weight_ih, "rzn", "rzn")
    W_hr, W_hz, W_hn = gates(weight_hh, "rzn", "rzn")
    b_ir, b_iz, b_in = gates(bias_ih, "rzn", "rzn")
    b_hr, b_hz, b_hn = gates(bias_hh, "rzn", "rzn")
    r = sigmoid(x @ W_ir.T + b_ir + h @ W_hr.T + b_hr)
    z = sigmoid(x @ W_iz.T + b_iz + h @ W_hz.T + b_hz)
    n = tanh(x @ W_in.T + b_in + r * (h @ W_hn.T + b_hn))
    h_next = (1 - z) * n + z * h
    return h_next


def lstm(x, h_0, c_0, weights, directions, p, training):
    below = x
    last_h, last_c = [], []
    for layer in range(len(weights) // directions):
        below = dropout(below, p, training) if layer > 0 else below
        outputs = []
        for direction in range(directions):
            k = layer * directions + direction
            inputs = below.flip(1) if direction == 1 else below
            h, c = h_0[k], c_0[k]
            hidden = []
            for x_t in inputs.unbind(1):
                h, c = lstm_cell(x_t, h, c, *weights[k])
                hidden.append(h)
            last_h.append(h)
            last_c.append(c)
            output = stack(hidden, 1)
            outputs.append(output.flip(1) if direction == 1 else output)
        below = cat(outputs, -1)
    return below, stack(last_h), stack(last_c)


def gru(x, h_0, weights, directions, p, training):
    below = x
    last_h = []
    for layer in range(len(weights) // directions):
        below = dropout(below, p, training) if layer > 0 else below
        outputs = []
        for direction in range(directions):
            k = layer * directions + direction
            inputs = below.flip(1) if direction == 1 else below
            h = h_0[k]
            hidden = []
            for x_t in inputs.unbind(1):
                h = gru_cell(x_t, h, *weights[k])
                hidden.append(h)
            last_h.append(h)
            output = stack(hidden, 1)
            outputs.append(output.flip(1) if direction == 1 else output)
        below = cat(outputs, -1)
    return below, stack(last_h)
