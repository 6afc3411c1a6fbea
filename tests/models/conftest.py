"""A small batch of the shape that every translation model reads."""

import pytest
import torch

from qkv.data import batch_of
from qkv.types import PairBatch


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def pairs() -> list[tuple[list[int], list[int]]]:
    """Sources and targets of different lengths, ids from 4 to 10."""
    return [([5, 9, 4, 7, 8], [6, 5]), ([4], [8, 10, 9, 4, 7, 6, 5]), ([10, 6, 4], [5, 7, 4])]


@pytest.fixture
def batch(pairs) -> PairBatch:
    return batch_of(*(list(side) for side in zip(*pairs, strict=True)))
