import re
import struct
from xml.etree import ElementTree

import pytest

from qkv.draw import Bar, Curve, LengthScore, Line, Panel, PowerLaw, bars, by_length, curves, panels, png, svg
from qkv.draw.colour import SERIES
from qkv.errors import InputError

LOSSES = [
    Curve("rnn", [0, 100, 200], [5.0, 3.0, 2.5]),
    Curve("rnn", [0, 200], [5.1, 2.9], "validation"),
    Curve("transformer", [0, 100, 200], [5.0, 2.0, 1.0]),
]
BARS = [Bar("rnn", 31.25, 30, 32.5), Bar("transformer", 47, 46.1, 47.9)]
SCORES = [
    LengthScore("rnn", "1-5", 50.0, 1200),
    LengthScore("rnn", "6-10", 40.0, 31),
    LengthScore("transformer", "1-5", 60.0, 1200),
    LengthScore("transformer", "6-10", 55.0, 31),
]
PANELS = [
    Panel(
        "forward",
        "milliseconds",
        [
            Line("softmax", [128, 256, 512], [1.0, 4.0, 16.0], PowerLaw(2.0, 1 / 16384, 256)),
            Line("linear", [128, 256, 512], [3.9, 7.9, 15.9], PowerLaw(1.01, 0.0295, 256)),
        ],
    ),
    Panel("entropy", "nats", [Line("hard max", [128, 512], [0.0, 0.0])], log=False),
]
CHARTS = {
    "panels": lambda: panels(PANELS, x="length", title="Cost"),
    "curves": lambda: curves(LOSSES, title="Loss"),
    "log": lambda: curves(LOSSES, log=True, x="seconds"),
    "bars": lambda: bars(BARS, x="BLEU", title="Scores"),
    "by_length": lambda: by_length(SCORES, y="BLEU"),
}


