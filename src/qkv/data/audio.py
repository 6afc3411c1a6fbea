"""Sound: recordings read from files, brought to one rate, and turned into what a model reads."""

import io
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from jaxtyping import Float32
from pydantic import Field, PositiveInt
from torch import Tensor

from qkv.errors import DataError, InputError
from qkv.files import require_file
from qkv.functional import log_mel_spectrogram
from qkv.types import Config

Waveform = Float32[np.ndarray, " _samples"]

_SILENT = 1e-4  # of full scale: 80 decibels below it, fainter than the noise of 13 bits


class FeatureConfig(Config):
    """What is made of a recording before a model reads it."""

    sample_rate: int = Field(default=16_000, ge=1000)
    """Samples a second; recordings of another rate are resampled to it."""
    mel_rate: PositiveInt | None = None
    """Lay the mel filters out for so many samples a second and resample nothing, whatever rate a recording has."""
    n_fft: PositiveInt = 400
    """Samples in a window."""
    hop_length: PositiveInt = 160
    """Samples from one frame to the next."""
    mels: PositiveInt = 80
    """Mel filters: numbers in a frame."""

    @property
    def seconds_a_frame(self) -> float:
        """How much time lies between two frames; of recordings that are not resampled, as `mel_rate` counts it."""
        return self.hop_length / (self.mel_rate or self.sample_rate)


@dataclass(frozen=True)
class Audio:
    """The samples of a recording, between -1 and 1; several channels are averaged, and `channels` says how many."""

    waveform: Waveform
    sample_rate: int
    channels: int = 1

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.sample_rate


def read_audio(path: str | Path, *, max_seconds: int | float = 60.0) -> Audio:
    """Reads a recording: WAV, FLAC, OGG, MP3, AIFF and whatever else libsndfile knows.

    Raises:
        DataError: no such file, no recording, one without samples, a silent one, or one longer than `max_seconds`,
            which is told from its header alone.
    """
    with require_file(path).open("rb") as file:
        return decode_audio(file, path, max_seconds=max_seconds)


def decode_audio(file: BinaryIO | bytes, name: str | Path, *, max_seconds: int | float = 60.0) -> Audio:
    """`read_audio` of an open file or its bytes; `name` is what errors call it."""
    try:
        with soundfile.SoundFile(io.BytesIO(file) if isinstance(file, bytes) else file) as sound:
            if sound.frames > max_seconds * sound.samplerate:
                raise DataError(
                    "the recording is too long",
                    expected=f"at most {max_seconds:,.0f} seconds",
                    got=f"{sound.frames / sound.samplerate:,.0f}",
                    hint="cut it where nobody speaks; each piece is then a recording",
                    path=name,
                )
            samples, rate = sound.read(dtype="float32", always_2d=True), sound.samplerate
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        told = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
        raise DataError(
            f"not a recording that can be read ({told.rstrip('.')})",
            expected="WAV, FLAC, OGG, MP3 or AIFF",
            hint="fetch or record it again, or convert it to WAV",
            path=name,
        ) from error
    if not len(samples):
        raise DataError("the recording is empty", expected="samples", got="a header alone", path=name)
    waveform = samples.mean(axis=1)
    if not np.isfinite(waveform).all():
        raise DataError("the recording holds NaN or infinity", expected="samples between -1 and 1", path=name)
    if np.abs(waveform).max() < _SILENT:
        raise DataError(
            "the recording is silent",
            expected="sound",
            got=f"no sample above {np.abs(waveform).max():.1g} of full scale",
            hint="whether the microphone was on, or another channel",
            path=name,
        )
    return Audio(waveform, rate, samples.shape[1])


def resample(waveform: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """`waveform` at another rate, by a polyphase filter (`scipy.signal.resample_poly`).

    >>> resample(np.ones(8, dtype=np.float32), 8_000, 16_000).shape
    (16,)
    """
    if from_rate == to_rate:
        return waveform
    common = gcd(from_rate, to_rate)
    from scipy.signal import resample_poly  # half a second, which most commands have no use for

    return resample_poly(waveform, to_rate // common, from_rate // common).astype(np.float32)


def changed(audio: Audio, config: FeatureConfig) -> str:
    """What is done to a recording before a model reads it, to be said behind what it is; nothing where it is read as it
    is."""
    several = f", the mean of {audio.channels} channels" if audio.channels > 1 else ""
    if audio.sample_rate == (config.mel_rate or config.sample_rate):
        return several
    if config.mel_rate:
        return f"{several}, of {audio.sample_rate:,} Hz with mel filters for {config.mel_rate:,} Hz"
    return f"{several}, resampled from {audio.sample_rate:,} Hz to {config.sample_rate:,} Hz"


def shortest(config: FeatureConfig) -> int:
    """The fewest samples that a model reads: more than half a window."""
    return config.n_fft // 2 + 1


def too_short(name: str | Path, config: FeatureConfig) -> DataError:
    """The error for fewer samples than that."""
    milliseconds = 1000 * shortest(config) / (config.mel_rate or config.sample_rate)
    return DataError("the recording is too short", expected=f"at least {milliseconds:.0f} milliseconds", path=name)


def at_rate(audio: Audio, config: FeatureConfig) -> Waveform:
    """The samples of `audio` at the rate that `config` asks for."""
    return audio.waveform if config.mel_rate else resample(audio.waveform, audio.sample_rate, config.sample_rate)


def log_mel_of(waveform: Waveform, config: FeatureConfig) -> Float32[Tensor, "frames mels"]:
    """What a model reads of samples that are at the rate that `config` asks for.

    Raises:
        InputError: fewer samples than half a window.
    """
    return log_mel_spectrogram(
        torch.from_numpy(waveform),
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        mels=config.mels,
        sample_rate=config.mel_rate or config.sample_rate,
    )


def played_at(waveform: Waveform, speed: int | float) -> Waveform:
    """`waveform` played faster or slower, its pitch with it (Ko et al. 2015): linear between samples.

    >>> played_at(np.arange(6, dtype=np.float32), 2.0)
    array([0., 2., 4.], dtype=float32)
    """
    if speed <= 0:
        raise InputError("speed cannot be used", expected="above 0", got=str(speed))
    places = np.arange(0, len(waveform) - 1, speed)
    return np.interp(places, np.arange(len(waveform)), waveform).astype(np.float32)
