import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from qkv.data import NGrams, read_ngrams
from qkv.errors import InputError, RunError
from qkv.models import NGramCounts
from qkv.recipes import masked_lm
from qkv.recipes.base import Drawn, Reporter, Shown, configure, validated
from qkv.recipes.masked_lm_data import MASK
from qkv.recipes.masked_lm_show import LanguageModel, followers
from qkv.train import RunFolder
from qkv.types import NGramBatch
from qkv.vectors import WordVectors

NAMES = ["Anna", "Ben", "Cleo", "Dan", "Eva"]
MODELS = "window,recurrent,transformer,causal,counts,unigram"


def sentence(draw: random.Random) -> str:
    """Five words: whoever is named first is named again."""
    name = draw.choice(NAMES)
    return f"{name} {draw.choice(['likes', 'sees'])} what {name} {draw.choice(['has', 'does', 'wants'])} ."


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Different lines, so that each is a text of its own: three sentences and a number."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "text.txt"
    lines = [" ".join([*(sentence(draw) for _ in range(3)), str(line)]) for line in range(301)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(qkv_cli, text, tmp_path_factory) -> Path:
    """All models, trained by one command for some seconds."""
    out = tmp_path_factory.mktemp("runs") / "swept"
    options = ("--text.tokens", "blanks", "--text.no-lower", "--text.vocabulary-size", 20, "--batch-size", 37)
    answer = qkv_cli(
        "run", "masked-lm", "--data", text, "--models", MODELS, "--preset", "tiny", *options, "--threads", 1,
        "--fit.steps", 90, "--fit.validate-every", 30, "--out", out,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    return out


def run_of(runs: Path, model: str):
    return RunFolder.open(runs / f"{model}-seed0").finished()


every_model = pytest.mark.parametrize("model", MODELS.split(","))


# -- settings --------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_course():
    config = validated(masked_lm.MaskedConfig, {})
    fit = config.fit
    assert (config.model, config.batch_size, config.window.deviation) == ("window", 100, 0.01)
    assert (config.window.embed_dim, config.window.hidden_size) == (16, 128)
    assert (fit.optimizer, fit.learning_rate, fit.momentum, fit.epochs) == ("sgd", 0.1, 0.9, 50)
    assert (fit.log_every, fit.validate_every, fit.schedule, fit.clip_norm) == (100, 1000, "constant", None)


@pytest.mark.parametrize(
    ("model", "optimizer", "batch_size"),
    [("window", "sgd", 100), ("transformer", "adamw", 512), ("counts", "sgd", 100)],
)
def test_the_preset_fits_model_and_data(model, optimizer, batch_size, tmp_path):
    config = configure(masked_lm, {"model": model})
    assert (config.fit.optimizer, config.batch_size) == (optimizer, batch_size)
    np.savez(tmp_path / "grams.npz", vocab=["a"], train_inputs=[[0, 0]], valid_inputs=[[0, 0]])
    preset = masked_lm.default_preset(configure(masked_lm, {"model": model, "data": str(tmp_path / "grams.npz")}))
    assert preset == ("network-ngrams" if model == "transformer" else "ngrams")


def test_every_preset_is_a_configuration_and_what_is_chosen_leaves_the_rest():
    for name in masked_lm.PRESETS:
        assert configure(masked_lm, {}, name)
    fit = configure(masked_lm, {"fit": {"steps": 7}}).fit
    assert (fit.steps, fit.optimizer, fit.learning_rate) == (7, "sgd", 0.1)


# -- runs ------------------------------------------------------------------------------------------------------------


@every_model
def test_a_run_leaves_scores_baselines_words_and_a_report(runs, model):
    run = run_of(runs, model)
    metrics = run.result["metrics"]
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["cross_entropy"]))
    assert metrics["cross_entropy"] == pytest.approx(sum(metrics["cross_entropy_by_place"]) / 4)
    assert set(run.result["baselines"]) == {"counts", "unigram"} - {model}
    assert run.result["rows"]["train"] > 5 * run.result["rows"]["test"]
    assert 0.5 < run.result["seen"] <= 1
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "word for word" in page
    assert f"--model {model}" in page
    assert ("another task" in page) is (model == "causal")
    assert ("Layer 0" in page) is (model == "transformer")
    assert ("nearest in the embedding" in page) is (model not in ("counts", "unigram"))
    assert not (run.path / "state").exists()


