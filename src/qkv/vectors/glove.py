"""GloVe with weights, on the counts of a corpus (Pennington, Socher and Manning 2014).

The loss is the sum over all counts `x_ij` that are not zero of

    f(x_ij) (w_i . c_j + b_i + bt_j - log x_ij)^2,    f(x) = min(1, (x / x_max)^alpha)

(eq. 8 and 9; their `w~` is `c` here), told as the mean of its halves, as their own program tells it.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from qkv import files
from qkv.errors import DataError, InputError, QkvError, RunError, StoppedError, unknown_name
from qkv.stopping import stop_signals
from qkv.types import Config
from qkv.vectors._adagrad import AdaGrad
from qkv.vectors._als import PARTS, LeastSquares, weighted_loss
from qkv.vectors.cooccurrence import Cooccurrence
from qkv.vectors.word_vectors import WordVectors

Kind = Literal["sum", "words", "contexts"]
_KINDS: tuple[Kind, ...] = ("sum", "words", "contexts")
_EPOCHS = {"adagrad": 25, "als": 6}


class GloveConfig(Config):
    """How word vectors are trained from counts."""

    dim: PositiveInt = 50
    """Numbers in a vector."""
    solver: Literal["adagrad", "als"] = "adagrad"
    """`adagrad` descends count by count; `als` solves for all words, then all contexts, after one epoch of descent."""
    epochs: PositiveInt | None = None
    """Passes over all counts: by default 25 of adagrad, 6 of als."""
    x_max: PositiveFloat = 10.0
    """Counts from here on weigh 1, smaller ones less."""
    alpha: PositiveFloat = 0.75
    """How fast the weight falls below `x_max`."""
    learning_rate: PositiveFloat = 0.05
    """AdaGrad's first step."""
    ridge: PositiveFloat = 0.03
    """What als adds to the loss for each squared vector, times the weight of all its counts."""
    seed: NonNegativeInt = 0
    """Decides the first vectors, and the order of counts."""
    save_every: float = Field(default=60.0, ge=0)
    """Seconds between two saves of what going on needs, where there is a folder for it."""

    @property
    def passes(self) -> int:
        return self.epochs or _EPOCHS[self.solver]


class GloveProgress(NamedTuple):
    """Where training stands: epochs done, of how many, the loss of the last one, seconds since training began."""

    epoch: int
    epochs: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class GloveVectors:
    """Trained vectors and biases of words, and of contexts, which are the same words as neighbours.

    Attributes:
        history: the loss of each epoch, the mean over counts of `f(x) (...)^2 / 2`: as it was met on the way for
            adagrad, exact at the end of each sweep for als.
    """

    words: list[str]
    word_matrix: Float32[np.ndarray, "words dim"]
    context_matrix: Float32[np.ndarray, "words dim"]
    word_bias: Float32[np.ndarray, " words"]
    context_bias: Float32[np.ndarray, " words"]
    history: list[float] = field(default_factory=list)

    def word_vectors(self, kind: Kind = "sum") -> WordVectors:
        """The vectors to look words up in: the `sum` of both, as GloVe's are published, or one of them.

        Raises:
            InputError: another kind.
        """
        if kind not in _KINDS:
            raise unknown_name("kind of vectors", kind, _KINDS)
        matrices = {"words": self.word_matrix, "contexts": self.context_matrix}
        return WordVectors(self.words, matrices.get(kind, self.word_matrix + self.context_matrix))

    def _tables(self) -> list[np.ndarray]:
        """`[w, b, 1]` for words, `[c, 1, bt]` for contexts: their product is all that is compared with `log x`."""
        one = np.ones_like(self.word_bias)
        return [
            np.column_stack([self.word_matrix, self.word_bias, one]),
            np.column_stack([self.context_matrix, one, self.context_bias]),
        ]


