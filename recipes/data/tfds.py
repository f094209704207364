"""Reading what TensorFlow Datasets has prepared: whole into memory, or image by image."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ...util.files import check_source, open_source, reading
from ...util.formatting import brief, first_line, printable
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
        ValueError: It is damaged. Damage within a file shows, as an error of TensorFlow's, only when that is read.
    """
    import tensorflow_datasets as tfds

    builder = prepared(dataset, data_dir)
    parts = _parts(builder, split)
    files = tf.constant([str(part.filename) for part in parts])
    bounds = tf.constant([(part.skip, part.take, part.examples_in_shard) for part in parts], tf.int64)
    skip = {"image": tfds.decode.SkipDecoding()}

    def read(part: tf.Tensor) -> tf.data.Dataset:
        # Only now: to look at all files of ImageNet takes minutes.
        file = tf.ensure_shape(tf.numpy_function(_checked_records, [files[part], bounds[part, 2]], tf.string), ())
        return tf.data.TFRecordDataset(file).skip(bounds[part, 0]).take(bounds[part, 1])

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

    total = builder.info.splits[split].num_examples
    count = min(total, limit or total)
    found = StreamedImages(examples, decode, count, (*size, 3), num_classes)
    found.encoded = True
    return found


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
        begin, extent = box(pixels)
        window = tf.io.decode_and_crop_jpeg(encoded, tf.concat([begin, extent], axis=0), channels=3)
        return resized(window)

    def from_png() -> tf.Tensor:
        begin, extent = box(pixels)
        whole = tf.io.decode_png(encoded, channels=3)
        return resized(tf.image.crop_to_bounding_box(whole, *tf.unstack(begin), *tf.unstack(extent)))

    def box(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, extent = crop(pixels, size, seed)
        fits = tf.reduce_all(pixels == size)
        return tf.where(fits, 0, begin), tf.where(fits, pixels, extent)

    def resized(window: tf.Tensor) -> tf.Tensor:
        pixels = tf.image.resize(window, size, antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)

    pixels = _encoded_size(encoded)
    most = tf.maximum(2**23, 20 * tf.strings.length(encoded))  # as `zoo.read_images` has it
    area = tf.reduce_prod(tf.cast(pixels, tf.int64))
    with tf.control_dependencies([tf.debugging.assert_less_equal(area, tf.cast(most, tf.int64), "A bomb.")]):
        image = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_png)
    return tf.ensure_shape(image, (*size, 3))


