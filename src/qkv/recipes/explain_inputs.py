"""What `qkv explain` starts from: sentences or vectors, and matrices that are given, drawn at random or learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from qkv import files
from qkv.errors import DataError, InputError
from qkv.recipes.contextualize_search import ascend
from qkv.recipes.explain import Matrices
from qkv.recipes.word_vectors import DOCSTRINGS, embedded
from qkv.vectors import EmbeddedSentence, Unknown

QueryKey = Literal["none", "random", "learned", "given"]


@dataclass(frozen=True)
class Given:
    """What a file of matrices holds: projections, and inputs where it has its own."""

    matrices: Matrices
    x: EmbeddedSentence | None = None
    y: EmbeddedSentence | None = None


def read_given(path: str | Path) -> Given:
    """Reads a JSON object with any of `query`, `key` and `value`, which are matrices as lists of rows.

    It may bring the inputs too: `x`, whose rows ask, with `x_tokens`, and `y`, whose rows are asked, with `y_tokens`.

    Raises:
        DataError: not such a file.
    """
    document = files.read_json(path)
    fields = ("x", "x_tokens", "y", "y_tokens", "query", "key", "value")
    if not isinstance(document, dict) or not document or not document.keys() <= set(fields):
        got = ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        raise DataError(
            "not a file of matrices", expected=f"an object with any of {', '.join(fields)}", got=got, path=path
        )
    matrices = Matrices(*(_matrix(document, name, path) for name in ("query", "key", "value")))
    return Given(matrices, _inputs(document, "x", path), _inputs(document, "y", path))


def _matrix(document: Mapping[str, Any], name: str, path: str | Path) -> Tensor | None:
    if name not in document:
        return None
    try:
        matrix = torch.tensor(document[name], dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # not numbers, or rows of different lengths
        raise DataError(
            f"{name} is not a matrix ({error})", expected="rows of equally many numbers", path=path
        ) from error
    if matrix.dim() != 2 or not matrix.numel() or not bool(matrix.isfinite().all()):
        raise DataError(
            f"{name} is not a matrix",
            expected="rows of equally many finite numbers",
            got=f"shape {tuple(matrix.shape)}",
            path=path,
        )
    return matrix


def _inputs(document: Mapping[str, Any], name: str, path: str | Path) -> EmbeddedSentence | None:
    vectors, tokens = _matrix(document, name, path), document.get(f"{name}_tokens")
    if vectors is None:
        if tokens is not None:
            raise DataError(f"{name}_tokens without {name}", expected="a vector for each token", path=path)
        return None
    words = [f"{name}{place}" for place in range(1, len(vectors) + 1)] if tokens is None else tokens
    if not isinstance(words, list) or len(words) != len(vectors) or not all(isinstance(word, str) for word in words):
        raise DataError(
            f"{name}_tokens do not fit {name}",
            expected=f"a list of {len(vectors)} texts",
            got=f"{len(words)}" if isinstance(words, list) else type(words).__name__,
            path=path,
        )
    return EmbeddedSentence(words, vectors)


@dataclass(frozen=True)
class Setting:
    """All that an explanation starts from; `notes` tell how it came about."""

    x: EmbeddedSentence
    y: EmbeddedSentence | None
    matrices: Matrices
    missing: Sequence[str]
    notes: Sequence[str]


def setting(
    sentence: str | None = None,
    *,
    against: str | None = None,
    vectors: str = DOCSTRINGS,
    unknown: Unknown = "drop",
    given: Given | None = None,
    query_key: QueryKey | None = None,
    width: int = 8,
    word: str | None = None,
    to: str | None = None,
    seed: int = 0,
) -> Setting:
    """Reads and draws what was asked for.

    Args:
        sentence: its words ask; where left out, `given` has the inputs.
        against: its words are asked; those of `sentence` itself where left out.
        vectors, unknown: as in `embedded`.
        given: what a file of matrices holds.
        query_key: where query and key matrices come from; `given` where a file has them, else `none`. `learned` ones
            are found by gradient ascent on the weight of `to` in the row of `word`.
        width: of queries and keys that are drawn or learned.
        word: which word asks, or its position; the last one where left out.
        to: which word is aimed at, or its position; the one least similar to `word` where left out.
        seed: decides what is drawn.

    Raises:
        InputError: no inputs or twice those, matrices asked for that are not given, a word that is not there.
        DataError: vectors that cannot be read.
    """
    given = given or Given(Matrices())
    x, y = _gathered(sentence, against, vectors, unknown, given)
    missing = list(dict.fromkeys([*x.missing, *(y.missing if y else ())]))
    notes = [f"No vector for {', '.join(missing)}: {_UNKNOWN_TOLD[unknown]}."] if missing else []
    has = given.matrices.query is not None or given.matrices.key is not None
    query_key = query_key or ("given" if has else "none")
    if (query_key == "given") != has:
        raise InputError(
            "query and key matrices are both given and to be made" if has else "no query or key matrix is given",
            expected="--matrices with them for --query-key given, and for it alone",
            got=f"--query-key {query_key}",
        )
    if width < 1:
        raise InputError("--width is too small", expected="at least 1", got=str(width))
    if (word is not None or to is not None) and query_key != "learned":
        raise InputError(
            "--word and --to say what is learned", got=f"--query-key {query_key}", hint="--query-key learned"
        )
    generator = torch.Generator().manual_seed(seed)
    asked, matrices = (x if y is None else y), given.matrices
    if query_key == "random":
        drawn = Matrices.random(x.vectors.shape[1], asked.vectors.shape[1], width, generator)
        matrices = replace(drawn, value=matrices.value)
        notes.append(f"Query and key matrices: random, {width} wide, entries normal with variance 1/d, seed {seed}.")
    elif query_key == "learned":
        row = len(x.words) - 1 if word is None else x.position(word)
        query = x.vectors[row]
        target = int((asked.vectors @ query).argmin()) if to is None else asked.position(to)
        aim = (asked.vectors == asked.vectors[target]).all(dim=1)
        found = ascend(query, asked.vectors, aim, width=width, steps=_STEPS, generator=generator)
        matrices = replace(found.matrices, value=matrices.value)
        notes.append(
            f"Query and key matrices: learned, {width} wide, to send “{x.labels[row]}” to “{asked.labels[target]}”; "
            f"gradient ascent from seed {seed} reached {found.weight:.6f} in {found.steps} steps."
        )
    return Setting(x, y, matrices, missing, notes)


_STEPS = 5_000
_UNKNOWN_TOLD: Mapping[Unknown, str] = {"drop": "left out", "zero": "a vector of zeros in its place", "stop": ""}


def _gathered(
    sentence: str | None, against: str | None, vectors: str, unknown: Unknown, given: Given
) -> tuple[EmbeddedSentence, EmbeddedSentence | None]:
    if (sentence is None) == (given.x is None) or (against is not None and given.y is not None):
        raise InputError(
            "there is nothing to explain" if sentence is None else "there are inputs twice",
            expected="a sentence, or x in the file of matrices",
            got="neither" if sentence is None else "both",
        )
    texts = [text for text in (sentence, against) if text is not None]
    found = iter(embedded(texts, vectors, unknown=unknown) if texts else ())
    x, y = (next(found) if text is not None else own for text, own in ((sentence, given.x), (against, given.y)))
    assert x is not None
    if y is not None and y.vectors.shape[1] != x.vectors.shape[1] and given.matrices == Matrices():
        raise InputError(
            "x and y differ in width",
            expected="vectors of one width, or query and key matrices that bring them to one",
            got=f"{x.vectors.shape[1]} and {y.vectors.shape[1]}",
        )
    return x, y
