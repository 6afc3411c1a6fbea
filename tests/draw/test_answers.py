import re

import pytest

from qkv.draw import Calibrated, WordEffect, calibration, svg, word_effects
from qkv.errors import InputError


def test_calibration_shows_its_points_and_the_diagonal():
    figure = svg(calibration([Calibrated(0.55, 0.5, 10), Calibrated(0.95, 0.9, 400)], title="How sure"))
    assert ">How sure<" in figure
    assert "stroke-dasharray" in figure
    for name in ("confidence", "share that is right", "answers"):
        assert f">{name}<" in figure
    assert ">100%<" in figure


def test_words_stand_in_the_order_of_the_text_though_they_repeat():
    rows = [WordEffect("not", 0.5), WordEffect("bad", -0.25), WordEffect("not", -0.001)]
    figure = svg(word_effects(rows)).replace("−", "-")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", figure)
    assert [text for text in texts if text in ("not", "bad")] == ["not", "bad", "not"]
    assert {"+0.50", "-0.25", "0"} <= set(texts)
    assert "-0.00" not in texts


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="at least one point"):
        calibration([])
    with pytest.raises(InputError, match="at least one word"):
        word_effects([])
