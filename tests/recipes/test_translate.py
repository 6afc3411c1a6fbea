import json
import shutil

import pytest
import torch

from qkv import files
from qkv.errors import InputError, RunError
from qkv.recipes import translate
from qkv.recipes.base import Reporter
from qkv.recipes.translate import Translator, judge
from qkv.train import RunFolder
from qkv.types import Run


@pytest.fixture(scope="module")
def runs(swept) -> dict[str, Run]:
    return {
        name: RunFolder.open(swept / f"{name}-seed0").finished() for name in ("rnn", "rnn-attention", "transformer")
    }


def test_small_models_learn(runs):
    # Guessing one of ten digits has a loss of log 10 = 2.3 a word; the plain recurrent model must remember them all.
    for name, loss in (("rnn", 1.0), ("rnn-attention", 0.5), ("transformer", 0.5)):
        assert runs[name].metrics["loss"] < loss, name
        assert runs[name].metrics["chrf"] > runs[name].result["baselines"]["source as it stands"]["chrf"]
    assert runs["transformer"].metrics["exact_match"] > 0.5


def test_what_a_run_leaves(runs, digit_pairs):
    pairs = len(digit_pairs.read_text(encoding="utf-8").splitlines())
    for name, run in runs.items():
        assert {path.name for path in run.path.iterdir()} == {
            "config.json", "environment.json", "data.json", "vocabulary.source.json", "vocabulary.target.json",
            "metrics.jsonl", "weights.safetensors", "result.json", "report.html",
        }  # fmt: skip
        assert set(run.metrics) == {"bleu", "chrf", "exact_match", "loss"}
        assert {line["part"] for line in run.history} == {"train", "valid"}
        page = (run.path / "report.html").read_text(encoding="utf-8")
        assert ("What it attends to" in page) == (name != "rnn")
        assert len(run.result["examples"]) == 20
        assert sum(run.result["pairs"].values()) == pairs
        assert run.result["epochs"] == 12


def test_a_stored_run_translates_as_the_trained_model_did(runs):
    for run in runs.values():
        example = run.result["examples"]
        translations = Translator.load(run).translate([one["source"] for one in example])
        assert translations == [one["translation"] for one in example]
        again = translate.evaluate(run, None, Reporter())
        assert again["metrics"] == pytest.approx(run.metrics, abs=1e-6)


def test_company_and_order_change_no_translation(runs, monkeypatch):
    texts = ["un", "deux trois quatre", "neuf", "", "zéro huit"]
    for run in runs.values():
        translator = Translator.load(run)
        together = translator.translate(texts, rows=3)
        assert together == [translator.translate([text])[0] for text in texts]
        assert translator.translate([]) == []
        with monkeypatch.context() as patch:  # room for one sentence at a time
            patch.setattr(translate, "_SEARCH_BYTES", 1)
            assert translator.translate(texts) == together


@pytest.mark.parametrize("name", ["rnn-attention", "transformer"])
def test_maps_fit_their_labels_and_sum_to_one(runs, name):
    shown = translate.show(runs[name], "deux trois sept")
    said = [*shown.text.split(), "<eos>"]
    for one in [*shown.maps, shown.figure]:
        torch.testing.assert_close(one.weights.sum(dim=-1), torch.ones(one.weights.shape[:-1]))
        assert one.weights.shape[1:] == (len(one.query_labels), len(one.key_labels))
        if one.kind == "cross":
            assert list(one.key_labels) == ["deux", "trois", "sept", "<eos>"]
            assert list(one.query_labels) == said
    assert shown.figure.heads == 1
    layers = {one.layer for one in shown.maps}
    assert layers >= ({"decoder.attention"} if name == "rnn-attention" else {"encoder.layers.0.self_attn"})


