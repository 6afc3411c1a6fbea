"""The command that draws maps of word vectors."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, say, vectors_app
from qkv.cli.vectors import VectorsName, opened
from qkv.errors import InputError


@vectors_app.command(name="map")
def draw_map(
    vectors: VectorsName,
    second: Annotated[str | None, Parameter(help="Other vectors, for a map of the same words beside it.")] = None,
    /,
    *,
    words: Annotated[int, Parameter(help="How many: those that come first, in most files the most frequent.")] = 1000,
    only: Annotated[
        str | None, Parameter(help="These words instead: a file with one a line, or words parted by commas.")
    ] = None,
    measure: Annotated[Literal["cosine", "euclidean"], Parameter(help="Which distance counts as near.")] = "cosine",
    perplexity: Annotated[
        float | None, Parameter(help="About how many neighbours stay near; 30, or fewer for fewer words.")
    ] = None,
    clusters: Annotated[int | None, Parameter(help="How many groups; by default up to 14.")] = None,
    seed: Annotated[int, Parameter(help="Decides where the search for the map begins.")] = 0,
    out: Annotated[Path | None, Parameter(help="Path of the figures, without ending.")] = None,
    as_json: AsJson = False,
) -> None:
    """Map words by t-SNE, what is near in the vectors near on the map: a page to zoom and search, SVG and PNG.

    Tells how many of each word's ten nearest the map keeps. Vectors of two dimensions are drawn as they are.
    """
    from qkv import draw, files
    from qkv.vectors.layout import overlap, word_map

    if out is not None and not out.name:
        raise InputError("--out is not the path of a figure", expected="a path without ending", got=str(out))
    known = [opened(name) for name in (vectors, second) if name is not None]
    chosen = _chosen(known, words, only)
    titles = [_title(name) for name in (vectors, second) if name is not None]
    maps = []
    for title, one in zip(titles, known, strict=True):
        say(f"{title}: laying out {len(chosen):,} words")
        maps.append(
            word_map(
                one.subset(chosen), title=title, measure=measure, perplexity=perplexity, clusters=clusters, seed=seed
            )
        )
    metrics: dict[str, Any] = {"neighbours_kept": [one.kept for one in maps]}
    lines = [f"{one.title}: {draw.word_map_facts(one)}" for one in maps]
    caption = ""
    if second is not None:
        metrics["overlap"] = overlap(*maps)
        near = maps[0].neighbours.shape[1]
        caption = (
            f"Of a word's {near} nearest on one map, {100 * metrics['overlap']:.0f} % are among its {near} nearest "
            f"on the other; of maps drawn blindly, {100 * near / (len(chosen) - 1):.0f} % would be."
        )
        lines.append(caption)
    stem = out or Path("maps", "-".join(titles))
    title = " and ".join(titles)
    written = {
        "page": files.write_text(
            stem.with_name(f"{stem.name}.html"), draw.word_map_page(maps, title=title, caption=caption)
        ),
        "svg": files.write_text(stem.with_name(f"{stem.name}.svg"), draw.word_map_svg(maps)),
        "png": files.write_bytes(stem.with_name(f"{stem.name}.png"), draw.word_map_png(maps)),
    }
    paths = {kind: str(path) for kind, path in written.items()}
    say("\n".join(paths.values()))
    document = {
        "words": len(chosen),
        "metrics": metrics,
        "maps": [
            {
                "title": one.title,
                "method": one.method,
                "clusters": [
                    {"name": name, "words": int((one.cluster == number).sum())}
                    for number, name in enumerate(one.cluster_names)
                ],
            }
            for one in maps
        ],
        "figures": paths,
    }
    answer(document, "\n".join(lines), as_json=as_json)


def _chosen(known: list[Any], count: int, only: str | None) -> list[str]:
    """The words to draw: those asked for, or the first ones that all vectors have."""
    if only is not None:
        return list(dict.fromkeys(_listed(only)))
    if count < 1:  # a slice would take it for "all but"
        raise InputError("--words is too small", expected="at least 3", got=str(count))
    first, *others = known
    both = [word for word in first.words if all(word in other for other in others)]
    if not both:
        raise InputError("the two have no word in common", hint="vectors of one language, both in lower case or not")
    return both[:count]


def _listed(only: str) -> list[str]:
    from qkv.files import read_text_lines

    if not os.path.isfile(only):
        return [word for word in only.replace(",", " ").split() if word]
    return [word.strip() for _, word in read_text_lines(only) if word.strip()]


def _title(name: str) -> str:
    """What vectors are called: their set, or their file without its endings."""
    return Path(name).name.split(".")[0] or name
