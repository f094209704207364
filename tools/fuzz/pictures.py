"""Images, and arrays of them, that unfold to more than they should."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .mutations import zipped


def pixels(seed: int = 0, size: int = 32) -> Any:
    """Return an image that does not compress."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def save_image(path: Path) -> None:
    """Write an image in the format of its ending."""
    from PIL import Image

    Image.fromarray(pixels()).save(path)


def png(width: int, height: int, depth: int, colour: int, bits: int) -> bytes:
    """Return a PNG file of one colour."""
    line, packer = bytes(1 + (width * bits + 7) // 8), zlib.compressobj(9)
    rows = b"".join([*(packer.compress(line) for _ in range(height)), packer.flush()])

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield images that unfold to hundreds of megabytes."""
    yield png(5000, 5000, 1, 0, 1)
    yield png(9400, 9400, 8, 6, 32)
    yield png(9400, 9400, 16, 0, 16)
    yield png(13300, 13300, 1, 0, 1)
    yield png(2800, 2900, 16, 0, 16)
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    while True:
        width, height = (rng.choice([0, 1, 40, 3000, 20000, 2**31 - 1]) for _ in range(2))
        yield data[:16] + struct.pack(">II", width, height) + data[24:]


def save_arrays(path: Path) -> None:
    """Write labelled images."""
    import numpy as np

    images = np.stack([pixels(seed, 8) for seed in range(4)])
    with path.open("wb") as file:
        np.savez(file, images=images, labels=np.arange(4))


def npy(shape: tuple[int, ...], content: bytes = b"", dtype: str = "|u1") -> bytes:
    """Return an array's file that claims a shape."""
    head = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


def npz_lies(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield archives that claim more than they hold, or unfold to more than they should."""
    labels = npy((4,), bytes(32), "<i8")
    yield zipped({"images.npy": npy((10**6, 32, 32, 3)), "labels.npy": labels})
    yield zipped({"images.npy": npy((10**5, 32, 32, 3), bytes(2**28)), "labels.npy": labels})
    yield zipped({"images.npy": npy((4, 8, 8, 3), bytes(768), "|O"), "labels.npy": labels})
    yield zipped({"images.npy": npy((-1, 8, 8, 3), bytes(768)), "labels.npy": labels})
    yield zipped({f"{i}.npy": b"" for i in range(10**5)})
    while True:
        shape = tuple(rng.choice([0, 1, 4, 8, 3, -1, 2**40]) for _ in range(rng.randrange(6)))
        yield zipped(
            {
                "images.npy": npy(shape, bytes(768), rng.choice(["|u1", "<f8", "|O", "<U9", ">c16"])),
                "labels.npy": labels,
            }
        )
