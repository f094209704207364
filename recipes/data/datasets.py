"""The datasets that recipes know, as TensorFlow Datasets has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...util.formatting import did_you_mean
from .augmentation import Augmentation, flip, flip_and_shift, identity, shift
from .images import ArrayImages, Images
from .tfds import load_arrays, open_tfds, prepared


@dataclass(frozen=True)
class DatasetSpec:
    """Where a dataset's images are in TensorFlow Datasets, and what they are.

    Attributes:
        tfds: Its name there.
        train, test: The names of its splits.
        num_classes: The number of its classes.
        image_shape: (height, width, channels) of what the network gets.
        flips: Whether an image's mirror image shows the same class.
        shifts: Whether an image is shifted in training.
        streamed: Whether its images are read as they are needed, being too many for memory.
    """

    tfds: str
    train: str
    test: str
    num_classes: int
    image_shape: tuple[int, int, int]
    flips: bool = True
    shifts: bool = True
    streamed: bool = False


DATASETS = {
    "cifar10": DatasetSpec("cifar10", "train", "test", 10, (32, 32, 3)),
    "cifar100": DatasetSpec("cifar100", "train", "test", 100, (32, 32, 3)),
    "svhn": DatasetSpec("svhn_cropped", "train+extra", "test", 10, (32, 32, 3), flips=False),
    "mnist": DatasetSpec("mnist", "train", "test", 10, (28, 28, 1), flips=False, shifts=False),
    "imagenet32": DatasetSpec("imagenet_resized/32x32", "train", "validation", 1000, (32, 32, 3), streamed=True),
    "imagenet2012": DatasetSpec(
        "imagenet2012", "train", "validation", 1000, (224, 224, 3), shifts=False, streamed=True
    ),
}


def get_dataset(name: str) -> DatasetSpec:
    """Return a dataset's description.

    Raises:
        ValueError: No recipe knows it; the message suggests the nearest name.
    """
    if name not in DATASETS:
        raise ValueError(f"There is no dataset {name!r}.{did_you_mean(name, DATASETS)}")
    return DATASETS[name]


def default_augmentation(dataset: str, imagenet: Augmentation = flip) -> Augmentation:
    """Return what most recipes do to a dataset's images: mirror and shift them, where that suits.

    Args:
        dataset: A key of `DATASETS`.
        imagenet: What to do to the images of ImageNet, which have been cut out of larger ones.
    """
    known = get_dataset(dataset)
    if dataset == "imagenet2012":
        return imagenet
    if known.shifts:
        return flip_and_shift if known.flips else shift
    return flip if known.flips else identity


def load_dataset(
    name: str, data_dir: str | Path | None = None, limit: int | None = None, validation: int = 0
) -> tuple[Images, ...]:
    """Return a dataset's training and test images, or its training, validation and test images.

    Args:
        name: A key of `DATASETS`.
        data_dir: Where TensorFlow Datasets finds it.
        limit: The first so many images of each only.
        validation: How many images, the last of the training split, to take out of it for validation; 0 for none.

    Raises:
        ValueError: No recipe knows it, or it has too few images.
        FileNotFoundError: It is not prepared in ``data_dir``; the message says how to get it.
    """
    known = get_dataset(name)

    def part(split: str) -> Images:
        if known.streamed:
            return open_tfds(known.tfds, split, known.image_shape[:2], known.num_classes, data_dir, limit)
        return ArrayImages(*load_arrays(known.tfds, split, data_dir, limit), known.num_classes)

    if not validation:
        return part(known.train), part(known.test)
    first, plus, rest = known.train.partition("+")  # of SVHN's, whose extra images are easier ones
    images = prepared(known.tfds, data_dir).info.splits[first].num_examples
    if not 0 < validation < images:
        raise ValueError(
            f"validation must be from 0 to {images - 1:,}, fewer than the images of {name}'s {first!r}, not "
            f"{validation:,}."
        )
    kept, held_out = f"{first}[:-{validation}]{plus}{rest}", f"{first}[-{validation}:]"
    return part(kept), part(held_out), part(known.test)
