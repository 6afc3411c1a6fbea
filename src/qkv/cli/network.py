"""The command that proves what a threshold network decides."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, check_app, say
from qkv.errors import InputError


@check_app.command
def network(
    target: Annotated[str, Parameter(help="A file with a network and its claims, or a worksheet that is shipped.")],
    /,
    *,
    limit: Annotated[float, Parameter(help="Seconds for one proof, after which it is undecided.")] = 10.0,
    html: Annotated[Path | None, Parameter(help="A page to write.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove what a hand-coded threshold network decides, for every input, or refute it with a counterexample.

    The file holds lines of a worksheet: weights, the network as a function, a claim for all inputs:

        given W = [[1, -1], [-1, 1]]
        let net(x) = indicator(0, 0)(sum(step(W @ x)))
        claim forall x in R^2: net(x) == 1 iff x[0] == x[1]

    `hard_threshold(z)` is 1 for z >= 0, `step(z)` is 1 for z > 0, `indicator(lo, hi)` is 1 from lo to hi, both
    included; elsewhere they are 0. Variables are in R^n, or in Z^n for whole numbers; `claim forall x in R^2: ... if
    x[0] > 0` assumes something of them.

    Exit codes: 0 all is proved, 1 something is refuted or undecided, 2 there is nothing to prove.
    """
    from qkv import files
    from qkv.check.worksheets.network import require_z3
    from qkv.check.worksheets.sheet import Worksheet, read_sheet

    require_z3()
    if not 0 < limit < 86_400:
        raise InputError("--limit is a number of seconds", expected="more than 0, less than a day", got=f"{limit:g}")
    _, sheet = read_sheet(target)
    others = [claim.name for claim in sheet.claims if not any(domain.kind in ("R", "Z") for domain in claim.over)]
    if others:
        raise InputError(
            f"{', '.join(others)} of {target} is about no network",
            expected="claims forall x in R^n or Z^n alone",
            hint=f"qkv check worksheet {target}",
        )
    found = Worksheet.read(target, limit=limit, seconds=float("inf"))
    if html is not None:
        say(str(files.write_text(html, found.page())))
    answer(found.document(), found.text(), as_json=as_json)
    if not found.ok:
        sys.exit(1)
