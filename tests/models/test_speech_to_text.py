import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.models import SearchOptions, SpeechConfig, SpeechToText
from qkv.models.speech_to_text import AudioEncoder
from qkv.trace import record
from qkv.types import SpeechBatch

DECODERS = pytest.mark.parametrize("decoder", ["attention", "lstm"])
SIZES = {"embed_dim": 14, "num_heads": 2, "feedforward_dim": 17, "dropout": 0.0, "max_frames": 47, "max_length": 19}


def model_of(decoder: str, **options) -> SpeechToText:
    return SpeechToText(SpeechConfig(**SIZES | options), 11, decoder, mels=5).double().eval()


@pytest.fixture
def batch() -> SpeechBatch:
    """Three recordings of 23, 7 and 16 frames, and texts of 5, 2 and 3 tokens."""
    frames, lengths = torch.tensor([23, 7, 16]), torch.tensor([5, 2, 3])
    real = torch.arange(23) < frames[:, None]
    target = torch.randint(4, 11, (3, 7))
    target[:, 0] = 1
    positions = torch.arange(7)
    target[positions == lengths[:, None] + 1] = 2
    target_mask = positions <= lengths[:, None] + 1
    return SpeechBatch(torch.randn(3, 23, 5).double(), real, target * target_mask, target_mask)


def test_parameters_by_hand():
    # Width 200, feed-forward 400, 35 symbols, 98 positions, 80 mels. A norm has 2 x 200 = 400. An attention has
    # queries, values and output with biases, 3 x 40,200, and keys without, 40,000: 160,600. A feed-forward network has
    # 200 x 400 + 400 + 400 x 200 + 200 = 160,600 too; with its norm each is 161,000.
    # Encoder: convolutions 80 x 200 x 3 + 200 = 48,200 and 200 x 200 x 3 + 200 = 120,200; two blocks of 322,000; norm.
    # LSTM decoder: embedding 7,000 and norm; LSTM 4 x 200 x (200 + 200 + 2) = 321,600; a block of attention and
    # feed-forward, 322,000; norm; output 7,035. Attention decoder: embedding 7,000, positions 19,600; a block of three,
    # 483,000; norm; output 7,035.
    counts = {}
    for decoder in ("lstm", "attention"):
        model = SpeechToText(SpeechConfig(), 35, decoder)
        counts["encoder"] = sum(parameter.numel() for parameter in model.encoder.parameters())
        counts[decoder] = sum(parameter.numel() for parameter in model.decoder.parameters())
    assert counts == {"encoder": 812_800, "lstm": 658_435, "attention": 517_035}


