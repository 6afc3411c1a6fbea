"""Mistakes planted by rule in backward passes: located, with their cause; right variants raise no alarm."""

import pytest

import qkv.check.worksheets.adjoint  # noqa: F401 - what it loads takes time that no worksheet has
from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.syntax import parse
from tests.check.worksheets.planted.backward import Mistake, planted, right
from tests.check.worksheets.planted.backward_kinds import BACKWARD, BACKWARD_KEPT_OUT

EVERY, RIGHT = list(planted()), list(right())


def misread(mistake: Mistake) -> bool:
    """Whether the cause is not called right; the claim must be the first that is wrong."""
    found = judge(parse(mistake.text), seconds=float("inf"))
    first = found.first_wrong
    assert first is not None, mistake
    assert first.name == mistake.name, mistake
    return found[mistake.name].cause not in mistake.causes


def test_there_are_mistakes_of_every_kind():
    assert {mistake.kind for mistake in EVERY} == set(BACKWARD)
    assert len(EVERY) >= 100


def test_some_planted_mistakes():
    some = EVERY[::12]
    assert sum(map(misread, some)) <= len(some) / 10


@pytest.mark.parametrize("text", RIGHT[::12], ids=str.__len__)
def test_some_right_variants(text: str):
    found = judge(parse(text), seconds=float("inf"))
    assert found.ok, [(line.name, line.verdict.kind) for line in found.lines if line.verdict.kind != "correct"]


@pytest.mark.nightly
@pytest.mark.parametrize("kept_out", [False, True])
def test_all_planted_mistakes(kept_out: bool):
    some = [mistake for mistake in EVERY if (mistake.kind in BACKWARD_KEPT_OUT) == kept_out]
    assert sum(map(misread, some)) <= len(some) / 10


@pytest.mark.nightly
@pytest.mark.parametrize("text", RIGHT, ids=range(len(RIGHT)))
def test_all_right_variants(text: str):
    assert judge(parse(text), seconds=float("inf")).ok
