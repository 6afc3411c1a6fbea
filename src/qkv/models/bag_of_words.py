"""The classical classifier of texts: TF-IDF of words and characters, and logistic regression on it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, hstack
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from qkv import files
from qkv.errors import DataError, InputError
from qkv.types import Config

TERMS, WEIGHTS = "bag_of_words.json", "bag_of_words.safetensors"

# Words with their apostrophes, and runs of marks, which faces such as :) are.
_TOKEN = r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]+"


class BagOfWordsConfig(Config):
    """What the bag of words counts, and how far its weights are held back."""

    words: PositiveInt = 2
    """Runs of at most so many words."""
    characters: PositiveInt = 5
    """Runs of 2 to so many characters inside a word."""
    min_count: PositiveInt = 2
    """Runs that stand in fewer texts are passed over."""
    most: PositiveInt = 200_000
    """At most so many runs of words, and as many of characters: the most frequent."""
    inverse_penalty: PositiveFloat = 2.0
    """`C` of the regression: the larger, the freer its weights."""


class BagOfWords:
    """`softmax(W x + b)`, where `x` are the frequencies of runs of words and of characters, each weighted by how few
    texts have it (TF-IDF, Spärck Jones 1972), and `W` and `b` have the least cross-entropy with an L2 penalty.

    What order words stand in is known no further than the runs reach.

    Args:
        config: what is counted.

    >>> texts, labels = ["a good film", "a bad film", "good", "bad"], np.array([1, 0, 1, 0])
    >>> model = BagOfWords(BagOfWordsConfig(min_count=1)).fit(texts, labels)
    >>> model.probabilities(["good", "film"]).argmax(axis=1).tolist()[0]
    1
    """

    def __init__(self, config: BagOfWordsConfig):
        kind = {"min_df": config.min_count, "max_features": config.most, "sublinear_tf": True, "dtype": np.float32}
        self.config = config
        self._parts = (
            TfidfVectorizer(ngram_range=(1, config.words), token_pattern=_TOKEN, **kind),
            TfidfVectorizer(ngram_range=(2, max(config.characters, 2)), analyzer="char_wb", **kind),
        )
        self.weight: Float[np.ndarray, "classes terms"] = np.zeros((0, 0))
        self.bias: Float[np.ndarray, " classes"] = np.zeros(0)

    def fit(self, texts: Sequence[str], labels: Int[np.ndarray, " texts"]) -> "BagOfWords":
        """Counts, and solves for the weights.

        Raises:
            InputError: no word stands in enough texts, or there is only one label.
        """
        try:
            x = csr_matrix(hstack([part.fit_transform(texts) for part in self._parts]))
        except ValueError as error:
            hint = "more texts, or --bag-of-words.min-count 1"
            raise InputError("no word stands in enough texts to be counted", hint=hint) from error
        if len(set(labels.tolist())) < 2:
            raise InputError("there is nothing to tell apart", expected="texts of two labels or more")
        solved = LogisticRegression(C=self.config.inverse_penalty, max_iter=300).fit(x, labels)
        # Of two classes the library solves for the second alone: the logits of the first are zero.
        two = len(solved.coef_) == 1
        self.weight = np.vstack([0 * solved.coef_, solved.coef_]) if two else solved.coef_
        self.bias = np.concatenate([0 * solved.intercept_, solved.intercept_]) if two else solved.intercept_
        return self

    def probabilities(self, texts: Sequence[str]) -> Float[np.ndarray, "texts classes"]:
        """How likely each text has each label."""
        x = csr_matrix(hstack([part.transform(texts) for part in self._parts]))
        return softmax(x @ self.weight.T + self.bias, axis=1)

    @property
    def parameters(self) -> int:
        """How many numbers were solved for: those of one class follow from the others."""
        return (len(self.weight) - 1) * (self.weight.shape[1] + 1)

    def save(self, folder: Path) -> None:
        """Writes the terms and the numbers into a folder."""
        words, characters = ([*map(str, part.get_feature_names_out())] for part in self._parts)
        files.write_json(folder / TERMS, {"words": words, "characters": characters})
        numbers = {"weight": self.weight, "bias": self.bias, "idf": np.concatenate([p.idf_ for p in self._parts])}
        files.write_tensors(folder / WEIGHTS, {name: torch.from_numpy(x) for name, x in numbers.items()})

    @classmethod
    def load(cls, folder: Path, config: BagOfWordsConfig) -> "BagOfWords":
        """What `save` wrote.

        Raises:
            DataError: a file is missing or damaged, or the two do not fit each other.
        """
        terms, numbers = files.read_json(folder / TERMS), files.read_tensors(folder / WEIGHTS)
        made = cls(config)
        try:
            made.weight, made.bias, idf = (numbers[name].numpy() for name in ("weight", "bias", "idf"))
            start = 0
            for part, name in zip(made._parts, ("words", "characters"), strict=True):
                part.set_params(vocabulary=terms[name])
                part.idf_ = idf[start : start + len(terms[name])]
                start += len(terms[name])
            if made.weight.shape != (len(made.bias), start) or len(idf) != start:
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("not the numbers of these terms", expected=f"what wrote {TERMS}", path=folder) from error
        return made
