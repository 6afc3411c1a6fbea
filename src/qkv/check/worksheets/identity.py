"""Identities over names that are given by shape: both sides in random instances, derivatives by autograd.

What agrees in all of them is *supported*, not proved. What does not is refuted by the smallest counterexample found:
sizes are shrunk first, then entries, to small whole numbers.
"""

import ast
import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from qkv.check.worksheets.algebra import Setting
from qkv.check.worksheets.instances import Instance, Number, Style, Tensors, drawn, instances, operations_of
from qkv.check.worksheets.names import links_of, setting_of, unusable
from qkv.check.worksheets.orders import met
from qkv.check.worksheets.shapes import Shape, Shapes, same
from qkv.check.worksheets.slips import slip
from qkv.check.worksheets.syntax import Claim
from qkv.check.worksheets.values import UnusableError
from qkv.check.worksheets.verdict import Scope, Verdict
from qkv.errors import InputError
from qkv.types import Entry

TOLERANCE = 1e-9
"""The largest difference that is none, beside the largest entry of either side or 1."""

_ROUNDS = 5  # choices of sizes
_CLEAR = 1e-6  # a difference that a counterexample should show
_SHOWN = 8  # entries that are named; arrays of four times as many are written out
_SMALL, _DRAWS = 4, 8  # the largest size and the number of draws in the search for small counterexamples


@dataclass(frozen=True)
class Counterexample:
    """An instance in which two sides differ, and what they come to in it."""

    at: Instance
    left: Number
    right: Number


@dataclass(frozen=True)
class Comparison:
    """What became of two sides.

    Attributes:
        count: the number of instances in which both had values.
        sizes: the choices of sizes among them.
        deviation: the largest difference, as `TOLERANCE` has it.
        counterexample: the smallest found, None where all agree.
        positive: whether only positive numbers could be drawn, for logarithms and roots.
    """

    count: int
    sizes: Sequence[Mapping[str, int]]
    deviation: float
    counterexample: Counterexample | None = None
    positive: bool = False

    @property
    def agrees(self) -> bool:
        return self.deviation <= TOLERANCE


