import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from qkv import files
from qkv.errors import DataError, InputError
from qkv.models import BagOfWords, BagOfWordsConfig

WORDS = ["red", "green", "blue", "stone", "tree", "river"]
GENERATOR = np.random.default_rng(0)
TEXTS = [" ".join(GENERATOR.choice(WORDS, 5)) + " :)" * (i % 2) for i in range(61)]
OTHER = ["red tree", "a river :)", "nothing known", ""]


def labels_of(classes: int) -> np.ndarray:
    return np.array([text.count("red") % classes for text in TEXTS])


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(classes):
    labels = labels_of(classes)
    model = BagOfWords(BagOfWordsConfig(words=1, characters=2, min_count=1, inverse_penalty=3.0)).fit(TEXTS, labels)
    kind = {"sublinear_tf": True, "dtype": np.float32}
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]+", **kind)
    characters = TfidfVectorizer(ngram_range=(2, 2), analyzer="char_wb", **kind)

    def features(texts, *, fit: bool = False):
        return np.hstack(
            [(p.fit_transform(texts) if fit else p.transform(texts)).toarray() for p in (words, characters)]
        )

    theirs = LogisticRegression(C=3.0, max_iter=300).fit(features(TEXTS, fit=True), labels)
    np.testing.assert_allclose(model.probabilities(OTHER), theirs.predict_proba(features(OTHER)), atol=2e-3)
    assert model.parameters == (classes - 1) * (features(OTHER).shape[1] + 1)


def test_what_is_kept_answers_alike(tmp_path):
    config = BagOfWordsConfig(min_count=1)
    model = BagOfWords(config).fit(TEXTS, labels_of(3))
    model.save(tmp_path)
    again = BagOfWords.load(tmp_path, config)
    np.testing.assert_array_equal(again.probabilities(OTHER), model.probabilities(OTHER))
    numbers = files.read_tensors(tmp_path / "bag_of_words.safetensors")
    files.write_tensors(tmp_path / "bag_of_words.safetensors", numbers | {"idf": torch.ones(3, dtype=torch.float64)})
    with pytest.raises(DataError, match="not the numbers of these terms"):
        BagOfWords.load(tmp_path, config)
    (tmp_path / "bag_of_words.json").write_text("[1]")
    with pytest.raises(DataError, match="not the numbers of these terms"):
        BagOfWords.load(tmp_path, config)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(InputError, match="no word stands in enough texts to be counted"):
        BagOfWords(BagOfWordsConfig(min_count=9)).fit(["a b", "c d"], np.array([0, 1]))
    with pytest.raises(InputError, match="nothing to tell apart"):
        BagOfWords(BagOfWordsConfig(min_count=1)).fit(["a b", "c d"], np.array([1, 1]))
