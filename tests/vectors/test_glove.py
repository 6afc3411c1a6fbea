"""GloVe on counts: its steps against the formula, and training that goes on as if it had never stopped."""

import signal

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from qkv.errors import InputError, RunError, StoppedError
from qkv.vectors import Cooccurrence, GloveConfig, GloveVectors, count_cooccurrence, glove, glove_loss, train_glove
from qkv.vectors import _als as als
from qkv.vectors._adagrad import AdaGrad
from qkv.vectors._als import PARTS, LeastSquares

WORDS, DIM = 23, 5
X_MAX, ALPHA, RATE, RIDGE = 3.0, 0.75, 0.05, 0.1


def counts_of(seed: int = 0, *, symmetric: bool = True, words: int = WORDS) -> Cooccurrence:
    generator = np.random.default_rng(seed)
    dense = generator.exponential(2.0, (words, words)) * (generator.random((words, words)) < 0.4)
    dense[0, 1] = dense[1, 0] = 2.0
    ngrams = np.argwhere(dense)
    counted = Cooccurrence.from_ngrams(ngrams, [f"w{i}" for i in range(words)], dense[dense > 0])
    return (
        counted.merge([Cooccurrence(counted.words, counted.frequencies, counted.counts.T.tocsr())])
        if symmetric
        else counted
    )


def tables_of(size: int = WORDS, dim: int = DIM, seed: int = 0) -> list[np.ndarray]:
    """`[w, b, 1]` and `[c, 1, bt]`."""
    tables = [np.random.default_rng([seed, side]).normal(0, 0.3, (size, dim + 2)).astype(np.float32) for side in (0, 1)]
    tables[0][:, dim + 1] = tables[1][:, dim] = 1
    return tables


def weight(x: np.ndarray) -> np.ndarray:
    return np.minimum(1, (x / X_MAX) ** ALPHA)


def naive_loss(counted: Cooccurrence, tables: list[np.ndarray]) -> float:
    """The sum of `f(x) (w . c + b + bt - log x)^2`, written out."""
    x = counted.toarray()
    there = x > 0
    difference = (tables[0].astype(np.float64) @ tables[1].T)[there] - np.log(x[there])
    return float((weight(x[there]) * difference**2).sum())


def squares_of(counted: Cooccurrence, tables: list[np.ndarray], ridge: float = RIDGE, threads: int = 2) -> LeastSquares:
    return LeastSquares(counted.counts, tables, x_max=X_MAX, alpha=ALPHA, ridge=ridge, threads=threads)


def sweep(solver: LeastSquares, side: int) -> None:
    for unit in range(side * PARTS, (side + 1) * PARTS):
        solver.step(unit)


