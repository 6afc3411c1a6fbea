"""Worksheets of numbers with mistakes planted by rule, and right ones written otherwise.

The normal run judges every fourth of one mistake of each kind in each worksheet, and 10 right variants; by night it is
twelve of each, and 300.
"""

import pytest

from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.numeric_causes import CAUSES
from qkv.check.worksheets.sheet import shipped
from qkv.check.worksheets.syntax import parse
from tests.check.worksheets.planted import numbers
from tests.check.worksheets.planted.numbers import RULES, SHEETS, Said, plants, said, sites, variants
from tests.check.worksheets.planted.numeric_kinds import KEPT_OUT, KINDS


@pytest.fixture(scope="module", params=[1, pytest.param(12, marks=pytest.mark.nightly)])
def judged(request) -> list[Said]:
    """What is said of mistakes of every kind."""
    planted = plants(RULES, each=request.param)
    return [said(plant) for plant in (planted[::4] if request.param == 1 else planted)]


def test_the_first_wrong_claim_is_located_in_all(judged):
    missed = [str(one) for one in judged if not one.located]
    assert not missed, "\n".join(missed)


def test_nine_causes_in_ten_are_called_right(judged):
    misread = [str(one) for one in judged if not one.read]
    assert len(misread) <= len(judged) / 10, "\n".join(misread)


def test_nearly_every_kind_can_be_planted(judged):
    assert len({one.plant.kind for one in judged}) >= 15
    assert len(judged) >= 18


@pytest.mark.parametrize("count", [10, pytest.param(300, marks=pytest.mark.nightly)])
def test_right_worksheets_raise_no_alarm(count: int):
    alarms = []
    for name, text in variants(count):
        found = judge(parse(text))
        alarms += [f"{name}: {line.statement.text}" for line in found.lines if line.verdict.kind not in FINE]
    assert not alarms, "\n".join(alarms)


FINE = ("correct", "rounding")


@pytest.mark.parametrize("name", SHEETS)
def test_shipped_worksheets_are_right_to_the_last_digit(name: str):
    found = judge(parse(numbers.shipped(name)))
    assert [(line.name, line.verdict.kind) for line in found.lines if line.verdict.kind != "correct"] == []
    assert not [note for line in found.lines for note in line.verdict.notes]
    assert name in (*shipped(), "squares")


# -- the planting itself -----------------------------------------------------------------------------------------------


def test_kinds_have_rules_and_causes_have_names():
    assert set(RULES) == set(KINDS)
    assert set().union(*KINDS.values()) <= set(CAUSES)
    assert len(KEPT_OUT) == len(KINDS) // 3


def test_every_claim_of_a_value_is_a_site():
    for name in SHEETS:
        assert len(list(sites(name))) >= 2


def test_a_mistake_is_carried_on():
    (plant,) = [p for p in plants(["sign of all"], each=2) if p.sheet == "self_attention"][1:]
    shipped_lines, lines = numbers.shipped("self_attention").split("\n"), plant.text.split("\n")
    changed = [number for number, (one, other) in enumerate(zip(shipped_lines, lines, strict=True)) if one != other]
    assert len(changed) > 1
