import numpy as np
import pytest
import torch

from qkv.errors import InputError
from qkv.recipes.word_vectors import docstring_vectors, embedded, open_vectors
from qkv.vectors import WordVectors


def test_vectors_by_name(tmp_path, shared_data, monkeypatch):
    monkeypatch.setenv("QKV_DATA", str(shared_data))
    assert len(open_vectors("glove-6b-50d", ["the", "bank"])) == 2
    path = WordVectors(["a", "b"], np.eye(2)).save(tmp_path / "v.npz")
    assert open_vectors(str(path)).words == ["a", "b"]
    assert open_vectors("docstrings") is docstring_vectors()
    with pytest.raises(InputError, match=r"unknown data set 'glove'.*Try: glove-6b-50d"):
        open_vectors("glove")


def test_docstrings_are_the_default():
    (sentence,) = embedded(["the value of the key"])
    assert sentence.vectors.shape == (5, 50)
    assert torch.equal(sentence.vectors[0], sentence.vectors[3])


@pytest.mark.parametrize(
    ("word", "like", "unlike"),
    [
        ("array", "ndarray", "thread"),
        ("file", "filename", "integer"),
        ("thread", "threading", "array"),
        ("string", "strings", "thread"),
    ],
)
def test_words_that_mean_alike_stand_near(word, like, unlike):
    vectors = docstring_vectors()
    assert vectors.similarity(word, like) > vectors.similarity(word, unlike) + 0.1
