"""The training loop. It knows no task: any module with `loss(batch)`, any source of batches, and a run folder.

Gradients are autograd's, unless a module brings its own: one with `loss_and_gradients(batch)`.

The order of data is a function of seed and epoch, and everything that the next step depends on is saved together, so
a run that was stopped or killed goes on to the same weights: bit for bit on the same processor and thread count.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from qkv import files
from qkv.errors import InputError, NotFiniteError, QkvError, StoppedError
from qkv.stopping import stop_signals
from qkv.train.runs import RunFolder
from qkv.train.state import Position, TrainingState
from qkv.types import Config

# oneDNN makes a bfloat16 kernel for every shape that it meets and keeps 1,024 of them, as many as ten batches need: a
# fifth of the time of a step would go into making them again. Read once, before its first use in a process.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")


class FitConfig(Config):
    """How to train: when to stop, how fast to learn, in what precision."""

    epochs: PositiveInt = 30
    """At most so many passes over the training data."""
    steps: PositiveInt | None = None
    """At most so many batches; the schedule is laid out over them."""
    minutes: PositiveFloat | None = None
    """Stop after so much training time, validation included; the schedule is then laid out over whichever ends first,
    so that such a run cannot be repeated bit for bit."""
    patience: PositiveInt = 5
    """Stop after so many validations in a row without a better loss."""
    validate_every: PositiveInt | None = None
    """Batches between validations; by default one at the end of each epoch."""
    learning_rate: PositiveFloat = 1e-3
    """The highest one, reached at the end of the warm-up."""
    warmup_steps: NonNegativeInt = 400
    """Batches over which the learning rate rises from zero."""
    schedule: Literal["inverse-sqrt", "cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """What steps down the gradient: AdamW, or plain descent with momentum."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """What `sgd` keeps of its step before: `v = momentum v + gradient`, and the step is `-learning_rate v`."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's; with `sgd`, so much of each parameter is added to its gradient."""
    clip_norm: PositiveFloat | None = 1.0
    """Gradients with a larger norm are scaled down to it; `none` leaves them as they are."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Validate and keep, in place of the weights, their running mean (Polyak and Juditsky 1992): each step it keeps
    this share of itself, or `step / (step + 9)` where that is less, and takes the rest from the weights."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` takes bfloat16 where the processor multiplies it in hardware."""
    compile: bool = False
    """Compile the loss with torch.compile; switches deterministic algorithms on, so that runs can be resumed."""
    log_every: PositiveInt = 20
    """Batches between two lines of metrics.jsonl."""
    save_every: float = Field(default=60.0, ge=0)
    """Seconds between two saves of what `resume` needs."""


@runtime_checkable
class Batch(Protocol):
    """What `fit` asks of a batch."""

    @property
    def weight(self) -> int:
        """How many predictions its mean loss stands for."""
        ...

    @property
    def tokens(self) -> int:
        """Its size, for the speed of training."""
        ...

    def to(self, device: torch.device | str) -> "Batch": ...


@runtime_checkable
class Batches(Protocol):
    """A source of batches whose order is a function of its seed and the epoch."""

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch `start` on."""
        ...


@runtime_checkable
class HandDerived(Protocol):
    """A module that knows its own gradients."""

    def loss_and_gradients(self, batch: Any) -> tuple[float, Mapping[str, np.ndarray]]:
        """The mean loss of a batch, and its gradients by the names of the parameters, each of its shape and type."""
        ...


@runtime_checkable
class HandDescending(HandDerived, Protocol):
    """A module that also brings the step after its gradients: plain gradient descent with momentum, in one go."""

    def descend(self, batch: Any, moved: Mapping[str, np.ndarray], *, rate: float, momentum: float) -> float:
        """The mean loss; changes parameters and `moved`, the running sums of their gradients, in place."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where training stands, for whoever shows it."""

    step: int
    total_steps: int
    epoch: int
    loss: float | None
    valid_loss: float | None
    unit: str
    tokens_per_second: float
    seconds_left: float


def fit(
    model: nn.Module,
    train: Batches,
    valid: Batches,
    config: FitConfig,
    run: RunFolder,
    *,
    device: torch.device | str = "cpu",
    other_threads: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    measure: Callable[[], Mapping[str, float]] = dict,
) -> Position:
    """Trains `model` until the epochs, steps, minutes or patience are used up; leaves it with its best weights.

    `model.loss(batch)` returns the mean loss of a batch; a model that is `HandDerived` is trained without autograd. A
    run folder that holds a saved state goes on from there. What `measure` returns is written beside each validation
    loss; it finds the model in `eval`, with the weights that this loss is of.

    Raises:
        StoppedError: on Ctrl-C or a termination signal, once the state is saved.
        RunError: where a saved state cannot be continued as asked.
        InputError: where a part has no batches.
    """
    for part, batches in (("training", train), ("validation", valid)):
        if len(batches) == 0:
            raise InputError(f"the {part} part is empty", hint="more data")
    loop = _Loop(model.to(device), train, valid, config, run, device, on_progress, measure)
    loop.recover(other_threads=other_threads)
    at = loop.at
    with _deterministic(config.compile), stop_signals() as stopped:
        loop.start()
        while not loop.finished():
            for batch in train.epoch(at.epoch, at.batch):
                loop.update(batch)
                if at.step % config.log_every == 0:
                    loop.log()
                if at.step % (config.validate_every or len(train)) == 0:
                    loop.validate()
                stop = stopped()
                if stop or loop.save_due():
                    loop.save()
                if stop:
                    raise StoppedError("stopped; all is kept", hint=f"qkv resume {run.path}", path=run.path)
                if loop.finished():
                    break
        loop.end()
    return at


