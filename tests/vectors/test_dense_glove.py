import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.errors import InputError, InputTypeError, NotFiniteError
from qkv.vectors.dense_glove import DenseGlove, descend, exact, log_counts, parameters

both_models = pytest.mark.parametrize("symmetric", [False, True])


def drawn(words: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((words, words))


def random_model(words: int, dim: int, *, symmetric: bool, seed: int = 0) -> DenseGlove:
    rng = np.random.default_rng(seed)
    w, wt, b, bt = (rng.standard_normal(shape) for shape in ((words, dim), (words, dim), words, words))
    return DenseGlove.tied(w, b) if symmetric else DenseGlove(w, wt, b, bt)


def naive_loss(m, w, wt, b, bt):
    """The definition, for NumPy and torch alike."""
    return sum(
        ((w[i] * wt[j]).sum() + b[i] + bt[j] - m[i, j]) ** 2 for i in range(len(m)) for j in range(len(m))
    )  # fmt: skip


# -- by hand ---------------------------------------------------------------------------------------------------------

# u = (1, -1, 0) / sqrt 2 and v = (1, 1, -2) / sqrt 6 are orthonormal, and orthogonal to (1, 1, 1), so
#
#     4 u u^T = [[2, -2, 0], [-2, 2, 0], [0, 0, 0]] and -6 v v^T = -[[1, 1, -2], [1, 1, -2], [-2, -2, 4]]
#
# are centred. With 1 added along row 0 and 3 along column 2 their sum is
MATRIX = np.array([[2.0, -2.0, 6.0], [-3.0, 1.0, 5.0], [2.0, 2.0, -1.0]])


def test_asymmetric_by_hand():
    found = exact(MATRIX)
    # Singular values 6 and 4: 36 + 16 remain with biases alone, 16 with one dimension, none with two.
    np.testing.assert_allclose(found.losses, [52, 16, 0], atol=1e-12)
    one = found.at(1)
    np.testing.assert_allclose(one.w @ one.wt.T, [[-1, -1, 2], [-1, -1, 2], [2, 2, -4]], atol=1e-12)
    # The larger value's root on either side, on v; the sign is free.
    np.testing.assert_allclose(np.abs(one.w[:, 0]), [1, 1, 2], atol=1e-12)
    np.testing.assert_allclose(one.b[:, None] + one.bt, [[1, 1, 4], [0, 0, 3], [0, 0, 3]], atol=1e-12)
    assert one.loss(MATRIX) == pytest.approx(16)


def test_symmetric_by_hand():
    found = exact(MATRIX, symmetric=True)
    # Of the eigenvalues 4 and -6 none but 4 can be had, so 36 stays. Biases (1, 0, 0) and (0, 0, 3) have the
    # antisymmetric part a 1^T - 1 a^T with a = (1, 0, -3) / 2: a square of 2 (3 |a|^2 - (1 . a)^2) = 2 (7.5 - 1) = 13.
    np.testing.assert_allclose(found.losses, [52 + 13, 36 + 13], atol=1e-12)
    one = found.at(1)
    assert one.symmetric
    np.testing.assert_allclose(np.abs(one.w[:, 0]), [2**0.5, 2**0.5, 0], atol=1e-12)
    np.testing.assert_allclose(one.b[:, None] + one.bt, np.add.outer([0.5, 0, 1.5], [0.5, 0, 1.5]), atol=1e-12)
    assert one.loss(MATRIX) == pytest.approx(49)


def test_one_word_needs_biases_alone():
    for symmetric in (False, True):
        found = exact(np.array([[math.log(3.5)]]), symmetric=symmetric)
        np.testing.assert_allclose(found.losses, [0], atol=1e-12)
        assert found.at(1).predicted()[0, 0] == pytest.approx(math.log(3.5))


def test_one_step_by_hand():
    # Two words, one dimension: w = (1, 2), wt = (3, 4), biases 0, nothing to be predicted: R = [[3, 4], [6, 8]].
    model = DenseGlove(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]), np.zeros(2), np.zeros(2))
    gradients = model.gradients(model.predicted())
    np.testing.assert_allclose(gradients.w[:, 0], [2 * (9 + 16), 2 * (18 + 32)])
    np.testing.assert_allclose(gradients.wt[:, 0], [2 * (3 + 12), 2 * (4 + 16)])
    np.testing.assert_allclose(gradients.b, [2 * (3 + 4), 2 * (6 + 8)])
    np.testing.assert_allclose(gradients.bt, [2 * (3 + 6), 2 * (4 + 8)])
    np.testing.assert_allclose(model.moved(gradients, 0.01).w[:, 0], [0.5, 1.0])


