"""Several runs side by side: grouped by what they were told, averaged over seeds."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from qkv.errors import InputError
from qkv.train.metrics import Estimate, estimate
from qkv.types import Json, Run

DRAWN = "split"
"""The setting that is a draw, as the seed is, of what a model is judged by: runs that differ in it are of one group."""


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, and in the draw of what they are judged by."""

    name: str
    runs: Sequence[Run]

    def estimate(self, metric: str) -> Estimate:
        """The mean and its interval: over draws, where there are several, each the mean of its seeds; else over seeds.

        Seeds of one draw are judged by the same, and so are not independent.
        """
        return self._over([run.metrics[metric] for run in self.runs])

    @property
    def elsewhere(self) -> list[str]:
        """The other data that all runs were judged by, such as a speaker kept from training."""
        first, *others = (run.result.get("elsewhere", {}) for run in self.runs)
        return [name for name in first if all(name in other for other in others)]

    def estimate_elsewhere(self, name: str, metric: str) -> Estimate | None:
        """`estimate` on other data; None where a run has it not."""
        scores = [run.result["elsewhere"][name].get(metric) for run in self.runs]
        return None if None in scores else self._over(scores)

    def baseline(self, name: str, metric: str) -> Estimate | None:
        """That of a baseline that ran beside each; None where one has it not. Of one draw, that of the first seed."""
        scores = [run.result.get("baselines", {}).get(name, {}).get(metric) for run in self.runs]
        if None in scores:
            return None
        several = len({run.config.get(DRAWN) for run in self.runs}) > 1
        return self._over(scores) if several else estimate(scores[:1])

    def _over(self, values: Sequence[float]) -> Estimate:
        """The estimate from a value a run."""
        by_draw = defaultdict(list)
        for run, value in zip(self.runs, values, strict=True):
            by_draw[run.config.get(DRAWN)].append(value)
        first, *others = by_draw.values()
        return estimate([sum(each) / len(each) for each in (first, *others)] if others else first)

    def fact(self, name: str) -> Estimate:
        """The mean of a number that runs state beside their metrics, such as `parameters` or `seconds`."""
        return estimate([float(run.result[name]) for run in self.runs])


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, and the metrics that all of them have."""

    groups: Sequence[Group]
    metrics: Sequence[str]

    def as_json(self) -> Json:
        return {
            "groups": [
                {
                    "name": group.name,
                    "seeds": [run.seed for run in group.runs],
                    "runs": [str(run.path) for run in group.runs],
                    "metrics": self._told(group.estimate),
                    "elsewhere": {
                        name: self._told(partial(group.estimate_elsewhere, name)) for name in group.elsewhere
                    },
                }
                for group in self.groups
            ]
        }

    def _told(self, score: Callable[[str], Estimate | None]) -> Json:
        values = {metric: value for metric in self.metrics if (value := score(metric)) is not None}
        return {
            metric: {"mean": value.mean, "margin": None if value.count == 1 else value.margin}
            for metric, value in values.items()
        }


def compare(runs: Sequence[Run]) -> Comparison:
    """Groups finished runs of one recipe; a group is named by the settings in which it differs from the others.

    Raises:
        InputError: where runs are of different recipes, tested on different data, or are not finished.
    """
    if not runs:
        raise InputError("no runs to compare", expected="at least one run folder")
    for run in runs:
        if not run.finished:
            raise InputError("this run is not finished", hint=f"qkv resume {run.path}", path=run.path)
    for what, told in (
        ("recipes", [run.recipe for run in runs]),
        ("test data", [str(run.result.get("test_data")) for run in runs]),
    ):
        if len(set(told)) > 1:
            raise InputError(f"runs with different {what} cannot be compared", got=", ".join(sorted(set(told))))
    settings = [flat(run.config) for run in runs]
    keys = sorted({key for setting in settings for key in setting} - {DRAWN})
    differing = [key for key in keys if len({repr(setting.get(key)) for setting in settings}) > 1]
    # The model names a group by itself where it can: its other settings follow from it.
    if "model" in differing:
        differing = ["model", *(key for key in differing if key != "model" and not _implied(key, "model", settings))]
    names = [", ".join(_told(key, setting.get(key)) for key in differing) or runs[0].recipe for setting in settings]
    groups = [
        Group(name, [run for run, own in zip(runs, names, strict=True) if own == name]) for name in dict.fromkeys(names)
    ]
    for group in groups:
        if len({(run.seed, run.config.get(DRAWN)) for run in group.runs}) < len(group.runs):
            raise InputError(
                f"two runs of {group.name!r} have the same seed, so they say nothing of the spread",
                got=", ".join(f"{run.path} (seed {run.seed})" for run in group.runs),
                hint="each run once",
            )
    metrics = [metric for metric in runs[0].metrics if all(metric in run.metrics for run in runs)]
    return Comparison(groups, metrics)


def _implied(key: str, by: str, settings: Sequence[Json]) -> bool:
    """Whether each value of `by` goes with one value of `key`."""
    pairs = {(repr(setting.get(by)), repr(setting.get(key))) for setting in settings}
    return len(pairs) == len({first for first, _ in pairs})


def _told(key: str, value: Any) -> str:
    return str(value) if key == "model" else f"{key.rpartition('.')[2].replace('_', ' ')} {value}"


def flat(config: Json, prefix: str = "") -> Json:
    """`{"fit": {"epochs": 3}}` as `{"fit.epochs": 3}`."""
    fields: Json = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        fields |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return fields
