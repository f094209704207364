"""Augmentations do what their definitions say, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit.recipes.data.augmentation import (
    center_crop,
    colour_jitter,
    cutout,
    lighting,
    random_crop,
    random_flip,
    random_resized_crop,
    resize_random_crop,
    scale_jitter_crop,
)

SEED = tf.constant([3, 4], tf.int64)


def test_flip():
    images = np.random.default_rng(0).integers(0, 256, (400, 5, 6, 3)).astype(np.uint8)
    flipped = random_flip(tf.constant(images), SEED).numpy()
    mirrored = [np.array_equal(f, i[:, ::-1]) for f, i in zip(flipped, images, strict=True)]
    same = [np.array_equal(f, i) for f, i in zip(flipped, images, strict=True)]
    assert np.all(np.array(mirrored) ^ np.array(same))
    assert 160 < sum(mirrored) < 240  # four deviations around 200
    np.testing.assert_array_equal(flipped, random_flip(tf.constant(images), SEED))


@pytest.mark.parametrize("random_pixels", [False, True])
@pytest.mark.parametrize("padding", [2, 4])
def test_crop(padding, random_pixels):
    count, height, width = 1200, 8, 10
    inside = 1000 + np.arange(height * width).reshape(height, width)  # no random pixel is so bright
    images = np.broadcast_to(inside[None, :, :, None], (count, height, width, 2)).astype(np.int32)
    shifted = random_crop(tf.constant(images), SEED, padding, random_pixels).numpy()
    assert shifted.shape == images.shape
    padded = np.full((height + 2 * padding, width + 2 * padding), -1)
    padded[padding : padding + height, padding : padding + width] = inside
    offsets, fills = [], []
    for image in shifted:
        row, column = np.argwhere(image[..., 0] >= 1000)[0]
        number = image[row, column, 0] - 1000
        top, left = padding + number // width - row, padding + number % width - column
        window = padded[top : top + height, left : left + width]
        original = window >= 0
        np.testing.assert_array_equal(image[original], np.stack([window[original]] * 2, axis=-1))
        offsets.append((top, left))
        fills.append(image[~original].ravel())
    counts = np.zeros((2 * padding + 1,) * 2)
    np.add.at(counts, tuple(np.transpose(offsets)), 1)
    expected = count / counts.size
    assert abs(counts - expected).max() < 5 * expected**0.5, "every shift is equally likely"
    fills = np.concatenate(fills)
    if random_pixels:
        assert set(np.unique(fills)) == set(range(256))
        assert abs(fills.mean() - 127.5) < 3
    else:
        assert not fills.any()


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 18), (9, 12, 4), (6, 6, 20)])
def test_cutout(height, width, size):
    count = 1500
    images = np.full((count, height, width, 3), -1, np.int32)
    cut = cutout(tf.constant(images), SEED, size).numpy()
    changed = cut >= 0
    assert (changed == changed[..., :1]).all(), "all channels alike"
    changed = changed[..., 0]
    corners = []
    for mask in changed:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert len(rows) > 0, "at least one pixel is covered"
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "a rectangle"
        assert mask.sum() == len(rows) * len(columns)
        corner = []
        for covered, length in ((rows, height), (columns, width)):
            # Shorter than `size` only where the border clips the patch.
            assert len(covered) == size or covered[0] == 0 or covered[-1] == length - 1
            assert len(covered) <= size
            clipped_start = covered[0] == 0 and covered[-1] < length - 1
            corner.append(covered[-1] + 1 - size if clipped_start else covered[0])
        corners.append(corner)
    if size < min(height, width):
        # Corners from 1 - size to length - 1, equally likely, so each row's chance of the first position is the same.
        for axis, length in ((0, height), (1, width)):
            positions = np.array(corners)[:, axis]
            assert (positions.min(), positions.max()) == (1 - size, length - 1)
            counts = np.bincount(positions + size - 1, minlength=length + size - 1)
            expected = count / (length + size - 1)
            assert abs(counts - expected).max() < 5 * expected**0.5
    values = cut[cut >= 0]
    assert set(np.unique(values)) == set(range(256))
    assert abs(values.mean() - 127.5) < 1


def test_lighting_is_next_to_nothing():
    """The official code on 8-bit pixels: truncation leaves 0 or -1 for each channel of an image."""
    images = np.random.default_rng(0).integers(1, 256, (300, 4, 5, 3)).astype(np.uint8)
    change = lighting(tf.constant(images), SEED).numpy().astype(int) - images
    assert (change == change[:, :1, :1]).all(), "one offset for all pixels of an image"
    assert set(np.unique(change)) == {-1, 0}
    assert 0.3 < (change[:, 0, 0] == -1).mean() < 0.7
    assert not lighting(tf.zeros([50, 2, 2, 3], tf.uint8), SEED).numpy().any(), "what is black stays black"


class TestColourJitter:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3)).astype(np.uint8)

    def jitter(self, **strengths):
        none = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
        return colour_jitter(tf.constant(self.images), SEED, **{**none, **strengths}).numpy().astype(int)

    def test_nothing_changes_nothing(self):
        np.testing.assert_allclose(self.jitter(), self.images, atol=1)

    def test_brightness_is_a_factor(self):
        dark = self.images // 2
        ratio = colour_jitter(tf.constant(dark), SEED, 0.2, 0.0, 0.0, 0.0).numpy().sum((1, 2, 3)) / dark.sum((1, 2, 3))
        assert 0.79 < ratio.min() < 0.85
        assert 1.15 < ratio.max() < 1.21

    def test_contrast_keeps_the_mean_grey(self):
        soft = (self.images // 4 + 96).astype(np.uint8)  # so that nothing is cut off
        changed = colour_jitter(tf.constant(soft), SEED, 0.0, 0.2, 0.0, 0.0).numpy()
        weights = np.array([0.2989, 0.587, 0.114])
        np.testing.assert_allclose((changed @ weights).mean((1, 2)), (soft @ weights).mean((1, 2)), atol=0.3)
        spread = changed.std((1, 2, 3)) / soft.std((1, 2, 3))
        assert spread.min() < 0.85
        assert spread.max() > 1.15

    def test_saturation_and_hue_leave_grey_as_it_is(self):
        grey = np.repeat(self.images[..., :1], 3, axis=-1)
        np.testing.assert_allclose(colour_jitter(tf.constant(grey), SEED, 0.0, 0.0, 0.2, 0.1), grey, atol=1)

    def test_saturation_is_the_distance_from_grey(self):
        soft = (self.images // 4 + 96).astype(np.float64)  # so that nothing is cut off
        changed = colour_jitter(tf.constant(soft.astype(np.uint8)), SEED, 0.0, 0.0, 0.2, 0.0).numpy()
        weights = np.array([0.2989, 0.587, 0.114])
        spread = [np.abs(each - (each @ weights)[..., None]).mean((1, 2, 3)) for each in (changed, soft)]
        ratio = spread[0] / spread[1]
        assert 0.78 < ratio.min() < 0.85
        assert 1.15 < ratio.max() < 1.22

    def test_hue_turns_by_a_tenth_at_most(self):
        red = np.zeros_like(self.images) + np.array([200, 40, 40], np.uint8)
        changed = colour_jitter(tf.constant(red), SEED, 0.0, 0.0, 0.0, 0.1).numpy()[:, 0, 0].astype(float)
        # From red towards yellow green grows, towards magenta blue: by 160 for a sixth of the circle.
        turned = (changed[:, 1] - changed[:, 2]) / 160 / 6
        assert -0.105 < turned.min() < -0.08 and 0.08 < turned.max() < 0.105


@pytest.mark.parametrize("pixels", [(300, 500), (500, 300), (256, 256), (40, 90), (3, 2)])
class TestCrops:
    size = (224, 224)

    def boxes(self, crop, pixels, count=400):
        draw = tf.function(lambda i: crop(tf.constant(pixels), self.size, tf.stack([tf.constant(7, tf.int64), i])))
        boxes = np.array([np.concatenate(draw(tf.constant(i, tf.int64))) for i in range(count)])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] >= 1).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= pixels).all()
        return boxes

    rng = np.random.default_rng(0)

    def torchvision(self, pixels):
        """Return the share of the area by the rule of `RandomResizedCrop.get_params`, a central square at last."""
        for _ in range(10):
            area = np.prod(pixels) * self.rng.uniform(0.08, 1.0)
            ratio = np.exp(self.rng.uniform(np.log(3 / 4), np.log(4 / 3)))
            width, height = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if 0 < width <= pixels[1] and 0 < height <= pixels[0]:
                return width * height / np.prod(pixels)
        return min(pixels) ** 2 / np.prod(pixels)

    def test_random_resized_crop(self, pixels):
        height, width = self.boxes(random_resized_crop, pixels).T[2:]
        areas = height * width / np.prod(pixels)
        assert areas.max() <= 1
        if min(pixels) > 30:
            assert 0.07 < areas.min() < 0.15
            assert areas.mean() == pytest.approx(np.mean([self.torchvision(pixels) for _ in range(4000)]), abs=0.04)
            assert (width / height > 0.72).all()
            assert (width / height < 1.4).all()

    def test_scale_jitter_crop(self, pixels):
        height, width = self.boxes(scale_jitter_crop, pixels).T[2:]
        np.testing.assert_array_equal(height, width)
        share = height / min(pixels)
        if min(pixels) > 30:
            assert share.min() == pytest.approx(224 / 480, abs=0.03)
            assert share.max() == pytest.approx(224 / 256, abs=0.03)

    def test_resize_random_crop(self, pixels):
        top, left, height, width = self.boxes(resize_random_crop, pixels).T
        assert set(height) == set(width) == {max(1, round(min(pixels) * 224 / 256))}
        if min(pixels) > 30:
            for start, room in ((top, pixels[0] - height[0]), (left, pixels[1] - width[0])):
                assert start.min() <= 0.03 * room
                assert start.max() >= 0.97 * room

    def test_center_crop(self, pixels):
        (top, left, height, width), *others = self.boxes(center_crop, pixels, 2)
        assert (others[0] == [top, left, height, width]).all()
        assert height == width
        assert abs(2 * top + height - pixels[0]) <= 1
        assert abs(2 * left + width - pixels[1]) <= 1
