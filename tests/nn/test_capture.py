import math
import threading
import warnings
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from qkv.errors import InputError, InputTypeError
from qkv.functional import naive_softmax_attention
from qkv.nn import AdditiveAttention, AttentionConfig, TransformerEncoder, TransformerEncoderLayer
from qkv.nn.capture import record
from qkv.nn.kept import largest_index
from qkv.types import Trace

BATCH, LENGTH, KEYS, EMBED, HEADS, VOCAB = 3, 7, 5, 22, 2, 41


def leaves(output: Any) -> list[Tensor]:
    """The tensors of what a model returns."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = tuple(output.values())
    return [x for part in output for x in leaves(part)] if isinstance(output, tuple | list) else []


def watched(model: nn.Module, *inputs: Tensor, **named: Any) -> Trace:
    """The trace of a run, held bit for bit to one that nobody watched: outputs, gradients, random states."""
    results = []
    for watch in (False, True):
        torch.manual_seed(11)
        if watch:
            with record(model) as trace:
                output = model(*inputs, **named)
        else:
            output = model(*inputs, **named)
        tensors, parameters = leaves(output), [p for p in model.parameters() if p.requires_grad]
        loss = sum(x.float().pow(2).sum() for x in tensors)
        graded = bool(parameters) and isinstance(loss, Tensor) and loss.requires_grad
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True) if graded else ()
        results.append([*tensors, *(g for g in gradients if g is not None), torch.get_rng_state()])
    assert len(results[0]) == len(results[1]) > 1
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)
    return trace


@pytest.fixture
def calls(monkeypatch) -> list[tuple[Tensor, Tensor]]:
    """The values and outputs of all calls of `scaled_dot_product_attention`, values repeated where heads share them."""
    real, seen = F.scaled_dot_product_attention, []

    def spy(query, key, value, *args, **options):
        output = real(query, key, value, *args, **options)
        shared = query.shape[-3] // value.shape[-3] if options.get("enable_gqa") else 1
        seen.append((value.repeat_interleave(shared, -3), output))
        return output

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    return seen


def same_output(trace: Trace, calls: list[tuple[Tensor, Tensor]]) -> None:
    """Weights times values are what each call itself gave; the last calls were the watched ones."""
    steps = trace.attention()
    assert steps
    for step, (value, output) in zip(steps, calls[-len(steps) :], strict=True):
        torch.testing.assert_close(step.value @ value, output, rtol=0, atol=1e-5)


# -- functions -------------------------------------------------------------------------------------------------------


class Call(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def test_a_map_by_hand():
    # Scores ln 3 * (1, 0), weights 3/4 and 1/4; with a bias of -ln 3 on the first key both weigh 1/2.
    q, k = torch.tensor([[[math.log(3)]]]), torch.tensor([[[1.0], [0.0]]])
    (one,) = watched(Call(lambda q, k: F.scaled_dot_product_attention(q, k, k)), q, k).maps()
    torch.testing.assert_close(one.weights, torch.tensor([[[0.75, 0.25]]]))
    assert (one.layer, one.kind, one.obtained, one.backend) == (
        "",
        "cross",
        "recomputed",
        "scaled_dot_product_attention",
    )
    bias = torch.tensor([[-math.log(3), 0.0]])
    (one,) = watched(Call(lambda q, k: F.scaled_dot_product_attention(q, k, k, bias)), q, k).maps()
    torch.testing.assert_close(one.weights, torch.tensor([[[0.5, 0.5]]]))


MASK = torch.tensor([[True, False, True, True, False]]).expand(LENGTH, -1).clone()
MASK[3] = False  # a query with nothing to attend to


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": MASK},
        {"attn_mask": torch.linspace(-4, 4, LENGTH * KEYS).view(LENGTH, KEYS)},
        {"attn_mask": torch.where(MASK, 0.5, -torch.inf)[None, None].repeat(BATCH, 1, 1, 1)},
        {"dropout_p": 0.4},
        {"dropout_p": 0.4, "attn_mask": MASK, "scale": 2.0},
        {"enable_gqa": True},
        {"enable_gqa": True, "is_causal": True, "dropout_p": 0.3},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_weights_times_values_are_the_output(options: dict, dtype: torch.dtype):
    if (mask := options.get("attn_mask")) is not None and mask.is_floating_point():
        options = options | {"attn_mask": mask.to(dtype)}
    shared = 2 if options.get("enable_gqa") else 1
    q = torch.randn(BATCH, 2 * HEADS, LENGTH, 11, dtype=dtype)
    k, v = (torch.randn(BATCH, 2 * HEADS // shared, KEYS, width, dtype=dtype) for width in (11, 13))
    (step,) = watched(Call(lambda *x: F.scaled_dot_product_attention(*x, **options)), q, k, v)
    torch.manual_seed(11)
    output = F.scaled_dot_product_attention(q, k, v, **options)
    assert step.value.dtype == dtype
    torch.testing.assert_close(step.value @ v.repeat_interleave(shared, 1), output, rtol=0, atol=1e-5)
    if MASK is options.get("attn_mask"):
        assert not step.value[:, :, 3].any()


@given(
    lead=st.sampled_from([(), (3,), (2, 3), (2, 3, 5)]),
    queries=st.integers(1, 7),
    keys=st.integers(1, 7),
    size=st.sampled_from([1.0, 1e4]),
)
@settings(max_examples=30)
def test_any_shape_is_the_naive_form(lead: tuple[int, ...], queries: int, keys: int, size: float):
    q, k = (torch.randn(*lead, n, 5, dtype=torch.float64) for n in (queries, keys))
    (step,) = watched(Call(lambda q, k: F.scaled_dot_product_attention(q, k, k)), size * q, k)
    _, expected = naive_softmax_attention(size * q, k, k)
    torch.testing.assert_close(step.value.flatten(), expected.flatten(), rtol=0, atol=1e-10)
    assert step.value.dim() == 4


def hand_written(q: Tensor, k: Tensor) -> Tensor:
    return F.dropout(torch.softmax(q @ k.mT, dim=-1), 0.4) @ k


def with_types(q: Tensor, k: Tensor) -> Tensor:
    weights = nn.Softmax(dim=-1)((q.bfloat16() @ k.bfloat16().mT).float()).type_as(q)
    return torch.matmul(nn.Dropout(0.4)(weights), k)


def flat_heads(q: Tensor, k: Tensor) -> Tensor:
    weights = (q @ k.mT).softmax(-1)
    return torch.bmm(weights.view(-1, LENGTH, KEYS), k.flatten(0, 1)).view_as(q)


def summed(q: Tensor, k: Tensor) -> Tensor:
    return torch.einsum("bhqk,bhkd->bhqd", F.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k), -1), k)


def summed_from_the_right(q: Tensor, k: Tensor) -> Tensor:
    return torch.einsum("bhkd, bhqk -> bhqd", k, F.softmax(q @ k.mT, dim=3))


@pytest.mark.parametrize("function", [hand_written, with_types, flat_heads, summed, summed_from_the_right])
def test_attention_by_hand_is_captured(function: Callable):
    q, k = torch.randn(BATCH, HEADS, LENGTH, 11), torch.randn(BATCH, HEADS, KEYS, 11)
    (step,) = watched(Call(function), q, k)
    torch.manual_seed(11)
    torch.testing.assert_close(step.value @ k, function(q, k), rtol=0, atol=1e-5)
    assert dict(step.facts) == {"kind": "cross", "obtained": "captured", "backend": "softmax", "signed": False}


def test_one_query_a_step_is_captured():
    # As decoders of recurrent networks have it: scores (batch, keys), a context by bmm.
    memory = torch.randn(BATCH, KEYS, 11)
    model = Call(lambda state: torch.bmm(F.softmax((memory @ state[..., None])[..., 0], dim=1)[:, None], memory))
    (step,) = watched(model, torch.randn(BATCH, 11))
    assert step.value.shape == (BATCH, 1, 1, KEYS)


def test_other_softmaxes_are_not_attention():
    table = nn.Parameter(torch.randn(KEYS, 11))
    mixed = Call(lambda x: (x.softmax(-1) @ table, (x.softmax(-2) @ table.detach()), x @ x.softmax(-1).mT))
    with pytest.raises(
        InputError, match=r"nothing was recorded\. Expected a model that calls scaled_dot_product_attention"
    ):
        watched(mixed, torch.randn(BATCH, LENGTH, KEYS))


# -- torch's modules -------------------------------------------------------------------------------------------------


def encoder(**options: Any) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(EMBED, HEADS, 31, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2)


# torch says so once, wherever a padding mask first takes its fused path.
prototype = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
PADDED = torch.arange(LENGTH) >= torch.tensor([LENGTH, 4, 2])[:, None]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_multihead_attention(training: bool, need_weights: bool, grad: bool):
    model = nn.MultiheadAttention(EMBED, HEADS, dropout=0.3, batch_first=True).train(training)
    x, memory = torch.randn(BATCH, LENGTH, EMBED), torch.randn(BATCH, KEYS, EMBED)
    for inputs, kind in (((x, x, x), "self"), ((x, memory, memory), "cross")):
        with torch.set_grad_enabled(grad):
            (step,) = watched(model, *inputs, need_weights=need_weights)
        torch.manual_seed(11)
        _, expected = model(*inputs, average_attn_weights=False)
        torch.testing.assert_close(step.value, expected, rtol=0, atol=1e-5)
        assert step.facts["kind"] == kind
        assert step.facts["obtained"] == ("captured" if need_weights and training else "recomputed")
        assert (step.facts["backend"] == "torch.nn.MultiheadAttention") is not training


class Idle(TorchFunctionMode):
    """A watch that does nothing, and is enough to close torch's fused paths."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@prototype
