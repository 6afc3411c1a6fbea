"""Worksheets as read: statements, where they cannot be read, limits; whatever is typed, nothing but arithmetic."""

import ast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qkv.check.worksheets.arithmetic import FUNCTIONS
from qkv.check.worksheets.conclusions import CONCLUSIONS
from qkv.check.worksheets.expressions import ReadingError, Source, calls, names, number, unit
from qkv.check.worksheets.judge import judge
from qkv.check.worksheets.syntax import Assignment, Claim, Given, Graph, Let, Statement, Unreadable, parse


def only(text: str) -> Statement:
    (statement,) = parse(text).statements
    return statement


def spelled(node: ast.expr | None) -> str:
    assert node is not None
    return ast.unparse(node)


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_value_is_given():
    statement = only("given X, Y = [[2, 0.5], [1, -1]]  # two of them")
    assert isinstance(statement, Given)
    assert statement.names == ("X", "Y")
    assert spelled(statement.value) == "[[2, 0.5], [1, -1]]"


@pytest.mark.parametrize(
    ("text", "shape", "kind"),
    [
        ("given Q : (L, D)", ["L", "D"], ""),
        ("given v : (n,)", ["n"], ""),
        ("given P : permutation(n)", ["n", "n"], "permutation"),
        ("given s : scalar", [], "scalar"),
    ],
)
def test_a_shape_or_a_kind_is_given(text: str, shape: list[str], kind: str):
    statement = only(text)
    assert isinstance(statement, Given)
    assert statement.shape is not None
    assert [spelled(size) for size in statement.shape] == shape
    assert statement.kind == kind


def test_a_domain_and_an_assumption_are_given():
    variable, assumption = parse("given x in Z^4\ngiven m <= n").statements
    assert isinstance(variable, Given)
    assert isinstance(assumption, Given)
    assert variable.domain is not None
    assert (variable.domain.names, variable.domain.kind, spelled(variable.domain.size)) == (("x",), "Z", "4")
    assert spelled(assumption.condition) == "m <= n"


@pytest.mark.parametrize("word", ["let", "given"])
def test_functions_are_defined(word: str):
    statement = only(f"{word} f(x, y) = x @ y")
    assert isinstance(statement, Let)
    assert (statement.name, statement.parameters, spelled(statement.value)) == ("f", ("x", "y"), "x @ y")


def test_a_claim_has_a_label_links_lemmas_and_clauses():
    statement = only("claim c1: f(P @ X) = P @ f(X) == Y by P.T @ P = I, softmax if m <= n for permutation P")
    assert isinstance(statement, Claim)
    assert (statement.label, statement.name) == ("c1", "c1")
    assert [spelled(link) for link in statement.links] == ["f(P @ X)", "P @ f(X)", "Y"]
    assert statement.by == ("P.T @ P = I", "softmax")
    assert spelled(statement.condition) == "m <= n"
    (domain,) = statement.over
    assert (domain.names, domain.kind) == (("P",), "permutation")


@pytest.mark.parametrize(
    ("text", "name", "defines"),
    [
        ("claim Q = X @ W = [[1]]", "Q", "Q"),
        ("claim c: Q = X", "c", "Q"),
        ("claim sum(A) = 1", "line 1", ""),
        ("claim bar(a1) = W.T @ bar(u)", "bar(a1)", ""),
        ("claim Q", "line 1", ""),
    ],
)
def test_claims_go_by_a_name(text: str, name: str, defines: str):
    statement = only(text)
    assert isinstance(statement, Claim)
    assert (statement.name, statement.defines) == (name, defines)


def test_for_all_numbers_equations_stand_for_truth():
    statement = only("claim forall x in R^4: net(x) == 1 iff x[1] > x[0] and not x[2] == 0")
    assert isinstance(statement, Claim)
    (link,) = statement.links
    assert spelled(link) == "iff(net(x) == 1, x[1] > x[0] and (not x[2] == 0))"
    assert statement.over[0].names == ("x",)


def test_rows_are_named_as_people_do():
    statement = only("claim strongest(A, row 1) = 3")
    assert isinstance(statement, Claim)
    assert spelled(statement.links[0]) == "strongest(A, row=1)"


def test_statements_go_on_where_a_bracket_is_open_and_before_an_equals_sign():
    text = "given X = [[1, 2],\n   [3, 4]]  # remark\n\nclaim Y = X\n  = [[1, 2],\n     [3, 4]]\ngiven Z = 1"
    first, second, third = parse(text).statements
    assert [statement.line for statement in (first, second, third)] == [1, 4, 7]
    assert isinstance(second, Claim)
    assert len(second.links) == 3
    last = second.links[-1]
    assert second.text[last.col_offset : last.end_col_offset] == "[[1, 2],\n     [3, 4]]"


