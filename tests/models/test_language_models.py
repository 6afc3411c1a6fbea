"""What holds for all networks that predict hidden words, and for each against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qkv.errors import InputError
from qkv.models import CausalLM, RecurrentLM, RecurrentLMConfig, TransformerLM, TransformerLMConfig
from qkv.trace import record
from qkv.types import MASK_ID, NGramBatch

VOCAB, LENGTH, ROWS = 13, 5, 7
CONFIG = TransformerLMConfig(embed_dim=14, num_heads=2, feedforward_dim=17, num_layers=3, dropout=0.0)
RECURRENT = RecurrentLMConfig(embed_dim=14, hidden_size=11, num_layers=2, dropout=0.0)
MODELS = {
    "transformer": lambda: TransformerLM(CONFIG, VOCAB, LENGTH),
    "causal": lambda: CausalLM(CONFIG, VOCAB, LENGTH),
    "recurrent": lambda: RecurrentLM(RECURRENT, VOCAB),
}
every_model = pytest.mark.parametrize("name", MODELS)


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    nn.init.normal_(model.output_bias)
    return model


@pytest.fixture
def batch() -> NGramBatch:
    """Rows of words, one of each hidden; every place in turn."""
    ids = torch.randint(1, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(3))
    return NGramBatch(ids, torch.arange(LENGTH) == torch.arange(ROWS)[:, None] % LENGTH)


def gradients(loss: torch.Tensor, model: nn.Module) -> dict[str, torch.Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def torch_stack(stack: nn.Module) -> nn.TransformerEncoder:
    """torch's own encoder with the weights of ours."""
    layer = nn.TransformerEncoderLayer(14, 2, 17, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 3, nn.LayerNorm(14), enable_nested_tensor=False).double()
    theirs.load_state_dict(stack.state_dict())
    return theirs


# -- parity ----------------------------------------------------------------------------------------------------------


def agree(name: str, batch: NGramBatch, theirs, extra: nn.Module, prefix: str):
    """The loss and all gradients of a model are those of the same formula by torch's layers."""
    model = model_of(name)
    reference = extra(model)
    logits = theirs(model, reference)[batch.hidden]
    expected = F.cross_entropy(logits, batch.ids[batch.hidden])
    ours = model.loss(batch)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.log_probabilities(batch), logits.log_softmax(-1), rtol=0, atol=1e-12)
    found = gradients(ours, model)
    inner = gradients_of_both(expected, model, reference, prefix)
    assert found.keys() == inner.keys()
    for key, gradient in found.items():
        assert bool(gradient.any()), key
        torch.testing.assert_close(gradient, inner[key], rtol=0, atol=1e-12)


def gradients_of_both(
    loss: torch.Tensor, model: nn.Module, reference: nn.Module, prefix: str
) -> dict[str, torch.Tensor]:
    """Gradients by the parameters of `model`, those under `prefix` by the ones of `reference`."""
    outer = {name: p for name, p in model.named_parameters() if not name.startswith(prefix)}
    inner = {prefix + name: p for name, p in reference.named_parameters()}
    both = outer | inner
    return dict(zip(both, torch.autograd.grad(loss, list(both.values())), strict=True))


def test_the_transformer_is_torchs_encoder(batch):
    def theirs(model, reference):
        read = batch.ids.masked_fill(batch.hidden, MASK_ID)
        embedded = F.embedding(read, model.embedding.weight) * 14**0.5 + model.positions.weight
        return F.linear(reference(embedded), model.embedding.weight, model.output_bias)

    agree("transformer", batch, theirs, lambda model: torch_stack(model.encoder), "encoder.")


def test_the_causal_model_is_torchs_encoder_under_a_causal_mask(batch):
    def theirs(model, reference):
        read = torch.cat((torch.full((ROWS, 1), MASK_ID), batch.ids[:, :-1]), dim=1)
        embedded = F.embedding(read, model.embedding.weight) * 14**0.5 + model.positions.weight
        future = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        return F.linear(reference(embedded, mask=future), model.embedding.weight, model.output_bias)

    agree("causal", batch, theirs, lambda model: torch_stack(model.decoder), "decoder.")


