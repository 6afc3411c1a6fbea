import re

import pytest
import torch

from qkv.draw import heard_png, heard_svg
from qkv.errors import InputError
from qkv.types import AttentionMap


def cross(weights: torch.Tensor, tokens: str = "ab") -> AttentionMap:
    times = [f"{place}" for place in range(weights.shape[-1])]
    return AttentionMap(weights, list(tokens), times, "decoder", "cross", "captured", "softmax")


def test_a_token_stands_where_its_attention_is():
    # Four places over 2 seconds: all of a's on the second, middle 0.75 s; b's on the last two, middle 1.5 s.
    weights = torch.tensor([[[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]])
    figure = heard_svg(torch.rand(8, 5), cross(weights), seconds=2.0, title="ab")
    assert "<desc>a at 0.75 s; b at 1.50 s</desc>" in figure
    lines = [
        float(x) for x in re.findall(r'<line x1="([\d.]+)" y1="[\d.]+" x2="[\d.]+" y2="[\d.]+" stroke="#d5', figure)
    ]
    left = lines[0] - 0.75 / 2 * 560
    assert lines[1] == pytest.approx(left + 1.5 / 2 * 560, abs=0.1)
    assert ">1.5<" in figure


def test_attention_far_away_does_not_move_a_token():
    # 0.6 in the first of four places: half of all lies 0.5 / 0.6 of a place in, of two seconds 0.42.
    figure = heard_svg(torch.rand(8, 5), cross(torch.tensor([[[0.6, 0.0, 0.0, 0.4]]]), "a"), seconds=2.0)
    assert "<desc>a at 0.42 s</desc>" in figure


def test_tokens_at_one_place_stand_on_lines_of_their_own():
    for tokens, lines in (("abc", 3), ("abcdefgh", 4)):
        weights = torch.tensor([1.0, 0.0]).expand(1, len(tokens), 2)
        figure = heard_svg(torch.rand(8, 5), cross(weights, tokens), seconds=2.0)
        tops = re.findall(r'<text x="[\d.]+" y="([-\d.]+)"[^>]*text-anchor="middle"[^>]*>[a-h]<', figure)
        assert (len(tops), len(set(tops))) == (len(tokens), lines)


def test_heads_are_averaged_and_a_png_is_drawn():
    weights = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert "a at 0.50 s" in heard_svg(torch.rand(4, 3), cross(weights, "a"), seconds=1.0)
    assert heard_png(torch.rand(4, 3), cross(weights, "a"), seconds=1.0).startswith(b"\x89PNG")


def test_texts_are_escaped():
    figure = heard_svg(torch.rand(4, 3), cross(torch.eye(2)[None], "<&"), seconds=1.0, title="<b>")
    assert "<b>" not in figure
    assert "&lt;" in figure


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="log_mel cannot be drawn"):
        heard_svg(torch.full((3, 2), torch.nan), cross(torch.eye(2)[None]), seconds=1.0)
    with pytest.raises(InputError, match="at least one token"):
        heard_svg(torch.rand(3, 2), cross(torch.zeros(1, 0, 2), ""), seconds=1.0)
