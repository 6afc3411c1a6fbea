"""Compiled loops, alone and side by side."""

from typing import no_type_check

import numpy as np
import pytest
import torch

from qkv import team as teams
from qkv.compiled import compiled, in_team
from qkv.team import team


@compiled
def scaled(number, rows, factor):
    numbers, sums = rows
    for x in numbers[number]:
        sums[number] += factor * x


@no_type_check
@compiled
def all_scaled(team, numbers, sums, factor):
    in_team(team, scaled, len(numbers), ((numbers, sums), factor))


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1009])
def test_each_is_called_once(count, threads):
    assert team()[1] in (1, threads)
    numbers, sums = np.arange(7.0 * count).reshape(count, 7), np.zeros(count)
    all_scaled(team(), numbers, sums, 3.0)
    np.testing.assert_array_equal(sums, 3 * numbers.sum(axis=1))


def test_without_torchs_threads_it_is_one(monkeypatch):
    monkeypatch.setattr(teams, "_openmp", lambda: None)
    assert team() == (0, 1)
    sums = np.zeros(5)
    all_scaled(team(), np.ones((5, 2)), sums, 0.5)
    assert sums.tolist() == [1.0] * 5
