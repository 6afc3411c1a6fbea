import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from qkv import team
from qkv.team import side_by_side


@pytest.fixture(params=["torch's threads", "a pool"], autouse=True)
def three_threads(request, monkeypatch):
    if request.param == "a pool":
        monkeypatch.setattr(team, "_openmp", lambda: None)
    elif team._openmp() is None:
        pytest.skip("this torch does not come with GNU's OpenMP library")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 101])
def test_results_are_in_order(count):
    assert side_by_side(lambda task: task + 1, range(count)) == list(range(1, count + 1))


def test_as_many_threads_as_torch_has():
    together = threading.Barrier(3, timeout=60)  # nobody passes before three have come
    found = side_by_side(lambda _: (together.wait(), threading.get_ident())[1], range(3))
    assert len(set(found)) == 3


def test_who_is_free_takes_the_next():
    def work(task: int) -> int:
        time.sleep(0.5 if task == 0 else 0)
        return threading.get_ident()

    slow, *others = side_by_side(work, range(20))
    assert slow not in others


def test_operations_of_torch_have_one_thread_inside():
    matrices = torch.randn(5, 67, 71, dtype=torch.float64)
    made = side_by_side(lambda matrix: matrix @ matrix.T, list(matrices))
    torch.testing.assert_close(torch.stack(made), matrices @ matrices.mT)


def test_what_is_raised_inside_is_raised_outside():
    begun = []

    def work(task: int) -> None:
        begun.append(task)
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task"):
        side_by_side(work, range(1000))
    assert len(begun) <= 3  # a thread stops at its first
    assert side_by_side(abs, [-1, -2]) == [1, 2]


def test_inside_one_another():
    made = side_by_side(lambda row: side_by_side(lambda column: row * column, range(5)), range(7))
    assert made == [[row * column for column in range(5)] for row in range(7)]


def test_from_several_threads():
    with ThreadPoolExecutor(3) as callers:
        found = list(callers.map(lambda caller: side_by_side(lambda task: caller * task, range(50)), range(6)))
    assert found == [[caller * task for task in range(50)] for caller in range(6)]


def test_modes_of_the_caller():
    weight = torch.ones(3, requires_grad=True)
    tracked = side_by_side(lambda task: (task * weight).requires_grad, range(5))
    with torch.no_grad():
        not_tracked = side_by_side(lambda task: (task * weight).requires_grad, range(5))
    with torch.inference_mode():
        filled = torch.empty(5)
        side_by_side(lambda task: filled[task].fill_(task), range(5))
    assert all(tracked)
    assert not any(not_tracked)
    assert filled.tolist() == list(range(5))
