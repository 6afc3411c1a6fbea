"""The functions of the language on tensors in float64, so that autograd can go back through them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Number = Float[Tensor, "..."]


def _outer(left: Float[Tensor, " rows"], right: Float[Tensor, " columns"]) -> Float[Tensor, "rows columns"]:
    return torch.outer(left, right)


def _softmax(scores: Number, axis: int = -1) -> Number:
    return torch.softmax(scores, dim=axis)


def _log_softmax(scores: Number, axis: int = -1) -> Number:
    return torch.log_softmax(scores, dim=axis)


def _sum(x: Number, axis: int | None = None) -> Number:
    return x.sum() if axis is None else x.sum(dim=axis)


def _mean(x: Number, axis: int | None = None) -> Number:
    return x.mean() if axis is None else x.mean(dim=axis)


def _max(x: Number, axis: int | None = None) -> Number:
    return x.max() if axis is None else x.amax(dim=axis)


def _vec(x: Float[Tensor, "rows columns"]) -> Float[Tensor, " entries"]:
    """The columns one below another, as the identity vec(A X B) = (B.T kron A) vec(X) has them."""
    return x.mT.reshape(-1)


def _concat(*parts: Number, axis: int = 0) -> Number:
    return torch.cat(parts, dim=axis)


def _ones(*sizes: Number) -> Number:
    return torch.ones([int(size) for size in sizes], dtype=torch.float64)


def _zeros(*sizes: Number) -> Number:
    return torch.zeros([int(size) for size in sizes], dtype=torch.float64)


def _eye(size: Number) -> Float[Tensor, "size size"]:
    return torch.eye(int(size), dtype=torch.float64)


def _step(z: Number) -> Number:
    return (z > 0).double()


def _hard_threshold(z: Number) -> Number:
    return (z >= 0).double()


FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": torch.abs, "concat": _concat, "diag": torch.diag, "dot": torch.dot, "exp": torch.exp, "eye": _eye,
    "hard_threshold": _hard_threshold, "log": torch.log, "log_softmax": _log_softmax, "max": _max, "mean": _mean,
    "norm": torch.linalg.norm, "ones": _ones, "outer": _outer, "relu": torch.relu, "sigmoid": torch.sigmoid,
    "softmax": _softmax, "sqrt": torch.sqrt, "step": _step, "sum": _sum, "tanh": torch.tanh, "trace": torch.trace,
    "vec": _vec, "zeros": _zeros,
}  # fmt: skip
"""By their names; an axis is a keyword, sizes are numbers."""
