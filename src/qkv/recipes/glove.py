"""GloVe on a matrix that fits in memory: exact and by descent, asymmetric and symmetric, at many dimensions."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from qkv import files
from qkv.data.docstrings import PACKAGES
from qkv.errors import InputError
from qkv.recipes.base import PARTED, Reporter, command, validated
from qkv.recipes.glove_report import Drawn, report
from qkv.recipes.glove_sweep import (
    DOCSTRINGS,
    MODELS,
    Curves,
    Matrices,
    Model,
    Point,
    Solved,
    descents,
    direct,
    read_matrices,
    solve,
)
from qkv.train import RunFolder
from qkv.types import Config, Json
from qkv.vectors import WordVectors
from qkv.vectors.dense_glove import DELTA, DEVIATION, RATE, STEPS

DIMS = (1, 2, 5, 8, 10, 32, 64, 128)
SWEEP = (*DIMS, 256, 512, 1024, 2048, 4096)


class GloveConfig(Config):
    """Which counts, at which dimensions, how descent goes."""

    data: str = DOCSTRINGS
    """n-grams (npz), a text, a folder of texts, a named set such as `nlm-250`, or `docstrings`, which needs no file."""
    packages: Annotated[tuple[str, ...], PARTED] = PACKAGES
    """Of docstrings: installed packages, parted by commas, that are read beside Python's library."""
    dims: Annotated[tuple[PositiveInt, ...] | None, Field(min_length=1), PARTED] = None
    """Dimensions, parted by commas; by default eight from 1 to 128."""
    sweep: bool = False
    """Thirteen dimensions from 1 to 4,096."""
    target: Literal["directed", "symmetrised"] = "directed"
    """What models are led to: the logarithms as they are, or the mean of them and their transpose, as some course texts
    have it by mistake. Losses are those on the logarithms as they are."""
    delta: PositiveFloat = DELTA
    """Added to every count before the logarithm."""
    gradient: bool = True
    """Descend too; without it there are the exact solutions alone."""
    steps: NonNegativeInt = STEPS
    """Steps of descent."""
    rate: PositiveFloat = RATE
    """Learning rate of descent, which is divided by the number of words."""
    deviation: PositiveFloat = DEVIATION
    """Standard deviation of what descent begins with."""
    words: Annotated[int, Field(ge=3)] = 300
    """Of a text: so many of the most frequent words."""
    window: PositiveInt = 1
    """Of a text: how many of the words that follow are counted; 1 counts consecutive pairs, as n-grams do."""
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of a text: the share of its documents that validation has; halves have counts of like size."""

    @model_validator(mode="after")
    def _one_choice_of_dimensions(self) -> "GloveConfig":
        if self.sweep and self.dims is not None:
            raise InputError("--sweep and --dims both choose dimensions", expected="one of them")
        return self

    @property
    def dimensions(self) -> list[int]:
        return sorted(set(SWEEP if self.sweep else self.dims or DIMS))


CONFIG = GloveConfig
VARIATIONS: Mapping[str, str] = {"targets": "target", "deltas": "delta"}
PRESETS: Mapping[str, Json] = {"tiny": {"dims": [1, 2, 5], "words": 60, "steps": 50}, "default": {}}


def default_preset(config: GloveConfig) -> str:  # noqa: ARG001 - there is one
    return "default"


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:  # noqa: ARG001 - no state
    """Does what the folder's configuration says, from the beginning; leaves result, report and vectors."""
    config = validated(GloveConfig, folder.config)
    began = time.monotonic()
    matrices = read_matrices(
        config.data, packages=config.packages, delta=config.delta, words=config.words, window=config.window,
        valid_share=config.valid_share, seed=folder.seed,
    )  # fmt: skip
    reporter.say(matrices.told)
    symmetrised = config.target == "symmetrised"
    solved: dict[Model, Solved] = {model: solve(matrices, model, symmetrised=symmetrised) for model in MODELS}
    other = solve(matrices, "asymmetric", symmetrised=not symmetrised)
    directed, mistaken = (other, solved["asymmetric"]) if symmetrised else (solved["asymmetric"], other)
    points = [point for model in MODELS for point in solved[model].points(model, config.dimensions)]
    curves: list[Curves] = []
    if config.gradient:
        found, curves = descents(
            matrices, config.dimensions, symmetrised=symmetrised, steps=config.steps, rate=config.rate,
            deviation=config.deviation, seed=folder.seed, say=reporter.say,
        )  # fmt: skip
        points += found
    reporter.say("maps")
    drawn = draw_maps(folder, matrices, solved["asymmetric"])
    result = {
        "metrics": metrics(points, solved, directed, mistaken),
        "data": matrices.told,
        "points": [asdict(point) for point in points],
        "every_dim": {
            model: {"training": one.training.tolist(), "validation": one.validation.tolist()}
            for model, one in solved.items()
        },
        "descents": [asdict(curve) for curve in curves],
        "symmetrised": {"training": mistaken.training.tolist(), "validation": mistaken.validation.tolist()},
        "seconds": time.monotonic() - began,
    }
    told = command(sys.modules[__name__], "glove", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    page = report(replace(folder.read(), result=result), points, solved, curves, (directed, mistaken), drawn, told)
    files.write_text(folder.path / "report.html", page)
    folder.write_result(result)


def draw_maps(folder: RunFolder, matrices: Matrices, solved: Solved) -> Drawn | None:
    """Writes the vectors of the best dimension and those of two, and lays both out; None where there are too few."""
    words = list(matrices.words)
    best = WordVectors(words, solved.optima.at(solved.best).w.astype(np.float32))
    best.save(folder.path / "vectors.npz")
    plane = direct(solved.optima)
    if plane is None or len(words) < 3:
        return None
    flat = WordVectors(words, plane.w.astype(np.float32))
    flat.save(folder.path / "plane.npz")
    return Drawn.of(best, flat, matrices.frequencies, folder.seed)


def metrics(
    points: Sequence[Point], solved: Mapping[Model, Solved], directed: Solved, mistaken: Solved
) -> dict[str, float]:
    """The numbers that a run is compared by.

    For each model: `best_dim_MODEL`, the dimension of the lowest validation loss among those of the sweep, that loss
    as `validation_MODEL` and the training loss there as `training_MODEL`; the same of descent, if it was asked for,
    with the ending `_gradient`. `turn_MODEL` is the dimension past which validation losses of the optima are no longer
    lower, of all dimensions there are. `symmetric_floor` is the loss on training that no symmetric model passes.
    `symmetrised_cost` is by how much the training loss of the best asymmetric model grows where it is led to the
    symmetrised target.
    """
    found: dict[str, float] = {}
    for model in MODELS:
        for solver, ending in (("exact", ""), ("gradient", "_gradient")):
            some = [point for point in points if (point.model, point.solver) == (model, solver)]
            if some:
                best = min(some, key=lambda point: point.validation)
                found |= {
                    f"best_dim_{model}{ending}": float(best.dim),
                    f"validation_{model}{ending}": best.validation,
                    f"training_{model}{ending}": best.training,
                }
        found[f"turn_{model}"] = float(solved[model].best)
    dim = int(found["best_dim_asymmetric"])
    at = [one.training[min(dim, len(one.training) - 1)] for one in (mistaken, directed)]
    return found | {
        "symmetric_floor": float(solved["symmetric"].training[-1]),
        "symmetrised_cost": float(at[0] - at[1]),
    }