@dataclass(frozen=True)
class Identities:
    """Sides of equations over a setting, and whether they agree.

    Raises:
        InputError: shapes that do not fit, names that are not known.

    >>> from qkv.check.worksheets.algebra import Symbol
    >>> read = lambda text: ast.parse(text, mode="eval").body
    >>> setting = Setting({name: Symbol((read("n"), read("n"))) for name in "AB"})
    >>> identities = Identities(setting)
    >>> identities.compare(read("(A @ B).T"), read("B.T @ A.T")).agrees
    True
    >>> found = identities.compare(read("A @ B"), read("B @ A")).counterexample
    >>> str(found.at), found.left.tolist(), found.right.tolist()
    ('n = 2', [[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    """

    setting: Setting
    seed: int = 0

    def compare(self, left: ast.expr, right: ast.expr) -> Comparison:
        """Both sides in random instances, and the smallest counterexample where they differ."""
        self.check_shapes(left, right)
        apart: list[tuple[float, Instance]] = []
        positive = False
        for at in instances(self.setting, (left, right), _ROUNDS, self.seed):
            deviation = self.deviation(left, right, at)
            if deviation is None:
                at = self._redrawn(at)
                deviation, positive = self.deviation(left, right, at), True
            if deviation is not None:
                apart.append((deviation, at))
        if not apart:
            raise InputError("neither side has a value in any instance", hint="given x : positive(n)")
        sizes = [dict(items) for items in dict.fromkeys(tuple(at.sizes.items()) for _, at in apart)]
        worst, where = max(apart, key=lambda found: found[0])
        found = Comparison(len(apart), sizes, worst, positive=positive)
        if found.agrees:
            return found
        return replace(found, counterexample=self.smallest(left, right, where))

    def agree(self, left: ast.expr, right: ast.expr) -> bool:
        """Whether both sides have the same shape and agree; no counterexample is looked for."""
        try:
            self.check_shapes(left, right)
            found = [self.deviation(left, right, at) for at in instances(self.setting, (left, right), 3, self.seed)]
        except InputError:
            return False
        return any(one is not None for one in found) and all(one is None or one <= TOLERANCE for one in found)

    def check_shapes(self, left: ast.expr, right: ast.expr) -> None:
        """Raises InputError where the sides have other shapes; a column or row may stand for a flat vector."""
        one, other = (Shapes(self.setting).evaluate(side) for side in (left, right))
        flat = min(len(one.sizes), len(other.sizes)) < 2 and len(one.sizes) != len(other.sizes)
        if not (same(one, other) or (flat and same(_squeezed(one), _squeezed(other)))):
            raise InputError(
                f"{ast.unparse(left)} and {ast.unparse(right)} have other shapes", got=f"{one} and {other}"
            )

    def deviation(self, left: ast.expr, right: ast.expr, at: Instance) -> float | None:
        """The largest difference of the sides in an instance; None where one of them has no value there."""
        one, other = self.values(left, right, at)
        if not bool((one.isfinite() & other.isfinite()).all()):
            return None
        scale = max(1.0, float(one.abs().max()), float(other.abs().max()))
        return float((one - other).abs().max()) / scale

    def values(self, left: ast.expr, right: ast.expr, at: Instance) -> tuple[Number, Number]:
        """What both sides come to in an instance, in the shape of the one with more axes."""
        one, other = (Tensors(self.setting, at).evaluate(side).detach() for side in (left, right))
        if one.dim() != other.dim():
            larger = max(one, other, key=lambda side: side.dim())
            one, other = one.reshape(larger.shape), other.reshape(larger.shape)
        return one, other

    def _redrawn(self, at: Instance) -> Instance:
        """Positive numbers in place of what has no logarithm or root."""
        return Instance(at.sizes, self._values(at.sizes, "positive", self.seed, at.values))

    def _values(self, sizes: Mapping[str, int], style: Style, seed: int, names: Mapping[str, Any]) -> dict[str, Number]:
        generator = torch.Generator().manual_seed(seed)
        return {name: drawn(self.setting.symbols[name], sizes, generator, style) for name in names}

    # -- counterexamples

    def smallest(self, left: ast.expr, right: ast.expr, found: Instance) -> Counterexample:
        """The smallest instance in which the sides differ: `found` itself where no smaller one is met with."""

        def differs(at: Instance) -> bool:
            deviation = self.deviation(left, right, at)
            return deviation is not None and deviation > _CLEAR

        at = next(filter(differs, self._small(left, right, found)), found)
        at = self._simplified(at, differs)
        return Counterexample(at, *self.values(left, right, at))

    def _small(self, left: ast.expr, right: ast.expr, found: Instance) -> Iterator[Instance]:
        names = list(found.sizes)
        limit = operations_of(self.setting, (left, right))
        largest = _SMALL if len(names) < 5 else 2
        chosen = itertools.product(range(1, largest + 1), repeat=len(names))
        allowed = filter(met(self.setting.conditions, names), sorted(chosen, key=lambda sizes: (sum(sizes), sizes)))
        for numbers in itertools.islice(allowed, 256):
            sizes = dict(zip(names, numbers, strict=True))
            if limit(sizes) < 1e5:
                for draw in range(_DRAWS):
                    yield Instance(sizes, self._values(sizes, "whole", draw, found.values))

    def _simplified(self, at: Instance, differs: Any) -> Instance:
        """Entries one by one as small as they can be while the sides differ."""
        values = {name: value.clone() for name, value in at.values.items()}
        for name, value in values.items():
            kind = self.setting.symbols[name].kind
            if kind not in ("", "scalar", "symmetric", "positive") or value.numel() > 64:
                continue
            for place in itertools.product(*map(range, value.shape)):
                for number in (1.0, 2.0) if kind == "positive" else (0.0, 1.0, -1.0, 2.0):
                    before = float(value[place])
                    if abs(number) >= abs(before) and before in (0.0, 1.0, -1.0, 2.0):
                        continue
                    twins = {place, place[::-1]} if kind == "symmetric" else {place}
                    for twin in twins:
                        value[twin] = number
                    if differs(Instance(at.sizes, values)):
                        break
                    for twin in twins:
                        value[twin] = before
        return Instance(at.sizes, values)


# -- verdicts ----------------------------------------------------------------------------------------------------------


