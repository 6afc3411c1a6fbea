"""The command that compares a module with a reference."""

import ast
import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, check_app, say
from qkv.errors import DataError, InputError


@check_app.command
def parity(
    ours: Annotated[str, Parameter(help="FILE:NAME, a class or a function in a Python file, which is run.")],
    theirs: Annotated[str, Parameter(help="The reference: `torch.nn.LSTMCell`, or another FILE:NAME.")],
    /,
    *,
    case: Annotated[
        str | None, Parameter(help="Which layer of torch.nn it is, where the reference does not say it.")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        Parameter(help="The reference's arguments, such as 'input_size=3, hidden_size=5'; once for each size."),
    ] = None,
    mapping: Annotated[
        Path | None, Parameter(name="--map", help="JSON: for each own parameter an expression over the reference's.")
    ] = None,
    bfloat16: Annotated[bool, Parameter(name="--bf16", negative="", help="Compare in bfloat16 too.")] = False,
    seed: Annotated[int, Parameter(help="Decides weights and inputs.")] = 0,
    tolerance: Annotated[float | None, Parameter(help="The relative error in float64 that is none; 1e-9.")] = None,
    html: Annotated[Path | None, Parameter(help="A page to write, with maps of where arrays are wrong.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare anyone's layer with a reference: outputs, all gradients, and where it first goes wrong.

    Both are made of several sizes, given the same weights and asked the same: in evaluation and training, with and
    without masks and padding, in float64 and float32. Parameters are mapped by name, by shape, or by trying; a file
    of `--map` says it otherwise: `{"W_f": "weight_ih[f]", "kernel": "(weight_ih | weight_hh).T"}`.

        class MyLSTMCell(nn.Module):
            def __init__(self, input_size, hidden_size): ...
            def forward(self, x, state): ...

    `qkv check parity mycode.py:MyLSTMCell torch.nn.LSTMCell` then judges it. Where it is made or called otherwise, NAME
    is a function in the file that makes a module which is not. Exit codes: 0 all agrees, 1 something is wrong, 2 they
    cannot be compared.
    """
    from qkv import check, draw, files
    from qkv.check.code import load_named

    with contextlib.redirect_stdout(sys.stderr):  # what the files print is not our answer
        mine, reference = load_named(ours), load_named(theirs)
        report = check.parity(
            mine.thing,
            reference.thing,
            sizes=None if sizes is None else [_arguments(text) for text in sizes],
            mapping=None if mapping is None else _mapping(mapping),
            case=case,
            arguments=mine.arguments or reference.arguments,
            bfloat16=bfloat16,
            seed=seed,
            tolerance=tolerance,
            title=mine.title,
        )
    if html is not None:
        say(str(files.write_text(html, draw.parity_page(report))))
    answer(report.document(), draw.parity_text(report), as_json=as_json)
    if not report.ok:
        sys.exit(1)


def _arguments(text: str) -> dict[str, Any]:
    """The arguments that a size is written as."""
    try:
        call = ast.parse(f"dict({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(one.arg is None for one in call.keywords):
            raise ValueError
        return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError):
        raise InputError(
            "--sizes cannot be read", expected="arguments such as 'input_size=3, hidden_size=5'", got=repr(text)
        ) from None


def _mapping(path: Path) -> dict[str, str]:
    from qkv.files import require_file

    try:
        found = json.loads(require_file(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError("not JSON", path=path, line=getattr(error, "lineno", None)) from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise DataError("no mapping", expected='such as {"W_f": "weight_ih[f]"}', path=path)
    return found
