import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from qkv.data import (
    FeatureConfig,
    Recording,
    frames_of,
    joined,
    log_mel_of,
    read_recordings,
    read_sounds,
    split_recordings,
)
from qkv.data.recordings import DIGITS
from qkv.errors import DataError, InputError

FEATURES = FeatureConfig()


def tone(path: Path, seconds: float = 0.1, rate: int = 16_000, hertz: float = 440.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, samples.astype(np.float32), rate)


def told(path: Path, **options) -> list[tuple[str, str, str]]:
    found = read_recordings(path, FEATURES, **options)
    return [(one.name, one.text, one.speaker) for one in found.recordings]


# -- manifests -------------------------------------------------------------------------------------------------------


def test_a_manifest_in_the_folder_beside_it_or_as_the_data(tmp_path):
    tone(tmp_path / "in" / "a.wav")
    tone(tmp_path / "in" / "deep" / "b.flac")
    lines = "path\ttext\nin/a.wav\tThe cat\nin/deep/b.flac\tsat\tanna\n\n"
    expected = [("in/a.wav", "The cat", ""), ("in/deep/b.flac", "sat", "anna")]
    (tmp_path / "list.tsv").write_text(lines)
    assert told(tmp_path) == told(tmp_path / "list.tsv") == expected
    inside = lines.replace("in/", "")
    (tmp_path / "list.tsv").unlink()
    elsewhere = tmp_path / "elsewhere.tsv"
    elsewhere.write_text(inside)
    names = [("a.wav", "The cat", ""), ("deep/b.flac", "sat", "anna")]
    assert told(tmp_path / "in", transcripts=elsewhere) == names


def test_an_archive_reads_as_its_folder(tmp_path):
    folder = tmp_path / "folder"
    tone(folder / "a.wav")
    tone(folder / "b.wav", hertz=700.0)
    (folder / "list.tsv").write_text("a.wav\tone\nb.wav\ttwo\n")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    ours, theirs = (read_recordings(path, FEATURES).recordings for path in (tmp_path / "all.zip", folder))
    assert [one.text for one in ours] == ["one", "two"]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.sound, other.sound)


def test_words_said_many_times_are_parted_by_recordings():
    some = [Recording(f"{i}", ("yes", "no")[i % 2], np.ones(3, np.float32)) for i in range(40)]
    split = split_recordings(some, valid=0.1, test=0.1, seed=0)
    assert (len(split.train), len(split.valid), len(split.test)) == (32, 4, 4)
    assert {one.text for one in split.train} == {"yes", "no"}


def test_a_table_in_an_archive_may_end_with_a_blank_line(tmp_path):
    tone(tmp_path / "a.wav")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(tmp_path / "a.wav", "wavs/a.wav")
        archive.writestr("metadata.csv", "a|One.|one\n")
    assert told(tmp_path / "some.zip") == [("wavs/a.wav", "one", "")]


def test_the_layout_of_lj_speech(tmp_path):
    tone(tmp_path / "wavs" / "LJ001-0001.wav", rate=22_050)
    (tmp_path / "metadata.csv").write_text("LJ001-0001|In 1813|In eighteen thirteen\nLJ001-0002|Not|here\n")
    found = read_recordings(tmp_path, FEATURES)
    assert [(one.name, one.text) for one in found.recordings] == [("wavs/LJ001-0001.wav", "In eighteen thirteen")]
    assert found.notes == ["1 recordings of 22,050 Hz resampled to 16,000 Hz"]
    as_it_is = read_recordings(tmp_path, FeatureConfig(mel_rate=16_000))
    assert len(as_it_is.recordings[0].sound) == 2205
    assert "read as they are, with mel filters for 16,000 Hz" in as_it_is.notes[0]


def test_spoken_digits_by_their_names(tmp_path):
    tone(tmp_path / "7_theo_12.wav", rate=8000)
    tone(tmp_path / "0_anna_3.wav", rate=8000)
    found = read_recordings(tmp_path, FEATURES).recordings
    assert [(one.text, one.speaker, one.take) for one in found] == [("zero", "anna", 3), ("seven", "theo", 12)]
    assert len(found[0].sound) == 1600