def mean_loss(model: nn.Module, batches: Batches, *, device: torch.device | str = "cpu") -> float:
    """The mean loss over all predictions of `batches`, without dropout or label smoothing (the model is in eval)."""
    training = model.training
    model.eval()
    total, weight = 0.0, 0
    with torch.inference_mode():
        for batch in batches.epoch(0):
            total += float(model.loss(batch.to(device))) * batch.weight  # pyright: ignore[reportCallIssue]
            weight += batch.weight
    model.train(training)
    return total / max(weight, 1)


def learning_rate(step: int, config: FitConfig, left: float) -> float:
    """The rate for the update numbered `step` from 0: a linear rise, then the schedule's fall.

    The inverse square root is that of Vaswani et al. (2017), eq. 3, scaled so that its peak is `learning_rate`.

    Args:
        left: the share of training still to come, 1 to 0.

    >>> config = FitConfig(learning_rate=1.0, warmup_steps=4, schedule="linear")
    >>> [round(learning_rate(step, config, left=1 - step / 10), 2) for step in (0, 3, 7, 9)]
    [0.25, 1.0, 0.3, 0.1]
    """
    warmup = max(config.warmup_steps, 1)
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / warmup
    fall = {
        "inverse-sqrt": math.sqrt(warmup / max(step, 1)),
        "cosine": 0.5 * (1 + math.cos(math.pi * (1 - left))),
        "linear": left,
        "constant": 1.0,
    }[config.schedule]
    return config.learning_rate * fall


def autocast(
    precision: Literal["auto", "float32", "bfloat16"], device: torch.device | str
) -> Callable[[], AbstractContextManager[object]]:
    """What to run a forward pass in: a factory of contexts, for `auto` bfloat16 where it is fast."""
    kind = torch.device(device).type
    if precision == "float32" or (precision == "auto" and not fast_bfloat16(device)):
        return nullcontext
    return lambda: torch.autocast(kind, torch.bfloat16)


