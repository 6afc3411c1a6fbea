import json

import numpy as np
import pytest
import soundfile

from qkv.data import FeatureConfig, Recording, morse, morse_waveform
from qkv.errors import DataError, InputError, RunError
from qkv.recipes import base, speech
from qkv.recipes.base import Reporter
from qkv.recipes.speech_data import ALPHABET, MORSE, RecordingsConfig, parts, spell, spelled
from qkv.train import RunFolder
from qkv.types import Run

RATE = 8000


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    """Both decoders, after a few steps."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: base.run(speech, "speech", {"model": name}, seed=0, out=folder / name, preset="tiny", reporter=Reporter())
        for name in ("attention", "lstm")
    }


@pytest.fixture
def recordings(tmp_path):
    """A folder of twenty words in Morse code, and its manifest."""
    words = morse(20, np.random.default_rng(3), letters=(1, 2), sample_rate=RATE)
    lines = ["path\ttext"]
    for i, one in enumerate(words):
        soundfile.write(tmp_path / f"{i}.wav", one.sound, RATE)
        lines.append(f"{i}.wav\t{one.text.upper()}!")
    (tmp_path / "list.tsv").write_text("\n".join(lines))
    return tmp_path


# -- a run -----------------------------------------------------------------------------------------------------------


def test_what_a_run_leaves(runs):
    for name, run in runs.items():
        assert {path.name for path in run.path.iterdir()} == {
            "config.json", "environment.json", "data.json", "vocabulary.json", "metrics.jsonl", "weights.safetensors",
            "result.json", "report.html",
        }  # fmt: skip
        units = ("words", "characters")
        measures = {f"{one}_{unit}" for one in ("jaccard", "cosine", "damerau_levenshtein") for unit in units}
        assert set(run.metrics) == measures | {"character_error_rate", "word_error_rate", "loss"}
        valid = [line for line in run.history if line["part"] == "valid"]
        assert all(measures <= line.keys() for line in valid)
        page = (run.path / "report.html").read_text(encoding="utf-8")
        for words in ("What it listened to", "Damerau-Levenshtein", "rank correlation", f"--model {name}"):
            assert words in page
        # Words of one letter or two: measures can differ inside them alone.
        assert run.result["unit"] == "characters"
        assert "Similarities are on characters." in page
        assert all(len(set(one["similarities"].values())) > 1 for one in run.result["disputed"])
        assert set(run.result["baselines"]) == {
            "always the same transcript", "the transcript of what sounds most alike"
        }  # fmt: skip
        assert run.result["parts"]["decoder"] > 0


def test_a_stored_run_writes_down_what_the_trained_model_did(runs):
    for run in runs.values():
        again = speech.evaluate(run, None, Reporter())
        assert again["metrics"] == pytest.approx(run.metrics, abs=1e-6)
        assert again["recordings"] == 12


def test_other_recordings_are_scored_and_written_down(runs, recordings, tmp_path):
    said: list[str] = []
    run = runs["attention"]
    document = speech.evaluate(run, str(recordings), Reporter(said.append))
    assert document["recordings"] == 20
    assert any("20 symbols that the alphabet lacks are left out of 20 transcripts, most often !" in one for one in said)
    out = tmp_path / "out.tsv"
    assert speech.predict(run, str(recordings), out, Reporter())["recordings"] == 20
    lines = out.read_text().splitlines()
    assert lines[0] == "path\ttext"
    assert len(lines) == 21
    assert [line.split("\t")[0] for line in lines[1:3]] == ["0.wav", "1.wav"]


def test_a_recording_is_shown_with_its_attention(runs, recordings):
    for run in runs.values():
        shown = speech.show(run, str(recordings / "0.wav"))
        assert shown.document["prediction"] == shown.text
        seconds = soundfile.info(recordings / "0.wav").duration
        assert shown.document["seconds"] == pytest.approx(seconds, abs=0.03)
        assert shown.svg.count("<image") == 2
        assert "Attention of decoder" in shown.page
        assert shown.png.startswith(b"\x89PNG")
        assert speech.show(run, "sos", head=1).svg != speech.show(run, "sos", head=0).svg
        with pytest.raises(InputError, match="no head 7"):
            speech.show(run, "sos", head=7)


def test_recordings_with_transcripts_are_trained_on(recordings, tmp_path):
    said: list[str] = []
    chosen = {
        "data": str(recordings / "list.tsv"), "model": "lstm", "tokens": "subword", "vocabulary_size": 300,
        "features": {"sample_rate": 16_000, "hop_length": 320}, "beam_size": 2,
    }  # fmt: skip
    run = base.run(
        speech, "speech", chosen, seed=1, out=tmp_path / "run", preset="tiny", reporter=Reporter(said.append)
    )
    assert any("20 recordings of 8,000 Hz resampled to 16,000 Hz" in one for one in said)
    assert sum(run.result["recordings"].values()) == 20
    assert run.result["symbols"] <= 300
    with pytest.raises(InputError, match=r"Morse code|too long|no such file"):
        speech.show(run, "nowhere.wav")


def test_a_speaker_never_heard_is_judged_apart(tmp_path):
    for i, one in enumerate(morse(48, np.random.default_rng(3), letters=(1, 1), sample_rate=RATE)):
        soundfile.write(tmp_path / f"{i % 2}_{('anna', 'otto')[i % 4 // 2]}_{i // 4}.wav", one.sound, RATE)
    asked = {"data": str(tmp_path), "test_speaker": "otto", "digits": (1, 2)}
    run = base.run(speech, "speech", asked, seed=0, out=tmp_path / "run", preset="tiny", reporter=Reporter())
    assert run.result["elsewhere"].keys() == {"otto"}
    assert run.result["elsewhere"]["otto"].keys() == run.metrics.keys()
    assert run.result["elsewhere"]["otto"] != run.metrics
    assert "attention, on otto" in (run.path / "report.html").read_text(encoding="utf-8")


def test_what_is_too_long_for_the_model_is_left_out_or_refused(recordings, runs, tmp_path):
    said: list[str] = []
    chosen = {"data": str(recordings), "network": {"max_frames": 48}}
    run = base.run(
        speech, "speech", chosen, seed=0, out=tmp_path / "run", preset="tiny", reporter=Reporter(said.append)
    )
    assert any("longer than 48 frames or 18 tokens" in one for one in said)
    assert sum(run.result["recordings"].values()) < 20
    again = speech.evaluate(run, str(recordings), Reporter(said.append))
    assert again["recordings"] == sum(run.result["recordings"].values())
    assert speech.predict(run, str(recordings), tmp_path / "out.tsv", Reporter(said.append))["recordings"] < 20
    long = tmp_path / "long.wav"
    soundfile.write(long, morse_waveform("hhhh", np.random.default_rng(0), sample_rate=RATE), RATE)
    with pytest.raises(InputError, match=r"too long for this model. Expected at most 48 frames"):
        speech.show(run, str(long))
    hour = tmp_path / "hour.wav"
    soundfile.write(hour, np.tile(np.array([0.1, -0.1], np.float32), RATE * 50), RATE)
    with pytest.raises(DataError, match=r"hour.wav: the recording is too long. Expected at most 30 seconds; got 100"):
        speech.show(runs["attention"], str(hour))


def test_a_run_goes_on_as_if_never_stopped(tmp_path, runs):
    chosen = {"fit": {"steps": 2, "epochs": 2}}
    config = base.configure(speech, chosen, "tiny").model_dump(mode="json")
    folder = RunFolder.create(tmp_path / "run", recipe="speech", config=config, seed=0)
    speech.run(folder, Reporter())
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 2
    (tmp_path / "run" / "weights.safetensors").write_bytes((runs["lstm"].path / "weights.safetensors").read_bytes())
    with pytest.raises(RunError, match="the weights are not those"):
        speech.show(folder.finished(), "sos")


# -- what is read ----------------------------------------------------------------------------------------------------


def test_no_word_that_judges_is_heard_in_training():
    config = RecordingsConfig(letters=(2, 2), judged=100, sequences=300, growth=2)
    heard = parts(MORSE, config, FeatureConfig(sample_rate=RATE), 0, lambda _: None)
    test, valid = ({one.text for one in part} for part in (heard.test, heard.valid))
    assert not test & valid
    for epoch in (0, 1, 2, 3):
        assert not {one.text for one in heard.train(epoch)} & (test | valid)
    assert {len(one.text) for one in heard.train(0)} == {1}
    assert {len(one.text) for one in heard.train(2)} == {2}


def test_digits_are_joined_and_a_speaker_kept_apart(shared_data, monkeypatch):
    monkeypatch.setenv("QKV_DATA", str(shared_data))
    config = RecordingsConfig(judged=20, sequences=30, test_speaker="theo")
    features = FeatureConfig(sample_rate=RATE)
    heard = parts("fsdd", config, features, 0, lambda _: None)
    assert (len(heard.train(0)), len(heard.valid), len(heard.test), len(heard.stranger)) == (30, 10, 20, 20)
    assert {one.speaker for one in heard.stranger} == {"theo"}
    assert "theo" not in {one.speaker for one in [*heard.train(1), *heard.valid, *heard.test]}
    assert all(3 <= len(one.text.split()) <= 6 for one in heard.test)
    again = parts("fsdd", config, features, 5, lambda _: None)
    assert [one.text for one in again.test] == [one.text for one in heard.test]
    assert [one.text for one in again.train(0)] != [one.text for one in heard.train(0)]


def test_spelling():
    assert spell(" Ab  c-D, 7!é ", ALPHABET) == "ab c-d,"
    assert spell("a b", "ab") == "ab"
    silent = np.ones(3, np.float32)
    said: list[str] = []
    made = spelled([Recording("1", "Ab!", silent), Recording("2", "77", silent)], ALPHABET, said.append)
    assert [one.text for one in made] == ["ab"]
    assert said == [
        "3 symbols that the alphabet lacks are left out of 2 transcripts, most often 7 ! (--alphabet has them read)",
        "left out 1 recordings of whose transcripts nothing is left",
    ]
    with pytest.raises(InputError, match="no transcript has a character of the alphabet"):
        spelled([Recording("2", "77", silent)], ALPHABET, said.append)


def test_presets():
    assert speech.default_preset(speech.SpeechRunConfig()) == "morse"
    assert speech.default_preset(speech.SpeechRunConfig(data="fsdd")) == "digits"
    assert speech.default_preset(speech.SpeechRunConfig(data="some/folder")) == "recordings"
    for preset in speech.PRESETS:
        base.configure(speech, {}, preset)


def test_what_cannot_be_keyed_or_heard_is_refused(runs, tmp_path):
    for text in ("", " "):
        with pytest.raises(InputError, match=r"there is nothing to key. Expected letters a to z"):
            speech.show(runs["attention"], text)
    soundfile.write(tmp_path / "click.wav", np.full(50, 0.1), RATE)
    with pytest.raises(DataError, match=r"click.wav: the recording is too short. Expected at least 13 milliseconds"):
        speech.show(runs["attention"], str(tmp_path / "click.wav"))
    (tmp_path / "some.raw").write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"some.raw: not a recording that can be read"):
        speech.show(runs["attention"], str(tmp_path / "some.raw"))
    with pytest.raises(InputError, match="Morse code has no speakers"):
        parts(MORSE, RecordingsConfig(test_speaker="theo"), FeatureConfig(), 0, print)


def test_how_a_recording_was_read_is_told(runs, tmp_path):
    sound = morse_waveform("a", np.random.default_rng(0), sample_rate=16_000)
    soundfile.write(tmp_path / "a.wav", np.stack((sound, sound), axis=1), 16_000)
    page = speech.show(runs["lstm"], str(tmp_path / "a.wav")).page
    assert "the mean of 2 channels, resampled from 16,000 Hz to 8,000 Hz" in page


def test_settings_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match=r"--digits cannot be used. Expected the fewest, then the most; got 6 and 3"):
        base.configure(speech, {"digits": [6, 3]})
    with pytest.raises(InputError, match="--alphabet cannot be used"):
        base.configure(speech, {"alphabet": "abA"})
    with pytest.raises(InputError, match=r"unknown --model 'atention'. .*Try: attention"):
        base.configure(speech, {"model": "atention"})


@pytest.mark.nightly
def test_morse_code_is_learned(tmp_path):
    run = base.run(speech, "speech", {}, seed=0, out=tmp_path / "run", reporter=Reporter())
    assert run.metrics["damerau_levenshtein_characters"] >= 0.95