# -- descent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [5, 14, 50])
def test_one_step_is_the_formula(dim: int):
    # One count, so one step: half the gradient by each parameter, divided by the root of its sum of squares.
    x = 2.0
    counted = Cooccurrence.from_ngrams(np.array([[0, 1]]), ["a", "b"], np.array([x]))
    tables = tables_of(2, dim)
    w, c = (
        torch.tensor(table[row, :dim], dtype=torch.float64, requires_grad=True)
        for table, row in zip(tables, (0, 1), strict=True)
    )
    b, bt = (
        torch.tensor(float(value), dtype=torch.float64, requires_grad=True)
        for value in (tables[0][0, dim], tables[1][1, dim + 1])
    )
    loss = min(1, (x / X_MAX) ** ALPHA) * (w @ c + b + bt - np.log(x)) ** 2
    gradients = torch.autograd.grad(loss / 2, (w, c, b, bt))
    solver = AdaGrad(counted.counts, tables, x_max=X_MAX, alpha=ALPHA, rate=RATE, seed=0, threads=1)
    cost = sum(solver.step(0, unit) for unit in range(solver.blocks))
    assert cost == pytest.approx(float(loss.detach()), rel=1e-5)
    words, contexts = solver.tables()
    moved = words[0, :dim], contexts[1, :dim], words[0, dim], contexts[1, dim + 1]
    # Sums of squares begin at one; a bias's at the square of the rate, so that its first step is whole.
    for after, before, gradient, start in zip(moved, (w, c, b, bt), gradients, (1, 1, RATE**2, RATE**2), strict=True):
        expected = before.detach() - RATE * gradient / start**0.5
        np.testing.assert_allclose(after, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert (words[:, dim + 1] == 1).all()
    assert (contexts[:, dim] == 1).all()
    np.testing.assert_array_equal(words[1], tables[0][1])  # no count, no step


def test_every_count_is_met_once_an_epoch():
    # At rate zero nothing moves, so what is met on the way is the loss itself.
    counted, tables = counts_of(symmetric=False, words=211), tables_of(211)
    solver = AdaGrad(counted.counts, tables, x_max=X_MAX, alpha=ALPHA, rate=0.0, seed=3, threads=2)
    solver.rows[:, :, 1] = 1
    cost = sum(solver.step(0, unit) for unit in range(solver.blocks))
    assert cost == pytest.approx(naive_loss(counted, tables), rel=1e-4)


def test_tiles_of_many_blocks(monkeypatch):
    monkeypatch.setattr("qkv.vectors._adagrad._CACHE", 1024)
    counted, tables = counts_of(words=101), tables_of(101)
    make = {"x_max": X_MAX, "alpha": ALPHA, "rate": RATE, "seed": 0}
    solvers = [AdaGrad(counted.counts, tables, **make, threads=threads) for threads in (1, 3)]
    assert solvers[0].blocks == 26
    for solver in solvers:
        for epoch in range(3):
            costs = [solver.step(epoch, unit) for unit in range(solver.blocks)]
        assert 2 * sum(costs) < naive_loss(counted, tables)
    np.testing.assert_array_equal(solvers[0].rows, solvers[1].rows)


# -- least squares ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("side", [0, 1])
def test_least_squares_solve_the_normal_equations(side: int, symmetric: bool):
    counted, tables = counts_of(symmetric=symmetric), tables_of()
    x = counted.toarray() if side == 0 else counted.toarray().T
    solver = squares_of(counted, [table.copy() for table in tables])
    sweep(solver, side)
    held, bias = tables[1 - side].astype(np.float64), DIM + 1 - side
    for row in range(WORDS):
        there = x[row] > 0
        if not there.any():
            np.testing.assert_array_equal(solver.tables[side][row], tables[side][row])
            continue
        f, columns = weight(x[row, there]), np.column_stack([held[there, :DIM], np.ones(there.sum())])
        target = np.log(x[row, there]) - held[there, bias]
        penalty = np.diag([RIDGE * f.sum()] * DIM + [0.0])
        expected = np.linalg.solve(columns.T @ (f[:, None] * columns) + penalty, columns.T @ (f * target))
        found = [*solver.tables[side][row, :DIM], solver.tables[side][row, DIM + side]]
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)
    np.testing.assert_array_equal(solver.tables[1 - side], tables[1 - side])


def objective(counted: Cooccurrence, tables: list[np.ndarray], ridge: float) -> float:
    """What the two halves of a sweep make smaller: the loss, and the ridge on either side."""
    f = np.where(counted.toarray() > 0, weight(counted.toarray()), 0)
    norms = [(table[:, :DIM].astype(np.float64) ** 2).sum(1) for table in tables]
    return naive_loss(counted, tables) + ridge * (f.sum(1) @ norms[0] + f.sum(0) @ norms[1])


@settings(max_examples=15)
@given(seed=st.integers(0, 999), ridge=st.sampled_from([0.003, 0.1, 3.0]), symmetric=st.booleans())
def test_loss_never_rises(seed: int, ridge: float, symmetric: bool):
    counted = counts_of(seed, symmetric=symmetric)
    solver = squares_of(counted, tables_of(seed=seed), ridge, threads=1)
    before = objective(counted, solver.tables, ridge)
    for _ in range(3):
        for side in (0, 1):
            sweep(solver, side)
            after = objective(counted, solver.tables, ridge)
            assert after <= before * (1 + 1e-5)
            before = after
    assert solver.loss() == pytest.approx(naive_loss(counted, solver.tables), rel=1e-3, abs=1e-5)


def test_conjugate_gradients_come_to_the_same(monkeypatch):
    counted = counts_of()
    exact, near = squares_of(counted, tables_of()), squares_of(counted, tables_of())
    sweep(exact, 0)
    monkeypatch.setattr(als, "CONJUGATE_FROM", 1)
    for _ in range(5):  # each from where the last one came to
        sweep(near, 0)
    np.testing.assert_allclose(near.tables[0], exact.tables[0], atol=2e-2)
    assert near.loss() == pytest.approx(exact.loss(), rel=2e-2)


def test_balanced_factors_have_one_gram_matrix_and_the_same_products():
    solver = squares_of(counts_of(), tables_of())
    before = solver.tables[0] @ solver.tables[1].T
    solver.balance()
    words, contexts = (table[:, :DIM] for table in solver.tables)
    np.testing.assert_allclose(solver.tables[0] @ solver.tables[1].T, before, atol=1e-5)
    np.testing.assert_allclose(words.T @ words, contexts.T @ contexts, atol=1e-4)


