"""The command line: parse, call, print. People's output goes to standard error, answers to standard output.

Only what a command needs is imported, when it runs: `qkv --help` loads no torch.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

import qkv
from qkv.errors import InputError, QkvError
from qkv.recipes import RECIPES

app = App(
    name="qkv",
    version=qkv.__version__,
    help="Attention and representation learning on PyTorch: build it, train it, see it, check it.",
    help_epilogue="""Examples:

  qkv run translate                          train on the embedded default, about a minute\n
  qkv show runs/translate-transformer-seed0 "deux cent trente-quatre"\n
  qkv explain "the key of the dictionary"      every step of attention, with its numbers\n
  qkv run translate --data pairs.tsv --models rnn,rnn-attention,transformer --seeds 3\n

Exit codes: 0 done, 1 a check found something wrong, 2 the input was unusable.""",
)
run_app = App(name="run", help="Run a recipe: `qkv run RECIPE --help` lists its settings.")
compare_app = App(name="compare", help="Put runs side by side: one table with 95 % intervals, one chart.")
app.command(run_app)
app.command(compare_app)
for _name, _entry in RECIPES.items():
    # Loaded by name when it is asked for: a recipe's settings are its options, and reading them imports torch.
    run_app.command(f"qkv.cli:run_{_name}", name=_name, help=_entry.summary)
    compare_app.command(f"qkv.cli:run_{_name}", name=_name, help=f"Run the recipe {_name!r} several times first.")

RunPath = Annotated[Path, Parameter(help="A run folder.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document on standard output.")]

people = Console(stderr=True, highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 1 a check found something wrong, 2 the input was unusable."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except QkvError as error:
        _refuse(str(error))
    except CycloptsError as error:
        _refuse(_parse_problem(error))
    except KeyboardInterrupt:
        _refuse("stopped")
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _refuse(message: str) -> NoReturn:
    people.print("[bold red]qkv:[/] ", end="")
    people.print(message, markup=False)
    sys.exit(2)


def _parse_problem(error: CycloptsError) -> str:
    from pydantic import ValidationError

    cause = error.__cause__
    if isinstance(cause, ValidationError):
        from qkv.recipes.base import invalid

        return str(invalid(cause))
    return " ".join(str(error).split())


def _answer(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Prints what a command found: the document for programs, the text for people."""
    sys.stdout.write((json.dumps(document, ensure_ascii=False, indent=2) if as_json else text.rstrip("\n")) + "\n")
    sys.stdout.flush()


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
        _use_threads(threads)
        chosen = config.model_dump(mode="json", exclude_unset=True)
        varied = {
            option: [value.strip() for value in values.split(",") if value.strip()]
            for option, values in swept.model_dump(exclude_none=True).items()
        }
        with _reporter() as reporter:
            if not varied and seeds is None:
                settled: Any = base.configure(recipe, chosen, preset)
                called = [name, *([settled.model] if hasattr(settled, "model") else []), f"seed{seed}"]
                where = out or _free(Path("runs") / "-".join(called))
                run = base.run(recipe, name, chosen, seed=seed, out=where, preset=preset, reporter=reporter)
            else:
                where = out or _free(Path("runs") / f"{name}-comparison")
                all_seeds = range(seed, seed + (1 if seeds is None else seeds))
                runs = base.sweep(
                    recipe, name, chosen, varied=varied, seeds=all_seeds, out=where, preset=preset, reporter=reporter
                )
                return _compared(compare_runs(runs), where, as_json=as_json)
        return _answer(_run_document(run), _run_text(run), as_json=as_json)

    command.__doc__ = f"{RECIPES[name].summary}\n\nDefaults are those of the schema; a preset sets some of them."
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

    _use_threads(threads)
    folder = RunFolder.open(run)
    if not folder.read().finished:
        with _reporter() as reporter:
            recipes.load(folder.recipe).run(folder, reporter, other_threads=other_threads)
    finished = folder.finished()
    _answer(_run_document(finished), _run_text(finished), as_json=as_json)


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
    as_json: AsJson = False,
) -> None:
    """Score a run on other data."""
    finished = _finished(run)
    score = _verb(finished, "evaluate")
    with _reporter() as reporter:
        document = score(finished, data, reporter)
    _answer(document, "\n".join(_metric_lines(document["metrics"])), as_json=as_json)


@app.command
def predict(
    run: RunPath,
    /,
    *,
    data: Annotated[str, Parameter(help="Inputs without targets: a file, one a line.")],
    out: Annotated[Path, Parameter(help="The file to write.")],
    as_json: AsJson = False,
) -> None:
    """Write a run's predictions for unlabelled data."""
    finished = _finished(run)
    write = _verb(finished, "predict")
    with _reporter() as reporter:
        document = write(finished, data, out, reporter)
    _answer(document, str(out), as_json=as_json)


