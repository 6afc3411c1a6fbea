"""The nouns that travel between rooms. Each is plain data: it knows its fields, not who made it.

Shapes are written with the axis names used everywhere: `batch heads queries keys head_dim embed_dim vocab`.
"""

import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from qkv.batches import MASK_ID as MASK_ID
from qkv.batches import ImageBatch as ImageBatch
from qkv.batches import NGramBatch as NGramBatch
from qkv.batches import PairBatch as PairBatch
from qkv.batches import SpeechBatch as SpeechBatch
from qkv.batches import TextBatch as TextBatch
from qkv.errors import InputError

Fact = str | int | float | bool
Json = dict[str, Any]


class Config(BaseModel):
    """The base of all settings: one schema for file, flags and page. Frozen; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Kept:
    """Which part of attention weights was kept, where not all of them were.

    Attributes:
        queries: the rows that were kept, None for all.
        keys: how many keys there are.
        key_index: the keys that the weights of a row belong to, where only its largest were kept.
        dropped: the sum of the weights of a row that were not.
    """

    queries: Sequence[int] | None
    keys: int
    key_index: Int[Tensor, "batch heads queries kept"] | None = None
    dropped: Float[Tensor, "batch heads queries"] | None = None


@dataclass(frozen=True)
class Step:
    """One recorded value: its full name, the value (detached), and facts about it, such as how it was obtained."""

    name: str
    value: Tensor
    facts: Mapping[str, Fact] = field(default_factory=dict)
    kept: Kept | None = None


@dataclass
class Trace:
    """What was recorded, in the order in which it happened."""

    steps: list[Step] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """Keeps a step; a trace that chooses what it keeps does so here."""
        self.steps.append(step)

    @property
    def names(self) -> list[str]:
        return [step.name for step in self.steps]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __getitem__(self, name: str) -> Tensor:
        """The last value recorded under `name`."""
        for step in reversed(self.steps):
            if step.name == name:
                return step.value
        raise KeyError(name)

    def attention(self) -> list[Step]:
        """The steps that are attention weights, `(batch, heads, queries, keys)`."""
        return [step for step in self.steps if step.name.rpartition(".")[2] == "weights"]

    def maps(
        self, query_labels: Sequence[str] | None = None, key_labels: Sequence[str] | None = None, item: int = 0
    ) -> list["AttentionMap"]:
        """The attention maps of one item of the batch, in the order in which they were computed.

        Args:
            query_labels, key_labels: the tokens of both sides; positions where left out. Shorter ones than the batch
                is long cut its padding off. Self-attention takes the queries' labels for its keys where those are
                left out.
            item: which item of the batch.

        Raises:
            InputError: labels that do not fit a map.
        """
        made = []
        for step in self.attention():
            queries, keys = step.value.shape[-2:]
            if step.kept is not None:
                keys = step.kept.keys
                queries = queries if step.kept.queries is None else max(step.kept.queries, default=-1) + 1
            ours = _positions(queries) if query_labels is None else query_labels
            same = key_labels is None and query_labels is not None and step.facts.get("kind") == "self"
            theirs = ours if same else _positions(keys) if key_labels is None else key_labels
            made.append(AttentionMap.from_step(step, ours, theirs, item))
        return made

    def _repr_html_(self) -> str:
        return render("html", self)

    def _repr_svg_(self) -> str:
        return render("svg", self)


@dataclass(frozen=True)
class AttentionMap:
    """The attention weights of one layer for one input, with the labels of both sides.

    Attributes:
        weights: row i says how much query i attends to each key, or to those that `key_index` names.
        query_labels, key_labels: the tokens of both sides.
        layer: the module path that computed the weights, such as `decoder.layers.2.multihead_attn`.
        kind: `self` or `cross`.
        obtained: `captured` as the model computed them, `recomputed` beside a fused path that hands none out, or
            `implied` by a form that never has them (linear attention).
        backend: what computed the output, such as `scaled_dot_product_attention`.
        signed: whether weights may be negative.
        key_index: the keys that the weights of a row belong to, where only its largest were kept, in falling order.
        dropped: the sum of the weights of a row that were not kept.
    """

    weights: Float[Tensor, "heads queries keys"]
    query_labels: Sequence[str]
    key_labels: Sequence[str]
    layer: str
    kind: Literal["self", "cross"]
    obtained: Literal["captured", "recomputed", "implied"]
    backend: str
    signed: bool = False
    key_index: Int[Tensor, "heads queries kept"] | None = None
    dropped: Float[Tensor, "heads queries"] | None = None

    def __post_init__(self) -> None:
        _, queries, keys = self.weights.shape
        for name, given, shape in (
            ("key_index", self.key_index, self.weights.shape),
            ("dropped", self.dropped, self.weights.shape[:2]),
        ):
            if given is not None and given.shape != shape:
                raise InputError(
                    f"{name} does not fit the weights of {self.layer}",
                    expected=f"{tuple(shape)}",
                    got=f"{tuple(given.shape)}",
                )
        if self.key_index is not None:
            keys = len(self.key_labels)
            if bool(((self.key_index < 0) | (self.key_index >= keys)).any()):
                raise InputError(f"key_index of {self.layer} names a key without a label", expected=f"0 to {keys - 1}")
        for side, labels, count in (("query", self.query_labels, queries), ("key", self.key_labels, keys)):
            if len(labels) != count:
                raise InputError(
                    f"the {side} labels of {self.layer} do not fit its weights",
                    expected=f"{count}, for weights of shape {tuple(self.weights.shape)}",
                    got=f"{len(labels)}",
                )
        if not bool(torch.isfinite(self.weights).all()):
            raise InputError(f"the attention weights of {self.layer} hold NaN or infinity")
        if not self.signed and bool((self.weights < 0).any()):
            raise InputError(
                f"the attention weights of {self.layer} are negative in places",
                got=f"a smallest weight of {float(self.weights.min()):.3g}",
                hint="signed=True where that is meant",
            )

    @classmethod
    def from_step(
        cls, step: Step, query_labels: Sequence[str], key_labels: Sequence[str], item: int = 0
    ) -> "AttentionMap":
        """The map of one item of the batch that a trace holds, cut to its labels where the batch was padded."""
        facts: dict[str, Any] = dict(step.facts)
        layer, kept = step.name.rpartition(".")[0], step.kept
        if not 0 <= item < len(step.value):
            raise InputError(f"no item {item} in {layer}", expected=f"0 to {len(step.value) - 1}", got=str(item))
        weights = step.value[item].float().cpu()
        if kept is None:
            weights = weights[:, : len(query_labels), : len(key_labels)]
            return cls(weights, query_labels, key_labels, layer, **facts)
        rows = range(weights.shape[1]) if kept.queries is None else kept.queries
        real = [place for place, query in enumerate(rows) if query < len(query_labels)]
        labels = [query_labels[rows[place]] for place in real]
        if kept.key_index is None or kept.dropped is None:
            return cls(weights[:, real, : len(key_labels)], labels, key_labels, layer, **facts)
        index, dropped = kept.key_index[item, :, real].cpu(), kept.dropped[item, :, real].float().cpu()
        weights, padded = weights[:, real], index >= len(key_labels)  # among the largest where fewer keys are real
        dropped = dropped + (weights * padded).sum(-1)
        index, weights = index.masked_fill(padded, 0), weights.masked_fill(padded, 0)
        return cls(weights, labels, key_labels, layer, **facts, key_index=index, dropped=dropped)

    @property
    def heads(self) -> int:
        return self.weights.shape[0]

    def head(self, index: int) -> "AttentionMap":
        """This map with one head only."""
        if not 0 <= index < self.heads:
            raise InputError(f"no head {index} in {self.layer}", expected=f"0 to {self.heads - 1}", got=str(index))
        weights, key_index, dropped = (
            None if x is None else x[index][None] for x in (self.weights, self.key_index, self.dropped)
        )
        return replace(self, weights=weights, key_index=key_index, dropped=dropped)

    def dense(self) -> "AttentionMap":
        """This map with a weight for every key: zeros where they were dropped."""
        if self.key_index is None:
            return self
        full = self.weights.new_zeros(*self.weights.shape[:2], len(self.key_labels))
        return replace(self, weights=full.scatter_add_(-1, self.key_index, self.weights), key_index=None)

    def top(self, k: int) -> "AttentionMap":
        """This map with the `k` largest weights of each row (by size, where signed) and the sum of the others.

        >>> one = AttentionMap(torch.tensor([[[0.5, 0.1, 0.4]]]), ["a"], list("xyz"), "enc", "cross", "captured", "")
        >>> one.top(2).weights, one.top(2).key_index, one.top(2).dropped
        (tensor([[[0.5000, 0.4000]]]), tensor([[[0, 2]]]), tensor([[0.1000]]))
        """
        if k < 1:
            raise InputError("top cannot keep so few weights", expected="1 or more", got=str(k))
        place = (self.weights.abs() if self.signed else self.weights).topk(min(k, self.weights.shape[-1])).indices
        largest = self.weights.gather(-1, place)
        dropped = self.weights.sum(-1) - largest.sum(-1) + (0 if self.dropped is None else self.dropped)
        key_index = place if self.key_index is None else self.key_index.gather(-1, place)
        return replace(self, weights=largest, key_index=key_index, dropped=dropped)

    def pooled(self, size: int, key_size: int | None = None) -> "AttentionMap":
        """An overview: blocks of queries averaged, the weights of blocks of keys summed, so that rows keep theirs.

        Args:
            size: how many queries go into a block; those with nothing to attend to do not count in its mean.
            key_size: how many keys, as many as queries where left out.

        >>> one = AttentionMap(torch.eye(3)[None], list("abc"), list("abc"), "enc", "self", "captured", "")
        >>> one.pooled(2).weights.tolist(), one.pooled(2).key_labels
        ([[[1.0, 0.0], [0.0, 1.0]]], ['a ... b', 'c'])
        """
        key_size = size if key_size is None else key_size
        if min(size, key_size) < 1:
            raise InputError("size cannot be that of a block", expected="1 or more", got=str(min(size, key_size)))
        queries, keys = _blocks(self.query_labels, size), _blocks(self.key_labels, key_size)
        if self.key_index is None:
            summed = _block_sums(_block_sums(self.weights, size, -2), key_size, -1)
        else:  # of a long map, zeros for all that was dropped would not fit into memory
            rows = torch.arange(self.weights.shape[1]) // size
            cell = (rows[:, None] * len(keys) + self.key_index // key_size).flatten(1)
            summed = self.weights.new_zeros(self.heads, len(queries) * len(keys))
            summed = summed.scatter_add_(-1, cell, self.weights.flatten(1)).unflatten(-1, (len(queries), len(keys)))
        totals = self.weights.sum(-1) + (0 if self.dropped is None else self.dropped)
        counted = torch.ones_like(totals) if self.signed else (totals != 0).to(totals)
        members = _block_sums(counted, size, -1).clamp(min=1)
        dropped = None if self.dropped is None else _block_sums(self.dropped, size, -1) / members
        return replace(
            self,
            weights=summed / members[..., None],
            query_labels=queries,
            key_labels=keys,
            key_index=None,
            dropped=dropped,
        )

    def overview(self, longest: int) -> "AttentionMap":
        """This map, `pooled` where a side is longer than `longest`, just so far that none is."""
        sizes = [math.ceil(len(labels) / longest) for labels in (self.query_labels, self.key_labels)]
        return self.pooled(*sizes) if max(sizes) > 1 else self

    def mean(self) -> "AttentionMap":
        """This map with its heads averaged into one."""
        return self.mean_of([self])

    @staticmethod
    def mean_of(maps: Sequence["AttentionMap"]) -> "AttentionMap":
        """All heads of several maps over the same labels, averaged into one head."""
        if len({(tuple(one.query_labels), tuple(one.key_labels)) for one in maps}) != 1:
            raise InputError("these maps cannot be averaged", expected="one or more maps over the same labels")
        layers = list(dict.fromkeys(one.layer for one in maps))
        dropped = None
        if any(one.key_index is not None or one.dropped is not None for one in maps):
            maps = [one.dense() for one in maps]
            each = [
                one.weights.new_zeros(one.weights.shape[:2]) if one.dropped is None else one.dropped for one in maps
            ]
            dropped = torch.cat(each).mean(dim=0, keepdim=True)
        together = torch.cat([one.weights for one in maps]).mean(dim=0, keepdim=True)
        signed = any(one.signed for one in maps)
        return replace(maps[0], weights=together, layer=", ".join(layers), signed=signed, dropped=dropped)

    def _repr_html_(self) -> str:
        return render("html", self)

    def _repr_svg_(self) -> str:
        return render("svg", self)


def _positions(count: int) -> list[str]:
    return [str(position) for position in range(count)]


def _blocks(labels: Sequence[str], size: int) -> list[str]:
    """A label for each block of `size`: its first and its last."""
    blocks = (labels[start : start + size] for start in range(0, len(labels), size))
    return [block[0] if len(block) == 1 else f"{block[0]} ... {block[-1]}" for block in blocks]


def _block_sums(x: Tensor, size: int, dim: int) -> Tensor:
    """The sums over blocks of `size` entries along `dim`."""
    return torch.stack([block.sum(dim) for block in x.split(size, dim)], dim)


@dataclass(frozen=True)
class WordMap:
    """Words laid out on a plane; `vectors.layout` makes it, `draw.word_map` shows it.

    Attributes:
        words: the most frequent first, as their vectors stand in their file: labels are drawn in this order.
        xy: the place of each.
        cluster: the number of each word's cluster.
        cluster_names: what each cluster is called, by its number.
        neighbours: the words nearest to each in the space of its vectors, nearest first, by their places in `words`.
        kept: the share of those neighbours that are nearest on the map too, a mean over words.
        title: what the vectors are called.
        method: how the words were laid out.
    """

    words: Sequence[str]
    xy: Float32[np.ndarray, "words 2"]
    cluster: Int64[np.ndarray, " words"]
    cluster_names: Sequence[str]
    neighbours: Int64[np.ndarray, "words neighbours"]
    kept: float
    title: str
    method: str

    def __post_init__(self) -> None:
        count = len(self.words)
        shapes = {"xy": (count, 2), "cluster": (count,), "neighbours": (count, *self.neighbours.shape[1:])}
        for name, shape in shapes.items():
            got = getattr(self, name).shape
            if got != shape:
                raise InputError(f"{name} does not fit {count:,} words", expected=str(shape), got=str(got))
        if not np.isfinite(self.xy).all():
            raise InputError("xy holds NaN or infinity", expected="a place for each word")
        for name, most in (("cluster", len(self.cluster_names)), ("neighbours", count)):
            numbers = getattr(self, name)
            if numbers.size and not (numbers.min() >= 0 and numbers.max() < most):
                raise InputError(f"{name} names what is not there", expected=f"0 to {most - 1}")

    def _repr_html_(self) -> str:
        return render("html", self)

    def _repr_svg_(self) -> str:
        return render("svg", self)


@dataclass(frozen=True)
class Run:
    """A training run as its folder holds it; `train.runs` reads and writes them.

    `config` is the recipe's, as plain data; `history` the lines of `metrics.jsonl`; `result` is empty until the run
    is finished.
    """

    path: Path
    recipe: str
    config: Json
    seed: int
    history: Sequence[Json]
    result: Json

    @property
    def finished(self) -> bool:
        return bool(self.result)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that are one number each, by the field's own names; `result` also holds those that are rows."""
        return {name: value for name, value in self.result.get("metrics", {}).items() if not isinstance(value, list)}


