import gzip
import struct
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qkv.data import Fitting, ImageParts, Images, read_image_parts, read_pictures, resized, split_images
from qkv.data.image_sets import grey
from qkv.errors import DataError, InputError

DRAWN = np.random.default_rng(0)
PIXELS = DRAWN.integers(0, 256, (7, 5, 5), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 1, 0, 2, 2])


def fitting(convert=False, said=None) -> Fitting:
    return Fitting(5, convert, (lambda _: None) if said is None else said.append)


def npz(folder, **arrays):
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def pictures(folder, count=3, *, mode="L", size=(5, 5), ending="png"):
    folder.mkdir(parents=True)
    for number in range(count):
        colours = DRAWN.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(colours).convert(mode).save(folder / f"{number}.{ending}")


# -- parts -----------------------------------------------------------------------------------------------------------


def test_the_parts_of_an_npz_file(tmp_path):
    arrays = {f"{part}_images": PIXELS[:n] for part, n in (("train", 7), ("val", 3), ("test", 2))}
    labels = {f"{part}_labels": LABELS[:n, None] for part, n in (("train", 7), ("val", 3), ("test", 2))}
    found = read_image_parts(npz(tmp_path, **arrays, **labels), fitting())
    assert {part: len(images) for part, images in found.parts.items()} == {"train": 7, "valid": 3, "test": 2}
    np.testing.assert_array_equal(found.parts["valid"].pixels, PIXELS[:3])
    assert found.parts["test"].labels.tolist() == [2, 0]
    assert found.names is None


def test_a_file_of_a_test_part_alone(tmp_path):
    found = read_image_parts(npz(tmp_path, test_images=PIXELS, test_labels=LABELS), fitting(), ["a", "b", "c"])
    assert list(found.parts) == ["test"]
    assert found.names == ["a", "b", "c"]
    with pytest.raises(InputError, match="no images to train on"):
        split_images(found, valid=0.1, test=0.1, seed=0)


def test_idx_files_with_the_test_part_beside_them(tmp_path):
    for name, array in (("images-idx3", PIXELS), ("labels-idx1", LABELS.astype(np.uint8))):
        (tmp_path / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array[:2])))
    found = read_image_parts(tmp_path / "train-images-idx3-ubyte.gz", fitting())
    assert {part: len(images) for part, images in found.parts.items()} == {"train": 7, "test": 2}
    alone = read_image_parts(tmp_path / "t10k-images-idx3-ubyte.gz", fitting())
    assert {part: len(images) for part, images in alone.parts.items()} == {"train": 2}


