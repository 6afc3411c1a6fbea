import numpy as np
import pytest

from qkv.vectors import WordVectors

WORDS = ["king", "queen", "man", "woman", "apple"]
MATRIX = np.array([[2, 1, 0], [1, 2, 0], [2, 0, 0], [1, 1, 0], [0, 0, 3]], dtype=np.float32)


@pytest.fixture
def path(tmp_path):
    return WordVectors(WORDS, MATRIX).save(tmp_path / "toy.txt")


def test_nearest(qkv_cli, path):
    answer = qkv_cli("vectors", "nearest", path, "man", "queen", "--top", 2, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["by"] == "cosine"
    first, second = answer.json["queries"]
    assert [near["word"] for near in first["nearest"]] == ["king", "woman"]
    assert (second["positive"], len(second["nearest"])) == (["queen"], 2)
    summed = qkv_cli("vectors", "nearest", path, "king", "woman", "--minus", "man", "--by", "euclidean")
    assert summed.out.splitlines()[:2] == ["king + woman - man", "  queen  0.0000"]


def test_analogy(qkv_cli, path):
    for method in ("3cosadd", "3cosmul"):
        answer = qkv_cli("vectors", "analogy", path, "man", "king", "woman", "--method", method, "--json")
        assert answer.json["answers"][0]["word"] == "queen"
    assert qkv_cli("vectors", "analogy", path, "man", "king", "woman").out.startswith(
        "man : king :: woman : ?\n  queen"
    )


def test_score_of_published_vectors_on_all_sets(qkv_cli, shared_data, monkeypatch):
    monkeypatch.setenv("QKV_DATA", str(shared_data))
    answer = qkv_cli("vectors", "score", "glove-6b-50d", "--json")
    assert answer.code == 0, answer.err
    assert set(answer.json["metrics"]) == {
        "wordsim353", "simlex999", "men3000", "rg65", "mturk771", "rw2034", "simverb3500", "questions-words",
    }  # fmt: skip
    by_name = {one["set"]: one for one in answer.json["sets"]}
    assert by_name["simlex999"]["spearman"] == pytest.approx(0.26, abs=0.05)  # 0.265 on all of SimLex, as published
    assert by_name["questions-words"]["size"] == 9759
    assert len(by_name["questions-words"]["categories"]) == 14
    assert 0.4 < by_name["questions-words"]["accuracy"] < 0.6


def test_score_on_sets_of_ones_own(qkv_cli, path, tmp_path):
    (tmp_path / "mine.tsv").write_text("king\tqueen\t9\nking\tapple\t1\nking\tpear\t2\n")
    answer = qkv_cli("vectors", "score", path, tmp_path / "mine.tsv")
    assert answer.out.split() == ["mine", "1.0000", "spearman", "2", "of", "3", "covered", "(66.7%)"]


def test_score_without_sets(qkv_cli, path, monkeypatch):
    monkeypatch.delenv("QKV_DATA", raising=False)
    answer = qkv_cli("vectors", "score", path)
    assert answer.code == 2
    assert "the data set 'wordsim353' is not on this machine" in answer.err


@pytest.mark.parametrize("name", ["v.vec.gz", "v.bin", "v.npz", "v.safetensors"])
def test_convert(qkv_cli, path, tmp_path, name):
    answer = qkv_cli("vectors", "convert", path, tmp_path / name, "--json")
    assert (answer.json["words"], answer.json["dim"]) == (5, 3)
    np.testing.assert_array_equal(WordVectors.load(tmp_path / name).matrix, MATRIX)


def test_rows_left_out_are_told_to_people(qkv_cli, tmp_path):
    (tmp_path / "twice.txt").write_text("a 1 2\nb 2 1\na 3 4\n")
    answer = qkv_cli("vectors", "nearest", tmp_path / "twice.txt", "a", "--json")
    assert answer.json["queries"][0]["nearest"] == [{"word": "b", "score": pytest.approx(0.8)}]
    assert "left out 1 row: line 3 ('a' again, as on 1)" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nearest", "{}"), "no word to look up"),
        (("nearest", "{}", "quen"), "no vector for 'quen'. Expected one of 5 words. Try: 'queen'"),
        (("nearest", "{}", "man", "--top", 0), "top is too small"),
        (("nearest", "{}", "man", "--by", "cosin"), "Invalid value"),
        (("nearest", "nowhere.txt", "man"), "nowhere.txt: no such file"),
        (("nearest", "glove", "man"), "unknown data set 'glove'"),
        (("analogy", "{}", "man", "king", "Woman"), "no vector for 'Woman'. Expected one of 5 words. Try: 'woman'"),
        (("convert", "{}", "v.pkl"), "no format has the ending of v.pkl"),
        (("score", "{}", "{}"), "not a pair of words"),
    ],
)
def test_refusals(qkv_cli, path, arguments, message):
    answer = qkv_cli("vectors", *(str(one).replace("{}", str(path)) for one in arguments))
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