# What a claim comes to: `rounding` where it is off only because values above it were rounded, `carried` where it is
# right given an earlier mistake, `unused` where the loss does not depend on what the claim is about, `unusable` where
# it cannot be read or computed, `undecided` where nothing of it could be judged.
Verdict = Literal["correct", "rounding", "wrong", "carried", "unused", "unusable", "undecided"]


@dataclass(frozen=True)
class Entry:
    """One entry of an array as claimed and as it is; `error` is relative to the larger of the two."""

    index: tuple[int, ...]
    claimed: float
    value: float
    error: float


@dataclass(frozen=True)
class Claim:
    """What a check found of one thing, such as the gradient by one parameter.

    Attributes:
        error, tolerance: the largest error among entries that were judged, and up to where one is none.
        entries: those that are wrong, the worst first, as many as are worth telling; of a right claim, its worst.
        cause: the likely cause by the name that its check has for it, `explanation` in words with the numbers found.
        facts: counts and the like, by name.
        errors: the error of each entry, NaN where it was not judged; None where the claim is about no array.
        line: where it stands, counted from 1, if it was read from lines.
    """

    name: str
    verdict: Verdict
    error: float
    tolerance: float
    entries: Sequence[Entry] = ()
    cause: str = ""
    explanation: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    errors: Float[np.ndarray, "..."] | None = None
    line: int | None = None