def test_a_graph_is_a_block_of_assignments():
    text = "graph\na1 = W1 @ x  # first\nu = relu(a1)\nend\nclaim bar(a1) = 1"
    graph, claim = parse(text).statements
    assert isinstance(graph, Graph)
    assert isinstance(claim, Claim)
    assert [(node.line, node.name, spelled(node.value)) for node in graph.assignments] == [
        (2, "a1", "W1 @ x"),
        (3, "u", "relu(a1)"),
    ]


def test_of_markdown_only_our_blocks_are_read():
    text = (
        "# Title\n\nclaim nothing\n\n```python\nclaim = 3\n```\n\n```worksheet\ngiven X = 1\n```\n~~~graph\ny = X\n~~~"
    )
    sheet = parse(text)
    given_x, graph = sheet.statements
    assert (given_x.line, graph.line) == (10, 13)
    assert isinstance(graph, Graph)
    assert isinstance(graph.assignments[0], Assignment)
    assert sheet.code == {10, 13}


def test_lines_may_end_in_any_way():
    assert [s.line for s in parse("given X = 1\r\ngiven Y = 2\rgiven Z = 3").statements] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "value", "last_place"),
    [("0.62", "31/50", 0.01), ("3", "3", None), ("1.50e-3", "3/2000", 1e-5), ("2e3", "2000", 1000.0)],
)
def test_numbers_keep_their_spelling(text: str, value: str, last_place: float | None):
    source = Source.of(text)
    node = source.expression(source.tokens, 0)
    assert isinstance(node, ast.Constant)
    assert str(number(node)) == value
    assert unit(node) == last_place


def test_a_minus_of_a_word_processor_is_one():
    source = Source.of("−1.5")
    assert ast.unparse(source.expression(source.tokens, 0)) == "-1.5"


def test_names_and_calls():
    source = Source.of("f(x) + softmax(y[i], axis=k) @ [z, 1]")
    tree = source.expression(source.tokens, 0)
    assert names(tree) == {"x", "y", "i", "k", "z"}
    assert calls(tree) == {"f", "softmax"}


# -- what cannot be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("claim Y = [[1, ,2]]", 16, "a value before ,"),
        ("claim Y = [[1, 2]", 18, "a closing ]"),
        ("claim Y = (1, 2]", 16, "the bracket that closes the last one opened"),
        ("claim Y = 1)", 12, "no ) without its opening bracket"),
        ("claim Y = X @", 14, "a value after @"),
        ("claim Y = X W", 13, "an operator or a comma"),
        ("claim Y = 2x", 12, "an operator between a number and a name, such as 2 * x"),
        ("claim Y = 1.2.3", 14, "a number with one point"),
        ("claim Y = X ^ 2", 13, "** for a power"),
        ("claim Y = X'", 12, ".T for a transpose"),
        ("claim Y = X.shape", 18, ".T, the only thing after a point"),
        ("claim Y = lambda", 11, "a name (lambda is a word of Python's)"),
        ("claim Y =", 10, "an expression"),
        ("claim Y = 0123", 11, "a number that does not begin with 0"),
        ("claim Y = 1e999", 11, "a number of at most 40 digits, with an exponent up to 300"),
        ("giben X = 1", 1, "given?"),
        ("X = 1", 1, "given, let, claim or graph"),
        ("given X", 8, "= and a value, : and a shape, or an assumption such as m <= n"),
        ("given X : circle(n)", 11, "a shape such as (n, m) or (n,), or one of "),
        ("given x in Q^4", 12, "a name in R^4 or Z^4"),
        ("let f(x = 3", 12, "= and an expression"),
        ("claim f(X) = X for circle P", 20, "x in R^4, or a name after one of "),
        ("claim forall x in R^4", 22, ": and what is claimed"),
        ("claim X = (f)(1)(2)(3)", 11, "the name of a function before its bracket"),
    ],
)
def test_unreadable_lines_say_where_and_what_was_expected(text: str, column: int, expected: str):
    statement = only(text)
    assert isinstance(statement, Unreadable)
    assert (statement.column, statement.line) == (column, 1)
    assert statement.expected.startswith(expected)


def test_the_rest_is_read_all_the_same():
    first, second, third = parse("given X = [1, 2\ngiven Y = 3\nclaim Z = Y + = 3").statements
    assert [type(first), type(second), type(third)] == [Unreadable, Given, Unreadable]


def test_what_can_be_read_of_a_claim_is_kept():
    statement = only("claim Q = X @ W = [[1, a b]]")
    assert isinstance(statement, Unreadable)
    assert statement.salvaged is not None
    assert [spelled(link) for link in statement.salvaged.links] == ["Q", "X @ W"]