def test_a_folder_for_each_class(tmp_path):
    for name in ("sheep", "cow"):
        pictures(tmp_path / "set" / name)
    (tmp_path / "set" / "cow" / "notes.txt").write_text("of cows")
    (tmp_path / "set" / ".hidden").mkdir()
    said = []
    found = read_image_parts(tmp_path / "set", fitting(said=said))
    assert found.names == ["cow", "sheep"]
    assert found.parts["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert ["passed over 1 files" in line for line in said] == [True]
    expected = np.asarray(Image.open(tmp_path / "set" / "sheep" / "2.png"))
    np.testing.assert_array_equal(found.parts["train"].pixels[5], expected)


def test_folders_of_parts(tmp_path):
    for part, names in (("train", ("b", "a", "c")), ("val", ("a",)), ("test", ("c",))):
        for name in names:
            pictures(tmp_path / part / name, 2)
    found = read_image_parts(tmp_path, fitting())
    assert {part: images.labels.tolist() for part, images in found.parts.items()} == {
        "train": [0, 0, 1, 1, 2, 2],
        "valid": [0, 0],
        "test": [2, 2],
    }


# -- what is not as it should be -------------------------------------------------------------------------------------


def test_grey_and_size_by_hand():
    # 0.299 * 255 = 76.2, 0.587 * 255 = 149.7, 0.114 * 255 = 29.1.
    assert grey(np.diag([255, 255, 255]).astype(np.uint8)[None, None]).tolist() == [[[76, 150, 29]]]
    # Twice as large: the new places lie at -1/4, 1/4, 3/4, 5/4 of the old ones, and those outside take the edge.
    two = Images(np.array([[[0, 8], [0, 8]]], dtype=np.uint8), np.zeros(1, dtype=np.int64), full=8)
    assert resized(two, 4).pixels[0, 0].tolist() == [0, 64, 191, 255]
    # Half as large: smoothed by a triangle of width 2, 1/8 3/8 3/8 1/8 of four neighbours inside; here all are alike.
    even = Images.unlabelled(np.full((1, 6, 6), 77, dtype=np.uint8))
    assert resized(even, 3).pixels.tolist() == [[[77] * 3] * 3]


def test_other_sizes_and_colours_are_refused_and_converted_on_request(tmp_path):
    coloured = DRAWN.integers(0, 256, (7, 11, 13, 3), dtype=np.uint8)
    path = npz(tmp_path, train_images=coloured, train_labels=LABELS)
    with pytest.raises(DataError, match=r"Expected 5 x 5 in greys; got 11 x 13 in colour\. Try: --convert"):
        read_image_parts(path, fitting())
    said = []
    found = read_image_parts(path, fitting(convert=True, said=said))
    assert said == ["set.npz: 7 images of 11 x 13 in colour brought to 5 x 5 in greys"]
    np.testing.assert_array_equal(found.parts["train"].pixels, resized(Images.unlabelled(grey(coloured)), 5).pixels)


def test_what_is_transparent_lies_on_white(tmp_path):
    clear = np.zeros((5, 5, 4), dtype=np.uint8)
    clear[2, 2, 3] = 255  # black, and only here to be seen
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(clear).save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match="in colour"):
        read_image_parts(tmp_path, fitting())
    pixels = read_image_parts(tmp_path, fitting(convert=True)).parts["train"].pixels
    assert pixels[0, 2, 2] == 0
    assert (pixels[0] == 255).sum() == 24


def test_a_folder_of_mixed_pictures(tmp_path):
    pictures(tmp_path / "a", 2)
    pictures(tmp_path / "b", 1, mode="RGB", size=(9, 17), ending="jpg")
    with pytest.raises(DataError, match=r"b/0\.jpg: images of another kind.*got 9 x 17 in colour.*--convert"):
        read_image_parts(tmp_path, fitting())
    said = []
    assert len(read_image_parts(tmp_path, fitting(convert=True, said=said)).parts["train"]) == 3
    assert said == ["1 of 3 pictures brought to 5 x 5 in greys"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS - 1, r"a class is out of range\. Expected 0 to 1; got -1"),
        (np.where(LABELS == 2, 4000, LABELS), r"a class is out of range\. Expected 0 to 999; got 4000"),
        (LABELS / 2, "images and classes do not fit"),
        (LABELS[:-1], "images and classes do not fit"),
    ],
)
def test_classes_that_cannot_be(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        read_image_parts(npz(tmp_path, images=PIXELS, labels=labels), fitting())


def test_classes_past_the_names(tmp_path):
    with pytest.raises(DataError, match=r"Expected 0 to 1; got 2"):
        read_image_parts(npz(tmp_path, images=PIXELS, labels=LABELS), fitting(), ["a", "b"])


def test_pictures_that_cannot_be_read(tmp_path):
    broken = tmp_path / "a" / "0.png"
    pictures(tmp_path / "a", 1)
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(DataError, match=r"0\.png: a picture that cannot be read"):
        read_image_parts(tmp_path, fitting())
    broken.write_text("not a picture")
    with pytest.raises(DataError, match="a picture that cannot be read"):
        read_image_parts(tmp_path, fitting())
    Image.fromarray(np.full((5, 5), 700, dtype=np.uint16)).save(broken)
    with pytest.raises(DataError, match=r"more than 8 bits a pixel"):
        read_image_parts(tmp_path, fitting())
    broken.unlink()
    with pytest.raises(DataError, match="no pictures here"):
        read_image_parts(tmp_path, fitting())
    with pytest.raises(DataError, match="no such file"):
        read_pictures(tmp_path / "absent.png", fitting())


def test_without_pillow(tmp_path, monkeypatch):
    pictures(tmp_path / "a", 1)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"takes pillow, which is not installed\. Try: pip install 'qkv\[images\]'"):
        read_image_parts(tmp_path, fitting())


