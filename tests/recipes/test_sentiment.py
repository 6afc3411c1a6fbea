"""Sentiment on the command line: small runs of all models, what they leave, and what is refused."""

import csv
import importlib
import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tokenizers import Tokenizer

from qkv import files
from qkv.data import TextBatches, phrases
from qkv.errors import InputError, RunError, StoppedError
from qkv.recipes import sentiment
from qkv.recipes.base import Drawn, Reporter, Shown
from qkv.recipes.sentiment_data import cleaned
from qkv.recipes.sentiment_model import pool_weights, pooled
from qkv.train import RunFolder
from qkv.types import Run

SIZES = {
    "vocab_size": 14, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 11,
    "max_position_embeddings": 17,
}  # fmt: skip
QUICK = ("--preset", "tiny", "--threads", 1, "--fit.steps", 12, "--tokens-per-batch", 256)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Phrases with their labels and a group, as a CSV."""
    path = tmp_path_factory.mktemp("data") / "phrases.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label", "place"])
        for number, row in enumerate(phrases(train=400, valid=2, test=2).train):
            writer.writerow([number, row.text, row.label, "ab"[number % 2]])
    return path


@pytest.fixture(scope="module")
def encoder(write_bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "small-bert"
    write_bert(path, **SIZES)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.add_special_tokens(["[MASK]"])
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def runs(qkv_cli, table, encoder, tmp_path_factory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    made = {}
    for name in ("bag-of-words", "lstm", "transformer", "pretrained", "blend"):
        own = {"pretrained": ("--encoder", encoder), "lstm": ("--group-column", "place")}
        own["blend"] = ("--blended", f"{out / 'transformer'},{out / 'pretrained'}")
        options = ("--model", name, "--data", table, *QUICK, *own.get(name, ()), "--out", out / name)
        answer = qkv_cli("run", "sentiment", *options, "--json")
        assert answer.code == 0, answer.err
        assert answer.json["metrics"]["accuracy"] == RunFolder.open(out / name).finished().metrics["accuracy"]
        made[name] = RunFolder.open(out / name).finished()
    return made


def test_what_a_run_leaves(runs):
    common = {
        "config.json", "environment.json", "data.json", "labels.json", "bag_of_words.json", "bag_of_words.safetensors",
        "result.json", "report.html",
    }  # fmt: skip
    trained = {"metrics.jsonl", "weights.safetensors"}
    for name, run in runs.items():
        own = {"bag-of-words": set(), "blend": {"blended"}, "pretrained": trained | {"encoder"}}
        own = own.get(name, trained | {"vocabulary.json"})
        assert {path.name for path in run.path.iterdir()} == common | own
        result = run.result
        assert sum(result["texts"].values()) + result["left_out"]["repeated"] == 400
        assert result["labels"] == ["negative", "positive"]
        assert sum(map(sum, result["confusion"])) == result["texts"]["test"]
        blended = {"transformer", "pretrained", "bag-of-words"}
        beside = {"bag-of-words": set(), "blend": blended}.get(name, {"bag-of-words"})
        assert set(result["baselines"]) == beside | {"the most frequent label"}
        low, high = result["interval"]
        assert low < run.metrics["accuracy"] < high
        page = (run.path / "report.html").read_text(encoding="utf-8")
        assert ("How training went" in page) == (name not in ("bag-of-words", "blend"))
        for part in ("What was taken for what", "How far to believe it", "The surest mistakes", "One text"):
            assert part in page


def test_groups_are_judged_apart(runs):
    metrics = runs["lstm"].metrics
    assert {"accuracy_place_a", "accuracy_place_b"} <= set(metrics)
    low, high = sorted([metrics["accuracy_place_a"], metrics["accuracy_place_b"]])
    assert low <= metrics["accuracy"] <= high
    assert "place a" in (runs["lstm"].path / "report.html").read_text(encoding="utf-8")


def test_a_stored_run_answers_as_the_trained_model_did(runs):
    for run in runs.values():
        again = sentiment.evaluate(run, None, Reporter())
        assert again["metrics"] == pytest.approx(run.metrics, abs=1e-6)
        assert again["confusion"] == run.result["confusion"]


def test_mistakes_are_the_surest_wrong_answers(runs):
    for run in runs.values():
        mistakes = run.result["mistakes"]
        assert all(one["label"] != one["answer"] and one["probability"] >= 0.5 for one in mistakes)
        assert [one["probability"] for one in mistakes] == sorted((o["probability"] for o in mistakes), reverse=True)


def test_a_pool_by_hand():
    answers = {"a": np.array([[0.5, 0.5], [0.2, 0.8]]), "b": np.array([[0.9, 0.1], [0.2, 0.8]])}
    # Odds of 1 and 9 make sqrt(9) = 3; odds of 1/4 twice, by 1 and 1/2, make 4 ** -1.5 = 1/8.
    np.testing.assert_allclose(pooled(answers, {"a": 1.0, "b": 0.5}), [[3 / 4, 1 / 4], [1 / 9, 8 / 9]])
    assert pooled(answers, {"b": 1.0}) is answers["b"]


def test_weights_of_a_pool_are_the_best():
    drawn = np.random.default_rng(0)
    targets = drawn.integers(0, 3, 499)
    # One tells much and is too sure of it by a factor of two, one tells less, one nothing.
    told = {name: gain * np.eye(3)[targets] + drawn.normal(size=(499, 3)) for name, gain in (("b", 1.5), ("a", 0.5))}
    answers = {"b": softmax(2 * told["b"], axis=1), "a": softmax(told["a"], axis=1)}
    answers["c"] = softmax(-np.eye(3)[targets] + drawn.normal(size=(499, 3)), axis=1)  # the contrary

    def cross_entropy(weights):
        return -np.log(pooled(answers, weights)[np.arange(499), targets]).mean()

    found = pool_weights(answers, targets)
    assert found["b"] > 0.2
    assert found["c"] == 0  # it would be below
    for name, change in itertools.product("ab", (-0.05, 0.05)):
        assert cross_entropy(found | {name: found[name] + change}) > cross_entropy(found)


def test_a_blend_joins_runs_by_what_validation_tells(runs):
    run = runs["blend"]
    classifier = sentiment.load(run)
    assert classifier.weights == run.result["weights"]
    assert set(classifier.weights) == {"bag-of-words", "transformer", "pretrained"}
    texts = ["the film was great", "the film was not great"]
    for name in ("transformer", "pretrained"):
        alone = sentiment.load(runs[name]).probabilities(texts)
        np.testing.assert_allclose(classifier.answers(texts)[name], alone, rtol=0, atol=1e-6)
    expected = pooled(classifier.answers(texts), run.result["weights"])
    np.testing.assert_allclose(classifier.probabilities(texts), expected)
    assert classifier.network is None
    assert set(run.result["baselines"]) >= {"bag-of-words", "transformer", "pretrained"}


def test_runs_that_cannot_be_blended_are_refused(qkv_cli, runs, table, tmp_path):
    def refusal(*options) -> str:
        answer = qkv_cli("run", "sentiment", "--data", table, *QUICK, *options, "--out", tmp_path / "run")
        assert answer.code == 2
        return " ".join(answer.err.split())

    def blend(*paths) -> tuple[str, ...]:
        return "--model", "blend", "--blended", ",".join(map(str, paths))

    assert "there are no runs to blend. Expected --blended RUN,RUN" in refusal("--model", "blend")
    assert "--model lstm takes no --blended" in refusal("--blended", "a")
    transformer = runs["transformer"].path
    assert "two readers would be called transformer" in refusal(*blend(transformer, transformer))
    assert "has learned from other texts" in refusal(*blend(transformer), "--split-seed", 1)
    assert "has learned from other texts" in refusal(*blend(transformer), "--cleaning", "none")
    assert str(tmp_path / "nowhere") in refusal(*blend(tmp_path / "nowhere"))


def test_company_and_order_change_no_answer(runs):
    texts = ["good", "not good at all , even though we found the room clever", "bad , but good", "?"]
    for run in runs.values():
        classifier = sentiment.load(run)
        together = classifier.probabilities(texts)
        alone = np.concatenate([classifier.probabilities([text]) for text in texts])
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
        np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-6)
        assert classifier.probabilities([]).shape == (0, 2)


@pytest.mark.parametrize("name", ["bag-of-words", "lstm", "transformer", "pretrained"])
def test_what_is_shown_of_a_text(runs, name):
    text = "the room was not bad"
    shown = sentiment.show(runs[name], text)
    classifier = sentiment.load(runs[name])
    whole, less = classifier.probabilities([text, "the room was bad"])
    told = shown.document
    assert told["probabilities"] == pytest.approx(dict(zip(classifier.labels, whole.tolist(), strict=True)), abs=1e-6)
    assert [one["word"] for one in told["effects"]] == text.split()
    place = list(classifier.labels).index(told["prediction"])
    assert told["effects"][3]["effect"] == pytest.approx(whole[place] - less[place], abs=1e-6)
    assert shown.text.startswith(f"{told['prediction']} {whole.max():.1%}")
    if name in ("bag-of-words", "lstm"):
        assert isinstance(shown, Drawn)
        assert "What each word adds" in shown.page
    else:
        assert isinstance(shown, Shown)
        assert len(shown.maps) == (1 if name == "transformer" else 2)
        labels = text.split() if name == "transformer" else None
        assert labels is None or list(shown.figure.key_labels) == labels
        with pytest.raises(InputError, match="no layer 7"):
            sentiment.show(runs[name], text, layer=7)


def test_predictions_stay_beside_their_texts(qkv_cli, runs, tmp_path):
    data, out = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = [f'{i},"good, {i}"' for i in range(150)]
    data.write_text("\n".join(["id,text", *rows, "150,"]), encoding="utf-8")
    answer = qkv_cli("predict", runs["lstm"].path, "--data", data, "--out", out)
    assert answer.code == 0, answer.err
    assert "skipped an empty text: 1 (line 152)" in answer.err
    with out.open(newline="", encoding="utf-8") as file:
        header, *found = csv.reader(file)
    assert header == ["text", "label", "negative", "positive"]
    assert [row[0] for row in found] == [*(f"good, {i}" for i in range(150)), ""]
    assert found[150][1:] == ["", "", ""]
    assert all(row[1] == header[2 + (float(row[3]) > float(row[2]))] for row in found[:150])


def test_a_killed_run_goes_on_to_the_same_weights(qkv_cli, runs, table, tmp_path, monkeypatch):
    loop = importlib.import_module("qkv.train.fit")

    def stop_at_seven(self, batch, update=loop._Loop.update):
        update(self, batch)
        if self.at.step == 7:
            self.save()
            raise StoppedError("killed")

    options = ("--model", "lstm", "--data", table, *QUICK, "--group-column", "place")
    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "update", stop_at_seven)
        assert qkv_cli("run", "sentiment", *options, "--out", tmp_path / "run").code == 2
    assert qkv_cli("resume", tmp_path / "run", "--threads", 1).code == 0
    again = RunFolder.open(tmp_path / "run")
    for name, weight in RunFolder.open(runs["lstm"].path).load_weights().items():
        assert torch.equal(again.load_weights()[name], weight), name
    with table.open("a") as file:
        file.write("400,one more,positive,a\n")
    (again.path / "result.json").unlink()
    answer = qkv_cli("resume", again.path, "--threads", 1)
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(lines[:-1]), encoding="utf-8")
    assert "the data have changed since this run began" in answer.err


@pytest.mark.parametrize("name", ["transformer", "pretrained"])
def test_texts_are_read_before_their_labels_are_told(qkv_cli, table, encoder, tmp_path, monkeypatch, name):
    loop = importlib.import_module("qkv.train.fit")
    own = ("--encoder", encoder) if name == "pretrained" else ()
    options = ("--model", name, *own, "--data", table, *QUICK, "--adapt.epochs", 2)
    assert qkv_cli("run", "sentiment", *options, "--out", tmp_path / "whole").code == 0
    whole = RunFolder.open(tmp_path / "whole").finished()
    adapted = whole.result["adapted"]
    assert adapted["epochs"] == 2
    told = [one for one in RunFolder.open(whole.path / "adapted").read().history if one["part"] == "valid"]
    assert len(told) == 2
    assert adapted["valid_loss"] == min(one["loss"] for one in told)
    assert {one.name for one in (whole.path / "adapted").iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
    }
    assert "read without labels" in (whole.path / "report.html").read_text(encoding="utf-8")
    stops = iter([adapted["steps"] - 1, 5])  # the first while it reads, the second while it is told labels
    at_step = next(stops)

    def stop(self, batch, update=loop._Loop.update):
        update(self, batch)
        if self.at.step == at_step:
            self.save()
            raise StoppedError("stopped; all is kept")

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "update", stop)
        answer = qkv_cli("run", "sentiment", *options, "--out", tmp_path / "run")
        assert answer.code == 2
        assert f"qkv resume {tmp_path / 'run'}" in " ".join(answer.err.split())
        at_step = next(stops)
        assert qkv_cli("resume", tmp_path / "run", "--threads", 1).code == 2
    assert qkv_cli("resume", tmp_path / "run", "--threads", 1).code == 0
    again = RunFolder.open(tmp_path / "run")
    for key, weight in RunFolder.open(whole.path).load_weights().items():
        assert torch.equal(again.load_weights()[key], weight), key


def test_a_teachers_answers_are_learned_beside_the_labels(qkv_cli, runs, table, tmp_path, monkeypatch):
    learned = []

    def watch(*args, batches=TextBatches, **named):
        learned.append(args[1])
        return batches(*args, **named)

    teacher = runs["blend"]
    options = ("--model", "lstm", "--data", table, *QUICK, "--teacher", teacher.path, "--teacher-share", 0.7)
    with monkeypatch.context() as patch:
        patch.setattr("qkv.recipes.sentiment_model.TextBatches", watch)
        answer = qkv_cli("run", "sentiment", *options, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    run = RunFolder.open(tmp_path / "run").finished()
    split = sentiment.parts(str(table), sentiment.SentimentConfig(**run.config), Reporter().say)
    said = sentiment.load(teacher).probabilities(cleaned(split.train, run.config["cleaning"]))
    labels = np.array([[row.label == "negative", row.label == "positive"] for row in split.train])
    [mixed] = [one for one in learned if isinstance(one, np.ndarray)]
    np.testing.assert_allclose(mixed, 0.7 * said + 0.3 * labels, atol=1e-6)
    assert "70% of what was learned" in (run.path / "report.html").read_text(encoding="utf-8")
    assert not (run.path / "taught.safetensors").exists()
    assert sentiment.load(run).probabilities(["good"]).shape == (1, 2)
    refused = qkv_cli("run", "sentiment", *options, "--split-seed", 1, "--out", tmp_path / "other")
    assert refused.code == 2
    assert "has learned from other texts" in refused.err


def test_vectors_and_cleaning_are_told(qkv_cli, table, tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} 0.1 -0.2 0.3\n" for word in ("good", "bad", "not", "the")))
    options = ("--data", table, *QUICK, "--embeddings", vectors, "--freeze-embeddings", "--cleaning", "none")
    answer = qkv_cli("run", "sentiment", *options, "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    vectors.unlink()  # a stored run needs no vectors beside it
    run = RunFolder.open(tmp_path / "run").finished()
    assert run.config["cleaning"] == []
    model = sentiment.load(run).network.model
    assert model.embedding.weight.shape[1] == run.result["embedding_dim"] == 3
    assert not model.embedding.weight.requires_grad
    assert 0 < run.result["coverage"] < 0.2


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "pretrained"), "there is no encoder to tune. Expected --encoder FOLDER"),
        (("--encoder", "x"), "--model lstm takes no --encoder"),
        (("--model", "bag-of-words", "--embeddings", "x"), "--model bag-of-words takes no --embeddings"),
        (("--model", "bag-of-words", "--teacher", "x"), "--model bag-of-words takes no --teacher"),
        (("--model", "bag-of-words", "--adapt.epochs", 1), "--model bag-of-words takes no --adapt.epochs"),
        (("--cleaning", "mention"), "unknown --cleaning 'mention'"),
        (("--tokens-per-batch", 7, "--max-length", 11), "--tokens-per-batch of at least --max-length, 11"),
        (("--data", "sentiment410"), "sentiment140"),
        (("--valid-share", 0.7, "--test-share", 0.4), "leave nothing to train on"),
        (("--text-column", "words"), "no column for the text"),
    ],
)
def test_settings_that_do_not_fit_are_refused(qkv_cli, table, tmp_path, options, message):
    data = () if "--data" in options else ("--data", table)
    answer = qkv_cli("run", "sentiment", *data, *options, "--out", tmp_path / "run")
    assert answer.code == 2
    assert message.lower() in " ".join(answer.err.split()).lower()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,x\nb\nc,y\n", "line 3: another number of columns than in the first row"),
        ("text,label\n" + "good,x\n" * 9, "all texts have the same label"),
        ("text,label\n,x\n,y\n", "line 2: an empty text"),
        ("text,label\n" + "a" * 1_000_000 + ",x\nb,y\n", "line 2: more than 100,000 characters in one text"),
        ("text,label\n" + "".join(f"t{i},{'xy'[i % 2]}\n" for i in range(99)) + "t,z\n", "no text with the label 'z'"),
    ],
)
def test_data_that_cannot_be_used_are_refused(qkv_cli, tmp_path, content, message):
    (tmp_path / "data.csv").write_text(content)
    answer = qkv_cli("run", "sentiment", "--data", tmp_path / "data.csv", *QUICK, "--out", tmp_path / "run")
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "run").exists()


def test_labels_that_a_run_does_not_know_are_refused(qkv_cli, runs, tmp_path):
    (tmp_path / "other.csv").write_text("text,label\na,positive\nb,neutral\n")
    answer = qkv_cli("evaluate", runs["lstm"].path, "--data", tmp_path / "other.csv")
    assert answer.code == 2
    assert (
        "other.csv, line 3: unknown label 'neutral'. Expected those that this run knows: negative, positive"
        in answer.err
    )
    (tmp_path / "one.csv").write_text("text,label\na,positive\nb,positive\n")
    answer = qkv_cli("evaluate", runs["lstm"].path, "--data", tmp_path / "one.csv", "--json")
    assert answer.json["texts"] == 2  # to be judged by, one label is enough


def test_texts_that_cannot_be_shown_are_refused(runs):
    refused = {
        "  ": "the text is empty",
        "\udc80": "the sentence is not text",
        "a " * 500_000: "at most 100,000 characters",
    }
    for text, message in refused.items():
        with pytest.raises(InputError, match=message):
            sentiment.show(runs["lstm"], text)
    assert sentiment.show(runs["lstm"], "good " * 500).document["prediction"]


@pytest.mark.parametrize("damage", ["missing", "misshapen", "no tokens", "pickled"])
def test_encoder_folders_that_cannot_be_used_are_refused(qkv_cli, table, encoder, tmp_path, damage):
    folder = tmp_path / "encoder"
    shutil.copytree(encoder, folder)
    weights = files.read_tensors(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    if damage == "missing":
        files.write_tensors(folder / "model.safetensors", {key: x for key, x in weights.items() if key != name})
    elif damage == "misshapen":
        files.write_tensors(folder / "model.safetensors", weights | {name: weights[name][:, :3].clone()})
    elif damage == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    else:
        (folder / "tokenizer.json").unlink()
    options = ("--model", "pretrained", "--encoder", folder, "--data", table, *QUICK)
    answer = qkv_cli("run", "sentiment", *options, "--out", tmp_path / "run")
    told = {
        "missing": f"got no {name}", "misshapen": f"{name} to make (6, 11); got (6, 3)",
        "no tokens": "tokenizer.json: no such file", "pickled": "the weights are pickled",
    }  # fmt: skip
    assert answer.code == 2
    assert told[damage] in answer.err.lower() if damage != "misshapen" else told[damage] in answer.err
    assert not (tmp_path / "run").exists()


def test_damaged_runs_are_refused(runs, tmp_path):
    shutil.copytree(runs["lstm"].path, tmp_path / "run")
    files.write_tensors(tmp_path / "run" / "weights.safetensors", {"wrong": torch.zeros(2)})
    with pytest.raises(RunError, match="the weights are not those of this configuration"):
        sentiment.load(RunFolder.open(tmp_path / "run").finished())


# -- the named set ---------------------------------------------------------------------------------------------------


def test_the_named_set_is_judged_by_its_own_part(shared_data, monkeypatch):
    monkeypatch.setenv("QKV_DATA", str(shared_data))
    config = sentiment.SentimentConfig(data="sentiment140", valid_share=0.05)
    split = sentiment.parts(config.data, config, lambda _: None)
    assert len(split.test) == 26_323
    assert sum(row.group == "whole_range_1" for row in split.test) == 5_818
    assert sum(row.label == "positive" for row in split.test) == 13_494
    assert len(split.train) + len(split.valid) + split.repeated + split.contradicted == 78_973
    known = sentiment.read_known("sentiment140-manual", config, ["negative", "positive"], lambda _: None)
    assert json.dumps(sorted({row.label for row in known})) == '["negative", "positive"]'
    assert len(known) == 359
