"""Anyone's gradients against differences of their loss: which entries are wrong, and why.

Entries are judged one at a time against a slope measured there. A sample stands for the rest, and all that is left is
judged together along random directions, so that a wrong entry among many right ones is found as well: where such a
direction disagrees, it is halved until the entry is.
"""

import contextlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from qkv.check.causes import Evidence, likely_causes, ranges
from qkv.check.slopes import Point, Slope, takes_complex
from qkv.check.subject import Arrays, Subject, subject
from qkv.errors import InputError
from qkv.types import Claim, Entry, Fact, Report

_TOLD = 20
_NEAR = 0.1  # how far other points lie from the one given, in units of a parameter's size
_SEARCHES = 400  # directions that may be spent on one parameter, at one point
_FOUND = 8


def gradients(
    thing: Any,
    *arguments: Any,
    entries: int = 400,
    points: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
    title: str = "",
) -> Report:
    """Checks the gradients that `thing` computes by hand or by autograd against slopes of its loss.

    Args:
        thing: a function of a dict of arrays, and what else it takes, that returns `(loss, gradients)` with gradients
            in a dict of the same names; a torch module, or a function of tensors, whose loss (or outputs) autograd
            differentiates; a module with `loss_and_gradients`; or an object with a dict of arrays `parameters`,
            `loss(...)` and `backward(...)`.
        arguments: what it is called with.
        entries: how many entries of each parameter are judged one at a time, fewer at further points.
        points: the one given, and others near it.
        seed: decides the sample, the directions and the other points.
        tolerance: the relative error up to which an entry is right; 1e-6, or 2e-3 where the code computes in float32.
        title: what the code is called in messages.

    Raises:
        InputError, InputTypeError, NotFiniteError: code that raises, returns no loss or no gradients, or is not the
            same when called twice.

    >>> def squares(parameters):
    ...     w = parameters["w"]
    ...     return float((w**2).sum()), {"w": w}
    >>> report = gradients(squares, {"w": np.array([1.0, -2.0, 3.0])})
    >>> report.ok, report["w"].cause, report["w"].entries[0].index
    (False, 'factor', (0,))
    """
    for name, value, least in (("entries", entries, 1), ("points", points, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} is too small", expected=f"{least} or more", got=str(value))
    if tolerance is not None and not 0 < tolerance < 1:
        raise InputError("tolerance cannot be used", expected="between 0 and 1", got=f"{tolerance:g}")
    title = title or getattr(thing, "__name__", type(thing).__name__)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), np.errstate(all="ignore"):
        report = _judged(subject(thing, arguments, title), entries, points, seed, tolerance)
    if printed.getvalue():
        first = printed.getvalue().strip().split("\n")[0][:80]
        report.notes.append(f"{title} prints; this is left out here (it began with {first!r}).")  # pyright: ignore
    return report


@dataclass
class _Ledger:
    """What is known of one parameter so far."""

    errors: Float[np.ndarray, "..."]
    wrong: dict[tuple[int, ...], Entry] = field(default_factory=dict)
    best: Entry | None = None
    judged: int = 0
    zero: int = 0
    kinks: int = 0
    small: int = 0
    used: bool = False
    claims_none: bool = False
    together: int = 0


