import importlib.metadata

from qkv import doctor
from qkv.data import SETS


def found(name: str) -> doctor.Finding:
    (finding,) = [finding for finding in doctor.examine() if finding.name == name]
    return finding


def test_what_is_installed_is_told_with_its_version():
    assert found("torch").state == "good"
    assert found("torch").detail == importlib.metadata.version("torch")
    assert found("python").state == "good"


def test_what_is_missing_or_too_old_is_told_with_how_to_mend_it(monkeypatch):
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda _: ["torch>=99", "absent-library>=3", "other; extra == 'x'"]
    )
    assert (found("torch").state, found("torch").mend) == ("broken", "pip install 'torch>=99'")
    assert (found("absent-library").state, found("absent-library").mend) == (
        "missing",
        "pip install 'absent-library>=3'",
    )
    assert not [finding for finding in doctor.examine() if finding.name == "other"]


def test_named_sets_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("QKV_DATA", raising=False)
    assert found("QKV_DATA").state == "missing"
    monkeypatch.setenv("QKV_DATA", str(tmp_path))
    assert found("eng-fra").state == "missing"
    assert "tatoeba" in found("eng-fra").mend
    path = tmp_path / SETS["eng-fra"].file
    path.parent.mkdir()
    path.touch()
    assert (found("eng-fra").state, found("eng-fra").mend) == ("good", "")
    monkeypatch.setenv("QKV_DATA", str(tmp_path / "nowhere"))
    assert found("QKV_DATA").state == "broken"
