"""Speech to text: an encoder of log-mel spectrograms under an LSTM or an attention decoder."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt

from qkv import files
from qkv.data import (
    Audio,
    FeatureConfig,
    Recording,
    SpeechBatches,
    VariationConfig,
    Vocabulary,
    alphabet_vocabulary,
    at_rate,
    changed,
    digits_by_name,
    find,
    frame_count,
    frames_of,
    joined,
    morse_waveform,
    read_audio,
    read_sounds,
    shortest,
    too_short,
    train_vocabulary,
)
from qkv.errors import InputError
from qkv.models import SpeechConfig, SpeechToText
from qkv.recipes.base import Drawn, Reporter, command, device, validated
from qkv.recipes.speech_data import MORSE, Parts, RecordingsConfig, fingerprint, parts, read
from qkv.recipes.speech_model import VOCABULARY, Transcriber, load
from qkv.recipes.speech_report import drawn, report
from qkv.train import FitConfig, RunFolder, TranscriptScores, fit, mean_loss, transcript_scores
from qkv.types import Json, Run

_MEASURED = 64  # recordings of the validation part that are transcribed after each epoch
_EXAMPLES = 20


class SpeechRunConfig(RecordingsConfig):
    """Which recordings are written down, by which decoder, and how it is trained."""

    model: Literal["lstm", "attention"] = "attention"
    """The decoder; both have the same encoder."""
    data: str = MORSE
    """Recordings: `morse` (generated), a named set such as `fsdd`, or a folder, zip archive, manifest or features."""
    tokens: Literal["character", "subword"] = "character"
    """What a token of a transcript is."""
    vocabulary_size: PositiveInt = 500
    """The most subwords."""
    batch_size: PositiveInt = 32
    """Recordings in a batch, which are alike in length."""
    beam_size: PositiveInt = 1
    """How many transcripts are kept open while searching; 1 is greedy."""
    length_penalty: float = Field(default=0.6, ge=0)
    """How far a beam's scores are normalised by length (alpha of Wu et al., 2016)."""
    features: FeatureConfig = FeatureConfig()
    variation: VariationConfig = VariationConfig()
    network: SpeechConfig = SpeechConfig()
    fit: FitConfig = FitConfig()


CONFIG = SpeechRunConfig
VARIATIONS: Mapping[str, str] = {"models": "model"}
# Tones and voices below 4,000 Hz. A frame of Morse code is about as long as a dot, one of speech 15 ms.
_MORSE: Json = {"sample_rate": 8000, "n_fft": 512, "hop_length": 300, "mels": 40}
_DIGITS: Json = {"sample_rate": 8000, "n_fft": 200, "hop_length": 120, "mels": 40}
PRESETS: Mapping[str, Json] = {
    "tiny": {
        "features": {"sample_rate": 8000, "n_fft": 200, "hop_length": 160, "mels": 40},
        "network": {"embed_dim": 16, "feedforward_dim": 32, "encoder_layers": 1, "dropout": 0.0, "max_length": 20},
        "sequences": 32,
        "judged": 12,
        "letters": [1, 2],
        "batch_size": 16,
        "fit": {"epochs": 2, "precision": "float32", "warmup_steps": 10},
    },
    "morse": {
        "features": _MORSE,
        "variation": {"speed": 0.0, "time_masks": 0, "mel_masks": 0},
        "network": {
            # Two convolutions together see 29 frames, a letter and its neighbours.
            "embed_dim": 96, "num_heads": 4, "feedforward_dim": 192, "encoder_layers": 1, "kernel_size": 15,
            "standardize": True, "dropout": 0.05, "max_length": 20, "ctc_share": 0.5,
        },
        "batch_size": 16,
        "sequences": 1600,
        "growth": 8,
        "fit": {"epochs": 20, "learning_rate": 2e-3, "warmup_steps": 50, "patience": 20},
    },
    "digits": {
        "features": _DIGITS,
        "variation": {"speed": 0.2, "max_mels": 8},
        "network": {"kernel_size": 9, "standardize": True},
        "batch_size": 16,
        "growth": 8,
        "fit": {"epochs": 60, "learning_rate": 1.5e-3, "warmup_steps": 200, "patience": 60},
    },
    "recordings": {
        "network": {"max_length": 200},
        "batch_size": 16,
        "fit": {"epochs": 60, "learning_rate": 1e-3, "warmup_steps": 200, "patience": 10},
    },
}  # fmt: skip


