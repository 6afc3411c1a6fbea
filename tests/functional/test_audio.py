import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.errors import InputError
from qkv.functional import log_mel_spectrogram, mel_filters, spec_augment


@pytest.fixture
def waveform() -> torch.Tensor:
    """A chord in noise, louder towards the end."""
    time = torch.arange(7919) / 16_000
    chord = sum(torch.sin(2 * math.pi * hertz * time) for hertz in (220.0, 1310.0, 5003.0))
    return 0.1 * (1 + time) * chord + 0.01 * torch.randn(7919, generator=torch.Generator().manual_seed(0))


# -- mel filters -----------------------------------------------------------------------------------------------------


def test_filters_by_hand():
    # Up to 1,000 Hz a mel is 200/3 Hz: at 2,000 samples a second the filters span 0 to 15 mels, edges of two filters at
    # 0, 5, 10, 15 mels, which are 0, 1000/3, 2000/3, 1000 Hz. Bins of 12 samples stand at 0, 500/3, 1000/3, ... Hz. The
    # first filter is 0, 1/2, 1, 1/2, 0, 0, 0 of its height 2 / (2000/3) = 0.003; the second is two bins further.
    expected = torch.tensor([[0, 0.5, 1, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 1, 0.5, 0]]) * 0.003
    torch.testing.assert_close(mel_filters(2, 12, 2000), expected)


@pytest.mark.parametrize(("mels", "n_fft", "rate"), [(80, 400, 16_000), (40, 200, 8_000), (23, 512, 22_050)])
def test_filters_are_those_of_librosa(mels, n_fft, rate):
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=mels)
    np.testing.assert_allclose(mel_filters(mels, n_fft, rate).numpy(), theirs, rtol=1e-5, atol=1e-8)


def test_filters_that_hear_nothing_are_refused():
    with pytest.raises(InputError, match=r"lie between two bins.*got mels=80 up to 8,000 Hz"):
        mel_filters(80, 100, 16_000)
    with pytest.raises(InputError, match="mels=0"):
        mel_filters(0, 400, 16_000)


# -- spectrogram -----------------------------------------------------------------------------------------------------


def test_a_spectrogram_by_hand():
    # Windows of 4 around samples 0, 2, 4, 6, 8 of ones: Hann's are 0, 1/2, 1, 1/2, so that the spectrum is 2, -1, 0 and
    # the power 4, 1, 0 in every frame, ends reflected. One filter over 0 to 2 Hz (a mel is 200/3 Hz, so 0.03 mels)
    # peaks at 1 Hz with height 2 / 2 = 1, which the bins at 0, 1, 2 Hz meet with 0, 1, 0: mel power 1, its logarithm 0,
    # and (0 + 4) / 4 = 1.
    ones = log_mel_spectrogram(torch.ones(8), n_fft=4, hop_length=2, mels=1, sample_rate=4)
    torch.testing.assert_close(ones, torch.ones(5, 1), rtol=0, atol=1e-6)
    # Samples ten times as loud have power 100 times as great: (2 + 4) / 4.
    loud = log_mel_spectrogram(10 * torch.ones(8), n_fft=4, hop_length=2, mels=1, sample_rate=4)
    torch.testing.assert_close(loud, torch.full((5, 1), 1.5), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("mels", "n_fft", "hop", "rate"), [(80, 400, 160, 16_000), (23, 512, 101, 22_050)])
def test_spectrograms_are_those_of_librosa(waveform, mels, n_fft, hop, rate):
    librosa = pytest.importorskip("librosa")
    power = librosa.feature.melspectrogram(
        y=waveform.numpy(), sr=rate, n_fft=n_fft, hop_length=hop, n_mels=mels, pad_mode="reflect"
    )
    theirs = np.log10(np.maximum(power, 1e-10))
    theirs = (np.maximum(theirs, theirs.max() - 8) + 4) / 4
    ours = log_mel_spectrogram(waveform, n_fft=n_fft, hop_length=hop, mels=mels, sample_rate=rate)
    np.testing.assert_allclose(ours.numpy(), theirs.T, rtol=0, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(201, 3000))
def test_there_is_a_frame_for_every_hop_and_one_more(samples):
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    frames = log_mel_spectrogram(noise)
    assert frames.shape == (samples // 160 + 1, 80)
    assert float(frames.max() - frames.min()) <= 2 + 1e-6  # 8 powers of ten, in quarters


def test_what_is_twice_as_loud_is_moved_by_as_much_everywhere(waveform):
    # 20 log10(2) = 6.02 decibels: 0.602 of power's logarithm, a quarter of that here
    moved = log_mel_spectrogram(2 * waveform) - log_mel_spectrogram(waveform)
    torch.testing.assert_close(moved, torch.full_like(moved, 2 * math.log10(2) / 4), rtol=0, atol=1e-4)


def test_samples_that_cannot_be_heard_are_refused(waveform):
    with pytest.raises(InputError, match="more than 200 samples; got 200"):
        log_mel_spectrogram(waveform[:200])
    for strange in (math.nan, math.inf):
        broken = waveform.clone()
        broken[4001] = strange
        with pytest.raises(InputError, match="waveform holds NaN or infinity"):
            log_mel_spectrogram(broken)


# -- hiding parts ----------------------------------------------------------------------------------------------------


def test_what_is_hidden_is_the_mean_in_whole_stretches_and_bands():
    log_mel = torch.rand(101, 80, generator=torch.Generator().manual_seed(1))
    hidden = spec_augment(log_mel, torch.Generator().manual_seed(2), time_masks=1, mel_masks=1)
    changed = hidden != log_mel
    assert 0 < changed.sum() < log_mel.numel() / 2
    assert bool((hidden[changed] == log_mel.mean()).all())
    rows, columns = changed.all(dim=1), changed.all(dim=0)
    assert int(rows.sum()) <= 20
    assert int(columns.sum()) <= 15
    assert bool((changed == (rows[:, None] | columns)).all())


def test_of_a_short_recording_little_is_hidden():
    for seed in range(11):
        hidden = spec_augment(torch.rand(5, 7), torch.Generator().manual_seed(seed), time_masks=1, mel_masks=0)
        assert int((hidden == hidden[0, 0]).all(dim=1).sum()) <= 1


def test_the_same_generator_hides_the_same():
    log_mel = torch.rand(53, 80)
    first, again, other = (spec_augment(log_mel, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
