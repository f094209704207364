"""The images that ship with the package, and the names of classes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

_DATA = Path(__file__).parent / "data"


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
    with np.load(_DATA / "cifar10_sample.npz", allow_pickle=False) as file:
        return Sample(file["images"], file["labels"].astype(np.int64), class_names("cifar10") or ())


@functools.cache
def class_names(dataset: str) -> tuple[str, ...] | None:
    """Return the names of a TensorFlow dataset's classes, in the order of its labels; ``None`` where unknown."""
    names = json.loads((_DATA / "classes.json").read_text(encoding="utf-8")).get(dataset)
    return tuple(names) if names else None
