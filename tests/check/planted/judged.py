"""What the check of gradients says of a planted mistake, and whether that is so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qkv.check import gradients
from qkv.types import Report
from tests.check.planted.derivations import Array
from tests.check.planted.kinds import KINDS, names
from tests.check.planted.rules import Mistake, differs


@dataclass(frozen=True)
class Judged:
    """A mistake, the report on it, and what is wrong with the report.

    Attributes:
        missed: parameters whose gradient is clearly wrong and not called so.
        misnamed: parameters called wrong whose entry that is named is right.
        misread: parameters whose cause is called by a name that it does not have.
    """

    mistake: Mistake
    report: Report
    missed: list[str]
    misnamed: list[str]
    misread: list[str]

    @property
    def told(self) -> str:
        """The mistake, and what was said of it."""
        causes = "; ".join(f"{claim.name}: {claim.cause}: {claim.explanation}" for claim in self.report.wrong)
        return f"{self.mistake.name} for {self.mistake.right} -> {causes}"


def judged(mistake: Mistake) -> Judged:
    """Runs the check on a mistake, and the right gradients beside it."""
    report = gradients(mistake.function, mistake.case.parameters)
    at, expected = _gradients(mistake.function, mistake), _gradients(mistake.case.function, mistake)
    missed = [
        name
        for name in mistake.case.parameters
        if differs(at[0][name], expected[0][name]).any() and report[name].verdict != "wrong"
    ]
    misnamed = [
        claim.name
        for claim in report.wrong
        if not any(
            abs(wrong[claim.name] - right[claim.name])[claim.entries[0].index] > 1e-7 * abs(right[claim.name]).max()
            for wrong, right in zip(at, expected, strict=True)
        )
    ]
    kind = KINDS[mistake.kind]
    misread = [claim.name for claim in report.wrong if claim.cause not in names(mistake, kind, claim.name)]
    return Judged(mistake, report, missed, misnamed, misread)


def _gradients(
    function: Callable[[dict[str, Array]], tuple[object, Mapping[str, Array]]], mistake: Mistake
) -> list[Mapping[str, Array]]:
    """Gradients where the check began, and at points near it such as it looks at too."""
    rng, start = np.random.default_rng(0), mistake.case.parameters
    places = [start, *({name: x + 0.07 * rng.standard_normal(x.shape) for name, x in start.items()} for _ in range(20))]
    return [function(place)[1] for place in places]
