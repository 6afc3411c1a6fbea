import gzip
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.data.batches import PairBatches, TextBatches, batch_of, source_batch
from qkv.data.pairs import Pair, normalise_text
from qkv.data.tokens import BOS_ID, EOS_ID, PAD_ID, train_vocabulary
from qkv.errors import InputError

VOCABULARY = train_vocabulary(["a b c d e f g h i j"], "word", 100)


def sentence(length: int, start: int) -> str:
    return " ".join("abcdefghij"[(start + i) % 10] for i in range(length))


def pairs_of(lengths: list[tuple[int, int]]) -> list[Pair]:
    return [Pair(sentence(source, i), sentence(target, i)) for i, (source, target) in enumerate(lengths)]


def batches_of(
    pairs: list[Pair], tokens_per_batch: int = 64, seed: int = 0, max_length: int = 30, shuffle: bool = True
):
    return PairBatches(
        pairs,
        VOCABULARY,
        VOCABULARY,
        tokens_per_batch=tokens_per_batch,
        seed=seed,
        max_length=max_length,
        shuffle=shuffle,
    )


GENERATOR = np.random.default_rng(0)
PAIRS = pairs_of([tuple(pair) for pair in GENERATOR.integers(1, 12, (397, 2)).tolist()])


def as_pairs(batch) -> list[Pair]:
    """The sentences of a batch, cut by its masks."""
    return [
        Pair(VOCABULARY.decode(source[real].tolist()), VOCABULARY.decode(target[kept].tolist()))
        for source, real, target, kept in zip(
            batch.source, batch.source_mask, batch.target, batch.target_mask, strict=True
        )
    ]


def test_layout_by_hand():
    # Ids of a, b, c are 4, 5, 6.
    pairs = [Pair("a b", "c"), Pair("c", "a b")]
    batch = next(batches_of(pairs, shuffle=False).epoch(0))
    assert batch.target.tolist() == [[BOS_ID, 6, EOS_ID, PAD_ID], [BOS_ID, 4, 5, EOS_ID]]
    assert batch.source.tolist() == [[4, 5, EOS_ID], [6, EOS_ID, PAD_ID]]
    assert batch.target_mask.tolist() == [[True, True, True, False], [True] * 4]
    assert batch.source_mask.tolist() == [[True] * 3, [True, True, False]]
    assert batch.source.dtype == batch.target.dtype == torch.int64
    by_hand = batch_of([[4, 5], [6]], [[6], [4, 5]])
    for mine, theirs in zip(vars(batch).values(), vars(by_hand).values(), strict=True):
        assert torch.equal(mine, theirs)


def test_cuts_by_hand():
    # Sources take 2, 2, 4 positions and targets 3, 3, 6: two rows of 2 + 3 fill a batch of 10, the third takes one.
    batches = batches_of(pairs_of([(1, 1), (3, 4), (1, 1)]), tokens_per_batch=10, shuffle=False)
    assert [rows.tolist() for rows in batches.plan(0)] == [[0, 2], [1]]
    # 10 of 10 and 10 of 10 positions are real.
    assert batches.padding == 0


@settings(max_examples=40)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=50),
    budget=st.integers(21, 100),
    shuffle=st.booleans(),
)
def test_every_pair_once_and_no_batch_over_its_budget(lengths, budget, shuffle):
    pairs = pairs_of(lengths)
    batches = batches_of(pairs, budget, shuffle=shuffle)
    made = list(batches.epoch(5))
    assert len(made) == len(batches)
    found = [pair for batch in made for pair in as_pairs(batch)]
    assert sorted(found, key=str) == sorted(pairs, key=str)
    assert all(batch.source.numel() + batch.target.numel() <= budget for batch in made)
    slots = sum(batch.source.numel() + batch.target.numel() for batch in made)
    padded = sum(int((~batch.source_mask).sum() + (~batch.target_mask).sum()) for batch in made)
    assert batches.padding == pytest.approx(padded / slots)


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in batches_of(PAIRS, seed=seed).plan(epoch)]

    assert order(3, 7) == order(3, 7)
    assert order(3, 7) != order(3, 8)
    assert order(3, 7) != order(4, 7)
    # Not only the batches change places, but also the pairs between them.
    assert sorted(map(sorted, order(3, 7))) != sorted(map(sorted, order(3, 8)))


def test_asking_for_one_epoch_leaves_the_others_as_they_are():
    batches = batches_of(PAIRS)
    first = [rows.tolist() for rows in batches.plan(2)]
    list(batches.epoch(0))
    assert [rows.tolist() for rows in batches.plan(2)] == first


def test_an_epoch_goes_on_where_it_stopped():
    batches = batches_of(PAIRS)
    whole = [batch.source.tolist() for batch in batches.epoch(1)]
    assert [batch.source.tolist() for batch in batches.epoch(1, start=17)] == whole[17:]
    assert len(whole) > 17


