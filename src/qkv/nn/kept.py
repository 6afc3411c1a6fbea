"""What is kept of the attention of models that are not ours: all weights, or chosen heads, rows and largest weights.

A call's weights are made from its arguments block by block, so that a choice never needs the whole map.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial

import torch
from torch import Tensor

from qkv.errors import InputError
from qkv.team import side_by_side
from qkv.types import Kept

Rows = slice | Tensor
Which = int | slice


@dataclass(frozen=True)
class Whole:
    """Weights that are there; as of all of these, `rows` gives some rows of one head of one item, or of all."""

    weights: Tensor

    @property
    def device(self) -> torch.device:
        return self.weights.device

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, keys = self.weights.shape
        return batch, heads, queries, keys

    def rows(self, item: Which, head: Which, rows: Rows) -> Tensor:
        return self.weights[item, head][..., rows, :]


@dataclass(frozen=True)
class Scaled:
    """The weights of `scaled_dot_product_attention`, from its arguments."""

    query: Tensor
    key: Tensor
    mask: Tensor | None
    is_causal: bool
    scale: int | float
    dropout: Tensor | None

    @property
    def device(self) -> torch.device:
        return self.query.device

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, _ = self.query.shape
        return batch, heads, queries, self.key.shape[-2]

    @cached_property
    def room(self) -> Tensor:
        """Where rows of one head are made, each block over the last: fresh memory costs more than the products."""
        exact = torch.promote_types(self.query.dtype, torch.float32)
        return self.query.new_empty(max(_BLOCK, self.key.shape[-2]), dtype=exact)

    def rows(self, item: Which, head: Which, rows: Rows) -> Tensor:
        query, shared = self.query[item, head][..., rows, :], self.query.shape[1] // self.key.shape[1]
        query = query.to(self.room.dtype) * self.scale
        if isinstance(head, int):
            key = self.key[item, head // shared].to(query.dtype)
            scores = self.room[: len(query) * len(key)].view(len(query), len(key))
            torch.mm(query, key.mT, out=scores)
        else:
            key = self.key[item].repeat_interleave(shared, dim=1) if shared > 1 else self.key[item]
            scores = query @ key.to(query.dtype).mT
        if self.is_causal:  # torch's diagonal starts at the upper left, also where lengths differ
            place = torch.arange(self.query.shape[-2], device=scores.device)[rows]
            scores.masked_fill_(torch.arange(scores.shape[-1], device=scores.device) > place[:, None], -torch.inf)
        if self.mask is not None:
            mask = self.mask[item, head][..., rows, :]
            scores = scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores.add_(mask)
            hidden = scores.amax(-1, keepdim=True) == -torch.inf
            weights = torch.softmax(scores, -1, out=scores).masked_fill_(hidden, 0)
        else:
            weights = torch.softmax(scores, -1, out=scores)
        return weights if self.dropout is None else weights * self.dropout[item, head][..., rows, :]


@dataclass(frozen=True)
class Edges:
    """The weights of graph attention: an entry for each edge, zeros elsewhere."""

    source: Tensor
    target: Tensor
    weights: Tensor  # edges heads
    nodes: tuple[int, int]

    @property
    def device(self) -> torch.device:
        return self.target.device

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, self.weights.shape[1], *self.nodes

    def rows(self, item: Which, head: Which, rows: Rows) -> Tensor:
        chosen = torch.arange(self.nodes[0], device=self.target.device)[rows]
        place = self.target.new_full((self.nodes[0],), -1)
        place[chosen] = torch.arange(len(chosen), device=place.device)
        here = place[self.target] >= 0
        dense = self.weights.new_zeros(len(chosen), self.nodes[1], self.weights.shape[1])
        dense.index_put_((place[self.target[here]], self.source[here]), self.weights[here], accumulate=True)
        return dense.movedim(-1, 0)[None][item, head]


Weights = Whole | Scaled | Edges

_AT_ONCE = 2**20  # entries of the maps of all items and heads up to which they are made together
_BLOCK = 2**20  # entries made at once of one map: rows enough for a fast product, and most stay in the nearer caches
_GROUP = 8


@dataclass(frozen=True)
class Choice:
    """What to keep of a model's attention."""

    layers: Sequence[str] | None = None
    heads: Sequence[int] | None = None
    queries: Sequence[int] | None = None
    top: int | None = None

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise InputError("top cannot keep so few weights", expected="1 or more", got=str(self.top))
        for name, chosen in (("layers", self.layers), ("heads", self.heads), ("queries", self.queries)):
            if chosen is not None and len(chosen) == 0:
                raise InputError(f"{name} chooses nothing", expected="one or more", hint=f"no {name}, for all")

    def takes(self, path: str) -> bool:
        """Whether a layer is among those to record: by its path, that of a module around it, or a pattern."""
        chosen = self.layers
        return chosen is None or any(fnmatchcase(path, one) or fnmatchcase(path, f"{one}.*") for one in chosen)

    def keep(self, attention: Weights, path: str, *, signed: bool = False) -> tuple[Tensor, Kept | None]:
        """The weights that were chosen, and which they are where that is not all."""
        batch, all_heads, length, keys = attention.shape
        heads = _within("heads", self.heads, all_heads, path)
        queries = _within("queries", self.queries, length, path)
        if isinstance(attention, Whole) and self.queries is self.top is None:
            return (attention.weights if self.heads is None else attention.weights[:, heads]), None
        count = min(self.top or keys, keys)
        if batch * all_heads * len(queries) * keys <= _AT_ONCE:
            whole = slice(None)
            weights = attention.rows(whole, whole, whole if self.queries is None else torch.tensor(queries))
            weights = weights if self.heads is None else weights[:, heads]
            value, *rest = (weights,) if self.top is None else _largest(weights, count, signed)
        else:
            places = [(item, head) for item in range(batch) for head in heads]
            one_map = partial(self._blockwise, attention, queries=queries, count=count, signed=signed)
            if attention.device.type == "cpu":  # a block is too small for several threads to share its work
                maps = side_by_side(one_map, places)
            else:
                maps = [one_map(place) for place in places]
            value, *rest = (torch.stack(part).unflatten(0, (batch, -1)) for part in zip(*maps, strict=True))
        if self.queries is self.top is None:
            return value, None
        key_index, dropped = rest or (None, None)
        return value, Kept(None if self.queries is None else tuple(queries), keys, key_index, dropped)

    def _blockwise(
        self, attention: Weights, place: tuple[int, int], queries: Sequence[int], count: int, signed: bool
    ) -> tuple[Tensor, ...]:
        """The same for one map, that of an item and a head, a block of rows after the other."""
        attention = replace(attention)  # with room of its own
        size, made = max(1, _BLOCK // attention.shape[-1]), []
        for start in range(0, len(queries), size):
            chosen = queries[start : start + size]
            rows = slice(start, start + size) if self.queries is None else torch.tensor(chosen)
            weights = attention.rows(*place, rows)
            made.append((weights.clone(),) if self.top is None else _largest(weights, count, signed))
        return tuple(torch.cat(blocks) for blocks in zip(*made, strict=True))


def _within(name: str, chosen: Sequence[int] | None, count: int, path: str) -> Sequence[int]:
    chosen = range(count) if chosen is None else chosen
    if wrong := [one for one in chosen if not 0 <= one < count]:
        raise InputError(
            f"{name} that {path or 'the model'} does not have",
            expected=f"0 to {count - 1}",
            got=str(wrong[0]),
            hint="layers=..., where layers differ",
        )
    return chosen


def _largest(weights: Tensor, count: int, signed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` largest weights of each row (by size, where signed), their keys, and the sum of the others."""
    index = largest_index(weights.abs() if signed else weights, count)
    largest = weights.gather(-1, index)
    dropped = weights.sum(-1) - largest.sum(-1)
    return largest, index, dropped if signed else dropped.clamp_(min=0)


def largest_index(weights: Tensor, count: int) -> Tensor:
    """Where the largest are, in falling order.

    In long rows they are looked for in the groups with the largest maxima, and these in the same way: no other group
    can hold one of them, and a maximum costs a fraction of a partial sort.
    """
    groups = weights.shape[-1] // _GROUP
    if groups < 4 * count:
        return weights.topk(count).indices
    grouped = weights[..., : groups * _GROUP].unflatten(-1, (_GROUP, groups))
    best = largest_index(grouped.amax(-2), count)
    candidates = grouped.gather(-1, best[..., None, :].expand(*best.shape[:-1], _GROUP, count)).flatten(-2)
    rest = weights[..., groups * _GROUP :]  # what fills no group
    found = torch.cat((candidates, rest), dim=-1).topk(count).indices
    in_group = found // count * groups + best.gather(-1, found % count)
    return torch.where(found < _GROUP * count, in_group, found + (groups - count) * _GROUP)
