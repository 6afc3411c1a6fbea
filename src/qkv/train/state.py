"""What a run needs to go on as if it had never stopped, and how it is kept: one folder, renamed whole."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qkv import files
from qkv.errors import RunError


@dataclass
class Position:
    """How far training has come."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """The next batch of this epoch."""
    seconds: float = 0.0
    """Time spent training, over all sittings."""
    tokens: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    worse: int = 0
    """Validations since the best one."""
    validated: int = -1
    """The step of the last validation."""
    unlogged_loss: float = 0.0
    """Sum of losses since the last measurement was written, and how many."""
    unlogged_steps: int = 0
    lines: int = 0
    """Measurements written so far."""


@dataclass
class TrainingState:
    """The model, the optimiser, the position and the best weights so far: saved together, restored together.

    Attributes:
        best: of the weights, or of their running mean, whichever is validated.
        mean: the running mean of the parameters, once `take_into_mean` was called.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    position: Position = field(default_factory=Position)
    best: dict[str, Tensor] = field(default_factory=dict)
    mean: dict[str, Tensor] = field(default_factory=dict)

    def take_into_mean(self, share: float) -> None:
        """Moves the mean towards the parameters, by a share of the way."""
        for name, parameter in self.model.named_parameters():
            self.mean.setdefault(name, parameter.detach().clone()).lerp_(parameter.detach(), share)

    @contextmanager
    def at_mean(self) -> Iterator[None]:
        """Inside, the parameters are the running mean, where there is one."""
        parameters = dict(self.model.named_parameters())
        kept = {name: parameters[name].detach().clone() for name in self.mean}
        try:
            _copy(self.mean, parameters)
            yield
        finally:
            _copy(kept, parameters)

    def keep_best(self) -> None:
        self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def save(self, path: Path) -> None:
        moments = {
            f"optimizer.{index}.{name}": value
            for index, entry in self.optimizer.state_dict()["state"].items()
            for name, value in entry.items()
        }
        tensors = _prefixed("model", self.model.state_dict()) | _prefixed("best", self.best)
        tensors |= _prefixed("mean", self.mean) | moments | _generators()
        document = {
            "position": asdict(self.position) | {"best_loss": repr(self.position.best_loss)},
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        with files.atomic_folder(path) as folder:
            files.write_tensors(folder / "state.safetensors", tensors)
            files.write_json(folder / "state.json", document)

    def load(self, path: Path, *, other_threads: bool = False) -> None:
        """Restores what `save` kept, random generators included.

        Raises:
            RunError: where the thread count differs (sums would be rounded in another order, so that the run would
                not go on as if never stopped), unless `other_threads`; where what was saved is not of this model.
        """
        try:
            self._load(path, other_threads=other_threads)
        except (KeyError, TypeError, RuntimeError) as error:
            raise RunError("the saved state is damaged, or of another model", hint="a new run", path=path) from error

    def _load(self, path: Path, *, other_threads: bool) -> None:
        document = files.read_json(path / "state.json")
        if document["threads"] != torch.get_num_threads() and not other_threads:
            raise RunError(
                "this run was started on another number of threads, and would not go on bit for bit",
                expected=f"{document['threads']} threads",
                got=f"{torch.get_num_threads()}",
                hint=f"--threads {document['threads']}, or --other-threads to go on regardless",
                path=path.parent,
            )
        tensors = files.read_tensors(path / "state.safetensors")
        self.model.load_state_dict(_under("model", tensors))
        self.best, self.mean = _under("best", tensors), _under("mean", tensors)
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.model.parameters())
        for name, value in _under("optimizer", tensors).items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = _laid_out_as(value, parameters[int(index)])
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.position = Position(**document["position"] | {"best_loss": float(document["position"]["best_loss"])})
        torch.set_rng_state(tensors["generator.cpu"])
        if "generator.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["generator.cuda"])


def _laid_out_as(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """`value` with the strides of its parameter: fused optimisers go over both as they lie in memory."""
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.shape == parameter.shape else value


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)


def _generators() -> dict[str, Tensor]:
    states = {"generator.cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["generator.cuda"] = torch.cuda.get_rng_state()
    return states


def _prefixed(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