def test_what_is_learned_is_better_than_frequencies(runs):
    unigram = run_of(runs, "unigram").metrics["cross_entropy"]
    assert run_of(runs, "unigram").result["parameters"] == 3 * 4  # of each place, and nothing that is never read
    assert run_of(runs, "counts").metrics["cross_entropy"] < unigram / 2
    for model in ("recurrent", "transformer", "causal"):
        assert run_of(runs, model).metrics["cross_entropy"] < unigram, model
    # One step costs the window model least, and it is given as few.
    history = [line["loss"] for line in run_of(runs, "window").history if line["part"] == "valid"]
    assert history[-1] < history[0]


def test_all_of_them_are_compared(qkv_cli, runs, tmp_path):
    answer = qkv_cli("compare", runs, "--out", tmp_path, "--json")
    assert answer.code == 0, answer.err
    assert {group["name"] for group in answer.json["groups"]} == set(MODELS.split(","))
    assert (tmp_path / "curves.svg").exists()  # of those that were trained


@every_model
def test_a_run_is_judged_again_as_it_was(runs, model):
    run = run_of(runs, model)
    again = masked_lm.evaluate(run, None, Reporter())
    assert again["metrics"]["cross_entropy"] == pytest.approx(run.metrics["cross_entropy"], rel=1e-6)
    assert again["rows"] == run.result["rows"]["test"]


