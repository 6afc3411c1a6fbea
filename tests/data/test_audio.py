import numpy as np
import pytest
import soundfile

from qkv.data import FeatureConfig, at_rate, log_mel_of, played_at, read_audio, resample
from qkv.errors import DataError, InputError


def sine(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_a_file_is_read_as_it_was_written(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, sine(0.5, 11_025), 11_025)
    audio = read_audio(path)
    assert (audio.sample_rate, audio.channels) == (11_025, 1)
    assert audio.seconds == pytest.approx(0.5, abs=1e-3)
    tolerance = 0.05 if ending == "ogg" else 1e-4  # OGG loses some
    np.testing.assert_allclose(audio.waveform, sine(0.5, 11_025), atol=tolerance)


def test_channels_are_averaged(tmp_path):
    left, right = sine(0.1, 8000), sine(0.1, 8000, 700.0)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), 8000, subtype="FLOAT")
    audio = read_audio(tmp_path / "two.wav")
    assert audio.channels == 2
    np.testing.assert_allclose(audio.waveform, (left + right) / 2, atol=1e-6)


def test_resampling_keeps_a_tone_where_it_was():
    made = resample(sine(1.0, 22_050), 22_050, 16_000)
    assert made.dtype == np.float32
    assert abs(len(made) - 16_000) <= 1
    middle = slice(500, 15_500)  # the filter rings at the ends
    np.testing.assert_allclose(made[middle], sine(1.0, 16_000)[: len(made)][middle], atol=2e-3)
    assert resample(made, 16_000, 16_000) is made


def test_filters_for_another_rate_leave_the_samples_alone(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(0.5, 22_050, 1000.0), 22_050)
    audio = read_audio(tmp_path / "a.wav")
    resampled, as_it_is = FeatureConfig(), FeatureConfig(mel_rate=16_000)
    assert len(at_rate(audio, resampled)) == 8000
    assert at_rate(audio, as_it_is) is audio.waveform
    # Read as 16,000 Hz, a tone of 1,000 Hz at 22,050 seems one of 1000 x 16000 / 22050 = 726 Hz: 10.9 mels instead of
    # 15, in filters 45.245 / 81 = 0.5586 mels apart of which the first is centred one step up: 18.5 instead of 25.9.
    heights = [log_mel_of(at_rate(audio, one), one).mean(dim=0).argmax().item() for one in (as_it_is, resampled)]
    assert heights == [18, 26]


def test_what_is_played_faster_is_shorter_and_higher():
    faster = played_at(sine(1.0, 8000, 400.0), 1.25)
    np.testing.assert_allclose(faster, sine(0.8, 8000, 500.0)[: len(faster)], atol=0.02)
    with pytest.raises(InputError, match="above 0; got 0"):
        played_at(faster, 0.0)


def test_what_cannot_be_used_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    with pytest.raises(DataError, match=r"a.wav: no such file"):
        read_audio(path)
    path.write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt nothing more")
    with pytest.raises(DataError, match=r"a.wav: not a recording that can be read.*WAV, FLAC"):
        read_audio(path)
    soundfile.write(path, np.zeros(0, np.float32), 8000)
    with pytest.raises(DataError, match="the recording is empty"):
        read_audio(path)
    soundfile.write(path, np.full(800, 1e-5, np.float32), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match="the recording is silent"):
        read_audio(path)
    soundfile.write(path, np.array([0.1, np.nan, 0.3], np.float32), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match="holds NaN or infinity"):
        read_audio(path)
    soundfile.write(path, sine(3.0, 8000), 8000)
    with pytest.raises(DataError, match=r"too long. Expected at most 2 seconds; got 3. Try: cut it"):
        read_audio(path, max_seconds=2)
