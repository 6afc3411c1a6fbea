"""Graphs on the command line: the karate club, small regressions by every kind of model, predictions, refusals."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from qkv.errors import InputError
from qkv.recipes import graph
from qkv.recipes.base import Reporter
from qkv.recipes.graph_data import beside_set, load, parts
from qkv.recipes.graph_predictor import choose, looked_up
from qkv.train import RunFolder
from qkv.types import Run

NODES = 89
QUICK = ("--preset", "tiny", "--threads", 1)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A graph in MUSAE's layout: the last third of its nodes lead where others do and have their numbers."""
    folder, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    base = 2 * NODES // 3
    edges = {(node, int(target)) for node in range(base) for target in draw.choice(base, 3, replace=False)}
    like = {node: int(draw.integers(base)) for node in range(base, NODES)}
    for node, other in like.items():
        edges |= {(node, target) for source, target in set(edges) if source == other}
    number = np.exp(draw.normal(5, 1, NODES)).round() + 1
    for node, other in like.items():
        number[node] = number[other]
    (folder / "toy_edges.csv").write_text("id1,id2\n" + "".join(f"{a},{b}\n" for a, b in sorted(edges)))
    has = {str(node): [int(one) for one in draw.choice(17, 3, replace=False)] for node in range(NODES)}
    (folder / "toy_features.json").write_text(json.dumps(has))
    known = [node for node in range(NODES) if node % 7]
    (folder / "toy_target.csv").write_text("id,target\n" + "".join(f"{node},{number[node]:.0f}\n" for node in known))
    return folder / "toy_edges.csv"


