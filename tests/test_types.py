import dataclasses

import hypothesis.strategies as st
import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given
from torch import Tensor

from qkv import types
from qkv.errors import InputError
from qkv.types import AttentionMap, Config, Kept, PairBatch, Run, Step, Trace, WordMap, render, renders


def made(weights: Tensor, layer: str = "decoder", *, signed: bool = False) -> AttentionMap:
    _, queries, keys = weights.shape
    labels = [f"q{i}" for i in range(queries)], [f"k{j}" for j in range(keys)]
    return AttentionMap(weights, *labels, layer, "cross", "captured", "softmax", signed)


# -- batches, traces, runs, settings ---------------------------------------------------------------------------------


def pairs() -> PairBatch:
    source = torch.tensor([[5, 6, 3], [7, 3, 0]])
    target = torch.tensor([[2, 8, 9, 10, 3], [2, 8, 3, 0, 0]])
    return PairBatch(source, source != 0, target, target != 0)


def test_a_batch_counts_by_hand():
    # Predicted are 8 9 10 eos and 8 eos: 6. Read are 5 6 eos and 7 eos: 5 more.
    assert (pairs().weight, pairs().tokens) == (6, 11)


def test_a_batch_moves_whole():
    moved = pairs().to("meta")
    assert {field.name: getattr(moved, field.name).device.type for field in dataclasses.fields(moved)} == dict.fromkeys(
        ("source", "source_mask", "target", "target_mask"), "meta"
    )


def test_a_trace_gives_the_last_value_of_a_name():
    trace = Trace([Step("layers.0.weights", torch.zeros(1)), Step("output", torch.ones(1))])
    trace.steps.append(Step("output", torch.full((1,), 2.0)))
    assert trace["output"].item() == 2
    assert [step.name for step in trace] == trace.names == ["layers.0.weights", "output", "output"]
    with pytest.raises(KeyError, match="missing"):
        trace["missing"]


def test_attention_is_what_is_called_weights():
    names = ["weights", "a.weights", "a.weights.softmax", "a.no_weights"]
    assert [s.name for s in Trace([Step(name, torch.zeros(1)) for name in names]).attention()] == names[:2]


def test_a_run_is_finished_once_it_has_a_result(tmp_path):
    run = Run(tmp_path, "translate", {}, 0, [], {})
    assert not run.finished
    assert run.metrics == {}
    done = dataclasses.replace(run, result={"metrics": {"bleu": 50.0}})
    assert done.finished
    assert done.metrics == {"bleu": 50.0}


def test_settings_are_frozen_and_closed():
    class Small(Config):
        width: int = 3
        """How wide."""

    assert Small.model_json_schema()["properties"]["width"]["description"] == "How wide."
    with pytest.raises(pydantic.ValidationError, match=r"height\n.*not permitted"):
        Small.model_validate({"height": 5})
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Small().width = 5


# -- attention maps --------------------------------------------------------------------------------------------------


def test_a_map_is_cut_to_its_labels():
    weights = torch.arange(2 * 3 * 5 * 7, dtype=torch.bfloat16).view(2, 3, 5, 7)
    facts = {"kind": "cross", "obtained": "recomputed", "backend": "fused", "signed": False}
    step = Step("decoder.layers.2.multihead_attn.weights", weights, facts)
    one = AttentionMap.from_step(step, ["two", "eos"], ["deux", "cent", "eos"], item=1)
    assert one.weights.dtype == torch.float32
    assert torch.equal(one.weights, weights[1, :, :2, :3].float())
    assert (one.layer, one.kind, one.obtained, one.backend, one.heads) == (
        "decoder.layers.2.multihead_attn",
        "cross",
        "recomputed",
        "fused",
        3,
    )


def test_heads_and_their_mean_by_hand():
    # Means of 1, 0, 0.5 and of 0, 1, 0.5 are both 0.5.
    three = made(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]]))
    assert three.head(1).weights.tolist() == [[[0.0, 1.0]]]
    assert three.head(2).weights.tolist() == [[[0.5, 0.5]]]
    assert three.mean().weights.tolist() == [[[0.5, 0.5]]]
    assert three.mean().layer == "decoder"


