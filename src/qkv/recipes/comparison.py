"""Runs side by side, as a table, a chart and a page; the same for every recipe."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from qkv import draw, files
from qkv.draw import Bar, Curve, Facts, Figure, Heading, LengthScore, Paragraph, Table
from qkv.draw.report import Block
from qkv.train import SIMILARITIES, Comparison, Estimate, Group, estimate

# What runs may tell beside their metrics: its name in the table, how it is written, and its unit.
_FACTS = {
    "parameters": ("parameters", ",.0f", 1.0),
    "seconds": ("minutes", ".1f", 60.0),
    "tokens_per_second": ("tokens/s", ",.0f", 1.0),
}
# The same, of what is told with its interval over seeds.
_SHARES = {"train_accuracy": "training accuracy", "valid_accuracy": "validation accuracy"}
_Best = Literal["highest", "lowest"]
_BEST: dict[str, _Best] = {
    "bleu": "highest",
    "chrf": "highest",
    "exact_match": "highest",
    "accuracy": "highest",
    "macro_f1": "highest",
    "loss": "lowest",
    "cross_entropy": "lowest",
    "perplexity": "lowest",
    **{f"{one}_{unit}": "highest" for one in SIMILARITIES for unit in ("words", "characters")},
    "character_error_rate": "lowest",
    "word_error_rate": "lowest",
}


def table(comparison: Comparison) -> Table:
    """Means over seeds with 95 % intervals, a row a group; below that the same on other data, and baselines."""
    runs = [run for group in comparison.groups for run in group.runs]
    facts = {key: fact for key, fact in _FACTS.items() if all(key in run.result for run in runs)}
    shares = {key: name for key, name in _SHARES.items() if all(key in run.result for run in runs)}
    untold = [None] * (len(shares) + len(facts))

    def scores(score: Callable[[str], Estimate | None]) -> list[str | None]:
        found = {metric: score(metric) for metric in comparison.metrics}
        return [None if one is None else f"{one:.{_digits(metric)}f}" for metric, one in found.items()]

    rows: list[list[str | int | float | None]] = [
        [
            group.name,
            len(group.runs),
            *scores(group.estimate),
            *(f"{group.fact(key):.4f}" for key in shares),
            *(f"{group.fact(key).mean / unit:{form}}" for key, (_, form, unit) in facts.items()),
        ]
        for group in comparison.groups
    ]
    rows += [
        [f"{group.name}, on {name}", len(group.runs), *scores(partial(group.estimate_elsewhere, name)), *untold]
        for group in comparison.groups
        for name in group.elsewhere
    ]
    first = comparison.groups[0]
    rows += [
        [name, None, *scores(partial(first.baseline, name)), *untold]
        for name in first.runs[0].result.get("baselines", {})
        if all(group.name != name for group in comparison.groups)
    ]
    best: dict[str, _Best] = {metric: _BEST[metric] for metric in comparison.metrics if metric in _BEST}
    if "valid_accuracy" in shares:  # which is what is chosen by
        best = {shares["valid_accuracy"]: "highest"}
    told = [*shares.values(), *(name for name, _, _ in facts.values())]
    return Table(["", "seeds", *comparison.metrics, *told], rows, best=best)


def text(comparison: Comparison) -> str:
    """The table for a terminal or a document."""
    return draw.table_markdown(table(comparison))


def write(comparison: Comparison, out: Path) -> list[Path]:
    """Writes `comparison.html` into `out`, and beside it what it shows: `comparison.json` and the charts as SVG."""
    metric = comparison.metrics[0]
    runs = [run for group in comparison.groups for run in group.runs]
    bars = draw.svg(draw.bars([_bar(group, metric) for group in comparison.groups], x=metric))
    charts = {"comparison.svg": bars}
    spread = "mean and 95 % interval" if len(runs) > len(comparison.groups) else "one seed each"
    trained = [group for group in comparison.groups if group.runs[0].history]
    blocks: list[Block] = [
        Paragraph(
            "Means over seeds with 95 % intervals (Student's t). Groups differ in what their names say and in settings "
            "that go with the model."
        ),
        table(comparison),
        *_choice(comparison.groups),
        Figure(bars, f"{metric}: {spread}."),
    ]
    if trained:
        curves = [_curve(group) for group in trained]
        charts["curves.svg"] = draw.svg(draw.curves(curves, x="minutes", log=_far_apart(curves)))
        caption = "Validation loss against training time, the first seed of each."
        told = "Scores are of the test part; the minutes in the table are of training, validation included."
        blocks += [Heading("How training went"), Paragraph(told), Figure(charts["curves.svg"], caption)]
    if all("by_length" in run.result for run in runs):
        lengths = [score for group in comparison.groups for score in _lengths(group)]
        charts["by_length.svg"] = draw.svg(draw.by_length(lengths, y=metric))
        caption = "By the length of the source in words, mean over seeds."
        blocks += [Heading("Score by length"), Figure(charts["by_length.svg"], caption)]
    blocks += [Heading("The runs"), Facts({str(run.path): f"seed {run.seed}" for run in runs})]
    return [
        files.write_text(out / "comparison.html", draw.report_page("Comparison", blocks)),
        files.write_json(out / "comparison.json", comparison.as_json()),
        *(files.write_text(out / name, chart) for name, chart in charts.items()),
    ]


def _choice(groups: Sequence[Group]) -> list[Paragraph]:
    """Which of the groups the validation part prefers, where runs tell how well they do there."""
    if len(groups) == 1 or not all("valid_accuracy" in run.result for group in groups for run in group.runs):
        return []
    best = max(groups, key=lambda group: group.fact("valid_accuracy").mean)
    return [
        Paragraph(
            f"By the validation part, {best.name} is the one to take: right in {best.fact('valid_accuracy').mean:.2%} "
            f"there, in {best.estimate('accuracy').mean:.2%} of the test part, which had no say in the choice."
        )
    ]


def _bar(group: Group, metric: str) -> Bar:
    value = group.estimate(metric)
    margin = 0.0 if math.isnan(value.margin) else value.margin
    return Bar(group.name, value.mean, value.mean - margin, value.mean + margin)


def _curve(group: Group) -> Curve:
    lines = [line for line in group.runs[0].history if line["part"] == "valid"]
    minutes = [line["seconds"] / 60 for line in lines]
    return Curve(group.name, minutes, [line["loss"] for line in lines], "validation")


def _far_apart(curves: Sequence[Curve]) -> bool:
    """Whether losses differ so much that the low ones would lie on one another."""
    losses = [loss for curve in curves for loss in curve.y if math.isfinite(loss)]
    return min(losses, default=0.0) > 0 and max(losses) > 4 * min(losses)


def _lengths(group: Group) -> list[LengthScore]:
    together: Sequence[Sequence[dict[str, float]]] = [run.result["by_length"] for run in group.runs]
    return [
        LengthScore(
            group.name, str(first["words"]), estimate([one["bleu"] for one in buckets]).mean, first["sentences"]
        )
        for buckets in zip(*together, strict=True)
        for first in buckets[:1]
    ]


def _digits(metric: str) -> int:
    """Decimals to write a metric with: shares and losses want more than scores out of a hundred."""
    return 1 if metric in ("bleu", "chrf") else 4
