"""What the check of parity says of a planted mistake, and whether that is so."""

from dataclasses import dataclass

from torch import nn

from qkv.check import parity
from qkv.types import Parity
from tests.check.parity.kinds import CAUSES
from tests.check.parity.rules import Mistake


@dataclass(frozen=True)
class Judged:
    """A mistake, the report on it, and whether it was rejected and its cause called right."""

    mistake: Mistake
    report: Parity

    @property
    def found(self) -> bool:
        return not self.report.ok

    @property
    def named(self) -> bool:
        return self.found and self.report.cause in CAUSES[self.mistake.kind]

    @property
    def told(self) -> str:
        return f"{self.mistake.name}\n    -> {self.report.cause}: {self.report.explanation}"


def judged(mistake: Mistake) -> Judged:
    """Runs the check on a mistake."""
    return Judged(mistake, parity(mistake.layer, getattr(nn, mistake.layer.__name__)))
