"""Edits that mend a backward pass: the line, and what it should say."""

import numpy as np
import pytest

from qkv.check import gradients

RNG = np.random.default_rng(1)
X, T = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
ROWS = np.array([0, 2, 2, 1, 0, 2, 0])
PARAMETERS = {"w": RNG.normal(size=(3, 5)), "b": RNG.normal(size=5), "v": RNG.normal(size=(5, 2))}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def no_slope(parameters):
    w, b, v = parameters["w"], parameters["b"], parameters["v"]
    h = sigmoid(X @ w + b)
    error = h @ v - T
    loss = (error**2).mean()
    d_error = 2 * error / error.size
    dz = d_error @ v.T
    return loss, {"w": X.T @ dz, "b": dz.sum(axis=0), "v": h.T @ d_error}


def half_slope(parameters):
    w, b, v = parameters["w"], parameters["b"], parameters["v"]
    h = sigmoid(X @ w + b)
    error = h @ v - T
    loss = (error**2).mean()
    d_error = 2 * error / error.size
    dz = d_error @ v.T * h
    return loss, {"w": X.T @ dz, "b": dz.sum(axis=0), "v": h.T @ d_error}


def no_mean(parameters):
    w, b, v = parameters["w"], parameters["b"], parameters["v"]
    h = sigmoid(X @ w + b)
    error = h @ v - T
    loss = (error**2).mean()
    d_error = 2 * error
    dz = d_error @ v.T * (h * (1 - h))
    return loss, {"w": X.T @ dz, "b": dz.sum(axis=0), "v": h.T @ d_error}


def no_sum(parameters):
    w, b, v = parameters["w"], parameters["b"], parameters["v"]
    h = sigmoid(X @ w + b)
    error = h @ v - T
    loss = (error**2).mean()
    d_error = 2 * error / error.size
    dz = d_error @ v.T * (h * (1 - h))
    db = dz.mean(axis=0)
    return loss, {"w": X.T @ dz, "b": db, "v": h.T @ d_error}


def scattered_twice(parameters):
    w, b, v = parameters["w"], parameters["b"], parameters["v"]
    h = sigmoid(w[ROWS] + b)
    error = h @ v - T
    loss = (error**2).mean()
    d_error = 2 * error / error.size
    dz = d_error @ v.T * (h * (1 - h))
    d_w = np.zeros_like(w)
    np.add.at(d_w, ROWS, 2 * dz)
    return loss, {"w": d_w, "b": dz.sum(axis=0), "v": h.T @ d_error}


@pytest.mark.parametrize(
    ("function", "wrong", "cause", "line"),
    [
        (no_slope, ["w", "b"], "derivative", "dz = d_error @ v.T"),
        (half_slope, ["w", "b"], "derivative", "dz = d_error @ v.T * h"),
        (no_mean, ["w", "b", "v"], "factor", "d_error = 2 * error"),
        (no_sum, ["b"], "mean", "db = dz.mean(axis=0)"),
        (scattered_twice, ["w"], "factor", "np.add.at(d_w, ROWS, 2 * dz)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_line_is_named(function, wrong: list[str], cause: str, line: str):
    code = function.__code__
    report = gradients(function, PARAMETERS)
    assert [claim.name for claim in report.wrong] == wrong
    for claim in report.wrong:
        assert claim.cause in ((cause, "mean") if cause == "factor" else (cause,))
        assert f"`{line}` would be right as `" in claim.explanation
        assert "test_repair.py, line " in claim.explanation
    assert function.__code__ is code


def test_what_no_edit_mends_is_left_to_the_arrays():
    def unrelated(parameters):
        loss, found = no_mean(parameters)
        rng = np.random.default_rng(3)
        return loss, {name: rng.normal(size=value.shape) for name, value in found.items()}

    report = gradients(unrelated, PARAMETERS, points=2)
    assert len(report.wrong) == 3
    assert "would be right" not in report.wrong[0].explanation