def texts(figure: str) -> list[str]:
    return [
        "".join(part.itertext()) for part in ElementTree.fromstring(figure).iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.mark.parametrize("name", CHARTS)
def test_charts_repeat_fetch_nothing_and_are_legible(name: str):
    figure = svg(CHARTS[name]())
    assert figure == svg(CHARTS[name]())
    assert set(re.findall(r"https?://[\w./]*", figure)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert min(float(size) for size in re.findall(r'font-size="([\d.]+)px"', figure)) >= 11
    assert " id=" not in figure  # several figures share a page, so none may name its parts


def test_series_are_told_by_colour_and_parts_by_dashes():
    figure = svg(CHARTS["curves"]())
    assert {"Loss", "rnn", "transformer", "training", "validation", "step", "loss"} <= set(texts(figure))
    # Marks and legend: blue for rnn, vermilion for transformer, the one validation curve dashed.
    assert figure.count(f'stroke="{SERIES[0]}"') >= 2
    assert figure.count(f'stroke="{SERIES[1]}"') >= 1
    dashed = [mark for mark in re.findall(r"<path[^>]*>", figure) if 'stroke-dasharray="6,4"' in mark]
    assert sum(f'stroke="{SERIES[0]}"' in mark for mark in dashed) == 1
    assert not any(f'stroke="{SERIES[1]}"' in mark for mark in dashed)


def test_validation_stands_out_against_training():
    def opacities(*lines: Curve) -> list[str]:
        """Of all curves, in the order in which they are drawn."""
        marks = re.findall(r'<path[^>]*"line mark"[^>]*>', svg(curves(lines)))
        return [found for mark in marks for found in re.findall(r' opacity="([^"]*)"', mark)]

    training, validation = Curve("rnn", [1, 2], [3.0, 2.0]), Curve("rnn", [1, 2], [3.0, 2.5], "validation")
    assert opacities(training, validation) == ["0.5", "1"]
    assert opacities(training) == ["1"]


def test_one_series_of_one_part_needs_no_legend():
    assert not {"rnn", "training"} & set(texts(svg(curves(LOSSES[:1]))))


def test_a_loss_that_is_not_finite_leaves_a_gap():
    figure = svg(curves([Curve("rnn", [0, 1, 2, 3, 4], [5.0, 4.0, float("nan"), 3.0, 2.0])]))
    assert any(mark.count("M") == 2 for mark in re.findall(r'd="(M[^"]*)"[^>]*stroke="#0072b2"', figure))


def test_a_long_run_is_drawn_whole():
    places = list(range(6007))  # past the 5,000 rows at which Altair's data frames stop
    assert "6,000" in texts(svg(curves([Curve("rnn", places, [1 / (1 + place) for place in places])])))


def test_values_without_an_interval_have_no_whiskers():
    marks = [
        [layer["mark"]["type"] for layer in bars(rows, x="share").to_dict()["layer"]]
        for rows in (BARS, [Bar("a", 0.5, 0.5, 0.5)], [Bar("a", 0.5, 0.5, 0.5), Bar("b", 0.5, 0.4, 0.5)])
    ]
    assert marks == [["bar", "errorbar", "text"], ["bar", "text"], ["bar", "errorbar", "text"]]


def test_bars_carry_their_means_in_the_order_given():
    words = texts(svg(CHARTS["bars"]()))
    assert [word for word in words if word in ("31.2", "47.0")] == ["31.2", "47.0"]
    assert words.index("rnn") < words.index("transformer")


def test_buckets_say_how_many_sentences_they_hold():
    words = "|".join(texts(svg(CHARTS["by_length"]())))
    assert "1-51,200 sentences" in words.replace("|", "")
    assert "31 sentences" in words


def test_panels_have_one_x_axis_one_legend_and_exponents_that_do_not_touch():
    figure = svg(CHARTS["panels"]())
    words = texts(figure)
    assert [words.count(word) for word in ("length", "softmax", "linear", "hard max", "forward", "entropy")] == [
        2, 1, 1, 1, 1, 1
    ]  # fmt: skip
    assert {"Cost", "milliseconds", "nats", "128", "256", "512", "1", "10"} <= set(words)
    # The fits end at 16 and 0.0295 x 512^1.01 = 16.06, one place, so the label of the higher is pushed up.
    heights = {
        text: float(re.search(r"translate\([\d.]+,([\d.]+)\)[^>]*>" + text, figure)[1]) for text in ("2.00", "1.01")
    }
    assert 11 <= heights["2.00"] - heights["1.01"] <= 20


def test_a_fit_is_drawn_where_it_was_made():
    thick = [mark for mark in re.findall(r"<path[^>]*>", svg(CHARTS["panels"]())) if 'stroke-width="3.5"' in mark]
    assert len(thick) == 2
    for mark in thick:  # from 256, which is half of the way from 128 to 512, to the right edge
        places = [float(x) for x in re.findall(r"[ML]([\d.]+),", re.search(r' d="([^"]*)"', mark)[1])]
        assert places == pytest.approx([130, 260])


def test_small_numbers_have_short_names_and_many_decades_few_lines():
    line = Line("a", [1, 2], [1e-9, 1e3])
    words = texts(svg(panels([Panel("p", "y", [line])], x="x")))
    assert {"1e-8", "1", "100"} <= set(words)
    assert "0.00000001" not in words


def test_values_that_lie_close_have_steps_between_powers_of_ten():
    figure = svg(
        panels([Panel("loss", "loss", [Line("asymmetric", [1, 8, 64], [77_958.0, 72_806.0, 87_940.0])])], x="d")
    )
    assert re.findall(r">(\d\d,000)<", figure) == ["75,000", "80,000", "85,000"]


def test_a_png_is_as_large_as_asked():
    small, large = (struct.unpack(">II", png(CHARTS["bars"](), scale=scale)[16:24]) for scale in (1, 3))
    assert large == pytest.approx([3 * side for side in small], abs=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: curves([]), "nothing to draw. Expected at least one curve"),
        (lambda: curves([Curve("rnn", [1, 2], [0.5])]), "'rnn' cannot be drawn.*1 values, 2 places"),
        (lambda: curves([Curve("rnn", [], [])]), "'rnn' cannot be drawn"),
        (lambda: curves([Curve("rnn", [1, 2], [0.5, 0.0])], log=True), "no logarithm everywhere.*Try: log=False"),
        (lambda: bars([], x="BLEU"), "Expected at least one bar"),
        (lambda: bars([BARS[0], BARS[0]], x="BLEU"), "two bars are named 'rnn'"),
        (lambda: bars([Bar("rnn", 3.0, 4.0, 5.0)], x="BLEU"), "interval of 'rnn' does not hold its mean"),
        (lambda: bars([Bar("rnn", float("nan"), 4.0, 5.0)], x="BLEU"), "does not hold its mean"),
        (lambda: panels([], x="length"), "Expected at least one panel"),
        (lambda: panels([Panel("p", "s", [])], x="length"), "at least one line in the panel 'p'"),
        (lambda: panels([Panel("p", "s", [Line("a", [1], [1, 2])])], x="length"), "'a' cannot be drawn"),
        (lambda: panels([Panel("p", "s", [Line("a", [0, 1], [1, 2])])], x="length"), "above zero on the x axis; got 0"),
        (lambda: panels([Panel("p", "s", [Line("a", [1], [0.0])])], x="length"), "no logarithm.*Try: log=False"),
        (lambda: panels([Panel("p", "s", [Line("a", [1], [1])] * 2)], x="length"), "two lines are named 'a'"),
        (lambda: by_length([], y="BLEU"), "Expected at least one point"),
        (lambda: by_length([SCORES[0], SCORES[0]], y="BLEU"), "two points are named 'rnn, 1-5'"),
        (
            lambda: by_length([SCORES[0], LengthScore("t", "1-5", 1.0, 7)], y="BLEU"),
            "same sentences of bucket '1-5'. Expected 1200 sentences for each; got 7 for 't'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message: str):
    with pytest.raises(InputError, match=message):
        make()
