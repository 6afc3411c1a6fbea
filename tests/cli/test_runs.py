import errno
import html
import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qkv.errors import InputError
from qkv.recipes import base, translate
from qkv.train import RunFolder


def measurements(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


# -- answers for programs --------------------------------------------------------------------------------------------


def test_every_door_answers_with_one_json_document(qkv_cli, trained, swept, digit_pairs, tmp_path):
    (tmp_path / "in.txt").write_text("deux trois\nquatre\n")
    documents = {}
    for arguments in (
        ["recipes"],
        ["doctor"],
        ["resume", trained],
        ["evaluate", trained],
        ["evaluate", trained, "--data", digit_pairs],
        ["predict", trained, "--data", tmp_path / "in.txt", "--out", tmp_path / "out.tsv"],
        ["show", trained, "deux trois", "--out", tmp_path / "figure"],
        ["compare", swept, "--out", tmp_path / "comparison"],
    ):
        answer = qkv_cli(*arguments, "--json")
        assert answer.code == 0, answer.err
        documents[arguments[0]] = answer.json  # the whole of standard output is one document
        people = qkv_cli(*arguments)
        assert people.code == 0
        assert not people.out.startswith("{")
    names = {"bleu", "chrf", "exact_match", "loss"}
    assert documents["resume"]["metrics"].keys() == documents["evaluate"]["metrics"].keys() == names
    assert documents["recipes"]["recipes"]["translate"]["compares"] == "rnn, rnn-attention, transformer"
    assert documents["predict"]["sentences"] == 2
    assert {group["name"] for group in documents["compare"]["groups"]} == {"rnn", "rnn-attention", "transformer"}
    assert {finding["state"] for finding in documents["doctor"]["findings"]} <= {"good", "missing", "broken"}


def test_a_run_of_its_own_process_keeps_standard_output_clean(program, digit_pairs, small, tmp_path):
    started = program(
        "run", "translate", "--data", digit_pairs, *small, "--fit.steps", 4, "--json", cwd=tmp_path
    )  # fmt: skip
    out, err = started.communicate(timeout=500)
    assert started.returncode == 0, err
    document = json.loads(out)
    assert document["metrics"].keys() == {"bleu", "chrf", "exact_match", "loss"}
    # By default a new folder in runs/, named by recipe, model and seed.
    assert (tmp_path / document["run"] / "report.html").is_file()
    assert document["run"] == "runs/translate-transformer-seed0"


def test_skipped_lines_are_told_of(qkv_cli, trained, tmp_path):
    data = tmp_path / "data.tsv"
    data.write_bytes(b"deux\ttwo\n" * 150 + b"caf\xe9\tcoffee\n")
    answer = qkv_cli("evaluate", trained, "--data", data)
    assert answer.code == 0
    assert f"{data}: skipped bytes that are not UTF-8: 1 (line 151)" in answer.err


def test_the_command_of_a_report_makes_the_run_again(qkv_cli, trained, monkeypatch):
    folder, asked = RunFolder.open(trained), []

    def run(recipe, _name, chosen, *, seed, preset, **_):
        asked.append((base.configure(recipe, chosen, preset).model_dump(mode="json"), seed))
        raise InputError("seen")

    monkeypatch.setattr(base, "run", run)
    command = base.command(translate, "translate", folder)
    assert command in html.unescape((trained / "report.html").read_text(encoding="utf-8"))
    assert "seen" in qkv_cli(*shlex.split(command)[1:]).err
    assert asked == [(folder.config, folder.seed)]


# -- sweeps ----------------------------------------------------------------------------------------------------------


def test_a_sweep_leaves_one_comparison_and_trains_nothing_twice(qkv_cli, swept, digit_pairs, small, monkeypatch):
    for name in ("comparison.html", "comparison.svg", "comparison.json"):
        assert (swept / name).stat().st_size > 0
    monkeypatch.setattr(translate, "run", lambda *_, **__: pytest.fail("trained again"))
    models = ("--models", "rnn,rnn-attention,transformer", "--seeds", 2)
    answer = qkv_cli("run", "translate", *models, "--data", digit_pairs, *small, "--out", swept, "--json")
    assert answer.code == 0, answer.err
    assert answer.json == json.loads((swept / "comparison.json").read_text())
    assert [group["seeds"] for group in answer.json["groups"]] == [[0, 1]] * 3


def test_numbers_of_heads_are_compared_at_equal_parameters(qkv_cli, digit_pairs, small, tmp_path):
    answer = qkv_cli(
        "compare", "translate", "--heads", "1,2", "--data", digit_pairs, *small, "--fit.steps", 3,
        "--out", tmp_path / "heads", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert [group["name"] for group in answer.json["groups"]] == ["num heads 1", "num heads 2"]
    results = [json.loads(path.read_text()) for path in sorted((tmp_path / "heads").glob("*/result.json"))]
    assert len({result["parameters"] for result in results}) == 1
    assert len({result["metrics"]["loss"] for result in results}) == 2


# -- stopped and killed ----------------------------------------------------------------------------------------------


def cut_short(program: Callable, path: Path, number: int, arguments: list[object]) -> tuple[int, str]:
    """Sends a training process a signal once it has written a few measurements."""
    started = program("run", "translate", *arguments, "--out", path)
    history, deadline = path / "metrics.jsonl", time.monotonic() + 500
    while not (history.exists() and history.read_bytes().count(b"\n") >= 7):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    started.send_signal(number)
    _, err = started.communicate(timeout=500)
    return started.returncode, err


def same_as(path: Path, whole: Path) -> None:
    assert (path / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert measurements(path) == measurements(whole)
    assert not (path / "state").exists()


@pytest.fixture(scope="module")
def stopped(program, digit_pairs, small, tmp_path_factory) -> Path:
    """A run that was stopped by Ctrl-C, on data of its own."""
    folder = tmp_path_factory.mktemp("stopped")
    data = shutil.copy(digit_pairs, folder / "digits.tsv")
    code, err = cut_short(program, folder / "run", signal.SIGINT, ["--data", data, *small])
    assert code == 2
    assert f"{folder / 'run'}: stopped; all is kept. Try: qkv resume {folder / 'run'}" in err
    assert "Traceback" not in err
    return folder / "run"


@pytest.fixture
def resumable(stopped, tmp_path) -> Path:
    return shutil.copytree(stopped, tmp_path / "run")


def test_a_run_stopped_by_ctrl_c_goes_on_bit_for_bit(qkv_cli, resumable, trained):
    assert not (resumable / "result.json").exists()
    assert len(measurements(resumable)) < len(measurements(trained))
    answer = qkv_cli("resume", resumable, "--threads", 1, "--json")
    assert answer.code == 0, answer.err
    same_as(resumable, trained)


def test_a_killed_run_goes_on_bit_for_bit(qkv_cli, program, digit_pairs, small, trained, tmp_path):
    code, _ = cut_short(
        program, tmp_path / "run", signal.SIGKILL, ["--data", digit_pairs, *small, "--fit.save-every", 0.05]
    )
    assert code == -signal.SIGKILL
    answer = qkv_cli("resume", tmp_path / "run", "--threads", 1)
    assert answer.code == 0, answer.err
    same_as(tmp_path / "run", trained)


def test_an_unfinished_run_says_how_to_go_on(qkv_cli, resumable):
    for arguments in (["show", resumable, "deux"], ["evaluate", resumable], ["compare", resumable]):
        answer = qkv_cli(*arguments)
        assert answer.code == 2
        assert f"{resumable}: this run is not finished. Try: qkv resume {resumable}" in answer.err


def test_another_number_of_threads_is_refused_unless_asked_for(qkv_cli, resumable):
    state = resumable / "state" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"threads": 3}))
    answer = qkv_cli("resume", resumable, "--threads", 1)
    assert answer.code == 2
    assert "Expected 3 threads; got 1. Try: --threads 3, or --other-threads to go on regardless" in answer.err
    assert qkv_cli("resume", resumable, "--threads", 1, "--other-threads").code == 0
    assert qkv_cli("resume", resumable, "--threads", 2).code == 0  # finished: it says so again