def test_log_counts_by_hand():
    counts = np.array([[0, 2], [7, 1]])
    np.testing.assert_allclose(log_counts(counts), np.log([[0.5, 2.5], [7.5, 1.5]]))
    np.testing.assert_allclose(log_counts(counts, 1.0), np.log([[1.0, 3.0], [8.0, 2.0]]))


def test_parameters_by_hand():
    assert (parameters(5, 3, symmetric=False), parameters(5, 3, symmetric=True)) == (2 * (15 + 5), 15 + 5)


# -- gradients -------------------------------------------------------------------------------------------------------


@both_models
def test_gradients_are_those_of_autograd(symmetric):
    model, m = random_model(7, 3, symmetric=symmetric), drawn(7, 1)
    arrays = (model.w, model.b) if symmetric else (model.w, model.wt, model.b, model.bt)
    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    w, wt, b, bt = (tensors[0], tensors[0], tensors[1], tensors[1]) if symmetric else tensors
    loss = naive_loss(torch.from_numpy(m), w, wt, b, bt)
    assert model.loss(m) == pytest.approx(loss.item(), rel=1e-12)
    found = model.gradients(model.predicted() - m)
    ours = (found.w, found.b) if symmetric else (found.w, found.wt, found.b, found.bt)
    for mine, theirs in zip(ours, torch.autograd.grad(loss, tensors), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=1e-10)


@both_models
def test_gradients_are_finite_differences(symmetric):
    model, m, direction = (random_model(5, 2, symmetric=symmetric, seed=seed) for seed in (0, 1, 2))
    m = m.predicted()
    gradients = model.gradients(model.predicted() - m)
    step = 1e-6
    slope = (model.moved(direction, -step).loss(m) - model.moved(direction, step).loss(m)) / (2 * step)
    inner = (gradients.w * direction.w).sum() + (gradients.b * direction.b).sum()
    if not symmetric:
        inner += (gradients.wt * direction.wt).sum() + (gradients.bt * direction.bt).sum()
    assert slope == pytest.approx(inner, rel=1e-7)


def test_four_r_w_is_for_symmetric_targets_alone():
    model, m = random_model(5, 2, symmetric=True), drawn(5, 1)
    for target, same in ((m + m.T, True), (m, False)):
        residual = model.predicted() - target
        assert np.allclose(model.gradients(residual).w, 4 * residual @ model.w) == same


# -- laws ------------------------------------------------------------------------------------------------------------

sizes, seeds, scales = st.integers(1, 11), st.integers(0, 1000), st.sampled_from([0.0, 1e-8, 1.0, 1e4])


@given(sizes, seeds, scales, st.booleans())
def test_losses_are_those_of_the_factors(words, seed, scale, symmetric):
    m = drawn(words, seed, scale)
    other = drawn(words, seed + 1, scale)
    found = exact(m, symmetric=symmetric)
    close = {"rtol": 1e-9, "atol": 1e-20 + 1e-12 * (scale * words) ** 2}
    on_other = found.losses_on(other)
    assert len(found.losses) == len(on_other) == found.widest.w.shape[1] + 1 <= words
    for dim in range(1, words + 2):
        model = found.at(dim)
        assert model.symmetric == symmetric
        np.testing.assert_allclose(found.loss(dim), model.loss(m), **close)
        np.testing.assert_allclose(on_other[min(dim, len(on_other) - 1)], model.loss(other), **close)
    assert (np.diff(found.losses) <= 0).all()
    if not symmetric:
        assert found.loss(words) == 0


@given(st.integers(2, 11), st.integers(1, 5), seeds, st.booleans())
def test_at_the_optimum_no_gradient_is_left(words, dim, seed, symmetric):
    m = drawn(words, seed)
    model = exact(m, symmetric=symmetric).at(dim)
    gradients = model.gradients(model.predicted() - m)
    assert max(np.abs(g).max(initial=0) for g in (gradients.w, gradients.wt, gradients.b, gradients.bt)) < 1e-9 * words