def test_without_shuffling_short_comes_first_in_every_epoch():
    batches = batches_of(PAIRS, shuffle=False)
    widths = [batch.target.shape[1] for batch in batches.epoch(0)]
    assert widths == sorted(widths)
    assert [r.tolist() for r in batches.plan(0)] == [r.tolist() for r in batches.plan(9)]


def test_long_pairs_are_dropped_and_counted():
    # 5 tokens and their end are 6.
    pairs = pairs_of([(5, 2), (2, 5), (6, 2), (2, 6)])
    batches = batches_of(pairs, max_length=6)
    assert batches.dropped == 2
    assert sorted(pair for batch in batches.epoch(0) for pair in map(str, as_pairs(batch))) == sorted(
        map(str, pairs[:2])
    )


def test_refusals():
    with pytest.raises(InputError, match="pairs of at most 3 tokens a side; got 2 pairs, all longer"):
        batches_of(pairs_of([(5, 5), (4, 1)]), max_length=3)
    with pytest.raises(InputError, match="no pairs at all"):
        batches_of([])
    # 7 + 1 and 7 + 2.
    with pytest.raises(InputError, match="tokens_per_batch of at least 17; got 16"):
        batches_of(pairs_of([(1, 1), (7, 7)]), tokens_per_batch=16)
    with pytest.raises(InputError, match="no sentences"):
        source_batch([])
    with pytest.raises(InputError, match="2 targets; got 1"):
        batch_of([[4], [5]], [[4]])


def test_an_empty_sentence_is_its_end_alone():
    source, mask = source_batch([[], [4]])
    assert source.tolist() == [[EOS_ID, PAD_ID], [4, EOS_ID]]
    assert mask.tolist() == [[True, False], [True, True]]


def test_real_pairs_need_little_padding(shared_data):
    with gzip.open(shared_data / "eng-fra" / "eng-fra.txt.gz", "rt", encoding="utf-8") as file:
        lines = [line.split("\t") for line in islice(file, 0, None, 27)]
    pairs = [Pair(normalise_text(line[1]), normalise_text(line[0])) for line in lines]
    french = train_vocabulary([pair.source for pair in pairs], "subword", 8000)
    english = train_vocabulary([pair.target for pair in pairs], "subword", 8000)
    # A part of the pairs, in batches smaller in proportion; all of them at 4,096 have 1 % of padding.
    batches = PairBatches(pairs, french, english, tokens_per_batch=512, seed=0, max_length=64)
    assert batches.padding < 0.1


# -- texts with a class ----------------------------------------------------------------------------------------------

TEXTS = [[4 + i] * length for i, length in enumerate(GENERATOR.integers(1, 23, 293).tolist())]


def texts_of(shuffle: bool = True, seed: int = 0, tokens_per_batch: int = 64) -> TextBatches:
    # The class of each text is its place, so that it can be found again.
    return TextBatches(
        TEXTS, range(len(TEXTS)), tokens_per_batch=tokens_per_batch, seed=seed, pad_id=1, shuffle=shuffle
    )


def test_every_text_comes_once_an_epoch_padded_to_the_longest_beside_it():
    batches = texts_of()
    found = []
    for batch in batches.epoch(2):
        assert batch.ids.numel() <= 64
        assert bool(batch.real.any(dim=0).all())
        assert bool((batch.ids[~batch.real] == 1).all())
        assert (batch.weight, batch.tokens) == (len(batch.label), int(batch.real.sum()))
        for ids, real, label in zip(batch.ids, batch.real, batch.label.tolist(), strict=True):
            assert ids[real].tolist() == TEXTS[label]
            found.append(label)
    assert sorted(found) == list(range(len(TEXTS)))
    assert len(list(batches.epoch(2))) == len(batches)


def test_the_order_of_texts_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int, start: int = 0) -> list[list[int]]:
        return [batch.label.tolist() for batch in texts_of(seed=seed).epoch(epoch, start)]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2) != order(1, 2)
    assert order(0, 1, 3) == order(0, 1)[3:]
    lengths = [len(batch.ids[0]) for batch in texts_of(shuffle=False).epoch(5)]
    assert lengths == sorted(lengths)


def test_texts_that_make_no_batch_are_refused():
    with pytest.raises(InputError, match="no text to make batches of"):
        TextBatches([], [], tokens_per_batch=8, seed=0)
    with pytest.raises(InputError, match="a text without tokens"):
        TextBatches([[4], []], [0, 1], tokens_per_batch=8, seed=0)
    with pytest.raises(InputError, match="Expected 2 labels; got 1"):
        TextBatches([[4], [5]], [0], tokens_per_batch=8, seed=0)
    with pytest.raises(InputError, match="tokens_per_batch of at least 9; got 8"):
        TextBatches([[4], [5] * 9], [0, 1], tokens_per_batch=8, seed=0)
