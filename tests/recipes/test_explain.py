import json
import math

import pytest
import torch

from qkv.errors import DataError, InputError
from qkv.functional import naive_softmax_attention
from qkv.recipes.explain import Matrices, attend, observations, worked
from qkv.recipes.explain_inputs import read_given, setting
from qkv.vectors import EmbeddedSentence


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sentence(words: int, dim: int, seed: int = 0, scale: float = 1.0) -> EmbeddedSentence:
    vectors = scale * torch.randn(words, dim, generator=drawn(seed), dtype=torch.float64)
    return EmbeddedSentence([f"w{place}" for place in range(words)], vectors)


# -- the steps -------------------------------------------------------------------------------------------------------


def test_every_step_by_hand():
    # X = [[1, 0], [2, 0], [0, 2]], so X Xᵀ = [[1, 2, 0], [2, 4, 0], [0, 0, 4]]; not scaled. Row 1: less its largest
    # entry 2, exponentials e^-1, 1, e^-2. Output of row 1: (e^-1 + 2, 2 e^-2) / sum.
    x = EmbeddedSentence(["a", "b", "c"], torch.tensor([[1.0, 0], [2, 0], [0, 2]], dtype=torch.float64))
    trace = attend(x, scaled=False)
    assert trace.names == ["x", "scores", "exponentials", "weights", "output"]
    assert trace["scores"].tolist() == [[1, 2, 0], [2, 4, 0], [0, 0, 4]]
    total = math.exp(-1) + 1 + math.exp(-2)
    assert trace["exponentials"][0].tolist() == pytest.approx([math.exp(-1), 1, math.exp(-2)])
    assert trace["weights"][0, 0, 0].tolist() == pytest.approx([math.exp(-1) / total, 1 / total, math.exp(-2) / total])
    assert trace["output"][0].tolist() == pytest.approx([(math.exp(-1) + 2) / total, 2 * math.exp(-2) / total])
    seen = observations(trace, x)
    assert [one.query for one in seen] == ["a", "b", "c"]
    assert [[key for key, _ in one.keys] for one in seen] == [["b", "a"], ["b", "a"], ["c", "a"]]  # ties: the earlier


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("queries", [1, 5])
def test_two_inputs_are_the_definition(queries, scale, scaled):
    x, y = sentence(queries, 7, 0, scale), sentence(3, 11, 1, scale)
    matrices = Matrices.random(7, 11, 2, drawn(2))
    value = torch.randn(11, 13, generator=drawn(3), dtype=torch.float64)
    matrices = Matrices(matrices.query, matrices.key, value)
    trace = attend(x, y, matrices, scaled=scaled)
    assert trace.names == [
        "x", "y", "query", "key", "value", "scores", *["scaled"] * scaled, "exponentials", "weights", "output",
    ]  # fmt: skip
    output, weights = naive_softmax_attention(
        x.vectors @ matrices.query, y.vectors @ matrices.key, y.vectors @ value, scale=2**-0.5 if scaled else 1.0
    )
    torch.testing.assert_close(trace["weights"][0, 0], weights, rtol=0, atol=1e-10)
    torch.testing.assert_close(trace["output"], output, rtol=0, atol=1e-10 * scale)
    exponentials = trace["exponentials"]
    torch.testing.assert_close(exponentials / exponentials.sum(dim=1, keepdim=True), weights, rtol=0, atol=1e-10)
    torch.testing.assert_close(trace["output"], weights @ trace["value"], rtol=0, atol=1e-10 * scale)


def test_the_trace_is_one_that_others_read():
    x, y = sentence(5, 7), sentence(3, 7, 1)
    (step,) = attend(x, y).attention()
    assert dict(step.facts) == {"kind": "cross", "obtained": "captured", "backend": "softmax_attention"}
    told = worked(attend(x, y), x, y, title="T")
    assert told.attention.kind == "cross"
    assert (told.attention.query_labels, told.attention.key_labels) == (x.labels, y.labels)
    assert [one.formula for one in told.steps] == [
        "X", "Y", "S = X Yᵀ", "Z = S / √7", "Eᵢⱼ = exp(Zᵢⱼ − maxₖ Zᵢₖ)", "Aᵢⱼ = Eᵢⱼ / Σₖ Eᵢₖ", "O = A Y",
    ]  # fmt: skip
    for one in told.steps:
        assert one.value.shape[0] == len(one.rows)
        assert one.columns is None or one.value.shape[1] == len(one.columns)


