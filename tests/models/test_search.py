import itertools
import math

import pytest
import torch
from torch import Tensor

from qkv.errors import InputError
from qkv.models import Hypothesis, SearchOptions, search
from qkv.models.search import _beam, length_penalty

PAD, BOS, EOS = 0, 1, 2


class Oracle:
    """A model whose logits are a fixed random function of the source's first token and the prefix."""

    def __init__(self, vocabulary=5, boost=None):
        self.vocabulary, self.boost = vocabulary, boost or {}

    def logits(self, source: int, prefix: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((source, prefix)))
        logits = 2 * torch.randn(self.vocabulary, generator=generator)
        for token, extra in self.boost.items():
            logits[token] += extra
        return logits

    def start(self, source, _mask, _max_length):
        return OracleState([(int(row[0]), ()) for row in source])

    def step(self, tokens, state):
        state.sizes.append(len(tokens))
        state.rows = [
            (source, (*prefix, int(token))) for (source, prefix), token in zip(state.rows, tokens, strict=True)
        ]
        return torch.stack([self.logits(*row) for row in state.rows])


class OracleState:
    def __init__(self, rows):
        self.rows, self.sizes = rows, []

    def select(self, rows):
        self.rows = [self.rows[row] for row in rows.tolist()]


def found(model, sources, how=search, **options):
    source = torch.tensor(sources)[:, None]
    chosen = SearchOptions(**{"bos_id": BOS, "eos_id": EOS, "max_length": 4, "forbidden": (PAD, BOS)} | options)
    return how(model, source, torch.ones_like(source, dtype=torch.bool), chosen)


def log_probability(model, source, ids, forbidden=(PAD, BOS)):
    total, prefix = 0.0, (BOS,)
    for token in ids:
        logits = model.logits(source, prefix)
        logits[list(forbidden)] = -math.inf
        total += float(logits.log_softmax(dim=0)[token])
        prefix = (*prefix, token)
    return total


def same(left, right):
    assert [one.ids for one in left] == [one.ids for one in right]
    for one, other in zip(left, right, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)


# -- greedy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 11])
def test_greedy_takes_the_likeliest_token_each_time(limit):
    model, sources = Oracle(7), list(range(13))
    expected = []
    for source in sources:
        ids: list[int] = []
        while len(ids) < limit and ids[-1:] != [EOS]:
            logits = model.logits(source, (BOS, *ids))
            logits[[PAD, BOS]] = -math.inf
            ids.append(int(logits.argmax()))
        score = log_probability(model, source, ids) / length_penalty(len(ids), 0.6)
        expected.append(Hypothesis([token for token in ids if token != EOS], score))
    assert limit == 1 or len({len(one.ids) for one in expected}) > 1
    same(found(model, sources, max_length=limit), expected)


def test_greedy_is_beam_search_with_a_beam_of_one():
    model, sources = Oracle(7), list(range(17))
    same(found(model, sources, max_length=9), found(model, sources, how=_beam, max_length=9))


def test_greedy_drops_finished_rows_from_the_state():
    seen = []

    class Watched(Oracle):
        def start(self, *arguments):
            seen.append(super().start(*arguments))
            return seen[-1]

    found(Watched(7), list(range(29)), max_length=19)
    assert seen[0].sizes[0] == 29
    assert seen[0].sizes[-1] < 10
    assert len(seen[0].sizes) <= 19


# -- beams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_that_holds_everything_finds_the_best_of_all(alpha):
    # Two words and an end, at most 4 tokens: 1 + 2 + 4 + 8 sentences end in time; a beam of 16 never drops one.
    model, sources = Oracle(), list(range(11))
    expected = []
    for source in sources:
        sentences = [words for length in range(4) for words in itertools.product((3, 4), repeat=length)]
        scored = [
            (log_probability(model, source, (*words, EOS)) / length_penalty(len(words) + 1, alpha), words)
            for words in sentences
        ]
        score, words = max(scored)
        expected.append(Hypothesis(list(words), score))
    same(found(model, sources, beam_size=16, length_penalty=alpha), expected)


