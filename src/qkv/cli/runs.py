"""Commands that run recipes, go on with runs, compare them and use them."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from qkv.cli.console import (
    AsJson,
    RunPath,
    answer,
    app,
    compare_app,
    free_path,
    parted,
    reporter,
    run_app,
    say,
    use_threads,
)
from qkv.errors import InputError
from qkv.recipes import RECIPES

Convert = Annotated[
    bool | None,
    Parameter(
        negative="", help="Of images: bring those of another size or in colour to the size and greys of the run."
    ),
]

for _name, _entry in RECIPES.items():
    # Loaded by name when it is asked for: a recipe's settings are its options, and reading them imports torch.
    run_app.command(f"{__name__}:run_{_name}", name=_name, help=_entry.summary)
    compare_app.command(f"{__name__}:run_{_name}", name=_name, help=f"Run the recipe {_name!r} several times first.")

# -- running ---------------------------------------------------------------------------------------------------------


def __getattr__(name: str) -> Callable[..., None]:
    recipe = name.removeprefix("run_")
    if recipe in RECIPES and recipe != name:
        return _runner(recipe)
    raise AttributeError(name)


def _runner(name: str) -> Callable[..., None]:
    """The command that runs the recipe `name`: its options are the fields of its configuration, and what it varies."""
    from pydantic import Field, create_model

    from qkv import recipes
    from qkv.recipes import base
    from qkv.train import compare as compare_runs

    recipe = recipes.load(name)
    kind: Any = recipe.CONFIG
    sweeps: dict[str, Any] = {
        option: (str | None, Field(None, description=f"Run with each of several {_option(field)}, parted by commas."))
        for option, field in recipe.VARIATIONS.items()
    }
    several: Any = create_model("Several", **sweeps)

    def command(
        *,
        config: Annotated[kind, Parameter(name="*")] = kind(),  # noqa: B008  # pyright: ignore - known when it runs
        preset: Annotated[str | None, Parameter(help=f"Settings by name: {', '.join(recipe.PRESETS)}.")] = None,
        seed: Annotated[int, Parameter(help="Decides all that is drawn: initial weights, the order of data.")] = 0,
        seeds: Annotated[int | None, Parameter(help="Run with so many seeds, from --seed on.")] = None,
        swept: Annotated[several, Parameter(name="*")] = several(),  # noqa: B008  # pyright: ignore - as above
        out: Annotated[Path | None, Parameter(help="Where to write; by default a new folder in runs/.")] = None,
        threads: Annotated[int | None, Parameter(help="Processor threads.")] = None,
        as_json: AsJson = False,
    ) -> None:
        use_threads(threads)
        chosen = config.model_dump(mode="json", exclude_unset=True)
        varied = {option: parted(values) for option, values in swept.model_dump(exclude_none=True).items()}
        with reporter() as report:
            if not varied and seeds is None:
                settled: Any = base.configure(recipe, chosen, preset)
                called = [name, *([settled.model] if hasattr(settled, "model") else []), f"seed{seed}"]
                where = out or free_path(Path("runs") / "-".join(called))
                run = base.run(recipe, name, chosen, seed=seed, out=where, preset=preset, reporter=report)
            else:
                where = out or free_path(Path("runs") / f"{name}-comparison")
                all_seeds = range(seed, seed + (1 if seeds is None else seeds))
                runs = base.sweep(
                    recipe, name, chosen, varied=varied, seeds=all_seeds, out=where, preset=preset, reporter=report
                )
                return _compared(compare_runs(runs), where, as_json=as_json)
        return answer(_run_document(run), _run_text(run), as_json=as_json)

    command.__doc__ = (
        f"{RECIPES[name].summary}\n\nDefaults below are those of the schema. A preset sets some of them; without "
        "--preset it is chosen by the model or the data, and config.json of the run tells all that was used."
    )
    return command


@app.command
def resume(
    run: RunPath,
    /,
    *,
    threads: Annotated[int | None, Parameter(help="Processor threads.")] = None,
    other_threads: Annotated[
        bool, Parameter(negative="", help="Go on although the number of threads is not the run's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that was stopped or killed, as if it never had been."""
    from qkv import recipes
    from qkv.train import RunFolder

    use_threads(threads)
    folder = RunFolder.open(run)
    if not folder.read().finished:
        with reporter() as report:
            recipes.load(folder.recipe).run(folder, report, other_threads=other_threads)
    finished = folder.finished()
    answer(_run_document(finished), _run_text(finished), as_json=as_json)


