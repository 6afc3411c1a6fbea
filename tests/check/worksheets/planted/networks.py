"""Mistakes in the network that decides whether four numbers are superincreasing: everything in it changed by rule."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.check.worksheets.planted.backward_kinds import NETWORK

SHEET = """given W1 = [[1, -1, 0, 0], [1, 1, -1, 0], [1, 1, 1, -1]]
given b1 = [0, 0, 0]
given w2 = [1, 1, 1]
given b2 = 1
let net(x) = indicator(-1, 1)(w2 @ hard_threshold(W1 @ x + b1) + b2)
claim forall x in R^4: net(x) == 1 iff x[1] > x[0] and x[2] > x[0] + x[1] and x[3] > x[0] + x[1] + x[2]
"""


@dataclass(frozen=True)
class Mistake:
    """A sheet with one mistake, its kind, and the causes that it may be said to have."""

    kind: str
    text: str

    @property
    def causes(self) -> set[str]:
        return NETWORK[self.kind]


def planted() -> list[Mistake]:
    """Every mistake; sheets that come out the same are one."""
    return list({mistake.text: mistake for mistake in _every()}.values())


def _every() -> Iterator[Mistake]:
    numbers = {
        "a weight of the hidden layer": r"(?<=W1 = ).*", "a weight of the output": r"(?<=w2 = ).*",
        "a bias": r"(?<=b1 = ).*|(?<=b2 = ).*", "a bound of the output": r"(?<=indicator\().*?(?=\))",
    }  # fmt: skip
    for kind, where in numbers.items():
        for block in re.finditer(where, SHEET):
            for found in re.finditer(r"-?\d+", block[0]):
                start = block.start() + found.start()
                for other in {-int(found[0]), int(found[0]) + 1, int(found[0]) - 1} - {int(found[0])}:
                    yield Mistake(kind, SHEET[:start] + str(other) + SHEET[start + len(found[0]) :])
    yield Mistake("the other threshold", SHEET.replace("hard_threshold", "step"))
    for found in re.finditer(r"(?<=\] )>(?= )", SHEET):
        for kind, other in (
            ("a comparison strict, or not", ">="),
            ("a comparison turned round", "<"),
            ("a comparison turned round", "<="),
        ):
            yield Mistake(kind, SHEET[: found.start()] + other + SHEET[found.end() :])
