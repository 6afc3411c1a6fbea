"""A trained model of speech with its vocabulary: recordings in, text out, and what was attended to on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qkv import files
from qkv.data import (
    FeatureConfig,
    Recording,
    Vocabulary,
    frame_count,
    frames_of,
    padded_frames,
    speech_batch,
)
from qkv.errors import InputError, RunError
from qkv.models import SearchOptions, SpeechConfig, SpeechToText
from qkv.models.speech_to_text import DecoderName
from qkv.recipes.base import device
from qkv.trace import record
from qkv.train import RunFolder
from qkv.types import AttentionMap, Run

VOCABULARY = "vocabulary.json"
_ROWS = 64  # recordings that are searched at once


@dataclass(frozen=True)
class Heard:
    """A recording that was read: its text, the tokens said, and what each attended to, by the time in seconds."""

    text: str
    tokens: list[str]
    log_mel: torch.Tensor
    seconds: float
    maps: list[AttentionMap]


@dataclass(frozen=True)
class Transcriber:
    """A model with its vocabulary."""

    model: SpeechToText
    vocabulary: Vocabulary
    features: FeatureConfig
    sizes: SpeechConfig
    beam_size: int = 1
    length_penalty: float = 0.6

    @property
    def device(self) -> torch.device:
        return self.model.decoder.output.weight.device

    def transcribe(self, recordings: Sequence[Recording]) -> list[str]:
        """The text of each recording; neighbours in length are read together.

        Raises:
            InputError: a recording of more frames than the model has positions for.
        """
        texts = [""] * len(recordings)
        order = sorted(range(len(recordings)), key=lambda index: len(recordings[index].sound))
        for start in range(0, len(order), _ROWS):
            some = order[start : start + _ROWS]
            for index in some:
                self.require_room(recordings[index])
            log_mel, real = padded_frames([frames_of(recordings[index], self.features) for index in some])
            found = self.model.transcribe(log_mel.to(self.device), real.to(self.device), self.options)
            for index, one in zip(some, found, strict=True):
                texts[index] = self.vocabulary.decode(one.ids)
        return texts

    def hear(self, recording: Recording) -> Heard:
        """The text of one recording with every attention map of the forward pass over both."""
        self.require_room(recording)
        frames = frames_of(recording, self.features)
        log_mel, real = (part.to(self.device) for part in padded_frames([frames]))
        ids = self.model.transcribe(log_mel, real, self.options)[0].ids
        batch = speech_batch([frames], [ids]).to(self.device)
        with record() as trace, torch.inference_mode():
            self.model(batch.log_mel, batch.log_mel_mask, batch.target[:, :-1])
        said = self.vocabulary.tokens(batch.target[0].tolist())
        a_frame = self.features.seconds_a_frame
        times = [f"{2 * a_frame * place:.2f} s" for place in range(-(-len(frames) // 2))]
        maps = []
        for step in trace.attention():
            if step.facts["kind"] == "cross":  # a row of the decoder is named by the token that it is about to say
                labels = (said[1:], times)
            else:
                labels = (times, times) if step.name.startswith("encoder") else (said[:-1], said[:-1])
            maps.append(AttentionMap.from_step(step, *labels))
        return Heard(self.vocabulary.decode(ids), said[1:], frames, len(frames) * a_frame, maps)

    @property
    def options(self) -> SearchOptions:
        vocabulary = self.vocabulary
        return SearchOptions(
            bos_id=vocabulary.bos_id,
            eos_id=vocabulary.eos_id,
            beam_size=self.beam_size,
            length_penalty=self.length_penalty,
            max_length=self.sizes.max_length - 1,
            forbidden=(vocabulary.pad_id, vocabulary.bos_id, vocabulary.unk_id),
            scored=False,
        )

    def require_room(self, recording: Recording) -> None:
        """Refuses a recording that is longer than the model has positions for."""
        frames = frame_count(recording, self.features)
        if frames > self.sizes.max_frames:
            raise InputError(
                f"{recording.name} is too long for this model",
                expected=f"at most {self.sizes.max_frames:,} frames",
                got=f"{frames:,}",
                hint="cut it where nobody speaks",
            )


def load(
    run: Run, model: DecoderName, features: FeatureConfig, sizes: SpeechConfig, beam_size: int, length_penalty: float
) -> Transcriber:
    """The transcriber that a finished run left.

    Raises:
        RunError: the weights are not those of its configuration.
    """
    vocabulary = Vocabulary.from_json(files.require_file(run.path / VOCABULARY).read_text(encoding="utf-8"))
    network = SpeechToText(sizes, len(vocabulary), model, mels=features.mels)
    try:
        network.load_state_dict(RunFolder.open(run.path).load_weights())
    except RuntimeError as error:
        raise RunError("the weights are not those of this configuration", path=run.path) from error
    return Transcriber(network.to(device()).eval(), vocabulary, features, sizes, beam_size, length_penalty)