@compare_app.default
def compare(
    *runs: Annotated[Path, Parameter(help="Run folders, or folders that hold some.")],
    out: Annotated[Path, Parameter(help="The folder for the table and the chart.")] = Path("runs/comparison"),
    as_json: AsJson = False,
) -> None:
    """Put finished runs side by side: one table with 95 % intervals over seeds, one chart.

    `qkv compare translate --models rnn,transformer --seeds 3` trains them first.
    """
    from qkv.train import RunFolder
    from qkv.train import compare as compare_runs

    if not runs:
        raise InputError("no runs to compare", expected="run folders", hint="qkv compare runs/*")
    paths = [inner for path in runs for inner in _run_paths(path)]
    _compared(compare_runs([RunFolder.open(path).finished() for path in paths]), out, as_json=as_json)


def _run_paths(path: Path) -> list[Path]:
    """The run at `path`, or those in it."""
    if path.is_dir() and not (path / "config.json").exists():
        inner = sorted(config.parent for config in path.glob("*/config.json"))
        return inner if inner or (path / "comparison.json").exists() else [path]
    return [path]


# -- using what was trained ------------------------------------------------------------------------------------------


@app.command
def evaluate(
    run: RunPath,
    /,
    *,
    data: Annotated[str | None, Parameter(help="Other data: a named set or a file. By default the test part.")] = None,
    convert: Convert = None,
    as_json: AsJson = False,
) -> None:
    """Score a run on other data."""
    finished = finished_run(run)
    score = verb(finished, "evaluate")
    own = options_of(score, finished, convert=convert)
    with reporter() as report:
        document = score(finished, data, report, **own)
    answer(document, "\n".join(_metric_lines(document["metrics"])), as_json=as_json)


@app.command
def predict(
    run: RunPath,
    /,
    *,
    data: Annotated[
        str | None, Parameter(help="Inputs without targets: a file. A run on a graph has some of its own.")
    ] = None,
    out: Annotated[Path, Parameter(help="The file to write.")],
    convert: Convert = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's predictions for unlabelled data."""
    finished = finished_run(run)
    write = verb(finished, "predict")
    own = options_of(write, finished, convert=convert)
    if data is None and inspect.signature(write).parameters["data"].default is not None:
        raise InputError("nothing to predict", expected="--data FILE, inputs without targets")
    with reporter() as report:
        given = {} if data is None else {"data": data}
        document = write(finished, **given, out=out, reporter=report, **own)
    answer(document, str(out), as_json=as_json)


# -- helpers ---------------------------------------------------------------------------------------------------------


def finished_run(path: Path) -> Any:
    """The run in a folder, if it is finished."""
    from qkv.train import RunFolder

    return RunFolder.open(path).finished()


def verb(run: Any, name: Any) -> Callable[..., Any]:
    """What the recipe of a run calls `name`."""
    from qkv import recipes
    from qkv.recipes import base

    return base.verb(recipes.load(run.recipe), run, name)


def options_of(does: Callable[..., Any], run: Any, **options: Any) -> dict[str, Any]:
    """Those of `options` that were given, if what is done with a run (None for a published model) takes them."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in inspect.signature(does).parameters:
            whose = "a published model" if run is None else f"a run of {run.recipe}"
            hint = "a run of images" if name == "convert" else "a run of masked-lm"
            raise InputError(f"{whose} takes no {_option(name)}", hint=hint)
    return given


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _run_document(run: Any) -> dict[str, Any]:
    return {"run": str(run.path), "recipe": run.recipe, "seed": run.seed, **run.result}


def _metric_lines(metrics: dict[str, float]) -> list[str]:
    return [f"{name:<12} {value:.4f}" for name, value in metrics.items()]


def _run_text(run: Any) -> str:
    lines = [*_metric_lines(run.metrics), f"{'run':<12} {run.path}", f"{'report':<12} {run.path / 'report.html'}"]
    return "\n".join(lines)


def _compared(comparison: Any, out: Path, *, as_json: bool) -> None:
    from qkv.recipes import comparison as pages

    say("\n".join(map(str, pages.write(comparison, out))))
    answer(comparison.as_json(), pages.text(comparison), as_json=as_json)
