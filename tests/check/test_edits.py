"""Edits of one line: what it might have been meant to say, and what it would then have been wrong by."""

import ast

import pytest

from qkv.check import edits, pieces
from qkv.check.repair import _told

KNOWN = edits.Known(
    shapes={"a": (7, 5), "h": (7, 5), "dh": (7, 5), "d_w": (7, 3), "mask": (7, 1), "rows": (7,), "n": ()},
    lists=frozenset(),
    masks=frozenset({"mask"}),
    indices=frozenset({"rows"}),
    counts=[5, 7],
    pieces=["np.tanh(a)", "dh.sum(axis=0)", "1 - h"],
    functions=["np.sqrt"],
    late=frozenset(),
    adjoints=frozenset({"dh", "d_w"}),
    divisors=["n"],
    places=["_[:, i:i + step * tall:step]"],
)


def causes(line: str, right: str) -> list[str]:
    """The causes of the edits under which `line` reads `right`, in the order in which they are tried."""
    (statement,) = ast.parse(line).body
    made = (edit for stage in sum(pieces.STAGES, edits.STAGES) for edit in stage(statement, KNOWN))
    found = [edit.cause for edit in made if _told(statement, edit) == right]
    assert ast.unparse(statement) == line
    return found


@pytest.mark.parametrize(
    ("line", "right", "cause"),
    [
        ("dz = ~mask * dh", "dz = mask * dh", "mask"),
        ("dz = mask * dh", "dz = ~mask * dh", "mask"),
        ("dz = -dh", "dz = dh", "sign"),
        ("dz = dh * -h", "dz = dh * (1 - h)", "derivative"),
        ("dz = dh * (2 - h)", "dz = dh * (1 - h)", "derivative"),
        ("dz = 0 * dh", "dz = dh", "term"),
        ("dz = 0 * dh + dh.mean(axis=0)", "dz = dh", "axis"),
        ("dz = np.concatenate([2 * dh[:1], dh[1:]])", "dz = dh", "double"),
        ("dz = np.concatenate([0 * dh[:1], dh[1:]])", "dz = dh", "term"),
        ("dz = np.concatenate([dh[1:], dh[:1]])", "dz = dh", "moved"),
        ("d_b = dh[0]", "d_b = dh.sum(axis=0)", "term"),
        ("d_b = dh[-1].sum(axis=0)", "d_b = dh.sum(axis=0).sum(axis=0)", "term"),
        ("d_b = dh[:, 0]", "d_b = dh[:, :].sum(axis=1)", "term"),
        ("d_w = dh[:1].T @ a[:1]", "d_w = dh.T @ a", "term"),
        ("d_w[rows] = dh", "np.add.at(d_w, rows, dh)", "term"),
        ("x = d_w[i + 1:i + 1 + n]", "x = d_w[i:i + n]", "moved"),
        ("d_w[:, i:i + tall] += dh", "d_w[:, i:i + step * tall:step] += dh", "moved"),
        ("d_w[:, i:i + tall:step] += dh", "d_w[:, i:i + step * tall:step] += dh", "factor"),
        ("dz = dh / h", "dz = dh / np.sqrt(h)", "operand"),
        ("dz = dh", "dz = dh / n", "factor"),
        ("dz = dh", "dz = dh * mask", "mask"),
        ("dz = dh", "dz = dh * h", "factor"),
        ("dz = dh", "dz = dh * (1 - h)", "derivative"),
        ("dz = dh / h", "dz = dh / (h + n)", "factor"),
        ("dz = dh", "dz = dh + d_w", "term"),
    ],
)
def test_what_a_line_was_meant_to_say_is_among_its_edits(line: str, right: str, cause: str):
    assert causes(line, right)[0] == cause


def test_a_negative_axis_is_no_value_of_a_slope():
    assert not causes("d_b = dh.sum(axis=-1)", "d_b = dh.sum(axis=1 - 1)")
    assert causes("d_b = dh.sum(axis=-1)", "d_b = dh.sum(axis=0)")[0] == "axis"


def test_what_comes_back_is_no_factor_that_is_missing():
    assert not causes("dz = dh", "dz = dh * d_w")
    assert not causes("dz = dh", "dz = dh + h")
