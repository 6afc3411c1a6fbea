"""Charts of training and of comparisons: each function makes an Altair chart, `svg` and `png` draw it.

All wear one look (`theme`): dark ink on paper, letters of 11 units or more, colours that colour-blind readers tell
apart, and a second sign beside colour wherever colour tells something.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import vl_convert

from qkv.draw.colour import GRID, INK, MUTED, PAPER, SERIES
from qkv.errors import InputError

_WIDTH, _HEIGHT = 460, 260
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
_PANEL_WIDTH, _PANEL_HEIGHT = 260, 200
_LABEL_HEIGHT = 13
_SHORT = "format(datum.value, datum.value > 0 && datum.value < 0.001 ? '.0e' : ',~g')"
Chart = alt.Chart | alt.LayerChart | alt.ConcatChart


@dataclass(frozen=True)
class Curve:
    """One line of `curves`: a series (a model, a seed), which part of the data it was measured on, and its points."""

    name: str
    x: Sequence[int | float]
    y: Sequence[int | float]
    part: Literal["training", "validation"] = "training"


@dataclass(frozen=True)
class Bar:
    """One bar of `bars`: a mean and the ends of its 95 % interval."""

    name: str
    mean: int | float
    low: int | float
    high: int | float


@dataclass(frozen=True)
class LengthScore:
    """One point of `by_length`: a model's score over the `count` sentences of one bucket of lengths, such as `6-10`."""

    name: str
    bucket: str
    score: int | float
    count: int


@dataclass(frozen=True)
class PowerLaw:
    """The line `factor * x ** exponent`, straight where both axes are logarithmic; fitted to points from `start` on."""

    exponent: int | float
    factor: int | float
    start: int | float


@dataclass(frozen=True)
class Line:
    """One line of a `Panel`: a series and its points, and the power law fitted to them, if one was."""

    name: str
    x: Sequence[int | float]
    y: Sequence[int | float]
    fit: PowerLaw | None = None


@dataclass(frozen=True)
class Panel:
    """One of the small charts of `panels`: what it shows, what its y axis is called, its lines.

    `log` makes the y axis logarithmic; the x axis is so always.
    """

    title: str
    y: str
    lines: Sequence[Line]
    log: bool = True


def theme() -> dict[str, Any]:
    """The Vega-Lite configuration that every chart wears."""
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "background": PAPER,
        "font": "Helvetica, Arial, 'Liberation Sans', sans-serif",
        "padding": 12,
        "title": {"anchor": "start", "color": INK, "fontSize": 15, "fontWeight": "bold", "offset": 12},
        "view": {"stroke": None},
        "axis": text | {"gridColor": GRID, "domainColor": MUTED, "tickColor": MUTED, "titlePadding": 8},
        "legend": text | {"labelLimit": 260, "symbolStrokeWidth": 2, "symbolSize": 90},
        "axisX": {"labelFlush": False},
        "line": {"strokeWidth": 2},
        "range": {"category": list(SERIES)},
    }


def curves(
    lines: Sequence[Curve], *, x: str = "step", y: str = "loss", log: bool = False, title: str | None = None
) -> Chart:
    """Losses, or any measure, as they went: colour tells the series; training is solid, validation dashed and darker.

    Args:
        lines: the curves; points that are not finite leave a gap.
        x, y: what the axes are called.
        log: a logarithmic y axis, for measures that stay above zero.

    Raises:
        InputError: no curve, a curve without points, x and y of different lengths, log of what is not positive.

    >>> points = {"x": [0, 100, 200], "y": [5.0, 2.5, 1.9]}
    >>> figure = svg(curves([Curve("rnn", **points), Curve("transformer", **points)]))
    >>> "transformer" in figure
    True
    """
    _require_some(lines, "curve")
    for line in lines:
        _require_points(line.name, line.x, line.y)
        if log:
            _require_logarithm(line.name, "y", line.y)
    rows = [
        {"name": line.name, "part": line.part, "x": place, "y": value if math.isfinite(value) else None}
        for line in lines
        for place, value in zip(line.x, line.y, strict=True)
    ]
    names, parts = _ordered(line.name for line in lines), _ordered(line.part for line in lines)
    height = alt.Scale(type="log", nice=False, padding=6) if log else alt.Scale(zero=False)
    # A noisy curve of training would hide that of validation, which runs along it.
    opacity = alt.Scale(domain=["training", "validation"], range=[0.5 if len(parts) > 1 else 1.0, 1.0])
    chart = (
        alt.Chart(alt.InlineData(rows))
        .mark_line()
        .encode(
            x=alt.X("x:Q", title=x, axis=alt.Axis(grid=False, tickCount=6)),
            y=alt.Y("y:Q", title=y, scale=height),
            color=_colour(names, symbolSize=400),
            strokeDash=alt.StrokeDash(
                "part:N",
                title=None,
                scale=alt.Scale(domain=["training", "validation"], range=[[1, 0], [6, 4]]),
                legend=alt.Legend(values=parts, symbolSize=400) if len(parts) > 1 else None,
            ),
            opacity=alt.Opacity("part:N", scale=opacity, legend=None),
        )
    )
    return _dressed(chart, title)


