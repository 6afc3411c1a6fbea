"""Commands that show what was attended to."""

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, app, people, say
from qkv.cli.runs import finished_run, verb
from qkv.errors import InputError

_LONGEST = 128  # tokens a side of a figure, past which it takes minutes to draw and no paper has room for it


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
    figure = shown.figure.overview(_LONGEST)
    if figure is not shown.figure:
        say(f"more than {_LONGEST} tokens: a cell of the figures is a block of them; the page has more")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        picture = draw.attention_png(figure, **look)
    people.print("\n".join(str(warning.message) for warning in warned), markup=False, end="\n" * bool(warned))
    written = {
        "page": files.write_text(
            stem.with_name(f"{stem.name}.html"),
            draw.attention_page(shown.maps, title=shown.text, caption=shown.caption, heads=shown.heads),
        ),
        "svg": files.write_text(stem.with_name(f"{stem.name}.svg"), draw.attention_svg(figure, **look)),
        "png": files.write_bytes(stem.with_name(f"{stem.name}.png"), picture),
    }
    paths = {kind: str(path) for kind, path in written.items()}
    say("\n".join(paths.values()))
    read = {"input": text} if second is None else {"input": text, "second": second}
    answer({**read, **shown.document, "figures": paths, "heads": shown.heads}, shown.text, as_json=as_json)


def _shown(path: Path, text: str, second: str | None, *, layer: int | None, head: int | None) -> tuple[Any, Path]:
    """What is to be shown of a run or of a published model, and the folder for its figures."""
    from qkv.recipes import pretrained

    if pretrained.is_published(path):
        # Such a folder is often shared, or a cache: what is made of it stays here.
        return pretrained.show(path, text, second, layer=layer, head=head), Path("shown", path.resolve().name)
    finished = finished_run(path)
    if second is not None:
        raise InputError("a run reads one text", expected="one", got="two", hint="the folder of a published BERT")
    return verb(finished, "show")(finished, text, layer=layer, head=head), finished.path / "shown"


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