def test_judging_on_other_text(qkv_cli, runs, tmp_path):
    (tmp_path / "other.txt").write_text("Anna sees what Anna has .\nAnna sees what Zoe has .\n", encoding="utf-8")
    answer = qkv_cli("evaluate", runs / "counts-seed0", "--data", tmp_path / "other.txt", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["rows"] == 2 * 3
    (tmp_path / "short.txt").write_text("Anna sees\n", encoding="utf-8")
    answer = qkv_cli("evaluate", runs / "counts-seed0", "--data", tmp_path / "short.txt")
    assert answer.code == 2
    assert "has no row of 4 words that this run knows" in answer.err


def test_a_stopped_run_goes_on_to_the_same_weights(text, tmp_path):
    fit = {"steps": 60, "validate_every": 30, "save_every": 0.0}
    config = configure(masked_lm, {"data": str(text), "batch_size": 37, "fit": fit}, "tiny").model_dump(mode="json")
    whole, folder = (
        RunFolder.create(tmp_path / name, recipe="masked-lm", config=config, seed=3) for name in ("whole", "cut")
    )
    masked_lm.run(whole, Reporter())

    class CutError(Exception):
        """A kill."""

    def cut(at) -> None:
        if at.step >= 40:
            raise CutError

    with pytest.raises(CutError):
        masked_lm.run(folder, Reporter(progress=cut))
    masked_lm.run(RunFolder.open(folder.path), Reporter())
    ours, theirs = whole.load_weights(), folder.load_weights()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    # With other texts it would be another run.
    text_now = text.read_text(encoding="utf-8")
    try:
        text.write_text(text_now + "\nEva has what Eva likes .", encoding="utf-8")
        with pytest.raises(RunError, match="the data have changed since this run began"):
            masked_lm.run(RunFolder.open(folder.path), Reporter())
    finally:
        text.write_text(text_now, encoding="utf-8")


def test_the_older_task_predicts_the_last_word(qkv_cli, text, tmp_path):
    answer = qkv_cli(
        "run", "masked-lm", "--data", text, "--task", "next", "--preset", "tiny", "--fit.steps", 20, "--out",
        tmp_path / "run", "--text.tokens", "blanks", "--threads", 1, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert len(answer.json["metrics"]["cross_entropy_by_place"]) == 1
    shown = qkv_cli("show", tmp_path / "run", "what anna wants", "--json")
    assert shown.json["phrase"] == f"what anna wants {MASK}"
    refused = qkv_cli("show", tmp_path / "run", f"what {MASK} wants .")
    assert refused.code == 2
    assert "this run predicts the last word of a row" in refused.err


def test_n_grams_without_a_part_for_the_test(qkv_cli, tmp_path):
    np.savez(tmp_path / "grams.npz", vocab=["a", "b"], train_inputs=[[0, 1, 0]], valid_inputs=[[1, 1, 0]])
    answer = qkv_cli("run", "masked-lm", "--data", tmp_path / "grams.npz", "--out", tmp_path / "run")
    assert answer.code == 2
    assert "grams.npz: no test_inputs in this npz file" in answer.err
    assert not (tmp_path / "run").exists()


def test_the_share_of_test_rows_seen_in_training():
    rows = np.array([[1, 2], [2, 1], [1, 1]])
    assert masked_lm.seen(NGrams(["a", "b", "c"], rows, rows[:1], np.array([[2, 1], [2, 2], [1, 2], [0, 0]]))) == 0.5


def test_scores_by_hand():
    # Counts of nothing but the word 1 in both places, three of them: 1.5 of 3 are taken and spread over three words.
    rows = np.ones((3, 2), dtype=np.int64)
    counts = NGramCounts(torch.from_numpy(rows), vocab=3, reach=0)
    grams = NGrams([MASK, "a", "b"], rows, np.array([[1, 2]]), np.array([[1, 1], [2, 1]]))
    scores = masked_lm.judge(counts, grams, "masked")
    often, seldom = -math.log(2 / 3), -math.log(1 / 6)
    assert scores["cross_entropy_by_place"] == pytest.approx([(often + seldom) / 2, often])
    assert scores["cross_entropy"] == pytest.approx((3 * often + seldom) / 4)
    assert scores["cross_entropy_valid"] == pytest.approx((often + seldom) / 2)
    assert scores["cross_entropy_train"] == pytest.approx(often)
    assert masked_lm.judge(counts, grams, "next")["cross_entropy"] == pytest.approx(often)


# -- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["window", "recurrent", "transformer", "counts", "unigram"])
def test_a_hidden_word(qkv_cli, runs, model, tmp_path):
    answer = qkv_cli("show", runs / f"{model}-seed0", f"Ben sees what {MASK}", "--out", tmp_path / "shown", "--json")
    assert answer.code == 0, answer.err
    found = answer.json["predictions"]
    assert [one["probability"] for one in found] == sorted((one["probability"] for one in found), reverse=True)
    if model == "counts":
        assert found[0]["word"] == "Ben"
        assert found[0]["probability"] > 0.9
    assert {path.suffix for path in tmp_path.iterdir()} == {".html", ".svg", ".png"}
    known = masked_lm.load(run_of(runs, model))
    assert len(known.attention([1, 2, 0, 3], 2)) == (1 if model == "transformer" else 0)


def test_attention_of_one_head(runs):
    run = run_of(runs, "transformer")
    shown = masked_lm.show(run, f"Ben sees what {MASK}", layer=0, head=1)
    assert isinstance(shown, Shown)
    assert shown.figure.query_labels == ["Ben", "sees", "what", MASK]
    assert shown.figure.weights.equal(shown.maps[0].head(1).weights)
    with pytest.raises(InputError, match="no layer 7"):
        masked_lm.show(run, f"Ben sees what {MASK}", layer=7)
    with pytest.raises(InputError, match="this model has no attention to show"):
        masked_lm.show(run_of(runs, "window"), f"Ben sees what {MASK}", layer=0)
    with pytest.raises(InputError, match="texts are drawn, and no attention is shown"):
        masked_lm.show(run_of(runs, "causal"), "Ben", head=0)


def test_what_followed_in_training(qkv_cli, runs):
    run = run_of(runs, "counts")
    rows, words = masked_lm.load(run).rows, masked_lm.load(run).words
    ids = [words.index(word) for word in ("Ben", "sees", "what")]
    followed = [words[row[3]] for row in rows.tolist() if row[:3] == ids]
    answer = qkv_cli("show", run.path, "--context", "Ben sees what", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["total"] == len(followed) > 10
    assert answer.json["followed"] == [{"word": "Ben", "count": len(followed)}]
    assert answer.json["predictions"][0]["word"] == "Ben"
    # A context shorter than a row leaves nothing for the model to be asked.
    short = qkv_cli("show", run.path, "--context", "Ben", "--json").json
    assert {one["word"] for one in short["followed"]} >= {"likes", "sees"}
    assert short["predictions"] == []


def test_words_that_never_followed_stand_below_those_that_did():
    class Backwards(torch.nn.Module):
        """The later a word comes in the vocabulary, the likelier it is."""

        def log_probabilities(self, batch: NGramBatch) -> torch.Tensor:
            return torch.arange(20.0).log_softmax(dim=0).expand(len(batch.ids), -1)

    # After word 1 the words 2 to 14 stood once each, and 15 to 19 never, though they are expected most.
    rows = np.array([[1, word] for word in range(2, 15)])
    known = LanguageModel(Backwards(), [MASK, *(f"w{n}" for n in range(1, 20))], rows, "masked")
    told = [line.split() for line in followers(known, "w1").text.splitlines()[1:]]
    assert [word for word, *_ in told[10:]] == ["w14", "w13", "w12", "w19", "w18", "w17", "w16", "w15"]
    assert [int(times) for _, times, *_ in told] == [1] * 13 + [0] * 5


def test_texts_are_drawn(qkv_cli, runs):
    path = runs / "causal-seed0"
    answer = qkv_cli("show", path, "Anna", "--samples", 3, "--length", 5, "--seed", 7, "--json")
    assert answer.code == 0, answer.err
    texts = answer.json["samples"]
    assert len(texts) == 3
    assert all(text.startswith("Anna ") and len(text.split()) <= 6 for text in texts)
    assert all("." not in text.split()[1:-1] for text in texts)
    assert qkv_cli("show", path, "Anna", "--samples", 3, "--length", 5, "--seed", 7, "--json").json["samples"] == texts
    greedy = qkv_cli("show", path, "--samples", 2, "--top-k", 1, "--json").json["samples"]
    assert greedy[0] == greedy[1]


def test_vectors_lie_beside_the_report(qkv_cli, runs):
    run = run_of(runs, "transformer")
    vectors = WordVectors.load(run.path / "vectors.npz")
    assert MASK not in vectors
    assert len(vectors) == 18
    weights = RunFolder.open(run.path).load_weights()["embedding.weight"]
    place = masked_lm.load(run).words.index("Ben")
    np.testing.assert_array_equal(vectors["Ben"], weights[place].numpy())
    assert qkv_cli("vectors", "nearest", run.path / "vectors.npz", "Ben").code == 0
    told = qkv_cli("vectors", "distance", run.path / "vectors.npz", "Ben", "Eva", "--json").json
    assert told["cosine"] == pytest.approx(vectors.distance("Ben", "Eva"))
    assert told["euclidean"] == pytest.approx(vectors.distance("Ben", "Eva", by="euclidean"))


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (
            "window",
            ["Ben seas what [MASK]"],
            "'seas' is not in the vocabulary. Expected one of the 19 words of this run",
        ),
        ("window", ["Ben seas what [MASK]"], "Try: sees"),
        ("window", ["Ben sees what Ben"], "the phrase has no mask. Expected 4 words, one of them [MASK]"),
        ("window", ["Ben [MASK] what [MASK]"], "the phrase has 2 masks. Expected 4 words, one of them [MASK]"),
        ("window", ["Ben sees what Ben [MASK]"], "the phrase has too many words. Expected 4 words"),
        ("window", ["sees [MASK]"], "the phrase has too few words. Expected 4 words, one of them [MASK]; got 2"),
        ("window", [" "], "the phrase is empty. Expected words, such as 'go to [MASK] school'"),
        ("window", [], "there is no phrase. Expected one with [MASK] in it, or --context"),
        ("window", ["Ben", "--samples", "2"], "this model draws no texts, so that --samples says nothing"),
        ("window", ["Ben", "--context", "Ben"], "a phrase and --context together. Expected one of them"),
        ("window", ["--context", "Ben sees what Ben"], "the context is too long. Expected at most 3 words; got 4"),
        ("window", ["--context", "Ben [MASK]"], "--context with a mask. Expected words alone"),
        ("unigram", ["--context", "what what"], "stands at the beginning of no row of training"),
        ("causal", ["Ben [MASK]"], "a causal model reads only what stands before a word"),
        ("causal", ["Ben", "--samples", "0"], "--samples is too small. Expected 1 or more; got 0"),
        ("causal", ["Ben", "--temperature", "0"], "temperature cannot be used. Expected above 0; got 0"),
    ],
)
def test_what_cannot_be_shown(qkv_cli, runs, model, arguments, message):
    answer = qkv_cli("show", runs / f"{model}-seed0", *arguments)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())


# -- the real 4-grams ------------------------------------------------------------------------------------------------


def test_counts_on_the_real_4_grams(shared_data):
    """The strength of the baseline: its cross-entropy on the test part of the 250-word 4-grams."""
    grams = read_ngrams(shared_data / "nlm-250" / "ngrams_masked.npz")
    counts = NGramCounts(torch.from_numpy(grams.train), len(grams.words))
    counts.fit(torch.from_numpy(grams.valid[:10_000]))
    rows = torch.from_numpy(grams.test)
    with torch.inference_mode():
        losses = [
            float(counts.loss(NGramBatch(rows, (torch.arange(4) == place).expand(len(rows), -1)))) for place in range(4)
        ]
    assert losses == pytest.approx([2.551, 1.837, 1.966, 2.552], abs=0.005)


def test_a_drawn_answer_is_whole(runs):
    shown = masked_lm.show(run_of(runs, "window"), f"Ben sees what {MASK}")
    assert isinstance(shown, Drawn)
    assert shown.svg.startswith("<svg")
    assert shown.png.startswith(b"\x89PNG")
    assert json.loads(json.dumps(shown.document)) == shown.document
