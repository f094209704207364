"""The papers' augmentations, as TensorFlow graph code.

There are two kinds. A `Crop` says which part of an image of any size the network is to see; an `Augmentation` changes a
batch of images of one size. Every random choice comes from a stateless generator whose seed is an argument, so that the
same seeds give the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Gets a batch (b, h, w, c), uint8, and a seed (2,); returns the batch to train on."""

Box = tuple[tf.Tensor, tf.Tensor]

Crop = Callable[[tf.Tensor, tuple[int, int], tf.Tensor], Box]
"""Gets an image's (height, width), int32, the (height, width) that the network takes, and a seed (2,); returns the
(top, left) and the (height, width) of the part to keep, which is then resized."""


def flip_and_shift(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The usual augmentation of 32 x 32 images: mirrored half the time, shifted by up to 4 pixels with zeros at the
    edges.
    """
    return flip(shift(images, seed), seed)


def shift(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shift each image by up to 4 pixels in each direction, with zeros at the edges."""
    return random_crop(images, seed + [10, 0], padding=4)


def flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror each image half the time."""
    return random_flip(images, seed + [20, 0])


def flip_and_light(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """What Bi-Real Net's and ReActNet's PyTorch code does to cropped images of ImageNet."""
    return flip(lighting(images, seed + [30, 0]), seed)


def flip_and_jitter(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """What IR-Net does to cropped images of ImageNet."""
    return flip(colour_jitter(images, seed + [30, 0]), seed)


def identity(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Leave the images as they are."""
    return images


def random_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror each image of a batch left to right with probability 1/2."""
    mirrored = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < 0.5
    return tf.where(mirrored, images[:, :, ::-1], images)


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


def lighting(images: tf.Tensor, seed: tf.Tensor, deviation: float = 0.1) -> tf.Tensor:
    """Add AlexNet's principal-component noise as the released code of Bi-Real Net and ReActNet does.

    It means the noise for pixels from 0 to 1, but adds it to 8-bit pixels and cuts off the fraction. What is left of it
    is one grey level less in some channels of some images.
    """
    eigenvectors = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    eigenvalues = [0.2175, 0.0188, 0.0045]
    strengths = tf.random.stateless_normal([tf.shape(images)[0], 3], seed, stddev=deviation) * eigenvalues
    offsets = tf.matmul(strengths, eigenvectors, transpose_b=True)[:, None, None, :]
    return tf.cast(tf.cast(images, tf.float32) + offsets, images.dtype)


def colour_jitter(
    images: tf.Tensor,
    seed: tf.Tensor,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    hue: float = 0.1,
) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue of each image of a batch, in this order.

    As torchvision's ``ColorJitter``, which draws the order too: each of the first three blends the image with black,
    with its mean grey or with its own grey by a factor from 1 - ``x`` to 1 + ``x``; the hue moves by up to ``hue`` of
    the whole circle.
    """
    draws = tf.random.stateless_uniform([4, tf.shape(images)[0], 1, 1, 1], seed, -1.0, 1.0)
    colours = tf.cast(images, tf.float32) / 255
    colours = _blended(colours, tf.zeros_like(colours), 1 + brightness * draws[0])
    mean = tf.reduce_mean(tf.image.rgb_to_grayscale(colours), axis=(1, 2, 3), keepdims=True)
    colours = _blended(colours, mean, 1 + contrast * draws[1])
    colours = _blended(colours, tf.image.rgb_to_grayscale(colours), 1 + saturation * draws[2])
    hsv = tf.image.rgb_to_hsv(colours)
    moved = tf.math.floormod(hsv[..., :1] + hue * draws[3], 1.0)
    colours = tf.image.hsv_to_rgb(tf.concat([moved, hsv[..., 1:]], axis=-1))
    return tf.cast(tf.round(colours * 255), images.dtype)


def _blended(images: tf.Tensor, others: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(others + (images - others) * factor, 0.0, 1.0)


def random_resized_crop(pixels: tf.Tensor, size: tuple[int, int], seed: tf.Tensor) -> Box:
    """8 to 100 % of the area, at an aspect ratio of 3/4 to 4/3: torchvision's ``RandomResizedCrop``.

    The first of ten draws that fits into the image; the central square where none does.
    """
    height, width = (tf.cast(length, tf.float32) for length in tf.unstack(pixels))
    areas = height * width * tf.random.stateless_uniform([10], seed, 0.08, 1.0)
    ratios = tf.exp(tf.random.stateless_uniform([10], seed + [1, 0], math.log(3 / 4), math.log(4 / 3)))
    extents = tf.cast(tf.round(tf.stack([tf.sqrt(areas / ratios), tf.sqrt(areas * ratios)], axis=1)), tf.int32)
    fits = tf.reduce_all((extents >= 1) & (extents <= pixels), axis=1)
    square = tf.fill([2], tf.reduce_min(pixels))
    drawn, place = _anywhere(pixels, tf.gather(extents, tf.argmax(fits)), seed + [2, 0]), (pixels - square) // 2
    some = tf.reduce_any(fits)
    return tf.where(some, drawn[0], place), tf.where(some, drawn[1], square)


def scale_jitter_crop(pixels: tf.Tensor, size: tuple[int, int], seed: tf.Tensor) -> Box:
    """224 pixels after the shorter side has become 256 to 480 long (He et al.); in proportion for other sizes."""
    shorter = tf.random.stateless_uniform([], seed, 256, 481, tf.int32)
    return _anywhere(pixels, _extent(pixels, size, tf.cast(shorter, tf.float32) / 224), seed + [1, 0])


def resize_random_crop(pixels: tf.Tensor, size: tuple[int, int], seed: tf.Tensor) -> Box:
    """224 pixels after the shorter side has become 256 long; in proportion for other sizes."""
    return _anywhere(pixels, _extent(pixels, size, 256 / 224), seed)


def center_crop(
    pixels: tf.Tensor, size: tuple[int, int], seed: tf.Tensor | None = None, share: float = 224 / 256
) -> Box:
    """The middle, ``share`` of the shorter side long: 224 pixels where that has become 256."""
    extent = _extent(pixels, size, 1 / share)
    return (pixels - extent) // 2, extent


def _extent(pixels: tf.Tensor, size: tuple[int, int], scale: float | tf.Tensor) -> tf.Tensor:
    """Return the original's pixels that ``size`` covers once the shorter side is ``scale`` times as long as needed."""
    wanted = tf.constant(size, tf.float32)
    ratio = tf.reduce_min(tf.cast(pixels, tf.float32) / wanted) / scale
    return tf.clip_by_value(tf.cast(tf.round(wanted * ratio), tf.int32), 1, pixels)


def _anywhere(pixels: tf.Tensor, extent: tf.Tensor, seed: tf.Tensor) -> Box:
    places = tf.random.stateless_uniform([2], seed) * tf.cast(pixels - extent + 1, tf.float32)
    return tf.cast(places, tf.int32), extent
