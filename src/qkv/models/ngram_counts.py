"""The classical baseline of language models: how often words stood together, smoothed; words on both sides count."""

from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.types import NGramBatch

_STEPS = 30
_LARGEST = torch.iinfo(torch.int64).max


class NGramCounts(nn.Module):
    """The probability of a word from counts of rows, by all subsets of the words near it.

    With `c(S, w)` the times that word w stood in its place beside the words of a subset S of those near it, `c(S)`
    their sum over w, and `N_k(S)` how many words have count k (3 or more in `N_3`), the words of S predict

        p(w | S) = (max(c(S, w) - D_c, 0) + (D_1 N_1(S) + D_2 N_2(S) + D_3 N_3(S)) q(w | S)) / c(S)
        q(w | S) = sum over words v of S of a_v p(w | S without v)

    where q of no word at all is 1 / vocab, and p is q where the words of S were never seen together. The discounts
    `0 <= D_k <= k` are those of Chen and Goodman (1999, section 3.5), fitted instead of counted off; to leave out one
    word after another, not the farthest alone, is the generalized language model of Pickhardt et al. (2014). Discounts
    and shares `a_v`, which sum to one, belong to the place of the word and to the places of S; `fit` finds them.

    Args:
        rows: what is counted.
        vocab: how many words there are.
        reach: how many of the nearest words are looked at, on both sides; with 0 it is the frequency in each place.

    Raises:
        InputError: more words than counts can be kept of with this reach.

    >>> counts = NGramCounts(torch.tensor([[1, 2, 3], [1, 4, 3], [1, 2, 3]]), vocab=5)
    >>> batch = NGramBatch(torch.tensor([[1, 2, 3]]), torch.tensor([[False, True, False]]))
    >>> [round(p, 3) for p in counts.log_probabilities(batch).exp()[0].tolist()]
    [0.025, 0.025, 0.608, 0.025, 0.317]
    """

    def __init__(self, rows: Int64[Tensor, "rows n"], vocab: int, reach: int = 3):
        super().__init__()
        n = rows.shape[1]
        reach = min(reach, n - 1)
        if vocab ** (reach + 1) > _LARGEST:
            raise InputError("too many words to count", expected=f"at most {int(_LARGEST ** (1 / (reach + 1))):,}")
        self.vocab = vocab
        self.near = [sorted(sorted(set(range(n)) - {place}, key=lambda c, p=place: abs(c - p))[:reach])
                     for place in range(n)]  # fmt: skip
        self.subsets = [subset for size in range(reach + 1) for subset in combinations(range(reach), size)]
        # The discounts before a logistic function, the shares before a softmax.
        self.discounts = nn.Parameter(torch.zeros(n, len(self.subsets), 3, dtype=torch.float64))
        self.shares = nn.Parameter(torch.zeros(n, len(self.subsets), max(reach, 1), dtype=torch.float64))
        self.tables = [
            {subset: _count(rows, [near[i] for i in subset], place, vocab) for subset in self.subsets}
            for place, near in enumerate(self.near)
        ]

    @property
    def fitted(self) -> int:
        """How many numbers `fit` finds: three discounts a subset, and shares where there are several to share among."""
        shares = sum(len(subset) for subset in self.subsets if len(subset) > 1)
        return len(self.near) * (3 * len(self.subsets) + shares)

    def forward(self, ids: Int64[Tensor, "batch n"], place: int) -> Float64[Tensor, " batch"]:
        """The probability of the word that stands in `place`, given the others of its row."""
        return self._probability(self._look_up(ids, place), place)

    def _look_up(self, ids: Tensor, place: int) -> dict[tuple[int, ...], "_Found"]:
        near = self.near[place]
        return {s: self.tables[place][s].look_up(ids, [near[i] for i in s], place, self.vocab) for s in self.subsets}

    def _probability(self, found: dict[tuple[int, ...], "_Found"], place: int) -> Tensor:
        p: dict[tuple[int, ...], Tensor] = {}
        for row, subset in enumerate(self.subsets):
            count, total, types = found[subset].count, found[subset].total, found[subset].types
            discount = self.discounts[place, row].sigmoid() * count.new_tensor([1, 2, 3])
            share = self.shares[place, row, : len(subset)].softmax(dim=0)
            without = [p[subset[:i] + subset[i + 1 :]] for i in range(len(subset))]
            q = share @ torch.stack(without) if without else torch.full_like(count, 1 / self.vocab)
            taken = torch.cat((discount.new_zeros(1), discount))[count.clamp(max=3).long()]
            p[subset] = torch.where(total > 0, (count - taken + types @ discount * q) / total.clamp(min=1), q)
        return p[self.subsets[-1]]

    def loss(self, batch: NGramBatch) -> Float64[Tensor, ""]:
        """Mean cross-entropy over the hidden words, one in each row."""
        total = batch.ids.new_zeros((), dtype=torch.float64)
        for place, rows in enumerate(_by_place(batch.hidden)):
            if len(rows):
                total = total - self(batch.ids[rows], place).log().sum()
        return total / batch.weight

    @torch.inference_mode()
    def log_probabilities(self, batch: NGramBatch) -> Float64[Tensor, "predictions vocab"]:
        """The logarithm of each word's probability in the hidden place, row by row."""
        found = batch.ids.new_empty(len(batch.ids), self.vocab, dtype=torch.float64)
        for place, rows in enumerate(_by_place(batch.hidden)):
            for row in rows.tolist():
                candidates = batch.ids[row].repeat(self.vocab, 1)
                candidates[:, place] = torch.arange(self.vocab)
                found[row] = self(candidates, place).log()
        return found

    def fit(self, rows: Int64[Tensor, "rows n"]) -> None:
        """Finds the discounts and shares under which the words of `rows`, which were not counted, are likeliest."""
        for place in range(rows.shape[1]):
            found = self._look_up(rows, place)
            optimizer = torch.optim.LBFGS([self.discounts, self.shares], max_iter=_STEPS, line_search_fn="strong_wolfe")

            def closure(found=found, place=place, optimizer=optimizer) -> Tensor:
                optimizer.zero_grad()
                loss = -self._probability(found, place).log().mean()
                loss.backward()
                return loss

            optimizer.step(closure)  # pyright: ignore[reportArgumentType] - a number, as a tensor


