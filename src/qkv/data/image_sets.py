"""Sets of images as a network is trained on them: of one size, in three parts; and folders of pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64, UInt8

from qkv.data.images import PARTS, Images, not_grey, one_channel, raw_parts, read_idx
from qkv.errors import DataError, InputError
from qkv.files import open_arrays

LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue are beside each other (ITU-R BT.601)."""

_MOST_CLASSES = 1_000
_MOST_PIXELS = 50_000_000  # of one picture, as it would stand in memory
_FOLDERS = {"train": ("train",), "valid": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class ImageParts:
    """The parts that a set comes in, by `train`, `valid` and `test`, and what its classes are called where that is
    known."""

    parts: dict[str, Images]
    names: Sequence[str] | None


@dataclass(frozen=True)
class ImageSplit:
    """Images to train on, to choose by and to judge by.

    Attributes:
        names: of the classes.
        repeated: how many images to train on were left out, as they are in the other parts too.
    """

    train: Images
    valid: Images
    test: Images
    names: Sequence[str]
    repeated: int


@dataclass(frozen=True)
class Fitting:
    """What images must be like, and what becomes of those that are not.

    Attributes:
        size: their height and width.
        convert: bring others to this size and to greys instead of refusing them.
        say: is told what was brought.
    """

    size: int
    convert: bool
    say: Callable[[str], None]


def grey(pixels: UInt8[np.ndarray, "images height width 3"]) -> UInt8[np.ndarray, "images height width"]:
    """How bright colours are, `0.299 red + 0.587 green + 0.114 blue` (ITU-R BT.601).

    >>> grey(np.array([[[[255, 0, 0], [255, 255, 255]]]], dtype=np.uint8))
    array([[[ 76, 255]]], dtype=uint8)
    """
    return (pixels @ np.array(LUMA)).round().astype(np.uint8)


def resized(images: Images, size: int) -> Images:
    """Images brought to `size` by `size` pixels from 0 to 255: bilinear, and smoothed first where they shrink.

    >>> resized(Images(np.full((1, 2, 2), 16, dtype=np.uint8), np.zeros(1, dtype=np.int64), full=16), 3).pixels.max()
    np.uint8(255)
    """
    pixels = [
        F.interpolate(some[:, None].float() * (255 / images.full), (size, size), mode="bilinear", antialias=True)
        for some in torch.from_numpy(images.pixels).split(1_000)
    ]
    return Images(torch.cat(pixels)[:, 0].round().clamp(0, 255).byte().numpy(), images.labels)


def read_image_parts(path: str | Path, fitting: Fitting, names: Sequence[str] | None = None) -> ImageParts:
    """Reads a set of images: an npz or IDX file (see `raw_parts`), or a folder.

    A folder has a folder for each class, named as the class is; or folders `train`, `val` and `test`, any of them,
    that have those.

    Args:
        names: of the classes, where a file has none.

    Raises:
        DataError: files that cannot be read; images of another size or in colour, unless they are converted; classes
            that are not counted from 0.
        InputError: a folder of pictures, but pillow is not installed.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, fitting)
    parts = {part: _fitted(*raw, path, fitting) for part, raw in raw_parts(path).items()}
    labels = np.concatenate([images.labels for images in parts.values()])
    classes = len(names) if names else int(labels.max()) + 1
    if labels.min() < 0 or labels.max() >= min(classes, _MOST_CLASSES):
        raise DataError(
            "a class is out of range",
            expected=f"0 to {min(classes, _MOST_CLASSES) - 1}",
            got=str(labels.min() if labels.min() < 0 else labels.max()),
            path=path,
        )
    return ImageParts(parts, names)


def split_images(found: ImageParts, *, valid: float, test: float, seed: int) -> ImageSplit:
    """The parts of a set, those that it lacks drawn from its images to train on.

    No image to train on stands in another part: equal ones go together, and those in a given part are left out.

    Args:
        valid, test: the shares of the images to train on that are drawn for a part that is lacking.

    Raises:
        InputError: shares that leave nothing, or too few images.
    """
    lacking = {part: share for part, share in (("valid", valid), ("test", test)) if part not in found.parts}
    if any(not 0 < share < 1 for share in lacking.values()) or sum(lacking.values()) >= 1:
        raise InputError(
            "these shares cannot be drawn",
            expected="--valid-share and --test-share above 0, together below 1",
            got=", ".join(f"{part} {share}" for part, share in lacking.items()),
        )
    if "train" not in found.parts:
        raise InputError("there are no images to train on", expected="train_images and train_labels, or such a folder")
    whole, parts = found.parts["train"], {part: found.parts[part] for part in PARTS[1:] if part in found.parts}
    given = {image.tobytes() for images in parts.values() for image in images.pixels}
    free = np.flatnonzero([image.tobytes() not in given for image in whole.pixels])
    place, drawn = np.random.default_rng(seed).permutation(len(free)), 0
    size = whole.pixels[0].size
    _, group = np.unique(whole.pixels[free].reshape(len(free), size).view(f"V{size}")[:, 0], return_inverse=True)
    rank = place[group]  # of equal images the same
    for part, share in lacking.items():
        count = round(share * len(free))
        parts[part] = whole.at(free[(rank >= drawn) & (rank < drawn + count)])
        drawn += count
    train = whole.at(free[rank >= drawn])
    if not all(map(len, (train, *parts.values()))) or len(set(train.labels.tolist())) < 2:
        raise InputError(
            "too few images",
            expected="some for each part, and of two classes or more to train on",
            got=f"{len(whole)}, {', '.join(f'{len(one)} for {part}' for part, one in parts.items())}",
        )
    names = found.names or [
        str(number) for number in range(1 + max(int(images.labels.max()) for images in found.parts.values()))
    ]
    return ImageSplit(train, parts["valid"], parts["test"], names, len(whole) - len(free))


def read_pictures(path: str | Path, fitting: Fitting) -> tuple[list[str], UInt8[np.ndarray, "images height width"]]:
    """Images without classes, and what each is called: a picture, a folder of them, an IDX file, or an npz file.

    Raises:
        DataError, InputError: as `read_image_parts`.
    """
    path = Path(path)
    if path.is_dir():
        paths = _pictures_in(path, fitting.say, deep=True)
        return [str(one.relative_to(path)) for one in paths], _stacked(paths, fitting)
    if path.suffix == ".npz":
        with open_arrays(path) as file:
            arrays = dict(file)
        name = next((name for name in ("images", "test_images", "val_images", "train_images") if name in arrays), None)
        if name is None:
            raise DataError("no images in this npz file", expected="images", got=", ".join(arrays), path=path)
        pixels = one_channel(arrays[name])
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or not pixels.size:
            raise not_grey(pixels, path)
    elif "idx3" in path.name:
        pixels = read_idx(path)
    else:
        return [path.name], _stacked([path], fitting)
    return [str(number) for number in range(len(pixels))], _fit(pixels, path, fitting)


# -- the size and the colours that are wanted ------------------------------------------------------------------------


def _fitted(pixels: np.ndarray, labels: Int64[np.ndarray, " images"], path: Path, fitting: Fitting) -> Images:
    return Images(_fit(pixels, path, fitting), labels)


def _fit(pixels: np.ndarray, path: Path, fitting: Fitting) -> UInt8[np.ndarray, "images height width"]:
    """Images that are grey and of one size, or are made so where that is asked for."""
    size, coloured = fitting.size, pixels.ndim == 4
    height, width = pixels.shape[1:3]
    if not coloured and (height, width) == (size, size):
        return pixels
    told = f"{height} x {width}{' in colour' if coloured else ''}"
    if not fitting.convert:
        raise DataError(
            "images of another kind", expected=f"{size} x {size} in greys", got=told, hint="--convert", path=path
        )
    if len(pixels) > 1:  # of pictures the folder is told as one
        fitting.say(f"{path.name}: {len(pixels):,} images of {told} brought to {size} x {size} in greys")
    if coloured:
        pixels = grey(pixels)
    return resized(Images.unlabelled(pixels), size).pixels


# -- folders ---------------------------------------------------------------------------------------------------------


def _folder(path: Path, fitting: Fitting) -> ImageParts:
    folders = {part: path / name for part, names in _FOLDERS.items() for name in names if (path / name).is_dir()} or {
        "train": path
    }
    names = sorted({one.name for folder in folders.values() for one in _classes(folder)})
    parts = {}
    for part, folder in folders.items():
        paths = {one.name: _pictures_in(one, fitting.say) for one in _classes(folder)}
        labels = [names.index(name) for name, some in paths.items() for _ in some]
        if not labels:
            raise DataError("no pictures here", expected="a folder of pictures for each class", path=folder)
        parts[part] = Images(_stacked([one for some in paths.values() for one in some], fitting), np.array(labels))
    return ImageParts(parts, names)


def _classes(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))


def _pictures_in(folder: Path, say: Callable[[str], None], *, deep: bool = False) -> list[Path]:
    """The pictures of a folder, in the order of their names; says what else lies there."""
    known = _pillow().registered_extensions()
    seen = sorted(one for one in (folder.rglob("*") if deep else folder.iterdir()) if one.is_file())
    seen = [one for one in seen if not one.name.startswith(".")]
    pictures = [one for one in seen if one.suffix.lower() in known]
    if len(pictures) < len(seen):
        say(f"{folder}: passed over {len(seen) - len(pictures):,} files that are no pictures")
    if deep and not pictures:
        raise DataError("no pictures here", expected="files such as .png and .jpg", path=folder)
    return pictures


def _stacked(paths: Sequence[Path], fitting: Fitting) -> UInt8[np.ndarray, "images height width"]:
    raw = [_picture(path) for path in paths]
    fitted = [_fit(pixels[None], path, fitting) for path, pixels in zip(paths, raw, strict=True)]
    brought = sum(one.shape != (fitting.size, fitting.size) for one in raw)
    if brought:
        fitting.say(f"{brought:,} of {len(paths):,} pictures brought to {fitting.size} x {fitting.size} in greys")
    return np.concatenate(fitted)


def _picture(path: Path) -> UInt8[np.ndarray, "height width *colours"]:
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(
                    "a picture too large to be read",
                    expected=f"at most {_MOST_PIXELS:,} pixels",
                    got=f"{image.height:,} x {image.width:,}",
                    path=path,
                )
            if image.mode.startswith(("I", "F")):
                raise DataError("a picture of more than 8 bits a pixel", expected="8", got=image.mode, path=path)
            if image.has_transparency_data:  # laid on white paper
                image = image.convert("RGBA")
                return np.asarray(pillow.alpha_composite(pillow.new("RGBA", image.size, "white"), image).convert("RGB"))
            return np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB"))
    except FileNotFoundError as error:
        raise DataError("no such file", path=path) from error
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"a picture that cannot be read ({error})", hint="fetch it again", path=path) from error


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise InputError("this takes pillow, which is not installed", hint="pip install 'qkv[images]'") from error
    return Image
