from pathlib import Path

import pytest

from qkv.data import sets
from qkv.data.sets import SETS, NamedSet, find, sha256_of, verify
from qkv.errors import DataError, InputError


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """A small named set in a folder that QKV_DATA names."""
    monkeypatch.setenv("QKV_DATA", str(tmp_path))
    # SHA-256 of "abc", as FIPS 180-2 gives it.
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    monkeypatch.setitem(sets.SETS, "letters", NamedSet("three letters", "letters/abc.txt", known, "none", "nobody"))
    path = tmp_path / "letters" / "abc.txt"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    return path


def test_a_named_set_is_found_and_verified(kept):
    assert find("letters") == verify("letters") == kept


def test_a_path_that_exists_wins_over_a_name(kept, tmp_path, monkeypatch):
    own = tmp_path / "elsewhere"
    own.mkdir()
    (own / "letters").write_text("mine")
    monkeypatch.chdir(own)
    assert find("letters").read_text() == "mine"
    assert find(kept) == kept


def test_the_folder_of_a_set_does_not_hide_its_file(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find("letters") == kept


def test_other_bytes_are_refused(kept):
    kept.write_bytes(b"abd")
    with pytest.raises(DataError, match=r"not the published file\. Expected SHA-256 ba7816bf.*; got a52d159f"):
        verify("letters")


def test_names_that_lead_nowhere(kept, monkeypatch):
    with pytest.raises(InputError, match=r"unknown data set 'lettres'.* Try: letters"):
        find("lettres")
    with pytest.raises(InputError, match="unknown data set"):
        verify(str(kept))
    with pytest.raises(DataError, match=r"pairs\.tsv: no such file"):
        find("pairs.tsv")
    kept.unlink()
    with pytest.raises(DataError, match=r"'letters' is not on this machine.* got no such file.* set QKV_DATA"):
        find("letters")
    monkeypatch.delenv("QKV_DATA")
    with pytest.raises(DataError, match="got QKV_DATA is not set"):
        find("letters")


def test_a_missing_file_has_no_checksum(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        sha256_of(tmp_path / "absent")


@pytest.mark.parametrize("name", SETS)
def test_real_sets_have_the_bytes_that_the_table_says(name, shared_data, monkeypatch):
    monkeypatch.setenv("QKV_DATA", str(shared_data))
    assert verify(name) == shared_data / SETS[name].file
