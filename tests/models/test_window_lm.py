import math
import os
import signal
from itertools import islice, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.data import NGramBatches, read_ngrams
from qkv.errors import InputError, StoppedError
from qkv.models import WindowConfig, WindowLM, _window_fast
from qkv.models.window_lm import NAMES, loss_and_gradients
from qkv.train import FitConfig, RunFolder, fit, mean_loss
from qkv.types import NGramBatch

SMALL = WindowConfig(embed_dim=3, hidden_size=7)


def drawn(task="masked", gradient="right", vocab=11, length=5) -> WindowLM:
    """A model whose parameters are all random, in double precision."""
    torch.manual_seed(0)
    model = WindowLM(SMALL, vocab, length, task=task, gradient=gradient).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


def rows(model: WindowLM, batch=13, hide="some") -> NGramBatch:
    ids = torch.randint(1, model.vocab, (batch, model.length))
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    if hide == "last":
        hidden[:, -1] = True
    elif hide == "some":  # of some rows several words, of some none
        hidden = torch.rand(ids.shape) < 0.3
    return NGramBatch(ids, hidden)


# -- one row by hand -------------------------------------------------------------------------------------------------

LN2 = math.log(2)
BY_HAND = {
    # Of the words mask, 1 and 2, the row (1, 2) with its first word hidden is read as (mask, 2): e = (0, -1).
    "word_embedding_weights": [[0.0], [1.0], [-1.0]],
    # a = 2 * 0 + 1 * -1 + 1 = 0, so h = 1/2.
    "embed_to_hid_weights": [[2.0, 1.0]],
    "hid_bias": [1.0],
    # z = (0, log 2, 0) in the first place, so y = (1/4, 1/2, 1/4): the loss is log 2.
    "hid_to_output_weights": [[0.0], [2 * LN2], [0.0], [5.0], [6.0], [7.0]],
    "output_bias": [0.0, 0.0, 0.0, 3.0, 2.0, 1.0],
}
GRADIENTS = {
    # dz = y - t = (1/4, -1/2, 1/4), and nothing in the second place; times h = 1/2 for the weights.
    "output_bias": [0.25, -0.5, 0.25, 0, 0, 0],
    "hid_to_output_weights": [[0.125], [-0.25], [0.125], [0], [0], [0]],
    # dh = -1/2 * 2 log 2 = -log 2; da = 1/4 dh.
    "hid_bias": [-LN2 / 4],
    # da times e = (0, -1).
    "embed_to_hid_weights": [[0, LN2 / 4]],
    # de = da times (2, 1): the first is the mask's, the second that of word 2.
    "word_embedding_weights": [[-LN2 / 2], [0], [-LN2 / 4]],
}


def by_hand(gradient):
    parameters = {name: np.array(value) for name, value in BY_HAND.items()}
    return loss_and_gradients(parameters, np.array([[1, 2]]), np.array([[True, False]]), gradient)


def test_one_row_by_hand():
    loss, gradients = by_hand("right")
    assert loss == pytest.approx(LN2)
    for name, expected in GRADIENTS.items():
        np.testing.assert_allclose(gradients[name], expected, atol=1e-15, err_msg=name)


def test_the_published_mistake_moves_what_is_the_masks_to_the_hidden_word():
    loss, gradients = by_hand("published")
    assert loss == pytest.approx(LN2)
    expected = GRADIENTS | {"word_embedding_weights": [[0], [-LN2 / 2], [-LN2 / 4]]}
    for name, values in expected.items():
        np.testing.assert_allclose(gradients[name], values, atol=1e-15, err_msg=name)


# -- against autograd ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "hide"), [("masked", "some"), ("masked", "last"), ("next", "last")])
def test_gradients_are_those_of_autograd(task, hide):
    model = drawn(task)
    batch = rows(model, hide=hide)
    loss, gradients = model.loss_and_gradients(batch)
    expected = model.loss(batch)
    assert loss == pytest.approx(float(expected.detach()), abs=1e-14)
    expected.backward()
    assert list(gradients) == list(NAMES)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.any()), name
        np.testing.assert_allclose(gradients[name], parameter.grad.numpy(), rtol=0, atol=1e-14, err_msg=name)


