"""The shipped cases of attention and Transformer layers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qkv.check.parity.case import Case, Sizes, State, Trial, normal, real_positions
from qkv.check.parity.formulas import attention
from qkv.check.parity.formulas.common import ACTIVATIONS
from qkv.check.parity.signature import roles
from qkv.check.parity.variants import Formula, Named

_SPLIT = "split_heads("
_WIDTH = "q.shape[-1] ** 0.5"
_PADDED = """    if real is not None:
        scores = scores.masked_fill(~real, -inf)
    weights = dropout(softmax(scores, -1), p, training)"""
_PADDED_LATE = """    weights = softmax(scores, -1)
    if real is not None:
        weights = weights.masked_fill(~real, 0)
    weights = dropout(weights, p, training)"""
_KEPT_OUT = f"""    if allowed is not None:
        scores = scores.masked_fill(~allowed, -inf)
{_PADDED}"""
_TAKEN_AWAY = """    if real is not None:
        scores = scores.masked_fill(~real, -inf)
    weights = softmax(scores, -1)
    if allowed is not None:
        weights = weights.masked_fill(~allowed, 0)
    weights = dropout(weights, p, training)"""
_ATTENTION = [
    Named("mask", "~allowed", "allowed", "the mask has the opposite meaning: what it leaves out is attended to"),
    Named("mask", "~real", "real", "the padding mask has the opposite meaning: padding alone is attended to"),
    Named("mask", "allowed is not None", "allowed is None", "the mask is ignored"),
    Named("mask", "real is not None", "False", "padding is ignored"),
    Named("mask", "allowed is not None", "False", "the mask is ignored"),
    Named("mask", "added is not None", "False", "a mask of numbers is ignored"),
    Named(
        "mask",
        "if added is not None:\n        scores = scores + added\n    if allowed is not None:",
        "if False:",
        "the mask is ignored",
    ),
    Named("mask", "scores + added", "scores - added", "a mask of numbers is subtracted"),
    Named("scale", f"/ {_WIDTH}", "", "scores are not scaled by 1 / sqrt(head_dim)"),
    Named(
        "scale", _WIDTH, f"({_WIDTH} * heads ** 0.5)", "scores are scaled by 1 / sqrt(embed_dim), not sqrt(head_dim)"
    ),
    Named("scale", f"/ {_WIDTH}", "/ q.shape[-1]", "scores are divided by head_dim, not by its root"),
    Named("scale", f"/ {_WIDTH}", f"* {_WIDTH}", "scores are multiplied by sqrt(head_dim)"),
    Named("scale", f"/ {_WIDTH}", "/ heads ** 0.5", "scores are divided by the root of the number of heads"),
    Named("scale", f"/ {_WIDTH}", "/ q.shape[-2] ** 0.5", "scores are divided by the root of the length"),
    Named(
        "heads",
        _SPLIT,
        "heads_in_turn(",
        "features are dealt out to heads in turn: (head_dim, heads), not (heads, head_dim)",
    ),
    Named("heads", _SPLIT, "heads_over_length(", "heads are split along the length: reshaped without moving an axis"),
    Named(
        "heads", "join_heads(", "joined_in_turn(", "heads are joined in turn: (head_dim, heads), not (heads, head_dim)"
    ),
    Named(
        "heads",
        "join_heads(",
        "joined_over_length(",
        "heads are joined along the length: reshaped without moving an axis",
    ),
    Named(
        "projection",
        "query, key, value, W_q, W_k, W_v, b_q, b_k, b_v",
        "query, key, value, W_k, W_q, W_v, b_k, b_q, b_v",
        "queries and keys exchange their weights",
    ),
    Named(
        "projection",
        "query, key, value, W_q, W_k, W_v, b_q, b_k, b_v",
        "query, key, value, W_q, W_v, W_k, b_q, b_v, b_k",
        "keys and values exchange their weights",
    ),
    Named(
        "projection",
        "query, key, value, W_q, W_k, W_v, b_q, b_k, b_v",
        "query, key, value, W_v, W_k, W_q, b_v, b_k, b_q",
        "queries and values exchange their weights",
    ),
    Named(
        "projection",
        "query, key, value, W_q, W_k, W_v, b_q, b_k, b_v",
        "query, key, value, W_k, W_v, W_q, b_k, b_v, b_q",
        "the weights of query, key and value are read in the order v, q, k",
    ),
    Named(
        "projection",
        "query, key, value, W_q, W_k, W_v, b_q, b_k, b_v",
        "query, key, value, W_v, W_q, W_k, b_v, b_q, b_k",
        "the weights of query, key and value are read in the order k, v, q",
    ),
    Named("mask", _KEPT_OUT, _TAKEN_AWAY, "what the mask leaves out is taken away after softmax, not before"),
    Named("mask", _PADDED, _PADDED_LATE, "padding is taken away after softmax, not before"),
    Named("axis", "softmax(scores, -1)", "softmax(scores, -2)", "softmax runs over queries"),
    Named("axis", "softmax(scores, -1)", "softmax(scores, 1)", "softmax runs over heads"),
    Named("transposed", "W_o.T", "W_o", "out_proj.weight stands transposed"),
    *(Named("transposed", f"W_{one}.T", f"W_{one}", f"the weight of {one} stands transposed") for one in "qkv"),
    Named("transposed", "W_q.T", "W_q", "the weights of query, key and value stand transposed"),
]
_NORM = [
    Named("term", "mean = x.mean(axes, keepdim=True)", "mean = 0 * x", "the mean is not taken away"),
    Named(
        "epsilon",
        "sqrt(variance + eps)",
        "(sqrt(variance) + eps)",
        "epsilon is added to the deviation, outside the root",
    ),
    *(
        Named("epsilon", "variance + eps", f"variance + {other}", f"epsilon is {other}")
        for other in (1e-12, 1e-8, 1e-6, 1e-5, 1e-3, 1e-7, 1e-4)
    ),
    Named(
        "variance",
        "(x - mean).square().mean(axes, keepdim=True)",
        "x.var(axes, keepdim=True)",
        "the variance is the sample's: divided by n - 1",
    ),
    Named(
        "variance",
        "(x - mean).square().mean(axes, keepdim=True)",
        "x.square().mean(axes, keepdim=True)",
        "the mean is not taken away in the variance",
    ),
    Named(
        "variance",
        "(x - mean).square().mean(axes, keepdim=True)",
        "(x - mean).abs().mean(axes, keepdim=True).square()",
        "the mean deviation stands for the standard deviation",
    ),
    Named("variance", "sqrt(variance + eps)", "(variance + eps)", "divided by the variance, not by its root"),
    Named(
        "epsilon",
        "sqrt(variance + eps)",
        "(x.std(axes, keepdim=True) + eps)",
        "epsilon is added to the sample's deviation, outside the root",
    ),
]


def _layer(blocks: Sequence[tuple[str, str, str, str, str]], last: str) -> list[Named]:
    """Norm order and residuals of a layer's blocks, each with its text after the norm and before it."""
    named = []
    for name, past, call, _, norm in blocks:
        post, pre = f"{norm}({past} + {call}({past}))", f"{past} + {call}({norm}({past}))"
        named += [
            Named("residual", f"{past} + {call}(", f"{call}(", f"{name} has no residual"),
            Named(
                "residual",
                pre,
                f"{norm}({past}) + {call}({norm}({past}))",
                f"the residual of {name} is taken after the norm",
            ),
            Named("residual", post, f"{past} + {norm}({call}({past}))", f"the residual of {name} goes past the norm"),
        ]
    return named + [
        Named("norm", "\n    return " + last, f"\n    return {norm}({last})", f"{norm} stands at the end too")
        for *_, norm in blocks[-1:]
    ]


