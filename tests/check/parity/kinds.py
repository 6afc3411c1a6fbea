"""The kinds of mistakes that people make in a layer, written down before the finder of causes was.

Every third in alphabetical order was kept out until the finder was finished. Names of causes are those of
`qkv.check.parity.CAUSES`; each kind lists all that would be right for it.
"""

from itertools import permutations

from tests.check.parity.rules import Rule

CAUSES: dict[str, set[str]] = {
    "activation left out": {"activation"},
    "another activation": {"activation"},
    "another axis of a mean": {"axis"},
    "another axis of softmax": {"axis"},
    "another bias": {"bias"},
    "another epsilon": {"epsilon"},
    "another gate order": {"gate order"},
    "another norm": {"norm"},
    "another operand": {"operand"},
    "another operator": {"operation"},
    "another padding": {"padding"},
    "another stride": {"stride"},
    "another variance": {"variance"},
    "another weight": {"weight"},
    "bias left out": {"bias"},
    "bias twice": {"bias"},
    "dilation left out": {"stride"},
    "direction not reversed": {"direction"},
    "directions exchanged": {"direction"},
    "dropout elsewhere": {"dropout"},
    "dropout in evaluation": {"dropout"},
    "dropout left out": {"dropout"},
    "dropout twice": {"dropout"},
    "epsilon outside the root": {"epsilon"},
    "factor": {"factor"},
    "gradient cut": {"gradient"},
    "groups interleaved": {"groups"},
    "heads dealt out in turn": {"heads"},
    "heads joined otherwise": {"heads"},
    "heads over the length": {"heads"},
    "interpolation turned round": {"operand"},
    "kernel flipped": {"kernel"},
    "mask after softmax": {"mask"},
    "mask ignored": {"mask"},
    "mask of the opposite meaning": {"mask"},
    "mean not taken away": {"term"},
    "memory for itself": {"operand"},
    "norm after for before": {"norm order"},
    "norm left out": {"norm"},
    "padding ignored": {"mask"},
    "projections exchanged": {"projection"},
    "reset before the product": {"reset"},
    "residual from elsewhere": {"residual"},
    "residual left out": {"residual"},
    "row off by one": {"operand"},
    "scale left out": {"scale"},
    "scale of the whole width": {"scale"},
    "scale twice": {"scale"},
    "scaled embedding": {"factor", "scale"},
    "sign": {"sign"},
    "state not carried": {"state"},
    "term left out": {"term"},
    "transposed weight": {"transposed"},
    "weights of another layer": {"weight"},
}

KEPT_OUT = sorted(CAUSES)[2::3]


_CELLS = "LSTMCell GRUCell"
_ATTENTION = "MultiheadAttention TransformerEncoderLayer TransformerDecoderLayer"
_LAYERS = "TransformerEncoderLayer TransformerDecoderLayer"
Rules = list[tuple[str, Rule]]


def _orders() -> Rules:
    """Every other order of gates, wherever rows are parted into them."""
    found: Rules = []
    for order in permutations("ifgo"):
        if order != tuple("ifgo"):
            pairs = [
                (f"{', '.join(x + k for k in 'ifgo')} = torch", f"{', '.join(x + k for k in order)} = torch")
                for x in ("w", "u", "b", "d")
            ]
            found.append(("LSTMCell", ("TEXT", pairs)))
            gates = {"i": "in_gate", "f": "forget_gate", "g": "cell_gate", "o": "out_gate"}
            own = ", ".join(gates.values())
            found.append(("LSTM", ("TEXT", [(f"{own} = ", f"{', '.join(gates[k] for k in order)} = ")])))
    for order in permutations("rzn"):
        if order != tuple("rzn"):
            pairs = [
                (f"{', '.join(x + k for k in 'rzn')} = torch", f"{', '.join(x + k for k in order)} = torch")
                for x in ("w", "u", "b", "d", "x", "h")
            ]
            found.append(("GRUCell GRU", ("TEXT", pairs)))
    return found


def _names(layers: str, groups: str) -> Rules:
    """Each name of a group for each other."""
    return [(layers, (a, b)) for group in groups.split("/") for a in group.split() for b in group.split() if a != b]