@pytest.mark.parametrize("name", ["rnn-attention", "transformer"])
def test_every_head_has_its_numbers(runs, name):
    shown = translate.show(runs[name], "deux trois sept")
    heads = [(place, head) for place, one in enumerate(shown.maps) for head in range(one.heads)]
    assert [(row["layer"], row["head"]) for row in shown.heads] == heads
    for row in shown.heads:
        one = shown.maps[row["layer"]]
        assert ("distance" in row) == (one.kind == "self")
        ends = torch.tensor([label == "<eos>" for label in one.key_labels])
        assert row["separators"] == pytest.approx(float(one.weights[row["head"]][:, ends].sum(-1).mean()), abs=1e-6)


def test_the_figure_is_of_the_layer_and_head_asked_for(runs):
    run = runs["transformer"]
    whole = translate.show(run, "deux trois")
    heads = [translate.show(run, "deux trois", layer=0, head=head).figure.weights for head in (0, 1)]
    assert not torch.equal(*heads)
    torch.testing.assert_close(whole.figure.weights, sum(heads) / 2)
    with pytest.raises(InputError, match=r"no layer 3\. Expected 0 to 2; got 3"):
        translate.show(run, "deux", layer=3)
    with pytest.raises(InputError, match="no head 2 in decoder"):
        translate.show(run, "deux", head=2)
    # One count for all maps, on the page, in its table and here: those of the encoder too.
    for place, one in enumerate(translate.show(run, "deux trois").maps):
        shown = translate.show(run, "deux trois", layer=place, head=0)
        torch.testing.assert_close(shown.figure.weights, one.head(0).weights)
        assert shown.figure.layer == one.layer


def test_a_model_without_attention_has_nothing_to_show(runs):
    with pytest.raises(InputError, match=r"no attention to show\. Expected a run of rnn-attention or transformer"):
        translate.show(runs["rnn"], "deux")


def test_several_references_count_and_are_scored_once(runs, tmp_path):
    run = runs["transformer"]
    said = Translator.load(run).translate(["deux", "trois"])
    data = tmp_path / "two.tsv"
    data.write_text(f"deux\tnonsense\ndeux\t{said[0]}\ntrois\t{said[1]}\n", encoding="utf-8")
    found = translate.evaluate(run, str(data), Reporter())
    assert (found["sentences"], found["metrics"]["exact_match"]) == (2, 1.0)