def test_the_mean_of_maps_weighs_each_head_alike_by_hand():
    # Heads 1, 0 and 0, 1 of one layer with 1, 0 of another: 2/3 and 1/3, not the 3/4 and 1/4 of averaged layers.
    first = made(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), "layers.0")
    second = made(torch.tensor([[[1.0, 0.0]]]), "layers.1")
    mean = AttentionMap.mean_of([first, second])
    assert mean.weights.flatten().tolist() == pytest.approx([2 / 3, 1 / 3])
    assert mean.layer == "layers.0, layers.1"


def test_a_mean_with_a_signed_map_is_signed():
    plain, signed = made(torch.tensor([[[0.25]]])), made(torch.tensor([[[-0.75]]]), signed=True)
    mean = AttentionMap.mean_of([plain, signed])
    assert mean.signed
    assert mean.weights.item() == -0.25


@given(seed=st.integers(0, 2**31), heads=st.integers(1, 5))
def test_rows_of_a_mean_still_sum_to_one(seed: int, heads: int):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(heads, 3, 7, generator=generator, dtype=torch.float64).softmax(-1)
    torch.testing.assert_close(made(weights).mean().weights.sum(-1), torch.ones(1, 3, dtype=torch.float64))


def test_maps_that_cannot_be():
    weights = torch.full((2, 3, 5), 0.2)
    with pytest.raises(InputError, match=r"query labels of enc do not fit .*Expected 3, .*\(2, 3, 5\); got 2"):
        AttentionMap(weights, ["a", "b"], list("abcde"), "enc", "self", "captured", "softmax")
    with pytest.raises(InputError, match=r"key labels of enc do not fit .*Expected 5, .*; got 3"):
        AttentionMap(weights, ["a", "b", "c"], ["a", "b", "c"], "enc", "self", "captured", "softmax")
    for bad in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="weights of decoder hold NaN or infinity"):
            made(torch.tensor([[[0.5, bad]]]), signed=True)
    with pytest.raises(InputError, match=r"negative in places. Got a smallest weight of -0\.5.* signed=True"):
        made(torch.tensor([[[1.5, -0.5]]]))


@pytest.mark.parametrize("index", [2, -3])
def test_a_head_that_is_not_there(index: int):
    with pytest.raises(InputError, match=f"no head {index} in decoder. Expected 0 to 1; got {index}"):
        made(torch.full((2, 3, 5), 0.2)).head(index)


def test_maps_that_cannot_be_averaged():
    with pytest.raises(InputError, match=r"cannot be averaged. Expected one or more maps over the same labels"):
        AttentionMap.mean_of([made(torch.ones(1, 1, 2)), made(torch.ones(1, 2, 1))])
    with pytest.raises(InputError, match="cannot be averaged"):
        AttentionMap.mean_of([])


# -- the table of renderers ------------------------------------------------------------------------------------------


def test_a_registered_renderer_is_asked_by_form_and_type(monkeypatch):
    class Noun(str):
        __slots__ = ()

    monkeypatch.setitem(types._renderers, ("svg", Noun), str)  # so that the table is as before afterwards

    @renders("svg", Noun)
    def drawn(noun: Noun) -> str:
        return f"<svg>{noun}</svg>"

    assert drawn(Noun("a")) == render("svg", Noun("a")) == "<svg>a</svg>"
    assert ("html", Noun) not in types._renderers


def test_a_map_shows_itself_in_a_notebook_as_draw_registered():
    page = made(torch.tensor([[[0.25, 0.75]]]))._repr_html_()
    assert page == render("html", made(torch.tensor([[[0.25, 0.75]]])))
    assert "k1" in page


# -- the largest weights, and overviews ------------------------------------------------------------------------------


def test_the_largest_weights_and_what_is_left_by_hand():
    # Of 1/8, 1/2, 3/8 the two largest are keys 1 and 2, which leaves 1/8; of those one, which leaves 3/8 more.
    full = made(torch.tensor([[[0.125, 0.5, 0.375]]]))
    two = full.top(2)
    assert (two.weights.tolist(), two.key_index.tolist(), two.dropped.tolist()) == (
        [[[0.5, 0.375]]],
        [[[1, 2]]],
        [[0.125]],
    )
    assert two.dense().weights.tolist() == [[[0.0, 0.5, 0.375]]]
    one = two.top(1)
    assert (one.weights.tolist(), one.key_index.tolist(), one.dropped.tolist()) == ([[[0.5]]], [[[1]]], [[0.5]])
    assert full.dense() is full
    assert two.head(0).dropped.tolist() == [[0.125]]
    assert made(torch.tensor([[[0.25, -0.75]]]), signed=True).top(1).weights.tolist() == [[[-0.75]]]