def test_a_beam_sees_past_a_tempting_first_word():
    # After 3 (0.6) nothing is likelier than 0.4; after 4 (0.4) the end is sure: 0.24 against 0.4.
    class Garden(Oracle):
        def logits(self, _source, prefix):
            shares = {(BOS,): [0, 0, 0, 0.6, 0.4], (BOS, 3): [0, 0, 0.4, 0.3, 0.3], (BOS, 4): [0, 0, 1, 0, 0]}
            return torch.tensor(shares.get(prefix, [0, 0, 1.0, 0, 0])).log()

    greedy, beam = (found(Garden(), [0], beam_size=size, length_penalty=0.0)[0] for size in (1, 2))
    assert (greedy.ids, beam.ids) == ([3], [4])
    assert math.exp(greedy.score) == pytest.approx(0.24)
    assert math.exp(beam.score) == pytest.approx(0.4)


def test_length_normalisation_by_hand():
    # "3 end" has log probability log 0.5; "4 4 4 end" has log 0.4. Their penalties with alpha 1 are (5 + 2) / 6 and
    # (5 + 4) / 6: -0.6931 / 1.1667 = -0.594 and -0.9163 / 1.5 = -0.611. With alpha 2 they are -0.509 and -0.407.
    class Two(Oracle):
        def logits(self, _source, prefix):
            shares = {(BOS,): [0, 0, 0.1, 0.5, 0.4], (BOS, 4): [0, 0, 0, 0, 1], (BOS, 4, 4): [0, 0, 0, 0, 1]}
            return torch.tensor(shares.get(prefix, [0, 0, 1.0, 0, 0])).log()

    told = {alpha: found(Two(), [0], beam_size=3, length_penalty=alpha, max_length=7)[0] for alpha in (0.0, 1.0, 2.0)}
    assert {alpha: one.ids for alpha, one in told.items()} == {0.0: [3], 1.0: [3], 2.0: [4, 4, 4]}
    assert told[0.0].score == pytest.approx(-0.6931, abs=1e-4)
    assert told[1.0].score == pytest.approx(-0.5941, abs=1e-4)
    assert told[2.0].score == pytest.approx(-0.4072, abs=1e-4)


def test_a_sentence_that_never_ends_is_cut():
    model = Oracle(7, boost={EOS: -100.0})
    for size in (1, 3):
        one = found(model, [0], beam_size=size, max_length=5)[0]
        assert len(one.ids) == 5
        assert one.score == pytest.approx(log_probability(model, 0, one.ids) / length_penalty(5, 0.6), abs=1e-5)


# -- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_company_in_a_batch_changes_nothing(beam_size):
    # Sentences end at different lengths, so rows are dropped and moved under the others.
    model, sources = Oracle(7), list(range(23))
    together = found(model, sources, beam_size=beam_size, max_length=9)
    alone = [found(model, [source], beam_size=beam_size, max_length=9)[0] for source in sources]
    assert len({len(one.ids) for one in alone}) > 2
    same(together, alone)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_forbidden_ids_never_come(beam_size):
    model = Oracle(7, boost={PAD: 50.0, BOS: 50.0, 5: 50.0})
    free = found(model, list(range(7)), beam_size=beam_size, forbidden=())
    assert all({PAD, BOS, 5} & set(one.ids) for one in free)
    held = found(model, list(range(7)), beam_size=beam_size, forbidden=(PAD, BOS, 5))
    assert not any({PAD, BOS, 5} & set(one.ids) for one in held)


@pytest.mark.parametrize(("name", "value"), [("beam_size", 0), ("max_length", -3)])
def test_sizes_that_cannot_be(name, value):
    with pytest.raises(InputError, match=f"{name} is too small. Expected at least 1; got {value}"):
        SearchOptions(bos_id=BOS, eos_id=EOS, **{name: value})
