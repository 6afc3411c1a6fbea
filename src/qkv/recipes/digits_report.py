"""The page that tells what attention between images shows."""

import math
from collections.abc import Mapping, Sequence

from qkv import draw
from qkv.draw import Facts, Figure, Heading, Line, Panel, Paragraph, Preformatted, Table
from qkv.draw.chart import Chart
from qkv.draw.report import Block
from qkv.recipes.digits_attention import Attend, Draw, Seen
from qkv.train.metrics import Estimate, estimate
from qkv.types import AttentionMap, Run


def report(run: Run, seen: Sequence[Seen], first: Draw, ways: Mapping[str, Attend], command: str) -> str:
    """The report of a finished run.

    Args:
        first: the draw that the pictures show.
        ways: each form, by the name that `seen` has for it.
    """
    result = run.result
    size = result["size"]
    target, source = (side[0].unflatten(-1, size) for side in (first.target, first.source))
    labels = [str(label) for label in result["classes"]]
    names = form_names(result["full"], result["sigma"])
    blocks: list[Block] = [
        Paragraph(
            f"{len(labels)} images, one of each class, are the sources: keys and values. {len(labels)} others are the "
            f"targets, which ask. An image is the vector of its {size[0] * size[1]} pixels, each between 0 and 1."
        ),
        Heading("What the matrices show"),
        *(Paragraph(text) for text in told(run, seen)),
        _numbers(seen, names),
        Heading("Entropy against scale and kernel width"),
        Figure(draw.svg(_entropy_chart(run)), "Mean over rows of 50 draws at most; where all weights are alike it is "
               f"{math.log(len(labels)):.3f} nats."),
    ]  # fmt: skip
    for form, attend in ways.items():
        output, weights = attend(first.target, first.source)
        attention = AttentionMap(
            weights.float(), labels, labels, names[form], "cross", "captured", "kernel" if form == "rbf" else "softmax"
        )
        blocks += [
            Heading(f"By {names[form]}"),
            Figure(
                draw.image_matrix_svg(attention, target, source),
                "Weights of the first draw: rows are targets, columns sources.",
            ),
            Figure(
                draw.images_svg(output[0].unflatten(-1, size), labels=labels),
                "Under each target's class, the weighted sum.",
            ),
        ]
    blocks += [
        Heading("How this was made"),
        Facts({"seed": run.seed, "draws": run.config["draws"], "seconds": f"{result['seconds']:.1f}"}),
        Preformatted(command),
    ]
    return draw.report_page("Attention between images", blocks)


def form_names(full: int, sigma: float) -> dict[str, str]:
    """What each form is called."""
    return {
        "raw": f"dot product of pixels from 0 to {full}",
        "dot": "dot product",
        "scaled": "scaled dot product",
        "rbf": f"RBF kernel, sigma {sigma:.3g}",
    }


def told(run: Run, seen: Sequence[Seen]) -> list[str]:
    """What a reader of the matrices sees, with its numbers."""
    one = {found.form: found for found in seen}
    even = math.log(len(run.result["classes"]))
    accuracy = {form: f"{_percent(found):.1f} %" for form, found in one.items()}
    return [
        f"Weights by the dot product of pixels as files have them, from 0 to {run.result['full']}, have a mean "
        f"largest weight of {one['raw'].largest:.4f} and an entropy of {one['raw'].entropy:.4f} nats, against "
        f"{even:.4f} where all are alike. With pixels between 0 and 1 the entropy is {one['dot'].entropy:.4f}, scaled "
        f"by 1 / √d {one['scaled'].entropy:.4f}, by the RBF kernel {one['rbf'].entropy:.4f}.",
        f"The strongest source has the target's class in {accuracy['dot']} of cases by dot product (a scale changes no "
        f"order), in {accuracy['rbf']} by the RBF kernel, which prefers what is near; a guess is right in "
        f"{100 / len(run.result['classes']):.1f} %. The dot product prefers what is bright: in "
        f"{100 * one['dot'].brightest:.1f} % of cases its strongest source is the one of the largest norm, by the "
        f"kernel in {100 * one['rbf'].brightest:.1f} %.",
    ]


def _percent(seen: Seen) -> Estimate:
    """How often the strongest source has the target's class; draws are independent."""
    return estimate([100 * hit for hit in seen.hits])


def _numbers(seen: Sequence[Seen], names: Mapping[str, str]) -> Table:
    rows = [
        [names[one.form], f"{_percent(one):.1f}", f"{100 * one.brightest:.1f}",
         f"{one.entropy:.4f}", f"{one.largest:.4f}"]
        for one in seen
    ]  # fmt: skip
    header = ["weights by", "right class, %", "brightest, %", "entropy", "largest weight"]
    best = {"right class, %": "highest"}
    caption = f"Over {len(seen[0].hits):,} draws; ± is a 95 % interval."
    return Table(header, rows, best=best, caption=caption)  # pyright: ignore[reportArgumentType]


def _entropy_chart(run: Run) -> Chart:
    result = run.result
    by_scale = Line("by scale", result["scales"], result["entropy_by_scale"])
    by_sigma = Line("by sigma", result["sigmas"], result["entropy_by_sigma"])
    return draw.panels(
        [
            Panel("dot product, against its scale", "nats", [by_scale], log=False),
            Panel("RBF kernel, against sigma", "nats", [by_sigma], log=False),
        ],
        x="scale, or sigma",
    )