def test_the_recurrent_model_joins_two_directions(batch):
    def theirs(model, reference):
        read = batch.ids.masked_fill(batch.hidden, MASK_ID)
        states = F.embedding(read, model.embedding.weight) * 14**0.5
        for layer in range(2):  # forwards, and backwards on the reversed row
            forwards, backwards = (one_way(reference, layer, end, states) for end in ("", "_reverse"))
            states = torch.cat((forwards, backwards), dim=-1)
        return F.linear(model.bridge(states), model.embedding.weight, model.output_bias)

    def one_way(lstm, layer, end, x):
        weights = [getattr(lstm, f"{kind}_l{layer}{end}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        h, c = torch.zeros(2, ROWS, 11, dtype=torch.float64)
        found = {}
        for place in range(LENGTH) if not end else reversed(range(LENGTH)):
            gates = x[:, place] @ weights[0].T + weights[2] + h @ weights[1].T + weights[3]
            i, f, g, o = gates.chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            found[place] = h
        return torch.stack([found[place] for place in range(LENGTH)], dim=1)

    agree("recurrent", batch, theirs, lambda model: model.lstm, "lstm.")


# -- laws ------------------------------------------------------------------------------------------------------------


@every_model
def test_probabilities_sum_to_one_and_the_loss_is_their_mean(batch, name):
    model = model_of(name)
    found = model.log_probabilities(batch)
    assert found.shape == (ROWS, VOCAB)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(ROWS, dtype=torch.float64))
    torch.testing.assert_close(model.loss(batch), -found.gather(1, batch.ids[batch.hidden][:, None]).mean())


@every_model
def test_the_hidden_word_itself_is_not_seen(batch, name):
    model = model_of(name)
    other = NGramBatch(torch.where(batch.hidden, batch.ids % (VOCAB - 1) + 1, batch.ids), batch.hidden)
    assert not other.ids.equal(batch.ids)
    assert model.log_probabilities(other).equal(model.log_probabilities(batch))


@pytest.mark.parametrize(("name", "after"), [("transformer", True), ("recurrent", True), ("causal", False)])
def test_which_words_a_prediction_depends_on(batch, name, after):
    model = model_of(name)
    hidden = torch.zeros_like(batch.hidden)
    hidden[:, 2] = True
    before = model.log_probabilities(NGramBatch(batch.ids, hidden))
    for place, matters in ((0, True), (1, True), (3, after), (4, after)):
        changed = batch.ids.clone()
        changed[:, place] = changed[:, place] % (VOCAB - 1) + 1
        same = model.log_probabilities(NGramBatch(changed, hidden)).equal(before)
        assert same is not matters, place


def test_a_causal_row_costs_what_its_places_cost_one_by_one(batch):
    model = model_of("causal")
    whole = model.loss(NGramBatch(batch.ids, torch.ones_like(batch.hidden)))
    places = [NGramBatch(batch.ids, (torch.arange(LENGTH) == place).expand(ROWS, -1)) for place in range(LENGTH)]
    torch.testing.assert_close(whole, torch.stack([model.loss(one) for one in places]).mean())


@pytest.mark.parametrize("name", ["transformer", "causal"])
def test_attention_is_recorded(batch, name):
    model = model_of(name)
    with record() as trace:
        model.log_probabilities(batch)
    maps = trace.maps("abcde")
    assert [one.layer.rpartition(".")[0] for one in maps] == [
        f"{'encoder' if name == 'transformer' else 'decoder'}.layers.{layer}" for layer in range(3)
    ]
    assert maps[0].weights.shape == (2, LENGTH, LENGTH)
    assert bool((maps[0].weights.triu(1) == 0).all()) is (name == "causal")


# -- sampling --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_near_zero_the_likeliest_word_is_drawn_each_time():
    model = model_of("causal")
    start = torch.tensor([3, 1])
    drawn = model.sample(start, 4, torch.Generator().manual_seed(0), temperature=1e-6)
    words = start
    for _ in range(4):  # by hand: the last LENGTH - 1 words, and what is likeliest in the place after them
        seen = words[-(LENGTH - 1) :]
        row = torch.cat((seen, torch.zeros(LENGTH - len(seen), dtype=torch.int64)))[None]
        hidden = torch.arange(LENGTH)[None] == len(seen)
        scores = model.log_probabilities(NGramBatch(row, hidden))[0].detach()
        scores[MASK_ID] = -torch.inf
        words = torch.cat((words, scores.argmax()[None]))
    assert drawn.tolist() == words[2:].tolist()


def test_draws_are_a_function_of_the_generator_and_follow_the_probabilities():
    model = model_of("causal")
    nothing = torch.zeros(0, dtype=torch.int64)

    def draw(seed: int, **options) -> list[int]:
        return model.sample(nothing, 1, torch.Generator().manual_seed(seed), **options).tolist()

    assert draw(1) == draw(1)
    batch = NGramBatch(torch.ones(1, LENGTH, dtype=torch.int64), torch.arange(LENGTH)[None] == 0)
    likely = model.log_probabilities(batch)[0].detach().exp()
    likely[MASK_ID] = 0
    best = likely.topk(2).indices.tolist()
    drawn = [draw(seed)[0] for seed in range(400)]
    share = drawn.count(best[0]) / 400
    assert abs(share - float(likely[best[0]] / likely.sum())) < 4 * 0.5 / 400**0.5
    assert set(drawn) > set(best)
    assert MASK_ID not in drawn
    assert {draw(seed, top_k=2)[0] for seed in range(40)} == set(best)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, r"temperature cannot be used\. Expected above 0; got 0"),
        ({"temperature": float("nan")}, r"temperature cannot be used\. Expected above 0; got nan"),
        ({"top_k": 0}, r"top_k cannot be used\. Expected 1 or more; got 0"),
    ],
)
def test_draws_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        model_of("causal").sample(torch.tensor([1]), 2, torch.Generator(), **options)


def test_heads_that_cannot_share_the_width():
    with pytest.raises(ValueError, match=r"the heads cannot share the width.*3 heads for a width of 14"):
        TransformerLMConfig(embed_dim=14, num_heads=3)