OPEN: dict[str, Rules] = {
    "activation left out": [
        ("*", ("torch.sigmoid(A)", "A")),
        ("*", ("torch.tanh(A)", "A")),
        ("*", ("F.relu(A)", "A")),
        ("*", ("F.gelu(A)", "A")),
        (_ATTENTION, ("torch.softmax(A, dim=-1)", "A")),
    ],
    "another activation": [
        ("*", ("torch.sigmoid(A)", "torch.tanh(A)")),
        ("*", ("torch.sigmoid(A)", "F.hardsigmoid(A)")),
        ("*", ("torch.tanh(A)", "torch.relu(A)")),
        ("*", ("torch.tanh(A)", "torch.sigmoid(A)")),
        ("*", ("F.relu(A)", "F.gelu(A)")),
        ("*", ("F.relu(A)", "F.silu(A)")),
        ("*", ("F.gelu(A)", "F.gelu(A, approximate='tanh')")),
    ],
    "another axis of softmax": [
        (_ATTENTION, ("torch.softmax(A, dim=-1)", f"torch.softmax(A, dim={axis})")) for axis in (-2, 1, 0)
    ],
    "another bias": _names("LSTMCell", "bi bf bg bo/di df dg do") + _names("GRUCell", "br bz bn/dr dz dn"),
    "another gate order": _orders(),
    "another norm": _names("TransformerEncoderLayer", "self.norm1 self.norm2")
    + _names("TransformerDecoderLayer", "self.norm1 self.norm2 self.norm3"),
    "another operator": [
        ("LSTMCell", ("torch.mul(A, B)", "A + B")),
        ("LSTMCell", ("kept + written", "kept * written")),
        ("GRUCell GRU", ("update * hidden", "update + hidden")),
        ("LSTM", ("A * torch.tanh(B)", "A + torch.tanh(B)")),
        ("LayerNorm", ("scaled * self.weight", "scaled + self.weight")),
    ],
    "another padding": [
        ("Conv2d", ("(pad_x, pad_x, pad_y, pad_y)", "(pad_y, pad_y, pad_x, pad_x)")),
        ("Conv2d", ("(pad_x, pad_x, pad_y, pad_y)", "(0, 0, 0, 0)")),
        ("Conv2d", ("F.pad(A, B)", "F.pad(A, B, mode='replicate')")),
        ("Conv2d", ("F.pad(A, B)", "F.pad(A, B, mode='reflect')")),
        ("Conv2d", ("F.pad(A, B)", "F.pad(A, B, mode='circular')")),
    ],
    "another variance": [
        ("LayerNorm", ("torch.mean(torch.pow(centred, 2), dim=axes, keepdim=True)", f"torch.{other}"))
        for other in ("var(input, dim=axes, keepdim=True)", "mean(torch.pow(input, 2), dim=axes, keepdim=True)")
    ]
    + [("LayerNorm", ("torch.rsqrt(A)", "torch.reciprocal(A)"))],
    "another weight": _names("LSTMCell", "wi wf wg wo/ui uf ug uo") + _names("GRUCell", "wr wz wn/ur uz un"),
    "bias twice": [("LSTMCell", (f"A + {x}{k}", f"A + {x}{k} + {x}{k}")) for x in "bd" for k in "ifgo"]
    + [("GRUCell", (f"A + {x}{k}", f"A + {x}{k} + {x}{k}")) for x in "bd" for k in "rzn"]
    + [("LayerNorm", ("scaled + self.bias", "scaled + self.bias + self.bias"))],
    "dilation left out": [
        ("Conv2d", ("self.dilation", "(1, 1)")),
        ("Conv2d", ("self.dilation", "self.dilation[::-1]")),
    ],
    "directions exchanged": [("LSTM GRU", ("torch.cat(sides, dim=2)", "torch.cat(sides[::-1], dim=2)"))],
    "dropout elsewhere": [
        (_LAYERS, ("self.drop(self.linear2(A))", "self.linear2(self.drop(A))")),
        (_LAYERS, ("self.linear1(A)", "self.drop(self.linear1(A))")),
        (_LAYERS, ("self.linear1(A)", "self.linear1(self.drop(A))")),
        (_ATTENTION, ("torch.softmax(A, dim=-1)", "torch.softmax(F.dropout(A, self.dropout, self.training), dim=-1)")),
        (_LAYERS, ("self.norm1(x)", "self.drop(self.norm1(x))")),
        ("LSTM GRU", ("torch.stack(made)", "F.dropout(torch.stack(made), self.dropout, self.training)")),
        ("LSTM GRU", ("layer != 0", "layer == 0")),
    ],
    "dropout left out": [(_LAYERS, ("self.drop(A)", "A")), ("*", ("F.dropout(A, B, C)", "A"))],
    "dropout twice": [
        (_LAYERS, ("self.drop(A)", "self.drop(self.drop(A))")),
        ("LSTM GRU", ("F.dropout(A, B, C)", "F.dropout(F.dropout(A, B, C), B, C)")),
    ],
    "factor": [
        ("LSTMCell", ("kept + written", "kept + 2 * written")),
        ("LSTMCell", ("kept + written", "kept / 2 + written")),
        ("LSTMCell GRUCell", ("torch.tanh(A)", "2 * torch.tanh(A)")),
        ("LSTMCell GRUCell", ("torch.sigmoid(A)", "torch.sigmoid(2 * A)")),
        ("LSTMCell GRUCell", ("torch.sigmoid(A)", "torch.sigmoid(A) / 2")),
        ("LayerNorm", ("scaled * self.weight", "2 * scaled * self.weight")),
    ],
    "gradient cut": [
        ("LSTMCell", ("new_cell", "new_cell.detach()")),
        ("LSTMCell", ("torch.mul(A, B)", "torch.mul(A.detach(), B)")),
        ("LSTMCell", ("torch.mul(A, B)", "torch.mul(A, B.detach())")),
        ("GRUCell", ("reset * A", "reset.detach() * A")),
        ("GRUCell", ("update * hidden", "update * hidden.detach()")),
        ("LayerNorm", ("A + self.eps", "A.detach() + self.eps")),
        ("LayerNorm", ("input - centre", "input - centre.detach()")),
        (_ATTENTION, ("torch.einsum(A, queries, keys)", "torch.einsum(A, queries.detach(), keys)")),
        (_ATTENTION, ("torch.einsum(A, attention, values)", "torch.einsum(A, attention.detach(), values)")),
        ("Conv2d", ("kernel[:, :, y, x]", "kernel[:, :, y, x].detach()")),
        ("Embedding", ("torch.index_select(table, A, B)", "torch.index_select(table.detach() + 0 * table, A, B)")),
    ],
    "heads dealt out in turn": [
        (
            _ATTENTION,
            (
                "x.reshape(batch, length, self.num_heads, self.head_dim).permute(0, 2, 1, 3)",
                "x.reshape(batch, length, self.head_dim, self.num_heads).permute(0, 3, 1, 2)",
            ),
        )
    ],
    "heads joined otherwise": [
        (_ATTENTION, ("x.permute(0, 2, 1, 3).reshape(A, B, C)", "x.permute(0, 2, 3, 1).reshape(A, B, C)")),
        (_ATTENTION, ("x.permute(0, 2, 1, 3).reshape(A, B, C)", "x.reshape(A, B, C)")),
    ],
    "interpolation turned round": [
        ("GRUCell GRU", ("(1 - A) * candidate + A * hidden", "A * candidate + (1 - A) * hidden")),
    ],
    "kernel flipped": [
        ("Conv2d", ("self.weight.chunk(A)", f"self.weight.flip({axes}).chunk(A)")) for axes in ("2, 3", "2", "3")
    ],
    "mask ignored": [(_ATTENTION, ("attn_mask is not None", "False"))],
    "mask of the opposite meaning": [
        (_ATTENTION, ("torch.where(attn_mask, A, B)", "torch.where(attn_mask, B, A)")),
        (_ATTENTION, ("torch.where(key_padding_mask[C], A, B)", "torch.where(key_padding_mask[C], B, A)")),
    ],
    "memory for itself": [
        (
            "TransformerDecoderLayer",
            ("self.multihead_attn(x, memory, memory, A, B)", "self.multihead_attn(x, x, x, A, B)"),
        ),
        (
            "TransformerDecoderLayer",
            ("self.multihead_attn(x, memory, memory, A, B)", "self.multihead_attn(x, memory.flip(1), memory, A, B)"),
        ),
    ],
    "norm after for before": [(_LAYERS, ("self.norm_first", "not self.norm_first"))],
    "padding ignored": [(_ATTENTION, ("key_padding_mask is not None", "False"))],
    "projections exchanged": [
        (
            _ATTENTION,
            (
                "TEXT",
                [
                    (
                        f"{', '.join(f'{x}_{end}' for x in ('query', 'key', 'value'))} = ",
                        f"{', '.join(f'{x}_{end}' for x in order)} = ",
                    )
                    for end in ("weight", "bias")
                ],
            ),
        )
        for order in list(permutations(("query", "key", "value")))[1:]
    ],
    "residual from elsewhere": [
        ("TransformerEncoderLayer", ("x + self.feed_forward_block(A)", "src + self.feed_forward_block(A)")),
        ("TransformerDecoderLayer", ("x + self.feed_forward_block(A)", "tgt + self.feed_forward_block(A)")),
        ("TransformerDecoderLayer", ("x + self.cross_block(A, B, C, D)", "tgt + self.cross_block(A, B, C, D)")),
        (
            _LAYERS,
            ("x + self.feed_forward_block(self.norm2(x))", "self.norm2(x) + self.feed_forward_block(self.norm2(x))"),
        ),
        (_LAYERS, ("self.norm1(x + A)", "x + self.norm1(A)")),
        (_LAYERS, ("self.norm2(x + A)", "x + self.norm2(A)")),
    ],
    "residual left out": [
        (_LAYERS, ("x + self.feed_forward_block(A)", "self.feed_forward_block(A)")),
        (_LAYERS, ("x + self.attention_block(A, B, C)", "self.attention_block(A, B, C)")),
        (_LAYERS, ("x + self.self_block(A, B, C)", "self.self_block(A, B, C)")),
        (_LAYERS, ("x + self.cross_block(A, B, C, D)", "self.cross_block(A, B, C, D)")),
    ],
    "scale left out": [(_ATTENTION, ("A / math.sqrt(self.head_dim)", "A"))],
    "scale of the whole width": [
        (_ATTENTION, ("math.sqrt(self.head_dim)", "math.sqrt(self.head_dim * self.num_heads)")),
        (_ATTENTION, ("math.sqrt(self.head_dim)", "self.head_dim")),
        (_ATTENTION, ("math.sqrt(self.head_dim)", "math.sqrt(self.num_heads)")),
    ],
    "scaled embedding": [
        (
            "Embedding",
            (
                "found.reshape(A, self.embedding_dim)",
                "found.reshape(A, self.embedding_dim) * math.sqrt(self.embedding_dim)",
            ),
        ),
        ("Embedding", ("torch.index_select(A, B, C)", "torch.index_select(A, B, C) * math.sqrt(self.embedding_dim)")),
        ("Embedding", ("torch.index_select(A, B, C)", "torch.index_select(A, B, C) / math.sqrt(self.embedding_dim)")),
    ],
    "sign": [
        ("LSTMCell", ("kept + written", "kept - written")),
        ("LSTMCell", ("kept + written", "written - kept")),
        ("GRUCell GRU", ("A * candidate + B", "A * candidate - B")),
        ("GRUCell GRU", ("1 - update", "1 + update")),
        ("GRUCell GRU", ("1 - update", "update - 1")),
        (_CELLS, ("torch.sigmoid(A)", "torch.sigmoid(-A)")),
        ("LayerNorm", ("input - centre", "input + centre")),
        ("LayerNorm", ("scaled + self.bias", "scaled - self.bias")),
        (_CELLS, ("torch.matmul(hidden, A) + B", "B - torch.matmul(hidden, A)")),
    ],
    "term left out": [
        ("LSTMCell", ("kept + written", "kept")),
        ("LSTMCell", ("kept + written", "written")),
        (_CELLS, ("A + torch.matmul(hidden, B)", "A")),
        (_CELLS, ("torch.matmul(input, A) + B", "B")),
        ("GRUCell GRU", ("A * candidate + B", "A * candidate")),
        ("GRUCell GRU", ("A * candidate + B", "B")),
    ],
    "transposed weight": [("LSTMCell", (f"u{k}.t()", f"u{k}")) for k in "ifgo"]
    + [("GRUCell", (f"u{k}.t()", f"u{k}")) for k in "rzn"]
    + [
        (_ATTENTION, ("self.out_proj(A)", "F.linear(A, self.out_proj.weight.t(), self.out_proj.bias)")),
        *(
            (_ATTENTION, (f"F.linear({x}, {x}_weight, {x}_bias)", f"F.linear({x}, {x}_weight.t(), {x}_bias)"))
            for x in ("query", "key", "value")
        ),
    ],
}
"""The kinds that the finder was written with, and how each is planted."""


