"""Labelled images to evaluate on, wherever they are."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..util.archive import check_archive
from ..util.files import check_source, reading
from ..util.formatting import brief, first_line, printable
from ..zoo import Preprocessing, read_images, sample_images
from ..zoo.images.images import read_image, with_channels

_SUFFIXES = {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_LITTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # beside what begins with a dot
_TFDS_NAME = re.compile(r"\w+(/[\w-]+)?(:[\d.*]+)?")  # name/configuration:version
_AS_THEY_ARE = Preprocessing()

Shape = tuple[int, int, int]
"""(height, width, channels) of an image."""

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
"""Images (batch, height, width, channels) and labels (batch,)."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels, to be read in batches.

    Attributes:
        name: What to call it.
        count: Number of images.
        read: Returns batches of uint8 and int64, given the `Shape` and the crop to bring images of any size to, the
            batch's size and the number of images to read.
        num_classes: Number of classes, where known.
        note: What a user should know about the labels.
    """

    name: str
    count: int
    read: Callable[[Shape, float, int, int], Batches]
    num_classes: int | None = None
    note: str | None = None

    def batches(
        self,
        size: tuple[int, int],
        *,
        preprocessing: Preprocessing = _AS_THEY_ARE,
        batch_size: int = 100,
        limit: int | None = None,
        channels: int = 3,
    ) -> Batches:
        """Yield preprocessed images and their labels.

        Args:
            size: (height, width) that the network takes.
            preprocessing: What the network expects.
            batch_size: Images in a batch; the last may have fewer.
            limit: Stop after this many images. Of a folder, classes take turns.
            channels: Number of channels that the network takes; for 1, files are read in grey.

        Raises:
            ValueError: The images are arrays of another shape, or a file is damaged.
        """
        shape, count = (*size, channels), self.count if limit is None else min(self.count, limit)
        for images, labels in self.read(shape, preprocessing.crop, batch_size, count):
            if images.shape[1:] != shape:
                raise ValueError(
                    f"The images of {self.name} are {' x '.join(map(str, images.shape[1:]))} (height x width x "
                    f"channels), but the model takes {' x '.join(map(str, shape))}."
                )
            yield preprocessing(images), labels


def open_dataset(
    source: str, *, split: str | None = None, data_dir: str | None = None, class_names: Sequence[str] | None = None
) -> LabelledImages:
    """Open labelled images.

    Args:
        source: ``"sample"``, the 1,000 images that ship with the package; a folder with a sub-folder of image files for
            each class; an ``.npz`` file with ``images`` (n, height, width, channels), uint8, in colour or grey, and
            ``labels`` (n,); or the name of a TensorFlow dataset, as `onebit.recipes.DATASETS` or TFDS have it.
        split: Split of a TensorFlow dataset; ``None`` is the one to test on.
        data_dir: Folder of prepared TensorFlow datasets; TFDS' default if ``None``.
        class_names: The model's, if known. Sub-folders that are all named like classes get their labels. If none
            is, there must be one for each class; they are labelled 0, 1, ... in the order of their names (of their
            values where all are numbers), which the dataset's note says. Labels of the sample and of TensorFlow's
            datasets follow the model's order where the names are the same.

    Raises:
        FileNotFoundError: There is no such file, folder or prepared dataset.
        ValueError: The file, folder or split is not as described, or the sample's classes are not the model's.
    """
    path = Path(source)
    if is_tfds_name(source):
        return _tfds(source, split, data_dir, class_names)
    if source == "sample":
        sample = sample_images()
        if class_names and set(class_names) != set(sample.class_names):
            raise ValueError(
                f"The sample is of CIFAR-10's classes, and the model's are {_listed(class_names)}: name other images."
            )
        labels = _in_order_of(class_names, sample.class_names)[sample.labels]
        return _in_memory("the sample", sample.images, labels, len(sample.class_names))
    if path.is_dir():
        return _folder(path, class_names)
    if path.exists():
        return _npz(check_source(path))
    raise FileNotFoundError(f"There is no file or folder {printable(source)}.")


def is_tfds_name(source: str) -> bool:
    """Return whether a source would be looked for among the TensorFlow datasets: it is nothing else, and named so."""
    return source != "sample" and not Path(source).exists() and _TFDS_NAME.fullmatch(source) is not None


def _in_order_of(model: Sequence[str] | None, names: Sequence[str]) -> np.ndarray:
    """Return the model's label of each of a dataset's: another only where both have the same names, in other orders."""
    same = model is not None and set(model) == set(names)
    return np.array([model.index(name) if same and model else label for label, name in enumerate(names)])


def _tfds(source: str, split: str | None, data_dir: str | None, class_names: Sequence[str] | None) -> LabelledImages:
    from ..recipes.data.datasets import DATASETS
    from ..recipes.data.tfds import load_arrays, prepared, read_encoded

    name = DATASETS[source].tfds if source in DATASETS else source
    try:
        info = prepared(name, data_dir).info
    except ValueError as error:  # TFDS has no such dataset
        raise ValueError(f"There is no file or folder {source}. {error}") from error
    if split is None:
        # ImageNet's images of the split "test" have no labels.
        known = {dataset.tfds: dataset.test for dataset in DATASETS.values()}
        split = known.get(name.partition(":")[0], "test")
    features = dict(info.features)
    classes = getattr(features.get("label"), "num_classes", None)
    if "image" not in features or classes is None:
        found = ", ".join(f"{brief(key)} ({type(feature).__name__})" for key, feature in features.items())
        raise ValueError(f"The dataset {name!r} is not one of images labelled with classes: it has {found}.")
    try:
        count = info.splits[split].num_examples
    except (ValueError, LookupError) as error:
        having = _listed(sorted(info.splits))
        raise ValueError(
            f"The dataset {name!r} has no split {split!r}; it has {having}, and parts of them such as 'train[:100]'. "
            f"{printable(first_line(error))}"
        ) from error
    if count < 1:  # TFDS counts what is between an end and a later begin as negative
        raise ValueError(f"The split {split!r} of the dataset {name!r} has no images.")
    table = _in_order_of(class_names, features["label"].names)
    if features["image"].shape[0] is not None:
        images, labels = load_arrays(name, split, data_dir)
        return _in_memory(f"{name}, {split}", images, table[labels], classes)

    def read(shape: Shape, crop: float, batch_size: int, count: int) -> Batches:
        examples = itertools.islice(read_encoded(name, split, data_dir), count)
        while batch := list(itertools.islice(examples, batch_size)):
            with reading(f"The dataset {name!r}"):
                images = np.stack([read_image(io.BytesIO(encoded), shape[:2], crop) for encoded, _ in batch])
            yield with_channels(images, shape[2]), table[[label for _, label in batch]]

    return LabelledImages(f"{name}, {split}", count, read, classes)


def _in_memory(name: str, images: np.ndarray, labels: np.ndarray, num_classes: int | None = None) -> LabelledImages:
    return _sliced(name, labels, lambda part, shape, crop: images[part], num_classes)


def _sliced(
    name: str,
    labels: np.ndarray,
    images: Callable[[slice, Shape, float], np.ndarray],
    num_classes: int | None = None,
    note: str | None = None,
) -> LabelledImages:
    """Return a dataset of which any part can be read."""
    labels = labels.astype(np.int64)

    def read(shape: Shape, crop: float, batch_size: int, count: int) -> Batches:
        for start in range(0, count, batch_size):
            part = slice(start, min(start + batch_size, count))
            yield images(part, shape, crop), labels[part]

    return LabelledImages(name, len(labels), read, num_classes, note)


def _npz(path: Path) -> LabelledImages:
    with reading(path, "an .npz file with arrays 'images' and 'labels'"):
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"images in {path} must be uint8 of shape (n, height, width, channels), at least one, of 3 channels or 1, "
            f"not {images.dtype} {images.shape}."
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels in {path} must be integers of shape ({len(images)},), not {labels.dtype} {labels.shape}."
        )
    if images.max() <= 1:
        raise ValueError(f"images in {path} must be pixels from 0 to 255, but the largest is {images.max()}.")
    return _in_memory(printable(path), images, labels)


def _folder(path: Path, names: Sequence[str] | None) -> LabelledImages:
    folders = sorted((entry for entry in path.iterdir() if entry.is_dir() and not _is_litter(entry)), key=str)
    if all(folder.name.isdecimal() for folder in folders):
        folders.sort(key=lambda folder: int(folder.name))
    found = [folder.name.strip() for folder in folders]
    index = {name.strip(): label for label, name in enumerate(names or ())}
    strangers, notes = [name for name in found if name not in index], []
    if names and strangers and len(strangers) < len(found):
        raise ValueError(
            f"Some sub-folders of {path} are named like classes of the model, but not {_listed(strangers)}. "
            f"The classes are {_listed(names)}."
        )
    if strangers:
        if names and len(found) != len(names):
            raise ValueError(
                f"{path} has {len(found)} sub-folders, none of them named like one of the model's {len(names)} "
                f"classes: {_listed(names)}."
            )
        index = {name: label for label, name in enumerate(found)}
        classes = names or [f"class {label}" for label in index.values()]
        pairs = [f"{name} is {class_name}" for name, class_name in zip(found, classes, strict=True)]
        notes = [f"The sub-folders of {path} are labelled in the order of their names: {_listed(pairs)}."]
    images_of: dict[int, list[Path]] = {}
    others: list[Path] = []
    for folder, name in zip(folders, found, strict=True):
        files = _files_in(folder)
        images_of.setdefault(index[name], []).extend(file for file in files if file.suffix.lower() in _SUFFIXES)
        others += [file for file in files if file.suffix.lower() not in _SUFFIXES]
    others += [file for file in path.iterdir() if not file.is_dir() and not _is_litter(file)]
    # The classes take turns, so that the first so many images are of all of them.
    turns = itertools.zip_longest(*([(file, label) for file in files] for label, files in images_of.items()))
    labelled = [pair for turn in turns for pair in turn if pair is not None]
    if not labelled:
        raise ValueError(f"{path} has no sub-folders with image files; each class needs one.")
    if others:
        left = _listed([str(file.relative_to(path)) for file in others])
        notes.append(f"{len(others):,} files of {path} are not read, for their names are not an image's: {left}.")
    paths = [file for file, _ in labelled]
    labels = np.array([label for _, label in labelled])

    def images(part: slice, shape: Shape, crop: float) -> np.ndarray:
        return read_images(paths[part], shape[:2], crop, shape[2])

    note = printable(" ".join(notes), 4000) or None
    return _sliced(printable(path), labels, images, len(names or index), note)


def _files_in(folder: Path) -> list[Path]:
    """Return the files of a folder and of those within it, sorted, without what systems leave there."""
    found = []
    for inner, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_litter(Path(name))]
        found += [Path(inner, name) for name in files if not _is_litter(Path(name))]
    return sorted(found, key=str)


def _is_litter(path: Path) -> bool:
    return path.name.startswith(".") or path.name in _LITTER


def _listed(words: Sequence[str]) -> str:
    return ", ".join([*map(printable, words[:10]), *(["..."] if len(words) > 10 else [])])
