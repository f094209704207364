"""Labelled images from files, and what is said of files that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebit import zoo
from onebit.recipes.datasets import get_dataset
from onebit.sources import open_dataset
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
    dataset = open_dataset(str(make_folders(tmp_path, "b", "a", "c")), names=("x", "y", "z"))
    [(images, labels)] = dataset.batches((8, 8))
    assert labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(images.mean(axis=(1, 2, 3)), [50, 0, 100])


def test_folders_named_like_classes_get_their_labels(tmp_path: Path):
    dataset = open_dataset(str(make_folders(tmp_path, "dog", "cat")), names=("bird", "cat", "cow", "dog"))
    [(_, labels)] = dataset.batches((8, 8))
    assert labels.tolist() == [1, 3]


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
    with pytest.raises(ValueError, match=r"has no split 'tset'; it has"):
        open_dataset(name, split="tset", data_dir=str(tmp_path))


def test_array_files_are_checked(tmp_path: Path):
    path = tmp_path / "images.npz"
    for arrays, message in (
        ({"images": np.zeros((2, 8, 8, 3), np.uint8)}, "labels"),
        ({"images": np.zeros((2, 8, 8, 3)), "labels": np.zeros(2, int)}, "uint8"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.zeros(3, int)}, r"\(2,\)"),
        ({"images": np.array([None]), "labels": np.zeros(1, int)}, "pickle"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=message):
            open_dataset(str(path))


def test_errors(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        open_dataset(str(tmp_path / "nowhere.npz"))
    with pytest.raises(ValueError, match="image files"):
        open_dataset(str(tmp_path))
    with pytest.raises(ValueError, match="2 sub-folders"):
        open_dataset(str(make_folders(tmp_path, "a", "b")), names=("x", "y", "z"))
    with pytest.raises(ValueError, match="32 x 32 pixels, but the model takes 64 x 64"):
        next(open_dataset("sample").batches((64, 64)))
