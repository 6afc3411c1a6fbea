import gzip
import struct

import numpy as np
import pytest

from qkv.data import digits, read_images
from qkv.errors import DataError

PIXELS = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)
LABELS = np.array([2, 0, 9], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def put(folder, pixels: bytes, labels: bytes | None, name="train-images-idx3-ubyte"):
    (folder / name).write_bytes(pixels)
    if labels is not None:
        (folder / name.replace("images-idx3", "labels-idx1")).write_bytes(labels)
    return folder / name


@pytest.mark.parametrize("encode", [bytes, gzip.compress])
def test_idx_with_the_classes_beside_it(tmp_path, encode):
    images = read_images(put(tmp_path, encode(idx(PIXELS)), encode(idx(LABELS))))
    np.testing.assert_array_equal(images.pixels, PIXELS)
    assert images.labels.tolist() == [2, 0, 9]
    assert (images.size, images.full) == ((5, 7), 255)


@pytest.mark.parametrize("names", [("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels")])
def test_npz_under_the_names_in_use(tmp_path, names):
    path = tmp_path / "images.npz"
    np.savez_compressed(path, **{names[0]: PIXELS, names[1]: LABELS[:, None], "other": np.zeros(2)})
    images = read_images(path)
    np.testing.assert_array_equal(images.pixels, PIXELS)
    assert images.labels.tolist() == [2, 0, 9]


def test_the_digits_that_need_no_file():
    images = digits()
    assert sorted(set(images.labels.tolist())) == list(range(10))
    assert images.pixels.max() == images.full == 16


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (idx(PIXELS)[:-1], idx(LABELS), r"not the number of values.*Expected 105; got 104"),
        (idx(PIXELS), idx(LABELS[:2]), r"images and classes do not fit\. Expected one whole number for each of 3"),
        (idx(PIXELS), None, r"no classes beside the images"),
        (idx(LABELS), idx(LABELS), r"not grey images.*got uint8 of shape \(3,\)"),
        (b"\0\0\x0d\x03" + bytes(12), idx(LABELS), r"not an IDX file of bytes\. Expected an IDX or npz file"),
        (b"P5 5 7 255", idx(LABELS), r"not an IDX file"),
        (gzip.compress(idx(PIXELS))[:-9], idx(LABELS), r"damaged"),
        (idx(PIXELS[:0]), idx(LABELS[:0]), r"images and classes do not fit"),
    ],
)
def test_idx_files_that_cannot_be_used(tmp_path, pixels, labels, message):
    with pytest.raises(DataError, match=message):
        read_images(put(tmp_path, pixels, labels))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"pictures": PIXELS},
            r"no images in this npz file\. Expected train_images and train_labels, or .*got pictures",
        ),
        ({"images": np.stack([PIXELS] * 3, -1), "labels": LABELS}, r"not grey images.*\(3, 5, 7, 3\)"),
        ({"images": PIXELS / 255, "labels": LABELS}, r"not grey images.*got float64"),
        ({"images": PIXELS, "labels": LABELS / 2}, r"images and classes do not fit"),
        ({"images": np.array([object()]), "labels": LABELS}, r"not an npz file of plain arrays"),
    ],
)
def test_npz_files_that_cannot_be_used(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_images(tmp_path / "images.npz")


def test_an_npz_file_cut_short(tmp_path):
    np.savez(tmp_path / "whole.npz", images=PIXELS, labels=LABELS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    with pytest.raises(DataError, match="not an npz file of plain arrays, or a damaged one"):
        read_images(tmp_path / "cut.npz")


def test_published_digits(shared_data):
    images = read_images(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz")
    assert images.pixels.shape == (10_000, 28, 28)
    assert images.labels[:5].tolist() == [7, 2, 1, 0, 4]
