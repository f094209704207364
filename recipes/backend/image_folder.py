"""Images of a job that are files of the user's, decoded and cropped as they are needed. Needs NumPy and Pillow."""

from __future__ import annotations

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ENDINGS = (".jpeg", ".jpg", ".png")
AHEAD = 3
"""So many batches are decoded while the devices work."""


class ImageFolder:
    """The JPEG and PNG files of a folder with one folder for each class, as torchvision's ``ImageFolder`` has them.

    Classes count in the order of their folders' names, which for ImageNet is TensorFlow Datasets' order, too.

    Args:
        folder: The folder.
        shape: (height, width, channels) that images are cropped and resized to, with 3 channels.
        num_classes: So many folders there must be.
        count: So many images there must be, or, with ``some``, at least.
        some: Whether only ``count`` of them are used, some of every class.
        crop: Gets an image's (height, width), int32, and a seed (2,), int64; returns ``top``, ``left``, ``height`` and
            ``width`` of the part to keep. It is called in many threads.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: There is no such folder.
        ValueError: It does not hold so many classes and images.
    """

    def __init__(
        self,
        folder: Path,
        shape: Sequence[int],
        num_classes: int,
        count: int,
        some: bool,
        crop: Callable[..., dict[str, Any]],
    ) -> None:
        try:
            import PIL.Image  # noqa: F401  (said here, and not when the first batch is decoded)
        except ImportError as error:
            raise ImportError("Decoding images needs Pillow: pip install pillow") from error
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}; it must hold a folder of images for each class.")
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        if len(classes) != num_classes:
            raise ValueError(f"{folder} has folders of {len(classes)} classes, and the job was made for {num_classes}.")
        files = [
            (os.path.join(path, name), label)
            for label, path in enumerate(classes)
            for name in sorted(os.listdir(path))
            if name.lower().endswith(ENDINGS)
        ]
        if len(files) != count and not (some and len(files) > count):
            raise ValueError(f"{folder} holds {len(files):,} images, and the job was made for {count:,}.")
        if some:
            files = [files[place * len(files) // count] for place in range(count)]
        self._files, self._size, self._crop = files, (shape[0], shape[1]), crop

    def __len__(self) -> int:
        return len(self._files)

    def batches(
        self, order: Sequence[np.ndarray] | np.ndarray, seed: tuple[int, int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images (b, h, w, 3), uint8, and labels (b,), int64, some batches being decoded ahead.

        Args:
            order: The images' numbers, (steps, batch) or batches of any length.
            seed: The run's, and the epoch's number: each image's crop is drawn by them and its place in the order.
        """
        place = 0
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                ahead: collections.deque[list[concurrent.futures.Future[np.ndarray]]] = collections.deque()
                for number, chosen in enumerate(order):
                    # Of a seed's numbers XLA takes 32 bits.
                    seeds = [(seed[0], seed[1] * len(self) + place + i) for i in range(len(chosen))]
                    ahead.append([pool.submit(self._read, *one) for one in zip(chosen, seeds, strict=True)])
                    place += len(chosen)
                    if number >= AHEAD:
                        yield self._gathered(ahead.popleft(), order[number - AHEAD])
                for number in range(len(order) - len(ahead), len(order)):
                    yield self._gathered(ahead.popleft(), order[number])
            finally:
                pool.shutdown(cancel_futures=True)

    def in_order(self, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all images and labels in batches; the last one may be smaller."""
        numbers = np.arange(len(self))
        return self.batches([numbers[start : start + batch] for start in range(0, len(self), batch)], (0, 0))

    def _gathered(
        self, images: list[concurrent.futures.Future[np.ndarray]], chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        labels = np.array([self._files[number][1] for number in chosen], np.int64)
        return np.stack([image.result() for image in images]), labels

    def _read(self, number: int, seed: tuple[int, int]) -> np.ndarray:
        """Return an image, (h, w, 3), uint8."""
        import PIL.Image

        path = self._files[number][0]
        height, width = self._size
        try:
            with PIL.Image.open(path, formats=("JPEG", "PNG")) as image:
                pixels = np.array([image.height, image.width], np.int32)
                if tuple(pixels) != self._size:
                    box = self._crop(pixels, np.array(seed, np.int64))
                    top, left, tall, wide = (int(box[name]) for name in ("top", "left", "height", "width"))
                    part = image.convert("RGB").crop((left, top, left + wide, top + tall))
                    return np.asarray(part.resize((width, height), PIL.Image.Resampling.BILINEAR))
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
            raise ValueError(f"The image {path} is damaged: {error}") from error
