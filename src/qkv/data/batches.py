"""Batches of sentence pairs, or of texts with a class: alike in length, filled to a number of tokens, in an order that
seed and epoch decide.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int32, Int64
from torch import Tensor

from qkv.data.pairs import Pair
from qkv.data.tokens import BOS_ID, EOS_ID, PAD_ID, Vocabulary
from qkv.errors import InputError
from qkv.types import PairBatch, TextBatch

# Rows come in multiples of this: bfloat16 kernels are made anew for every shape, and this halves the shapes.
_ROWS = 8


class PairBatches:
    """Cuts encoded pairs into batches of at most `tokens_per_batch` positions, both sides and padding counted.

    Pairs are shuffled, sorted by the length of the target and then of the source, and cut where a batch is full; the
    batches are then shuffled. Only pairs of equal lengths change places, so every epoch has the same shapes.

    Args:
        tokens_per_batch: the most positions in a batch, `rows * (source_length + target_length)`.
        seed: with the number of the epoch, all that the order depends on.
        max_length: pairs with a longer side, its end token counted, are dropped (and counted in `dropped`).
        shuffle: False keeps one order, from short to long, for validation.

    Raises:
        InputError: no pair is left, or the longest one does not fit in a batch.

    >>> from qkv.data.tokens import train_vocabulary
    >>> pairs = [Pair("un", "one"), Pair("cent un", "a hundred and one"), Pair("deux", "two")]
    >>> french, english = (train_vocabulary(side, "word", 50) for side in (["un cent deux"], ["a hundred and one two"]))
    >>> batches = PairBatches(pairs, french, english, tokens_per_batch=12, seed=0, max_length=20)
    >>> len(batches), batches.dropped, batches.padding
    (2, 0, 0.0)
    >>> [tuple(batch.target.shape) for batch in batches.epoch(1)]
    [(1, 6), (2, 3)]
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        *,
        tokens_per_batch: int,
        seed: int,
        max_length: int,
        shuffle: bool = True,
    ):
        source = [[*ids, EOS_ID] for ids in source_vocabulary.encode_many([pair.source for pair in pairs])]
        target = [[BOS_ID, *ids, EOS_ID] for ids in target_vocabulary.encode_many([pair.target for pair in pairs])]
        # The model reads a target without its last position, so that its start does not count.
        fits = [len(s) <= max_length and len(t) - 1 <= max_length for s, t in zip(source, target, strict=True)]
        if not any(fits):
            raise InputError(
                "no pair to make batches of",
                expected=f"pairs of at most {max_length} tokens a side",
                got=f"{len(pairs)} pairs, all longer" if pairs else "no pairs at all",
            )
        self.dropped = fits.count(False)
        self.seed, self.shuffle = seed, shuffle
        self._source = _Ragged([ids for ids, fit in zip(source, fits, strict=True) if fit])
        self._target = _Ragged([ids for ids, fit in zip(target, fits, strict=True) if fit])
        self._cuts = self._cut(tokens_per_batch)

    def _cut(self, tokens_per_batch: int) -> list[int]:
        """Where batches begin and end among the sorted pairs; the same in every epoch, as only equals change places."""
        order = self._sorted(np.arange(len(self._source.lengths)))
        source, target = self._source.lengths[order], self._target.lengths[order]
        widest = int((source + target).max())
        if widest > tokens_per_batch:
            raise InputError(
                "a batch is too small for the longest pair",
                expected=f"tokens_per_batch of at least {widest}",
                got=str(tokens_per_batch),
                hint="a smaller max_length",
            )
        cuts = [0]
        while cuts[-1] < len(order):
            some = slice(cuts[-1], cuts[-1] + tokens_per_batch // 2)
            # What a batch of the first 1, 2, 3, ... of these would hold, padding included.
            widths = np.maximum.accumulate(source[some]) + np.maximum.accumulate(target[some])
            rows = int(np.searchsorted(widths * np.arange(1, len(widths) + 1), tokens_per_batch, side="right"))
            if cuts[-1] + rows < len(order):
                rows -= rows % _ROWS if rows > _ROWS else 0
            cuts.append(cuts[-1] + rows)
        return cuts

    def _sorted(self, order: Int64[np.ndarray, " pairs"]) -> Int64[np.ndarray, " pairs"]:
        """`order` sorted by target length and, among equal targets, by source length; equals stay as they came.

        Sources grow for one target length and shrink for the next, so that a batch over both has neighbours alike.
        """
        source, target = self._source.lengths[order], self._target.lengths[order]
        return order[np.lexsort((np.where(target % 2, source, -source), target))]

    def plan(self, epoch: int) -> list[Int64[np.ndarray, " rows"]]:
        """Which pairs stand in which batch of an epoch: a function of seed and epoch alone."""
        order = np.arange(len(self._source.lengths))
        if not self.shuffle:
            return self._batches(self._sorted(order))
        generator = np.random.default_rng((self.seed, epoch))
        batches = self._batches(self._sorted(generator.permutation(order)))
        return [batches[i] for i in generator.permutation(len(batches))]

    def _batches(self, order: Int64[np.ndarray, " pairs"]) -> list[Int64[np.ndarray, " rows"]]:
        return [order[start:stop] for start, stop in pairwise(self._cuts)]

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._cuts) - 1

    def epoch(self, number: int, start: int = 0) -> Iterator[PairBatch]:
        """The batches of an epoch, from batch `start` on."""
        for rows in self.plan(number)[start:]:
            yield PairBatch(*self._source.rows(rows), *self._target.rows(rows))

    @property
    def padding(self) -> float:
        """The share of positions in an epoch that are padding."""
        real = int(self._source.lengths.sum() + self._target.lengths.sum())
        padded = sum(
            len(rows) * (self._source.lengths[rows].max() + self._target.lengths[rows].max()) for rows in self.plan(0)
        )
        return 1 - real / int(padded)


