"""Measuring that can be trusted on a shared machine: contenders take turns, and ratios are formed within a turn."""

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

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


def timed(run: Callable[[], Any], calls: int = 1) -> Callable[[], float]:
    """A contender: the seconds that one of several calls in a row takes."""

    def several() -> None:
        for _ in range(calls):
            run()

    return lambda: seconds(several) / calls


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over rounds of ours divided by theirs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def extra_bytes(run: Callable[[], Any]) -> int:
    """How far the resident size rises above what it is now while `run` runs, its result included. On Linux."""
    ctypes.CDLL(None).malloc_trim(0)  # what is free but still resident would hide what is taken
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident("VmRSS")
    run()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


@dataclass(frozen=True)
class Finding:
    """A number measured, the bar that it has to clear where it has one, and the times that it comes from."""

    what: str
    measured: float
    at_least: float | None = None
    at_most: float | None = None
    seconds: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        above = self.at_least is None or self.measured >= self.at_least
        return above and (self.at_most is None or self.measured <= self.at_most)

    @property
    def bar(self) -> str:
        bars = {"at least": self.at_least, "at most": self.at_most}
        return ", ".join(f"{side} {bar:g}" for side, bar in bars.items() if bar is not None)

    @property
    def row(self) -> list[str]:
        times = (f"{name} {statistics.median(values) * 1000:,.2f} ms" for name, values in self.seconds.items())
        verdict = ("yes" if self.held else "NO") if self.bar else ""
        return [self.what, f"{self.measured:.3g}", self.bar, verdict, ", ".join(times)]


def judge(topics: Mapping[str, Callable[[], list[Finding]]], *, as_json: bool) -> NoReturn:
    """Measures one topic after the other and prints what was found; exits with 1 where a bar is missed."""
    found: dict[str, list[Finding]] = {}
    for topic, measure in topics.items():
        found[topic] = measure()
        if not as_json:
            table = Table(["", "measured", "bar", "held", "medians"], [finding.row for finding in found[topic]])
            say(topic, table, {}, as_json=False)
    if as_json:
        written = {
            topic: [{**asdict(finding), "held": finding.held if finding.bar else None} for finding in some]
            for topic, some in found.items()
        }
        print(json.dumps({"threads": torch.get_num_threads(), "findings": written}, indent=2))
    sys.exit(not all(finding.held for some in found.values() for finding in some))


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
        print(f"\n{title} ({torch.get_num_threads()} threads)\n\n{table_markdown(table)}", flush=True)
