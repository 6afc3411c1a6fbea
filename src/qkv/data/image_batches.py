"""Batches of images, in an order that seed and epoch decide, moved and mirrored as they are drawn."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from qkv.data.images import Images
from qkv.errors import InputError
from qkv.types import ImageBatch


class ImageBatches:
    """Cuts images into batches; pixels are from 0 to 1, less `mean`, over `deviation`.

    Args:
        batch_size: how many images go into a batch; the last of an epoch may have fewer.
        seed: with the number of the epoch, all that is drawn depends on.
        mean, deviation: of pixels from 0 to 1.
        shift: each image is moved by up to so many pixels, up or down and to a side; background comes in.
        mirror: half of the images change left and right.
        shuffle: False keeps one order.

    Raises:
        InputError: there is no image, or no room in a batch.

    >>> three = Images(np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.arange(3))
    >>> [batch.label.tolist() for batch in ImageBatches(three, batch_size=2, seed=1).epoch(0)]
    [[0, 1], [2]]
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        seed: int = 0,
        mean: float = 0.0,
        deviation: float = 1.0,
        shift: int = 0,
        mirror: bool = False,
        shuffle: bool = True,
    ):
        if not len(images) or batch_size < 1:
            raise InputError("no image to make batches of" if not len(images) else "batch_size has no room")
        self.batch_size, self.seed, self.shuffle, self.shift, self.mirror = batch_size, seed, shuffle, shift, mirror
        self.mean, self.scale = mean, 1 / deviation
        self._step = self.scale / images.full  # of one step of brightness
        self._size = images.size
        around = ((0, 0), (shift, shift), (shift, shift))
        self._pixels = torch.from_numpy(np.pad(images.pixels, around) if shift else images.pixels)
        self._labels = torch.from_numpy(images.labels)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._labels) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[ImageBatch]:
        """The batches of an epoch, from batch `start` on."""
        count = len(self._labels)
        drawn = np.random.default_rng((self.seed, number))
        order = torch.from_numpy(drawn.permutation(count) if self.shuffle else np.arange(count))
        moves = torch.from_numpy(drawn.integers(0, 2 * self.shift, size=(2, count), endpoint=True))
        mirrored = torch.from_numpy(drawn.random(count) < 0.5) if self.mirror else None
        for begin in range(start * self.batch_size, count, self.batch_size):
            place = slice(begin, begin + self.batch_size)
            turned = None if mirrored is None else mirrored[place]
            yield self._batch(order[place], moves[:, place], turned)

    def _batch(
        self, index: Int64[Tensor, " batch"], moves: Int64[Tensor, "2 batch"], mirrored: Tensor | None
    ) -> ImageBatch:
        if self.shift:
            height, width = self._size
            row, column = (
                move[:, None] + torch.arange(length) for move, length in zip(moves, (height, width), strict=True)
            )
            pixels = self._pixels[index[:, None, None], row[:, :, None], column[:, None, :]]
        else:
            pixels = self._pixels[index]
        if mirrored is not None:
            pixels = torch.where(mirrored[:, None, None], pixels.flip(-1), pixels)
        return ImageBatch((pixels * self._step - self.mean * self.scale)[:, None], self._labels[index])
