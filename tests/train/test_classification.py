import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from qkv.errors import InputError
from qkv.train import class_scores, wilson_interval


def test_scores_by_hand():
    said = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.15, 0.85], [0.7, 0.3]])
    scores = class_scores(said, np.array([0, 0, 1, 1, 1]))
    # Right: 1st, 3rd, 4th. Class 0: 1 hit, 1 missed, 1 taken for it: 2 / 4. Class 1: 2 hits, 1, 1: 4 / 6.
    assert scores.accuracy == 3 / 5
    assert scores.confusion == [[1, 1], [1, 2]]
    assert scores.macro_f1 == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores.cross_entropy == pytest.approx(-sum(map(math.log, (0.9, 0.4, 0.8, 0.85, 0.3))) / 5)
    # Bins of tenths: 0.6 wrong, 0.7 wrong, 0.8 and 0.85 right, 0.9 right.
    found = [(round(one.confidence, 3), one.accuracy, one.count) for one in scores.calibration]
    assert found == [(0.6, 0.0, 1), (0.7, 0.0, 1), (0.825, 1.0, 2), (0.9, 1.0, 1)]
    assert scores.calibration_error == pytest.approx((0.6 + 0.7 + 2 * 0.175 + 0.1) / 5)
    assert set(scores.metrics) == {"accuracy", "macro_f1", "cross_entropy", "calibration_error"}


def test_the_interval_of_wilson_by_hand():
    # z = 1.96, 8 of 10: middle (0.8 + 0.19207) / 1.38415, margin 1.96 / 1.38415 * sqrt(0.016 + 0.0096036).
    low, high = wilson_interval(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0


@settings(max_examples=25)
@given(st.integers(2, 5), st.integers(3, 41), st.integers(0, 999))
def test_scores_are_those_of_scikit_learn(classes, count, seed):
    generator = np.random.default_rng(seed)
    said, labels = generator.dirichlet(np.ones(classes), count), generator.integers(0, classes, count)
    scores = class_scores(said, labels)
    answers = said.argmax(axis=1)
    present = sorted(set(labels.tolist()))
    assert scores.macro_f1 == pytest.approx(f1_score(labels, answers, labels=present, average="macro"))
    assert scores.cross_entropy == pytest.approx(log_loss(labels, said, labels=range(classes)))
    assert sum(one.count for one in scores.calibration) == count
    low, high = scores.interval
    assert 0 <= low <= scores.accuracy + 1e-12
    assert scores.accuracy - 1e-12 <= high <= 1


@pytest.mark.usefixtures("no_shape_hook")
def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="2 labels, 1 rows"):
        class_scores(np.array([[0.5, 0.5]]), np.array([0, 1]))
    with pytest.raises(InputError, match="at least one label"):
        class_scores(np.empty((0, 2)), np.array([], dtype=int))
