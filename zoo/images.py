"""Images as the networks want them: read from files, cut and resized, then normalised."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .registry import entry
from .weights import list_weights


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects at its input: (x - mean) / std of pixels from 0 to 255, channel by channel.

    Attributes:
        mean, std: One number for each of the channels red, green and blue, in units of a pixel's value.
        crop: Share of the image's shorter side that its central square has, before that is resized. Test images of
            ImageNet are customarily resized to 256 pixels and cut to 224: 0.875.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: float = 1.0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Normalise images (..., 3) of pixels from 0 to 255; the result is float32."""
        return (np.asarray(images, np.float32) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)


PREPROCESSING = {
    "raw": Preprocessing(),
    "cifar": Preprocessing((125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255)),
    "imagenet": Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 0.875),
    "caffe": Preprocessing((123.0, 117.0, 104.0), (1.0, 1.0, 1.0), 0.875),
    "symmetric": Preprocessing((127.5,) * 3, (127.5,) * 3, 0.875),
}
"""By the name that a row of registered weights gives.

- ``"raw"``: pixels as they are, 0 to 255.
- ``"cifar"``: mean and deviation of CIFAR-10's training images, as in most PyTorch code.
- ``"imagenet"``: torchvision's constants for ImageNet.
- ``"caffe"``: the mean colour of ImageNet, as in the Caffe code of Bi-Real Net.
- ``"symmetric"``: from -1 to 1, as larq-zoo's models.
"""


def get_preprocessing(name: str) -> Preprocessing:
    """Return the preprocessing of a name.

    Raises:
        ValueError: There is none; the message says which there are.
    """
    if name not in PREPROCESSING:
        raise ValueError(f"preprocessing must be one of {', '.join(map(repr, PREPROCESSING))}, not {name!r}.")
    return PREPROCESSING[name]


def usual_preprocessing(model: str) -> str:
    """Return the preprocessing that a registered model's weights have, as far as it is not said otherwise.

    That of its first registered weights; without any, larq-zoo's for its models, none for the Wide ResNets, which
    normalise at their input, and ImageNet's for all others, as in their papers' code.

    Raises:
        ValueError: There is no such model.
    """
    rows = list_weights(model)
    if rows:
        return rows[0].preprocessing
    if model.startswith("larq/"):
        return "symmetric"
    return "raw" if entry(model).build.__name__.startswith("WideResNet") else "imagenet"


def read_images(paths: Iterable[str | os.PathLike[str]], size: tuple[int, int], crop: float = 1.0) -> np.ndarray:
    """Read image files of any format that Pillow knows, and cut and resize each to the same size.

    Args:
        paths: The files.
        size: (height, width) of the result.
        crop: Share of the largest central rectangle of that aspect ratio to keep.

    Returns:
        (n, height, width, 3), uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is not an image, or is damaged.
    """
    from PIL import Image, ImageOps

    height, width = size
    images = []
    for path in paths:
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file).convert("RGB")
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no file {path}.") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        scale = crop * min(image.width / width, image.height / height)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (left, top, left + scale * width, top + scale * height)
        images.append(np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box)))
    return np.stack(images) if images else np.zeros((0, height, width, 3), np.uint8)
