"""Reading, cutting, resizing and normalising images; accuracy over them."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from onebit import zoo


def test_normalisation():
    pixels = np.array([[0, 127.5, 255]] * 2)
    np.testing.assert_array_equal(zoo.get_preprocessing("0_255")(pixels), pixels)
    np.testing.assert_array_equal(zoo.get_preprocessing("minus1_1")(pixels)[0], [-1, 0, 1])
    # torchvision states its constants for pixels from 0 to 1.
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(zoo.get_preprocessing("imagenet")(pixels), expected, rtol=1e-5)
    assert zoo.get_preprocessing("cifar")(pixels).dtype == np.float32


@pytest.mark.parametrize("scale", [1 / 255, 1 / 60, 1])
def test_pixels_of_another_range_are_noticed(scale):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3))
    with pytest.warns(UserWarning, match="255") if scale < 1 else contextlib.nullcontext():
        zoo.get_preprocessing("imagenet")((pixels - 128 * (scale == 1 / 60)) * scale)
    zoo.get_preprocessing("imagenet")(pixels // 255)  # whole numbers: dark, but pixels


def test_normalisation_of_tensors():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), np.uint8)
    for images in (pixels, pixels[..., :1]):
        prepare = zoo.get_preprocessing("imagenet")
        (batch,) = tf.data.Dataset.from_tensor_slices(images).map(prepare).batch(4)
        np.testing.assert_array_equal(batch, prepare(images))


@pytest.mark.parametrize(
    ("model", "constants", "crop"),
    [
        ("wide_resnet_20_1", "0_255", 1.0),
        pytest.param("irnet_resnet20", "imagenet", 1.0, marks=pytest.mark.slow),
        pytest.param("larq/quicknet_small", "minus1_1", 0.875, marks=pytest.mark.slow),
    ],
)
def test_a_model_s_preprocessing_is_the_usual_one(model: str, constants: str, crop: float):
    """Whatever the size of its images: networks for thumbnails are trained on whole ones."""
    found = zoo.preprocessing_of(zoo.load(model, input_shape=(224, 224, 3)))
    assert (found.name, found.crop) == (constants, crop)


@pytest.mark.slow
def test_a_model_s_preprocessing_is_what_its_weights_say(tmp_path: Path):
    model = zoo.load("irnet_resnet20")
    own = zoo.Preprocessing((1.5, 2.0, 3.0), (4.0, 5.0, 6.0), crop=0.9)
    for given, size in (("cifar", (32, 32)), (own, (32, 32))):
        path = zoo.save_packed(model, tmp_path / "model.onebit", preprocessing=given)
        loaded = zoo.load_packed(path)
        expected = dataclasses.replace(zoo.get_preprocessing(given), size=size)
        assert zoo.preprocessing_of(loaded) == expected
        assert zoo.preprocessing_of(zoo.load("irnet_resnet20", weights=path, num_classes=3)) == expected
        assert zoo.preprocessing_of(zoo.load_packed(zoo.save_packed(loaded, path))) == expected, "it is handed on"
    assert zoo.preprocessing_of(tf.keras.Sequential()) is None
    with pytest.raises(ValueError, match=r"preprocessing must be one of '0_255', .* not 'rwa'"):
        zoo.save_packed(model, path, preprocessing="rwa")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean", [0, 0]),
        ("mean", [0, 0, "0"]),
        ("std", [1, 1, 0]),
        ("std", [1, 1, float("nan")]),
        ("std", None),
        ("crop", 0),
        ("crop", 1.5),
        ("crop", True),
        ("size", [32]),
        ("size", [32, 10**6]),
        ("size", "32x32"),
        ("channel_order", "BGR"),
        ("range", [0, 1]),
        ("interpolation", "bicubic"),
        ("other", 1),
    ],
)
def test_what_a_file_says_of_its_preprocessing_is_checked(field: str, value: object):
    sound = zoo.Preprocessing((1.5, 2.0, 3.0), (4.0, 5.0, 6.0), 0.9, (32, 64))
    assert zoo.Preprocessing.from_dict(sound.to_dict()) == sound
    with pytest.raises(ValueError, match=field):
        zoo.Preprocessing.from_dict({**sound.to_dict(), field: value})


@pytest.mark.slow
def test_a_converted_checkpoint_has_the_preprocessing_that_its_converter_names(tmp_path: Path):
    """A Keras file does not tell."""
    zoo.load("birealnet20").save_weights(tmp_path / "a.weights.h5")
    for name, expected in ((None, "imagenet"), ("cifar", "cifar")):
        path = zoo.convert(tmp_path / "a.weights.h5", "birealnet20", tmp_path / "a.onebit", preprocessing=name)
        assert zoo.preprocessing_of(zoo.load_packed(path)).name == expected


@pytest.mark.parametrize("row", zoo.list_weights(), ids=lambda row: f"{row.model}-{row.tag}")
def test_registered_weights_name_a_preprocessing(row: zoo.Weights):
    assert row.preprocessing in zoo.PREPROCESSING


def test_images_of_the_right_size_are_left_alone(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    np.testing.assert_array_equal(zoo.read_images(paths, (8, 8)), pixels)


def test_grey_of_16_bits_keeps_its_shades(tmp_path: Path):
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = zoo.read_images([tmp_path / "a.png"], (16, 16))
    np.testing.assert_array_equal(pixels[0], np.repeat(ramp[..., None] // 257, 3, axis=-1))
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"a\.tiff .*'F'"):
        zoo.read_images([tmp_path / "a.tiff"], (16, 16))


def test_the_centre_is_cut_out(tmp_path: Path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200  # the central square
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(zoo.read_images([tmp_path / "a.png"], (10, 10)), 200)
    pixels[1:9, 11:19] = 100  # 0.8 of it
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(zoo.read_images([tmp_path / "a.png"], (8, 8), crop=0.8), 100)


@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize("target", [(224, 224), (28, 28), (299, 331)])
def test_images_of_any_size(target: tuple[int, int], crop: float, tmp_path: Path):
    """Sizes at which rounding would begin the cut a little outside the image."""
    for size in [(225, 225), (450, 600), (500, 450), (253, 7), (1, 457), *((n, n) for n in range(232, 247, 7))]:
        Image.new("RGB", size, (50, 100, 150)).save(tmp_path / "a.png")
        images = zoo.read_images([tmp_path / "a.png"], np.array(target), crop)
        np.testing.assert_array_equal(images, np.broadcast_to([50, 100, 150], (1, *target, 3)))


@pytest.mark.parametrize("place", [20, 60, 2000, -18])
def test_a_png_with_another_bit_is_damaged(place: int, tmp_path: Path):
    """In its header, at the beginning and amid its pixels, and in their checksum, which Pillow does not read."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[place] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png"):
        zoo.read_images([tmp_path / "a.png"], (32, 32))