def test_manifests_that_cannot_be_used_are_refused(tmp_path):
    tone(tmp_path / "a.wav")
    manifest = tmp_path / "list.tsv"
    manifest.write_text("a.wav\tone\nb.wav\ttwo\nc.wav\tthree\n")
    with pytest.raises(DataError, match=r"list.tsv, line 2: the manifest names 2 recordings not.*got b.wav, c.wav"):
        read_recordings(tmp_path, FEATURES)
    manifest.write_text("a.wav one\n")
    with pytest.raises(DataError, match=r"line 1: a line without a transcript. Expected path TAB text"):
        read_recordings(tmp_path, FEATURES)
    manifest.unlink()
    with pytest.raises(DataError, match=r"nothing says what the recordings say.*7_theo_0.wav; got a.wav"):
        read_recordings(tmp_path, FEATURES)
    (tmp_path / "one.tsv").write_text("a.wav\tone\n")
    (tmp_path / "two.tsv").write_text("a.wav\ttwo\n")
    with pytest.raises(DataError, match=r"several manifests.*one.tsv, two.tsv.*--transcripts"):
        read_recordings(tmp_path, FEATURES)
    (tmp_path / "two.tsv").unlink()
    (tmp_path / "one.tsv").write_bytes(b"a.wav\t\xff\n")
    with pytest.raises(DataError, match="line 1: not text"):
        read_recordings(tmp_path, FEATURES)


def test_a_damaged_recording_is_left_out_and_said(tmp_path):
    tone(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"no sound")
    (tmp_path / "list.tsv").write_text("a.wav\tone\nb.wav\ttwo\n")
    found = read_recordings(tmp_path, FEATURES)
    assert [one.text for one in found.recordings] == ["one"]
    assert found.notes[0].startswith("left out 1 recordings that cannot be used, b.wav; the first: ")
    assert "b.wav: not a recording" in found.notes[0]
    (tmp_path / "list.tsv").write_text("b.wav\ttwo\n")
    with pytest.raises(DataError, match=r"b.wav: not a recording"):
        read_recordings(tmp_path, FEATURES)


def test_archives_that_cannot_be_unpacked_are_refused(tmp_path):
    tone(tmp_path / "a.wav")
    path = tmp_path / "recordings.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.write(tmp_path / "a.wav", "a.wav")
        archive.writestr("list.tsv", "a.wav\tone\n")
    whole = path.read_bytes()
    for damaged, message in {
        whole.replace(b"\tone", b"\ttwo"): r"list.tsv: damaged in the archive \(Bad CRC-32.*fetch it again",
        whole.replace(b"RIFF", b"RAFF"): r"a.wav: damaged in the archive",
        whole[:-30]: r"recordings.zip: not a zip archive, or one cut short",
        # The lowest bit of the flags, 6 bytes into a local header and 8 into that of the directory: encrypted.
        whole.replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1").replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"): (
            r"list.tsv: cannot be unpacked \(.*encrypted.*Try: unpack it first"
        ),
    }.items():
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            read_recordings(path, FEATURES)


def test_recordings_without_transcripts(tmp_path):
    tone(tmp_path / "b.wav")
    tone(tmp_path / "a.ogg", rate=44_100)
    (tmp_path / "notes.txt").write_text("no sound")
    assert [one.name for one in read_sounds(tmp_path, FEATURES).recordings] == ["a.ogg", "b.wav"]
    assert len(read_sounds(tmp_path / "b.wav", FEATURES).recordings[0].sound) == 1600
    with pytest.raises(DataError, match="too long"):
        read_sounds(tmp_path / "b.wav", FEATURES, max_seconds=0.05)


# -- features --------------------------------------------------------------------------------------------------------


def test_features_by_hand(tmp_path):
    # Loudest 1.5: a byte of 255 is 1.5, one of 0 is -6.5; a quarter of these plus 4 is 1.375 and -0.625.
    mel = np.array([[0, 255], [255, 0], [255, 255]], dtype=np.uint8)
    np.savez(
        tmp_path / "some.npz", mel=mel, offsets=[0, 1, 3], max_log10=np.float32([1.5, 0.5]), normalized=["a", "b c"]
    )
    with pytest.raises(DataError, match=r"another width.*Expected 80 mel filters; got 2. Try: --features.mels 2"):
        read_recordings(tmp_path / "some.npz", FEATURES)
    first, second = read_recordings(tmp_path / "some.npz", FeatureConfig(mels=2)).recordings
    np.testing.assert_allclose(first.sound, [[-0.625, 1.375]], atol=1e-6)
    assert (second.text, second.sound.shape, second.sound.dtype) == ("b c", (2, 2), np.float32)
    np.savez(tmp_path / "other.npz", mel=mel)
    with pytest.raises(DataError, match=r"not log-mel features. Expected mel, offsets, max_log10, normalized; got mel"):
        read_recordings(tmp_path / "other.npz", FEATURES)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"broken.npz: not an npz file"):
        read_recordings(tmp_path / "broken.npz", FEATURES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"normalized": ["a"]},
        {"ids": ["a"]},
        {"max_log10": np.float32([1.5])},
        {"mel": np.zeros(3, np.uint8)},
        {"mel": np.zeros((3, 2))},
        {"offsets": [0, 2, 1]},
        {"offsets": [0, 1, 4]},
        {"offsets": [0.0, 1.5, 3.0]},
        {"offsets": [0], "normalized": np.array([], dtype=str), "max_log10": np.float32([])},
    ],
)
def test_features_that_do_not_fit_each_other_are_refused(tmp_path, wrong: dict):
    arrays = {"mel": np.zeros((3, 2), np.uint8), "offsets": [0, 1, 3], "max_log10": np.float32([0, 0])}
    np.savez(tmp_path / "some.npz", **arrays | {"normalized": ["a", "b"]} | wrong)
    with pytest.raises(DataError, match="arrays that do not fit each other"):
        read_recordings(tmp_path / "some.npz", FEATURES)


