"""GloVe without weights, on a matrix that fits in memory: the optima of all dimensions at once, and descent to one.

The loss is `sum_ij (w_i . wt_j + b_i + bt_j - m_ij)^2` with `m_ij = log(x_ij + delta)`: that of Pennington, Socher and
Manning (2014, eq. 8) with every weight one, which `delta` defines where nothing was counted. The symmetric model has
`wt = w` and `bt = b`.

Biases can fit all that is constant along rows or columns and nothing else, so what is left for the vectors is the
centred matrix `P M P` with `P = I - 1 1^T / V`, of which they are the best approximation of rank `d`
(Eckart and Young 1936).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Shaped

from qkv.errors import InputError, InputTypeError, NotFiniteError

STEPS, RATE, DEVIATION, DELTA = 500, 0.05, 0.1, 0.5
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class DenseGlove:
    """Vectors and biases of words as rows and as columns; one model is symmetric where both are the same arrays."""

    w: Float64[np.ndarray, "words dim"]
    wt: Float64[np.ndarray, "words dim"]
    b: Float64[np.ndarray, " words"]
    bt: Float64[np.ndarray, " words"]

    @classmethod
    def tied(cls, w: Float64[np.ndarray, "words dim"], b: Float64[np.ndarray, " words"]) -> "DenseGlove":
        """The symmetric model."""
        return cls(w, w, b, b)

    @property
    def symmetric(self) -> bool:
        return self.wt is self.w and self.bt is self.b

    def predicted(self) -> Float64[np.ndarray, "words words"]:
        """`w wt^T + b 1^T + 1 bt^T`, the logarithms that the model stands for."""
        return self.w @ self.wt.T + self.b[:, None] + self.bt

    def loss(self, m: Float64[np.ndarray, "words words"]) -> float:
        """The sum of squares between what is predicted and `m`."""
        return _squares(self.predicted() - m)

    def gradients(self, residual: Float64[np.ndarray, "words words"]) -> "DenseGlove":
        """What the loss has for gradients, by each array, where `residual = predicted() - m`.

        They are `2 R wt`, `2 R^T w` and the sums of `2 R` along rows and columns; in the symmetric model
        `2 (R + R^T) w` and the row sums of `2 (R + R^T)`, which is `4 R w` only where `m` is symmetric itself.
        """
        if self.symmetric:
            both = 2 * (residual + residual.T)
            return DenseGlove.tied(both @ self.w, both.sum(axis=1))
        twice = 2 * residual
        return DenseGlove(twice @ self.wt, twice.T @ self.w, twice.sum(axis=1), twice.sum(axis=0))

    def moved(self, by: "DenseGlove", rate: float) -> "DenseGlove":
        """This model a step of `rate` against `by`."""
        if self.symmetric:
            return DenseGlove.tied(self.w - rate * by.w, self.b - rate * by.b)
        return DenseGlove(*(x - rate * g for x, g in zip(self._arrays, by._arrays, strict=True)))

    def times(self, matrix: Float64[np.ndarray, "dim other"]) -> "DenseGlove":
        """This model with its vectors times `matrix`."""
        w = self.w @ matrix
        return DenseGlove(w, w if self.wt is self.w else self.wt @ matrix, self.b, self.bt)

    @property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.w, self.wt, self.b, self.bt


def parameters(words: int, dim: int, *, symmetric: bool) -> int:
    """How many numbers a model has: `2 V (d + 1)`, symmetric `V (d + 1)`.

    >>> parameters(251, 10, symmetric=False)
    5522
    """
    return (1 if symmetric else 2) * words * (dim + 1)


def log_counts(counts: Shaped[np.ndarray, "words words"], delta: float = DELTA) -> Float64[np.ndarray, "words words"]:
    """`log(counts + delta)`.

    Raises:
        InputError: counts that are no square, negative or not finite, no words, or a `delta` that is not above zero.
        InputTypeError: counts that are no numbers.

    >>> np.exp(log_counts(np.array([[1, 0], [3, 2]])))
    array([[1.5, 0.5],
           [3.5, 2.5]])
    """
    counts = _square("counts", counts)
    if (counts < 0).any():
        raise InputError("counts are negative in places", expected="0 or more", got=f"{counts.min():g}")
    if not 0 < delta < np.inf:
        raise InputError("delta cannot be used", expected="a number above 0", got=f"{delta:g}")
    return np.log(counts + delta)


# -- every optimum ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Optima:
    """The global optimum of each dimension: the first `d` columns of the widest model's vectors, and its biases.

    Attributes:
        widest: the model past which more columns gain nothing; columns fall in what they gain.
        losses: at 0 dimensions, biases alone, and then at each up to the widest.
    """

    widest: DenseGlove
    losses: Float64[np.ndarray, " dims"]

    def at(self, dim: int) -> DenseGlove:
        """The optimum of `dim` dimensions; where that is wider than `widest`, its further columns would be zero.

        Raises:
            InputError: `dim` below 1.
        """
        _require_dim(dim)
        full = self.widest
        w = full.w[:, :dim]
        return DenseGlove.tied(w, full.b) if full.symmetric else DenseGlove(w, full.wt[:, :dim], full.b, full.bt)

    def loss(self, dim: int) -> float:
        """The loss of the optimum of `dim` dimensions.

        Raises:
            InputError: `dim` below 1.
        """
        _require_dim(dim)
        return float(self.losses[min(dim, len(self.losses) - 1)])

    def losses_on(self, m: Float64[np.ndarray, "words words"]) -> Float64[np.ndarray, " dims"]:
        """The losses of all these models on another matrix, as of other text; in the order of `losses`.

        Columns are orthogonal, so each adds `|w_k|^2 |wt_k|^2 - 2 w_k^T E wt_k` to the loss of biases alone, whose
        residual `E` is.

        Raises:
            InputError: `m` is not of as many words, or not finite.
        """
        w, wt, b, bt = self.widest._arrays
        residual = _like("m", m, len(w)) - b[:, None] - bt
        added = (w**2).sum(axis=0) * (wt**2).sum(axis=0) - 2 * (w * (residual @ wt)).sum(axis=0)
        return np.cumsum(np.concatenate([[_squares(residual)], added]))


def exact(m: Float[np.ndarray, "words words"], *, symmetric: bool = False) -> Optima:
    """The global optimum at every dimension, by one decomposition.

    Asymmetric: the singular values of the centred matrix; the loss is the sum of the squares of those left out.
    Symmetric: the positive eigenvalues of its symmetric part. Negative ones can be had by no `w w^T`, and the
    antisymmetric part, `|M - M^T|^2 / 4`, by no symmetric model at all: what they add to the loss stays at every
    dimension. Vectors take the root of their value on either side.

    Args:
        m: what is to be predicted, such as `log_counts`.

    Raises:
        InputError: `m` is no square, empty or not finite.
        InputTypeError: `m` holds no numbers.

    >>> m = np.array([[2.0, -2.0, 3.0], [-3.0, 1.0, 2.0], [2.0, 2.0, -4.0]])
    >>> exact(m).losses.round(6), exact(m, symmetric=True).losses.round(6)
    (array([52., 16.,  0.]), array([53., 37.]))
    """
    m = _square("m", m)
    if symmetric:
        even = (m + m.T) / 2
        values, vectors = np.linalg.eigh(_centred(even))
        values, vectors = values[::-1], vectors[:, ::-1]
        rank = int((values > _zero(m)).sum())
        w = vectors[:, :rank] * np.sqrt(values[:rank])
        never = _squares(m - m.T) / 4 + _squares(values[rank:])
        return Optima(DenseGlove.tied(w, even.mean(axis=1) - even.mean() / 2), never + _tails(values[:rank]))
    left, values, right = np.linalg.svd(_centred(m))
    rank = int((values > _zero(m)).sum())
    root = np.sqrt(values[:rank])
    b, bt = m.mean(axis=1) - m.mean() / 2, m.mean(axis=0) - m.mean() / 2
    return Optima(DenseGlove(left[:, :rank] * root, right[:rank].T * root, b, bt), _tails(values[:rank]))


def _centred(m: Float64[np.ndarray, "words words"]) -> Float64[np.ndarray, "words words"]:
    """`P M P` for `P = I - 1 1^T / V`."""
    return m - m.mean(axis=1, keepdims=True) - m.mean(axis=0) + m.mean()


def _zero(m: Float64[np.ndarray, "words words"]) -> float:
    """Up to where singular values and eigenvalues of the centred matrix are rounding errors."""
    return len(m) * _EPS * float(np.linalg.norm(m))


def _tails(values: Float64[np.ndarray, " rank"]) -> Float64[np.ndarray, " dims"]:
    """What the squares of all values add up to, of all but the first, and so on; the smallest are added first."""
    return np.concatenate([np.cumsum((values**2)[::-1])[::-1], [0.0]])


# -- descent ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Descent:
    """Where descent came to, and its losses by name before the first step and after each."""

    model: DenseGlove
    losses: Mapping[str, Float64[np.ndarray, " steps"]]


def descend(
    m: Float[np.ndarray, "words words"],
    dim: int,
    *,
    symmetric: bool = False,
    steps: int = STEPS,
    rate: float | None = None,
    deviation: float = DEVIATION,
    seed: int = 0,
    watched: Mapping[str, Float[np.ndarray, "words words"]] | None = None,
    progress: Callable[[int, Mapping[str, float]], object] = lambda *_: None,
) -> Descent:
    """Gradient descent on the whole loss from normal random arrays.

    All it ever forms of vectors are products between them, so that turning all of them by one rotation changes
    nothing: where they are wider than there are of them, they are turned into as many columns, descend there, and are
    turned back.

    Args:
        m: what the model is to predict.
        rate: by which the gradients are multiplied; `0.05 / V` where left out.
        deviation: of the initial vectors and biases.
        watched: matrices whose loss is kept by name; `m` itself, as `training`, where left out.
        progress: called with the number of steps done and the losses then.

    Raises:
        InputError: `m` or one that is watched is no square, empty or not finite; an option that cannot be.
        InputTypeError: matrices of no numbers.
        NotFiniteError: descent diverged.

    >>> m = np.array([[2.0, -2.0, 3.0], [-3.0, 1.0, 2.0], [2.0, 2.0, -4.0]])
    >>> descend(m, 1).losses["training"][[-1]].round(3)
    array([16.])
    """
    m = _square("m", m)
    words = len(m)
    _require_dim(dim)
    rate = RATE / words if rate is None else rate
    for name, value, least in (("steps", steps, 0), ("rate", rate, 0.0), ("deviation", deviation, 0.0)):
        if not least <= value < np.inf:
            raise InputError(f"{name} cannot be used", expected="0 or more", got=f"{value:g}")
    matrices = {name: _like(name, matrix, words) for name, matrix in (watched or {"training": m}).items()}
    model = _initial(words, dim, symmetric=symmetric, deviation=deviation, generator=np.random.default_rng(seed))
    span = _span(model)
    model = model.times(span)
    losses: dict[str, list[float]] = {name: [] for name in matrices}
    with np.errstate(over="ignore", invalid="ignore"):  # told in our own words
        for step in range(steps + 1):
            predicted = model.predicted()
            for name, matrix in matrices.items():
                losses[name].append(_squares(predicted - matrix))
            latest = {name: values[-1] for name, values in losses.items()}
            if not np.isfinite(list(latest.values())).all():
                raise NotFiniteError(f"descent diverged at step {step:,}", hint=f"a rate below {rate:.3g}")
            progress(step, latest)
            if step < steps:
                model = model.moved(model.gradients(predicted - m), rate)
    return Descent(model.times(span.T), {name: np.array(values) for name, values in losses.items()})


def _initial(words: int, dim: int, *, symmetric: bool, deviation: float, generator: np.random.Generator) -> DenseGlove:
    def drawn(*shape: int) -> np.ndarray:
        return deviation * generator.standard_normal(shape)

    if symmetric:
        return DenseGlove.tied(drawn(words, dim), drawn(words))
    return DenseGlove(drawn(words, dim), drawn(words, dim), drawn(words), drawn(words))


def _span(model: DenseGlove) -> Float64[np.ndarray, "dim narrow"]:
    """Orthonormal columns in whose span all vectors lie: no more than there are vectors."""
    vectors = model.w if model.symmetric else np.concatenate([model.w, model.wt])
    return np.linalg.qr(vectors.T).Q


# -- what is refused -------------------------------------------------------------------------------------------------


def _square(name: str, matrix: Any) -> Float64[np.ndarray, "words words"]:
    try:
        given = np.asarray(matrix)
        square = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{name} holds no numbers", expected="a square matrix of numbers") from error
    if square.ndim != 2 or square.shape[0] != square.shape[1] or not square.size:
        raise InputError(
            f"{name} is no square matrix",
            expected="a row and a column for each word, at least one",
            got=f"shape {square.shape}",
        )
    if not np.isfinite(square).all():
        row, column = np.argwhere(~np.isfinite(square))[0]
        raise NotFiniteError(
            f"{name} is not finite everywhere", got=f"{square[row, column]:g} in row {row}, column {column}"
        )
    return square


def _like(name: str, matrix: Any, words: int) -> Float64[np.ndarray, "words words"]:
    square = _square(name, matrix)
    if len(square) != words:
        raise InputError(f"{name} is of other words than m", expected=f"{words} of them", got=str(len(square)))
    return square


def _require_dim(dim: int) -> None:
    if dim < 1:
        raise InputError("dim is too small", expected="1 or more", got=str(dim))


def _squares(x: Float64[np.ndarray, "..."]) -> float:
    return float(np.vdot(x, x))