def bars(rows: Sequence[Bar], *, x: str, title: str | None = None) -> Chart:
    """Means of named groups, in the order given, with whiskers over their 95 % intervals and the mean in figures.

    Where no interval is wider than its mean there are no whiskers.

    Args:
        rows: the bars.
        x: what is measured, the name of the axis.

    Raises:
        InputError: no bar, two of one name, or a mean outside its interval.

    >>> chart = bars([Bar("rnn", 31.2, 30.1, 32.3), Bar("transformer", 47.0, 46.2, 47.8)], x="BLEU")
    >>> "47.0" in svg(chart)
    True
    """
    _require_some(rows, "bar")
    _require_distinct([row.name for row in rows], "bar")
    for row in rows:
        if not row.low <= row.mean <= row.high:
            raise InputError(
                f"the interval of {row.name!r} does not hold its mean",
                expected="low <= mean <= high",
                got=f"{row.low}, {row.mean}, {row.high}",
            )
    # Whiskers may end beyond the last gridline; the number stands after whichever reaches further.
    values = [
        {"name": row.name, "mean": row.mean, "low": row.low, "high": row.high, "text": _figure(row.mean)}
        for row in rows
    ]
    base = alt.Chart(alt.InlineData(values)).encode(
        y=alt.Y("name:N", title=None, sort=None, axis=alt.Axis(ticks=False, labelPadding=8, labelLimit=260))
    )
    bar = base.mark_bar(color=SERIES[5], height={"band": 0.6}).encode(x=alt.X("mean:Q", title=x))
    whisker = base.mark_errorbar(ticks=alt.MarkConfig(size=10, color=INK), color=INK).encode(
        x=alt.X("low:Q", title=x), x2="high:Q"
    )
    number = base.mark_text(align="left", dx=8, fontSize=12, color=INK).encode(
        x=alt.X("high:Q", title=x), text="text:N"
    )
    whiskers = [whisker] if any(row.low < row.high for row in rows) else []
    return _dressed(alt.LayerChart(layer=[bar, *whiskers, number]), title, height=34 * len(rows))


def by_length(rows: Sequence[LengthScore], *, y: str, title: str | None = None) -> Chart:
    """Scores against the length of sentences, one line a model; under each bucket how many sentences it holds.

    Args:
        rows: the points; buckets stand in the order in which they first come.
        y: what is measured, the name of the axis.

    Raises:
        InputError: no point, two points of one model in one bucket, or a bucket whose count differs between models.

    >>> rows = [LengthScore("rnn", "1-5", 50.1, 120), LengthScore("rnn", "6-10", 38.4, 310)]
    >>> "310 sentences" in svg(by_length(rows, y="BLEU"))
    True
    """
    _require_some(rows, "point")
    _require_distinct([f"{row.name}, {row.bucket}" for row in rows], "point")
    counts: dict[str, int] = {}
    for row in rows:
        if counts.setdefault(row.bucket, row.count) != row.count:
            raise InputError(
                f"the models were not scored on the same sentences of bucket {row.bucket!r}",
                expected=f"{counts[row.bucket]} sentences for each",
                got=f"{row.count} for {row.name!r}",
            )
    values = [{"name": row.name, "bucket": f"{row.bucket}|{row.count:,} sentences", "score": row.score} for row in rows]
    names = _ordered(row.name for row in rows)
    chart = (
        alt.Chart(alt.InlineData(values))
        .mark_line(point=alt.OverlayMarkDef(filled=True, size=60))
        .encode(
            x=alt.X(
                "bucket:O",
                title="words in the source sentence",
                sort=None,
                axis=alt.Axis(labelAngle=0, labelExpr="split(datum.label, '|')"),
            ),
            y=alt.Y("score:Q", title=y),
            color=_colour(names),
            shape=alt.Shape("name:N", title=None, scale=alt.Scale(domain=names, range=_cycled(_SYMBOLS, names))),
        )
    )
    return _dressed(chart, title, width=max(_WIDTH, 100 * len(counts)))