def _masks(given: Mapping[str, Any], left_out: str, padding: str) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """What may be attended to, what is added to scores, and which keys are real."""
    mask, padded = given.get(left_out), given.get(padding)
    boolean = mask is not None and mask.dtype == torch.bool
    allowed = None if mask is None or not boolean else ~mask
    added = None if mask is None or boolean else mask
    return allowed, added, None if padded is None else ~padded[:, None, None]


def _projections(state: State, prefix: str = "") -> list[Tensor]:
    """W_q, W_k, W_v, b_q, b_k, b_v, W_o, b_o, zeros for what is not there."""
    packed = state.get(f"{prefix}in_proj_weight")
    inward = list(packed.chunk(3)) if packed is not None else [state[f"{prefix}{one}_proj_weight"] for one in "qkv"]
    bias = state.get(f"{prefix}in_proj_bias")
    zero = torch.zeros((), dtype=inward[0].dtype)
    biases = list(bias.chunk(3)) if bias is not None else [zero] * 3
    return [*inward, *biases, state[f"{prefix}out_proj.weight"], state.get(f"{prefix}out_proj.bias", zero)]


def _random_mask(generator: torch.Generator, rows: int, columns: int) -> Tensor:
    """True where left out: never a whole row, and never none of it."""
    mask = torch.rand(rows, columns, generator=generator) < 0.4
    mask[torch.arange(rows), torch.arange(rows) % columns] = False
    mask[torch.arange(rows), (torch.arange(rows) + 1) % columns] = True
    return mask


