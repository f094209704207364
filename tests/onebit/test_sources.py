"""Labelled images from files, and what is said of files that are not as they should be."""

from __future__ import annotations

import os
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
    """Write an image to each folder; each is a shade lighter than the one before."""
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 20), 20 * shade).save(root / name / f"{shade}.png")
    return root


def labels_of(dataset) -> list[int]:
    return [int(label) for _, labels in dataset.batches((8, 8)) for label in labels]


def test_the_sample():
    sample = zoo.sample_images()
    np.testing.assert_array_equal(np.bincount(sample.labels), [100] * 10)
    batches = list(open_dataset("sample").batches((32, 32), batch_size=64, limit=150))
    assert [len(labels) for _, labels in batches] == [64, 64, 22]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), sample.images[:150])
    assert list(open_dataset("sample").batches((32, 32), limit=0)) == []


@pytest.mark.parametrize(
    ("folders", "classes", "labels"),
    [
        (["b", "a", "c"], ("x", "y", "z"), {"a": 0, "b": 1, "c": 2}),
        (["b", "a"], None, {"a": 0, "b": 1}),
        (["dog", "cat"], ("bird", "cat", "cow", "dog"), {"cat": 1, "dog": 3}),
        (["cat "], ("dog", " cat"), {"cat ": 1}),
        ([*map(str, range(12))], None, {str(n): n for n in range(12)}),
        (["1", "10", "2"], ("x", "y", "z"), {"1": 0, "2": 1, "10": 2}),
    ],
)
def test_folders_are_labelled_by_name_or_in_order(folders: list[str], classes, labels: dict[str, int], tmp_path: Path):
    dataset = open_dataset(str(make_folders(tmp_path, *folders)), class_names=classes)
    pairs = [pair for part in dataset.batches((8, 8)) for pair in zip(*part, strict=True)]
    shades = [(int(label), float(image.mean())) for image, label in pairs]
    assert sorted(shades) == sorted((labels[name], 20.0 * shade) for shade, name in enumerate(folders))
    by_name = classes is not None and set(labels) <= {*classes, "cat "}
    assert (dataset.note is None) == by_name
    assert dataset.num_classes == len(classes or folders)


@pytest.mark.parametrize(
    ("folders", "classes", "named"),
    [
        (["airplane", "car"], ("airplane", "automobile"), "car"),
        (["a", "b"], ("x", "y", "z"), "2"),
        ([], None, "images"),
    ],
)
def test_folders_that_cannot_be_labelled(folders: list[str], classes, named: str, tmp_path: Path):
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=named):
        open_dataset(str(make_folders(tmp_path / "images", *folders)), class_names=classes)


def test_folders_as_systems_leave_them(tmp_path: Path):
    """What macOS and Windows put there is no image; images further inside are; other files are reported."""
    make_folders(tmp_path, "cat", "dog/more/inside", "__MACOSX/cat", ".hidden")
    for name in ("cat/._0.png", "cat/.DS_Store", "dog/Thumbs.db", "desktop.ini", "__MACOSX/._x"):
        (tmp_path / name).write_bytes(b"no image")
    Image.new("RGB", (8, 8)).save(tmp_path / "dog" / "new.JFIF", "JPEG")
    (tmp_path / "dog" / "notes.doc").write_bytes(b"")
    dataset = open_dataset(str(tmp_path), class_names=("cat", "dog"))
    assert sorted(labels_of(dataset)) == [0, 1, 1] and "notes.doc" in dataset.note
    assert not any(name in dataset.note for name in ("Thumbs", "MACOSX", "desktop", "DS_Store"))


def test_the_first_images_of_folders_are_of_all_classes(tmp_path: Path):
    for _ in range(2):
        for name in ("a", "b", "c"):
            make_folders(tmp_path, *[f"{name}"] * 3)
    dataset = open_dataset(str(tmp_path))
    [(_, labels)] = dataset.batches((8, 8), limit=3)
    assert labels.tolist() == [0, 1, 2]


def test_a_pipe_among_the_images_is_an_error(tmp_path: Path):
    os.mkfifo(make_folders(tmp_path, "a") / "a" / "9.png")
    with pytest.raises(OSError, match=r"9\.png"):
        labels_of(open_dataset(str(tmp_path)))


