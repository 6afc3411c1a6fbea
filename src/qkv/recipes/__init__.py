"""What can be run: one file a task, found by name. The list is plain, so that it can be shown without loading any."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qkv.errors import unknown_name

if TYPE_CHECKING:
    from qkv.recipes.base import Recipe

__all__ = ["RECIPES", "Entry", "load"]


@dataclass(frozen=True)
class Entry:
    """A line of the list: what a recipe does, what it needs no download for, what else it reads, what it compares."""

    summary: str
    default_data: str
    real_data: str
    compares: str


RECIPES = {
    "translate": Entry(
        summary="Train a translator of sentences, and see what it attends to.",
        default_data="French number words and dates to English, generated",
        real_data="sentence pairs (TSV, also gzip or zstd)",
        compares="rnn, rnn-attention, transformer",
    ),
    "contextualize": Entry(
        summary="See what each word of a sentence attends to, and send one word's attention to another.",
        default_data="a sentence over vectors trained from the docstrings of Python's library",
        real_data="any vectors file (GloVe, word2vec; also gzip or zstd)",
        compares="raw similarity, scaled, random and learned query and key matrices",
    ),
    "glove": Entry(
        summary="GloVe without weights: exact and by descent, loss against dimension, over-fitting, maps of words.",
        default_data="the docstrings of Python's library",
        real_data="any text, or n-grams (npz)",
        compares="asymmetric and symmetric, exact and descent, dimensions",
    ),
    "masked-lm": Entry(
        summary="Predict hidden words from those around them: a network by hand, a Transformer, counts, and others.",
        default_data="the docstrings of Python's library",
        real_data="any text, or n-grams (npz)",
        compares="window (multilayer perceptron), recurrent, transformer, causal, counts, unigram",
    ),
    "sentiment": Entry(
        summary="Tell praise from blame, by word order too; see which words told it, how sure to be, where it errs.",
        default_data="phrases with negation and contrast, generated",
        real_data="texts with labels (CSV, TSV; the published layout of Sentiment140; also gzip or zstd)",
        compares="bag-of-words, lstm, transformer, pretrained",
    ),
    "digits": Entry(
        summary="Attention between images: which pictures attend to which, and what their weighted sums look like.",
        default_data="the handwritten digits that scikit-learn carries",
        real_data="images with classes (IDX, npz)",
        compares="dot product, scaled dot product, RBF kernel",
    ),
    "speech": Entry(
        summary="Write down what is said, or keyed; see where in the recording each letter was heard.",
        default_data="Morse code in noise, generated",
        real_data="recordings with transcripts (folder, zip, TSV, LJ Speech), spoken digits, log-mel features (npz)",
        compares="attention decoder, lstm decoder with cross-attention",
    ),
    "images": Entry(
        summary="Tell images apart: what pooling buys and costs, what filters and patches see, where it errs.",
        default_data="the handwritten digits that scikit-learn carries",
        real_data="images with classes (MedMNIST's npz, IDX, a folder of pictures for each class)",
        compares="maxpool, stride, residual, attention",
    ),
    "graph": Entry(
        summary="Graphs: a convolution by hand, classes from four nodes, a number for each node of a real network.",
        default_data="Zachary's karate club",
        real_data="edges (CSV, TSV, GraphML and others), with features and targets (CSV, JSON)",
        compares="gcn, conv, gat, graphsage, pyg-gat, blend, boosting, trees, twins, ridge, median",
    ),
    "scaling": Entry(
        summary="Measure what attention costs against length; see why scores are scaled, how near Taylor comes.",
        default_data="random tensors",
        real_data="none",
        compares="softmax, fused softmax, linear attention: time, memory, operations",
    ),
}


def load(name: str) -> "Recipe":
    """The recipe called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    module = f"qkv.recipes.{name.replace('-', '_')}"
    return importlib.import_module(module)  # pyright: ignore[reportReturnType] - modules fit Recipe
