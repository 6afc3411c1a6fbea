"""The kinds of mistakes that people make in a backward pass: the rules that make each, and what it may be called.

Names of causes are those of `qkv.check.CAUSES`.
"""

from collections.abc import Iterator

from tests.check.planted.cases import Case
from tests.check.planted.rules import Kind, Mistake, Rule, multiple, shapes


def other_operands(case: Case) -> Iterator[Rule]:
    """Each array for each other of its shape."""
    known = shapes(case)
    for name, shape in known.items():
        yield from ((name, other) for other in known if other != name and known[other] == shape)


def updated_weights(case: Case) -> Iterator[Rule]:
    """Weights after the step, where the step is taken as soon as their own gradient is there."""
    for name in case.parameters:
        yield name, f"({name} - 0.1 * d_{name})"


def decay(case: Case) -> Iterator[Rule]:
    """Weight decay in the gradient which is not in the loss."""
    for name in case.parameters:
        yield f"d_{name} = A", f"d_{name} = A + 0.1 * {name}"


def other_parameters(case: Case) -> Iterator[Rule]:
    """The gradient of another parameter."""
    for name in case.parameters:
        yield from ((f"d_{name} = A", f"d_{name} = d_{other}") for other in case.parameters if other != name)


_BENT = {
    "window": {"dz", "da"},
    "lstm": {"dc", "da_i", "da_f", "da_g", "da_o"},
    "attention": {"ds"},
    "layer_norm": {"dz", "du", "da"},
    "convolution": {"da"},
    "max_pooling": set(),
}
"""Lines that go back through what is no straight line: a wrong one is a wrong derivative, whatever made it wrong."""


def names(mistake: Mistake, kind: Kind, parameter: str) -> set[str]:
    """What the cause of a wrong gradient by one parameter may be called."""
    line = mistake.right.partition("=")[0].strip()
    bent = line in _BENT[mistake.case.derivation.__name__]
    partly = set() if multiple(mistake, parameter) else kind.partly
    return kind.causes - (set() if bent else {"derivative"}) | partly


