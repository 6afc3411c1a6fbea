import numpy as np
import pytest

from qkv.errors import InputError, NotFiniteError
from qkv.vectors import MEASURES, WordVectors
from qkv.vectors.nearest import naive_nearest

# king - man + woman = (1, 2, 0) = queen, when vectors are added as they are.
WORDS = ["king", "queen", "man", "woman", "apple"]
MATRIX = np.array([[2, 1, 0], [1, 2, 0], [2, 0, 0], [1, 1, 0], [0, 0, 3]], dtype=np.float32)


@pytest.fixture
def vectors() -> WordVectors:
    return WordVectors(WORDS, MATRIX)


def drawn(rows: int, dim: int = 7) -> WordVectors:
    matrix = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
    return WordVectors([f"w{row}" for row in range(rows)], matrix)


def test_looking_up(vectors):
    assert (len(vectors), vectors.dim, list(vectors)) == (5, 3, WORDS)
    assert "man" in vectors
    assert "Man" not in vectors
    assert (vectors.index("man"), vectors.row_of("Man"), vectors.row_of("men")) == (2, 2, None)
    assert vectors["apple"].tolist() == [0, 0, 3]
    assert vectors[["man", "king"]].tolist() == [[2, 0, 0], [2, 1, 0]]
    assert vectors.indices(["apple", "king"]).tolist() == [4, 0]
    part = vectors.subset(["woman", "man"])
    assert part.words == ["woman", "man"]
    assert part["man"].tolist() == [2, 0, 0]
    assert repr(vectors) == "WordVectors(5 words, 3 dimensions)"


@pytest.mark.parametrize(
    ("word", "hint"), [("quen", r"Try: 'queen'"), ("KING", r"Try: 'king'"), ("zebra", "one of 5 words.$"), ("", "$")]
)
def test_unknown_words_get_suggestions(vectors, word, hint):
    with pytest.raises(InputError, match=f"no vector for '{word}'.*{hint}"):
        vectors.index(word)


def test_comparing_by_hand(vectors):
    # cos(king, queen) = 4 / 5; king - queen = (1, -1, 0).
    assert vectors.similarity("king", "queen") == pytest.approx(0.8)
    assert vectors.distance("king", "queen") == pytest.approx(0.2)
    assert vectors.distance("king", "queen", by="euclidean") == pytest.approx(2**0.5)
    np.testing.assert_allclose(vectors.similarities(["man", "apple"], ["king", "queen"], by="dot"), [[4, 2], [0, 0]])
    np.testing.assert_allclose(np.diag(vectors.similarities(WORDS)), 1)
    assert vectors.odd_one_out(["king", "queen", "apple", "man"]) == "apple"


def test_nearest_by_hand(vectors):
    # Cosines with man (1, 0, 0): king 2/sqrt(5), woman 1/sqrt(2), queen 1/sqrt(5), apple 0.
    found = vectors.nearest("man", top=3)
    assert [near.word for near in found] == ["king", "woman", "queen"]
    np.testing.assert_allclose([near.score for near in found], [2 / 5**0.5, 0.5**0.5, 1 / 5**0.5])
    assert vectors.nearest(["king", "woman"], "man", top=1, by="euclidean") == [("queen", 0)]
    assert [near.word for near in vectors.nearest("man", top=99)] == ["king", "woman", "queen", "apple"]
    assert vectors.nearest(np.array([0.0, 0.0, 1.0]), top=1) == [("apple", 1)]


def test_analogies_by_hand(vectors):
    # 3CosMul for man : king :: woman : ?, over queen (cosines with king 4/5, woman 3/sqrt(10), man 1/sqrt(5))
    # and apple (0, 0, 0), moved to 0 ... 1.
    assert vectors.analogy("man", "king", "woman", top=1)[0].word == "queen"
    found = vectors.analogy("man", "king", "woman", method="3cosmul")
    assert [near.word for near in found] == ["queen", "apple"]
    to_king, to_woman, to_man = ((1 + cosine) / 2 for cosine in (0.8, 3 / 10**0.5, 5**-0.5))
    assert found[0].score == pytest.approx(to_king * to_woman / (to_man + 0.001), rel=1e-6)
    assert found[1].score == pytest.approx(0.25 / 0.501, rel=1e-6)


