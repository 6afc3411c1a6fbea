import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv import errors
from qkv.errors import DataError, InputError, InputTypeError, QkvError, RunError, StorageError, unknown_name


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "one column."),
        ({"expected": "two"}, "one column. Expected two."),
        ({"got": "'chat'"}, "one column. Got 'chat'."),
        ({"expected": "two", "got": "'chat'"}, "one column. Expected two; got 'chat'."),
        ({"hint": "--columns 0,1"}, "one column. Try: --columns 0,1"),
        ({"path": "a.tsv"}, "a.tsv: one column."),
        ({"path": Path("a.tsv"), "line": 3}, "a.tsv, line 3: one column."),
        ({"line": 3, "got": "1"}, "line 3: one column. Got 1."),
    ],
)
def test_the_message_by_hand(parts: dict, message: str):
    assert str(QkvError("one column", **parts)) == message


def test_a_sentence_ends_once():
    assert str(QkvError("no.")) == "no."


@given(st.text(), st.text(), st.text(), st.text(), st.integers(1))
def test_every_part_is_in_the_message_and_kept(problem: str, expected: str, got: str, hint: str, line: int):
    error = DataError(problem, expected=expected, got=got, hint=hint, path="a.tsv", line=line)
    assert all(part in str(error) for part in (problem.rstrip("."), expected[1:], got[1:], hint, "a.tsv", str(line)))
    assert (error.problem, error.expected, error.got, error.hint) == (problem, expected, got, hint)
    assert (error.path, error.line) == ("a.tsv", line)


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (InputError, (ValueError,)),
        (InputTypeError, (TypeError,)),
        (DataError, (InputError,)),
        (RunError, (InputError,)),
        (StorageError, (OSError,)),
    ],
)
def test_each_can_be_caught_as_what_it_is_in_python(kind: type[QkvError], bases: tuple[type[Exception], ...]):
    with pytest.raises(bases, match="one column"):
        raise kind("one column")
    assert issubclass(kind, QkvError)


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in dir(errors) if name.endswith("Error")])
def test_errors_cross_processes(kind: type[QkvError]):
    # A worker process hands its error on pickled.
    error = pickle.loads(pickle.dumps(kind("one column")))
    assert type(error) is kind
    assert "one column" in str(error)


def test_unknown_names_get_the_nearest():
    assert unknown_name("model", "transfomer", ["rnn", "transformer"]).hint == "transformer"
    # The ratio of difflib: twice the 1 letter in common over 2 + 2 letters is 0.5, which is near enough; 0 is not.
    assert unknown_name("letter", "ab", ["cb"]).hint == "cb"
    assert unknown_name("letter", "ab", ["cd"], hint="--help").hint == "--help"
    assert str(unknown_name("run", "x", [])) == "unknown run 'x'."
