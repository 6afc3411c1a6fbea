import numpy as np

from qkv.data import docstring_vectors
from qkv.data.docstrings import _cooccurrence, docstrings


def test_counts_by_hand():
    # Words 0 1 0, five blanks between texts, word 2. At distance 1 stand (0, 1) and (1, 0), which count both ways; at
    # distance 2 stands (0, 0), which counts a half each way; word 2 is six places and more from the others.
    counts = _cooccurrence(np.array([0, 1, 0, -1, -1, -1, -1, -1, 2, -1]), 3).toarray()
    np.testing.assert_allclose(counts, [[1, 2, 0], [2, 0, 0], [0, 0, 0]])


def test_docstrings_are_those_of_the_library():
    texts = docstrings()
    assert any(text.startswith("JSON (JavaScript Object Notation)") for text in texts)
    assert len(texts) > 3000


def test_words_that_mean_alike_stand_near():
    vectors = docstring_vectors()
    assert len(set(vectors.words)) == len(vectors.words)
    assert np.isfinite(vectors.matrix).all()
    unit = vectors.matrix / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
    for word, like, unlike in (("string", "strings", "thread"), ("file", "filename", "integer")):
        a, b, c = (unit[vectors.words.index(one)] for one in (word, like, unlike))
        assert a @ b > a @ c + 0.1
