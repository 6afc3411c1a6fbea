"""The command that judges mathematics worked by hand."""

import csv
import io
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, check_app, say
from qkv.errors import InputError


@check_app.command
def worksheet(
    target: Annotated[
        str | None, Parameter(help="A file, a folder of them, or the name of one that is shipped.")
    ] = None,
    /,
    *,
    listed: Annotated[bool, Parameter(name="--list", negative="", help="Say which worksheets are shipped.")] = False,
    html: Annotated[Path | None, Parameter(help="A page to write: the worksheet with its entries marked.")] = None,
    svg: Annotated[Path | None, Parameter(help="Its statements as a drawing to write.")] = None,
    csv_file: Annotated[Path | None, Parameter(name="--csv", help="A table to write, one row a worksheet.")] = None,
    points: Annotated[float, Parameter(help="The points of a claim.")] = 1.0,
    credit: Annotated[float, Parameter(help="The share of them for what is carried forward from a mistake.")] = 1.0,
    seconds: Annotated[
        float, Parameter(help="For all of a worksheet; claims not reached by then are undecided.")
    ] = 60.0,
    limit: Annotated[float, Parameter(help="Seconds for one proof or search.")] = 10.0,
    seed: Annotated[int, Parameter(help="Decides what instances are drawn for identities.")] = 0,
    solve: Annotated[
        bool,
        Parameter(negative="", help="Judge nothing; work out what it asks for: intermediates, adjoints."),
    ] = False,
    dots: Annotated[
        bool, Parameter(negative="", help="With --solve: entries of products written out term by term.")
    ] = False,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["markdown", "latex", "html"], Parameter(help="How --solve writes.")
    ] = "markdown",
    out: Annotated[Path | None, Parameter(help="With --solve: a file to write instead of standard output.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge mathematics worked by hand: the first wrong step, the entry, the likely cause, and what follows from it.

    A worksheet is Markdown with blocks marked `worksheet`, or a text of such lines:

        given X = [[2, 0], [1, 3]]
        claim Y = X @ X.T = [[4, 2], [2, 10]]
        claim A = softmax(Y / sqrt(2)) = [[0.80, 0.20], [0.00, 1.00]]

    `qkv check worksheet self_attention` runs one that is shipped, and `qkv check worksheet FILE --solve` works out
    what a worksheet without answers asks for. Exit codes: 0 all is right, 1 something is not, 2
    there is nothing to judge.
    """
    from qkv import files
    from qkv.check.worksheets.sheet import Credit, Folder, Worksheet, read_folder, shipped

    if listed or target is None:
        if not listed:
            raise InputError("no worksheet is named", expected="a file, a folder or a name", hint="--list for names")
        names = shipped()
        width = max(map(len, names))
        answer(
            {"worksheets": names},
            "\n".join(f"{name:{width}}  {title}" for name, title in names.items()),
            as_json=as_json,
        )
        return
    if solve:
        _solve(target, dots=dots, form=format, out=out, seed=seed, as_json=as_json)
        return
    options = {"credit": Credit(points, credit), "seconds": seconds, "limit": limit, "seed": seed}
    if Path(target).is_dir():
        found = folder = read_folder(target, **options)
        if svg is not None:
            raise InputError("--svg draws one worksheet", got="a folder", hint="--html")
    else:
        found = Worksheet.read(target, **options)
        folder = Folder(target, {Path(target).name: found}, {})
        if svg is not None:
            say(str(files.write_text(svg, found.svg())))
    if html is not None:
        say(str(files.write_text(html, found.page())))
    if csv_file is not None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(folder.rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(folder.rows)
        say(str(files.write_text(csv_file, text.getvalue())))
    answer(found.document(), found.text(), as_json=as_json)
    if not found.ok:
        sys.exit(1)


def _solve(target: str, *, dots: bool, form: str, out: Path | None, seed: int, as_json: bool) -> None:
    from qkv import draw, files
    from qkv.check.worksheets.sheet import read_sheet
    from qkv.check.worksheets.solve import solve

    if Path(target).is_dir():
        raise InputError("--solve works out one worksheet", expected="a file or a name", got="a folder")
    title, sheet = read_sheet(target)
    solution = solve(sheet, title=title, dots=dots, seed=seed)
    written = {
        "markdown": draw.solution_markdown, "latex": draw.solution_latex, "html": draw.solution_page,
    }[form](solution)  # fmt: skip
    if out is not None:
        say(str(files.write_text(out, written)))
    answer({"title": title, "worksheet": solution.filled}, written if out is None else solution.filled, as_json=as_json)
