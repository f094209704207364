"""Training data: labelled images in memory or streamed from files, in batches.

What a batch holds depends on nothing but the data, the run's seed and the batch's number. So a run is deterministic,
and one that is continued at an epoch sees what it would have seen.
"""

from __future__ import annotations

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Set
from typing import Any

import numpy as np
import tensorflow as tf

from ...zoo.images.images import Preprocessing
from .augmentation import Augmentation, Crop, center_crop, random_resized_crop
from .order import epoch_order

BUFFER, BUFFER_BYTES = 4096, 2**28
"""Streamed images are shuffled in blocks of at most this many images, and, where they are decoded already, of at most
this many bytes: 440 images of 224 pixels in float32."""


PARALLEL_CALLS = min(os.cpu_count() or 1, 16)
"""How many streamed images are decoded at a time."""


class Images(ABC):
    """Labelled images of one size.

    Attributes:
        count: The number of images.
        shape: (height, width, channels) of what the network gets.
        num_classes: Labels are integers from 0 to this - 1.
        labels: The labels that occur, where that is known.
        sha256: The digest of images, labels and weights, where that is known.
        encoded: Whether they are files of any size, which a `Crop` is applied to.
    """

    labels: Set[int] | None = None
    sha256: str | None = None
    encoded = False

    def __init__(self, count: int, shape: tuple[int, ...], num_classes: int) -> None:
        self.count, self.shape, self.num_classes = count, shape, num_classes

    def describe(self) -> dict[str, Any]:
        """Return what tells these images from others, as JSON can hold it."""
        known = {"count": self.count, "shape": list(self.shape), "num_classes": self.num_classes}
        return known if self.sha256 is None else {**known, "sha256": self.sha256}

    @abstractmethod
    def shuffled(self, batch_size: int, seed: int, epoch: tf.Tensor, crop: Crop) -> tf.data.Dataset:
        """Return an epoch's whole batches (images, labels) in an order of its own; a partial one is left out.

        Where images have weights, they are the third part of a batch.
        """

    @abstractmethod
    def in_order(self, batch_size: int, crop: Crop = center_crop) -> tf.data.Dataset:
        """Return all images in batches (images, labels), as for a test."""


class ArrayImages(Images):
    """Images in memory.

    Args:
        images: (n, height, width, channels), pixels from 0 to 255.
        labels: (n,) or (n, 1), integers.
        num_classes: One more than the largest label by default.
        weights: (n,), what each image's loss is multiplied by in training.

    Raises:
        ValueError: The arrays are not as described.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        num_classes: int | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim != 4 or images.dtype.kind not in "uif":
            raise ValueError(
                f"images must be numbers of shape (n, height, width, channels), not {images.dtype} {images.shape}."
            )
        if labels.shape == (len(images), 1):
            labels = labels[:, 0]
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "ui":
            raise ValueError(
                f"labels must be integers of shape ({len(images)},), one for each image, not {labels.dtype} "
                f"{labels.shape}."
            )
        if not len(labels) or labels.min() < 0:
            raise ValueError("labels must be at least one, and from 0 on.")
        _check_pixels(images.min(), images.max())
        super().__init__(len(images), images.shape[1:], num_classes or int(labels.max()) + 1)
        parts = [images, labels.astype(np.int64)]
        if weights is not None:
            weights = np.asarray(weights, np.float32)
            _check_weights(weights, len(images))
            parts.append(weights)
        self._parts = tuple(map(tf.constant, parts))
        self.labels = frozenset(np.unique(labels).tolist())
        digest = hashlib.sha256()
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        self.sha256 = digest.hexdigest()

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Images, labels and, where there are any, weights."""
        return tuple(part.numpy() for part in self._parts)

    def shuffled(self, batch_size: int, seed: int, epoch: tf.Tensor, crop: Crop) -> tf.data.Dataset:
        steps = self.count // batch_size
        order = tf.numpy_function(lambda number: epoch_order(self.count, seed, int(number)), [epoch], tf.int32)
        order = tf.reshape(order[: steps * batch_size], [steps, batch_size])
        return tf.data.Dataset.from_tensor_slices(order).map(
            lambda chosen: tuple(tf.gather(part, chosen) for part in self._parts)
        )

    def in_order(self, batch_size: int, crop: Crop = center_crop) -> tf.data.Dataset:
        return _untuned(tf.data.Dataset.from_tensor_slices(self._parts[:2]).batch(batch_size))


