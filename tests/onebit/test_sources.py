"""Labelled images from files, and what is said of files that are not as they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from onebit import zoo
from onebit.cli.sources import is_tfds_name, open_dataset
from onebit.recipes.data.datasets import get_dataset
from tests.recipes.prepared import prepare


def make_folders(root: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("L", (40, 20), 50 * shade).save(root / name / "image.png")
    return root


def test_sample_is_a_tenth_of_each_class():
    sample = zoo.sample_images()
    assert sample.images.shape == (1000, 32, 32, 3)
    assert sample.images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(sample.labels), [100] * 10)
    assert sample.class_names[3] == "cat"


def test_batches_cover_all_images_once():
    dataset = open_dataset("sample")
    batches = list(dataset.batches((32, 32), batch_size=64, limit=150))
    assert [len(labels) for _, labels in batches] == [64, 64, 22]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), zoo.sample_images().images[:150])


def test_folders_are_labelled_in_order(tmp_path: Path):
    folders = str(make_folders(tmp_path, "b", "a", "c"))
    dataset = open_dataset(folders, class_names=("x", "y", "z"))
    [(images, labels)] = dataset.batches((8, 8))
    assert labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(images.mean(axis=(1, 2, 3)), [50, 0, 100])
    assert dataset.note.endswith("in the order of their names: a is x, b is y, c is z.")
    unnamed = open_dataset(folders)
    assert unnamed.num_classes == 3
    assert unnamed.note.endswith("a is class 0, b is class 1, c is class 2.")


def test_folders_named_like_classes_get_their_labels(tmp_path: Path):
    dataset = open_dataset(str(make_folders(tmp_path, "dog", "cat")), class_names=("bird", "cat", "cow", "dog"))
    [(_, labels)] = dataset.batches((8, 8))
    assert labels.tolist() == [1, 3]
    assert (dataset.num_classes, dataset.note) == (4, None)


def test_folders_of_which_only_some_are_named_like_classes(tmp_path: Path):
    make_folders(tmp_path, "airplane", "car", "lorry", "ship")
    with pytest.raises(ValueError, match=r"but not car, lorry\. The classes are airplane, automobile, ship, truck\."):
        open_dataset(str(tmp_path), class_names=("airplane", "automobile", "ship", "truck"))


def test_files_are_read_in_grey(tmp_path: Path):
    (tmp_path / "a").mkdir()
    colours = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(colours).save(tmp_path / "a" / "image.png")
    [(images, _)] = open_dataset(str(tmp_path)).batches((8, 8), channels=1)
    np.testing.assert_array_equal(images[0, ..., 0], Image.fromarray(colours).convert("L"))
    with pytest.raises(ValueError, match="3 channels, or 1 in grey, but the model takes 2"):
        next(open_dataset(str(tmp_path)).batches((8, 8), channels=2))


def test_arrays_in_grey(tmp_path: Path):
    images = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)
    np.savez(tmp_path / "grey.npz", images=images, labels=[1, 0])
    dataset = open_dataset(str(tmp_path / "grey.npz"))
    [(read, labels)] = dataset.batches((8, 8), channels=1)
    np.testing.assert_array_equal(read, images)
    assert labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"8 x 8 x 1 \(height x width x channels\), but the model takes 8 x 8 x 3"):
        next(dataset.batches((8, 8)))


@pytest.mark.parametrize(("name", "split"), [("cifar10", "test"), ("imagenet2012", "validation")])
def test_tensorflow_datasets_of_one_size_and_of_many(name: str, split: str, tmp_path: Path):
    known = get_dataset(name)
    prepare(known, tmp_path)
    dataset = open_dataset(name, data_dir=str(tmp_path))
    assert (dataset.name, dataset.count, dataset.num_classes) == (f"{name}, {split}", 40, known.num_classes)
    batches = list(dataset.batches(known.image_shape[:2], batch_size=16, limit=35))
    assert [images.shape for images, _ in batches] == [(count, *known.image_shape) for count in (16, 16, 3)]
    for images, labels in batches:
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), 20 * (labels % 10), atol=2)
    assert next(open_dataset(name, split=split, data_dir=str(tmp_path)).batches(known.image_shape[:2]))[0].any()
    whole = np.concatenate([labels for _, labels in batches])
    for begin, end in ((10, 20), (25, 33)):
        part = open_dataset(name, split=f"{split}[{begin}:{end}]", data_dir=str(tmp_path))
        assert part.count == end - begin
        [(_, labels)] = part.batches(known.image_shape[:2])
        np.testing.assert_array_equal(labels, whole[begin:end])
    for given, message in (
        ("tset", r"has no split 'tset'; it has"),
        ("tset[:10]", r"has no split 'tset\[:10\]'; it has"),
        (f"{split}[99:]", r"has no split '\w+\[99:\]'.*incompatible with 40 examples"),
        (f"{split}[5:2]", r"The split '\w+\[5:2\]' of the dataset '\w+' has no images"),
    ):
        with pytest.raises(ValueError, match=message):
            open_dataset(name, split=given, data_dir=str(tmp_path))


def test_tensorflow_datasets_whose_labels_are_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": tfds.features.Text()})
    builder = SimpleNamespace(info=SimpleNamespace(features=features))
    monkeypatch.setattr("onebit.recipes.data.tfds.prepared", lambda name, data_dir: builder)
    with pytest.raises(ValueError, match=r"'lfw' .*'label' \(Text\)"):
        open_dataset("lfw", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("known", "source", "name"),
    [
        ("svhn", "svhn", "svhn_cropped, test"),
        ("imagenet32", "imagenet32", "imagenet_resized/32x32, validation"),
        ("imagenet32", "imagenet_resized/32x32", "imagenet_resized/32x32, validation"),
        ("cifar10", "cifar10:3.0.2", "cifar10:3.0.2, test"),
        ("imagenet2012", "imagenet2012:5.*.*", "imagenet2012:5.*.*, validation"),
    ],
)
def test_names_of_tensorflow_datasets(known: str, source: str, name: str, tmp_path: Path):
    """The recipes' names, and TFDS' with configuration and version."""
    prepare(get_dataset(known), tmp_path)
    dataset = open_dataset(source, data_dir=str(tmp_path))
    assert (dataset.name, dataset.count) == (name, 40)


def test_a_file_or_folder_hides_a_dataset_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_folders(tmp_path / "mnist", "a")
    monkeypatch.chdir(tmp_path)
    assert is_tfds_name("cifar10") and not is_tfds_name("mnist") and not is_tfds_name("sample")
    assert open_dataset("mnist").count == 1


def test_array_files_are_checked(tmp_path: Path):
    path = tmp_path / "images.npz"
    for arrays, message in (
        ({"images": np.zeros((2, 8, 8, 3), np.uint8)}, "labels"),
        ({"images": np.zeros((2, 8, 8, 3)), "labels": np.zeros(2, int)}, "uint8"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.zeros(3, int)}, r"\(2,\)"),
        ({"images": np.zeros((2, 8, 8, 2), np.uint8), "labels": np.zeros(2, int)}, "3 channels or 1"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.zeros(0, int)}, "at least one"),
        ({"images": np.array([None]), "labels": np.zeros(1, int)}, "pickle"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=message):
            open_dataset(str(path))


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:300], lambda data: data[:300] + b"x" + data[301:]],
    ids=["empty", "cut", "one byte"],
)
def test_damaged_array_files(damage: Callable[[bytes], bytes], tmp_path: Path):
    path = tmp_path / "images.npz"
    np.savez(path, images=np.full((2, 8, 8, 3), 9, np.uint8), labels=np.zeros(2, int))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"images\.npz"):
        open_dataset(str(path))


def test_errors(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        open_dataset(str(tmp_path / "nowhere.npz"))
    with pytest.raises(ValueError, match="image files"):
        open_dataset(str(tmp_path))
    with pytest.raises(ValueError, match="2 sub-folders"):
        open_dataset(str(make_folders(tmp_path, "a", "b")), class_names=("x", "y", "z"))
    with pytest.raises(ValueError, match=r"no file or folder cats/dogs\. TensorFlow Datasets has no dataset"):
        open_dataset("cats/dogs")
    with pytest.raises(ValueError, match=r"32 x 32 x 3 \(height x width x channels\), but the model takes 64 x 64 x 3"):
        next(open_dataset("sample").batches((64, 64)))
