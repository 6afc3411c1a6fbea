"""Slopes measured: as exact as they say, and none where there is a kink."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.check.slopes import Point, takes_complex

X = {"x": np.array([0.7, -1.3])}


@given(st.floats(-2, 2), st.floats(0.1, 20))
def test_errors_are_what_they_say(at: float, rate: float):
    """The slope of `sin(rate x)` is `rate cos(rate x)`, steep or flat."""
    point = Point(lambda p: float(np.sin(rate * p["x"][0])), {"x": np.array([at])})
    slope = point.entry_carefully("x", (0,))
    assert abs(slope.value - rate * np.cos(rate * at)) <= 10 * slope.error + 1e-12
    assert slope.error < 1e-6 * rate
    assert not slope.kink


def test_the_complex_step_is_exact():
    point = Point(lambda p: np.exp(p["x"]).sum(), X, complex_step=True)
    assert point.entry("x", (1,)).value == pytest.approx(np.exp(-1.3), rel=1e-15)


@pytest.mark.parametrize(
    ("loss", "takes"),
    [
        (lambda p: np.exp(p["x"]).sum(), True),
        (lambda p: np.abs(p["x"]).sum(), False),  # drops the imaginary part
        (lambda p: float(np.real(p["x"]).sum()), False),
        (lambda p: (p["x"] * p["x"].conj()).sum(), False),  # takes complex numbers, but is not analytic
    ],
    ids=range(4),
)
def test_what_takes_complex_numbers(loss, takes: bool):
    assert takes_complex(Point(loss, X)) == takes


@pytest.mark.parametrize("distance", [0.0, 1e-3, -1e-2])
def test_kinks(distance: float):
    """Of |x - 0.7| at 0.7, and of one near by, which smaller steps get out of the way of."""
    slope = Point(lambda p: abs(float(p["x"][0]) - 0.7 - distance), X).entry_carefully("x", (0,))
    assert slope.kink == (distance == 0)
    if distance:
        assert slope.value == pytest.approx(-np.sign(distance))


def test_a_slope_beside_a_kink_is_measured_by_smaller_steps():
    """Of |x - 0.7| from 0.0004 away, on which the first steps, of about 0.002, stand on both sides."""
    point = Point(lambda p: abs(float(p["x"][0]) - 0.7004), X)
    assert abs(point.entry("x", (0,)).value + 1) > 0.1
    assert point.entry_beside_kinks("x", (0,)).value == pytest.approx(-1)
    smooth = Point(lambda p: float(np.sin(p["x"]).sum()), X)
    assert smooth.entry_beside_kinks("x", (0,)) == smooth.entry("x", (0,))


def test_noise_is_measured():
    """A loss that is rounded to float32 tells slopes to about the two thirds power of that."""
    point = Point(lambda p: float(np.float32(np.sin(p["x"]).sum())), X)
    assert 1e-9 < point.noise < 1e-6
    slope = point.entry_carefully("x", (0,))
    assert abs(slope.value - np.cos(0.7)) <= 10 * slope.error
    assert 1e-9 < slope.error < 1e-3


def test_directions():
    """Of `x0^2 + x1^2` along (3, 4) / 5: 2 (0.7 * 3 - 1.3 * 4) / 5 = -1.24."""
    point = Point(lambda p: float((p["x"] ** 2).sum()), X)
    assert point.direction("x", np.array([0.6, 0.8])).value == pytest.approx(-1.24)
