import shutil
from pathlib import Path
from xml.etree import ElementTree


def test_showing_writes_a_page_and_figures(qkv_cli, swept, tmp_path):
    for name in ("transformer", "rnn-attention"):
        run = shutil.copytree(swept / f"{name}-seed0", tmp_path / name)
        answer = qkv_cli("show", run, "deux trois", "--style", "lines", "--json")
        assert answer.code == 0, answer.err
        figures = {kind: Path(path) for kind, path in answer.json["figures"].items()}
        assert all(path.parent == run / "shown" and path.stem == "deux-trois" for path in figures.values())
        assert figures["png"].read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(figures["svg"]).getroot().tag.endswith("svg")
        page = figures["page"].read_text(encoding="utf-8")
        assert answer.json["prediction"] in page
        assert "https://" not in page.replace("https://www.w3.org", "")
        assert qkv_cli("show", run, "deux trois").out.strip() == answer.json["prediction"]
        refused = qkv_cli("show", run, "deux", "trois")
        assert (refused.code, refused.out) == (2, "")
        assert "a run reads one text. Expected one; got two. Try: the folder of a published BERT" in refused.err


def test_what_a_recipe_does_not_take_is_refused(qkv_cli, swept):
    run = swept / "transformer-seed0"
    answer = qkv_cli("show", run, "deux trois", "--context", "deux")
    assert answer.code == 2
    assert "a run of translate takes no --context. Try: a run of masked-lm" in answer.err
    answer = qkv_cli("show", run, "deux", "--top-k", 3)
    assert "a run of translate takes no --top-k" in answer.err
    for words in (("show", run, "deux"), ("evaluate", run), ("predict", run, "--data", "x", "--out", "y")):
        answer = qkv_cli(*words, "--convert")
        assert answer.code == 2
        assert "a run of translate takes no --convert. Try: a run of images" in answer.err
    answer = qkv_cli("show", run)
    assert answer.code == 2
    assert "there is nothing to read. Expected a text, in quotes" in answer.err
