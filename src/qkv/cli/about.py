"""Commands that tell what is there: recipes, and what is installed."""

import sys
from dataclasses import asdict

from qkv.cli.console import AsJson, answer, app
from qkv.recipes import RECIPES


@app.command(name="recipes")
def list_recipes(*, as_json: AsJson = False) -> None:
    """List what can be run, one line each."""
    document = {"recipes": {name: asdict(entry) for name, entry in RECIPES.items()}}
    lines = [f"{name:<12} {entry.summary} Default data: {entry.default_data}." for name, entry in RECIPES.items()]
    answer(document, "\n".join(lines), as_json=as_json)


@app.command
def doctor(*, as_json: AsJson = False) -> None:
    """Tell what is installed, what is missing, and how to mend it."""
    from qkv.doctor import examine

    findings = examine()
    marks = {"good": "ok  ", "missing": "--  ", "broken": "!!  "}
    lines = [
        f"{marks[found.state]}{found.name:<22} {found.detail}" + (f"  ->  {found.mend}" if found.mend else "")
        for found in findings
    ]
    answer({"findings": [vars(found) for found in findings]}, "\n".join(lines), as_json=as_json)
    if any(found.state == "broken" for found in findings):
        sys.exit(1)
