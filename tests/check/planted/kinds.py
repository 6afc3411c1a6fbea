"""The kinds of mistakes that people make in a backward pass, each as the rules that make it."""

from collections.abc import Iterator

from tests.check.planted.cases import Case
from tests.check.planted.rules import Rule, Rules, shapes


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


OPEN: dict[str, Rules] = {
    "twice": [("LINE", "2 * LINE")],
    "half": [("LINE", "LINE / 2")],
    "sign of a term": [("A - B", "A + B"), ("A + B", "A - B")],
    "mean for sum": [
        ("A.sum(axis=K)", "A.mean(axis=K)"),
        ("A.sum(axis=K, keepdims=True)", "A.mean(axis=K, keepdims=True)"),
        ("LINE", "LINE / LINE.shape[-1]"),
    ],
    "wrong axis": [
        ("A.sum(axis=0)", "A.sum(axis=1)"),
        ("A.sum(axis=0)", "A.sum(axis=-1)"),
        ("A.sum(axis=(0, 2, 3))", "A.sum(axis=(1, 2, 3))"),
        ("A.sum(axis=(0, 2))", "A.sum(axis=(1, 2))"),
        ("A.sum(axis=-1, keepdims=True)", "A.sum(axis=-2, keepdims=True)"),
        ("A.sum(axis=-1, keepdims=True)", "A.sum(axis=0, keepdims=True)"),
        ("A.mean(axis=1, keepdims=True)", "A.mean(axis=0, keepdims=True)"),
    ],
    "term left out": [("A + B", "A"), ("A + B", "B"), ("A - B", "A"), ("A - B", "-B"), ("A += B", "A += 0 * B")],
    "term twice": [("A + B", "A + 2 * B"), ("A + B", "2 * A + B"), ("A - B", "A - 2 * B"), ("A - B", "2 * A - B")],
    "slope left out": [
        ("A * (B * (1 - B))", "A"),
        ("A * (1 - B ** 2)", "A"),
        ("A * slope(B)", "A"),
        ("A * (B > 0)", "A"),
    ],
    "slope at the wrong point": [
        ("h * (1 - h)", "a * (1 - a)"),
        ("A * (1 - A)", "sigmoid(A) * (1 - sigmoid(A))"),
        ("1 - np.tanh(A) ** 2", "1 - A ** 2"),
        ("1 - g[t] ** 2", "1 - np.tanh(g[t]) ** 2"),
        ("slope(A)", "slope(activation(A))"),
        ("slope(u)", "slope(n)"),
        ("slope(u)", "slope(-u)"),
        ("a > 0", "a < 0"),
    ],
    "slope of another function": [
        ("A * (1 - A)", "1 - A ** 2"),
        ("1 - A ** 2", "A * (1 - A)"),
        ("slope(A)", "A * (1 - A)"),
        ("slope(A)", "sigmoid(A)"),
        ("a > 0", "sigmoid(a)"),
    ],
    "power": [("A ** 2", "A"), ("A ** 2", "A ** 3")],
    "mask left out": [("mask * A", "A")],
    "scale left out": [("A / scale", "A")],
    "scale twice": [("A / scale", "A / scale ** 2")],
    "function left out": [("np.tanh(A)", "A"), ("np.sqrt(A)", "A")],
    "epsilon left out": [("A + EPS", "A")],
    "upside down": [("A / B", "A * B")],
    "operand for another": other_operands,
    "neighbouring step": [("A[t + 1]", "A[t]"), ("A[t]", "A[t - 1]"), ("A[t]", "A[t + 1]")],
    "time reversed": [("A[t]", "A[-1 - t]"), ("A[t + 1]", "A[-1 - t]"), ("reversed(range(steps))", "range(steps)")],
    "operand transposed": [
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
    "product the wrong way round": [
        ("A @ B", "B @ A"),
        ("np.einsum('boyx,bcyx->oc', A, B)", "np.einsum('boyx,bcyx->oc', B, A)"),
    ],
    "result transposed": [("LINE", "LINE.T"), ("LINE", "LINE.swapaxes(-1, -2)")],
    "last step alone": [("A += B", "A = B")],
    "wrong rows": [
        ("np.add.at(A, read, B)", "np.add.at(A, ids, B)"),
        ("np.add.at(A, read, B)", "np.add.at(A, read - 1, B)"),
        ("np.put_along_axis(A, best, B, axis=-1)", "np.put_along_axis(A, best - 1, B, axis=-1)"),
        ("np.put_along_axis(A, best, B, axis=-1)", "np.put_along_axis(A, best[::-1], B, axis=-1)"),
    ],
    "rows moved by one": [("LINE", "np.roll(LINE, 1, axis=0)"), ("LINE", "np.roll(LINE, 1, axis=-1)")],
    "kernel turned": [
        ("filters[:, :, i, j]", "filters[:, :, -1 - i, -1 - j]"),
        ("filters[:, :, i, j]", "filters[:, :, j, i]"),
        ("d_filters[:, :, i, j] = A", "d_filters[:, :, -1 - i, -1 - j] = A"),
        ("d_filters[:, :, i, j] = A", "d_filters[:, :, j, i] = A"),
    ],
    "row left out": [("LINE", "np.concatenate([0 * LINE[:1], LINE[1:]])")],
    "weights already updated": updated_weights,
    "decay added": decay,
    "gradient of another parameter": other_parameters,
}
