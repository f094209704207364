"""Reading what TensorFlow Datasets has prepared: whole into memory, or image by image."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .augmentation import Crop
from .images import Images, StreamedImages


def open_tfds(
    dataset: str,
    split: str,
    size: tuple[int, int],
    num_classes: int,
    data_dir: str | Path | None = None,
    limit: int | None = None,
) -> Images:
    """Stream a split of a TensorFlow dataset of JPEG or PNG files, which may differ in size.

    Args:
        dataset: A name that `tensorflow_datasets` knows, such as ``"imagenet2012"``.
        split: ``"train"``, ``"validation"`` or any TFDS split expression.
        size: (height, width) that images are cut and resized to.
        num_classes: The number of the dataset's classes.
        data_dir: Where the prepared dataset lies; TFDS' default if ``None``. Nothing is downloaded.
        limit: The first images only.

    Raises:
        FileNotFoundError: The dataset is not there; the message says how to get it.
    """
    import tensorflow_datasets as tfds

    builder = prepared(dataset, data_dir)
    info = builder.info.splits[split]
    parts = info.file_instructions  # of a split such as "validation[10:20]", a part of each file
    files = tf.constant([str(part.filename) for part in parts])
    bounds = tf.constant([(part.skip, part.take) for part in parts], tf.int64)
    skip = {"image": tfds.decode.SkipDecoding()}

    def read(part: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(files[part]).skip(bounds[part, 0]).take(bounds[part, 1])

    def examples(order: tf.Tensor | None) -> tf.data.Dataset:
        # The first so many images are the first files': these then keep their order.
        shuffled = order is not None and limit is None
        places = tf.range(len(parts))
        places = tf.random.experimental.stateless_shuffle(places, order) if shuffled else places
        records = tf.data.Dataset.from_tensor_slices(places).interleave(
            read, cycle_length=8, block_length=16, num_parallel_calls=2, deterministic=True
        )
        return records.take(limit) if limit else records

    def decode(record: tf.Tensor, crop: Crop, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = builder.info.features.deserialize_example(record, decoders=skip)
        return decode_and_crop(example["image"], crop, size, seed), tf.cast(example["label"], tf.int64)

    count = min(info.num_examples, limit or info.num_examples)
    return StreamedImages(examples, decode, count, (*size, 3), num_classes)


def decode_and_crop(encoded: tf.Tensor, crop: Crop, size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    """Decode an image, as much of it as ``crop`` keeps, and resize that.

    Args:
        encoded: The bytes of a JPEG or PNG file.
        crop: See `Crop`. An image that has the size already is kept whole.
        size: (height, width).
        seed: (2,).

    Returns:
        (height, width, 3), uint8.
    """

    def from_jpeg() -> tf.Tensor:
        begin, extent = box(tf.io.extract_jpeg_shape(encoded)[:2])
        window = tf.io.decode_and_crop_jpeg(encoded, tf.concat([begin, extent], axis=0), channels=3)
        return resized(window)

    def from_png() -> tf.Tensor:
        pixels = tf.io.decode_png(encoded, channels=3)
        begin, extent = box(tf.shape(pixels)[:2])
        return resized(tf.image.crop_to_bounding_box(pixels, *tf.unstack(begin), *tf.unstack(extent)))

    def box(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, extent = crop(pixels, size, seed)
        fits = tf.reduce_all(pixels == size)
        return tf.where(fits, 0, begin), tf.where(fits, pixels, extent)

    def resized(window: tf.Tensor) -> tf.Tensor:
        pixels = tf.image.resize(window, size, antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)

    image = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_png)
    return tf.ensure_shape(image, (*size, 3))


def load_arrays(
    dataset: str, split: str, data_dir: str | Path | None = None, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (n, height, width, channels), uint8, and labels (n,), int64, of a TensorFlow dataset.

    Args:
        dataset: A name that `tensorflow_datasets` knows, such as ``"cifar10"``.
        split: ``"train"``, ``"test"`` or any TFDS split expression.
        data_dir: Where the prepared dataset lies; TFDS' default if ``None``. Nothing is downloaded.
        limit: The first images only; the others are not read.

    Raises:
        FileNotFoundError: The dataset is not there; the message says how to get it.
    """
    builder = prepared(dataset, data_dir)
    if limit is None:
        images, labels = builder.as_dataset(split=split, batch_size=-1, as_supervised=True)
    else:
        images, labels = (
            builder.as_dataset(split=split, as_supervised=True).take(limit).batch(limit).get_single_element()
        )
    return images.numpy(), labels.numpy()


def prepared(dataset: str, data_dir: str | Path | None = None) -> Any:
    """Return the builder of a TensorFlow dataset.

    Raises:
        ValueError: There is no such dataset; the message suggests the nearest names.
        FileNotFoundError: It is not there; the message says how to get it.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
        there = builder.info.splits.total_num_examples > 0
    except tfds.core.DatasetNotFoundError:
        near = difflib.get_close_matches(dataset, tfds.list_builders(), n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"TensorFlow Datasets has no dataset {dataset!r}.{hint}") from None
    except (AssertionError, FileNotFoundError):
        there = False
    if there:
        return builder
    place = data_dir or "TFDS' default folder"
    prepare = f'tensorflow_datasets.load("{dataset}", data_dir={str(data_dir) if data_dir else None!r})'
    raise FileNotFoundError(
        f"The dataset {dataset!r} is not prepared in {place}. With an internet connection, {prepare} downloads and "
        "prepares it"
        + (
            ", once the archives of ILSVRC2012 are in its folder downloads/manual (their site asks for an account)."
            if dataset.startswith("imagenet2012")
            else "."
        )
    )
