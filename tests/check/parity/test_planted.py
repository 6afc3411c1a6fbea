"""The check of parity against layers that are right, and against layers that are wrong by rule.

The normal run judges eight mistakes and four right layers; `pytest -m nightly tests/check/parity` all of them.
`python -m tests.check.parity 4` tells the rates by kind.
"""

import random

import pytest
from torch import nn

from qkv.check import parity
from qkv.check.parity import CAUSES as NAMES
from tests.check.parity import written
from tests.check.parity.judged import Judged, judged
from tests.check.parity.kinds import CAUSES, KEPT_OUT, RULES
from tests.check.parity.rules import planted, rewritten

_QUICK = (
    "another gate order",
    "kernel flipped",
    "scaled embedding",
    "sign",
    "another variance",
    "bias twice",
    "scale left out",
)


@pytest.fixture(scope="module", params=["some", pytest.param("all", marks=pytest.mark.nightly)])
def reports(request) -> list[Judged]:
    """What is said of mistakes of every kind, or of some that are judged quickly."""
    kinds = _QUICK if request.param == "some" else CAUSES
    return [
        judged(mistake) for kind in kinds for mistake in planted(kind, RULES[kind], each=1 if kinds is _QUICK else 5)
    ]


def test_each_is_rejected(reports):
    passed = [one.told for one in reports if not one.found]
    assert not passed, "\n".join(passed)


def test_nine_causes_in_ten_are_named(reports):
    misread = [one.told for one in reports if not one.named]
    assert len(misread) <= 0.1 * len(reports), "\n".join(misread)


def test_there_are_many_when_all_are_planted(reports, request):
    if request.node.callspec.params["reports"] == "all":
        assert len(reports) >= 150
        assert {one.mistake.layer.__name__ for one in reports} == {layer.__name__ for layer in written.EVERY}


_SLOW = {"LSTM", "GRU", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"}


@pytest.mark.parametrize(
    "layer",
    [pytest.param(one, marks=[pytest.mark.nightly] * (one.__name__ in _SLOW)) for one in written.EVERY],
    ids=lambda layer: layer.__name__,
)
def test_what_is_right_raises_no_alarm(layer: type[nn.Module]):
    report = parity(layer, getattr(nn, layer.__name__))
    assert report.ok, report.wrong


# -- the planting itself -----------------------------------------------------------------------------------------------


def test_every_kind_has_rules_and_causes_that_the_check_has():
    assert set(RULES) == set(CAUSES)
    assert set.union(*CAUSES.values()) <= set(NAMES)
    assert sorted(CAUSES)[2::3] == KEPT_OUT


def test_a_rule_rewrites_each_place_in_turn():
    # torch.tanh stands twice in the cell: on the candidate and on the new cell state.
    sources = list(rewritten(written.LSTMCell, "torch.tanh(A)", "A"))
    assert len(sources) == 2
    assert "torch.mul(out_gate, new_cell)" in sources[1] + sources[0]


def test_what_changes_nothing_is_no_mistake():
    assert not planted("none", [("LSTMCell", ("kept + written", "written + kept"))], each=3)


def test_drawing_is_repeatable():
    kind = random.Random(5).choice(sorted(RULES))
    assert [one.name for one in planted(kind, RULES[kind], each=1)] == [
        one.name for one in planted(kind, RULES[kind], each=1)
    ]