def judge(claim: Claim, scope: Scope) -> Verdict | None:
    """Judges an equation over names given by shape; None for other claims."""
    links = links_of(claim, scope)
    with unusable():
        setting = setting_of(claim, scope, links)
        if setting is None:
            return None
        if len(links) < 2 or any(isinstance(link, (ast.Compare, ast.BoolOp)) for link in links):
            raise InputError("one side says nothing", expected="two expressions with = between them")
        identities = Identities(setting, scope.seed)
        left, right, *others = links
        verdict = _judged(identities, left, right)
        for other in others:
            if verdict.kind == "correct":
                verdict = _judged(identities, left, other)
        return verdict


def _judged(identities: Identities, left: ast.expr, right: ast.expr) -> Verdict:
    try:
        comparison = identities.compare(left, right)
    except InputError as error:
        raise _mended(error, identities, left, right) from error
    return supported(comparison) if comparison.agrees else refuted(identities, left, right, comparison)


def supported(comparison: Comparison, first: str = "", notes: Sequence[str] = ()) -> Verdict:
    """What is said of sides that agree in all instances; `first` comes before it."""
    told = f"it holds in {comparison.count} random instances{_of_sizes(comparison.sizes)}"
    told += " of positive numbers" * comparison.positive
    told += f"; the largest deviation is {comparison.deviation:.1g}, and up to {TOLERANCE:g} is none."
    facts = {"instances": comparison.count, "sizes": _of_sizes(comparison.sizes), "deviation": comparison.deviation}
    return Verdict("correct", word="supported", explanation=_sentence(first + told), notes=notes, facts=facts)


def refuted(
    identities: Identities,
    left: ast.expr,
    right: ast.expr,
    comparison: Comparison,
    first: str = "",
    notes: Sequence[str] = (),
) -> Verdict:
    """What is said of sides that differ: the counterexample, and why the second may be wrong."""
    found = comparison.counterexample
    assert found is not None
    why = slip(identities.setting, left, right, identities.seed)
    shown = ", ".join(
        [str(found.at)] * bool(found.at.sizes) + [f"{name} = {_shown(x)}" for name, x in found.at.values.items()]
    )
    told = f"{first}The smallest counterexample found: {shown}. The left side is {_shown(found.left)}, "
    told += f"the right side {_shown(found.right)}."
    return Verdict(
        "wrong",
        entries=_entries(found),
        cause=why.cause if why else "",
        explanation=why.told if why else "",
        word="refuted",
        notes=[told, *notes],
        facts={"instances": comparison.count, "deviation": comparison.deviation},
    )


def _mended(error: InputError, identities: Identities, left: ast.expr, right: ast.expr) -> UnusableError:
    """The same error, with what would fit and be right as its hint."""
    hint = error.hint
    with contextlib.suppress(InputError):
        Shapes(identities.setting).evaluate(left)
        found = slip(identities.setting, left, right, identities.seed)
        hint = found.told.replace(" would be right", "").strip("`") if found else hint
    return UnusableError(error.problem, expected=error.expected, got=error.got, hint=hint)


def _entries(found: Counterexample) -> list[Entry]:
    """The entries in which the sides of a counterexample differ, by row and column."""
    left, right = (x.reshape(1, -1) if x.dim() < 2 else x.flatten(1) for x in (found.left, found.right))
    entries = []
    for place in ((left - right).abs() > TOLERANCE).nonzero().tolist()[:_SHOWN]:
        claimed, value = (float(x[tuple(place)]) for x in (right, left))
        error = abs(claimed - value) / max(abs(claimed), abs(value))
        entries.append(Entry(tuple(place), claimed, value, error))
    return entries


def _shown(x: Number) -> str:
    """A small array as it would be written."""
    if x.numel() > 4 * _SHOWN:
        return f"an array of shape {tuple(x.shape)}"
    if x.dim():
        return f"[{', '.join(_shown(part) for part in x)}]"
    return f"{float(x):.4g}"


def _of_sizes(sizes: Sequence[Mapping[str, int]]) -> str:
    """Which sizes there were: the range of each."""
    ranges = {name: sorted({one[name] for one in sizes}) for name in sizes[0]}
    listed = ", ".join(f"{name} = {', '.join(map(str, found))}" for name, found in ranges.items())
    return f" of sizes {listed}" if listed else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _squeezed(shape: Shape) -> Shape:
    return Shape(tuple(size for size in shape.sizes if size != 1))