def points(pairs: Sequence[Sequence[int | float]], *, x: str, y: str, title: str | None = None) -> Chart:
    """Points on a plane of two like axes, and the line on which both are the same: what was told against what is true.

    Args:
        pairs: the two numbers of each point.
        x, y: what the axes are called.

    Raises:
        InputError: no point, or numbers that are not finite.

    >>> "told" in svg(points([(1.0, 1.5), (2.0, 1.75)], x="true", y="told"))
    True
    """
    _require_some(pairs, "point")
    values = [value for pair in pairs for value in pair]
    if not all(map(math.isfinite, values)):
        raise InputError("a point is not finite", expected="numbers")
    ends = [min(values), max(values)]
    scale = alt.Scale(domain=ends, nice=True)
    x_axis, y_axis = alt.X("x:Q", title=x, scale=scale), alt.Y("y:Q", title=y, scale=scale)
    rows = [{"x": first, "y": second} for first, second in pairs]
    dots = alt.Chart(alt.InlineData(rows)).mark_circle(size=14, opacity=0.45, color=SERIES[0])
    line = alt.Chart(alt.InlineData([{"x": end, "y": end} for end in ends])).mark_line(color=MUTED, strokeDash=[6, 4])
    layers = [one.encode(x=x_axis, y=y_axis) for one in (line, dots)]
    return _dressed(alt.LayerChart(layer=layers), title, width=_HEIGHT + 60, height=_HEIGHT + 60)


def panels(charts: Sequence[Panel], *, x: str, columns: int = 2, title: str | None = None) -> Chart:
    """Small charts side by side over one kind of logarithmic x axis: colour and sign tell the series in all of them.

    Where a line has a power law, that is drawn thick over the points that it was fitted to, its exponent at its end.

    Args:
        charts: the panels, from left to right and then down.
        x: what the x axis is called.
        columns: how many panels stand side by side.

    Raises:
        InputError: no panel, a panel without lines, a line without points, x and y of different lengths, a logarithm
            of what is not positive.

    >>> lengths, seconds = [256, 512, 1024], [0.5, 2.0, 8.0]
    >>> line = Line("softmax", lengths, seconds, PowerLaw(exponent=2.0, factor=7.6e-6, start=512))
    >>> ">2.00<" in svg(panels([Panel("forward", "seconds", [line])], x="length"))
    True
    """
    _require_some(charts, "panel")
    for chart in charts:
        _require_some(chart.lines, f"line in the panel {chart.title!r}")
        _require_distinct([line.name for line in chart.lines], "line")
        for line in chart.lines:
            _require_points(line.name, line.x, line.y)
            _require_logarithm(line.name, "x", line.x)
            if chart.log:
                _require_logarithm(line.name, "y", line.y)
    names = _ordered(line.name for chart in charts for line in chart.lines)
    drawn = [_panel(chart, x, names) for chart in charts]
    titled = {"title": title} if title else {}
    # Flush: the frames stand in rows and columns, whatever the length of the labels that hang out into the space.
    room = alt.RowColnumber(row=84, column=96)
    return alt.concat(*drawn, columns=columns, bounds="flush", spacing=room).configure(**theme()).properties(**titled)


def _panel(chart: Panel, x: str, names: Sequence[str]) -> alt.LayerChart:
    places = sorted({place for line in chart.lines for place in line.x})
    x_axis = alt.X(
        "x:Q",
        title=x,
        scale=alt.Scale(type="log", base=2, domain=[places[0], places[-1]], nice=False),
        axis=alt.Axis(grid=False, values=places, labelOverlap="parity"),
    )
    y_scale = alt.Scale(type="log", nice=False, padding=12) if chart.log else alt.Scale(zero=True)
    values = [value for line in chart.lines for value in line.y]
    ticks: dict[str, Any] = {"values": _round_numbers(values)} if chart.log else {"tickCount": 5}
    y_axis = alt.Y("y:Q", title=chart.y, scale=y_scale, axis=alt.Axis(labelExpr=_SHORT, **ticks))
    points = [
        {"name": line.name, "x": place, "y": value}
        for line in chart.lines
        for place, value in zip(line.x, line.y, strict=True)
    ]
    sign = alt.Shape("name:N", title=None, scale=alt.Scale(domain=names, range=_cycled(_SYMBOLS, names)))
    base = alt.Chart(alt.InlineData(points)).encode(x=x_axis, y=y_axis, color=_colour(names))
    layers = [base.mark_line(strokeWidth=1.5), base.mark_point(filled=True, size=40, opacity=1).encode(shape=sign)]
    fitted = [line for line in chart.lines if line.fit is not None]
    if fitted:
        ends = [{"name": line.name, "x": place, "y": value} for line in fitted for place, value in _ends(line)]
        thick = alt.Chart(alt.InlineData(ends)).mark_line(strokeWidth=3.5, opacity=0.45)
        layers.append(thick.encode(x=x_axis, y=y_axis, color=_colour(names)))
        labels = alt.Chart(alt.InlineData(_exponents(fitted, values)))
        written = labels.mark_text(align="left", dx=7, fontSize=11, clip=False)
        layers.append(written.encode(x=x_axis, y=y_axis, color=_colour(names), text="text:N"))
    title = alt.TitleParams(chart.title, fontSize=13, offset=8, frame="group")
    return alt.LayerChart(layer=layers, width=_PANEL_WIDTH, height=_PANEL_HEIGHT, title=title)


