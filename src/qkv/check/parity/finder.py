"""Where a layer first goes wrong: the change of the reference formula under which it computes what the layer does.

A variant counts where its outputs and all gradients are those of the layer in every trial of every size: it is no guess
but a formula that was recomputed.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from qkv.check.parity.case import Trial
from qkv.check.parity.compare import Comparison, close, same
from qkv.check.parity.side import Outputs
from qkv.check.parity.variants import Variant
from qkv.errors import QkvError

_BASES, _PAIRS = 24, 1500  # numbers, not seconds: a machine under load finds what an idle one does


@dataclass(frozen=True)
class Cause:
    """A name out of `CAUSES`, where, and in words; `line` is the reference's, `instead` what the layer computes."""

    name: str
    where: str
    words: str
    line: str = ""
    instead: str = ""
    trials: int = 0


class _Asked:
    """One trial of one comparison with what the layer answered."""

    def __init__(self, comparison: Comparison, trial: Trial, tolerance: float):
        self.comparison, self.trial, self.tolerance = comparison, trial, tolerance
        self.answer = comparison.of(comparison.ours, trial, comparison.exact)
        self.values = {name: value for name, value in self.answer.items() if not name.startswith("gradient")}

    def computed(self, variant: Variant, *, gradients: bool) -> Outputs | None:
        """What a variant gives; None where it cannot be computed."""
        case, sizes = self.comparison.case, self.comparison.theirs.sizes
        assert case is not None

        def run(inputs: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Any]:
            found = case.computed(variant.functions, state, inputs, sizes, self.trial)
            return {name: value for name, value in found.items() if name in self.values}

        try:
            return self.comparison.outcome(run, self.trial, self.comparison.exact, gradients=gradients)
        except Exception:  # a change need not fit
            return None

    def agrees(self, variant: Variant, *, gradients: bool) -> bool:
        found = self.computed(variant, gradients=gradients)
        return found is not None and same(self.answer if gradients else self.values, found, self.tolerance)

    def agreeing(self, variant: Variant, *, gradients: bool = False) -> frozenset[str]:
        """What a variant gets right, of outputs or also of gradients."""
        found = self.computed(variant, gradients=gradients) or {}
        wanted = self.answer if gradients else self.values
        return frozenset(
            name for name, value in wanted.items() if name in found and close(value, found[name], self.tolerance)
        )


def cause(comparisons: Sequence[Comparison], tolerance: float, *, pairs: bool = True) -> Cause:
    """The cause of what is wrong in these comparisons, of which at least one has something wrong.

    Args:
        tolerance: the error relative to an array's largest entry that is none.
        pairs: whether two changes are tried where no single one explains it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _Finder(comparisons, tolerance).cause(pairs=pairs)


class _Finder:
    def __init__(self, comparisons: Sequence[Comparison], tolerance: float):
        self.asked = [_Asked(one, trial, tolerance) for one in comparisons for trial in one.trials]
        self.formula = comparisons[0].case.formula  # pyright: ignore[reportOptionalMemberAccess] - there is one
        self.symbols = comparisons[0].case.symbols  # pyright: ignore[reportOptionalMemberAccess]
        right = self.formula.right
        by_values = [one for one in self.asked if not one.agrees(right, gradients=False)]
        self.values_wrong = bool(by_values)
        wrong = by_values or [one for one in self.asked if not one.agrees(right, gradients=True)]
        self.first = wrong[0] if wrong else self.asked[0]
        self.any_wrong = bool(wrong)
        drops = [
            one for one in self.asked if one.trial.training and one.trial.drops and one.comparison.sizes.get("dropout")
        ]
        self.only_drops = bool(wrong) and all(one in drops for one in wrong)

    def cause(self, *, pairs: bool) -> Cause:
        if not self.any_wrong:
            return Cause(
                "other", "", "the formula of the case computes what the layer does, and the reference does not"
            )
        bases: list[Variant] = []
        singles: list[Variant] = []
        best = self.first.agreeing(self.formula.right)
        partly: list[Variant] = []
        for variant in self._variants():
            right = self.first.agreeing(variant)
            if len(right) == len(self.first.values):
                if self._holds(variant):
                    return self._told([variant])
                if all(
                    one.agrees(variant, gradients=True) for one in self.asked if one.comparison is self.first.comparison
                ):
                    partly.append(variant)
            elif right > best:
                bases.append(variant)
            singles.append(variant)
        found = self._pair([*partly, *bases], singles) if pairs else None
        if found is None and partly:
            told = self._told(partly[:1])
            sizes = ", ".join(f"{name}={value!r}" for name, value in self.first.comparison.sizes.items())
            found = replace(told, words=f"{told.words} (shown for {sizes}; other sizes differ in more)")
        return found or Cause("other", "", "")

    def _variants(self) -> Iterator[Variant]:
        for variant in self.formula.variants(lambda functions: self._run(functions)):
            if self.only_drops and variant.cause != "dropout":
                continue
            if not self.values_wrong and variant.cause not in ("gradient", "padding", "other"):
                continue
            if self.values_wrong and variant.cause == "gradient":
                continue
            yield variant

    def _run(self, functions: Mapping[str, Any]) -> None:
        asked, case = self.first, self.first.comparison.case
        assert case is not None
        inputs = asked.trial.inputs
        with torch.no_grad():
            case.computed(functions, asked.comparison.state, inputs, asked.comparison.theirs.sizes, asked.trial)

    def _holds(self, variant: Variant) -> bool:
        """Whether a variant does in every trial what the layer does, gradients too."""
        return all(one.agrees(variant, gradients=True) for one in self.asked)

    def _pair(self, bases: Sequence[Variant], singles: Sequence[Variant]) -> Cause | None:
        """Two changes: first those with one that does something right alone, then the likeliest ones together."""
        if not self.values_wrong:
            return None
        likely = [one for one in singles if one.changes[0].words][:_BASES]
        pairs = ((base, other) for base in [*bases[:_BASES], *likely] for other in singles)
        for base, other in islice(pairs, _PAIRS):
            try:
                both = base.beside(other)
                if self.first.agrees(both, gradients=False) and self._holds(both):
                    return self._told([base, other])
            except (QkvError, SyntaxError):
                continue
        return None

    def _told(self, variants: Sequence[Variant]) -> Cause:
        parts = []
        for variant in variants:
            where, line, instead = variant.differences()[0]
            words = variant.changes[0].words or f"it computes `{instead}` where the reference has `{line}`"
            unnamed = "" if variant.changes[0].words else where
            parts.append((self.symbols.get(where, unnamed), words, line, instead))
        where, _, line, instead = parts[0]
        words = "; and ".join(dict.fromkeys(words for _, words, _, _ in parts))
        return Cause(variants[0].cause, where, words, line, instead, len(self.asked))
