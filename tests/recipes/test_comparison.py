import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from qkv.recipes import comparison as pages
from qkv.train import compare
from qkv.types import Run


def run(model: str, seed: int, bleu: float) -> Run:
    history = [{"part": "valid", "step": 1, "seconds": 60.0 * i, "loss": 2.0 / i} for i in (1, 2)]
    result = {
        "metrics": {"bleu": bleu, "loss": 1.5}, "parameters": 1234567, "seconds": 90.0, "tokens_per_second": 7654.0,
        "baselines": {"copy": {"bleu": 2.0}}, "test_data": "t",
        "by_length": [{"words": "1-3", "sentences": 5, "bleu": bleu, "exact_match": 0.5}],
    }  # fmt: skip
    return Run(Path(f"{model}{seed}"), "translate", {"model": model}, seed, history, result)


@pytest.fixture
def two():
    return compare([run("rnn", 0, 10.0), run("rnn", 1, 14.0), run("transformer", 0, 30.0)])


def test_the_table_by_hand(two):
    table = pages.table(two)
    assert list(table.header) == ["", "seeds", "bleu", "loss", "parameters", "minutes", "tokens/s"]
    assert [list(row) for row in table.rows] == [
        # 10 and 14: mean 12, deviation sqrt(8), t(0.975, 1) = 12.706; 12.706 sqrt(8 / 2) = 25.4.
        ["rnn", 2, "12.0 ± 25.4", "1.5000 ± 0.0000", "1,234,567", "1.5", "7,654"],
        ["transformer", 1, "30.0", "1.5000", "1,234,567", "1.5", "7,654"],
        ["copy", None, "2.0", None, None, None, None],
    ]


def test_a_baseline_that_is_a_group_too_is_told_once():
    table = pages.table(compare([run("rnn", 0, 10.0), run("copy", 0, 2.0)]))
    assert [row[0] for row in table.rows] == ["rnn", "copy"]


def test_other_data_has_rows_of_its_own():
    runs = [
        Run(Path(str(seed)), "speech", {}, seed, [], {"metrics": {"loss": 1.0}, "elsewhere": {"theo": {"loss": loss}}})
        for seed, loss in ((0, 2.0), (1, 4.0))
    ]
    # 2 and 4: mean 3, deviation sqrt(2), so 12.706 sqrt(2 / 2).
    assert [list(row) for row in pages.table(compare(runs)).rows] == [
        ["speech", 2, "1.0000 ± 0.0000"],
        ["speech, on theo", 2, "3.0000 ± 12.7062"],
    ]


def test_what_is_written(two, tmp_path):
    paths = pages.write(two, tmp_path / "new")
    assert {path.name for path in paths} == {
        "comparison.json", "comparison.html", "comparison.svg", "curves.svg", "by_length.svg"
    }  # fmt: skip
    assert json.loads((tmp_path / "new" / "comparison.json").read_text()) == two.as_json()
    for path in (tmp_path / "new").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    page = (tmp_path / "new" / "comparison.html").read_text(encoding="utf-8")
    for told in ("transformer", "12.0 ± 25.4", "How training went", "Score by length", "rnn1"):
        assert told in page


def test_runs_that_train_nothing_are_compared_by_what_they_have(tmp_path):
    runs = [Run(Path(str(seed)), "scaling", {}, seed, [], {"metrics": {"exponent": 2.0 + seed}}) for seed in (0, 1)]
    comparison = compare(runs)
    assert list(pages.table(comparison).header) == ["", "seeds", "exponent"]
    assert not pages.table(comparison).best
    assert {path.name for path in pages.write(comparison, tmp_path)} == {
        "comparison.json", "comparison.html", "comparison.svg"
    }  # fmt: skip
    assert "training" not in (tmp_path / "comparison.html").read_text(encoding="utf-8")


def test_a_single_seed_has_a_bar_and_no_interval(tmp_path):
    pages.write(compare([run("rnn", 0, 10.0)]), tmp_path)
    assert (tmp_path / "comparison.svg").stat().st_size > 1000


def told_by_validation(rate: float, seed: int, valid: float, test: float) -> Run:
    result = {
        "metrics": {"accuracy": test}, "train_accuracy": 1.0, "valid_accuracy": valid, "baselines": {},
        "test_data": "t",
    }  # fmt: skip
    return Run(Path(f"{rate}-{seed}"), "images", {"fit": {"learning_rate": rate}}, seed, [], result)


def test_the_choice_is_made_on_validation_and_told(tmp_path):
    # By validation 0.1 is better, by the test part 0.01: the choice is the former.
    runs = [told_by_validation(*one) for one in ((0.1, 0, 0.75, 0.5), (0.1, 1, 0.85, 0.6), (0.01, 0, 0.7, 0.9))]
    comparison = compare(runs)
    table = pages.table(comparison)
    assert list(table.header) == ["", "seeds", "accuracy", "training accuracy", "validation accuracy"]
    # 0.75 and 0.85: deviation 0.0707, margin 12.706 * 0.0707 / sqrt(2) = 0.635.
    assert [row[-1] for row in table.rows] == ["0.8000 ± 0.6353", "0.7000"]
    pages.write(comparison, tmp_path)
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "learning rate 0.1 is the one to take: right in 80.00% there, in 55.00% of the test part" in page
    pages.write(compare(runs[:2]), tmp_path)
    assert "the one to take" not in (tmp_path / "comparison.html").read_text(encoding="utf-8")
