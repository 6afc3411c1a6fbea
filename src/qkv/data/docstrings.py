"""A text without a download, the docstrings of Python's own library, and what is counted over it."""

import re
import sysconfig
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from scipy.sparse import coo_array, csr_array
from sklearn.decomposition import TruncatedSVD

DIM = 50
_WINDOW, _FEWEST = 5, 10
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "turtledemo"}
_TRIPLE = re.compile(r"(\"\"\"|''')(.*?)\1", re.DOTALL)


def docstring_counts() -> tuple[list[str], Float32[np.ndarray, "words dim"]]:
    """The words in lower case that stand ten times or more in docstrings of Python's standard library, and vectors.

    Words within five of one another are counted, weighted by the inverse of their distance as GloVe's counts are
    (Pennington et al. 2014, section 4.2). The vectors are the truncated singular value decomposition `U sqrt(S)` of
    `log(1 + counts)`, so products of two words tell how often they stand together. The same Python gives the same ones.
    """
    texts = [re.findall(r"[a-z]+", text.lower()) for text in docstrings()]
    names, counts = np.unique([word for text in texts for word in text], return_counts=True)
    words = names[counts >= _FEWEST][np.argsort(-counts[counts >= _FEWEST], kind="stable")].tolist()
    number = {word: row for row, word in enumerate(words)}
    # Between two docstrings as many blanks as the window is wide: no word is counted with one of another text.
    ids = np.array([row for text in texts for row in [*(number.get(word, -1) for word in text), *[-1] * _WINDOW]])
    svd = TruncatedSVD(DIM, algorithm="arpack", random_state=0)
    counted = _cooccurrence(ids, len(words))
    counted.data = np.log1p(counted.data)
    projected = svd.fit_transform(counted)
    return words, (projected / np.sqrt(svd.singular_values_)).astype(np.float32)


def _cooccurrence(ids: Int64[np.ndarray, " positions"], size: int) -> csr_array:
    """How often two words stand within the window, each time weighted by the inverse of their distance."""
    total = csr_array((size, size))
    for distance in range(1, _WINDOW + 1):
        left, right = ids[:-distance], ids[distance:]
        both = (left >= 0) & (right >= 0)
        ones = np.full(both.sum(), 1 / distance)
        total = total + coo_array((ones, (left[both], right[both])), shape=(size, size)).tocsr()
    return csr_array(total + total.T)


def docstrings() -> list[str]:
    """The texts in three quotes that stand as statements of their own in the files of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(library.rglob("*.py")):
        if _LEFT_OUT.isdisjoint(path.relative_to(library).parts):
            source = path.read_text(encoding="utf-8", errors="replace")
            found += [
                match[2]
                for match in _TRIPLE.finditer(source)
                if not source[source.rfind("\n", 0, match.start()) + 1 : match.start()].strip(" \trRuU")
            ]
    return found
