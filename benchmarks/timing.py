"""Timing that can be trusted on a shared machine: contenders take turns, and ratios are formed within a turn."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from qkv.draw import Table, table_markdown


def take_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs each contender once a round, after one round to warm up, and collects what it returns."""
    for run in contenders.values():
        run()
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            measured[name].append(run())
    return measured


def seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over rounds of ours divided by theirs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def options(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    return parser


def say(title: str, table: Table, document: dict[str, Any], *, as_json: bool) -> None:
    """Prints one result: a table for people, or JSON."""
    if as_json:
        print(json.dumps({"title": title, "threads": torch.get_num_threads(), **document}, indent=2))
    else:
        print(f"\n{title} ({torch.get_num_threads()} threads)\n\n{table_markdown(table)}")
