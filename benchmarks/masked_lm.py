"""A window of words with one hidden: batches a second, beside the algorithm as it is written down.

Run: `python benchmarks/masked_lm.py` with `QKV_DATA` naming the folder that holds `nlm-250`, or `--data
path/to/ngrams_masked.npz`. Prints a table and exits with 1 where a bar is missed. `--json` prints one document instead,
`--threads` and `--rounds` say how it is measured.

The peer is the course's algorithm in NumPy and double precision: one-hot matrices, the outputs of all positions, masked
afterwards, and momentum in arrays of its own. It is measured with one BLAS thread and with two. Everyone has a process
of its own, starts from the same parameters, goes through the same batches with the same words hidden, and is held to
the same losses.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from timing import Finding, judge, options, ratio, seconds, take_turns

from qkv.data import NGramBatches, find, read_ngrams
from qkv.models import WindowConfig, WindowLM
from qkv.train import FitConfig, RunFolder, fit
from qkv.types import NGramBatch

BATCH, RATE, MOMENTUM = 100, 0.1, 0.9
BATCHES = 300  # in a turn
WHOLE = 16_000
Step = Callable[[NGramBatch], float]


class Written:
    """The algorithm as it is written down."""

    def __init__(self, model: WindowLM):
        self.words, self.length = model.vocab, model.length
        self.parameters = {name: value.detach().double().numpy().copy() for name, value in model.named_parameters()}
        self.moved = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.one_hot = np.eye(self.words)

    def step(self, batch: NGramBatch) -> float:
        """One step of descent; returns the mean loss before it."""
        ids, hidden, count = batch.ids.numpy(), batch.hidden.numpy(), len(batch.ids)
        e, w1, w2 = (
            self.parameters[name]
            for name in ("word_embedding_weights", "embed_to_hid_weights", "hid_to_output_weights")
        )
        read = self.one_hot[np.where(hidden, 0, ids)]
        embedded = (read @ e).reshape(count, -1)
        units = 1 / (1 + np.exp(-(embedded @ w1.T + self.parameters["hid_bias"])))
        outputs = (units @ w2.T + self.parameters["output_bias"]).reshape(count, self.length, self.words)
        outputs -= outputs.max(axis=2, keepdims=True)
        y = np.exp(outputs)
        y /= y.sum(axis=2, keepdims=True)
        target, mask = self.one_hot[ids], hidden[:, :, None]
        loss = -np.sum(mask * target * np.log(y + 1e-30)) / count

        d_outputs = (mask * (y - target)).reshape(count, -1)
        d_units = (d_outputs @ w2) * units * (1 - units)
        d_embedded = (d_units @ w1).reshape(count, self.length, -1)
        gradients = {
            "word_embedding_weights": sum(read[:, n].T @ d_embedded[:, n] for n in range(self.length)),
            "embed_to_hid_weights": d_units.T @ embedded,
            "hid_bias": d_units.sum(axis=0),
            "hid_to_output_weights": d_outputs.T @ units,
            "output_bias": d_outputs.sum(axis=0),
        }
        for name, gradient in gradients.items():
            self.moved[name] = MOMENTUM * self.moved[name] + gradient / count
            self.parameters[name] -= RATE * self.moved[name]
        return float(loss)


class Ours:
    """A step of `qkv.train.fit`."""

    def __init__(self, model: WindowLM):
        self.model = model
        self.moved = {name: np.zeros_like(value.detach().numpy()) for name, value in model.named_parameters()}

    def step(self, batch: NGramBatch) -> float:
        return self.model.descend(batch, self.moved, rate=RATE, momentum=MOMENTUM)


def started(words: int, length: int) -> WindowLM:
    torch.manual_seed(0)
    return WindowLM(WindowConfig(), words, length)


class Descent:
    """One contender on its way through the batches, and the losses that it met."""

    def __init__(self, step: Step, batches: NGramBatches):
        self.step = step
        self.batches: Iterator[NGramBatch] = (batch for epoch in range(99) for batch in batches.epoch(epoch))
        self.losses: list[float] = []

    def turn(self) -> float:
        """Seconds a batch."""
        batches = list(islice(self.batches, BATCHES))
        return seconds(lambda: self.losses.extend(map(self.step, batches))) / BATCHES


class Apart:
    """A contender in a process of its own: waiting threads of one would take the processors from another."""

    def __init__(self, data: Path, kind: str, *, blas: int = 1, threads: int = 1):
        start = (data, kind, blas, threads)
        self.process = ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=start)

    def turn(self) -> float:
        return self.process.submit(_turn).result()

    def losses(self) -> np.ndarray:
        return np.array(self.process.submit(_losses).result())


def _begin(data: Path, kind: str, blas: int, threads: int) -> None:
    global _descent, _turn_of
    torch.set_num_threads(threads)
    threadpool_limits(blas, user_api="blas")
    train, words = batches_of(data)
    if kind == "fit":
        _turn_of = partial(fitted, train, words)
        return
    model = started(words, train.rows.shape[1])
    _descent = Descent((Written if kind == "written" else Ours)(model).step, train)
    _turn_of = _descent.turn


def _turn() -> float:
    return _turn_of()


def _losses() -> list[float]:
    return _descent.losses


def batches_of(data: Path) -> tuple[NGramBatches, int]:
    """Rows to train on, and how many words there are."""
    grams = read_ngrams(data)
    return NGramBatches(grams.train, batch_size=BATCH, seed=0, hide="random"), len(grams.words)


def fitted(train: NGramBatches, words: int) -> float:
    """Seconds a batch of `fit` from its first to its last, its batches made and its measurements written."""
    config = FitConfig(
        optimizer="sgd", learning_rate=RATE, momentum=MOMENTUM, weight_decay=0, clip_norm=None, warmup_steps=0,
        schedule="constant", precision="float32", steps=4 * BATCHES, log_every=100, epochs=99,
    )  # fmt: skip
    valid = NGramBatches(train.rows[:1], batch_size=1, seed=0, hide="each", shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", recipe="masked-lm", config={}, seed=0)
        return fit(started(words, train.rows.shape[1]), train, valid, config, run).seconds / (4 * BATCHES)


def speed(data: Path, threads: int, rounds: int) -> list[Finding]:
    one, two = Apart(data, "written"), Apart(data, "written", blas=2)
    alone, ours = Apart(data, "qkv"), Apart(data, "qkv", threads=threads)
    through_fit = Apart(data, "fit", threads=threads)
    contenders = {"written down, one BLAS thread": one, "written down, two": two, "qkv, one thread": alone, "qkv": ours}
    times = take_turns({name: x.turn for name, x in (contenders | {"fit": through_fit}).items()}, rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    expected = one.losses()
    apart = max(float(np.abs(other.losses() / expected - 1).max()) for other in (two, alone, ours))
    return [
        *(Finding(f"batches a second: {name}", 1 / median) for name, median in medians.items()),
        Finding("times as fast as written down, one BLAS thread",
                ratio(times["written down, one BLAS thread"], times["qkv"]), at_least=9, seconds=times),
        Finding("times as fast as written down, two BLAS threads",
                ratio(times["written down, two"], times["qkv"]), at_least=7.5),
        Finding("one thread each", ratio(times["written down, one BLAS thread"], times["qkv, one thread"])),
        Finding(f"{WHOLE:,} batches, seconds", WHOLE * medians["qkv"], at_most=6),
        Finding(f"{WHOLE:,} batches through fit, seconds", WHOLE * medians["fit"]),
        Finding(f"losses of {len(expected):,} batches, largest relative difference", apart, at_most=1e-4),
    ]  # fmt: skip


def main() -> None:
    parser = options("A step of the window network beside the algorithm as it is written down.")
    parser.add_argument("--data", type=Path, help="4-grams with a mask (npz); by default the named set nlm-250")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        sys.exit("--rounds: 1 or more")
    data = arguments.data or find("nlm-250")
    judge({"Speed": lambda: speed(data, arguments.threads, arguments.rounds)}, as_json=arguments.json)


if __name__ == "__main__":
    main()