# -- splits ----------------------------------------------------------------------------------------------------------


@given(count=st.integers(20, 60), seed=st.integers(0, 99), given_valid=st.booleans())
def test_parts_share_no_image_and_lose_none(count, seed, given_valid):
    drawn = np.random.default_rng(seed)
    pixels = drawn.integers(0, 3, (count, 1, 3), dtype=np.uint8)  # of 27 kinds: many are equal
    labels = np.arange(count) % 2
    parts = {"train": Images(pixels, labels)}
    if given_valid:
        parts["valid"] = Images(pixels[:2], labels[:2])
    try:
        split = split_images(ImageParts(parts, None), valid=0.2, test=0.3, seed=seed)
    except InputError:  # equal images go together, and may leave a part empty
        return
    kinds = [{image.tobytes() for image in part.pixels} for part in (split.train, split.valid, split.test)]
    assert len(set.union(*kinds)) == sum(map(len, kinds))
    drawn_from = sum(map(len, (split.train, split.test))) + (0 if given_valid else len(split.valid))
    assert drawn_from + split.repeated == count
    again = split_images(ImageParts(parts, None), valid=0.2, test=0.3, seed=seed)
    np.testing.assert_array_equal(split.train.pixels, again.train.pixels)


def test_shares_are_what_was_asked_for():
    images = Images(np.arange(200, dtype=np.uint8).reshape(200, 1, 1), np.arange(200) % 3)
    split = split_images(ImageParts({"train": images}, None), valid=0.1, test=0.25, seed=3)
    assert [len(part) for part in (split.train, split.valid, split.test)] == [130, 20, 50]
    assert split.names == ["0", "1", "2"]
    # The pixel is the image's place, so that its class tells whether the two stayed together.
    assert (split.test.pixels[:, 0, 0] % 3 == split.test.labels).all()
    assert int(split.test.pixels.min()) < 100 < int(split.test.pixels.max())  # drawn, not cut off


@pytest.mark.parametrize(("valid", "test"), [(0.0, 0.1), (0.6, 0.5), (-0.1, 0.2)])
def test_shares_that_leave_nothing(valid, test):
    with pytest.raises(InputError, match="these shares cannot be drawn"):
        split_images(ImageParts({"train": Images(PIXELS, LABELS)}, None), valid=valid, test=test, seed=0)


def test_images_to_train_on_that_all_stand_in_another_part():
    images = Images(PIXELS, LABELS)
    with pytest.raises(InputError, match=r"too few images.*got 7, 7 for valid, 0 for test"):
        split_images(ImageParts({"train": images, "valid": images}, None), valid=0.1, test=0.1, seed=0)


def test_one_image_and_one_class():
    for images in (Images(PIXELS[:1], LABELS[:1]), Images(PIXELS, np.zeros(7, dtype=np.int64))):
        with pytest.raises(InputError, match="too few images"):
            split_images(ImageParts({"train": images}, None), valid=0.2, test=0.2, seed=0)


# -- images without classes ------------------------------------------------------------------------------------------


def test_images_without_classes(tmp_path):
    pictures(tmp_path / "some" / "deep", 2)
    names, pixels = read_pictures(tmp_path / "some", fitting())
    assert names == ["deep/0.png", "deep/1.png"]
    one, alone = read_pictures(tmp_path / "some" / "deep" / "1.png", fitting())
    assert one == ["1.png"]
    np.testing.assert_array_equal(pixels[1:], alone)
    names, pixels = read_pictures(npz(tmp_path, test_images=PIXELS), fitting())
    assert names == [str(number) for number in range(7)]
    np.testing.assert_array_equal(pixels, PIXELS)
    (tmp_path / "x-idx3-ubyte").write_bytes(idx(PIXELS))
    np.testing.assert_array_equal(read_pictures(tmp_path / "x-idx3-ubyte", fitting())[1], PIXELS)
    with pytest.raises(DataError, match=r"no images in this npz file.*got words"):
        read_pictures(npz(tmp_path, words=PIXELS), fitting())
