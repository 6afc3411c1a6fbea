"""Attention maps as one page to look into: HTML that needs no network, and a frame of it for a notebook's cell."""

import base64
import html
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qkv.draw.attention import DASHED, SOLID, attention_svg, describe, drawable
from qkv.draw.label import visible
from qkv.draw.page import framed, mounted
from qkv.errors import InputError
from qkv.types import AttentionMap, Trace, renders

_LIMIT = 20_000_000  # bytes of a page, past which browsers and mail make trouble
_FINE = 2**18  # up to so many weights, each travels in 16 bits
_CELLS = 2**27  # past so many weights, each a byte, browsers run out of memory before 20 MB are full
_SIDES = [2048, 1024, 512, 256, 128, 64]  # the most queries and keys of a map that is drawn
_DRAWN = 24  # up to so many queries and keys, the page holds a figure for readers that run no scripts


@dataclass(frozen=True)
class Rounding:
    """Weights as whole numbers of a step of their row.

    A row's largest weight is at most `levels` steps, and no step is smaller than `floor` of the map's largest row sum:
    it is the many weights below half a step that make a page small.
    """

    levels: int
    floor: float = 0.0


_FINEST = Rounding(32767)
_LADDER = [Rounding(255, 1 / part) for part in (2048, 1024, 512, 256, 128, 64)]


@dataclass(frozen=True)
class _Packed:
    """What the page's script reads of a map, and what the page says of it.

    The largest error of a weight, the row sum that moved most, and whether cells are blocks.
    """

    fields: dict[str, Any]
    error: float
    row_sum: float
    row_sum_was: float
    blocks: bool


def attention_page(
    maps: Sequence[AttentionMap],
    *,
    title: str,
    caption: str = "",
    heads: Sequence[Mapping[str, object]] | None = None,
    figure: AttentionMap | None = None,
) -> str:
    """Attention maps as one HTML page that needs no network: all heads at a glance, each as a matrix or as lines.

    Weights travel as whole steps of their row, compressed: 16 bits each on a small page; on a larger one a row's
    largest weight is at most 255 steps, and steps grow until the page is at most 20 MB. The page states the largest
    error and the row sum that this moves furthest. Where no steps are coarse enough, or a map is too long to be drawn,
    an overview by blocks takes its place, and the page says so.

    Args:
        maps: one a layer, counted from 0.
        title, caption: what stands above.
        heads: a table beside the maps, one row a head. `layer` is the place of its map or the map's own `layer`, and
            `head` its number; every other entry is a number or a text. Its columns sort, its rows choose their head.
        figure: what is shown first, in place of the first map: its layer where `maps` has one of that name, and
            otherwise (a mean over layers) itself, which is listed after them without a number.

    Raises:
        InputError: no map; one without cells or whose rows do not sum to one; a table that names what is not there;
            more weights than go into a page.

    >>> import torch
    >>> one = AttentionMap(torch.ones(1, 1, 1), ["yes"], ["oui"], "decoder", "cross", "captured", "softmax")
    >>> entropies = [{"layer": "decoder", "head": 0, "entropy": 0.0}]
    >>> attention_page([one], title="oui", heads=entropies).startswith("<!doctype html>")
    True
    """
    if not maps:
        raise InputError("there is no attention map to show", expected="at least one map", got="none")
    names = [attention.layer for attention in maps]
    apart = figure is not None and figure.layer not in names
    first = 0 if figure is None else len(maps) if apart else names.index(figure.layer)
    listed = [*maps, figure] if apart and figure is not None else maps
    packed, rounding = _packed_to_fit(listed)
    worst = max(packed, key=lambda one: abs(one.row_sum - one.row_sum_was))
    if any(one.blocks for one in packed):
        caption = f"{caption} An overview: its cells are blocks of tokens.".lstrip()
    data = {
        "title": title,
        "caption": caption,
        "error": max(one.error for one in packed),
        "rowSum": [worst.row_sum, worst.row_sum_was],
        "coarser": rounding not in (_FINEST, _LADDER[0]),
        "solid": SOLID,
        "dashed": DASHED,
        "maps": [one.fields for one in packed],
        "first": first,
        "layers": len(maps),
        "table": _table(heads, maps) if heads else None,
    }
    still = attention_svg(listed[first].mean()) if _longest([listed[first]]) <= _DRAWN else ""
    return mounted(title, "viewer", "viewer", data, still)


@renders("html", AttentionMap)
def attention_cell(attention: AttentionMap) -> str:
    """`attention_page` of one map for a notebook's cell, in a frame of its own: nothing in it meets other cells."""
    return _framed([attention], f"{attention.kind.capitalize()}-attention")


@renders("html", Trace)
def trace_cell(trace: Trace) -> str:
    """`attention_page` of all maps of a trace, or the names of its steps where it has none."""
    maps = trace.maps()
    if maps:
        return _framed(maps, "Attention")
    names = "".join(f"<li>{html.escape(name)}</li>" for name in trace.names)
    return f"<p>No attention weights were recorded, but these steps:</p><ol>{names}</ol>"


def _framed(maps: Sequence[AttentionMap], title: str) -> str:
    height = min(820, 330 + 34 * max(max(attention.weights.shape[1:]) for attention in maps))
    return framed(attention_page(maps, title=title), title, height=height)