class TextBatches:
    """Cuts encoded texts with their classes into batches of at most `tokens_per_batch` positions, padding counted.

    Texts are shuffled, sorted by length and cut where a batch is full; the batches are then shuffled. Only texts of
    equal lengths change places, so every epoch has the same shapes.

    Args:
        ids: the texts.
        labels: the class of each, or the probabilities of all classes that are to be learned for it.
        tokens_per_batch: the most positions in a batch, `rows * length`.
        seed: with the number of the epoch, all that the order depends on.
        pad_id: what rows are filled up with.
        shuffle: False keeps one order, from short to long, for validation.

    Raises:
        InputError: there is no text, one is empty, or the longest one does not fit in a batch.

    >>> batches = TextBatches([[5], [6, 7], [8]], [0, 1, 1], tokens_per_batch=2, seed=0)
    >>> [(batch.ids.tolist(), batch.label.tolist()) for batch in batches.epoch(0)]
    [([[6, 7]], [1]), ([[8], [5]], [1, 0])]
    """

    def __init__(
        self,
        ids: Sequence[Sequence[int]],
        labels: Sequence[int] | Float32[np.ndarray, "texts classes"],
        *,
        tokens_per_batch: int,
        seed: int,
        pad_id: int = PAD_ID,
        shuffle: bool = True,
    ):
        if not ids or not all(ids):
            raise InputError("no text to make batches of" if not ids else "a text without tokens")
        if len(ids) != len(labels):
            raise InputError("texts without labels", expected=f"{len(ids)} labels", got=str(len(labels)))
        self.seed, self.shuffle = seed, shuffle
        self._texts, self._labels = _Ragged(ids, pad_id), np.array(labels)
        lengths = np.sort(self._texts.lengths)
        if lengths[-1] > tokens_per_batch:
            raise InputError(
                "a batch is too small for the longest text",
                expected=f"tokens_per_batch of at least {lengths[-1]}",
                got=str(tokens_per_batch),
            )
        self._cuts = [0]
        while self._cuts[-1] < len(lengths):
            some = lengths[self._cuts[-1] : self._cuts[-1] + tokens_per_batch]
            rows = int(np.searchsorted(some * np.arange(1, len(some) + 1), tokens_per_batch, side="right"))
            if self._cuts[-1] + rows < len(lengths):
                rows -= rows % _ROWS if rows > _ROWS else 0
            self._cuts.append(self._cuts[-1] + rows)

    def plan(self, epoch: int) -> list[Int64[np.ndarray, " rows"]]:
        """Which texts stand in which batch of an epoch: a function of seed and epoch alone."""
        lengths = self._texts.lengths
        if not self.shuffle:
            return self._batches(np.argsort(lengths, kind="stable"))
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(lengths))
        batches = self._batches(order[np.argsort(lengths[order], kind="stable")])
        return [batches[i] for i in generator.permutation(len(batches))]

    def _batches(self, order: Int64[np.ndarray, " texts"]) -> list[Int64[np.ndarray, " rows"]]:
        return [order[start:stop] for start, stop in pairwise(self._cuts)]

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._cuts) - 1

    def epoch(self, number: int, start: int = 0) -> Iterator[TextBatch]:
        """The batches of an epoch, from batch `start` on."""
        for rows in self.plan(number)[start:]:
            yield TextBatch(*self._texts.rows(rows), torch.from_numpy(self._labels[rows]))


