"""Images as tokens: pictures in figures, and attention matrices whose axes are pictures.

An image is `height width` in greys or `height width 3` in red, green and blue. All images of a figure share one scale,
from the smallest to the largest value among them, so that a weighted sum is as dark beside its sources as it is.
"""

import base64
import struct
import zlib
from collections.abc import Sequence

import torch
import vl_convert
from jaxtyping import Float, UInt8
from torch import Tensor

from qkv.draw.attention import Look, cells, describe, drawable, matrix_legend
from qkv.draw.colour import SERIES
from qkv.draw.label import ems, visible
from qkv.draw.shapes import (
    CRISP,
    FONT,
    GAP,
    SMALL,
    Panel,
    document,
    frame,
    grid,
    headed,
    line_of_text,
    stack,
    units,
    written,
)
from qkv.errors import InputError
from qkv.types import AttentionMap

_CELL = 40
_SIDE = 72
_OVERLAID = 140.0


def images_svg(
    images: Float[Tensor, "images height width *colours"],
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> str:
    """Images side by side as SVG, each with its label below it: weighted sums of pictures, as pictures.

    Raises:
        InputError: no image, values that are not finite, neither greys nor red, green and blue, or labels that do
            not fit.

    >>> import torch
    >>> sources, weights = torch.eye(4).reshape(4, 2, 2), torch.full((1, 4), 0.25)
    >>> images_svg(torch.einsum("qk,khw->qhw", weights, sources), labels=["mean"]).count("<image")
    1
    """
    (pictures,) = _pictures(images=images)
    if labels is not None and len(labels) != len(pictures):
        raise InputError(
            "labels do not fit the images", expected=f"{len(pictures)}, one an image", got=str(len(labels))
        )
    names = [visible(label) for label in labels] if labels is not None else [""] * len(pictures)
    width = max([float(_SIDE), *(ems(name) * SMALL for name in names)])
    panels = []
    for picture, name in zip(pictures, names, strict=True):
        body = _image(picture, (width - _SIDE) / 2, 0.0, _SIDE)
        if name:
            body += written(name, width / 2, _SIDE + 0.8 * FONT, "middle", size=SMALL)
        panels.append(Panel(width, _SIDE + (1.4 * FONT if labels is not None else 0.0), body))
    return document(headed(grid(panels, gap=12), title), title or "images", f"{len(pictures)} images")


def image_matrix_svg(
    attention: AttentionMap,
    query_images: Float[Tensor, "queries query_height query_width *query_colours"],
    key_images: Float[Tensor, "keys key_height key_width *key_colours"],
    *,
    title: str | None = None,
    numbers: bool = True,
) -> str:
    """An attention matrix as SVG whose rows and columns are pictures: queries on the left, keys above.

    Args:
        attention: one head; the mean of several is drawn.
        query_images, key_images: one a query, one a key; those of one side are of one size.
        numbers: whether cells carry their weights.

    Raises:
        InputError: as many images as queries or keys are not there, or they cannot be drawn; a map without cells or
            whose rows do not sum to one.

    >>> import torch
    >>> one = AttentionMap(torch.eye(2)[None], ["0", "1"], ["0", "1"], "digits", "cross", "captured", "softmax")
    >>> image_matrix_svg(one, torch.eye(3).expand(2, 3, 3), torch.ones(2, 5, 5)).count("<image")
    4
    """
    attention = drawable(attention).mean()
    sides = (("query", query_images, attention.query_labels), ("key", key_images, attention.key_labels))
    for side, images, labels in sides:
        if len(images) != len(labels):
            raise InputError(
                f"{side}_images do not fit the map of {attention.layer}",
                expected=f"{len(labels)}, one a {side}",
                got=str(len(images)),
            )
    queries, keys = _pictures(query_images=query_images, key_images=key_images)
    look = Look.of(attention)
    start, inset = _CELL + GAP, 2.0
    body = [
        *(_image(picture, 0.0, start + y * _CELL + inset, _CELL - 2 * inset) for y, picture in enumerate(queries)),
        *(_image(picture, start + x * _CELL + inset, 0.0, _CELL - 2 * inset) for x, picture in enumerate(keys)),
    ]
    (rows,) = attention.weights.detach().cpu().double().tolist()
    body.append(cells(rows, attention, look, numbers, left=start, top=start, size=_CELL))
    panel = Panel(start + len(keys) * _CELL, start + len(queries) * _CELL, "\n".join(body))
    figure = headed(stack([panel, matrix_legend(look)]), title)
    return document(figure, title or attention.layer, describe(attention))


def image_weights_svg(
    image: Float[Tensor, "height width *colours"],
    weights: Float[Tensor, "maps rows columns"],
    *,
    labels: Sequence[str],
    title: str | None = None,
) -> str:
    """An image as SVG, and again for each map of weights, which lies over it: the stronger the colour of a patch, the
    larger its weight. The figure has one scale.

    Args:
        weights: not negative; rows and columns of patches that fill the image.
        labels: what stands below each map.

    Raises:
        InputError: labels that do not fit, weights that are negative or not finite, or an image that cannot be drawn.

    >>> import torch
    >>> image_weights_svg(torch.eye(4), torch.eye(2)[None] / 2, labels=["mean"]).count("<image")
    2
    """
    if len(labels) != len(weights):
        raise InputError("labels do not fit the maps", expected=f"{len(weights)}, one a map", got=str(len(labels)))
    if weights.numel() == 0 or not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise InputError("these weights cannot be drawn over an image", expected="at least one, all from 0 on")
    ((picture,),) = _pictures(image=image[None])
    top = float(weights.max()) or 1.0
    _, rows, columns = weights.shape
    height, width = _OVERLAID / rows, _OVERLAID / columns
    panels = [_captioned(_image(picture, 0.0, 0.0, _OVERLAID), "")]
    for some, label in zip(weights.detach().cpu().double().tolist(), labels, strict=True):
        veil = [
            f'<rect x="{units(x * width)}" y="{units(y * height)}" width="{units(width)}" height="{units(height)}" '
            f'fill="{SERIES[1]}" fill-opacity="{0.9 * weight / top:.3f}" {CRISP}>'
            f"<title>row {y}, column {x}: {weight:.4f}</title></rect>"
            for y, row in enumerate(some)
            for x, weight in enumerate(row)
        ]
        panels.append(_captioned("\n".join([_image(picture, 0.0, 0.0, _OVERLAID), *veil]), visible(label)))
    told = line_of_text(f"the strongest colour is a weight of {top:.3f}", SMALL)
    return document(
        headed(stack([grid(panels, gap=14), told]), title), title or "weights over an image", f"{len(weights)} maps"
    )


def figure_png(svg: str, *, scale: int | float = 2) -> bytes:
    """A figure of this room as the bytes of a PNG, `scale` pixels to a unit."""
    return vl_convert.svg_to_png(svg, scale=scale)


def _captioned(body: str, label: str) -> Panel:
    words = written(label, _OVERLAID / 2, _OVERLAID + 0.8 * FONT, "middle", size=SMALL) if label else ""
    return Panel(_OVERLAID, _OVERLAID + 1.4 * FONT, body + words)


def _pictures(**sides: Tensor) -> list[list[str]]:
    """The images of each side as addresses that hold their own data, on one scale."""
    for name, images in sides.items():
        if images.numel() == 0 or images.dim() not in (3, 4) or (images.dim() == 4 and images.shape[-1] != 3):
            raise InputError(
                f"{name} cannot be drawn",
                expected="images height width, with a last axis of 3 for red, green and blue",
                got=f"shape {tuple(images.shape)}",
            )
        if not bool(torch.isfinite(images).all()):
            raise InputError(f"{name} hold NaN or infinity")
    low = min(float(images.min()) for images in sides.values())
    span = max(float(images.max()) for images in sides.values()) - low or 1.0
    scaled = [(images.detach().cpu().double() - low) / span for images in sides.values()]
    return [[address((255 * image).round().to(torch.uint8)) for image in images] for images in scaled]


def _image(address: str, x: float, y: float, side: int | float) -> str:
    place = f'x="{units(x)}" y="{units(y)}" width="{units(side)}" height="{units(side)}"'
    # Squares of pixels, not a blur: what a model saw.
    look = 'style="image-rendering:pixelated" image-rendering="optimizeSpeed"'
    return f'<image {place} href="{address}" {look}/>{frame(x, y, side, side)}'


def address(image: UInt8[Tensor, "height width *colours"]) -> str:
    return f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"


def _png(image: UInt8[Tensor, "height width *colours"]) -> bytes:
    """PNG (ISO/IEC 15948), 8 bits a channel: a header, rows of filter 0 compressed, an end."""
    height, width, *colours = image.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if colours else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.numpy().tobytes() for row in image)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
