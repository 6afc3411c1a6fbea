"""Two sides compared: the same weights and inputs, their outputs and all gradients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qkv.check.parity.case import Case, Sizes, State, Trial
from qkv.check.parity.dropped import Switch
from qkv.check.parity.side import Outputs, Side
from qkv.errors import NotFiniteError
from qkv.types import Entry

_TOLD = 20
_ALL = 1e300  # the error of what is not finite or of another shape
# Arrays whose entries are all smaller than this share of the largest are judged as if they had it: they are rounding.
_LEAST = 1e-3
# What is allowed relative to the largest entry of an array, and how many times the reference's own rounding beside it.
ALLOWED = {torch.float64: (1e-9, 0.0), torch.float32: (2e-5, 8.0), torch.bfloat16: (2e-2, 6.0)}


@dataclass(frozen=True)
class Finding:
    """One array compared: `errors` is relative to its largest entry, `allowed` likewise."""

    name: str
    trial: str
    sizes: Sizes
    dtype: torch.dtype
    error: float
    allowed: float
    errors: np.ndarray
    entries: list[Entry]

    @property
    def wrong(self) -> bool:
        return not self.error <= self.allowed


@dataclass
class Comparison:
    """Both sides of one size, with a state of the reference and what is asked of them.

    Attributes:
        state: the reference's parameters, drawn anew so that none is zero or like another.
        known, right: what was computed once, by trial: the formula's outputs, the reference's.
        cotangents: what outputs are weighted with before they are differentiated, by trial and output.
    """

    case: Case | None
    ours: Side
    theirs: Side
    sizes: Sizes
    trials: list[Trial]
    state: dict[str, Tensor]
    generator: torch.Generator
    switch: Switch
    exact: torch.dtype = torch.float64
    cotangents: dict[tuple[str, str, tuple[int, ...]], Tensor] = field(default_factory=dict)
    known: dict[str, Outputs] = field(default_factory=dict, repr=False)
    right: dict[str, Outputs] = field(default_factory=dict, repr=False)

    def expected(self, trial: Trial) -> Outputs | None:
        """Outputs of the formula, where there is one: their shapes are those that both sides should have."""
        if self.case is None:
            return None
        if trial.name not in self.known:
            with torch.no_grad():
                functions = self.case.formula.right.functions
                found = self.case.computed(functions, self.state, trial.inputs, self.theirs.sizes, trial)
                self.known[trial.name] = dict(found)
        return self.known[trial.name]

    def reference(self, trial: Trial) -> Outputs:
        """What the reference gives in the most exact type, computed once."""
        if trial.name not in self.right:
            self.right[trial.name] = self.of(self.theirs, trial, self.exact)
        return self.right[trial.name]

    def of(self, side: Side, trial: Trial, dtype: torch.dtype, *, gradients: bool = True) -> Outputs:
        """A side's outputs and gradients."""
        shapes = self.expected(trial)
        trial = _cast(trial, dtype)
        return self.outcome(
            lambda inputs, state: side.run(trial, inputs, state, shapes), trial, dtype, gradients=gradients
        )

    def outcome(
        self, run: Callable[[State, State], Mapping[str, Any]], trial: Trial, dtype: torch.dtype, *, gradients: bool
    ) -> Outputs:
        """What `run` gives for inputs and a state: outputs at real positions, and gradients by both."""
        self.switch.on = trial.drops
        inputs = {name: _leaf(value, dtype, gradients) for name, value in trial.inputs.items()}
        state = {name: _leaf(value, dtype, gradients) for name, value in self.state.items()}
        with torch.set_grad_enabled(gradients):
            outputs = {}
            for name, value in run(inputs, state).items():
                real = trial.real.get(name)
                fits = real is not None and value.shape[: real.dim()] == real.shape
                outputs[name] = value if real is None or not fits else torch.where(_widened(real, value), value, 0.0)
            if not gradients:
                return outputs
            total = sum((value * self._cotangent(trial, name, value)).sum() for name, value in outputs.items())
            leaves = {**{name if name == "input" else f"input {name}": x for name, x in inputs.items()}, **state}
            leaves = {name: x for name, x in leaves.items() if x.requires_grad}
            if not isinstance(total, Tensor) or not total.requires_grad:
                found: Any = [None] * len(leaves)
            else:
                found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True):
            outputs[f"gradient by {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
        return {name: value.detach() for name, value in outputs.items()}

    def _cotangent(self, trial: Trial, name: str, value: Tensor) -> Tensor:
        key = trial.name, name, tuple(value.shape)
        if key not in self.cotangents:
            drawn = torch.randn(value.shape, generator=self.generator, dtype=torch.float64)
            self.cotangents[key] = drawn * 0.5 if name == "mean weights" else drawn
        return self.cotangents[key].to(value)

    def leaks(self, side: Side, trial: Trial) -> bool:
        """Whether a position has influence on one that may not attend to it, of the batch's first item."""
        assert self.case is not None
        for full, (padding, keys) in self.case.masks.items():
            if full not in trial.given and padding not in trial.given:
                continue
            inputs = {name: _leaf(value, self.exact, True) for name, value in trial.inputs.items()}
            output = next(iter(side.run(trial, inputs, self.state, self.expected(trial)).values()))[0]
            keyed = inputs.get("key", inputs[keys])
            left_out = torch.zeros(len(output), keyed.shape[1], dtype=torch.bool)
            if full in trial.given:
                left_out = left_out | trial.given[full]
            if padding in trial.given:
                left_out = left_out | trial.given[padding][0]
            for query, row in enumerate(output):
                reached = torch.autograd.grad(row.square().sum(), keyed, retain_graph=True)[0][0].abs().amax(-1) > 1e-12
                reached[query % len(reached)] &= keys in ("memory", "key")  # all may reach itself, past attention
                if bool((reached & left_out[query]).any()):
                    return True
        return False

    def findings(self, dtype: torch.dtype, tolerance: float | None) -> list[Finding]:
        """All arrays of all trials, compared in one type."""
        ours, theirs = self.ours.cast(dtype), self.theirs.cast(dtype)
        found = []
        for trial in self.trials:
            if dtype != self.exact and trial.training and trial.drops and self.sizes.get("dropout"):
                continue  # which values are dropped follows from their last digits
            mine = self.of(ours, trial, dtype)
            his = self.reference(trial) if dtype == self.exact else self.of(theirs, trial, dtype)
            if any(
                name not in mine for name in his
            ):  # less is returned than by the reference: differentiate that alone
                his = self._restricted(theirs, trial, dtype, set(mine))
            steady = dtype == self.exact
            if steady:
                precise = his
            elif set(self.reference(trial)) == set(his):
                precise = self.reference(trial)
            else:
                precise = self._restricted(self.theirs, trial, self.exact, set(mine))
            if trial is self.trials[0]:
                _require_finite(mine, his, self.ours.title)
            least = _LEAST * max(float(value.abs().max()) for value in precise.values() if value.numel())
            found += [
                _finding(name, trial, self.sizes, dtype, (value, his[name], precise[name]), least, tolerance)
                for name, value in mine.items()
                if name in his
            ]
        return found

    def _restricted(self, side: Side, trial: Trial, dtype: torch.dtype, names: set[str]) -> Outputs:
        shapes, trial = self.expected(trial), _cast(trial, dtype)

        def run(inputs: State, state: State) -> Outputs:
            returned = side.run(trial, inputs, state, shapes)
            return {name: value for name, value in returned.items() if name in names}

        return self.outcome(run, trial, dtype, gradients=True)


def _finding(
    name: str,
    trial: Trial,
    sizes: Sizes,
    dtype: torch.dtype,
    arrays: tuple[Tensor, Tensor, Tensor],
    least: float,
    tolerance: float | None,
) -> Finding:
    relative, rounding = ALLOWED[dtype]
    if dtype == torch.float64 and tolerance is not None:
        relative = tolerance
    mine, his, best = (x.to(torch.float64).numpy() for x in arrays)
    if mine.shape != best.shape:
        return Finding(name, trial.name, sizes, dtype, _ALL, relative, np.full(best.shape, _ALL), [])
    size = max(float(np.abs(best).max(initial=0.0)), least) or 1.0
    own = float(np.abs(his - best).max(initial=0.0)) / size
    off = np.abs(mine - best) / size
    off = np.where(np.isfinite(off), off, _ALL)
    off = np.where(np.isnan(mine) & np.isnan(best), 0.0, off)
    error = float(off.max(initial=0.0))
    allowed = relative + rounding * own
    order = np.argsort(-off, axis=None)[:_TOLD]
    entries = []
    for flat in order.tolist():
        index = tuple(int(i) for i in np.unravel_index(flat, off.shape))
        if off[index] > allowed or not entries:
            larger = max(abs(mine[index]), abs(best[index]))
            relative_error = abs(mine[index] - best[index]) / larger if larger else 0.0
            entries.append(Entry(index, float(mine[index]), float(best[index]), float(relative_error)))
    return Finding(name, trial.name, sizes, dtype, error, allowed, off, entries)


def _require_finite(mine: Outputs, his: Outputs, title: str) -> None:
    for name, value in mine.items():
        if name in his and not bool(torch.isfinite(value).all()) and bool(torch.isfinite(his[name]).all()):
            index = tuple(int(i) for i in (~torch.isfinite(value)).nonzero()[0])
            raise NotFiniteError(
                f"{title} gives {name} that is not finite",
                expected="numbers, as the reference gives",
                got=f"{float(value[index])} at {list(index)}",
            )


def same(ours: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float) -> bool:
    """Whether all of one's arrays are in the other, and equal to them."""
    return all(name in other and close(value, other[name], tolerance) for name, value in ours.items())


def close(value: Tensor, other: Any, tolerance: float) -> bool:
    if not isinstance(other, Tensor) or value.shape != other.shape:  # a variant may give anything
        return False
    if not bool(torch.isfinite(value).all()):
        return bool(torch.allclose(value, other, rtol=tolerance, atol=tolerance, equal_nan=True))
    size = max(float(value.abs().max()), _LEAST) if value.numel() else 1.0
    off = (value - other).abs()
    return bool((off <= tolerance * size).all())


def _cast(trial: Trial, dtype: torch.dtype) -> Trial:
    """A trial whose masks of numbers have this type."""
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in trial.given.items()}
    return replace(trial, given=given)


def _leaf(value: Tensor, dtype: torch.dtype, gradients: bool) -> Tensor:
    if not value.is_floating_point():
        return value
    return value.detach().to(dtype).clone().requires_grad_(gradients)


def _widened(real: Tensor, like: Tensor) -> Tensor:
    return real.reshape(*real.shape, *[1] * (like.dim() - real.dim()))
