"""Images as the networks want them: read from files, cut and resized, then normalised."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import tensorflow as tf

from ...util.arguments import to_python
from ...util.files import open_source, reading
from ...util.formatting import brief

if TYPE_CHECKING:
    import PIL.Image

_Images = TypeVar("_Images", np.ndarray, tf.Tensor)


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects at its input: how images are cut, resized and normalised.

    Called with images, it normalises them: (x - mean) / std of pixels from 0 to 255, channel by channel.

    Attributes:
        mean, std: One number for each of the channels red, green and blue, in units of a pixel's value.
        crop: How much of an image to keep, see `read_images`: 1.0 for networks that were trained on whole images. Test
            images of ImageNet are conventionally resized to 256 pixels and cut to 224: 0.875.
        size: (height, width) that images are resized to; ``None`` where it is the network's input that decides.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: float = 1.0
    size: tuple[int, int] | None = None

    def __call__(self, images: _Images) -> _Images:
        """Normalise images (..., 3), or (..., 1) in grey, of pixels from 0 to 255; the result is float32.

        A tensor gives a tensor, also within ``tf.data.Dataset.map``; its number of channels must be known. Of arrays
        that look as if they were from 0 to 1, or normalised already, a warning says so.
        """
        if not tf.is_tensor(images):
            images = np.asarray(images)
            largest = max(-images.min(), images.max()) if images.dtype.kind == "f" and images.size else 0
            if 0 < largest <= _DARKEST:
                warnings.warn(
                    f"Pixels are expected from 0 to 255, but the largest of these is {largest:g}, as of images from 0 "
                    "to 1 or normalised ones: the network would see them black.",
                    stacklevel=2,
                )
        mean, std = (np.array(each, np.float32) for each in self.constants(images.shape[-1]))
        pixels = tf.cast(images, tf.float32) if tf.is_tensor(images) else images.astype(np.float32)
        return (pixels - mean) / std

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

    @property
    def name(self) -> str | None:
        """Which of `PREPROCESSING` has these constants; ``None`` if none has."""
        names = (name for name, each in PREPROCESSING.items() if (each.mean, each.std) == (self.mean, self.std))
        return next(names, None)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that reproduces it elsewhere, as JSON can hold it; `from_dict` reads it back."""
        size = None if self.size is None else list(self.size)
        return {"size": size, "crop": self.crop, **_FIXED, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, fields: object) -> Preprocessing:
        """Return what `to_dict` wrote down.

        Raises:
            ValueError: A field is missing, unknown, or no value that it can have.
        """
        known = {"size", "crop", "mean", "std", *_FIXED}
        if not isinstance(fields, dict) or fields.keys() != known:
            raise ValueError(f"preprocessing must have the fields {', '.join(sorted(known))}, not {brief(fields)}.")
        for name, value in _FIXED.items():
            if fields[name] != value:
                raise ValueError(f"preprocessing's {name} must be {value!r}, not {brief(fields[name])}.")
        for name in ("mean", "std"):
            if not (isinstance(fields[name], list) and len(fields[name]) == 3 and all(map(_is_number, fields[name]))):
                raise ValueError(f"preprocessing's {name} must be three numbers, not {brief(fields[name])}.")
        if min(fields["std"]) <= 0:
            raise ValueError(f"preprocessing's std must be above 0, not {brief(fields['std'])}.")
        if not (_is_number(fields["crop"]) and 0 < fields["crop"] <= 1):
            raise ValueError(f"preprocessing's crop must be above 0 and at most 1, not {brief(fields['crop'])}.")
        size = fields["size"]
        if size is not None:
            if not (isinstance(size, list) and len(size) == 2):
                raise ValueError(f"preprocessing's size must be a height and a width, not {brief(size)}.")
            size = check_size((size[0], size[1]))
        mean, std = (tuple(map(float, fields[name])) for name in ("mean", "std"))
        return cls(cast(Any, mean), cast(Any, std), float(fields["crop"]), size)


_DARKEST = 8  # no image of pixels from 0 to 255 is as dark, but normalised ones are all below
_FIXED = {"interpolation": "bilinear", "antialias": True, "channel_order": "RGB", "range": [0, 255]}


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and bool(np.isfinite(cast(float, value)))


PREPROCESSING = {
    "0_255": Preprocessing(),
    "cifar": Preprocessing((125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255)),
    "imagenet": Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "mean_rgb": Preprocessing((123.0, 117.0, 104.0)),
    "minus1_1": Preprocessing((127.5,) * 3, (127.5,) * 3),
}
"""Constants by the name that a row of registered weights gives. They say nothing of the crop: see `for_dataset`.

- ``"0_255"``: pixels as they are.
- ``"cifar"``: the constants for CIFAR-10 of much PyTorch code: the mean of the training images, and the mean of the
  deviations within each image (the deviation of all pixels is a fifth larger).
- ``"imagenet"``: torchvision's constants for ImageNet.
- ``"mean_rgb"``: minus the mean colour of ImageNet, red, green and blue, as in the Caffe code of Bi-Real Net.
- ``"minus1_1"``: from -1 to 1, as larq-zoo's models.
"""


def resolve_preprocessing(given: str | Preprocessing | None, usual: Preprocessing) -> Preprocessing:
    """Return the preprocessing that was given, or the usual one with the constants that were named."""
    if given is None:
        return usual
    if isinstance(given, Preprocessing):
        return given
    named = get_preprocessing(given)
    return replace(usual, mean=named.mean, std=named.std)


