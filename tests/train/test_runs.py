import json

import pytest
import torch

from qkv.errors import DataError, InputError, RunError
from qkv.train import RunFolder


def make(path, **changes) -> RunFolder:
    return RunFolder.create(path, **{"recipe": "translate", "config": {"model": "rnn"}, "seed": 7} | changes)


def test_a_run_is_read_as_it_was_written(tmp_path):
    folder = make(tmp_path / "runs" / "a")
    folder.log({"part": "train", "step": 1, "loss": 0.5})
    folder.log({"part": "valid", "step": 1, "loss": 0.25})
    run = RunFolder.open(folder.path).read()
    assert (run.recipe, run.config, run.seed, run.finished) == ("translate", {"model": "rnn"}, 7, False)
    assert [line["loss"] for line in run.history] == [0.5, 0.25]
    with pytest.raises(RunError, match=rf"not finished\. Try: qkv resume {folder.path}"):
        folder.finished()
    folder.write_result({"metrics": {"bleu": 50.0}})
    assert folder.finished().metrics == {"bleu": 50.0}


def test_the_environment_is_kept(tmp_path):
    told = json.loads((make(tmp_path / "a").path / "environment.json").read_text())
    assert told["torch"] == torch.__version__
    assert told["threads"] == torch.get_num_threads()


def test_weights_come_back(tmp_path):
    folder, weights = make(tmp_path / "a"), {"w": torch.randn(3, 5), "b": torch.randn(5)}
    folder.save_weights(weights)
    assert all(torch.equal(folder.load_weights()[name], value) for name, value in weights.items())


def test_nothing_is_written_over(tmp_path):
    make(tmp_path / "a")
    with pytest.raises(RunError, match=r"there is something here already.*another --out, or `qkv resume"):
        make(tmp_path / "a")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="there is something here already"):
        make(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")


def test_a_seed_below_zero_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"the seed cannot be used\. Expected 0 or more; got -1"):
        make(tmp_path / "a", seed=-1)
    assert not (tmp_path / "a").exists()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"nowhere: no such folder\. Expected a run folder"):
        RunFolder.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(RunError, match="not a run folder"):
            RunFolder.open(path)


GOOD = {"format": 1, "recipe": "translate", "seed": 0, "config": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(GOOD | {"format": 2}), r"written by a newer qkv\. Expected run format 1; got 2\. Try: pip install"),
        (json.dumps(GOOD | {"format": "x"}), r"of an unknown format\. Expected run format 1; got x\.$"),
        (json.dumps(GOOD)[:-9], r"config\.json.*not JSON"),
        ("", r"config\.json: the file is empty"),
        ("[]", r"config\.json is not one of a run"),
        ('{"format": 1}', r"config\.json is not one of a run\. Expected format, recipe, seed and config"),
    ],
    ids=["newer", "unknown", "cut", "empty", "list", "incomplete"],
)
def test_a_damaged_or_newer_config_is_refused(tmp_path, text, message):
    folder = make(tmp_path / "a")
    (folder.path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        RunFolder.open(folder.path)


def test_a_torn_last_measurement_is_passed_over_and_no_other(tmp_path):
    folder = make(tmp_path / "a")
    path = folder.path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st\xc3')
    assert [line["step"] for line in folder.read().history] == [1, 2]
    path.write_bytes(b'{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: not JSON"):
        folder.read()


def test_a_cut_history_keeps_its_first_lines(tmp_path):
    folder = make(tmp_path / "a")
    folder.cut_history(0)  # nothing there yet
    for step in range(5):
        folder.log({"step": step})
    folder.cut_history(3)
    assert [line["step"] for line in folder.read().history] == [0, 1, 2]


def test_discarding_spares_what_can_be_resumed(tmp_path):
    for name in ("state", "result.json"):
        folder = make(tmp_path / name)
        (folder.path / name).mkdir()
        folder.discard()
        assert folder.path.exists()
    folder = make(tmp_path / "fresh")
    folder.discard()
    assert not folder.path.exists()
