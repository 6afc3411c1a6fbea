"""What all recipes share: how one is configured, run, resumed, and run many times over."""

import itertools
import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import BeforeValidator, ValidationError

from qkv.draw import Curve
from qkv.errors import InputError, StoppedError, unknown_name
from qkv.functional import head_statistics
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
    """What a model said, or read, and what was attended to on the way: every map, and the figure that tells most.

    `document` says the same as `text`, to programs; `heads` has a row of numbers for each head (see `attention_page`).
    `title` stands above the figure, where the text is too long for it.
    """

    text: str
    maps: Sequence[AttentionMap]
    figure: AttentionMap
    caption: str
    document: Json
    heads: Sequence[Json] = ()
    title: str = ""


@dataclass(frozen=True)
class Drawn:
    """What a model said, where nothing is attended to: a page and a figure.

    `document` says the same as `text`, to programs.
    """

    text: str
    page: str
    svg: str
    png: bytes
    document: Json


def attended(maps: Sequence[AttentionMap], *, layer: int | None, head: int | None) -> AttentionMap:
    """One head for a figure: the mean over all layers and heads, unless one is named.

    Raises:
        InputError: there is no such layer or head.
    """
    if layer is not None and not 0 <= layer < len(maps):
        raise InputError(f"no layer {layer}", expected=f"0 to {len(maps) - 1}", got=str(layer))
    chosen = maps if layer is None else [maps[layer]]
    figure = AttentionMap.mean_of([attention if head is None else attention.head(head) for attention in chosen])
    return figure if len(chosen) == 1 else replace(figure, layer=f"the mean of {len(chosen)} layers")


def head_table(maps: Sequence[AttentionMap], separators: Collection[str] = ()) -> list[Json]:
    """A row for each head: `layer`, which counts the maps, `head`, and its `head_statistics`.

    Args:
        maps: one a layer; those whose weights may be negative are no shares, and have no rows.
        separators: tokens that stand for none of the text, counted as such but where they come first.

    >>> one = AttentionMap(torch.eye(2)[None], "ab", "ab", "layers.0", "self", "captured", "softmax")
    >>> head_table([one])[0]["itself"]
    1.0
    """
    rows = []
    for layer, attention in enumerate(maps):
        if attention.signed:
            continue
        apart = torch.tensor([place > 0 and label in separators for place, label in enumerate(attention.key_labels)])
        statistics = head_statistics(attention.weights, apart if separators else None, kind=attention.kind)
        for head, values in enumerate(zip(*(column.tolist() for column in statistics.values()), strict=True)):
            rows.append({"layer": layer, "head": head, **dict(zip(statistics, values, strict=True))})
    return rows