def test_a_mean_of_maps_cut_to_their_largest_by_hand():
    # Heads 1/4, 3/4 and 1, 0, cut to one weight each: 0, 3/4 and 1, 0; their means 1/2 and 3/8; dropped 1/4 and 0.
    mean = made(torch.tensor([[[0.25, 0.75]], [[1.0, 0.0]]])).top(1).mean()
    assert mean.weights.tolist() == [[[0.5, 0.375]]]
    assert mean.dropped.tolist() == [[0.125]]
    mixed = AttentionMap.mean_of([made(torch.tensor([[[0.25, 0.75]]])).top(1), made(torch.tensor([[[1.0, 0.0]]]))])
    assert (mixed.weights.tolist(), mixed.dropped.tolist()) == ([[[0.5, 0.375]]], [[0.125]])


def test_an_overview_by_hand():
    # Keys 0 and 1 together: 3/4, 1/2, 0; queries 0 and 1 averaged: 5/8; the last of each stays alone.
    weights = torch.tensor([[[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]])
    pooled = made(weights).pooled(2)
    assert pooled.weights.tolist() == [[[0.625, 0.375], [0.0, 1.0]]]
    assert (pooled.query_labels, pooled.key_labels) == (["q0 ... q1", "q2"], ["k0 ... k1", "k2"])
    # The largest alone: rows 1/2 at key 0, 1/2 at key 2, 1 at key 2; dropped 1/2, 1/2, 0.
    pooled = made(weights).top(1).pooled(2)
    assert pooled.weights.tolist() == [[[0.25, 0.25], [0.0, 1.0]]]
    assert pooled.dropped.tolist() == [[0.5, 0.0]]


def test_blocks_of_another_size_for_keys_and_rows_that_ask_nothing():
    # Query 1 has nothing to attend to and does not count: the block is query 0 alone. Keys 0 to 2 together, 3 alone.
    weights = torch.tensor([[[0.5, 0.0, 0.25, 0.25], [0.0] * 4, [0.0, 0.0, 0.0, 1.0]]])
    pooled = made(weights).pooled(2, 3)
    assert pooled.weights.tolist() == [[[0.75, 0.25], [0.0, 1.0]]]
    assert pooled.key_labels == ["k0 ... k2", "k3"]
    assert made(weights).overview(2).weights.tolist() == [[[0.5, 0.5], [0.0, 1.0]]]
    assert made(weights).overview(3).weights.shape == (1, 3, 2)
    same = made(weights)
    assert same.overview(4) is same


@given(seed=st.integers(0, 2**31), k=st.integers(1, 9), sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_blocks_of_what_was_kept_are_those_of_the_map_with_zeros(seed: int, k: int, sizes: tuple[int, int]):
    weights = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)
    weights[0, 3] = 0
    top = made(weights).top(k)
    pooled, expected = top.pooled(*sizes), top.dense().pooled(*sizes)
    torch.testing.assert_close(pooled.weights, expected.weights)
    torch.testing.assert_close(pooled.dropped, expected.dropped)


@given(seed=st.integers(0, 2**31), k=st.integers(1, 9), size=st.integers(1, 9))
def test_no_weight_is_lost(seed: int, k: int, size: int):
    generator = torch.Generator().manual_seed(seed)
    full = made(torch.randn(2, 5, 7, generator=generator, dtype=torch.float64).softmax(-1))
    top = full.top(k)
    ones = torch.ones(2, 5, dtype=torch.float64)
    torch.testing.assert_close(top.weights.sum(-1) + top.dropped, ones)
    torch.testing.assert_close(top.pooled(size).weights.sum(-1) + top.pooled(size).dropped, ones[:, : -(-5 // size)])
    kept = full.weights.topk(min(k, 7)).values
    torch.testing.assert_close(top.weights, kept)
    torch.testing.assert_close(top.dense().weights, full.weights.where(full.weights >= kept[..., -1:], 0))


def test_maps_of_a_trace_have_labels():
    weights = torch.arange(2 * 1 * 3 * 3).view(2, 1, 3, 3).float()
    facts = {"obtained": "captured", "backend": "softmax"}
    trace = Trace(
        [Step("a.weights", weights, {"kind": "self", **facts}), Step("b.weights", weights, {"kind": "cross", **facts})]
    )
    assert [one.key_labels for one in trace.maps()] == [["0", "1", "2"]] * 2
    assert [one.key_labels for one in trace.maps(["x", "y"])] == [["x", "y"], ["0", "1", "2"]]
    one = trace.maps(["x", "y"], ["u"], item=1)[0]
    assert (one.layer, one.weights.tolist(), one.query_labels, one.key_labels) == (
        "a",
        [[[9.0], [12.0]]],
        ["x", "y"],
        ["u"],
    )
    with pytest.raises(InputError, match=r"no item 2 in a\. Expected 0 to 1"):
        trace.maps(item=2)


def test_rows_and_largest_weights_of_a_trace_by_hand():
    # Rows 1 and 4 were kept, with two of their five keys each. Cut to two queries and four keys row 4 is gone, and so
    # is key 4, whose weight counts as dropped.
    kept = Kept((1, 4), 5, torch.tensor([[[[3, 4], [0, 1]]]]), torch.tensor([[[0.25, 0.0]]]))
    facts = {"kind": "self", "obtained": "captured", "backend": "softmax"}
    trace = Trace([Step("a.weights", torch.tensor([[[[0.5, 0.25], [0.5, 0.5]]]]), facts, kept)])
    (one,) = trace.maps()
    assert (one.query_labels, len(one.key_labels), one.dropped.tolist()) == (["1", "4"], 5, [[0.25, 0.0]])
    (one,) = trace.maps(["x", "y"], list("abcd"))
    assert (one.query_labels, one.dropped.tolist()) == (["y"], [[0.5]])
    assert one.dense().weights.tolist() == [[[0.0, 0.0, 0.0, 0.5]]]
    whole = Step("a.weights", torch.ones(1, 1, 2, 3), facts, Kept((1, 4), 3))
    (one,) = Trace([whole]).maps(list("vwxyz"), list("abc"))
    assert (one.query_labels, one.weights.shape) == (["w", "z"], (1, 2, 3))


@pytest.mark.usefixtures("no_shape_hook")
def test_largest_weights_that_cannot_be():
    weights, labels = torch.ones(1, 1, 1), (["q"], ["k"])
    facts = ("enc", "self", "captured", "softmax", False)
    with pytest.raises(InputError, match=r"key_index does not fit the weights of enc\. Expected \(1, 1, 1\); got"):
        AttentionMap(weights, *labels, *facts, torch.zeros(1, 1, 2, dtype=torch.int64))
    with pytest.raises(InputError, match=r"key_index of enc names a key without a label\. Expected 0 to 0"):
        AttentionMap(weights, *labels, *facts, torch.ones(1, 1, 1, dtype=torch.int64))
    with pytest.raises(InputError, match=r"dropped does not fit the weights of enc\. Expected \(1, 1\)"):
        AttentionMap(weights, *labels, *facts, None, torch.ones(1, 2))
    with pytest.raises(InputError, match=r"top cannot keep so few weights\. Expected 1 or more; got 0"):
        made(weights).top(0)
    with pytest.raises(InputError, match=r"size cannot be that of a block\. Expected 1 or more; got 0"):
        made(weights).pooled(0)
    with pytest.raises(InputError, match=r"size cannot be that of a block\. Expected 1 or more; got -1"):
        made(weights).pooled(1, -1)


# -- maps of words ---------------------------------------------------------------------------------------------------

THREE = WordMap(
    ["a", "b", "c"], np.eye(3, 2, dtype=np.float32), np.array([0, 1, 1]), ["x", "y"], np.array([[1], [2], [0]]),
    1.0, "three", "by hand",
)  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("words", ["a", "b"], r"xy does not fit 2 words\. Expected \(2, 2\); got \(3, 2\)"),
        ("xy", np.float32([[0, 0], [0, np.inf], [0, 0]]), "xy holds NaN or infinity"),
        ("cluster", np.array([0, 1, 2]), r"cluster names what is not there\. Expected 0 to 1"),
        ("neighbours", np.array([[1], [0], [-1]]), r"neighbours names what is not there\. Expected 0 to 2"),
    ],
)
def test_word_maps_that_cannot_be(field, value, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(THREE, **{field: value})
