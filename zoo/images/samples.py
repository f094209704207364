"""The images that ship with the package, and the names of classes."""

from __future__ import annotations

import functools
import json
from typing import NamedTuple

import numpy as np

from ..data import DATA
from .images import check_size, with_channels


class Sample(NamedTuple):
    """Labelled images.

    Attributes:
        images: (n, height, width, 3), uint8.
        labels: (n,), int64.
        class_names: The name of each label.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def sample_images() -> Sample:
    """Return 1,000 images of CIFAR-10's test set: the first 100 of each class, in the order of the original file.

    No network that was trained on CIFAR-10's training set has seen them. They are Krizhevsky's (2009), as is said in
    ``zoo/data/cifar10_sample.md``.
    """
    with np.load(DATA / "cifar10_sample.npz", allow_pickle=False) as file:
        return Sample(file["images"], file["labels"].astype(np.int64), _names()["cifar10"])


def resized_sample(size: tuple[int, int], count: int, channels: int = 3) -> np.ndarray:
    """Return the first of the sample images (`sample_images`), resized.

    Args:
        size: (height, width), each 1 to 4096.
        count: How many, 1 to 1,000.
        channels: 3, in colour, or 1, in grey.

    Returns:
        (count, height, width, channels), uint8.

    Raises:
        ValueError: An argument is out of its range.
    """
    from PIL import Image

    height, width = check_size(size)
    images = sample_images().images
    if not 1 <= count <= len(images):
        raise ValueError(f"count must be from 1 to {len(images)}, not {count}.")
    images = images[:count]
    if images.shape[1:3] != (height, width):
        resize = functools.partial(Image.Image.resize, size=(width, height), resample=Image.Resampling.BILINEAR)
        images = np.stack([np.asarray(resize(Image.fromarray(image))) for image in images])
    return with_channels(images, channels)


def class_names(dataset: str) -> tuple[str, ...] | None:
    """Return the names of a TensorFlow dataset's classes, in the order of its labels; ``None`` where unknown."""
    return _names().get(dataset)


@functools.cache
def _names() -> dict[str, tuple[str, ...]]:
    return {name: tuple(names) for name, names in json.loads((DATA / "classes.json").read_text("utf-8")).items()}
