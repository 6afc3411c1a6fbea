"""A training step as it was published, with its mistake, and as it must be; the check tells which is which:

qkv check gradients docs/published_window_step.py:published
qkv check gradients docs/published_window_step.py:right
"""

import numpy as np

from qkv.models.window_lm import NAMES, loss_and_gradients


def published(parameters, ids, hidden):
    """What belongs to the embedding of the mask is added to that of the word behind it."""
    return loss_and_gradients(parameters, ids, hidden, gradient="published")


def right(parameters, ids, hidden):
    """Each embedding that was read gets what is its own; that of the mask was."""
    return loss_and_gradients(parameters, ids, hidden, gradient="right")


def sample():
    """A network of eleven words, three numbers for each and seven units, and thirteen rows of four words."""
    generator = np.random.default_rng(0)
    shapes = [(11, 3), (7, 12), (7,), (44, 7), (44,)]
    parameters = {name: generator.normal(scale=0.5, size=shape) for name, shape in zip(NAMES, shapes, strict=True)}
    hidden = np.arange(4) == generator.integers(4, size=(13, 1))
    return parameters, generator.integers(1, 11, size=(13, 4)), hidden