@pytest.mark.parametrize(("kernel_size", "standardize"), [(3, False), (3, True), (7, False)])
def test_the_encoder_is_that_of_torch(batch, kernel_size, standardize):
    sizes = SpeechConfig(**SIZES, kernel_size=kernel_size, standardize=standardize)
    model = AudioEncoder(sizes, mels=5).double().eval()
    layer = nn.TransformerEncoderLayer(
        14, 2, 17, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(14, dtype=torch.float64), enable_nested_tensor=False)
    state = model.blocks.state_dict()
    for name, value in state.items():
        if name.endswith("in_proj_bias"):  # torch's has the keys' too, between the others'
            of_query, of_value = value.chunk(2)
            state[name] = torch.cat((of_query, torch.zeros(14).double(), of_value))
    theirs.load_state_dict(state)
    for row, count in enumerate(batch.log_mel_mask.sum(dim=1).tolist()):
        frames = batch.log_mel[row : row + 1, :count].transpose(1, 2)
        if standardize:
            frames = (frames - frames.mean()) / frames.std(correction=0)
        around = kernel_size // 2
        x = F.gelu(F.conv1d(frames, model.conv1.weight, model.conv1.bias, padding=around))
        x = F.gelu(F.conv1d(x, model.conv2.weight, model.conv2.bias, stride=2, padding=around)).transpose(1, 2)
        expected = theirs(x + model.positions.table[: x.shape[1]])
        ours, real = model(batch.log_mel, batch.log_mel_mask)
        half = -(-count // 2)
        assert real[row].sum() == half
        torch.testing.assert_close(ours[row : row + 1, :half], expected, rtol=0, atol=1e-10)
        weight = model.conv1.weight
        ours_grad, theirs_grad = (
            torch.autograd.grad(one.square().sum(), weight)[0] for one in (ours[row, :half], expected)
        )
        torch.testing.assert_close(ours_grad, theirs_grad, rtol=0, atol=1e-9)


@DECODERS
def test_decoding_a_token_at_a_time_gives_the_logits_of_the_whole(batch, decoder):
    model = model_of(decoder)
    target = batch.target[:, :-1]
    whole = model(batch.log_mel, batch.log_mel_mask, target)
    state = model.start(batch.log_mel, batch.log_mel_mask, target.shape[1])
    steps = torch.stack([model.step(target[:, i], state) for i in range(target.shape[1])], dim=1)
    torch.testing.assert_close(steps, whole, rtol=0, atol=1e-10)


@DECODERS
def test_a_state_follows_its_rows(batch, decoder):
    model, rows = model_of(decoder), torch.tensor([2, 0, 0])
    target = batch.target[:, :-1]
    state = model.start(batch.log_mel, batch.log_mel_mask, target.shape[1])
    model.step(target[:, 0], state)
    state.select(rows)
    after = model.step(target[rows, 1], state)
    expected = model(batch.log_mel, batch.log_mel_mask, target)[rows, 1]
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-10)
    assert state.nbytes > 0


@DECODERS
@pytest.mark.parametrize("changes", [{}, {"standardize": True, "kernel_size": 5}])
def test_padding_changes_nothing(batch, decoder, changes):
    model = model_of(decoder, **changes)
    together = model(batch.log_mel, batch.log_mel_mask, batch.target[:, :-1])
    for row in range(3):
        frames, tokens = int(batch.log_mel_mask[row].sum()), int(batch.target_mask[row].sum()) - 1
        alone = model(
            batch.log_mel[row : row + 1, :frames],
            batch.log_mel_mask[row : row + 1, :frames],
            batch.target[row : row + 1, :tokens],
        )
        torch.testing.assert_close(together[row, :tokens], alone[0], rtol=0, atol=1e-10)
    noise = torch.where(batch.log_mel_mask[:, :, None], batch.log_mel, 100.0)
    torch.testing.assert_close(model(noise, batch.log_mel_mask, batch.target[:, :-1]), together, rtol=0, atol=1e-10)


@DECODERS
def test_no_position_sees_a_later_token(batch, decoder):
    model = model_of(decoder)
    target = batch.target[:, :-1].clone()
    before = model(batch.log_mel, batch.log_mel_mask, target)
    target[:, 3] = 10 - target[:, 3]
    after = model(batch.log_mel, batch.log_mel_mask, target)
    torch.testing.assert_close(after[:, :3], before[:, :3], rtol=0, atol=0)
    assert not torch.allclose(after[:, 3], before[:, 3])


