"""Word vectors: exact nearest words, loading of GloVe text and opening of what was saved, beside faiss and gensim.

    python benchmarks/vectors.py --peers DIR [--vectors glove-6b-50d] [--threads 2] [--rounds 5] [--json]

The vectors are repeated to 400,000 rows, each copy with seeded noise. The peers are those of
`pip install --target DIR faiss-cpu gensim`. Exits with 1 where a bar is missed, or where answers differ.
"""

import importlib
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Finding, judge, options, ratio, seconds, take_turns, timed

from qkv.recipes.word_vectors import open_vectors
from qkv.vectors import WordVectors

ROWS, QUERIES, TOP = 400_000, 1_000, 10
NOISE = 0.1
ONE_BY_ONE = 100


def repeated(vectors: WordVectors) -> WordVectors:
    """The vectors over and over up to `ROWS`, each number moved by a tenth of their spread."""
    copies = -(-ROWS // len(vectors))
    generator = np.random.default_rng(0)
    matrix = np.tile(vectors.matrix, (copies, 1))[:ROWS]
    matrix += generator.normal(0, NOISE * vectors.matrix.std(), matrix.shape).astype(np.float32)
    words = [f"{word}~{copy}" if copy else word for copy in range(copies) for word in vectors.words][:ROWS]
    return WordVectors(words, matrix)


def searching(vectors: WordVectors, peers: dict[str, Any], rounds: int) -> list[Finding]:
    generator = np.random.default_rng(1)
    queries = vectors.matrix[generator.choice(ROWS, QUERIES, replace=False)]
    unit = vectors.matrix / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
    unit_queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    index = peers["faiss"].IndexFlatIP(vectors.dim)
    index.add(unit)
    # Rows are appended: a count given here would leave as many rows of zeros before them to be searched.
    theirs = peers["gensim.models"].KeyedVectors(vectors.dim)
    theirs.add_vectors(vectors.words, vectors.matrix)
    search = vectors.search("cosine")
    agree(search(queries, TOP), index.search(unit_queries, TOP))

    def one_by_one() -> float:
        return (
            QUERIES / ONE_BY_ONE * seconds(lambda: [theirs.most_similar([q], topn=TOP) for q in queries[:ONE_BY_ONE]])
        )

    many = take_turns(
        {
            "qkv": timed(lambda: search(queries, TOP)),
            "faiss": timed(lambda: index.search(unit_queries, TOP)),
            "gensim": one_by_one,
        },
        rounds,
    )
    one = take_turns(
        {
            "qkv": timed(lambda: vectors.nearest(queries[0], top=TOP), 20),
            "gensim": timed(lambda: theirs.most_similar([queries[0]], topn=TOP), 20),
        },
        rounds,
    )
    what = f"{QUERIES:,} queries, times as fast as"
    return [
        Finding(f"{what} faiss's flat index", ratio(many["faiss"], many["qkv"]), at_least=2.5, seconds=many),
        Finding(f"{what} gensim", ratio(many["gensim"], many["qkv"]), at_least=10),
        Finding("one query, times as fast as gensim", ratio(one["gensim"], one["qkv"]), at_least=1.5, seconds=one),
    ]


def agree(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> None:
    """Exits where faiss, which scores everything, found anything better."""
    (rows, scores), (their_scores, their_rows) = ours, theirs
    if not np.allclose(scores, their_scores, atol=1e-5):
        sys.exit("The nearest rows are not those of faiss")
    print(f"the same rows as faiss: {(rows == their_rows).mean():.4%}", file=sys.stderr)


def loading(vectors: WordVectors, peers: dict[str, Any], folder: Path) -> list[Finding]:
    text, saved = vectors.save(folder / "glove.txt"), vectors.save(folder / "glove.npz")
    load = peers["gensim.models"].KeyedVectors.load_word2vec_format
    times = take_turns(
        {
            "qkv": timed(lambda: WordVectors.load(text)),
            "gensim": timed(lambda: load(str(text), binary=False, no_header=True)),
        },
        rounds=1,
    )
    opened = take_turns({"npz": timed(lambda: WordVectors.load(saved))}, rounds=9)
    found = WordVectors.load(text)
    if found.words != vectors.words or not np.array_equal(found.matrix, vectors.matrix):
        sys.exit("The text does not come back as it was written")
    megabytes = text.stat().st_size / 1e6
    return [
        Finding(
            f"GloVe text of {megabytes:.0f} MB, times as fast as gensim",
            ratio(times["gensim"], times["qkv"]),
            at_least=5,
            seconds=times,
        ),
        Finding("milliseconds to open what was saved", 1000 * min(opened["npz"]), at_most=50, seconds=opened),
    ]


def main() -> None:
    parser = options("Word vectors: searching, loading and opening, beside faiss and gensim.")
    parser.add_argument("--peers", type=Path, required=True, help="a folder that holds faiss and gensim")
    parser.add_argument("--vectors", default="glove-6b-50d", help="a file of word vectors or a named set")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    sys.path.append(str(chosen.peers))
    try:
        peers: dict[str, Any] = {name: importlib.import_module(name) for name in ("faiss", "gensim.models")}
    except ImportError as error:
        sys.exit(f"No comparison without its peers: {error}\n\n    pip install --target DIR faiss-cpu gensim")
    peers["faiss"].omp_set_num_threads(chosen.threads)
    vectors = repeated(open_vectors(chosen.vectors))
    with tempfile.TemporaryDirectory() as folder:
        topics: dict[str, Callable[[], list[Finding]]] = {
            f"Nearest words, {ROWS:,} x {vectors.dim}": partial(searching, vectors, peers, chosen.rounds),
            "Reading": partial(loading, vectors, peers, Path(folder)),
        }
        judge(topics, as_json=chosen.json)


if __name__ == "__main__":
    main()