def fast_bfloat16(device: torch.device | str) -> bool:
    """Whether this device multiplies bfloat16 in hardware."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()


def _optimizer(parameters: Iterable[nn.Parameter], config: FitConfig) -> torch.optim.Optimizer:
    given: dict[str, Any] = {"lr": 0.0, "weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **given)
    return torch.optim.AdamW(parameters, betas=(0.9, 0.98), **given)


# -- the parts of a step ---------------------------------------------------------------------------------------------


class _Loop:
    """One training run in memory: what `fit` does, in the order in which it says."""

    def __init__(
        self,
        model: nn.Module,
        train: Batches,
        valid: Batches,
        config: FitConfig,
        run: RunFolder,
        device: torch.device | str,
        on_progress: Callable[[Progress], None],
        measure: Callable[[], Mapping[str, float]],
    ):
        self.model, self.train, self.valid, self.config = model, train, valid, config
        self.run, self.device = run, device
        self.on_progress, self.measured_too = on_progress, measure
        most = config.epochs * len(train)
        self.total = min(config.steps or most, most)
        self.precision = autocast(config.precision, device)
        self.derived = model if isinstance(model, HandDerived) else None
        plain = config.optimizer == "sgd" and not config.weight_decay and config.clip_norm is None
        self.descending = model if plain and isinstance(model, HandDescending) else None
        self.parameters = dict(model.named_parameters())
        self.optimizer = _optimizer(self.parameters.values(), config)
        self.state = TrainingState(model, self.optimizer)
        self.valid_loss: float | None = None
        self.unit = "tokens"

    @property
    def at(self) -> Position:
        return self.state.position

    def recover(self, *, other_threads: bool) -> None:
        files.clear_cut_writes(self.run.state)
        files.finish_swap(self.run.state)
        if self.run.state.exists():
            self.state.load(self.run.state, other_threads=other_threads)
        self.run.cut_history(self.at.lines)

    def start(self) -> None:
        loss: Callable[[Batch], Tensor] = self.model.loss  # pyright: ignore[reportAssignmentType]
        self.loss = torch.compile(loss, dynamic=True) if self.config.compile else loss
        self.ticked = self.saved = time.monotonic()

    def update(self, batch: Batch) -> None:
        """One step down the gradient of one batch."""
        at, most = self.at, self.config.clip_norm
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(at.step, self.config, self.left())
        with self.diverging():
            loss = self.descend(batch) if self.descending else self.differentiate(batch.to(self.device))
        norm = loss if most is None else float(nn.utils.clip_grad_norm_(self.parameters.values(), most))
        if not math.isfinite(norm):
            raise self._diverged(f"the gradients are not finite at step {at.step + 1} (loss {loss:.4g})")
        if not self.descending:
            self.optimizer.step()
        at.step, at.tokens = at.step + 1, at.tokens + batch.tokens
        self.unit = getattr(batch, "unit", self.unit)
        if self.config.average:
            self.state.take_into_mean(1 - min(self.config.average, at.step / (at.step + 9)))
        at.epoch, at.batch = divmod(at.step, len(self.train))
        at.unlogged_loss, at.unlogged_steps = at.unlogged_loss + loss, at.unlogged_steps + 1
        self.tick()

    def descend(self, batch: Batch) -> float:
        """The loss of a batch, before the step that the model takes by itself."""
        assert self.descending is not None
        moved = {}
        for name, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            moved[name] = state["momentum_buffer"].numpy()
        rate = self.optimizer.param_groups[0]["lr"]
        return self.descending.descend(batch, moved, rate=rate, momentum=self.config.momentum)

    def differentiate(self, batch: Batch) -> float:
        """The loss of a batch; leaves its gradients with the parameters."""
        if self.derived is not None:
            loss, gradients = self.derived.loss_and_gradients(batch)
            for name, parameter in self.parameters.items():
                parameter.grad = torch.from_numpy(gradients[name])
            return loss
        with self.precision():
            loss = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return float(loss.detach())

    def tick(self) -> None:
        """Adds the time since the last tick to that of earlier sittings."""
        now = time.monotonic()
        self.at.seconds += now - self.ticked
        self.ticked = now

    def log(self) -> None:
        at = self.at
        loss = at.unlogged_loss / at.unlogged_steps
        at.unlogged_loss, at.unlogged_steps = 0.0, 0
        rate = self.optimizer.param_groups[0]["lr"]
        self._measure("train", loss=loss, learning_rate=rate, tokens=at.tokens)
        self._show(loss)

    def validate(self) -> None:
        at = self.at
        with self.state.at_mean():
            with self.precision(), self.diverging():
                self.valid_loss = mean_loss(self.model, self.valid, device=self.device)
            if not math.isfinite(self.valid_loss):
                raise self._diverged(f"the validation loss is not finite at step {at.step}")
            self.model.eval()
            beside = self.measured_too()
            at.validated = at.step
            if best := self.valid_loss < at.best_loss:
                at.best_loss, at.best_step, at.worse = self.valid_loss, at.step, 0
                self.state.keep_best()
            else:
                at.worse += 1
        self.tick()
        self._measure("valid", loss=self.valid_loss, best=best, **beside)
        self._show(None)

    def left(self) -> float:
        """The share of training still to come, by steps or by time, whichever is less."""
        at, minutes = self.at, self.config.minutes
        by_steps = 1 - at.step / self.total
        return max(by_steps if minutes is None else min(by_steps, 1 - at.seconds / (60 * minutes)), 0.0)

    def save_due(self) -> bool:
        return time.monotonic() - self.saved >= self.config.save_every

    def save(self) -> None:
        self.state.save(self.run.state)
        self.saved = time.monotonic()

    def finished(self) -> bool:
        at, config = self.at, self.config
        return (
            at.step >= self.total
            or at.worse >= config.patience
            or (config.minutes is not None and at.seconds >= 60 * config.minutes)
        )

    def end(self) -> None:
        """Measures the last steps too, and takes the best weights."""
        if self.at.unlogged_steps:
            self.log()
        if self.at.validated != self.at.step:
            self.validate()
        self.save()
        self.model.load_state_dict(self.state.best)
        self.run.save_weights(self.state.best)

    @contextmanager
    def diverging(self) -> Iterator[None]:
        """Numbers that are not finite are no fault of the data by now: the error says what to change."""
        try:
            yield
        except NotFiniteError as error:
            raise self._diverged(f"the model has left the finite numbers at step {self.at.step}") from error

    def _diverged(self, problem: str) -> QkvError:
        hint = "a smaller --fit.learning-rate, more --fit.warmup-steps, or --fit.precision float32"
        return QkvError(problem, hint=hint, path=self.run.path)

    def _measure(self, part: str, **values: float | int) -> None:
        at = self.at
        at.lines += 1
        self.run.log({"part": part, "step": at.step, "epoch": at.epoch, "seconds": round(at.seconds, 3)} | values)

    def _show(self, loss: float | None) -> None:
        at, minutes = self.at, self.config.minutes
        left = (self.total - at.step) * at.seconds / max(at.step, 1)
        if minutes is not None:
            left = min(left, 60 * minutes - at.seconds)
        speed = at.tokens / max(at.seconds, 1e-9)
        progress = Progress(at.step, self.total, at.epoch, loss, self.valid_loss, self.unit, speed, max(left, 0.0))
        self.on_progress(progress)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
