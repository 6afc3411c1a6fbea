"""The page that tells what attention costs against length, why scores are scaled, how near Taylor comes to softmax."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from qkv import draw
from qkv.draw import Facts, Figure, Heading, Line, Panel, Paragraph, Preformatted, Table
from qkv.draw.chart import Chart
from qkv.draw.report import Block
from qkv.functional import TaylorFeatures
from qkv.recipes.scaling_cost import FORMS, Cost, crossing, power_law, series
from qkv.recipes.scaling_scores import KEYS, Nearness, Weighing
from qkv.types import Run

Measure = Callable[[Cost], float]
_MASKINGS = {True: "causal", False: "every query sees every key"}
_PASSES = {False: "forward", True: "forward and backward"}


def milliseconds(cost: Cost) -> float:
    return cost.seconds * 1e3


def megabytes(cost: Cost) -> float:
    return cost.megabytes


def billions(cost: Cost) -> float:
    return cost.operations / 1e9


def report(run: Run, costs: Sequence[Cost], ways: Sequence[Weighing], near: Sequence[Nearness], command: str) -> str:
    """The report of a finished run."""
    config = run.config
    passes = sorted({cost.backward for cost in costs})
    blocks: list[Block] = [
        Paragraph(
            f"What forms of attention cost on a processor, in float32, threads: {run.result['threads']}; "
            f"{config['heads']} heads, queries and keys {config['head_dim']} wide, values {config['value_dim']}. Times "
            f"are medians of {config['rounds']} calls or more in which the forms took turns; what else the machine did "
            "then is in them, so ratios within this page say more than milliseconds."
        ),
        Heading("Time against length"),
        Figure(draw.svg(time_chart(costs)), "Thick: the power law fitted to the longer half of the lengths; its "
               "exponent stands at its end."),
        *(Paragraph(crossings(costs, backward=backward)) for backward in passes),
        *(times(costs, is_causal=True, backward=backward) for backward in passes),
        Heading("What theory says"),
        theory(costs, backward=passes[-1]),
        Paragraph(
            "L is the length, D the width of a head, d that of the whole layer, H the number of features: "
            f"1 + D + D(D + 1) / 2 = {TaylorFeatures(order=2).size(config['head_dim']):,} for Taylor features of order "
            f"2, {config['head_dim']} for elu + 1, {config['features']} for FAVOR+. {whole(config)} Exponents below "
            "theory's are of lengths at which fixed costs, and products too small to fill the processor, still count."
        ),
        Heading("Memory and operations"),
        Figure(draw.svg(space_chart(costs, backward=passes[-1])), f"Causal, {_PASSES[passes[-1]]}."),
        Paragraph(
            "Memory is the most that torch's allocator had handed out at once, inputs not counted, by torch's "
            "profiler; buffers of BLAS and of compiled loops are not seen. Operations are those of matrix products, a "
            f"multiplication and an addition each, by torch.utils.flop_counter. {counting(costs)}"
        ),
        Heading("Why scale, why softmax"),
        Figure(draw.svg(weighing_chart(ways)), f"Rows of {KEYS} random keys. Hard max is 0 in both lower panels."),
        *(Paragraph(text) for text in why(ways)),
        weighing_table(ways),
        Heading("How near Taylor comes to softmax"),
        Figure(draw.svg(nearness_chart(near)), "The total variation between the weights and those of softmax(q · k), "
               "the mean over rows; all queries and keys are of the length on the x axis."),
        Paragraph(
            "Taylor's polynomial of order n leaves out (q · k)^(n + 1) / (n + 1)! and what follows, so its distance "
            "falls with the power 2 (n + 1) of the norm: another order pays where |q · k| is below about 1. Beyond, "
            "orders 1 and 3 have negative weights and a normaliser that can vanish, which a distance above 1 shows "
            "(rows that vanish count as zeros). elu + 1 does not approximate softmax, so its distance says how "
            "different it is, not how good."
        ),
        Heading("How this was made"),
        Facts({
            "lengths": ", ".join(f"{length:,}" for length in sorted({cost.length for cost in costs})),
            "seed": run.seed,
            "minutes": f"{run.result['seconds'] / 60:.1f}",
        }),
        Preformatted(command),
    ]  # fmt: skip
    return draw.report_page("Scaling: attention against length", blocks)


# -- charts ----------------------------------------------------------------------------------------------------------


def time_chart(costs: Sequence[Cost]) -> Chart:
    """Milliseconds against length: a panel a masking and pass."""
    panels = [
        Panel(f"{_PASSES[backward]}, {masking}", "milliseconds", _lines(costs, milliseconds, is_causal, backward))
        for backward in sorted({cost.backward for cost in costs})
        for is_causal, masking in _MASKINGS.items()
    ]
    return draw.panels(panels, x="length")


def space_chart(costs: Sequence[Cost], *, backward: bool) -> Chart:
    """Memory and operations against length."""
    panels = [
        Panel("peak memory", "MB", _lines(costs, megabytes, True, backward)),
        Panel("operations", "billions", _lines(costs, billions, True, backward)),
    ]
    return draw.panels(panels, x="length")


def _lines(costs: Sequence[Cost], measure: Measure, is_causal: bool, backward: bool) -> list[Line]:
    lines = []
    for form in FORMS:
        points = series(costs, form, is_causal=is_causal, backward=backward)
        lengths, values = [cost.length for cost in points], [measure(cost) for cost in points]
        if points:
            lines.append(Line(form, lengths, values, power_law(lengths, values)))
    return lines


def weighing_chart(ways: Sequence[Weighing]) -> Chart:
    """What scores, weights and gradients do as queries and keys grow wider."""

    def lines(measure: str, names: Sequence[str]) -> list[Line]:
        return [
            Line(name, [way.width for way in chosen], [getattr(way, measure) for way in chosen])
            for name in names
            for chosen in [[way for way in ways if way.weights == name]]
        ]

    scaled, unscaled, normalised, hard = dict.fromkeys(way.weights for way in ways)
    return draw.panels(
        [
            Panel("variance of the scores", "variance", lines("variance", [scaled, unscaled])),
            Panel("entropy of a row", "nats", lines("entropy", [scaled, unscaled, hard]), log=False),
            Panel("norm of the weights' Jacobian", "median", lines("jacobian", [scaled, unscaled, normalised])),
            Panel("gradient that reaches the query", "median", lines("gradient", [scaled, unscaled, normalised])),
        ],
        x="width of queries and keys",
    )


def nearness_chart(near: Sequence[Nearness]) -> Chart:
    """The distance of feature maps to softmax against the norm of queries and keys."""
    lines = [
        Line(name, [one.norm for one in chosen], [one.distance for one in chosen])
        for name in dict.fromkeys(one.features for one in near)
        for chosen in [[one for one in near if one.features == name]]
    ]
    return draw.panels([Panel("distance to softmax", "total variation", lines)], x="norm of queries and keys")


# -- tables and sentences --------------------------------------------------------------------------------------------


def times(costs: Sequence[Cost], *, is_causal: bool, backward: bool) -> Table:
    """Milliseconds, a row a form and a column a length."""
    lengths = sorted({cost.length for cost in costs})
    rows: list[list[Any]] = []
    for form in FORMS:
        found = {
            cost.length: milliseconds(cost) for cost in series(costs, form, is_causal=is_causal, backward=backward)
        }
        if found:
            rows.append([form, *(_short(found[length]) if length in found else None for length in lengths)])
    header = ["milliseconds", *(f"{length:,}" for length in lengths)]
    best = dict.fromkeys(header[1:], "lowest")
    return Table(header, rows, best=best, caption=f"{_PASSES[backward]}, {_MASKINGS[is_causal]}".capitalize() + ".")  # pyright: ignore[reportArgumentType]


def theory(costs: Sequence[Cost], *, backward: bool) -> Table:
    """How each form should grow with length, beside the exponents of what was measured."""
    rows: list[list[Any]] = []
    for name, form in FORMS.items():
        points = series(costs, name, is_causal=True, backward=backward)
        laws = [
            power_law([cost.length for cost in points], [measure(cost) for cost in points])
            for measure in (milliseconds, megabytes, billions)
        ]
        if points:
            time, memory, operations = (f"L^{law.exponent:.2f}" if law else None for law in laws)
            rows.append([name, form.told, form.time, time, operations, form.memory, memory])
    header = ["", "what it is", "time: theory", "measured", "operations", "memory: theory", "measured"]
    return Table(header, rows, caption=f"Causal, {_PASSES[backward]}; fitted to the longer half of the lengths.")


def crossings(costs: Sequence[Cost], *, backward: bool) -> str:
    """From which length on second-order Taylor attention is faster than fused softmax, in a sentence."""
    lengths = sorted({cost.length for cost in costs})

    def told(length: float) -> str:
        if length == 0:
            return f"at all lengths measured, from {lengths[0]:,} on"
        return f"at none up to {lengths[-1]:,}" if math.isinf(length) else f"from length {length:,.0f} on"

    causal, full = (told(crossing(costs, is_causal=is_causal, backward=backward)) for is_causal in (True, False))
    return (
        f"Linear attention with Taylor features is faster than fused softmax, {_PASSES[backward]}: causal {causal}; "
        f"where every query sees every key, {full}."
    )


def whole(config: dict[str, Any]) -> str:
    """Where the two halves of a layer's cost are equal."""
    width = config["heads"] * config["value_dim"]
    # Products of projections: 2 L d (2 D heads + d); of attention: 2 L^2 heads (D + value_dim).
    equal = width * (2 * config["head_dim"] + config["value_dim"]) / (config["head_dim"] + config["value_dim"])
    return (
        "The whole of softmax(X Wq Wkᵀ Xᵀ) X Wv costs O(L d D) for the projections, then O(L² D) for attention, in "
        f"each head: with d = {width:,} here, attention has more operations than its projections from length "
        f"{equal:,.0f} on."
    )


