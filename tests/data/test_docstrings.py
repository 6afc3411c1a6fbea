from qkv.data.docstrings import docstrings


def test_docstrings_are_those_of_the_library():
    texts = docstrings()
    assert any(text.startswith("JSON (JavaScript Object Notation)") for text in texts)
    assert len(texts) > 3000


def test_docstrings_of_a_package_come_after_those_of_the_library():
    texts, more = docstrings(), docstrings(["numpy"])
    assert more[: len(texts)] == texts
    assert any("ndarray" in text for text in more[len(texts) :])
