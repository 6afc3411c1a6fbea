import numpy as np

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
