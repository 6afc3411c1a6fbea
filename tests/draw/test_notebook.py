"""The example notebook, kept as text: it runs from first cell to last, and what its cells end with shows itself."""

import ast
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.py"


def test_every_cell_runs_and_shows_what_it_ends_with():
    names: dict[str, Any] = {}
    shown = []
    for cell in NOTEBOOK.read_text(encoding="utf-8").split("# %%\n")[1:]:
        statements = ast.parse(cell).body
        last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
        exec(compile(ast.Module(statements, []), str(NOTEBOOK), "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names))
    assert [type(value).__name__ for value in shown] == ["Trace", "AttentionMap"]
    for value in shown:
        assert "<iframe srcdoc=" in value._repr_html_()
        assert ElementTree.fromstring(value._repr_svg_()).tag.endswith("svg")
    for figure in ("figure", "overview", "pictures", "sums"):
        assert ElementTree.fromstring(names[figure]).tag.endswith("svg")
    assert names["page"].startswith("<!doctype html>")