class StreamedImages(Images):
    """Images that are read as they are needed.

    Args:
        examples: Called with the seed (2,) of an epoch's order, or with ``None`` for the files' own; returns examples,
            which are shuffled further here. Without randomness but the seed's.
        decode: Maps an example, a `Crop` and a seed (2,) to its (image, label), and its weight where it has one.
        count, shape, num_classes: See `Images`.
        example_bytes: How large an example is, if that is known.
    """

    def __init__(
        self,
        examples: Callable[[tf.Tensor | None], tf.data.Dataset],
        decode: Callable[[Any, Crop, tf.Tensor], tuple[tf.Tensor, ...]],
        count: int,
        shape: tuple[int, ...],
        num_classes: int,
        example_bytes: int = 1,
    ) -> None:
        super().__init__(count, shape, num_classes)
        self._examples, self._decode = examples, decode
        self._block = max(1, min(BUFFER, BUFFER_BYTES // example_bytes))

    def shuffled(self, batch_size: int, seed: int, epoch: tf.Tensor, crop: Crop) -> tf.data.Dataset:
        order = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])

        def mixed(number: tf.Tensor, block: Any) -> tf.data.Dataset:
            length = tf.shape(tf.nest.flatten(block)[0])[0]
            places = tf.random.experimental.stateless_shuffle(tf.range(length), order + tf.stack([1 + number, 0]))
            gathered = tf.nest.map_structure(lambda part: tf.gather(part, places), block)
            return tf.data.Dataset.from_tensor_slices(gathered)

        # Dataset.shuffle would mix TensorFlow's global seed in.
        examples = self._examples(order).batch(self._block).enumerate().flat_map(mixed)

        def decode(place: tf.Tensor, example: Any) -> tuple[tf.Tensor, ...]:
            return self._decode(example, crop, order + tf.stack([tf.zeros_like(place), (1 + place) * 2**32]))

        decoded = examples.enumerate().map(decode, num_parallel_calls=PARALLEL_CALLS, deterministic=True)
        return decoded.batch(batch_size, drop_remainder=True)

    def in_order(self, batch_size: int, crop: Crop = center_crop) -> tf.data.Dataset:
        seed = tf.constant([0, 0], tf.int64)
        examples = self._examples(None).map(
            lambda *example: self._decode(example if len(example) > 1 else example[0], crop, seed)[:2],
            num_parallel_calls=PARALLEL_CALLS,
            deterministic=True,
        )
        return _untuned(examples.batch(batch_size))


def as_images(data: Any, limit: int | None = None) -> Images:
    """Return arrays (images, labels), or a ``tf.data.Dataset`` of such pairs or batches of them, as `Images`.

    A third part are weights, by which the loss of each image is multiplied in training. A dataset is read once to count
    it, and then once an epoch. It must give the same images in the same order whenever it is read: without a shuffle of
    its own.

    Args:
        data: Pixels from 0 to 255, integer labels (n,) or (n, 1), and weights (n,) where there are any.
        limit: The first so many images only.

    Raises:
        ValueError: It is neither, or holds no labelled images of one size, or their pixels are of another range.
    """
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data, limit)
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        images, labels = map(np.asarray, data[:2])
        weights = np.asarray(data[2]) if len(data) > 2 else None
        whole = ArrayImages(images, labels, weights=weights)
        if limit is None:
            return whole
        # As many classes as all of them have.
        some = None if weights is None else weights[:limit]
        limited = ArrayImages(images[:limit], labels[:limit], whole.num_classes, some)
        limited.labels = whole.labels
        return limited
    raise ValueError(f"data must be (images, labels) or a tf.data.Dataset of such, not {type(data).__name__}.")


