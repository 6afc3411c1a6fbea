"""The shipped cases of recurrent cells and layers."""
# ruff: noqa: ARG002 - what a case has no use for, another has

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from qkv.check.parity.case import Case, Sizes, State, Trial, normal, real_positions
from qkv.check.parity.formulas import recurrent
from qkv.check.parity.signature import roles
from qkv.check.parity.variants import Formula, Named

_SIZES = {
    "input_size": "input_dim in_features n_in d_in in_dim x_dim nin inputs embed_dim input_features embedding_dim",
    "hidden_size": "hidden_dim hidden out_features n_hidden n_out d_hidden h_dim units nhid num_units hidden_features",
    "bias": "use_bias has_bias with_bias",
}
_INPUT = "x inputs xt x_t inp seq sequence src"


def _orders(labels: str) -> list[Named]:
    """Gates in every other order; where only some weights have it, it is one of them that is another."""
    lie = ", ".join(labels)
    return [
        Named(
            "gate order",
            f"'{labels}', '{labels}'",
            f"'{''.join(order)}', '{labels}'",
            f"the rows of the gates are read in the order {', '.join(order)}; the reference has them as {lie}",
        )
        for order in permutations(labels)
        if "".join(order) != labels
    ]


_LSTM = [*_orders("ifgo")]
_GRU = [
    Named(
        "reset",
        "r * (h @ W_hn.T + b_hn)",
        "(r * h) @ W_hn.T + b_hn",
        "r resets h before the product W_hn (r * h), as in the paper; torch resets after it",
    ),
    Named("reset", "r * (h @ W_hn.T + b_hn)", "r * (h @ W_hn.T) + b_hn", "r does not reset the bias b_hn"),
    *_orders("rzn"),
]
_LAYERS = [
    Named("dropout", "if layer > 0", "if layer >= 0", "dropout stands before the first layer too"),
    Named("dropout", "if layer > 0", "if layer < 0", "there is no dropout between layers"),
    Named("direction", "cat(outputs, -1)", "cat(outputs[::-1], -1)", "the outputs of the directions are exchanged"),
    Named("direction", "cat(outputs, -1)", "sum(outputs)", "the outputs of the directions are added"),
    Named("weight", "weights[k]", "weights[direction]", "every layer has the weights of the first"),
    Named("weight", "weights[k]", "weights[layer * directions]", "both directions have the weights of the first"),
    Named(
        "weight",
        "weights[k]",
        "weights[layer * directions + directions - 1 - direction]",
        "directions exchange weights",
    ),
    Named("state", "h_0[k]", "h_0[0]", "every layer begins with the first one's h"),
    Named("state", "h_0[k]", "h_0[layer]", "directions begin with the h of a layer"),
    Named("state", "h_0[k]", "h_0[k] * 0", "every layer begins with h = 0"),
    Named("state", "h_0[k]", "h_0[layer * directions]", "both directions begin with the first one's h"),
]
_OF_LSTM_LAYERS = [
    Named("state", "h_0[k], c_0[k]", "c_0[k], h_0[k]", "h and c are exchanged at the start"),
    Named("state", "h_0[k], c_0[k]", "h_0[k] * 0, c_0[k] * 0", "every layer begins with zeros"),
    Named("state", "h_0[k], c_0[k]", "h_0[0], c_0[0]", "every layer begins with the first one's state"),
    Named("state", "h_0[k], c_0[k]", "h_0[k], c_0[k] * 0", "every layer begins with c = 0"),
    Named("state", "h, c = lstm_cell(x_t, h, c,", "h, c = lstm_cell(x_t, h_0[k], c_0[k],", "no state is carried on"),
    Named("state", "h, c = lstm_cell(x_t, h, c,", "h, _ = lstm_cell(x_t, h, c,", "c is not carried on"),
    Named("state", "h, c = lstm_cell(x_t, h, c,", "h, c = lstm_cell(x_t, h_0[k], c,", "h is not carried on"),
]
_OF_GRU_LAYERS = [Named("state", "gru_cell(x_t, h,", "gru_cell(x_t, h_0[k],", "no state is carried on")]


