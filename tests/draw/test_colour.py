from itertools import pairwise

import pytest

from qkv.draw.colour import BLUES, GREYS, INK, ORANGES, PAPER, shade, text_on


def test_a_scale_by_hand():
    # Five stops: a quarter of the way is the second, an eighth is half-way between the first two.
    assert shade(BLUES, 0.25) == BLUES[1]
    assert shade(("#000000", "#102030", "#000000", "#000000", "#000000"), 0.125) == "#081018"
    assert (shade(BLUES, 0.0), shade(BLUES, 1.0)) == (BLUES[0], BLUES[-1])


@pytest.mark.parametrize("stops", [BLUES, ORANGES, GREYS])
def test_scales_get_steadily_darker(stops: tuple[str, ...]):
    def luminance(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    steps = [luminance(shade(stops, index / 101)) for index in range(102)]
    assert all(darker < lighter for lighter, darker in pairwise(steps))


def test_text_is_legible_on_both_ends():
    assert (text_on(BLUES[0]), text_on(BLUES[-1])) == (INK, PAPER)
