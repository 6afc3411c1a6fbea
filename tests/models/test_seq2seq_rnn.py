import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.data import batch_of, source_batch
from qkv.models import RecurrentConfig, SearchOptions, TranslationRNN
from qkv.trace import record

ATTENTION = pytest.mark.parametrize("attention", [True, False], ids=["attention", "plain"])


def model_of(attention: bool, *, source_dim=None, target_dim=None, **options) -> TranslationRNN:
    sizes = {"embed_dim": 5, "hidden_size": 7, "num_layers": 2, "dropout": 0.0}
    config = RecurrentConfig(**sizes | options)
    model = TranslationRNN(config, 11, 13, attention=attention, source_dim=source_dim, target_dim=target_dim)
    return model.double().eval()


@ATTENTION
def test_decoding_a_token_at_a_time_gives_the_logits_of_the_whole(batch, attention):
    model = model_of(attention)
    target = batch.target[:, :-1]
    whole = model(batch.source, batch.source_mask, target)
    state = model.start(batch.source, batch.source_mask, target.shape[1])
    steps = torch.stack([model.step(target[:, i], state) for i in range(target.shape[1])], dim=1)
    torch.testing.assert_close(steps, whole, rtol=0, atol=1e-10)


@ATTENTION
def test_padding_changes_nothing(pairs, batch, attention):
    model = model_of(attention)
    together = model(batch.source, batch.source_mask, batch.target[:, :-1])
    for row, (source, target) in enumerate(pairs):
        one = batch_of([source], [target])
        alone = model(one.source, one.source_mask, one.target[:, :-1])[0]
        torch.testing.assert_close(together[row, : len(target) + 1], alone, rtol=0, atol=1e-10)


def test_one_layer_without_attention_is_two_recurrences_of_torch(batch, pairs):
    """Sutskever et al.: a state carries the sentence over, here through the maps that join both directions."""
    model = model_of(attention=False, num_layers=1)
    encoder, decoder = model.encoder, model.decoder
    for row, (source, target) in enumerate(pairs):
        read = F.embedding(torch.tensor([[*source, 2]]), model.source_embedding.weight) * 5**0.5
        _, (h, c) = encoder.lstm(read)
        state = (
            encoder.join_h(torch.cat([h[0], h[1]], dim=-1))[None],
            encoder.join_c(torch.cat([c[0], c[1]], dim=-1))[None],
        )
        said = F.embedding(torch.tensor([[1, *target]]), model.target_embedding.weight) * 5**0.5
        expected = model.bridge(decoder.lstm(said, state)[0]) @ model.target_embedding.weight.T
        ours = model(batch.source, batch.source_mask, batch.target[:, :-1])[row, : len(target) + 1]
        torch.testing.assert_close(ours, expected[0], rtol=0, atol=1e-10)
        parameters = list(model.parameters())
        cotangent = torch.randn_like(ours)
        gradients = torch.autograd.grad(ours, parameters, cotangent, allow_unused=True)
        references = torch.autograd.grad(expected[0], parameters, cotangent, allow_unused=True)
        for (name, _), gradient, reference in zip(model.named_parameters(), gradients, references, strict=True):
            if reference is not None:
                torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@ATTENTION
def test_the_loss_is_the_mean_over_real_tokens(batch, attention):
    model = model_of(attention, label_smoothing=0.3)
    real = batch.target_mask[:, 1:]
    for training, smoothing in ((False, 0.0), (True, 0.3)):
        model.train(training)
        logits = model(batch.source, batch.source_mask, batch.target[:, :-1])
        expected = F.cross_entropy(logits[real], batch.target[:, 1:][real], label_smoothing=smoothing)
        torch.testing.assert_close(model.loss(batch), expected, rtol=0, atol=1e-10)


class _Loss(nn.Module):
    def __init__(self, model: TranslationRNN):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model.loss(batch)


@ATTENTION
def test_the_gradient_of_the_loss_is_that_of_differences(batch, attention):
    model = model_of(attention, embed_dim=2, hidden_size=3, num_layers=1)

    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(_Loss(model), {"model.encoder.lstm.weight_hh_l0": weight}, (batch,))

    assert torch.autograd.gradcheck(loss, model.encoder.lstm.weight_hh_l0.detach().clone().requires_grad_())


def test_only_attention_looks_back(batch):
    for attention, names in ((True, ["decoder.attention.weights"]), (False, [])):
        model = model_of(attention)
        with record() as trace:
            model(batch.source, batch.source_mask, batch.target[:, :-1])
        assert [step.name for step in trace.attention()] == names
        state = model.start(batch.source, batch.source_mask, 3)
        before = model.step(batch.target[:, 0], state)
        state = model.start(batch.source, batch.source_mask, 3)
        state.memory = state.memory + torch.randn_like(state.memory)
        after = model.step(batch.target[:, 0], state)
        assert torch.equal(before, after) is not attention


@ATTENTION
@pytest.mark.parametrize("beam_size", [1, 3])
def test_translating_in_company_changes_nothing(pairs, attention, beam_size):
    model = model_of(attention)
    options = SearchOptions(bos_id=1, eos_id=2, beam_size=beam_size, max_length=12, forbidden=(0, 1, 3))
    sources = [source for source, _ in pairs]
    together = model.translate(*source_batch(sources), options)
    for one, source in zip(together, sources, strict=True):
        alone = model.translate(*source_batch([source]), options)[0]
        assert one.ids == alone.ids
        assert one.score == pytest.approx(alone.score, abs=1e-5)


@pytest.mark.parametrize(("dim", "tied"), [(None, True), (5, True), (3, False)])
def test_the_output_layer_shares_the_target_embedding_where_widths_allow(batch, dim, tied):
    model = model_of(True, target_dim=dim, source_dim=3)
    assert (model.output is None) is tied
    assert model.source_embedding.project is not None
    assert model(batch.source, batch.source_mask, batch.target).shape == (3, 9, 13)