# -- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adagrad", "als"])
def test_stopped_training_goes_on_to_the_same_bits(tmp_path, solver: str):
    counted = counts_of()
    config = GloveConfig(dim=DIM, solver=solver, epochs=4, x_max=X_MAX, ridge=RIDGE)
    whole = train_glove(counted, config, threads=1)
    sittings, reached = 0, None
    while reached is None:
        sittings += 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(glove, "stop_signals", lambda: _StopAfter(5))
            try:
                reached = train_glove(counted, config, state=tmp_path / "state", threads=2)
            except StoppedError as error:
                assert "all is kept" in str(error)  # noqa: PT017 - the last sitting raises nothing
    assert sittings > 1 if solver == "als" else sittings >= 1
    assert reached.history == whole.history
    for name in ("word_matrix", "context_matrix", "word_bias", "context_bias"):
        np.testing.assert_array_equal(getattr(reached, name), getattr(whole, name))


class _StopAfter:
    """Asks to stop at the `n`-th question."""

    def __init__(self, n: int):
        self.left = n

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_ctrl_c_stops_training(tmp_path):
    def interrupt(_):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError, match="stopped in epoch 2 of 9; all is kept"):
        train_glove(counts_of(), GloveConfig(dim=DIM, epochs=9), state=tmp_path / "state", progress=interrupt)
    assert (tmp_path / "state" / "state.json").exists()


def test_a_state_of_other_counts_or_settings_is_refused(tmp_path):
    state, config = tmp_path / "state", GloveConfig(dim=DIM, epochs=1, save_every=0)
    train_glove(counts_of(), config, state=state)
    with pytest.raises(RunError, match="a state of other counts"):
        train_glove(counts_of(1), config, state=state)
    with pytest.raises(RunError, match="a state of other config"):
        train_glove(counts_of(), config.model_copy(update={"alpha": 0.5}), state=state)
    assert len(train_glove(counts_of(), config.model_copy(update={"epochs": 3}), state=state).history) == 3


def test_what_comes_out():
    counted = counts_of()
    trained = train_glove(counted, GloveConfig(dim=DIM, solver="als", x_max=X_MAX, epochs=3))
    assert trained.history[-1] == pytest.approx(glove_loss(counted, trained, x_max=X_MAX), rel=1e-3)
    assert trained.history == sorted(trained.history, reverse=True)
    summed = trained.word_vectors()
    assert summed.words == counted.words
    np.testing.assert_array_equal(summed.matrix, trained.word_matrix + trained.context_matrix)
    np.testing.assert_array_equal(trained.word_vectors("contexts").matrix, trained.context_matrix)


@pytest.mark.usefixtures("no_shape_hook")
def test_other_kinds_of_vectors():
    with pytest.raises(InputError, match="unknown kind of vectors 'word'"):
        train_glove(counts_of(), GloveConfig(dim=DIM, epochs=1)).word_vectors("word")


def test_words_used_alike_come_near_one_another():
    texts = [f"the {animal} {verb} here" for animal in ("cat", "dog") for verb in ("sat", "ran", "ate")]
    texts += [f"a {place} of {stuff} there" for place in ("house", "wall") for stuff in ("stone", "wood", "clay")]
    counted = count_cooccurrence(texts * 5, min_count=1, window=3)
    vectors = train_glove(counted, GloveConfig(dim=4, epochs=60, learning_rate=0.2)).word_vectors()
    assert vectors.similarity("cat", "dog") > vectors.similarity("cat", "wall") + 0.3


# -- refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_trained():
    counted = counts_of()
    with pytest.raises(InputError, match=r"more dimensions than words\. Expected at most 23; got 24"):
        train_glove(counted, GloveConfig(dim=24))
    empty = Cooccurrence.from_ngrams(np.empty((0, 2), np.int64), ["a"])
    with pytest.raises(InputError, match="no counts to train from"):
        train_glove(empty, GloveConfig(dim=1))
    counted.counts.data[0] = -1
    with pytest.raises(InputError, match="no logarithm"):
        train_glove(counted, GloveConfig(dim=2))
    trained = GloveVectors(["x"], *(np.zeros((1, 1), np.float32),) * 2, *(np.zeros(1, np.float32),) * 2)
    with pytest.raises(InputError, match="vectors do not fit the counts"):
        glove_loss(counts_of(), trained)
