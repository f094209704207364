"""The papers' augmentations of whole batches, put together from `onebit.recipes.data`."""

from __future__ import annotations

import tensorflow as tf

from .data import random_crop, random_flip


def flip_and_shift(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The usual augmentation of 32 x 32 images: mirrored half the time, shifted by up to 4 pixels with zeros at the
    edges.

    Args:
        images: (b, h, w, c).
        seed: (2,), of the batch.
    """
    return random_flip(random_crop(images, seed + [10, 0], padding=4), seed + [20, 0])
