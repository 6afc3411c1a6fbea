"""Digits: cross-attention between images by dot product, scaled or not, and by an RBF kernel."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat

from qkv import files
from qkv.data import Images, find, read_images
from qkv.data import digits as embedded_digits
from qkv.recipes.base import Reporter, command, validated
from qkv.recipes.digits_attention import Draw, Seen, distance, dot, draw, entropy, forms, look, rbf
from qkv.recipes.digits_report import report
from qkv.train import RunFolder
from qkv.train.metrics import estimate
from qkv.types import Config, Json

EMBEDDED = "digits"


class DigitsConfig(Config):
    """Which images, how often they are drawn, how wide the kernel is."""

    data: str = EMBEDDED
    """Images with classes: a file (IDX or npz), or `digits`, which scikit-learn carries."""
    targets: str | None = None
    """Where target images come from; by default from the same file, other images."""
    draws: Annotated[int, Field(ge=2)] = 1_000
    """How often a source and a target of each class are drawn."""
    sigma: PositiveFloat | None = None
    """The width of the kernel exp(-|x - y|² / sigma²), pixels between 0 and 1; by default a third of the median
    distance."""


CONFIG = DigitsConfig
VARIATIONS: Mapping[str, str] = {"sigmas": "sigma"}
PRESETS: Mapping[str, Json] = {"tiny": {"draws": 20}, "default": {}}
_CURVE_DRAWS = 50


def default_preset(config: DigitsConfig) -> str:  # noqa: ARG001 - there is one
    return "default"


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:  # noqa: ARG001 - no state
    """Does what the folder's configuration says, from the beginning; leaves result and report."""
    config = validated(DigitsConfig, folder.config)
    began = time.monotonic()
    sources = _read(config.data)
    targets = sources if config.targets in (None, config.data) else _read(config.targets)
    generator = torch.Generator().manual_seed(folder.seed)
    drawn = draw(sources, targets, config.draws, generator)
    first, some = (Draw(drawn.source[:count], drawn.target[:count]) for count in (1, _CURVE_DRAWS))
    middle = distance(some)
    sigma = middle / 3 if config.sigma is None else config.sigma
    height, width = sources.size
    ways = forms(sources.full, height * width, sigma)
    reporter.say(f"{config.draws:,} draws of {drawn.source.shape[1]} source and as many target images")
    seen = look(drawn, ways)
    scales = [2.0**power for power in range(-6, 7)]
    sigmas = [2.0 ** (round(math.log2(middle)) + power) for power in range(-5, 4)]
    result = {
        "metrics": metrics(seen, drawn.source.shape[1]),
        "seen": [asdict(one) for one in seen],
        "sigma": sigma,
        "distance": middle,
        "size": [height, width],
        "full": sources.full,
        "classes": sorted(set(sources.labels.tolist())),
        "scales": scales,
        "entropy_by_scale": [entropy(dot(scale)(some.target, some.source)[1]) for scale in scales],
        "sigmas": sigmas,
        "entropy_by_sigma": [entropy(rbf(one)(some.target, some.source)[1]) for one in sigmas],
        "seconds": time.monotonic() - began,
    }
    told = command(sys.modules[__name__], "digits", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    page = report(replace(folder.read(), result=result), seen, first, ways, told)
    files.write_text(folder.path / "report.html", page)
    folder.write_result(result)


def _read(data: str) -> Images:
    return embedded_digits() if data == EMBEDDED else read_images(find(data))


def metrics(seen: Sequence[Seen], classes: int) -> dict[str, float]:
    """The numbers that a run is compared by, for each form: `raw`, `dot`, `scaled` and `rbf`.

    `accuracy_FORM` is how often the strongest source has the target's class, `accuracy_FORM_margin` half its 95 %
    interval over draws; `brightest_FORM` how often it is the source of the largest norm; `entropy_FORM` that of a row
    in nats; `largest_FORM` the mean of a row's largest weight. `chance` is the accuracy of a guess.
    """
    found = {"chance": 1 / classes}
    for one in seen:
        accuracy = estimate(one.hits)
        found |= {
            f"accuracy_{one.form}": accuracy.mean,
            f"accuracy_{one.form}_margin": accuracy.margin,
            f"brightest_{one.form}": one.brightest,
            f"entropy_{one.form}": one.entropy,
            f"largest_{one.form}": one.largest,
        }
    return found
