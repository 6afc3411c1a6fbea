"""Commands that look into word vectors: nearest words, analogies, scores on evaluation sets, other formats."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, say, vectors_app
from qkv.errors import InputError

VectorsName = Annotated[
    str, Parameter(help="A file of word vectors, a named set, or `docstrings`, which needs no file.")
]
Top = Annotated[int, Parameter(help="How many words.")]


@vectors_app.command
def nearest(
    vectors: VectorsName,
    *words: Annotated[str, Parameter(help="Words; each is looked up for itself.")],
    minus: Annotated[
        list[str] | None, Parameter(help="Words to take away; then one sum is looked up, the words less these.")
    ] = None,
    top: Top = 10,
    by: Annotated[Literal["cosine", "dot", "euclidean"], Parameter(help="What nearness is.")] = "cosine",
    as_json: AsJson = False,
) -> None:
    """Find the nearest words of each word, or of a sum of words.

    `qkv vectors nearest FILE king woman --minus man` looks up one sum, king + woman - man.
    """
    if not words:
        raise InputError("no word to look up", expected="one or more", hint="qkv vectors nearest docstrings array")
    known = opened(vectors)
    asked: list[Any] = [list(words)] if minus else list(words)
    found = [known.nearest(one, minus or (), top=top, by=by) for one in asked]
    document = {
        "vectors": vectors,
        "by": by,
        "queries": [
            {"positive": [one] if isinstance(one, str) else one, "negative": minus or [], "nearest": _plain(near)}
            for one, near in zip(asked, found, strict=True)
        ],
    }
    headings = [one if isinstance(one, str) else " + ".join(one) for one in asked]
    headings = [" - ".join([heading, *(minus or ())]) for heading in headings]
    text = "\n\n".join(_listed(heading, near) for heading, near in zip(headings, found, strict=True))
    answer(document, text, as_json=as_json)


@vectors_app.command
def distance(
    vectors: VectorsName,
    word: Annotated[str, Parameter(help="One word.")],
    other: Annotated[str, Parameter(help="Another.")],
    /,
    *,
    as_json: AsJson = False,
) -> None:
    """Tell how far two words are apart: one less the cosine, and the distance between the vectors themselves."""
    known = opened(vectors)
    found = {
        "cosine": float(known.distance(word, other, by="cosine")),
        "euclidean": float(known.distance(word, other, by="euclidean")),
    }
    text = "\n".join(f"{name:<10} {value:.4f}" for name, value in found.items())
    answer({"vectors": vectors, "words": [word, other], **found}, text, as_json=as_json)


@vectors_app.command
def analogy(
    vectors: VectorsName,
    a: Annotated[str, Parameter(help="Is to ...")],
    b: Annotated[str, Parameter(help="... this one, as ...")],
    c: Annotated[str, Parameter(help="... this one is to what is looked for.")],
    /,
    *,
    top: Top = 5,
    method: Annotated[
        Literal["3cosadd", "3cosmul"], Parameter(help="The largest sum of cosines, or their largest product.")
    ] = "3cosadd",
    as_json: AsJson = False,
) -> None:
    """Answer an analogy: `qkv vectors analogy FILE man king woman` asks what is to woman as king is to man."""
    found = opened(vectors).analogy(a, b, c, top=top, method=method)
    document = {"vectors": vectors, "question": [a, b, c], "method": method, "answers": _plain(found)}
    answer(document, _listed(f"{a} : {b} :: {c} : ?", found), as_json=as_json)


@vectors_app.command
def score(
    vectors: VectorsName,
    *sets: Annotated[str, Parameter(help="Evaluation sets: names or files. By default all that are on this machine.")],
    method: Annotated[Literal["3cosadd", "3cosmul"], Parameter(help="How analogies are answered.")] = "3cosadd",
    as_json: AsJson = False,
) -> None:
    """Score vectors on word similarities and analogies, with how much of each set they cover."""
    from qkv.data import find, present_word_sets
    from qkv.vectors import SimilarityScore, read_set
    from qkv.vectors import score as score_on

    judged = [read_set(find(name)) for name in sets or present_word_sets()]
    known = opened(vectors)
    metrics: dict[str, float | None] = {}
    details, lines = [], []
    for one in judged:
        got = score_on(known, one, method=method)
        value = got.spearman if isinstance(got, SimilarityScore) else got.accuracy
        metrics[got.name] = value
        kind = "spearman" if isinstance(got, SimilarityScore) else "accuracy"
        row = {"set": got.name, kind: value, "covered": got.covered, "size": got.size}
        lines.append(_score_line(got.name, value, kind, got.covered, got.size))
        if not isinstance(got, SimilarityScore):
            row["categories"] = [
                {"category": part.name, "accuracy": part.accuracy, "covered": part.covered, "size": part.size}
                for part in got.categories
            ]
            lines += [
                _score_line(f"  {part.name}", part.accuracy, kind, part.covered, part.size) for part in got.categories
            ]
        details.append(row)
    answer({"vectors": vectors, "metrics": metrics, "sets": details}, "\n".join(lines), as_json=as_json)


@vectors_app.command
def convert(
    vectors: VectorsName,
    out: Annotated[
        Path, Parameter(help="The file to write: .txt, .vec or .bin (also .gz, .zst after it), .npz, .safetensors.")
    ],
    /,
    *,
    as_json: AsJson = False,
) -> None:
    """Write vectors in another format: the ending says which. `.npz` opens at once."""
    known = opened(vectors)
    path = known.save(out)
    document = {"vectors": vectors, "out": str(path), "words": len(known), "dim": known.dim}
    answer(document, f"{path}: {len(known):,} words, {known.dim} dimensions", as_json=as_json)


def opened(name: str) -> Any:
    """The vectors of that name; what is left out of their file is told to people."""
    from qkv.recipes.word_vectors import open_vectors

    with _warnings_told():
        return open_vectors(name)


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Tells people of warnings, as they are worded."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    for warning in warned:
        say(str(warning.message))


def _plain(found: Any) -> list[dict[str, Any]]:
    return [{"word": word, "score": score} for word, score in found]


def _listed(heading: str, found: Any) -> str:
    width = max((len(word) for word, _ in found), default=0)
    return "\n".join([heading, *(f"  {word:<{width}}  {score:.4f}" for word, score in found)])


def _score_line(name: str, value: float | None, kind: str, covered: int, size: int) -> str:
    told = "      -" if value is None else f"{value:7.4f}"
    return f"{name:<32} {told} {kind:<9} {covered:>6,} of {size:>6,} covered ({covered / size:.1%})"