@dataclass(frozen=True)
class _Found:
    """What was counted for each of some rows: the word beside its context, the context, its words of each count."""

    count: Float64[Tensor, " rows"]
    total: Float64[Tensor, " rows"]
    types: Float64[Tensor, "rows 3"]


@dataclass(frozen=True)
class _Table:
    """Counts under sorted keys, which are the digits of a context (and of the word after it) to the base `vocab`."""

    pairs: Int64[Tensor, " pairs"]
    pair_counts: Int64[Tensor, " pairs"]
    contexts: Int64[Tensor, " contexts"]
    totals: Int64[Tensor, " contexts"]
    types: Int64[Tensor, "contexts 3"]

    def look_up(self, ids: Int64[Tensor, "rows n"], context: list[int], place: int, vocab: int) -> _Found:
        pair, known = _place_of(_key(ids, [*context, place], vocab), self.pairs)
        count = torch.where(known, self.pair_counts[pair], 0)
        at, known = _place_of(_key(ids, context, vocab), self.contexts)
        total = torch.where(known, self.totals[at], 0)
        types = torch.where(known[:, None], self.types[at], 0)
        return _Found(count.double(), total.double(), types.double())


def _count(rows: Int64[Tensor, "rows n"], context: list[int], place: int, vocab: int) -> _Table:
    pairs, counts = _key(rows, [*context, place], vocab).unique(return_counts=True)
    contexts, which = (pairs // vocab).unique_consecutive(return_inverse=True)
    zeros = counts.new_zeros(len(contexts))
    totals = zeros.index_add(0, which, counts)
    types = [zeros.index_add(0, which, (counts.clamp(max=3) == k).long()) for k in (1, 2, 3)]
    return _Table(pairs, counts, contexts, totals, torch.stack(types, dim=1))


def _key(ids: Int64[Tensor, "rows n"], columns: list[int], vocab: int) -> Int64[Tensor, " rows"]:
    key = ids.new_zeros(len(ids))
    for column in columns:
        key = key * vocab + ids[:, column]
    return key


def _place_of(
    keys: Int64[Tensor, " rows"], among: Int64[Tensor, " keys"]
) -> tuple[Int64[Tensor, " rows"], Bool[Tensor, " rows"]]:
    """Where each key stands among sorted ones, and whether it does."""
    place = torch.searchsorted(among, keys).clamp(max=len(among) - 1)
    return place, among[place] == keys


def _by_place(hidden: Bool[Tensor, "batch n"]) -> list[Tensor]:
    """The rows whose word is hidden in each place."""
    if not bool((hidden.sum(dim=1) == 1).all()):
        raise InputError("counts predict one word of each row", expected="one hidden word a row")
    return [column.nonzero()[:, 0] for column in hidden.unbind(dim=1)]