def counting(costs: Sequence[Cost]) -> str:
    """Which operations come from a formula."""
    hidden = list(dict.fromkeys(cost.form for cost in costs if not cost.counted))
    if not hidden:
        return "A causal product counts whole, also where the half above the diagonal is skipped."
    return (
        f"Of {', '.join(hidden)} it sees nothing, since compiled loops do the work: there the formula 4 L H (D + 1) a "
        "head is used forward, with D the width of values, and 3.5 times that with backward."
    )


def why(ways: Sequence[Weighing]) -> list[str]:
    """What the chart shows, with its numbers."""
    named = {(way.weights, way.width): way for way in ways}
    narrow, wide = (end(way.width for way in ways) for end in (min, max))
    small, large = named["softmax, not scaled", narrow], named["softmax, not scaled", wide]
    kept, normalised = named["softmax, scaled", wide], named["sum-normalised", wide]
    return [
        f"A score is a sum of {narrow} to {wide:,} products of variance 1, so its variance grows with the width, from "
        f"{_short(small.variance)} to {_short(large.variance)}. At such scores softmax picks one key: entropy falls "
        f"from {small.entropy:.2f} to {large.entropy:.2f} nats (all {KEYS} keys alike: {math.log(KEYS):.2f}). The "
        "gradient that reaches the query in a median row grows with √d for as long as some keys share the weight, then "
        f"vanishes: {small.gradient:.2g} at the least width, {large.gradient:.2g} at the largest. Divided by √d, the "
        f"variance at width {wide:,} is {kept.variance:.2f}, the entropy {kept.entropy:.2f}, the gradient "
        f"{kept.gradient:.2g}, as at all others.",
        "Softmax because its alternatives fail elsewhere. Dividing scores by their sum gives negative weights, and a "
        "sum near 0 blows them up (a scale would change nothing: it cancels): the absolute weights of a median row add "
        f"up to {normalised.absolute:.1f}, not 1, and its gradient is {normalised.gradient / kept.gradient:.0f} times "
        "softmax's. Hard max puts all weight on one key and has no gradient anywhere. Softmax is positive, sums to 1 "
        "and is smooth, and with larger scores tends to hard max.",
    ]


def weighing_table(ways: Sequence[Weighing]) -> Table:
    """The chart's numbers at three widths."""
    widths = sorted({way.width for way in ways})
    chosen = [widths[0], widths[len(widths) // 2], widths[-1]]
    header = ["weights", "width", "variance", "entropy", "sum of |weights|", "Jacobian", "gradient"]
    rows = [
        [
            way.weights,
            way.width,
            _short(way.variance),
            None if way.entropy is None else f"{way.entropy:.2f}",
            *map(_short, (way.absolute, way.jacobian, way.gradient)),
        ]
        for way in ways
        if way.width in chosen
    ]
    return Table(header, rows, caption="Variance and entropy are means, the others medians over rows.")


def _short(value: int | float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
