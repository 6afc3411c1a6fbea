"""Counting words that stand together and training GloVe on the counts, beside Stanford's programs in C, in one run.

    python benchmarks/glove.py --peers DIR [--corpus FILE] [--threads 2] [--rounds 3] [--json]

The corpus is the English text that `QKV_DATA` has, in lower case, or FILE; window 15, words that stand 5 times or more,
x_max 10. A ratio says how many times as fast as the peer ours is, by the clock. Exits with 1 where a bar is missed.

The peer is stanfordnlp/GloVe as its own makefile builds it (-O3 -march=native):
- `cooccur`, its vocabulary given, against all of ours from the file on, vocabulary included. It has one thread.
- `glove`, an epoch of it, against one of ours; neither shuffling is counted.
- `glove` for 25 epochs, against ours with twice its rate until the exact loss is below its own, preparation included.
"""

import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from timing import Finding, judge, options, ratio, seconds, take_turns

from qkv.vectors import (
    Cooccurrence,
    GloveConfig,
    GloveProgress,
    GloveVectors,
    SimilarityScore,
    count_cooccurrence,
    glove_loss,
    read_set,
    score,
    train_glove,
)

HOW_TO_GET = """No comparison without its peer. It lies in a folder DIR, and building takes gcc and make:

    git clone https://github.com/stanfordnlp/GloVe DIR/GloVe
    make -C DIR/GloVe
"""
PARTS = ("norvig_big.txt.gz", "wikipedia.txt.gz", "wikitext2_valid.txt.gz")
SETS = ("wordsim353", "simlex999", "men3000", "rg65", "mturk771", "rw2034", "simverb3500")
WINDOW, MIN_COUNT, X_MAX = 15, 5, 10.0
EPOCHS, OUR_EPOCHS, OUR_RATE = 25, 16, 0.1
COUNTING = {"tokens": "blanks", "lower": False, "min_count": MIN_COUNT, "window": WINDOW}
RECORD = np.dtype([("row", "<i4"), ("column", "<i4"), ("value", "<f8")])