def default_preset(config: SpeechRunConfig) -> str:
    """`morse` for the generated code, `digits` for spoken digits, `recordings` for all others."""
    return {MORSE: "morse", "fsdd": "digits"}.get(config.data, "recordings")


# -- training --------------------------------------------------------------------------------------------------------


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:
    """Trains what the folder's configuration says; leaves weights, vocabulary, result and report."""
    config = validated(SpeechRunConfig, folder.config)
    heard = parts(config.data, config, config.features, folder.seed, reporter.say)
    folder.hold_to_data({name: fingerprint(some) for name, some in heard.fixed.items()})
    vocabulary = _vocabulary(folder, [one.text for one in heard.train(0)], config)
    heard = _with_room(heard, vocabulary, config, reporter)
    torch.manual_seed(folder.seed)
    model = SpeechToText(config.network, len(vocabulary), config.model, mels=config.features.mels)
    transcriber = Transcriber(
        model.to(device()), vocabulary, config.features, config.network, config.beam_size, config.length_penalty
    )

    training = SpeechBatches(
        heard.train,
        vocabulary,
        config.features,
        batch_size=config.batch_size,
        seed=folder.seed,
        variation=config.variation,
    )
    parameters = {name: _count(part) for name, part in (("encoder", model.encoder), ("decoder", model.decoder))}
    reporter.say(
        f"encoder of {parameters['encoder']:,} parameters, {config.model} decoder of {parameters['decoder']:,}; "
        f"{len(vocabulary)} symbols; {len(training)} batches an epoch"
    )
    watched = heard.valid[:_MEASURED]
    at = fit(
        model,
        training,
        _in_order(heard.valid, transcriber, config),
        config.fit,
        folder,
        device=device(),
        other_threads=other_threads,
        on_progress=reporter.progress,
        measure=lambda: _judge(transcriber, watched).metrics,
    )
    reporter.say(f"writing down the {len(heard.test):,} test recordings")
    model.eval()
    began = time.perf_counter()
    judged = _judge(transcriber, heard.test)
    decoding_seconds = time.perf_counter() - began
    a_frame = config.features.seconds_a_frame
    decoded = a_frame * sum(frame_count(one, config.features) for one in heard.test)
    result = {
        "metrics": judged.metrics | {"loss": _loss(transcriber, heard.test, config)},
        "elsewhere": _elsewhere(transcriber, heard, config),
        "baselines": _baselines(heard, config),
        "rank_correlations": {unit: judged.rank_correlations(unit) for unit in ("words", "characters")},
        "unit": (unit := _unit(judged)),
        "disputed": [asdict(one) for one in judged.disputed(_EXAMPLES, unit)],
        "examples": [asdict(one) for one in judged.each[:_EXAMPLES]],
        "recordings": {"train": len(heard.train(0)), **{name: len(some) for name, some in heard.fixed.items()}},
        "test_data": fingerprint(heard.test),
        "parameters": sum(parameters.values()),
        "parts": parameters,
        "symbols": len(vocabulary),
        "steps": at.step,
        "epochs": at.step / len(training),
        "best_step": at.best_step,
        "valid_loss": at.best_loss,
        "seconds": at.seconds,
        "audio_seconds_per_second": at.tokens * a_frame / at.seconds,
        "decoding_audio_seconds_per_second": decoded / decoding_seconds,
    }
    told = command(sys.modules[__name__], "speech", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    shown = transcriber.hear(_telling(heard.test))
    files.write_text(folder.path / "report.html", report(replace(folder.read(), result=result), shown, told))
    folder.write_result(result)
    folder.drop_state()


def _vocabulary(folder: RunFolder, texts: Sequence[str], config: SpeechRunConfig) -> Vocabulary:
    """The vocabulary that the folder has, or one that is made and kept there."""
    path = folder.path / VOCABULARY
    if not path.exists():
        made = (
            alphabet_vocabulary(config.alphabet)
            if config.tokens == "character"
            else train_vocabulary(texts, "subword", config.vocabulary_size)
        )
        files.write_text(path, made.to_json())
    return Vocabulary.from_json(path.read_text(encoding="utf-8"))


def _with_room(heard: Parts, vocabulary: Vocabulary, config: SpeechRunConfig, reporter: Reporter) -> Parts:
    """`heard` without what the model has no positions for; says how much that is."""

    whole = {"train": heard.train(config.growth), **heard.fixed}
    kept = {name: _fitting(some, vocabulary, config) for name, some in whole.items()}
    if kept == whole:
        return heard
    if heard.drawn or not all(kept.values()):
        raise _too_long(config)
    reporter.say(f"left out {sum(map(len, whole.values())) - sum(map(len, kept.values())):,} {_room(config)}")
    train = kept.pop("train")
    return Parts(lambda _: train, kept["valid"], kept["test"], kept.get("stranger", []), drawn=False)


def _fitting(recordings: Sequence[Recording], vocabulary: Vocabulary, config: SpeechRunConfig) -> list[Recording]:
    """Those that the model has positions for."""
    sizes = config.network
    return [
        one
        for one in recordings
        if len(vocabulary.encode(one.text)) + 1 < sizes.max_length
        and frame_count(one, config.features) <= sizes.max_frames
    ]


def _heard(
    recordings: Sequence[Recording], vocabulary: Vocabulary, config: SpeechRunConfig, reporter: Reporter
) -> list[Recording]:
    """Those that the model has positions for; says how many others there are.

    Raises:
        InputError: there are only others.
    """
    kept = _fitting(recordings, vocabulary, config)
    if not kept:
        raise _too_long(config)
    if len(kept) < len(recordings):
        reporter.say(f"left out {len(recordings) - len(kept):,} {_room(config)}")
    return kept


def _room(config: SpeechRunConfig) -> str:
    return f"recordings longer than {config.network.max_frames:,} frames or {config.network.max_length - 2} tokens"


def _too_long(config: SpeechRunConfig) -> InputError:
    return InputError(
        "no recording is short enough for the model",
        got=_room(config),
        hint="--network.max-length and --network.max-frames when it is trained, or shorter sequences",
    )


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# -- judging ---------------------------------------------------------------------------------------------------------


def _judge(transcriber: Transcriber, recordings: Sequence[Recording]) -> TranscriptScores:
    return transcript_scores(transcriber.transcribe(recordings), [one.text for one in recordings])


def _in_order(recordings: Sequence[Recording], transcriber: Transcriber, config: SpeechRunConfig) -> SpeechBatches:
    read_as = (transcriber.vocabulary, config.features)
    return SpeechBatches(lambda _: recordings, *read_as, batch_size=config.batch_size, seed=0, shuffle=False)


def _loss(transcriber: Transcriber, recordings: Sequence[Recording], config: SpeechRunConfig) -> float:
    return mean_loss(transcriber.model, _in_order(recordings, transcriber, config), device=transcriber.device)


def _elsewhere(transcriber: Transcriber, heard: Parts, config: SpeechRunConfig) -> Mapping[str, Mapping[str, float]]:
    """Scores on the speaker kept from training, if there is one."""
    if config.test_speaker is None or not heard.stranger:
        return {}
    loss = _loss(transcriber, heard.stranger, config)
    return {config.test_speaker: _judge(transcriber, heard.stranger).metrics | {"loss": loss}}


def _unit(judged: TranscriptScores) -> Literal["words", "characters"]:
    """What measures are compared on: words, where most transcripts have several."""
    several = sum(" " in one.reference for one in judged.each)
    return "words" if 2 * several > len(judged.each) else "characters"


def _baselines(heard: Parts, config: SpeechRunConfig) -> Json:
    """What is right without listening, and with the recording of training that sounds most alike."""
    train = list(heard.train(config.growth))[:2000]
    references = [one.text for one in heard.test]
    counted = sorted({one.text for one in train})
    lengths = np.array([len(text) for text in counted])
    middling = counted[int(np.abs(lengths - np.median(lengths)).argmin())]
    known, asked = (_outlines(some, config.features) for some in (train, heard.test))
    nearest = (asked @ known.T).argmax(axis=1)
    answers = {
        "always the same transcript": [middling] * len(references),
        "the transcript of what sounds most alike": [train[i].text for i in nearest],
    }
    return {name: transcript_scores(texts, references).metrics for name, texts in answers.items()}


def _outlines(recordings: Sequence[Recording], features: FeatureConfig, columns: int = 24) -> np.ndarray:
    """Each recording as a picture of so many columns, whatever its length, with mean 0 and norm 1."""
    pictures = np.stack(
        [
            torch.nn.functional.interpolate(frames_of(one, features).T[None], columns, mode="linear").flatten().numpy()
            for one in recordings
        ]
    )
    pictures -= pictures.mean(axis=1, keepdims=True)
    return pictures / np.linalg.norm(pictures, axis=1, keepdims=True)


def _telling(recordings: Sequence[Recording]) -> Recording:
    """The recording whose text is nearest to 24 characters: long enough to show an order, short enough to read."""
    return min(recordings, key=lambda one: abs(len(one.text) - 24))


# -- doors -----------------------------------------------------------------------------------------------------------


def evaluate(run: Run, data: str | None, reporter: Reporter) -> Json:
    """Scores a finished run on all recordings of `data`, or again on its own test part.

    Spoken digits are joined to sequences as in training.
    """
    config, transcriber = _load(run)
    if data is None or data == MORSE:
        heard = parts(data or config.data, config, config.features, run.seed, reporter.say).test
    else:
        heard = read(data, config, config.features, reporter.say)
        if data == config.data:
            reporter.say(f"{data}: all recordings, those trained on too; without --data only the test part is scored")
        if digits_by_name(heard):
            drawn_by = np.random.default_rng(config.split_seed)
            heard = joined(heard, config.judged, drawn_by, least=config.digits[0], most=config.digits[1])
    heard = _heard(heard, transcriber.vocabulary, config, reporter)
    judged = _judge(transcriber, heard)
    return {
        "metrics": judged.metrics | {"loss": _loss(transcriber, heard, config)},
        "rank_correlations": {unit: judged.rank_correlations(unit) for unit in ("words", "characters")},
        "recordings": len(heard),
    }


def predict(run: Run, data: str, out: Path, reporter: Reporter) -> Json:
    """Writes down the recordings of `data`, a file, folder or zip archive: a TSV of path and text."""
    config, transcriber = _load(run)
    found = read_sounds(find(data), config.features, max_seconds=config.max_seconds)
    for note in found.notes:
        reporter.say(f"{data}: {note}")
    heard = _heard(found.recordings, transcriber.vocabulary, config, reporter)
    texts = transcriber.transcribe(heard)
    lines = (f"{one.name}\t{text}\n" for one, text in zip(heard, texts, strict=True))
    files.write_text(out, "path\ttext\n" + "".join(lines))
    return {"recordings": len(texts), "out": str(out)}


def show(run: Run, text: str, *, layer: int | None = None, head: int | None = None) -> Drawn:
    """The transcript of a recording, and where in it each token was heard; a run on Morse code keys a word itself.

    Raises:
        InputError: a recording that cannot be used, or no such layer or head.
    """
    config, transcriber = _load(run)
    if config.data == MORSE and not Path(text).suffix and (not text or not Path(text).exists()):
        rate = config.features.sample_rate
        audio = Audio(morse_waveform(text.lower(), np.random.default_rng(0), sample_rate=rate), rate)
    else:
        audio = read_audio(text, max_seconds=config.max_seconds)
    sound = at_rate(audio, config.features)
    if len(sound) < shortest(config.features):
        raise too_short(text, config.features)
    heard = replace(transcriber.hear(Recording(text, "", sound)), seconds=audio.seconds)
    return drawn(heard, changed(audio, config.features), layer=layer, head=head)


def _load(run: Run) -> tuple[SpeechRunConfig, Transcriber]:
    config = validated(SpeechRunConfig, run.config)
    return config, load(run, config.model, config.features, config.network, config.beam_size, config.length_penalty)