def test_a_sentence_past_the_last_position_is_read_as_far_as_they_go(runs, tmp_path):
    text = "deux " * 400
    (tmp_path / "long.txt").write_text(f"{text}\ndeux trois sept\n", encoding="utf-8")
    translate.predict(runs["transformer"], str(tmp_path / "long.txt"), tmp_path / "out.tsv", Reporter())
    alone = Translator.load(runs["transformer"]).translate(["deux trois sept"])[0]
    assert (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()[1] == f"deux trois sept\t{alone}"
    assert len(translate.show(runs["transformer"], text).figure.key_labels) == 256


def test_predictions_stay_beside_their_lines(runs, tmp_path):
    lines = [*["deux", "", "trois\tignored"] * 50, "un"]
    (tmp_path / "in.txt").write_text("\n".join(lines), encoding="utf-8")
    told = translate.predict(runs["transformer"], str(tmp_path / "in.txt"), tmp_path / "out.tsv", Reporter())
    out = (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()
    assert told["sentences"] == 101
    assert len(out) == 151
    assert [line.split("\t")[0] for line in out[:3]] == ["deux", "", "trois"]
    assert out[:3] == out[3:6]
    assert out[1] == "\t"


def test_scores_by_length_and_examples():
    pairs = translate.Pair
    judged = judge(
        lambda sources: [source.upper() for source in sources],
        [pairs("un", "UN"), pairs("un", "x"), pairs("a b c d", "A B C D"), pairs("e f g h", "no")],
    )
    assert [(bucket.words, bucket.sentences, bucket.exact_match) for bucket in judged.by_length()] == [
        ("1-3", 1, 1.0),
        ("4-6", 2, 0.5),
    ]
    assert [one.references for one in judged.examples(9)] == [["UN", "x"], ["A B C D"], ["no"]]
    assert judged.examples(2) == judged.examples(2)


def test_damaged_runs_are_refused(runs, tmp_path):
    def copy(name: str) -> RunFolder:
        shutil.copytree(runs["transformer"].path, tmp_path / name)
        return RunFolder.open(tmp_path / name)

    folder = copy("weights")
    files.write_tensors(folder.path / "weights.safetensors", {"wrong": torch.zeros(2)})
    with pytest.raises(RunError, match="the weights are not those of this configuration"):
        Translator.load(folder.read())
    folder = copy("vocabulary")
    (folder.path / "vocabulary.source.json").write_text("{")
    with pytest.raises(InputError, match="not a vocabulary"):
        Translator.load(folder.read())
    (folder.path / "vocabulary.source.json").unlink()
    with pytest.raises(InputError, match=r"vocabulary\.source\.json: no such file"):
        Translator.load(folder.read())
    folder = copy("config")
    document = json.loads((folder.path / "config.json").read_text())
    (folder.path / "config.json").write_text(json.dumps(document | {"config": document["config"] | {"beams": 3}}))
    with pytest.raises(InputError, match="unknown field --beams"):
        Translator.load(RunFolder.open(folder.path).read())


# -- pretrained vectors ----------------------------------------------------------------------------------------------

WORDS = ["one", "two", "three", "deux", "trois", "quatre"]


@pytest.fixture
def vectors(tmp_path):
    """Word vectors as GloVe writes them, of a given width."""

    def write(dim: int):
        path = tmp_path / f"vectors.{dim}d.txt"
        rows = torch.randn(len(WORDS), dim, generator=torch.Generator().manual_seed(dim)).mul(100).round().div(100)
        path.write_text("".join(f"{w} {' '.join(map(str, r))}\n" for w, r in zip(WORDS, rows.tolist(), strict=True)))
        return path, dict(zip(WORDS, rows, strict=True))

    return write


@pytest.mark.parametrize(
    ("model", "side", "dim", "freeze"),
    [
        ("transformer", "target", 7, True),
        ("transformer", "both", 32, False),
        ("rnn-attention", "source", 7, False),
        ("rnn", "both", 32, True),
    ],
)
def test_pretrained_vectors_are_frozen_or_tuned(
    qkv_cli, digit_pairs, small, vectors, tmp_path, model, side, dim, freeze
):
    path, rows = vectors(dim)
    options = ("--embeddings", path, "--embeddings-side", side, *["--freeze-embeddings"] * freeze)
    answer = qkv_cli(
        "run", "translate", "--model", model, "--data", digit_pairs, *small, *options, "--fit.steps", 15,
        "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    run = RunFolder.open(tmp_path / "run").finished()
    path.unlink()  # a stored run needs no vectors beside it
    translator = Translator.load(run)
    sides = {"source", "target"} if side == "both" else {side}
    assert set(run.result["embeddings"]) == sides
    for one in sides:
        embedding = getattr(translator.model, f"{one}_embedding")
        pieces = getattr(translator, one).pieces
        kept = [
            torch.equal(embedding.weight[pieces.index(f"▁{word}")], row)
            for word, row in rows.items()
            if f"▁{word}" in pieces
        ]
        assert len(kept) == 3
        assert all(kept) if freeze else not any(kept)
        assert (embedding.project is None) == (dim == 32)
    frozen = sum(getattr(translator.model, f"{one}_embedding").weight.numel() for one in sides) if freeze else 0
    total = sum(parameter.numel() for parameter in translator.model.parameters())
    assert run.result["parameters"] == total - frozen
    assert len(translator.translate(["deux trois"])) == 1


def test_vectors_with_a_short_row_are_refused_by_line(qkv_cli, digit_pairs, small, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("one 1 2 3\ntwo 1 2\n")
    out = tmp_path / "run"
    answer = qkv_cli("run", "translate", "--data", digit_pairs, *small, "--embeddings", path, "--out", out)
    assert answer.code == 2
    assert f"{path}, line 2: a row too short. Expected 3 numbers" in answer.err
    assert not out.exists()  # nothing stands in the way of the next try