OPEN: dict[str, Kind] = {
    "twice": Kind([("LINE", "2 * LINE")], {"factor", "double"}),
    "half": Kind([("LINE", "LINE / 2")], {"factor"}, {"term"}),
    "sign of a term": Kind([("A - B", "A + B"), ("A + B", "A - B")], {"sign", "derivative"}),
    "mean for sum": Kind(
        [
            ("A.sum(axis=K)", "A.mean(axis=K)"),
            ("A.sum(axis=K, keepdims=True)", "A.mean(axis=K, keepdims=True)"),
            ("LINE", "LINE / LINE.shape[-1]"),
        ],
        {"mean", "factor"},
        {"term"},
    ),
    "wrong axis": Kind(
        [
            ("A.sum(axis=0)", "A.sum(axis=1)"),
            ("A.sum(axis=0)", "A.sum(axis=-1)"),
            ("A.sum(axis=(0, 2, 3))", "A.sum(axis=(1, 2, 3))"),
            ("A.sum(axis=(0, 2))", "A.sum(axis=(1, 2))"),
            ("A.sum(axis=-1, keepdims=True)", "A.sum(axis=-2, keepdims=True)"),
            ("A.sum(axis=-1, keepdims=True)", "A.sum(axis=0, keepdims=True)"),
            ("A.mean(axis=1, keepdims=True)", "A.mean(axis=0, keepdims=True)"),
        ],
        {"axis", "transposed", "derivative"},
    ),
    "term left out": Kind(
        [("A + B", "A"), ("A + B", "B"), ("A - B", "A"), ("A - B", "-B"), ("A += B", "A += 0 * B")],
        {"term", "derivative"},
    ),
    "term twice": Kind(
        [("A + B", "A + 2 * B"), ("A + B", "2 * A + B"), ("A - B", "A - 2 * B"), ("A - B", "2 * A - B")],
        {"double", "factor", "derivative"},
    ),
    "slope left out": Kind(
        [
            ("A * (B * (1 - B))", "A"),
            ("A * (1 - B ** 2)", "A"),
            ("A * slope(B)", "A"),
            ("A * (B > 0)", "A"),
        ],
        {"derivative", "factor"},
    ),
    "slope at the wrong point": Kind(
        [
            ("h * (1 - h)", "a * (1 - a)"),
            ("A * (1 - A)", "sigmoid(A) * (1 - sigmoid(A))"),
            ("1 - np.tanh(A) ** 2", "1 - A ** 2"),
            ("1 - g[t] ** 2", "1 - np.tanh(g[t]) ** 2"),
            ("slope(A)", "slope(activation(A))"),
            ("slope(u)", "slope(n)"),
            ("slope(u)", "slope(-u)"),
            ("a > 0", "a < 0"),
        ],
        {"derivative"},
    ),
    "slope of another function": Kind(
        [
            ("A * (1 - A)", "1 - A ** 2"),
            ("1 - A ** 2", "A * (1 - A)"),
            ("slope(A)", "A * (1 - A)"),
            ("slope(A)", "sigmoid(A)"),
            ("a > 0", "sigmoid(a)"),
        ],
        {"derivative"},
    ),
    "power": Kind([("A ** 2", "A"), ("A ** 2", "A ** 3")], {"derivative"}),
    "mask left out": Kind([("mask * A", "A")], {"mask"}),
    "scale left out": Kind([("A / scale", "A")], {"factor"}, {"double"}),
    "scale twice": Kind([("A / scale", "A / scale ** 2")], {"factor"}, {"term"}),
    "function left out": Kind([("np.tanh(A)", "A"), ("np.sqrt(A)", "A")], {"operand", "factor", "derivative"}),
    "epsilon left out": Kind([("A + EPS", "A")], {"factor", "derivative"}),
    "upside down": Kind([("A / B", "A * B")], {"factor", "mean"}, {"double"}),
    "operand for another": Kind(other_operands, {"operand", "derivative"}),
    "neighbouring step": Kind(
        [("A[t + 1]", "A[t]"), ("A[t]", "A[t - 1]"), ("A[t]", "A[t + 1]")], {"operand", "moved", "derivative"}
    ),
    "time reversed": Kind(
        [("A[t]", "A[-1 - t]"), ("A[t + 1]", "A[-1 - t]"), ("reversed(range(steps))", "range(steps)")],
        {"operand", "moved", "derivative"},
    ),
    "operand transposed": Kind(
        [
            ("A.T @ B", "A @ B"),
            ("A @ B.T", "A @ B"),
            ("A @ B", "A @ B.T"),
            ("A @ B", "A.T @ B"),
            ("A.swapaxes(1, 2) @ B", "A @ B"),
            ("A @ B.swapaxes(1, 2)", "A @ B"),
            ("A @ B", "A @ B.swapaxes(1, 2)"),
            ("np.einsum('boyx,bcyx->oc', A, B)", "np.einsum('boyx,bcxy->oc', A, B)"),
            ("np.einsum('boyx,oc->bcyx', A, B)", "np.einsum('boxy,oc->bcyx', A, B)"),
            ("np.einsum('boyx,oc->bcyx', A, B)", "np.einsum('boyx,co->bcyx', A, B)"),
            ("np.einsum('bcijyx,boyx->ocij', A, B)", "np.einsum('bcijyx,boxy->ocij', A, B)"),
            ("np.einsum('bcijyx,boyx->ocij', A, B)", "np.einsum('bcjiyx,boyx->ocij', A, B)"),
        ],
        {"transposed", "operand"},
    ),
    "product the wrong way round": Kind(
        [
            ("A @ B", "B @ A"),
            ("np.einsum('boyx,bcyx->oc', A, B)", "np.einsum('boyx,bcyx->oc', B, A)"),
        ],
        {"transposed", "operand"},
    ),
    "result transposed": Kind([("LINE", "LINE.T"), ("LINE", "LINE.swapaxes(-1, -2)")], {"transposed", "moved"}),
    "last step alone": Kind([("A += B", "A = B")], {"term"}),
    "wrong rows": Kind(
        [
            ("np.add.at(A, read, B)", "np.add.at(A, ids, B)"),
            ("np.add.at(A, read, B)", "np.add.at(A, read - 1, B)"),
            ("np.put_along_axis(A, best, B, axis=-1)", "np.put_along_axis(A, best - 1, B, axis=-1)"),
            ("np.put_along_axis(A, best, B, axis=-1)", "np.put_along_axis(A, best[::-1], B, axis=-1)"),
        ],
        {"moved"},
    ),
    "rows moved by one": Kind(
        [("LINE", "np.roll(LINE, 1, axis=0)"), ("LINE", "np.roll(LINE, 1, axis=-1)")], {"moved", "operand"}
    ),
    "kernel turned": Kind(
        [
            ("filters[:, :, i, j]", "filters[:, :, -1 - i, -1 - j]"),
            ("filters[:, :, i, j]", "filters[:, :, j, i]"),
            ("d_filters[:, :, i, j] = A", "d_filters[:, :, -1 - i, -1 - j] = A"),
            ("d_filters[:, :, i, j] = A", "d_filters[:, :, j, i] = A"),
        ],
        {"moved", "transposed"},
    ),
    "row left out": Kind([("LINE", "np.concatenate([0 * LINE[:1], LINE[1:]])")], {"term"}),
    "weights already updated": Kind(updated_weights, {"operand", "double"}),
    "decay added": Kind(decay, {"double"}),
    "gradient of another parameter": Kind(other_parameters, {"operand"}),
}

