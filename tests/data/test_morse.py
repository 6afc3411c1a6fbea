import numpy as np
import pytest

from qkv.data import FeatureConfig, log_mel_of, morse, morse_waveform
from qkv.data.morse import MORSE, keyed
from qkv.errors import InputError


def test_units_by_hand():
    # s is three dots, o three dashes of 3 units; 3 units between letters
    assert "".join(".#"[down] for down in keyed("so")) == "#.#.#...###.###.###"


def test_no_two_letters_have_one_code():
    assert len(set(MORSE.values())) == len(MORSE) == 26


def test_a_word_can_be_read_off_its_sound():
    features = FeatureConfig(sample_rate=8000, n_fft=200, hop_length=40, mels=40)  # 5 ms a frame
    waveform = morse_waveform("et", np.random.default_rng(7), sample_rate=8000)
    loudness = log_mel_of(waveform, features).amax(dim=1)
    down = (loudness > (loudness.max() + loudness.median()) / 2).int()
    runs = [len(run) for run in "".join(map(str, down.tolist())).replace("0", " ").split()]
    assert len(runs) == 2
    assert 2 < runs[1] / runs[0] < 4.5  # a dash is three dots, less what the windows smear


def test_words_are_as_asked():
    asked = {"letters": (1, 2), "without": {"e", "t"}, "sample_rate": 8000}
    made = morse(200, np.random.default_rng(0), **asked)
    texts = [one.text for one in made]
    assert {len(text) for text in texts} == {1, 2}
    assert not {"e", "t"} & set(texts)
    assert texts == [one.text for one in morse(200, np.random.default_rng(0), **asked)]
    assert all(one.sound.dtype == np.float32 and np.abs(one.sound).max() <= 1 for one in made)


def test_what_has_no_code_is_refused():
    with pytest.raises(InputError, match="'2' has no Morse code"):
        keyed("r2d3")


def test_where_no_word_is_left_is_refused():
    everything = list("abcdefghijklmnopqrstuvwxyz")
    with pytest.raises(InputError, match="all words of 1 to 1 letters are to be judged by"):
        morse(1, np.random.default_rng(0), letters=(1, 1), without=everything)
    assert morse(1, np.random.default_rng(0), letters=(1, 1), without=everything[1:])[0].text == "a"
