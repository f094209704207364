"""Images as the networks want them: read from files, cut and resized, then normalised."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import tensorflow as tf

from ...util.arguments import to_python

if TYPE_CHECKING:
    import PIL.Image

_Images = TypeVar("_Images", np.ndarray, tf.Tensor)

SMALLEST_CROPPED = 64
"""Height and width from which on networks are for images that are conventionally cut."""


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects at its input: (x - mean) / std of pixels from 0 to 255, channel by channel.

    Attributes:
        mean, std: One number for each of the channels red, green and blue, in units of a pixel's value.
        crop: How much of an image to keep: see `read_images`. Test images of ImageNet are conventionally resized to 256
            pixels and cut to 224: 0.875. See `crop_for`.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: float = 1.0

    def __call__(self, images: _Images) -> _Images:
        """Normalise images (..., 3), or (..., 1) in grey, of pixels from 0 to 255; the result is float32.

        A tensor gives a tensor, also within ``tf.data.Dataset.map``; its number of channels must be known.
        """
        mean, std = (np.array(each, np.float32) for each in self.constants(images.shape[-1]))
        wide = tf.cast(images, tf.float32) if tf.is_tensor(images) else np.asarray(images, np.float32)
        return (wide - mean) / std

    def constants(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and deviation of each channel; grey has the averages of the three colours'.

        Raises:
            ValueError: There are neither 3 channels nor 1.
        """
        if channels == 1:
            return (float(np.mean(self.mean)),), (float(np.mean(self.std)),)
        if channels != 3:
            raise ValueError(f"images must have 3 channels, or 1 in grey, as their last axis, not {channels}.")
        return self.mean, self.std

    def crop_for(self, size: tuple[int, int]) -> float:
        """Return the crop for networks of an input (height, width): those for thumbnails, as of CIFAR, see all."""
        return self.crop if min(size) >= SMALLEST_CROPPED else 1.0


PREPROCESSING = {
    "raw": Preprocessing(),
    "cifar": Preprocessing((125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255)),
    "imagenet": Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 0.875),
    "caffe": Preprocessing((123.0, 117.0, 104.0), (1.0, 1.0, 1.0), 0.875),
    "symmetric": Preprocessing((127.5,) * 3, (127.5,) * 3, 0.875),
}
"""By the name that a row of registered weights gives.

- ``"raw"``: pixels as they are, 0 to 255.
- ``"cifar"``: the constants for CIFAR-10 of much PyTorch code: the mean of the training images, and the mean of the
  deviations within each image (the deviation of all pixels is a fifth larger).
- ``"imagenet"``: torchvision's constants for ImageNet.
- ``"caffe"``: the mean colour of ImageNet, as in the Caffe code of Bi-Real Net.
- ``"symmetric"``: from -1 to 1, as larq-zoo's models.
"""


LARGEST = 4096
"""Pixels of height and of width of what `read_images` returns: one image is then 50 MB."""


def get_preprocessing(name: str) -> Preprocessing:
    """Return the preprocessing of a name.

    Raises:
        ValueError: There is none; the message says which there are.
    """
    if name not in PREPROCESSING:
        raise ValueError(f"preprocessing must be one of {', '.join(map(repr, PREPROCESSING))}, not {name!r}.")
    return PREPROCESSING[name]


def _with_colours(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return an image of red, green and blue, 8 bits each."""
    from PIL import Image

    if image.mode.startswith("I;16"):  # Pillow would cut off all that exceeds 255
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of the kind {image.mode!r}, whose range is unknown")
    return image.convert("RGB")


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Return images (n, height, width, 3), uint8, as a network of so many channels takes them: in grey for 1.

    Raises:
        ValueError: ``channels`` is neither 3 nor 1.
    """
    from PIL import Image

    if channels not in (1, 3):
        raise ValueError(f"Images have 3 channels, or 1 in grey, but the model takes {channels}.")
    if channels == 3 or not len(images):
        return images[..., :channels]
    return np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])[..., None]


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) to bring images to, or raise `ValueError`: a file may ask for any."""
    size = to_python(tuple(size))
    if not all(isinstance(n, int) and 1 <= n <= LARGEST for n in size):
        raise ValueError(f"Images are brought to 1 to {LARGEST} pixels of height and width, not {tuple(size)}.")
    return size


def read_images(
    paths: Iterable[str | os.PathLike[str]], size: tuple[int, int], crop: float = 1.0, channels: int = 3
) -> np.ndarray:
    """Read image files of any format that Pillow knows, and cut and resize each to the same size.

    They are resized as the papers' code does it, bilinearly with antialiasing, also for larq-zoo's networks, whose own
    code is bicubic.

    Args:
        paths: The files.
        size: (height, width) of the result, each 1 to 4096 pixels.
        crop: How much of the height and width of the largest central rectangle of that aspect ratio to keep: above 0,
            at most 1.
        channels: 3, in colour, or 1, in grey.

    Returns:
        (n, height, width, channels), uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is not an image, or is damaged; or another argument is out of its range.
    """
    from PIL import Image, ImageOps

    if isinstance(paths, str | os.PathLike):
        raise ValueError(f"paths must be a list of files, not one: [{os.fspath(paths)!r}].")
    if not 0 < crop <= 1:
        raise ValueError(f"crop must be above 0 and at most 1, not {crop!r}.")
    height, width = check_size(size)
    images = []
    for path in paths:
        try:
            with Image.open(path) as file:
                image = _with_colours(ImageOps.exif_transpose(file))
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no file {path}.") from None
        except Exception as error:  # whatever a damaged file leads Pillow to
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        scale = crop * min(image.width / width, image.height / height)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        # Rounding may put the box a little outside the image, which Pillow refuses.
        box = (max(left, 0), max(top, 0), min(image.width - left, image.width), min(image.height - top, image.height))
        images.append(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box)))
    return with_channels(np.stack(images) if images else np.zeros((0, height, width, 3), np.uint8), channels)
