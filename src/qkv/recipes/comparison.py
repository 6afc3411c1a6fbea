"""Runs side by side, as a table, a chart and a page; the same for every recipe."""

import math
from collections.abc import Sequence
from pathlib import Path

from qkv import draw, files
from qkv.draw import Bar, Curve, Facts, Figure, Heading, LengthScore, Paragraph, Table
from qkv.draw.report import Block
from qkv.train import Comparison, Group, estimate


def table(comparison: Comparison) -> Table:
    """Means over seeds with 95 % intervals, a row a group; baselines below."""
    facts = [("parameters", ",.0f", 1.0), ("minutes", ".1f", 60.0), ("tokens/s", ",.0f", 1.0)]
    keys = ["parameters", "seconds", "tokens_per_second"]
    rows: list[list[str | int | float | None]] = [
        [
            group.name,
            len(group.runs),
            *(f"{group.estimate(metric):.{_digits(metric)}f}" for metric in comparison.metrics),
            *(f"{group.fact(key).mean / unit:{form}}" for key, (_, form, unit) in zip(keys, facts, strict=True)),
        ]
        for group in comparison.groups
    ]
    for name, scores in comparison.groups[0].runs[0].result.get("baselines", {}).items():
        told = [f"{scores[metric]:.{_digits(metric)}f}" if metric in scores else None for metric in comparison.metrics]
        rows.append([name, None, *told, *([None] * len(facts))])
    lowest = {"loss"}
    return Table(
        ["", "seeds", *comparison.metrics, *(name for name, _, _ in facts)],
        rows,
        best={metric: "lowest" if metric in lowest else "highest" for metric in comparison.metrics},
    )


def text(comparison: Comparison) -> str:
    """The table for a terminal or a document."""
    return draw.table_markdown(table(comparison))


def write(comparison: Comparison, out: Path) -> list[Path]:
    """Writes `comparison.html` into `out`, and beside it what it shows: `comparison.json` and the charts as SVG."""
    metric = comparison.metrics[0]
    runs = [run for group in comparison.groups for run in group.runs]
    bars = draw.svg(draw.bars([_bar(group, metric) for group in comparison.groups], x=metric))
    curves = draw.svg(draw.curves([_curve(group) for group in comparison.groups], x="minutes"))
    charts = {"comparison.svg": bars, "curves.svg": curves}
    blocks: list[Block] = [
        Paragraph(
            "Means over seeds of scores on the test part, with 95 % intervals (Student's t). Groups differ in what "
            "their names say and in settings that go with the model; the minutes are of training, validation included."
        ),
        table(comparison),
        Figure(bars, f"{metric}: mean and 95 % interval."),
        Heading("How training went"),
        Figure(curves, "Validation loss against training time, the first seed of each."),
    ]
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


def _bar(group: Group, metric: str) -> Bar:
    value = group.estimate(metric)
    margin = 0.0 if math.isnan(value.margin) else value.margin
    return Bar(group.name, value.mean, value.mean - margin, value.mean + margin)


def _curve(group: Group) -> Curve:
    lines = [line for line in group.runs[0].history if line["part"] == "valid"]
    minutes = [line["seconds"] / 60 for line in lines]
    return Curve(group.name, minutes, [line["loss"] for line in lines], "validation")


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
