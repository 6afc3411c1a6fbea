import numpy as np
import pytest
import torch

from qkv.data import (
    FeatureConfig,
    Recording,
    SpeechBatches,
    VariationConfig,
    alphabet_vocabulary,
    frame_count,
    frames_of,
    joined,
    speech_batch,
)
from qkv.errors import InputError

FEATURES, LETTERS = FeatureConfig(), alphabet_vocabulary("abcdefghijklmnop ")


def noise(count: int) -> list[Recording]:
    generator = np.random.default_rng(0)
    return [
        Recording(str(i), "abcdefghijklmnop"[i], generator.normal(size=400 * (i + 1)).astype(np.float32))
        for i in range(count)
    ]


def batches(recordings: list[Recording], **options) -> SpeechBatches:
    return SpeechBatches(lambda _: recordings, LETTERS, FEATURES, **{"batch_size": 3, "seed": 5} | options)


def test_every_recording_comes_once_an_epoch_beside_others_of_its_length():
    made = batches(noise(11))
    assert len(made) == 4
    for epoch in range(2):
        texts = [[LETTERS.decode(row.tolist()) for row in batch.target] for batch in made.epoch(epoch)]
        assert sorted("".join(one) for one in texts) == ["abc", "def", "ghi", "jk"]
    orders = [[batch.target[0, 1].item() for batch in made.epoch(epoch)] for epoch in range(3)]
    assert orders[0] == [batch.target[0, 1].item() for batch in made.epoch(0)]
    assert len({tuple(order) for order in orders}) > 1
    fixed = [batch.target[0, 1].item() for batch in batches(noise(11), shuffle=False).epoch(7)]
    assert fixed == sorted(fixed)


def test_a_batch_by_hand():
    recordings = noise(2)
    (batch,) = batches(recordings).epoch(0)
    # 400 and 800 samples are 3 and 6 frames, padded to 16; texts are start, letter, end
    assert batch.log_mel.shape == (2, 16, 80)
    assert batch.log_mel_mask.sum(dim=1).tolist() == [3, 6] == [frame_count(one, FEATURES) for one in recordings]
    assert batch.target.tolist() == [[1, 4, 2], [1, 5, 2]]
    torch.testing.assert_close(batch.log_mel[1, :6], frames_of(recordings[1], FEATURES))
    assert not bool(batch.log_mel[~batch.log_mel_mask].any())
    assert (batch.tokens, batch.weight) == (9, 4)


def test_an_epoch_goes_on_where_it_was_left_with_the_same_variations():
    made = batches(noise(11), variation=VariationConfig(speed=0.2))
    whole = list(made.epoch(3))
    rest = list(made.epoch(3, start=2))
    assert len(rest) == 2
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.log_mel, other.log_mel)
    others = list(made.epoch(4))
    assert not any(torch.equal(one.log_mel, other.log_mel) for one in whole for other in others)


def test_speed_changes_lengths_and_masks_hide():
    (still,) = batches(noise(2)[1:], batch_size=1).epoch(0)
    quiet = {"time_masks": 0, "mel_masks": 0}
    lengths = {
        next(iter(batches(noise(11)[10:], variation=VariationConfig(speed=0.5, **quiet)).epoch(epoch))).tokens
        for epoch in range(5)
    }
    assert len(lengths) > 2
    (hidden,) = batches(noise(2)[1:], variation=VariationConfig(speed=0.0, max_time=0, mel_masks=9)).epoch(0)
    assert hidden.log_mel.shape == still.log_mel.shape
    assert not torch.equal(hidden.log_mel, still.log_mel)


def test_what_is_drawn_anew_is_another_each_epoch():
    digits = [Recording(f"{i}", text, np.ones(400, np.float32) * (i + 1), "a") for i, text in enumerate("abc")]

    def draw(epoch: int) -> list[Recording]:
        return joined(digits, 4, np.random.default_rng(epoch), least=2, most=3)

    made = SpeechBatches(draw, LETTERS, FEATURES, batch_size=4, seed=0)
    first, second = (next(iter(made.epoch(epoch))) for epoch in (0, 1))
    assert first.target.tolist() != second.target.tolist()


def test_features_pass_as_they_are():
    frames = np.random.default_rng(0).normal(size=(7, 80)).astype(np.float32)
    batch = speech_batch([frames_of(Recording("a", "b", frames), FEATURES)], [[5]])
    np.testing.assert_array_equal(batch.log_mel[0, :7].numpy(), frames)
    assert frame_count(Recording("a", "b", frames), FEATURES) == 7


def test_no_recording_is_refused():
    with pytest.raises(InputError, match="no recording to make batches of"):
        batches([])