def _encoded_size(encoded: tf.Tensor) -> tf.Tensor:
    """Return (height, width), int32, of a JPEG or PNG file, without decoding it."""

    def of_png() -> tf.Tensor:
        return tf.reverse(tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False), [0])

    size = tf.cond(tf.io.is_jpeg(encoded), lambda: tf.io.extract_jpeg_shape(encoded)[:2], of_png)
    return tf.ensure_shape(size, (2,))


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
        ValueError: It is damaged, or its images differ in size.
    """
    import tensorflow_datasets as tfds

    @tfds.decode.make_decoder(output_dtype=tf.uint8)
    def checked(encoded: tf.Tensor, feature: Any) -> tf.Tensor:
        expected = tf.debugging.assert_equal(_encoded_size(encoded), feature.shape[:2], "Another size.")
        with tf.control_dependencies([expected]):
            return feature.decode_example(encoded)

    builder = prepared(dataset, data_dir)
    parts = _parts(builder, split)
    with reading(f"The dataset {dataset!r} in {builder.data_dir}"):
        stored = sum(Path(part.filename).stat().st_size for part in parts)
        for part in parts:
            _check_records(Path(part.filename), part.examples_in_shard)
        shape, count = builder.info.features["image"].shape, builder.info.splits[split].num_examples
        if None in shape or np.prod(shape, dtype=object) * count > 2**26 + 64 * stored:
            raise ValueError(f"its {count:,} images of the shape {brief(shape)} are said to be in {stored:,} bytes")
        decoders = {"image": checked()}
        if limit is None:
            images, labels = builder.as_dataset(split=split, batch_size=-1, as_supervised=True, decoders=decoders)
        else:
            first = builder.as_dataset(split=split, as_supervised=True, decoders=decoders).take(limit)
            images, labels = first.batch(limit).get_single_element()
        return images.numpy(), labels.numpy()


def read_encoded(dataset: str, split: str, data_dir: str | Path | None = None) -> Iterator[tuple[bytes, int]]:
    """Yield the images of a TensorFlow dataset as the files that they are, with their labels.

    Raises:
        FileNotFoundError: The dataset is not there; the message says how to get it.
        ValueError: It is damaged.
    """
    import tensorflow_datasets as tfds

    builder = prepared(dataset, data_dir)
    skip = {"image": tfds.decode.SkipDecoding()}
    with reading(f"The dataset {dataset!r} in {builder.data_dir}"):
        for part in _parts(builder, split):
            _check_records(Path(part.filename), part.examples_in_shard)
            records = tf.data.TFRecordDataset(str(part.filename)).skip(part.skip).take(part.take)
            examples = records.map(lambda record: builder.info.features.deserialize_example(record, decoders=skip))
            for example in examples.as_numpy_iterator():
                yield example["image"], int(example["label"])


def _parts(builder: Any, split: str) -> list[Any]:
    """Return the parts of files that hold a split, having checked that they are files of the dataset's folder.

    Raises:
        ValueError: They are not, or are of a format that TensorFlow does not read.
    """
    import tensorflow_datasets as tfds

    with reading(f"The dataset {builder.name!r} in {builder.data_dir}"):
        kind = builder.info.file_format
        if kind not in (None, tfds.core.file_adapters.FileFormat.TFRECORD):
            raise ValueError(f"it is stored as {brief(kind)}, and only TFRecord files are read.")
        parts = list(builder.info.splits[split].file_instructions)
        folder = os.path.abspath(builder.data_dir)
        for part in parts:
            if os.path.dirname(os.path.abspath(part.filename)) != folder:
                raise ValueError(f"it names the file {brief(str(part.filename))}, which is not in its folder.")
            check_source(part.filename)
        return parts


def _checked_records(path: bytes, count: int) -> bytes:
    _check_records(Path(os.fsdecode(path)), int(count))
    return path


def _check_records(path: Path, count: int) -> None:
    """Check that a file's records fill it and are as many as the dataset says; TensorFlow makes room for any claim.

    Raises:
        ValueError: They do not, or are not.
    """
    with open_source(path) as file:
        place, size, found = 0, os.fstat(file.fileno()).st_size, 0
        while place < size:
            file.seek(place)
            head = file.read(8)
            # A length, its checksum, the record, its checksum.
            place += 16 + (struct.unpack("<Q", head)[0] if len(head) == 8 else size)
            found += 1
    if place != size or found != count:
        raise ValueError(f"{path} is damaged: it does not hold {count:,} whole records.")


@contextlib.contextmanager
def naming_damage(dataset: str) -> Iterator[None]:
    """Let what TensorFlow finds damaged while it streams images be an error that names the dataset.

    Raises:
        ValueError: In place of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.OpError as error:
        said = next((line for line in str(error).splitlines() if "is damaged" in line), None)
        if said is None and not isinstance(error, tf.errors.DataLossError):
            raise
        reason = printable(said or first_line(error), 400)
        raise ValueError(f"The images of {dataset} are damaged: {reason}") from error


def prepared(dataset: str, data_dir: str | Path | None = None) -> Any:
    """Return the builder of a TensorFlow dataset.

    Raises:
        ValueError: There is no such dataset (the message suggests the nearest names), or it is damaged.
        FileNotFoundError: It is not there; the message says how to get it.
        OSError: A file of it is a device or a pipe.
    """
    import tensorflow_datasets as tfds

    folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    for path in (folder / re.split("[/:]", dataset)[0]).rglob("*"):
        if not path.is_dir():
            check_source(path, 2**26 if path.suffix in (".json", ".txt") else None)
    known = True
    with reading(f"The dataset {dataset!r} in {folder}"):
        try:
            builder = tfds.builder(dataset, data_dir=data_dir)
            if builder.info.splits.total_num_examples > 0:
                return builder
        except tfds.core.DatasetNotFoundError:
            known = False
        except (AssertionError, FileNotFoundError):
            pass
    if not known:
        near = difflib.get_close_matches(dataset, tfds.list_builders(), n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"TensorFlow Datasets has no dataset {dataset!r}.{hint}")
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
