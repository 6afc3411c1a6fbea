"""Commands that check mathematics."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, check_app, say

Target = Annotated[str, Parameter(help="FILE:NAME, a name in a Python file, which is run.")]


@check_app.command
def gradients(
    target: Target,
    /,
    *,
    entries: Annotated[int, Parameter(help="How many entries of each parameter are judged one at a time.")] = 400,
    points: Annotated[int, Parameter(help="At how many points: the one given, and others near it.")] = 3,
    seed: Annotated[int, Parameter(help="Decides which entries, and where the other points lie.")] = 0,
    tolerance: Annotated[
        float | None, Parameter(help="The relative error that is none; 1e-6, or 2e-3 for code in float32.")
    ] = None,
    html: Annotated[Path | None, Parameter(help="A page to write, with maps of where gradients are wrong.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check anyone's gradients: which entries are wrong, and why.

    NAME is a function of a dict of NumPy arrays that returns `(loss, gradients)`, gradients in a dict of the same
    names; or a torch module, or a function of tensors, whose loss autograd differentiates; or a class with a dict of
    arrays `parameters`, `loss(...)` and `backward(...)`. The file is your own code and is run as Python. What NAME is
    called with is what a function `NAME_sample` beside it returns, or `sample`:

        def loss(parameters, x):
            error = x @ parameters["w"] - 1
            return (error**2).sum(), {"w": 2 * x.T @ error}

        def loss_sample():
            return {"w": np.ones(3)}, np.random.default_rng(0).normal(size=(5, 3))

    `qkv check gradients code.py:loss` then judges it. Exit codes: 0 all agrees, 1 something is wrong, 2 the code cannot
    be judged.
    """
    from qkv import check, draw, files
    from qkv.check.code import load_code

    with contextlib.redirect_stdout(sys.stderr):  # what the file prints is not our answer
        code = load_code(target)
        report = check.gradients(
            code.thing,
            *code.arguments,
            entries=entries,
            points=points,
            seed=seed,
            tolerance=tolerance,
            title=code.title,
        )
    if html is not None:
        say(str(files.write_text(html, draw.check_page(report))))
    answer(report.document(), draw.check_text(report), as_json=as_json)
    if not report.ok:
        sys.exit(1)
