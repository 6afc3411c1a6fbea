"""Threshold networks: proofs, counterexamples, limits; every number of the shipped one changed by rule."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.network import Question, decide, fails, written
from qkv.check.worksheets.network_causes import cause_of
from qkv.check.worksheets.sheet import read_sheet
from qkv.check.worksheets.syntax import Let, parse
from qkv.check.worksheets.verdict import Verdict
from tests.check.worksheets.planted.networks import SHEET, planted


def verdict(text: str) -> Verdict:
    return judge(parse(text), seconds=float("inf"), limit=60.0).lines[-1].verdict


def question(text: str) -> Question:
    """The last claim of a sheet without numbers, with its functions."""
    sheet = parse(text)
    functions = {let.name: let for let in sheet.statements if isinstance(let, Let)}
    claim = sheet.claims[-1]
    return Question(claim.links[0], claim.over, [claim.condition] if claim.condition else [], {}, functions)


@pytest.mark.parametrize(
    ("function", "below", "at", "above"),
    [("hard_threshold(x)", 0, 1, 1), ("step(x)", 0, 0, 1), ("indicator(0, 1)(x)", 0, 1, 1), ("relu(x)", 0, 0, 1)],
)
def test_thresholds_on_their_boundary(function: str, below: int, at: int, above: int):
    # At -1, 0 and 1.
    for place, value in ((-1, below), (0, at), (1, above)):
        assert verdict(f"claim forall x in R: {function} == {value} if x == {place}").word == "proved"


def test_the_shipped_network_is_proved():
    found = judge(read_sheet("superincreasing")[1], seconds=float("inf"))
    assert [line.verdict.word for line in found.lines] == ["proved"] * 3


@pytest.mark.parametrize("seed", [16, 23])
def test_integers_are_decided_whatever_the_solver_draws(seed: int):
    # With whole numbers as reals without a fraction, these seeds branch without an end.
    z3 = pytest.importorskip("z3")
    z3.set_param("smt.random_seed", seed)
    try:
        found = judge(read_sheet("superincreasing")[1], seconds=float("inf"), limit=3.0)
    finally:
        z3.set_param("smt.random_seed", 0)
    assert found["integers"].word == "proved"


def test_integers_divide_as_numbers_do():
    # 1/2 is no whole number: with a remainder, 1 // 2 would be 0.
    assert verdict("claim forall x in Z: x / 2 == 0 iff x == 0").word == "proved"
    assert verdict("claim forall x in Z: x / 2 + x / 2 == x").word == "proved"
    assert verdict("claim forall x in Z: 1 / x < 1 if x > 0").word == "refuted"


def test_a_counterexample_is_the_smallest_and_holds():
    # Whole numbers: x = 2 is the first above 1; z3 itself may say any.
    decision = decide(question("claim forall x in R: x <= 1"))
    assert decision.verdict == "refuted"
    assert decision.counterexamples[0].point["x"].item() == 2


def test_where_no_whole_number_will_do_it_is_a_short_fraction():
    asked = question("claim forall x in R: x <= 1/3 or x >= 2/3")
    decision = decide(asked)
    assert decision.counterexamples[0].point["x"].item() == Fraction(1, 2)
    assert all(fails(asked, example.point) for example in decision.counterexamples)


def test_integers_are_not_reals():
    between = "x[0] <= 0 or x[0] >= 1"
    assert verdict(f"claim forall x in Z^2: {between}").word == "proved"
    assert verdict(f"claim forall x in R^2: {between}").word == "refuted"


def test_assumptions():
    assert verdict("claim forall x in R^2: x[0] + x[1] > 0").kind == "wrong"
    assert verdict("claim forall x in R^2: x[0] + x[1] > 0 if x > 0").kind == "correct"
    assert verdict("given x in R^2\ngiven x[0] > 1\ngiven x[1] >= 0\nclaim sum(x) > 1 and x[0] > 1").kind == "correct"


def test_brute_force_agrees_on_a_small_grid():
    sheet = parse(SHEET)
    numbers = {
        "W1": np.array([[1, -1, 0, 0], [1, 1, -1, 0], [1, 1, 1, -1]], dtype=object) * Fraction(1),
        "b1": np.array([Fraction(0)] * 3, dtype=object), "w2": np.array([Fraction(1)] * 3, dtype=object),
        "b2": np.array(Fraction(1), dtype=object),
    }  # fmt: skip
    functions = {let.name: let for let in sheet.statements if isinstance(let, Let)}
    claim = sheet.claims[0]
    whole = Question(claim.links[0], claim.over, (), numbers, functions)
    for point in itertools.product((-1, 0, 1, 2), repeat=4):
        assert not fails(whole, {"x": np.array([Fraction(entry) for entry in point], dtype=object)})


def test_what_is_not_settled_is_undecided():
    # Sums of three cubes: nobody knows an end to that search.
    decision = decide(question("claim forall x in Z^3: x[0]**3 + x[1]**3 + x[2]**3 != 114"), limit=0.3)
    assert (decision.verdict, decision.note) == ("undecided", "not settled within 0.3 s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claim forall x in R^2: exp(x[0]) > 0", "unknown function in a proof 'exp'"),
        ("claim forall x in R^2: x[2] > 0 or x[0] > 1", "x[2] is not there"),
        ("claim forall x in R^2: x[0] / 0 > 1", "divides by zero"),
        ("given W = [[1, 2, 3]]\nclaim forall x in R^2: sum(W @ x) > 0 or x[0] > 1", "shapes do not fit"),
        ("given w = sqrt(2)\nlet f(x) = step(w * x)\nclaim forall x in R: f(x) == 1 iff x > 0", "w is not rational"),
        ("claim forall x in R^0: x == x", "a proof is over so many numbers as are said"),
        ("claim forall x in R^2: relu(x[0])", "is no condition"),
    ],
)
def test_what_cannot_be_proved_says_why(text: str, message: str):
    found = verdict(text)
    assert found.kind == "unusable"
    assert message in found.explanation


def test_written_numbers():
    assert written(np.array([Fraction(1, 2), Fraction(-3)], dtype=object)) == "[1/2, -3]"


EVERY = planted()


def _hold(mistakes: list) -> None:
    """Each is refuted, with its cause, or shown to be equivalent, which is counted apart."""
    equivalent = []
    for mistake in mistakes:
        found = verdict(mistake.text)
        if found.word == "proved":
            equivalent.append(mistake)
            continue
        assert found.word == "refuted", mistake
        assert found.cause in mistake.causes, (mistake, found.cause, found.explanation)
    assert len(equivalent) <= len(mistakes) / 3


def test_planted_mistakes_are_refuted():
    _hold(EVERY[::11])


@pytest.mark.nightly
def test_all_planted_mistakes_are_refuted():
    _hold(EVERY)


def test_no_cause_where_there_is_no_single_cure():
    asked = question("claim forall x in R: x * x > 10 and x < 0")
    decision = decide(asked)
    assert cause_of(asked, [example.point for example in decision.counterexamples]) is None