class Peer:
    """Stanford's programs, and the files that they leave in a folder."""

    def __init__(self, programs: Path, folder: Path, corpus: Path, threads: int):
        self.programs, self.folder, self.corpus, self.threads = programs, folder, corpus, threads

    def run(self, program: str, *words: object, source: Path | None = None, into: str | None = None) -> None:
        command = [self.programs / program, *map(str, words), "-verbose", "0"]
        with (
            (source or Path(os.devnull)).open("rb") as given,
            (self.folder / into if into else Path(os.devnull)).open("wb") as taken,
        ):
            subprocess.run(command, stdin=given, stdout=taken, stderr=subprocess.DEVNULL, cwd=self.folder, check=True)

    def vocabulary(self) -> None:
        self.run("vocab_count", "-min-count", MIN_COUNT, source=self.corpus, into="vocab.txt")

    def count(self) -> None:
        words = ("-memory", 4, "-vocab-file", "vocab.txt", "-window-size", WINDOW)
        self.run("cooccur", *words, source=self.corpus, into="counts.bin")

    def shuffle(self) -> None:
        self.run("shuffle", "-memory", 4, source=self.folder / "counts.bin", into="shuffled.bin")

    def train(self, dim: int, epochs: int) -> None:
        self.run(
            "glove", "-input-file", "shuffled.bin", "-vocab-file", "vocab.txt", "-save-file", f"trained{dim}",
            "-vector-size", dim, "-iter", epochs, "-x-max", X_MAX, "-threads", self.threads, "-binary", 1, "-model", 0,
            "-seed", 1,
        )  # fmt: skip

    def words(self) -> list[str]:
        lines = (self.folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        return [line.rpartition(" ")[0] for line in lines if line]

    def counts(self, words: list[str]) -> csr_array:
        """What it counted, in the order of `words`."""
        place = {word: i for i, word in enumerate(words)}
        order = np.array([place[word] for word in self.words()])
        records = np.fromfile(self.folder / "counts.bin", RECORD)
        rows, columns = (order[records[name] - 1] for name in ("row", "column"))
        return csr_array(coo_array((records["value"], (rows, columns)), shape=(len(words), len(words))))

    def vectors(self, dim: int, words: list[str]) -> GloveVectors:
        """What it trained, in the order of `words`."""
        place = {word: i for i, word in enumerate(self.words())}
        tables = np.fromfile(self.folder / f"trained{dim}.bin").reshape(2, -1, dim + 1).astype(np.float32)
        own, context = tables[:, [place[word] for word in words]]
        return GloveVectors(words, own[:, :dim], context[:, :dim], own[:, dim], context[:, dim])


def joined(folder: Path) -> Path:
    """The English text as one file, in lower case, without a word that the peer refuses."""
    source = Path(os.environ.get("QKV_DATA") or ".") / "english-text"
    path = folder / "corpus.txt"
    text = "\n".join(gzip.decompress((source / part).read_bytes()).decode() for part in PARTS)
    path.write_text(text.lower().replace("<unk>", "unk"), encoding="utf-8")
    return path


def counting(peer: Peer, rounds: int) -> list[Finding]:
    counted: list[Cooccurrence] = []

    def ours() -> None:
        counted[:] = [count_cooccurrence(peer.corpus, **COUNTING)]

    peer.vocabulary()
    times = take_turns({"qkv": lambda: seconds(ours), "cooccur": lambda: seconds(peer.count)}, rounds)
    mine, theirs = counted[0].counts, peer.counts(counted[0].words)
    same = np.array_equal(mine.indptr, theirs.indptr) and np.array_equal(mine.indices, theirs.indices)
    off = np.abs(theirs.data / mine.data - 1).max() if same else np.inf
    return [
        Finding("counting, times as fast", ratio(times["cooccur"], times["qkv"]), at_least=5, seconds=times),
        Finding("counts that are not zero, of its own", mine.nnz / theirs.nnz, at_least=1, at_most=1),
        Finding("largest relative difference of a count", float(off), at_most=1e-6),
    ]


def epochs(peer: Peer, counted: Cooccurrence, rounds: int) -> list[Finding]:
    findings = []
    for dim, bar in ((50, 10), (100, 6)):

        def ours(dim: int = dim) -> float:
            ends: list[GloveProgress] = []
            train_glove(counted, GloveConfig(dim=dim, epochs=3, x_max=X_MAX), progress=ends.append)
            return (ends[-1].seconds - ends[0].seconds) / 2

        def theirs(dim: int = dim) -> float:
            return seconds(lambda: peer.train(dim, 2)) / 2

        times = take_turns({"qkv": ours, "glove": theirs}, rounds)
        what = f"an AdaGrad epoch at d = {dim}, times as fast"
        findings.append(Finding(what, ratio(times["glove"], times["qkv"]), at_least=bar, seconds=times))
    return findings


def similarity(vectors: GloveVectors) -> float:
    """The mean of Spearman's correlations over the sets of word similarity, words and contexts added."""
    folder = Path(os.environ.get("QKV_DATA") or ".") / "word-similarity"
    found = [score(vectors.word_vectors(), read_set(folder / f"{name}.tsv")) for name in SETS]
    return float(np.mean([each.spearman for each in found if isinstance(each, SimilarityScore)]))


def to_its_loss(peer: Peer, counted: Cooccurrence) -> list[Finding]:
    theirs = seconds(lambda: peer.train(50, EPOCHS))
    reached = peer.vectors(50, counted.words)
    config = GloveConfig(dim=50, epochs=OUR_EPOCHS, learning_rate=OUR_RATE, x_max=X_MAX)
    trained: list[GloveVectors] = []
    ours = seconds(lambda: trained.append(train_glove(counted, config)))
    losses = [glove_loss(counted, vectors, x_max=X_MAX) for vectors in (trained[0], reached)]
    means = [similarity(vectors) for vectors in (trained[0], reached)]
    return [
        Finding("to its loss, times as fast", theirs / ours, at_least=18, seconds={"qkv": [ours], "glove": [theirs]}),
        Finding("our exact loss over its own", losses[0] / losses[1], at_most=1),
        Finding("its mean word similarity", means[1]),
        Finding("ours above its own", means[0] - means[1], at_least=-0.01),
    ]


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--peers", type=Path, required=True, help="the folder with GloVe in it")
    parser.add_argument("--corpus", type=Path, help="a text in lower case, its tokens between blanks")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    programs = (asked.peers / "GloVe" / "build").resolve()
    if not (programs / "glove").exists():
        sys.exit(HOW_TO_GET)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer = Peer(programs, folder, asked.corpus or joined(folder), asked.threads)
        counted = count_cooccurrence(peer.corpus, **COUNTING)

        def prepared() -> list[Finding]:
            peer.shuffle()
            return epochs(peer, counted, asked.rounds)

        judge(
            {
                "counting": lambda: counting(peer, asked.rounds),
                "an epoch": prepared,
                "to the loss of its 25 epochs": lambda: to_its_loss(peer, counted),
            },
            as_json=asked.json,
        )


if __name__ == "__main__":
    main()
