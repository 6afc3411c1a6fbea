import numpy as np
import pytest
import torch

from qkv.data import ImageBatches, Images
from qkv.errors import InputError

PIXELS = np.random.default_rng(0).integers(1, 256, (11, 3, 5), dtype=np.uint8)
IMAGES = Images(PIXELS, np.arange(11) % 3)


def test_an_epoch_has_every_image_once_and_its_order_is_a_function_of_seed_and_epoch():
    def order(seed, number):
        batches = list(ImageBatches(IMAGES, batch_size=4, seed=seed).epoch(number))
        assert [len(batch.label) for batch in batches] == [4, 4, 3]
        return torch.cat([batch.pixels[:, 0] for batch in batches]).mul(255).round()

    first = order(5, 2)
    assert sorted(first.tolist()) == sorted(PIXELS.tolist())
    assert torch.equal(first, order(5, 2))
    assert not torch.equal(first, order(5, 3))
    assert not torch.equal(first, order(6, 2))


def test_an_epoch_goes_on_from_a_batch():
    batches = ImageBatches(IMAGES, batch_size=4, seed=1, shift=2, mirror=True)
    whole, rest = list(batches.epoch(3)), list(batches.epoch(3, start=1))
    assert len(batches) == 3
    for one, again in zip(whole[1:], rest, strict=True):
        assert torch.equal(one.pixels, again.pixels)
        assert torch.equal(one.label, again.label)


def test_pixels_by_hand():
    two = Images(np.array([[[0, 10]], [[20, 5]]], dtype=np.uint8), np.arange(2), full=20)
    (batch,) = ImageBatches(two, batch_size=2, mean=0.5, deviation=0.25, shuffle=False).epoch(0)
    # 0, 1/2, 1, 1/4 of the brightest; less 1/2, in quarters.
    assert batch.pixels.tolist() == [[[[-2.0, 0.0]]], [[[2.0, -1.0]]]]
    assert batch.label.tolist() == [0, 1]
    assert (batch.weight, batch.tokens) == (2, 2)


def test_images_are_moved_and_mirrored_whole():
    padded = np.pad(PIXELS, ((0, 0), (2, 2), (2, 2)))
    seen = set()
    for number in range(40):
        batches = ImageBatches(IMAGES, batch_size=11, seed=7, shift=2, mirror=True, shuffle=False)
        (batch,) = batches.epoch(number)
        image = (255 * batch.pixels[4, 0]).round().numpy()
        found = [
            (down, right, turned)
            for down in range(5)
            for right in range(5)
            for turned in (False, True)
            if (padded[4, down : down + 3, right : right + 5][:, :: -1 if turned else 1] == image).all()
        ]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) > 20  # of 50


def test_batches_that_cannot_be():
    with pytest.raises(InputError, match="no image to make batches of"):
        ImageBatches(IMAGES.at(np.arange(0)), batch_size=4)
    with pytest.raises(InputError, match="batch_size has no room"):
        ImageBatches(IMAGES, batch_size=0)
