"""A published encoder on the command line: its maps, what each head does, and folders that cannot be shown."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from qkv.errors import InputError
from qkv.recipes.base import attended
from qkv.recipes.pretrained import is_published, show

SIZES = {
    "vocab_size": 13,
    "hidden_size": 6,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 11,
    "max_position_embeddings": 17,
}
NAMES = ["entropy", "distance", "itself", "previous", "next", "first", "separators", "overlap"]


@pytest.fixture(scope="module")
def folder(write_bert, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("published") / "small-bert"
    write_bert(path, **SIZES)
    return path


def test_what_is_shown(folder):
    shown = show(folder, "the river", "banks")
    read = ["[CLS]", "the", "river", "[SEP]", "bank", "##s", "[SEP]"]
    assert shown.document == {"tokens": read}
    assert shown.text == " ".join(read)
    assert "small-bert: what each token attends to, in 3 layers of 2 heads" in shown.caption
    assert [one.layer for one in shown.maps] == [f"encoder.layers.{i}.self_attn" for i in range(3)]
    for one in shown.maps:
        assert list(one.query_labels) == list(one.key_labels) == read
        torch.testing.assert_close(one.weights.sum(-1), torch.ones(2, 7))
    assert [(row["layer"], row["head"]) for row in shown.heads] == [(i, j) for i in range(3) for j in range(2)]
    for row in shown.heads:
        weights = shown.maps[row["layer"]].weights[row["head"]]
        assert list(row)[2:] == NAMES
        assert row["separators"] == pytest.approx(float(weights[:, [3, 6]].sum(-1).mean()), rel=1e-5)
        assert row["first"] == pytest.approx(float(weights[:, 0].mean()), rel=1e-5)


def test_the_figure_is_what_was_asked_for(folder):
    shown = show(folder, "i swam .", layer=1, head=1)
    assert torch.equal(shown.figure.weights[0], shown.maps[1].weights[1])
    assert torch.equal(show(folder, "i swam .", layer=1).figure.weights, shown.maps[1].mean().weights)
    every = torch.cat([one.weights for one in shown.maps])
    figure = show(folder, "i swam .").figure
    assert torch.equal(figure.weights[0], every.mean(dim=0))
    assert figure.layer == "the mean of 3 layers"
    with pytest.raises(InputError, match=r"no layer 3. Expected 0 to 2; got 3"):
        attended(shown.maps, layer=3, head=None)
    with pytest.raises(InputError, match=r"no head 2 in encoder.layers.0.self_attn. Expected 0 to 1"):
        attended(shown.maps, layer=None, head=2)


def test_on_the_command_line(qkv_cli, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the folder itself may be read-only
    answer = qkv_cli("show", folder, "the river", "banks", "--layer", 2, "--style", "lines", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["input"], answer.json["second"]) == ("the river", "banks")
    assert answer.json["tokens"][:3] == ["[CLS]", "the", "river"]
    assert len(answer.json["heads"]) == 6
    assert set(answer.json["heads"][0]) == {"layer", "head", *NAMES}
    assert "prediction" not in answer.json
    figures = {kind: Path(path) for kind, path in answer.json["figures"].items()}
    assert {path.parent for path in figures.values()} == {Path("shown/small-bert")}
    assert figures["png"].read_bytes().startswith(b"\x89PNG")
    assert "##s" in "".join(ElementTree.parse(figures["svg"]).getroot().itertext())
    page = figures["page"].read_text(encoding="utf-8")
    assert '"separators"' in page  # a column of the table beside the maps
    assert "https://" not in page.replace("https://www.w3.org", "")
    plain = qkv_cli("show", folder, "the river", "--out", tmp_path / "river")
    assert plain.out == "[CLS] the river [SEP]\n"
    assert (tmp_path / "river.html").is_file()


def test_figures_for_paper_on_the_command_line(qkv_cli, folder, tmp_path):
    out = tmp_path / "river"
    asked = ("show", folder, "the river", "--layer", 2, "--head", 0, "--out", out)
    drawn = lambda: out.with_suffix(".svg").read_text(encoding="utf-8")  # noqa: E731
    lines = qkv_cli(*asked, "--style", "lines", "--absolute", "--solid", 0.3, "--dashed", 0.07, "--monochrome")
    assert lines.code == 0, lines.err
    assert "a weight of at least 0.3<" in drawn()
    assert "of at least 0.07<" in drawn()
    assert qkv_cli(*asked, "--no-numbers").code == 0
    assert re.findall(r">\d\.\d\d</text>", drawn()) == []
    assert qkv_cli(*asked).code == 0
    assert re.findall(r">\d\.\d\d</text>", drawn()) != []
    refused = qkv_cli(*asked, "--solid", 0.1, "--dashed", 0.2)
    assert refused.code == 2
    assert "the thresholds of the lines are out of order" in refused.err


def test_figures_of_a_long_text_are_overviews(qkv_cli, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("qkv.cli.look._LONGEST", 3)
    answer = qkv_cli("show", folder, "the river", "--out", tmp_path / "river")
    assert (answer.code, answer.out) == (0, "[CLS] the river [SEP]\n")
    assert "more than 3 tokens: a cell of the figures is a block of them" in answer.err
    drawn = "".join(ElementTree.parse(tmp_path / "river.svg").getroot().itertext())
    assert "[CLS] ... the" in drawn
    assert '"queries":["[CLS]","the","river","[SEP]"]' in (tmp_path / "river.html").read_text(encoding="utf-8")


def test_what_is_a_published_model(folder, tmp_path):
    assert is_published(folder)
    assert not is_published(tmp_path)
    assert not is_published(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"format": 1, "recipe": "translate"}))
    assert not is_published(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert is_published(tmp_path)


def test_folders_that_cannot_be_shown(qkv_cli, folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    for model, text, message in (
        (tmp_path, "a", "config.json: model_type is not one that this encoder has. Expected 'bert', 'roberta'"),
        (folder, "the " * 16, "the text is too long for this model. Expected at most 17 tokens"),
        (folder, "a\udcff", "the sentence is not text. Expected UTF-8"),
    ):
        answer = qkv_cli("show", model, text)
        assert (answer.code, answer.out) == (2, "")
        assert message in " ".join(answer.err.split())
    (tmp_path / "config.json").rename(tmp_path / "model.safetensors")
    assert "config.json: no such file" in qkv_cli("show", tmp_path, "a").err


def test_a_published_model_of_size(shared_model):
    sentence = "i swam quickly across the river to get to the other bank"
    shown = show(shared_model, sentence)
    assert len(shown.heads) == 72
    # One head of the first layer reads the token before; in the second, many rest on the first token.
    by_place = {(row["layer"], row["head"]): row for row in shown.heads}
    assert by_place[0, 2]["previous"] > 0.999
    assert by_place[1, 8]["next"] == max(row["next"] for row in shown.heads) > 0.5
    assert sum(row["first"] for row in shown.heads if row["layer"] == 1) / 12 > 0.5
