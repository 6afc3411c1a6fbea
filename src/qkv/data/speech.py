"""Batches of recordings: log-mel frames, varied while training, and transcripts as ids."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field, NonNegativeInt
from torch import Tensor

from qkv.data.audio import FeatureConfig, log_mel_of, played_at, shortest
from qkv.data.batches import padded
from qkv.data.recordings import Recording
from qkv.data.tokens import BOS_ID, EOS_ID, Vocabulary
from qkv.errors import InputError
from qkv.functional import spec_augment
from qkv.types import Config, SpeechBatch

# Frames come in multiples of this: kernels are made anew for every shape.
_FRAMES = 16


class VariationConfig(Config):
    """How recordings are varied while training: each epoch hears them otherwise."""

    speed: float = Field(default=0.1, ge=0, lt=1)
    """Played up to this share faster or slower, the pitch with it."""
    time_masks: NonNegativeInt = 2
    """Stretches of time that are hidden (SpecAugment)."""
    max_time: NonNegativeInt = 20
    """Their greatest width, in frames."""
    mel_masks: NonNegativeInt = 2
    """Bands of frequency that are hidden."""
    max_mels: NonNegativeInt = 15
    """Their greatest width, in mel filters."""


class SpeechBatches:
    """Cuts recordings into batches of `batch_size`, alike in length, the batches in an order of their own each epoch.

    Args:
        draw: the recordings of an epoch, as many in each; a function of the epoch alone.
        vocabulary: the tokens of transcripts.
        features: what is made of samples.
        batch_size: recordings in a batch.
        seed: with the number of the epoch, all that the order and the variations depend on.
        variation: how recordings are varied; not at all where left out.
        shuffle: False keeps one order, from short to long, for validation.

    Raises:
        InputError: no recordings.
    """

    def __init__(
        self,
        draw: Callable[[int], Sequence[Recording]],
        vocabulary: Vocabulary,
        features: FeatureConfig,
        *,
        batch_size: int,
        seed: int,
        variation: VariationConfig | None = None,
        shuffle: bool = True,
    ):
        self._draw, self._vocabulary, self._features = draw, vocabulary, features
        self._variation, self.seed, self.shuffle = variation, seed, shuffle
        count = len(draw(0))
        if not count:
            raise InputError("no recording to make batches of")
        self._cuts = [*range(0, count, batch_size), count]

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._cuts) - 1

    def epoch(self, number: int, start: int = 0) -> Iterator[SpeechBatch]:
        """The batches of an epoch, from batch `start` on."""
        recordings = self._draw(number)
        order = np.argsort([len(one.sound) for one in recordings], kind="stable")
        batches = [order[first:last] for first, last in pairwise(self._cuts)]
        if self.shuffle:
            permutation = np.random.default_rng((self.seed, number)).permutation(len(batches))
            batches = [batches[i] for i in permutation]
        for place, rows in list(enumerate(batches))[start:]:
            yield self._batch([recordings[i] for i in rows], (self.seed, number, place))

    def _batch(self, recordings: Sequence[Recording], seed: tuple[int, int, int]) -> SpeechBatch:
        generator = np.random.default_rng(seed)
        frames = [self._frames(one, generator) for one in recordings]
        return speech_batch(frames, self._vocabulary.encode_many([one.text for one in recordings]))

    def _frames(self, recording: Recording, generator: np.random.Generator) -> Float[Tensor, "frames mels"]:
        variation = self._variation
        if variation is None:
            return frames_of(recording, self._features)
        if recording.sound.ndim == 1 and variation.speed:
            speed = generator.uniform(1 - variation.speed, 1 + variation.speed)
            played = played_at(recording.sound, speed)
            long_enough = len(played) >= shortest(self._features)
            frames = log_mel_of(played if long_enough else recording.sound, self._features)
        else:
            frames = frames_of(recording, self._features)
        return spec_augment(
            frames,
            torch.Generator().manual_seed(int(generator.integers(2**31))),
            **variation.model_dump(exclude={"speed"}),
        )


def frames_of(recording: Recording, features: FeatureConfig) -> Float[Tensor, "frames mels"]:
    """The log-mel frames of a recording."""
    sound = recording.sound
    return log_mel_of(sound, features) if sound.ndim == 1 else torch.from_numpy(sound)


def frame_count(recording: Recording, features: FeatureConfig) -> int:
    """How many frames `frames_of` makes."""
    sound = recording.sound
    return len(sound) // features.hop_length + 1 if sound.ndim == 1 else len(sound)


def padded_frames(
    frames: Sequence[Float[Tensor, "_frames mels"]],
) -> tuple[Float[Tensor, "batch frames mels"], Bool[Tensor, "batch frames"]]:
    """Spectrograms side by side, padded at the end, and where they are real.

    >>> log_mel, real = padded_frames([torch.ones(33, 3), torch.ones(2, 3)])
    >>> log_mel.shape, real.sum(dim=1).tolist()
    (torch.Size([2, 48, 3]), [33, 2])
    """
    lengths = torch.tensor([len(one) for one in frames])
    longest = -(-int(lengths.max()) // _FRAMES) * _FRAMES
    log_mel = torch.stack([torch.nn.functional.pad(one, (0, 0, 0, longest - len(one))) for one in frames])
    return log_mel, torch.arange(longest) < lengths[:, None]


def speech_batch(frames: Sequence[Float[Tensor, "_frames mels"]], ids: Sequence[Sequence[int]]) -> SpeechBatch:
    """One batch of spectrograms and encoded transcripts, in the layout of `SpeechBatch`."""
    return SpeechBatch(*padded_frames(frames), *padded([[BOS_ID, *one, EOS_ID] for one in ids]))
