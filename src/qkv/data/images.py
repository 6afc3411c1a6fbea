"""Images of classes: the digits that scikit-learn carries, and readers of IDX and npz files and of folders."""

import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from sklearn.datasets import load_digits

from qkv.errors import DataError
from qkv.files import open_arrays, open_bytes, require_file

PARTS = ("train", "valid", "test")
_NPZ = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels")),
    "valid": (("val_images", "val_labels"),),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}


@dataclass(frozen=True)
class Images:
    """Grey images of one size and the class of each; 0 is background, `full` the most that a pixel may be."""

    pixels: UInt8[np.ndarray, "images height width"]
    labels: Int64[np.ndarray, " images"]
    full: int = 255

    @classmethod
    def unlabelled(cls, pixels: UInt8[np.ndarray, "images height width"]) -> "Images":
        """Images whose classes are not known: all are 0."""
        return cls(pixels, np.zeros(len(pixels), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def at(self, index: Int64[np.ndarray, " chosen"]) -> "Images":
        """Those at these places."""
        return Images(self.pixels[index], self.labels[index], self.full)


def digits() -> Images:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries (Alpaydin and Kaynak 1998).

    >>> digits().pixels.shape, digits().full
    ((1797, 8, 8), 16)
    """
    pixels, labels = load_digits(return_X_y=True)
    return Images(pixels.reshape(-1, 8, 8).astype(np.uint8), labels.astype(np.int64), full=16)


def read_images(path: str | Path) -> Images:
    """Reads grey images with their classes, plain or compressed with gzip or zstd; of a file of several parts those to
    train on.

    An IDX file (LeCun's layout of MNIST) whose name holds `images-idx3` brings its classes from the file beside it
    whose name has `labels-idx1` there. An npz file has `train_images` and `train_labels` (as MedMNIST names them),
    `x_train` and `y_train`, or `images` and `labels`.

    Raises:
        DataError: neither of them, cut short, images in colour, or not as many classes as images.
    """
    pixels, labels = next(iter(raw_parts(path).values()))
    if pixels.ndim != 3:
        raise not_grey(pixels, path)
    return Images(pixels, labels)


Raw = tuple[UInt8[np.ndarray, "images *shape"], Int64[np.ndarray, " images"]]
"""Images as a file has them, in greys or in colours, and their classes."""


def raw_parts(path: str | Path) -> dict[str, Raw]:
    """The parts that a file has, of `train`, `valid` and `test` in this order, and at least one.

    Those of an npz file are told by the names of its arrays (as for `read_images`, and `val_images`, `test_images`,
    `x_test`). An IDX file is the part to train on; where `train` is in its name and the file with `t10k` in its place
    lies beside it, that is the part to test on.

    Raises:
        DataError: as `read_images`; images in colour are let through.
    """
    path = require_file(path)
    parts = _npz(path) if path.suffix == ".npz" or zipfile.is_zipfile(path) else _idx_parts(path)
    return {part: _checked(pixels, labels, path) for part, (pixels, labels) in parts.items()}


def not_grey(pixels: np.ndarray, path: str | Path, hint: str = "") -> DataError:
    """The error for an array that is not one of grey images."""
    return DataError(
        "not grey images",
        expected="bytes of shape (images, height, width)",
        got=f"{pixels.dtype} of shape {pixels.shape}",
        hint=hint,
        path=path,
    )


def one_channel(pixels: np.ndarray) -> np.ndarray:
    """Images without the axis that says that they are grey, where they have it."""
    return pixels[..., 0] if pixels.ndim == 4 and pixels.shape[-1] == 1 else pixels


def _checked(pixels: np.ndarray, labels: np.ndarray, path: Path) -> Raw:
    pixels = one_channel(pixels)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[-1] == 3)):
        raise not_grey(pixels, path)
    # MedMNIST has a class in a row of its own.
    if labels.size != len(pixels) or labels.dtype.kind not in "iu" or not pixels.size:
        raise DataError(
            "images and classes do not fit",
            expected=f"one whole number for each of {len(pixels)} images",
            got=f"{labels.dtype} of shape {labels.shape}",
            path=path,
        )
    return pixels, labels.reshape(-1).astype(np.int64)


def _npz(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    with open_arrays(path) as file:
        arrays = dict(file)
    found = {
        part: (arrays[images], arrays[labels])
        for part, pairs in _NPZ.items()
        for images, labels in reversed(pairs)  # where there are several the first counts
        if images in arrays and labels in arrays
    }
    if not found:
        expected = ", or ".join(" and ".join(pair) for pairs in _NPZ.values() for pair in pairs)
        raise DataError("no images in this npz file", expected=expected, got=", ".join(arrays), path=path)
    return found


def _idx_parts(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    parts = {"train": _idx_pair(path)}
    test = path.with_name(path.name.replace("train", "t10k"))
    if test != path and test.exists():
        parts["test"] = _idx_pair(test)
    return parts


def _idx_pair(path: Path) -> tuple[np.ndarray, np.ndarray]:
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1"))
    pixels = read_idx(path)
    if beside == path or not beside.exists():
        raise DataError(
            "no classes beside the images",
            expected="a name with images-idx3, and a file with labels-idx1 in its place",
            path=path,
        )
    return pixels, read_idx(beside)


def read_idx(path: Path) -> np.ndarray:
    """An array in the IDX format: two zeros, a type, a count of axes, their lengths, then the values.

    Raises:
        DataError: it is none, is not of bytes, or is cut short.
    """
    with open_bytes(path) as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 3 or len(content) < 4 + 4 * content[3]:
        raise DataError("not an IDX file of bytes", expected="an IDX or npz file", path=path)
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape))
    if values.size != math.prod(shape):
        raise DataError(
            "not the number of values that its header promises",
            expected=f"{math.prod(shape)}",
            got=f"{values.size}",
            hint="fetch the file again: it may be cut short",
            path=path,
        )
    return values.reshape(shape).copy()  # what lies in the bytes read cannot be written to, of which torch warns