class _Ragged:
    """Lists of ids end to end in one array: 4 bytes a token, and a batch is one gather."""

    def __init__(self, lists: Sequence[Sequence[int]], pad_id: int = PAD_ID):
        self._pad_id = pad_id
        self.lengths: Int64[np.ndarray, " lists"] = np.array([len(ids) for ids in lists])
        self._starts = self.lengths.cumsum() - self.lengths
        # The tail lets the gather below run past the end of the last list.
        tail = [pad_id] * int(self.lengths.max())
        self._ids: Int32[np.ndarray, " tokens"] = np.fromiter(chain(*lists, tail), dtype=np.int32)

    def rows(
        self, index: Int64[np.ndarray, " rows"]
    ) -> tuple[Int64[Tensor, "rows longest"], Bool[Tensor, "rows longest"]]:
        """The lists of an index, padded at the end to the longest, and where they are real."""
        lengths = self.lengths[index, None]
        positions = np.arange(lengths.max())
        real = positions < lengths
        ids = np.where(real, self._ids[self._starts[index, None] + positions], self._pad_id)
        return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(real)


def source_batch(
    source_ids: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
    """Source sentences as a model reads them, `tokens... eos` padded at the end, and where they are real.

    Raises:
        InputError: there is no sentence.

    >>> source, mask = source_batch([[7, 5], [9]])
    >>> source.tolist(), mask.tolist()
    ([[7, 5, 2], [9, 2, 0]], [[True, True, True], [True, True, False]])
    """
    return padded([[*ids, EOS_ID] for ids in source_ids])


def batch_of(source_ids: Sequence[Sequence[int]], target_ids: Sequence[Sequence[int]]) -> PairBatch:
    """One batch of encoded pairs, in the layout of `PairBatch`.

    Raises:
        InputError: there is no pair, or a side is longer than the other.

    >>> batch_of([[7, 5], [9]], [[6], [8, 4]]).target.tolist()
    [[1, 6, 2, 0], [1, 8, 4, 2]]
    """
    if len(source_ids) != len(target_ids):
        raise InputError("sources without targets", expected=f"{len(source_ids)} targets", got=str(len(target_ids)))
    return PairBatch(*source_batch(source_ids), *padded([[BOS_ID, *ids, EOS_ID] for ids in target_ids]))


def padded(lists: Sequence[Sequence[int]]) -> tuple[Int64[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
    if not lists:
        raise InputError("a batch of no sentences")
    return _Ragged(lists).rows(np.arange(len(lists)))
