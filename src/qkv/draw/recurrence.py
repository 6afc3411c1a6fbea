"""Gates and states of a recurrent cell over time, from a trace of `qkv.nn`."""

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import torch
from jaxtyping import Float
from torch import Tensor

from qkv.draw.chart import Chart, theme
from qkv.draw.colour import BLUES, MUTED, ORANGES
from qkv.draw.label import shorten, visible
from qkv.errors import InputError
from qkv.types import Trace

_CELL, _WIDTH, _LABEL_EMS = 13, 330, 7.0
_KINDS = {
    "i f g o c h": {
        "i": "i: how much is let in",
        "f": "f: how much is kept",
        "g": "g: what is offered",
        "o": "o: how much is shown",
        "c": "c' = f c + i g: what is remembered",
        "h": "h' = o tanh(c'): what is shown",
    },
    "r z n h": {
        "r": "r: how much of the past is asked",
        "z": "z: how much of the past is kept",
        "n": "n: what is offered",
        "h": "h' = (1 - z) n + z h: the state",
    },
}
_SHARES = "iforz"  # from 0 to 1; all others have a sign


def gates_over_time(
    trace: Trace,
    layer: str = "",
    *,
    labels: Sequence[str] | None = None,
    item: int = 0,
    units: int | Sequence[int] = 12,
    title: str | None = None,
) -> Chart:
    """Heat maps of the gates and states that an `LSTM`, a `GRU` or one of their cells recorded: time along, units down.

    `svg` and `png` draw it. Gates that are shares, from 0 to 1, are in blues; what has a sign is orange below zero.

    Args:
        trace: what was recorded; of a cell, all of its steps.
        layer: the name before those of gates, such as `l0`, `l1_reverse` or `encoder.l0`; of a cell alone, none.
        labels: what was read at each position; fewer than there are positions cut padding off.
        item: which sequence of the batch.
        units: which units, or how many of those whose `h` moves most.

    Raises:
        InputError: a layer that was not recorded, labels, an item or units that are not there.

    >>> from qkv.types import Step
    >>> steps = [Step(f"l0.{name}", torch.rand(1, 5, 3)) for name in "rznh"]
    >>> chart = gates_over_time(Trace(steps), "l0", labels=list("abcde"))
    >>> len(chart.to_dict()["concat"])
    4
    """
    titles, values = _recorded(trace, layer)
    if not 0 <= item < len(values["h"]):
        raise InputError(f"no item {item} in {layer or 'the cell'}", expected=f"0 to {len(values['h']) - 1}")
    found = {name: value[item].float().cpu() for name, value in values.items()}
    length, width = found["h"].shape
    if labels is not None and not 0 < len(labels) <= length:
        raise InputError("labels do not fit what was recorded", expected=f"1 to {length} of them", got=f"{len(labels)}")
    shown = [str(place) for place in range(length)] if labels is None else [visible(label) for label in labels]
    found = {name: value[: len(shown)] for name, value in found.items()}
    chosen = _chosen(found["h"], units, width)
    maps = [_map(titles[name], name in _SHARES, value[:, chosen], chosen, shown) for name, value in found.items()]
    titled = {"title": title} if title else {}
    drawn = alt.concat(*maps, columns=2, spacing=28).resolve_scale(color="independent")
    return drawn.configure(**theme()).properties(**titled)


def _recorded(trace: Trace, layer: str) -> tuple[dict[str, str], dict[str, Float[Tensor, "batch length hidden"]]]:
    """What every gate and state says, and its values; the steps of a cell below one another."""
    prefix = f"{layer}." if layer else ""
    for titles in _KINDS.values():
        steps = {name: [step.value for step in trace if step.name == prefix + name] for name in titles}
        if all(steps.values()):
            return titles, {name: _over_time(values) for name, values in steps.items()}
    there = {name.rpartition(".")[0] for name in trace.names if name.rpartition(".")[2] == "h"}
    raise InputError(
        f"no gates were recorded under {layer!r}",
        expected=f"one of {', '.join(sorted(map(repr, there)))}" if there else "a trace of qkv.nn.LSTM, GRU or a cell",
        hint="" if there else "with qkv.record() as trace, around a call of it",
    )


def _over_time(values: list[Tensor]) -> Tensor:
    if values[-1].dim() == 3:  # a layer recorded all of its steps together; its last call counts
        return values[-1]
    return torch.stack([value.reshape(-1, value.shape[-1]) for value in values], dim=1)


def _chosen(h: Tensor, units: int | Sequence[int], width: int) -> list[int]:
    if isinstance(units, int):
        most = h.std(dim=0, correction=0).topk(min(max(units, 1), width)).indices
        return sorted(most.tolist())
    if not units or not all(0 <= unit < width for unit in units):
        raise InputError("units are not there", expected=f"some from 0 to {width - 1}", got=str(list(units)))
    return list(units)


def _map(title: str, share: bool, value: Tensor, units: list[int], labels: list[str]) -> Any:
    cells = [
        {"x": x, "unit": unit, "value": round(number, 4)}
        for x, row in enumerate(value.tolist())
        for unit, number in zip(units, row, strict=True)
    ]
    reach = 1.0 if share else max(1.0, float(value.abs().max()))
    colours = list(BLUES) if share else [*reversed(ORANGES[1:]), *BLUES]
    written = json.dumps([shorten(label, _LABEL_EMS) for label in labels], ensure_ascii=False)
    axis = {"labelFontSize": 11, "ticks": False, "domain": False}
    return (
        alt.Chart(alt.InlineData(cells), title=alt.TitleParams(title, fontSize=13, fontWeight="normal", offset=6))
        .mark_rect()
        .encode(
            x=alt.X(
                "x:O",
                title=None,
                axis=alt.Axis(labelExpr=f"{written}[datum.value]", labelOverlap=True, labelAngle=0, **axis),
            ),
            y=alt.Y("unit:O", title="unit", sort=None, axis=alt.Axis(labelOverlap=True, **axis)),
            color=alt.Color(
                "value:Q",
                title=None,
                scale=alt.Scale(domain=[0 if share else -reach, reach], range=colours, interpolate="rgb"),
                legend=alt.Legend(gradientLength=min(100, _CELL * len(units)), tickCount=3, gradientStrokeColor=MUTED),
            ),
        )
        .properties(width=_WIDTH, height=_CELL * len(units))
    )
