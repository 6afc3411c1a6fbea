"""What the recipe `glove` computes: counts from n-grams or text, and both models at every dimension by both solvers."""

import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from qkv.data import docstrings, find, read_ngrams
from qkv.data.docstrings import PACKAGES
from qkv.errors import InputError
from qkv.files import read_text_lines
from qkv.vectors.cooccurrence import Cooccurrence, count_cooccurrence
from qkv.vectors.corpus import text_files
from qkv.vectors.dense_glove import DenseGlove, Optima, descend, exact, log_counts, parameters

DOCSTRINGS = "docstrings"
Model = Literal["asymmetric", "symmetric"]
MODELS: tuple[Model, ...] = get_args(Model)
Solver = Literal["exact", "gradient"]


@dataclass(frozen=True)
class Matrices:
    """Words, and the logarithms of what was counted over the parts for training and validation."""

    words: Sequence[str]
    frequencies: Sequence[int]
    train: Float64[np.ndarray, "words words"]
    valid: Float64[np.ndarray, "words words"]
    told: str

    @property
    def symmetrised(self) -> Float64[np.ndarray, "words words"]:
        return (self.train + self.train.T) / 2


def read_matrices(
    data: str,
    *,
    packages: Sequence[str] = PACKAGES,
    delta: float,
    words: int,
    window: int,
    valid_share: float,
    seed: int,
) -> Matrices:
    """Counts of consecutive words from n-grams with their own parts, or from text of which a share is held out.

    Args:
        data: `docstrings`, a named set, or the path of an npz file of n-grams, of a text, or of a folder of texts.
        packages: of docstrings, installed packages that are read beside Python's library.
        words: of a text, as many of the most frequent.
        window: in a text, how many of the words that follow are counted.
        valid_share: of the documents of a text, which are its lines.
        seed: decides which.

    Raises:
        InputError: an unknown name, too little text.
        DataError: a file that cannot be read.
    """
    path = None if data == DOCSTRINGS else find(data)
    if path is not None and path.is_file() and zipfile.is_zipfile(path):
        grams = read_ngrams(path)
        train, valid = (Cooccurrence.from_ngrams(part, grams.words) for part in (grams.train, grams.valid))
        told = f"{len(grams.train):,} {grams.train.shape[1]}-grams for training, {len(grams.valid):,} for validation"
    else:
        texts = docstrings(packages) if path is None else _documents(path)
        held_out = round(len(texts) * valid_share)
        if not 0 < held_out < len(texts):
            raise InputError(
                "too little text to hold some out",
                expected="documents for training and for validation; a line is one",
                got=f"{len(texts)} and a share of {valid_share:g} for validation",
            )
        order = np.random.default_rng(seed).permutation(len(texts)).tolist()
        parts = [[texts[place] for place in places] for places in (order[held_out:], order[:held_out])]
        how = {"weighting": "flat", "symmetric": False, "window": window}
        train = count_cooccurrence(parts[0], min_count=1, max_words=words, **how)
        valid = count_cooccurrence(parts[1], words=train.words, **how)
        told = f"{len(parts[0]):,} documents for training, {held_out:,} for validation"
    logs, others = (log_counts(counts.toarray(), delta) for counts in (train, valid))
    return Matrices(train.words, train.frequencies.tolist(), logs, others, f"{len(train.words):,} words; {told}")


def _documents(path: Path) -> list[str]:
    return [line for file in text_files(path) for _, line in read_text_lines(file) if line.strip()]


@dataclass(frozen=True)
class Point:
    """A model of one dimension by one solver, and its losses on both parts."""

    model: Model
    solver: Solver
    dim: int
    training: float
    validation: float
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Curves:
    """The losses of one descent, before the first step and after each."""

    model: Model
    dim: int
    training: Sequence[float]
    validation: Sequence[float]


@dataclass(frozen=True)
class Solved:
    """The optimum of a model at every dimension, and its losses on both parts from 0 dimensions on."""

    optima: Optima
    training: Float64[np.ndarray, " dims"]
    validation: Float64[np.ndarray, " dims"]
    seconds: float

    @property
    def best(self) -> int:
        """The dimension of the lowest validation loss, of all there are."""
        return 1 + int(self.validation[1:].argmin()) if len(self.validation) > 1 else 1

    def points(self, model: Model, dims: Sequence[int]) -> list[Point]:
        words, last = len(self.optima.widest.b), len(self.training) - 1
        return [
            Point(
                model,
                "exact",
                dim,
                float(self.training[min(dim, last)]),
                float(self.validation[min(dim, last)]),
                parameters(words, dim, symmetric=model == "symmetric"),
                self.seconds,
            )
            for dim in dims
        ]


def solve(matrices: Matrices, model: Model, *, symmetrised: bool) -> Solved:
    """All optima of a model towards the matrix of training, or towards its symmetrised form."""
    target = matrices.symmetrised if symmetrised else matrices.train
    began = time.perf_counter()
    optima = exact(target, symmetric=model == "symmetric")
    seconds = time.perf_counter() - began
    # Losses are those on what was counted, whatever a model was led to.
    training = optima.losses_on(matrices.train) if symmetrised else optima.losses
    return Solved(optima, training, optima.losses_on(matrices.valid), seconds)


def descents(
    matrices: Matrices,
    dims: Sequence[int],
    *,
    symmetrised: bool,
    steps: int,
    rate: float,
    deviation: float,
    seed: int,
    say: Callable[[str], None],
) -> tuple[list[Point], list[Curves]]:
    """Descent of both models at each dimension, with a step of `rate / V`."""
    target = matrices.symmetrised if symmetrised else matrices.train
    watched: Mapping[str, np.ndarray] = {"training": matrices.train, "validation": matrices.valid}
    points, curves = [], []
    for dim in dims:
        for model in MODELS:
            symmetric, words = model == "symmetric", len(target)
            began = time.perf_counter()
            reached = descend(
                target, dim, symmetric=symmetric, steps=steps, rate=rate / words, deviation=deviation, seed=seed,
                watched=watched,
            )  # fmt: skip
            seconds = time.perf_counter() - began
            losses = {part: values.tolist() for part, values in reached.losses.items()}
            last = {part: values[-1] for part, values in losses.items()}
            points.append(
                Point(model, "gradient", dim, **last, parameters=parameters(words, dim, symmetric=symmetric),
                      seconds=seconds)
            )  # fmt: skip
            curves.append(Curves(model, dim, **losses))
            told = f"training {last['training']:,.0f}, validation {last['validation']:,.0f}"
            say(f"{model}, d = {dim:,}: {told} after {steps:,} steps")
    return points, curves


def direct(optima: Optima) -> DenseGlove | None:
    """The model of two dimensions, where there is one."""
    return optima.at(2) if optima.widest.w.shape[1] >= 2 else None
