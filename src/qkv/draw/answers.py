"""Charts of answers to which a probability belongs: how far they are to be believed, and what each word adds."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from qkv.draw.chart import Chart, theme
from qkv.draw.colour import INK, MUTED, SERIES
from qkv.errors import InputError

_SIDE = 260
_ROW = 22


@dataclass(frozen=True)
class Calibrated:
    """Answers given with about the same confidence: the mean of it, the share that was right, and how many."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class WordEffect:
    """A word of a text, and what it adds to the probability of the answer: what is lost where it is left out."""

    word: str
    effect: float


def calibration(points: Sequence[Calibrated], *, title: str | None = None) -> Chart:
    """The share of right answers against confidence: where they are equal, on the diagonal, confidence can be believed.

    The area of a point tells how many answers it stands for.

    Args:
        points: from the least sure to the surest.

    Raises:
        InputError: no point.

    >>> "confidence" in calibration([Calibrated(0.55, 0.6, 20), Calibrated(0.9, 0.8, 40)]).to_json()
    True
    """
    if not points:
        raise InputError("there is nothing to draw", expected="at least one point", got="none")
    low = min(0.5, *(min(point.confidence, point.accuracy) for point in points))
    scale = alt.Scale(domain=[max(0.0, low - 0.05), 1.0], nice=False)
    ends = alt.InlineData([{"x": max(0.0, low - 0.05), "y": max(0.0, low - 0.05)}, {"x": 1.0, "y": 1.0}])
    x = alt.X("x:Q", title="confidence", scale=scale, axis=alt.Axis(format=".0%", tickCount=5, grid=False))
    y = alt.Y("y:Q", title="share that is right", scale=scale, axis=alt.Axis(format=".0%", tickCount=5))
    diagonal = alt.Chart(ends).mark_line(color=MUTED, strokeDash=[5, 4], strokeWidth=1.5).encode(x=x, y=y)
    rows = [{"x": point.confidence, "y": point.accuracy, "count": point.count} for point in points]
    base = alt.Chart(alt.InlineData(rows)).encode(x=x, y=y)
    size = alt.Size("count:Q", title="answers", scale=alt.Scale(range=[30, 500], domainMin=0))
    dots = base.mark_point(filled=True, color=SERIES[0], opacity=0.85).encode(size=size)
    line = base.mark_line(color=SERIES[0], strokeWidth=1.5)
    titled = {"title": title} if title else {}
    layers = alt.LayerChart(layer=[diagonal, line, dots])
    return layers.properties(width=_SIDE, height=_SIDE, **titled).configure(**theme())


def word_effects(rows: Sequence[WordEffect], *, title: str | None = None) -> Chart:
    """What each word adds to the probability of the answer, in the order of the text; what it takes away to the left.

    Args:
        rows: the words.

    Raises:
        InputError: no word.

    >>> "-0.25" in word_effects([WordEffect("not", 0.6), WordEffect("bad", -0.25)]).to_json()
    True
    """
    if not rows:
        raise InputError("there is nothing to draw", expected="at least one word", got="none")
    # Words repeat: rows are told apart by their number, which the label takes off again.
    rounded = [round(row.effect, 2) + 0.0 for row in rows]  # -0.0 is written as 0.0
    values = [
        {"word": f"{number:04d}|{row.word[:30]}", "effect": effect, "text": f"{effect:+.2f}" if effect else "0"}
        for number, (row, effect) in enumerate(zip(rows, rounded, strict=True))
    ]
    most = max(max(abs(row.effect) for row in rows), 0.05) * 1.25
    y = alt.Y("word:N", title=None, sort=None, axis=alt.Axis(labelExpr="split(datum.label, '|')[1]", ticks=False))
    scale, axis = alt.Scale(domain=[-most, most], nice=False), alt.Axis(grid=False, tickCount=5)
    x = alt.X("effect:Q", title="what the word adds to the probability", scale=scale, axis=axis)
    base = alt.Chart(alt.InlineData(values)).encode(y=y)
    colour = alt.condition("datum.effect < 0", alt.value(SERIES[1]), alt.value(SERIES[0]))
    bar = base.mark_bar(height={"band": 0.6}).encode(x=x, color=colour)
    right = base.transform_filter("datum.effect >= 0").mark_text(align="left", dx=5, fontSize=11, color=INK)
    left = base.transform_filter("datum.effect < 0").mark_text(align="right", dx=-5, fontSize=11, color=INK)
    zero = alt.Chart(alt.InlineData([{"effect": 0}])).mark_rule(color=MUTED).encode(x="effect:Q")
    layers = [bar, zero, *(part.encode(x=x, text="text:N") for part in (right, left))]
    titled = {"title": title} if title else {}
    return alt.LayerChart(layer=layers).properties(width=420, height=_ROW * len(rows), **titled).configure(**theme())