@settings(max_examples=25)  # a step at a time under the shape hook
@given(st.integers(1, 7), st.integers(1, 9), seeds, st.booleans())
def test_descent_comes_no_lower(words, dim, seed, symmetric):
    m = drawn(words, seed)
    reached = descend(m, dim, symmetric=symmetric, steps=13, rate=0.01, seed=seed)
    best = exact(m, symmetric=symmetric).loss(dim)
    assert (reached.losses["training"] >= best - 1e-12 * (1 + best)).all()
    assert reached.losses["training"][-1] == pytest.approx(reached.model.loss(m), rel=1e-9)


@both_models
def test_long_descent_comes_to_the_optimum(symmetric):
    for dim in (1, 2):
        reached = descend(MATRIX, dim, symmetric=symmetric).losses["training"][-1]
        assert reached == pytest.approx(exact(MATRIX, symmetric=symmetric).loss(dim), rel=1e-6, abs=1e-6)


@given(st.integers(2, 11), seeds, st.booleans())
def test_other_orders_of_words_change_nothing_else(words, seed, symmetric):
    m = drawn(words, seed)
    order = np.random.default_rng(seed).permutation(words)
    found, permuted = (exact(x, symmetric=symmetric) for x in (m, m[np.ix_(order, order)]))
    np.testing.assert_allclose(permuted.losses, found.losses, atol=1e-9)
    dim = max(1, found.widest.w.shape[1] // 2)
    predicted = found.at(dim).predicted()[np.ix_(order, order)]
    np.testing.assert_allclose(permuted.at(dim).predicted(), predicted, atol=1e-6)


@given(st.integers(2, 11), seeds)
def test_biases_take_all_that_is_constant_along_rows_or_columns(words, seed):
    rng = np.random.default_rng(seed)
    m, rows, columns = drawn(words, seed), *(100 * rng.standard_normal((2, words)))
    moved = m + rows[:, None] + columns
    np.testing.assert_allclose(exact(moved).losses, exact(m).losses, atol=1e-8)
    # Symmetric biases take no more than what rows and columns share.
    even = m + rows[:, None] + rows
    np.testing.assert_allclose(exact(even, symmetric=True).losses, exact(m, symmetric=True).losses, atol=1e-8)


def test_equal_words_have_equal_vectors():
    m = drawn(7, 0)
    m[3], m[:, 3] = m[5], m[:, 5]
    m[3, 3] = m[3, 5] = m[5, 3] = m[5, 5]
    for symmetric in (False, True):
        model = exact(m, symmetric=symmetric).at(2)
        np.testing.assert_allclose(model.w[3], model.w[5], atol=1e-12)
        assert model.b[3] == pytest.approx(model.b[5])


# -- descent ---------------------------------------------------------------------------------------------------------


def published(m, w, wt, b, bt, *, steps, symmetric):
    """Descent as it is written down: every sum in full."""
    losses, rate = [], 0.05 / len(m)
    for _ in range(steps):
        residual = w @ wt.T + b[:, None] + bt - m
        losses.append((residual**2).sum())
        if symmetric:
            residual = residual + residual.T
            w, b = w - rate * 2 * residual @ w, b - rate * 2 * residual.sum(1)
            wt, bt = w, b
        else:
            w, wt = w - rate * 2 * residual @ wt, wt - rate * 2 * residual.T @ w
            b, bt = b - rate * 2 * residual.sum(1), bt - rate * 2 * residual.sum(0)
    return losses, w, wt, b, bt


@both_models
@pytest.mark.parametrize("dim", [1, 3, 29])  # 29: more than there are vectors, which are turned into fewer columns
def test_descent_is_the_published_one(symmetric, dim):
    m = 3 + drawn(7, 1)
    start = descend(m, dim, symmetric=symmetric, steps=0, seed=5).model
    assert start.w.shape == start.wt.shape == (7, dim)
    losses, w, wt, b, bt = published(m, start.w, start.wt, start.b, start.bt, steps=37, symmetric=symmetric)
    reached = descend(m, dim, symmetric=symmetric, steps=37, seed=5)
    np.testing.assert_allclose(reached.losses["training"][:-1], losses, rtol=1e-10)
    model = reached.model
    for ours, theirs in ((model.w, w), (model.wt, wt), (model.b, b), (model.bt, bt)):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    assert model.symmetric == symmetric


def test_initial_arrays_are_as_wide_as_asked():
    model = descend(np.zeros((101, 101)), 53, steps=0, deviation=0.2, seed=1).model
    for array in (model.w, model.wt, model.b, model.bt):
        assert array.std() == pytest.approx(0.2, rel=0.25)
    again, other = (descend(np.zeros((101, 101)), 53, steps=0, deviation=0.2, seed=seed).model for seed in (1, 2))
    assert (again.w == model.w).all()
    assert (other.w != model.w).any()


def test_what_is_watched_is_told_at_every_step():
    m, other, told = drawn(7, 1), drawn(7, 2), []
    watched = {"training": m, "validation": other}
    reached = descend(m, 3, steps=5, watched=watched, progress=lambda *now: told.append(now))
    assert [step for step, _ in told] == [0, 1, 2, 3, 4, 5]
    for name, matrix in watched.items():
        assert [losses[name] for _, losses in told] == reached.losses[name].tolist()
        assert reached.losses[name][-1] == pytest.approx(reached.model.loss(matrix))
    assert (descend(m, 3, steps=5).losses["training"] == reached.losses["training"]).all()


# -- real 4-grams ----------------------------------------------------------------------------------------------------


def test_known_optima_of_real_counts(shared_data):
    grams = np.load(shared_data / "nlm-250" / "ngrams_masked.npz", allow_pickle=False)

    def logarithms(part: str) -> np.ndarray:
        counts = np.zeros((251, 251))
        for first, second in zip(grams[part].T, grams[part].T[1:], strict=False):
            np.add.at(counts, (first, second), 1)
        return log_counts(counts)

    train, valid = logarithms("train_inputs"), logarithms("valid_inputs")
    directed, tied = exact(train), exact(train, symmetric=True)
    assert directed.loss(10) == pytest.approx(45_105.6, abs=0.05)
    assert directed.loss(256) == pytest.approx(0, abs=1e-9)
    assert tied.loss(4096) == pytest.approx(93_702.13, abs=0.01)
    assert directed.losses_on(valid)[10] == pytest.approx(72_820.0, abs=0.05)
    assert tied.losses_on(valid)[10] == pytest.approx(76_786.1, abs=0.05)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: exact(np.zeros((2, 3))), InputError, r"m is no square matrix.*got shape \(2, 3\)"),
        (lambda: exact(np.zeros((0, 0))), InputError, r"at least one; got shape \(0, 0\)"),
        (lambda: exact(np.zeros(3)), InputError, r"got shape \(3,\)"),
        (lambda: exact(np.array([["a"]])), InputTypeError, "m holds no numbers"),
        (lambda: exact(np.diag([1, np.nan])), NotFiniteError, "not finite everywhere.*nan in row 1, column 1"),
        (lambda: exact(np.eye(2)).at(0), InputError, "dim is too small. Expected 1 or more; got 0"),
        (lambda: exact(np.eye(2)).loss(-1), InputError, "dim is too small"),
        (lambda: exact(np.eye(2)).losses_on(np.eye(3)), InputError, "other words than m. Expected 2 of them; got 3"),
        (lambda: descend(np.eye(2), 0), InputError, "dim is too small"),
        (lambda: descend(np.eye(2), 1, steps=-1), InputError, "steps cannot be used.*got -1"),
        (lambda: descend(np.eye(2), 1, rate=math.nan), InputError, "rate cannot be used.*got nan"),
        (lambda: descend(np.eye(2), 1, deviation=math.inf), InputError, "deviation cannot be used.*got inf"),
        (lambda: descend(np.eye(2), 1, watched={"validation": np.eye(5)}), InputError, "validation is of other words"),
        (lambda: descend(np.eye(7), 3, rate=9.0), NotFiniteError, "descent diverged at step .*a rate below 9"),
        (lambda: log_counts(np.array([[1, 2, 3]])), InputError, "counts is no square matrix"),
        (lambda: log_counts(np.array([[1.0, math.inf], [0, 1]])), NotFiniteError, "inf in row 0, column 1"),
        (lambda: log_counts(np.array([[-2]])), InputError, "counts are negative in places.*got -2"),
        (lambda: log_counts(np.array([[2]]), 0), InputError, "delta cannot be used. Expected a number above 0; got 0"),
    ],
)
def test_what_cannot_be_used(call, error, message):
    with pytest.raises(error, match=message):
        call()
