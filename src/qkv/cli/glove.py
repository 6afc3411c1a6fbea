"""Commands that make word vectors: counting which words stand together, and training on the counts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, parted, people, say, use_threads, vectors_app
from qkv.errors import InputError

Texts = Annotated[
    Path,
    Parameter(
        help="Files of text, folders of them, gzip and zstd too; or one npz file of n-grams, whose consecutive pairs "
        "are counted as they are. By default docstrings."
    ),
]
Packages = Annotated[
    str | None,
    Parameter(help="Of docstrings: installed packages beside Python's library, parted by commas; by default numpy."),
]
Threads = Annotated[int | None, Parameter(help="Processor threads.")]
Tokens = Annotated[
    Literal["words", "blanks"],
    Parameter(help="Runs of letters and digits of any script, or all that stands between blanks."),
]
Lower = Annotated[bool, Parameter(help="In lower case.")]
Documents = Annotated[Literal["lines", "running"], Parameter(help="Whether each line is a document, or a file is one.")]
MinCount = Annotated[int, Parameter(help="Leave out rarer words.")]
MaxWords = Annotated[int | None, Parameter(help="Keep at most so many words, the most frequent.")]
Window = Annotated[int, Parameter(help="How many words apart two words may stand.")]
Weighting = Annotated[
    Literal["harmonic", "flat"], Parameter(help="Each time counts the inverse of the distance, or one.")
]
Directional = Annotated[bool, Parameter(negative="", help="Count only what follows a word, not what precedes it.")]
MemoryMb = Annotated[
    int | None, Parameter(help="Megabytes of memory; what takes more is put on the disk. By default half of the free.")
]
Vocabulary = Annotated[
    Path | None,
    Parameter(help="Counts, or a file with a word a line, whose words are counted: such counts merge exactly."),
]


@vectors_app.command
def count(
    *texts: Texts,
    out: Annotated[Path, Parameter(help="The file to write, counts.npz.")],
    tokens: Tokens = "words",
    lower: Lower = True,
    documents: Documents = "lines",
    min_count: MinCount = 5,
    max_words: MaxWords = None,
    vocabulary: Vocabulary = None,
    window: Window = 15,
    weighting: Weighting = "harmonic",
    directional: Directional = False,
    memory_mb: MemoryMb = None,
    shards: Annotated[
        Path | None, Parameter(help="A folder to keep finished parts in: a count that was stopped goes on from there.")
    ] = None,
    packages: Packages = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Count how often words stand near one another in texts.

    `qkv vectors count part1.txt --vocabulary all.npz --out part1.npz` counts a part of a larger text; `train` takes
    several counts, and merges them.
    """
    use_threads(threads)
    if out.suffix != ".npz":
        raise InputError("counts are kept as npz", expected="--out with the ending .npz", got=str(out))
    counted = _counted(
        texts, packages, tokens=tokens, lower=lower, documents=documents, min_count=min_count, max_words=max_words,
        words=None if vocabulary is None else _words(vocabulary), window=window, weighting=weighting,
        symmetric=not directional, memory_mb=memory_mb, shards=shards,
    )  # fmt: skip
    written = counted.save(out)
    document = {"counts": str(written), **_sizes(counted)}
    answer(document, "\n".join(f"{name:<12} {value}" for name, value in document.items()), as_json=as_json)