KEPT_OUT: dict[str, Kind] = {
    "batch size left out": Kind([("A / batch", "A"), ("A / count", "A")], {"mean", "factor"}),
    "batch size twice": Kind([("LINE", "LINE / batch"), ("LINE", "LINE / count")], {"mean", "factor"}, {"term"}),
    "constant off": Kind([("1 - A", "2 - A"), ("1 - A", "-A")], {"derivative"}),
    "factor left out": Kind([("A * B", "A"), ("A * B", "B")], {"factor", "derivative"}),
    "half of the slope": Kind([("A * (1 - A)", "A"), ("A * (1 - A)", "1 - A")], {"derivative", "factor"}),
    "mask inverted": Kind([("mask * A", "~mask * A")], {"mask"}),
    "never passed on": Kind([("LINE", "0 * LINE")], {"term"}),
    "one example alone": Kind(
        [
            ("A.sum(axis=0)", "A[0]"),
            ("A.sum(axis=0)", "A[-1]"),
            ("A.T @ B", "A[:1].T @ B[:1]"),
            ("A.sum(axis=(0, 2, 3))", "A[0].sum(axis=(1, 2))"),
            ("A.sum(axis=(0, 2))", "A[0].sum(axis=1)"),
        ],
        {"term", "axis"},
    ),
    "order reversed": Kind([("LINE", "LINE[::-1]"), ("LINE", "LINE[..., ::-1]")], {"moved", "operand"}),
    "reduced and spread": Kind(
        [
            ("LINE", "0 * LINE + LINE.mean(axis=0)"),
            ("LINE", "0 * LINE + LINE.sum(axis=0)"),
            ("LINE", "0 * LINE + LINE.mean(axis=-1, keepdims=True)"),
            ("LINE", "0 * LINE + LINE.sum(axis=-1, keepdims=True)"),
        ],
        {"axis"},
    ),
    "row twice": Kind([("LINE", "np.concatenate([2 * LINE[:1], LINE[1:]])")], {"double", "factor"}),
    "scatter assigned": Kind(
        [
            ("np.add.at(A, I, B)", "A[I] = B"),
            ("A[:, :, I, J] += B", "A[:, :, I, J] = B"),
        ],
        {"term"},
    ),
    "sign of a line": Kind([("LINE", "-LINE")], {"sign"}),
    "stride left out": Kind(
        [
            ("A[:, :, i : i + stride * tall : stride, J]", "A[:, :, i : i + tall, J]"),
            ("A[:, :, I, j : j + stride * wide : stride]", "A[:, :, I, j : j + wide]"),
        ],
        {"moved", "operand"},
    ),
    "sum for mean": Kind(
        [
            ("A.mean(axis=K, keepdims=True)", "A.sum(axis=K, keepdims=True)"),
            ("A / (tall * wide)", "A"),
        ],
        {"mean", "factor", "derivative"},
    ),
    "window moved by one": Kind(
        [
            ("A[:, :, i : i + stride * tall : stride, J]", "A[:, :, i + 1 : i + 1 + stride * tall : stride, J]"),
            (
                "A[:, :, i : i + stride * tall : stride, J]",
                "np.roll(A, 1, axis=2)[:, :, i : i + stride * tall : stride, J]",
            ),
            (
                "A[:, :, I, j : j + stride * wide : stride]",
                "np.roll(A, -1, axis=3)[:, :, I, j : j + stride * wide : stride]",
            ),
            ("A[:, :, padding : padding + height, J]", "A[:, :, padding - 1 : padding - 1 + height, J]"),
            ("A[:, :, I, padding : padding + width]", "A[:, :, I, padding + 1 : padding + 1 + width]"),
        ],
        {"moved", "operand"},
    ),
}
"""A third of the kinds, drawn before the finder of causes was begun and not seen while it was written."""

KINDS = OPEN | KEPT_OUT
