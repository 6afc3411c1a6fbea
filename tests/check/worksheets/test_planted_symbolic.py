from collections import Counter
from collections.abc import Sequence

import pytest

from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.syntax import parse
from tests.check.worksheets.planted.symbolic import RULES, SHEETS, SHIPPED, Planted, planted, right
from tests.check.worksheets.planted.symbolic_kinds import KEPT_OUT, KINDS


def held(mistakes: Sequence[Planted]) -> tuple[list[Planted], Counter[bool]]:
    """The mistakes that are not noticed, and how often the cause of those that can be computed is the right one."""
    missed, causes = [], Counter[bool]()
    for mistake in mistakes:
        verdict = judge(parse(mistake.text)).lines[-1].verdict
        if verdict.kind not in ("wrong", "unusable"):
            missed.append(mistake)
        elif verdict.kind == "wrong":
            causes[verdict.cause in RULES[mistake.kind][1]] += 1
    return missed, causes


def test_every_kind_has_its_rule():
    assert set(RULES) == set(KINDS)
    assert list(KINDS) == sorted(KINDS)
    assert {mistake.kind for mistake in planted(KINDS)} == set(KINDS)


@pytest.mark.parametrize("name", SHEETS)
def test_shipped_worksheets_are_right(name: str):
    found = judge(parse((SHIPPED / f"{name}.md").read_text(encoding="utf-8")))
    assert [line.name for line in found.lines if line.verdict.kind != "correct"] == []


def test_planted_mistakes_are_found_and_named():
    missed, causes = held(list(planted(KINDS))[3::29])
    assert missed == []
    assert causes[True] >= 0.8 * causes.total() > 8


def test_right_variants_raise_no_alarm():
    for variant in list(right())[::19]:
        assert judge(parse(variant.text)).lines[-1].verdict.kind == "correct", variant


@pytest.mark.nightly
@pytest.mark.parametrize("kinds", [KEPT_OUT, tuple(kind for kind in KINDS if kind not in KEPT_OUT)])
def test_all_planted_mistakes(kinds: tuple[str, ...]):
    missed, causes = held(list(planted(kinds)))
    assert missed == []
    assert causes[True] >= 0.9 * causes.total() > 90


@pytest.mark.nightly
def test_all_right_variants():
    variants = list(right())
    assert len(variants) > 90
    for variant in variants:
        assert judge(parse(variant.text)).lines[-1].verdict.kind == "correct", variant
