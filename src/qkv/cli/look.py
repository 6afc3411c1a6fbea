"""Commands that show what was attended to."""

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, app, people, say
from qkv.cli.runs import Convert, finished_run, options_of, verb
from qkv.errors import InputError

_LONGEST = 128  # tokens a side of a figure, past which it takes minutes to draw and no paper has room for it


@app.command
def show(
    run: Annotated[Path, Parameter(help="A run folder, or that of a published BERT.")],
    text: Annotated[str | None, Parameter(help="The input, in quotes.")] = None,
    second: Annotated[str | None, Parameter(help="A second text, to be read with the first.")] = None,
    /,
    *,
    layer: Annotated[
        int | None, Parameter(help="Attention of this layer alone, counted from 0 as on the page.")
    ] = None,
    head: Annotated[int | None, Parameter(help="Attention of this head alone, counted from 0.")] = None,
    style: Annotated[str, Parameter(help="The figure: `matrix` or `lines`.")] = "matrix",
    solid: Annotated[float, Parameter(help="Lines are solid from this part of their row's largest weight.")] = 0.8,
    dashed: Annotated[float, Parameter(help="Lines are dashed from this part of it, and not drawn below.")] = 0.25,
    absolute: Annotated[bool, Parameter(negative="", help="--solid and --dashed are weights themselves.")] = False,
    numbers: Annotated[bool | None, Parameter(help="Weights in the cells; by default where they fit.")] = None,
    monochrome: Annotated[bool, Parameter(negative="", help="Greys, for print.")] = False,
    context: Annotated[
        str | None, Parameter(help="Of masked-lm: tell which words followed these in training, and how often.")
    ] = None,
    samples: Annotated[int | None, Parameter(help="Of a causal model: so many texts are drawn; 5 by default.")] = None,
    length: Annotated[int | None, Parameter(help="Words drawn for each; 12 by default.")] = None,
    temperature: Annotated[
        float | None, Parameter(help="Near 0 the likeliest words are drawn, above 1 more surprises; 1 by default.")
    ] = None,
    top_k: Annotated[int | None, Parameter(help="Draw from so many of the likeliest words alone.")] = None,
    seed: Annotated[int | None, Parameter(help="Decides what is drawn; 0 by default.")] = None,
    convert: Convert = None,
    out: Annotated[Path | None, Parameter(help="Path of the figures, without ending.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict, and show what was attended to: a page that needs no network, SVG and PNG.

    `qkv show FOLDER "the first text" "the second"` looks into a model in the layout that the library transformers
    writes (config.json, tokenizer.json, model.safetensors), and tells what each of its heads does.

    `qkv show RUN "go to [MASK] school"` asks a run of masked-lm for the hidden word, `qkv show RUN --context "go to"`
    for what came next in training; `qkv show RUN "go to" --samples 5` lets a causal one go on.

    `qkv show RUN picture.png` asks a run of images for the class of a picture, `qkv show RUN 3` for that of an image of
    its test part, counted from 0.
    """
    from qkv import draw
    from qkv.recipes.base import Drawn

    if out is not None and not out.name:
        raise InputError("--out is not the path of a figure", expected="a path without ending", got=str(out))
    asked = {
        "context": context, "samples": samples, "length": length, "temperature": temperature, "top_k": top_k,
        "seed": seed, "convert": convert,
    }  # fmt: skip
    shown, folder = _shown(run, text, second, asked, layer=layer, head=head)
    stem = out or folder / _file_name(" ".join(part for part in (text, second, context) if part))
    given = {"input": text, "second": second}
    read = {name: value for name, value in given.items() if value is not None}
    if isinstance(shown, Drawn):
        paths = _write(stem, {"page": shown.page.encode(), "svg": shown.svg.encode(), "png": shown.png})
        return answer({**read, **shown.document, "figures": paths}, shown.text, as_json=as_json)
    look: dict[str, Any] = {
        "style": style, "solid": solid, "dashed": dashed, "absolute": absolute, "numbers": numbers,
        "monochrome": monochrome, "title": shown.title or shown.text,
    }  # fmt: skip
    figure = shown.figure.overview(_LONGEST)
    if figure is not shown.figure:
        say(f"more than {_LONGEST} tokens: a cell of the figures is a block of them; the page has more")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        picture = draw.attention_png(figure, **look)
    people.print("\n".join(str(warning.message) for warning in warned), markup=False, end="\n" * bool(warned))
    page = draw.attention_page(
        shown.maps, title=shown.title or shown.text, caption=shown.caption, heads=shown.heads, figure=shown.figure
    )
    svg = draw.attention_svg(figure, **look)
    paths = _write(stem, {"page": page.encode(), "svg": svg.encode(), "png": picture})
    return answer({**read, **shown.document, "figures": paths, "heads": shown.heads}, shown.text, as_json=as_json)


def _write(stem: Path, contents: dict[str, bytes]) -> dict[str, str]:
    """Writes page and figures, and says where."""
    from qkv import files

    endings = {"page": "html"}
    paths = {
        kind: str(files.write_bytes(stem.with_name(f"{stem.name}.{endings.get(kind, kind)}"), made))
        for kind, made in contents.items()
    }
    say("\n".join(paths.values()))
    return paths


def _shown(
    path: Path, text: str | None, second: str | None, own: dict[str, Any], *, layer: int | None, head: int | None
) -> tuple[Any, Path]:
    """What is to be shown of a run or of a published model, and the folder for its figures.

    Args:
        own: options that not every recipe takes, None where they were not given.
    """
    from qkv.recipes import pretrained

    finished = None if pretrained.is_published(path) else finished_run(path)
    show_it: Callable[..., Any] = pretrained.show if finished is None else verb(finished, "show")
    taken = inspect.signature(show_it).parameters
    own = options_of(show_it, finished, **own)
    if text is None and "context" not in taken:
        raise InputError("there is nothing to read", expected="a text, in quotes")
    if finished is None:
        # Such a folder is often shared, or a cache: what is made of it stays here.
        return show_it(path, text, second, layer=layer, head=head), Path("shown", path.resolve().name)
    if second is not None:
        raise InputError("a run reads one text", expected="one", got="two", hint="the folder of a published BERT")
    return show_it(finished, text, layer=layer, head=head, **own), finished.path / "shown"


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
        say(str(files.write_text(out, written)))
    text = written if out is None else "\n".join(map(str, worked.observations))
    answer(steps.document(worked, found.missing), text, as_json=as_json)


def _file_name(text: str) -> str:
    """A short name for the figures of an input."""
    words = "".join(character if character.isalnum() else " " for character in text.lower()).split()
    return "-".join(words)[:60].rstrip("-") or "input"
