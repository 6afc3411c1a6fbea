import json
import math
from pathlib import Path

import pytest

from qkv.errors import InputError
from qkv.train import compare, estimate
from qkv.types import Run


def run(name="a", *, recipe="translate", test_data="t", seed=0, metrics=None, **config) -> Run:
    metrics = {"bleu": 10.0, "loss": 1.0} if metrics is None else metrics
    result = {"metrics": metrics, "test_data": test_data, "parameters": 100 + seed}
    return Run(Path(name), recipe, config, seed, [], result)


def test_runs_that_differ_in_their_seed_alone_are_one_group():
    comparison = compare([run("a", model="rnn", seed=1), run("b", model="rnn", seed=2, metrics={"bleu": 14.0})])
    (group,) = comparison.groups
    assert group.name == "translate"
    assert list(comparison.metrics) == ["bleu"]  # the one that both have
    # 10 and 14: mean 12, deviation sqrt(8); t(0.975, 1) = 12.7062; 12.7062 sqrt(8 / 2) = 25.4124.
    assert group.estimate("bleu").mean == 12.0
    assert group.estimate("bleu").margin == pytest.approx(25.4124, abs=1e-4)
    assert group.fact("parameters").mean == 101.5


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([{"model": "rnn"}, {"model": "transformer"}], ["rnn", "transformer"]),
        ([{"transformer": {"num_heads": 1}}, {"transformer": {"num_heads": 4}}], ["num heads 1", "num heads 4"]),
        # What follows from the model is not told; what varies beside it is.
        ([{"model": "rnn", "beam": 1}, {"model": "transformer", "beam": 2}], ["rnn", "transformer"]),
        (
            [{"model": "rnn", "beam": 1}, {"model": "transformer", "beam": 1}, {"model": "transformer", "beam": 2}],
            ["rnn, beam 1", "transformer, beam 1", "transformer, beam 2"],
        ),
        ([{"embeddings": None}, {"embeddings": "glove"}], ["embeddings None", "embeddings glove"]),
    ],
)
def test_groups_are_named_by_what_differs(settings, names):
    comparison = compare([run(str(i), seed=i, **setting) for i, setting in enumerate(settings)])
    assert [group.name for group in comparison.groups] == names


def test_as_json_a_single_seed_has_no_margin():
    runs = [run("a", model="rnn"), run("b", model="transformer", seed=1), run("c", model="transformer", seed=2)]
    document = json.loads(json.dumps(compare(runs).as_json(), allow_nan=False))
    assert [(one["name"], one["seeds"]) for one in document["groups"]] == [("rnn", [0]), ("transformer", [1, 2])]
    assert document["groups"][0]["metrics"]["bleu"] == {"mean": 10.0, "margin": None}
    assert document["groups"][1]["metrics"]["bleu"] == {"mean": 10.0, "margin": 0.0}
    assert document["groups"][1]["runs"] == ["b", "c"]
    assert math.isnan(compare(runs).groups[0].estimate("bleu").margin)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "no runs to compare"),
        ([run(), Run(Path("b"), "translate", {}, 0, [], {})], "b: this run is not finished. Try: qkv resume b"),
        ([run(), run(recipe="digits")], "different recipes cannot be compared. Got digits, translate"),
        ([run(), run(test_data="u")], "different test data cannot be compared. Got t, u"),
    ],
    ids=["none", "unfinished", "recipes", "data"],
)
def test_what_cannot_be_compared(runs, message):
    with pytest.raises(InputError, match=message):
        compare(runs)


def test_draws_of_what_is_judged_are_one_group_and_their_seeds_count_once():
    # Two draws with two seeds each: means 11 and 15 of the draws, so 13; deviation sqrt(8), as above.
    runs = [
        run(f"{split}{seed}", seed=seed, split=split, metrics={"mae": value})
        for split, values in enumerate([(10.0, 12.0), (15.0, 15.0)])
        for seed, value in enumerate(values)
    ]
    (group,) = compare(runs).groups
    assert group.name == "translate"
    assert group.estimate("mae").mean == 13.0
    assert group.estimate("mae").margin == pytest.approx(25.4124, abs=1e-4)
    assert group.estimate("mae").count == 2
    for one in runs:
        one.result["baselines"] = {"median": {"mae": one.metrics["mae"] + 1}}
    assert group.baseline("median", "mae") == estimate([12.0, 16.0])
    assert group.baseline("median", "r2") is None
    (alone,) = compare(runs[:2]).groups  # two seeds of one draw: the baseline is the same, and has no spread
    assert alone.baseline("median", "mae").mean == 11.0
    with pytest.raises(InputError, match="have the same seed"):
        compare([*runs, run("again", seed=1, split=1, metrics={"mae": 1.0})])
