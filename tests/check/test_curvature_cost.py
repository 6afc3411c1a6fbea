import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qkv.check import curvature_cost
from qkv.check.curvature_cost import Operations, bracketings, costs
from qkv.errors import InputError


def test_operations_by_hand():
    a, b, x = torch.ones(3, 5), torch.ones(5, 7), torch.ones(5)
    for call, expected in (
        (lambda: a @ b, 2 * 3 * 5 * 7),
        (lambda: a @ x, 2 * 3 * 5),
        (lambda: x @ x, 2 * 5),
        (lambda: a * 3 + a, 2 * 15),
        (lambda: a[:, None] * b.T, 3 * 7 * 5),  # two of 15 and 35 entries make one of 105
        (lambda: a.T.reshape(-1)[:4], 0),
        (lambda: torch.cat((a, a)), 0),
        (lambda: torch.zeros(9), 0),
    ):
        with Operations() as counted:
            call()
        assert counted.total == expected


def test_backward_passes_are_counted():
    # Of y = A x forward takes 2 m n, and dy/dA = 1 x^T as much again; A is all that is differentiated by.
    weight, x = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7)
    with Operations() as counted:
        (weight @ x).backward(torch.ones(3, 7))
    assert counted.total == 2 * (2 * 3 * 5 * 7)


@pytest.mark.parametrize(("n", "m"), [(5, 3), (5, 5), (5, 11)])
def test_bracketings_by_hand(n: int, m: int):
    # A product of vectors of n entries takes n multiplications and n additions, an outer one multiplications alone.
    left, right, best = bracketings(n, m)
    assert left.operations == n * n + 2 * n * n + n * m  # v v^T; times y1; with y2
    assert right.operations == n * m + 2 * n * m + n * m  # y1 y2^T; v^T times that; v with that
    assert best.operations == 2 * n + n + n * m
    assert best.operations < min(left.operations, right.operations)
    # From the right is cheaper where m < n, and dearer where m > n: what forward mode wins, it wins by short y2.
    assert (right.operations < left.operations) == (m < n)
    assert (right.operations == left.operations) == (m == n)


def test_products_cost_a_few_gradients_and_the_matrix_n_of_them():
    found = {}
    for n in (64, 128):
        v = torch.ones(n, dtype=torch.float64)
        for cost in costs(lambda x, v=v: (v @ x) ** 2 / 2, torch.zeros_like(v), rounds=1, limit=64):
            found[cost.how, cost.n] = cost
    assert [how for how, n in found if n == 64] == [
        "gradient", "forward-over-reverse", "reverse-over-reverse", "explicit Hessian",
    ]  # fmt: skip
    for how in ("gradient", "forward-over-reverse", "reverse-over-reverse"):
        assert found[how, 128].operations / found[how, 64].operations == pytest.approx(2, rel=0.05)
        assert found[how, 128].operations < 5 * found["gradient", 128].operations
    explicit = [found["explicit Hessian", n] for n in (64, 128)]
    assert explicit[1].operations / explicit[0].operations == pytest.approx(4, rel=0.05)
    assert explicit[0].seconds is not None
    assert explicit[1].seconds is None  # past the limit it is not formed


def test_a_way_that_cannot_be_gone_is_left_out():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Tanh()), torch.ones(5, 3)
    found = costs(lambda m: m(x).sum(), model, rounds=1, limit=0)
    assert [cost.how for cost in found] == ["gradient", "reverse-over-reverse", "explicit Hessian"]


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(InputError, match=r"rounds is too small. Expected at least 1; got 0"):
        costs(F.relu, torch.ones(1), rounds=0)
    with pytest.raises(InputError, match="sizes of 1 or more; got 0 and 3"):
        bracketings(0, 3)


def test_a_hessian_that_would_take_long_is_counted_but_not_formed(monkeypatch):
    monkeypatch.setattr(curvature_cost, "_LONGEST", 0.0)
    *_, product, explicit = costs(lambda x: (x**4).sum(), torch.ones(11), rounds=1)
    assert product.seconds
    assert explicit.seconds is None
    assert explicit.operations == 11 * product.operations + 2 * 11**2
