"""What a product with the Hessian costs: operations counted, times measured, each way beside the gradient."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from qkv.check.curvature import EXPLICIT_LIMIT
from qkv.check.point import Parameters, Point, Tensors, Way, flat, gradient
from qkv.errors import InputError

How = Literal["gradient", "forward-over-reverse", "reverse-over-reverse", "explicit Hessian"]

_LONGEST = 20.0  # seconds that the Hessian may take to be formed
_PRODUCTS = {"dot", "vdot", "mv"}  # of vectors, which torch's own counter passes over: twice their largest input
_MOVES = {
    "_has_same_storage_numel", "_reshape_alias", "_to_copy", "_unsafe_view", "cat", "clone", "constant_pad_nd",
    "copy_", "embedding", "empty_like", "fill_", "flip", "full_like", "gather", "index", "index_select",
    "is_same_size", "lift_fresh", "new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros", "ones_like",
    "repeat", "roll", "select_backward", "slice_backward", "stack", "unfold_backward", "zero_", "zeros_like",
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What one way costs by `n` parameters; `seconds` is None where it was not run."""

    how: How
    n: int
    operations: int
    seconds: float | None


@dataclass(frozen=True)
class Bracketing:
    """One order in which `v v^T y1 y2^T` can be multiplied out, and its operations for `y1` in R^n, `y2` in R^m."""

    formula: str
    order: str
    n: int
    m: int
    operations: int


class Operations(TorchDispatchMode):
    """Counts the operations of what runs inside the block, in its forward and its backward passes.

    Products count a multiplication and an addition for each term, all else one operation for each entry of the largest
    tensor in it; what only moves numbers counts nothing. Loops that were compiled are not seen.

    >>> x = torch.ones(5)
    >>> with Operations() as counted:
    ...     total = 3 * x @ x
    >>> counted.total  # 5 and 2 * 5
    15
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        packet, name = func.overloadpacket, func.overloadpacket.__name__
        if packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=made)
        elif not (func.is_view or torch.Tag.inplace_view in func.tags or name in _MOVES):
            largest = max((x.numel() for x in args if _holds_numbers(x)), default=0)
            if largest and _holds_numbers(made):
                largest = max(largest, made.numel())  # two small ones may make a large one
            self.total += largest * (2 if name in _PRODUCTS else 1)
        return made


def costs(
    loss: Callable[..., Tensor],
    parameters: Parameters,
    *,
    rounds: int = 5,
    limit: int = EXPLICIT_LIMIT,
    seed: int = 0,
) -> list[Cost]:
    """The gradient, a product with the Hessian each way, and one by way of the Hessian itself.

    Times are medians of calls in which all take turns; the Hessian is formed once, and not at all past `limit`
    parameters or where that would take more than 20 seconds. Its operations are those of `n` products and of one with
    the matrix.

    Args:
        loss, parameters: as for `hessian_vector`.
        rounds: how many calls of each.
        seed: decides the vector.

    Raises:
        InputError: as `hessian_vector`, and less than one round.

    >>> v = torch.ones(7)
    >>> [(cost.how, cost.n) for cost in costs(lambda x: (v @ x) ** 2 / 2, torch.zeros(7), rounds=1)][:2]
    [('gradient', 7), ('forward-over-reverse', 7)]
    """
    if rounds < 1:
        raise InputError("rounds is too small", expected="at least 1", got=str(rounds))
    at = Point(loss, parameters)
    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in at.tensors]
    twice: dict[How, Way] = {"forward-over-reverse": "forward", "reverse-over-reverse": "reverse"}
    calls: dict[How, Callable[[], object]] = {"gradient": partial(_gradient, at)}
    for how, way in twice.items():
        if _can_be_gone(at, vector, way):
            calls[how] = partial(at.product, vector, (way,))
    operations = {how: _operations(call) for how, call in calls.items()}
    seconds: dict[How, list[float]] = {how: [] for how in calls}
    for _ in range(rounds):
        for how, call in calls.items():
            seconds[how].append(_seconds(call))
    found = [Cost(how, at.size, operations[how], statistics.median(seconds[how])) for how in calls]
    order: Sequence[Way] = ("reverse", "forward")
    product = found[-1]  # the way that the matrix goes too
    expected = at.size * (product.seconds or 0.0)
    may = at.size <= limit and expected <= _LONGEST
    formed = _seconds(lambda: at.matrix(order)[0] @ flat(vector)) if may else None
    return [*found, Cost("explicit Hessian", at.size, at.size * product.operations + 2 * at.size**2, formed)]


def bracketings(n: int, m: int) -> list[Bracketing]:
    """The three orders in which `v v^T y1 y2^T`, with `v` and `y1` in R^n and `y2` in R^m, can be multiplied out.

    Forward mode goes from the right, reverse mode from the left; neither has to form the matrix `v v^T`.

    Raises:
        InputError: a size below 1.

    >>> [(one.formula, one.operations) for one in bracketings(3, 5)]
    [('((v vᵀ) y₁) y₂ᵀ', 42), ('v (vᵀ (y₁ y₂ᵀ))', 60), ('(v (vᵀ y₁)) y₂ᵀ', 24)]
    """
    if min(n, m) < 1:
        raise InputError("vectors have entries", expected="sizes of 1 or more", got=f"{n} and {m}")
    v, y1, y2 = torch.ones(n), torch.ones(n), torch.ones(m)
    orders: list[tuple[str, str, Callable[[], Tensor]]] = [
        ("((v vᵀ) y₁) y₂ᵀ", "O(n² + nm)", lambda: torch.outer(torch.outer(v, v) @ y1, y2)),
        ("v (vᵀ (y₁ y₂ᵀ))", "O(nm)", lambda: torch.outer(v, v @ torch.outer(y1, y2))),
        ("(v (vᵀ y₁)) y₂ᵀ", "O(n + nm)", lambda: torch.outer(v * (v @ y1), y2)),
    ]
    return [Bracketing(formula, order, n, m, _operations(made)) for formula, order, made in orders]


def _gradient(at: Point) -> Tensors:
    """By the operations that products go through, so that it is their unit; fused kernels are faster."""
    leaves = at.leaves()
    with at.differentiable():
        return gradient(at(leaves), leaves)


def _can_be_gone(at: Point, vector: Tensors, way: Way) -> bool:
    try:
        at.product(vector, (way,))
    except InputError:
        return False
    return True


def _operations(call: Callable[[], object]) -> int:
    with Operations() as counted:
        call()
    return counted.total


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _holds_numbers(x: Any) -> TypeGuard[Tensor]:
    return isinstance(x, Tensor) and x.is_floating_point()
