"""What was heard where: the text over the log-mel picture of a recording, and the attention of each token below it."""

import math
from collections.abc import Sequence

import torch
import vl_convert
from jaxtyping import Float, UInt8
from torch import Tensor

from qkv.draw.colour import BLUES, GREYS, INK, MUTED, SERIES, shade
from qkv.draw.label import visible
from qkv.draw.picture import address
from qkv.draw.shapes import FONT, SMALL, Panel, document, frame, headed, label_width, labelled, stack, units, written
from qkv.errors import InputError
from qkv.types import AttentionMap

_PICTURE, _ROW, _COLUMN = 150, 15, 15
_NARROWEST, _WIDEST = 560, 2400
_TICKS = 8
_GAP, _LINES = 2, 4  # of tokens above the picture


def heard_svg(
    log_mel: Float[Tensor, "frames mels"],
    attention: AttentionMap,
    *,
    seconds: int | float,
    title: str | None = None,
) -> str:
    """A recording and what was heard in it, as SVG, on one axis of time.

    Above, the log-mel spectrogram, low pitches below, dark where loud; each token stands over it where the middle of
    its attention lies: half of it is before. Below, the weights of each token, darkest where its largest is.

    Args:
        log_mel: the recording as the model read it.
        attention: one map from tokens to places in the recording, which share its length; the mean over heads is drawn.
        seconds: how long the recording is.

    Raises:
        InputError: no frame, no token, or values that are not finite.

    >>> import torch
    >>> one = AttentionMap(torch.eye(2)[None], ["a", "b"], ["0 s", "1 s"], "decoder", "cross", "captured", "softmax")
    >>> heard_svg(torch.rand(4, 3), one, seconds=2.0).count("<image")
    2
    """
    if log_mel.numel() == 0 or not bool(torch.isfinite(log_mel).all()):
        raise InputError("log_mel cannot be drawn", expected="finite frames", got=f"shape {tuple(log_mel.shape)}")
    tokens, weights = list(attention.query_labels), attention.mean().weights[0].detach().double().cpu()
    if not tokens:
        raise InputError("there is nothing to draw", expected="at least one token", got="none")
    left = max(label_width(token) for token in tokens) + 10
    width = float(min(max(_NARROWEST, _COLUMN * len(tokens)), _WIDEST))
    middles = [_middle(row) / len(row) * width for row in weights]
    above = _spectrogram(log_mel, tokens, middles, left, width)
    below = Panel(left + width, _ROW * len(tokens) + 3.4 * FONT, _matrix(weights, tokens, left, width, seconds))
    described = "; ".join(
        f"{visible(token)} at {middle / width * seconds:.2f} s" for token, middle in zip(tokens, middles, strict=True)
    )
    return document(headed(stack([above, below]), title), title or attention.layer, described)


def heard_png(
    log_mel: Float[Tensor, "frames mels"],
    attention: AttentionMap,
    *,
    seconds: int | float,
    title: str | None = None,
    scale: int | float = 2,
) -> bytes:
    """`heard_svg` as the bytes of a PNG, `scale` pixels to a unit."""
    return vl_convert.svg_to_png(heard_svg(log_mel, attention, seconds=seconds, title=title), scale=scale)


def _spectrogram(
    log_mel: Tensor, tokens: Sequence[str], middles: Sequence[float], left: int | float, width: int | float
) -> Panel:
    lines = _lines(tokens, middles)
    top = (0.4 + 1.1 * (max(lines) + 1)) * FONT
    span = log_mel - log_mel.min()
    body = [_image((span / span.max().clamp(min=1e-12)).T.flip(0), GREYS, left, top, width, _PICTURE)]
    for token, middle, line in zip(tokens, middles, lines, strict=True):
        x, y = left + middle, top - (0.6 + 1.1 * line) * FONT
        body.append(
            f'<line x1="{units(x)}" y1="{units(y + 0.5 * FONT)}" x2="{units(x)}" y2="{units(top + _PICTURE)}" '
            f'stroke="{SERIES[1]}" stroke-width="0.8" opacity="0.7"/>'
        )
        body.append(written(visible(token), x, y, "middle", size=SMALL))
    return Panel(left + width, top + _PICTURE, "\n".join(body))


def _middle(weights: Float[Tensor, " places"]) -> float:
    """The place before which half of the weight lies, which one far away hardly moves.

    >>> _middle(torch.tensor([0.0, 1.0, 0.0])), _middle(torch.tensor([0.0, 0.5, 0.5]))
    (1.5, 2.0)
    """
    total = weights.cumsum(dim=0)
    half = total[-1] / 2
    place = int((total < half).sum())
    before = total[place - 1] if place else 0.0
    return place + float((half - before) / weights[place].clamp(min=1e-12))


def _lines(tokens: Sequence[str], middles: Sequence[float]) -> list[int]:
    """Each token's line above the picture, counted from it: the first where no neighbour is in its way, as far as the
    lines suffice."""
    lines, ends = [0] * len(tokens), list[float]()
    for i in sorted(range(len(tokens)), key=lambda i: middles[i]):
        reach = (label_width(tokens[i]) + _GAP) / 2
        free = (line for line, end in enumerate(ends) if end <= middles[i] - reach)
        lines[i] = next(free, len(ends) if len(ends) < _LINES else ends.index(min(ends)))
        ends[lines[i] : lines[i] + 1] = [middles[i] + reach]
    return lines


def _matrix(weights: Tensor, tokens: Sequence[str], left: int | float, width: int | float, seconds: int | float) -> str:
    height = _ROW * len(tokens)
    shares = weights / weights.amax(dim=1, keepdim=True).clamp(min=1e-12)
    body = [_image(shares, BLUES, left, 0.0, width, height)]
    body += [labelled(token, left - 6, (row + 0.5) * _ROW, "end") for row, token in enumerate(tokens)]
    step = _step(seconds)
    for tick in range(math.floor(seconds / step) + 1):
        x = left + tick * step / seconds * width
        body.append(f'<line x1="{units(x)}" y1="{height}" x2="{units(x)}" y2="{height + 5}" stroke="{MUTED}"/>')
        body.append(written(f"{tick * step:g}", x, height + 1.1 * FONT, "middle", size=SMALL, colour=INK))
    body.append(written("seconds", left + width / 2, height + 2.5 * FONT, "middle", size=SMALL, colour=INK))
    return "\n".join(body)


def _step(seconds: int | float) -> float:
    """Seconds between ticks: 1, 2 or 5 of a power of ten."""
    decade = 10.0 ** math.floor(math.log10(seconds / _TICKS))
    return next(digit * decade for digit in (1, 2, 5, 10) if seconds <= _TICKS * digit * decade)


def _image(
    shares: Tensor, stops: tuple[str, ...], x: int | float, y: int | float, width: int | float, height: int | float
) -> str:
    """Cells from 0 to 1 in a scale of colours, stretched to a place."""
    place = f'x="{units(x)}" y="{units(y)}" width="{units(width)}" height="{units(height)}"'
    look = 'preserveAspectRatio="none" style="image-rendering:pixelated" image-rendering="optimizeSpeed"'
    return f'<image {place} href="{address(_coloured(shares, stops))}" {look}/>{frame(x, y, width, height)}'


def _coloured(shares: Float[Tensor, "rows columns"], stops: tuple[str, ...]) -> UInt8[Tensor, "rows columns 3"]:
    table = [shade(stops, level / 255) for level in range(256)]
    channels = torch.tensor([[int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in table], dtype=torch.uint8)
    return channels[(255 * shares).round().long().clamp(0, 255)]