def glove_loss(cooccurrence: Cooccurrence, vectors: GloveVectors, *, x_max: float = 10.0, alpha: float = 0.75) -> float:
    """The mean over all counts that are not zero of `f(x) (w . c + b + bt - log x)^2 / 2`.

    Raises:
        InputError: vectors of other words.
    """
    if vectors.words != cooccurrence.words:
        raise InputError("vectors do not fit the counts", expected="vectors of the same words in the same order")
    threads = torch.get_num_threads()
    tables = vectors._tables()
    total = weighted_loss(cooccurrence.counts, tables, x_max=x_max, alpha=alpha, threads=threads)
    return total / 2 / cooccurrence.entries


def train_glove(
    cooccurrence: Cooccurrence,
    config: GloveConfig | None = None,
    *,
    state: str | Path | None = None,
    threads: int | None = None,
    progress: Callable[[GloveProgress], None] = lambda _: None,
) -> GloveVectors:
    """Trains vectors from counts; the same counts and settings give the same vectors, with any number of threads.

    Args:
        state: a folder in which is kept what going on needs: training that was stopped goes on from there, and comes
            to the same vectors, bit for bit. Nothing is kept without one.
        threads: how many to use, as many as torch has by default.

    Raises:
        InputError: a dimension above the number of words; no counts.
        RunError: a state of other counts or settings.
        StoppedError: on Ctrl-C or a termination signal, once the state is kept.

    >>> from qkv.vectors import count_cooccurrence
    >>> counted = count_cooccurrence(["the cat sat on the mat", "the dog sat on the log"], min_count=1)
    >>> trained = train_glove(counted, GloveConfig(dim=2, epochs=3))
    >>> trained.word_matrix.shape, trained.history[2] < trained.history[0]
    ((7, 2), True)
    """
    config = config or GloveConfig()
    size = len(cooccurrence.words)
    if not cooccurrence.entries:
        raise InputError("no counts to train from", expected="words that stand together")
    if not np.isfinite(cooccurrence.counts.data).all() or cooccurrence.counts.data.min() <= 0:
        raise InputError("counts that have no logarithm", expected="counts above zero")
    if config.dim > size:
        raise InputError(
            "more dimensions than words", expected=f"at most {size}", got=f"{config.dim}", hint=f"--dim {size}"
        )
    loop = _Loop(cooccurrence, config, None if state is None else Path(state), threads or torch.get_num_threads())
    with stop_signals() as stopped:
        loop.run(stopped, progress)
    return loop.vectors()


