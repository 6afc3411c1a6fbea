"""Speech: log-mel spectrograms beside librosa's, training, and decoding with caches beside decoding without.

    python benchmarks/speech.py [--threads 2] [--rounds 5] [--json]

Sizes are those of the recipe: width 200, 2 blocks, 35 symbols, 80 mel filters. "Audio" is seconds of sound that one
second of computing reads; ratios say how many times as fast ours is. Exits with 1 where a bar is missed.
"""

import statistics
import sys
from functools import partial
from typing import Literal

import librosa
import numpy as np
import torch
from timing import Finding, judge, options, ratio, take_turns, timed

from qkv.functional import log_mel_spectrogram
from qkv.models import SearchOptions, SpeechConfig, SpeechToText
from qkv.types import SpeechBatch

RATE, HOP, SYMBOLS = 16_000, 160, 35
BATCH, SECONDS, LETTERS = 32, 4, 60
BOS, EOS = 1, 2


def waveform(seconds: int) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=seconds * RATE).astype(np.float32)


def theirs(samples: np.ndarray) -> np.ndarray:
    """librosa's, brought to the same form."""
    power = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=400, hop_length=HOP, n_mels=80, pad_mode="reflect")
    log = np.log10(np.maximum(power, 1e-10))
    return ((np.maximum(log, log.max() - 8) + 4) / 4).T


def spectrograms(seconds: int, rounds: int) -> list[Finding]:
    samples = waveform(seconds)
    off = np.abs(log_mel_spectrogram(torch.from_numpy(samples)).numpy() - theirs(samples)).max()
    if off > 1e-4:
        sys.exit(f"Nothing is timed: the spectrograms differ by {off:.3g}")
    calls = max(1, 30 // seconds)
    runs = {"qkv": lambda: log_mel_spectrogram(torch.from_numpy(samples)), "librosa": lambda: theirs(samples)}
    times = take_turns({name: timed(run, calls) for name, run in runs.items()}, rounds)
    return [
        Finding("as fast as librosa", ratio(times["librosa"], times["qkv"]), at_least=1.0, seconds=times),
        Finding("audio", seconds / statistics.median(times["qkv"])),
    ]


def batch() -> SpeechBatch:
    frames = SECONDS * RATE // HOP
    target = torch.randint(4, SYMBOLS, (BATCH, LETTERS + 2))
    everywhere = torch.ones(BATCH, frames, dtype=torch.bool)
    return SpeechBatch(torch.randn(BATCH, frames, 80), everywhere, target, torch.ones_like(target, dtype=torch.bool))


def train(model: SpeechToText, optimizer: torch.optim.Optimizer, some: SpeechBatch, bfloat16: bool) -> None:
    model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = model.loss(some)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@torch.inference_mode()
def uncached(model: SpeechToText, some: SpeechBatch, length: int) -> list[list[int]]:
    """Greedy decoding that reads everything anew for each token but the recording, which it reads once."""
    memory, real = model.encode(some.log_mel, some.log_mel_mask)
    ids = torch.full((len(some.log_mel), 1), BOS)
    for _ in range(length):
        logits = model.decoder.output(model.decoder(ids, memory, real)[:, -1])
        logits[:, [0, BOS, EOS, 3]] = -torch.inf
        ids = torch.cat((ids, logits.argmax(dim=-1, keepdim=True)), dim=1)
    return ids[:, 1:].tolist()


def decoder(kind: Literal["attention", "lstm"], rounds: int) -> list[Finding]:
    model, some = SpeechToText(SpeechConfig(), SYMBOLS, kind), batch()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    search = SearchOptions(BOS, EOS, max_length=LETTERS, forbidden=(0, BOS, EOS, 3), scored=False)
    audio = BATCH * SECONDS
    steps = take_turns(
        {name: timed(partial(train, model, optimizer, some, name == "bfloat16")) for name in ("float32", "bfloat16")},
        rounds,
    )
    model.eval()
    with_cache = partial(model.transcribe, some.log_mel, some.log_mel_mask, search)
    if [one.ids for one in with_cache()] != uncached(model, some, LETTERS):
        sys.exit("Nothing is timed: decoding with and without caches gives other texts")
    decoding = take_turns(
        {"with caches": timed(with_cache), "without": timed(partial(uncached, model, some, LETTERS))}, rounds
    )
    return [
        *(Finding(f"audio, training in {name}", audio / statistics.median(some)) for name, some in steps.items()),
        Finding("audio, decoding", audio / statistics.median(decoding["with caches"])),
        Finding(
            "decoding as fast as without caches",
            ratio(decoding["without"], decoding["with caches"]),
            at_least=1.0,
            seconds=decoding,
        ),
    ]


def main() -> None:
    arguments = options("Log-mel beside librosa's; training and decoding of speech.").parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    topics = {
        f"Log-mel spectrogram of {seconds} s": partial(spectrograms, seconds, arguments.rounds) for seconds in (2, 30)
    } | {
        f"The {kind} decoder, {BATCH} recordings of {SECONDS} s, {LETTERS} letters": partial(
            decoder, kind, arguments.rounds
        )
        for kind in ("attention", "lstm")
    }
    judge(topics, as_json=arguments.json)


if __name__ == "__main__":
    main()