def test_the_published_mistake_is_in_the_embedding_alone():
    right, published = drawn(), drawn(gradient="published")
    batch = rows(right)
    ours, theirs = right.loss_and_gradients(batch)[1], published.loss_and_gradients(batch)[1]
    for name in NAMES[1:]:
        assert (ours[name] == theirs[name]).all()
    assert not theirs[NAMES[0]][0].any()
    assert ours[NAMES[0]][0].any()
    np.testing.assert_allclose(ours[NAMES[0]].sum(axis=0), theirs[NAMES[0]].sum(axis=0), atol=1e-15)


# -- in single precision ---------------------------------------------------------------------------------------------


def single(task="masked", *, embed_dim=11, hidden_size=37, vocab=41, gradient="right") -> WindowLM:
    """A model whose gradients are computed where they are not zero, of sizes that are no whole tiles."""
    torch.manual_seed(1)
    model = WindowLM(
        WindowConfig(embed_dim=embed_dim, hidden_size=hidden_size), vocab, length=5, task=task, gradient=gradient
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


GRAMS = np.random.default_rng(5).integers(1, 41, (116, 5))


def same(model: WindowLM, batch: NGramBatch) -> None:
    """Holds what the model computes to the derivation in double precision."""
    parameters = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    assert _window_fast.usable(parameters)
    loss, gradients = model.loss_and_gradients(batch)
    doubles = {name: value.astype(np.float64) for name, value in parameters.items()}
    expected, references = loss_and_gradients(doubles, batch.ids.numpy(), batch.hidden.numpy(), model.gradient)
    assert loss == pytest.approx(expected, rel=1e-6)
    for name, reference in references.items():
        assert gradients[name].dtype == np.float32
        error = np.abs(gradients[name] - reference).max() / np.abs(reference).max()
        assert error < 3e-6, (name, error)


@pytest.mark.parametrize("gradient", ["right", "published"])
@pytest.mark.parametrize(("task", "hide"), [("masked", "some"), ("masked", "last"), ("next", "last")])
@pytest.mark.parametrize("batch", [1, 29, 67])
def test_the_fast_way_comes_to_the_same(task, hide, gradient, batch):
    model = single(task, gradient=gradient)
    same(model, rows(model, batch=batch, hide=hide) if batch > 1 else rows(model, batch=1, hide="last"))


@settings(max_examples=15)
@given(
    embed_dim=st.integers(7, 13), hidden_size=st.integers(32, 67), vocab=st.integers(8, 71), batch=st.integers(1, 71),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_fast_way_comes_to_the_same_at_all_sizes(embed_dim, hidden_size, vocab, batch, seed):
    model = single(embed_dim=embed_dim, hidden_size=hidden_size, vocab=vocab)
    grams = np.random.default_rng(seed).integers(1, vocab, (batch, 5))
    same(model, next(NGramBatches(grams, batch_size=batch, seed=seed, hide="random").epoch(0)))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("gradient", ["right", "published"])
@pytest.mark.parametrize("sizes", [{}, {"embed_dim": 6}], ids=["fast", "plain"])
def test_descent_in_one_go_is_that_of_torch(sizes, gradient, momentum):
    model, reference = single(**sizes, gradient=gradient), single(**sizes, gradient=gradient)
    moved = {name: np.zeros_like(value.detach().numpy()) for name, value in model.named_parameters()}
    torchs = torch.optim.SGD(reference.parameters(), lr=0.25, momentum=momentum)
    for batch in islice(NGramBatches(GRAMS, batch_size=29, seed=3, hide="random").epoch(0), 4):
        expected, gradients = reference.loss_and_gradients(batch)
        for name, parameter in reference.named_parameters():
            parameter.grad = torch.from_numpy(gradients[name])
        torchs.step()
        assert model.descend(batch, moved, rate=0.25, momentum=momentum) == pytest.approx(expected, rel=1e-5)
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-5, atol=1e-6, msg=name)
        assert not torch.equal(ours, dict(single(**sizes).named_parameters())[name])


def test_descent_comes_to_the_same_bits_with_any_number_of_threads():
    before, ends = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            model = single()
            moved = {name: np.zeros_like(value.detach().numpy()) for name, value in model.named_parameters()}
            for batch in NGramBatches(GRAMS, batch_size=29, seed=3, hide="random").epoch(0):
                model.descend(batch, moved, rate=0.25, momentum=0.5)
            ends.append(torch.cat([x.detach().flatten() for x in model.parameters()]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_descent_at_no_rate_only_gathers_gradients():
    model, batch = single(), next(NGramBatches(GRAMS, batch_size=29, seed=3, hide="random").epoch(0))
    _, gradients = model.loss_and_gradients(batch)
    moved = {name: np.zeros_like(value) for name, value in gradients.items()}
    model.descend(batch, moved, rate=0.0, momentum=0.5)
    for name, value in single().named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], value)
        np.testing.assert_array_equal(moved[name], gradients[name])


def test_small_networks_take_the_plain_way():
    for sizes in ({"embed_dim": 6}, {"hidden_size": 31}, {"vocab": 5}):
        model = single(**sizes)
        assert not _window_fast.usable({name: value.detach().numpy() for name, value in model.named_parameters()})
        batch = rows(model)
        assert model.loss_and_gradients(batch)[0] == pytest.approx(float(model.loss(batch).detach()), rel=1e-5)


def test_any_number_of_threads_comes_to_the_same_bits():
    model, before = single(), torch.get_num_threads()
    batch = rows(model, batch=67)
    try:
        torch.set_num_threads(1)
        loss, gradients = model.loss_and_gradients(batch)
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            other, others = model.loss_and_gradients(batch)
            assert other == loss
            assert all((others[name] == gradients[name]).all() for name in NAMES)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_number_is_seen_in_the_loss(name):
    model = single()
    batch = rows(model, batch=67, hide="last")
    with torch.no_grad():
        getattr(model, name)[-1] = math.nan
    batch.ids[:, 0] = 40  # the word whose embedding that is
    assert math.isnan(model.loss_and_gradients(batch)[0])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_goes_on_bit_for_bit(tmp_path, optimizer):
    """A run that is stopped and goes on, and one that is not."""
    grams = np.random.default_rng(0).integers(1, 8, (400, 1)) + np.arange(5)
    train = NGramBatches(grams, batch_size=59, seed=0, hide="random")
    valid = NGramBatches(grams[:50], batch_size=50, seed=0, hide="each", shuffle=False)
    config = FitConfig(
        epochs=9, optimizer=optimizer, learning_rate=0.05, warmup_steps=0, clip_norm=None, weight_decay=0.0, patience=99
    )
    folders = [RunFolder.create(tmp_path / name, recipe="masked-lm", config={}, seed=0) for name in ("whole", "parted")]
    fit(whole := single(), train, valid, config, folders[0])

    def ask(at) -> None:
        if at.step == 21:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(StoppedError):
        fit(single(), train, valid, config, folders[1], on_progress=ask)
    fit(parted := single(), train, valid, config, folders[1])
    losses = [line["loss"] for line in folders[0].read().history if line["part"] == "valid"]
    assert losses[-1] < losses[0] / 2
    for name in NAMES:
        assert torch.equal(getattr(whole, name), getattr(parted, name))


# -- laws ------------------------------------------------------------------------------------------------------------


@given(st.data())
def test_a_hidden_word_is_not_read(data):
    model = drawn()
    batch = rows(model)
    others = data.draw(st.integers(0, model.vocab - 1))
    changed = NGramBatch(batch.ids.masked_fill(batch.hidden, others), batch.hidden)
    assert torch.equal(model.log_probabilities(batch), model.log_probabilities(changed))


def test_probabilities_sum_to_one_and_stand_row_by_row():
    model = drawn()
    batch = rows(model)
    found = model.log_probabilities(batch)
    assert found.shape == (batch.weight, 11)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(batch.weight, dtype=torch.float64))
    alone = [model.log_probabilities(NGramBatch(*(x[i : i + 1] for x in (batch.ids, batch.hidden))))
             for i in range(13) if bool(batch.hidden[i].any())]  # fmt: skip
    torch.testing.assert_close(torch.cat(alone), found)


