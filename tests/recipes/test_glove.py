import html
import json
from itertools import pairwise

import numpy as np
import pytest

from qkv.errors import DataError, InputError
from qkv.recipes.glove_sweep import MODELS, Model, Solved, read_matrices, solve
from qkv.vectors import WordVectors
from qkv.vectors.dense_glove import exact, log_counts

SMALL = ["--preset", "tiny", "--dims", "1,2,3,17", "--steps", "7"]
WORDS = ["a", "bird", "could", "do", "every", "fine", "game"]


@pytest.fixture(scope="module")
def grams(tmp_path_factory):
    """3-grams of seven words: whatever comes first, the next are likely the two after it in the alphabet."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 7, 503)
    rows = np.stack([starts, starts + 1 + rng.integers(0, 2, 503), starts + 2 + rng.integers(0, 3, 503)], axis=1) % 7
    path = tmp_path_factory.mktemp("data") / "grams.npz"
    np.savez(path, vocab=np.array(WORDS), train_inputs=rows[:401], valid_inputs=rows[401:])
    return path


def logarithms(rows: np.ndarray, delta: float = 0.5) -> np.ndarray:
    counts = np.zeros((7, 7))
    for row in rows:
        for first, second in pairwise(row):
            counts[first, second] += 1
    return log_counts(counts, delta)


@pytest.fixture(scope="module")
def ran(qkv_cli, grams, tmp_path_factory):
    """A run, its folder and its answer."""
    path = tmp_path_factory.mktemp("glove") / "run"
    answer = qkv_cli("run", "glove", "--data", grams, *SMALL, "--out", path, "--json")
    assert answer.code == 0, answer.err
    return path, answer.json


def test_a_run_leaves_losses_vectors_and_a_report(ran, grams):
    path, document = ran
    assert {file.name for file in path.iterdir()} == {
        "config.json", "environment.json", "result.json", "report.html", "vectors.npz", "plane.npz",
    }  # fmt: skip
    result = json.loads((path / "result.json").read_text())
    assert document["metrics"] == result["metrics"]
    arrays = np.load(grams)
    train, valid = (logarithms(arrays[part]) for part in ("train_inputs", "valid_inputs"))
    points = {(one["model"], one["solver"], one["dim"]): one for one in result["points"]}
    assert len(points) == 2 * 2 * 4
    for model, symmetric in (("asymmetric", False), ("symmetric", True)):
        optima = exact(train, symmetric=symmetric)
        on_valid = [optima.at(dim).loss(valid) for dim in range(1, 7)]
        for dim in (1, 2, 3, 17):
            best, reached = points[model, "exact", dim], points[model, "gradient", dim]
            assert best["training"] == pytest.approx(optima.loss(dim), abs=1e-9)
            assert best["validation"] == pytest.approx(optima.at(dim).loss(valid))
            assert best["training"] <= reached["training"]
            assert best["parameters"] == reached["parameters"] == (1 if symmetric else 2) * 7 * (dim + 1)
        swept = min((1, 2, 3, 17), key=lambda dim: on_valid[min(dim, 6) - 1])
        metrics = result["metrics"]
        assert metrics[f"best_dim_{model}"] == swept
        assert metrics[f"validation_{model}"] == pytest.approx(on_valid[min(swept, 6) - 1])
        assert metrics[f"turn_{model}"] == 1 + int(np.argmin(on_valid))
        assert metrics[f"best_dim_{model}_gradient"] in (1, 2, 3, 17)
    assert metrics["symmetric_floor"] == pytest.approx(exact(train, symmetric=True).losses[-1])
    assert [len(one["training"]) for one in result["descents"]] == [8] * 8


def test_vectors_are_those_of_the_best_dimension_and_of_two(ran, grams):
    path, document = ran
    optima = exact(logarithms(np.load(grams)["train_inputs"]))
    best, plane = (WordVectors.load(path / name) for name in ("vectors.npz", "plane.npz"))
    assert list(best.words) == list(plane.words) == WORDS
    np.testing.assert_allclose(best.matrix, optima.at(int(document["metrics"]["turn_asymmetric"])).w, rtol=1e-6)
    np.testing.assert_allclose(plane.matrix, optima.at(2).w, rtol=1e-6)


def test_the_report_tells_it_all_and_how_to_make_it_again(ran, grams):
    path, _ = ran
    page = html.unescape((path / "report.html").read_text(encoding="utf-8"))
    assert page.count("<svg") == 3
    for told in ("401 3-grams for training, 102 for validation", "over-fitting", "Some course texts", "t-SNE",
                 "parameters, symmetric", "7 steps over all pairs", "nearest words"):  # fmt: skip
        assert told in page
    assert f"qkv run glove --data {grams} --dims 1,2,3,17 --steps 7 --words 60 --seed 0" in page
    assert "https://" not in page


def test_the_symmetrised_target_costs_what_it_leaves_out(qkv_cli, ran, grams, tmp_path):
    options = ["--target", "symmetrised", "--no-gradient"]
    answer = qkv_cli("run", "glove", "--data", grams, *SMALL, *options, "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    metrics, before = answer.json["metrics"], ran[1]["metrics"]
    assert not any(name.endswith("_gradient") for name in metrics)
    assert metrics["training_asymmetric"] > before["training_asymmetric"]
    # The symmetric model never saw another target: its optimum and its losses are the same.
    for name in ("training_symmetric", "validation_symmetric", "symmetric_floor"):
        assert metrics[name] == pytest.approx(before[name])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    train = logarithms(np.load(grams)["train_inputs"])
    mistaken = exact((train + train.T) / 2)
    for dim, loss in enumerate(result["symmetrised"]["training"]):
        assert loss == pytest.approx(mistaken.at(dim).loss(train) if dim else loss)
    # Best at one dimension: there is one map, that of two.
    assert metrics["turn_asymmetric"] == 1
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "on the other" not in page
    assert result["symmetrised"]["training"][-1] == pytest.approx(((train - train.T) ** 2).sum() / 4)


def test_text_is_counted_and_a_share_held_out(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat\n\n" * 30 + "the dog sat\n" * 10)
    found = read_matrices(str(tmp_path), delta=1.0, words=3, window=1, valid_share=0.25, seed=0)
    assert sorted(found.words[:2]) == ["sat", "the"]
    assert found.words[2] == "cat"
    assert found.told == "3 words; 30 documents for training, 10 for validation"
    the, sat, cat = (found.words.index(word) for word in ("the", "sat", "cat"))
    train, valid = np.exp(found.train) - 1, np.exp(found.valid) - 1
    # Each document says "cat" or "dog", which is no word of the three and leaves no gap.
    assert train[the, cat] == pytest.approx(train[cat, sat])
    assert train[the, cat] + train[the, sat] == pytest.approx(30)
    assert valid[the, cat] + valid[the, sat] == pytest.approx(10)
    assert train[the, cat] + valid[the, cat] == pytest.approx(30)
    assert train[cat, the] == train[sat, cat] == 0
    other = read_matrices(str(tmp_path), delta=1.0, words=3, window=1, valid_share=0.25, seed=5)
    again = read_matrices(str(tmp_path), delta=1.0, words=3, window=1, valid_share=0.25, seed=0)
    assert (again.train == found.train).all()
    assert (other.train != found.train).any()


def test_what_is_no_text_is_refused(tmp_path):
    how = {"delta": 1.0, "words": 3, "window": 1, "valid_share": 0.25, "seed": 0}
    (tmp_path / "text.txt").write_bytes(b"the cat\ncaf\xe9\n")
    with pytest.raises(DataError, match="line 2: not text"):
        read_matrices(str(tmp_path), **how)
    with pytest.raises(InputError, match="no package 'nowhere'"):
        read_matrices("docstrings", packages=["nowhere"], **how)


def test_two_words_have_one_dimension_and_no_map(qkv_cli, tmp_path):
    rows = np.array([[0, 1], [1, 1], [0, 0], [0, 1]])
    np.savez(tmp_path / "two.npz", vocab=np.array(["oui", "non"]), train_inputs=rows, valid_inputs=rows)
    answer = qkv_cli("run", "glove", "--data", tmp_path / "two.npz", *SMALL, "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["metrics"]["turn_asymmetric"] == 1
    assert not (tmp_path / "run" / "plane.npz").exists()
    assert "t-SNE" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_stopped_run_begins_anew(qkv_cli, ran, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("config.json", "environment.json"):
        (tmp_path / "run" / name).write_bytes((ran[0] / name).read_bytes())
    answer = qkv_cli("resume", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["metrics"] == ran[1]["metrics"]


def test_known_numbers_of_real_4_grams(shared_data):
    path = str(shared_data / "nlm-250" / "ngrams_masked.npz")
    matrices = read_matrices(path, delta=0.5, words=1, window=1, valid_share=0.5, seed=0)
    solved: dict[Model, Solved] = {model: solve(matrices, model, symmetrised=False) for model in MODELS}
    dims = (1, 2, 5, 8, 10, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    losses = {model: {p.dim: p.validation for p in one.points(model, dims)} for model, one in solved.items()}
    for model, best in (("asymmetric", 72_820.0), ("symmetric", 76_786.1)):
        assert min(losses[model], key=lambda dim, of=model: losses[of][dim]) == 10
        assert losses[model][10] == pytest.approx(best, abs=0.05)
    ahead = {dim for dim in dims if losses["asymmetric"][dim] < losses["symmetric"][dim]}
    assert ahead == {2, 5, 8, 10, 32}
    assert (solved["asymmetric"].best, solved["symmetric"].best) == (12, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dims", "0,1"], "--dims cannot be used. Expected greater than 0; got '0'"),
        (["--dims", "1", "--sweep"], "--sweep and --dims both choose dimensions. Expected one of them"),
        (["--target", "mirrored"], "unknown --target 'mirrored'. Expected one of directed, symmetrised"),
        (["--delta", "0"], "--delta cannot be used. Expected greater than 0"),
        (["--valid-share", "1"], "--valid-share cannot be used. Expected less than 1"),
        (["--words", "2"], "--words cannot be used. Expected greater than or equal to 3"),
        (["--data", "nlm-25"], "unknown data set 'nlm-25'."),
        (["--data", "{tmp}/none.txt"], "no such file"),
        (["--data", "{tmp}/one.txt"], "too little text to hold some out."),
        (["--data", "{tmp}/empty"], "a folder without files"),
        (["--data", "{grams}", "--rate", "1000"], "descent diverged at step"),
    ],
)
def test_what_cannot_be_used(qkv_cli, grams, tmp_path, arguments, message):
    (tmp_path / "one.txt").write_text("a line and no other")
    (tmp_path / "empty").mkdir()
    arguments = [argument.format(tmp=tmp_path, grams=grams) for argument in arguments]
    answer = qkv_cli("run", "glove", *arguments, "--out", tmp_path / "run")
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())
    assert not (tmp_path / "run").exists()