def test_arguments_of_read_images(tmp_path: Path):
    with pytest.raises(ValueError, match=r"paths must be a list of files, not one: \['cat\.jpg'\]"):
        zoo.read_images("cat.jpg", (8, 8))
    for crop in (0, 2, -1):
        with pytest.raises(ValueError, match=f"crop must be above 0 and at most 1, not {crop}"):
            zoo.read_images([tmp_path / "a.png"], (8, 8), crop)
    with pytest.raises(ValueError, match="3 channels, or 1 in grey, as their last axis, not 4"):
        zoo.get_preprocessing("imagenet")(np.zeros((1, 2, 2, 4)))


def test_rotated_and_grey_images_are_read(tmp_path: Path):
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 16)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    [read] = zoo.read_images([tmp_path / "a.png"], (4, 4))
    np.testing.assert_array_equal(read[..., 1], np.asarray(image)[::-1, ::-1])


def test_images_in_grey(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(zoo.read_images([tmp_path / "a.png"], (8, 8), channels=1), grey[None, ..., None])
    assert zoo.read_images([], (8, 6), channels=1).shape == (0, 8, 6, 1)
    assert zoo.resized_sample((8, 6), 2, channels=1).shape == (2, 8, 6, 1)
    first = Image.fromarray(zoo.sample_images().images[0]).convert("L")
    np.testing.assert_array_equal(zoo.resized_sample((32, 32), 1, channels=1)[0, ..., 0], first)
    with pytest.raises(ValueError, match="3 channels, or 1 in grey, but the model takes 2"):
        zoo.read_images([tmp_path / "a.png"], (8, 8), channels=2)


@pytest.mark.parametrize("size", [(10**6, 10**6), (4097, 8), (0, 8), (None, 8)])
def test_sizes_that_would_take_all_memory_are_refused(size, tmp_path: Path):
    """A packed file of a few kilobytes may claim any."""
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    for read in (lambda: zoo.read_images([tmp_path / "a.png"], size), lambda: zoo.resized_sample(size, 1)):
        with pytest.raises(ValueError, match=r"1 to 4096 pixels of height and width, not \("):
            read()


def test_evaluation():
    scores = tf.constant([[3.0, 2, 1, 0, -1, -2], [0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, 1], [np.nan] * 6])
    inputs = tf.keras.Input((), dtype=tf.int32)
    model = tf.keras.Model(inputs, tf.keras.layers.Embedding(4, 6, weights=[scores.numpy()])(inputs))
    counted: list[int] = []
    batches = [(np.array([0, 1]), np.array([1, 0])), (np.array([2, 3]), np.array([0, 0]))]
    result = zoo.evaluate(model, batches, counted.append)
    # Second of six; last of six; first among equals; not a number, which is never right.
    assert (result.top1, result.top5, result.images) == (25, 50, 4)
    assert counted == [2, 2]
    columns = tf.data.Dataset.from_tensor_slices(([0, 1, 2, 3], [[1], [0], [0], [0]])).batch(2)
    assert (zoo.evaluate(model, columns).top1, zoo.evaluate(model, [([0, 1], [1, 0])]).top5) == (25, 50)
    for labels in (np.eye(2, 6), np.eye(2, 6, dtype=int), np.array([0.0, 1.0]), np.array([0])):
        with pytest.raises(ValueError, match=r"Labels must be one integer for each of the 2 images of a batch, not"):
            zoo.evaluate(model, [(np.array([0, 1]), labels)])
    with pytest.raises(ValueError, match="labels range from 0 to 6"):
        zoo.evaluate(model, [(np.array([0, 1]), np.array([0, 6]))])
    with pytest.raises(ValueError, match="no images"):
        zoo.evaluate(model, [])
    with pytest.raises(ValueError, match="batch"):
        zoo.evaluate(model, (np.array([0, 1]), np.array([0, 1])))
    one = tf.keras.Model(inputs, tf.keras.layers.Embedding(4, 1)(inputs))  # any image would be right
    for other in (one, tf.keras.Model(inputs, [model.output, model.output])):
        with pytest.raises(ValueError, match="one output"):
            zoo.evaluate(other, [(np.array([0, 1]), np.array([0, 0]))])
