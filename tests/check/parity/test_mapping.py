"""Which parameter is which: the language that says so, and what is tried."""

import pytest
import torch

from qkv.check.parity.mapping import BLOCKS, Rows, mappings
from qkv.errors import InputError

STATE = {
    "weight_ih": torch.arange(24.0).reshape(8, 3),
    "weight_hh": torch.arange(16.0).reshape(8, 2),
    "bias_ih": torch.arange(8.0),
    "bias_hh": torch.full((8,), 10.0),
    "layers.0.weight": torch.ones(2, 5),
}


def value(text: str) -> torch.Tensor:
    return Rows(BLOCKS["lstm"]).value(text, STATE)


def test_parts_sums_and_neighbours_by_hand():
    assert value("weight_ih[f]").tolist() == [[6, 7, 8], [9, 10, 11]]  # rows 2 and 3
    assert value("(weight_ih | weight_hh).T").shape == (5, 8)
    assert value("bias_ih[o] / bias_ih[i]").tolist() == [6, 7, 0, 1]
    assert value("bias_ih + bias_hh")[:2].tolist() == [10, 11]
    assert value("layers[0].weight.T").shape == (5, 2)


def test_rows_by_head_by_hand():
    # Two heads of one row each: q0 q1 k0 k1 v0 v1 becomes q0 k0 v0 q1 k1 v1.
    state = {"in_proj_bias": torch.arange(6.0)}
    assert Rows(BLOCKS["attention"], heads=2).value("by_head(in_proj_bias)", state).tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight_xx", "names 'weight_xx'. Expected one of weight_ih"),
        ("weight_ih[z]", "has no part 'z'. Expected one of i, f, g, o"),
        ("weight_ih *", "cannot be read"),
        ("weight_ih ** 2", "cannot be read"),
        ("weight_ih | bias_ih", "does not fit together"),
        ("__import__('os')", "cannot be read"),
    ],
)
def test_what_cannot_be_read(text: str, message: str):
    with pytest.raises(InputError, match=message.replace("*", r"\*").replace("(", r"\(")):
        value(text)


def shapes(**given: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {name.replace("__", "."): shape for name, shape in given.items()}


CELL = shapes(weight_ih=(20, 3), weight_hh=(20, 5), bias_ih=(20,), bias_hh=(20,))


@pytest.mark.parametrize(
    ("own", "first"),
    [
        (CELL, {"weight_ih": "weight_ih", "bias_hh": "bias_hh"}),
        (shapes(kernel=(8, 20), b=(20,)), {"kernel": "(weight_ih | weight_hh).T", "b": "bias_ih + bias_hh"}),
        (shapes(x2h__weight=(20, 3), h2h__weight=(20, 5)), {"x2h.weight": "weight_ih", "h2h.weight": "weight_hh"}),
        (
            shapes(**{f"{x}_{k}": s for k in "ifco" for x, s in (("W", (5, 3)), ("U", (5, 5)), ("b", (5,)))}),
            {"W_f": "weight_ih[f]", "U_c": "weight_hh[g]", "b_o": "bias_ih[o] + bias_hh[o]"},
        ),
    ],
    ids=["as torch", "fused", "other names", "a matrix for each gate"],
)
def test_the_likeliest_mapping_of_a_cell(own, first):
    found = next(mappings(own, CELL, "lstm"))
    assert found.keys() == own.keys()
    assert first.items() <= found.items()


def test_all_orders_of_gates_are_tried():
    found = list(mappings(shapes(kernel=(20, 8)), CELL, "lstm"))
    assert len({one["kernel"] for one in found}) == 2 * 24  # and x after h


ATTENTION = shapes(in_proj_weight=(18, 6), in_proj_bias=(18,), out_proj__weight=(6, 6), out_proj__bias=(6,))


@pytest.mark.parametrize(
    ("own", "first"),
    [
        (
            shapes(w_q__weight=(6, 6), w_k__weight=(6, 6), w_v__weight=(6, 6), w_o__weight=(6, 6)),
            {"w_k.weight": "in_proj_weight[k]", "w_o.weight": "out_proj.weight"},
        ),
        (shapes(qkv__weight=(18, 6), qkv__bias=(18,), proj__weight=(6, 6)), {"qkv.weight": "in_proj_weight"}),
        (shapes(c_attn__weight=(6, 18), c_proj__weight=(6, 6)), {"c_attn.weight": "(in_proj_weight).T"}),
        (
            shapes(to_q__weight=(6, 6), to_kv__weight=(12, 6), to_out__weight=(6, 6)),
            {"to_kv.weight": "in_proj_weight[k] / in_proj_weight[v]"},
        ),
    ],
    ids=["four", "fused", "fused and transposed", "keys and values together"],
)
def test_the_likeliest_mapping_of_attention(own, first):
    assert first.items() <= next(mappings(own, ATTENTION, "attention")).items()


def test_nothing_fits():
    assert list(mappings(shapes(w=(7, 7)), CELL, "lstm")) == []