def _from_dataset(dataset: tf.data.Dataset, limit: int | None) -> Images:
    spec = dataset.element_spec
    if not (isinstance(spec, tuple) and len(spec) in (2, 3) and spec[0].shape.rank in (3, 4)):
        raise ValueError(f"The elements of a dataset must be pairs (image, label), or batches of such, not {spec}.")
    if spec[0].shape.rank == 4:
        dataset = dataset.unbatch()
    dataset = dataset.take(limit or -1)
    image, label, *_ = dataset.element_spec
    shape = tuple(image.shape)
    if None in shape or label.shape not in ((), (1,)) or not label.dtype.is_integer:
        raise ValueError(
            "The images of a dataset must all have one known size, and its labels must be integers, but an element is "
            f"{dataset.element_spec}."
        )
    count, labels, digest = 0, set(), hashlib.sha256()
    smallest, largest = np.inf, -np.inf
    for parts in dataset.batch(64).prefetch(1).as_numpy_iterator():
        count += len(parts[0])
        labels |= set(np.unique(parts[1]).tolist())
        smallest, largest = np.minimum(smallest, parts[0].min()), np.maximum(largest, parts[0].max())
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        if len(parts) > 2:
            _check_weights(parts[2], len(parts[0]))
    if not count:
        raise ValueError("The dataset is empty.")
    if min(labels) < 0:
        raise ValueError(f"The labels of a dataset must be from 0 on, but one is {min(labels)}.")
    _check_pixels(smallest, largest)

    def decode(example: Any, crop: Crop, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image, label, *weight = example
        return image, tf.reshape(tf.cast(label, tf.int64), []), *(tf.cast(each, tf.float32) for each in weight)

    found = StreamedImages(
        lambda order: dataset, decode, count, shape, max(labels) + 1, math.prod(shape) * image.dtype.size
    )
    found.labels, found.sha256 = labels, digest.hexdigest()
    return found


def _check_pixels(smallest: float, largest: float) -> None:
    """Raise `ValueError` unless these are the extremes of pixels from 0 to 255."""
    if not (smallest >= 0 and largest <= 255) or 0 < largest <= 1:
        raise ValueError(
            f"The pixels of the images must be from 0 to 255, not from {smallest:g} to {largest:g}: the network's "
            "preprocessing is applied to them."
        )


def _check_weights(weights: np.ndarray, count: int) -> None:
    if weights.shape != (count,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"The weights of images must be {count} numbers from 0 on, one for each image.")


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Switch TensorFlow's tuner off, which may hold up the end of an epoch until it wakes up, seconds later."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def batches(
    images: Images,
    *,
    batch_size: int,
    epochs: int,
    initial_epoch: int = 0,
    seed: int = 0,
    augment: Augmentation | None = None,
    crop: Crop = random_resized_crop,
) -> tf.data.Dataset:
    """Return augmented training batches of the epochs ``initial_epoch`` to ``epochs``, shuffled anew in each.

    Args:
        images: What to train on.
        batch_size: Images in a batch; a partial batch at an epoch's end is dropped.
        epochs, initial_epoch: The range of epochs, counted from 0.
        seed: Decides the order and every augmentation.
        augment: Called with a batch and its seed; returns the batch to train on.
        crop: What to show of images that differ in size.

    Returns:
        Batches (float32 images, labels), and weights where the images have some; ``images.count // batch_size`` for
        each epoch.
    """
    steps = images.count // batch_size
    if not steps:
        raise ValueError(f"batch_size={batch_size} is larger than the training set of {images.count} images.")

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        return images.shuffled(batch_size, seed, epoch, crop).enumerate(epoch * steps)

    def augmented(number: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        pixels, *rest = batch
        if augment is not None:
            # The shuffle's seeds are (seed, epoch); the negative keeps the two families of seeds apart.
            pixels = augment(pixels, tf.stack([tf.cast(seed, tf.int64), -1 - number]))
        return tf.cast(pixels, tf.float32), *rest

    numbers = tf.data.Dataset.range(initial_epoch, epochs).flat_map(of_epoch)
    return _untuned(numbers.map(augmented, num_parallel_calls=2, deterministic=True).prefetch(2))


def normalised(dataset: tf.data.Dataset, preprocessing: Preprocessing) -> tf.data.Dataset:
    """Map the images of a dataset of (images, labels, ...) to float32, as a preprocessing says."""
    return dataset.map(lambda images, *rest: (preprocessing(images), *rest), num_parallel_calls=2, deterministic=True)
