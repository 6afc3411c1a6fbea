from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from qkv.vectors import WordVectors

WORDS = ["red", "green", "blue", "one", "two", "three", "four"]
PLANE = np.array([[0, 0], [1, 0], [0, 1], [9, 9], [9, 8], [8, 9], [8, 8]], dtype=np.float32)


@pytest.fixture
def plane(tmp_path) -> Path:
    return WordVectors(WORDS, PLANE).save(tmp_path / "plane.txt")


@pytest.fixture
def space(tmp_path) -> Path:
    """The words of `plane` and two more, in another order, in five dimensions."""
    matrix = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    return WordVectors(["un", *WORDS[::-1], "deux"], matrix).save(tmp_path / "space.npz")


def test_one_map(qkv_cli, plane, tmp_path):
    asked = ("vectors", "map", plane, "--clusters", 2, "--out", tmp_path / "drawn")
    answer = qkv_cli(*asked, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["metrics"] == {"neighbours_kept": [1.0]}
    assert answer.json["maps"] == [
        {
            "title": "plane",
            "method": "drawn directly",
            "clusters": [{"name": "red, green, blue", "words": 3}, {"name": "one, two, three", "words": 4}],
        }
    ]
    figures = {kind: Path(path) for kind, path in answer.json["figures"].items()}
    assert figures["png"].read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(figures["svg"]).getroot().tag.endswith("svg")
    assert figures["page"].read_text(encoding="utf-8").startswith("<!doctype html>")
    said = qkv_cli(*asked)
    assert said.out == "plane: 7 words, drawn directly; keeps 100 % of each word's 6 nearest\n"
    assert str(figures["page"]) in said.err


def test_two_maps_are_of_the_words_that_both_have(qkv_cli, plane, space, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = qkv_cli("vectors", "map", space, plane, "--words", 5, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["words"], answer.json["figures"]["page"]) == (5, "maps/space-plane.html")
    assert [one["method"] for one in answer.json["maps"]] == [
        "t-SNE, cosine, perplexity 1.33333, seed 0", "drawn directly",
    ]  # fmt: skip
    # Each of five words has four others, which are its nearest on any map.
    assert answer.json["metrics"] == {"neighbours_kept": [1.0, 1.0], "overlap": 1.0}
    assert "of maps drawn blindly, 100 % would be" in qkv_cli("vectors", "map", space, plane, "--words", 5).out
    page = (tmp_path / "maps" / "space-plane.html").read_text(encoding="utf-8")
    assert '"words":["four","three","two","one","blue"]' in page


def test_chosen_words(qkv_cli, space, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("blue\n\none\ntwo\nblue\n", encoding="utf-8")
    for only in (listed, "blue,one, two"):
        out = tmp_path / "chosen"
        answer = qkv_cli("vectors", "map", space, "--only", only, "--out", out, "--json")
        assert answer.code == 0, answer.err
        assert '"words":["blue","one","two"]' in out.with_suffix(".html").read_text(encoding="utf-8")


def test_what_cannot_be_mapped(qkv_cli, plane, tmp_path):
    other = WordVectors(["un", "deux", "trois"], PLANE[:3]).save(tmp_path / "other.txt")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"red\ncaf\xe9\n")
    for arguments, message in (
        (["--only", "red,gren,blue"], "no vector for 'gren'. Expected one of 7 words. Try: 'green'"),
        (["--only", latin], f"{latin}, line 2: not text"),
        (["--only", ","], "too few words for a map. Expected 3 or more; got 0"),
        (["--words", 2], "too few words for a map. Expected 3 or more; got 2"),
        (["--words", 0], "--words is too small. Expected at least 3; got 0"),
        (["--perplexity", 7], "perplexity cannot be used. Expected 1 or more, and less than the 7 words; got 7"),
        ([other], "the two have no word in common"),
        (["--out", "."], "--out is not the path of a figure"),
        ([tmp_path / "none.txt"], "no such file"),
        (["--measure", "dot"], 'Choose from: "cosine", "euclidean".'),
    ):
        answer = qkv_cli("vectors", "map", plane, *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert message in " ".join(answer.err.split())
    assert not list(tmp_path.rglob("*.html"))
