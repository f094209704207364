"""Batches are a function of data, seed and epoch; augmentations do what their definitions say, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onebit.recipes.data import batches, cutout, load_arrays, normalised, random_crop, random_flip, random_pixel_values
from tests.conftest import shared

SEED = tf.constant([3, 4], tf.int64)


def numbered(count, size=1):
    """Return images that each hold their own number, and their numbers as labels."""
    labels = np.arange(count)
    return np.broadcast_to(labels[:, None, None, None], (count, size, size, 1)).astype(np.uint8), labels


def read(**arguments):
    images, labels = numbered(50)
    settings = {"batch_size": 8, "epochs": 3, "seed": 5, **arguments}
    return [(x.numpy(), y.numpy()) for x, y in batches(images, labels, **settings)]


def noise(images, seed):
    return tf.cast(images, tf.float32) + tf.random.stateless_uniform(tf.shape(images), seed)


def assert_same(some, others):
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_every_image_once_an_epoch_in_a_new_order():
    found = read()
    assert len(found) == 3 * (50 // 8)
    orders = []
    for epoch in range(3):
        labels = np.concatenate([y for _, y in found[6 * epoch : 6 * epoch + 6]])
        assert len(set(labels)) == 48
        orders.append(tuple(labels))
    assert len(set(orders)) == 3
    for x, y in found:
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x[:, 0, 0, 0], y)


def test_whole_batches_leave_nobody_out():
    labels = np.concatenate([y for _, y in read(batch_size=10, epochs=1)])
    assert sorted(labels) == list(range(50))


def test_deterministic_under_a_seed():
    assert_same(read(augment=noise), read(augment=noise))
    first = [y for _, y in read()]
    assert not np.array_equal(first, [y for _, y in read(seed=6)])


def test_continued_at_an_epoch():
    assert_same(read(augment=noise)[6:], read(augment=noise, initial_epoch=1))
    assert_same(read(augment=noise)[12:], read(augment=noise, initial_epoch=2))


def test_every_batch_has_a_seed_of_its_own():
    seeds = []

    def remember(images, seed):
        return tf.zeros_like(images, tf.int64) + seed[1]

    for x, _ in read(augment=remember):
        seeds.append(x.flat[0])
    assert len(set(seeds)) == 18


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="batch_size=51 is larger than the training set of 50"):
        read(batch_size=51)


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


def test_random_pixels():
    values = random_pixel_values(tf.constant([100, 100]), SEED, tf.uint8)
    assert values.dtype == tf.uint8
    counts = np.bincount(values.numpy().ravel(), minlength=256)
    assert counts.min() > 0
    assert counts.max() < 80


def test_normalised():
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3)).astype(np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(4))).batch(2)
    mean, std = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
    found = np.concatenate([x.numpy() for x, _ in normalised(dataset, mean, std)])
    np.testing.assert_allclose(found, (images - np.array(mean)) / std, rtol=1e-6)
    raw = np.concatenate([x.numpy() for x, _ in normalised(dataset, [0.0] * 3, [1.0] * 3)])
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, images)


def test_load_arrays():
    images, labels = load_arrays("cifar10", "test[:20]", shared("tfds"))
    assert (images.shape, images.dtype) == ((20, 32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((20,), np.int64)


def test_load_arrays_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'cifar10' is not prepared in .*tensorflow_datasets\.load"):
        load_arrays("cifar10", "test", tmp_path)
