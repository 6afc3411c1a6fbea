"""What all recipes share: how one is configured, run, resumed, and run many times over."""

import itertools
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import ValidationError

from qkv.errors import InputError, unknown_name
from qkv.train import Progress, RunFolder, flat
from qkv.types import AttentionMap, Config, Json, Run


def _nothing(_: object) -> None:
    pass


@dataclass(frozen=True)
class Reporter:
    """Where a recipe says what it is doing: sentences, and the progress of training."""

    say: Callable[[str], None] = _nothing
    progress: Callable[[Progress], None] = _nothing


@dataclass(frozen=True)
class Shown:
    """A prediction and what was attended to on the way: every map, and the one figure that tells most."""

    text: str
    maps: Sequence[AttentionMap]
    figure: AttentionMap
    caption: str


@runtime_checkable
class Recipe(Protocol):
    """What every module of this room offers."""

    CONFIG: type[Config]
    PRESETS: Mapping[str, Json]
    """Settings by name, each to be read over the defaults."""
    VARIATIONS: Mapping[str, str]
    """What a sweep may vary: the option's name, and the field that it sets."""

    def default_preset(self, config: Any) -> str:
        """The preset that fits the data of `config`."""
        ...

    def train(self, folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:
        """Trains what the folder says, from its saved state where there is one; leaves weights, result and report."""
        ...

    def evaluate(self, run: Run, data: str | None, reporter: Reporter) -> Json:
        """Scores on other data, or again on the test part."""
        ...

    def predict(self, run: Run, data: str, out: Path, reporter: Reporter) -> Json:
        """Writes predictions for data without targets."""
        ...

    def show(self, run: Run, text: str, *, layer: int | None = None, head: int | None = None) -> Shown:
        """A prediction, and what was attended to."""
        ...


def configure(recipe: Recipe, chosen: Json, preset: str | None = None) -> Config:
    """The recipe's configuration: what was chosen, over the preset, over the defaults.

    Raises:
        InputError: an unknown preset or field, or a value that a field does not take.
    """
    name = preset or recipe.default_preset(validated(recipe.CONFIG, chosen))
    if name not in recipe.PRESETS:
        raise unknown_name("preset", name, recipe.PRESETS)
    return validated(recipe.CONFIG, _merged(recipe.PRESETS[name], chosen))


def validated(kind: type[Config], values: Json) -> Any:
    """`values` as a configuration, or an error in our own words."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> InputError:
    """What is wrong with the first field that pydantic refused."""
    first = error.errors(include_url=False)[0]
    field = "--" + ".".join(str(part) for part in first["loc"]).replace("_", "-")
    if first["type"] == "value_error" and isinstance(raised := first.get("ctx", {}).get("error"), InputError):
        return raised  # a rule over several fields, in its own words
    if first["type"] == "extra_forbidden":
        return InputError(f"unknown field {field}", hint="qkv run RECIPE --help, which lists the fields")
    if first["type"] == "literal_error":
        choices = [choice.strip("'") for choice in re.split(r", | or ", first.get("ctx", {})["expected"])]
        return unknown_name(field, str(first["input"]), choices)
    message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return InputError(f"{field} cannot be used", expected=message, got=repr(first["input"]))


def run(
    recipe: Recipe, name: str, chosen: Json, *, seed: int, out: Path, preset: str | None = None, reporter: Reporter
) -> Run:
    """Trains a recipe into the new folder `out` and returns the finished run."""
    config = configure(recipe, chosen, preset)
    return _begin(recipe, name, config.model_dump(mode="json"), seed=seed, out=out, reporter=reporter)


def _begin(recipe: Recipe, name: str, config: Json, *, seed: int, out: Path, reporter: Reporter) -> Run:
    """Trains into a new folder; one whose input turns out unusable leaves nothing in its way."""
    folder = RunFolder.create(out, recipe=name, config=config, seed=seed)
    try:
        recipe.train(folder, reporter)
    except InputError:
        folder.discard()
        raise
    return folder.finished()


def sweep(
    recipe: Recipe,
    name: str,
    chosen: Json,
    *,
    varied: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    out: Path,
    preset: str | None = None,
    reporter: Reporter,
) -> list[Run]:
    """Trains every combination of the varied options with every seed, each into a folder of its own in `out`.

    A sweep that was stopped goes on when it is started again: runs that are finished are kept, one that is not is
    resumed.
    """
    for option in varied:
        if option not in recipe.VARIATIONS:
            raise unknown_name("option to vary", option, recipe.VARIATIONS)
    for option, values in (*varied.items(), ("seeds", seeds)):
        if not values:
            raise InputError(f"--{option} leaves nothing to train", expected="at least one")
    configs: dict[str, Json] = {}  # all of them before the first is trained: a wrong name costs no hours
    for values in itertools.product(*varied.values()):
        settings = dict(zip(varied, values, strict=True))
        label = "-".join(value if key == "models" else f"{key}{value}" for key, value in settings.items())
        own = _merged(chosen, _nested({recipe.VARIATIONS[option]: value for option, value in settings.items()}))
        configs[label] = configure(recipe, own, preset).model_dump(mode="json")
    runs = []
    for label, config in configs.items():
        for seed in seeds:
            path = out / "-".join(part for part in (label, f"seed{seed}") if part)
            reporter.say(str(path))
            if not (path / "config.json").exists():
                runs.append(_begin(recipe, name, config, seed=seed, out=path, reporter=reporter))
                continue
            folder = RunFolder.open(path)
            if folder.config != config or folder.seed != seed:
                raise InputError("a run with other settings stands here", hint="another --out", path=path)
            if not folder.read().finished:
                recipe.train(folder, reporter)
            runs.append(folder.finished())
    return runs


def command(recipe: Recipe, name: str, folder: RunFolder) -> str:
    """The command that makes a run like this one: model and data, and what differs from their preset."""
    named = {field: folder.config[field] for field in ("model", "data") if field in folder.config}
    preset = flat(configure(recipe, named).model_dump(mode="json"))
    words = ["qkv", "run", name]
    for field, value in flat(folder.config).items():
        if field in named or value != preset[field]:
            *group, last = field.replace("_", "-").split(".")
            words.append("--" + ".".join([*group, f"no-{last}" if value is False else last]))
            words += [] if isinstance(value, bool) else [str(value)]
    return shlex.join([*words, "--seed", str(folder.seed)])


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Json:
    """`above` over `below`, field by field."""
    both = {key: _merged(below[key], above[key]) for key in below.keys() & above.keys() if isinstance(below[key], dict)}
    return {**below, **above, **both}


def _nested(fields: Mapping[str, Any]) -> Json:
    """`{"fit.epochs": 3}` as `{"fit": {"epochs": 3}}`."""
    nested: Json = {}
    for name, value in fields.items():
        first, _, rest = name.partition(".")
        nested = _merged(nested, {first: _nested({rest: value}) if rest else value})
    return nested
