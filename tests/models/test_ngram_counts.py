import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qkv.errors import InputError
from qkv.models import NGramCounts
from qkv.types import NGramBatch


def batch_of(rows: list[list[int]], place: int) -> NGramBatch:
    ids = torch.tensor(rows)
    return NGramBatch(ids, (torch.arange(ids.shape[1]) == place).expand(len(ids), -1).clone())


def test_by_hand():
    # In the middle of 1 2 3, 1 4 3, 1 2 3 stand two of 2 and one of 4. Before fitting D_1 = 0.5, D_2 = 1, shares equal.
    # No word near: what is taken is 0.5 + 1 = 1.5, spread over five words as 0.3, so p = (2 - 1 + 0.3) / 3 for 2,
    # (1 - 0.5 + 0.3) / 3 for 4, 0.1 for each other. Each neighbour has seen the same: for 2 (1 + 1.5 p) / 3 = 0.55,
    # for 4 0.3, others 0.05. Both together: (1 + 1.5 * 0.55) / 3, (0.5 + 1.5 * 0.3) / 3, and 0.025.
    counts = NGramCounts(torch.tensor([[1, 2, 3], [1, 4, 3], [1, 2, 3]]), vocab=5)
    found = counts.log_probabilities(batch_of([[1, 2, 3]], 1)).exp()[0]
    assert found.tolist() == pytest.approx([0.025, 0.025, 1.825 / 3, 0.025, 0.95 / 3])
    # The context 1 . 4 was never seen: the mean of what 1 alone and 4 alone say, and 4 alone was never seen either.
    found = counts.log_probabilities(batch_of([[1, 2, 4]], 1)).exp()[0]
    assert found.tolist() == pytest.approx([(0.05 + 0.1) / 2] * 2 + [(0.55 + 1.3 / 3) / 2, 0.075, (0.3 + 0.8 / 3) / 2])


def test_without_reach_it_is_the_frequency_in_each_place():
    counts = NGramCounts(torch.tensor([[1, 2], [1, 3], [1, 2]]), vocab=4, reach=0)
    one = counts.log_probabilities(batch_of([[3, 2]], 0)).exp()[0]
    # Three of 1: D_3 = 1.5 is taken and spread over four words.
    assert one.tolist() == pytest.approx([0.125, 0.625, 0.125, 0.125])
    other = counts.log_probabilities(batch_of([[1, 2]], 0)).exp()[0]
    assert one.equal(other)


def naive(counts: NGramCounts, rows: list[list[int]], row: list[int], place: int, word: int) -> float:
    """The probability of `word` in `place` of `row` as it is defined, by counting through all rows each time."""
    near = counts.near[place]

    def p(subset: tuple[int, ...]) -> float:
        index = counts.subsets.index(subset)
        discounts = (counts.discounts[place, index].sigmoid() * torch.tensor([1.0, 2.0, 3.0])).tolist()
        shares = counts.shares[place, index, : len(subset)].softmax(0).tolist()
        q = 1 / counts.vocab
        if subset:
            q = sum(share * p(subset[:i] + subset[i + 1 :]) for i, share in enumerate(shares))
        like = [one for one in rows if all(one[near[i]] == row[near[i]] for i in subset)]
        seen = Counter(one[place] for one in like)
        if not seen:
            return q
        taken = {w: discounts[min(c, 3) - 1] for w, c in seen.items()}
        return (seen[word] - taken.get(word, 0.0) + sum(taken.values()) * q) / len(like)

    return p(tuple(range(len(near))))


rows_of_words = st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=23)


@given(rows_of_words, st.lists(st.integers(0, 4), min_size=4, max_size=4), st.integers(0, 3), st.integers(0, 3))
def test_it_is_what_the_definition_says_and_sums_to_one(rows, row, place, reach):
    counts = NGramCounts(torch.tensor(rows), vocab=5, reach=reach)
    torch.manual_seed(0)
    for parameter in counts.parameters():
        torch.nn.init.normal_(parameter)
    found = counts.log_probabilities(batch_of([row], place)).exp()[0]
    expected = [naive(counts, rows, row, place, word) for word in range(5)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert float(found.sum()) == pytest.approx(1)


def test_the_loss_is_the_mean_over_rows_whatever_place_is_hidden():
    counts = NGramCounts(torch.tensor([[1, 2, 3], [3, 4, 3], [1, 2, 1]]), vocab=5)
    rows = [[1, 2, 3], [3, 2, 1], [4, 4, 3]]
    batch = NGramBatch(torch.tensor(rows), torch.eye(3, dtype=torch.bool))
    losses = [counts.log_probabilities(batch_of([row], place))[0, row[place]] for place, row in enumerate(rows)]
    with torch.inference_mode():
        assert float(counts.loss(batch)) == pytest.approx(-float(torch.stack(losses).mean()))


def test_fitting_makes_held_out_words_likelier_and_touches_every_place():
    # The first word decides the second; the third is noise.
    draw = torch.Generator().manual_seed(0)
    first = torch.randint(1, 11, (307, 1), generator=draw)
    rows = torch.cat((first, first * 3 % 11, torch.randint(1, 11, (307, 1), generator=draw)), dim=1)
    counts = NGramCounts(rows[:211], vocab=11)
    batches = [batch_of(rows[211:].tolist(), place) for place in range(3)]
    before = [counts.loss(batch).item() for batch in batches]
    counts.fit(rows[211:])
    after = [counts.loss(batch).item() for batch in batches]
    assert all(later < earlier for later, earlier in zip(after, before, strict=True))
    assert after[1] < 0.05
    assert after[2] > 2.2  # noise stays noise: log 10 is 2.303
    # The neighbour that tells more has the larger share of both.
    both = counts.subsets.index((0, 1))
    assert counts.shares[1, both, 1] > counts.shares[1, both, 0]


def test_near_are_the_nearest_on_both_sides():
    counts = NGramCounts(torch.tensor([list(range(7))]), vocab=7, reach=3)
    assert counts.near == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [1, 2, 4], [2, 3, 5], [3, 4, 6], [3, 4, 5]]
    assert counts.subsets == [s for size in range(4) for s in itertools.combinations(range(3), size)]


def test_what_is_fitted_is_what_the_loss_depends_on():
    # Of three words near it there are 1, 3, 3 and 1 subsets of 0, 1, 2 and 3: eight times three discounts, and where
    # two or three share, 3 * 2 + 3 shares. Four places: 4 * (24 + 9). With no words near, three discounts a place.
    rows = torch.randint(1, 7, (97, 4), generator=torch.Generator().manual_seed(0))
    counts = NGramCounts(rows[:59], vocab=7)
    assert counts.fitted == 132
    assert NGramCounts(rows, vocab=7, reach=0).fitted == 12
    before = counts.shares.detach().clone()
    counts.fit(rows[59:])
    moved = [set(range(2 * (len(subset) > 1) + (len(subset) > 2))) for subset in counts.subsets]
    for place, index in itertools.product(range(4), range(8)):
        assert set((counts.shares != before)[place, index].nonzero()[:, 0].tolist()) == moved[index]


def test_what_cannot_be_counted():
    with pytest.raises(InputError, match=r"too many words to count\. Expected at most 55,108"):
        NGramCounts(torch.tensor([[1, 2, 3, 4]]), vocab=60_000)
    counts = NGramCounts(torch.tensor([[1, 2, 3]]), vocab=5)
    with pytest.raises(InputError, match=r"counts predict one word of each row\. Expected one hidden word a row"):
        counts.loss(NGramBatch(torch.tensor([[1, 2, 3]]), torch.tensor([[True, True, False]])))
