"""A layer of logistic units with its gradients by hand, once with a mistake; the check finds it:

qkv check gradients docs/layer_by_hand.py:wrong
qkv check gradients docs/layer_by_hand.py:right
"""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def wrong(parameters, x, target):
    """The mean squared error of two layers."""
    w1, b1, w2 = parameters["w1"], parameters["b1"], parameters["w2"]
    h = sigmoid(x @ w1 + b1)
    error = h @ w2 - target
    d_error = 2 * error / error.size
    d_w2 = h.T @ d_error
    d_z = d_error @ w2.T * h
    return (error**2).mean(), {"w1": x.T @ d_z, "b1": d_z.sum(axis=0), "w2": d_w2}


def right(parameters, x, target):
    """The same with the derivative of the logistic function, `h (1 - h)`."""
    w1, b1, w2 = parameters["w1"], parameters["b1"], parameters["w2"]
    h = sigmoid(x @ w1 + b1)
    error = h @ w2 - target
    d_error = 2 * error / error.size
    d_w2 = h.T @ d_error
    d_z = d_error @ w2.T * (h * (1 - h))
    return (error**2).mean(), {"w1": x.T @ d_z, "b1": d_z.sum(axis=0), "w2": d_w2}


def sample():
    """Parameters, seven rows of three numbers, and what is to come out."""
    rng = np.random.default_rng(0)
    parameters = {"w1": rng.normal(size=(3, 5)), "b1": np.zeros(5), "w2": rng.normal(size=(5, 2))}
    return parameters, rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