def test_fused_blocks_stay_fused_at_padded_positions_too():
    model, x = encoder().eval(), torch.randn(BATCH, LENGTH, EMBED)
    with torch.no_grad():
        trace = watched(model, x, src_key_padding_mask=PADDED)
        with Idle():
            open_path = model(x, src_key_padding_mask=PADDED)
        moved = (model(x, src_key_padding_mask=PADDED) - open_path).abs()
        reference = encoder(dropout=0).train()
        reference.load_state_dict(model.state_dict())
        expected = watched(reference, x, src_key_padding_mask=PADDED)
    assert moved[PADDED].max() > 0.5  # what the watch would have done: this test can fail
    assert trace.names == ["layers.0.self_attn.weights", "layers.1.self_attn.weights"]
    for step, other in zip(trace, expected, strict=True):
        assert step.facts["backend"] == "torch.nn.TransformerEncoder"
        assert not step.value[PADDED[:, None, None].expand_as(step.value)].any()
        torch.testing.assert_close(step.value, other.value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_encoder_and_decoder(training: bool, grad: bool):
    model = nn.Transformer(EMBED, HEADS, 1, 2, 31, batch_first=True).train(training)
    with torch.set_grad_enabled(grad):
        trace = watched(model, torch.randn(BATCH, LENGTH, EMBED), torch.randn(BATCH, KEYS, EMBED))
    found = [(one.layer, one.kind, tuple(one.weights.shape)) for one in trace.maps()]
    assert found == [
        ("encoder.layers.0.self_attn", "self", (HEADS, LENGTH, LENGTH)),
        ("decoder.layers.0.self_attn", "self", (HEADS, KEYS, KEYS)),
        ("decoder.layers.0.multihead_attn", "cross", (HEADS, KEYS, LENGTH)),
        ("decoder.layers.1.self_attn", "self", (HEADS, KEYS, KEYS)),
        ("decoder.layers.1.multihead_attn", "cross", (HEADS, KEYS, LENGTH)),
    ]


# -- ours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", AttentionConfig.model_fields["form"].annotation.__args__)
def test_ours_record_themselves_under_the_paths_of_modules(form: str):
    layer = TransformerEncoderLayer(EMBED, HEADS, 31, attention_dropout=0.0, attention=AttentionConfig(form=form))
    model = nn.Sequential(nn.Linear(EMBED, EMBED), TransformerEncoder(layer, 2))
    x = torch.randn(BATCH, LENGTH, EMBED)
    trace = watched(model, x)
    assert trace.names == ["1.layers.0.self_attn.weights", "1.layers.1.self_attn.weights"]
    torch.manual_seed(11)
    with record() as plain:
        model(x)
    for step, own in zip(trace, plain, strict=True):
        assert torch.equal(step.value, own.value)
        assert step.facts == own.facts


def test_additive_attention_is_recorded_once():
    model = AdditiveAttention(3, 5, 7)
    memory = torch.randn(BATCH, KEYS, 5)
    (step,) = watched(model, torch.randn(BATCH, 2, 3), memory, memory)
    assert (step.name, step.facts["backend"]) == ("weights", "additive")


# -- models of others ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="the library transformers is not installed")


IDS = torch.arange(2 * LENGTH).view(2, LENGTH)
REAL = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
HUGGING_FACE: dict[str, tuple[str, dict[str, Any], dict[str, Any], str, tuple[int, int, int]]] = {
    "bert": (
        "Bert",
        {"hidden_size": 22, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 31},
        {"input_ids": IDS, "attention_mask": REAL},
        "encoder.layer.1.attention.self",
        (2, 7, 7),
    ),
    "gpt2": (
        "GPT2",
        {"n_embd": 22, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0},
        {"input_ids": IDS, "attention_mask": REAL},
        "h.1.attn",
        (2, 7, 7),
    ),
    "t5": (
        "T5",
        {"d_model": 22, "d_kv": 11, "num_layers": 2, "num_heads": 2, "d_ff": 31},
        {"input_ids": IDS, "attention_mask": REAL, "decoder_input_ids": IDS[:, :5]},
        "decoder.block.1.layer.1.EncDecAttention",
        (2, 5, 7),
    ),
    "llama": (
        "Llama",
        {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "intermediate_size": 31,
        },
        {"input_ids": IDS},
        "layers.1.self_attn",
        (6, 7, 7),
    ),
    "vit": (
        "ViT",
        {
            "hidden_size": 22,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 31,
            "image_size": 15,
            "patch_size": 5,
        },
        {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 15 * 15).view(2, 3, 15, 15)},
        "layers.1.attention",
        (2, 10, 10),
    ),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face(transformers, calls, name: str, training: bool):
    prefix, sizes, inputs, layer, shape = HUGGING_FACE[name]
    vocabulary = {} if name == "vit" else {"vocab_size": VOCAB}
    config = getattr(transformers, f"{prefix}Config")(**sizes, **vocabulary)
    model = getattr(transformers, f"{prefix}Model")(config).train(training)
    with torch.set_grad_enabled(training):
        trace = watched(model, **inputs)
    same_output(trace, calls)
    last = trace.maps()[-1]
    assert (last.layer, tuple(last.weights.shape)) == (layer, shape)
    assert last.kind == ("cross" if name == "t5" else "self")


def test_hugging_face_eager_is_what_it_hands_out(transformers):
    _, sizes, inputs, _, _ = HUGGING_FACE["bert"]
    config = transformers.BertConfig(**sizes, vocab_size=VOCAB)
    model = transformers.BertModel._from_config(config, attn_implementation="eager").eval()
    trace = watched(model, **inputs)
    handed_out = model(**inputs, output_attentions=True).attentions
    for step, weights in zip(trace, handed_out, strict=True):
        assert step.facts["obtained"] == "captured"
        assert torch.equal(step.value, weights)


def test_a_cache_of_keys_is_still_self_attention(transformers):
    _, sizes, _, _, _ = HUGGING_FACE["gpt2"]
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, vocab_size=VOCAB)).eval()
    with record(model) as trace:
        model.generate(IDS[:1], attention_mask=REAL[:1], max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert {one.kind for one in trace.maps()} == {"self"}
    assert [one.weights.shape[-2:] for one in trace.maps()][::2] == [(7, 7), (1, 8), (1, 9)]


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
def test_graph_attention(name: str):
    layers = pytest.importorskip("torch_geometric.nn", reason="torch_geometric is not installed")
    model = getattr(layers, name)(5, 7, heads=3, dropout=0.3)
    edges = torch.tensor([[0, 1, 2, 3, 3], [1, 2, 0, 0, 1]])
    x = torch.randn(4, 5)
    (step,) = watched(model, x, edges)
    torch.manual_seed(11)
    output, (looped, weights) = model(x, edges, return_attention_weights=True)
    assert step.value.shape == (1, 3, 4, 4)
    torch.testing.assert_close(step.value[0, :, looped[1], looped[0]], weights.T)
    assert step.value.count_nonzero() == weights.count_nonzero()
    assert step.facts["backend"] == name
    value = getattr(model, "lin" if name == "GATConv" else "lin_l")(x).view(4, 3, 7).transpose(0, 1)
    mixed = (step.value[0] @ value).transpose(0, 1).flatten(1) + model.bias
    torch.testing.assert_close(mixed, output, rtol=0, atol=1e-5)


# -- what is kept ----------------------------------------------------------------------------------------------------


def self_attention(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, is_causal=True)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_chosen_heads_rows_and_largest_weights(monkeypatch, fused: bool, at_once: bool):
    if not at_once:
        monkeypatch.setattr("qkv.nn.kept._AT_ONCE", 0)
        monkeypatch.setattr("qkv.nn.kept._BLOCK", 2 * LENGTH)
    model = Call(self_attention if fused else lambda x: (x @ x.mT).softmax(-1) @ x)
    x = torch.randn(BATCH, 5, LENGTH, 11)
    with record(model) as whole:
        model(x)
    choices = ({"heads": [4, 1]}, {"queries": [6, 0, 3]}, {"top": 3}, {"heads": [2], "queries": range(3, 6), "top": 2})
    for choice in choices:
        with record(model, **choice) as trace:
            model(x)
        for item in range(BATCH):
            (one,), (full,) = trace.maps(item=item), whole.maps(item=item)
            rows = list(choice.get("queries", range(LENGTH)))
            expected = full.weights[list(choice.get("heads", range(5)))][:, rows]
            assert one.query_labels == [str(row) for row in rows]
            if "top" in choice:
                kept = expected.topk(choice["top"]).values
                torch.testing.assert_close(one.weights, kept)
                torch.testing.assert_close(one.dropped, 1 - kept.sum(-1), rtol=0, atol=1e-6)
                torch.testing.assert_close(expected.gather(-1, one.key_index), kept)
            else:
                torch.testing.assert_close(one.weights, expected)


@given(keys=st.integers(1, 900), count=st.integers(1, 9), ties=st.booleans(), seed=st.integers(0, 2**31))
@settings(max_examples=60)
def test_the_largest_of_long_rows(keys: int, count: int, ties: bool, seed: int):
    weights = torch.randn(2, 3, keys, generator=torch.Generator().manual_seed(seed))
    weights, count = weights.round() if ties else weights, min(count, keys)
    index = largest_index(weights, count)
    assert torch.equal(weights.gather(-1, index), weights.topk(count).values)
    assert index.sort(-1).values.diff(dim=-1).ne(0).all()  # no key twice


def test_layers_are_chosen_by_path_place_and_pattern():
    model = nn.Transformer(EMBED, HEADS, 2, 1, 31, batch_first=True)
    x = torch.randn(1, LENGTH, EMBED)
    expected = {
        "encoder.layers.1.self_attn": 1,
        "encoder": 2,
        "*.multihead_attn": 1,
        ("encoder.layers.0", "decoder"): 3,
    }
    for layers, count in expected.items():
        with record(model, layers=layers) as trace:
            model(x, x)
        assert len(trace.attention()) == count


# -- around it -------------------------------------------------------------------------------------------------------


@prototype
def test_an_error_leaves_nothing_behind():
    model, x = encoder().eval(), torch.randn(BATCH, LENGTH, EMBED)
    with torch.no_grad():
        expected = model(x, src_key_padding_mask=PADDED)
        with pytest.raises(RuntimeError, match="half way"), record(model):
            raise RuntimeError("half way")
        with pytest.raises(RuntimeError, match="embed_dim 22"), record(model):
            model(torch.randn(BATCH, LENGTH, 3))
        assert torch.overrides._get_current_function_mode_stack() == []
        assert torch.equal(model(x, src_key_padding_mask=PADDED), expected)
    assert not nn.modules.module._has_any_global_hook()


def test_an_error_inside_the_model_can_be_caught_inside_the_block():
    model = encoder().eval()
    with torch.no_grad(), record(model) as trace:
        with pytest.raises(RuntimeError, match="embed_dim 22"):
            model(torch.randn(BATCH, LENGTH, 3))
        model(torch.randn(BATCH, LENGTH, EMBED))
    assert trace.names == ["layers.0.self_attn.weights", "layers.1.self_attn.weights"]


@prototype
def test_a_nested_block_records_for_itself_alone():
    model, x = encoder().eval(), torch.randn(BATCH, LENGTH, EMBED)
    ours = TransformerEncoderLayer(EMBED, HEADS, 31).eval()
    with torch.no_grad():
        expected = model(x, src_key_padding_mask=PADDED)
        with record(model, layers="layers.0") as outer:
            with record(model, layers="layers.1") as inner:
                assert torch.equal(model(x, src_key_padding_mask=PADDED), expected)
            with record() as plain:
                assert torch.equal(model(x, src_key_padding_mask=PADDED), expected)
                ours(x)
            assert torch.equal(model(x, src_key_padding_mask=PADDED), expected)
    assert outer.names == ["layers.0.self_attn.weights"]
    assert inner.names == ["layers.1.self_attn.weights"]
    assert plain.names == ["self_attn.weights"]


def test_threads_record_apart():
    model, together, traces = encoder().eval(), threading.Barrier(2), {}

    def work(length: int) -> None:
        with torch.no_grad(), record(model) as trace:
            together.wait(timeout=30)
            model(torch.randn(1, length, EMBED))
            together.wait(timeout=30)
        traces[length] = {one.weights.shape[-1] for one in trace.maps()}

    threads = [threading.Thread(target=work, args=(length,)) for length in (5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert traces == {5: {5}, 7: {7}}


def test_other_models_in_the_block_are_not_recorded():
    model, other, x = encoder(), encoder(), torch.randn(1, LENGTH, EMBED)
    with record(model) as trace:
        other(x)
        nn.Sequential(model)(x)
    assert trace.names == ["layers.0.self_attn.weights", "layers.1.self_attn.weights"]


@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_models_are_recorded_eagerly_and_say_so():
    model, x = encoder(dropout=0), torch.randn(BATCH, LENGTH, EMBED)
    compiled = torch.compile(model, backend="eager")
    expected = compiled(x)
    with record(compiled) as trace:
        torch.testing.assert_close(compiled(x), expected)
    assert trace.names == ["layers.0.self_attn.weights", "layers.1.self_attn.weights"]
    assert trace.maps()[0].backend == "scaled_dot_product_attention, eager while recorded"
    assert torch._dynamo.eval_frame._stance.stance == "default"


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_shape_hook")
def test_flex_attention_is_named():
    from torch.nn.attention.flex_attention import flex_attention

    def attend(x: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return flex_attention(x, x, x)

    model = nn.Sequential(Call(attend))
    with (
        pytest.raises(InputError, match=r"nothing was recorded\..*; got flex_attention in 0, .* Try: attn_implem"),
        record(model),
    ):
        model(torch.randn(1, 2, 16, 8))


@pytest.mark.usefixtures("no_shape_hook")
def test_what_is_missed_beside_what_is_recorded_is_named():
    from torch.nn.attention.flex_attention import flex_attention

    model = nn.Sequential(Call(self_attention), Call(lambda x: flex_attention(x, x, x)))
    with (
        warnings.catch_warnings(record=True) as warned,
        record(model) as trace,
    ):
        warnings.simplefilter("always")
        model(torch.randn(1, 2, 16, 8))
    assert trace.names == ["0.weights"]
    told = [one for one in warned if "flex_attention in 1, which hands out no weights" in str(one.message)]
    assert [one.filename for one in told] == [__file__]


def test_traced_models_are_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Call(self_attention), torch.randn(1, 2, 3, 5), check_trace=False)
    with (
        pytest.raises(InputError, match=r"a traced or scripted model cannot be watched.*the module that it was"),
        record(traced),
    ):
        pass
    model = nn.Sequential(traced)
    with pytest.raises(InputError, match=r"nothing was recorded\..*; got 0, which torch.jit traced"), record(model):
        model(torch.randn(1, 2, 3, 5))


def test_nothing_recorded_is_said():
    model, x = encoder(), torch.randn(1, LENGTH, EMBED)
    with (
        pytest.raises(InputError, match=r"got a block in which it did not run. Try: model\(...\) inside"),
        record(model),
    ):
        pass
    message = r"Expected layers among layers.0.self_attn, layers.1.self_attn; got layers.2"
    with pytest.raises(InputError, match=message), record(model, layers="layers.2"):
        model(x)


@pytest.mark.usefixtures("no_shape_hook")
def test_choices_that_cannot_be():
    model, x = Call(self_attention), torch.randn(1, 2, 3, 5)
    with (
        pytest.raises(
            InputTypeError, match=r"model cannot be watched\. Expected a torch\.nn\.Module; got a value of type int"
        ),
        record(3),
    ):
        pass
    with pytest.raises(InputError, match=r"choose from a model's attention\. Try: record"), record(top=3):
        pass
    for choice, message in (
        ({"top": 0}, "top cannot keep so few weights. Expected 1 or more; got 0"),
        ({"heads": []}, "heads chooses nothing"),
        ({"heads": [2]}, "heads that the model does not have. Expected 0 to 1; got 2"),
        ({"queries": [0, -1]}, "queries that the model does not have. Expected 0 to 2; got -1"),
    ):
        with pytest.raises(InputError, match=message), record(model, **choice):
            model(x)
