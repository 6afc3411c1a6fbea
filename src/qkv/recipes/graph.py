"""Graphs: Zachary's karate club step by step, and a number for each node of a real network."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from qkv import files
from qkv.errors import InputError
from qkv.recipes import graph_karate, graph_regression, graph_report
from qkv.recipes.base import Reporter, Shown, command, validated
from qkv.recipes.graph_config import GraphConfig
from qkv.train import RunFolder
from qkv.types import Json, Run

CONFIG = GraphConfig
VARIATIONS: Mapping[str, str] = {"models": "model", "splits": "split"}
PRESETS: Mapping[str, Json] = {
    "karate": {
        "network": {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.2, "directions": "together"},
        "fit": {
            "epochs": 100, "learning_rate": 1e-2, "warmup_steps": 10, "validate_every": 25, "log_every": 5,
            "precision": "float32",
        },
    },
    "regression": {
        "fit": {
            "epochs": 60, "learning_rate": 3e-3, "warmup_steps": 20, "patience": 15, "precision": "float32",
            "log_every": 5,
        },
    },
    "tiny": {
        "network": {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
        "components": 2,
        "fit": {"epochs": 2, "learning_rate": 1e-2, "warmup_steps": 2, "precision": "float32", "log_every": 1},
    },
}  # fmt: skip


def default_preset(config: GraphConfig) -> str:
    """That of the task."""
    return config.asks


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:
    """Does what the folder's configuration says; leaves result and report, and of a regression what predicts."""
    config = validated(GraphConfig, folder.config)
    told = command(sys.modules[__name__], "graph", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    if config.asks == "karate":
        club, result = graph_karate.study(config, folder, reporter, other_threads=other_threads)
        graph_karate.write_tables(folder, result)
        finished = replace(folder.read(), result=result)
        figure, page = graph_report.drawn(finished, club), graph_report.club_report(finished, club, told)
        files.write_text(folder.path / "graph.svg", figure)
    else:
        result = graph_regression.study(config, folder, reporter, other_threads=other_threads)
        page = graph_report.regression_report(replace(folder.read(), result=result), told)
    files.write_text(folder.path / "report.html", page)
    folder.write_result(result)
    folder.drop_state()


def evaluate(run: Run, data: str | None, reporter: Reporter) -> Json:
    """Scores a finished regression on its test nodes again, or on another graph."""
    _require_regression(run)
    return graph_regression.evaluate(run, data, reporter)


def predict(run: Run, data: str | None = None, *, out: Path, reporter: Reporter) -> Json:
    """Writes a number for each node that has none: of the graph of the run, or of another."""
    _require_regression(run)
    return graph_regression.predict(run, data, out, reporter)


def show(run: Run, text: str, *, layer: int | None = None, head: int | None = None) -> Shown:
    """Whom a member of the karate club attends to, by its number.

    Raises:
        InputError: a run that attends to nobody, or no such member, layer or head.
    """
    if validated(GraphConfig, run.config).asks != "karate":
        raise InputError(
            "attention over a network of thousands has no map to be drawn", expected="a run of --task karate"
        )
    return graph_karate.show(run, text, layer=layer, head=head)


def _require_regression(run: Run) -> None:
    if validated(GraphConfig, run.config).asks == "karate":
        raise InputError("classes of the karate club are told in its report", hint=str(run.path / "report.html"))
