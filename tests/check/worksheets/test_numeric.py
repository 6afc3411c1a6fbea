"""Claims about numbers: by hand, at the precision written, carried forward, beside NumPy."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.check.worksheets.arithmetic import FUNCTIONS
from qkv.check.worksheets.evaluate import Evaluator
from qkv.check.worksheets.expressions import Source
from qkv.check.worksheets.judge import Judgement, judge
from qkv.check.worksheets.sheet import Worksheet, summary
from qkv.check.worksheets.syntax import parse
from qkv.check.worksheets.values import Exact, UnusableError, Value, floats
from qkv.types import Entry


def of(text: str) -> Judgement:
    return judge(parse(text))


def kinds(text: str) -> list[str]:
    return [line.verdict.kind for line in of(text).lines]


def value(text: str, **values: Value) -> Value:
    source = Source.of(text)
    return Evaluator(values, {})(source.expression(source.tokens, 0))


ISSUE = """
given  X   = [[2, 0, 1], [1, -1, 3]]
given  W_Q = [[1, 0], [0, 2], [-1, 1]]
claim  Q   = X @ W_Q                      = [[1, 1], [-2, 2]]
claim  A   = softmax(Q @ Q.T / sqrt(2))   = [[0.80, 0.20], [0.00, 1.00]]
"""


def test_the_first_wrong_entry_and_what_follows_from_it():
    # Row (1, -1, 3) times column (0, 2, 1) is 0 - 2 + 3 = 1. With 2 in its place Q @ Q.T is [[2, 0], [0, 8]], and over
    # sqrt(2) its softmax is 1 / (1 + exp(-1.414)) = 0.804 in row 1, 1 / (1 + exp(-5.657)) = 0.9965 in row 2.
    found = of(ISSUE)
    assert [line.verdict.kind for line in found.lines] == ["wrong", "carried"]
    assert found["Q"].entries == [Entry((1, 1), 2.0, 1.0, 0.5)]
    assert "1 * 0 + (-1) * 2 + 3 * 1 = 1" in found["Q"].notes[0]
    document = found.document()
    assert document["first_wrong"] == "Q"
    assert document["claims"][0] | {"notes": []} == {
        "name": "Q",
        "line": 4,
        "verdict": "wrong",
        "said": "wrong",
        "entries": [{"row": 2, "column": 2, "claimed": 2.0, "value": 1.0}],
        "cause": "",
        "explanation": "",
        "notes": [],
        "facts": {},
    }


def test_what_is_right_does_not_follow_from_a_slip():
    # With the right Q, [[1, 1], [-2, 1]], Q @ Q.T is [[2, -1], [-1, 5]]: differences of 3 and of 6 over sqrt(2).
    first, second = 1 / (1 + np.exp(-3 / np.sqrt(2))), 1 / (1 + np.exp(-6 / np.sqrt(2)))
    written = f"[[{first:.3f}, {1 - first:.3f}], [{1 - second:.3f}, {second:.3f}]]"
    found = of(ISSUE.replace("[[0.80, 0.20], [0.00, 1.00]]", written))
    assert [line.verdict.kind for line in found.lines] == ["wrong", "correct"]
    assert "that slip stopped there" in found["A"].notes[0]


@pytest.mark.parametrize(
    ("claimed", "kind", "note"),
    [
        ("0.62", "correct", ""),
        ("0.615", "wrong", ""),  # 0.623 is not 0.615 with three digits
        ("0.63", "correct", "one unit in the last place"),
        ("0.64", "wrong", ""),
        ("0.6", "correct", ""),
        ("0.6230", "correct", ""),
        ("6.2e-1", "correct", ""),
        ("623/1000", "correct", ""),
        ("0.6231", "correct", "one unit in the last place"),
        ("0.6232", "wrong", ""),
        ("1", "wrong", ""),  # whole numbers stand for themselves where the truth is rational
    ],
)
def test_an_entry_is_judged_at_the_precision_that_it_was_written_with(claimed: str, kind: str, note: str):
    found = of(f"given x = 0.623\nclaim y = x + 0 = {claimed}")["y"]
    assert found.kind == kind
    assert note in " ".join(found.notes)


@pytest.mark.parametrize(("claimed", "kind"), [("3", "correct"), ("2", "wrong"), ("2.7", "correct"), ("2.9", "wrong")])
def test_whole_numbers_stand_for_the_half_around_them_where_the_truth_is_irrational(claimed: str, kind: str):
    assert kinds(f"claim y = exp(1) = {claimed}") == [kind]


def test_whole_numbers_among_decimals_have_as_many():
    assert kinds("claim y = softmax([9, 0]) = [1, 0.00]") == ["correct"]
    assert kinds("claim y = softmax([1, 0]) = [1, 0.3]") == ["wrong"]


def test_what_was_rounded_above_rounds_what_follows():
    # 1/3 as 0.33 gives 100/3 as 33.0, where it is 33.3.
    text = "given x = 3\nclaim y = 1 / x = 0.33\nclaim z = 100 * y = 33.0\nclaim w = 100 * y = 33.3"
    assert kinds(text) == ["correct", "rounding", "correct"]
    assert kinds("given x = 3\nclaim y = 1 / x = 0.33\nclaim z = 100 * y = 35.0") == ["correct", "wrong"]


def test_digits_kept_in_the_head_may_follow_from_a_mistake():
    # y should be 0.25; carried on with 1/3, whose third power is 0.037, or with 0.33: 0.036.
    text = "given x = 4\nclaim y = 1 / x = 0.33\nclaim z = y ** 3 = {}"
    for written in ("0.037", "0.036"):
        assert kinds(text.format(written)) == ["wrong", "carried"]
    assert kinds(text.format("0.047")) == ["wrong", "wrong"]


def test_a_claim_of_a_known_name_is_judged_by_its_formula():
    text = "given x = 2\nclaim y = 3 * x = 6\nclaim y = x + 4 = 6\nclaim y = x + 5 = 7"
    assert kinds(text) == ["correct", "correct", "wrong"]


def test_expressions_that_are_claimed_to_be_equal_are_compared():
    found = of(
        "given A = [[1, 2], [3, 4]]\ngiven B = [[0, 1], [1, 1]]\nclaim A @ B = B @ A\nclaim (A @ B).T = B.T @ A.T"
    )
    assert [line.verdict.kind for line in found.lines] == ["wrong", "correct"]
    # A @ B is [[2, 3], [4, 7]], B @ A is [[3, 4], [4, 6]].
    assert [entry.index for entry in found.lines[0].verdict.entries] == [(0, 0), (0, 1), (1, 1)]


def test_a_vector_may_be_written_as_a_column():
    found = of("given v = [1, 2]\nclaim w = 2 * v = [[2], [4]]\nclaim u = w + 1 = [3, 5]")
    assert [line.verdict.kind for line in found.lines] == ["correct", "correct"]
    assert found["w"].notes == ["It is a vector of 2, written as 2 x 1."]


def test_entries_are_marked_where_they_stand():
    found = of("given X = [1, 2]\nclaim Y = 2 * X = [2, -5]")
    (line,) = found.lines
    text = line.statement.text
    assert [(text[mark.start : mark.end], mark.kind) for mark in line.verdict.marks] == [
        ("2", "correct"),
        ("-5", "wrong"),
    ]


# -- what cannot be used -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claim Y = X + 1 = 2", "X is used but given nowhere above"),
        ("given W_q = 1\ngiven K = 2\nclaim Y = W_Q + 1 = 2", "Try: W_q"),
        ("given X = [[1, 2]\nclaim Y = X + 1 = 2", "X was to come from line 1, which cannot be used"),
        ("given X = [[1, 2]]\nclaim Y = X @ X = 2", "1 x 2 @ 1 x 2 does not fit"),
        ("given X = [[1, 2]]\nclaim Y = X @ X = 2", "Try: the transpose of the right side, .T"),
        ("given X = [[1, 2]]\nclaim Y = X + [1, 2, 3] = 2", "1 x 2 + a vector of 3 does not fit"),
        ("given X = [[1, 2]]\nclaim Y = X + 1 = [[2, 3], [1, 1]]", "Expected 1 x 2; got 2 x 2"),
        ("given X = [[1, 2]]\nclaim Y = X.T + 1 = [[2, 3]]", "its transpose has that shape"),
        ("given v = [1, 2]\nclaim Y = v @ v.T = 5", "Try: outer(v, v)"),
        ("given v = [1, 2]\nclaim Y = v + 1 = [2, a]", "entry 2 is 'a'. Expected a number"),
        ("given v = [1, b]", "entry 2 is 'b'. Expected a number"),
        ("given X = [[1, 2], [3]]", "row 2 does not fit the row above it. Expected a vector of 2; got a vector of 1"),
        ("given X = [[1, 2], 3]", "a list of both"),
        ("given v = []", "an empty list"),
        ("claim Y = softmx([1, 2]) = 2", "Try: softmax"),
        ("claim Y = softmax([1, 2], 3) = 2", "softmax has no axis 3 of a vector of 2"),
        ("claim Y = softmax() = 2", "softmax takes (x, axis=-1)"),
        ("claim Y = log(0 * 1) = 2", "the logarithm of what is not positive"),
        ("claim Y = sqrt(1 - 2) = 2", "the square root of what is negative"),
        ("claim Y = 1 / (1 - 1) = 2", "division by zero"),
        ("claim Y = exp(1000) = 2", "exp gives what is no number here"),
        ("given v = [1, 2]\nclaim Y = v[2] = 2", "no index 2. Expected 0 to 1"),
        ("given X = [[1, 2]]\nclaim Y = sum(X, row 2) = 2", "no row 2 in 1 x 2"),
        ("let f(x) = x\nclaim Y = f(1, 2) = 2", "f takes (x)"),
        ("claim Y = ones(1000, 1000) = 2", "1000 x 1000 is too large"),
        ("claim Y = [[1, 2]]", "nothing says what Y should be"),
        ("given X = 1\nclaim Y = X() = 2", "unknown function 'X'"),
        ("claim Y = softmax = 2", "softmax is a function"),
    ],
)
def test_what_cannot_be_used_is_said(text: str, message: str):
    last = of(text).lines[-1]
    assert last.verdict.kind == "unusable"
    assert message in last.verdict.explanation


def test_what_cannot_be_used_is_taken_as_it_should_be():
    found = of("given X = [[1, 2]]\nclaim Y = X + 1 = [[2], [3]]\nclaim Z = Y * 2 = [[4, 6]]\nclaim W = Y [= 3")
    assert [line.verdict.kind for line in found.lines] == ["unusable", "correct", "unusable"]


def test_what_can_be_read_of_a_claim_still_defines_its_name():
    assert kinds("given X = [1, 2]\nclaim Y = X + 1 = [2, 3 4]\nclaim Z = 2 * Y = [4, 6]") == ["unusable", "correct"]


def test_time_is_limited():
    found = judge(parse("claim y = 1 + 1 = 2"), seconds=-1.0)
    assert [line.verdict.kind for line in found.lines] == ["undecided"]


# -- beside NumPy ------------------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(7)
A, B, S = RANDOM.normal(size=(3, 5)), RANDOM.normal(size=(5, 7)), RANDOM.normal(size=(5, 5))
V, W = RANDOM.normal(size=5), RANDOM.normal(size=3)


def shares(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A @ B", A @ B),
        ("A @ V", A @ V),
        ("W @ A", W @ A),
        ("V @ V", V @ V),
        ("A.T * 2 - 1", A.T * 2 - 1),
        ("-A / (1 + A ** 2)", -A / (1 + A**2)),
        ("A + V", A + V),
        ("outer(W, V)", np.outer(W, V)),
        ("dot(V, V)", V @ V),
        ("softmax(A)", shares(A)),
        ("softmax(A, axis=0)", shares(A, 0)),
        ("softmax(A, axis=rows)", shares(A, 0)),
        ("log_softmax(A)", np.log(shares(A))),
        ("exp(A)", np.exp(A)),
        ("log(A ** 2)", np.log(A**2)),
        ("sqrt(A * A)", np.abs(A)),
        ("abs(A)", np.abs(A)),
        ("sigmoid(A)", 1 / (1 + np.exp(-A))),
        ("relu(A)", np.maximum(A, 0)),
        ("tanh(A)", np.tanh(A)),
        ("sum(A)", A.sum()),
        ("sum(A, axis=0)", A.sum(0)),
        ("sum(A, axis=keys)", A.sum(1)),
        ("sum(A, axis=1, keepdims=True)", A.sum(1, keepdims=True)),
        ("sum(A, row 2)", A[1].sum()),
        ("sum(A, column 4)", A[:, 3].sum()),
        ("mean(A)", A.mean()),
        ("mean(A, axis=0)", A.mean(0)),
        ("max(A, axis=1)", A.max(1)),
        ("min(A)", A.min()),
        ("argmax(A, axis=1)", A.argmax(1)),
        ("trace(S)", np.trace(S)),
        ("diag(S)", np.diag(S)),
        ("diag(V)", np.diag(V)),
        ("vec(A)", A.ravel(order="F")),
        ("concat(1, V, W)", np.concatenate([[1], V, W])),
        ("concat(A, A, axis=1)", np.concatenate([A, A], 1)),
        ("ones(2, 3) + eye(3)[0] + zeros(3)", np.ones((2, 3)) + np.eye(3)[0]),
        ("norm(A)", np.linalg.norm(A)),
        ("norm(A, axis=0)", np.linalg.norm(A, axis=0)),
        ("A[1]", A[1]),
        ("A[-1, 2]", A[-1, 2]),
        ("A[:, 1:3]", A[:, 1:3]),
        ("A[::2]", A[::2]),
        ("[W, A[:, 0]]", np.stack([W, A[:, 0]])),
        ("[1, 2] + pi + e", np.array([1, 2]) + np.pi + np.e),
    ],
)
def test_values_are_numpys(text: str, expected: np.ndarray):
    found = floats(value(text, A=A, B=B, S=S, V=V, W=W))
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    assert found.shape == np.shape(expected)


def test_every_function_of_the_language_is_compared_with_numpy():
    tried = {name for name in FUNCTIONS if any(f"{name}(" in mark for mark in _texts())}
    assert tried == set(FUNCTIONS)


def _texts() -> list[str]:
    (mark,) = [mark for mark in test_values_are_numpys.pytestmark if mark.name == "parametrize"]
    return [text for text, _ in mark.args[1]]


FRACTIONS = st.fractions(-20, 20, max_denominator=30)
MATRICES = st.lists(st.lists(FRACTIONS, min_size=3, max_size=3), min_size=3, max_size=3)


def spelled(rows: list[list[Fraction]]) -> str:
    return "[" + ", ".join("[" + ", ".join(f"{x.numerator}/{x.denominator}" for x in row) + "]" for row in rows) + "]"


@settings(max_examples=20)
@given(MATRICES, MATRICES)
def test_rational_arithmetic_is_exact(a: list[list[Fraction]], b: list[list[Fraction]]):
    product = [[sum((a[i][k] * b[k][j] for k in range(3)), Fraction()) for j in range(3)] for i in range(3)]
    third = [[(product[i][j] - a[i][j]) / 7 for j in range(3)] for i in range(3)]
    found = value(f"({spelled(a)} @ {spelled(b)} - {spelled(a)}) / 7")
    assert isinstance(found, Exact)
    assert found.fractions() == [number for row in third for number in row]


@settings(max_examples=10)
@given(MATRICES)
def test_other_functions_of_rational_numbers_are_exact_too(a: list[list[Fraction]]):
    flat = [number for row in a for number in row]
    for text, expected in {
        f"sum({spelled(a)})": sum(flat, Fraction()),
        f"mean({spelled(a)})": sum(flat, Fraction()) / 9,
        f"max(relu({spelled(a)}))": max(max(flat), Fraction()),
        f"trace({spelled(a)})": a[0][0] + a[1][1] + a[2][2],
        f"norm([3, 4]) + sqrt({spelled(a)}[0, 0] ** 2)": 5 + abs(a[0][0]),
        f"1 / (1 + sum({spelled(a)} ** 2))": 1 / (1 + sum((number**2 for number in flat), Fraction())),
    }.items():
        found = value(text)
        assert isinstance(found, Exact), text
        assert found.fractions() == [expected]


def test_numbers_that_grow_past_all_bounds_go_on_in_floating_point():
    found = value("((2 / 3) ** 60) ** 60")
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, (2 / 3) ** 3600, rtol=1e-9)


def test_a_number_too_large_is_refused():
    with pytest.raises(UnusableError, match="past the range"):
        value("((10 ** 60) ** 60) ** 60")


def test_numbers_alone_are_compared_with_one_another():
    # A third is 0.333...; a line without a name is named once.
    sheet = Worksheet("claim third = 1/3 = 0.333\nclaim 1/3 = 0.36\nclaim third + 1 = 1.333")
    assert [line.verdict.kind for line in sheet.judgement.lines] == ["correct", "wrong", "correct"]
    assert summary(sheet) == "3 claims, 2 right, 1 wrong; the first mistake is line 2"


def test_numbers_below_zero_in_a_row_have_no_cause_of_their_own():
    line = Worksheet("claim A = abs([-1, 2]) = [0, 2]").judgement.lines[0]
    assert (line.verdict.kind, line.verdict.entries[0].claimed) == ("wrong", 0)
    assert Worksheet("claim A=[0]=abs([-1])").judgement.lines[0].verdict.kind == "wrong"


@pytest.mark.parametrize(
    "value", ["-[0, 2]", "2 / [1, -1]", "[[0, -2]][0]", "[ones(2), zeros(2)]", "[[1, 1], -[0, 0]]"]
)
def test_lists_in_which_no_entry_stands_alone_are_computed(value: str):
    truth = {"-[0, 2]": "[0, -2]", "[[0, -2]][0]": "[0, -2]", "2 / [1, -1]": "[2, -2]"}.get(value, "[[1, 1], [0, 0]]")
    claims = [f"claim A = T + 0 = {value}", f"claim B = T + 1 = {value}", f"claim C = {value} = {truth}"]
    sheet = Worksheet("\n".join([f"given T = {truth}", *claims]))
    assert [line.verdict.kind for line in sheet.judgement.lines] == ["correct", "wrong", "correct"]
