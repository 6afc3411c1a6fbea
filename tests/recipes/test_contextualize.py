import html
import json

import pytest
import torch

from qkv.functional import naive_softmax_attention
from qkv.recipes.contextualize_search import GOAL, ascend, random_trials
from qkv.recipes.explain import Matrices

SENTENCE = "i swam quickly across the river to get to the other bank"
# The row of "bank" and its softmax, with vectors of GloVe 6B in 50 dimensions.
SIMILARITIES = [11.25, -1.5239, 12.9733, 14.1935, 18.08, 16.6162, 19.2234, 14.3078, 19.2234, 18.08, 15.785, 36.392]
SOFTMAX = [
    1.2049e-11, 3.4143e-17, 6.7510e-11, 2.2871e-10, 1.1148e-08, 2.5790e-09, 3.4976e-08, 2.5642e-10, 3.4976e-08,
    1.1148e-08, 1.1233e-09, 1.0,
]  # fmt: skip


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- the search ------------------------------------------------------------------------------------------------------


def test_random_trials_are_attention_under_each_pair_of_matrices():
    keys = torch.randn(5, 7, generator=drawn(1), dtype=torch.float64)
    aim = torch.tensor([False, True, False, True, False])
    trials = random_trials(keys[2], keys, aim, width=3, count=2, generator=drawn())
    generator = drawn()  # both query matrices are drawn first, then both key matrices
    w_query, w_key = (torch.randn(2, 7, 3, generator=generator, dtype=torch.float64) * 7**-0.5 for _ in range(2))
    for trial in range(2):
        _, weights = naive_softmax_attention(keys[2:3] @ w_query[trial], keys @ w_key[trial], keys)
        assert float(trials.weights[trial]) == pytest.approx(float(weights[0, aim].sum()), abs=1e-10)


def test_many_trials_come_in_batches():
    keys = torch.randn(5, 7, generator=drawn(1), dtype=torch.float64)
    aim = torch.arange(5) == 1
    trials = random_trials(keys[2], keys, aim, width=3, count=1003, generator=drawn())
    assert trials.weights.shape == (1003,)
    assert 0 < trials.median < trials.best < 1
    assert trials.share_above(0.0) == 1
    assert trials.share_above(trials.best) == 0


@pytest.mark.parametrize("width", [1, 2, 8])
@pytest.mark.parametrize("target", [0, 3])
def test_ascent_reaches_any_word(width, target):
    keys = 3 * torch.randn(7, 11, generator=drawn(2), dtype=torch.float64)
    aim = torch.arange(7) == target
    found = ascend(keys[3], keys, aim, width=width, steps=3000, generator=drawn())
    assert found.matrices.query.shape == found.matrices.key.shape == (11, width)
    _, weights = naive_softmax_attention(keys[3:4] @ found.matrices.query, keys @ found.matrices.key, keys)
    assert float(weights[0, target]) == pytest.approx(found.weight, abs=1e-10)
    assert found.weight > GOAL
    assert len(found.history) == found.steps + 1
    # The start is that of random matrices.
    start = Matrices.random(11, 11, width, drawn())
    _, before = naive_softmax_attention(keys[3:4] @ start.query, keys @ start.key, keys)
    assert found.history[0] == pytest.approx(float(before[0, target]), abs=1e-10)


def test_what_cannot_be_reached_ends_after_its_steps():
    # A query of zeros asks for nothing: all five weights stay equal.
    keys = torch.randn(5, 7, generator=drawn(), dtype=torch.float64)
    found = ascend(
        torch.zeros(7, dtype=torch.float64), keys, torch.arange(5) == 1, width=3, steps=13, generator=drawn()
    )
    assert (found.steps, found.weight) == (13, pytest.approx(0.2))


# -- at the door -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    rows = torch.randn(6, 5, generator=drawn(3)).tolist()
    words = ["the", "bank", "of", "a", "river", "<b>"]
    lines = (" ".join([word, *map(str, row)]) for word, row in zip(words, rows, strict=True))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def ran(qkv_cli, vectors, tmp_path_factory):
    path = tmp_path_factory.mktemp("contextualize") / "run"
    options = ["--sentence", "the bank of the blue river", "--word", "bank", "--trials", "53", "--width", "2"]
    answer = qkv_cli("run", "contextualize", *options, "--vectors", vectors, "--out", path, "--json")
    assert answer.code == 0, answer.err
    return path, answer