@runtime_checkable
class Recipe(Protocol):
    """What every module of this room offers.

    Where runs leave something to use, it offers more, each of it found by `verb`:

    - `evaluate(run, data: str | None, reporter) -> Json`: scores on other data, or again on the test part.
    - `predict(run, data: str, out: Path, reporter) -> Json`: writes predictions for data without targets; where `data`
      may be None, as it is by default there, for what has none in the data of the run.
    - `show(run, text, *, layer: int | None, head: int | None) -> Shown | Drawn`: a prediction, and what was attended
      to. What else it takes by name is asked for by options of the same names.
    """

    CONFIG: type[Config]
    PRESETS: Mapping[str, Json]
    """Settings by name, each to be read over the defaults."""
    VARIATIONS: Mapping[str, str]
    """What a sweep may vary: the option's name, and the field that it sets."""

    def default_preset(self, config: Any) -> str:
        """The preset that fits the data of `config`."""
        ...

    def run(self, folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:
        """Does what the folder says, from its saved state where there is one; leaves result, report and weights."""
        ...


def verb(recipe: Recipe, run: Run, name: Literal["evaluate", "predict", "show"]) -> Callable[..., Any]:
    """What `recipe` offers to do with its runs under this name.

    Raises:
        InputError: its runs leave nothing to do that with.
    """
    if not hasattr(recipe, name):
        raise InputError(
            f"a run of {run.recipe} leaves nothing to {name}",
            expected="a run of a recipe that trains a model for it",
            hint=f"its report, {run.path / 'report.html'}",
            path=run.path,
        )
    return getattr(recipe, name)


def device() -> str:
    """The accelerator, if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _parted(given: Any) -> Any:
    """`["1,2", "3"]`, as options come, as `["1", "2", "3"]`; anything but text stays as it is."""
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, Sequence) and all(isinstance(text, str) for text in texts):
        return [part.strip() for text in texts for part in text.split(",")]
    return given


PARTED = BeforeValidator(_parted)
"""For settings of several values: on the command line they are parted by commas."""


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
    # A number is a place in a setting of several values, which are one option.
    field = "--" + ".".join(part for part in first["loc"] if isinstance(part, str)).replace("_", "-")
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
    """Runs a recipe into the new folder `out` and returns the finished run."""
    config = configure(recipe, chosen, preset)
    return _begin(recipe, name, config.model_dump(mode="json"), seed=seed, out=out, reporter=reporter)


def _begin(recipe: Recipe, name: str, config: Json, *, seed: int, out: Path, reporter: Reporter) -> Run:
    """Runs into a new folder; one whose input turns out unusable leaves nothing in its way."""
    folder = RunFolder.create(out, recipe=name, config=config, seed=seed)
    try:
        recipe.run(folder, reporter)
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
    """Runs every combination of the varied options with every seed, each into a folder of its own in `out`.

    A sweep that was stopped goes on when it is started again: runs that are finished are kept, one that is not is
    resumed.
    """
    for option in varied:
        if option not in recipe.VARIATIONS:
            raise unknown_name("option to vary", option, recipe.VARIATIONS)
    for option, values in (*varied.items(), ("seeds", seeds)):
        if not values:
            raise InputError(f"--{option} leaves nothing to run", expected="at least one")
    configs: dict[str, Json] = {}  # all of them before the first is run: a wrong name costs no hours
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
            try:
                runs.append(_begin_or_go_on(recipe, name, config, seed=seed, out=path, reporter=reporter))
            except StoppedError as error:
                raise StoppedError(error.problem, hint=f"the same command with --out {out}", path=path) from error
    return runs


def _begin_or_go_on(recipe: Recipe, name: str, config: Json, *, seed: int, out: Path, reporter: Reporter) -> Run:
    """Runs into `out`, from where a run with the same settings stands there."""
    if not (out / "config.json").exists():
        return _begin(recipe, name, config, seed=seed, out=out, reporter=reporter)
    folder = RunFolder.open(out)
    if folder.config != config or folder.seed != seed:
        raise InputError("a run with other settings stands here", hint="another --out", path=out)
    if not folder.read().finished:
        recipe.run(folder, reporter)
    return folder.finished()


def command(recipe: Recipe, name: str, folder: RunFolder) -> str:
    """The command that makes a run like this one: model and data, and what differs from their preset."""
    named = {field: folder.config[field] for field in ("model", "data") if field in folder.config}
    preset = flat(configure(recipe, named).model_dump(mode="json"))
    words = ["qkv", "run", name]
    for field, value in flat(folder.config).items():
        if field in named or value != preset[field]:
            *group, last = field.replace("_", "-").split(".")
            words.append("--" + ".".join([*group, f"no-{last}" if value is False else last]))
            if not isinstance(value, bool):
                words.append(",".join(map(str, value)) if isinstance(value, list) else str(value))
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


def loss_curves(run: Run, x: str = "step") -> list[Curve]:
    """Training and validation loss of a run against `step` or `seconds`."""
    model = run.config["model"]
    train, valid = ([line for line in run.history if line["part"] == part] for part in ("train", "valid"))
    return [
        Curve(model, [line[x] for line in train], [line["loss"] for line in train], "training"),
        Curve(model, [line[x] for line in valid], [line["loss"] for line in valid], "validation"),
    ]
