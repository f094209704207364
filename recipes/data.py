"""Training data: images in memory, and the papers' augmentations as TensorFlow graph code.

Every random choice comes from a stateless generator, seeded by the run's seed and the number of the epoch or batch. So
a run is deterministic, and one that is continued at an epoch sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def load_arrays(dataset: str, split: str, data_dir: str | Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (n, height, width, channels), uint8, and labels (n,), int64, of a TensorFlow dataset.

    Args:
        dataset: A name that `tensorflow_datasets` knows, such as ``"cifar10"``.
        split: ``"train"``, ``"test"`` or any TFDS split expression.
        data_dir: Where the prepared dataset lies; TFDS' default if ``None``. Nothing is downloaded.

    Raises:
        FileNotFoundError: The dataset is not there; the message says how to get it.
    """
    import tensorflow_datasets as tfds

    try:
        images, labels = tfds.load(
            dataset, split=split, data_dir=data_dir, batch_size=-1, as_supervised=True, download=False
        )
    except (AssertionError, FileNotFoundError) as error:
        place = data_dir or "TFDS' default folder"
        prepare = f'tensorflow_datasets.load("{dataset}", data_dir={str(data_dir) if data_dir else None!r})'
        raise FileNotFoundError(
            f"The dataset {dataset!r} is not prepared in {place}. With a network, {prepare} downloads and prepares it."
        ) from error
    return images.numpy(), labels.numpy()


def batches(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    epochs: int,
    initial_epoch: int = 0,
    seed: int = 0,
    augment: Augmentation | None = None,
) -> tf.data.Dataset:
    """Return augmented training batches of the epochs ``initial_epoch`` to ``epochs``, shuffled anew in each.

    Args:
        images: (n, height, width, channels), uint8, small enough for memory.
        labels: (n,), integers.
        batch_size: Images in a batch; a partial batch at an epoch's end is dropped.
        epochs, initial_epoch: The range of epochs, counted from 0.
        seed: Decides the order and every augmentation.
        augment: Called with a batch (uint8) and a seed of shape (2,); returns the batch to train on.

    Returns:
        Batches (float32 images, labels), ``n // batch_size`` for each epoch.
    """
    steps = len(images) // batch_size
    if not steps:
        raise ValueError(f"batch_size={batch_size} is larger than the training set of {len(images)} images.")

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(images)), seed=[seed, epoch])
        order = tf.reshape(order[: steps * batch_size], [steps, batch_size])
        numbers = epoch * steps + tf.range(steps, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((numbers, order))

    x, y = tf.constant(images), tf.constant(labels)

    def batch(number: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        picked = tf.gather(x, chosen)
        if augment is not None:
            # The shuffle's seeds are (seed, epoch); the negative keeps the two families of seeds apart.
            picked = augment(picked, tf.stack([tf.cast(seed, tf.int64), -1 - number]))
        return tf.cast(picked, tf.float32), tf.gather(y, chosen)

    numbers = tf.data.Dataset.range(initial_epoch, epochs).flat_map(epoch_batches)
    return numbers.map(batch, num_parallel_calls=2, deterministic=True).prefetch(2)


def random_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror each image of a batch left to right with probability 1/2."""
    flip = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < 0.5
    return tf.where(flip, images[:, :, ::-1], images)


def random_crop(images: tf.Tensor, seed: tf.Tensor, padding: int = 4, random_pixels: bool = False) -> tf.Tensor:
    """Shift each image of a batch by up to ``padding`` pixels in each direction, all shifts equally likely.

    What comes in at the edges is 0, or, with ``random_pixels``, uniform random values from 0 to 255 (McDonnell).
    """
    shape = tf.shape(images)
    n, height, width = shape[0], shape[1], shape[2]
    edges = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    padded = tf.pad(images, edges)
    if random_pixels:
        inside = tf.pad(tf.ones_like(images[:1, :, :, :1], tf.bool), edges)
        padded = tf.where(inside, padded, random_pixel_values(tf.shape(padded), seed + [1, 0], images.dtype))
    offsets = tf.random.stateless_uniform([2, n, 1], seed, 0, 2 * padding + 1, tf.int32)
    rows = tf.gather(padded, offsets[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, offsets[1] + tf.range(width), axis=2, batch_dims=1)


def cutout(images: tf.Tensor, seed: tf.Tensor, size: int = 18) -> tf.Tensor:
    """Overwrite a ``size`` x ``size`` patch of each image with uniform random values from 0 to 255.

    The patch's corner is uniform over all positions where it covers at least one pixel (McDonnell, section 3.2).
    """
    shape = tf.shape(images)
    corner = [
        tf.random.stateless_uniform([shape[0], 1], seed + [axis, 0], 1 - size, shape[1 + axis], tf.int32)
        for axis in (0, 1)
    ]
    rows, columns = (
        (tf.range(shape[1 + axis]) >= corner[axis]) & (tf.range(shape[1 + axis]) < corner[axis] + size)
        for axis in (0, 1)
    )
    patch = (rows[:, :, None] & columns[:, None, :])[..., None]
    return tf.where(patch, random_pixel_values(shape, seed + [2, 0], images.dtype), images)


def random_pixel_values(shape: tf.Tensor, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return uniform random integers from 0 to 255."""
    return tf.cast(tf.random.stateless_uniform(shape, seed, 0, 256, tf.int32), dtype)


def normalised(dataset: tf.data.Dataset, mean: Sequence[float], std: Sequence[float]) -> tf.data.Dataset:
    """Map the images of a dataset of (images, labels) to float32, (image - mean) / std channel by channel."""
    trivial = not any(mean) and all(s == 1 for s in std)

    def normalise(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.cast(images, tf.float32)
        return (images if trivial else (images - tf.constant(mean)) / tf.constant(std)), labels

    return dataset.map(normalise, num_parallel_calls=2, deterministic=True)
