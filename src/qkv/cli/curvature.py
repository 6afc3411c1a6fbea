"""The command that measures curvature."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from qkv.cli.console import AsJson, answer, check_app, parted, say
from qkv.errors import InputError

if TYPE_CHECKING:
    from qkv.check import Cost
    from qkv.check.point import Way
    from qkv.types import Report

_FORMED = 1024  # parameters of the worked example whose Hessian is formed too
_V, _Y = (4.0, 2.0, 1.0), (2.0, 2.0, 1.0)
_SHAPES = ((100, 10), (100, 100), (100, 1000))


@check_app.command
def curvature(
    target: Annotated[
        str | None, Parameter(help="FILE:NAME, a name in a Python file, which is run; a worked example without.")
    ] = None,
    /,
    *,
    ways: Annotated[
        str, Parameter(help="How products are computed, parted by commas; the first is what the others are held to.")
    ] = "forward,reverse,difference",
    top: Annotated[int, Parameter(help="How many of the largest eigenvalues; 0 for none.")] = 3,
    costs: Annotated[
        bool, Parameter(negative="", help="What each way costs: operations counted, time measured.")
    ] = False,
    sizes: Annotated[
        str, Parameter(help="Of the worked example: the numbers of parameters, parted by commas.")
    ] = "16,64,256,1024,4096,16384",
    seed: Annotated[int, Parameter(help="Decides the vectors.")] = 0,
    tolerance: Annotated[float | None, Parameter(help="The relative difference that is none; 1e-6.")] = None,
    html: Annotated[Path | None, Parameter(help="A page to write.")] = None,
    svg: Annotated[Path | None, Parameter(help="Of the worked example: a figure to write, of costs against n.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check products with a Hessian, find its largest eigenvalues, count what they cost.

    NAME is a torch module (whose method `loss` is called, where it has one), or a function of tensors, that gives one
    number. What it is called with is what a function `NAME_sample` beside it returns, or `sample`. The file is your own
    code and is run as Python, in float64:

        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))

        def loss(weight, x):
            return (x @ weight).tanh().square().mean()

        def loss_sample():
            return torch.ones(3, requires_grad=True), torch.randn(7, 3)

    `qkv check curvature code.py:loss --costs` then tells whether forward-over-reverse, reverse-over-reverse and the
    difference of gradients give one product, and whether that is symmetric. Exit codes: 0 they do, 1 something is
    wrong, 2 the code cannot be judged.
    """
    from qkv import draw, files

    if target is not None and svg is not None:
        raise InputError("--svg draws the worked example", expected="no FILE:NAME beside it", got=target)
    with contextlib.redirect_stdout(sys.stderr):  # what the file prints is not our answer
        if target is None:
            found = _worked_example(_sizes(sizes))
        else:
            found = _code(target, parted(ways), top=top, with_costs=costs, seed=seed, tolerance=tolerance)
    if svg is not None:
        say(str(files.write_text(svg, found.figure)))
    if html is not None:
        figures = [draw.Figure(found.figure, "What each way costs against n.")] if found.figure else []
        say(str(files.write_text(html, draw.report_page(found.title, [*found.blocks, *figures]))))
    answer(found.document, "\n\n".join([found.title, *map(_plain, found.blocks)]), as_json=as_json)
    if not found.document["ok"]:
        sys.exit(1)


@dataclass
class _Found:
    """What there is to tell: as a document, and as paragraphs and tables."""

    title: str
    document: dict[str, Any]
    blocks: list[Any]
    figure: str = ""


def _worked_example(sizes: Sequence[int]) -> _Found:
    """`L = (v . x)^2 / 2`, by hand and against n."""
    import torch

    from qkv import check, draw

    v, y = torch.tensor(_V, dtype=torch.float64), torch.tensor(_Y, dtype=torch.float64)
    at = torch.zeros(3, dtype=torch.float64)
    both: tuple[Way, ...] = ("forward", "reverse")
    products = {way: check.hessian_vector(lambda x: (v @ x) ** 2 / 2, at, y, mode=way) for way in both}
    report = check.agreement(lambda x: (v @ x) ** 2 / 2, at, title="L = (v · x)² / 2")
    measured = []
    for n in sizes:
        slope = torch.ones(n, dtype=torch.float64)
        measured += check.costs(lambda x, v=slope: (v @ x) ** 2 / 2, torch.zeros_like(slope), limit=_FORMED)
    brackets = [one for n, m in _SHAPES for one in check.bracketings(n, m)]
    blocks = [
        draw.Paragraph(f"v = {_V}, y = {_Y}: H y = v (v · y), by either mode."),
        draw.Table(
            ["way", "H y"], [[check.WAYS[product.way], str(product.value.tolist())] for product in products.values()]
        ),
        _agreement(report),
        _costs(measured),
        draw.Table(
            ["n", "m", *(f"{one.formula}: {one.order}" for one in brackets[:3])],
            [[n, m, *(one.operations for one in brackets if (one.n, one.m) == (n, m))] for n, m in _SHAPES],
        ),
    ]
    document = report.document() | {
        "products": {way: product.value.tolist() for way, product in products.items()},
        "costs": [vars(cost) for cost in measured],
        "bracketings": [vars(one) for one in brackets],
    }
    return _Found(report.title, document, blocks, _figure(measured))


