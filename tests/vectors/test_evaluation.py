import numpy as np
import pytest

from qkv.errors import DataError, InputError
from qkv.vectors import AnalogySet, SimilaritySet, WordVectors, read_set, score
from qkv.vectors.evaluation import answers

ANGLES = {"a": 0.0, "b": 0.3, "c": 0.7, "d": 1.5}
FAN = WordVectors(list(ANGLES), np.array([[np.cos(x), np.sin(x)] for x in ANGLES.values()]))


def written(tmp_path, text: str, name: str = "toy.tsv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_spearman_by_hand():
    # Angles of ab, ac, ad: 0.3, 0.7, 1.5, so cosines rank 3, 2, 1. People rank them 3, 1, 2: differences 0, 1, 1, and
    # rho = 1 - 6 (0 + 1 + 1) / (3 (9 - 1)) = 1/2.
    found = score(FAN, SimilaritySet("toy", [("a", "b", 9.0), ("A", "c", 1.0), ("a", "d", 2.0), ("a", "x", 5.0)]))
    assert (found.spearman, found.covered, found.size) == (0.5, 3, 4)


def test_ties_share_their_ranks():
    # Cosines rank 3, 2, 1; people 2.5, 2.5, 1: covariance 1.5, variances 2 and 1.5, rho = 1.5 / sqrt(3).
    found = score(FAN, SimilaritySet("toy", [("a", "b", 9.0), ("a", "c", 9.0), ("a", "d", 2.0)]))
    assert found.spearman == pytest.approx(1.5 / 3**0.5)


@pytest.mark.parametrize(
    "pairs", [[("a", "b", 1.0)], [("a", "b", 1.0), ("a", "c", 1.0)], [("x", "y", 1.0), ("x", "z", 2.0)]]
)
def test_nothing_to_rank(pairs):
    assert score(FAN, SimilaritySet("toy", pairs)).spearman is None


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
def test_analogies_by_category(method):
    # A grid: capital and country differ by the same step, and the second category is wrong on purpose.
    words = ["paris", "france", "rome", "italy", "oslo", "norway"]
    matrix = np.array([[1, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1]])
    asked = AnalogySet(
        "toy",
        [
            (
                "capitals",
                [("Paris", "France", "Rome", "Italy"), ("rome", "italy", "oslo", "norway"), ("x", "y", "z", "w")],
            ),
            ("wrong", [("paris", "france", "rome", "oslo")]),
            ("unknown", [("x", "paris", "rome", "oslo")]),
        ],
    )
    found = score(WordVectors(words, matrix), asked, method=method)
    assert [(one.name, one.correct, one.covered, one.size, one.accuracy) for one in found.categories] == [
        ("capitals", 2, 2, 3, 1.0), ("wrong", 0, 1, 1, 0.0), ("unknown", 0, 0, 1, None),
    ]  # fmt: skip
    assert (found.correct, found.covered, found.size, found.accuracy) == (2, 3, 5, 2 / 3)


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul"])
def test_answers_are_those_of_single_questions(method):
    generator = np.random.default_rng(0)
    vectors = WordVectors([f"w{row}" for row in range(211)], generator.normal(size=(211, 5)))
    questions = generator.integers(0, 211, (131, 3))
    for question, row in zip(questions, answers(vectors, questions, method), strict=True):
        a, b, c = (vectors.words[one] for one in question)
        assert vectors.analogy(a, b, c, top=1, method=method)[0].word == vectors.words[row]


def test_too_few_words_for_a_question():
    assert answers(FAN.subset(["a", "b", "c"]), np.array([[0, 1, 2]]), "3cosadd").tolist() == [-1]


def test_sets_are_recognised(tmp_path):
    pairs = [("old", "new", 1.58), ("smart", "intelligent", 9.2)]
    for text in ("old\tnew\t1.58\nsmart\tintelligent\t9.2\n", "Word 1,Word 2,Mean\nold,new,1.58\nsmart,intelligent,9.2",
                 "old new 1.58\n\nsmart  intelligent 9.2\n"):  # fmt: skip
        assert read_set(written(tmp_path, text)) == SimilaritySet("toy", pairs)
    questions = read_set(written(tmp_path, ": one\na b c d\ne f g h\n: two\ni j k l\n", "q.txt"))
    assert questions == AnalogySet(
        "q", [("one", [("a", "b", "c", "d"), ("e", "f", "g", "h")]), ("two", [("i", "j", "k", "l")])]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\t1\nc\td\n", r"line 2: not a pair of words\. Expected two words and a score; got 'c.td'"),
        ("a\tb\t1\nc\td\thigh\n", "line 2: not a pair of words"),
        ("a\tb\tnan\n", "line 1: a score that is no number"),
        (": one\na b c\n", r"line 2: not an analogy\. Expected four words; got 'a b c'"),
        ("word1\tword2\tscore\n", "not an evaluation set"),
        (": one\n", "not an evaluation set"),
        ("a b 1\n: one\na b c d\n", "not an evaluation set"),
        ("junk\n", "line 1: not a pair of words"),
        ("", "the file is empty"),
    ],
)
def test_files_that_are_no_sets(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_set(written(tmp_path, text))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "junk").write_bytes(b"a\tb\t1\n\xff\xfe\n")
    with pytest.raises(DataError, match="line 2: not text"):
        read_set(tmp_path / "junk")


@pytest.mark.usefixtures("no_shape_hook")
def test_an_unknown_method():
    with pytest.raises(InputError, match=r"unknown method 'add'"):
        score(FAN, AnalogySet("toy", []), method="add")
