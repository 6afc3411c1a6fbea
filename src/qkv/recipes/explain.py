"""Attention on one input, or between two, step by step: every number on the way, and what is to be seen in them.

The steps are taps on the formulas of `functional`, as a `Trace` holds them; `draw` writes them down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from qkv.draw.steps import Observation, Worked, WorkedStep
from qkv.errors import InputError
from qkv.functional import softmax_attention_weights
from qkv.trace import record, step
from qkv.types import AttentionMap, Json, Trace
from qkv.vectors import EmbeddedSentence


@dataclass(frozen=True)
class Matrices:
    """What queries, keys and values are projected by; None leaves them as they are."""

    query: Float64[Tensor, "query_dim query_width"] | None = None
    key: Float64[Tensor, "key_dim key_width"] | None = None
    value: Float64[Tensor, "value_rows value_dim"] | None = None

    @classmethod
    def random(cls, query_dim: int, key_dim: int, width: int, generator: torch.Generator) -> "Matrices":
        """Query and key matrices of independent normal entries of variance `1 / embed_dim`: lengths are kept, about."""
        query = torch.randn(query_dim, width, generator=generator, dtype=torch.float64) * query_dim**-0.5
        key = torch.randn(key_dim, width, generator=generator, dtype=torch.float64) * key_dim**-0.5
        return cls(query, key)

    @property
    def as_json(self) -> Json:
        named = {"query": self.query, "key": self.key, "value": self.value}
        return {name: matrix.tolist() for name, matrix in named.items() if matrix is not None}


def attend(
    x: EmbeddedSentence, y: EmbeddedSentence | None = None, matrices: Matrices | None = None, *, scaled: bool = True
) -> Trace:
    """Every step of `softmax(Q Kᵀ / sqrt(d)) V` (Vaswani et al. 2017, eq. 1) in float64, recorded.

    Args:
        x: what asks.
        y: what is asked; `x` itself where left out.
        matrices: `Q = X Wq`, `K = Y Wk`, `V = Y Wv`.
        scaled: whether scores are divided by the root of their width.

    Raises:
        InputError: matrices whose shapes do not fit the vectors.

    >>> trace = attend(EmbeddedSentence(["a", "b"], torch.eye(2, dtype=torch.float64)), scaled=False)
    >>> trace.names
    ['x', 'scores', 'exponentials', 'weights', 'output']
    """
    matrices = matrices or Matrices()
    source = x if y is None else y
    _check_shapes(x, source, matrices)
    with record() as trace:
        step("x", x.vectors)
        if y is not None:
            step("y", y.vectors)
        query, key, value = (
            vectors if matrix is None else step(name, vectors @ matrix)
            for name, vectors, matrix in (
                ("query", x.vectors, matrices.query),
                ("key", source.vectors, matrices.key),
                ("value", source.vectors, matrices.value),
            )
        )
        scale = query.shape[-1] ** -0.5 if scaled else 1.0
        scores = step("scores", query @ key.mT)
        if scaled:
            scores = step("scaled", scale * scores)
        step("exponentials", (scores - scores.amax(dim=-1, keepdim=True)).exp())
        weights = softmax_attention_weights(query, key, scale=scale)
        facts = {"kind": "self" if y is None else "cross", "obtained": "captured", "backend": "softmax_attention"}
        step("weights", weights[None, None], **facts)
        step("output", weights @ value)
    return trace


def _check_shapes(x: EmbeddedSentence, source: EmbeddedSentence, matrices: Matrices) -> None:
    widths = {}
    for name, vectors, matrix in (
        ("query", x.vectors, matrices.query),
        ("key", source.vectors, matrices.key),
        ("value", source.vectors, matrices.value),
    ):
        if matrix is not None and matrix.shape[0] != vectors.shape[1]:
            raise InputError(
                f"the {name} matrix does not fit the vectors",
                expected=f"{vectors.shape[1]} rows, as many as the vectors have entries",
                got=f"shape {tuple(matrix.shape)}",
            )
        widths[name] = (vectors if matrix is None else matrix).shape[1]
    if widths["query"] != widths["key"]:
        raise InputError(
            "queries and keys differ in width",
            expected="one width",
            got=f"{widths['query']} and {widths['key']}",
            hint="query and key matrices of equally many columns",
        )


def attention_map(trace: Trace, x: EmbeddedSentence, y: EmbeddedSentence | None = None) -> AttentionMap:
    """The weights of a trace that `attend` made, with their labels."""
    (weights,) = trace.attention()
    return AttentionMap.from_step(weights, x.labels, (x if y is None else y).labels)


def observations(trace: Trace, x: EmbeddedSentence, y: EmbeddedSentence | None = None) -> list[Observation]:
    """For each query the strongest key and the second, with their weights; of equal ones the earlier is first."""
    labels = (x if y is None else y).labels
    found = []
    for query, row in zip(x.labels, trace["weights"][0, 0].tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda index: -row[index])[:2]
        found.append(Observation(query, tuple((labels[index], row[index]) for index in order)))
    return found


def worked(
    trace: Trace, x: EmbeddedSentence, y: EmbeddedSentence | None = None, *, title: str, notes: Sequence[str] = ()
) -> Worked:
    """A trace that `attend` made, with what each step does in words and as a formula."""
    there = set(trace.names)
    source, source_name = (x, "X") if y is None else (y, "Y")
    q, k, v = (
        letter if name in there else own
        for name, letter, own in (("query", "Q", "X"), ("key", "K", source_name), ("value", "V", source_name))
    )
    z = "Z" if "scaled" in there else "S"
    width = trace["query" if "query" in there else "x"].shape[-1]
    told = {
        "x": ("X: a vector for each word", "X", "X", "The rows are the words" + (" that ask." if y else ".")),
        "y": ("Y: a vector for each word that is asked", "Y", "Y", "Keys and values come from these."),
        "query": ("Q: what each word asks for", "Q = X Wq", r"Q = X W_q", "X times the query matrix."),
        "key": ("K: what each word answers to", f"K = {source_name} Wk", rf"K = {source_name} W_k",
                f"{source_name} times the key matrix."),
        "value": ("V: what each word hands over", f"V = {source_name} Wv", rf"V = {source_name} W_v",
                  f"{source_name} times the value matrix."),
        "scores": ("Scores", f"S = {q} {k}ᵀ", rf"S = {q} {k}^{{\top}}",
                   "Each entry is the dot product of a query (row) and a key (column)."),
        "scaled": ("Scale", f"Z = S / √{width}", rf"Z = S / \sqrt{{{width}}}",
                   f"Divided by √{width} = {width**0.5:.4f}, the root of the width of queries and keys."),
        "exponentials": ("Softmax, row by row: exponentials", f"Eᵢⱼ = exp({z}ᵢⱼ − maxₖ {z}ᵢₖ)",
                         rf"E_{{ij}} = \exp({z}_{{ij}} - \max_k {z}_{{ik}})",
                         "The row's largest entry is taken off first: it cancels, and nothing overflows."),
        "weights": ("Softmax, row by row: weights", "Aᵢⱼ = Eᵢⱼ / Σₖ Eᵢₖ", r"A_{ij} = E_{ij} / \sum_k E_{ik}",
                    "Each row is divided by its sum, so it adds up to 1."),
        "output": ("Output", f"O = A {v}", f"O = A {v}",
                   f"Each row is a mean of the rows of {v}, weighted by a row of A."),
    }  # fmt: skip
    columns: dict[str, Sequence[str]] = dict.fromkeys(("scores", "scaled", "exponentials", "weights"), source.labels)
    rows: dict[str, Sequence[str]] = dict.fromkeys(("y", "key", "value"), source.labels)
    steps = []
    for one in trace:
        heading, formula, latex, words = told[one.name]
        value = one.value[0, 0] if one.name == "weights" else one.value
        steps.append(
            WorkedStep(
                one.name, heading, words, formula, latex, value, rows.get(one.name, x.labels), columns.get(one.name),
                sums=one.name in ("exponentials", "weights"),
            )
        )  # fmt: skip
    return Worked(title, list(notes), steps, attention_map(trace, x, y), observations(trace, x, y))


def document(worked: Worked, missing: Sequence[str]) -> Json:
    """An explanation for programs: every step whole, and what is to be seen."""
    return {
        "missing": list(missing),
        "notes": list(worked.notes),
        "steps": [
            {
                "name": one.name,
                "formula": one.formula,
                "rows": list(one.rows),
                "columns": None if one.columns is None else list(one.columns),
                "value": one.value.tolist(),
            }
            for one in worked.steps
        ],
        "observed": [
            {"query": seen.query, "keys": [{"key": key, "weight": weight} for key, weight in seen.keys]}
            for seen in worked.observations
        ],
    }
