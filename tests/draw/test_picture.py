import base64
import re
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from qkv.draw import figure_png, image_matrix_svg, image_weights_svg, images_svg
from qkv.errors import InputError
from qkv.types import AttentionMap


def shown(figure: str) -> list[np.ndarray]:
    """The images of a figure, read back by the parts of PNG that they use."""
    images = []
    for text in re.findall(r'href="data:image/png;base64,([^"]+)"', figure):
        raw = base64.b64decode(text)
        width, height, depth, colours = struct.unpack(">IIBB", raw[16:26])
        assert (raw[:8], depth) == (b"\x89PNG\r\n\x1a\n", 8)
        length = struct.unpack(">I", raw[33:37])[0]
        rows = np.frombuffer(zlib.decompress(raw[41 : 41 + length]), np.uint8).reshape(height, -1)
        assert not rows[:, 0].any()  # no filter
        images.append(rows[:, 1:].reshape(height, width, 3) if colours == 2 else rows[:, 1:])
    return images


def cross(weights: torch.Tensor) -> AttentionMap:
    queries, keys = (list("abcdefg")[:count] for count in weights.shape[1:])
    return AttentionMap(weights, queries, keys, "digits", "cross", "captured", "softmax")


def test_by_hand():
    # The smallest value, -1, is black, the largest, 3, white, and 1 in the middle: 127.5, to even 128.
    first, second = shown(images_svg(torch.tensor([[[-1.0, 3.0]], [[1.0, 1.0]]])))
    assert first.tolist() == [[0, 255]]
    assert second.tolist() == [[128, 128]]


def test_colours_and_sides_of_other_sizes_share_one_scale():
    queries, keys = torch.zeros(2, 3, 5, 3), torch.full((3, 7, 2), 2.0)
    queries[0, 1, 4] = torch.tensor([1.0, 2.0, 4.0])
    images = shown(image_matrix_svg(cross(torch.full((1, 2, 3), 1 / 3)), queries, keys))
    assert [image.shape for image in images] == [(3, 5, 3)] * 2 + [(7, 2)] * 3
    assert images[0][1, 4].tolist() == [64, 128, 255]
    assert images[2][0, 0] == 128


def test_a_matrix_has_its_weights_and_its_labels_as_tips():
    figure = image_matrix_svg(
        cross(torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])), torch.rand(1, 2, 2), torch.rand(2, 2, 2)
    )
    assert re.findall(r">(0\.\d\d)</text>", figure) == ["0.75", "0.25"]  # the mean of both heads
    assert "a → b: 0.2500" in figure


def test_labels_stand_below_and_equal_images_are_no_division_by_zero():
    figure = images_svg(torch.ones(3, 2, 2), labels=["one", "<two>", ""], title="Sums")
    assert re.findall(r">([^<>]+)</text>", figure) == ["Sums", "one", "&lt;two&gt;", "∅"]
    assert [image.tolist() for image in shown(figure)] == [[[0, 0], [0, 0]]] * 3


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(0, 3, 3), r"images cannot be drawn. Expected images height width.*got shape \(0, 3, 3\)"),
        (torch.zeros(2, 3, 3, 4), r"images cannot be drawn.*got shape \(2, 3, 3, 4\)"),
        (torch.full((2, 3, 3), torch.nan), "images hold NaN or infinity"),
    ],
)
def test_images_that_cannot_be_drawn_are_refused(images: torch.Tensor, message: str):
    with pytest.raises(InputError, match=message):
        images_svg(images)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"labels do not fit the images. Expected 2, one an image; got 1"):
        images_svg(torch.zeros(2, 3, 3), labels=["one"])
    map_ = cross(torch.full((1, 2, 5), 0.2))
    with pytest.raises(InputError, match=r"query_images do not fit the map of digits. Expected 2, one a query; got 3"):
        image_matrix_svg(map_, torch.zeros(3, 2, 2), torch.zeros(5, 2, 2))
    with pytest.raises(InputError, match=r"key_images do not fit the map of digits. Expected 5, one a key; got 2"):
        image_matrix_svg(map_, torch.zeros(2, 2, 2), torch.zeros(2, 2, 2))


def test_weights_over_an_image_by_hand():
    weights = torch.tensor([[[0.0, 0.1, 0.4]], [[0.2, 0.2, 0.1]]])  # two maps of one row and three columns
    drawn = image_weights_svg(torch.eye(6), weights, labels=["layer 0", "<b>"], title="whom it sees")
    assert drawn.count("<image") == 3  # the image itself, and below each map
    assert re.findall(r'fill-opacity="([\d.]+)"', drawn) == ["0.000", "0.225", "0.900", "0.450", "0.450", "0.225"]
    assert ">layer 0<" in drawn
    assert ">&lt;b&gt;<" in drawn
    assert ">the strongest colour is a weight of 0.400<" in drawn
    assert "row 0, column 2: 0.4000" in drawn
    # Patches fill the image: three columns of a third of its width, as high as it is.
    assert len(set(re.findall(r'<rect x="[\d.]+" y="0" width="46.67" height="140"', drawn))) == 3
    ElementTree.fromstring(drawn)
    assert figure_png(drawn).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("weights", "labels", "message"),
    [
        (torch.ones(2, 1, 1), ["a"], r"labels do not fit the maps\. Expected 2, one a map; got 1"),
        (-torch.ones(1, 1, 1), ["a"], "these weights cannot be drawn over an image"),
        (torch.full((1, 1, 1), torch.nan), ["a"], "these weights cannot be drawn over an image"),
        (torch.ones(1, 0, 3), ["a"], "these weights cannot be drawn over an image"),
    ],
)
def test_weights_that_cannot_lie_over_an_image(weights, labels, message):
    with pytest.raises(InputError, match=message):
        image_weights_svg(torch.eye(3), weights, labels=labels)