def _code(
    target: str, ways: Sequence[Any], *, top: int, with_costs: bool, seed: int, tolerance: float | None
) -> _Found:
    """Anyone's loss."""
    from qkv import check, draw
    from qkv.check.code import load_code

    code = load_code(target)
    loss, parameters = check.as_loss(code.thing, code.arguments, code.title)
    report = check.agreement(loss, parameters, ways=ways, seed=seed, tolerance=tolerance, title=code.title)
    document, blocks = report.document(), [_agreement(report)]
    if top:
        ends: dict[str, Any] = {
            "largest": check.eigenvalues(
                loss, parameters, min(top, int(report["symmetry"].facts["parameters"])), seed=seed
            ),
            "smallest": check.eigenvalues(loss, parameters, which="smallest", seed=seed),
        }
        document |= {"eigenvalues": {end: found.values.tolist() for end, found in ends.items()}}
        rows = [
            [end, f"{value:.6g}", f"{far:.1e}"]
            for end, one in ends.items()
            for value, far in zip(one.values, one.residuals, strict=True)
        ]
        blocks.append(draw.Table(["eigenvalue", "value", "|H u - value u|"], rows))
    if with_costs:
        measured = check.costs(loss, parameters, seed=seed)
        document |= {"costs": [vars(cost) for cost in measured]}
        blocks.append(_costs(measured))
    return _Found(code.title, document, [*blocks, *map(draw.Paragraph, report.notes)])


def _agreement(report: "Report") -> Any:
    from qkv.draw import Table

    rows = [
        [
            claim.name,
            claim.verdict,
            f"{claim.error:.1e}" if claim.entries or claim.name == "symmetry" else "",
            f"{claim.tolerance:.1e}",
            ", ".join(f"{claim.facts['parameter']}{list(entry.index)}" for entry in claim.entries)
            if claim.verdict == "wrong"
            else claim.explanation,
        ]
        for claim in report.claims
    ]
    return Table(["claim", "verdict", "worst difference", "allowed", "where"], rows)


def _costs(measured: "Sequence[Cost]") -> Any:
    from qkv.draw import Table

    rows = []
    for cost in measured:
        unit = next(one for one in measured if one.n == cost.n and one.how == "gradient")
        times = cost.operations / unit.operations
        rows.append([
            cost.n, cost.how, cost.operations, f"{times:,.1f}",
            None if cost.seconds is None else f"{1e3 * cost.seconds:,.2f}",
        ])  # fmt: skip
    return Table(["n", "way", "operations", "of the gradient's", "milliseconds"], rows)


def _figure(measured: "Sequence[Cost]") -> str:
    """Operations and time against n, on logarithmic axes."""
    from qkv import draw

    ways = list(dict.fromkeys(cost.how for cost in measured))
    panels = []
    for name, of in (("operations", lambda cost: cost.operations), ("milliseconds", lambda cost: cost.seconds)):
        lines = []
        for way in ways:
            points = [(cost.n, of(cost)) for cost in measured if cost.how == way and of(cost) is not None]
            scale = 1e3 if name == "milliseconds" else 1
            lines.append(draw.Line(way, [n for n, _ in points], [scale * value for _, value in points]))
        panels.append(draw.Panel(name, name, lines))
    return draw.svg(draw.panels(panels, x="parameters n"))


def _plain(block: Any) -> str:
    from qkv import draw

    return draw.table_markdown(block) if isinstance(block, draw.Table) else block.text


def _sizes(written: str) -> list[int]:
    names = parted(written)
    if not names or not all(name.isdecimal() and int(name) > 0 for name in names):
        raise InputError("--sizes are not numbers of parameters", expected="such as 16,64,256", got=repr(written))
    return [int(name) for name in names]