def test_grey(tmp_path: Path):
    (tmp_path / "a").mkdir()
    colours = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(colours).save(tmp_path / "a" / "image.png")
    [(images, _)] = open_dataset(str(tmp_path)).batches((8, 8), channels=1)
    np.testing.assert_array_equal(images[0, ..., 0], Image.fromarray(colours).convert("L"))
    grey = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)
    np.savez(tmp_path / "grey.npz", images=grey, labels=[1, 0])
    [(images, labels)] = open_dataset(str(tmp_path / "grey.npz")).batches((8, 8), channels=1)
    np.testing.assert_array_equal(images, grey)
    assert labels.tolist() == [1, 0]
    for source, options in ((tmp_path / "grey.npz", {}), (tmp_path, {"channels": 2})):
        with pytest.raises(ValueError, match="channels"):
            next(open_dataset(str(source)).batches((8, 8), **options))


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
    whole = np.concatenate([labels for _, labels in batches])
    part = open_dataset(name, split=f"{split}[25:33]", data_dir=str(tmp_path))
    [(_, labels)] = part.batches(known.image_shape[:2])
    np.testing.assert_array_equal(labels, whole[25:33])
    for given in ("tset", "tset[:10]", f"{split}[99:]", f"{split}[5:2]"):
        with pytest.raises(ValueError, match=given.partition("[")[0]):
            open_dataset(name, split=given, data_dir=str(tmp_path))


def test_labels_follow_the_model_s_names(tmp_path: Path):
    """Where a dataset has the model's classes in another order."""
    prepare(get_dataset("cifar10"), tmp_path)
    names = zoo.sample_images().class_names[::-1]
    numbers = [str(label) for label in reversed(range(10))]  # what the prepared dataset's classes are called
    for source, names_there in (("sample", names), ("cifar10", numbers)):
        [(_, own)] = open_dataset(source, data_dir=str(tmp_path)).batches((32, 32), limit=40)
        dataset = open_dataset(source, data_dir=str(tmp_path), class_names=names_there)
        [(_, reverse)] = dataset.batches((32, 32), limit=40)
        np.testing.assert_array_equal(reverse, 9 - own)
    with pytest.raises(ValueError, match="tadpole"):
        open_dataset("sample", class_names=["tadpole", *names[1:]])


def test_images_are_resized_alike_wherever_they_are(tmp_path: Path):
    """A photograph in a folder and in a TensorFlow dataset is the same to the network."""
    prepare(get_dataset("imagenet2012"), tmp_path)
    [(streamed, _)] = open_dataset("imagenet2012", data_dir=str(tmp_path)).batches((50, 50), limit=1)
    from onebit.recipes.data.tfds import read_encoded

    encoded, label = next(read_encoded("imagenet2012", "validation", tmp_path))
    (tmp_path / "images" / f"{label}").mkdir(parents=True)
    (tmp_path / "images" / f"{label}" / "a.jpeg").write_bytes(encoded)
    [(read, _)] = open_dataset(str(tmp_path / "images")).batches((50, 50))
    np.testing.assert_array_equal(streamed, read)


def test_tensorflow_datasets_whose_labels_are_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": tfds.features.Text()})
    builder = SimpleNamespace(info=SimpleNamespace(features=features))
    monkeypatch.setattr("onebit.recipes.data.tfds.prepared", lambda name, data_dir: builder)
    with pytest.raises(ValueError, match="label"):
        open_dataset("lfw", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("known", "source", "name"),
    [
        ("svhn", "svhn", "svhn_cropped, test"),
        ("imagenet32", "imagenet_resized/32x32", "imagenet_resized/32x32, validation"),
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


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.full((2, 8, 8, 3), 9, np.uint8)},
        {"images": np.full((2, 8, 8, 3), 9.0), "labels": np.zeros(2, int)},
        {"images": np.full((2, 8, 8, 3), 9, np.uint8), "labels": np.zeros(3, int)},
        {"images": np.full((2, 8, 8, 2), 9, np.uint8), "labels": np.zeros(2, int)},
        {"images": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.zeros(0, int)},
        {"images": np.array([None]), "labels": np.zeros(1, int)},
        {"images": np.ones((2, 8, 8, 3), np.uint8), "labels": np.zeros(2, int)},  # from 0 to 1, then to whole numbers
    ],
)
def test_array_files_are_checked(arrays: dict[str, np.ndarray], tmp_path: Path):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(ValueError, match=r"images\.npz"):
        open_dataset(str(tmp_path / "images.npz"))


@pytest.mark.parametrize("source", ["nowhere.npz", "cats/dogs", "a\0b"])
def test_what_is_not_there(source: str):
    with pytest.raises((FileNotFoundError, ValueError), match=source.partition("\0")[0]):
        open_dataset(source)