_SEVERAL = "LSTM GRU"


def _late(name: str, mask: str) -> tuple[str, Rule]:
    """A mask that takes weights away instead of scores."""
    softmax = "attention = torch.softmax(logits, dim=-1)"
    given = f"{name} is not None and {name}.dtype == torch.bool"
    late = f"{softmax}\n        attention = torch.where({mask}, 0.0, attention) if {given} else attention"
    return _ATTENTION, ("TEXT", [(f"logits = torch.where({mask}, float('-inf'), logits)", "pass"), (softmax, late)])


HELD: dict[str, Rules] = {
    "another axis of a mean": [
        ("LayerNorm", ("torch.mean(input, dim=axes, keepdim=True)", "torch.mean(input, dim=0, keepdim=True)")),
        (
            "LayerNorm",
            ("torch.mean(torch.pow(A, 2), dim=axes, keepdim=True)", "torch.mean(torch.pow(A, 2), dim=0, keepdim=True)"),
        ),
        (
            "LayerNorm",
            ("torch.mean(torch.pow(A, 2), dim=axes, keepdim=True)", "torch.mean(torch.pow(A, 2), dim=1, keepdim=True)"),
        ),
    ],
    "another epsilon": [("LayerNorm", ("self.eps", value)) for value in ("0.0", "1e-12", "1e-3", "self.eps * 2")],
    "another operand": [
        ("LSTMCell", ("torch.mul(in_gate, A)", "torch.mul(forget_gate, A)")),
        ("LSTMCell", ("torch.mul(forget_gate, A)", "torch.mul(in_gate, A)")),
        ("LSTMCell", ("torch.mul(out_gate, A)", "torch.mul(in_gate, A)")),
        ("LSTMCell", ("torch.tanh(new_cell)", "torch.tanh(cell)")),
        ("LSTMCell", ("torch.matmul(hidden, A)", "torch.matmul(cell, A)")),
        ("GRUCell", ("reset * A", "update * A")),
        ("GRUCell", ("update * hidden", "reset * hidden")),
        (_ATTENTION, ("torch.einsum(A, queries, keys)", "torch.einsum(A, queries, values)")),
        (_ATTENTION, ("torch.einsum(A, attention, values)", "torch.einsum(A, attention, keys)")),
        ("LayerNorm", ("centred * A", "input * A")),
    ],
    "another stride": [
        ("Conv2d", ("self.stride", "(1, 1)")),
        ("Conv2d", ("self.stride", "self.stride[::-1]")),
        ("Conv2d", ("self.stride", "(self.stride[0], self.stride[0])")),
    ],
    "bias left out": [("LSTMCell", (f"A + {x}{k}", "A")) for x in "bd" for k in "ifgo"]
    + [("GRUCell", (f"A + {x}{k}", "A")) for x in "bd" for k in "rzn"]
    + [
        ("Conv2d", ("output + self.bias[A]", "output")),
        ("LayerNorm", ("scaled + self.bias", "scaled")),
        (_ATTENTION, ("F.linear(query, query_weight, query_bias)", "F.linear(query, query_weight)")),
        (_ATTENTION, ("F.linear(value, value_weight, value_bias)", "F.linear(value, value_weight)")),
        (_ATTENTION, ("self.out_proj(A)", "F.linear(A, self.out_proj.weight)")),
    ],
    "direction not reversed": [
        (_SEVERAL, ("torch.flip(steps, [0]) if A else B", "B")),
        (_SEVERAL, ("torch.flip(whole, [0]) if A else B", "B")),
    ],
    "dropout in evaluation": [(_LAYERS + " LSTM GRU", ("F.dropout(A, B, self.training)", "F.dropout(A, B, True)"))],
    "epsilon outside the root": [
        ("LayerNorm", ("torch.rsqrt(spread + self.eps)", "1 / (torch.sqrt(spread) + self.eps)")),
        ("LayerNorm", ("torch.rsqrt(spread + self.eps)", "1 / (torch.std(input, dim=axes, keepdim=True) + self.eps)")),
    ],
    "groups interleaved": [
        ("Conv2d", ("image.chunk(self.groups, 1)", "[image[:, k::self.groups] for k in range(self.groups)]")),
        ("Conv2d", ("torch.cat(of_group, dim=1)", "torch.stack(of_group, dim=2).flatten(1, 2)")),
    ],
    "heads over the length": [
        (
            _ATTENTION,
            (
                "x.reshape(batch, length, self.num_heads, self.head_dim).permute(0, 2, 1, 3)",
                "x.reshape(batch, self.num_heads, length, self.head_dim)",
            ),
        )
    ],
    "mask after softmax": [
        _late("attn_mask", "attn_mask"),
        _late("key_padding_mask", "key_padding_mask[:, None, None, :]"),
    ],
    "mean not taken away": [("LayerNorm", ("input - centre", "input"))],
    "norm left out": [
        (_LAYERS, ("self.norm1(A)", "A")),
        (_LAYERS, ("self.norm2(A)", "A")),
        (_LAYERS, ("self.norm3(A)", "A")),
    ],
    "reset before the product": [
        ("GRUCell", ("reset * (torch.matmul(hidden, un.t()) + dn)", "torch.matmul(reset * hidden, un.t()) + dn")),
        ("GRUCell", ("reset * (torch.matmul(hidden, un.t()) + dn)", "reset * torch.matmul(hidden, un.t()) + dn")),
    ],
    "row off by one": [
        ("Embedding", ("input.flatten()", "(input.flatten() + 1) % table.shape[0]")),
        ("Embedding", ("input.flatten()", "(input.flatten() - 1) % table.shape[0]")),
    ],
    "scale twice": [
        (_ATTENTION, ("A / math.sqrt(self.head_dim)", "A / math.sqrt(self.head_dim) / math.sqrt(self.head_dim)")),
        (_ATTENTION, ("torch.softmax(logits, dim=-1)", "torch.softmax(logits / math.sqrt(self.head_dim), dim=-1)")),
    ],
    "state not carried": [
        ("LSTM", ("hidden, cell = self.step(x, hidden, cell, place)", "hidden, _ = self.step(x, hidden, cell, place)")),
        (
            "LSTM",
            (
                "hidden, cell = self.step(x, hidden, cell, place)",
                "hidden, cell = self.step(x, first_hidden[which], cell, place)",
            ),
        ),
        ("LSTM", ("first_hidden[which]", "first_hidden[0]")),
        ("GRU", ("start[A]", "start[0]")),
        (
            "GRU",
            ("hidden = self.step(x, hidden, A)", "hidden = self.step(x, start[layer * len(self.ends) + number], A)"),
        ),
    ],
    "weights of another layer": [
        ("LSTM", ("f'_l{layer}{end}'", "f'_l{max(layer, 1) if self.num_layers > 1 and layer else 0}{self.ends[0]}'")),
        ("LSTM", ("self.step(x, hidden, cell, place)", "self.step(x, hidden, cell, place.replace('_reverse', ''))")),
        ("GRU", ("self.step(x, hidden, A)", "self.step(x, hidden, A.replace('_reverse', ''))")),
        ("LSTM", ("self.step(x, hidden, cell, place)", "self.step(x, hidden, cell, place.replace('_l2', '_l1'))")),
    ],
}
"""The kinds that were planted only when the finder was finished."""

RULES = OPEN | HELD