def test_changed_data_are_refused(qkv_cli, stopped, resumable):
    data = stopped.parent / "digits.tsv"
    before = data.read_text(encoding="utf-8")
    data.write_text(before.replace("seven", "sevn"), encoding="utf-8")
    answer = qkv_cli("resume", resumable, "--threads", 1)
    data.write_text(before, encoding="utf-8")
    assert answer.code == 2
    assert f"{resumable}: the data have changed since this run began. Try: a new run" in answer.err
    assert (resumable / "state").is_dir()


@pytest.mark.parametrize("writes", [0, 1, 4, 6])
def test_a_full_disk_loses_nothing(qkv_cli, resumable, trained, monkeypatch, writes):
    calls, sync = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        answer = qkv_cli("resume", resumable, "--threads", 1)
    assert answer.code == 2
    assert "the disk is full. Try: free some space, then go on" in answer.err
    assert not list(resumable.glob(".*"))
    assert qkv_cli("resume", resumable, "--threads", 1).code == 0
    same_as(resumable, trained)


# -- bad input -------------------------------------------------------------------------------------------------------


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


BAD_DATA = {
    "missing": (lambda _: None, "no such file"),
    "empty": (write(b""), "the file is empty"),
    "one column": (write(b"alone\n" * 7), "line 1: too few columns; 7 of 7 lines"),
    "undecodable": (write(b"a\tb\ncaf\xe9\tcoffee\n"), "line 2: bytes that are not UTF-8"),
    "a line of 10,000 words": (write(b"a\tb\n" + b"mot " * 10_000 + b"\tw\n"), "line 2: more than 1,000 words"),
    "an empty side": (write(b"a\tb\nc\t\n"), "line 2: an empty side"),
    "a folder": (Path.mkdir, "not a file"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_cannot_be_read(qkv_cli, trained, small, tmp_path, case):
    make, message = BAD_DATA[case]
    make(path := tmp_path / "data.tsv")
    for arguments in (
        ["run", "translate", "--data", path, *small, "--out", tmp_path / "run"],
        ["evaluate", trained, "--data", path],
    ):
        answer = qkv_cli(*arguments)
        assert answer.code == 2
        assert answer.out == ""
        assert str(path) in answer.err
        assert message in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rn"], 'Unknown command "rn". Did you mean "run"?'),
        (["run", "translte"], 'Unknown command "translte". Did you mean "translate"?'),
        (["run", "translate", "--model", "transfomer"], "unknown --model 'transfomer'."),
        (["run", "translate", "--model", "transfomer"], "Try: transformer"),
        (["run", "translate", "--modle", "rnn"], "Unknown option: --modle. Did you mean --model?"),
        (["run", "translate", "--fit.epoch", "3"], "Unknown option: --fit.epoch. Did you mean --fit.epochs?"),
        (["run", "translate", "--fit.epochs", "x"], "--fit.epochs cannot be used. Expected a valid integer"),
        (["run", "translate", "--preset", "tinny"], "unknown preset 'tinny'. Expected one of tiny, default"),
        (["run", "translate", "--data", "eng-fre"], "unknown data set 'eng-fre'."),
        (["run", "translate", "--data", "eng-fre"], "Try: eng-fra"),
        (["run", "translate", "--seed", "-1"], "the seed cannot be used. Expected 0 or more; got -1"),
        (
            ["run", "translate", "--split-seed", "-1"],
            "--split-seed cannot be used. Expected greater",
        ),
        (["run", "translate", "--seeds", "0"], "--seeds leaves nothing to run. Expected at least one"),
        (["run", "translate", "--threads", "0"], "--threads is too small. Expected at least 1; got 0"),
        (["run", "translate", "--models", "rnn,transfomer"], "unknown --model 'transfomer'"),
        (["compare"], "no runs to compare. Expected run folders. Try: qkv compare runs/*"),
        (["show"], 'Command "show" parameter RUN requires an argument.'),
    ],
)
def test_names_and_values_that_cannot_be(qkv_cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    answer = qkv_cli(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())
    assert not list(tmp_path.rglob("config.json"))


def test_folders_that_are_no_run(qkv_cli, trained, tmp_path):
    newer = shutil.copytree(trained, tmp_path / "newer")
    document = json.loads((newer / "config.json").read_text())
    (newer / "config.json").write_text(json.dumps(document | {"format": 2}))
    damaged = shutil.copytree(trained, tmp_path / "damaged")
    (damaged / "config.json").write_text("{")
    (tmp_path / "other").mkdir()
    for path, message in (
        (tmp_path / "nowhere", "no such folder. Expected a run folder"),
        (tmp_path / "other", "not a run folder. Expected a folder with a config.json"),
        (newer, "written by a newer qkv. Expected run format 1; got 2. Try: pip install --upgrade qkv"),
        (damaged, "not JSON"),
    ):
        for arguments in (["resume", path], ["evaluate", path], ["show", path, "deux"], ["compare", path]):
            answer = qkv_cli(*arguments)
            assert (answer.code, answer.out) == (2, "")
            assert str(path) in answer.err
            assert message in answer.err


def test_a_run_is_not_written_over(qkv_cli, trained, digit_pairs, small):
    before = (trained / "config.json").read_bytes()
    answer = qkv_cli("run", "translate", "--data", digit_pairs, *small, "--out", trained)
    assert answer.code == 2
    assert f"or `qkv resume {trained}` to go on with it" in answer.err
    assert (trained / "config.json").read_bytes() == before
