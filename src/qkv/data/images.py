"""Images of classes: the digits that scikit-learn carries, and readers of IDX and npz files."""

import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from sklearn.datasets import load_digits

from qkv.errors import DataError
from qkv.files import open_bytes, require_file

_NPZ = (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels"))


@dataclass(frozen=True)
class Images:
    """Grey images of one size and the class of each; 0 is background, `full` the most that a pixel may be."""

    pixels: UInt8[np.ndarray, "images height width"]
    labels: Int64[np.ndarray, " images"]
    full: int = 255

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]


def digits() -> Images:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries (Alpaydin and Kaynak 1998).

    >>> digits().pixels.shape, digits().full
    ((1797, 8, 8), 16)
    """
    pixels, labels = load_digits(return_X_y=True)
    return Images(pixels.reshape(-1, 8, 8).astype(np.uint8), labels.astype(np.int64), full=16)


def read_images(path: str | Path) -> Images:
    """Reads grey images with their classes, plain or compressed with gzip or zstd.

    An IDX file (LeCun's layout of MNIST) whose name holds `images-idx3` brings its classes from the file beside it
    whose name has `labels-idx1` there. An npz file has `train_images` and `train_labels` (as MedMNIST names them),
    `x_train` and `y_train`, or `images` and `labels`.

    Raises:
        DataError: neither of them, cut short, images in colour, or not as many classes as images.
    """
    path = require_file(path)
    pixels, labels = _npz(path) if zipfile.is_zipfile(path) else _idx_pair(path)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise DataError(
            "not grey images",
            expected="bytes of shape (images, height, width)",
            got=f"{pixels.dtype} of shape {pixels.shape}",
            path=path,
        )
    # MedMNIST has a class in a row of its own.
    if labels.size != len(pixels) or labels.dtype.kind not in "iu" or not pixels.size:
        raise DataError(
            "images and classes do not fit",
            expected=f"one whole number for each of {len(pixels)} images",
            got=f"{labels.dtype} of shape {labels.shape}",
            path=path,
        )
    return Images(pixels, labels.reshape(-1).astype(np.int64))


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names: Mapping[str, np.ndarray] = arrays
            for images, labels in _NPZ:
                if images in names and labels in names:
                    return names[images], names[labels]
            got = ", ".join(names)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:  # objects, or damaged
        raise DataError(f"not an npz file of plain arrays ({error})", path=path) from error
    expected = ", or ".join(" and ".join(pair) for pair in _NPZ)
    raise DataError("no images in this npz file", expected=expected, got=got, path=path)


def _idx_pair(path: Path) -> tuple[np.ndarray, np.ndarray]:
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1"))
    pixels = _idx(path)
    if beside == path or not beside.exists():
        raise DataError(
            "no classes beside the images",
            expected="a name with images-idx3, and a file with labels-idx1 in its place",
            path=path,
        )
    return pixels, _idx(beside)


def _idx(path: Path) -> np.ndarray:
    """An array in the IDX format: two zeros, a type, a count of axes, their lengths, then the values."""
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
    return values.reshape(shape)