def test_features_that_are_not_numbers_are_refused(tmp_path):
    np.savez(
        tmp_path / "some.npz", mel=np.zeros((1, 2), np.uint8), offsets=[0, 1], max_log10=[np.nan], normalized=["a"]
    )
    with pytest.raises(DataError, match="max_log10 holds NaN"):
        read_recordings(tmp_path / "some.npz", FeatureConfig(mels=2))


def test_features_made_of_the_recordings_are_those_stored(shared_data):
    stored = {
        one.name: one for one in read_recordings(shared_data / "ljspeech-part" / "train.npz", FEATURES).recordings
    }
    features = FeatureConfig(mel_rate=16_000)
    compared = 0
    for path in sorted((shared_data / "ljspeech-part" / "flac").glob("*.flac"))[:5]:
        if path.stem in stored:
            (one,) = read_sounds(path, features).recordings
            ours, theirs = log_mel_of(one.sound, features), frames_of(stored[path.stem], features)
            assert ours.shape == theirs.shape
            # Bytes are 8 / 255 apart, half of which is 0.0157 of the logarithm, a quarter of that here.
            assert float((ours - theirs).abs().max()) * 4 < 0.016
            compared += 1
    assert compared > 2


# -- parting and joining ---------------------------------------------------------------------------------------------


def digits(speakers: str = "ab", takes: int = 12) -> list[Recording]:
    return [
        Recording(f"{digit}_{name}_{take}", DIGITS[digit], np.full(3 + digit, ord(name), np.float32), name, take)
        for name in speakers
        for digit in range(10)
        for take in range(takes)
    ]


def test_digits_are_parted_by_takes_and_a_speaker_kept_apart():
    split = split_recordings(digits("abc"), valid=0.1, test=0.1, seed=0, test_speaker="b")
    assert {one.take for one in split.test} == set(range(5))
    assert {one.take for one in split.valid} == set(range(5, 10))
    assert {one.take for one in split.train} == {10, 11}
    assert {one.speaker for one in split.stranger} == {"b"}
    assert {one.speaker for one in split.train + split.valid + split.test} == {"a", "c"}
    assert len(split.stranger) == 120
    with pytest.raises(InputError, match=r"unknown speaker 'd'. Expected one of a, b, c"):
        split_recordings(digits("abc"), valid=0.1, test=0.1, seed=0, test_speaker="d")


def test_others_are_parted_by_their_texts():
    some = [Recording(str(i), f"text {i // 2}", np.ones(3, np.float32)) for i in range(100)]
    split = split_recordings(some, valid=0.1, test=0.2, seed=3)
    texts = [{one.text for one in part} for part in (split.train, split.valid, split.test)]
    assert list(map(len, texts)) == [35, 5, 10]
    assert len(set.union(*texts)) == 50
    again, other = (split_recordings(some, valid=0.1, test=0.2, seed=seed) for seed in (3, 4))
    assert again == split
    assert other != split
    with pytest.raises(InputError, match="too few recordings to part"):
        split_recordings(some[:2], valid=0.1, test=0.1, seed=0)


def test_sequences_are_of_one_speaker_end_to_end():
    made = joined(digits(), 50, np.random.default_rng(0), least=3, most=6)
    for one in made:
        words = one.text.split()
        assert 3 <= len(words) <= 6
        assert len(one.sound) == sum(3 + DIGITS.index(word) for word in words)
        assert set(one.sound) == {ord(one.speaker)}
    assert {one.speaker for one in made} == {"a", "b"}
    assert {len(one.text.split()) for one in made} == {3, 4, 5, 6}