def test_the_column_is_of_its_own_line():
    statement = only("claim Y = [[1, 2],\n  [3, ,4]]")
    assert isinstance(statement, Unreadable)
    assert statement.column == 7


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "().__class__.__bases__",
        "[x for x in X]",
        "X if X else X",
        "lambda: X",
        "f'{X}'",
        "X.T.T.real",
        "f(*X)",
        "f(**X)",
        "X := 3",
        "{1: 2}",
        "...",
        "1j",
        "'a'",
        "None",
        "f(g)(h)(i)",
    ],
)
def test_nothing_but_arithmetic_can_be_written(text: str):
    assert isinstance(only(f"given Y = {text}"), Unreadable)


@pytest.mark.parametrize(
    "text",
    ["(" * 40 + "1" + ")" * 40, "1" + "+1" * 500, "1" + "**1" * 90, "- " * 500 + "1", "9" * 50, "1" * 25_000],
    ids=["brackets", "operators", "powers", "signs", "digits", "length"],
)
def test_what_is_too_long_or_too_deep_is_refused(text: str):
    with pytest.raises(ReadingError):
        Source.of(text).expression(Source.of(text).tokens, 0)


TYPED = """
given let claim graph end for forall if by in iff and or not X Y A v n 1 2 0.5 1e9 -3 [[1, 2], [3, 4]] [1, 2] ( ) [ ]
@ + - * / ** = == < > , : . .T ^ softmax( exp( sum( outer( eye( concat( X[0] X[9] axis=0 row 1 R^4 Z permutation f(x)
ones(1000, 1000) ** 64 99999999 ``` ```worksheet # é − True lambda __class__
"""
WORDS = st.sampled_from(TYPED.split())
LINES = st.lists(WORDS, max_size=14).map(" ".join)
NAMES = st.sampled_from(["X", "v", "s", "W", "f", "n"])
NUMBERS = st.sampled_from(["0", "1", "2", "-1", "0.5", "1e-3", "1e200", "64", "0.33", "inf", "10 ** 9"])


def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """What can be written of expressions."""
    operators = st.sampled_from(["+", "-", "*", "/", "@", "**", "=", "==", "<"])
    functions = st.sampled_from([*FUNCTIONS, *CONCLUSIONS, "f", "g", "cost", "grad", "bar", "O"])
    options = st.sampled_from(["", ", axis=0", ", axis=keys", ", keepdims=True", ", row 1", ", 1", ", X"])
    return (
        st.builds("({} {} {})".format, inner, operators, inner)
        | st.builds("{}({}{})".format, functions, inner, options)
        | st.builds("{}.T".format, inner)
        | st.builds("-{}".format, inner)
        | st.builds("{}[{}]".format, inner, st.sampled_from(["0", "1", "-1", ":", "0, 1", ":, 1", "0:1", "9", "X"]))
        | st.lists(inner, min_size=1, max_size=3).map(", ".join).map("[{}]".format)
    )


EXPRESSIONS = st.recursive(NAMES | NUMBERS, deeper, max_leaves=8)
STATEMENTS = (
    EXPRESSIONS.map("given W = {}".format)
    | EXPRESSIONS.map("let f(x) = {}".format)
    | st.builds("claim {} = {} = {}".format, NAMES, EXPRESSIONS, EXPRESSIONS)
    | st.builds("claim {} {} {}".format, EXPRESSIONS, st.sampled_from(["=", "<", ">=", "!="]), EXPRESSIONS)
)
TEXTS = st.lists(
    STATEMENTS
    | STATEMENTS
    | LINES
    | LINES.map("given X = {}".format)
    | LINES.map("claim Y = {} = [[1, 2]]".format)
    | st.text(max_size=40)
    | st.just("given X = [[2, 0], [1, 3]]\ngiven v = [1, -2]\ngiven s = 0.5"),
    max_size=4,
).map("\n".join)


def judged(text: str) -> None:
    """Whatever is typed is judged, without an error that is not ours, in bounded time."""
    judgement = judge(parse(text), seconds=5.0, limit=0.2)
    assert all(line.verdict.kind for line in judgement.lines)
    judgement.document()


@settings(max_examples=2000)
@given(TEXTS)
@example("given X = " + "[" * 500)
@example("let f(x) = f(x) + f(x)\nclaim Y = f(1) = 2")
@example("let f(x) = x * x\nlet g(x) = f(f(f(f(f(f(x))))))\nclaim Y = g(g(g(g(3)))) = 2")
@example("claim Y = ones(10 ** 9, 10 ** 9) = 1")
@example("claim Y = 9 ** 9 ** 9 = 1")
@example("given X = ones(500, 500)\nclaim Y = outer(X[0], X[0]) @ X @ X = 1\nclaim Z = vec(X) = 1")
@example("claim Y = 0 / 0 = inf - inf")
@example("given v = [1, 2]\nclaim w = v[1.5] = 2\nclaim u = v[0:0] = 2\nclaim t = v[::0] = 1")
def test_whatever_is_typed_is_judged(text: str):
    judged(text)


@pytest.mark.nightly
@settings(max_examples=100_000)
@given(TEXTS)
def test_whatever_is_typed_is_judged_by_night(text: str):
    judged(text)