class MultiheadAttention(Case):
    """`torch.nn.MultiheadAttention`."""

    name, reference, kind = "MultiheadAttention", nn.MultiheadAttention, "attention"
    constructor = roles(
        embed_dim="d_model dim width hidden_size hidden_dim model_dim n_embd d embed_size emb_dim",
        num_heads="heads n_heads nhead n_head h nheads num_attention_heads",
        dropout="p drop attn_dropout dropout_p attention_dropout",
        bias="use_bias qkv_bias",
        kdim="key_dim k_dim",
        vdim="value_dim v_dim",
        batch_first="",
    )
    constructor_orders = (("embed_dim", "num_heads"),)
    forward = roles(
        query="q queries x input hidden_states inputs",
        key="k keys",
        value="v values",
        key_padding_mask="padding_mask pad_mask real valid key_mask",
        attn_mask="mask attention_mask allowed",
        need_weights="output_attentions return_weights",
        average_attn_weights="",
    )
    forward_orders = (("query",), ("query", "key", "value"), ("query", "key", "value", "attn_mask"))
    outputs = ("output", "weights", "mean weights")
    sequences = frozenset({"query", "key", "value", "output"})
    masks = {"attn_mask": ("key_padding_mask", "query")}  # noqa: RUF012
    formula = Formula(attention, ["multihead_attention"], _ATTENTION)
    sizes = (
        {"embed_dim": 6, "num_heads": 2, "batch_first": True, "dropout": 0.3},
        {"embed_dim": 12, "num_heads": 4},
        {"embed_dim": 8, "num_heads": 4, "bias": False, "batch_first": True},
        {"embed_dim": 4, "num_heads": 2, "kdim": 3, "vdim": 5, "batch_first": True},
    )

    def sizes_of(self, module: nn.Module) -> Sizes:
        found = {name: getattr(module, name) for name in ("embed_dim", "num_heads", "dropout", "batch_first")}
        widths = {name: getattr(module, name) for name in ("kdim", "vdim")}
        return {**found, **widths, "bias": module.in_proj_bias is not None}

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        batch, queries, keys, width = 3, 5, 7, sizes["embed_dim"]
        kdim, vdim = sizes.get("kdim") or width, sizes.get("vdim") or width
        of_self = {"query": normal(generator, batch, queries, width)}
        of_two = {
            "query": normal(generator, batch, queries, width),
            "key": normal(generator, batch, keys, kdim),
            "value": normal(generator, batch, keys, vdim),
        }
        lengths = (4, 5, 2)
        padding = {"key_padding_mask": ~real_positions(lengths, queries)}
        mask = {"attn_mask": _random_mask(generator, queries, queries)}
        added = {"attn_mask": normal(generator, queries, queries)}
        real = {"output": real_positions(lengths, queries)}
        long = {"key_padding_mask": ~real_positions((7, 3, 6), keys)}
        across = [
            Trial("queries and keys of other lengths", of_two),
            Trial("keys padded", of_two, long),
            Trial("training, with dropout", of_two, training=True),
        ]
        if kdim != width or vdim != width:
            return across
        return [
            Trial("self-attention", of_self),
            Trial("a boolean mask", of_self, mask),
            Trial("padding", of_self, padding, real=real),
            Trial(
                "a boolean mask and padding", of_self, {"attn_mask": mask["attn_mask"].triu(1), **padding}, real=real
            ),
            Trial("a mask of numbers", of_self, added),
            Trial("training, without dropout", of_self, training=True, drops=False),
            Trial("training self-attention, with dropout", of_self, training=True),
            *across,
        ]

    def arguments(self, trial: Trial, inputs: State) -> dict[str, Any]:
        query = inputs["query"]
        same = {"key": query, "value": query} if "key" not in inputs else {}
        return {**inputs, **same, **trial.given, "need_weights": True, "average_attn_weights": False}

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        query = inputs["query"]
        key, value = inputs.get("key", query), inputs.get("value", query)
        masks = _masks(trial.given, "attn_mask", "key_padding_mask")
        p, training = trial.dropped(sizes.get("dropout", 0.0)), trial.training
        output, weights = functions["multihead_attention"](
            query, key, value, *_projections(state), sizes["num_heads"], *masks, p, training
        )
        return self.derived({"output": output, "weights": weights})

    def derived(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**outputs, "mean weights": outputs["weights"].mean(dim=1)} if "weights" in outputs else outputs


