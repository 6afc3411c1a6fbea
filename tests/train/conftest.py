"""A training problem of a few numbers, with dropout, so that generators matter too."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qkv.train import RunFolder


@dataclass(frozen=True)
class Points:
    x: Tensor
    y: Tensor

    @property
    def weight(self) -> int:
        return len(self.x)

    @property
    def tokens(self) -> int:
        return 3 * len(self.x)

    def to(self, device: torch.device | str) -> "Points":
        return Points(self.x.to(device), self.y.to(device))


class PointBatches:
    """Seven batches of points near a plane, in an order of seed and epoch; `seen` tells which were asked for."""

    def __init__(self, seed: int = 0, count: int = 7, rows: int = 5):
        generator = torch.Generator().manual_seed(13)
        self.batches = []
        for number in range(count):
            x = torch.randn(rows + number % 2, 3, generator=generator)
            self.batches.append(Points(x, x.sum(dim=1, keepdim=True)))
        self.seed, self.seen = seed, []

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[Points]:
        for index in np.random.default_rng((self.seed, number)).permutation(len(self))[start:].tolist():
            self.seen.append((number, index))
            yield self.batches[index]


class Plane(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 11), nn.Tanh(), nn.Dropout(0.3), nn.Linear(11, 1))

    def loss(self, batch: Points) -> Tensor:
        return (self.layers(batch.x) - batch.y).square().mean()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def points() -> Callable[..., PointBatches]:
    return PointBatches


@pytest.fixture
def plane() -> Callable[[], Plane]:
    """A new model, the same every time."""

    def make() -> Plane:
        torch.manual_seed(3)
        return Plane()

    return make


@pytest.fixture
def new_run(tmp_path) -> Callable[[str], RunFolder]:
    def make(name: str = "run") -> RunFolder:
        return RunFolder.create(tmp_path / name, recipe="translate", config={}, seed=0)

    return make


@pytest.fixture
def history_of() -> Callable[[Path], list[dict]]:
    """The measurements of a run, less the seconds that they took."""

    def read(path: Path) -> list[dict]:
        lines = [dict(line) for line in RunFolder.open(path).read().history]
        for line in lines:
            del line["seconds"]
        return lines

    return read
