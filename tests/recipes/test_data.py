"""Batches are a function of data, seed and epoch, whether images are in memory, a dataset or in files."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from onebit.recipes.data.augmentation import random_resized_crop
from onebit.recipes.data.datasets import DATASETS, default_augmentation, get_dataset, load_dataset
from onebit.recipes.data.images import as_images, batches, normalised
from onebit.recipes.data.tfds import decode_and_crop, load_arrays
from onebit.zoo import Preprocessing
from tests.helpers import shared
from tests.recipes.prepared import prepare


def numbered(count, size=1):
    """Return images that each hold their own number, and their numbers as labels."""
    labels = np.arange(count)
    return np.broadcast_to(labels[:, None, None, None], (count, size, size, 1)).astype(np.uint8), labels


def as_arrays(images, labels):
    return images, labels


def as_examples(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels))


def as_batches(images, labels):
    return as_examples(images, labels).batch(7)


@pytest.fixture(params=[as_arrays, as_examples, as_batches])
def read(request):
    """Read three epochs of numbered images in each form that data may have."""
    images = as_images(request.param(*numbered(50)))
    assert (images.count, images.shape, images.num_classes) == (50, (1, 1, 1), 50)

    def read(**arguments):
        settings = {"batch_size": 8, "epochs": 3, "seed": 5, **arguments}
        return [(x.numpy(), y.numpy()) for x, y in batches(images, **settings)]

    return read


def noise(images, seed):
    return tf.cast(images, tf.float32) + tf.random.stateless_uniform(tf.shape(images), seed)


def assert_same(some, others):
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_every_image_once_an_epoch_in_a_new_order(read):
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


def test_whole_batches_leave_nobody_out(read):
    labels = np.concatenate([y for _, y in read(batch_size=10, epochs=1)])
    assert sorted(labels) == list(range(50))


@pytest.mark.slow
def test_deterministic_under_a_seed(read):
    assert_same(read(augment=noise), read(augment=noise))
    first = [y for _, y in read()]
    for seed in (6, 0):
        assert not np.array_equal(first, [y for _, y in read(seed=seed)])


@pytest.mark.slow
def test_continued_at_an_epoch(read):
    assert_same(read(augment=noise)[6:], read(augment=noise, initial_epoch=1))
    assert_same(read(augment=noise)[12:], read(augment=noise, initial_epoch=2))


def test_every_batch_has_a_seed_of_its_own(read):
    seeds = []

    def remember(images, seed):
        return tf.zeros_like(images, tf.int64) + seed[1]

    for x, _ in read(augment=remember):
        seeds.append(x.flat[0])
    assert len(set(seeds)) == 18


def test_batch_larger_than_the_data(read):
    with pytest.raises(ValueError, match="batch_size=51 is larger than the training set of 50"):
        read(batch_size=51)


@pytest.mark.parametrize("form", [as_arrays, as_examples, as_batches])
def test_in_order_and_limited(form):
    """As a test set is read."""
    found = list(as_images(form(*numbered(50)), limit=20).in_order(8))
    np.testing.assert_array_equal(np.concatenate([y for _, y in found]), np.arange(20))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in found])[:, 0, 0, 0], np.arange(20))


def images(count=4, scale=100.0):
    return scale * np.arange(count * 12).reshape(count, 2, 2, 3) / (count * 12)


LABELS = np.arange(4)


@pytest.mark.parametrize(
    "data",
    [
        images(),
        (images(), LABELS, np.ones(4), LABELS),
        (images()[..., 0], LABELS),
        (images(), np.zeros((4, 10))),
        (images(), LABELS[:3]),
        (images(), LABELS - 1),
        (images(), LABELS, np.full(4, np.nan)),
        (images(), LABELS, np.ones(3)),
        (images(scale=1.0), LABELS),
        (images(scale=1.9).astype(np.uint8), LABELS),
        (images() - 50, LABELS),
        (images(scale=600), LABELS),
        (images() * np.nan, LABELS),
        tf.data.Dataset.range(3),
        tf.data.Dataset.from_tensors((images()[0], 0.5)),
        tf.data.Dataset.from_tensors((images()[0], 1)).take(0),
        tf.data.Dataset.from_tensors((images()[0], -1)),
        tf.data.Dataset.from_tensors((images()[0], [1, 2])),
        tf.data.Dataset.from_tensors((images()[0], 1, -1.0)),
        tf.data.Dataset.from_tensors((images(scale=1.0)[3], 1)),
    ],
)
def test_data_that_is_none(data):
    """Neither arrays nor a dataset, of other shapes, labels or weights, or of pixels that are not from 0 to 255."""
    with pytest.raises(ValueError):
        as_images(data)


@pytest.mark.parametrize("form", [as_arrays, as_examples, as_batches])
def test_labels_may_be_a_column(form):
    pictures, labels = numbered(50)
    column, row = as_images(form(pictures, labels[:, None])), as_images(form(pictures, labels))
    assert column.labels == row.labels == set(range(50))
    assert_same([(x.numpy(), y.numpy()) for x, y in column.in_order(8)], [(x, y) for x, y in row.in_order(8)])


@pytest.mark.parametrize("form", [as_arrays, as_examples, as_batches])
def test_weights_go_with_their_images(form):
    pictures, labels = numbered(50)
    data = (pictures, labels, labels / 2)
    if form is not as_arrays:
        data = form(pictures, labels).map(lambda image, label: (image, label, label / 2))
    for x, y, weights in batches(as_images(data), batch_size=8, epochs=2, augment=noise):
        np.testing.assert_array_equal(x.numpy()[:, 0, 0, 0] // 1, y)
        np.testing.assert_array_equal(weights, y / 2)
    assert all(len(batch) == 2 for batch in as_images(data).in_order(8))


@pytest.mark.parametrize("form", [as_arrays, as_examples])
def test_the_digest_tells_images_labels_and_weights_apart(form):
    pictures, labels = numbered(50)
    others = (pictures, labels), (pictures[::-1], labels), (pictures, labels[::-1])
    assert len({as_images(form(*other)).describe()["sha256"] for other in others}) == 3


def test_the_tuner_is_off(read):
    """It may hold up the end of an epoch for seconds."""
    data = as_images(numbered(50))
    for dataset in (data.in_order(8), batches(data, batch_size=8, epochs=1)):
        assert dataset.options().autotune.enabled is False


def test_a_limit_leaves_the_classes():
    """Of images sorted by class, the first few are all of one."""
    limited = as_images((np.zeros((9, 2, 2, 3)), np.repeat([0, 1, 2], 3)), limit=2)
    assert (limited.count, limited.num_classes, limited.labels) == (2, 3, {0, 1, 2})


def test_a_cut_is_the_part_resized():
    """From the top half of a picture that is red above and blue below, only red is left, from JPEG as from PNG."""
    picture = np.zeros((60, 40, 3), np.uint8)
    picture[:30, :, 0], picture[30:, :, 2] = 200, 200

    def top(pixels, size, seed):
        np.testing.assert_array_equal(pixels, [60, 40])
        return tf.constant([2, 1]), tf.constant([20, 38])

    for encode in (tf.io.encode_jpeg, tf.io.encode_png):
        image = decode_and_crop(encode(picture), top, (10, 12), tf.constant([0, 0], tf.int64)).numpy()
        assert (image.shape, image.dtype) == ((10, 12, 3), np.uint8)
        np.testing.assert_allclose(image, np.broadcast_to([200, 0, 0], image.shape), atol=12)


def test_an_image_of_the_size_is_kept_whole():
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        decode_and_crop(tf.io.encode_png(picture), random_resized_crop, (32, 32), tf.constant([1, 2])), picture
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_dataset(name, tmp_path):
    """Datasets that TFDS prepared, with the features, names and splits that theirs have: read, augmented, batched."""
    known = get_dataset(name)
    prepare(known, tmp_path)
    training, test = load_dataset(name, tmp_path)
    assert training.num_classes == known.num_classes
    assert training.shape == test.shape == known.image_shape
    settings = {"batch_size": 8, "epochs": 2, "augment": default_augmentation(name)}
    found = [(x.numpy(), y.numpy()) for x, y in batches(training, **settings)]
    assert len(found) == 2 * (training.count // 8)
    assert all(x.shape == (8, *known.image_shape) and x.dtype == np.float32 for x, _ in found)
    assert_same(found, [(x.numpy(), y.numpy()) for x, y in batches(training, **settings)])
    epochs = [np.concatenate([y for _, y in found[half:][: len(found) // 2]]) for half in (0, len(found) // 2)]
    assert not np.array_equal(*epochs), "each epoch has an order of its own"
    assert_same(
        found[len(found) // 2 :], [(x.numpy(), y.numpy()) for x, y in batches(training, initial_epoch=1, **settings)]
    )
    # The label is in the pixels, see `prepare`; shifts, cuts and JPEG leave most of them as they are.
    for x, y in found:
        np.testing.assert_allclose(np.median(x, axis=(1, 2, 3)), 20 * (y % 10), atol=3)
    assert sum(len(y) for _, y in test.in_order(7)) == test.count
    limited, _ = load_dataset(name, tmp_path, limit=10)
    assert limited.count == 10
    assert len(list(batches(limited, batch_size=5, epochs=1))) == 2


def labels_of(images):
    return np.concatenate([labels for _, labels in images.in_order(16)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar100", "imagenet32", "svhn"])
def test_validation_images_are_the_last_of_the_training_images(name, tmp_path):
    """In memory, streamed, and with a second split, of which none are taken."""
    prepare(get_dataset(name), tmp_path)
    _, test = load_dataset(name, tmp_path)
    training, validation, same_test = load_dataset(name, tmp_path, validation=7)
    first, *extra = (
        load_arrays(get_dataset(name).tfds, split, tmp_path)[1] for split in get_dataset(name).train.split("+")
    )
    np.testing.assert_array_equal(labels_of(validation), first[-7:])
    np.testing.assert_array_equal(np.sort(labels_of(training)), np.sort(np.concatenate([first[:-7], *extra])))
    np.testing.assert_array_equal(labels_of(same_test), labels_of(test))
    trained = np.concatenate([labels for _, labels in batches(training, batch_size=training.count, epochs=1)])
    np.testing.assert_array_equal(np.sort(trained), np.sort(labels_of(training)))
    with pytest.raises(ValueError, match=f"validation must be from 0 to 39, .* of {name}'s 'train', not 40"):
        load_dataset(name, tmp_path, validation=40)


def test_normalised():
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3)).astype(np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(4))).batch(2)
    prepare = Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    found = np.concatenate([x.numpy() for x, _ in normalised(dataset, prepare)])
    np.testing.assert_allclose(found, (images - np.array([1.0, 2.0, 3.0])) / [4.0, 5.0, 6.0], rtol=1e-6)
    np.testing.assert_allclose(found, prepare(images), rtol=1e-6)
    grey = dataset.map(lambda x, y: (x[..., :1], y))
    found = np.concatenate([x.numpy() for x, _ in normalised(grey, prepare)])
    np.testing.assert_allclose(found, (images[..., :1] - 2.0) / 5.0, rtol=1e-6)
    np.testing.assert_allclose(found, prepare(images[..., :1]), rtol=1e-6)
    raw = np.concatenate([x.numpy() for x, _ in normalised(dataset, Preprocessing())])
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, images)


def test_an_unknown_dataset_suggests_the_nearest(monkeypatch):
    def builder(name, **options):  # without the network, on which the real one looks for it
        raise tfds.core.DatasetNotFoundError(name)

    monkeypatch.setattr(tfds, "builder", builder)
    with pytest.raises(ValueError, match=r"no dataset 'cifar11'\. Did you mean .*'cifar10'"):
        load_arrays("cifar11", "test")


def test_load_arrays():
    images, labels = load_arrays("cifar10", "test[:20]", shared("tfds"))
    assert (images.shape, images.dtype) == ((20, 32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((20,), np.int64)


def test_load_arrays_of_the_first_images_only():
    some, all_of_them = (load_arrays("cifar10", "test[:40]", shared("tfds"), limit=limit) for limit in (7, None))
    for part, whole in zip(some, all_of_them, strict=True):
        np.testing.assert_array_equal(part, whole[:7])


def test_load_arrays_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'cifar10' is not prepared in .*tensorflow_datasets\.load"):
        load_arrays("cifar10", "test", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'imagenet2012' is not prepared .* downloads/manual"):
        load_dataset("imagenet2012", tmp_path)
