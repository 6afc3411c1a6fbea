"""What the recipe images reads, and which image falls to which part."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from pydantic import PositiveInt

from qkv.data import (
    SETS,
    Fitting,
    ImageParts,
    Images,
    ImageSplit,
    digits,
    find,
    read_image_parts,
    read_pictures,
    resized,
    split_images,
    verify,
)
from qkv.errors import DataError, InputError
from qkv.types import Config

DIGITS = "digits"
"""The embedded default: what scikit-learn carries."""

_JUDGED = ("test", "valid", "train")  # which part of other data scores are of: the first that is there


class ImageDataConfig(Config):
    """Which images are read, and how they are split."""

    data: str = DIGITS
    """Images with classes: `digits` (which scikit-learn carries), a named set such as `fashion-mnist`, an npz or IDX
    file, or a folder that has a folder of pictures for each class."""
    size: PositiveInt = 28
    """Height and width of the images."""
    convert: bool = False
    """Bring images of another size, or in colour, to this size and to greys instead of refusing them."""
    valid_share: float = 0.1
    """The share of the images kept from training to choose by, of data without such a part."""
    test_share: float = 0.1
    """The share kept from training to judge by, once; of data without such a part."""
    split_seed: int = 0
    """Another number draws other parts; runs can be compared only where it is the same."""


def parts(config: ImageDataConfig, say: Callable[[str], None]) -> ImageSplit:
    """The images of a named set, a file or a folder, or the embedded digits, split.

    Raises:
        DataError: images that cannot be read, or of another kind.
        InputError: too few of them, or classes to judge by that are none to train on.
    """
    split = split_images(
        read(config.data, config, say), valid=config.valid_share, test=config.test_share, seed=config.split_seed
    )
    known = set(split.train.labels.tolist())
    if absent := [name for label, name in enumerate(split.names) if label not in known]:
        raise InputError(
            f"{config.data}: {len(absent)} of {len(split.names)} classes have no image to train on",
            expected="some of each, and numbers of classes without gaps where they have no names",
            got=f"none of {', '.join(absent[:3])}" + (" and others" if len(absent) > 3 else ""),
        )
    if split.repeated:
        say(f"{config.data}: left out {split.repeated:,} images to train on that are in another part too")
    return split


def read(data: str, config: ImageDataConfig, say: Callable[[str], None]) -> ImageParts:
    """The images of a named set, a file or a folder, or the embedded digits, in the parts that they come in."""
    if data == DIGITS:
        say(f"digits: 8 x 8 pixels brought to {config.size} x {config.size} by bilinear interpolation")
        return ImageParts({"train": resized(digits(), config.size)}, [str(digit) for digit in range(10)])
    path = verify(data) if data in SETS else find(data)
    names = SETS[data].options.get("names") if data in SETS else None
    return read_image_parts(path, Fitting(config.size, config.convert, say), names)


def read_judged(
    data: str, config: ImageDataConfig, names: Sequence[str], say: Callable[[str], None]
) -> tuple[Images, str]:
    """The images of other data that a run with classes `names` is judged by: the test part where it has one, else the
    validation part, else all; and which of them.

    Raises:
        DataError: a class that the run does not know.
    """
    found = read(data, config, say)
    part = next(part for part in _JUDGED if part in found.parts)
    images = found.parts[part]
    # Where classes have no names their numbers are those of the run.
    theirs = found.names or [*names, *map(str, range(len(names), 1 + int(images.labels.max())))]
    if strange := [theirs[label] for label in np.unique(images.labels).tolist() if theirs[label] not in names]:
        raise DataError(
            f"unknown class {strange[0]}", expected=f"those that this run knows: {', '.join(names)}", path=data
        )
    place = {name: number for number, name in enumerate(names)}
    return replace(images, labels=np.array([place[theirs[int(label)]] for label in images.labels])), part


def read_unlabelled(data: str, config: ImageDataConfig, say: Callable[[str], None]) -> tuple[list[str], Images]:
    """The images of a file or a folder, whatever their classes are, and what each is called."""
    path = find(data)
    names, pixels = read_pictures(path, Fitting(config.size, config.convert, say))
    return names, Images.unlabelled(pixels)


def fingerprint(images: Images) -> str:
    """A short name for exactly these images in this order."""
    digest = hashlib.blake2b(images.pixels.tobytes(), digest_size=8)
    digest.update(images.labels.tobytes())
    return digest.hexdigest()
