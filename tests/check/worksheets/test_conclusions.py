"""What is concluded from a map: rankings, ties, comparisons; carried forward where the map is wrong."""

import pytest

from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.syntax import parse
from qkv.check.worksheets.verdict import Verdict

MAP = "given A = [[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.35, 0.25]]\n"


def of(claim: str, before: str = MAP) -> Verdict:
    return judge(parse(before + claim)).lines[-1].verdict


@pytest.mark.parametrize(
    ("claim", "kind", "cause"),
    [
        ("claim strongest(A, row 1) = 2", "correct", ""),
        ("claim strongest(A, row 1) = 1", "wrong", "counted from 0"),
        ("claim strongest(A, row 1) = 3", "wrong", "another place"),  # the second
        ("claim second(A, row 3) = 2", "correct", ""),
        ("claim weakest(A, row 3) = 3", "correct", ""),
        ("claim strongest(A, column 2) = 1", "correct", ""),
        ("claim order(A, row 3) = [1, 2, 3]", "correct", ""),
        ("claim order(A, row 3) = [3, 2, 1]", "wrong", "order reversed"),
        ("claim strongest(A) = [2, 3, 1]", "correct", ""),
        ("claim strongest(A) = [2, 3, 2]", "wrong", "another place"),
        ("claim strongest(A, row 1) = strongest(2 * A, row 1)", "correct", ""),
        ("claim 2 = strongest(A, row 1)", "correct", ""),
        ("claim strongest(A[0]) = 2", "correct", ""),
        ("claim A[0, 1] > A[0, 2] > A[0, 0]", "correct", ""),
        ("claim A[0, 1] > A[0, 2] > A[1, 2]", "wrong", ""),
        ("claim A[0, 1] < 0.4 or A[1, 2] >= 0.8", "correct", ""),
        ("claim not (A[0, 1] < 0.4) and A[0, 0] != 1", "correct", ""),
        ("claim A > 0", "correct", ""),
        ("claim A[0] <= A[2]", "wrong", ""),
        ("claim sum(A, axis=keys) = [1, 1, 1]", "correct", ""),
        ("claim sum(A, axis=queries) = [0.7, 0.95, 1.35]", "correct", ""),
    ],
)
def test_conclusions(claim: str, kind: str, cause: str):
    found = of(claim)
    assert found.kind == kind
    # "another place" also stands for the second, where the strongest is meant
    assert found.cause == cause or (cause == "another place" and found.cause in ("", "counted from 0"))


def test_of_equal_entries_either_may_be_named():
    for place in (1, 2):
        found = of(f"claim second(A, row 2) = {place}")
        assert found.kind == "correct"
    assert found.notes == ["It is as large as another, so either may be named."]
    assert of("claim second(A, row 2) = 3").kind == "wrong"


def test_the_wrong_place_and_the_right_one_are_told():
    (entry,) = of("claim strongest(A) = [2, 1, 1]").entries
    assert (entry.index, entry.claimed, entry.value) == ((1, 0), 1.0, 3.0)


def test_what_is_compared_is_told():
    assert of("claim A[0, 1] < 0.4").notes == ["A[0, 1] is 0.5."]


def test_conclusions_are_carried_forward():
    before = "given X = [1, 3]\nclaim A = 2 * X = [7, 6]\n"
    for claim in ("claim strongest(A) = 1", "claim A[0] > A[1]"):
        assert of(claim, before).kind == "carried"
    assert of("claim strongest(A) = 2", before).kind == "correct"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("claim strongest(A, row 4) = 1", "no row 4 in 3 x 3"),
        ("claim strongest(A, row 1) = 4", "strongest counts from 1. Expected 1 to 3; got 4"),
        ("claim strongest(A, row 1) = 1.5", "a place, counted from 1"),
        ("claim strongest(A) = 2", "3 answers"),
        ("claim 1 + strongest(A, row 1) = 2", "stands alone on one side"),
        ("claim strongest(A, axis=1) = 2", "takes a matrix and a row or column"),
        ("claim A > [1, 2]", "a comparison of shapes that do not fit"),
        ("claim not A", "neither true nor false"),
    ],
)
def test_what_cannot_be_used_is_said(claim: str, message: str):
    found = of(claim)
    assert found.kind == "unusable"
    assert message in found.explanation
