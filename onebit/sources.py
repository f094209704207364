"""Labelled images to evaluate on, wherever they are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .zoo import get_preprocessing, read_images, sample_images

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Attributes:
        name: What to call it.
        count: How many.
        read: Returns batches (images, labels), uint8 of shape (batch, height, width, 3) and int64, given the (height,
            width) and the crop to bring images of any size to, the batch's size and the number of images to read.
        num_classes: How many classes they are of, where that is known.
    """

    name: str
    count: int
    read: Callable[[tuple[int, int], float, int, int], Iterator[tuple[np.ndarray, np.ndarray]]]
    num_classes: int | None = None

    def batches(
        self, size: tuple[int, int], preprocessing: str = "raw", batch_size: int = 100, limit: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield preprocessed images and their labels.

        Args:
            size: (height, width) that the network takes.
            preprocessing: A name of ``zoo.PREPROCESSING``.
            batch_size: Images in a batch; the last may have fewer.
            limit: Stop after so many images.

        Raises:
            ValueError: The images are arrays of another size, or a file is damaged.
        """
        prepare = get_preprocessing(preprocessing)
        count = min(self.count, limit or self.count)
        for images, labels in self.read(size, prepare.crop_for(size), batch_size, count):
            if images.shape[1:3] != tuple(size):
                raise ValueError(
                    f"The images of {self.name} are {images.shape[1]} x {images.shape[2]} pixels, but the model takes "
                    f"{size[0]} x {size[1]}."
                )
            yield prepare(images), labels


def open_dataset(
    source: str, *, split: str | None = None, data_dir: str | None = None, names: Sequence[str] | None = None
) -> Dataset:
    """Open labelled images.

    Args:
        source: ``"sample"``, the 1,000 images that ship with the package; a folder with a sub-folder of image files for
            each class; an ``.npz`` file with ``images`` (n, height, width, 3), uint8, and ``labels`` (n,); or the name
            of a TensorFlow dataset.
        split: Of a TensorFlow dataset. ``None`` is the one to test on.
        data_dir: Where TensorFlow datasets lie.
        names: The model's class names, if known. Sub-folders that are all named like classes get their labels;
            otherwise there must be one for each class, and they are labelled 0, 1, ... in the order of their names.

    Raises:
        FileNotFoundError: There is no such file, folder or prepared dataset.
        ValueError: The file or folder is not as described.
    """
    path = Path(source)
    if source == "sample":
        sample = sample_images()
        return _in_memory("the sample", sample.images, sample.labels, len(sample.class_names))
    if path.is_dir():
        return _folder(path, names)
    if path.is_file():
        return _npz(path)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"There is no file or folder {source}.")
    return _tfds(source, split, data_dir)


def _tfds(name: str, split: str | None, data_dir: str | None) -> Dataset:
    from .recipes.augmentation import centre
    from .recipes.datasets import DATASETS
    from .recipes.tfds import load_arrays, open_tfds, prepared

    info = prepared(name, data_dir).info
    if split is None:
        # ImageNet's images of the split "test" have no labels.
        known = {dataset.tfds: dataset.test for dataset in DATASETS.values()}
        split = known.get(name, "test")
    if not {"image", "label"} <= set(info.features):
        raise ValueError(f"The dataset {name!r} is not one of labelled images: it has {', '.join(info.features)}.")
    classes = getattr(info.features["label"], "num_classes", None)
    if split not in info.splits and "[" not in split and "+" not in split:
        raise ValueError(f"The dataset {name!r} has no split {split!r}; it has {', '.join(sorted(info.splits))}.")
    if info.features["image"].shape[0] is not None:
        return _in_memory(f"{name}, {split}", *load_arrays(name, split, data_dir), classes)

    def read(
        size: tuple[int, int], crop: float, batch_size: int, count: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        images = open_tfds(name, split, size, classes or 0, data_dir, count)  # nothing here asks for the classes
        return images.in_order(batch_size, functools.partial(centre, share=crop)).as_numpy_iterator()

    return Dataset(f"{name}, {split}", info.splits[split].num_examples, read, classes)


def _in_memory(name: str, images: np.ndarray, labels: np.ndarray, num_classes: int | None = None) -> Dataset:
    return _sliced(name, labels, lambda part, size, crop: images[part], num_classes)


def _sliced(
    name: str,
    labels: np.ndarray,
    images: Callable[[slice, tuple[int, int], float], np.ndarray],
    num_classes: int | None = None,
) -> Dataset:
    """Return a dataset of which any part can be read."""
    labels = labels.astype(np.int64)

    def read(
        size: tuple[int, int], crop: float, batch_size: int, count: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, count, batch_size):
            part = slice(start, min(start + batch_size, count))
            yield images(part, size, crop), labels[part]

    return Dataset(name, len(labels), read, num_classes)


def _npz(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except (KeyError, ValueError, OSError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not an .npz file with arrays 'images' and 'labels': {error}") from error
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"images in {path} must be uint8 of shape (n, height, width, 3), not {images.dtype} {images.shape}."
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels in {path} must be integers of shape ({len(images)},), not {labels.dtype} {labels.shape}."
        )
    return _in_memory(str(path), images, labels)


def _folder(path: Path, names: Sequence[str] | None) -> Dataset:
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    index = {name: label for label, name in enumerate(names or ())}
    if not all(folder.name in index for folder in folders):
        index = {folder.name: label for label, folder in enumerate(folders)}
        if names and len(folders) != len(names):
            raise ValueError(
                f"{path} has {len(folders)} sub-folders, and not all are named like classes of the model, which has "
                f"{len(names)}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}."
            )
    files = [
        (file, index[folder.name])
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise ValueError(f"{path} has no sub-folders with image files; each class needs one.")
    paths = [file for file, _ in files]
    labels = np.array([label for _, label in files])
    return _sliced(str(path), labels, lambda part, size, crop: read_images(paths[part], size, crop))
