"""Log-mel spectrograms: what a recording looks like to a model, and how to hide parts of one."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from qkv.errors import InputError, InputTypeError

# The scale of Slaney's Auditory Toolbox (1998): straight up to 1,000 Hz, 15 mels there; from there on 27 mels for each
# factor of 6.4.
_HERTZ_A_MEL, _KNEE_HERTZ, _KNEE_MELS, _LOG_STEP = 200 / 3, 1000.0, 15.0, 27 / math.log(6.4)

_FLOOR = 1e-10  # of power, before the logarithm
_FRAMES = 256  # transformed at once
_RANGE = 8.0  # powers of ten below the loudest entry that are told apart: 80 decibels


@cache
def mel_filters(mels: int = 80, n_fft: int = 400, sample_rate: int = 16_000) -> Float32[Tensor, "mels bins"]:
    """Triangles over the bins of a spectrum, evenly spaced on Slaney's mel scale, each of area 1 over hertz.

    Triangle i rises from the centre of its lower neighbour to its own and falls to that of its upper one; its height is
    `2 / (upper - lower)` (Slaney 1998, `mfcc.m`; `norm="slaney"` elsewhere).

    Args:
        mels: how many.
        n_fft: the length of the windows; there are `n_fft // 2 + 1` bins.
        sample_rate: samples a second; the filters span 0 to half of it.

    Raises:
        InputError: a count below 1, or so many filters that some lie between two bins.

    >>> mel_filters(mels=3, n_fft=8, sample_rate=8000).shape
    torch.Size([3, 5])
    """
    if min(mels, n_fft // 2, sample_rate) < 1:
        raise InputError(
            "mel filters of these sizes cannot be made",
            expected="mels and sample_rate of at least 1, n_fft of at least 2",
            got=f"mels={mels}, n_fft={n_fft}, sample_rate={sample_rate}",
        )
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    ends = _mels_of(torch.tensor([0.0, sample_rate / 2], dtype=torch.float64))
    edges = _hertz_of(torch.linspace(0, float(ends[1]), mels + 2, dtype=torch.float64))
    lower, centre, upper = (edges[i : i + mels, None] for i in range(3))
    rise, fall = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    filters = torch.minimum(rise, fall).clamp(min=0) * 2 / (upper - lower)
    if not bool(filters.any(dim=1).all()):
        raise InputError(
            "some mel filters lie between two bins and would hear nothing",
            expected=f"fewer filters, or windows longer than n_fft={n_fft}",
            got=f"mels={mels} up to {sample_rate / 2:,.0f} Hz",
        )
    return filters.float()


def log_mel_spectrogram(
    waveform: Float[Tensor, " samples"],
    *,
    n_fft: int = 400,
    hop_length: int = 160,
    mels: int = 80,
    sample_rate: int = 16_000,
) -> Float[Tensor, "frames mels"]:
    """What a model reads of a recording: `(max(x, max(x) - 8) + 4) / 4`, for the decimal logarithm x of the mel power.

    Power is that of Hann windows (periodic) around every `hop_length`-th sample, the ends reflected; it is at least
    1e-10. At 16,000 Hz a window spans 25 ms and a frame 10 ms. The numbers are those of Whisper (Radford et al. 2023)
    and of librosa's `melspectrogram`.

    Args:
        waveform: samples between -1 and 1.
        n_fft: the length of the windows.
        hop_length: samples from one frame to the next; there are `samples // hop_length + 1` frames.
        mels: how many filters (see `mel_filters`).
        sample_rate: the rate that the filters are laid out for.

    Raises:
        InputTypeError: samples that are no floating-point numbers.
        InputError: fewer samples than half a window, which cannot be reflected; NaN or infinity.

    >>> second = torch.sin(torch.arange(16_000) * 0.1)
    >>> log_mel_spectrogram(second).shape
    torch.Size([101, 80])
    """
    if not waveform.is_floating_point():
        raise InputTypeError("waveform cannot be heard", expected="floating-point samples", got=str(waveform.dtype))
    if waveform.shape[0] <= n_fft // 2:
        raise InputError(
            "waveform is too short for a spectrum",
            expected=f"more than {n_fft // 2} samples",
            got=str(waveform.shape[0]),
        )
    ends = F.pad(waveform[None, None], (n_fft // 2, n_fft // 2), mode="reflect")[0, 0]
    window = torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device)
    filters = mel_filters(mels, n_fft, sample_rate).to(waveform)
    # Some frames at a time, so that they stay in the cache; over real windows the transform takes half the time of
    # torch.stft.
    some = (torch.fft.rfft(frames * window) for frames in ends.unfold(0, n_fft, hop_length).split(_FRAMES))
    power = torch.cat([(one.real.square() + one.imag.square()) @ filters.T for one in some])
    log = power.clamp(min=_FLOOR).log10()
    loudest = log.max()
    if not bool(torch.isfinite(loudest)):  # whatever a sample is, its window comes to it
        raise InputError("waveform holds NaN or infinity")
    return (torch.maximum(log, loudest - _RANGE) + 4) / 4


def spec_augment(
    log_mel: Float[Tensor, "frames mels"],
    generator: torch.Generator,
    *,
    time_masks: int = 2,
    max_time: int = 20,
    mel_masks: int = 2,
    max_mels: int = 15,
) -> Float[Tensor, "frames mels"]:
    """Hides stretches of time and bands of frequency behind the mean (Park et al. 2019, section 2, without warping).

    The width of each is drawn evenly from 0 to its greatest, then its place. Of a short recording no stretch takes more
    than a fifth.

    Args:
        log_mel: one recording.
        generator: decides what is hidden.
        time_masks, max_time: how many stretches, and their greatest width in frames.
        mel_masks, max_mels: how many bands, and their greatest width.

    >>> hidden = spec_augment(torch.rand(50, 80), torch.Generator().manual_seed(0))
    >>> hidden.shape
    torch.Size([50, 80])
    """
    hidden, mean = log_mel.clone(), log_mel.mean()
    frames, mels = log_mel.shape
    for axis, length, count, widest in (
        (0, frames, time_masks, min(max_time, frames // 5)),
        (1, mels, mel_masks, min(max_mels, mels)),
    ):
        for _ in range(count):
            width = int(torch.randint(widest + 1, (), generator=generator))
            start = int(torch.randint(length - width + 1, (), generator=generator))
            hidden.narrow(axis, start, width).copy_(mean)
    return hidden


def _mels_of(hertz: Tensor) -> Tensor:
    above = _KNEE_MELS + (hertz.clamp(min=_KNEE_HERTZ) / _KNEE_HERTZ).log() * _LOG_STEP
    return torch.where(hertz < _KNEE_HERTZ, hertz / _HERTZ_A_MEL, above)


def _hertz_of(mels: Tensor) -> Tensor:
    above = _KNEE_HERTZ * ((mels.clamp(min=_KNEE_MELS) - _KNEE_MELS) / _LOG_STEP).exp()
    return torch.where(mels < _KNEE_MELS, mels * _HERTZ_A_MEL, above)