def test_a_run_leaves_numbers_matrices_and_a_report(ran):
    path, answer = ran
    assert {file.name for file in path.iterdir()} == {
        "config.json", "environment.json", "matrices.json", "result.json", "report.html",
    }  # fmt: skip
    document = answer.json
    assert document["words"] == ["the", "bank", "of", "the", "river"]
    assert document["missing"] == ["blue"]
    assert "no vector for blue: left out" in answer.err
    similarities = torch.tensor(document["metrics"]["similarities"], dtype=torch.float64)
    torch.testing.assert_close(
        torch.tensor(document["metrics"]["softmax"], dtype=torch.float64), similarities.softmax(0), rtol=1e-12, atol=0
    )
    assert document["to"] == int(similarities.argmin())
    for weights in document["weights"].values():
        assert [sum(row) for row in weights] == pytest.approx([1] * 5)
    # What the file holds sends the word where the metric says.
    matrices = json.loads((path / "matrices.json").read_text())
    assert document["metrics"]["found_weight"] > 0.9999
    assert len(matrices["query"]) == 5
    assert {"random_best", "random_median", "random_share", "entropy", "found_steps"} <= document["metrics"].keys()


def test_updated_vectors_are_means_of_all(ran, qkv_cli, vectors):
    document = ran[1].json
    told = qkv_cli("explain", "the bank of the river", "--vectors", vectors, "--no-scale", "--json").json
    steps = {step["name"]: step["value"] for step in told["steps"]}
    torch.testing.assert_close(torch.tensor(document["updated"]), torch.tensor(steps["output"]))
    torch.testing.assert_close(torch.tensor(document["weights"]["raw"]), torch.tensor(steps["weights"]))


def test_found_matrices_go_on_to_explain(ran, qkv_cli, vectors):
    path, answer = ran
    told = qkv_cli(
        "explain", "the bank of the river", "--vectors", vectors, "--matrices", path / "matrices.json", "--json"
    )
    assert told.code == 0, told.err
    found = {step["name"]: step["value"] for step in told.json["steps"]}["weights"]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(answer.json["weights"]["found"]))


def test_the_report_tells_it_and_how_to_make_it_again(ran):
    path, _ = ran
    page = html.unescape((path / "report.html").read_text(encoding="utf-8"))
    assert page.count("<svg") == 3
    for told in ("What “bank” is similar to", "Updated vectors", "Of 53 pairs of random", "recomputed by the",
                 "No vector for blue", "qkv run contextualize --sentence 'the bank of the blue river'"):  # fmt: skip
        assert told in page


def test_people_see_single_numbers(qkv_cli, vectors, tmp_path):
    options = ["--sentence", "bank of a river", "--vectors", vectors, "--preset", "tiny", "--seeds", "2"]
    answer = qkv_cli("run", "contextualize", *options, "--out", tmp_path, "--json")
    assert answer.code == 0, answer.err
    (group,) = answer.json["groups"]
    assert "found_weight" in group["metrics"]
    assert "similarities" not in group["metrics"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--word", "the"],
            "the word 'the' stands 2 times in the sentence. Expected one of its positions 1, 2. Try: 2",
        ),
        (["--to", "rivers"], "unknown word of the sentence 'rivers'"),
        (["--unknown", "stop"], "no vector for 'blue'"),
        (["--sentence", "bleu ciel"], "no vector for 'bleu', 'ciel'"),
        (["--width", "0"], "--width"),
        (["--vectors", "nowhere.txt"], "nowhere.txt: no such file"),
    ],
)
def test_what_cannot_be_used_is_refused(qkv_cli, vectors, tmp_path, options, message):
    chosen = {"--sentence": "the blue the river", "--vectors": vectors} | dict([options])
    flat = [part for option in chosen.items() for part in option]
    answer = qkv_cli("run", "contextualize", *flat, "--out", tmp_path / "run")
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert not (tmp_path / "run").exists()


def test_the_row_of_bank_in_published_vectors(qkv_cli, shared_data, tmp_path):
    vectors = shared_data / "glove-6b-50d" / "glove.6B.50d.part.txt.gz"
    options = ["--sentence", SENTENCE, "--vectors", vectors, "--word", "bank", "--to", "swam"]
    answer = qkv_cli("run", "contextualize", *options, "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    metrics = answer.json["metrics"]
    assert metrics["similarities"] == pytest.approx(SIMILARITIES, abs=2e-4)
    assert metrics["softmax"] == pytest.approx(SOFTMAX, rel=5e-4)
    assert answer.json["most_similar"] == "bank"
    assert metrics["found_weight"] > 0.9999
    assert answer.json["weights"]["found"][11][1] > 0.9999
