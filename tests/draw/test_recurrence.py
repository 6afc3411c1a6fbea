import re

import pytest
import torch

from qkv.draw import gates_over_time, png, svg
from qkv.draw.colour import BLUES, ORANGES
from qkv.errors import InputError
from qkv.types import Step, Trace

BATCH, LENGTH, HIDDEN = 2, 5, 3


def layer(names: str = "ifgoch", prefix: str = "l0.", **values: torch.Tensor) -> Trace:
    """A layer's trace: halves, but for the values given."""
    halves = torch.full((BATCH, LENGTH, HIDDEN), 0.5)
    return Trace([Step(prefix + name, values.get(name, halves)) for name in names])


def cells(chart) -> list[dict[tuple[int, int], float]]:
    """What each map of a chart shows, by position and unit."""
    document = chart.to_dict()
    values = [document["datasets"][one["data"]["name"]] for one in document["concat"]]
    return [{(cell["x"], cell["unit"]): cell["value"] for cell in one} for one in values]


@pytest.mark.parametrize(("names", "count"), [("ifgoch", 6), ("rznh", 4)])
def test_every_gate_and_state_has_its_map(names: str, count: int):
    figure = svg(gates_over_time(layer(names), "l0", labels=list("abcde"), title="Reading"))
    assert set(re.findall(r">([a-z])(?:&#39;|')?(?::| =)", figure)) == set(names)
    assert len(cells(gates_over_time(layer(names), "l0"))) == count
    assert ">Reading<" in figure
    assert all(figure.count(f">{letter}<") >= count for letter in "abcde")
    assert set(re.findall(r"https?://[\w./]*", figure)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_a_cell_is_its_value():
    values = torch.rand(BATCH, LENGTH, HIDDEN)
    shown = cells(gates_over_time(layer(f=values), "l0", item=1))[1]
    assert shown == {(x, unit): pytest.approx(float(values[1, x, unit]), abs=1e-4) for x, unit in shown}
    assert len(shown) == LENGTH * HIDDEN


def test_steps_of_a_cell_stand_side_by_side():
    steps = [Step(name, torch.full((BATCH, HIDDEN), float(t))) for t in range(4) for name in "rznh"]
    assert cells(gates_over_time(Trace(steps)))[3][3, 0] == 3
    alone = [Step(name, torch.full((HIDDEN,), float(t))) for t in range(4) for name in "rznh"]
    assert cells(gates_over_time(Trace(alone)))[3][2, 0] == 2


def test_units_that_move_most_are_shown():
    h = torch.zeros(BATCH, LENGTH, HIDDEN)
    h[0, :, 0] = torch.tensor([0.0, 0.1, 0.0, 0.1, 0.0])
    h[0, :, 2] = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    assert {unit for _, unit in cells(gates_over_time(layer(h=h), "l0", units=2))[0]} == {0, 2}
    assert {unit for _, unit in cells(gates_over_time(layer(h=h), "l0", units=[1]))[0]} == {1}


def test_shares_are_blue_and_signs_have_two_colours():
    maps = gates_over_time(layer(c=torch.full((BATCH, LENGTH, HIDDEN), -4.0)), "l0").to_dict()["concat"]
    scales = [one["encoding"]["color"]["scale"] for one in maps]
    assert [scale["domain"] for scale in scales] == [[0, 1], [0, 1], [-1, 1], [0, 1], [-4, 4], [-1, 1]]
    assert scales[0]["range"] == list(BLUES)
    assert scales[2]["range"][0] == ORANGES[-1]


def test_fewer_labels_cut_padding_off():
    assert max(x for x, _ in cells(gates_over_time(layer(), "l0", labels=["to", "be"]))[0]) == 1


def test_it_is_a_png_too():
    assert png(gates_over_time(layer(), "l0")).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "l1"}, r"no gates were recorded under 'l1'\. Expected one of 'l0'"),
        ({"layer": "l0", "item": 2}, r"no item 2 in l0\. Expected 0 to 1"),
        ({"layer": "l0", "labels": list("abcdef")}, r"labels do not fit .* 1 to 5 of them; got 6"),
        ({"layer": "l0", "units": [3]}, r"units are not there\. Expected some from 0 to 2"),
    ],
)
def test_what_is_not_there_is_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        gates_over_time(layer(), **options)


def test_an_empty_trace_is_refused():
    with pytest.raises(InputError, match=r"Expected a trace of qkv\.nn\.LSTM, .* Try: with qkv\.record\(\)"):
        gates_over_time(Trace())