def test_words_that_are_not_hidden_get_no_gradient_as_outputs():
    model = drawn()
    batch = rows(model, hide="last")
    gradients = model.loss_and_gradients(batch)[1]
    for name in ("hid_to_output_weights", "output_bias"):
        assert not gradients[name][: -model.vocab].any()


def test_weights_begin_as_small_as_told_and_biases_at_zero():
    torch.manual_seed(0)
    model = WindowLM(WindowConfig(deviation=0.02), vocab=251, length=4)
    shapes = [(251, 16), (128, 64), (128,), (1004, 128), (1004,)]
    assert [tuple(parameter.shape) for _, parameter in model.named_parameters()] == shapes
    for name, parameter in model.named_parameters():
        assert float(parameter.detach().std()) == (0 if name.endswith("bias") else pytest.approx(0.02, rel=0.05))


# -- published numbers -----------------------------------------------------------------------------------------------

PUBLISHED = {
    # Of model a, the sum over the first 100 rows.
    "word_embedding_weights": {
        (27, 2): -0.27199539981936866, (43, 3): 0.8641722267354154, (22, 4): -0.2546730202374648, (2, 5): 0.0,
    },
    "embed_to_hid_weights": {
        (10, 2): -0.6526990313918257, (15, 3): -0.13106433000472612, (30, 9): 0.11846774618169399,
        (35, 21): -0.10004526104604386,
    },
    "hid_bias": {(10,): 0.25376638738156426, (20,): -0.03326739163635369},
    "output_bias": {
        (0,): -2.062759603217304, (1,): 0.03902008573921689, (2,): -0.7561537928318482, (3,): 0.21235172051123635,
    },
}  # fmt: skip
DZ = {(2, 5): 0.001112231773782498, (2, 121): -0.9991004720395987, (5, 33): 0.0001903237803173703,
      (5, 31): -0.7999757709589483}  # fmt: skip