def quantise(
    weights: Float[Tensor, "heads queries keys"], rounding: Rounding
) -> tuple[Float[Tensor, "heads queries"], Float[Tensor, "heads queries keys"]]:
    """The step of each row, and each weight as a whole number of its row's steps.

    >>> steps, counts = quantise(torch.tensor([[[0.5, 0.25, 0.25]]]), Rounding(100))
    >>> counts.tolist()
    [[[100.0, 50.0, 50.0]]]
    """
    size = weights.abs()
    steps = (size.amax(dim=-1) / rounding.levels).clamp(min=rounding.floor * float(size.sum(dim=-1).max()))
    counts = (weights / steps.clamp(min=torch.finfo(steps.dtype).tiny)[..., None]).round()
    return steps, counts.clamp(-rounding.levels, rounding.levels)


def _packed_to_fit(maps: Sequence[AttentionMap]) -> tuple[list[_Packed], Rounding]:
    """All maps at the finest rounding, and in the smallest blocks, with which they go into one page."""
    for side in _sides(maps):
        drawn = [drawable(attention, side) for attention in maps]
        small = sum(attention.weights.numel() for attention in drawn) <= _FINE
        for rounding in [_FINEST, *_LADDER] if small else _LADDER:
            room, packed = _LIMIT, []
            for whole, attention in zip(maps, drawn, strict=True):
                packed.append(_packed(attention, whole, rounding))
                # What the script reads is text inside a page, so its length in UTF-8 is what it takes.
                room -= len(json.dumps(packed[-1].fields, ensure_ascii=False).encode())
                if room < 0:
                    break
            else:
                return packed, rounding
    raise InputError(
        "these maps do not go into one page",
        expected=f"a page of at most {_LIMIT // 10**6} MB",
        got=f"{sum(attention.heads for attention in maps):,} heads of {len(maps):,} maps",
        hint="fewer layers or heads a page",
    )


def _longest(maps: Sequence[AttentionMap]) -> int:
    return max(len(labels) for attention in maps for labels in (attention.query_labels, attention.key_labels))


def _sides(maps: Sequence[AttentionMap]) -> list[int]:
    """How long a side may be drawn, from the longest that a browser holds: all of it, or less and less."""
    longest = _longest(maps)

    def cells(side: int) -> int:
        sides = ((one.heads, min(len(one.query_labels), side), min(len(one.key_labels), side)) for one in maps)
        return sum(map(math.prod, sides))

    first = min(longest, _SIDES[0])
    return [side for side in (first, *(side for side in _SIDES if side < first)) if cells(side) <= _CELLS]


def _packed(attention: AttentionMap, whole: AttentionMap, rounding: Rounding) -> _Packed:
    """`attention` as it is drawn of `whole`."""
    facts, sides = describe(whole), (len(whole.query_labels), len(whole.key_labels))
    blocks = attention.weights.shape[1:] != sides
    if blocks:
        facts += f", of {sides[0]:,} × {sides[1]:,} by blocks (a mean over their queries of the sum over their keys)"
    weights = attention.weights.detach().cpu().float()
    form = "i2"
    if rounding.levels < 256:
        form = "i1" if attention.signed else "u1"
        rounding = Rounding(127, rounding.floor) if attention.signed else rounding
    steps, counts = quantise(weights, rounding)
    restored = counts * steps[..., None]
    sums, were = restored.double().sum(dim=-1).flatten(), weights.double().sum(dim=-1).flatten()
    moved = int((sums - were).abs().argmax())
    raw = steps.numpy().astype("<f4").tobytes() + counts.numpy().astype(np.dtype(form).newbyteorder("<")).tobytes()
    fields = {
        "layer": attention.layer,
        "facts": facts,
        "signed": attention.signed,
        "heads": attention.heads,
        "queries": [visible(label) for label in attention.query_labels],
        "keys": [visible(label) for label in attention.key_labels],
        "form": form,
        "packed": base64.b64encode(_deflated(raw)).decode(),
    }
    return _Packed(fields, float((restored - weights).abs().max()), float(sums[moved]), float(were[moved]), blocks)


def _deflated(raw: bytes) -> bytes:
    """Without a search for repeated strings, which weights do not have: a seventh of the time, and smaller."""
    stream = zlib.compressobj(memLevel=9, strategy=zlib.Z_RLE)
    return stream.compress(raw) + stream.flush()


# -- table -----------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[Mapping[str, object]], maps: Sequence[AttentionMap]) -> dict[str, Any]:
    """The table as the page's script reads it: columns, and rows of the map, the head and a cell a column."""
    columns = list(dict.fromkeys(name for row in heads for name in row))
    rows = []
    for number, row in enumerate(heads):
        place, head = _place(row.get("layer"), maps, number), row.get("head")
        count = maps[place].heads
        if not isinstance(head, int) or not 0 <= head < count:
            raise InputError(
                f"row {number} of `heads` names no head of {maps[place].layer}",
                expected=f"`head` from 0 to {count - 1}",
                got=repr(head),
            )
        rows.append({"layer": place, "head": head, "cells": [_cell(row.get(name), name, number) for name in columns]})
    return {"columns": columns, "rows": rows}


def _place(layer: object, maps: Sequence[AttentionMap], number: int) -> int:
    names = [attention.layer for attention in maps]
    if layer in names:
        return names.index(str(layer))
    if isinstance(layer, int) and 0 <= layer < len(maps):
        return layer
    raise InputError(
        f"row {number} of `heads` names no layer of these maps",
        expected=f"`layer` from 0 to {len(maps) - 1}, or one of {', '.join(names)}",
        got=repr(layer),
    )


def _cell(value: object, name: str, number: int) -> str | int | float | None:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise InputError(
        f"{name!r} in row {number} of `heads` cannot be written", expected="a number or a text", got=repr(value)
    )
