"""The nouns that travel between rooms. Each is plain data: it knows its fields, not who made it.

Shapes are written with the axis names used everywhere: `batch heads queries keys head_dim embed_dim vocab`.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from qkv.errors import InputError

Fact = str | int | float | bool
Json = dict[str, Any]


class Config(BaseModel):
    """The base of all settings: one schema for file, flags and page. Frozen; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class PairBatch:
    """Sentence pairs as ids, padded at the end.

    `source` holds `tokens... eos`; `target` holds `bos tokens... eos`, so that the model reads `target[:, :-1]`
    and predicts `target[:, 1:]`. The masks are True at real positions.
    """

    source: Int[Tensor, "batch source_length"]
    source_mask: Bool[Tensor, "batch source_length"]
    target: Int[Tensor, "batch target_length"]
    target_mask: Bool[Tensor, "batch target_length"]

    def to(self, device: torch.device | str) -> "PairBatch":
        return type(self)(
            self.source.to(device), self.source_mask.to(device), self.target.to(device), self.target_mask.to(device)
        )

    @property
    def weight(self) -> int:
        """How many predictions the loss of this batch is a mean over: its target tokens, end of sentence included."""
        return int(self.target_mask[:, 1:].sum())

    @property
    def tokens(self) -> int:
        """Real tokens on both sides, padding and the target's start left out: the unit of training speed."""
        return int(self.source_mask.sum()) + self.weight


@dataclass(frozen=True)
class Step:
    """One recorded value: its full name, the value (detached), and facts about it, such as how it was obtained."""

    name: str
    value: Tensor
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass
class Trace:
    """What was recorded, in the order in which it happened."""

    steps: list[Step] = field(default_factory=list)

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


@dataclass(frozen=True)
class AttentionMap:
    """The attention weights of one layer for one input, with the labels of both sides.

    Attributes:
        weights: row i says how much query i attends to each key.
        query_labels, key_labels: the tokens of both sides.
        layer: the module path that computed the weights, such as `decoder.layers.2.multihead_attn`.
        kind: `self` or `cross`.
        obtained: `captured` as the model computed them, `recomputed` beside a fused path that hands none out, or
            `implied` by a form that never has them (linear attention).
        backend: what computed the output, such as `scaled_dot_product_attention`.
        signed: whether weights may be negative.
    """

    weights: Float[Tensor, "heads queries keys"]
    query_labels: Sequence[str]
    key_labels: Sequence[str]
    layer: str
    kind: Literal["self", "cross"]
    obtained: Literal["captured", "recomputed", "implied"]
    backend: str
    signed: bool = False

    def __post_init__(self) -> None:
        _, queries, keys = self.weights.shape
        for side, labels, count in (("query", self.query_labels, queries), ("key", self.key_labels, keys)):
            if len(labels) != count:
                raise InputError(
                    f"the {side} labels of {self.layer} do not fit its weights",
                    expected=f"{count} labels for weights of shape {tuple(self.weights.shape)}",
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
        weights = step.value[item, :, : len(query_labels), : len(key_labels)].float().cpu()
        facts: dict[str, Any] = dict(step.facts)
        return cls(weights, query_labels, key_labels, step.name.rpartition(".")[0], **facts)

    @property
    def heads(self) -> int:
        return self.weights.shape[0]

    def head(self, index: int) -> "AttentionMap":
        """This map with one head only."""
        if not 0 <= index < self.heads:
            raise InputError(f"no head {index} in {self.layer}", expected=f"0 to {self.heads - 1}", got=str(index))
        return replace(self, weights=self.weights[index][None])

    def mean(self) -> "AttentionMap":
        """This map with its heads averaged into one."""
        return self.mean_of([self])

    @staticmethod
    def mean_of(maps: Sequence["AttentionMap"]) -> "AttentionMap":
        """All heads of several maps over the same labels, averaged into one head."""
        if len({(tuple(one.query_labels), tuple(one.key_labels)) for one in maps}) != 1:
            raise InputError("these maps cannot be averaged", expected="one or more maps over the same labels")
        layers = list(dict.fromkeys(one.layer for one in maps))
        together = torch.cat([one.weights for one in maps]).mean(dim=0, keepdim=True)
        signed = any(one.signed for one in maps)
        return replace(maps[0], weights=together, layer=", ".join(layers), signed=signed)

    def _repr_html_(self) -> str:
        return render("html", self)


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