@pytest.fixture(scope="module")
def published(shared_data):
    """The published 4-grams, and the models of the older form of the task by name."""
    folder = shared_data / "nlm-250"
    models = {}
    for name in ("a", "b"):
        models[name] = WindowLM(WindowConfig(embed_dim=8, hidden_size=64), vocab=250, length=4, task="next").double()
        arrays = np.load(folder / f"partially_trained_{name}.npz")
        models[name].load_state_dict({key: torch.from_numpy(arrays[key]) for key in arrays.files})
    return read_ngrams(folder / "ngrams.npz"), models


def test_gradients_are_the_published_ones(published):
    grams, models = published
    batches = NGramBatches(grams.train[:100], batch_size=100, seed=0, hide="last", shuffle=False)
    gradients = models["a"].loss_and_gradients(next(batches.epoch(0)))[1]
    for name, values in PUBLISHED.items():
        for place, value in values.items():
            assert 100 * gradients[name][place] == pytest.approx(value, abs=1e-12), (name, place)
    for (row, word), value in DZ.items():  # of one row, the output bias has just that
        one = NGramBatches(grams.train[row : row + 1], batch_size=1, seed=0, hide="last")
        gradient = models["a"].loss_and_gradients(next(one.epoch(0)))[1]["output_bias"]
        assert gradient[word] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("name", "losses"), [("a", (3.44188, 3.44955, 3.45126)), ("b", (3.38531, 3.39708, 3.39493))])
def test_losses_are_the_published_ones(published, name, losses):
    grams, models = published
    for part, loss in zip((grams.train, grams.valid, grams.test), losses, strict=True):
        batches = NGramBatches(part, batch_size=5000, seed=0, hide="last", shuffle=False)
        assert mean_loss(models[name], batches) == pytest.approx(loss, abs=1e-5)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["masked", "next"])
def test_batches_of_another_task(task):
    model = drawn(task)
    fits = rows(model, hide="last")
    ids, hidden = fits.ids, fits.hidden
    cases = [
        (NGramBatch(ids[:, :4], hidden[:, 1:]), "rows of another length. Expected 5 words; got 4"),
        (NGramBatch(ids + 10, hidden), "ids has numbers without a word. Expected 0 to 10; got 11 to 20"),
        (NGramBatch(ids - 2, hidden), "ids has numbers without a word. Expected 0 to 10; got -1 to 8"),
        (NGramBatch(ids, hidden & False), "hidden is not what this network predicts. Expected"),
    ]
    if task == "next":
        both = hidden.clone()
        both[3, 0] = True
        cases.append((NGramBatch(ids, both), "not what this network predicts. Expected the last word of rows alone"))
    for (batch, message), act in product(cases, (model.loss, model.log_probabilities, model.loss_and_gradients)):
        with pytest.raises(InputError, match=message):
            act(batch)


def test_a_row_of_one_word():
    with pytest.raises(InputError, match=r"length is too small\. Expected rows of 2 words or more; got 1"):
        WindowLM(SMALL, vocab=11, length=1)