@DECODERS
def test_the_loss_is_the_mean_over_real_tokens(batch, decoder):
    model = model_of(decoder, label_smoothing=0.3, ctc_share=0.0)
    real = batch.target_mask[:, 1:]
    for training, smoothing in ((False, 0.0), (True, 0.3)):
        model.train(training)
        logits = model(batch.log_mel, batch.log_mel_mask, batch.target[:, :-1])
        expected = F.cross_entropy(logits[real], batch.target[:, 1:][real], label_smoothing=smoothing)
        loss = model.loss(batch)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
        parameters = list(model.parameters())
        for ours, theirs in zip(
            torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_the_loss_of_the_encoder_alone_by_hand():
    # Two places, blank 0, the text "a": paths a-, -a and aa say it. With probabilities a: 0.6 then 0.5, blank 0.3 then
    # 0.4, these are 0.6 x 0.4 + 0.3 x 0.5 + 0.6 x 0.5 = 0.69; the loss of the one token is -log 0.69.
    model = SpeechToText(SpeechConfig(**SIZES), 6, "lstm", mels=5)
    share = torch.full((1, 2, 6), 1e-9)
    share[0, :, 4], share[0, :, 0] = torch.tensor([0.6, 0.5]), torch.tensor([0.3, 0.4])
    share[0, :, 5] = 1 - share[0].sum(dim=1)
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    batch = SpeechBatch(torch.zeros(1, 3, 5), everywhere, torch.tensor([[1, 4, 2]]), everywhere)
    loss = model._ctc(share.log(), torch.ones(1, 2, dtype=torch.bool), batch)
    torch.testing.assert_close(loss, -torch.tensor(0.69).log(), rtol=0, atol=1e-5)


@DECODERS
def test_the_gradient_of_the_loss_is_that_of_differences(batch, decoder):
    model = model_of(decoder, embed_dim=2, num_heads=1, feedforward_dim=3, encoder_layers=1).train()

    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(_Loss(model), {"model.encoder.conv1.weight": weight}, (batch,))

    assert torch.autograd.gradcheck(loss, model.encoder.conv1.weight.detach().clone().requires_grad_())


class _Loss(nn.Module):
    def __init__(self, model: SpeechToText):
        super().__init__()
        self.model = model

    def forward(self, batch: SpeechBatch) -> Tensor:
        return self.model.loss(batch)


@DECODERS
def test_what_is_recorded_sums_to_the_output(batch, decoder):
    model = model_of(decoder)
    with record() as trace:
        model(batch.log_mel, batch.log_mel_mask, batch.target[:, :-1])
    cross = [step for step in trace.attention() if step.facts["kind"] == "cross"]
    assert len(cross) == 1
    assert cross[0].name.startswith("decoder.")
    assert cross[0].value.shape == (3, 2, 6, 12)
    torch.testing.assert_close(cross[0].value.sum(dim=-1), torch.ones(3, 2, 6).double())
    assert not bool(cross[0].value[1, :, :, 4:].any())  # 7 frames are 4 places


@DECODERS
def test_a_search_finds_what_the_model_says(batch, decoder):
    model = model_of(decoder)
    options = SearchOptions(bos_id=1, eos_id=2, max_length=13, forbidden=(0, 1, 3))
    for found, row in zip(model.transcribe(batch.log_mel, batch.log_mel_mask, options), range(3), strict=True):
        ids = [1]
        while len(ids) <= 13:
            logits = model(batch.log_mel[row : row + 1], batch.log_mel_mask[row : row + 1], torch.tensor([ids]))[0, -1]
            logits[[0, 1, 3]] = -torch.inf
            ids.append(int(logits.argmax()))
            if ids[-1] == 2:
                break
        assert found.ids == [one for one in ids[1:] if one != 2]


@DECODERS
def test_a_recording_longer_than_there_are_positions_is_refused(decoder):
    model = model_of(decoder, max_frames=11)
    frames, real = torch.zeros(1, 23, 5).double(), torch.ones(1, 23, dtype=torch.bool)
    with pytest.raises(InputError, match="longer than there are positions"):
        model(frames, real, torch.tensor([[1]]))


def test_sound_that_never_changes_stays_finite():
    model = model_of("attention", standardize=True)
    frames, real = torch.full((1, 9, 5), 0.7).double(), torch.ones(1, 9, dtype=torch.bool)
    assert bool(model(frames, real, torch.tensor([[1]])).isfinite().all())


def test_a_kernel_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="an odd kernel size; got 4"):
        SpeechConfig(kernel_size=4)
