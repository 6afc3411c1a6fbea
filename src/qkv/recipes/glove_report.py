"""The page that tells what GloVe's dimension does to its loss, how far descent comes, and where words lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qkv import draw
from qkv.draw import Curve, Facts, Figure, Heading, Line, Panel, Paragraph, Preformatted, Table
from qkv.draw.chart import Chart
from qkv.draw.report import Block
from qkv.recipes.glove_sweep import MODELS, Curves, Model, Point, Solved, Solver
from qkv.types import Run, WordMap
from qkv.vectors import WordVectors
from qkv.vectors.layout import overlap, word_map

_SOLVERS: Mapping[Solver, str] = {"exact": "exact", "gradient": "descent"}
_LETTERS, _SHOWN, _NEAR = 4, 10, 5
_SMALL = 1e-4


@dataclass(frozen=True)
class Drawn:
    """Maps of the same words, by t-SNE and in two dimensions, how alike they are, and the words nearest to some.

    Where the best dimension is 1 or 2 there is one map, and nothing to compare it with.
    """

    maps: Sequence[WordMap]
    alike: float | None
    near: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, best: WordVectors, plane: WordVectors, frequencies: Sequence[int], seed: int) -> "Drawn":
        """Maps of the vectors of the best dimension and of those of two; `frequencies` tell which words are shown."""
        maps = [
            word_map(one, title=f"d = {one.dim}", seed=seed) for one in (best, plane) if one is plane or one.dim > 2
        ]
        often = sorted(zip(frequencies, best.words, strict=True), key=lambda each: -each[0])
        asked = [word for _, word in often if len(word) >= _LETTERS][:_SHOWN]
        near = {word: [one.word for one in best.nearest(word, top=_NEAR)] for word in asked}
        return cls(maps, overlap(*maps) if len(maps) == 2 else None, near)


def report(
    run: Run,
    points: Sequence[Point],
    solved: Mapping[Model, Solved],
    curves: Sequence[Curves],
    targets: tuple[Solved, Solved],
    drawn: Drawn | None,
    command: str,
) -> str:
    """The report of a finished run.

    Args:
        targets: the asymmetric optima towards the logarithms as they are, and towards their symmetrised form.
        drawn: None where there are too few words or dimensions for maps.
    """
    config = run.config
    led = " Models were led to the symmetrised target." if config["target"] == "symmetrised" else ""
    blocks: list[Block] = [
        Paragraph(
            f"{run.result['data']}. The loss is the sum of (w_i · w̃_j + b_i + b̃_j - log(X_ij + {config['delta']:g}))² "
            f"over all pairs of words, where X_ij counts how often j follows i; the symmetric model has w̃ = w, b̃ = b. "
            "Validation is the same sum against the logarithms of its own counts; where it has much less text than "
            f"training, its logarithms are smaller, which no model knows of, and fewer dimensions are best.{led}"
        ),
        Heading("Loss against dimension"),
        Figure(draw.svg(sweep_chart(points)), "Both axes are logarithmic; losses still nearer to zero are left out."),
        *(Paragraph(text) for text in told(points, solved)),
        sweep_table(points, "validation"),
        sweep_table(points, "training"),
        Heading("The symmetrised target"),
        Paragraph(
            "Some course texts lead the asymmetric model to (M + Mᵀ) / 2 in place of M, the logarithms. It "
            "then predicts the same for both orders of two words; what of M tells them apart stays in the loss: "
            f"|M - Mᵀ|² / 4 = {never(targets):,.1f} where the dimension lacks nothing."
        ),
        targets_table(points, targets),
    ]  # fmt: skip
    if curves:
        blocks += [
            Heading("Descent"),
            Paragraph(descent(run, points)),
            Figure(draw.svg(descent_chart(curves, solved)), "Losses after each step, at the dimension that the optimum "
                   "makes best on validation."),
        ]  # fmt: skip
    if drawn is not None:
        blocks += [
            Heading("Where words lie"),
            Paragraph(
                "Rows w of the asymmetric optimum: vectors of two dimensions are drawn as they are; those of the "
                f"dimension that is best on validation, where they have more, by t-SNE.{likeness(drawn)}"
            ),
            Figure(draw.word_map_svg(drawn.maps)),
            Table(["word", "nearest words at the best dimension"], [[w, ", ".join(n)] for w, n in drawn.near.items()]),
        ]  # fmt: skip
    blocks += [
        Heading("How this was made"),
        Facts({"seed": run.seed, "seconds": f"{run.result['seconds']:.1f}"}),
        Preformatted(command),
    ]
    return draw.report_page("GloVe: loss against dimension", blocks)


# -- charts ----------------------------------------------------------------------------------------------------------


def sweep_chart(points: Sequence[Point]) -> Chart:
    """Training and validation loss against dimension."""
    panels = []
    for part in ("training", "validation"):
        lines, most = [], max(getattr(point, part) for point in points)
        for model in MODELS:
            for solver, name in _SOLVERS.items():
                some = [(one.dim, getattr(one, part)) for one in points if (one.model, one.solver) == (model, solver)]
                some = [(dim, loss) for dim, loss in some if loss > _SMALL * most]
                if some:
                    lines.append(Line(f"{model}, {name}", [dim for dim, _ in some], [loss for _, loss in some]))
        panels.append(Panel(part, "loss", lines))
    return draw.panels([panel for panel in panels if panel.lines], x="dimension")


def descent_chart(curves: Sequence[Curves], solved: Mapping[Model, Solved]) -> Chart:
    """Both losses of each model after each step."""
    lines = []
    for model in MODELS:
        validation = solved[model].validation
        some = [one for one in curves if one.model == model]
        curve = min(some, key=lambda one: validation[min(one.dim, len(validation) - 1)])
        name, steps = f"{model}, d = {curve.dim}", range(len(curve.training))
        lines += [Curve(name, steps, curve.training), Curve(name, steps, curve.validation, "validation")]
    return draw.curves(lines, log=True)


# -- tables and sentences --------------------------------------------------------------------------------------------


def told(points: Sequence[Point], solved: Mapping[Model, Solved]) -> list[str]:
    """Which dimension is best, and where over-fitting sets in."""
    sentences = []
    for model in MODELS:
        one, swept = solved[model], [point for point in points if (point.model, point.solver) == (model, "exact")]
        best = min(swept, key=lambda point: point.validation)
        last = len(one.validation) - 1
        sentences.append(
            f"The {model} model is best at d = {best.dim:,} of those above, with a validation loss of "
            f"{best.validation:,.1f}. Of every dimension there is, solved exactly, it is best at {one.best:,} "
            f"({one.validation[min(one.best, last)]:,.1f}): from there on more dimensions lower the training loss, to "
            f"{one.training[-1]:,.1f} at {last:,}, and the validation loss comes to {one.validation[-1]:,.1f} "
            f"there, which is over-fitting. More than {last:,} dimensions change nothing."
        )
    return sentences


def sweep_table(points: Sequence[Point], part: str) -> Table:
    """A row a dimension, a column a model and solver, and how many parameters it takes."""
    columns: list[tuple[Model, Solver]] = list(dict.fromkeys((point.model, point.solver) for point in points))
    rows: list[list[Any]] = []
    for dim in dict.fromkeys(point.dim for point in points):
        there = {(point.model, point.solver): point for point in points if point.dim == dim}
        losses = [float(getattr(there[column], part)) for column in columns]
        sizes = [there[model, "exact"].parameters for model in MODELS]
        rows.append([dim, *losses, *sizes])
    names = [f"{model}, {_SOLVERS[solver]}" for model, solver in columns]
    header = ["dimension", *names, *(f"parameters, {model}" for model in MODELS)]
    best = dict.fromkeys(names, "lowest")
    caption = f"Loss on {part}."
    return Table(header, rows, best=best, digits=1, caption=caption)  # pyright: ignore[reportArgumentType]


def targets_table(points: Sequence[Point], targets: tuple[Solved, Solved]) -> Table:
    """What the symmetrised target costs the asymmetric model."""
    rows = [
        [dim, *(float(losses[min(dim, len(losses) - 1)]) for losses in (one.training, two.training,
                                                                         one.validation, two.validation))]
        for one, two in [targets]
        for dim in dict.fromkeys(point.dim for point in points)
    ]  # fmt: skip
    header = ["dimension", "training, M", "training, symmetrised", "validation, M", "validation, symmetrised"]
    return Table(header, rows, digits=1, caption="The asymmetric model, exact, led to each of two targets.")


def likeness(drawn: Drawn) -> str:
    """How alike two maps are."""
    if drawn.alike is None:
        return ""
    return f" Of a word's ten nearest on one map, {drawn.alike:.0%} are among its ten nearest on the other."


def never(targets: tuple[Solved, Solved]) -> float:
    """What of the training loss stays at every dimension under the symmetrised target."""
    return float(targets[1].training[-1] - targets[0].training[-1])


def descent(run: Run, points: Sequence[Point]) -> str:
    """How far descent comes, and what it takes."""
    config = run.config
    descents = sum(point.seconds for point in points if point.solver == "gradient")
    # One decomposition a model serves all of its dimensions.
    exact = sum({point.model: point.seconds for point in points if point.solver == "exact"}.values())
    pairs = {(one.model, one.dim): one for one in points if one.solver == "exact"}
    above = [
        point.training / pairs[point.model, point.dim].training - 1
        for point in points
        if point.solver == "gradient" and pairs[point.model, point.dim].training > 0
    ]
    return (
        f"{config['steps']:,} steps over all pairs at once, with a rate of {config['rate']:g} / V and normal initial "
        f"values of deviation {config['deviation']:g}. All descents took {descents:.1f} seconds, all optima "
        f"{exact * 1e3:.1f} milliseconds. Training losses of descent are from "
        f"{min(above, default=0):.2%} to {max(above, default=0):,.2%} above the optimum, where that is not zero."
    )