_LAYER_SIZES = roles(
    d_model="embed_dim dim width hidden_size hidden_dim model_dim d embed_size n_embd",
    nhead="num_heads heads n_heads n_head h nheads",
    dim_feedforward="d_ff ff_dim ffn_dim mlp_dim d_ffn dim_ff feedforward_dim intermediate_size ff_hidden d_inner",
    dropout="p drop dropout_p dropout_rate",
    activation="act activation_fn hidden_act",
    layer_norm_eps="eps norm_eps",
    norm_first="pre_norm prenorm normalize_before pre_ln",
    bias="use_bias",
    batch_first="",
)
_LAYER_ORDERS = (
    ("d_model", "nhead"),
    ("d_model", "nhead", "dim_feedforward"),
    ("d_model", "nhead", "dim_feedforward", "dropout"),
)
_SMALL = {"d_model": 6, "nhead": 2, "dim_feedforward": 7}


class _Layer(Case):
    kind = "attention"
    constructor, constructor_orders = _LAYER_SIZES, _LAYER_ORDERS
    sizes = (
        {**_SMALL, "dropout": 0.3, "batch_first": True},
        {**_SMALL, "dropout": 0.3, "batch_first": True, "norm_first": True},
        {"d_model": 12, "nhead": 4, "dim_feedforward": 5, "dropout": 0.2, "activation": "gelu"},
        {"d_model": 4, "nhead": 2, "dim_feedforward": 3, "dropout": 0.2, "bias": False, "batch_first": True},
    )

    def sizes_of(self, module: Any) -> Sizes:
        names = {nn.functional.relu: "relu", nn.functional.gelu: "gelu"}
        return {
            "d_model": module.self_attn.embed_dim,
            "nhead": module.self_attn.num_heads,
            "dim_feedforward": module.linear1.out_features,
            "dropout": module.self_attn.dropout,
            "activation": names.get(module.activation, "relu"),
            "layer_norm_eps": module.norm1.eps,
            "norm_first": module.norm_first,
            "bias": module.linear1.bias is not None,
            "batch_first": module.self_attn.batch_first,
        }

    def parts(self, state: State, norms: int) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
        zero = torch.zeros((), dtype=state["linear1.weight"].dtype)
        ff = tuple(state.get(f"linear{k}.{name}", zero) for k in (1, 2) for name in ("weight", "bias"))
        return ff, tuple((state[f"norm{k + 1}.weight"], state.get(f"norm{k + 1}.bias", zero)) for k in range(norms))

    def options(self, sizes: Sizes) -> tuple[Callable[[Tensor], Tensor], bool, float]:
        activation = sizes.get("activation", "relu")
        known = ACTIVATIONS[activation] if isinstance(activation, str) else activation
        return known, sizes.get("norm_first", False), sizes.get("layer_norm_eps", 1e-5)


