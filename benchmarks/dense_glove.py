"""GloVe without weights: all optima of 13 dimensions and two models, beside 500 steps of descent to each of them.

Run: `python benchmarks/dense_glove.py` with `QKV_DATA` naming the folder that holds `nlm-250`, or
`--data path/to/ngrams.npz`. Prints tables and exits with 1 where a bar is missed. `--json` prints one document instead,
`--threads` and `--rounds` say how it is measured.

The peer is descent as it is written down, in NumPy and in double precision, with the rate and the steps that are
published (0.05 / V, 500). A turn measures some steps of it at each dimension and both models; steps cost the same from
the first to the last, so their time is scaled to 500.
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from timing import Finding, judge, options, ratio, seconds, take_turns, timed

from qkv.data.ngrams import read_ngrams
from qkv.data.sets import find
from qkv.vectors.cooccurrence import Cooccurrence
from qkv.vectors.dense_glove import DenseGlove, Optima, descend, exact, log_counts

DIMS = (1, 2, 5, 8, 10, 32, 64, 128, 256, 512, 1024, 2048, 4096)
STEPS, SOME = 500, 3
Matrix = np.ndarray
MODELS = {"asymmetric": False, "symmetric": True}


def published(m: Matrix, dim: int, steps: int, *, symmetric: bool) -> DenseGlove:
    """Descent as it is written down."""
    rng, words = np.random.default_rng(0), len(m)
    w, wt, b, bt = (0.1 * rng.standard_normal(shape) for shape in ((words, dim), (words, dim), words, words))
    if symmetric:
        wt, bt = w, b
    rate = 0.05 / words
    for _ in range(steps):
        residual = w @ wt.T + b[:, None] + bt - m
        if symmetric:
            residual = residual + residual.T
            w, b = w - rate * 2 * residual @ w, b - rate * 2 * residual.sum(axis=1)
            wt, bt = w, b
        else:
            w, wt = w - rate * 2 * residual @ wt, wt - rate * 2 * residual.T @ w
            b, bt = b - rate * 2 * residual.sum(axis=1), bt - rate * 2 * residual.sum(axis=0)
    return DenseGlove(w, wt, b, bt)


def all_steps(m: Matrix) -> float:
    """What 500 steps at each dimension and of both models take, from some: beginnings are not counted."""

    def steps(dim: int, symmetric: bool, count: int) -> float:
        return seconds(partial(published, m, dim, count, symmetric=symmetric))

    return sum(
        (steps(dim, symmetric, 1 + SOME) - steps(dim, symmetric, 1)) / SOME * STEPS
        for dim, symmetric in product(DIMS, MODELS.values())
    )


def optima(m: Matrix) -> dict[str, Optima]:
    """Factors, biases and losses of every dimension, both models."""
    return {name: exact(m, symmetric=symmetric) for name, symmetric in MODELS.items()}


def speed(m: Matrix, rounds: int) -> list[Finding]:
    own: Callable[[], float] = timed(partial(optima, m), calls=20)
    times = take_turns({"qkv": own, "descent": lambda: all_steps(m)}, rounds)
    best = min(times["qkv"])
    return [
        Finding("all 26 optima, milliseconds, median", 1e3 * statistics.median(times["qkv"])),
        Finding("all 26 optima, milliseconds, the least of the rounds", 1e3 * best, at_most=25),
        Finding("times as fast as descent", ratio(times["descent"], times["qkv"]), at_least=1000, seconds=times),
    ]


def losses(m: Matrix, valid: Matrix) -> list[Finding]:
    """Whether every optimum is below where descent comes, and is what it is said to be."""
    found, findings = optima(m), []
    size = float(np.linalg.norm(m))
    for name, symmetric in MODELS.items():
        validation = found[name].losses_on(valid)
        swept = {dim: float(validation[min(dim, len(validation) - 1)]) for dim in DIMS}
        best = min(swept, key=lambda dim: swept[dim])
        findings += [
            Finding(f"{name}: best dimension on validation", best, at_least=10, at_most=10),
            Finding(f"{name}: validation loss there", swept[best]),
        ]
        for dim in DIMS:
            optimum, reached = found[name].at(dim), descend(m, dim, symmetric=symmetric).losses["training"][-1]
            gradients = optimum.gradients(optimum.predicted() - m)
            steepest = max(np.abs(g).max() for g in (gradients.w, gradients.wt, gradients.b, gradients.bt))
            findings += [
                Finding(f"{name}, d = {dim:,}: loss, in descent's", found[name].loss(dim) / reached, at_most=1 + 1e-12),
                Finding(f"{name}, d = {dim:,}: steepest gradient, in |M|", steepest / size, at_most=1e-8),
            ]
    asymmetric, symmetric = found["asymmetric"], found["symmetric"]
    return [
        Finding("asymmetric, d = 10: loss", asymmetric.loss(10), at_least=45_105.5, at_most=45_105.7),
        Finding("asymmetric, d = 256: loss", asymmetric.loss(256), at_most=1e-9),
        Finding("symmetric, d = 4,096: loss", symmetric.loss(4096), at_least=93_702.0, at_most=93_702.2),
        *findings,
    ]


def main() -> None:
    parser = options("All optima of GloVe without weights beside descent.")
    parser.add_argument("--data", type=Path, help="an npz file of n-grams; by default the named set nlm-250")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        sys.exit("--rounds: 1 or more")
    grams = read_ngrams(arguments.data or find("nlm-250"))
    m, valid = (
        log_counts(Cooccurrence.from_ngrams(part, grams.words).toarray()) for part in (grams.train, grams.valid)
    )
    with threadpool_limits(arguments.threads):
        judge({"Speed": lambda: speed(m, arguments.rounds), "Losses": lambda: losses(m, valid)}, as_json=arguments.json)


if __name__ == "__main__":
    main()