@dataclass(frozen=True)
class Report:
    """What a check found: its claims in the order in which they were judged, and notes on how."""

    title: str
    claims: Sequence[Claim]
    notes: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        return not self.wrong

    @property
    def wrong(self) -> list[Claim]:
        return [claim for claim in self.claims if claim.verdict == "wrong"]

    def __getitem__(self, name: str) -> Claim:
        """The claim of that name."""
        for claim in self.claims:
            if claim.name == name:
                return claim
        raise KeyError(name)

    def document(self) -> Json:
        """All of it but the arrays of errors, as plain data for JSON."""
        claims = [
            {
                "name": claim.name,
                "verdict": claim.verdict,
                "error": claim.error,
                "tolerance": claim.tolerance,
                "cause": claim.cause,
                "explanation": claim.explanation,
                "facts": dict(claim.facts),
                "entries": [vars(entry) | {"index": list(entry.index)} for entry in claim.entries],
            }
            for claim in self.claims
        ]
        return {"title": self.title, "ok": self.ok, "claims": claims, "notes": list(self.notes)}

    def _repr_html_(self) -> str:
        return render("html", self)


@dataclass(frozen=True)
class Parity(Report):
    """What a module was found to have in common with a reference.

    Attributes:
        reference: what it was compared with.
        mapping: for each of its parameters the reference's, as an expression.
        cause: the likely cause by the name that the check has for it, `explanation` in words.
        where: what it first goes wrong at, such as a gate.
        line, instead: the line of the reference's formula, and what the module computes there.
    """

    reference: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""
    explanation: str = ""
    where: str = ""
    line: str = ""
    instead: str = ""

    def document(self) -> Json:
        own = ("reference", "cause", "explanation", "where", "line", "instead")
        return super().document() | {"mapping": dict(self.mapping)} | {name: getattr(self, name) for name in own}

    def _repr_html_(self) -> str:
        return render("html", self)


Renderer = Callable[[Any], str]
_renderers: dict[tuple[str, type], Renderer] = {}


def renders(form: Literal["html", "svg"], kind: type) -> Callable[[Renderer], Renderer]:
    """Registers a function as what turns values of type `kind` into `form`. `draw` fills this table."""

    def register(renderer: Renderer) -> Renderer:
        _renderers[form, kind] = renderer
        return renderer

    return register


def render(form: Literal["html", "svg"], value: object) -> str:
    """`value` in `form`, by whatever `draw` registered for its type: the nouns do not know how they are drawn."""
    importlib.import_module("qkv.draw")
    return _renderers[form, type(value)](value)
