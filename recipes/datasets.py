"""The datasets that recipes know, as TensorFlow Datasets has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..zoo.registry import suggest
from .data import load_arrays


@dataclass(frozen=True)
class Dataset:
    """Where a dataset's images are in TensorFlow Datasets, and what they are.

    Attributes:
        tfds: Its name there.
        train, test: Its splits.
        num_classes: Its classes.
        image_shape: (height, width, channels) of what the network gets.
    """

    tfds: str
    train: str
    test: str
    num_classes: int
    image_shape: tuple[int, int, int]


DATASETS = {
    "cifar10": Dataset("cifar10", "train", "test", 10, (32, 32, 3)),
    "cifar100": Dataset("cifar100", "train", "test", 100, (32, 32, 3)),
    "svhn": Dataset("svhn_cropped", "train+extra", "test", 10, (32, 32, 3)),
    "mnist": Dataset("mnist", "train", "test", 10, (28, 28, 1)),
    "imagenet32": Dataset("imagenet_resized/32x32", "train", "validation", 1000, (32, 32, 3)),
}


def get_dataset(name: str) -> Dataset:
    """Return a dataset's description.

    Raises:
        ValueError: No recipe knows it; the message suggests the nearest name.
    """
    if name not in DATASETS:
        raise ValueError(f"There is no dataset {name!r}.{suggest(name, DATASETS)}")
    return DATASETS[name]


Arrays = tuple[np.ndarray, np.ndarray]


def load_dataset(name: str, data_dir: str | Path | None = None) -> tuple[Arrays, Arrays]:
    """Return a dataset's training and test images (uint8) and labels, each as arrays.

    Raises:
        ValueError: No recipe knows it.
        FileNotFoundError: It is not prepared in ``data_dir``; the message says how to get it.
    """
    dataset = get_dataset(name)
    return load_arrays(dataset.tfds, dataset.train, data_dir), load_arrays(dataset.tfds, dataset.test, data_dir)
