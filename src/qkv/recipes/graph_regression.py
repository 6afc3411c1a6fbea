"""A number for each node: trained, judged on nodes with and without twins, written for those that have none."""

import csv
import io
import math
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from qkv import files
from qkv.data import look_up, shares
from qkv.errors import InputError
from qkv.models import GraphBatch, NodeRegressor, NodeTable, TableName
from qkv.recipes.base import Reporter, validated
from qkv.recipes.graph_config import GraphConfig
from qkv.recipes.graph_data import Parts, Table, Task, fingerprint, load, parts
from qkv.recipes.graph_karate import Batches
from qkv.recipes.graph_predictor import (
    BASIS,
    BEHIND,
    Predictor,
    build,
    choose,
    edges_of,
    looked_up,
    network_answers,
    network_name,
)
from qkv.recipes.graph_predictor import load as load_predictor
from qkv.train import RunFolder, fit
from qkv.types import Json, Run


def study(config: GraphConfig, folder: RunFolder, reporter: Reporter, *, other_threads: bool) -> Json:
    """Trains, chooses on the validation nodes and judges on the test nodes; leaves what predicts in the folder."""
    began = time.monotonic()
    task, split = parts(config, load(config, reporter.say), reporter.say)
    folder.hold_to_data({"graph": fingerprint(task)})
    if (directions := task.structure.feature_directions) is not None:
        files.write_tensors(folder.path / BASIS, {"directions": torch.from_numpy(directions.copy())})
    reporter.say(
        f"{len(split.train):,} nodes to train on, {len(split.valid):,} to choose by, {len(split.test):,} to judge by; "
        f"{int((~task.known).sum()):,} are not known"
    )
    first, last = task.only(split.train), task.only(split.train, split.valid)
    network, trained = None, {}
    if network_name(config) is not None:
        network, trained = _train(config, task, split, folder, reporter, other_threads=other_threads)
    said: dict[str, np.ndarray] = {}
    x = task.inputs(first)
    if network is not None:
        said["network"] = network_answers(network, x, edges_of(config, task))
    if config.model in BEHIND:
        rows = task.table(first, config.folds, folder.seed)
        said["table"] = _fitted(config, BEHIND[config.model], rows, folder.seed).predict(x)
    which, share = choose(config, said, task, first, split.valid)
    # What was chosen by the validation nodes stands: now their targets are known too, to tables and as inputs.
    rows = task.table(last, config.folds, folder.seed)
    table = _fitted(config, BEHIND[config.model], rows, folder.seed) if config.model in BEHIND else None
    predictor = Predictor(config, network, table, share, which)
    predictor.save(folder)
    said = predictor.answers(task, last)
    answer = predictor.joined(said, task, last)
    x = task.inputs(last)
    beside = {
        name: NodeTable(name, rows.x, rows.y, rows.importance, seed=folder.seed).predict(x)
        for name in _BASELINES
        if name != config.model
    }
    if len(said) > 1:
        beside |= {f"{_CALLED[name]}, same look-up": looked_up(which, task, last, one) for name, one in said.items()}
    return {
        "metrics": scores(answer, task, last, split.test),
        "baselines": {name: scores(one, task, last, split.test) for name, one in beside.items()},
        "nodes": {name: len(getattr(split, name)) for name in ("train", "valid", "test")}
        | {"unknown": int((~task.known).sum())},
        "test_nodes": _kinds(task, last, split.test),
        "counts": task.graph.counts(),
        "look_up": which,
        "table_share": share if len(said) > 1 else None,
        "points": [
            [float(one) for one in pair] for pair in zip(task.target[split.test], answer[split.test], strict=True)
        ],
        "test_data": fingerprint(task),
        **trained,
        "seconds": time.monotonic() - began,
    }


_BASELINES: tuple[TableName, ...] = ("median", "ridge")
_CALLED = {"network": "network", "table": "trees"}


def _fitted(config: GraphConfig, name: TableName, rows: Table, seed: int) -> NodeTable:
    """The table of a model; as a classical baseline, or behind a look-up of twins, it counts every node alike."""
    importance = rows.importance if config.model == "blend" else np.ones_like(rows.importance)
    return NodeTable(name, rows.x, rows.y, importance, seed=seed)


def _train(
    config: GraphConfig, task: Task, split: Parts, folder: RunFolder, reporter: Reporter, *, other_threads: bool
) -> tuple[NodeRegressor, Json]:
    """The network of a configuration, trained; and what is to be told of that."""
    first, edges = task.only(split.train), edges_of(config, task)
    target = torch.from_numpy(task.target.astype(np.float32))

    def batch(x: np.ndarray, asked: np.ndarray, counted: Bool[np.ndarray, " nodes"]) -> GraphBatch:
        each = shares(task.structure.followers, counted)[asked].astype(np.float32)
        nodes = torch.from_numpy(asked)
        return GraphBatch(torch.from_numpy(x), edges, nodes, target[nodes], torch.from_numpy(each))

    turns = [batch(x, asked, first) for asked, x in task.turns(first, config.folds, folder.seed)]
    valid = batch(task.inputs(first), split.valid, task.only(split.valid))
    torch.manual_seed(folder.seed)
    model = build(config, valid.x.shape[1], edges)
    model.network.scale.fit_to(valid.x)  # pyright: ignore - both networks have it
    known = task.target[split.train]
    model.middle.fill_(float(np.median(known)))
    model.spread.fill_(float(known.std()))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    reporter.say(f"{network_name(config)} with {parameters:,} parameters, {valid.x.shape[1]} inputs a node")
    at = fit(
        model,
        Batches(turns),
        Batches([valid]),
        config.fit,
        folder,
        other_threads=other_threads,
        on_progress=reporter.progress,
    )
    told = {"parameters": parameters, "steps": at.step, "best_step": at.best_step, "valid_loss": at.best_loss}
    return model, told