@vectors_app.command
def train(
    *sources: Annotated[Path, Parameter(help="Texts as for `count`; or counts that it wrote, several of them merged.")],
    out: Annotated[Path, Parameter(help="The file of word vectors to write; its ending says which format.")],
    solver: Annotated[
        Literal["adagrad", "als"], Parameter(help="Descent count by count, or alternating least squares.")
    ] = "adagrad",
    dim: Annotated[int, Parameter(help="Numbers in a vector.")] = 50,
    epochs: Annotated[int | None, Parameter(help="Passes over all counts; by default 25 of adagrad, 6 of als.")] = None,
    x_max: Annotated[float, Parameter(help="Counts from here on weigh 1, smaller ones less.")] = 10.0,
    alpha: Annotated[float, Parameter(help="How fast the weight falls below --x-max.")] = 0.75,
    learning_rate: Annotated[float, Parameter(help="AdaGrad's first step.")] = 0.05,
    ridge: Annotated[float | None, Parameter(help="How als holds vectors small.")] = None,
    kind: Annotated[
        Literal["sum", "words", "contexts"], Parameter(help="The sum of word and context vectors, or one of them.")
    ] = "sum",
    seed: Annotated[int, Parameter(help="Decides the first vectors, and the order of counts.")] = 0,
    state: Annotated[
        Path | None, Parameter(help="A folder to keep what going on needs; by default one beside --out.")
    ] = None,
    tokens: Tokens = "words",
    lower: Lower = True,
    documents: Documents = "lines",
    min_count: MinCount = 5,
    max_words: MaxWords = None,
    window: Window = 15,
    weighting: Weighting = "harmonic",
    directional: Directional = False,
    memory_mb: MemoryMb = None,
    packages: Packages = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train word vectors by GloVe, from texts or counts.

    The same command goes on with a training that was stopped, to the same vectors, bit for bit.
    """
    import shutil

    from qkv.recipes.base import validated
    from qkv.vectors import Cooccurrence, GloveConfig, formats, train_glove

    use_threads(threads)
    given = {
        "solver": solver, "dim": dim, "epochs": epochs, "x_max": x_max, "alpha": alpha, "seed": seed,
        "learning_rate": learning_rate, "ridge": ridge,
    }  # fmt: skip
    config = validated(GloveConfig, {name: value for name, value in given.items() if value is not None})
    formats.ending_of(out)  # refused now, not after hours of training
    of_counts = [path.suffix == ".npz" for path in sources]
    if any(of_counts) and not all(of_counts):
        raise InputError(
            "texts and counts together", expected="texts, or counts (.npz)", hint="qkv vectors count first"
        )
    if any(of_counts):
        first, *others = map(Cooccurrence.load, sources)
        counted = first.merge(others) if others else first
    else:
        counted = _counted(
            sources, packages, tokens=tokens, lower=lower, documents=documents, min_count=min_count,
            max_words=max_words, window=window, weighting=weighting, symmetric=not directional, memory_mb=memory_mb,
        )  # fmt: skip
    kept = state or out.with_name(f"{out.name}.state")
    with _bar("training") as update:
        trained = train_glove(
            counted,
            config,
            state=kept,
            progress=lambda at: update(at.epoch, at.epochs, f"loss {at.loss:.5f}", f"epoch {at.epoch}: "),
        )
    written = trained.word_vectors(kind).save(out)
    if state is None:
        shutil.rmtree(kept, ignore_errors=True)
    document = {
        "vectors": str(written), **_sizes(counted), "config": config.model_dump(mode="json"),
        "history": trained.history, "metrics": {"loss": trained.history[-1]},
    }  # fmt: skip
    lines = {"vectors": written, "loss": f"{trained.history[-1]:.5f}", **_sizes(counted)}
    answer(document, "\n".join(f"{name:<12} {value}" for name, value in lines.items()), as_json=as_json)


def _counted(paths: tuple[Path, ...], packages: str | None, **options: Any) -> Any:
    """Counts texts, or docstrings where there are none; n-grams as they are."""
    from qkv.data import docstrings, read_ngrams
    from qkv.data.docstrings import PACKAGES
    from qkv.vectors import Cooccurrence, count_cooccurrence

    if paths and packages is not None:
        raise InputError("--packages beside texts", expected="one of them")
    texts: Any = paths
    if not paths:
        read = PACKAGES if packages is None else parted(packages)
        say(f"counting the docstrings of {', '.join(['Python', *read])}")
        texts = docstrings(read)
    if [path.suffix for path in paths] == [".npz"]:
        grams = read_ngrams(paths[0])
        counted = Cooccurrence.from_ngrams(grams.train, grams.words)
    else:
        with _bar("counting") as update:
            counted = count_cooccurrence(
                texts,
                **options,
                progress=lambda at: update(at.rows, at.total_rows, f"{at.entries:,} entries"),
            )
    say(f"{len(counted.words):,} words, {counted.entries:,} counts")
    return counted


def _words(path: Path) -> list[str]:
    """The words of a vocabulary: those of counts, or the first on each line."""
    from qkv.files import read_text_lines
    from qkv.vectors import Cooccurrence

    if path.suffix == ".npz":
        return Cooccurrence.load(path).words
    return [word for _, text in read_text_lines(path) for word in text.split()[:1]]


def _sizes(counted: Any) -> dict[str, int]:
    return {"words": len(counted.words), "tokens": int(counted.frequencies.sum()), "entries": counted.entries}


@contextmanager
def _bar(title: str) -> Iterator[Callable[..., None]]:
    """A bar on a terminal; elsewhere a line for what is worth one."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [TextColumn(title), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn()]
    bar = Progress(*columns, TimeRemainingColumn(), console=people, transient=True, disable=not people.is_terminal)
    task = bar.add_task(title, total=None, told="")

    def update(done: int, total: int, told: str, line: str = "") -> None:
        bar.update(task, completed=done, total=total, told=told)
        if line:
            say(line + told)

    with bar:
        yield update