def test_shapes_that_do_not_fit():
    wide = Matrices(query=torch.ones(5, 2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"the query matrix does not fit the vectors\. Expected 7 rows.*\(5, 2\)"):
        attend(sentence(3, 7), matrices=wide)
    half = Matrices(query=torch.ones(7, 2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"queries and keys differ in width\. Expected one width; got 2 and 7"):
        attend(sentence(3, 7), matrices=half)


# -- what it starts from ---------------------------------------------------------------------------------------------

FILE = "to 1 0 2\nbe 0 3 1\nor -1 1 0\nnot 2 2 -2\n"


@pytest.fixture
def vectors(tmp_path) -> str:
    path = tmp_path / "vectors.txt"
    path.write_text(FILE)
    return str(path)


def test_learned_matrices_send_a_word_where_it_is_asked_to(vectors):
    found = setting("to be or not", vectors=vectors, query_key="learned", word="be", to="not", width=2)
    trace = attend(found.x, matrices=found.matrices)
    assert float(trace["weights"][0, 0, 1, 3]) > 0.9999
    assert "to send “be” to “not”" in found.notes[0]
    other = setting("to be", against="or not", vectors=vectors, query_key="learned", to="or", width=2)
    assert float(attend(other.x, other.y, other.matrices)["weights"][0, 0, 1, 0]) > 0.9999


def test_random_matrices_follow_the_seed(vectors):
    def query(seed):
        return setting("to be", vectors=vectors, query_key="random", width=5, seed=seed).matrices.query

    assert query(1).shape == (3, 5)
    assert torch.equal(query(1), query(1))
    assert not torch.equal(query(1), query(2))


def test_a_file_may_bring_all_of_it(tmp_path):
    path = tmp_path / "given.json"
    path.write_text(json.dumps({
        "x": [[1, 0], [0, 1]], "x_tokens": ["a", "b"], "y": [[1, 1, 1]], "key": [[1, 0], [0, 1], [0, 0]],
    }))  # fmt: skip
    found = setting(given=read_given(path))
    assert found.x.words == ["a", "b"]
    assert found.y is not None
    assert found.y.words == ["y1"]
    assert attend(found.x, found.y, found.matrices)["weights"].tolist() == [[[[1], [1]]]]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], r"not a file of matrices\. Expected an object with any of x, .*got list"),
        ({"querry": [[1]]}, "got querry"),
        ({"query": [[1, 2], [3]]}, "query is not a matrix"),
        ({"query": [1, 2]}, r"query is not a matrix\. .*got shape \(2,\)"),
        ({"query": "text"}, "query is not a matrix"),
        ({"query": [[None]]}, "query is not a matrix"),
        ({"key": [[]]}, "key is not a matrix"),
        ({"value": [[float("nan")]]}, "value is not a matrix"),
        ({"x_tokens": ["a"]}, "x_tokens without x"),
        ({"x": [[1]], "x_tokens": ["a", "b"]}, r"x_tokens do not fit x\. Expected a list of 1 texts; got 2"),
        ({"x": [[1]], "x_tokens": [1]}, "x_tokens do not fit x"),
    ],
)
def test_files_that_are_none(tmp_path, document, message):
    path = tmp_path / "given.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        read_given(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sentence": None}, "there is nothing to explain"),
        ({"query_key": "given"}, r"no query or key matrix is given.*got --query-key given"),
        ({"query_key": "random", "width": 0}, r"--width is too small\. Expected at least 1; got 0"),
        ({"word": "be"}, r"--word and --to say what is learned\. Got --query-key none"),
        ({"query_key": "learned", "word": "two"}, r"unknown word of the sentence 'two'\..*Try: to"),
        ({"unknown": "stop", "sentence": "to swim"}, r"no vector for 'swim'"),
    ],
)
def test_settings_that_cannot_be(vectors, options, message):
    with pytest.raises(InputError, match=message):
        setting(**({"sentence": "to be", "vectors": vectors} | options))


# -- at the door -----------------------------------------------------------------------------------------------------


def test_the_terminal_shows_steps_and_says_what_is_to_be_seen(qkv_cli, vectors):
    answer = qkv_cli("explain", "to be or swim", "--vectors", vectors, "--no-scale")
    assert answer.code == 0, answer.err
    assert "No vector for swim: left out." in answer.out
    assert "S = X Xᵀ" in answer.out
    # to . to = 5, to . be = 2, to . or = -1.
    assert "   to   5.0000   2.0000  -1.0000" in answer.out
    weight = 1 / (1 + math.exp(-3) + math.exp(-6))
    assert f"“to” attends most to “to” ({weight:.4f}), then to “be” ({weight * math.exp(-3):.4f})." in answer.out


def test_json_holds_every_step_whole(qkv_cli, vectors):
    document = qkv_cli("explain", "to be", "--against", "or not to", "--vectors", vectors, "--json").json
    assert [step["name"] for step in document["steps"]] == [
        "x", "y", "scores", "scaled", "exponentials", "weights", "output",
    ]  # fmt: skip
    weights = document["steps"][5]
    assert (weights["rows"], weights["columns"]) == (["to", "be"], ["or", "not", "to"])
    assert [sum(row) for row in weights["value"]] == pytest.approx([1, 1])
    assert len(document["observed"]) == 2
    assert document["missing"] == []


@pytest.mark.parametrize(
    ("form", "start"),
    [("markdown", "# to be"), ("latex", r"\documentclass"), ("html", "<!doctype html>"), ("terminal", "to be\n")],
)
def test_every_form_goes_to_a_file_too(qkv_cli, vectors, tmp_path, form, start):
    out = tmp_path / "explained"
    answer = qkv_cli("explain", "to be", "--vectors", vectors, "--format", form, "--out", out)
    assert (answer.code, answer.err.strip()) == (0, str(out))
    assert out.read_text(encoding="utf-8").startswith(start)
    assert answer.out.startswith("“to” attends most to “to”")
    assert qkv_cli("explain", "to be", "--vectors", vectors, "--format", form).out == out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to explain"),
        (["to", "--entries", "0"], "--entries is too small"),
        (["swim"], "no vector for 'swim'"),
        (["to", "--matrices", "nowhere.json"], "nowhere.json: no such file"),
        (["to", "--format", "word"], "format"),
    ],
)
def test_what_cannot_be_explained_is_refused(qkv_cli, vectors, arguments, message):
    answer = qkv_cli("explain", *arguments, "--vectors", vectors)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err.lower()