# -- judging ---------------------------------------------------------------------------------------------------------


def scores(
    answer: Float[np.ndarray, " nodes"], task: Task, known: Bool[np.ndarray, " nodes"], asked: np.ndarray
) -> dict[str, float]:
    """The metrics of answers about the asked nodes.

    `mae` is of natural logarithms, `mae_no_twin` of nodes that no known node shares all neighbours with, `mae_new` of
    those whose edges lead to other nodes than those of any known one, `mae_traffic` of the numbers themselves, `r2` the
    share of the variance of logarithms that is told. One that no node falls under is left out.
    """
    error, true = np.abs(answer - task.target), task.target[asked]
    found = {"mae": float(error[asked].mean())}
    for name, alone in _without(task, known, asked).items():
        if len(alone):
            found[f"mae_{name}"] = float(error[alone].mean())
    found["mae_traffic"] = float(np.abs(np.exp(answer[asked]) - np.exp(true)).mean())
    if np.ptp(true) > 0:
        found["r2"] = float(1 - np.square(answer[asked] - true).sum() / np.square(true - true.mean()).sum())
    return found


def _without(task: Task, known: Bool[np.ndarray, " nodes"], asked: np.ndarray) -> dict[str, np.ndarray]:
    """The asked nodes without a known twin, of either kind."""
    groups = {"no_twin": task.structure.twins, "new": task.structure.followers}
    return {name: asked[np.isnan(look_up(group, known, task.target)[asked])] for name, group in groups.items()}


def _kinds(task: Task, known: Bool[np.ndarray, " nodes"], asked: np.ndarray) -> dict[str, int]:
    return {"all": len(asked)} | {name: len(nodes) for name, nodes in _without(task, known, asked).items()}


def evaluate(run: Run, data: str | None, reporter: Reporter) -> Json:
    """Scores a finished run on its test nodes again, or on all known nodes of another graph, a fifth at a time."""
    config = validated(GraphConfig, run.config)
    task = _read(run, config, data, reporter)
    if data is None:
        task, split = parts(config, task, reporter.say)
        known, asked = task.only(split.train, split.valid), split.test
        answer = load_predictor(run, config, edges_of(config, task)).predict(task, known)
        return {"metrics": scores(answer, task, known, asked), "nodes": len(asked)}
    if data == config.data:
        reporter.say(f"{data}: all known nodes, those trained on too; without --data only the test part is scored")
    if not task.known.any():
        raise InputError("no target is known in this graph", hint=f"qkv predict {run.path} --data {data} --out FILE")
    predictor = load_predictor(run, config, edges_of(config, task))
    answer = np.full(len(task.target), math.nan)
    turn = np.random.default_rng(run.seed).integers(0, config.folds, len(task.target))
    for number in range(config.folds):
        answer = np.where(turn == number, predictor.predict(task, task.known & (turn != number)), answer)
    return {"metrics": _plain_scores(answer, task), "nodes": int(task.known.sum())}


def _plain_scores(answer: np.ndarray, task: Task) -> dict[str, float]:
    """The metrics that do not hang on which others were known."""
    found = scores(answer, task, task.known, np.flatnonzero(task.known))
    return {name: found[name] for name in found if name in ("mae", "mae_traffic", "r2")}


def predict(run: Run, data: str | None, out: Path, reporter: Reporter) -> Json:
    """Writes a CSV with a number for each node that has none: of the graph of the run, or of another."""
    config = validated(GraphConfig, run.config)
    task = _read(run, config, data, reporter)
    unknown = np.flatnonzero(~task.known)
    if not len(unknown):
        raise InputError("all targets of this graph are known: there is nothing to predict", hint="--data of another")
    answer = np.exp(load_predictor(run, config, edges_of(config, task)).predict(task, task.known))
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["id", "target"])
    writer.writerows([task.graph.names[node], f"{answer[node]:.6g}"] for node in unknown.tolist())
    files.write_text(out, table.getvalue())
    return {"nodes": len(unknown), "out": str(out)}


def _read(run: Run, config: GraphConfig, data: str | None, reporter: Reporter) -> Task:
    """The graph of a run, or another with the inputs that the run knows."""
    basis = None
    if (run.path / BASIS).exists():
        basis = files.read_tensors(run.path / BASIS)["directions"].numpy()
    if data is None or data == config.data:
        return load(config, reporter.say, basis=basis)
    if config.components:
        raise InputError(
            "this run knows nodes by their place in its own graph",
            expected="a run with --components 0, which knows what any graph can tell",
            path=run.path,
        )
    task = load(config, reporter.say, data=data, basis=basis)
    if (task.graph.features is None) != (basis is None):
        given = "none" if task.graph.features is None else "some"
        raise InputError("nodes have features in one of the two graphs alone", got=f"{given} here", path=data)
    return task