def _judged(code: Subject, entries: int, points: int, seed: int, tolerance: float | None) -> Report:
    single = code.eps > 1e-10
    tolerance = tolerance or (2e-3 if single else 1e-6)
    _require_repeatable(code)
    generator = np.random.default_rng(seed)
    ledgers = {name: _Ledger(np.full(value.shape, np.nan)) for name, value in code.parameters.items()}
    evidence: list[Evidence] = []
    exact = False
    for number, place in enumerate(_places(code, points, generator)):
        point = Point(code.loss, place, eps=code.eps)
        if code.analytic and not single:
            point.complex_step = exact = takes_complex(point) and (exact or number == 0)
        claimed = code.gradients(place)
        judge = _Judge(point, claimed, tolerance, generator, code.eps)
        for name, ledger in ledgers.items():
            judge.parameter(name, ledger, entries if number == 0 else max(entries // 8, 1), first=number == 0)
        evidence.append(Evidence(point, judge.claimed))
    claims = [_claim(name, ledger, tolerance) for name, ledger in ledgers.items()]
    _require_gradients(code, ledgers, claims)
    wrong = {claim.name: list(ledgers[claim.name].wrong) for claim in claims if claim.verdict == "wrong"}
    causes = likely_causes(code.gradients, code.loss, wrong, evidence)
    claims = [
        replace(claim, cause=causes[claim.name].name, explanation=causes[claim.name].words)
        if claim.name in causes
        else claim
        for claim in claims
    ]
    return Report(code.title, claims, [*code.notes, *_notes(claims, points, exact=exact, single=single)])


def _places(code: Subject, points: int, generator: np.random.Generator) -> Iterator[Arrays]:
    """The point given, and others near it where the loss is finite."""
    yield code.parameters
    for _ in range(points - 1):
        for near in (_NEAR, _NEAR / 10, _NEAR / 100):
            place = {}
            for name, value in code.parameters.items():
                size = float(np.sqrt(np.mean(np.square(value)))) if value.size else 0.0
                move = near * (size or 1.0) * generator.standard_normal(value.shape)
                place[name] = (value + move).astype(value.dtype)
            if math.isfinite(np.real(code.loss(place))):
                yield place
                break


def _require_repeatable(code: Subject) -> None:
    """Refuses code whose loss or gradients differ from call to call by more than another order of sums would make."""
    hint = "module.eval() where dropout is at work; a seed set inside where numbers are drawn"
    first, second = (code.loss(code.parameters) for _ in range(2))
    if abs(first - second) > 100 * code.eps * abs(first):
        raise InputError(
            f"{code.title} is not the same when called twice",
            expected="one loss for one set of parameters",
            got=f"{first:.12g}, then {second:.12g}",
            hint=hint,
        )
    claimed, again = (code.gradients(code.parameters) for _ in range(2))
    for name, one in claimed.items():
        other = again[name]
        if one is None or other is None or not one.size:
            continue
        off = np.abs(one - other)
        if off.max() > 1e4 * code.eps * np.abs(one).max():
            at = tuple(int(i) for i in np.unravel_index(off.argmax(), off.shape))
            raise InputError(
                f"the gradient by {name} is not the same when called twice",
                expected="one gradient for one set of parameters",
                got=f"{one[at]:.12g}, then {other[at]:.12g} at {list(at)}",
                hint=hint,
            )


class _Judge:
    """Judges the claimed gradients at one point."""

    def __init__(
        self,
        point: Point,
        claimed: dict[str, np.ndarray | None],
        tolerance: float,
        generator: np.random.Generator,
        eps: float,
    ):
        self.point, self.tolerance, self.generator, self.eps = point, tolerance, generator, eps
        self.claimed = {
            name: np.zeros(value.shape) if claimed[name] is None else np.asarray(claimed[name], np.float64)
            for name, value in point.parameters.items()
        }
        self.none = {name for name, value in claimed.items() if value is None}

    def parameter(self, name: str, ledger: _Ledger, entries: int, *, first: bool) -> None:
        claimed = self.claimed[name]
        ledger.claims_none |= name in self.none
        ledger.used |= bool(claimed.any())
        is_zero = claimed == 0
        sample = self._sample(~is_zero, entries)
        if is_zero.any():
            wrongly = self._disagreeing(name, is_zero, _FOUND)
            if wrongly:
                ledger.used = True
                sample += [index for index in wrongly if index not in sample]
                sample += [index for index in self._sample(is_zero, entries) if index not in wrongly]
            elif first:
                ledger.zero = int(is_zero.sum())
        for index in sample:
            self._entry(name, index, ledger)
        left = ~is_zero
        left[tuple(np.array(sample).T) if sample else ()] = False
        if left.any() and not ledger.wrong:
            for index in self._disagreeing(name, left, _FOUND):
                self._entry(name, index, ledger)
            ledger.together += int(left.sum()) if first else 0

    def _sample(self, among: Bool[np.ndarray, "..."], count: int) -> list[tuple[int, ...]]:
        places = np.flatnonzero(among)
        if len(places) > count:
            places = np.sort(self.generator.choice(places, count, replace=False))
        return [tuple(int(i) for i in np.unravel_index(place, among.shape)) for place in places]

    def _entry(self, name: str, index: tuple[int, ...], ledger: _Ledger) -> None:
        claimed = float(self.claimed[name][index])
        slope = self.point.entry(name, index)
        if not self._agrees(name, claimed, slope) or slope.error > 0.1 * max(abs(claimed), abs(slope.value)):
            careful = self.point.entry_carefully(name, index)
            if careful.kink:
                ledger.kinks += 1
                return
            if careful.error == math.inf:
                ledger.small += 1
                return
            slope = careful
        size = max(abs(claimed), abs(slope.value))
        error = abs(claimed - slope.value) / size if size > self._floor(name, slope) else 0.0
        agrees = self._agrees(name, claimed, slope)
        ledger.used |= abs(slope.value) > self._floor(name, slope)
        if agrees and size > 0 and slope.error > 0.1 * size:
            ledger.small += 1
            return
        ledger.judged += 1
        told = Entry(index, claimed, slope.value, error)
        known = ledger.errors[index]
        ledger.errors[index] = error if np.isnan(known) else max(error, known)
        if not agrees:
            ledger.wrong.setdefault(index, told)
        elif ledger.best is None or error > ledger.best.error:
            ledger.best = told

    def _agrees(self, name: str, claimed: float, slope: Slope) -> bool:
        allowed = self.tolerance * max(abs(claimed), abs(slope.value)) + self._floor(name, slope)
        return abs(claimed - slope.value) <= allowed

    def _floor(self, name: str, slope: Slope) -> float:
        """What rounding alone may do to an entry, measured and claimed."""
        typical = float(np.sqrt(np.mean(np.square(self.claimed[name]))))
        return 4 * slope.error + 64 * self.eps * typical

    def _disagreeing(self, name: str, among: Bool[np.ndarray, "..."], most: int) -> list[tuple[int, ...]]:
        """Up to `most` entries whose gradient is wrong, found by halving what disagrees along random directions."""
        flat = np.flatnonzero(among)
        found: list[tuple[int, ...]] = []
        spent = 0
        for _ in range(2):
            direction = self.generator.choice([-1.0, 1.0], among.size) * self.generator.uniform(0.5, 1.0, among.size)
            waiting = [flat]
            while waiting and spent < _SEARCHES and len(found) < most:
                part = waiting.pop()
                spent += 1
                if not self._part_disagrees(name, part, direction):
                    continue
                if len(part) == 1:
                    found.append(tuple(int(i) for i in np.unravel_index(part[0], among.shape)))
                    continue
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
            if found:
                break
        return found

    def _part_disagrees(self, name: str, part: np.ndarray, direction: np.ndarray) -> bool:
        move = np.zeros(direction.size)
        move[part] = direction[part] / math.sqrt(len(part))
        claimed = self.claimed[name]
        slope = self.point.direction(name, move.reshape(claimed.shape))
        if slope.kink:
            return False
        expected = float(np.vdot(claimed, move))
        size = float(np.linalg.norm(claimed.ravel()[part] * move[part]))
        rounding = 64 * self.eps * float(np.linalg.norm(claimed.ravel()[part])) / math.sqrt(len(part))
        off = abs(expected - slope.value)
        return off > 10 * slope.error + self.tolerance * max(size, abs(slope.value)) + rounding


def _claim(name: str, ledger: _Ledger, tolerance: float) -> Claim:
    size = ledger.errors.size
    wrong = sorted(ledger.wrong.values(), key=lambda entry: (-round(entry.error, 9), entry.index))
    facts: dict[str, Fact] = {
        "entries": size,
        "judged": int((~np.isnan(ledger.errors)).sum()),
        "wrong": len(wrong),
        "zero": ledger.zero,
        "kinks": ledger.kinks,
        "too_small": ledger.small,
        "together": ledger.together,
    }
    if wrong:
        error = wrong[0].error
        if ledger.errors.ndim > 1:
            facts["rows"] = ranges({entry.index[0] for entry in wrong})
            given = {entry.index[0] for entry in wrong if entry.claimed}
            facts["rows_of_zeros"] = ranges({entry.index[0] for entry in wrong} - given)
        return Claim(name, "wrong", error, tolerance, wrong[:_TOLD], facts=facts, errors=ledger.errors)
    verdict = "unused" if not ledger.used else "correct" if ledger.judged else "undecided"
    worst = [] if ledger.best is None else [ledger.best]
    return Claim(name, verdict, worst[0].error if worst else 0.0, tolerance, worst, facts=facts, errors=ledger.errors)


def _require_gradients(code: Subject, ledgers: dict[str, _Ledger], claims: list[Claim]) -> None:
    """Refuses code that leaves out a gradient that is not zero; autograd that says None has been cut off by someone."""
    for claim in claims:
        if claim.verdict == "wrong" and ledgers[claim.name].claims_none and code.analytic:
            raise InputError(
                f"{code.title} returns no gradient by {claim.name}, on which its loss depends",
                expected=f"gradients by {', '.join(code.parameters)}",
            )


def _notes(claims: list[Claim], points: int, *, exact: bool, single: bool) -> list[str]:
    way = "the complex step" if exact else "central differences with a step chosen per entry"
    notes = [f"Slopes by {way}, in {'float32' if single else 'float64'}, at {points} point{'s' * (points > 1)}."]
    for claim in claims:
        judged, size = int(claim.facts["judged"]), int(claim.facts["entries"])
        zero, together = int(claim.facts["zero"]), int(claim.facts["together"])
        if claim.verdict == "correct" and judged < size - zero:
            notes.append(
                f"{claim.name}: {judged:,} of {size - zero:,} entries one at a time (a wrong share of 1 % or more "
                f"would be found with {100 * (1 - 0.99**judged):.0f} %)"
                + (f", the other {together:,} together along random directions." if together else ".")
            )
        if zero:
            notes.append(f"{claim.name}: {zero:,} entries are 0 on both sides and are not counted among those judged.")
        if claim.facts["kinks"]:
            notes.append(f"{claim.name}: {claim.facts['kinks']} entries at a kink of the loss are left out.")
        if claim.facts["too_small"]:
            notes.append(f"{claim.name}: {claim.facts['too_small']} entries are too small to be told from rounding.")
        if claim.verdict == "unused":
            notes.append(f"{claim.name}: the loss does not depend on it.")
    return notes
