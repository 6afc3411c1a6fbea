import re

import pytest

from qkv.data.docstrings import docstrings
from qkv.errors import InputError


def test_docstrings_are_those_of_the_library():
    texts = docstrings(())
    assert any(text.startswith("JSON (JavaScript Object Notation)") for text in texts)
    assert len(texts) > 3000


def test_docstrings_of_a_package_come_after_those_of_the_library():
    texts, more = docstrings(()), docstrings()
    assert more[: len(texts)] == texts
    assert any("ndarray" in text for text in more[len(texts) :])


def test_packages_are_read_and_not_imported(tmp_path, monkeypatch):
    for name in ("apackage/__init__.py", "apackage/inner/part.py", "apackage/tests/left_out.py", "amodule.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""Of {name}."""\nraise SystemExit("imported")\n')
    monkeypatch.syspath_prepend(tmp_path)
    found = docstrings(["apackage", "amodule"])
    assert found[-3:] == ["Of apackage/__init__.py.", "Of apackage/inner/part.py.", "Of amodule.py."]
    for name in ("nosuchpackage", "apackage.inner", ""):
        with pytest.raises(InputError, match=f"no package {name!r}"):
            docstrings([name])


def test_numbers_are_no_words_but_names_keep_theirs(tmp_path, monkeypatch):
    (tmp_path / "amodule.py").write_text('"""x2 = 2.5e-3 * [1, 22., -3] in 2D, of float64"""')
    monkeypatch.syspath_prepend(tmp_path)
    assert re.findall(r"\w+", docstrings(["amodule"])[-1]) == ["x2", "in", "2D", "of", "float64"]
