"""What README.md and docs/ tell a reader to type, run, open or look at is there and works."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App, CycloptsError

from qkv.cli import app, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = ("sh", "bash", "shell", "console")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of `languages`."""
    fences = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in fences if language in languages]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```[^\n]*", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of a page's shell blocks and inline code, in words; settings of the environment are left out."""
    lines = "\n".join(blocks(page, *SHELLS)).replace("\\\n", " ").splitlines()
    lines += [span for span in re.findall(r"`([^`\n]+)`", prose(page)) if span.startswith(("qkv ", ".venv/bin/"))]
    for line in lines:
        for part in re.split(r"&&|;|\|", line.removeprefix("$ ")):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


def understood(arguments: list[str]) -> bool:
    """Whether `qkv` would begin to run this. Placeholders stand for themselves, but a recipe is looked up by name."""
    arguments = ["translate" if word == "RECIPE" else word for word in arguments]
    if arguments[-1:] == ["--help"]:
        return app.parse_commands(arguments[:-1])[2] == []
    try:
        app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError:
        return False
    return True


@every_page
def test_commands_can_be_typed(page: Path):
    for program, *arguments in commands(page):
        name = program.removeprefix(".venv/bin/")
        if name == "qkv":
            assert understood(arguments), shlex.join(arguments)
        elif name not in (program, "pip"):  # pip is the environment's own
            assert Path(sys.executable).with_name(name).exists(), name
        for word in arguments:
            assert not word.endswith((".py", ".lock", ".sh")) or (ROOT / word).exists(), word


@pytest.mark.parametrize(
    "line", ["fly", "fly --help", "run translat", "show", "run translate --wings 2", "run translate --beam-size two"]
)
def test_commands_that_cannot_be_typed_are_noticed(line: str):
    assert not understood(line.split())


def doors(parent: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, those of `qkv` alone and of each recipe among them."""
    yield path
    for name in parent:
        if not name.startswith("-"):
            yield from doors(parent[name], (*path, name))


def test_options_in_the_text_are_options(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    for door in doors():
        with pytest.raises(SystemExit, match="0"):
            main([*door, "--help"])
    known = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))
    assert "--fit.minutes" in known
    named = {option for page in PAGES for option in re.findall(r"`(--[a-z][\w.-]*)[^`\n]*`", prose(page))}
    assert named - known == set()


@every_page
def test_python_runs_and_prints_what_it_says(page: Path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page, "python", "py"):  # in the order of the page, as a reader would
        exec(compile(block, str(page), "exec"), names)
        claims = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
        assert [line for line in capsys.readouterr().out.splitlines() if line in claims] == claims


@every_page
def test_links_and_figures_are_there(page: Path):
    text = prose(page)
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r"\b(?:src|srcset|href)=\"([^\"]+)\"", text)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aimed = (page.parent / path).resolve() if path else page
        assert aimed.exists(), target
        assert not anchor or anchor in anchors(aimed), target


def anchors(page: Path) -> set[str]:
    """Where a link into a page can lead: its headings, in small letters, with dashes for blanks."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_nothing_is_left_to_be_filled_in(page: Path):
    assert re.findall(r"^[A-Z_]+$", prose(page), re.MULTILINE) == []


def test_the_checks_set_up_as_the_readme_does():
    first, second = blocks(ROOT / "README.md", *SHELLS)[:2]
    setup, run = first.strip().rsplit(" && ", 1)
    assert run == ".venv/bin/qkv run translate"
    assert second.strip() == ".venv/bin/pytest"
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert setup in checks.replace(" \\\n", " ")
    assert checks.rstrip().splitlines()[-1].removeprefix("exec ") == second.strip()
