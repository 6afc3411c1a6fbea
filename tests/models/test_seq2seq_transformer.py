import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.data import batch_of, source_batch
from qkv.errors import InputError
from qkv.models import SearchOptions, TransformerConfig, TranslationTransformer
from qkv.trace import record

SIZES = {
    "embed_dim": 14,
    "num_heads": 2,
    "feedforward_dim": 17,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "max_length": 19,
}
NORMS = pytest.mark.parametrize("norm_first", [True, False], ids=["norm first", "norm last"])


def model_of(**options) -> TranslationTransformer:
    return TranslationTransformer(TransformerConfig(**SIZES | {"dropout": 0.0} | options), 11, 13).double().eval()


@NORMS
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # torch's word about its own fused path
def test_outputs_and_gradients_are_those_of_torch(batch, norm_first):
    model = model_of(norm_first=norm_first)
    reference = nn.Transformer(
        14, 2, 2, 3, 17, dropout=0.0, batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    if not norm_first:  # torch keeps its last norms all the same
        reference.encoder.norm = reference.decoder.norm = None
    reference.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith(("encoder.", "decoder."))})

    def theirs(source: Tensor, target: Tensor) -> Tensor:
        future = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        padding = ~batch.source_mask
        hidden = reference(
            source, target, tgt_mask=future, src_key_padding_mask=padding, memory_key_padding_mask=padding
        )
        return F.linear(hidden, model.target_embedding.weight)

    target = batch.target[:, :-1]
    real = batch.target_mask[:, 1:]
    scale = 14**0.5  # of the embeddings, on the way in
    ours = model(batch.source, batch.source_mask, target)[real]
    weights = (model.source_embedding.weight, model.target_embedding.weight)
    embedded = [
        F.embedding(ids, weight) * scale + model.positions.table[: ids.shape[1]]
        for ids, weight in zip((batch.source, target), weights, strict=True)
    ]
    expected = theirs(*embedded)[real]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    cotangent = torch.randn_like(ours)
    gradients = torch.autograd.grad(ours, [*weights, *model.decoder.parameters()], cotangent)
    references = torch.autograd.grad(expected, [*weights, *reference.decoder.parameters()], cotangent)
    # Our embeddings give the padding row no gradient from the inputs; here only the output layer reaches it.
    for gradient, one in zip(gradients, references, strict=True):
        assert bool(one.any())
        rows = slice(1, None) if gradient.shape[0] in (11, 13) and gradient.shape[1:] == (14,) else slice(None)
        torch.testing.assert_close(gradient[rows], one[rows], rtol=0, atol=1e-10)


@NORMS
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_decoding_a_token_at_a_time_gives_the_logits_of_the_whole(batch, norm_first, positions):
    model = model_of(norm_first=norm_first, positions=positions)
    target = batch.target[:, :-1]
    whole = model(batch.source, batch.source_mask, target)
    state = model.start(batch.source, batch.source_mask, target.shape[1])
    steps = torch.stack([model.step(target[:, i], state) for i in range(target.shape[1])], dim=1)
    torch.testing.assert_close(steps, whole, rtol=0, atol=1e-10)


def test_padding_changes_nothing(pairs, batch):
    model = model_of()
    together = model(batch.source, batch.source_mask, batch.target[:, :-1])
    for row, (source, target) in enumerate(pairs):
        one = batch_of([source], [target])
        alone = model(one.source, one.source_mask, one.target[:, :-1])[0]
        torch.testing.assert_close(together[row, : len(target) + 1], alone, rtol=0, atol=1e-10)


def test_the_loss_is_the_mean_over_real_tokens(batch):
    model = model_of(label_smoothing=0.3)
    real = batch.target_mask[:, 1:]
    for training, smoothing in ((False, 0.0), (True, 0.3)):
        model.train(training)
        logits = model(batch.source, batch.source_mask, batch.target[:, :-1])
        expected = F.cross_entropy(logits[real], batch.target[:, 1:][real], label_smoothing=smoothing)
        loss = model.loss(batch)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
        parameters = list(model.parameters())
        for ours, theirs in zip(
            torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_the_gradient_of_the_loss_is_that_of_differences(batch):
    model = model_of(encoder_layers=1, decoder_layers=1, embed_dim=2, num_heads=1, feedforward_dim=3)

    def loss(weight: Tensor) -> Tensor:
        names = {"encoder.layers.0.self_attn.in_proj_weight": weight}
        return torch.func.functional_call(_Loss(model), {f"model.{k}": v for k, v in names.items()}, (batch,))

    weight = model.encoder.layers[0].self_attn.in_proj_weight
    assert torch.autograd.gradcheck(loss, weight.detach().clone().requires_grad_())


class _Loss(nn.Module):
    def __init__(self, model: TranslationTransformer):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model.loss(batch)


def test_any_number_of_heads_has_the_same_parameters():
    counts = {
        heads: sum(p.numel() for p in model_of(embed_dim=16, num_heads=heads).parameters()) for heads in (1, 2, 4, 8)
    }
    assert len(set(counts.values())) == 1


def test_the_output_layer_shares_the_target_embedding_where_widths_allow():
    sizes = TransformerConfig(**SIZES)
    shared, wide = (TranslationTransformer(sizes, 11, 13, target_dim=dim) for dim in (None, 5))
    assert shared.output is None
    assert wide.output is not None
    assert TranslationTransformer(sizes, 11, 13, target_dim=14).output is None
    assert TranslationTransformer(TransformerConfig(**SIZES, tie_output=False), 11, 13).output is not None


@pytest.mark.parametrize("beam_size", [1, 3])
def test_translating_in_company_changes_nothing(pairs, beam_size):
    model = model_of()
    options = SearchOptions(bos_id=1, eos_id=2, beam_size=beam_size, max_length=12, forbidden=(0, 1, 3))
    sources = [source for source, _ in pairs]
    together = model.translate(*source_batch(sources), options)
    for one, source in zip(together, sources, strict=True):
        alone = model.translate(*source_batch([source]), options)[0]
        assert one.ids == alone.ids
        assert one.score == pytest.approx(alone.score, abs=1e-5)


def test_recording_names_every_layer(batch):
    model = model_of()
    with record() as trace:
        model(batch.source, batch.source_mask, batch.target[:, :-1])
    assert [step.name for step in trace.attention()] == [
        *(f"encoder.layers.{i}.self_attn.weights" for i in range(2)),
        *(f"decoder.layers.{i}.{name}.weights" for i in range(3) for name in ("self_attn", "multihead_attn")),
    ]


def test_sentences_past_the_last_position_are_refused():
    source, mask = source_batch([[4] * 19])
    with pytest.raises(InputError, match=r"longer than there are positions\. Expected at most 19; got 20"):
        model_of()(source, mask, torch.ones(1, 1, dtype=torch.long))
