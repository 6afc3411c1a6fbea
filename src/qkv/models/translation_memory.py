"""The classical baseline of translation: look up the most similar sentence seen, and say what was said then."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

_ROWS = 256  # queries compared at once: bounds the memory of the similarity matrix


class TranslationMemory:
    """Translates a sentence as its nearest neighbour among `sources`, by the cosine of TF-IDF vectors over words and
    pairs of neighbouring words.

    >>> memory = TranslationMemory(["le chat dort", "il pleut"], ["the cat sleeps", "it rains"])
    >>> memory.translate(["un chat dort"])
    ['the cat sleeps']
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]):
        self.targets = targets
        # Whole words of any length: numbers and one-letter words tell sentences apart.
        self.vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2))
        self.vectors = self.vectorizer.fit_transform(sources)

    def translate(self, sources: Sequence[str]) -> list[str]:
        """The stored target of the nearest stored source; the first one among equals."""
        queries = self.vectorizer.transform(sources)
        nearest: list[int] = []
        for start in range(0, len(sources), _ROWS):
            similarity = queries[start : start + _ROWS] @ self.vectors.T
            nearest += np.asarray(similarity.argmax(axis=1)).ravel().tolist()
        return [self.targets[index] for index in nearest]
