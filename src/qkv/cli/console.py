"""What every command shares: the apps that commands are registered with, and how they speak.

People's output goes to standard error, answers to standard output.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

import qkv
from qkv.errors import InputError

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
vectors_app = App(
    name="vectors",
    help="Word vectors: count, train, look up, score, convert, map.",
    help_epilogue="""Examples:

  qkv vectors nearest docstrings array file thread         no file needed\n
  qkv vectors nearest vectors.txt king woman --minus man\n
  qkv vectors count books/ --out counts.npz\n
  qkv vectors train counts.npz --dim 100 --out vectors.npz\n
  qkv vectors map vectors.npz other.vec.gz                 side by side\n

Exit codes: 0 done, 2 the input was unusable.""",
)
check_app = App(
    name="check",
    help="Check mathematics: what is right, and where it first goes wrong.",
    help_epilogue="""Examples:

  qkv check worksheet homework.md                          the first wrong step, and what follows from it\n
  qkv check gradients code.py:loss                         which entries are wrong, and why\n
  qkv check gradients model.py:Net --html report.html      with maps of where\n
  qkv check parity code.py:MyLSTMCell torch.nn.LSTMCell    a layer beside a reference\n

Exit codes: 0 all agrees, 1 something is wrong, 2 the input was unusable.""",
)
app.command(run_app)
app.command(compare_app)
app.command(vectors_app)
app.command(check_app)

RunPath = Annotated[Path, Parameter(help="A run folder.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document on standard output.")]

people = Console(stderr=True, highlight=False, soft_wrap=True)


def answer(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Prints what a command found: the document for programs, the text for people."""
    sys.stdout.write((json.dumps(document, ensure_ascii=False, indent=2) if as_json else text.rstrip("\n")) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Tells people something, as it is."""
    people.print(text, markup=False)


def parted(written: str) -> list[str]:
    """The values of an option that are parted by commas."""
    return [value.strip() for value in written.split(",") if value.strip()]


def use_threads(threads: int | None) -> None:
    """Computes on so many processor threads, where a number is given."""
    import torch

    if threads is not None:
        if threads < 1:
            raise InputError("--threads is too small", expected="at least 1", got=str(threads))
        torch.set_num_threads(threads)


@contextmanager
def reporter() -> Iterator[Any]:
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
        told = f"{at.tokens_per_second:,.0f} {at.unit}/s, {_duration(at.seconds_left)} left"
        if at.loss is not None:
            told = f"loss {at.loss:.3f}, {told}"
        bar.update(task, completed=at.step, total=at.total_steps, told=told, visible=True)
        if at.valid_loss is not None and at.valid_loss != valid_loss:
            valid_loss = at.valid_loss
            say(f"step {at.step:,}, epoch {at.epoch}: validation loss {valid_loss:.4f}; {told}")

    with bar:
        yield Reporter(say, progress)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def free_path(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that is not there yet."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