def table(path: Path) -> list[list[str]]:
    """The rows of a CSV file."""
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def runs(qkv_cli, toy, tmp_path_factory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    made = {}
    for name in ("blend", "gat", "twins", "ridge"):
        options = ("--components", 0) if name == "gat" else ()
        answer = qkv_cli(
            "run", "graph", "--data", toy, "--model", name, *options, *QUICK, "--out", out / name, "--json"
        )
        assert answer.code == 0, answer.err
        made[name] = RunFolder.open(out / name).finished()
        assert answer.json["metrics"] == made[name].metrics
    return made


# -- the karate club -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gcn", "conv", "gat"])
def test_the_karate_club(qkv_cli, tmp_path, model: str):
    options = ("--model", model, "--fit.epochs", 30, "--threads", 1, "--out", tmp_path / "run", "--json")
    answer = qkv_cli("run", "graph", *options)
    assert answer.code == 0, answer.err
    told = answer.json
    assert told["counts"]["nodes"] == 34
    assert told["counts"]["edges"] == 156
    assert told["neighbours"]["out"]["1"] == told["neighbours"]["in"]["1"] == [0, 4, 5]
    assert told["component"]["weak"] == told["component"]["strong"] == list(range(34))
    convolved = np.array(told["convolution"])
    assert (np.diag(convolved) == 1).all()
    assert convolved.sum() == 34 + 156
    assert convolved[10].nonzero()[0].tolist() == [0, 4, 5, 10]
    written = np.loadtxt(tmp_path / "run" / "convolution.csv", delimiter=",")
    np.testing.assert_array_equal(written, convolved)
    assert told["metrics"]["accuracy"] > told["baselines"]["one class for all"]["accuracy"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "run" / "graph.svg").read_text(encoding="utf-8").count("<circle") >= 34
    assert page.count("<circle") >= 34
    for part in ("Neighbours of node 10", "One plain convolution", "Classes from four members"):
        assert part in page


def test_whom_a_member_attends_to_is_shown(qkv_cli, tmp_path):
    for model in ("gat", "gcn"):
        options = ("--model", model, "--fit.epochs", 3, "--out", tmp_path / model)
        assert qkv_cli("run", "graph", *options).code == 0
    answer = qkv_cli("show", tmp_path / "gat", "10", "--json")
    assert answer.code == 0, answer.err
    attends = answer.json["attends"]
    assert set(attends) == {"0", "4", "5", "10"}
    assert sum(attends.values()) == pytest.approx(1, abs=1e-5)
    assert Path(answer.json["figures"]["svg"]).exists()
    for run, text, message in (
        ("gat", "34", "there is no such member. Expected 0 to 33"),
        ("gcn", "1", "fixed shares"),
    ):
        refused = qkv_cli("show", tmp_path / run, text)
        assert refused.code == 2
        assert message in refused.err


def test_another_node_may_be_asked_for(qkv_cli, tmp_path):
    answer = qkv_cli("run", "graph", "--node", 33, "--fit.epochs", 1, "--out", tmp_path / "run", "--json")
    assert answer.json["neighbours"]["node"] == 33
    near, far, farther = (set(answer.json["neighbours"]["both"][distance]) for distance in "123")
    assert len(near) == 17
    assert not (near & far | near & farther | far & farther)
    assert not {33} & (near | far | farther)


# -- a number for each node ------------------------------------------------------------------------------------------


def test_what_a_run_leaves(runs):
    common = {"config.json", "environment.json", "data.json", "result.json", "report.html", "predictor.json",
              "basis.safetensors"}  # fmt: skip
    own = {"blend": {"metrics.jsonl", "weights.safetensors", "table.safetensors"},
           "gat": {"metrics.jsonl", "weights.safetensors"}}  # fmt: skip
    for name, run in runs.items():
        assert {path.name for path in run.path.iterdir()} == common | own.get(name, {"table.safetensors"})
        nodes, kinds = run.result["nodes"], run.result["test_nodes"]
        assert sum(nodes.values()) == NODES
        assert nodes["unknown"] == 13
        assert kinds["new"] <= kinds["no_twin"] <= kinds["all"] == nodes["test"]
        assert {"median", "ridge"} <= {*run.result["baselines"], name}
        assert run.metrics["mae"] > 0
        assert "Told and true" in (run.path / "report.html").read_text(encoding="utf-8")
    assert {"trees, same look-up", "network, same look-up"} <= set(runs["blend"].result["baselines"])


def test_a_stored_run_scores_as_the_trained_model_did(runs):
    for run in runs.values():
        again = graph.evaluate(run, None, Reporter())
        assert again["metrics"] == pytest.approx(run.metrics, rel=1e-5)


def test_unknown_nodes_are_predicted_by_one_command(qkv_cli, runs, toy, tmp_path):
    known = {row[0] for row in table(toy.parent / "toy_target.csv")}
    for name, run in runs.items():
        answer = qkv_cli("predict", run.path, "--out", tmp_path / f"{name}.csv")
        assert answer.code == 0, answer.err
        header, *rows = table(tmp_path / f"{name}.csv")
        assert header == ["id", "target"]
        assert {row[0] for row in rows} == {str(node) for node in range(NODES)} - known
        assert all(0 < float(row[1]) < 1e5 for row in rows)


def test_twins_of_known_nodes_are_told_their_number(qkv_cli, runs, tmp_path):
    config = graph.CONFIG.model_validate(runs["blend"].config)
    task = load(config, lambda _: None)
    found = looked_up("twins", task, task.known, np.full(NODES, np.nan))
    asked = np.flatnonzero(~task.known & np.isfinite(found))
    assert len(asked)
    qkv_cli("predict", runs["twins"].path, "--out", tmp_path / "out.csv")
    said = dict(table(tmp_path / "out.csv")[1:])
    for node in asked:
        assert float(said[str(node)]) == pytest.approx(np.exp(found[node]), rel=1e-4)


def test_a_run_without_places_predicts_on_other_graphs(qkv_cli, runs, tmp_path):
    (tmp_path / "new_edges.csv").write_text("".join(f"{a},{(a * 3 + 1) % 23}\n" for a in range(23)))
    (tmp_path / "new_features.json").write_text(json.dumps({str(a): [a % 5, 40] for a in range(23)}))
    answer = qkv_cli("predict", runs["gat"].path, "--data", tmp_path / "new_edges.csv", "--out", tmp_path / "out.csv")
    assert answer.code == 0, answer.err
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 24
    answer = qkv_cli("evaluate", runs["gat"].path, "--data", tmp_path / "new_edges.csv")
    assert answer.code == 2
    assert "no target is known in this graph" in answer.err
    (tmp_path / "new_target.csv").write_text("".join(f"{a},{a + 1}\n" for a in range(20)))
    answer = qkv_cli("evaluate", runs["gat"].path, "--data", tmp_path / "new_edges.csv", "--json")
    assert answer.json["nodes"] == 20
    assert set(answer.json["metrics"]) == {"mae", "mae_traffic", "r2"}
    answer = qkv_cli("predict", runs["blend"].path, "--data", tmp_path / "new_edges.csv", "--out", tmp_path / "x.csv")
    assert answer.code == 2
    assert "--components 0" in answer.err


# -- nothing leaks ---------------------------------------------------------------------------------------------------


def test_no_target_reaches_the_inputs_that_its_node_is_asked_with(toy):
    config = graph.CONFIG(data=str(toy), components=2)
    task = load(config, lambda _: None)
    _, split = parts(config, task, lambda _: None)
    known = task.only(split.train)
    turns = list(task.turns(known, 3, seed=0))
    assert sorted(np.concatenate([asked for asked, _ in turns]).tolist()) == split.train.tolist()
    for node in (*split.train[:5], *split.valid[:3], *split.test[:3]):
        moved = task.target.copy()
        moved[node] += 10
        other = type(task)(task.structure, moved)
        again = list(other.turns(known, 3, seed=0))
        for (asked, inputs), (_, changed) in zip(turns, again, strict=True):
            if node in asked or not known[node]:  # of nobody's inputs, so by no number of steps
                np.testing.assert_array_equal(changed, inputs)
        seen = task.only(split.train, split.valid)
        if not seen[node]:
            np.testing.assert_array_equal(other.inputs(seen), task.inputs(seen))


def test_test_targets_choose_nothing(toy):
    config = graph.CONFIG(data=str(toy), model="blend", components=2)
    task = load(config, lambda _: None)
    _, split = parts(config, task, lambda _: None)
    draw = np.random.default_rng(0)
    said = {"network": draw.normal(5, 1, NODES), "table": draw.normal(5, 1, NODES)}
    known = task.only(split.train)
    chosen = choose(config, said, task, known, split.valid)
    moved = task.target.copy()
    moved[split.test] += 10
    assert choose(config, said, type(task)(task.structure, moved), known, split.valid) == chosen


def test_parts_are_apart_and_splits_differ(toy):
    config = graph.CONFIG(data=str(toy))
    task = load(config, lambda _: None)
    _, first = parts(config, task, lambda _: None)
    together = np.concatenate([first.train, first.valid, first.test])
    assert sorted(together.tolist()) == np.flatnonzero(task.known).tolist()
    _, second = parts(config.model_copy(update={"split": 1}), task, lambda _: None)
    assert first.test.tolist() != second.test.tolist()


def test_distinct_nodes_have_no_like(toy):
    config = graph.CONFIG(data=str(toy), distinct=True)
    task, split = parts(config, load(config, lambda _: None), lambda _: None)
    group = task.structure.followers[np.concatenate([split.train, split.valid, split.test])]
    assert len(set(group.tolist())) == len(group)


def test_published_splits_are_taken_as_they_are(toy, tmp_path):
    masks = {
        f"geomgcn_{part}_mask": np.arange(NODES)[None] % 3 == place
        for place, part in enumerate(("train", "val", "test"))
    }
    np.savez(tmp_path / "masks.npz", **masks)
    config = graph.CONFIG(data=str(toy), masks=str(tmp_path / "masks.npz"))
    said = []
    task, split = parts(config, load(config, lambda _: None), said.append)
    assert all(node % 3 == 1 for node in split.valid)
    assert "13 nodes of the split have no known target and are left out" in said
    with pytest.raises(InputError, match="there is no such split"):
        parts(config.model_copy(update={"split": 1}), task, said.append)


def test_a_killed_run_goes_on_to_the_same_weights(qkv_cli, runs, toy, tmp_path):
    again = tmp_path / "again"
    options = ("--data", toy, "--model", "gat", "--components", 0, *QUICK, "--out", again)
    assert qkv_cli("run", "graph", *options).code == 0
    for name, weight in RunFolder.open(runs["gat"].path).load_weights().items():
        assert torch.equal(RunFolder.open(again).load_weights()[name], weight), name


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "regression"), "--task regression and --data karate do not go together"),
        (("--model", "trees"), "--model trees tells no classes. Expected gcn, conv or gat"),
        (("--node", 34), "there is no such member. Expected --node from 0 to 33; got 34"),
        (("--data", "chamelion"), "chameleon"),
        (("--network.hidden-size", 7, "--model", "gat"), "the heads cannot share the width"),
    ],
)
def test_settings_that_do_not_fit_are_refused(qkv_cli, tmp_path, options, message: str):
    answer = qkv_cli("run", "graph", *options, "--out", tmp_path / "run")
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("".join(f"{node},7\n" for node in range(60)), "all targets are equal"),
        ("0,3\n1,4\n", "too few targets. Expected 20 or more; got 2"),
        (None, "too few targets. Expected 20 or more; got 0"),
        (
            "".join(f"{node},{node}\n" for node in range(60)),
            "a target has no logarithm. Expected numbers above 0; got 0",
        ),
        ("0,3\n1,many\n", "toy_target.csv, line 2: not a node and its target"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(qkv_cli, toy, tmp_path, target: str | None, message: str):
    shutil.copy(toy, tmp_path)
    if target is not None:
        (tmp_path / "toy_target.csv").write_text(target)
    answer = qkv_cli("run", "graph", "--data", tmp_path / "toy_edges.csv", *QUICK, "--out", tmp_path / "run")
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "run").exists()


def test_an_edge_to_a_node_that_is_not_there_is_refused(qkv_cli, toy, tmp_path):
    answer = qkv_cli("run", "graph", "--data", toy, "--nodes", 7, *QUICK, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "an edge of a node that is not there. Expected numbers from 0 to 6" in answer.err


def test_what_leaves_nothing_to_predict_is_refused(qkv_cli, tmp_path):
    assert qkv_cli("run", "graph", "--fit.epochs", 1, "--out", tmp_path / "run").code == 0
    answer = qkv_cli("predict", tmp_path / "run", "--out", tmp_path / "out.csv")
    assert answer.code == 2
    assert "classes of the karate club are told in its report" in answer.err


@pytest.mark.parametrize("name", ["chameleon", "squirrel", "crocodile"])
def test_what_lies_beside_named_sets_is_as_published(name: str, shared_data, monkeypatch):
    monkeypatch.setenv("QKV_DATA", str(shared_data))
    assert beside_set(name, "target").is_file()
    for what in ("features", "masks"):
        assert (beside_set(name, what) is None) == (name == "crocodile")
