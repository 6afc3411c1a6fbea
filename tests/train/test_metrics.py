import math

import pytest
import sacrebleu

from qkv.errors import InputError
from qkv.train import estimate, translation_scores

HYPOTHESES = [
    "two hundred and thirty-four",
    "the first of may nineteen eighty",
    "it is raining again",
    "I do not know him at all",
]
REFERENCES = [
    ["two hundred and thirty-four", "two hundred thirty-four"],
    ["the first of may 1980", "may the first nineteen eighty", "the 1st of may nineteen eighty"],
    ["it rains again"],
    ["I do not know him at all", "I don't know him"],
]


def test_scores_are_those_of_sacrebleu():
    # As sacrebleu's own call wants them: one stream a reference, None where a sentence has no more.
    streams = [[refs[i] if i < len(refs) else None for refs in REFERENCES] for i in range(3)]
    scores = translation_scores(HYPOTHESES, REFERENCES)
    assert scores.bleu == sacrebleu.corpus_bleu(HYPOTHESES, streams).score
    assert scores.chrf == sacrebleu.corpus_chrf(HYPOTHESES, streams).score
    assert 30 < scores.bleu < 100
    assert scores.exact_match == 0.5
    assert scores.metrics == {"bleu": scores.bleu, "chrf": scores.chrf, "exact_match": 0.5}
    assert "tok:13a" in scores.signatures["bleu"]
    assert "nc:6" in scores.signatures["chrf"]


@pytest.mark.parametrize("row", range(4))
def test_one_sentence_with_all_its_references(row):
    scores = translation_scores([HYPOTHESES[row]], [REFERENCES[row]])
    assert scores.chrf == pytest.approx(sacrebleu.sentence_chrf(HYPOTHESES[row], REFERENCES[row]).score)
    # The corpus score of four words or more; of fewer, sentence_bleu alone leaves out the empty orders.
    assert scores.bleu == pytest.approx(
        sacrebleu.sentence_bleu(HYPOTHESES[row], REFERENCES[row], use_effective_order=False).score
    )


def test_a_second_reference_can_only_help():
    one = translation_scores(HYPOTHESES, [refs[:1] for refs in REFERENCES])
    assert one.bleu < translation_scores(HYPOTHESES, REFERENCES).bleu


@pytest.mark.parametrize(
    ("hypotheses", "references", "got"),
    [
        ([], [], "0 translations, 0 with"),
        (["a"], [], "1 translations, 0 with"),
        (["a", "b"], [["a"], []], "2 translations, 1 with"),
    ],
)
def test_what_cannot_be_scored(hypotheses, references, got):
    with pytest.raises(InputError, match=f"translations and references do not fit.*got {got}"):
        translation_scores(hypotheses, references)


def test_an_interval_by_hand():
    # 3, 5, 10: mean 6, variance (9 + 1 + 16) / 2 = 13; t(0.975, 2) = 4.30265; 4.30265 sqrt(13 / 3) = 8.9567.
    value = estimate([3.0, 5.0, 10.0])
    assert (value.mean, value.count) == (6.0, 3)
    assert value.margin == pytest.approx(8.9567, abs=1e-4)
    assert f"{value:.1f}" == "6.0 ± 9.0"


def test_one_value_has_no_interval():
    value = estimate([4.5])
    assert math.isnan(value.margin)
    assert f"{value:.1f}" == "4.5"
    with pytest.raises(InputError, match="no values"):
        estimate([])