_IMAGENET_CROP = 0.875  # 224 of 256 pixels


def for_dataset(preprocessing: str | Preprocessing, dataset: str) -> Preprocessing:
    """Return a preprocessing with the crop by which networks are trained and tested on a dataset.

    Args:
        preprocessing: The constants, or their name.
        dataset: Its name in TensorFlow Datasets or in `onebit.recipes.DATASETS`. ImageNet's photographs, which differ
            in size, are cut; images of one size are whole.
    """
    crop = _IMAGENET_CROP if dataset.partition(":")[0] in ("imagenet", "imagenet2012") else 1.0
    return replace(get_preprocessing(preprocessing), crop=crop)


LARGEST = 4096
"""Pixels of height and of width of what `read_images` returns: one image is then 50 MB."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no EPS, which Pillow has Ghostscript run
_LARGEST_FILE = 2**27
_FREE_PIXELS, _PIXELS_PER_BYTE = 2**23, 20  # photographs have at least half a bit for a pixel
_MOST_PIXELS = 89_000_000  # from a few more on Pillow warns


def get_preprocessing(name: str | Preprocessing) -> Preprocessing:
    """Return the preprocessing of a name; what is one already is returned as it is.

    Raises:
        ValueError: There is none; the message says which there are.
    """
    if isinstance(name, Preprocessing):
        return name
    if name not in PREPROCESSING:
        raise ValueError(f"preprocessing must be one of {', '.join(map(repr, PREPROCESSING))}, not {brief(name)}.")
    return PREPROCESSING[name]


def _open(source: str | os.PathLike[str] | IO[bytes]) -> PIL.Image.Image:
    """Return an image in its own orientation, having checked what it claims before it is unfolded."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(source, str | os.PathLike):
        with open_source(source, _LARGEST_FILE) as file:
            return _open(file)
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    try:
        image = Image.open(source, formats=_FORMATS)
    except UnidentifiedImageError:  # whose message names a Python object
        raise ValueError(f"it is none of {', '.join(_FORMATS)}") from None
    pixels = image.width * image.height
    if pixels > _MOST_PIXELS or pixels > max(_FREE_PIXELS, _PIXELS_PER_BYTE * size):
        raise ValueError(
            f"its {size:,} bytes claim {image.width:,} x {image.height:,} pixels: {_FREE_PIXELS:,} are read of any "
            f"file, and up to {_MOST_PIXELS:,} of one that has a byte for {_PIXELS_PER_BYTE} pixels"
        )
    if image.format == "PNG":
        _check_png(source)
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _check_png(file: IO[bytes]) -> None:
    """Compare the checksums of a PNG file's parts; Pillow leaves out those of the pixels.

    Raises:
        ValueError: One is another, or the file is cut short.
    """
    place = file.tell()
    file.seek(8)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        content = file.read(length)
        if len(content) < length or zlib.crc32(kind + content) != int.from_bytes(file.read(4).ljust(4, b"\0"), "big"):
            raise ValueError("it is cut short, or a part of it is not what its checksum says")
    file.seek(place)


def _with_colours(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return an image of red, green and blue, 8 bits each."""
    from PIL import Image

    if image.mode.startswith("I;16"):  # Pillow would cut off all that exceeds 255
        pixels = np.asarray(image).astype(np.uint32)
        pixels += 128
        pixels //= 257
        image = Image.fromarray(pixels.astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of the kind {image.mode!r}, whose range is unknown")
    return image if image.mode == "RGB" else image.convert("RGB")


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
        raise ValueError(f"The size of images must be 1 to {LARGEST} pixels of height and width, not {tuple(size)}.")
    return size


def read_image(source: str | os.PathLike[str] | IO[bytes], size: tuple[int, int], crop: float = 1.0) -> np.ndarray:
    """Read an image and bring it to a size; see `read_images`.

    Args:
        source: Its path, or a binary file of its content.
        size: (height, width).
        crop: As for `read_images`.

    Returns:
        (height, width, 3), uint8.
    """
    from PIL import Image

    height, width = size
    image = _with_colours(_open(source))
    scale = crop * min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    # Rounding may put the box a little outside the image, which Pillow refuses.
    box = (max(left, 0), max(top, 0), min(image.width - left, image.width), min(image.height - top, image.height))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


def read_images(
    paths: Iterable[str | os.PathLike[str]], size: tuple[int, int], crop: float = 1.0, channels: int = 3
) -> np.ndarray:
    """Read image files (BMP, GIF, JPEG, PNG, PPM, TIFF or WebP), and cut and resize each to the same size.

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
        OSError: One is a folder, a device or a pipe.
        ValueError: A file is not an image, is damaged, or claims far more pixels than it holds; or another argument is
            out of its range.
    """
    if isinstance(paths, str | os.PathLike):
        raise ValueError(f"paths must be a list of files, not one: [{os.fspath(paths)!r}].")
    if not 0 < crop <= 1:
        raise ValueError(f"crop must be above 0 and at most 1, not {crop!r}.")
    height, width = check_size(size)
    images = []
    for path in paths:
        with reading(path, "an image that can be read"):
            images.append(read_image(path, (height, width), crop))
    return with_channels(np.stack(images) if images else np.zeros((0, height, width, 3), np.uint8), channels)