_FEED = [
    Named(
        "activation", "activation(", f"{other}(", f"the feed-forward network has {other}, not the activation asked for"
    )
    for other in ACTIVATIONS
]
_DROPS = [
    Named(
        "dropout",
        "inner = dropout(activation(x @ W_1.T + b_1), p, training)",
        "inner = activation(x @ W_1.T + b_1)",
        "no dropout inside the feed-forward network",
    ),
    Named(
        "dropout",
        "inner = dropout(activation(x @ W_1.T + b_1), p, training)",
        "inner = activation(dropout(x @ W_1.T + b_1, p, training))",
        "dropout stands before the activation",
    ),
    Named(
        "dropout",
        "return dropout(inner @ W_2.T + b_2, p, training)",
        "return inner @ W_2.T + b_2",
        "no dropout after the feed-forward network",
    ),
    Named("dropout", "return dropout(output, p, training)", "return output", "no dropout after attention"),
    Named(
        "dropout", "dropout(softmax(scores, -1), p, training)", "softmax(scores, -1)", "no dropout of attention weights"
    ),
    Named(
        "dropout",
        "dropout(softmax(scores, -1), p, training)",
        "softmax(dropout(scores, p, training), -1)",
        "dropout of scores, not of weights",
    ),
]


_ORDER = [
    Named(
        "norm order",
        "if norm_first",
        "if not norm_first",
        "norms stand before the blocks, not after them, or the other way round",
    ),
    Named("norm order", "if norm_first", "if True", "norms stand before the blocks, whatever norm_first says"),
    Named("norm order", "if norm_first", "if False", "norms stand after the blocks, whatever norm_first says"),
]


class TransformerEncoderLayer(_Layer):
    """`torch.nn.TransformerEncoderLayer`."""

    name, reference = "TransformerEncoderLayer", nn.TransformerEncoderLayer
    outputs = ("output",)
    sequences = frozenset({"src", "output"})
    masks = {"src_mask": ("src_key_padding_mask", "src")}  # noqa: RUF012
    forward = roles(
        src="x input inputs hidden_states tokens seq",
        src_mask="mask attn_mask attention_mask allowed",
        src_key_padding_mask="key_padding_mask padding_mask pad_mask real valid",
    )
    forward_orders = (("src",), ("src", "src_mask"))
    formula = Formula(
        attention,
        ["encoder_layer", "multihead_attention", "layer_norm"],
        [
            *_ORDER,
            *_layer(
                [
                    ("self-attention", "src", "attend", "x", "norm1"),
                    ("the feed-forward network", "x", "feed_forward", "y", "norm2"),
                ],
                "y",
            ),
            Named(
                "residual",
                "x + feed_forward(",
                "src + feed_forward(",
                "the second residual comes from the layer's input",
            ),
            *_FEED,
            *_DROPS,
            *_ATTENTION,
            *_NORM,
        ],
    )

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        batch, length, lengths = 3, 5, (4, 5, 2)
        x = {"src": normal(generator, batch, length, sizes["d_model"])}
        mask = {"src_mask": _random_mask(generator, length, length)}
        padding = {"src_key_padding_mask": ~real_positions(lengths, length)}
        real = {"output": real_positions(lengths, length)}
        return [
            Trial("evaluation", x),
            Trial("a boolean mask", x, mask),
            Trial("padding", x, padding, real=real),
            Trial("a mask of numbers", x, {"src_mask": normal(generator, length, length)}),
            Trial("training, without dropout", x, training=True, drops=False),
            Trial("training, with dropout", x, training=True),
        ]

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        ff, norms = self.parts(state, 2)
        masks = _masks(trial.given, "src_mask", "src_key_padding_mask")
        p, training = trial.dropped(sizes.get("dropout", 0.1)), trial.training
        attention = tuple(_projections(state, "self_attn."))
        heads, options = sizes["nhead"], self.options(sizes)
        return {
            "output": functions["encoder_layer"](
                inputs["src"], attention, ff, norms, heads, *options, masks, p, training
            )
        }