@app.command
def show(
    run: Annotated[Path, Parameter(help="A run folder, or that of a published BERT.")],
    text: Annotated[str, Parameter(help="The input, in quotes.")],
    second: Annotated[str | None, Parameter(help="A second text, to be read with the first.")] = None,
    /,
    *,
    layer: Annotated[int | None, Parameter(help="Attention of this layer alone, counted from 0.")] = None,
    head: Annotated[int | None, Parameter(help="Attention of this head alone, counted from 0.")] = None,
    style: Annotated[str, Parameter(help="The figure: `matrix` or `lines`.")] = "matrix",
    solid: Annotated[float, Parameter(help="Lines are solid from this part of their row's largest weight.")] = 0.8,
    dashed: Annotated[float, Parameter(help="Lines are dashed from this part of it, and not drawn below.")] = 0.25,
    absolute: Annotated[bool, Parameter(negative="", help="--solid and --dashed are weights themselves.")] = False,
    numbers: Annotated[bool | None, Parameter(help="Weights in the cells; by default where they fit.")] = None,
    monochrome: Annotated[bool, Parameter(negative="", help="Greys, for print.")] = False,
    out: Annotated[Path | None, Parameter(help="Path of the figures, without ending.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict, and show what was attended to: a page that needs no network, SVG and PNG.

    `qkv show FOLDER "the first text" "the second"` looks into a model in the layout that the library transformers
    writes (config.json, tokenizer.json, model.safetensors), and tells what each of its heads does.
    """
    from qkv import draw, files

    if out is not None and not out.name:
        raise InputError("--out is not the path of a figure", expected="a path without ending", got=str(out))
    shown, folder = _shown(run, text, second, layer=layer, head=head)
    stem = out or folder / _file_name(f"{text} {second or ''}")
    look: dict[str, Any] = {
        "style": style, "solid": solid, "dashed": dashed, "absolute": absolute, "numbers": numbers,
        "monochrome": monochrome, "title": shown.text,
    }  # fmt: skip
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        picture = draw.attention_png(shown.figure, **look)
    people.print("\n".join(str(warning.message) for warning in warned), markup=False, end="\n" * bool(warned))
    written = {
        "page": files.write_text(
            stem.with_name(f"{stem.name}.html"),
            draw.attention_page(shown.maps, title=shown.text, caption=shown.caption, heads=shown.heads),
        ),
        "svg": files.write_text(stem.with_name(f"{stem.name}.svg"), draw.attention_svg(shown.figure, **look)),
        "png": files.write_bytes(stem.with_name(f"{stem.name}.png"), picture),
    }
    paths = {kind: str(path) for kind, path in written.items()}
    people.print("\n".join(paths.values()), markup=False)
    read = {"input": text} if second is None else {"input": text, "second": second}
    _answer({**read, **shown.document, "figures": paths, "heads": shown.heads}, shown.text, as_json=as_json)


def _shown(path: Path, text: str, second: str | None, *, layer: int | None, head: int | None) -> tuple[Any, Path]:
    """What is to be shown of a run or of a published model, and the folder for its figures."""
    from qkv.recipes import pretrained

    if pretrained.is_published(path):
        # Such a folder is often shared, or a cache: what is made of it stays here.
        return pretrained.show(path, text, second, layer=layer, head=head), Path("shown", path.resolve().name)
    finished = _finished(path)
    if second is not None:
        raise InputError("a run reads one text", expected="one", got="two", hint="the folder of a published BERT")
    return _verb(finished, "show")(finished, text, layer=layer, head=head), finished.path / "shown"


@app.command
def explain(
    sentence: Annotated[str | None, Parameter(help="The words that ask, in quotes.")] = None,
    /,
    *,
    against: Annotated[str | None, Parameter(help="The words that are asked; the sentence itself by default.")] = None,
    vectors: Annotated[
        str, Parameter(help="A file of word vectors, a named set, or `docstrings`, which needs no file.")
    ] = "docstrings",
    unknown: Annotated[
        Literal["drop", "zero", "stop"], Parameter(help="What becomes of words without a vector.")
    ] = "drop",
    matrices: Annotated[
        Path | None, Parameter(help="JSON with any of query, key, value; x and y, where they are the inputs.")
    ] = None,
    query_key: Annotated[
        Literal["none", "random", "learned", "given"] | None,
        Parameter(help="Where query and key matrices come from; by default from --matrices, if it has them."),
    ] = None,
    width: Annotated[int, Parameter(help="Of queries and keys that are random or learned.")] = 8,
    word: Annotated[str | None, Parameter(help="Learned for this word, or position; the last by default.")] = None,
    to: Annotated[str | None, Parameter(help="To attend to this one; the least similar by default.")] = None,
    scale: Annotated[bool, Parameter(help="Divide scores by the root of their width.")] = True,
    seed: Annotated[int, Parameter(help="Decides what is drawn.")] = 0,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["terminal", "markdown", "latex", "html"], Parameter(help="How the steps are written.")
    ] = "terminal",
    entries: Annotated[int, Parameter(help="How many entries of a vector are written; --json has all.")] = 8,
    out: Annotated[Path | None, Parameter(help="A file to write instead of standard output.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain attention on a sentence: every step with its numbers, and what is to be seen in them.

    `qkv explain "the cat sat" --against "le chat" --vectors FILE` asks with one and answers with the other.
    """
    from qkv import files
    from qkv.draw import steps as drawn
    from qkv.recipes import explain as steps
    from qkv.recipes.explain_inputs import read_given, setting

    if entries < 1:
        raise InputError("--entries is too small", expected="at least 1", got=str(entries))
    given = None if matrices is None else read_given(matrices)
    found = setting(
        sentence, against=against, vectors=vectors, unknown=unknown, given=given, query_key=query_key, width=width,
        word=word, to=to, seed=seed,
    )  # fmt: skip
    trace = steps.attend(found.x, found.y, found.matrices, scaled=scale)
    title = sentence or "Attention, step by step"
    worked = steps.worked(trace, found.x, found.y, title=title, notes=found.notes)
    written = {
        "terminal": drawn.worked_text, "markdown": drawn.worked_markdown,
        "latex": drawn.worked_latex, "html": drawn.worked_page,
    }[format](worked, entries=entries)  # fmt: skip
    if out is not None:
        people.print(str(files.write_text(out, written)), markup=False)
    text = written if out is None else "\n".join(map(str, worked.observations))
    _answer(steps.document(worked, found.missing), text, as_json=as_json)


# -- looking around --------------------------------------------------------------------------------------------------


@app.command(name="recipes")
def list_recipes(*, as_json: AsJson = False) -> None:
    """List what can be run, one line each."""
    from dataclasses import asdict

    document = {"recipes": {name: asdict(entry) for name, entry in RECIPES.items()}}
    lines = [f"{name:<12} {entry.summary} Default data: {entry.default_data}." for name, entry in RECIPES.items()]
    _answer(document, "\n".join(lines), as_json=as_json)


@app.command
def doctor(*, as_json: AsJson = False) -> None:
    """Tell what is installed, what is missing, and how to mend it."""
    from qkv.doctor import examine

    findings = examine()
    marks = {"good": "ok  ", "missing": "--  ", "broken": "!!  "}
    lines = [
        f"{marks[found.state]}{found.name:<22} {found.detail}" + (f"  ->  {found.mend}" if found.mend else "")
        for found in findings
    ]
    _answer({"findings": [vars(found) for found in findings]}, "\n".join(lines), as_json=as_json)
    if any(found.state == "broken" for found in findings):
        sys.exit(1)


# -- helpers ---------------------------------------------------------------------------------------------------------


def _finished(path: Path) -> Any:
    from qkv.train import RunFolder

    return RunFolder.open(path).finished()


def _verb(run: Any, name: Any) -> Callable[..., Any]:
    from qkv import recipes
    from qkv.recipes import base

    return base.verb(recipes.load(run.recipe), run, name)


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _use_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        if threads < 1:
            raise InputError("--threads is too small", expected="at least 1", got=str(threads))
        torch.set_num_threads(threads)


@contextmanager
def _reporter() -> Iterator[Any]:
    """Says what a recipe does on standard error: a bar with the time left, plain lines where there is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from qkv.recipes.base import Reporter
    from qkv.train import Progress as Reached

    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn()]
    bar = Progress(*columns, console=people, transient=True, disable=not people.is_terminal)
    task = bar.add_task("training", total=None, told="", visible=False)
    valid_loss: float | None = None

    def progress(at: Reached) -> None:
        nonlocal valid_loss
        told = f"{at.tokens_per_second:,.0f} tokens/s, {_duration(at.seconds_left)} left"
        if at.loss is not None:
            told = f"loss {at.loss:.3f}, {told}"
        bar.update(task, completed=at.step, total=at.total_steps, told=told, visible=True)
        if at.valid_loss is not None and at.valid_loss != valid_loss:
            valid_loss = at.valid_loss
            say(f"step {at.step:,}, epoch {at.epoch}: validation loss {valid_loss:.4f}; {told}")

    def say(text: str) -> None:
        people.print(text, markup=False)

    with bar:
        yield Reporter(say, progress)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _free(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that is not there yet."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _file_name(text: str) -> str:
    """A short name for the figures of an input."""
    words = "".join(character if character.isalnum() else " " for character in text.lower()).split()
    return "-".join(words)[:60].rstrip("-") or "input"


def _run_document(run: Any) -> dict[str, Any]:
    return {"run": str(run.path), "recipe": run.recipe, "seed": run.seed, **run.result}


def _metric_lines(metrics: dict[str, float]) -> list[str]:
    return [f"{name:<12} {value:.4f}" for name, value in metrics.items()]


def _run_text(run: Any) -> str:
    lines = [*_metric_lines(run.metrics), f"{'run':<12} {run.path}", f"{'report':<12} {run.path / 'report.html'}"]
    return "\n".join(lines)


def _compared(comparison: Any, out: Path, *, as_json: bool) -> None:
    from qkv.recipes import comparison as pages

    people.print("\n".join(map(str, pages.write(comparison, out))), markup=False)
    _answer(comparison.as_json(), pages.text(comparison), as_json=as_json)