def _round_numbers(values: Sequence[int | float]) -> list[float]:
    """Powers of ten around `values`: some of them where there are many, twice and five times as much where few.

    Between values so close that neither would lie, steps as of a linear axis.
    """
    least, span = min(values), max(values) - min(values)
    if 0 < span < least:
        decade = 10.0 ** math.floor(math.log10(span / 6))
        step = next(digit * decade for digit in (2, 5, 10) if span <= 6 * digit * decade)
        return [step * count for count in range(math.ceil(least / step), math.floor((least + span) / step) + 1)]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    digits = (1, 2, 5) if high - low <= 2 else (1,)
    step = -(-(high - low) // 8) or 1
    return [digit * 10.0**decade for decade in range(low - low % step, high + 1, step) for digit in digits]


def _ends(line: Line) -> list[tuple[int | float, int | float]]:
    """Where the fitted part of a line begins and ends."""
    assert line.fit is not None
    return [(place, line.fit.factor * place**line.fit.exponent) for place in (line.fit.start, line.x[-1])]


def _exponents(lines: Sequence[Line], values: Sequence[int | float]) -> list[dict[str, Any]]:
    """Exponents at the ends of their lines, pushed up where they would stand on each other."""
    apart = math.log(max(values) / min(values)) * _LABEL_HEIGHT / (_PANEL_HEIGHT - 24) or 1.0
    rows, below = [], dict.fromkeys((line.x[-1] for line in lines), -math.inf)
    for line in sorted(lines, key=lambda line: _ends(line)[1][1]):
        place, value = _ends(line)[1]
        below[place] = max(math.log(value), below[place] + apart)
        assert line.fit is not None
        rows.append({"name": line.name, "x": place, "y": math.exp(below[place]), "text": f"{line.fit.exponent:.2f}"})
    return rows


def svg(chart: Chart) -> str:
    """`chart` as SVG with real text."""
    return vl_convert.vegalite_to_svg(chart.to_dict())


def png(chart: Chart, *, scale: int | float = 2) -> bytes:
    """`chart` as the bytes of a PNG, `scale` pixels to a unit."""
    return vl_convert.vegalite_to_png(chart.to_dict(), scale=scale)


def _dressed(chart: Chart, title: str | None, *, width: int = _WIDTH, height: int = _HEIGHT) -> Chart:
    titled = {"title": title} if title else {}
    return chart.properties(width=width, height=height, **titled).configure(**theme())


def _colour(names: Sequence[str], **look: Any) -> alt.Color:
    scale = alt.Scale(domain=names, range=_cycled(SERIES, names))
    return alt.Color("name:N", title=None, scale=scale, legend=alt.Legend(**look) if len(names) > 1 else None)


def _cycled(signs: Sequence[str], names: Sequence[str]) -> list[str]:
    return [signs[index % len(signs)] for index in range(len(names))]


def _ordered(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _figure(value: int | float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _require_some(rows: Sequence[object], kind: str) -> None:
    if not rows:
        raise InputError("there is nothing to draw", expected=f"at least one {kind}", got="none")


def _require_points(name: str, x: Sequence[int | float], y: Sequence[int | float]) -> None:
    if not x or len(x) != len(y):
        raise InputError(
            f"the curve {name!r} cannot be drawn",
            expected="as many values as places on the x axis, at least one",
            got=f"{len(y)} values, {len(x)} places",
        )


def _require_logarithm(name: str, axis: str, values: Sequence[int | float]) -> None:
    if any(math.isfinite(value) and value <= 0 for value in values):
        raise InputError(
            f"the curve {name!r} has no logarithm everywhere",
            expected=f"values above zero on the {axis} axis",
            got=f"{min(values):.4g}",
            hint="log=False" if axis == "y" else "",
        )


def _require_distinct(names: Sequence[str], kind: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two {kind}s are named {twice!r}", expected=f"one {kind} a name")