class _Cell(Case):
    constructor = roles(**_SIZES)
    constructor_orders = (("input_size", "hidden_size"), ("input_size", "hidden_size", "bias"))
    sizes = (
        {"input_size": 3, "hidden_size": 5},
        {"input_size": 7, "hidden_size": 2},
        {"input_size": 2, "hidden_size": 3, "bias": False},
    )

    def sizes_of(self, module: nn.Module) -> Sizes:
        return {name: getattr(module, name) for name in ("input_size", "hidden_size", "bias")}

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        batch, hidden = 4, sizes["hidden_size"]
        x = normal(generator, batch, sizes["input_size"])
        states = {name: normal(generator, batch, hidden) for name in self.outputs}
        return [
            Trial("one step", {"input": x, **states}),
            Trial("no state given", {"input": x}),
            Trial("training", {"input": 2 * x, **states}, training=True),
        ]

    def weights(self, state: State) -> list[Tensor | None]:
        return [state.get(name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


class LSTMCell(_Cell):
    """`torch.nn.LSTMCell`."""

    name, reference, kind = "LSTMCell", nn.LSTMCell, "lstm"
    outputs = ("h", "c")
    forward = roles(
        input=_INPUT,
        c="c_prev cprev c_t c0 c_0 cell cell_state c_in cx prev_c old_c c_last ct",
        h="h_prev hprev h_t h0 h_0 hidden_state h_in prev_h old_h h_last ht",
        hx="state states hidden hc init_state initial_state init_states prev_state prev memory",
    )
    forward_orders = (("input",), ("input", "hx"), ("input", "h", "c"))
    formula = Formula(recurrent, ["lstm_cell"], _LSTM)
    symbols = {  # noqa: RUF012 - cases are read only
        "i": "the input gate i",
        "f": "the forget gate f",
        "g": "the candidate g",
        "o": "the output gate o",
        "c_next": "the cell state c",
        "h_next": "the output h",
    }

    def arguments(self, trial: Trial, inputs: State) -> dict[str, Any]:
        both = {"hx": (inputs["h"], inputs["c"])} if "h" in inputs else {}
        return {**inputs, **both}

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        x = inputs["input"]
        zero = x.new_zeros(len(x), state["weight_hh"].shape[1])
        h, c = functions["lstm_cell"](x, inputs.get("h", zero), inputs.get("c", zero), *self.weights(state))
        return {"h": h, "c": c}


class GRUCell(_Cell):
    """`torch.nn.GRUCell`."""

    name, reference, kind = "GRUCell", nn.GRUCell, "gru"
    outputs = ("h",)
    forward = roles(
        input=_INPUT,
        h="hx h_prev hprev h_t h0 h_0 hidden hidden_state state h_in prev_h prev old_h ht init_state",
    )
    forward_orders = (("input",), ("input", "h"))
    formula = Formula(recurrent, ["gru_cell"], _GRU)
    symbols = {  # noqa: RUF012
        "r": "the reset gate r",
        "z": "the update gate z",
        "n": "the candidate n",
        "h_next": "the output h",
    }

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        x = inputs["input"]
        zero = x.new_zeros(len(x), state["weight_hh"].shape[1])
        return {"h": functions["gru_cell"](x, inputs.get("h", zero), *self.weights(state))}


class _Layers(Case):
    constructor = roles(
        **_SIZES,
        num_layers="layers n_layers nlayers depth",
        dropout="p drop dropout_p dropout_rate",
        bidirectional="bi both",
        batch_first="",
    )
    constructor_orders = (("input_size", "hidden_size"), ("input_size", "hidden_size", "num_layers"))
    sequences = frozenset({"input", "output"})
    sizes = (
        {"input_size": 3, "hidden_size": 5, "batch_first": True},
        {"input_size": 5, "hidden_size": 2, "num_layers": 3, "dropout": 0.4},
        {"input_size": 2, "hidden_size": 3, "num_layers": 2, "bidirectional": True, "batch_first": True},
        {"input_size": 3, "hidden_size": 2, "bias": False},
    )

    def sizes_of(self, module: nn.Module) -> Sizes:
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        return {name: getattr(module, name) for name in names}

    def trials(self, sizes: Sizes, generator: torch.Generator) -> list[Trial]:
        batch, length, lengths = 3, 5, (5, 2, 3)
        layers = sizes.get("num_layers", 1) * (2 if sizes.get("bidirectional") else 1)
        x = normal(generator, batch, length, sizes["input_size"])
        states = {f"{name[0]}_0": normal(generator, layers, batch, sizes["hidden_size"]) for name in self.outputs[1:]}
        real = real_positions(lengths, length)
        return [
            Trial("a whole sequence", {"input": x, **states}),
            Trial("no state given", {"input": x}),
            Trial("training, without dropout", {"input": x, **states}, training=True, drops=False),
            Trial("training, with dropout", {"input": x, **states}, training=True),
            Trial("padded", {"input": x}, {"lengths": torch.tensor(lengths)}, real={"output": real}),
        ]

    def arguments(self, trial: Trial, inputs: State) -> dict[str, Any]:
        states = [value for name, value in inputs.items() if name != "input"]
        lengths = trial.given.get("lengths")
        real = {} if lengths is None else {"real": real_positions(lengths.tolist(), inputs["input"].shape[1])}
        whole = {"hx": tuple(states) if len(states) > 1 else states[0]} if states else {}
        return {**inputs, **whole, **trial.given, **real}

    def weights(self, state: State) -> list[list[Tensor | None]]:
        ends = [name.removeprefix("weight_ih") for name in state if name.startswith("weight_ih")]
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [[state.get(name + end) for name in names] for end in ends]

    def computed(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        x = inputs["input"]
        lengths = trial.given.get("lengths", [x.shape[1]] * len(x))
        if len(set(map(int, lengths))) > 1:  # each sequence for itself, then padded
            parts = []
            for k, length in enumerate(lengths):
                own = {
                    name: value[k : k + 1] if name == "input" else value[:, k : k + 1] for name, value in inputs.items()
                }
                own["input"] = own["input"][:, : int(length)]
                parts.append(self._whole(functions, state, own, sizes, trial))
            output = torch.nn.utils.rnn.pad_sequence([part["output"][0] for part in parts], batch_first=True)
            ends = {name: torch.cat([part[name] for part in parts], dim=1) for name in self.outputs[1:]}
            return {"output": output, **ends}
        return self._whole(functions, state, inputs, sizes, trial)

    def _whole(self, functions: Mapping[str, Any], state: State, inputs: State, sizes: Sizes, trial: Trial) -> State:
        x, weights = inputs["input"], self.weights(state)
        directions = 2 if sizes.get("bidirectional") else 1
        zero = x.new_zeros(len(weights), len(x), sizes["hidden_size"])
        states = [inputs.get(f"{name[0]}_0", zero) for name in self.outputs[1:]]
        p, training = trial.dropped(sizes.get("dropout", 0.0)), trial.training
        return dict(zip(self.outputs, functions[self.kind](x, *states, weights, directions, p, training), strict=True))


_LAYER_ROLES = {
    "input": _INPUT,
    "lengths": "length lens seq_lens seq_lengths input_lengths x_lengths",
    "real": "mask padding_mask valid is_real",
}


class LSTM(_Layers):
    """`torch.nn.LSTM`."""

    name, reference, kind = "LSTM", nn.LSTM, "lstm"
    outputs = ("output", "h_n", "c_n")
    forward = roles(
        **_LAYER_ROLES,
        c_0="c0 c c_init cell c_prev",
        h_0="h0 h h_init h_prev",
        hx="state states hidden hc init_state initial_state init_states",
    )
    forward_orders = (("input",), ("input", "hx"), ("input", "h_0", "c_0"))
    formula = Formula(recurrent, ["lstm", "lstm_cell"], [*_LSTM, *_LAYERS, *_OF_LSTM_LAYERS])
    symbols = LSTMCell.symbols


class GRU(_Layers):
    """`torch.nn.GRU`."""

    name, reference, kind = "GRU", nn.GRU, "gru"
    outputs = ("output", "h_n")
    forward = roles(**_LAYER_ROLES, hx="h_0 h0 h state hidden init_state initial_state h_init h_prev")
    forward_orders = (("input",), ("input", "hx"))
    formula = Formula(recurrent, ["gru", "gru_cell"], [*_GRU, *_LAYERS, *_OF_GRU_LAYERS])
    symbols = GRUCell.symbols
