"""What every command does alike: help, quick answers, exit codes, no tracebacks."""

import os
import subprocess
import sys

import pytest

# -- asking ----------------------------------------------------------------------------------------------------------

COMMANDS = ["run", "run translate", "resume", "evaluate", "predict", "show", "explain", "compare", "recipes", "doctor"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(qkv_cli, command):
    answer = qkv_cli(*command.split(), "--help")
    assert answer.code == 0
    assert f"Usage: qkv{' ' * bool(command)}{command}" in answer.out
    assert answer.err == ""


def test_help_of_a_recipe_lists_its_settings_with_what_they_mean(program, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")  # no breaks inside sentences; read once in a process
    text = " ".join(program("run", "translate", "--help").communicate()[0].split())
    for option in ("--model", "--fit.learning-rate", "--transformer.num-heads", "--preset", "--seeds", "--embeddings"):
        assert option in text
    assert "The highest one, reached at the end of the warm-up" in text


def test_asking_for_help_does_not_load_torch():
    script = (
        "import sys; from qkv.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('loaded:', [m for m in ('torch', 'altair', 'pandas', 'scipy', 'sklearn') if m in sys.modules])"
    )
    for asked in (["--help"], ["--version"], ["recipes"]):
        done = subprocess.run([sys.executable, "-c", script, *asked], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "loaded: []"


# -- leaving ---------------------------------------------------------------------------------------------------------


def test_a_gone_reader_is_no_problem(program):
    reader, writer = os.pipe()
    os.close(reader)
    started = program("recipes", stdout=writer)
    os.close(writer)
    _, err = started.communicate(timeout=500)
    assert (started.returncode, err) == (0, "")


def test_in_a_process_of_its_own_a_bad_input_leaves_no_traceback(program, tmp_path):
    started = program("run", "translate", "--data", tmp_path / "none.tsv", cwd=tmp_path)
    out, err = started.communicate(timeout=500)
    assert (started.returncode, out) == (2, "")
    assert err.startswith(f"qkv: {tmp_path / 'none.tsv'}: no such file. Try: ")
    assert "Traceback" not in err