@pytest.mark.parametrize("by", MEASURES)
def test_many_at_once_are_the_same_as_one_by_one(by):
    vectors = drawn(301)
    words = vectors.words[:11]
    many = vectors.nearest_many(words, top=5, by=by)
    for word, found in zip(words, many, strict=True):
        alone = vectors.nearest(word, top=5, by=by)
        assert [near.word for near in found] == [near.word for near in alone]
        np.testing.assert_allclose([near.score for near in found], [near.score for near in alone])
        assert word not in [near.word for near in found]
        (rows,), _ = naive_nearest(vectors.matrix, vectors[[word]], 6, by)
        expected = [vectors.words[row] for row in rows if vectors.words[row] != word][:5]
        assert [near.word for near in found] == expected
    assert [found[0].word for found in vectors.nearest_many(vectors[words], by="euclidean")] == words


def test_names_of_gensim(vectors):
    assert vectors.most_similar(positive=["king", "woman"], negative=["man"], topn=2) == vectors.nearest(
        ["king", "woman"], ["man"], top=2
    )
    assert vectors.doesnt_match(["king", "queen", "apple"]) == "apple"
    assert vectors.index_to_key[vectors.key_to_index["man"]] == "man"
    assert vectors.vectors.shape == (5, vectors.vector_size)


@pytest.mark.parametrize("name", ["v.txt.gz", "v.vec", "v.bin.zst", "v.npz", "v.safetensors"])
def test_saved_and_loaded(tmp_path, name):
    vectors = drawn(101)
    loaded = WordVectors.load(vectors.save(tmp_path / name))
    assert loaded.words == vectors.words
    np.testing.assert_array_equal(loaded.matrix, vectors.matrix)
    assert loaded.nearest("w3") == vectors.nearest("w3")
    assert WordVectors.load(tmp_path / name, ["w7", "w5", "none"]).words == ["w5", "w7"]


def test_mapped_files_are_checked_when_used(tmp_path):
    np.savez(tmp_path / "v.npz", words=np.array(["a", "b", "a"]), matrix=np.array([[1, 0], [np.nan, 0], [0, 1]], "f"))
    vectors = WordVectors.load(tmp_path / "v.npz")
    with pytest.raises(InputError, match="the word 'a' stands twice"):
        vectors.index("a")
    with pytest.raises(NotFiniteError, match="row 1"):
        vectors.nearest(np.ones(2))
    with pytest.raises(InputError, match="the word 'a' stands twice"):
        vectors.save(tmp_path / "v.txt")
    np.savez(tmp_path / "v.npz", words=np.array(["a", "b"]), matrix=np.array([[1, 0], [np.nan, 0]], "f"))
    with pytest.raises(NotFiniteError, match="the vector of 'b'"):
        WordVectors.load(tmp_path / "v.npz").save(tmp_path / "v.txt")
    assert not (tmp_path / "v.txt").exists()


def test_one_word():
    alone = WordVectors(["a"], np.ones((1, 3)))
    assert alone.nearest("a") == []
    assert alone.similarity("a", "a") == pytest.approx(1)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda _: WordVectors(["a", "b"], np.ones((3, 2))), r"matrix does not fit words.*2 rows.*got shape \(3, 2\)"),
        (lambda _: WordVectors(["a"], np.ones(3)), "matrix does not fit words"),
        (lambda _: WordVectors(["a", "a"], np.ones((2, 2))), "the word 'a' stands twice"),
        (lambda _: WordVectors(["a", "b"], np.array([[1], [np.inf]])), "NaN or infinity in the vector of 'b'"),
        (lambda v: v.nearest(()), "nothing to look for"),
        (lambda v: v.nearest(np.ones(2)), r"not a vector like these\. Expected 3 numbers; got shape \(2,\)"),
        (lambda v: v.nearest("man", top=0), "top is too small"),
        (lambda v: v.nearest("man", by="cos"), "unknown measure 'cos'"),
        (lambda v: v.similarities(["man"], by="cos"), "unknown measure 'cos'"),
        (lambda v: v.analogy("man", "king", "woman", method="3cos"), "unknown method '3cos'"),
        (lambda v: v.odd_one_out(["man", "king"]), "too few words for one to be odd"),
        (lambda v: v.nearest_many(["man", "men"]), "no vector for 'men'"),
    ],
)
def test_refusals(vectors, use, message):
    with pytest.raises(InputError, match=message):
        use(vectors)