class _Loop:
    """One training in memory: epochs of units, between any two of which it can be stopped."""

    def __init__(self, cooccurrence: Cooccurrence, config: GloveConfig, state: Path | None, threads: int):
        self.cooccurrence, self.config, self.state = cooccurrence, config, state
        self.epoch = self.unit = 0
        self.cost, self.history = 0.0, []
        tables = _first_tables(len(cooccurrence.words), config)
        self.asked = {"x_max": config.x_max, "alpha": config.alpha, "threads": threads}
        self.descent: AdaGrad | None = AdaGrad(
            cooccurrence.counts, tables, **self.asked, rate=config.learning_rate, seed=config.seed
        )
        self.squares: LeastSquares | None = None
        if state is not None:
            files.clear_cut_writes(state)
            files.finish_swap(state)
            if state.exists():
                self._load(state)

    def run(self, stopped: Callable[[], bool], progress: Callable[[GloveProgress], None]) -> None:
        began = saved = time.monotonic()
        while self.epoch < self.config.passes:
            self._step()
            if self.unit == 0:
                if not np.isfinite(self.history[-1]):
                    raise QkvError(f"the loss is not finite after epoch {self.epoch}", hint="a smaller --learning-rate")
                progress(GloveProgress(self.epoch, self.config.passes, self.history[-1], time.monotonic() - began))
            stop = stopped() and self.epoch < self.config.passes
            if self.state is not None and (stop or time.monotonic() - saved >= self.config.save_every):
                self._save(self.state)
                saved = time.monotonic()
            if stop:
                kept, hint = ("; all is kept", "the same again, which goes on") if self.state is not None else ("", "")
                told = f"stopped in epoch {self.epoch + 1} of {self.config.passes}{kept}"
                raise StoppedError(told, hint=hint, path=self.state)

    def _step(self) -> None:
        """One unit of the epoch; the last one ends it."""
        if self.config.solver == "als" and self.epoch > 0:
            self._begin_squares().step(self.unit)
            units = 2 * PARTS
        else:
            assert self.descent is not None
            self.cost += self.descent.step(self.epoch, self.unit)
            units = self.descent.blocks
        self.unit += 1
        if self.unit == units:
            cost = self.cost if self.squares is None else self.squares.loss()
            self.history.append(cost / 2 / self.cooccurrence.entries)
            self.epoch, self.unit, self.cost = self.epoch + 1, 0, 0.0

    def _begin_squares(self) -> LeastSquares:
        """Least squares from where descent has come to."""
        if self.squares is None:
            assert self.descent is not None
            self.squares = LeastSquares(
                self.cooccurrence.counts, self.descent.tables(), **self.asked, ridge=self.config.ridge
            )
            self.descent = None
        return self.squares

    def vectors(self) -> GloveVectors:
        if self.squares is not None:
            self.squares.balance()
            words, contexts = self.squares.tables
        else:
            assert self.descent is not None
            words, contexts = self.descent.tables()
        dim = self.config.dim
        return GloveVectors(
            self.cooccurrence.words, words[:, :dim].copy(), contexts[:, :dim].copy(), words[:, dim].copy(),
            contexts[:, dim + 1].copy(), list(self.history),
        )  # fmt: skip

    # -- going on ----------------------------------------------------------------------------------------------------

    def _fingerprint(self) -> dict[str, Any]:
        """What a state belongs to: these counts and settings; more epochs may follow."""
        counts = self.cooccurrence.counts
        digest = hashlib.sha256("\n".join(self.cooccurrence.words).encode())
        for array in (counts.indptr, counts.indices, counts.data):
            digest.update(np.ascontiguousarray(array).data)
        settings = self.config.model_dump(mode="json", exclude={"epochs", "save_every"})
        return {"counts": digest.hexdigest(), "config": settings}

    def _save(self, path: Path) -> None:
        arrays = {"rows": self.descent.rows} if self.descent is not None else {}
        if self.squares is not None:
            arrays = {"words": self.squares.tables[0], "contexts": self.squares.tables[1]}
        position = {"epoch": self.epoch, "unit": self.unit, "cost": self.cost, "history": self.history}
        with files.atomic_folder(path) as folder:
            files.write_tensors(folder / "state.safetensors", {k: torch.from_numpy(v) for k, v in arrays.items()})
            files.write_json(folder / "state.json", position | self._fingerprint())

    def _load(self, path: Path) -> None:
        document, tensors = files.read_json(path / "state.json"), files.read_tensors(path / "state.safetensors")
        try:
            for name, own in self._fingerprint().items():
                if document[name] != own:
                    raise RunError(f"a state of other {name} stands here", hint="another folder", path=path)
            self.epoch, self.unit, self.cost = document["epoch"], document["unit"], document["cost"]
            self.history = list(document["history"])
            if "rows" in tensors:
                assert self.descent is not None
                self.descent.rows[:] = tensors["rows"].numpy()
            else:
                squares = self._begin_squares()
                squares.tables = [tensors["words"].numpy(), tensors["contexts"].numpy()]
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, RunError):
                raise
            raise DataError("the saved state is damaged", hint="remove the folder", path=path) from error


def _first_tables(size: int, config: GloveConfig) -> list[Float32[np.ndarray, "words columns"]]:
    """Uniform numbers up to half of `1 / dim` off zero, as GloVe's own program draws them, biases too."""
    generator, dim = np.random.default_rng(config.seed), config.dim
    tables = [((generator.random((size, dim + 2), np.float32) - np.float32(0.5)) / np.float32(dim)) for _ in range(2)]
    tables[0][:, dim + 1] = tables[1][:, dim] = 1
    return tables
