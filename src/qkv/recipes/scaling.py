"""Scaling: what attention costs against length, why scores are scaled, how near linear attention comes to softmax."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated

import torch
from pydantic import Field, PositiveInt, model_validator

from qkv import files
from qkv.errors import InputError
from qkv.recipes.base import PARTED, Reporter, command, validated
from qkv.recipes.scaling_cost import FORMS, Cost, FormName, Sizes, crossing, measure, power_law, series
from qkv.recipes.scaling_report import report
from qkv.recipes.scaling_scores import Nearness, nearness, weighings
from qkv.train import RunFolder
from qkv.types import Json


class ScalingConfig(Sizes):
    """Which forms of attention are measured, at which lengths, how often."""

    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=3), PARTED] = (128, 256, 512, 1024, 2048)
    """Lengths to measure at, parted by commas, three at least."""
    forms: Annotated[tuple[FormName, ...], Field(min_length=1), PARTED] = tuple(FORMS)
    """Forms of attention to measure, parted by commas."""
    backward: bool = True
    """Measure forward and backward together too."""
    rounds: PositiveInt = 3
    """Calls of each at least, of which the median counts; forms take turns."""
    least_seconds: float = Field(default=2.0, ge=0)
    """Go on with the calls for so long at each length: short ones are repeated more often."""
    max_megabytes: PositiveInt = 128
    """A form that holds its weights is left out where they would need more."""
    rows: PositiveInt = 500
    """Random rows of weights that the part on scores draws at each width."""

    @model_validator(mode="after")
    def _lengths_differ(self) -> "ScalingConfig":
        if len(set(self.lengths)) < len(self.lengths):
            raise InputError(
                "--lengths name a length twice",
                expected="three different ones at least",
                got=",".join(map(str, self.lengths)),
            )
        return self


CONFIG = ScalingConfig
VARIATIONS: Mapping[str, str] = {}
PRESETS: Mapping[str, Json] = {
    "tiny": {"lengths": [32, 64, 128, 256], "rounds": 2, "least_seconds": 0.0, "rows": 20},
    "default": {},
}


def default_preset(config: ScalingConfig) -> str:  # noqa: ARG001 - there is one
    return "default"


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:  # noqa: ARG001 - no state
    """Measures what the folder's configuration says, from the beginning; leaves result and report."""
    config = validated(ScalingConfig, folder.config)
    generator = torch.Generator().manual_seed(folder.seed)
    began = time.monotonic()
    costs: list[Cost] = []
    for length in sorted(config.lengths):
        reporter.say(f"length {length:,}")
        costs += measure(
            config.forms,
            config,
            length,
            backward=config.backward,
            rounds=config.rounds,
            least_seconds=config.least_seconds,
            max_megabytes=config.max_megabytes,
            generator=generator,
        )
    reporter.say("scores, weights and gradients at widths from 4 to 1,024")
    ways, near = weighings(config.rows, generator), nearness(config.rows, generator)
    result = {
        "metrics": metrics(costs, near),
        "costs": [asdict(cost) for cost in costs],
        "weighings": [asdict(way) for way in ways],
        "nearness": [asdict(one) for one in near],
        "threads": torch.get_num_threads(),
        "seconds": time.monotonic() - began,
    }
    told = command(sys.modules[__name__], "scaling", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    page = report(replace(folder.read(), result=result), costs, ways, near, told)
    files.write_text(folder.path / "report.html", page)
    folder.write_result(result)


def metrics(costs: Sequence[Cost], near: Sequence[Nearness]) -> dict[str, float]:
    """The numbers that a run is compared by.

    `exponent_FORM` is that of the time of the causal forward pass. `crossover_causal`, `crossover_full` and the two
    with `_backward` are the lengths from which on linear attention of second order is faster than fused softmax; one
    that lies outside what was measured is left out. `distance_taylor_2` is its distance to softmax at norm 1.
    """
    found: dict[str, float] = {}
    for is_causal, masking in ((True, "causal"), (False, "full")):
        for backward, ending in ((False, ""), (True, "_backward")):
            length = crossing(costs, is_causal=is_causal, backward=backward)
            if 0 < length < math.inf:
                found[f"crossover_{masking}{ending}"] = length
    for form in FORMS:
        points = series(costs, form, is_causal=True, backward=False)
        if law := power_law([cost.length for cost in points], [cost.seconds for cost in points]):
            found[f"exponent_{form.replace('-', '_')}"] = law.exponent
    distances = {(one.features, one.norm): one.distance for one in near}
    return found | {"distance_taylor_2": distances["Taylor, order 2", 1.0]}