class TransformerDecoderLayer(_Layer):
    """`torch.nn.TransformerDecoderLayer`."""

    name, reference = "TransformerDecoderLayer", nn.TransformerDecoderLayer
    outputs = ("output",)
    sequences = frozenset({"tgt", "memory", "output"})
    masks = {  # noqa: RUF012
        "tgt_mask": ("tgt_key_padding_mask", "tgt"),
        "memory_mask": ("memory_key_padding_mask", "memory"),
    }
    forward = roles(
        tgt="x target input inputs dec_input",
        memory="enc encoder_output enc_output context source src mem encoder_hidden_states",
        tgt_mask="mask self_mask causal_mask target_mask trg_mask",
        memory_mask="cross_mask",
        tgt_key_padding_mask="tgt_padding_mask tgt_padding",
        memory_key_padding_mask="memory_padding_mask memory_padding src_mask src_key_padding_mask",
    )
    forward_orders = (("tgt", "memory"), ("tgt", "memory", "tgt_mask"), ("tgt", "memory", "memory_mask", "tgt_mask"))
    formula = Formula(
        attention,
        ["decoder_layer", "multihead_attention", "layer_norm"],
        [
            *_ORDER,
            *_layer(
                [
                    ("self-attention", "tgt", "attend", "x", "norm1"),
                    ("attention to the memory", "x", "attend_to_memory", "y", "norm2"),
                    ("the feed-forward network", "y", "feed_forward", "z", "norm3"),
                ],
                "z",
            ),
            Named(
                "operand",
                "multihead_attention(x, memory, memory,",
                "multihead_attention(x, x, x,",
                "attention to the memory attends to the target",
            ),
            Named(
                "operand",
                "multihead_attention(x, memory, memory,",
                "multihead_attention(memory, x, x,",
                "the memory attends to the target",
            ),
            *_FEED,
            *_DROPS,
            *_ATTENTION,
            *_NORM,
        ],
    )

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        batch, length, keys, lengths = 3, 5, 7, (4, 5, 2)
        x = {
            "tgt": normal(generator, batch, length, sizes["d_model"]),
            "memory": normal(generator, batch, keys, sizes["d_model"]),
        }
        causal = torch.ones(length, length, dtype=torch.bool).triu(1)
        real = {"output": real_positions(lengths, length)}
        padding = {"tgt_key_padding_mask": ~real_positions(lengths, length)}
        return [
            Trial("evaluation", x),
            Trial("a causal mask", x, {"tgt_mask": causal}),
            Trial("a mask of the memory", x, {"memory_mask": _random_mask(generator, length, keys)}),
            Trial("padding of the memory", x, {"memory_key_padding_mask": ~real_positions((7, 3, 6), keys)}),
            Trial("padding of the target", x, padding, real=real),
            Trial("training, without dropout", x, training=True, drops=False),
            Trial("training, with dropout", x, training=True),
        ]

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        ff, norms = self.parts(state, 3)
        masks = _masks(trial.given, "tgt_mask", "tgt_key_padding_mask")
        cross_masks = _masks(trial.given, "memory_mask", "memory_key_padding_mask")
        p, training = trial.dropped(sizes.get("dropout", 0.1)), trial.training
        both = tuple(_projections(state, "self_attn.")), tuple(_projections(state, "multihead_attn."))
        heads, options = sizes["nhead"], self.options(sizes)
        return {
            "output": functions["decoder_layer"](
                inputs["tgt"], inputs["memory"], *both, ff, norms, heads, *options, masks, cross_masks, p, training
            )
        }
